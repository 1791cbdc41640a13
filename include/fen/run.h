/* run.h - starting and stopping the runtime. */
#ifndef FEN_RUN_H
#define FEN_RUN_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the end of a stack is protected; AUTO picks the first that works in this order. */
enum fen_guard { FEN_GUARD_AUTO, FEN_GUARD_MADVISE, FEN_GUARD_MPROTECT, FEN_GUARD_CANARY };

/* What happens when every fiber waits and nothing inside fen can wake one: print who waits for
 * what and go on waiting; say nothing; print and abort; print, cancel every fiber and have
 * fen_run return -EDEADLK. */
enum fen_on_deadlock {
    FEN_DEADLOCK_REPORT,
    FEN_DEADLOCK_IGNORE,
    FEN_DEADLOCK_ABORT,
    FEN_DEADLOCK_CANCEL
};

typedef struct fen_config {
    int procs;            /* Ps, i.e. fibers that run at once; 0: FEN_PROCS, else cores */
    enum fen_guard guard; /* FEN_GUARD_AUTO: FEN_STACK_GUARD, else the first that works */
    size_t stack_bytes;   /* default stack of a fiber; 0: 64 KiB */
    uint32_t max_fibers;  /* live fibers allowed; 0: 4,194,304 */
    int max_threads;      /* Ms allowed, hand-off included; 0: 1,000 */
    bool meter_off;       /* no CPU bill; for measuring what the bill costs */
    uint64_t seed;        /* seeds the stealing order; 0: from the clock */
    /* What people look at (docs/debugging.md). FEN_DEBUG=sigquit=0,leaks=1,stacks=1,deadlock=abort
     * in the environment does the same and wins. */
    enum fen_on_deadlock on_deadlock;
    bool sigquit_off;  /* SIGQUIT keeps its old meaning; else it prints every fiber, unless the
                          program has a handler of its own */
    bool report_leaks; /* at the end: detached fibers, channels, timers, descriptors, bytes left */
    bool paint_stacks; /* measures each fiber's deepest use exactly; costs a fill a spawn */
    /* Takes the reports, a few whole lines at a time, on any thread, and may block; NULL: they go
     * to descriptor 2. */
    void (*report)(void *arg, const char *text, size_t n);
    void *report_arg;
} fen_config;

/* Runs fn(arg) in a fiber and blocks the calling thread until it and every fiber of its scope
 * have ended. cfg may be NULL. Returns fn's value; -EBUSY if a runtime runs already in this
 * process; -EINVAL for a value out of range, also in the environment; -EDEADLK after
 * FEN_DEADLOCK_CANCEL did its work; -ENOMEM or -EAGAIN when threads or memory cannot be had. Any
 * thread that is not a worker. Can be called again after it returned. */
FEN_API int fen_run(int (*fn)(void *arg), void *arg, const fen_config *cfg);

/* Number of Ps of the running runtime; 0 when none runs. Any thread. */
FEN_API int fen_procs(void);

/* What the runtime holds now. Exact when the process is quiet, else a snapshot. Any thread. */
typedef struct fen_stats {
    int64_t fibers_live, fibers_spawned;
    int64_t timers_live;
    int64_t fds_live; /* descriptors registered with the poller */
    int64_t stacks_mapped_bytes;
    int64_t heap_live_bytes; /* slabs, arena chunks and buffers in use */
    int64_t steals, overflows, handoffs, handoffs_refused;
    int64_t switches, parks, polls, poll_events, wakeups;
    int64_t threads;   /* Ms alive */
    int64_t run_queue; /* fibers waiting for a P */
} fen_stats;
FEN_API void fen_stats_get(fen_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
