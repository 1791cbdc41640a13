/* newborn_test.c - fibers that have not begun (src/sched/newborn.c): a list a P, its owner takes
 * the newest, thieves half of it, the oldest first, and keep the rest in their own; beside the
 * protocol of going idle and being woken (find.c) that must hand each of them to somebody.
 *
 * P 0 runs a fiber that spawns some, then parks or computes for ever; whoever was spawned computes
 * for ever once it runs, or parks at once where the plan says so. There is no monitor and no
 * time-out. A critical section is one step, or two in the mutants that leave its lock out. What P 0
 * pushes has a store buffer, which every locked operation of P 0 drains. */
#include "explore.h"

enum {
    NONE,
    COUNT_IS_PLAIN,       /* n is raised without a barrier before the look for idle Ps */
    PUSH_WITHOUT_LOCK,    /* the newest is read, then replaced */
    POP_WITHOUT_LOCK,     /* the same by the owner that takes */
    STEAL_WITHOUT_LOCK,   /* and by a thief */
    TAKE_KEEPS_COUNT,     /* n is not lowered */
    LOOT_KEPT_BY_NOBODY,  /* only the one that the thief runs is left of it */
    LOOT_ALL_PUSHED,      /* that one is pushed too */
    STOPS_BEFORE_PUSHING, /* the thief is no searcher while nobody's list has the loot */
    STOPS_WITHOUT_WAKING, /* the last searcher finds something and wakes nobody */
    LOOKS_AT_RINGS_ONLY,  /* going idle: the second look leaves the lists out */
    MUTANTS
};

enum { NP = 3, BORN_MAX = 4 };

struct p {
    uint8_t list[BORN_MAX], len, n; /* oldest first; n: the counter that others look at */
    uint8_t hidden, born;           /* pushed, in the store buffer: fibers 1 + born ... */
    uint8_t pc, back, at, seen, seen_len;
    uint8_t loot[BORN_MAX], n_loot, put, got; /* put: of the loot, the next one to push */
    uint8_t idle, searching, kick, left;
};

struct state {
    struct p p[NP];
    uint8_t n_idle, n_searching, ran; /* ran: a bit a fiber */
};

static const struct {
    uint8_t born, parks; /* parks: 1 the spawner, 2 those that were spawned, too */
} scenarios[] = {{1, 0}, {2, 0}, {3, 1}, {3, 3}, {4, 3}};
static int scenario;

/* Places of a P. From WAKE_IDLE on: fen__wake_p. */
enum {
    OWN,
    OWN_TAKE, /* of a mutant */
    GATE_IDLE,
    GATE_SEARCHING,
    STEAL_LOOK,
    STEAL_TAKE,
    STEAL_LATE, /* of a mutant */
    STEAL_STOP, /* of a mutant */
    STEAL_PUSH,
    ENTER,
    RECHECK,
    SLEEP,
    LEAVE,
    GOT,
    RUNS,
    SCRIPT,
    SCRIPT_LATE, /* of a mutant */
    WAKE_IDLE,
    WAKE_SEARCHING,
    WAKE_SWAP,
    WAKE_POP,
    WAKE_KICK
};

static void init(void *v)
{
    struct state *s = v;
    s->p[0].pc = SCRIPT;
    s->p[0].left = scenarios[scenario].born;
}

/* ---- a list; each function is one critical section ---- */

static void push(struct p *p, uint8_t g)
{
    p->list[p->len++] = g;
    p->n++;
}

static uint8_t take(struct p *p, bool oldest)
{
    ex_fail(!p->len, "taken from an empty list");
    if (!p->len)
        return 0;
    uint8_t g = oldest ? p->list[0] : p->list[p->len - 1];
    p->len--;
    if (oldest)
        memmove(p->list, p->list + 1, p->len);
    p->list[p->len] = 0;
    if (ex_mutant != TAKE_KEEPS_COUNT)
        p->n--;
    return g;
}

static void drain(struct p *p)
{
    for (; p->hidden; p->hidden--)
        push(p, ++p->born);
}

/* The list as it was when seen_len was read, less the one that is taken from its end; what came or
 * went meanwhile is overwritten. */
static void overwrite(struct p *of, uint8_t len)
{
    of->n = (uint8_t)(of->n - of->len + len);
    for (uint8_t i = len; i < of->len; i++)
        of->list[i] = 0;
    of->len = len;
}

