/* wg.c - wait group: count and waiters in one word, so that each step of either is one
 * compare-and-swap.
 *
 *   word = LEAVING | count, 31 bits | first waiter, 32 bits
 *
 *   add     count n --> m, m > 0                         anybody
 *   wait    count n > 0: itself --> first waiter         its node leads to the one before
 *   zero    count n --> 0, and the waiters with it       unless LEAVING; who did it wakes them
 *   leave   LEAVING on, look for itself, LEAVING off     under the lock; a deadline, a cancel, a
 *                                                        false alarm
 *
 * The list is last in first out and is turned round before it is woken. A waiter is named by its
 * place in the slab, so its node can be reached, however late.
 *
 * Invariants. Waiters imply a count above 0: who queues itself at 0 fails its CAS, and who brings
 * the count to 0 takes them all. A list is changed inside only while LEAVING stands, when nobody
 * can take it; new waiters are put before it, which changes no node that is there. A node that was
 * taken is its waker's until queue is NULL, and the waker touches it no more after that: so a
 * waiter that was woken by something else and does not find itself in the list waits for that
 * moment, which is short, because a waker is in the guarded section and does not park. It has what
 * it waited for: the count was 0 since it queued itself. A false alarm arms its fiber again while
 * LEAVING stands, or the waker would see the old epoch.
 *
 * Who brings the count to 0 does not touch the group afterwards: a wait that has ended may end its
 * life. test/model/group_test.c explores these functions. Rejected: a lock and a queue (five locked
 * steps for one waiter instead of three); a count of 64 bits (no place for who waits). */
#include "sync/sync_int.h"

#include <sched.h>

#define LEAVING (UINT64_C(1) << 63)
#define ONE (UINT64_C(1) << 32)

static inline int64_t wg_count(uint64_t word) { return (int64_t)(word >> 32 & INT32_MAX); }
static inline uint32_t wg_first(uint64_t word) { return (uint32_t)word; }

/* Names of waiters: place in the slab + 1, so that 0 is none. */
static inline struct fen__node *wg_node(uint32_t name)
{
    return name ? &fen__g_at(name - 1)->node : NULL;
}
static inline uint32_t wg_name(const struct fen__node *n) { return n ? n->g->id + 1 : 0; }

int64_t fen__wg_count(uint64_t word) { return wg_count(word); }

enum { WG_MOVED, WG_BUSY };

/* may_take: the caller is in the guarded section, and wakes *ret_first and who comes after it.
 * WG_BUSY: it comes to 0, and that cannot be done now. Release: who waits acquires it; acquire: of
 * what the waiters wrote into their nodes, and of those who moved it before. */
static inline int wg_move(fen_wg *wg, int64_t n, bool may_take, uint32_t *ret_first)
{
    uint64_t seen = __atomic_load_n(&wg->word, __ATOMIC_RELAXED);
    for (;;) {
        int64_t wg_left = wg_count(seen) + n;
        if (FEN__UNLIKELY(wg_left < 0 || wg_left > INT32_MAX)) {
            fen_promise(wg_left >= 0, "a wait group comes below 0");
            fen_promise(wg_left <= INT32_MAX, "a wait group comes above INT32_MAX");
        }
        bool takes = wg_left == 0 && wg_first(seen);
        if (wg_left == 0 && ((seen & LEAVING) || (takes && !may_take)))
            return WG_BUSY;
        uint64_t to = wg_left ? seen + (uint64_t)n * ONE : 0;
        if (FEN__LIKELY(__atomic_compare_exchange_n(&wg->word, &seen, to, 1, __ATOMIC_ACQ_REL,
                                                    __ATOMIC_RELAXED))) {
            *ret_first = takes ? wg_first(seen) : 0;
            return WG_MOVED;
        }
    }
}

/* Who was taken, first come first. */
static inline struct fen__node *wg_turn_round(struct fen__node *n)
{
    struct fen__node *first = NULL;
    while (n) {
        struct fen__node *next = n->next;
        n->next = first;
        first = n;
        n = next;
    }
    return first;
}

/* A fiber to be woken; its node is its own again. */
struct wg_taken {
    struct fen__g *g;
    uint64_t epoch;
};

/* The next one. Release: pairs with the acquire in wg_leave. */
static inline struct fen__node *wg_let_go(struct fen__node *n, struct wg_taken *ret)
{
    struct fen__node *next = n->next;
    *ret = (struct wg_taken){n->g, n->epoch};
    __atomic_store_n(&n->queue, NULL, __ATOMIC_RELEASE);
    return next;
}

/* RT. */
static inline void wg_wake(uint32_t first)
{
    struct fen__node *n = wg_node(first);
    if (FEN__UNLIKELY(n->next))
        n = wg_turn_round(n);
    while (n) {
        struct wg_taken t;
        n = wg_let_go(n, &t);
        (void)fen__wake(t.g, t.epoch, FEN__BY_SYNC);
    }
}

/* The count comes to 0, and somebody waits or is on its way out. */
FEN__NOINLINE static void wg_to_zero(fen_wg *wg, int64_t n)
{
    struct fen__m *m = fen__enter_any();
    uint32_t first;
    while (FEN__UNLIKELY(wg_move(wg, n, true, &first) == WG_BUSY)) {
        fen__lock(&wg->lock);
        fen__unlock(&wg->lock);
    }
    if (first)
        wg_wake(first);
    fen__leave_any(m);
}

