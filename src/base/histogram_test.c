/* histogram_test.c - the histogram against sorted arrays and exact sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include <fen/hist.h>

static fen_hist h, other;

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void assert_near(int64_t got, int64_t want)
{
    int64_t off = got > want ? got - want : want - got;
    if (off * 100 > want)
        fail_msg("%lld is more than 1 %% from %lld", (long long)got, (long long)want);
}

static void test_quantiles_match_a_sorted_array(void **state)
{
    (void)state;
    enum { N = 20000 };
    static int64_t v[N];
    uint64_t rng = 42;
    fen_hist_init(&h);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        int octave = (int)(fen__rand(&rng) % 41);
        v[i] = (int64_t)(fen__rand(&rng) & ((UINT64_C(2) << octave) - 1));
        fen_hist_record(&h, v[i]);
        sum += (double)v[i];
    }
    qsort(v, N, sizeof v[0], by_value);
    static const double qs[] = {0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999};
    for (size_t i = 0; i < FEN__COUNT(qs); i++)
        assert_near(fen_hist_quantile(&h, qs[i]), v[(int)(qs[i] * N + 0.5) - 1]);
    assert_int_equal(fen_hist_quantile(&h, 0), v[0]);
    assert_int_equal(fen_hist_quantile(&h, 1), v[N - 1]);
    assert_near((int64_t)fen_hist_mean(&h), (int64_t)(sum / N));
}

static void test_every_bucket_holds_its_bounds(void **state)
{
    (void)state;
    fen_hist_init(&h);
    for (int64_t v = 0; v < INT64_C(1) << 42; v += v / 300 + 1)
        fen_hist_record(&h, v);
    int cursor = 0;
    int64_t low, high, n, last = 0, total = 0, buckets = 0;
    while (fen_hist_next(&h, &cursor, &low, &high, &n)) {
        assert_int_equal(low, last); /* no gaps, no overlap */
        assert_true((high - low) * 128 <= low || high - low == 1);
        last = high;
        total += n;
        buckets++;
    }
    assert_int_equal(last, INT64_C(1) << 42);
    assert_int_equal(total, h.count);
    assert_int_equal(buckets, FEN_HIST_BUCKETS);
}

static void test_merge_equals_recording_together(void **state)
{
    (void)state;
    static fen_hist both;
    fen_hist_init(&h);
    fen_hist_init(&other);
    fen_hist_init(&both);
    uint64_t rng = 7;
    for (int i = 0; i < 5000; i++) {
        int64_t v = (int64_t)(fen__rand(&rng) % 10000000);
        fen_hist_record(i % 3 ? &h : &other, v);
        fen_hist_record(&both, v);
    }
    fen_hist_merge(&h, &other);
    assert_memory_equal(&h, &both, sizeof h);
}

static void test_empty_negative_and_huge(void **state)
{
    (void)state;
    fen_hist_init(&h);
    int cursor = 0;
    int64_t low, high, n;
    assert_int_equal(fen_hist_quantile(&h, 0.5), 0);
    assert_true(fen_hist_mean(&h) == 0);
    assert_false(fen_hist_next(&h, &cursor, &low, &high, &n));
    fen_hist_record(&h, -5);
    assert_int_equal(fen_hist_quantile(&h, 0.5), 0);
    fen_hist_record(&h, INT64_MAX);
    assert_int_equal(h.count, 2);
    assert_int_equal(h.max, INT64_MAX);
    assert_int_equal(h.bucket[FEN_HIST_BUCKETS - 1], 1);
}

static void test_sum_survives_many_hours(void **state)
{
    (void)state;
    fen_hist_init(&h);
    fen_hist_init(&other);
    fen_hist_record_many(&h, 3600 * FEN_S, INT64_C(1000000000000));
    fen_hist_merge(&other, &h);
    fen_hist_merge(&other, &h);
    assert_true(fen_hist_mean(&other) > 3599.999e9 && fen_hist_mean(&other) < 3600.001e9);
    assert_int_equal(other.count, INT64_C(2000000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_match_a_sorted_array),
        cmocka_unit_test(test_every_bucket_holds_its_bounds),
        cmocka_unit_test(test_merge_equals_recording_together),
        cmocka_unit_test(test_empty_negative_and_huge),
        cmocka_unit_test(test_sum_survives_many_hours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