/* ---- the spawner ---- */

static void call_wake(struct p *p, uint8_t back)
{
    p->pc = WAKE_IDLE;
    p->back = back;
}

static bool script(struct p *p)
{
    if (p->pc == SCRIPT_LATE) { /* the older ones as they were, and the new one */
        overwrite(p, p->seen_len < p->len ? p->seen_len : p->len);
        for (uint8_t i = p->len; i < p->seen_len; i++)
            push(p, p->loot[i]);
        memset(p->loot, 0, sizeof p->loot);
        push(p, ++p->born);
        call_wake(p, SCRIPT);
        return true;
    }
    if (!p->left) {
        p->pc = scenarios[scenario].parks & 1 ? OWN : RUNS;
        return true;
    }
    p->left--;
    if (ex_mutant == PUSH_WITHOUT_LOCK) {
        p->seen_len = p->len;
        memcpy(p->loot, p->list, p->len);
        p->pc = SCRIPT_LATE;
        return true;
    }
    p->hidden++;
    if (ex_mutant != COUNT_IS_PLAIN)
        drain(p);
    call_wake(p, SCRIPT);
    return true;
}

/* ---- searching ---- */

static void found(struct p *p, uint8_t g)
{
    p->got = g;
    p->pc = GOT;
}

/* fen__newborn_pop, if there is one. */
static void own(struct p *p)
{
    drain(p);
    p->at = 0;
    if (!p->len)
        p->pc = p->searching ? STEAL_LOOK : GATE_IDLE;
    else if (ex_mutant == POP_WITHOUT_LOCK) {
        p->seen_len = p->len;
        p->got = p->list[p->len - 1];
        p->pc = OWN_TAKE;
    } else {
        found(p, take(p, false));
    }
}

static struct p *victim(struct state *s, struct p *p) { return &s->p[p->at]; }

static void steal_look(struct state *s, struct p *p, int self)
{
    if (p->at == NP)
        p->pc = ENTER;
    else if (p->at == self || !victim(s, p)->n)
        p->at++;
    else
        p->pc = STEAL_TAKE;
}

static void loot_taken(struct p *p)
{
    p->at++;
    if (!p->n_loot) {
        p->pc = STEAL_LOOK;
        return;
    }
    p->got = p->loot[0];
    p->pc = ex_mutant == STOPS_BEFORE_PUSHING ? STEAL_STOP : STEAL_PUSH;
    p->put = ex_mutant != LOOT_ALL_PUSHED;
}

static void steal_take(struct state *s, struct p *p)
{
    struct p *from = victim(s, p);
    uint8_t n = (uint8_t)(from->n - from->n / 2);
    if (ex_mutant == STEAL_WITHOUT_LOCK) {
        memcpy(p->loot, from->list, n);
        p->n_loot = n;
        p->seen_len = from->len;
        p->pc = STEAL_LATE;
        return;
    }
    for (p->n_loot = 0; p->n_loot < n && from->len; p->n_loot++)
        p->loot[p->n_loot] = take(from, true);
    ex_fail(p->n_loot < n, "the counter says more than the list");
    loot_taken(p);
}

static void steal_late(struct state *s, struct p *p)
{
    struct p *from = victim(s, p);
    uint8_t n = p->n_loot < from->len ? p->n_loot : from->len;
    for (uint8_t i = 0; i < n; i++)
        (void)take(from, true); /* whoever they are by now */
    loot_taken(p);
}

static void push_loot(struct p *p)
{
    if (p->put < p->n_loot && ex_mutant != LOOT_KEPT_BY_NOBODY) {
        push(p, p->loot[p->put++]);
        return;
    }
    memset(p->loot, 0, sizeof p->loot);
    p->n_loot = p->put = 0;
    p->pc = GOT;
}

static void gate(struct state *s, struct p *p)
{
    if (p->pc == GATE_IDLE) {
        p->seen = (uint8_t)(NP - s->n_idle);
        p->pc = GATE_SEARCHING;
        return;
    }
    p->pc = 2 * s->n_searching >= p->seen ? ENTER : STEAL_LOOK;
    p->searching = p->pc == STEAL_LOOK;
    s->n_searching = (uint8_t)(s->n_searching + p->searching);
    p->seen = 0;
}

