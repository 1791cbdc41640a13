/* histogram.c - log-linear histogram.
 *
 * Values below 256 have a bucket each. Above, each power of two is cut into 128 equal buckets, so
 * that a bucket is never wider than 1/128 of its lower end, and its middle is off by at most 0.4 %.
 *
 * Invariants: count = sum of bucket[]; the bucket of min is the first that is not empty.
 *
 * The sum is kept in two halves: an hour in ns times 2.5 million requests fills 63 bits.
 *
 * Rejected: a growing range as in HdrHistogram (needs a heap), and a sketch with relative-error
 * guarantees by logarithm (a log per value; this is a count-leading-zeros). */
#include "base/base.h"

#include <assert.h>
#include <fen/hist.h>

#define SUB (1 << FEN_HIST_SUB_BITS)
#define SUM_BASE (INT64_C(1) << 62)

static_assert(sizeof(fen_hist) <= 64 * 1024, "the stated bound");

static int bucket_of(int64_t v)
{
    if (v < 2 * SUB)
        return (int)v;
    if (v >= INT64_C(1) << FEN_HIST_TOP_BIT)
        return FEN_HIST_BUCKETS - 1;
    int shift = 63 - __builtin_clzll((unsigned long long)v) - FEN_HIST_SUB_BITS;
    return shift * SUB + (int)(v >> shift);
}

static void bounds(int b, int64_t *ret_low, int64_t *ret_high)
{
    int shift = b < 2 * SUB ? 0 : b / SUB - 1;
    int64_t top = b - shift * SUB;
    *ret_low = top << shift;
    *ret_high = (top + 1) << shift;
}

static void sum_add(fen_hist *h, int64_t hi, int64_t lo)
{
    h->sum_lo += lo; /* both below 2^62: no overflow */
    h->sum_hi += hi + h->sum_lo / SUM_BASE;
    h->sum_lo %= SUM_BASE;
}

void fen_hist_init(fen_hist *h) { *h = (fen_hist){.min = INT64_MAX}; }

void fen_hist_record(fen_hist *h, int64_t ns) { fen_hist_record_many(h, ns, 1); }

void fen_hist_record_many(fen_hist *h, int64_t ns, int64_t times)
{
    if (times <= 0)
        return;
    if (ns < 0)
        ns = 0;
    h->bucket[bucket_of(ns)] += times;
    h->count += times;
    if (ns < h->min)
        h->min = ns;
    if (ns > h->max)
        h->max = ns;
    unsigned __int128 sum = (unsigned __int128)ns * (unsigned __int128)times;
    sum_add(h, (int64_t)(sum / SUM_BASE), (int64_t)(sum % SUM_BASE));
}

void fen_hist_merge(fen_hist *h, const fen_hist *from)
{
    for (int b = 0; b < FEN_HIST_BUCKETS; b++)
        h->bucket[b] += from->bucket[b];
    h->count += from->count;
    h->min = fen__min_i64(h->min, from->min);
    h->max = fen__max_i64(h->max, from->max);
    sum_add(h, from->sum_hi, from->sum_lo);
}

int64_t fen_hist_quantile(const fen_hist *h, double q)
{
    if (!h->count)
        return 0;
    if (!(q > 0))
        return h->min;
    if (q >= 1)
        return h->max;
    double want = q * (double)h->count;
    int64_t rank = (int64_t)want;
    rank += (double)rank < want;
    int64_t seen = 0;
    int b = 0;
    for (; b < FEN_HIST_BUCKETS - 1; b++) {
        seen += h->bucket[b];
        if (seen >= rank)
            break;
    }
    int64_t low, high;
    bounds(b, &low, &high);
    return fen__max_i64(h->min, fen__min_i64(h->max, low + (high - 1 - low) / 2));
}

double fen_hist_mean(const fen_hist *h)
{
    if (!h->count)
        return 0;
    return ((double)h->sum_hi * (double)SUM_BASE + (double)h->sum_lo) / (double)h->count;
}

bool fen_hist_next(const fen_hist *h, int *cursor, int64_t *ret_low, int64_t *ret_high,
                   int64_t *ret_count)
{
    while (*cursor < FEN_HIST_BUCKETS) {
        int b = (*cursor)++;
        if (!h->bucket[b])
            continue;
        bounds(b, ret_low, ret_high);
        *ret_count = h->bucket[b];
        return true;
    }
    return false;
}
