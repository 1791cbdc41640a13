/* text_test.c - lines in fixed buffers: the forms, and that nothing is written past the end. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char buf[256];

static struct fen__text fresh(void)
{
    memset(buf, 0, sizeof buf);
    return (struct fen__text){buf, 0, sizeof buf - 1};
}

static void numbers(void **state)
{
    (void)state;
    struct fen__text t = fresh();
    int64_t v[] = {0, 7, -1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < FEN__COUNT(v); i++) {
        fen__text_dec(&t, v[i]);
        fen__text_put(&t, " ");
    }
    fen__text_hex(&t, 0);
    fen__text_hex(&t, UINT64_MAX);
    assert_string_equal(buf, "0 7 -1 9223372036854775807 -9223372036854775808 "
                             "0x00xffffffffffffffff");
}

static void times_and_sizes(void **state)
{
    (void)state;
    struct fen__text t = fresh();
    int64_t ns[] = {-5, 999, 12 * FEN_US, 3 * FEN_MS + 450 * FEN_US, FEN_S + 7 * FEN_MS};
    for (size_t i = 0; i < FEN__COUNT(ns); i++) {
        fen__text_ns(&t, ns[i]);
        fen__text_put(&t, " ");
    }
    size_t sizes[] = {0, 1023, 1024, 65600, 2 << 20, (2 << 20) + 4096};
    for (size_t i = 0; i < FEN__COUNT(sizes); i++) {
        fen__text_size(&t, sizes[i]);
        fen__text_put(&t, " ");
    }
    assert_string_equal(buf, "0us 0us 12us 3.4ms 1.007s 0 1023 1K 64K 2M 2052K ");
}

static void what_does_not_fit_is_left_out(void **state)
{
    (void)state;
    char small[8] = "#######";
    struct fen__text t = {small, 0, 5};
    fen__text_put(&t, "abc");
    fen__text_dec(&t, 123456);
    fen__text_hex(&t, 1);
    assert_int_equal(t.n, 5);
    assert_memory_equal(small, "abc12##", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(times_and_sizes),
        cmocka_unit_test(what_does_not_fit_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
