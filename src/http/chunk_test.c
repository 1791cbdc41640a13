/* chunk_test.c - chunked bodies, at every split. */
#include "http/chunk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct body {
    int status; /* 0: complete, 1: more is needed, else the status */
    const char *text;
    size_t n;
    const char *data;
};
#define OK(text, data)                                                                             \
    {                                                                                              \
        0, text, sizeof(text) - 1, data                                                            \
    }
#define MORE(text)                                                                                 \
    {                                                                                              \
        1, text, sizeof(text) - 1, NULL                                                            \
    }
#define BAD(text)                                                                                  \
    {                                                                                              \
        400, text, sizeof(text) - 1, NULL                                                          \
    }

static const struct body bodies[] = {
    OK("0\r\n\r\n", ""),
    OK("000\r\n\r\n", ""),
    OK("5\r\nhello\r\n0\r\n\r\n", "hello"),
    OK("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
    OK("A\r\n0123456789\r\n00b\r\n\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
       "0123456789\r\n\r\n0\r\n\r\n\r\n"),
    OK("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello"),
    OK("5 ; a = b ;c=\"d;\\\" \"\r\nhello\r\n0\r\n\r\n", "hello"),
    OK("5;a=\"x\\\"y\"\t;b\r\nhello\r\n0\r\n\r\n", "hello"),
    OK("0\r\nX: y\r\nEmpty:\r\n\r\n", ""),
    MORE(""),
    MORE("5"),
    MORE("5\r\nhell"),
    MORE("5\r\nhello\r\n"),
    MORE("5\r\nhello\r\n0\r\n"),
    MORE("5\r\nhello\r\n0\r\nX: y\r\n"),
    BAD("\r\n"),
    BAD(" 5\r\nhello\r\n0\r\n\r\n"),
    BAD("5 \r\nhello\r\n0\r\n\r\n"),
    BAD("+5\r\nhello\r\n0\r\n\r\n"),
    BAD("-5\r\nhello\r\n0\r\n\r\n"),
    BAD("0x5\r\nhello\r\n0\r\n\r\n"),
    BAD("5_\r\nhello\r\n0\r\n\r\n"),
    BAD("g\r\nhello\r\n0\r\n\r\n"),
    BAD("5,\r\nhello\r\n0\r\n\r\n"),
    BAD("5\nhello\r\n0\r\n\r\n"),
    BAD("5\rhello\r\n0\r\n\r\n"),
    BAD("5\r\r\nhello\r\n0\r\n\r\n"),
    BAD("5\r\nhello\n0\r\n\r\n"),
    BAD("5\r\nhelloX0\r\n\r\n"),
    BAD("5\r\nhello\rX\r\n0\r\n\r\n"),
    BAD("5\r\nhello!\r\n0\r\n\r\n"),
    BAD("5\r\nhello0\r\n\r\n"),
    BAD("5;\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a=\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a=b=c\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a \r\nhello\r\n0\r\n\r\n"),
    BAD("5;a\nhello\r\n0\r\n\r\n"),
    BAD("5;a\rb\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a=\"b\r\n\"\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a\0\r\nhello\r\n0\r\n\r\n"),
    BAD("5;a(b)\r\nhello\r\n0\r\n\r\n"),
    BAD("10000000000000005\r\nhello\r\n0\r\n\r\n"),
    BAD("00000000000000005\r\nhello\r\n0\r\n\r\n"),
    BAD("0\r\n\n"),
    BAD("0\r\n\rX"),
    BAD("0\r\nX\r\n\r\n"),
    BAD("0\r\n: y\r\n\r\n"),
    BAD("0\r\nX : y\r\n\r\n"),
    BAD("0\r\nX: y\n\r\n"),
    BAD("0\r\n X: y\r\n\r\n"),
    BAD("0\r\nX: \0\r\n\r\n"),
};

/* Feeds in[0,n) cut at the steps given; each piece in a block of its own size, decoded in place. */
static int feed(const char *in, size_t n, size_t first, size_t step, uint64_t max, char *out,
                size_t *ret_out, size_t *ret_used)
{
    struct fen__http_chunk c;
    size_t at = 0, total = 0;
    int rc = 0;
    fen__http_chunk_init(&c, max);
    for (size_t piece = first; !rc && at <= n; piece = step) {
        size_t have = piece < n - at ? piece : n - at, used = 0, data = 0;
        char *block = malloc(have ? have : 1);
        memcpy(block, in + at, have);
        rc = fen__http_chunk_feed(&c, block, have, block, &used, &data);
        if (rc >= 0) {
            memcpy(out + total, block, data);
            total += data;
            at += used;
        }
        free(block);
        if (at == n)
            break;
    }
    *ret_out = total;
    *ret_used = at;
    return rc;
}

static void check(const struct body *b, size_t first, size_t step)
{
    char out[256];
    size_t n, used;
    int rc = feed(b->text, b->n, first, step, 1000, out, &n, &used);
    int want = b->status == 0 ? 1 : b->status == 1 ? 0 : -b->status;
    if (rc != want)
        fail_msg("%s first %zu: %d instead of %d", b->text, first, rc, want);
    if (rc == 1) {
        assert_int_equal(used, b->n);
        assert_int_equal(n, strlen(b->data));
        assert_memory_equal(out, b->data, n);
    }
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < FEN__COUNT(bodies); i++) {
        check(&bodies[i], bodies[i].n, 1);
        check(&bodies[i], 0, 1);
        for (size_t cut = 0; cut < bodies[i].n; cut++)
            check(&bodies[i], cut, bodies[i].n);
    }
}

