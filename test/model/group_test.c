/* group_test.c - every interleaving on the wait group of src/sync/lock.c: two fibers that move the
 * count, without the lock where it does not come to 0, and two that wait, with the look without the
 * lock at first. A waiter frees the group when it may: nobody who moved the count may be inside.
 *
 * Steps as in mutex_test.c: one access of `count` or `lock`, or what happens to the queue under the
 * lock. */
#include "fiber.h"

#include "../../src/sync/lock.c"
#include "../../src/sync/waitq.c"

enum { MOVERS = 2, WAITERS = 2, FIBERS = MOVERS + WAITERS, MOVES = 4 };

enum {
    NONE,
    TO_ZERO_WITHOUT_LOCK,
    WAIT_WITHOUT_LOOK_AT_LOCK,
    LOOK_AT_LOCK_FIRST,
    QUEUES_WITHOUT_SECOND_LOOK,
    MOVE_WAKES_ONE,
    ZERO_TELLS_NOBODY,
    WITHOUT_ZEROS,
    NODE_STAYS,
    MUTANTS
};

enum {
    MOVE, /* movers */
    MOVE_LOCK,
    MOVE_SLOW,
    UNLOCK, /* of the short lock; then: what comes after it */
    WAKE,
    LOOK_COUNT, /* waiters */
    LOOK_LOCK,
    READ_ZEROS,
    WAIT_LOCK,
    WAIT_SLOW,
    COMMIT,
    OFF,
    RUN,
    WITHDRAW_LOCK,
    WITHDRAW,
    FINISHED
};

struct actor {
    uint8_t pc, then, at, disturbed;
    uint32_t zeros;
    struct fen__woken w;
};

struct state {
    fen_wg wg;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
};

static struct {
    int8_t move[MOVERS][MOVES]; /* 0: no more */
    bool alarm;                 /* one waiter is woken by something else, and tries again */
    int8_t first;
} plan;

static void init(void *v)
{
    struct state *s = v;
    s->wg.count = plan.first;
    for (int i = 0; i < FIBERS; i++) {
        s->g[i].id = (uint32_t)i;
        s->a[i].pc = i < MOVERS ? MOVE : ex_mutant == LOOK_AT_LOCK_FIRST ? LOOK_LOCK : LOOK_COUNT;
    }
}

static void after(struct actor *a, int pc, int then)
{
    a->pc = (uint8_t)pc;
    a->then = (uint8_t)then;
}

static bool take_lock(struct state *s, struct actor *a, int then)
{
    if (s->wg.lock)
        return false;
    s->wg.lock = 1;
    a->pc = (uint8_t)then;
    return true;
}

static void unlock(struct state *s, struct actor *a)
{
    s->wg.lock = 0;
    a->pc = a->then;
    a->then = 0;
}

static void next_move(struct actor *a)
{
    a->at++;
    a->pc = MOVE;
}

static bool mover(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    int8_t n = a->at < MOVES ? plan.move[i][a->at] : 0;
    struct fen__woken one = {0};
    switch (a->pc) {
    case MOVE:
        if (!n) {
            a->pc = FINISHED;
        } else if (ex_mutant == TO_ZERO_WITHOUT_LOCK && s->wg.count + n == 0) {
            s->wg.count = 0;
            next_move(a);
        } else if (wg_move_above(&s->wg, n)) {
            next_move(a);
        } else {
            a->pc = MOVE_LOCK;
        }
        return true;
    case MOVE_LOCK: return take_lock(s, a, MOVE_SLOW);
    case MOVE_SLOW:
        if (ex_mutant == ZERO_TELLS_NOBODY) {
            s->wg.count += n;
        } else if (ex_mutant == MOVE_WAKES_ONE) {
            s->wg.count += n;
            if (!s->wg.count && fen__woken_first(&one, &s->wg.waiters))
                a->w = one;
        } else {
            wg_move(&s->wg, n, &a->w);
        }
        after(a, UNLOCK, WAKE);
        return true;
    case UNLOCK: unlock(s, a); return true;
    case WAKE:
        if (a->w.head) { /* one at a time */
            struct fen__node *first = a->w.head;
            a->w.head = first->next;
            fen__waitq_done(first, first->rc, 0);
            if (a->w.head)
                return true;
        }
        a->w = (struct fen__woken){0};
        next_move(a);
        return true;
    default: return false;
    }
}

