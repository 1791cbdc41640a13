/* group_test.c - every interleaving on the wait group of src/sync/wg.c: two fibers that move the
 * count, and two that wait, of which one is woken by something else: by a false alarm, after which
 * it stays, or by its deadline, after which it leaves and, in some plans, waits once more with the
 * same node.
 *
 * A step is one access of `word` or `lock`, or of a node between two of them. A walk along the list
 * is one step, and what is done to what it found is another. */
#include "fiber.h"

#include "../../src/sync/wg.c"

enum { MOVERS = 2, WAITERS = 2, FIBERS = MOVERS + WAITERS, MOVES = 4 };

enum {
    NONE,
    ZERO_IGNORES_LEAVING,
    ZERO_LEAVES_WAITERS,
    ZERO_WAKES_ONE,
    LEAVES_AT_ONCE,
    WAKES_BEFORE_LETTING_GO,
    ARMS_TOO_LATE,
    QUEUES_AT_ZERO,
    NODE_STAYS,
    FORGETS_THE_ZERO,
    LEAVES_WITHOUT_LOCK,
    MUTANTS
};

enum {
    MOVE, /* movers */
    MOVE_LOCK,
    MOVE_UNLOCK,
    TURN_ROUND,
    LET_GO,
    WAKE,
    LATE_LET_GO, /* of a mutant */
    LOOK,        /* waiters */
    ARM,
    PUSH,
    COMMIT,
    OFF,
    RUN,
    LEAVE_LOCK,
    LEAVE_MARK,
    LEAVE_LIST,
    LEAVE_TAKE,
    LEAVE_END,
    LEAVE_UNLOCK,
    LEAVE_SPIN,
    LATE_ARM, /* of a mutant */
    FINISHED
};

struct actor {
    uint8_t pc, at, disturbed, there, stays, waits;
    uint64_t seen;
    struct fen__node *list, *before;
    struct wg_taken taken;
};

struct state {
    fen_wg wg;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
    uint8_t zeros, zeros_at_push[WAITERS];
};

static struct {
    int8_t move[MOVERS][MOVES]; /* 0: no more */
    int8_t first;
    uint8_t alarm; /* of the first waiter: none, false, or its deadline */
    uint8_t waits; /* how often it waits */
} plan;
enum { NO_ALARM, FALSE_ALARM, DEADLINE };

static void init(void *v)
{
    struct state *s = v;
    fiber_slab = s->g;
    s->wg.word = (uint64_t)plan.first * ONE;
    for (int i = 0; i < FIBERS; i++) {
        s->g[i].id = (uint32_t)i;
        s->g[i].node.g = &s->g[i];
        s->a[i].pc = i < MOVERS ? MOVE : LOOK;
        s->a[i].waits = i == MOVERS ? plan.waits : 1;
    }
}

/* ---- who moves the count ---- */

static void next_move(struct actor *a)
{
    a->at++;
    a->pc = MOVE;
}

static void move(struct state *s, struct actor *a, int8_t n)
{
    uint32_t first = 0;
    if (ex_mutant == ZERO_IGNORES_LEAVING && wg_count(s->wg.word) + n == 0 &&
        (s->wg.word & LEAVING)) {
        first = wg_first(s->wg.word);
        s->wg.word = LEAVING;
    } else if (ex_mutant == ZERO_LEAVES_WAITERS && wg_count(s->wg.word) + n == 0) {
        s->wg.word -= ONE;
    } else if (wg_move(&s->wg, n, true, &first) == WG_BUSY) {
        a->pc = MOVE_LOCK;
        return;
    }
    s->zeros += wg_count(s->wg.word) == 0;
    a->list = wg_node(first);
    if (a->list)
        a->pc = TURN_ROUND;
    else
        next_move(a);
}

