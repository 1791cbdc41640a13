/* barrier_test.c - every interleaving of three fibers on src/sync/barrier.c, round after round,
 * some of which are woken by something else while they wait and then leave or wait on: a round that
 * took place did so for as many as it is for, one that gave up is missing from the count, and
 * nobody waits for a round that is over. */
#include "fiber.h"

#include "../../src/sync/barrier.c"
#include "../../src/sync/waitq.c"

enum { FIBERS = 3, ROUNDS_MAX = 4 };

enum {
    NONE,
    NODE_STAYS,
    ARRIVAL_STAYS,
    ARRIVAL_BACK_TWICE,
    ROUND_STAYS,
    WAKES_ONE,
    ARRIVALS_STAY,
    DEADLINE_OVER_ROUND,
    WAITS_ON_FOR_OVER,
    MUTANTS
};

enum { ARRIVE, COMMIT, OFF, RUN, EARLY, WAKE, FINISHED };

struct actor {
    uint8_t pc, disturbed, times;
    uint32_t round;
    struct fen__woken w;
};

struct state {
    fen_barrier b;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
    uint8_t passed[ROUNDS_MAX];
};

static struct {
    uint32_t parties;
    uint8_t times[FIBERS];
    bool alarm[FIBERS], gives_up;
} plan;

static void init(void *v)
{
    struct state *s = v;
    s->b.parties = plan.parties;
    for (uint32_t i = 0; i < FIBERS; i++) {
        s->g[i].id = i;
        s->a[i].pc = plan.times[i] ? ARRIVE : FINISHED;
    }
}

static void next(struct actor *a, int i)
{
    a->times++;
    a->pc = a->times < plan.times[i] ? ARRIVE : FINISHED;
}

static void pass(struct state *s, int i, uint32_t round)
{
    ex_fail(round >= s->b.round, "it passes in a round that is not over");
    ex_fail(++s->passed[round % ROUNDS_MAX] > plan.parties, "more pass than there are parties");
    next(&s->a[i], i);
}

static void queue_node(struct state *s, int i)
{
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    fen__waitq_wait(&s->b.waiters, &s->g[i], &s->b);
    s->a[i].pc = COMMIT;
}

/* The one that comes last, with what a mutant leaves out. */
static bool arrives_last(struct state *s, struct fen__woken *w)
{
    fen_barrier *b = &s->b;
    if (ex_mutant == WAKES_ONE && b->arrived + 1 == b->parties) {
        b->arrived = 0;
        b->round++;
        (void)fen__woken_first(w, &b->waiters);
        return true;
    }
    bool last = arrive(b, w);
    b->round -= last && ex_mutant == ROUND_STAYS;
    if (last && ex_mutant == ARRIVALS_STAY)
        b->arrived = 1;
    return last;
}

static void early(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    int rc = plan.gives_up ? -ETIMEDOUT : 0;
    uint32_t arrived = s->b.arrived;
    bool over = s->b.round != a->round;
    struct fen__node saved = s->g[i].node;
    if (ex_mutant == NODE_STAYS && saved.queue) /* as if it had not been taken out */
        rc = over ? 1 : (s->b.arrived -= rc != 0, rc);
    else
        rc = woken_early(&s->b, &s->g[i], a->round, rc);
    if (ex_mutant == ARRIVAL_STAYS)
        s->b.arrived = arrived;
    if (ex_mutant == ARRIVAL_BACK_TWICE && over && plan.gives_up)
        s->b.arrived--;
    if (ex_mutant == DEADLINE_OVER_ROUND && over && plan.gives_up)
        rc = -ETIMEDOUT;
    if (ex_mutant == WAITS_ON_FOR_OVER && over && !plan.gives_up)
        rc = 0;
    ex_fail(s->b.arrived >= s->b.parties, "arrivals below none");
    if (rc > 0)
        pass(s, i, a->round);
    else if (rc < 0)
        next(a, i);
    else
        queue_node(s, i);
}

static bool fiber_step(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__node *n;
    int how;
    switch (a->pc) {
    case ARRIVE:
        a->round = s->b.round;
        if (arrives_last(s, &a->w))
            a->pc = WAKE;
        else
            queue_node(s, i);
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
    case RUN:
        if (s->g[i].state >= FEN__BY_SYNC)
            pass(s, i, a->round);
        else
            a->pc = EARLY;
        return true;
    case EARLY: early(s, i); return true;
    case WAKE:
        if (!(n = a->w.head)) {
            a->w.last = NULL;
            pass(s, i, a->round);
            return true;
        }
        a->w.head = n->next;
        fen__waitq_done(n, n->rc, 0);
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

/* Whoever still waits does so in the round that is on, and is counted in it. */
static bool done(const void *v)
{
    const struct state *s = v;
    uint32_t waiting = 0;
    for (int i = 0; i < FIBERS; i++) {
        bool waits = s->a[i].pc == OFF && !s->g[i].runq && s->g[i].state == FEN__PARKED;
        if (!waits && s->a[i].pc != FINISHED)
            return false;
        if (waits && s->a[i].round != s->b.round)
            return false;
        waiting += waits;
    }
    for (uint32_t r = 0; r < s->b.round; r++)
        if (s->passed[r % ROUNDS_MAX] != plan.parties)
            return false;
    return waiting == s->b.arrived;
}

static const struct ex_model model = {sizeof(struct state), 2 * FIBERS, init, step, done};

static void set_plan(int k)
{
    static const uint8_t times[][FIBERS] = {{1, 1, 0}, {2, 2, 0}, {1, 1, 1}, {2, 1, 1}};
    memset(&plan, 0, sizeof plan);
    plan.parties = k < 16 ? 2 : 3;
    memcpy(plan.times, k < 16 ? times[k / 4] : (const uint8_t[]){2, 2, 2}, sizeof plan.times);
    plan.gives_up = k & 1;
    plan.alarm[0] = true;
    plan.alarm[1] = k & 2;
}

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 20, set_plan, NULL, 10}); }
