/* hist.h - a histogram of durations: fixed memory, any value within 0.4 % from 0 ns to an hour.
 *
 * Nothing here blocks or takes memory. Any thread, one owner of a histogram at a time. */
#ifndef FEN_HIST_H
#define FEN_HIST_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_HIST_SUB_BITS 7 /* 128 buckets to each power of two: a bucket is at most 0.79 % wide */
#define FEN_HIST_TOP_BIT 42 /* values from 2^42 ns (73 minutes) count in the last bucket */
#define FEN_HIST_BUCKETS                                                                           \
    ((1 << (FEN_HIST_SUB_BITS + 1)) +                                                              \
     (FEN_HIST_TOP_BIT - FEN_HIST_SUB_BITS - 1) * (1 << FEN_HIST_SUB_BITS))

/* About 37 KiB, in the caller's memory; all fields are readable, only the functions below write.
 * count = the sum of bucket[]; min and max are exact; min is INT64_MAX while count is 0. Not
 * thread-safe: one writer each, then merge. */
typedef struct fen_hist {
    int64_t count;
    int64_t min, max;
    int64_t sum_hi, sum_lo; /* sum = sum_hi * 2^62 + sum_lo, exact, 0 <= sum_lo < 2^62 */
    int64_t bucket[FEN_HIST_BUCKETS];
} fen_hist;

/* An empty histogram. */
FEN_API void fen_hist_init(fen_hist *h);

/* Adds one value in ns; a negative value counts as 0, a longer one than an hour in the last bucket
 * (max stays exact). Any thread, does not block, signal-safe. */
FEN_API void fen_hist_record(fen_hist *h, int64_t ns);

/* Adds the same value times times; times <= 0 does nothing. */
FEN_API void fen_hist_record_many(fen_hist *h, int64_t ns, int64_t times);

/* Adds all of from to h. */
FEN_API void fen_hist_merge(fen_hist *h, const fen_hist *from);

/* The smallest value that at least q of all values do not exceed: q from 0 to 1, clamped. The
 * middle of its bucket, within 0.4 %, never outside [min, max]; 0 while empty. */
FEN_API int64_t fen_hist_quantile(const fen_hist *h, double q);

/* The mean, exact up to double rounding; 0 while empty. */
FEN_API double fen_hist_mean(const fen_hist *h);

/* Walks the non-empty buckets in rising order. Start with *cursor = 0; returns false at the end.
 * A bucket holds the values ret_low <= v < ret_high. */
FEN_API bool fen_hist_next(const fen_hist *h, int *cursor, int64_t *ret_low, int64_t *ret_high,
                           int64_t *ret_count);

#ifdef __cplusplus
}
#endif
#endif
