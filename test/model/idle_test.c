/* idle_test.c - going idle and being woken (src/sched/find.c), for three Ps.
 *
 * P 0 runs a fiber that readies others one by one, then parks or computes for ever; every other
 * fiber computes for ever once it runs; a thread outside puts fibers on the global list. There is
 * no monitor and no time-out, so each ready fiber must get a P through the protocol alone. The
 * store of a ring's tail has a store buffer, which every locked operation of that P drains. */
#include "explore.h"

enum {
    NONE,
    NO_RECHECK,
    NO_LAST_SEARCHER,
    RELAXED_TAIL,
    COUNT_NOT_TAKEN,
    GLOBAL_NOT_SEEN,
    STOP_SEARCHING_LATE,
    IDLE_LATE,
    NO_KICK,
    NO_SECOND_LOOK,
    MUTANTS
};

#define NP 3

struct p {
    uint8_t pc, back, at, found; /* back: where wake_p returns to; at: place in a scan */
    uint8_t ring, buffered;      /* fibers others can see; pushed but still in the store buffer */
    uint8_t idle, searching, kick, seen, left;
};

struct state {
    struct p p[NP + 1]; /* the last is the thread outside */
    uint8_t n_idle, n_searching, lock, global, ran;
};

static const struct {
    uint8_t push, outside, parks;
} scenarios[] = {{2, 0, 0}, {1, 1, 0}, {0, 2, 0}, {3, 0, 1}, {2, 1, 1}};
static int scenario;

/* Actor's places. */
enum {
    GLOBAL,
    OWN,
    GATE_IDLE,
    GATE_SEARCHING,
    STEAL,
    ENTER,
    ENTER_COUNT,
    ENTER_STOP,
    RECHECK,
    LATE,
    SLEEP,
    LEAVE,
    GOT,
    RUNS,
    SCRIPT,
    WAKE_IDLE,
    WAKE_SEARCHING,
    WAKE_SWAP,
    WAKE_POP,
    WAKE_KICK
};

static void init(void *v)
{
    struct state *s = v;
    s->p[0].pc = s->p[NP].pc = SCRIPT;
    s->p[0].left = scenarios[scenario].push;
    s->p[NP].left = scenarios[scenario].outside;
}

static void drain(struct p *p)
{
    p->ring += p->buffered;
    p->buffered = 0;
}

static void call_wake(struct p *p, uint8_t back)
{
    p->pc = WAKE_IDLE;
    p->back = back;
}

/* The fiber on P 0, and the thread outside. */
static bool script(struct state *s, struct p *p, bool outside)
{
    if (!p->left) {
        if (outside)
            return false;
        p->pc = scenarios[scenario].parks ? GLOBAL : RUNS;
        return true;
    }
    if (outside) {
        if (s->lock)
            return false;
        s->global++;
    } else {
        p->buffered++;
        if (ex_mutant != RELAXED_TAIL)
            drain(p);
    }
    p->left--;
    call_wake(p, SCRIPT);
    return true;
}

static bool wake_p(struct state *s, struct p *p)
{
    switch (p->pc) {
    case WAKE_IDLE: p->pc = s->n_idle ? WAKE_SEARCHING : p->back; return true;
    case WAKE_SEARCHING: p->pc = s->n_searching ? p->back : WAKE_SWAP; return true;
    case WAKE_SWAP:
        drain(p);
        p->pc = s->n_searching ? p->back : WAKE_POP;
        s->n_searching += p->pc == WAKE_POP;
        return true;
    case WAKE_POP:
        if (s->lock)
            return false;
        p->seen = NP;
        for (uint8_t i = 0; i < NP && p->seen == NP; i++)
            if (s->p[i].idle)
                p->seen = i;
        if (p->seen < NP) {
            s->p[p->seen].idle = 0;
            s->n_idle--;
        }
        p->pc = WAKE_KICK;
        return true;
    default: /* WAKE_KICK */
        if (p->seen == NP)
            s->n_searching--;
        else if (ex_mutant != NO_KICK)
            s->p[p->seen].kick = 1;
        p->pc = p->seen == NP && ex_mutant != NO_SECOND_LOOK ? WAKE_IDLE : p->back;
        return true;
    }
}

static void steal(struct state *s, struct p *p, int self)
{
    if (p->at == NP) {
        p->pc = ENTER;
        return;
    }
    struct p *from = &s->p[p->at++];
    if (from == &s->p[self] || !from->ring)
        return;
    uint8_t n = (uint8_t)(from->ring - from->ring / 2);
    from->ring = (uint8_t)(from->ring - n);
    p->ring = (uint8_t)(p->ring + n - 1);
    p->pc = GOT;
}

