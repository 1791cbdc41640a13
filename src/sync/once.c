/* once.c - initialisation that runs until it has succeeded once.
 *
 *            begin                 fn >= 0
 *   NEW ----------------> RUNNING ---------> DONE (for ever)
 *    ^                      |  ^ '-.
 *    '--- fn < 0, nobody ---'  '---' fn < 0: the first waiter runs its own fn
 *
 * done is read without the lock (acquire; pairs with the release in finish), so what fn wrote is
 * visible to whoever sees it. A failure belongs to its caller only: the waiters did not fail. */
#include "sync/sync_int.h"

#include <fen/fiber.h>

static bool is_done(fen_once *o) { return __atomic_load_n(&o->done, __ATOMIC_ACQUIRE); }

/* Lock held. 0: the caller runs fn; 1: it is done; -EAGAIN: fn runs, and the caller is queued if it
 * wants to wait. */
static int look(fen_once *o, struct fen__g *g, bool wait)
{
    fen_promise(o->runner != g->id + 1, "a once is done by its own function");
    if (is_done(o))
        return 1;
    if (!o->runner) {
        o->runner = fen__holder_of(g);
        return 0;
    }
    if (wait)
        fen__waitq_wait(&o->waiters, g, o);
    return -EAGAIN;
}

/* RT. As look, or why the wait ended. */
static int begin(fen_once *o, struct fen__g *g, bool wait, int64_t deadline_ns)
{
    for (;;) {
        fen__lock(&o->lock);
        int rc = look(o, g, wait);
        fen__unlock(&o->lock);
        if (rc != -EAGAIN || !wait)
            return rc;
        int code = fen__park(deadline_ns, FEN__R_ONCE);
        if (code >= FEN__BY_SYNC)
            return g->node.rc;
        fen__waitq_leave(&o->waiters, &o->lock, &g->node);
        rc = fen__code_rc(g, code);
        if (rc)
            return rc;
    }
}

/* Lock held. Everybody is to be told, or the first waiter is made the next runner. */
static void settle(fen_once *o, bool done, struct fen__woken *w)
{
    o->runner = 0;
    if (done) {
        __atomic_store_n(&o->done, 1, __ATOMIC_RELEASE);
        (void)fen__woken_all(w, &o->waiters);
    } else if (fen__woken_first(w, &o->waiters)) {
        o->runner = fen__holder_of(w->head->g);
    }
}

static void finish(fen_once *o, bool done)
{
    struct fen__woken w = {0};
    fen__lock(&o->lock);
    settle(o, done, &w);
    fen__unlock(&o->lock);
    fen__woken_done(&w, done ? 1 : 0);
}

static int run_once(fen_once *o, int (*fn)(void *), void *arg, bool wait, int64_t deadline_ns)
{
    if (FEN__LIKELY(is_done(o)))
        return 0;
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    int rc = begin(o, fen__cur(m), wait, deadline_ns);
    fen__leave_wait(fen__self());
    if (rc)
        return rc > 0 ? 0 : rc;
    rc = fn(arg);
    m = fen__enter_any();
    finish(o, rc >= 0);
    fen__leave_any(m);
    return rc < 0 ? rc : 0;
}

int fen_once_do(fen_once *o, int (*fn)(void *), void *arg)
{
    return run_once(o, fn, arg, true, FEN_NEVER);
}
int fen_once_do_until(fen_once *o, int (*fn)(void *), void *arg, int64_t deadline_ns)
{
    return run_once(o, fn, arg, true, deadline_ns);
}
int fen_once_try_do(fen_once *o, int (*fn)(void *), void *arg)
{
    return run_once(o, fn, arg, false, FEN_NEVER);
}

void fen_once_fini(fen_once *o)
{
    fen__lock(&o->lock); /* the last user may be on its way out */
    fen_promise(!o->runner && !o->waiters.head,
                "fen_once_fini while its function runs or somebody waits");
    fen__unlock(&o->lock);
}
