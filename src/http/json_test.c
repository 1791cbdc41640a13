/* json_test.c - writer, reader and compiled structs: conformance lists, round trips, seeded
 * garbage. */
#include <fen/json.h>

#include "base/base.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static fen_slice text(const char *s) { return (fen_slice){s, strlen(s)}; }

static int setup(void **state) { return (*state = fen_arena_new()) ? 0 : -1; }

static int teardown(void **state)
{
    fen_arena_free(*state);
    return 0;
}

static void is(fen_slice got, const char *want)
{
    if (got.n != strlen(want) || memcmp(got.p, want, got.n) != 0)
        fail_msg("%.*s instead of %s", (int)got.n, got.p, want);
}

static fen_slice written(const fen_buf *b) { return (fen_slice){b->p, b->n}; }

/* ---- values ---- */

static void test_string_values(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", "\"\""},
        {"plain text, long enough for words", "\"plain text, long enough for words\""},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
        {"\b\t\n\f\r\x01\x1f\x7f", "\"\\b\\t\\n\\f\\r\\u0001\\u001f\x7f\""},
        {"\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80!", "\"\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80!\""},
        {"a\xff"
         "b",
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe4\xbd", "\"\xef\xbf\xbd\""},
        {"\xe4\xbdx", "\"\xef\xbf\xbdx\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf0\x9f\x98", "\"\xef\xbf\xbd\""},
        {"\x80", "\"\xef\xbf\xbd\""},
        {"1234567\n", "\"1234567\\n\""},
        {"12345678\xc3\xa9", "\"12345678\xc3\xa9\""},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        fen_buf b = fen_buf_arena(*state);
        fen_json_value_string(&b, text(cases[i].in));
        is(written(&b), cases[i].out);
    }
    fen_buf b = fen_buf_arena(*state);
    fen_json_value_string(&b, FEN_SLICE("a\0b"));
    fen_json_value_string(&b, (fen_slice){NULL, 0});
    is(written(&b), "\"a\\u0000b\"\"\"");
}

static void test_f64_values(void **state)
{
    static const struct {
        double v;
        const char *out;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-17, "-17"},
        {0.1, "0.1"},
        {-12.34, "-12.34"},
        {0.5, "0.5"},
        {0.000001, "0.000001"},
        {1e15, "1000000000000000"},
        {1e22, "1e+22"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {5e-324, "4.94065645841247e-324"},
        {0.1 + 0.2, "0.30000000000000004"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
        {99.99, "99.99"},
        {1234567.125, "1234567.125"},
        {9007199254740993.0, "9007199254740992"},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        fen_buf b = fen_buf_arena(*state);
        fen_json_value_f64(&b, cases[i].v);
        is(written(&b), cases[i].out);
    }
}

static double read_f64(fen_arena *a, fen_slice in)
{
    fen_json_reader r = fen_json_reader_on(in, a);
    double v = 0;
    assert_int_equal(fen_json_get_f64(&r, &v), 0);
    assert_int_equal(fen_json_reader_end(&r), 0);
    return v;
}

static void f64_round_trips(fen_arena *a, double v)
{
    char p[64], printed[64];
    fen_buf b = fen_buf_fixed(p, sizeof p);
    fen_json_value_f64(&b, v);
    assert_int_equal(b.err, 0);
    double back = read_f64(a, written(&b));
    if (memcmp(&v, &back, sizeof v) != 0)
        fail_msg("%.17g came back as %.17g from %.*s", v, back, (int)b.n, b.p);
    int n = snprintf(printed, sizeof printed, "%.17g", v);
    assert_true(b.n <= (size_t)n + 4); /* at most a plain form for an exponent */
}

static void test_f64_round_trip(void **state)
{
    uint64_t seed = 5;
    for (int i = 0; i < 40000; i++) {
        uint64_t bits = fen__rand(&seed);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v))
            f64_round_trips(*state, v);
        f64_round_trips(*state, (double)(int64_t)(fen__rand(&seed) % 20000000) / 100);
        f64_round_trips(*state, (double)(int64_t)fen__rand(&seed) / (1 << 20));
    }
}

