/* hist_test.c - bucket edges and quantiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hist.h"

#include <string.h>

static void every_bucket_ends_where_the_next_begins(void **state)
{
    (void)state;
    for (uint32_t i = 0; i + 1 < FEN__HIST_BUCKETS; i++) {
        int64_t upper = fen__hist_upper(i);
        assert_int_equal(fen__hist_index(upper), i);
        assert_int_equal(fen__hist_index(upper + 1), i + 1);
        if (i > 16)
            assert_true(upper - fen__hist_upper(i - 1) <= fen__hist_upper(i - 1) / 16 + 1);
    }
    assert_int_equal(fen__hist_upper(FEN__HIST_BUCKETS - 1), INT64_C(1) << FEN__HIST_MAX_BITS);
    assert_int_equal(fen__hist_index(-5), 0);
    assert_int_equal(fen__hist_index(INT64_MAX), FEN__HIST_BUCKETS - 1);
}

static void powers_of_two_are_edges(void **state)
{
    (void)state;
    static struct fen__hist h;
    memset(&h, 0, sizeof h);
    for (int bit = 4; bit <= 40; bit++) {
        fen__hist_record(&h, INT64_C(1) << bit);
        fen__hist_record(&h, (INT64_C(1) << bit) + 1);
    }
    for (int bit = 4; bit <= 40; bit++)
        assert_int_equal(fen__hist_count_le(&h, INT64_C(1) << bit), 2 * (bit - 4) + 1);
    assert_int_equal(fen__hist_count(&h), 74);
}

static void quantiles_are_close(void **state)
{
    (void)state;
    static struct fen__hist h, copy;
    memset(&h, 0, sizeof h);
    memset(&copy, 0, sizeof copy);
    assert_int_equal(fen__hist_quantile(&h, 0.95), 0);
    int64_t sum = 0;
    for (int64_t v = 1; v <= 100000; v++) {
        fen__hist_record(&h, v * 1000);
        sum += v * 1000;
    }
    fen__hist_merge(&copy, &h);
    assert_true(copy.sum == sum);
    const double q[] = {0.01, 0.5, 0.95, 0.99, 1.0};
    for (size_t i = 0; i < FEN__COUNT(q); i++) {
        double want = q[i] * 1e8, got = (double)fen__hist_quantile(&copy, q[i]);
        assert_true(got > want * 0.97 && got < want * 1.07);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bucket_ends_where_the_next_begins),
        cmocka_unit_test(powers_of_two_are_edges),
        cmocka_unit_test(quantiles_are_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