/* A wait that has ended may free the group, if it is not in use again. */
static void may_free(struct state *s)
{
    for (int i = 0; i < MOVERS; i++)
        ex_fail(s->wg.zeros <= 1 && s->wg.count == 0 && s->a[i].pc == UNLOCK,
                "the wait has ended, and who ended it still touches the group");
}

static void queue_or_go(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool zero = s->wg.count == 0;
    bool was = ex_mutant != WITHOUT_ZEROS && s->wg.zeros != a->zeros;
    if (ex_mutant != QUEUES_WITHOUT_SECOND_LOOK && (zero || was)) {
        after(a, UNLOCK, FINISHED);
        return;
    }
    ex_fail(s->wg.zeros != a->zeros, "it was 0 since the call, and waits");
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    fen__waitq_wait(&s->wg.waiters, &s->g[i], &s->wg);
    after(a, UNLOCK, COMMIT);
}

static bool waiter(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__g *g = &s->g[i];
    int how;
    switch (a->pc) {
    case LOOK_COUNT:
        a->pc = s->wg.count ? READ_ZEROS : LOOK_LOCK;
        if (!s->wg.count &&
            (ex_mutant == WAIT_WITHOUT_LOOK_AT_LOCK || ex_mutant == LOOK_AT_LOCK_FIRST)) {
            may_free(s);
            a->pc = FINISHED;
        }
        return true;
    case LOOK_LOCK:
        if (ex_mutant == LOOK_AT_LOCK_FIRST) {
            a->pc = s->wg.lock ? READ_ZEROS : LOOK_COUNT;
            return true;
        }
        a->pc = s->wg.lock ? READ_ZEROS : FINISHED;
        if (a->pc == FINISHED)
            may_free(s);
        return true;
    case READ_ZEROS:
        a->zeros = s->wg.zeros;
        a->pc = WAIT_LOCK;
        return true;
    case WAIT_LOCK: return take_lock(s, a, WAIT_SLOW);
    case WAIT_SLOW: queue_or_go(s, i); return true;
    case UNLOCK: unlock(s, a); return true;
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
        a->pc = g->state >= FEN__BY_SYNC ? FINISHED : WITHDRAW_LOCK;
        if (a->pc == FINISHED)
            may_free(s);
        return true;
    case WITHDRAW_LOCK: return take_lock(s, a, WITHDRAW);
    case WITHDRAW:
        if (ex_mutant != NODE_STAYS)
            fen__waitq_remove(&s->wg.waiters, &g->node);
        after(a, UNLOCK, WAIT_LOCK);
        return true;
    default: return false;
    }
}

static bool alarm_of(struct state *s)
{
    struct actor *a = &s->a[MOVERS];
    if (!plan.alarm || a->disturbed || !fiber_wake(&s->g[MOVERS], FEN__BY_TIMER))
        return false;
    a->disturbed = 1;
    return true;
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor < MOVERS ? mover(s, actor) : actor < FIBERS ? waiter(s, actor) : alarm_of(s);
    ex_fail(s->wg.count < 0, "below zero");
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int i = 0; i < FIBERS; i++)
        if (s->a[i].pc != FINISHED)
            return false;
    return !s->wg.lock && !s->wg.waiters.head;
}

static const struct ex_model model = {sizeof(struct state), FIBERS + 1, init, step, done};

struct scenario {
    int8_t first, move[MOVERS][MOVES];
    bool alarm;
};

static const struct scenario scenarios[] = {
    {2, {{-1}, {-1}}, false},          {2, {{-1}, {-1}}, true},
    {1, {{1, -1, -1}, {1, -1}}, true}, {1, {{-1, 1, -1}, {1, -1}}, false},
    {0, {{2, -1, -1}, {1, -1}}, true},
};

static void set_plan(int k)
{
    const struct scenario *c = &scenarios[k];
    memset(&plan, 0, sizeof plan);
    memcpy(plan.move, c->move, sizeof plan.move);
    plan.first = c->first;
    plan.alarm = c->alarm;
}

int main(void)
{
    int n = (int)FEN__COUNT(scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, set_plan, NULL, 100});
}
