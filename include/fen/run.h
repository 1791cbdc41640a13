/* run.h - starting and stopping the runtime. */
#ifndef FEN_RUN_H
#define FEN_RUN_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the end of a stack is protected; AUTO picks the first that works in this order. */
enum fen_guard { FEN_GUARD_AUTO, FEN_GUARD_MADVISE, FEN_GUARD_MPROTECT, FEN_GUARD_CANARY };

#define FEN_FRAMES_MAX 32

/* Who stalls the others. */
enum fen_event_kind {
    FEN_EVENT_HOG,      /* a fiber computes without a call to fen; its P went to another thread */
    FEN_EVENT_BLOCKED,  /* it sleeps in the kernel outside fen_blocking_begin: the same */
    FEN_EVENT_NO_THREAD /* no thread to hand a P to: others stall. Names nobody */
};

/* What fen_config.log is told; valid during the call. */
typedef struct fen_event {
    enum fen_event_kind kind;
    uint64_t fiber;            /* its number, see fen_fiber_id */
    const char *name;          /* its name, at most 63 bytes; "" when it has none */
    const void *entry;         /* the function that it was started with */
    int64_t stuck_ns;          /* for how long it had made no call */
    const void *const *frames; /* code addresses, innermost first; addr2line names them. Code
                                * without frame pointers may be left out */
    int n_frames;              /* 0: not known; for FEN_EVENT_BLOCKED at most one */
    int64_t suppressed;        /* events of this kind not told since the last one */
} fen_event;

/* What happens when every fiber waits and nothing inside fen can wake one: print who waits for
 * what and go on waiting; say nothing; print and abort; print, cancel every fiber and have
 * fen_run return -EDEADLK. */
enum fen_on_deadlock {
    FEN_DEADLOCK_REPORT,
    FEN_DEADLOCK_IGNORE,
    FEN_DEADLOCK_ABORT,
    FEN_DEADLOCK_CANCEL
};

/* How calls on files are made (fen/file.h, docs/io.md). AUTO: a read of what is cached at once,
 * other reads and writes that bypass the cache by io_uring where the kernel has it, the rest on the
 * pool of threads. RING: all that io_uring can do; where it is absent, the pool. POOL: all on the
 * pool. */
enum fen_files { FEN_FILES_AUTO, FEN_FILES_RING, FEN_FILES_POOL };