/* The reader against the C library, digits and exponents at random and some famous ones. */
static void test_f64_reads_as_strtod(void **state)
{
    static const char *famous[] = {
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "4.9e-324",
        "2.4e-324",
        "9007199254740993",
        "9007199254740992.9999999",
        "1e23",
        "8.5e22",
        "1e-400",
        "0e999999999999",
        "0.000000000000000000000000000000000000001e39",
        "123456789012345678901234567890e-10",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203126",
        "179769313486231570814e288",
        "100000000000000000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < FEN__COUNT(famous); i++)
        assert_true(read_f64(*state, text(famous[i])) == strtod(famous[i], NULL));
    uint64_t seed = 6;
    for (int i = 0; i < 40000; i++) {
        char p[100];
        int n = snprintf(p, sizeof p, "%d.", (int)(fen__rand(&seed) % 1000));
        for (uint64_t k = 1 + fen__rand(&seed) % 40; k; k--)
            p[n++] = (char)('0' + fen__rand(&seed) % 10);
        n += snprintf(p + n, sizeof p - (size_t)n, "e%d", (int)(fen__rand(&seed) % 600) - 310);
        p[n] = 0;
        if (isfinite(strtod(p, NULL)))
            assert_true(read_f64(*state, text(p)) == strtod(p, NULL));
    }
    char long_number[3000]; /* 1.000...0001: the last digit decides a tie, 2 kB behind */
    int n = snprintf(long_number, sizeof long_number, "%s",
                     "1.00000000000000011102230246251565404236316680908203125");
    memset(long_number + n, '0', 2000);
    memcpy(long_number + n + 2000, "1", 2);
    assert_true(read_f64(*state, text(long_number)) == 1.0000000000000002220446049250313);
}

static void test_locale_does_not_matter(void **state)
{
    static const char *names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    for (size_t i = 0; i < FEN__COUNT(names) && !setlocale(LC_NUMERIC, names[i]); i++)
        continue; /* where none is installed this is one more round trip */
    f64_round_trips(*state, 0.1 + 0.2);
    f64_round_trips(*state, 1.2345678901234567e-300);
    setlocale(LC_NUMERIC, "C");
}

/* ---- the writer ---- */

static void test_writer(void **state)
{
    fen_buf b = fen_buf_arena(*state);
    fen_json_writer w = fen_json_writer_on(&b);
    fen_json_put_object(&w);
    fen_json_put_key(&w, FEN_SLICE("a"));
    fen_json_put_array(&w);
    fen_json_put_i64(&w, INT64_MIN);
    fen_json_put_f64(&w, 1.5);
    fen_json_put_array(&w);
    fen_json_put_array_end(&w);
    fen_json_put_object(&w);
    fen_json_put_object_end(&w);
    fen_json_put_array_end(&w);
    fen_json_put_key(&w, FEN_SLICE("b\n"));
    fen_json_put_bool(&w, true);
    fen_json_put_key(&w, FEN_SLICE("c"));
    fen_json_put_null(&w);
    fen_json_put_key(&w, FEN_SLICE("d"));
    fen_json_put_string(&w, FEN_SLICE("x"));
    assert_int_equal(fen_json_writer_end(&w), -EINVAL); /* still open */
    fen_json_put_object_end(&w);
    assert_int_equal(fen_json_writer_end(&w), 0);
    is(written(&b),
       "{\"a\":[-9223372036854775808,1.5,[],{}],\"b\\n\":true,\"c\":null,\"d\":\"x\"}");
}

static void test_writer_misuse(void **state)
{
    fen_buf b = fen_buf_arena(*state);
    fen_json_writer w = fen_json_writer_on(&b);
    assert_int_equal(fen_json_writer_end(&w), -EINVAL);
    fen_json_put_i64(&w, 1);
    fen_json_put_i64(&w, 2);
    assert_int_equal(fen_json_writer_end(&w), -EINVAL);
    is(written(&b), "1");

    w = fen_json_writer_on(&b);
    fen_json_put_object(&w);
    fen_json_put_i64(&w, 1); /* without key */
    assert_int_equal(w.err, -EINVAL);
    w = fen_json_writer_on(&b);
    fen_json_put_object(&w);
    fen_json_put_key(&w, FEN_SLICE("k"));
    fen_json_put_object_end(&w); /* key without value */
    assert_int_equal(w.err, -EINVAL);
    w = fen_json_writer_on(&b);
    fen_json_put_array(&w);
    fen_json_put_object_end(&w);
    assert_int_equal(w.err, -EINVAL);
    w = fen_json_writer_on(&b);
    fen_json_put_key(&w, FEN_SLICE("k"));
    assert_int_equal(w.err, -EINVAL);

    w = fen_json_writer_on(&b);
    for (int i = 0; i < FEN_JSON_DEPTH; i++)
        fen_json_put_array(&w);
    assert_int_equal(w.err, 0);
    fen_json_put_array(&w);
    assert_int_equal(w.err, FEN_ELIMIT);
}

/* ---- the reader ---- */

static const char *const accepted[] = {
    "null",
    "true",
    " false ",
    "0",
    "-0",
    "-1",
    "1.0",
    "1e5",
    "1E+5",
    "1e-5",
    "-0.0e0",
    "10",
    "0.5",
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0000\\uFFFF\\uabcd\"",
    "\"\\ud83d\\ude00\"",
    "\"\xf0\x9f\x98\x80\"",
    "\"\x7f\"",
    "\"\xef\xbf\xbf\"",
    "[]",
    "{}",
    "[[]]",
    "[1,2]",
    " [ 1 , 2 ] ",
    "{\"a\":1}",
    "\t{ \"a\" : [ ] , \"\" : { } }\r\n",
    "{\"a\":1,\"a\":2}",
    "[null,true,false,\"\",0,{}]",
    "{\"\\u0061\":0}",
    "1e999",
    "123456789012345678901234567890",
};

static const char *const refused[] = {
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x1",
    "1.e5",
    "1 2",
    "--1",
    "1a",
    "\"",
    "\"a",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\n\"",
    "\"\t\"",
    "\"\x1f\"",
    "\"\xff\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xe4\xbd\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"\\ud83d\\u0041\"",
    "\"\\ud83dx\"",
    "\"\\U0041\"",
    "'a'",
    "a",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1,,2]",
    "[}",
    "{",
    "}",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{,}",
    "{\"a\" 1}",
    "{\"a\",1}",
    "{a:1}",
    "{1:1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\"::1}",
    "{\"a\":}",
    "[1]]",
    "{}x",
    "[]//",
    "/**/1",
    "\xef\xbb\xbf"
    "1",
    "\v1",
    "\f1",
    "\xc2\xa0"
    "1",
    "[\"a\",\n4\n,1,",
    "{\"a\":1}}",
    "\"a\" \"b\"",
    "[tru]",
    "[\"\\\"]",
    "{\"a\":\"b\":\"c\"}",
    "{null:1}",
    "[1.2.3]",
    "[1e1.5]",
    "[-a]",
};

