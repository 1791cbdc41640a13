/* once_test.c - every interleaving of three fibers on src/sync/once.c, of whose functions some
 * fail, and some of which are woken by something else while they wait: never two inside, never
 * twice with success, nobody is told that it is done before it is, and a failure hands on to who
 * waits. */
#include "fiber.h"

#include "../../src/sync/once.c"
#include "../../src/sync/waitq.c"

enum { FIBERS = 3 };

enum {
    NONE,
    NODE_STAYS,
    RUNNER_STAYS,
    FAILURE_TELLS_NOBODY,
    FAILURE_FREES,
    SUCCESS_TELLS_ONE,
    FAILURE_IS_DONE,
    DONE_BEFORE_FN,
    WAITER_LOOKS_LATE,
    MUTANTS
};

enum { FAST, LOOK, QUEUE, COMMIT, OFF, RUN, WITHDRAW, INSIDE, LEAVE, SETTLE, WAKE, FINISHED };

struct actor {
    uint8_t pc, disturbed, gave_up;
    struct fen__woken w;
};

struct state {
    fen_once o;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
    uint8_t inside, made; /* made: what fn makes is there */
};

static struct {
    bool fails[FIBERS], alarm[FIBERS], gives_up;
} plan;

static void init(void *v)
{
    struct state *s = v;
    for (uint32_t i = 0; i < FIBERS; i++)
        s->g[i].id = i;
}

static void told_done(struct state *s, int i)
{
    ex_fail(!s->made, "told that it is done, and it is not");
    s->a[i].pc = FINISHED;
}

static void take_a_look(struct state *s, int i)
{
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    bool late = ex_mutant == WAITER_LOOKS_LATE; /* the lock is let go before it is queued */
    int rc = look(&s->o, &s->g[i], !late);
    s->a[i].pc = rc == 0 ? INSIDE : late ? QUEUE : COMMIT;
    if (rc == 1)
        told_done(s, i);
}

static void settle_it(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool made = !plan.fails[i] || ex_mutant == FAILURE_IS_DONE;
    uint32_t runner = s->o.runner;
    if (ex_mutant == SUCCESS_TELLS_ONE && made) {
        s->o.runner = 0;
        s->o.done = 1;
        (void)fen__woken_first(&a->w, &s->o.waiters);
    } else if (ex_mutant == FAILURE_TELLS_NOBODY && !made) {
        s->o.runner = 0;
    } else {
        settle(&s->o, made, &a->w);
    }
    if (ex_mutant == RUNNER_STAYS && !made && !a->w.head)
        s->o.runner = runner;
    if (ex_mutant == FAILURE_FREES && !made)
        s->o.runner = 0;
    a->pc = WAKE;
}

static void run(struct state *s, int i)
{
    struct fen__g *g = &s->g[i];
    if (g->state < FEN__BY_SYNC)
        s->a[i].pc = WITHDRAW;
    else if (g->node.rc == 1)
        told_done(s, i);
    else
        s->a[i].pc = INSIDE;
}

static void go_inside(struct state *s, int i)
{
    ex_fail(s->inside, "two inside fn");
    ex_fail(s->made, "it runs again after it has succeeded");
    s->inside = 1;
    if (ex_mutant == DONE_BEFORE_FN && !plan.fails[i])
        s->o.done = 1;
    s->a[i].pc = LEAVE;
}

static bool fiber_step(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__node *n;
    int how;
    switch (a->pc) {
    case FAST:
        a->pc = LOOK;
        if (is_done(&s->o))
            told_done(s, i);
        return true;
    case LOOK: take_a_look(s, i); return true;
    case QUEUE:
        fen__waitq_wait(&s->o.waiters, &s->g[i], &s->o);
        a->pc = COMMIT;
        return true;
    case COMMIT:
        how = fiber_commit(&s->g[i]);
        a->pc = how == 1 ? OFF : how ? RUN : COMMIT;
        return how != 0;
    case OFF:
        if (!s->g[i].runq)
            return false;
        s->g[i].runq--;
        a->pc = RUN;
        return true;
    case RUN: run(s, i); return true;
    case WITHDRAW:
        if (ex_mutant != NODE_STAYS)
            fen__waitq_remove(&s->o.waiters, &s->g[i].node);
        a->gave_up = plan.gives_up;
        a->pc = plan.gives_up ? FINISHED : LOOK;
        return true;
    case INSIDE: go_inside(s, i); return true;
    case LEAVE:
        s->inside = 0;
        s->made |= !plan.fails[i];
        a->pc = SETTLE;
        return true;
    case SETTLE: settle_it(s, i); return true;
    case WAKE:
        if ((n = a->w.head)) {
            a->w.head = n->next;
            fen__waitq_done(n, n->rc, s->o.done ? 1 : 0);
            return true;
        }
        a->w.last = NULL;
        a->pc = FINISHED;
        return true;
    default: return false;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    if (actor < FIBERS)
        return fiber_step(s, actor);
    int i = actor - FIBERS;
    if (!plan.alarm[i] || s->a[i].disturbed || !fiber_wake(&s->g[i], FEN__BY_TIMER))
        return false;
    s->a[i].disturbed = 1;
    return true;
}

static bool done(const void *v)
{
    const struct state *s = v;
    bool should = false;
    for (int i = 0; i < FIBERS; i++) {
        if (s->a[i].pc != FINISHED)
            return false;
        should |= !plan.fails[i] && !s->a[i].gave_up;
    }
    return !s->o.runner && !s->o.waiters.head && (s->made || !should);
}

static const struct ex_model model = {sizeof(struct state), 2 * FIBERS, init, step, done};

static void set_plan(int k)
{
    for (int i = 0; i < FIBERS; i++) {
        plan.fails[i] = k & 1 << i;
        plan.alarm[i] = i == 1 || (i == 2 && k & 8);
    }
    plan.gives_up = k & 16;
}

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 32, set_plan, NULL, 100}); }
