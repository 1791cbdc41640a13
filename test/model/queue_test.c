/* queue_test.c - a P's run queue against two thieves (src/sched/queue.c): ring, runnext, overflow.
 *
 * P 0's owner runs a script of pushes and pops, thief 1 steals from P 0, thief 2 from both; each
 * runs what it took and then its own ring. The ring's size is 2 or 4, so that it wraps and runs
 * over. Each access to what others see is one step. Memory orders that x86 gives for nothing are
 * mutants too: what an acquire or a release forbids is done in the wrong order. */
#include "explore.h"

enum {
    NONE,
    TAIL_BEFORE_SLOT,   /* the store of tail without release */
    ROOM_FOR_ONE_MORE,  /* a slot is reused before head has passed it */
    OVERFLOW_STORES,    /* head moved without a CAS: by the owner when it overflows, */
    POP_STORES,         /* by the owner when it pops, */
    STEAL_STORES,       /* by a thief */
    COPY_AFTER_CAS,     /* the thief's CAS without release */
    PUBLISH_BEFORE_CAS, /* what is not yet the thief's can be stolen from it */
    NEXT_LOADS_STORES,  /* runnext without an exchange: by who fills it, */
    TAKE_LOADS_STORES,  /* by its owner, */
    STEAL_LOADS_STORES, /* by a thief */
    OVERFLOW_KEEPS,     /* half of the ring goes, the new one stays nowhere */
    DISPLACED_IS_LOST,  /* runnext overwritten, the old one not pushed */
    LAST_IS_QUEUED_TOO, /* the thief runs the last one and leaves it in its ring */
    MUTANTS
};

#define RING_MAX 4
enum { OWNER, ACTORS = 3 };

struct ring {
    uint8_t head, tail, runnext, slot[RING_MAX];
};

struct actor {
    uint8_t pc, at, g; /* at: in the script, or which victim is next; g: to push, or taken */
    uint8_t from, allow_next;
    uint8_t h, t, n, i, end, old;
    uint8_t batch[RING_MAX / 2];
};

struct state {
    struct ring p[ACTORS];
    struct actor a[ACTORS];
    uint8_t global, taken, pushed; /* bits of fibers; how many */
};

/* T: made ready at the tail; N: as runnext; P: the next one runs; G: one from the global list. */
static const struct {
    uint8_t size, thieves;
    const char *script;
} scenarios[] = {{2, 1, "TTTPTT"}, {2, 1, "NNTNPN"}, {2, 2, "TTNN"}, {4, 1, "TTTTTGT"},
                 {4, 1, "TTPTTT"}, {4, 1, "NTNPNP"}, {4, 2, "TTT"}};
static int scenario;

enum {
    NEXT_OP,
    FILL,
    FILL_EMPTY,
    FILL_STORE,
    HEAD,
    SLOT,
    TAIL,
    OVERFLOW,
    GLOBAL_PUSH,
    TAKE,
    TAKE_STORE,
    POP_HEAD,
    POP_SLOT,
    POP_CAS,
    TAKE_LAST,
    GLOBAL_POP,
    STEAL_HEAD,
    STEAL_TAIL,
    STEAL_COPY,
    STEAL_CAS,
    STEAL_LATE_COPY,
    STEAL_EARLY,
    STEAL_PUBLISH,
    STEAL_NEXT,
    STEAL_NEXT_STORE
};

static uint8_t *slot(struct ring *r, uint8_t at) { return &r->slot[at % scenarios[scenario].size]; }

static uint8_t size(void) { return scenarios[scenario].size; }

static void init(void *v)
{
    struct state *s = v;
    for (int i = 1; i < ACTORS; i++)
        s->a[i].pc = STEAL_HEAD;
}

/* What a step left in an actor and nobody reads again makes no new state. */
static void forget(struct actor *a)
{
    struct actor kept = {.pc = a->pc, .at = a->at, .from = a->from, .allow_next = a->allow_next};
    switch (a->pc) {
    case NEXT_OP:
    case TAKE:
    case TAKE_LAST:
    case POP_HEAD:
    case GLOBAL_POP:
    case STEAL_HEAD:
    case STEAL_NEXT: break;
    case HEAD:
    case FILL: kept.g = a->g; break;
    default: return;
    }
    *a = kept;
}

static uint8_t bit(uint8_t g) { return (uint8_t)(1u << g); }

/* Fiber g runs; each once. */
static void run(struct state *s, struct actor *a, uint8_t g)
{
    ex_fail(!g || g > s->pushed, "what was popped is no fiber");
    ex_fail(s->taken & bit(g), "a fiber runs twice");
    s->taken |= bit(g);
    a->pc = a == &s->a[OWNER] ? NEXT_OP : TAKE;
}

