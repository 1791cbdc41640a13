/* lock.c - mutex and semaphore: a word, a short lock and a wait queue.
 *
 * Ownership is handed over: unlock and release give the lock or permit straight to the first waiter
 * (claim, hand over, wake), so a late comer cannot overtake it. A waiter that was woken by its
 * deadline instead takes its node out again; if a releaser claimed it first it has what it waited
 * for and says so. The wake itself comes after the object's lock is let go: a woken waiter may free
 * the object at once.
 *
 * Who need not wait does it by one compare-and-swap on the word, without the object's lock and
 * without the guarded section (fen__brief). The word says when that is not possible:
 *
 *   mutex.held     0 <--> who                   by anybody, without the lock
 *                  who --> who|WAITED           under the lock, before a node is queued
 *                  who|WAITED --> WAITED        let go by who, without the lock; nobody else's
 *                  WAITED --> next[|WAITED]     under the lock: handed over
 *                  WAITED --> who               under the lock: nobody waited any more
 *   sem.permits    n <--> n + 1, n >= 0         by anybody
 *                  0 --> WAITED --> 0           under the lock, likewise
 *
 * Invariants: a waiter that can be claimed implies WAITED (mutex, semaphore), and who finds WAITED
 * gives under the lock. So whoever lets go without the lock has left nobody asleep, and a free
 * mutex or a permit that is to be had has nobody who came earlier. WAITED may stay when the last
 * waiter gave up: the next unlock finds out.
 *
 * What frees a mutex or gives a permit is the last access of who does it (settle down, unlock,
 * then try again without the lock), so the next holder may end the object's life.
 *
 * test/model/ explores these functions (mutex, permits). Rejected: WAITED taken off by the
 * waiter that gives up (one more writer of the word for a rare case); a futex-like word with
 * spinning (a late comer overtakes). */
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

