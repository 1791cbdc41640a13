/* mutex_test.c - every interleaving of three fibers on the mutex of src/sync/lock.c: its one-step
 * paths without the lock against the paths under it. Some fibers are woken by something else while
 * they wait (a deadline: they give up; a false alarm: they try again).
 *
 * A step is one atomic access of `held`, or what happens to the queue under the lock; the lock is a
 * step of its own to take and to let go. mutex_take_or_mark counts as one step: it is a loop around
 * one compare-and-swap, and where it ends without one, WAITED stands and only the lock moves on. */
#include "fiber.h"

#include "../../src/sync/lock.c"
#include "../../src/sync/waitq.c"

enum { FIBERS = 3 };

enum {
    NONE,
    NO_MARK,
    MARK_WITHOUT_CAS,
    MARK_BEFORE_LOCK,
    GIVE_STORES,
    HAND_ON_DROPS_MARK,
    HAND_ON_FREES,
    HAND_ON_WITHOUT_CLAIM,
    FREES_UNDER_LOCK,
    NO_SECOND_GIVE,
    NODE_STAYS,
    WITHDRAW_TAKES_MARK_OFF,
    MUTANTS
};

enum {
    TAKE,
    LOCK,
    MARK,
    MARK_STORE, /* of a mutant */
    PUSH,
    COMMIT,
    OFF,
    RUN,
    WITHDRAW_LOCK,
    WITHDRAW,
    HOLD,
    GIVE,
    GIVE_LOCK,
    HAND_ON,
    UNLOCK, /* of the short lock; then: what comes after it */
    WAKE,
    FINISHED
};

struct actor {
    uint8_t pc, then;
    uint8_t disturbed; /* its alarm has come */
    uint8_t got, times;
    uint8_t claim;
    uint32_t seen; /* of a mutant */
    struct fen__node *woken;
};

struct state {
    fen_mutex m;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
};

static struct {
    bool alarm[FIBERS], gives_up;
    int times[FIBERS]; /* that it locks */
} plan;

static void init(void *v)
{
    struct state *s = v;
    for (uint32_t i = 0; i < FIBERS; i++) {
        s->g[i].id = i;
        s->a[i].pc = plan.times[i] ? TAKE : FINISHED;
    }
}

static uint32_t who(int i) { return (uint32_t)i + 1; }

static bool waits(const struct state *s, int i)
{
    const struct fen__g *g = &s->g[i];
    return g->node.queue && fiber_waits(g, g->node.epoch);
}

static void got_it(struct state *s, int i, bool handed)
{
    s->a[i].got = 1;
    for (int k = 0; k < FIBERS; k++) {
        ex_fail(k != i && s->a[k].got, "two hold it");
        ex_fail(k != i && !handed && waits(s, k), "one that waits is overtaken");
    }
}

static void after(struct actor *a, int pc, int then)
{
    a->pc = (uint8_t)pc;
    a->then = (uint8_t)then;
}

static void mark(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    fen_mutex *m = &s->m;
    if (ex_mutant == NO_MARK && m->held) {
        a->pc = PUSH;
    } else if (ex_mutant == MARK_WITHOUT_CAS && m->held) {
        a->seen = m->held;
        a->pc = MARK_STORE;
    } else if (mutex_take_or_mark(m, who(i))) {
        got_it(s, i, false);
        after(a, ex_mutant == MARK_BEFORE_LOCK ? HOLD : UNLOCK, HOLD);
    } else {
        a->pc = ex_mutant == MARK_BEFORE_LOCK ? LOCK : PUSH;
    }
}

static void push(struct state *s, int i)
{
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    fen__waitq_wait(&s->m.waiters, &s->g[i], &s->m);
    after(&s->a[i], UNLOCK, COMMIT);
}

static void withdraw(struct state *s, int i)
{
    if (ex_mutant != NODE_STAYS)
        fen__waitq_remove(&s->m.waiters, &s->g[i].node);
    if (ex_mutant == WITHDRAW_TAKES_MARK_OFF)
        s->m.held &= ~FEN__WAITED;
    int again = ex_mutant == MARK_BEFORE_LOCK ? MARK : LOCK;
    after(&s->a[i], UNLOCK, plan.gives_up ? FINISHED : again);
}

static void give(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool free_now = true;
    a->got = 0;
    if (ex_mutant == GIVE_STORES)
        s->m.held = 0;
    else
        free_now = mutex_give(&s->m, who(i));
    a->pc = free_now ? (++a->times < plan.times[i] ? TAKE : FINISHED) : GIVE_LOCK;
}

static struct fen__node *hand_on_blindly(fen_mutex *m, int *ret_claim)
{
    struct fen__node *n = m->waiters.head;
    fen__waitq_remove(&m->waiters, n);
    *ret_claim = (int)n->g->state;
    m->held = n->g->id + 1 + (m->waiters.head ? FEN__WAITED : 0);
    return n;
}