static uint8_t swap(uint8_t *word, uint8_t value)
{
    uint8_t old = *word;
    *word = value;
    return old;
}

/* The owner's next word; after the script it goes on popping. */
static void next_op(struct state *s, struct actor *a)
{
    char op = scenarios[scenario].script[a->at];
    a->at += op != 0;
    switch (op) {
    case 'T':
    case 'N':
        a->g = ++s->pushed;
        a->pc = op == 'T' ? HEAD : FILL;
        break;
    case 'G': a->pc = GLOBAL_POP; break;
    default: a->pc = TAKE; break;
    }
}

/* fen__queue_tail and overflow, fen__queue_next. */
static void push(struct state *s, struct actor *a, struct ring *r)
{
    switch (a->pc) {
    case FILL:
        a->pc = FILL_EMPTY;
        if (!r->runnext && ex_mutant != NEXT_LOADS_STORES)
            break;
        a->old = ex_mutant == NEXT_LOADS_STORES ? r->runnext : swap(&r->runnext, a->g);
        a->pc = FILL_STORE;
        break;
    case FILL_EMPTY: /* it was, so it still is */
        r->runnext = a->g;
        a->g = 0;
        a->pc = NEXT_OP;
        break;
    case FILL_STORE: /* a step of the mutant only; else nothing that others see */
        if (ex_mutant == NEXT_LOADS_STORES)
            r->runnext = a->g;
        a->g = a->old;
        a->pc = a->old && ex_mutant != DISPLACED_IS_LOST ? HEAD : NEXT_OP;
        break;
    case HEAD:
        a->h = r->head;
        a->t = r->tail;
        a->n = (uint8_t)(a->t - a->h);
        a->pc = a->n < size() + (ex_mutant == ROOM_FOR_ONE_MORE) ? SLOT : OVERFLOW;
        if (a->pc == OVERFLOW)
            for (a->i = 0; a->i < a->n / 2; a->i++)
                a->batch[a->i] = *slot(r, (uint8_t)(a->h + a->i));
        else if (ex_mutant == TAIL_BEFORE_SLOT)
            a->pc = TAIL;
        break;
    case SLOT:
        *slot(r, a->t) = a->g;
        a->pc = ex_mutant == TAIL_BEFORE_SLOT ? NEXT_OP : TAIL;
        break;
    case TAIL:
        r->tail = (uint8_t)(a->t + 1);
        a->pc = ex_mutant == TAIL_BEFORE_SLOT ? SLOT : NEXT_OP;
        break;
    case OVERFLOW:
        a->n /= 2;
        if (ex_mutant == OVERFLOW_STORES)
            r->head = (uint8_t)(a->h + a->n);
        else if (!ex_cas(&r->head, a->h, (uint8_t)(a->h + a->n))) {
            a->pc = HEAD;
            break;
        }
        a->pc = GLOBAL_PUSH;
        break;
    default: /* GLOBAL_PUSH, under the lock */
        for (uint8_t i = 0; i < a->n; i++)
            s->global |= bit(a->batch[i]);
        if (ex_mutant != OVERFLOW_KEEPS)
            s->global |= bit(a->g);
        a->pc = NEXT_OP;
        break;
    }
}

/* Nothing in the own queue. */
static void empty(struct state *s, struct actor *a)
{
    if (a == &s->a[OWNER])
        a->pc = scenarios[scenario].script[a->at] ? NEXT_OP : GLOBAL_POP;
    else
        a->pc = STEAL_HEAD;
}

/* fen__queue_pop, fen__global_pop */
static void pop(struct state *s, struct actor *a, struct ring *r)
{
    switch (a->pc) {
    case TAKE:
    case TAKE_LAST:
        a->old = ex_mutant == TAKE_LOADS_STORES ? r->runnext : swap(&r->runnext, 0);
        if (a->old && ex_mutant == TAKE_LOADS_STORES)
            a->pc = TAKE_STORE;
        else if (a->old)
            run(s, a, a->old);
        else if (a->pc == TAKE)
            a->pc = POP_HEAD;
        else
            empty(s, a);
        break;
    case TAKE_STORE:
        r->runnext = 0;
        run(s, a, a->old);
        break;
    case POP_HEAD:
        a->h = r->head;
        a->t = r->tail;
        a->pc = a->h == a->t ? TAKE_LAST : POP_SLOT;
        break;
    case POP_SLOT:
        a->g = *slot(r, a->h);
        a->pc = POP_CAS;
        break;
    case POP_CAS:
        if (ex_mutant == POP_STORES)
            r->head = (uint8_t)(a->h + 1);
        else if (!ex_cas(&r->head, a->h, (uint8_t)(a->h + 1))) {
            a->pc = POP_HEAD;
            break;
        }
        run(s, a, a->g);
        break;
    default: /* GLOBAL_POP: the first, under the lock */
        a->pc = NEXT_OP;
        if (s->global) {
            uint8_t g = (uint8_t)__builtin_ctz(s->global);
            s->global = (uint8_t)(s->global & ~bit(g));
            run(s, a, g);
        }
        break;
    }
}