void fen_wg_add(fen_wg *wg, int64_t n)
{
    uint32_t none;
    fen_promise(n >= INT32_MIN && n <= INT32_MAX, "fen_wg_add of more than an int32_t holds");
    bool enters = !fen__brief();
    if (FEN__UNLIKELY(enters || wg_move(wg, n, false, &none) == WG_BUSY))
        wg_to_zero(wg, n);
}

void fen_wg_done(fen_wg *wg) { fen_wg_add(wg, -1); }

/* Acquire: pairs with wg_move. */
static inline bool wg_is_idle(const fen_wg *wg)
{
    return wg_count(__atomic_load_n(&wg->word, __ATOMIC_ACQUIRE)) == 0;
}

/* n's fiber is armed, in n->epoch. False: the count is 0. seq_cst: stands between the fiber's arm
 * and its look at its limits (park.c), and gives its node away. */
static inline bool wg_push(fen_wg *wg, struct fen__node *n)
{
    uint64_t seen = __atomic_load_n(&wg->word, __ATOMIC_ACQUIRE);
    __atomic_store_n(&n->queue, wg, __ATOMIC_RELAXED);
    do {
        if (!wg_count(seen)) {
            __atomic_store_n(&n->queue, NULL, __ATOMIC_RELAXED);
            return false;
        }
        n->next = wg_node(wg_first(seen));
    } while (!__atomic_compare_exchange_n(&wg->word, &seen, (seen & ~(ONE - 1)) | wg_name(n), 1,
                                          __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
    return true;
}

/* LEAVING stands. Is n in the list, and behind whom? NULL: it is the first of `seen`. */
static bool wg_find(uint64_t seen, const struct fen__node *n, struct fen__node **ret_before)
{
    struct fen__node *at = wg_node(wg_first(seen));
    *ret_before = NULL;
    while (at && at != n) {
        *ret_before = at;
        at = at->next;
    }
    return at != NULL;
}

/* LEAVING stands. False: others came before the first; `seen` is renewed. */
static bool wg_take_out(fen_wg *wg, uint64_t *seen, struct fen__node *n, struct fen__node *before)
{
    if (before)
        before->next = n->next;
    else if (!__atomic_compare_exchange_n(&wg->word, seen, (*seen & ~(ONE - 1)) | wg_name(n->next),
                                          0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
        return false;
    __atomic_store_n(&n->queue, NULL, __ATOMIC_RELAXED);
    return true;
}

/* LEAVING stands. Is n in the list? It is not any more, unless it stays: then it is armed again. */
static bool wg_unlink(fen_wg *wg, struct fen__node *n, bool stays)
{
    uint64_t seen = __atomic_load_n(&wg->word, __ATOMIC_ACQUIRE);
    struct fen__node *before;
    do {
        if (!wg_find(seen, n, &before))
            return false;
    } while (!stays && !wg_take_out(wg, &seen, n, before));
    if (stays)
        n->epoch = fen__arm_locked(n->g);
    return true;
}

static inline void wg_leave_begin(fen_wg *wg)
{
    fen__lock(&wg->lock);
    (void)__atomic_fetch_or(&wg->word, LEAVING, __ATOMIC_ACQUIRE);
}

/* Release: what was changed in the list, and the new epoch, for who takes it. */
static inline void wg_leave_end(fen_wg *wg)
{
    (void)__atomic_fetch_and(&wg->word, ~LEAVING, __ATOMIC_RELEASE);
    fen__unlock(&wg->lock);
}

/* Woken by something else. False: the count was 0. Else it has left the list, or stays and is armed
 * again. */
static bool wg_leave(fen_wg *wg, struct fen__node *n, bool stays)
{
    wg_leave_begin(wg);
    bool there = wg_unlink(wg, n, stays);
    wg_leave_end(wg);
    while (!there && __atomic_load_n(&n->queue, __ATOMIC_ACQUIRE))
        sched_yield(); /* its waker is between two steps */
    return there;
}

/* In the list, armed. */
static int wg_sleep(fen_wg *wg, struct fen__g *g, int64_t deadline_ns)
{
    for (;;) {
        int code = fen__park(deadline_ns, FEN__R_WG);
        if (FEN__LIKELY(code >= FEN__BY_SYNC))
            return 0;
        int rc = fen__code_rc(g, code);
        if (!wg_leave(wg, &g->node, rc == 0))
            return 0;
        if (rc)
            return rc;
    }
}

FEN__NOINLINE static int wg_wait_slow(fen_wg *wg, int64_t deadline_ns)
{
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(m);
    struct fen__node *n = &g->node;
    int rc = 0;
    n->g = g;
    n->index = 0;
    g->on = wg;
    n->epoch = fen__arm_locked(g);
    if (wg_push(wg, n))
        rc = wg_sleep(wg, g, deadline_ns);
    else
        (void)fen__unarm(g);
    fen__leave_wait(fen__self());
    return rc;
}

int fen_wg_wait_until(fen_wg *wg, int64_t deadline_ns)
{
    if (wg_is_idle(wg) && fen__brief())
        return 0;
    return wg_wait_slow(wg, deadline_ns);
}

int fen_wg_wait(fen_wg *wg) { return fen_wg_wait_until(wg, FEN_NEVER); }

int fen_wg_try_wait(fen_wg *wg)
{
    if (!fen__brief())
        fen__leave_any(fen__enter_any());
    return wg_is_idle(wg) ? 0 : -EAGAIN;
}

void fen_wg_fini(fen_wg *wg)
{
    fen__lock(&wg->lock); /* a waiter that left may be on its way out */
    fen_promise(wg_is_idle(wg), "fen_wg_fini of a wait group that is not at 0");
    fen__unlock(&wg->lock);
}
