/* barrier.c - a meeting point for a fixed number of fibers, used round after round.
 *
 * A round is decided by the count under the lock, not by who could be woken: the arrival that makes
 * it parties ends the round for all of them. A waiter whose deadline came looks under the lock
 * which of the two was first: the round has moved on (it returns 0, it was there), or it takes its
 * arrival back. So all parties of a round agree that it took place.
 *
 * Rejected: a barrier that breaks for everybody when one gives up (Java's): then every caller needs
 * a second protocol to repair it; a group (fen/group.h) cancels the others where that is wanted. */
#include "sync/sync_int.h"

#include <fen/fiber.h>

/* Lock held. True: that was the last one; the others are claimed. */
static bool arrive(fen_barrier *b, struct fen__woken *w)
{
    fen_promise(b->parties > 0, "a barrier is used that fen_barrier_init has not seen");
    if (b->arrived + 1 < b->parties) {
        b->arrived++;
        return false;
    }
    b->arrived = 0;
    b->round++;
    (void)fen__woken_all(w, &b->waiters);
    return true;
}

/* Lock held, woken by something else than the end of the round: 1, that has come all the same; 0,
 * it waits on; rc, its arrival is taken back. */
static int woken_early(fen_barrier *b, struct fen__g *g, uint32_t round, int rc)
{
    fen__waitq_remove(&b->waiters, &g->node);
    if (b->round != round)
        return 1;
    b->arrived -= rc != 0;
    return rc;
}

/* RT, lock held, arrived; the lock is let go. 0, or why it left the round. */
static int wait_round(fen_barrier *b, struct fen__g *g, int64_t deadline_ns)
{
    uint32_t round = b->round;
    int rc = 0;
    while (!rc) {
        fen__waitq_wait(&b->waiters, g, b);
        fen__unlock(&b->lock);
        int code = fen__park(deadline_ns, FEN__R_BARRIER);
        if (code >= FEN__BY_SYNC)
            return 0;
        fen__lock(&b->lock);
        rc = woken_early(b, g, round, fen__code_rc(g, code));
    }
    fen__unlock(&b->lock);
    return rc < 0 ? rc : 0;
}

int fen_barrier_wait_until(fen_barrier *b, int64_t deadline_ns)
{
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    struct fen__woken w = {0};
    int rc = 1;
    fen__lock(&b->lock);
    if (arrive(b, &w))
        fen__unlock(&b->lock);
    else
        rc = wait_round(b, fen__cur(m), deadline_ns);
    fen__woken_done(&w, 0);
    fen__leave_wait(fen__self());
    return rc;
}

int fen_barrier_wait(fen_barrier *b) { return fen_barrier_wait_until(b, FEN_NEVER); }

int fen_barrier_try_wait(fen_barrier *b)
{
    struct fen__m *m = fen__enter_any();
    struct fen__woken w = {0};
    fen__lock(&b->lock);
    bool last = b->arrived + 1 >= b->parties && arrive(b, &w);
    fen__unlock(&b->lock);
    fen__woken_done(&w, 0);
    fen__leave_any(m);
    return last ? 1 : -EAGAIN;
}

void fen_barrier_init(fen_barrier *b, uint32_t parties)
{
    fen_promise(parties > 0, "a barrier of no parties");
    *b = (fen_barrier){.parties = parties};
}

void fen_barrier_fini(fen_barrier *b)
{
    fen__lock(&b->lock); /* the last user may be on its way out */
    fen_promise(!b->arrived && !b->waiters.head, "fen_barrier_fini while somebody waits");
    fen__unlock(&b->lock);
}