static int whole(fen_arena *a, const char *p, size_t n)
{
    char *block = malloc(n ? n : 1); /* of its own size, for ASan */
    memcpy(block, p, n);
    fen_json_reader r = fen_json_reader_on((fen_slice){block, n}, a);
    int rc = fen_json_skip(&r);
    rc = rc < 0 ? rc : fen_json_reader_end(&r);
    assert_true(r.at <= n && !r.text == !rc);
    free(block);
    return rc;
}

static void test_conformance(void **state)
{
    for (size_t i = 0; i < FEN__COUNT(accepted); i++) {
        if (whole(*state, accepted[i], strlen(accepted[i])) != 0)
            fail_msg("refused: %s", accepted[i]);
    }
    for (size_t i = 0; i < FEN__COUNT(refused); i++) {
        if (whole(*state, refused[i], strlen(refused[i])) != FEN_EPARSE)
            fail_msg("not refused: %s", refused[i]);
    }
    assert_int_equal(whole(*state, "\"a\0b\"", 5), FEN_EPARSE);
    assert_int_equal(whole(*state, "1\0", 2), FEN_EPARSE);
}

static void test_depth(void **state)
{
    char p[3 * FEN_JSON_DEPTH + 3];
    memset(p, '[', FEN_JSON_DEPTH);
    memset(p + FEN_JSON_DEPTH, ']', FEN_JSON_DEPTH);
    assert_int_equal(whole(*state, p, 2 * FEN_JSON_DEPTH), 0);
    memset(p, '[', FEN_JSON_DEPTH + 1);
    assert_int_equal(whole(*state, p, FEN_JSON_DEPTH + 1), FEN_ELIMIT);
}

static void test_strings(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\"\"", ""},
        {"\"abc\"", "abc"},
        {"\"a\\n\\\"\\/\\\\\"", "a\n\"/\\"},
        {"\"\\u0041\\u00e9\\u4f60\\ud83d\\uDE00!\"", "A\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80!"},
        {"\"\xe4\xbd\xa0\\t\"", "\xe4\xbd\xa0\t"},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        fen_json_reader r = fen_json_reader_on(text(cases[i].in), *state);
        fen_slice v;
        assert_int_equal(fen_json_get_string(&r, &v), 0);
        is(v, cases[i].out);
    }
    fen_json_reader r = fen_json_reader_on(FEN_SLICE("\"\\u0000\""), *state);
    fen_slice v;
    assert_int_equal(fen_json_get_string(&r, &v), 0);
    assert_int_equal(v.n, 1);
    assert_int_equal(v.p[0], 0);
}

