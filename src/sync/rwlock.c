/* rwlock.c - many readers or one writer, by turns.
 *
 * State, under the lock: writer (who), readers (how many), two queues.
 *   writer != 0 implies readers == 0
 *   a free lock has no waiter that could go: settle() runs after every change that may let one in
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

/* ---- transitions; lock held ---- */

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
    fen_assert(l->readers > 0);
    if (--l->readers == 0)
        settle(l, false, w);
}

static void leave_write(fen_rwlock *l, uint32_t who, struct fen__woken *w)
{
    fen_assert(l->writer);
    fen_assert(l->writer == who); /* who locked it unlocks it */
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

/* ---- waiting ---- */

/* One round. 0: it has the lock; -EAGAIN: a false alarm; or why it gave up. RT. */
static int wait_round(fen_rwlock *l, bool write, struct fen__g *g, int64_t deadline_ns)
{
    int code = fen__park(deadline_ns, FEN__R_RWLOCK);
    if (code >= FEN__BY_SYNC)
        return 0;
    struct fen__woken w = {0};
    fen__lock(&l->lock);
    withdraw(l, write, &g->node, &w);
    fen__unlock(&l->lock);
    int rc = fen__code_rc(g, code);
    fen__woken_done(&w, 0);
    return rc ? rc : -EAGAIN;
}

static int lock_until(fen_rwlock *l, bool write, int64_t deadline_ns)
{
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(m);
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        fen__lock(&l->lock);
        if (enter(l, write, fen__holder_of(g))) {
            fen__unlock(&l->lock);
            rc = 0;
            break;
        }
        fen_assert(deadline_ns != FEN_NEVER || l->writer != g->id + 1); /* locked it already */
        fen__waitq_wait(write ? &l->write_waiters : &l->read_waiters, g, l);
        fen__unlock(&l->lock);
        rc = wait_round(l, write, g, deadline_ns);
    }
    fen__leave_wait(fen__self());
    return rc;
}

static int try_lock(fen_rwlock *l, bool write)
{
    struct fen__m *m = fen__enter_any();
    fen__lock(&l->lock);
    bool got = enter(l, write, fen__holder());
    fen__unlock(&l->lock);
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

void fen_rwlock_read_unlock(fen_rwlock *l)
{
    struct fen__m *m = fen__enter_any();
    struct fen__woken w = {0};
    fen__lock(&l->lock);
    leave_read(l, &w);
    fen__unlock(&l->lock);
    fen__woken_done(&w, 0);
    fen__leave_any(m);
}

void fen_rwlock_write_unlock(fen_rwlock *l)
{
    struct fen__m *m = fen__enter_any();
    struct fen__woken w = {0};
    fen__lock(&l->lock);
    leave_write(l, fen__holder(), &w);
    fen__unlock(&l->lock);
    fen__woken_done(&w, 0);
    fen__leave_any(m);
}

void fen_rwlock_fini(fen_rwlock *l)
{
    fen__lock(&l->lock); /* the last user may be on its way out */
    fen_assert(!l->writer && !l->readers);
    fen_assert(!l->read_waiters.head && !l->write_waiters.head);
    fen__unlock(&l->lock);
}
