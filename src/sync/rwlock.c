/* rwlock.c - many readers or one writer, by turns.
 *
 * State, under the lock: writer (who), readers (how many), two queues.
 *   writer != 0 implies readers == 0
 *   a free lock has no waiter that could go: settle() runs after every change that may let one in
 *
 * While nobody waits, all of that is folded into word, and who need not wait changes it by one
 * compare-and-swap, without the lock and without the guarded section (fen__brief):
 *   n < WRITES      n readers          writer and readers are 0 then
 *   WRITES | who    who writes         likewise
 *   WRITES          unfolded: the fields say
 * Whoever has the lock unfolds it first, which keeps the others out, and folds it again before it
 * leaves if no node is queued. A release that finds nobody in the queues does not make the lock
 * free there, but folds it as it is and tries once more without the lock: so that the last one
 * out does not touch what the next holder may free.
 *
 * Who goes next:
 *   a reader goes in unless somebody writes or waits to write
 *   the last reader out hands over to the first writer
 *   a writer that leaves lets in every reader that waits; if none does, the next writer
 *   a writer that gives up waiting lets the readers in that only waited because of it
 * So phases alternate and nobody starves: a reader waits for one writer at most. The lock is handed
 * over by the one that leaves (claim, count, wake), so nobody who comes later can slip in between.
 * A queue may hold nodes of fibers that were woken by their deadline and have not taken themselves
 * out yet; the claim drops them, and they settle() when they leave.
 *
 * test/model/rwlock_test.c explores these functions.
 *
 * Rejected: readers first (writers starve); a writer over all readers (readers starve); one queue
 * in order of arrival (read, write, read, write is then no better than a mutex). */
#include "sync/sync_int.h"

#include <fen/fiber.h>

#define WRITES UINT32_C(0x80000000)

/* ---- without the lock ---- */

