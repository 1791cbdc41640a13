/* sync.h - mutex, read-write lock, condition, semaphore, wait group, once and barrier, for fibers
 * and for threads.
 *
 * Any thread may make every call: it waits in one queue with the fibers. What fen/chan.h says of
 * that holds here too: -ECANCELED when a run ends meanwhile, FEN_ELIMIT, FEN_EFORKED.
 *
 * Each is the caller's memory; all zeros is a valid, free state (a semaphore has no permits, a
 * barrier needs its init). Waiters are served first come, first served. Every wait honours the
 * current scope: it returns -ECANCELED when the scope is cancelled, -ETIMEDOUT at the scope's
 * deadline or its own, and -ENOMEM when a deadline cannot be set for want of memory; then it has
 * changed nothing. What need not wait succeeds, whatever the scope says.
 *
 * In three forms: f waits, f_until waits until an absolute time (one in the past: does not wait,
 * -ETIMEDOUT), try_f returns -EAGAIN instead of waiting.
 *
 * fini says that the object will not be used any more: it asserts that nobody holds it or waits for
 * it, and returns when the last user has left it, so that the memory can go. Any thread. */
#ifndef FEN_SYNC_H
#define FEN_SYNC_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fen_waitq {
    void *head, *tail;
};

/* ---- mutex ---- */

typedef struct fen_mutex {
    uint32_t lock;
    uint32_t held; /* 0: free; who holds it, and whether somebody waits */
    struct fen_waitq waiters;
} fen_mutex;

/* 0, -ECANCELED, -ETIMEDOUT, -ENOMEM. try_: -EAGAIN. Not recursive: waiting without a deadline for
 * a mutex that one holds oneself is asserted of fibers. Any thread. */
