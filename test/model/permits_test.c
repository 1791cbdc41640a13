/* permits_test.c - every interleaving of three fibers on the semaphore of src/sync/lock.c: permits
 * taken and given without the lock against waiting and handing over under it. Some fibers are woken
 * by something else while they wait.
 *
 * Steps as in mutex_test.c: one access of `permits`, or what happens to the queue under the lock.
 * Each function of lock.c that loops around a compare-and-swap is one step. */
#include "fiber.h"

#include "../../src/sync/lock.c"
#include "../../src/sync/waitq.c"

enum { FIBERS = 3 };

enum {
    NONE,
    NO_MARK,
    MARK_BEFORE_LOCK,
    GIVE_STORES,
    HAND_ON_DROPS_MARK,
    HAND_ON_FREES,
    HAND_ON_GIVES_TOO,
    FREES_UNDER_LOCK,
    NO_SECOND_GIVE,
    NODE_STAYS,
    MUTANTS
};

enum {
    TAKE,
    LOCK,
    MARK,
    PUSH,
    COMMIT,
    OFF,
    RUN,
    WITHDRAW_LOCK,
    WITHDRAW,
    HOLD,
    GIVE_LOAD, /* of a mutant */
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
    uint8_t got, times, claim;
    int64_t seen; /* of a mutant */
    struct fen__node *woken;
};

struct state {
    fen_sem s;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
};

static struct {
    bool alarm[FIBERS], gives_up;
    int times[FIBERS], permits;
} plan;

static void init(void *v)
{
    struct state *s = v;
    s->s.permits = plan.permits;
    for (uint32_t i = 0; i < FIBERS; i++) {
        s->g[i].id = i;
        s->a[i].pc = plan.times[i] ? TAKE : FINISHED;
    }
}

static bool waits(const struct state *s, int i)
{
    const struct fen__g *g = &s->g[i];
    return g->node.queue && fiber_waits(g, g->node.epoch);
}

static void got_it(struct state *s, int i, bool handed)
{
    int inside = 0;
    s->a[i].got = 1;
    for (int k = 0; k < FIBERS; k++) {
        inside += s->a[k].got;
        ex_fail(k != i && !handed && waits(s, k), "one that waits is overtaken");
    }
    ex_fail(inside > plan.permits, "more inside than there are permits");
}

static void after(struct actor *a, int pc, int then)
{
    a->pc = (uint8_t)pc;
    a->then = (uint8_t)then;
}

static bool early(void) { return ex_mutant == MARK_BEFORE_LOCK; }

static void mark(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    if (ex_mutant == NO_MARK && s->s.permits <= 0) {
        a->pc = PUSH;
    } else if (sem_take_or_mark(&s->s)) {
        got_it(s, i, false);
        after(a, early() ? HOLD : UNLOCK, HOLD);
    } else {
        a->pc = early() ? LOCK : PUSH;
    }
}

static void push(struct state *s, int i)
{
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    fen__waitq_wait(&s->s.waiters, &s->g[i], &s->s);
    after(&s->a[i], UNLOCK, COMMIT);
}

static void withdraw(struct state *s, int i)
{
    if (ex_mutant != NODE_STAYS)
        fen__waitq_remove(&s->s.waiters, &s->g[i].node);
    after(&s->a[i], UNLOCK, plan.gives_up ? FINISHED : early() ? MARK : LOCK);
}

static int again(struct actor *a, int i) { return ++a->times < plan.times[i] ? TAKE : FINISHED; }

static void give(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool given = true;
    a->got = 0;
    if (ex_mutant == GIVE_STORES)
        s->s.permits = a->seen < 0 ? 1 : a->seen + 1;
    else
        given = sem_give(&s->s);
    a->seen = 0;
    a->pc = (uint8_t)(given ? again(a, i) : GIVE_LOCK);
}

static void hand_on(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    int claim = 0;
    a->woken = sem_hand_on(&s->s, &claim);
    a->claim = (uint8_t)claim;
    if (ex_mutant == HAND_ON_DROPS_MARK && s->s.permits < 0)
        s->s.permits = 0;
    if ((ex_mutant == HAND_ON_FREES && a->woken) || (ex_mutant == FREES_UNDER_LOCK && !a->woken))
        s->s.permits = 1;
    if (ex_mutant == HAND_ON_GIVES_TOO && a->woken && s->s.permits == 0)
        s->s.permits = 1;
    bool done = ex_mutant == FREES_UNDER_LOCK || ex_mutant == NO_SECOND_GIVE;
    after(a, UNLOCK, a->woken ? WAKE : done ? again(a, i) : GIVE);
}

static bool take_lock(struct state *s, struct actor *a, int then)
{
    if (s->s.lock)
        return false;
    s->s.lock = 1;
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
        if (sem_take(&s->s)) {
            got_it(s, i, false);
            a->pc = HOLD;
        } else {
            a->pc = early() ? MARK : LOCK;
        }
        return true;
    case LOCK: return take_lock(s, a, early() ? PUSH : MARK);
    case MARK: mark(s, i); return true;
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
    case HOLD: a->pc = ex_mutant == GIVE_STORES ? GIVE_LOAD : GIVE; return true;
    case GIVE_LOAD:
        a->seen = s->s.permits;
        a->pc = GIVE;
        return true;
    case GIVE: give(s, i); return true;
    case GIVE_LOCK: return take_lock(s, a, HAND_ON);
    case HAND_ON: hand_on(s, i); return true;
    case UNLOCK:
        s->s.lock = 0;
        a->pc = a->then;
        a->then = 0;
        return true;
    case WAKE:
        fen__waitq_done(a->woken, a->claim, 0);
        a->woken = NULL;
        a->claim = 0;
        a->pc = (uint8_t)again(a, i);
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

/* Who gave the permit back must not touch the semaphore any more when another can have it. */
static void check_given(const struct state *s)
{
    for (int i = 0; i < FIBERS; i++)
        ex_fail(s->s.permits == plan.permits && s->a[i].pc == UNLOCK &&
                    (s->a[i].then == TAKE || s->a[i].then == FINISHED) && !plan.gives_up,
                "given, and who gave it still touches it");
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor < FIBERS ? fiber(s, actor) : alarm_of(s, actor - FIBERS);
    check_given(s);
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int i = 0; i < FIBERS; i++)
        if (s->a[i].pc != FINISHED)
            return false;
    bool back = s->s.permits == plan.permits || (!plan.permits && s->s.permits < 0);
    return back && !s->s.lock && !s->s.waiters.head;
}

static const struct ex_model model = {sizeof(struct state), 2 * FIBERS, init, step, done};

/* First how many permits there are; then as in mutex_test.c. */
static const char *const scenarios[] = {"1111",  "1220",   "2111",    "2211",   "111!1",
                                        "121!0", "121!0-", "111!1!-", "111!1!", "211!1!"};

static const char *scenario;

static void set_plan(int k)
{
    memset(&plan, 0, sizeof plan);
    scenario = scenarios[k];
    plan.permits = scenario[0] - '0';
    int n = 0;
    for (const char *text = scenario + 1; *text; text++)
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
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, set_plan, name, 100});
}