/* fen__find, slow(). */
static bool search(struct state *s, struct p *p, int self)
{
    switch (p->pc) {
    case GLOBAL:
        if (s->lock)
            return false;
        p->pc = s->global ? GOT : OWN;
        s->global -= s->global > 0;
        return true;
    case OWN:
        drain(p);
        p->pc = p->ring ? GOT : p->searching ? STEAL : GATE_IDLE;
        p->ring -= p->ring > 0;
        p->at = 0;
        return true;
    case GATE_IDLE:
        p->seen = (uint8_t)(NP - s->n_idle);
        p->pc = GATE_SEARCHING;
        return true;
    case GATE_SEARCHING: /* load and add in one step: a race only lets one more search */
        p->pc = 2 * s->n_searching >= p->seen ? ENTER : STEAL;
        p->searching = p->pc == STEAL;
        s->n_searching = (uint8_t)(s->n_searching + p->searching);
        return true;
    case STEAL: steal(s, p, self); return true;
    default: return false;
    }
}

/* idle(). The lock is held from ENTER to the recheck; what is counted under it is seen outside. */
static bool idle(struct state *s, struct p *p, int self)
{
    switch (p->pc) {
    case ENTER:
        if (s->lock)
            return false;
        drain(p);
        p->pc = s->global && ex_mutant != GLOBAL_NOT_SEEN ? GLOBAL : ENTER_COUNT;
        s->lock = p->pc == ENTER_COUNT;
        return true;
    case ENTER_COUNT:
        if (ex_mutant != IDLE_LATE) {
            p->idle = 1;
            s->n_idle++;
        }
        p->pc = ENTER_STOP;
        return true;
    case ENTER_STOP:
        if (ex_mutant != STOP_SEARCHING_LATE) {
            s->n_searching = (uint8_t)(s->n_searching - p->searching);
            p->searching = 0;
        }
        s->lock = 0;
        p->at = p->found = 0;
        p->pc = ex_mutant == NO_RECHECK ? SLEEP : RECHECK;
        return true;
    case RECHECK: /* work_elsewhere */
        if (p->at == NP) {
            p->pc = ex_mutant == STOP_SEARCHING_LATE || ex_mutant == IDLE_LATE ? LATE : SLEEP;
            return true;
        }
        if (p->at != self && s->p[p->at].ring)
            p->pc = LEAVE;
        p->at++;
        return true;
    case LATE:
        if (s->lock)
            return false;
        s->n_searching = (uint8_t)(s->n_searching - p->searching);
        p->searching = 0;
        if (ex_mutant == IDLE_LATE) {
            p->idle = 1;
            s->n_idle++;
        }
        p->pc = SLEEP;
        return true;
    case SLEEP:
        if (!p->kick)
            return false;
        p->kick = 0;
        p->pc = LEAVE;
        return true;
    case LEAVE:
        if (s->lock)
            return false;
        if (p->idle) {
            p->idle = 0;
            s->n_idle--;
        } else if (ex_mutant != COUNT_NOT_TAKEN && ex_mutant != IDLE_LATE) {
            p->searching = 1;
        }
        p->pc = GLOBAL;
        return true;
    default: return false;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    if (actor > NP) { /* the store buffers */
        struct p *p = &s->p[actor - NP - 1];
        bool full = p->buffered;
        drain(p);
        return full;
    }
    struct p *p = &s->p[actor];
    bool last;
    switch (p->pc) {
    case RUNS: return false;
    case SCRIPT: return script(s, p, actor == NP);
    case GOT: /* stop_searching, and the fiber computes for ever */
        s->ran++;
        last = p->searching && s->n_searching == 1 && ex_mutant != NO_LAST_SEARCHER;
        s->n_searching = (uint8_t)(s->n_searching - p->searching);
        p->searching = 0;
        p->pc = RUNS;
        if (last)
            call_wake(p, RUNS);
        return true;
    default: break;
    }
    if (p->pc >= WAKE_IDLE)
        return wake_p(s, p);
    return p->pc < ENTER ? search(s, p, actor) : idle(s, p, actor);
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->ran == scenarios[scenario].push + scenarios[scenario].outside;
}

static const struct ex_model model = {sizeof(struct state), NP + 1 + NP, init, step, done};

static void plan(int k) { scenario = k; }

int main(void)
{
    int n = (int)(sizeof scenarios / sizeof *scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, plan, NULL, 1000});
}
