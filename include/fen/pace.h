/* pace.h - when the heap gives memory back to the system, and what happens when memory is short.
 *
 * While fen_run runs, free pages wait to be used again, and a thread of fen's, the reclaimer, gives
 * them back in slices of bounded length: when the heap has grown by `percent` of what was live
 * after the last reclaim, when free pages have waited for a second, and when the process comes near
 * its limit. fen_run sets percent, limit and profile from configuration and environment; what is
 * here changes them while it runs. All of this may be called by any thread and does not block.
 * docs/memory.md says what to choose. */
#ifndef FEN_PACE_H
#define FEN_PACE_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_MEM_OFF (-1) /* as a percentage: no reclaim but by hand and near the limit */
#define FEN_MEM_PERCENT_MAX 10000
#define FEN_MEM_LIMIT_MIN ((int64_t)1 << 20)
#define FEN_MEM_AUTO (-2) /* as a limit: 90 % of the cgroup's; none where it has none */

/* The next reclaim is due at live x (1 + percent / 100): 1 to FEN_MEM_PERCENT_MAX, or FEN_MEM_OFF.
 * Less memory for more work, or the other way round; 100 without it. 0 or -EINVAL. */
FEN_API int fen_mem_percent_set(int percent) FEN_MUST_CHECK;

/* How much memory of its own the process may hold, in bytes from FEN_MEM_LIMIT_MIN on; 0: no limit;
 * FEN_MEM_AUTO. Near it, everything that is free goes back and the HTTP server refuses requests
 * (fen_mem_pressure); at it, fen_alloc returns NULL for what needs new pages. A soft limit: stacks
 * and other libraries' memory count, but are not refused. 0 or -EINVAL. */
FEN_API int fen_mem_limit_set(int64_t bytes) FEN_MUST_CHECK;

/* How long a slice of a reclaim should take at most: 10 us to 10 ms. 0 or -EINVAL. */
FEN_API int fen_mem_slice_set(int64_t budget_ns) FEN_MUST_CHECK;

/* Several of these by one name: "balanced" (100 %, 100 us, no limit), "latency" (200 %, 40 us, no
 * limit), "container" (50 %, 100 us, FEN_MEM_AUTO). 0; -EINVAL for another name. */
FEN_API int fen_mem_profile_set(const char *name) FEN_MUST_CHECK;

/* What the environment's variables accept. Percent: a whole number or "off". Limit: a whole number
 * with B, KiB, MiB, GiB or TiB behind it, "auto" or "off" (0); not "1G", which could be either of
 * two sizes. 0 or -EINVAL. */
FEN_API int fen_mem_percent_parse(const char *text, int *ret_percent) FEN_MUST_CHECK;
FEN_API int fen_mem_limit_parse(const char *text, int64_t *ret_bytes) FEN_MUST_CHECK;

/* How near the limit is. */
enum fen_mem_level {
    FEN_MEM_EASY,  /* no limit, or below 80 % of it */
    FEN_MEM_TIGHT, /* what is free goes back at once */
    FEN_MEM_SHORT  /* from 88 % on: new work should be refused, and the HTTP server does */
};
/* How near it is now: a load of one word. */
FEN_API enum fen_mem_level fen_mem_pressure(void);

typedef struct fen_mem_pace {
    int percent;         /* FEN_MEM_OFF: off */
    int64_t slice_ns;    /* the budget */
    int64_t limit_bytes; /* 0: none */
    enum fen_mem_level level;
    int64_t
        own_bytes; /* memory of the process's own when it was last looked at; 0 without a limit */
    int64_t live_bytes; /* after the last reclaim */
    int64_t goal_bytes; /* the heap's pages at which the next one is due; 0: off */
    int64_t cycles, goal_cycles, idle_cycles, limit_cycles, asked_cycles; /* by their cause */
    int64_t returned_bytes; /* given back to the system, by whomever */
    int64_t refused;        /* allocations that the limit forbade */
    int64_t slices, slice_p50_ns, slice_p95_ns, slice_p99_ns, slice_max_ns;
    int64_t cpu_ns; /* of the reclaimer, in this run */
} fen_mem_pace;

/* Since the process began, unless it says otherwise. */
FEN_API void fen_mem_pace_get(fen_mem_pace *ret_pace);

#ifdef __cplusplus
}
#endif
#endif