/* Acquire: pairs with the release in mutex_give. */
static inline bool mutex_take(fen_mutex *m, uint32_t who)
{
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n(&m->held, &free_word, who, 0, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* False: somebody may wait, and WAITED alone stands there now; or another holds it, who is then
 * done with the program. A subtraction because it costs a seventh less than a compare-and-swap. */
static inline bool mutex_give(fen_mutex *m, uint32_t who)
{
    return __atomic_fetch_sub(&m->held, who, __ATOMIC_RELEASE) == who;
}

/* Lock held. Takes it, or sees to it that it is not let go without the lock. */
static bool mutex_take_or_mark(fen_mutex *m, uint32_t who)
{
    uint32_t seen = __atomic_load_n(&m->held, __ATOMIC_RELAXED);
    while (!(seen & FEN__WAITED)) {
        uint32_t to = seen ? seen | FEN__WAITED : who;
        if (__atomic_compare_exchange_n(&m->held, &seen, to, 1, __ATOMIC_ACQUIRE, /* as in take */
                                        __ATOMIC_RELAXED))
            return to == who;
    }
    return false;
}

/* Lock held, after a give that found WAITED. The fiber that holds it now, to be woken; NULL: nobody
 * waits, and who holds it again. Relaxed: the new holder has its order from the wake, and nobody
 * else can take what is not 0. */
static struct fen__node *mutex_hand_on(fen_mutex *m, uint32_t who, int *ret_claim)
{
    struct fen__node *n = fen__waitq_claim(&m->waiters, ret_claim);
    uint32_t to = n ? fen__holder_of(n->g) : who;
    if (m->waiters.head)
        to |= FEN__WAITED;
    __atomic_store_n(&m->held, to, __ATOMIC_RELAXED);
    return n;
}

static uint32_t mutex_holder(const fen_mutex *m)
{
    return __atomic_load_n(&m->held, __ATOMIC_RELAXED) & ~FEN__WAITED;
}

FEN__NOINLINE static int mutex_lock_slow(fen_mutex *m, int64_t deadline_ns)
{
    struct fen__m *w = fen__enter_wait();
    if (!w)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(w);
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        fen__lock(&m->lock);
        if (mutex_take_or_mark(m, fen__holder_of(g))) {
            fen__unlock(&m->lock);
            rc = 0;
            break;
        }
        fen_promise(deadline_ns != FEN_NEVER || mutex_holder(m) != g->id + 1,
                    "a mutex is locked by the fiber that holds it");
        fen__waitq_wait(&m->waiters, g, m);
        fen__unlock(&m->lock);
        rc = wait_round(&m->waiters, &m->lock, g, deadline_ns, FEN__R_MUTEX);
    }
    fen__leave_wait(fen__self());
    return rc;
}

static inline int mutex_lock(fen_mutex *m, int64_t deadline_ns)
{
    uint32_t who = fen__brief_who();
    if (FEN__LIKELY(who && mutex_take(m, who)))
        return 0;
    return mutex_lock_slow(m, deadline_ns);
}

int fen_mutex_lock_until(fen_mutex *m, int64_t deadline_ns) { return mutex_lock(m, deadline_ns); }
int fen_mutex_lock(fen_mutex *m) { return mutex_lock(m, FEN_NEVER); }

int fen_mutex_try_lock(fen_mutex *m)
{
    uint32_t who = fen__brief_who();
    if (FEN__LIKELY(who))
        return mutex_take(m, who) ? 0 : -EAGAIN;
    struct fen__m *w = fen__enter_any();
    bool got = mutex_take(m, fen__holder());
    fen__leave_any(w);
    return got ? 0 : -EAGAIN;
}

/* A give has failed: it was the caller's to give? */
static void mutex_check_given(fen_mutex *m, uint32_t who)
{
    if (FEN__LIKELY(__atomic_load_n(&m->held, __ATOMIC_RELAXED) == FEN__WAITED))
        return;
    (void)__atomic_add_fetch(&m->held, who, __ATOMIC_RELAXED);
    fen_promise(m->held, "unlock of a mutex that nobody holds");
    fen_promise(m->held == fen__holder(), "unlock of a mutex that another holds");
}

/* given: a give has failed already. */
FEN__NOINLINE static void mutex_unlock_slow(fen_mutex *m, bool given)
{
    struct fen__m *w = fen__enter_any();
    uint32_t who = fen__holder();
    struct fen__node *n = NULL;
    int claim = 0;
    while (!n && (given || !mutex_give(m, who))) {
        given = false;
        mutex_check_given(m, who);
        fen__lock(&m->lock);
        n = mutex_hand_on(m, who, &claim);
        fen__unlock(&m->lock);
    }
    if (n)
        fen__waitq_done(n, claim, 0); /* it holds the mutex now */
    fen__leave_any(w);
}

void fen_mutex_unlock(fen_mutex *m)
{
    uint32_t who = fen__brief_who();
    if (FEN__UNLIKELY(!who || !mutex_give(m, who)))
        mutex_unlock_slow(m, who != 0);
}

void fen_mutex_fini(fen_mutex *m)
{
    fen__lock(&m->lock);                               /* the last user may be on its way out */
    (void)__atomic_load_n(&m->held, __ATOMIC_ACQUIRE); /* pairs with mutex_give */
    fen_promise(!m->held && !m->waiters.head, "fen_mutex_fini while somebody holds it or waits");
    fen__unlock(&m->lock);
}

/* ---- semaphore ---- */

void fen_sem_init(fen_sem *s, int64_t permits)
{
    fen_promise(permits >= 0, "a semaphore of fewer than 0 permits");
    *s = (fen_sem){.permits = permits};
}

/* Acquire: pairs with the release in sem_give. */
static inline bool sem_take(fen_sem *s)
{
    int64_t seen = __atomic_load_n(&s->permits, __ATOMIC_RELAXED);
    while (seen > 0)
        if (__atomic_compare_exchange_n(&s->permits, &seen, seen - 1, 1, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

/* False: somebody may wait. */
static inline bool sem_give(fen_sem *s)
{
    int64_t seen = __atomic_load_n(&s->permits, __ATOMIC_RELAXED);
    while (seen >= 0) {
        fen_promise(seen < INT64_MAX, "a semaphore of more than INT64_MAX permits");
        if (__atomic_compare_exchange_n(&s->permits, &seen, seen + 1, 1, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

/* Lock held. Takes a permit, or sees to it that none is given without the lock. */
static bool sem_take_or_mark(fen_sem *s)
{
    for (;;) {
        int64_t none = 0;
        if (sem_take(s))
            return true;
        if (__atomic_compare_exchange_n(&s->permits, &none, FEN__SEM_WAITED, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED) ||
            none == FEN__SEM_WAITED)
            return false;
    }
}

/* Lock held. The fiber that has the permit now, to be woken; NULL: it is still to be given. Whoever
 * gives came here because of WAITED, but another may have taken it off since. */
static struct fen__node *sem_hand_on(fen_sem *s, int *ret_claim)
{
    struct fen__node *n = fen__waitq_claim(&s->waiters, ret_claim);
    if (!s->waiters.head && __atomic_load_n(&s->permits, __ATOMIC_RELAXED) == FEN__SEM_WAITED)
        __atomic_store_n(&s->permits, 0, __ATOMIC_RELAXED);
    return n;
}

FEN__NOINLINE static int sem_acquire_slow(fen_sem *s, int64_t deadline_ns)
{
    struct fen__m *w = fen__enter_wait();
    if (!w)
        return fen__enter_rc();
    struct fen__g *g = fen__cur(w);
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        fen__lock(&s->lock);
        if (sem_take_or_mark(s)) {
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

int fen_sem_acquire_until(fen_sem *s, int64_t deadline_ns)
{
    if (FEN__LIKELY(fen__brief() && sem_take(s)))
        return 0;
    return sem_acquire_slow(s, deadline_ns);
}

int fen_sem_acquire(fen_sem *s) { return fen_sem_acquire_until(s, FEN_NEVER); }

int fen_sem_try_acquire(fen_sem *s)
{
    struct fen__m *w = fen__brief() ? NULL : fen__enter_any();
    bool got = sem_take(s);
    fen__leave_any(w);
    return got ? 0 : -EAGAIN;
}

FEN__NOINLINE static void sem_release_slow(fen_sem *s)
{
    struct fen__m *w = fen__enter_any();
    struct fen__node *n = NULL;
    int claim = 0;
    while (!n && !sem_give(s)) {
        fen__lock(&s->lock);
        n = sem_hand_on(s, &claim);
        fen__unlock(&s->lock);
    }
    if (n)
        fen__waitq_done(n, claim, 0);
    fen__leave_any(w);
}

void fen_sem_release(fen_sem *s)
{
    if (FEN__UNLIKELY(!fen__brief() || !sem_give(s)))
        sem_release_slow(s);
}

void fen_sem_fini(fen_sem *s)
{
    fen__lock(&s->lock);
    (void)__atomic_load_n(&s->permits, __ATOMIC_ACQUIRE); /* pairs with sem_give */
    fen_promise(!s->waiters.head, "fen_sem_fini while somebody waits");
    fen__unlock(&s->lock);
}