/* The next victim; runnext only each second time round. */
static void next_victim(struct actor *a, int self)
{
    a->at = (uint8_t)((a->at + 1) % 4);
    a->from = self == 2 && a->at % 2;
    a->allow_next = a->at / 2;
    a->pc = STEAL_HEAD;
}

static void steal_copy(struct actor *a, struct ring *to, struct ring *from, uint8_t then)
{
    *slot(to, (uint8_t)(a->end + a->i)) = *slot(from, (uint8_t)(a->h + a->i));
    if (++a->i == a->n)
        a->pc = then;
}

static void steal_half(struct actor *a, struct ring *to, int self)
{
    a->n = (uint8_t)(a->n - a->n / 2);
    a->end = to->tail;
    a->i = 0;
    if (a->n > size() / 2)
        a->pc = STEAL_HEAD; /* head and tail were not seen together */
    else if (a->n)
        a->pc = ex_mutant == COPY_AFTER_CAS ? STEAL_CAS : STEAL_COPY;
    else if (a->allow_next)
        a->pc = STEAL_NEXT;
    else
        next_victim(a, self);
}

static void steal_cas(struct actor *a, struct ring *from)
{
    if (ex_mutant == STEAL_STORES)
        from->head = (uint8_t)(a->h + a->n);
    else if (!ex_cas(&from->head, a->h, (uint8_t)(a->h + a->n))) {
        a->pc = STEAL_HEAD;
        return;
    }
    a->pc = ex_mutant == COPY_AFTER_CAS ? STEAL_LATE_COPY : STEAL_PUBLISH;
}

/* fen__queue_steal */
static void steal(struct state *s, struct actor *a, int self)
{
    struct ring *from = &s->p[a->from], *to = &s->p[self];
    switch (a->pc) {
    case STEAL_HEAD:
        a->h = from->head;
        a->pc = STEAL_TAIL;
        break;
    case STEAL_TAIL:
        a->n = (uint8_t)(from->tail - a->h);
        steal_half(a, to, self);
        break;
    case STEAL_COPY:
        steal_copy(a, to, from, ex_mutant == PUBLISH_BEFORE_CAS ? STEAL_EARLY : STEAL_CAS);
        break;
    case STEAL_EARLY:
        to->tail = (uint8_t)(a->end + a->n - 1);
        a->pc = STEAL_CAS;
        break;
    case STEAL_CAS: steal_cas(a, from); break;
    case STEAL_LATE_COPY: steal_copy(a, to, from, STEAL_PUBLISH); break;
    case STEAL_PUBLISH:
        a->g = *slot(to, (uint8_t)(a->end + a->n - 1));
        to->tail = (uint8_t)(a->end + a->n - (ex_mutant != LAST_IS_QUEUED_TOO));
        run(s, a, a->g);
        break;
    case STEAL_NEXT:
        a->old = ex_mutant == STEAL_LOADS_STORES ? from->runnext : swap(&from->runnext, 0);
        a->pc = STEAL_NEXT_STORE;
        if (a->old || ex_mutant == STEAL_LOADS_STORES)
            break;
        next_victim(a, self);
        break;
    default: /* STEAL_NEXT_STORE: a step of the mutant only */
        if (a->old && ex_mutant == STEAL_LOADS_STORES)
            from->runnext = 0;
        if (a->old)
            run(s, a, a->old);
        else
            next_victim(a, self);
        break;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    struct actor *a = &s->a[actor];
    uint8_t was = a->pc;
    if (actor > scenarios[scenario].thieves)
        return false;
    if (was == NEXT_OP)
        next_op(s, a);
    else if (was < TAKE)
        push(s, a, &s->p[actor]);
    else if (was < STEAL_HEAD)
        pop(s, a, &s->p[actor]);
    else
        steal(s, a, actor);
    forget(a);
    return true;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return !scenarios[scenario].script[s->a[OWNER].at] && __builtin_popcount(s->taken) == s->pushed;
}

static const struct ex_model model = {sizeof(struct state), ACTORS, init, step, done};

static void plan(int k) { scenario = k; }

int main(void)
{
    int n = (int)(sizeof scenarios / sizeof *scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, plan, NULL, 1000});
}