static void test_integers(void **state)
{
    static const struct {
        const char *in;
        int rc;
        int64_t v;
    } cases[] = {
        {"0", 0, 0},
        {"-0", 0, 0},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", -ERANGE, 0},
        {"-9223372036854775809", -ERANGE, 0},
        {"1.0", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"\"1\"", -EINVAL, 0},
        {"null", -EINVAL, 0},
        {"-", FEN_EPARSE, 0},
        {"", FEN_EPARSE, 0},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        fen_json_reader r = fen_json_reader_on(text(cases[i].in), *state);
        int64_t v = 4711;
        assert_int_equal(fen_json_get_i64(&r, &v), cases[i].rc);
        assert_true(v == (cases[i].rc ? 4711 : cases[i].v));
    }
    fen_json_reader r = fen_json_reader_on(FEN_SLICE("1e999"), *state);
    double d;
    assert_int_equal(fen_json_get_f64(&r, &d), -ERANGE);
}

static void test_walk(void **state)
{
    fen_json_reader r = fen_json_reader_on(
        FEN_SLICE("{\"list\": [1, 2.5, \"x\", [true]], \"skip\": {\"a\":[1,{}]}, \"n\": null}"),
        *state);
    fen_slice key, s;
    int64_t i;
    double d;
    bool flag;
    assert_int_equal(fen_json_get_object(&r), 0);
    assert_int_equal(fen_json_next_key(&r, &key), 1);
    is(key, "list");
    assert_int_equal(fen_json_get_array(&r), 0);
    assert_int_equal(fen_json_next_item(&r), 1);
    assert_int_equal(fen_json_get_i64(&r, &i), 0);
    assert_int_equal(fen_json_next_item(&r), 1);
    assert_int_equal(fen_json_get_f64(&r, &d), 0);
    assert_int_equal(fen_json_next_item(&r), 1);
    assert_int_equal(fen_json_peek(&r), FEN_JSON_STRING);
    assert_int_equal(fen_json_get_string(&r, &s), 0);
    assert_int_equal(fen_json_next_item(&r), 1);
    assert_int_equal(fen_json_get_array(&r), 0);
    assert_int_equal(fen_json_next_item(&r), 1);
    assert_int_equal(fen_json_get_bool(&r, &flag), 0);
    assert_int_equal(fen_json_next_item(&r), 0);
    assert_int_equal(fen_json_next_item(&r), 0);
    assert_int_equal(fen_json_next_key(&r, &key), 1);
    is(key, "skip");
    assert_int_equal(fen_json_skip(&r), 0);
    assert_int_equal(fen_json_next_key(&r, &key), 1);
    assert_int_equal(fen_json_get_null(&r), 0);
    assert_int_equal(fen_json_next_key(&r, &key), 0);
    assert_int_equal(fen_json_reader_end(&r), 0);
    assert_true(i == 1 && d == 2.5 && flag);
    is(s, "x");
}

static void test_errors_stick_and_say_where(void **state)
{
    fen_json_reader r = fen_json_reader_on(FEN_SLICE("[1, x]"), *state);
    int64_t v;
    assert_int_equal(fen_json_get_array(&r), 0);
    assert_int_equal(fen_json_next_item(&r), 1);
    assert_int_equal(fen_json_get_i64(&r, &v), 0);
    assert_int_equal(fen_json_next_item(&r), FEN_EPARSE);
    assert_int_equal(r.at, 4);
    assert_string_equal(r.text, "expected a value");
    assert_int_equal(fen_json_skip(&r), FEN_EPARSE);
    assert_int_equal(fen_json_reader_end(&r), FEN_EPARSE);
    assert_int_equal(r.at, 4);
}

/* ---- structs ---- */

struct order {
    int64_t id;
    double price;
    bool paid;
    char note[8];
    fen_slice customer, remark;
};
#define ORDER_FIELDS(F)                                                                            \
    F(i64, id, required)                                                                           \
    F(f64, price, required)                                                                        \
    F(bool, paid, optional)                                                                        \
    F(chars, note, optional)                                                                       \
    F(slice, customer, required)                                                                   \
    F(slice, remark, optional)
