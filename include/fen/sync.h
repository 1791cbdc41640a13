/* sync.h - mutex, semaphore and wait group for fibers. Each is the caller's memory; all zeros is a
 * valid, free state (a semaphore has no permits). Waiters are served first come, first served. */
#ifndef FEN_SYNC_H
#define FEN_SYNC_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fen_waitq {
    void *head, *tail;
};

typedef struct fen_mutex {
    uint32_t lock;
    uint32_t held;
    struct fen_waitq waiters;
    uint64_t owner; /* number of the fiber that has it, 0: none or a thread; for reports */
} fen_mutex;

/* 0, -ECANCELED, -ETIMEDOUT. try_: -EAGAIN. Fibers only. Not recursive. */
FEN_API int fen_mutex_lock(fen_mutex *m) FEN_MUST_CHECK;
FEN_API int fen_mutex_lock_until(fen_mutex *m, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_mutex_try_lock(fen_mutex *m) FEN_MUST_CHECK;
FEN_API void fen_mutex_unlock(fen_mutex *m); /* asserts that it is held */

typedef struct fen_sem {
    uint32_t lock;
    int64_t permits;
    struct fen_waitq waiters;
} fen_sem;

/* init gives the first permits; acquire takes one or waits: 0, -ECANCELED, -ETIMEDOUT; try_:
 * -EAGAIN; release gives one back, from any thread. The others: fibers only. */
FEN_API void fen_sem_init(fen_sem *s, int64_t permits);
FEN_API int fen_sem_acquire(fen_sem *s) FEN_MUST_CHECK;
FEN_API int fen_sem_acquire_until(fen_sem *s, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_sem_try_acquire(fen_sem *s) FEN_MUST_CHECK;
FEN_API void fen_sem_release(fen_sem *s);

typedef struct fen_wg {
    uint32_t lock;
    int64_t count;
    struct fen_waitq waiters;
} fen_wg;

/* add and done move the count, from any thread; wait returns when it is 0. */
FEN_API void fen_wg_add(fen_wg *w, int64_t n); /* asserts that the count stays >= 0 */
FEN_API void fen_wg_done(fen_wg *w);           /* any thread */
FEN_API int fen_wg_wait(fen_wg *w);            /* 0, -ECANCELED, -ETIMEDOUT */
FEN_API int fen_wg_wait_until(fen_wg *w, int64_t deadline_ns);

#ifdef __cplusplus
}
#endif
#endif