/* Acquire: pairs with the releases in brief_leave and fold. */
static inline bool brief_enter(fen_rwlock *l, bool write, uint32_t who)
{
    uint32_t seen = write ? 0 : __atomic_load_n(&l->word, __ATOMIC_RELAXED);
    while (write ? seen == 0 : seen < WRITES - 1)
        if (__atomic_compare_exchange_n(&l->word, &seen, write ? WRITES | who : seen + 1, 0,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    return false;
}

/* Release: pairs with the acquires in brief_enter and unfold. False also for who does not hold it,
 * which comes out under the lock. */
static inline bool brief_leave(fen_rwlock *l, bool write, uint32_t who)
{
    uint32_t mine = WRITES | who;
    uint32_t seen = write ? mine : __atomic_load_n(&l->word, __ATOMIC_RELAXED);
    while (write ? seen == mine : seen && seen < WRITES)
        if (__atomic_compare_exchange_n(&l->word, &seen, write ? 0 : seen - 1, 0, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

/* ---- transitions; lock held ---- */

static void unfold(fen_rwlock *l)
{
    if (__atomic_load_n(&l->word, __ATOMIC_RELAXED) == WRITES)
        return; /* only who has the lock changes that */
    uint32_t was = __atomic_exchange_n(&l->word, WRITES, __ATOMIC_ACQUIRE);
    if (was & WRITES)
        l->writer = was & ~WRITES;
    else
        l->readers = was;
}

static bool nobody_queued(const fen_rwlock *l)
{
    return !l->read_waiters.head && !l->write_waiters.head;
}

/* Release: pairs with the acquire in brief_enter. */
static void fold(fen_rwlock *l)
{
    if (!nobody_queued(l))
        return;
    uint32_t all = l->writer ? WRITES | l->writer : l->readers;
    l->writer = l->readers = 0;
    __atomic_store_n(&l->word, all, __ATOMIC_RELEASE);
}

static void lock_unfold(fen_rwlock *l)
{
    fen__lock(&l->lock);
    unfold(l);
}

static void fold_unlock(fen_rwlock *l)
{
    fold(l);
    fen__unlock(&l->lock);
}

static bool enter(fen_rwlock *l, bool write, uint32_t who)
{
    if (l->writer || (write ? l->readers != 0 : l->write_waiters.head != NULL))
        return false;
    if (write)
        l->writer = who;
    else
        l->readers++;
    return true;
}

static void admit_readers(fen_rwlock *l, struct fen__woken *w)
{
    l->readers += (uint32_t)fen__woken_all(w, &l->read_waiters);
}

/* Lets in who may go now. */
static void settle(fen_rwlock *l, bool readers_first, struct fen__woken *w)
{
    if (readers_first)
        admit_readers(l, w);
    if (!l->readers && !l->writer && fen__woken_first(w, &l->write_waiters))
        l->writer = fen__holder_of(w->last->g);
    if (!l->writer && !l->write_waiters.head)
        admit_readers(l, w);
}

static void leave_read(fen_rwlock *l, struct fen__woken *w)
{
    fen_promise(l->readers > 0, "read unlock of a lock that nobody reads");
    if (--l->readers == 0)
        settle(l, false, w);
}

static void leave_write(fen_rwlock *l, uint32_t who, struct fen__woken *w)
{
    fen_promise(l->writer, "write unlock of a lock that nobody writes");
    fen_promise(l->writer == who, "write unlock by another than who locked it");
    l->writer = 0;
    settle(l, true, w);
}

/* A waiter that was woken by something else goes away. */
static void withdraw(fen_rwlock *l, bool write, struct fen__node *n, struct fen__woken *w)
{
    fen__waitq_remove(write ? &l->write_waiters : &l->read_waiters, n);
    if (write)
        settle(l, false, w);
}

/* Leaves it, and lets in who waits; false: nobody does, so it is to be left without the lock. */
static bool hand_on(fen_rwlock *l, bool write, uint32_t who, struct fen__woken *w)
{
    bool held = write ? l->writer == who : l->readers != 0;
    if (held && nobody_queued(l))
        return false;
    if (write)
        leave_write(l, who, w);
    else
        leave_read(l, w);
    return true;
}

/* ---- waiting ---- */

/* One round. 0: it has the lock; -EAGAIN: a false alarm; or why it gave up. RT. */
static int wait_round(fen_rwlock *l, bool write, struct fen__g *g, int64_t deadline_ns)
{
    int code = fen__park(deadline_ns, FEN__R_RWLOCK);
    if (code >= FEN__BY_SYNC)
        return 0;
    struct fen__woken w = {0};
    lock_unfold(l);
    withdraw(l, write, &g->node, &w);
    fold_unlock(l);
    int rc = fen__code_rc(g, code);
    fen__woken_done(&w, 0);
    return rc ? rc : -EAGAIN;
}

FEN__NOINLINE static int lock_slow(fen_rwlock *l, bool write, int64_t deadline_ns)
{
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(m);
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        lock_unfold(l);
        if (enter(l, write, fen__holder_of(g))) {
            fold_unlock(l);
            rc = 0;
            break;
        }
        fen_promise(deadline_ns != FEN_NEVER || l->writer != g->id + 1,
                    "a read-write lock is locked by the fiber that writes already");
        fen__waitq_wait(write ? &l->write_waiters : &l->read_waiters, g, l);
        fold_unlock(l);
        rc = wait_round(l, write, g, deadline_ns);
    }
    fen__leave_wait(fen__self());
    return rc;
}

static inline int lock_until(fen_rwlock *l, bool write, int64_t deadline_ns)
{
    struct fen__g *g = fen__brief();
    if (FEN__LIKELY(g && brief_enter(l, write, fen__holder_of(g))))
        return 0;
    return lock_slow(l, write, deadline_ns);
}

static int try_lock(fen_rwlock *l, bool write)
{
    struct fen__g *g = fen__brief();
    if (FEN__LIKELY(g && brief_enter(l, write, fen__holder_of(g))))
        return 0;
    struct fen__m *m = fen__enter_any();
    lock_unfold(l);
    bool got = enter(l, write, fen__holder());
    fold_unlock(l);
    fen__leave_any(m);
    return got ? 0 : -EAGAIN;
}

int fen_rwlock_read_lock(fen_rwlock *l) { return lock_until(l, false, FEN_NEVER); }
int fen_rwlock_read_lock_until(fen_rwlock *l, int64_t deadline_ns)
{
    return lock_until(l, false, deadline_ns);
}
int fen_rwlock_try_read_lock(fen_rwlock *l) { return try_lock(l, false); }
int fen_rwlock_write_lock(fen_rwlock *l) { return lock_until(l, true, FEN_NEVER); }
int fen_rwlock_write_lock_until(fen_rwlock *l, int64_t deadline_ns)
{
    return lock_until(l, true, deadline_ns);
}
int fen_rwlock_try_write_lock(fen_rwlock *l) { return try_lock(l, true); }

FEN__NOINLINE static void unlock_slow(fen_rwlock *l, bool write)
{
    struct fen__m *m = fen__enter_any();
    uint32_t who = fen__holder();
    struct fen__woken w = {0};
    bool left = false;
    while (!left && !brief_leave(l, write, who)) {
        lock_unfold(l);
        left = hand_on(l, write, who, &w);
        fold_unlock(l);
    }
    fen__woken_done(&w, 0);
    fen__leave_any(m);
}

static inline void unlock(fen_rwlock *l, bool write)
{
    struct fen__g *g = fen__brief();
    if (FEN__UNLIKELY(!g || !brief_leave(l, write, fen__holder_of(g))))
        unlock_slow(l, write);
}

void fen_rwlock_read_unlock(fen_rwlock *l) { unlock(l, false); }
void fen_rwlock_write_unlock(fen_rwlock *l) { unlock(l, true); }

void fen_rwlock_fini(fen_rwlock *l)
{
    lock_unfold(l); /* the last user may be on its way out */
    fen_promise(!l->writer && !l->readers, "fen_rwlock_fini while somebody holds it");
    fen_promise(!l->read_waiters.head && !l->write_waiters.head,
                "fen_rwlock_fini while somebody waits");
    fold_unlock(l);
}
