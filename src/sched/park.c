/* park.c - waiting and waking: one CAS on the fiber's wait word decides who wakes it.
 *
 *            arm               commit (on another stack)
 *   IDLE ---------> ARMED ------------------------> PARKED
 *    ^                |  \                            |  \
 *    |           wake |   \ claim                wake |   \ claim
 *    |                v    v                          v    v
 *    '-- next arm -- FIRED(code) <--- done --- CLAIMED  FIRED + ready, CLAIMED ...
 *
 * A fiber that is about to wait arms its word (a new epoch), publishes (itself, epoch) wherever a
 * waker may look (a poll slot, a channel, a timer, nothing), and parks. The commit step runs after
 * its registers are saved, on the stack that the M came to (the next fiber's or its own), so nobody
 * can resume a live stack. A wake that comes between arm and commit turns ARMED into FIRED; the
 * commit sees it and the fiber goes on soon: no wake-up is lost. Whoever changes ARMED or PARKED is
 * the only waker of that epoch; all others, however late, fail their CAS, because fibers live in
 * memory that is never unmapped and epochs are never reused (30 bits in a poll slot, 48 here).
 *
 * Cancellation: fen__limit.ended is set, then each fiber under the limit is nudged. A fiber arms
 * first and looks at `ended` after; the canceller sets `ended` first and looks at the word after;
 * both by sequentially consistent read-modify-writes, so one of them sees the other. Where a lock
 * is let go between arming and looking, that is the fiber's read-modify-write (fen__arm_locked).
 *
 * Limits form a chain that is walked rarely: fen__limits_epoch moves whenever any limit of the
 * process ends or comes nearer, so while it stands still a fiber's last look (limits_seen,
 * limits_deadline) holds. What a fiber does to its own chain resets its look. */
#include "sched/sched_int.h"

#define STATE(w) ((int)((w)&0xffff))
#define SAME_EPOCH(w, e) (((w) >> 16 & FEN__W_EPOCH_MASK) == ((e)&FEN__W_EPOCH_MASK))

inline uint64_t fen__arm(struct fen__g *g)
{
    uint64_t epoch = (atomic_load_explicit(&g->wait, memory_order_relaxed) >> 16) + 1;
    atomic_exchange(&g->wait, epoch << 16 | FEN__ARMED); /* pairs with the CAS in fen__nudge */
    return epoch;
}

int fen__unarm(struct fen__g *g)
{
    uint64_t w = atomic_load_explicit(&g->wait, memory_order_acquire);
    for (;;) {
        if (STATE(w) == FEN__ARMED) {
            if (atomic_compare_exchange_weak(&g->wait, &w, w & ~UINT64_C(0xffff)))
                return 0;
        } else if (STATE(w) != FEN__CLAIMED) {
            return STATE(w);
        } else {
            w = atomic_load_explicit(&g->wait, memory_order_acquire);
        }
    }
}

bool fen__wake(struct fen__g *g, uint64_t epoch, int code)
{
    uint64_t w = atomic_load_explicit(&g->wait, memory_order_relaxed);
    for (;;) {
        int state = STATE(w);
        if (!SAME_EPOCH(w, epoch) || (state != FEN__ARMED && state != FEN__PARKED))
            return false;
        if (!atomic_compare_exchange_weak(&g->wait, &w, (w & ~UINT64_C(0xffff)) | (uint64_t)code))
            continue;
        if (state == FEN__PARKED)
            fen__ready(g);
        return true;
    }
}

inline int fen__claim(struct fen__g *g, uint64_t epoch)
{
    uint64_t w = atomic_load_explicit(&g->wait, memory_order_relaxed);
    for (;;) {
        int state = STATE(w);
        if (!SAME_EPOCH(w, epoch) || (state != FEN__ARMED && state != FEN__PARKED))
            return 0;
        if (atomic_compare_exchange_weak(&g->wait, &w, (w & ~UINT64_C(0xffff)) | FEN__CLAIMED))
            return state;
    }
}

inline void fen__claim_done(struct fen__g *g, uint64_t epoch, int claim, int code)
{
    /* release: what was handed over comes with it; pairs with the acquire in commit and unarm */
    atomic_store_explicit(&g->wait, epoch << 16 | (uint64_t)code, memory_order_release);
    if (claim == FEN__PARKED)
        fen__ready(g);
}

