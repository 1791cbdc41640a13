/* children.c - what the close of a scope waits for: the end of its fibers.
 *
 *   children = fibers of the scope + holds of others (spawner.c) + 1 of the owner's own
 *
 *   hold      n --> n + 1, n > 0       who holds already, or the owner; no lock
 *   let go    n --> n - 1              no lock while n > 1; the last under the lock
 *   await     own hold let go, armed   the owner, under the lock; false alarms await again
 *   give up   own hold taken again     the owner, under the lock, unless it came to 0: then the
 *                                      wait has ended well, whatever woke it
 *
 * Invariants. It comes to 0 only under the lock and only while the owner waits, so the owner,
 * holding the lock, knows whether the last has ended. join_epoch is set while the owner waits, and
 * only then: who brings the count to 0 takes it, and wakes after it has let go of the lock; a wake
 * that comes late meets another epoch. Who lets go touches the scope no more after that; one who
 * found itself to be the last, and no longer is when it has the lock, still has the lock for a
 * moment. So the owner closes only after it has had the lock itself, even where it sees at once
 * that nobody is left. test/model/children_test.c explores these functions. */
#include "sync/sync_int.h"

/* The lock is held for these three. own: 1 when the owner's hold is to be let go, 0 when it has
 * been. True: nobody is left, the owner is not armed. */
static inline bool children_await(struct fen_scope *s, struct fen__g *g, int64_t own)
{
    if (atomic_fetch_sub(&s->children, own) == own)
        return true;
    s->join_epoch = fen__arm_locked(g);
    return false;
}

/* Woken by something else. False: the last has ended. */
static inline bool children_give_up(struct fen_scope *s)
{
    if (atomic_load(&s->children) == 0)
        return false;
    atomic_fetch_add(&s->children, 1);
    s->join_epoch = 0;
    return true;
}

/* The epoch in which the owner is to be woken; 0: not now. */
static inline uint64_t children_drop(struct fen_scope *s)
{
    uint64_t epoch = 0;
    if (atomic_fetch_sub(&s->children, 1) == 1) {
        epoch = s->join_epoch;
        s->join_epoch = 0;
    }
    return epoch;
}

/* Without the lock. False: it may be the last. */
static inline bool children_drop_early(struct fen_scope *s)
{
    int64_t n = atomic_load_explicit(&s->children, memory_order_relaxed);
    while (n > 1)
        if (atomic_compare_exchange_weak(&s->children, &n, n - 1))
            return true;
    return false;
}

/* After the count has gone down, or the lock has been let go, the scope may be gone. Any thread. */
void fen__scope_let_go(struct fen_scope *s)
{
    if (children_drop_early(s))
        return;
    struct fen__m *m = fen__enter_any();
    struct fen__g *owner = s->owner;
    fen__lock(&s->lock);
    uint64_t epoch = children_drop(s);
    fen__unlock(&s->lock);
    if (epoch)
        fen__wake(owner, epoch, FEN__BY_SYNC);
    fen__leave_any(m);
}

static int give_up(struct fen_scope *s, int rc)
{
    fen__lock(&s->lock);
    bool some = children_give_up(s);
    fen__unlock(&s->lock);
    if (!some)
        atomic_store_explicit(&s->children, 1, memory_order_relaxed);
    return some ? rc : 0;
}

int fen__scope_join(struct fen_scope *s, struct fen__g *g, int64_t deadline_ns)
{
    for (int64_t own = 1;; own = 0) {
        fen__lock(&s->lock);
        bool none = children_await(s, g, own);
        fen__unlock(&s->lock);
        if (none)
            break;
        g->on = s;
        int rc = fen__code_rc(g, fen__park(deadline_ns, FEN__R_SCOPE));
        if (rc)
            return give_up(s, rc);
    }
    atomic_store_explicit(&s->children, 1, memory_order_relaxed); /* nobody else is there */
    return 0;
}

int fen__scope_try_join(struct fen_scope *s)
{
    fen__lock(&s->lock); /* also: whoever was the last is out of it */
    bool none = atomic_load(&s->children) == 1;
    fen__unlock(&s->lock);
    return none ? 0 : -EAGAIN;
}