/* How a runtime is set up; zeros are the usual. */
typedef struct fen_config {
    int procs;            /* Ps, i.e. fibers that run at once; 0: FEN_PROCS, else the smaller
                           * of the cores we may use and the cgroup's quota, rounded up */
    enum fen_guard guard; /* FEN_GUARD_AUTO: FEN_STACK_GUARD, else the first that works */
    size_t stack_bytes;   /* default stack of a fiber; 0: 64 KiB */
    uint32_t max_fibers;  /* live fibers allowed, the first one included; 0: 4,194,304. Workers
                           * that spawn at the same moment may pass it by one each */
    int max_threads;      /* Ms allowed, hand-off included; 0: 1,000 */
    int max_blocking;     /* threads for fen_blocking and files, 1 to 1,024; 0: 64 */
    enum fen_files files; /* FEN_FILES_AUTO: FEN_FILES=auto, ring or pool, else as said there */
    bool meter_off;       /* no CPU bill; for measuring what the bill costs */
    uint64_t seed;        /* of what stealing and fen_select choose; 0: from the clock */
    /* Told of fibers that stall others, at most once a second for each kind; NULL: nobody is.
     * Called on a thread of fen's that must not be kept: it may not block, and of fen only what any
     * thread may call without waiting. For the frames a handler for SIGURG is installed, unless the
     * program has one, and a fiber that computes may see one interrupted system call. */
    void (*log)(const fen_event *e, void *arg);
    void *log_arg;
    /* When free memory goes back, and how much there may be (fen/pace.h, docs/memory.md). */
    int mem_percent;           /* FEN_MEM_OFF: off; 0: FEN_MEM_PERCENT, else the profile's */
    int64_t mem_limit_bytes;   /* FEN_MEM_AUTO; FEN_MEM_OFF: none; 0: FEN_MEMLIMIT, else the
                                profile's */
    const char *mem_profile;   /* NULL: FEN_MEM_PROFILE, else "balanced" */
    int64_t heap_profile_rate; /* bytes between samples; FEN_PROFILE_OFF; 0: FEN_HEAP_PROFILE_RATE,
                                  else what was set before, else 512 KiB (fen/profile.h) */
    bool trace_memory;         /* a line for each reclaim, as FEN_DEBUG=memtrace=1 */
    /* What people look at (docs/debugging.md). FEN_DEBUG=sigquit=0,leaks=1,stacks=1,
     * hibernate=1,deadlock=abort,memtrace=1 in the environment does the same and wins; memcheck=1,
     * which it also takes, has no field here but a call: fen_mem_check (fen/mem.h). */
    enum fen_on_deadlock on_deadlock;
    bool sigquit_off;  /* SIGQUIT keeps its old meaning; else it prints every fiber, unless the
                          program has a handler of its own */
    bool report_leaks; /* at the end: detached fibers and, with the places that made them, channels
                          (those of timers too) and pools; the numbers of descriptors and bytes */
    bool paint_stacks; /* measures each fiber's deepest use exactly; costs a fill a spawn */
    bool watch_hibernating; /* stacks of hibernating fibers stay, but whoever touches one faults
                               and is named (fen_scope_hibernate) */
    /* Takes the reports, a few whole lines at a time, on any thread, and may block; NULL: they go
     * to descriptor 2. */
    void (*report)(void *arg, const char *text, size_t n);
    void *report_arg;
    /* A test mode (docs/simulation.md): not 0, and the run is simulated on one thread and one P,
     * whatever procs says. The number fixes which fiber runs next, where fibers are interrupted,
     * the time (fen_now stands still while anybody can run), and which calls fail, so that the same
     * number repeats the same run. 0: FEN_SIM_SEED from the environment, else a real run. */
    uint64_t sim_seed;
    uint32_t sim_faults; /* of a simulated run: about one in so many allocations and system calls
                          * of fen fails; 0: FEN_SIM_FAULTS, else none */
} fen_config;

/* Runs fn(arg) in a fiber and blocks the calling thread until it and every fiber of its scope have
 * ended. cfg may be NULL. Returns fn's value; -EBUSY if a runtime runs already in this process;
 * -EINVAL for a value out of range, and for a variable of the environment, which a line on fd 2
 * names; -EDEADLK after FEN_DEADLOCK_CANCEL did its work; -ENOMEM or -EAGAIN when threads or memory
 * cannot be had; FEN_EFORKED in a child forked from a running runtime. Any thread that is not a
 * worker. Can be called again when it returned. */
FEN_API int fen_run(int (*fn)(void *arg), void *arg, const fen_config *cfg);

/* Turns the bill off and on again while the runtime runs, which is how its cost is measured: one
 * process, one layout of its memory, moments with the bill against moments without. A worker
 * follows at one of its next 61 switches or when it wakes. While it is off no slice is timed and no
 * request is booked; the CPU used then is in no account and shows as the books' residual. Begins as
 * fen_config.meter_off says at each fen_run. Any thread; does not block. */
FEN_API void fen_meter_switch(bool on);

/* Number of Ps of the running runtime; 0 when none runs. Any thread. */
FEN_API int fen_procs(void);

/* Changes that number while the runtime runs: 1 to 256, not above fen_config.max_threads. Does not
 * wait: new Ps get a thread within milliseconds; one that is too many hands its fibers, timers and
 * descriptors to the others at its next scheduling point, a fiber that computes keeps it until the
 * hand-off takes it away. 0; -EINVAL; -EMFILE or -ENOMEM (nothing has changed); FEN_ECLOSED: no
 * runtime runs, it is about to end, or it is simulated. Any thread. */
FEN_API int fen_procs_set(int n) FEN_MUST_CHECK;

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
    int64_t fibers_hibernating;
    /* Calls on files, by where they ended: at once, on the ring, on the pool. */
    int64_t files_direct, files_ring, files_pool;
    int64_t file_ring; /* 1: a ring is open. Opened by the first call that needs one */
} fen_stats;

/* Reads them into *ret_stats. Any thread, also when no runtime runs; does not block. */
FEN_API void fen_stats_get(fen_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