void fen__nudge(struct fen__g *g)
{
    uint64_t w = atomic_fetch_add(&g->wait, 0); /* pairs with the exchange in fen__arm */
    while (STATE(w) == FEN__ARMED || STATE(w) == FEN__PARKED)
        if (atomic_compare_exchange_weak(&g->wait, &w, (w & ~UINT64_C(0xffff)) | FEN__BY_CANCEL)) {
            if (STATE(w) == FEN__PARKED)
                fen__ready(g);
            return;
        }
}

/* Not on the fiber's stack, its context saved. False: it was woken meanwhile and goes on. */
inline bool fen__commit(struct fen__g *g)
{
    uint64_t w = atomic_load_explicit(&g->wait, memory_order_acquire);
    for (;;) {
        if (STATE(w) == FEN__ARMED) {
            if (atomic_compare_exchange_weak(&g->wait, &w, (w & ~UINT64_C(0xffff)) | FEN__PARKED))
                return true;
        } else if (STATE(w) != FEN__CLAIMED) {
            return false;
        } else { /* the waker is copying at most an element: wait for it here */
            w = atomic_load_explicit(&g->wait, memory_order_acquire);
        }
    }
}

/* ---- limits ---- */

_Atomic uint64_t fen__limits_epoch = 1;

void fen__limit_end(struct fen__limit *l, int rc)
{
    atomic_store(&l->ended, rc);
    atomic_fetch_add(&fen__limits_epoch, 1); /* pairs with the load in look */
}

void fen__limit_deadline_set(struct fen__limit *l, int64_t deadline_ns)
{
    atomic_store(&l->deadline_ns, deadline_ns);
    atomic_fetch_add(&fen__limits_epoch, 1);
}

int64_t fen__limit_deadline(struct fen__limit *l)
{
    int64_t d = atomic_load_explicit(&l->deadline_ns, memory_order_relaxed);
    if (FEN__LIKELY(d >= 0))
        return d;
    int64_t fixed = fen__sys_now() - d; /* of several that look first, one decides for all */
    return atomic_compare_exchange_strong(&l->deadline_ns, &d, fixed) ? fixed : d;
}

FEN__NOINLINE static int walk(struct fen__g *g, uint64_t epoch)
{
    int64_t d = FEN_NEVER;
    for (struct fen__limit *l = g->limit; l; l = l->parent) {
        int rc = atomic_load(&l->ended);
        if (rc)
            return rc;
        d = fen__min_i64(d, fen__limit_deadline(l));
    }
    g->limits_deadline = d;
    g->limits_seen = epoch;
    return 0;
}

/* 0 and the deadline, or why the limits have ended. */
static inline int look(struct fen__g *g, int64_t *ret_deadline)
{
    *ret_deadline = FEN_NEVER;
    if (FEN__UNLIKELY(g->mask))
        return 0;
    uint64_t epoch = atomic_load(&fen__limits_epoch); /* pairs with the add in fen__limit_end */
    int rc = FEN__LIKELY(g->limits_seen == epoch) ? 0 : walk(g, epoch);
    if (!rc)
        *ret_deadline = g->limits_deadline;
    return rc;
}

int fen__limit_look(struct fen__g *g)
{
    int64_t d;
    int rc = look(g, &d);
    if (rc)
        return rc;
    return fen__sys_past(d) ? -ETIMEDOUT : 0;
}

static void wake_by_timer(void *g, uint64_t epoch) { fen__wake(g, epoch, FEN__BY_TIMER); }

int fen__park(int64_t deadline_ns, enum fen__reason why)
{
    struct fen__m *m = fen__self();
    struct fen__g *g = m->cur;
    if (FEN__UNLIKELY(g->id & FEN__G_THREAD))
        return fen__outside_park(g, deadline_ns);
    int64_t d;
    int ended = look(g, &d);                           /* after fen__arm's exchange */
    d = fen__max_i64(fen__min_i64(deadline_ns, d), 0); /* a difference to now does not overflow */
    if (FEN__UNLIKELY(ended)) {
        int code = fen__unarm(g);
        return code ? code : FEN__BY_CANCEL;
    }
    if (d != FEN_NEVER &&
        fen__timer_add(&g->timer, d, wake_by_timer, g,
                       atomic_load_explicit(&g->wait, memory_order_relaxed) >> 16)) {
        int code = fen__unarm(g);
        return code ? code : FEN__BY_NOMEM;
    }
#ifdef FEN_HARD
    if (atomic_load_explicit(&g->wait, memory_order_relaxed) >> 16 & 1)
        fen__nudge(g); /* a false alarm: every second wait ends at once, for no reason */
#endif
    __atomic_store_n(&g->reason, (uint8_t)why, __ATOMIC_RELAXED); /* stuck.c looks */
    fen__swap(m, FEN__ACT_PARK);
    __atomic_store_n(&g->reason, FEN__R_NONE, __ATOMIC_RELAXED);
    if (d != FEN_NEVER)
        fen__timer_del(&g->timer);
    return STATE(atomic_load_explicit(&g->wait, memory_order_acquire));
}