static void test_stops_at_the_end(void **state)
{
    (void)state;
    static const char text[] = "2\r\nhi\r\n0\r\n\r\nGET / HTTP/1.1";
    char out[64];
    size_t n, used;
    assert_int_equal(feed(text, sizeof text - 1, sizeof text - 1, 1, 10, out, &n, &used), 1);
    assert_int_equal(used, 12);
    assert_int_equal(n, 2);
}

static void test_body_limit_by_announcement(void **state)
{
    (void)state;
    char out[64];
    size_t n, used;
    assert_int_equal(feed("5\r\nhello\r\n0\r\n\r\n", 15, 15, 1, 5, out, &n, &used), 1);
    assert_int_equal(feed("5\r\n", 3, 3, 1, 4, out, &n, &used), -413);
    assert_int_equal(feed("3\r\nhel\r\n2\r\n", 11, 11, 1, 4, out, &n, &used), -413);
    assert_int_equal(feed("ffffffffffffffff\r\n", 18, 18, 1, 4, out, &n, &used), -413);
}

static void test_overhead_limits(void **state)
{
    (void)state;
    static char text[200000], out[200000];
    size_t n = 0, got, used;
    for (int i = 0; i < 5000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "1\r\nx\r\n");
    n += (size_t)snprintf(text + n, sizeof text - n, "0\r\n\r\n");
    assert_int_equal(feed(text, n, n, 1, 1 << 20, out, &got, &used), 1);
    assert_int_equal(got, 5000);
    n = 0;
    for (int i = 0; i < 30000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "1\r\nx\r\n");
    assert_int_equal(feed(text, n, n, 1, 1 << 20, out, &got, &used), -400);

    n = (size_t)snprintf(text, sizeof text, "1;");
    memset(text + n, 'a', 400);
    assert_int_equal(feed(text, 254, 254, 1, 10, out, &got, &used), 0);
    assert_int_equal(feed(text, 300, 300, 1, 10, out, &got, &used), -400);

    n = (size_t)snprintf(text, sizeof text, "0\r\n");
    for (int i = 0; i < 32; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "a:\r\n");
    memcpy(text + n, "\r\n", 2);
    assert_int_equal(feed(text, n + 2, n + 2, 1, 10, out, &got, &used), 1);
    memcpy(text + n, "a:\r\n\r\n", 6);
    assert_int_equal(feed(text, n + 6, n + 6, 1, 10, out, &got, &used), -431);
    n = (size_t)snprintf(text, sizeof text, "0\r\na:");
    memset(text + n, 'b', 5000);
    assert_int_equal(feed(text, 5000, 5000, 1, 10, out, &got, &used), -431);
}

/* Random chunking of random data comes back whole at random cuts. */
static void test_round_trip(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        char data[600], text[4096], out[600];
        size_t n = 0, data_n = fen__rand(&seed) % sizeof data, at = 0, got, used;
        for (size_t i = 0; i < data_n; i++)
            data[i] = (char)fen__rand(&seed);
        while (at < data_n) {
            size_t k = 1 + fen__rand(&seed) % (data_n - at);
            n += (size_t)snprintf(text + n, sizeof text - n,
                                  fen__rand(&seed) & 1 ? "%zx\r\n" : "%zX;e=\"f\"\r\n", k);
            memcpy(text + n, data + at, k);
            at += k;
            n += k;
            if (n > 3000) { /* many small chunks: enough */
                data_n = at;
            }
            n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "0\r\n\r\n");
        size_t first = fen__rand(&seed) % n, step = 1 + fen__rand(&seed) % 50;
        assert_int_equal(feed(text, n, first, step, sizeof data, out, &got, &used), 1);
        assert_int_equal(got, data_n);
        assert_memory_equal(out, data, data_n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_stops_at_the_end),
        cmocka_unit_test(test_body_limit_by_announcement),
        cmocka_unit_test(test_overhead_limits),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