FEN_JSON_STRUCT(order, ORDER_FIELDS)

struct hint {
    fen_slice text;
};
#define HINT_FIELDS(F) F(slice, text, optional)
FEN_JSON_STRUCT(hint, HINT_FIELDS)

static void test_struct_encode(void **state)
{
    struct order o = {.id = 7, .price = 9.9, .paid = true, .customer = FEN_SLICE("Li \"X\"")};
    fen_buf b = fen_buf_arena(*state);
    memcpy(o.note, "12345678", 8); /* no NUL: the array bounds it */
    order_json_encode(&b, &o);
    is(written(&b), "{\"id\":7,\"price\":9.9,\"paid\":true,\"note\":\"12345678\","
                    "\"customer\":\"Li \\\"X\\\"\"}");
    struct hint none = {{NULL, 0}};
    b = fen_buf_arena(*state);
    hint_json_encode(&b, &none);
    is(written(&b), "{}");
}

#define GOOD "\"id\":1,\"price\":2,\"customer\":\"c\""

static void test_struct_decode(void **state)
{
    static const struct {
        const char *in;
        int rc;
        const char *err;
    } cases[] = {
        {"{" GOOD "}", 0, ""},
        {"{\"x\":[{\"id\":\"y\"}]," GOOD ",\"paid\":null,\"note\":\"1234567\"}", 0, ""},
        {"{\"\\u0069d\":1,\"price\":2e0,\"customer\":\"\"}", 0, ""},
        {"{\"id\":1,\"customer\":\"c\"}", -EINVAL, "field \"price\": is missing at byte 23"},
        {"{}", -EINVAL, "field \"id\": is missing at byte 2"},
        {"{\"id\":\"1\"}", -EINVAL, "field \"id\": expected a whole number at byte 6"},
        {"{\"id\":1.5}", -EINVAL, "field \"id\": expected a whole number at byte 6"},
        {"{\"id\":null}", -EINVAL, "field \"id\": expected a whole number at byte 6"},
        {"{\"price\":{}}", -EINVAL, "field \"price\": expected a number at byte 9"},
        {"{\"paid\":1}", -EINVAL, "field \"paid\": expected true or false at byte 8"},
        {"{\"customer\":1}", -EINVAL, "field \"customer\": expected a string at byte 12"},
        {"{\"id\":1,\"id\":1}", -EINVAL, "field \"id\": the field comes twice at byte 13"},
        {"{\"id\":99999999999999999999}", -ERANGE,
         "field \"id\": the number does not fit 64 bits at byte 6"},
        {"{\"note\":\"12345678\"}", -ERANGE, "field \"note\": the string is too long at byte 8"},
        {"{\"note\":\"\\u0000\"}", -EINVAL, "field \"note\": the string contains a NUL at byte 8"},
        {"[]", -EINVAL, "expected an object at byte 0"},
        {"", FEN_EPARSE, "the text ends early at byte 0"},
        {"{" GOOD "} x", FEN_EPARSE, "something follows the value at byte 34"},
        {"{" GOOD, FEN_EPARSE, "the text ends early at byte 32"},
        {"{\"x\":[1,}", FEN_EPARSE, "expected a value at byte 8"},
        {"{\"id\":1,}", FEN_EPARSE, "expected a key at byte 8"},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        struct order o;
        char err[80] = "unset", cut[12];
        int rc = order_json_decode(text(cases[i].in), *state, &o, err, sizeof err);
        if (rc != cases[i].rc || strcmp(err, cases[i].err) != 0)
            fail_msg("%s: %d %s", cases[i].in, rc, err);
        assert_int_equal(order_json_decode(text(cases[i].in), *state, &o, cut, sizeof cut), rc);
        assert_int_equal(strlen(cut), strlen(err) < 11 ? strlen(err) : 11);
        assert_memory_equal(cut, err, strlen(cut));
        assert_int_equal(order_json_decode(text(cases[i].in), *state, &o, NULL, 0), rc);
    }
}

static void test_struct_values(void **state)
{
    struct order o;
    char err[80];
    assert_int_equal(
        order_json_decode(FEN_SLICE("{\"customer\":\"a\\nb\",\"note\":\"hi\",\"price\":"
                                    "-0.25,\"id\":-3,\"paid\":true}"),
                          *state, &o, err, sizeof err),
        0);
    assert_true(o.id == -3 && o.price == -0.25 && o.paid && !o.remark.p);
    assert_string_equal(o.note, "hi");
    is(o.customer, "a\nb");
}