int fen__code_rc(struct fen__g *g, int code)
{
    switch (code) {
    case FEN__BY_TIMER: return -ETIMEDOUT;
    case FEN__BY_CLOSE: return -EBADF;
    case FEN__BY_NOMEM: return -ENOMEM;
    case FEN__BY_CANCEL: return fen__limit_rc(g);
    default: return 0;
    }
}

/* ---- descriptors ---- */

static int wait_slot(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns,
                     enum fen__reason why)
{
    struct fen__g *g = fen__self()->cur;
    uint64_t epoch = fen__arm(g);
    fen__waiter w = fen__w_fiber(g->id, epoch);
    int rc = fen__slot_arm(s, d, w);
    if (rc) {
        fen__unarm(g);
        return rc > 0 ? 0 : rc;
    }
    if (atomic_load(&s->gen) != gen) { /* another's slot by now */
        fen__slot_disarm(s, d, w);
        fen__unarm(g);
        return -EBADF;
    }
    g->on = s;
    int code = fen__park(deadline_ns, why);
    if (code != FEN__BY_IO && code != FEN__BY_CLOSE)
        fen__slot_disarm(s, d, w); /* false: an event has just come; the next call sees READY */
    int ended = fen__code_rc(g, code);
    if (!ended && atomic_load(&s->gen) != gen)
        return -EBADF; /* closed between the wake and now: the descriptor may be another's */
    return ended;
}

int fen__wait_slot(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns)
{
    return wait_slot(s, gen, d, deadline_ns, d == FEN__READ ? FEN__R_READ : FEN__R_WRITE);
}

int fen__wait_pidfd(struct fen__slot *s, uint32_t gen, int pid, int64_t deadline_ns)
{
    fen__self()->cur->node.index = pid; /* its node is in no queue meanwhile */
    return wait_slot(s, gen, FEN__READ, deadline_ns, FEN__R_PROCESS);
}

static void wake_closed(const fen__waiter woken[2])
{
    for (int i = 0; i < 2; i++)
        if (fen__w_is_fiber(woken[i]))
            fen__wake(fen__g_at((uint32_t)(woken[i] >> 32)), woken[i] >> 2 & FEN__W_EPOCH_MASK,
                      FEN__BY_CLOSE);
}

void fen__close_slot(struct fen__slot *s)
{
    fen__waiter woken[2];
    fen__poll_close(s, woken);
    wake_closed(woken);
}

void fen__shut_slot(struct fen__slot *s)
{
    fen__waiter woken[2];
    fen__poll_shut(s, woken);
    wake_closed(woken);
}

/* ---- sleep and yield ---- */

int fen_sleep_until(int64_t t_ns)
{
    struct fen__m *m = fen__enter();
    if (!m) {
        int64_t now = fen__sys_now();
        if (t_ns > now) {
            fen__aside_waits();
            fen__sys_nap(t_ns - now);
        }
        return 0;
    }
    struct fen__g *g = m->cur;
    int rc = fen__limit_rc(g);
    while (!rc) {
        fen__arm(g);
        int code = fen__park(t_ns, FEN__R_SLEEP);
        bool slept = code == FEN__BY_TIMER && fen__sys_now() >= t_ns;
        /* also then: it may have been woken by an earlier deadline, and late */
        rc = code == FEN__BY_NOMEM ? -ENOMEM : fen__limit_rc(g);
        if (slept)
            break;
    }
    fen__leave(fen__self());
    return rc;
}

int fen_sleep(int64_t duration_ns)
{
    return fen_sleep_until(fen__time_after(fen__sys_now(), duration_ns));
}

void fen_yield(void)
{
    struct fen__m *m = fen__enter();
    if (!m) {
        sched_yield();
        return;
    }
    fen__swap(m, FEN__ACT_YIELD);
    fen__leave(fen__self());
}