static bool mover(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    int8_t n = a->at < MOVES ? plan.move[i][a->at] : 0;
    switch (a->pc) {
    case MOVE:
        if (n)
            move(s, a, n);
        else
            a->pc = FINISHED;
        return true;
    case MOVE_LOCK:
        if (s->wg.lock)
            return false;
        s->wg.lock = 1;
        a->pc = MOVE_UNLOCK;
        return true;
    case MOVE_UNLOCK:
        s->wg.lock = 0;
        a->pc = MOVE;
        return true;
    case TURN_ROUND:
        a->list = wg_turn_round(a->list);
        if (ex_mutant == ZERO_WAKES_ONE)
            a->list->next = NULL;
        a->pc = LET_GO;
        return true;
    case LET_GO:
        if (ex_mutant == WAKES_BEFORE_LETTING_GO) {
            a->taken = (struct wg_taken){a->list->g, a->list->epoch};
            a->pc = WAKE;
            return true;
        }
        ex_fail(a->list->queue != &s->wg, "a node of the list is not in it");
        a->list = wg_let_go(a->list, &a->taken);
        a->pc = WAKE;
        return true;
    case WAKE:
        (void)fen__wake(a->taken.g, a->taken.epoch, FEN__BY_SYNC);
        a->taken = (struct wg_taken){0};
        a->pc = LET_GO;
        if (ex_mutant == WAKES_BEFORE_LETTING_GO)
            a->pc = LATE_LET_GO;
        else if (!a->list)
            next_move(a);
        return true;
    case LATE_LET_GO:
        a->list = wg_let_go(a->list, &a->taken);
        a->taken = (struct wg_taken){0};
        a->pc = LET_GO;
        if (!a->list)
            next_move(a);
        return true;
    default: return false;
    }
}

/* ---- who waits ---- */

static void end_wait(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    a->pc = --a->waits ? LOOK : FINISHED;
    ex_fail(s->g[i].node.queue != NULL, "goes on, and its node is in a list");
}

/* wg_unlink, step by step. */
static void find(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__node *n = &s->g[i].node;
    a->seen = s->wg.word;
    a->there = wg_find(a->seen, n, &a->before);
    a->pc = a->there && !a->stays ? LEAVE_TAKE : LEAVE_END;
    ex_fail(a->there && s->zeros != s->zeros_at_push[i - MOVERS],
            "it was 0, and it is in the list");
    if (a->there && a->stays && ex_mutant != ARMS_TOO_LATE)
        n->epoch = fen__arm_locked(n->g);
    if (a->pc != LEAVE_TAKE)
        a->before = NULL;
}

static void take_out(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__node *n = &s->g[i].node;
    if (ex_mutant == NODE_STAYS)
        n->queue = NULL;
    else if (!wg_take_out(&s->wg, &a->seen, n, a->before)) {
        a->pc = LEAVE_LIST;
        return;
    }
    a->before = NULL;
    a->seen = 0;
    a->pc = LEAVE_END;
}

static void left(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    if (a->there && a->stays) {
        a->pc = COMMIT;
        return;
    }
    if (!a->there && a->stays && ex_mutant == FORGETS_THE_ZERO) {
        ex_fail(wg_count(s->wg.word) > 0, "it was 0 since the call, and waits again");
        a->waits++;
    }
    end_wait(s, i);
}

/* What a waiter does that was woken by something else. */
static bool leaver(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__g *g = &s->g[i];
    switch (a->pc) {
    case LEAVE_LOCK:
        if (s->wg.lock && ex_mutant != LEAVES_WITHOUT_LOCK)
            return false;
        s->wg.lock = 1;
        a->pc = LEAVE_MARK;
        return true;
    case LEAVE_MARK:
        s->wg.word |= LEAVING;
        a->pc = LEAVE_LIST;
        return true;
    case LEAVE_LIST: find(s, i); return true;
    case LEAVE_TAKE: take_out(s, i); return true;
    case LEAVE_END:
        s->wg.word &= ~LEAVING;
        a->pc = LEAVE_UNLOCK;
        return true;
    case LEAVE_UNLOCK:
        s->wg.lock = 0;
        a->pc = ex_mutant == ARMS_TOO_LATE && a->there && a->stays ? LATE_ARM : LEAVE_SPIN;
        return true;
    case LATE_ARM:
        g->node.epoch = fen__arm_locked(g);
        a->pc = COMMIT;
        return true;
    case LEAVE_SPIN:
        if (!a->there && ex_mutant == LEAVES_AT_ONCE)
            g->node.queue = NULL;
        if (!a->there && g->node.queue)
            return false;
        left(s, i);
        return true;
    default: return false;
    }
}

