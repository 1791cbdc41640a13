/* tally.h - counters that one worker writes and anybody may read.
 *
 * One writer per field: the M that owns the block. Readers sum over all Ms with relaxed loads; each
 * value is whole and only grows (signed ones apart), so a sum is a snapshot that lags by at most
 * the additions in flight. No lock, no formatting, no policy. */
#ifndef FEN_PROBE_TALLY_H
#define FEN_PROBE_TALLY_H

#include <stdint.h>

typedef _Atomic int64_t fen__count;

/* Adds to a counter that only the calling thread writes. */
#define fen__count_add(c, v)                                                                       \
    __atomic_store_n((int64_t *)(c), __atomic_load_n((int64_t *)(c), __ATOMIC_RELAXED) + (v),      \
                     __ATOMIC_RELAXED)
#define fen__count_read(c) __atomic_load_n((const int64_t *)(c), __ATOMIC_RELAXED)

/* Resources of one account (tenant x operation) on one worker; TSC ticks, not nanoseconds. */
struct fen__row {
    int64_t requests, errors;
    int64_t cpu_ticks, wait_ticks;
    int64_t arena_bytes, arena_byte_ticks;
    int64_t in_bytes, out_bytes;
};

#define FEN__ROW_CHUNK 64   /* rows are allocated 64 at a time, on first use */
#define FEN__ROWS_MAX 4096  /* accounts known at once */

struct fen__tally {
    /* CPU of the thread, in TSC ticks, split without remainder by the charge protocol. */
    int64_t fiber_ticks;        /* charged to fibers */
    int64_t runtime_ticks;      /* scheduler, poller, timers, idle entry and exit */
    int64_t unattributed_ticks; /* signed: what reconciliation could not place */
    int64_t clock_reads;
    /* scheduler */
    int64_t switches, parks, spawns, exits, steals, overflows;
    int64_t polls, poll_events, wakeups;
    int64_t timers_added, timers_removed;
    struct fen__row *rows[FEN__ROWS_MAX / FEN__ROW_CHUNK];
};

#endif
