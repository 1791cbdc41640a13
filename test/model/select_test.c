/* select_test.c - every interleaving of a select with other fibers on the same channels, on
 * src/sync/select.c, chan.c and waitq.c as they are.
 *
 * Each fiber selects among its cases, round after round, until it is through. A step is one lock
 * taken (channels are locked one after another, in the order of sort_chans), what is done while all
 * are held, one wake-up, or the worker's commit. An alarm wakes the first fiber once in its first
 * wait: by a false alarm, after which it must go on, or by its deadline, after which it gives up.
 *
 * Checked: each element that was sent is received by exactly one; a select does exactly one case;
 * none of its nodes is left in a queue; nobody sleeps on beside a partner (explore.h). */
#include "fiber.h"

#include <stdatomic.h>

#define fen__mem_alloc model_alloc
#define fen__mem_calloc model_alloc
#define fen__mem_free model_free
static inline uint32_t fen__draw(struct fen__m *m, uint32_t below);
static inline int64_t fen__sys_now(void) { abort(); }
static inline bool fen__leaks_wanted(void) { return false; }
#define step chan_step
#include "../../src/sync/chan.c"
#undef step
#include "../../src/sync/select.c"
#include "../../src/sync/waitq.c"

enum { FIBERS = 3, CHANS = 2, CASES = 2, ALARM = FIBERS, ROUNDS = 2 };

enum {
    NONE,
    LOCKED_AS_WRITTEN,  /* not in one order for all */
    UNLOCKED_BETWEEN,   /* between looking and queueing */
    QUEUED_LATE,        /* after the unlock */
    ARMED_FOR_EACH,     /* an epoch for each case */
    NODES_STAY,         /* behind a select that is over */
    TAKEN_UNCLAIMED,    /* a partner takes a node without claiming its fiber */
    DEADLINE_OVER_CASE, /* -ETIMEDOUT although a case was done */
    FIRST_CASE_SAID,    /* the waker's choice is not what is reported */
    MUTANTS
};

enum { LOCK, TRY, QUEUE, UNLOCK, LATE, HAND, COMMIT, OFF, RUN, LEAVE, FINISHED };

struct fiber {
    uint8_t pc, round, locked, rounds, n, code, timed_out;
    struct fen__g g;
    struct fen__handed hand;
    struct wait_set w;
    fen_chan *order[CASES];
    fen_case cases[CASES];
    uint8_t elem[CASES];
    _Alignas(16) char set[CASES * (sizeof(struct fen__node) + 16)];
};

struct state {
    struct fiber f[FIBERS];
    _Alignas(16) char chan[CHANS][sizeof(fen_chan) + 16];
    uint8_t sent, received, alarmed; /* bits of the elements */
};

/* What the fibers do: rounds, and an operation on each channel or none. */
struct plan {
    const char *name;
    uint8_t capacity, rounds[FIBERS];
    enum fen_select_op op[FIBERS][CHANS];
};
#define S FEN_OP_SEND
#define R FEN_OP_RECV
#define N FEN_OP_NONE
static const struct plan plans[] = {
    {"receives from either", 0, {2, 1, 1}, {{R, R}, {S, N}, {N, S}}},
    {"sends to either", 0, {2, 1, 1}, {{S, S}, {R, N}, {N, R}}},
    {"receives from either, buffered", 1, {2, 1, 1}, {{R, R}, {S, N}, {N, S}}},
    {"two selects face each other", 0, {2, 2, 0}, {{S, R}, {R, S}, {N, N}}},
    {"two selects rival for one", 0, {1, 1, 2}, {{R, R}, {R, R}, {N, S}}},
};

static struct state *cur;
static const struct plan *plan;
static bool gives_up;
static uint32_t draw; /* the case that try_cases begins with, of those that are not off */

static inline uint32_t fen__draw(struct fen__m *m, uint32_t below)
{
    (void)m;
    return draw % below;
}
void *model_alloc(size_t bytes)
{
    (void)bytes;
    abort();
}
void model_free(void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
    abort();
}
void fen__chan_note(struct fen_chan *c, const void *site)
{
    (void)c;
    (void)site;
}
void fen__chan_forget(struct fen_chan *c) { (void)c; }

