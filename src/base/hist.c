/* hist.c - reading a log-linear histogram. */
#include "base/hist.h"

void fen__hist_merge(struct fen__hist *into, const struct fen__hist *live)
{
    into->sum += __atomic_load_n(&live->sum, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < FEN__HIST_BUCKETS; i++)
        into->count[i] += __atomic_load_n(&live->count[i], __ATOMIC_RELAXED);
}

int64_t fen__hist_count(const struct fen__hist *h)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < FEN__HIST_BUCKETS; i++)
        n += h->count[i];
    return n;
}

int64_t fen__hist_count_le(const struct fen__hist *h, int64_t bound)
{
    int64_t n = 0;
    uint32_t last = fen__hist_index(bound);
    fen_dassert(fen__hist_upper(last) == bound || last == FEN__HIST_BUCKETS - 1);
    for (uint32_t i = 0; i <= last; i++)
        n += h->count[i];
    return n;
}

int64_t fen__hist_quantile(const struct fen__hist *h, double q)
{
    int64_t n = fen__hist_count(h);
    if (n == 0)
        return 0;
    double rank = (q < 0 ? 0 : q > 1 ? 1 : q) * (double)n;
    int64_t before = 0;
    for (uint32_t i = 0; i < FEN__HIST_BUCKETS; i++) {
        int64_t in = h->count[i];
        if (in && (double)(before + in) >= rank) {
            int64_t upper = fen__hist_upper(i), lower = i ? fen__hist_upper(i - 1) : 0;
            double part = (rank - (double)before) / (double)in;
            return lower + (int64_t)((double)(upper - lower) * (part < 0 ? 0 : part) + 0.5);
        }
        before += in;
    }
    return fen__hist_upper(FEN__HIST_BUCKETS - 1);
}