static void hand_on(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    fen_mutex *m = &s->m;
    int claim = 0;
    ex_fail(m->held != FEN__WAITED, "somebody took what was to be handed over");
    if (ex_mutant == HAND_ON_WITHOUT_CLAIM && m->waiters.head)
        a->woken = hand_on_blindly(m, &claim);
    else
        a->woken = mutex_hand_on(m, who(i), &claim);
    a->claim = (uint8_t)claim;
    if (ex_mutant == HAND_ON_DROPS_MARK)
        m->held &= ~FEN__WAITED;
    if ((ex_mutant == HAND_ON_FREES && a->woken) || (ex_mutant == FREES_UNDER_LOCK && !a->woken))
        m->held = 0;
    int alone = ex_mutant == FREES_UNDER_LOCK || ex_mutant == NO_SECOND_GIVE ? FINISHED : GIVE;
    after(a, UNLOCK, a->woken ? WAKE : alone);
}

static bool take_lock(struct state *s, struct actor *a, int then)
{
    if (s->m.lock)
        return false;
    s->m.lock = 1;
    a->pc = (uint8_t)then;
    return true;
}

static bool fiber(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__g *g = &s->g[i];
    int how;
    switch (a->pc) {
    case TAKE:
        if (mutex_take(&s->m, who(i))) {
            got_it(s, i, false);
            a->pc = HOLD;
        } else {
            a->pc = ex_mutant == MARK_BEFORE_LOCK ? MARK : LOCK;
        }
        return true;
    case LOCK: return take_lock(s, a, ex_mutant == MARK_BEFORE_LOCK ? PUSH : MARK);
    case MARK: mark(s, i); return true;
    case MARK_STORE:
        s->m.held = a->seen | FEN__WAITED;
        a->seen = 0;
        a->pc = PUSH;
        return true;
    case PUSH: push(s, i); return true;
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
        a->pc = g->state >= FEN__BY_SYNC ? HOLD : WITHDRAW_LOCK;
        if (a->pc == HOLD)
            got_it(s, i, true);
        return true;
    case WITHDRAW_LOCK: return take_lock(s, a, WITHDRAW);
    case WITHDRAW: withdraw(s, i); return true;
    case HOLD: /* the critical section */
        ex_fail(mutex_holder(&s->m) != who(i), "the holder is not told");
        a->pc = GIVE;
        return true;
    case GIVE: give(s, i); return true;
    case GIVE_LOCK: return take_lock(s, a, HAND_ON);
    case HAND_ON: hand_on(s, i); return true;
    case UNLOCK:
        s->m.lock = 0;
        a->pc = a->then;
        a->then = 0;
        return true;
    case WAKE:
        fen__waitq_done(a->woken, a->claim, 0);
        a->woken = NULL;
        a->claim = 0;
        a->pc = ++a->times < plan.times[i] ? TAKE : FINISHED;
        return true;
    default: return false;
    }
}

static bool alarm_of(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    if (!plan.alarm[i] || a->disturbed || !fiber_wake(&s->g[i], FEN__BY_TIMER))
        return false;
    a->disturbed = 1;
    return true;
}

/* Who finds it free may end its life at once (after fini, which takes the lock: but whoever lets go
 * should not count on that). */
static void check_free(const struct state *s)
{
    for (int i = 0; i < FIBERS; i++) {
        const struct actor *a = &s->a[i];
        bool letting_go = a->pc == HAND_ON || a->pc == GIVE_LOCK ||
                          (a->pc == UNLOCK && (a->then == WAKE || a->then == GIVE)) ||
                          (ex_mutant == FREES_UNDER_LOCK && a->pc == UNLOCK && !a->got);
        ex_fail(!s->m.held && letting_go, "free, and who let it go still touches it");
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor < FIBERS ? fiber(s, actor) : alarm_of(s, actor - FIBERS);
    check_free(s);
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int i = 0; i < FIBERS; i++)
        if (s->a[i].pc != FINISHED)
            return false;
    return !s->m.held && !s->m.lock && !s->m.waiters.head;
}

static const struct ex_model model = {sizeof(struct state), 2 * FIBERS, init, step, done};

/* A digit a fiber: how often it locks; '!' behind it: it is woken once by something else; '-' at
 * the end: and gives up then. */
static const char *const scenarios[] = {"111",  "220",   "211",    "11!1",
                                        "21!0", "21!0-", "11!1!-", "11!1!"};

static const char *scenario;

static void set_plan(int k)
{
    int n = 0;
    memset(&plan, 0, sizeof plan);
    scenario = scenarios[k];
    for (const char *text = scenario; *text; text++)
        if (*text == '!')
            plan.alarm[n - 1] = true;
        else if (*text == '-')
            plan.gives_up = true;
        else
            plan.times[n++] = *text - '0';
}
static const char *name(void) { return scenario; }

int main(void)
{
    int n = (int)FEN__COUNT(scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, set_plan, name, 200});
}