static fen_chan *chan(int i) { return (fen_chan *)(void *)cur->chan[i]; }

/* The other way round than by address, for half of the fibers. */
static void order(struct fiber *f, int i)
{
    f->n = (uint8_t)sort_chans(f->cases, CASES, f->order);
    if (ex_mutant == LOCKED_AS_WRITTEN && i % 2 && f->n == 2) {
        fen_chan *c = f->order[0];
        f->order[0] = f->order[1];
        f->order[1] = c;
    }
}

static void init(void *v)
{
    cur = v;
    for (int i = 0; i < CHANS; i++) {
        chan(i)->elem = 1;
        chan(i)->cap = plan->capacity;
    }
    for (int i = 0; i < FIBERS; i++) {
        struct fiber *f = &cur->f[i];
        f->g.id = (uint32_t)i;
        f->rounds = plan->rounds[i];
        for (int k = 0; k < CASES; k++)
            f->cases[k] = (fen_case){chan(k), plan->op[i][k], &f->elem[k], 0, 0};
        f->w = (struct wait_set){CASES, sizeof f->set, (struct fen__node *)(void *)f->set,
                                 f->set + CASES * sizeof(struct fen__node)};
        order(f, i);
        f->pc = f->rounds ? LOCK : FINISHED;
    }
}

/* ---- the books ---- */

/* An element of fiber i's round and case. */
static uint8_t element(int i, int round, int k)
{
    return (uint8_t)(1 << (i == 2 ? 4 + round : i * 2 + (plan->rounds[i] == 1 ? k : round)));
}

static void check_queues(const struct fiber *f)
{
    for (int k = 0; k < CASES; k++)
        ex_fail(f->w.nodes[k].queue != NULL, "a node is left in a queue");
}

static void book(int i, int k)
{
    struct fiber *f = &cur->f[i];
    fen_case *c = &f->cases[k];
    ex_fail(c->rc != 0, "a case that failed");
    if (c->op == FEN_OP_SEND) {
        cur->sent |= f->elem[k];
    } else {
        ex_fail(!f->elem[k], "received nothing");
        ex_fail(cur->received & f->elem[k], "received twice");
        cur->received |= f->elem[k];
    }
}

/* Fiber i's select is over; k: its case, or below 0. */
static void end_round(int i, int k)
{
    struct fiber *f = &cur->f[i];
    if (ex_mutant != NODES_STAY)
        check_queues(f);
    if (k >= 0)
        book(i, k);
    f->round++;
    f->code = 0;
    f->pc = f->round == f->rounds || k < 0 ? FINISHED : LOCK;
}

/* ---- steps ---- */

static bool lock_step(struct fiber *f)
{
    fen_chan *c = f->order[f->locked];
    if (c->lock)
        return false;
    fen__lock(&c->lock);
    if (++f->locked == f->n)
        f->pc = f->pc == LEAVE ? LEAVE : f->pc == LOCK ? TRY : QUEUE;
    return true;
}

static void unlock(struct fiber *f)
{
    unlock_all(f->order, f->n);
    f->locked = 0;
}

static void queue(struct fiber *f)
{
    for (int k = 0; k < CASES; k++)
        ex_fail(f->w.nodes[k].queue != NULL, "a node twice in a wait queue");
    queue_all(f->cases, &f->w, &f->g, fen__arm_locked(&f->g));
    if (ex_mutant == ARMED_FOR_EACH && f->n == 2)
        f->w.nodes[1].epoch = fen__arm_locked(&f->g);
}

static void try_step(struct fiber *f, int i)
{
    for (int k = 0; k < CASES; k++)
        f->elem[k] = f->cases[k].op == FEN_OP_SEND ? element(i, f->round, k) : 0;
    int k = try_cases(f->cases, CASES, &f->hand);
    if (k >= 0) {
        if (ex_mutant == TAKEN_UNCLAIMED && f->hand.node)
            f->hand.node->g->state = (uint32_t)f->hand.claim;
        unlock(f);
        f->code = (uint8_t)(k + 1);
        f->pc = HAND;
        return;
    }
    if (ex_mutant == UNLOCKED_BETWEEN) {
        unlock(f);
        f->pc = QUEUE;
    } else if (ex_mutant == QUEUED_LATE) {
        unlock(f);
        f->pc = LATE;
    } else {
        queue(f);
        unlock(f);
        f->pc = COMMIT;
    }
}

