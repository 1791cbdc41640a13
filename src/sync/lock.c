/* lock.c - mutex, semaphore, wait group: a counter under a short lock and a wait queue.
 *
 * Ownership is handed over: unlock and release give the lock or permit straight to the first waiter
 * (claim, hand over, wake), so a late comer cannot overtake it. A waiter that was woken by its
 * deadline instead takes its node out again; if a releaser claimed it first it has what it waited
 * for and says so. The wake itself comes after the object's lock is let go: a woken waiter may free
 * the object at once. */
#include "sync/sync_int.h"

/* One round of waiting for something that a releaser hands over. 0: got it. */
static int wait_round(struct fen_waitq *q, uint32_t *lock, struct fen__g *g, int64_t deadline_ns,
                      enum fen__reason why)
{
    int code = fen__park(deadline_ns, why);
    if (code >= FEN__BY_SYNC)
        return 0;
    fen__waitq_leave(q, lock, &g->node);
    int rc = fen__code_rc(g, code);
    return rc ? rc : -EAGAIN; /* a false alarm: the caller tries again */
}

/* ---- mutex ---- */

int fen_mutex_lock_until(fen_mutex *m, int64_t deadline_ns)
{
    struct fen__m *w = fen__enter_wait();
    if (!w)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(w);
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        fen__lock(&m->lock);
        if (!m->held) {
            m->held = fen__holder_of(g);
            fen__unlock(&m->lock);
            rc = 0;
            break;
        }
        fen_assert(deadline_ns != FEN_NEVER || m->held != g->id + 1); /* locked it already */
        fen__waitq_wait(&m->waiters, g, m);
        fen__unlock(&m->lock);
        rc = wait_round(&m->waiters, &m->lock, g, deadline_ns, FEN__R_MUTEX);
    }
    fen__leave_wait(fen__self());
    return rc;
}

int fen_mutex_lock(fen_mutex *m) { return fen_mutex_lock_until(m, FEN_NEVER); }

int fen_mutex_try_lock(fen_mutex *m)
{
    struct fen__m *w = fen__enter_any();
    fen__lock(&m->lock);
    bool got = !m->held;
    if (got)
        m->held = fen__holder();
    fen__unlock(&m->lock);
    fen__leave_any(w);
    return got ? 0 : -EAGAIN;
}

void fen_mutex_unlock(fen_mutex *m)
{
    struct fen__m *w = fen__enter_any();
    int claim;
    fen__lock(&m->lock);
    fen_assert(m->held);
    fen_assert(m->held == fen__holder()); /* who locked it unlocks it */
    struct fen__node *n = fen__waitq_claim(&m->waiters, &claim);
    m->held = n ? fen__holder_of(n->g) : 0;
    fen__unlock(&m->lock);
    if (n)
        fen__waitq_done(n, claim, 0); /* it holds the mutex now */
    fen__leave_any(w);
}

void fen_mutex_fini(fen_mutex *m)
{
    fen__lock(&m->lock); /* the last user may be on its way out */
    fen_assert(!m->held && !m->waiters.head);
    fen__unlock(&m->lock);
}

/* ---- semaphore ---- */

void fen_sem_init(fen_sem *s, int64_t permits) { *s = (fen_sem){.permits = permits}; }

int fen_sem_acquire_until(fen_sem *s, int64_t deadline_ns)
{
    struct fen__m *w = fen__enter_wait();
    if (!w)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(w);
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        fen__lock(&s->lock);
        if (s->permits > 0) {
            s->permits--;
            fen__unlock(&s->lock);
            rc = 0;
            break;
        }
        fen__waitq_wait(&s->waiters, g, s);
        fen__unlock(&s->lock);
        rc = wait_round(&s->waiters, &s->lock, g, deadline_ns, FEN__R_SEM);
    }
    fen__leave_wait(fen__self());
    return rc;
}

int fen_sem_acquire(fen_sem *s) { return fen_sem_acquire_until(s, FEN_NEVER); }

int fen_sem_try_acquire(fen_sem *s)
{
    struct fen__m *w = fen__enter_any();
    fen__lock(&s->lock);
    bool got = s->permits > 0;
    s->permits -= got;
    fen__unlock(&s->lock);
    fen__leave_any(w);
    return got ? 0 : -EAGAIN;
}

void fen_sem_release(fen_sem *s)
{
    struct fen__m *w = fen__enter_any();
    int claim;
    fen__lock(&s->lock);
    struct fen__node *n = fen__waitq_claim(&s->waiters, &claim);
    s->permits += n == NULL;
    fen__unlock(&s->lock);
    if (n)
        fen__waitq_done(n, claim, 0);
    fen__leave_any(w);
}

void fen_sem_fini(fen_sem *s)
{
    fen__lock(&s->lock);
    fen_assert(!s->waiters.head);
    fen__unlock(&s->lock);
}

/* ---- wait group ---- */

void fen_wg_add(fen_wg *wg, int64_t n)
{
    struct fen__m *w = fen__enter_any();
    int claim;
    struct fen__node *node, *list = NULL;
    fen__lock(&wg->lock);
    wg->count += n;
    fen_assert(wg->count >= 0);
    if (wg->count == 0) /* atomic: a wait that begins reads it without the lock */
        __atomic_store_n(&wg->zeros, wg->zeros + 1, __ATOMIC_RELAXED);
    while (wg->count == 0 && (node = fen__waitq_claim(&wg->waiters, &claim))) {
        node->rc = claim;
        node->next = list;
        list = node;
    }
    fen__unlock(&wg->lock);
    while ((node = list)) {
        list = node->next;
        fen__waitq_done(node, node->rc, 0);
    }
    fen__leave_any(w);
}

void fen_wg_done(fen_wg *wg) { fen_wg_add(wg, -1); }

int fen_wg_wait_until(fen_wg *wg, int64_t deadline_ns)
{
    struct fen__m *w = fen__enter_wait();
    if (!w)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(w);
    int rc = -EAGAIN;
    uint32_t zeros = __atomic_load_n(&wg->zeros, __ATOMIC_RELAXED);
    while (rc == -EAGAIN) {
        fen__lock(&wg->lock);
        if (wg->count == 0 || wg->zeros != zeros) { /* it may be in use again by now */
            fen__unlock(&wg->lock);
            rc = 0;
            break;
        }
        fen__waitq_wait(&wg->waiters, g, wg);
        fen__unlock(&wg->lock);
        rc = wait_round(&wg->waiters, &wg->lock, g, deadline_ns, FEN__R_WG);
    }
    fen__leave_wait(fen__self());
    return rc;
}

int fen_wg_wait(fen_wg *wg) { return fen_wg_wait_until(wg, FEN_NEVER); }

int fen_wg_try_wait(fen_wg *wg)
{
    struct fen__m *w = fen__enter_any();
    fen__lock(&wg->lock);
    int rc = wg->count == 0 ? 0 : -EAGAIN;
    fen__unlock(&wg->lock);
    fen__leave_any(w);
    return rc;
}

void fen_wg_fini(fen_wg *wg)
{
    fen__lock(&wg->lock);
    fen_assert(wg->count == 0 && !wg->waiters.head);
    fen__unlock(&wg->lock);
}