static void stop_searching(struct state *s, struct p *p, uint8_t then)
{
    bool last = p->searching && s->n_searching == 1 && ex_mutant != STOPS_WITHOUT_WAKING;
    s->n_searching = (uint8_t)(s->n_searching - p->searching);
    p->searching = 0;
    p->pc = then;
    if (last)
        call_wake(p, then);
}

/* The fiber runs: for ever, or it parks. */
static void got(struct state *s, struct p *p)
{
    uint8_t bit = (uint8_t)(1 << p->got);
    ex_fail(!p->got || s->ran & bit, "a fiber runs twice, or is none");
    s->ran |= bit;
    p->got = 0;
    stop_searching(s, p, scenarios[scenario].parks & 2 ? OWN : RUNS);
}

/* ---- going idle; find.c, and idle_test.c has the rest of it ---- */

static bool idle(struct state *s, struct p *p, int self)
{
    switch (p->pc) {
    case ENTER:
        drain(p);
        p->idle = 1;
        s->n_idle++;
        s->n_searching = (uint8_t)(s->n_searching - p->searching);
        p->searching = p->at = 0;
        p->pc = RECHECK;
        return true;
    case RECHECK: /* work_elsewhere */
        if (p->at == NP)
            p->pc = SLEEP;
        else if (p->at != self && s->p[p->at].n && ex_mutant != LOOKS_AT_RINGS_ONLY)
            p->pc = LEAVE;
        else
            p->at++;
        return true;
    case SLEEP:
        if (!p->kick)
            return false;
        p->kick = 0;
        p->pc = LEAVE;
        return true;
    default: /* LEAVE */
        s->n_idle = (uint8_t)(s->n_idle - p->idle);
        p->searching = !p->idle; /* on the waker's count */
        p->idle = 0;
        p->pc = OWN;
        return true;
    }
}

static void wake_p(struct state *s, struct p *p)
{
    switch (p->pc) {
    case WAKE_IDLE: p->pc = s->n_idle ? WAKE_SEARCHING : p->back; break;
    case WAKE_SEARCHING: p->pc = s->n_searching ? p->back : WAKE_SWAP; break;
    case WAKE_SWAP:
        drain(p);
        p->pc = s->n_searching ? p->back : WAKE_POP;
        s->n_searching += p->pc == WAKE_POP;
        break;
    case WAKE_POP:
        for (p->seen = 0; p->seen < NP && !s->p[p->seen].idle; p->seen++)
            ;
        if (p->seen < NP) {
            s->p[p->seen].idle = 0;
            s->n_idle--;
        }
        p->pc = WAKE_KICK;
        break;
    default: /* WAKE_KICK */
        if (p->seen == NP)
            s->n_searching--;
        else
            s->p[p->seen].kick = 1;
        p->pc = p->seen == NP ? WAKE_IDLE : p->back;
        p->seen = 0;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    if (actor == NP) { /* the store buffer */
        bool full = s->p[0].hidden;
        drain(&s->p[0]);
        return full;
    }
    struct p *p = &s->p[actor];
    switch (p->pc) {
    case OWN: own(p); return true;
    case OWN_TAKE:
        overwrite(p, (uint8_t)(p->seen_len - 1) < p->len ? (uint8_t)(p->seen_len - 1) : p->len);
        p->pc = GOT;
        return true;
    case GATE_IDLE:
    case GATE_SEARCHING: gate(s, p); return true;
    case STEAL_LOOK: steal_look(s, p, actor); return true;
    case STEAL_TAKE: steal_take(s, p); return true;
    case STEAL_LATE: steal_late(s, p); return true;
    case STEAL_STOP: stop_searching(s, p, STEAL_PUSH); return true;
    case STEAL_PUSH: push_loot(p); return true;
    case GOT: got(s, p); return true;
    case RUNS: return false;
    case SCRIPT:
    case SCRIPT_LATE: return script(p);
    default: break;
    }
    if (p->pc < WAKE_IDLE)
        return idle(s, p, actor);
    wake_p(s, p);
    return true;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->ran == (1 << (scenarios[scenario].born + 1)) - 2;
}

static const struct ex_model model = {sizeof(struct state), NP + 1, init, step, done};

static void plan(int k) { scenario = k; }

int main(void)
{
    int n = (int)(sizeof scenarios / sizeof *scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, plan, NULL, 200});
}