static void hand_step(struct fiber *f, int i)
{
    int k = f->code - 1;
    f->code = 0;
    fen__chan_hand(&f->hand);
    f->hand = (struct fen__handed){0};
    end_round(i, k);
}

/* Woken, all its channels locked: as wait_any goes on. */
static void leave_step(struct fiber *f, int i)
{
    int k = (int)f->g.state - FEN__BY_SYNC;
    fen_chan *left[CASES];
    memcpy(left, f->order, sizeof left);
    unlock(f);
    if (ex_mutant != NODES_STAY)
        leave_all(f->cases, &f->w, left, k < 0 ? f->n : without(f->cases, CASES, k, left, f->n));
    if (k < 0 && !gives_up) { /* -EAGAIN */
        f->pc = LOCK;
        return;
    }
    if (k < 0 || (ex_mutant == DEADLINE_OVER_CASE && f->timed_out)) {
        end_round(i, -1);
        return;
    }
    if (ex_mutant == FIRST_CASE_SAID)
        k = f->cases[0].op != FEN_OP_NONE ? 0 : 1;
    fen_case *c = &f->cases[k];
    c->rc = f->w.nodes[k].rc;
    if (c->op == FEN_OP_RECV && c->rc == 0)
        memcpy(c->elem, f->w.nodes[k].elem, c->c->elem);
    end_round(i, k);
}

static bool fiber_step(struct fiber *f, int i)
{
    int how;
    switch (f->pc) {
    case LOCK: return lock_step(f);
    case TRY: try_step(f, i); return true;
    case QUEUE:
        if (f->locked < f->n)
            return lock_step(f);
        queue(f);
        unlock(f);
        f->pc = COMMIT;
        return true;
    case LATE:
        queue(f);
        f->pc = COMMIT;
        return true;
    case HAND: hand_step(f, i); return true;
    case COMMIT:
        how = fiber_commit(&f->g);
        f->pc = how == 1 ? OFF : how == 2 ? LEAVE : COMMIT;
        return how != 0;
    case OFF:
        if (!f->g.runq)
            return false;
        f->g.runq--;
        f->pc = LEAVE;
        return true;
    case LEAVE:
        if (f->locked < f->n)
            return lock_step(f);
        leave_step(f, i);
        return true;
    default: return false;
    }
}

static bool alarm_step(void)
{
    struct fiber *f = &cur->f[0];
    if (cur->alarmed || !f->g.epoch || f->round)
        return false;
    cur->alarmed = 1;
    f->timed_out = gives_up;
    (void)fiber_wake(&f->g, FEN__BY_TIMER);
    return true;
}

static uint8_t buffered(void)
{
    uint8_t bits = 0;
    for (int i = 0; i < CHANS; i++)
        for (size_t k = 0; k < chan(i)->count; k++)
            bits |= (uint8_t)chan(i)->buf[(chan(i)->first + k) % chan(i)->cap];
    return bits;
}

/* Everybody is through; who gave up may leave partners asleep, but no element on the way. */
static bool done(const void *v)
{
    cur = (struct state *)(uintptr_t)v;
    for (int i = 0; i < FIBERS; i++) {
        const struct fiber *f = &cur->f[i];
        if (f->pc != FINISHED && (!gives_up || f->pc != OFF || f->g.runq))
            return false;
    }
    return true;
}

static bool step(void *v, int actor)
{
    cur = v;
    bool moved = actor == ALARM ? alarm_step() : fiber_step(&cur->f[actor], actor);
    if (moved && done(cur))
        ex_fail(cur->sent != (cur->received | buffered()), "an element is lost or of nobody");
    return moved;
}

static const struct ex_model model = {sizeof(struct state), FIBERS + 1, init, step, done};

static void set_plan(int k)
{
    plan = &plans[k / 4];
    gives_up = k & 1;
    draw = k >> 1 & 1;
}
static const char *name(void) { return plan->name; }

int main(void)
{
    int n = 4 * (int)FEN__COUNT(plans);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, set_plan, name, 200});
}