/* What is encoded is decoded to the same, for random content; valid UTF-8 stays as it is. */
static void test_struct_round_trip(void **state)
{
    static const char *pieces[] = {"a",     "\"",       "\\",           "\n",
                                   "\x01",  "\xc3\xa9", "\xe4\xbd\xa0", "\xf0\x9f\x98\x80",
                                   "plain", "/"};
    uint64_t seed = 17;
    for (int round = 0; round < 20000; round++) {
        char customer[200];
        size_t n = 0;
        for (uint64_t k = fen__rand(&seed) % 20; k; k--) {
            const char *s = pieces[fen__rand(&seed) % FEN__COUNT(pieces)];
            memcpy(customer + n, s, strlen(s));
            n += strlen(s);
        }
        struct order o = {.id = (int64_t)fen__rand(&seed), .paid = fen__rand(&seed) & 1}, back;
        o.price = (double)(int64_t)fen__rand(&seed) / 1000;
        o.customer = (fen_slice){customer, n};
        memcpy(o.note, "note", n % 5);
        char out[1500], err[80];
        fen_buf b = fen_buf_fixed(out, sizeof out);
        order_json_encode(&b, &o);
        assert_int_equal(b.err, 0);
        assert_int_equal(order_json_decode(written(&b), *state, &back, err, sizeof err), 0);
        assert_true(back.id == o.id && back.price == o.price && back.paid == o.paid);
        assert_string_equal(back.note, o.note);
        assert_int_equal(back.customer.n, n);
        assert_memory_equal(back.customer.p, customer, n);
        fen_arena_reset(*state);
    }
}

/* Random bytes in a string always make valid JSON. */
static void test_any_bytes_become_json(void **state)
{
    uint64_t seed = 23;
    for (int round = 0; round < 20000; round++) {
        char in[40], out[300];
        size_t n = fen__rand(&seed) % sizeof in;
        for (size_t i = 0; i < n; i++)
            in[i] = (char)(fen__rand(&seed) >> (fen__rand(&seed) & 1 ? 3 : 40) | (round & 1) << 7);
        fen_buf b = fen_buf_fixed(out, sizeof out);
        fen_json_value_string(&b, (fen_slice){in, n});
        assert_int_equal(b.err, 0);
        assert_int_equal(whole(*state, b.p, b.n), 0);
    }
}

/* Changed documents: no read too far, and skip agrees with the decoder about what is JSON. */
static void test_fuzz(void **state)
{
    static const char spice[] = "{}[]\",:\\u0d8e-+.1 \n\0\xff\xc3tfn";
    uint64_t seed = 31;
    for (int round = 0; round < 40000; round++) {
        const char *from = round & 1 ? accepted[fen__rand(&seed) % FEN__COUNT(accepted)]
                                     : "{" GOOD
                                       ",\"x\":[1,{\"y\":\"\\ud83d\\ude00\"}],\"note\":\"n\"}";
        char p[128];
        size_t n = strlen(from);
        memcpy(p, from, n);
        for (uint64_t k = fen__rand(&seed) % 4; k && n; k--) {
            size_t at = fen__rand(&seed) % n;
            if (fen__rand(&seed) & 1)
                memmove(p + at, p + at + 1, --n - at);
            else
                p[at] = spice[fen__rand(&seed) % (sizeof spice - 1)];
        }
        int rc = whole(*state, p, n);
        char *block = malloc(n ? n : 1), err[40];
        memcpy(block, p, n);
        struct order o;
        int decoded = order_json_decode((fen_slice){block, n}, *state, &o, err, sizeof err);
        free(block);
        if (decoded == 0)
            assert_int_equal(rc, 0);
        if (decoded == FEN_EPARSE)
            assert_int_equal(rc, FEN_EPARSE);
        fen_arena_reset(*state);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_string_values),
        TEST(test_f64_values),
        TEST(test_f64_round_trip),
        TEST(test_f64_reads_as_strtod),
        TEST(test_locale_does_not_matter),
        TEST(test_writer),
        TEST(test_writer_misuse),
        TEST(test_conformance),
        TEST(test_depth),
        TEST(test_strings),
        TEST(test_integers),
        TEST(test_walk),
        TEST(test_errors_stick_and_say_where),
        TEST(test_struct_encode),
        TEST(test_struct_decode),
        TEST(test_struct_values),
        TEST(test_struct_round_trip),
        TEST(test_any_bytes_become_json),
        TEST(test_fuzz),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
