/* fiber.h - lets a model explore functions of src/sync as they are: the model includes this, then
 * the source file. In place of the scheduler stand a fiber of a few words and its wait word with
 * the transitions of src/sched/park.c; the model moves fibers from step to step itself.
 *
 * What the source file defines must not come from libfen too, which may be one object: so nothing
 * of it is used, and an assertion ends here.
 *
 * The states are copied as bytes, always to the same place, so pointers into the state may be part
 * of it. */
#ifndef FEN_TEST_MODEL_FIBER_H
#define FEN_TEST_MODEL_FIBER_H

#include "explore.h"

/* in place of sys/sys.h, sched/sched.h and sync/sync.h */
#define FEN_SYS_H
#define FEN_SCHED_H
#define FEN_SYNC_ROOM_H

#include "base/base.h"

void fen__panic(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

enum { FEN__IDLE, FEN__ARMED, FEN__PARKED, FEN__CLAIMED };
enum { FEN__BY_IO = 16, FEN__BY_TIMER, FEN__BY_CANCEL, FEN__BY_SYNC = 32 };
enum fen__reason {
    FEN__R_MUTEX,
    FEN__R_SEM,
    FEN__R_WG,
    FEN__R_RWLOCK,
    FEN__R_COND,
    FEN__R_CHAN_SEND,
    FEN__R_CHAN_RECV,
    FEN__R_SELECT,
    FEN__R_ONCE,
    FEN__R_BARRIER,
    FEN__R_BLOCKING,
    FEN__R_SCOPE
};
#define FEN__XFER_BYTES 16

struct fen__g;
struct fen_scope;
struct fen__m;

static inline struct fen__m *fen__self(void) { return NULL; }
static inline void fen__set_self(struct fen__m *m) { (void)m; }
static inline struct fen__m *fen__aside_begin(void) { return NULL; }
static inline void fen__aside_end(struct fen__m *begun) { (void)begun; }
static inline struct fen__m *fen__aside(void) { return NULL; }

/* A transition is one step, so the lock is never contended. */
static inline void fen__lock(uint32_t *word)
{
    if (*word)
        abort();
    *word = 1;
}
static inline void fen__unlock(uint32_t *word) { *word = 0; }

struct fen__node {
    struct fen__node *next, *prev;
    struct fen__g *g;
    uint64_t epoch;
    void *queue, *elem;
    int32_t index, rc;
};

struct fen__g {
    uint32_t epoch, state; /* the wait word */
    uint32_t id;
    uint32_t runq; /* times in a run queue: never twice */
    struct fen__node node;
    uint32_t account;
    const void *on; /* for dumps */
    char xfer[FEN__XFER_BYTES];
#ifdef FEN__JOB_BYTES /* of the model of the pool */
    int32_t mask;
    _Alignas(16) char job[FEN__JOB_BYTES];
#endif
};

static inline uint64_t fen__arm_locked(struct fen__g *g)
{
    g->state = FEN__ARMED;
    return ++g->epoch;
}

static inline bool fiber_waits(const struct fen__g *g, uint64_t epoch)
{
    return g->epoch == epoch && (g->state == FEN__ARMED || g->state == FEN__PARKED);
}

static inline int fen__claim(struct fen__g *g, uint64_t epoch)
{
    int was = fiber_waits(g, epoch) ? (int)g->state : 0;
    if (was)
        g->state = FEN__CLAIMED;
    return was;
}

static inline void fiber_fire(struct fen__g *g, int was, int code)
{
    g->state = (uint32_t)code;
    g->runq += was == FEN__PARKED;
    ex_fail(g->runq > 1, "a fiber twice in a run queue");
}

static inline void fen__claim_done(struct fen__g *g, uint64_t epoch, int claim, int code)
{
    ex_fail(g->epoch != epoch, "woken in another wait");
    fiber_fire(g, claim, code);
}

static inline bool fen__wake(struct fen__g *g, uint64_t epoch, int code)
{
    bool waits = fiber_waits(g, epoch);
    if (waits)
        fiber_fire(g, (int)g->state, code);
    return waits;
}

/* A wake by a deadline or a nudge, if it still waits. */
static inline bool fiber_wake(struct fen__g *g, int code)
{
    if (g->state != FEN__ARMED && g->state != FEN__PARKED)
        return false;
    fiber_fire(g, (int)g->state, code);
    return true;
}

/* The step of the worker after the fiber has switched away: 0 it cannot be made now, 1 the fiber
 * sleeps, 2 it goes on. */
static inline int fiber_commit(struct fen__g *g)
{
    if (g->state == FEN__CLAIMED)
        return 0;
    if (g->state != FEN__ARMED)
        return 2;
    g->state = FEN__PARKED;
    return 1;
}

/* What the parts that a model does not explore call. */
#define FEN__G_THREAD UINT32_C(0x80000000)
static struct fen__g *fiber_slab; /* the model's */
static inline struct fen__g *fen__g_at(uint32_t id) { return &fiber_slab[id]; }
static inline int fen__unarm(struct fen__g *g)
{
    (void)g;
    abort();
}
static inline struct fen__m *fen__enter(void) { abort(); }
static inline struct fen__m *fen__enter_wait(void) { abort(); }
static inline void fen__leave_wait(struct fen__m *m) { (void)m; }
static inline int fen__enter_rc(void) { abort(); }
static inline void fen__leave(struct fen__m *m) { (void)m; }
static inline struct fen__g *fen__brief(void) { return NULL; }
static inline uint32_t fen__brief_who(void) { return 0; }
static inline struct fen__m *fen__enter_any(void) { abort(); }
static inline void fen__leave_any(struct fen__m *m) { (void)m; }
static inline struct fen__g *fen__cur(struct fen__m *m) { return (struct fen__g *)m; }
static inline void fen__mask(int by) { (void)by; }
static inline int fen__limit_rc(const struct fen__g *g)
{
    (void)g;
    return 0;
}
static inline int fen__code_rc(const struct fen__g *g, int code)
{
    (void)g;
    return code;
}
static inline int fen__park(int64_t deadline_ns, enum fen__reason why)
{
    (void)deadline_ns;
    (void)why;
    abort();
}

#endif