FEN_API int fen_mutex_lock(fen_mutex *m) FEN_MUST_CHECK;
FEN_API int fen_mutex_lock_until(fen_mutex *m, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_mutex_try_lock(fen_mutex *m) FEN_MUST_CHECK;

/* Hands the mutex to the first waiter. Asserts that the calling fiber holds it (a thread: that a
 * thread does). Does not block. */
FEN_API void fen_mutex_unlock(fen_mutex *m);

FEN_API void fen_mutex_fini(fen_mutex *m); /* asserts that it is free */

/* ---- read-write lock ---- */

/* Many readers or one writer, by turns: readers that come while a writer waits are let in after it,
 * all together, and the next writer after them. So a reader waits for one writer at most, a writer
 * for the writers before it and one round of readers each. */
typedef struct fen_rwlock {
    uint32_t lock;
    uint32_t writer; /* 0: none; who holds it */
    uint32_t readers;
    uint32_t word; /* all of it while nobody waits */
    struct fen_waitq read_waiters, write_waiters;
} fen_rwlock;

/* 0, -ECANCELED, -ETIMEDOUT, -ENOMEM. try_: -EAGAIN; a reader does not pass a writer that waits.
 * Who reads must not take it again: it would wait behind a writer that waits for it. Any thread. */
FEN_API int fen_rwlock_read_lock(fen_rwlock *l) FEN_MUST_CHECK;
FEN_API int fen_rwlock_read_lock_until(fen_rwlock *l, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_rwlock_try_read_lock(fen_rwlock *l) FEN_MUST_CHECK;
FEN_API int fen_rwlock_write_lock(fen_rwlock *l) FEN_MUST_CHECK;
FEN_API int fen_rwlock_write_lock_until(fen_rwlock *l, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_rwlock_try_write_lock(fen_rwlock *l) FEN_MUST_CHECK;

/* Asserts that somebody reads, and that the calling fiber writes (a thread: that a thread does).
 * Any thread, does not block. */
FEN_API void fen_rwlock_read_unlock(fen_rwlock *l);
FEN_API void fen_rwlock_write_unlock(fen_rwlock *l);

FEN_API void fen_rwlock_fini(fen_rwlock *l); /* asserts that it is free */

/* ---- condition ---- */

typedef struct fen_cond {
    uint32_t lock, unused;
    struct fen_waitq waiters;
} fen_cond;

/* Unlocks m, which the caller holds (asserted), waits for a signal, and locks m again, whatever the
 * outcome. 0: signalled, or for no reason: look at the condition again. -ECANCELED, -ETIMEDOUT,
 * -ENOMEM; a waiter that returns one of these has taken no signal from another. If the scope has
 * ended already it returns at once, m locked throughout. Locking m again cannot be cancelled.
 * There is no try form: not to wait is not to call. Any thread. */
FEN_API int fen_cond_wait(fen_cond *c, fen_mutex *m) FEN_MUST_CHECK;
FEN_API int fen_cond_wait_until(fen_cond *c, fen_mutex *m, int64_t deadline_ns) FEN_MUST_CHECK;

/* Wakes who has waited longest, or all; nothing if nobody waits. With or without the mutex. Any
 * thread, does not block. */
FEN_API void fen_cond_signal(fen_cond *c);
FEN_API void fen_cond_broadcast(fen_cond *c);

FEN_API void fen_cond_fini(fen_cond *c); /* asserts that nobody waits */

/* ---- semaphore ---- */

typedef struct fen_sem {
    uint32_t lock;
    int64_t permits; /* INT64_MIN: none, and somebody waits */
    struct fen_waitq waiters;
} fen_sem;

/* init gives the first permits (at least 0, asserted); acquire takes one or waits: 0, -ECANCELED,
 * -ETIMEDOUT, -ENOMEM; try_: -EAGAIN; release gives one back, or one more (at most INT64_MAX in
 * all, asserted). Any thread. */
FEN_API void fen_sem_init(fen_sem *s, int64_t permits);
FEN_API int fen_sem_acquire(fen_sem *s) FEN_MUST_CHECK;
FEN_API int fen_sem_acquire_until(fen_sem *s, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_sem_try_acquire(fen_sem *s) FEN_MUST_CHECK;
FEN_API void fen_sem_release(fen_sem *s);
FEN_API void fen_sem_fini(fen_sem *s); /* asserts that nobody waits */

/* ---- wait group ---- */

typedef struct fen_wg {
    uint64_t word; /* the count, and who waits */
    uint32_t lock;
} fen_wg;

/* add and done move the count; wait returns when it is 0, or was since the call: a group may be
 * used again at once. 0, -ECANCELED, -ETIMEDOUT, -ENOMEM; try_: -EAGAIN. Any thread. */
FEN_API void fen_wg_add(fen_wg *w, int64_t n); /* asserts that the count stays in 0..INT32_MAX */
FEN_API void fen_wg_done(fen_wg *w);
FEN_API int fen_wg_wait(fen_wg *w);
FEN_API int fen_wg_wait_until(fen_wg *w, int64_t deadline_ns);
FEN_API int fen_wg_try_wait(fen_wg *w);
FEN_API void fen_wg_fini(fen_wg *w); /* asserts that the count is 0 and nobody waits */

/* ---- once ---- */

typedef struct fen_once {
    uint32_t lock;
    uint32_t done;
    uint32_t runner, unused; /* 0: nobody; which fiber is inside fn */
    struct fen_waitq waiters;
} fen_once;

/* Runs fn(arg) unless a call of it on this object has succeeded (returned >= 0) before; 0 then. Who
 * comes while fn runs waits for it. When fn fails, its caller gets the error and the first waiter
 * tries again, so one caller's cancelled attempt is not everybody's. fn may block; that it calls
 * the same once again is asserted of fibers. The deadline bounds the waiting, not fn. fn's error,
 * -ECANCELED, -ETIMEDOUT, -ENOMEM; try_: -EAGAIN while fn runs elsewhere. Any thread. About 2 ns
 * when done. */
FEN_API int fen_once_do(fen_once *o, int (*fn)(void *arg), void *arg) FEN_MUST_CHECK;
FEN_API int fen_once_do_until(fen_once *o, int (*fn)(void *arg), void *arg,
                              int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_once_try_do(fen_once *o, int (*fn)(void *arg), void *arg) FEN_MUST_CHECK;
FEN_API void fen_once_fini(fen_once *o); /* asserts that nobody is inside */

/* ---- barrier ---- */

typedef struct fen_barrier {
    uint32_t lock;
    uint32_t parties, arrived;
    uint32_t round; /* counts completed rounds */
    struct fen_waitq waiters;
} fen_barrier;

/* For parties fibers and threads at a time (at least 1, asserted); used again round after round. */
FEN_API void fen_barrier_init(fen_barrier *b, uint32_t parties);

/* Waits until parties of them have called it. 1 for the one that came last, 0 for the others;
 * -ECANCELED, -ETIMEDOUT, -ENOMEM: it has taken its arrival back, the others go on waiting for
 * another to come. try_: 1 if it is the last, else -EAGAIN and it has not arrived. Any thread. */
FEN_API int fen_barrier_wait(fen_barrier *b) FEN_MUST_CHECK;
FEN_API int fen_barrier_wait_until(fen_barrier *b, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_barrier_try_wait(fen_barrier *b) FEN_MUST_CHECK;
FEN_API void fen_barrier_fini(fen_barrier *b); /* asserts that nobody waits */

#ifdef __cplusplus
}
#endif
#endif
