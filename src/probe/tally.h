/* tally.h - counters that one worker writes and anybody may read.
 *
 * One writer per field: the M that holds the block. Readers sum over all Ms with relaxed loads;
 * each value is whole and only grows (signed ones apart), so a sum is a snapshot that lags by at
 * most the additions in flight. No lock, no formatting, no policy.
 *
 * An M registers its block before it counts and unregisters it after its last count; what it
 * counted then lives on in one block of the dead (registry.c), so no work vanishes with a
 * thread. */
#ifndef FEN_PROBE_TALLY_H
#define FEN_PROBE_TALLY_H

#include "base/base.h"

typedef _Atomic int64_t fen__count;

/* Adds to a counter that only the calling thread writes. */
#define fen__count_add(c, v)                                                                       \
    __atomic_store_n((int64_t *)(c), __atomic_load_n((int64_t *)(c), __ATOMIC_RELAXED) + (v),      \
                     __ATOMIC_RELAXED)
#define fen__count_read(c) __atomic_load_n((const int64_t *)(c), __ATOMIC_RELAXED)

/* What one piece of work used, before it is settled; TSC ticks, not nanoseconds. The product of
 * bytes and ticks is wide: 4 GB held for one second is past 63 bits. */
struct fen__usage_ticks {
    int64_t cpu_ticks, wait_ticks;
    int64_t arena_bytes;
    __int128 arena_byte_ticks;
    int64_t in_bytes, out_bytes;
};

#define FEN__MIB_SHIFT 20

/* Resources of one account (tenant x operation) on one worker; TSC ticks, not nanoseconds.
 * byte-ticks = (arena_mib_ticks << 20) + arena_rest, 0 <= arena_rest < 1 << 20. */
struct fen__row {
    int64_t requests, errors;
    int64_t cpu_ticks, wait_ticks;
    int64_t arena_bytes;
    int64_t arena_mib_ticks, arena_rest;
    int64_t in_bytes, out_bytes;
};

#define FEN__ROW_CHUNK 64     /* rows are allocated 64 at a time, on first use */
#define FEN__ROWS_MAX 4096    /* accounts known at once */
#define FEN__TALLIES_MAX 2048 /* registered at once */

struct fen__tally {
    /* CPU of the thread, in TSC ticks, split without remainder by the charge protocol. */
    int64_t fiber_ticks;        /* charged to fibers */
    int64_t runtime_ticks;      /* scheduler, poller, timers, idle entry and exit */
    int64_t unattributed_ticks; /* signed: what reconciliation could not place */
    int64_t clock_reads;
    /* scheduler */
    int64_t switches, parks, spawns, exits, steals, overflows;
    int64_t ended; /* fibers whose function has returned; each becomes an exit a little later */
    int64_t polls, poll_events, wakeups;
    int64_t files_direct, files_ring, files_pool;
    int64_t timers_added, timers_removed;
    int64_t handlers;     /* signed: handlers entered here minus left here; the sum over all
                                   workers is the number that run now */
    int64_t rows_refused; /* settled to account 0 for want of memory for a chunk */
    struct fen__row *rows[FEN__ROWS_MAX / FEN__ROW_CHUNK]; /* [0] is there while registered */
};

/* Makes a zeroed block of the caller's known to readers. 0, -ENOMEM, or FEN_ELIMIT when
 * FEN__TALLIES_MAX are registered. Any thread, no lock. */
int fen__tally_register(struct fen__tally *t) FEN_MUST_CHECK;

/* Folds the numbers of a registered block, which nobody writes any more, into those of the dead and
 * forgets it: its memory is the caller's again. Waits for readers (fen__tally_each). */
void fen__tally_unregister(struct fen__tally *t);

/* Calls fn once for every registered block and once for the dead. Readers exclude each other and
 * unregistration, nobody else; fn must neither block nor park. Any thread. */
void fen__tally_each(void (*fn)(const struct fen__tally *t, void *arg), void *arg);

struct fen__row *fen__tally_row_slow(struct fen__tally *t, uint32_t account);

/* The row of an account < FEN__ROWS_MAX in a registered block, never NULL: without memory for its
 * chunk it is the row of account 0, so that the work stays in the total. Only the block's worker
 * may call and write. */
static inline struct fen__row *fen__tally_row(struct fen__tally *t, uint32_t account)
{
    fen_dassert(account < FEN__ROWS_MAX);
    struct fen__row *c = __atomic_load_n(&t->rows[account / FEN__ROW_CHUNK], __ATOMIC_RELAXED);
    return FEN__LIKELY(c != NULL) ? c + account % FEN__ROW_CHUNK : fen__tally_row_slow(t, account);
}

/* A reader's chunk of rows, or NULL when this worker never used it. Any thread. */
static inline const struct fen__row *fen__tally_chunk(const struct fen__tally *t, uint32_t chunk)
{
    /* pairs with the release store in fen__tally_row_slow: the zeroes are seen before the
     * pointer */
    return __atomic_load_n(&t->rows[chunk], __ATOMIC_ACQUIRE);
}

#endif
