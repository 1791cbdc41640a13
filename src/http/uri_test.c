/* uri_test.c - percent decoding, query lookup and numbers: lists, limits, seeded garbage. */
#include "http/uri.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static fen_slice text(const char *s) { return (fen_slice){s, strlen(s)}; }

static void is(fen_slice s, const char *want)
{
    if (s.n != strlen(want) || memcmp(s.p, want, s.n) != 0)
        fail_msg("\"%.*s\" instead of \"%s\"", (int)s.n, s.p, want);
}

static void test_decode(void **state)
{
    fen_arena *a = *state;
    static const struct {
        const char *in;
        bool plus;
        const char *out; /* NULL: -EINVAL */
    } cases[] = {
        {"", false, ""},         {"abc", false, "abc"},   {"a%20b", false, "a b"},
        {"a+b", false, "a+b"},   {"a+b", true, "a b"},    {"%2B%2b", true, "++"},
        {"%2f%2F", false, "//"}, {"%25zz", false, "%zz"}, {"%e4%bd%a0", false, "\xe4\xbd\xa0"},
        {"%2525", false, "%25"}, {"%ff", false, "\xff"},  {"%", false, NULL},
        {"a%2", false, NULL},    {"%zz", false, NULL},    {"%0g", false, NULL},
        {"%00", false, NULL},    {"%-1", false, NULL},    {"% 1", false, NULL},
        {"%2%20", false, NULL},  {"%+1", true, NULL},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        fen_slice out = {NULL, 77};
        int rc = fen__uri_decode(text(cases[i].in), cases[i].plus, a, &out);
        assert_int_equal(rc, cases[i].out ? 0 : -EINVAL);
        if (cases[i].out)
            is(out, cases[i].out);
        else
            assert_int_equal(out.n, 77);
    }
}

static void test_plain_text_takes_no_memory(void **state)
{
    fen_arena *a = *state;
    size_t before = fen_arena_used_bytes(a);
    const char *in = "plain-text";
    fen_slice out;
    assert_int_equal(fen__uri_decode(text(in), true, a, &out), 0);
    assert_ptr_equal(out.p, in);
    assert_int_equal(fen_arena_used_bytes(a), before);
}

static int query(fen_arena *a, const char *q, const char *name, fen_slice *ret)
{
    return fen__uri_query(text(q), name, strlen(name), a, ret);
}

static void test_query(void **state)
{
    fen_arena *a = *state;
    static const struct {
        const char *query, *name, *out; /* NULL: rc */
        int rc;
    } cases[] = {
        {"a=1&b=2", "a", "1", 0},
        {"a=1&b=2", "b", "2", 0},
        {"a=1&a=2", "a", "1", 0},
        {"ab=1", "a", NULL, -ENOENT},
        {"a=1", "ab", NULL, -ENOENT},
        {"", "a", NULL, -ENOENT},
        {"a", "a", "", 0},
        {"a=", "a", "", 0},
        {"a=b=c", "a", "b=c", 0},
        {"&&a=1&", "a", "1", 0},
        {"=1", "", "1", 0},
        {"&", "", NULL, -ENOENT},
        {"a+b=c+d", "a b", "c d", 0},
        {"%61=%62", "a", "b", 0},
        {"a=%", "a", NULL, -EINVAL},
        {"%=1&a=2", "a", "2", 0},
        {"b=%zz&a=2", "a", "2", 0},
        {"a=1;b=2", "b", NULL, -ENOENT},
        {"A=1", "a", NULL, -ENOENT},
        {"a%3d=1", "a=", "1", 0},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        fen_slice out;
        int rc = query(a, cases[i].query, cases[i].name, &out);
        if (rc != cases[i].rc)
            fail_msg("%s in %s: %d", cases[i].name, cases[i].query, rc);
        if (!rc)
            is(out, cases[i].out);
    }
    fen_slice out;
    assert_int_equal(fen__uri_query((fen_slice){NULL, 0}, "a", 1, a, &out), -ENOENT);
}

static void test_i64(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int rc;
        int64_t v;
    } cases[] = {
        {"0", 0, 0},
        {"-0", 0, 0},
        {"17", 0, 17},
        {"-17", 0, -17},
        {"007", 0, 7},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", -ERANGE, 0},
        {"-9223372036854775809", -ERANGE, 0},
        {"99999999999999999999999999", -ERANGE, 0},
        {"99999999999999999999999999x", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"-", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"1.0", -EINVAL, 0},
        {"0x1", -EINVAL, 0},
        {"--1", -EINVAL, 0},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        int64_t v = 4711;
        assert_int_equal(fen__uri_i64(text(cases[i].in), &v), cases[i].rc);
        assert_true(v == (cases[i].rc ? 4711 : cases[i].v));
    }
    uint64_t seed = 3;
    for (int i = 0; i < 10000; i++) {
        char buf[32];
        int64_t want = (int64_t)(fen__rand(&seed) >> (fen__rand(&seed) % 64)), v;
        snprintf(buf, sizeof buf, "%" PRId64, want);
        assert_int_equal(fen__uri_i64(text(buf), &v), 0);
        assert_true(v == want);
    }
}

/* Encoding every byte but NUL and decoding it again gives it back; garbage never reads too far. */
static void test_fuzz(void **state)
{
    fen_arena *a = *state;
    uint64_t seed = 11;
    for (int round = 0; round < 20000; round++) {
        size_t n = fen__rand(&seed) % 24;
        char raw[24], *coded = malloc(3 * 24), digits[4];
        for (size_t i = 0; i < n; i++) {
            raw[i] = (char)(1 + fen__rand(&seed) % 255);
            snprintf(digits, sizeof digits, "%%%02x", (uint8_t)raw[i]);
            memcpy(coded + 3 * i, digits, 3);
        }
        coded = realloc(coded, n ? 3 * n : 1);
        fen_slice out;
        assert_int_equal(fen__uri_decode((fen_slice){coded, 3 * n}, true, a, &out), 0);
        assert_int_equal(out.n, n);
        assert_memory_equal(out.p, raw, n);
        for (size_t i = 0; i < 3 * n; i++)
            coded[i] = "%=&+0a"[fen__rand(&seed) % 6];
        (void)!fen__uri_decode((fen_slice){coded, 3 * n}, true, a, &out);
        (void)!fen__uri_query((fen_slice){coded, 3 * n}, "a", 1, a, &out);
        free(coded);
        fen_arena_reset(a);
    }
}

static int setup(void **state) { return (*state = fen_arena_new()) ? 0 : -1; }

static int teardown(void **state)
{
    fen_arena_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_decode, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain_text_takes_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_query, setup, teardown),
        cmocka_unit_test(test_i64),
        cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
