/* hist.h - a log-linear histogram of int64_t values >= 0 that many threads may record into.
 *
 * Each power of two is cut into 16 equal buckets, so a bucket is at most 1/16 of its lower edge
 * wide and a quantile is within 6.25 % (values below 16 are exact). A bucket holds
 * (lower, upper]: upper edges are inclusive, as in an exposition's "le", and every power of two is
 * an edge, so cumulative counts at powers of two are exact.
 *
 * Recording is two relaxed additions. A reader that runs meanwhile may see the one without the
 * other: `sum` may be ahead of or behind the counts by the records in flight, and the count is
 * always taken from the buckets, so buckets and count agree by construction. */
#ifndef FEN_BASE_HIST_H
#define FEN_BASE_HIST_H

#include "base/base.h"

#define FEN__HIST_SUB_BITS 4
#define FEN__HIST_MAX_BITS 42 /* 2^42 ns is 73 minutes; larger values count in the last bucket */
#define FEN__HIST_BUCKETS                                                                          \
    (((FEN__HIST_MAX_BITS - FEN__HIST_SUB_BITS + 1) << FEN__HIST_SUB_BITS) + 1)

struct fen__hist {
    int64_t sum;
    int64_t count[FEN__HIST_BUCKETS];
};

/* Bucket 0 is {0} and less; bucket i >= 1 is what ends at fen__hist_upper(i). */
static inline uint32_t fen__hist_index(int64_t v)
{
    if (v <= 0)
        return 0;
    uint64_t u = (uint64_t)v - 1;
    if (u < 1u << FEN__HIST_SUB_BITS)
        return (uint32_t)u + 1;
    if (u >> FEN__HIST_MAX_BITS)
        return FEN__HIST_BUCKETS - 1;
    uint32_t top = 63 - (uint32_t)__builtin_clzll(u);
    uint32_t shift = top - FEN__HIST_SUB_BITS;
    return (shift << FEN__HIST_SUB_BITS) + (uint32_t)(u >> shift) + 1;
}

/* The largest value in a bucket. */
static inline int64_t fen__hist_upper(uint32_t i)
{
    if (i <= 2u << FEN__HIST_SUB_BITS)
        return i;
    uint32_t shift = ((i - 1) >> FEN__HIST_SUB_BITS) - 1;
    uint64_t sub = ((i - 1) & ((1u << FEN__HIST_SUB_BITS) - 1)) + (1u << FEN__HIST_SUB_BITS);
    return (int64_t)((sub + 1) << shift);
}

/* Any thread. */
static inline void fen__hist_record(struct fen__hist *h, int64_t v)
{
    __atomic_fetch_add(&h->count[fen__hist_index(v)], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&h->sum, v, __ATOMIC_RELAXED);
}

/* Adds a live histogram to a private one. */
void fen__hist_merge(struct fen__hist *into, const struct fen__hist *live);

/* Of a private histogram: how many values; how many are <= the upper edge `bound` (which must be an
 * edge, for instance a power of two); the q-quantile (0 <= q <= 1) in [lower, upper] of the
 * bucket that holds it, linear inside the bucket; 0 without values. */
int64_t fen__hist_count(const struct fen__hist *h);
int64_t fen__hist_count_le(const struct fen__hist *h, int64_t bound);
int64_t fen__hist_quantile(const struct fen__hist *h, double q);

#endif