static bool waiter(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__g *g = &s->g[i];
    int how;
    switch (a->pc) {
    case LOOK:
        a->pc = ARM;
        if (wg_is_idle(&s->wg))
            end_wait(s, i);
        return true;
    case ARM:
        g->node.epoch = fen__arm_locked(g);
        a->pc = PUSH;
        return true;
    case PUSH:
        s->zeros_at_push[i - MOVERS] = s->zeros;
        ex_fail(g->node.queue != NULL, "a node twice in a list");
        if (ex_mutant == QUEUES_AT_ZERO && !wg_count(s->wg.word)) {
            g->node.queue = &s->wg;
            g->node.next = NULL;
            s->wg.word |= wg_name(&g->node);
            a->pc = COMMIT;
        } else if (wg_push(&s->wg, &g->node)) {
            a->pc = COMMIT;
        } else {
            g->state = FEN__IDLE;
            end_wait(s, i);
        }
        return true;
    case COMMIT:
        how = fiber_commit(g);
        a->pc = how == 1 ? OFF : how == 2 ? RUN : COMMIT;
        return how != 0;
    case OFF:
        if (!g->runq)
            return false;
        g->runq--;
        a->pc = RUN;
        return true;
    case RUN:
        a->pc = LEAVE_LOCK;
        a->stays = plan.alarm == FALSE_ALARM;
        if (g->state >= FEN__BY_SYNC) {
            ex_fail(s->zeros == s->zeros_at_push[i - MOVERS], "woken, and it was not 0");
            if (ex_mutant == WAKES_BEFORE_LETTING_GO)
                g->node.queue = NULL; /* it goes on, whatever its node is in */
            end_wait(s, i);
        }
        return true;
    default: return leaver(s, i);
    }
}

/* Both may be woken by something else, each once. */
static bool alarm_of(struct state *s)
{
    for (int i = MOVERS; i < FIBERS; i++) {
        struct actor *a = &s->a[i];
        if (plan.alarm == NO_ALARM || a->disturbed || a->pc < COMMIT || a->pc > OFF ||
            !fiber_wake(&s->g[i], FEN__BY_TIMER))
            continue;
        a->disturbed = 1;
        return true;
    }
    return false;
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    fiber_slab = s->g;
    return actor < MOVERS ? mover(s, actor) : actor < FIBERS ? waiter(s, actor) : alarm_of(s);
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int i = 0; i < FIBERS; i++)
        if (s->a[i].pc != FINISHED)
            return false;
    return !s->wg.lock && !s->wg.word;
}

static const struct ex_model model = {sizeof(struct state), FIBERS + 1, init, step, done};

struct scenario {
    int8_t first, move[MOVERS][MOVES];
    uint8_t alarm, waits;
};

static const struct scenario scenarios[] = {
    {2, {{-1}, {-1}}, NO_ALARM, 1},
    {2, {{-1}, {-1}}, FALSE_ALARM, 1},
    {2, {{-1}, {-1}}, DEADLINE, 1},
    {2, {{-1}, {-1}}, DEADLINE, 2},
    {1, {{1, -1, -1}, {1, -1}}, FALSE_ALARM, 1},
    {1, {{-1, 1, -1}, {1, -1}}, DEADLINE, 1},
    {1, {{-1, 1, -1}, {0}}, FALSE_ALARM, 1},
    {2, {{-1, 1, -1}, {-1}}, DEADLINE, 2},
    {0, {{2, -1, -1}, {1, -1}}, FALSE_ALARM, 1},
};

static void set_plan(int k)
{
    const struct scenario *c = &scenarios[k];
    memset(&plan, 0, sizeof plan);
    memcpy(plan.move, c->move, sizeof plan.move);
    plan.first = c->first;
    plan.alarm = c->alarm;
    plan.waits = c->waits;
}

int main(void)
{
    int n = (int)FEN__COUNT(scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, set_plan, NULL, 100});
}
