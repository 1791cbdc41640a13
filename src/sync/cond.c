/* cond.c - condition variable: unlock, wait, lock again.
 *
 * The waiter queues its node before it unlocks the mutex, so a signal that is sent under the mutex
 * after the condition changed finds it. A signal claims the first node whose fiber still waits: a
 * fiber that its deadline or a cancel woke first cannot be claimed and is passed over, so it eats
 * no signal; one that was claimed returns 0 even if its deadline came meanwhile, so no signal is
 * lost either. A false alarm (the fiber was nudged for something that does not end it) returns 0
 * too: putting the node back would be a moment in which a signal finds nobody.
 *
 * The mutex is taken again with cancellation masked: the caller's clean-up must find it held.
 *
 * test/model/cond_test.c explores these functions. Rejected: moving the waiters of a broadcast
 * straight to the mutex's queue (the mutex would have to know conditions; it saves a switch only
 * when the mutex is held at that moment). */
#include "sync/sync_int.h"

#include <fen/err.h>
#include <fen/fiber.h>

/* ---- transitions; lock held ---- */

static void wait_begin(fen_cond *c, struct fen__g *g) { fen__waitq_wait(&c->waiters, g, c); }

static void wait_end(fen_cond *c, struct fen__node *n) { fen__waitq_remove(&c->waiters, n); }

static void wake(fen_cond *c, bool all, struct fen__woken *w)
{
    (void)(all ? fen__woken_all(w, &c->waiters) : fen__woken_first(w, &c->waiters));
}

/* ---- the calls ---- */

static void lock_again(fen_mutex *m)
{
    int rc;
    fen__mask(1);
    while ((rc = fen_mutex_lock(m))) {
        if (rc == FEN_ELIMIT) /* of threads, when many wait: until one of them has gone on */
            fen__sys_nap(FEN_MS / 10);
        else if (rc != -ECANCELED) /* of threads the end of a run ends one wait */
            break;
    }
    fen_assert(rc == 0);
    fen__mask(-1);
}

int fen_cond_wait_until(fen_cond *c, fen_mutex *m, int64_t deadline_ns)
{
    struct fen__m *worker = fen__enter_wait();
    if (!worker)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(worker);
    int rc = fen__limit_rc(g);
    if (rc) {
        fen__leave_wait(worker);
        return rc;
    }
    fen__lock(&c->lock);
    wait_begin(c, g);
    fen__unlock(&c->lock);
    fen_mutex_unlock(m); /* inside the guarded section: it does not leave it */
    int code = fen__park(deadline_ns, FEN__R_COND);
    if (code < FEN__BY_SYNC) {
        fen__lock(&c->lock);
        wait_end(c, &g->node);
        fen__unlock(&c->lock);
        rc = fen__code_rc(g, code);
    }
    fen__leave_wait(fen__self());
    lock_again(m);
    return rc;
}

int fen_cond_wait(fen_cond *c, fen_mutex *m) { return fen_cond_wait_until(c, m, FEN_NEVER); }

static void wake_waiters(fen_cond *c, bool all)
{
    struct fen__m *m = fen__enter_any();
    struct fen__woken w = {0};
    fen__lock(&c->lock);
    wake(c, all, &w);
    fen__unlock(&c->lock);
    fen__woken_done(&w, 0);
    fen__leave_any(m);
}

void fen_cond_signal(fen_cond *c) { wake_waiters(c, false); }
void fen_cond_broadcast(fen_cond *c) { wake_waiters(c, true); }

void fen_cond_fini(fen_cond *c)
{
    fen__lock(&c->lock); /* the last user may be on its way out */
    fen_promise(!c->waiters.head, "fen_cond_fini while somebody waits");
    fen__unlock(&c->lock);
}
