/* price_test.c - amounts worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "meter/meter.h"

#include <string.h>

#define HOUR_NS INT64_C(3600000000000)
#define GB INT64_C(1000000000)
#define YUAN INT64_C(1000000000000000)

static fen_price_book defaults(void)
{
    fen_price_book b;
    fen_price_book_default(&b);
    return b;
}

static int64_t price(const fen_price_book *b, int64_t cpu_ns, __int128 byte_ns, int64_t requests)
{
    fen_usage u = {.cpu_ns = cpu_ns, .arena_byte_ns = byte_ns};
    return (int64_t)fen_price_of(b, &u, requests);
}

static void worked_by_hand(void **state)
{
    (void)state;
    fen_price_book b = defaults();
    assert_string_equal(b.currency, "CNY");
    /* 7e-6 s x 0.12 / 3600 = 2.3333e-10 yuan */
    assert_int_equal(price(&b, 7000, 0, 1), 233333);
    assert_int_equal(price(&b, HOUR_NS, 0, 0), 120000000000000);
    assert_int_equal(price(&b, 0, (__int128)GB * HOUR_NS, 0), 15000000000000);
    /* one core and 1 GB for one second: 3.3333e-5 + 4.1667e-6 = 3.75e-5 exactly */
    assert_int_equal(price(&b, FEN_S, 0, 0), 33333333333);
    assert_int_equal(price(&b, 0, (__int128)GB * FEN_S, 0), 4166666667);
    assert_int_equal(price(&b, FEN_S, (__int128)GB * FEN_S, 0), 37500000000);
    /* 8 KiB for 1 ms: 8192e-9 GB x 1e-3 s x 0.015 / 3600 = 3.41333e-14 yuan = 34.13 fyuan */
    assert_int_equal(price(&b, 0, (__int128)8192 * FEN_MS, 0), 34);
    assert_int_equal(price(&b, 0, 0, 1000), 0);
    b.request_on = true;
    assert_int_equal(price(&b, 0, 0, 1000), 850000000000000);
    assert_int_equal(price(&b, 7000, 0, 1), 850000233333);
}

static void rounds_once_and_to_the_nearest(void **state)
{
    (void)state;
    fen_price_book b = {.cpu_core_hour_fyuan = 1,
                        .mem_gb_hour_fyuan = 1,
                        .request_1000_fyuan = 1,
                        .request_on = true};
    assert_int_equal(price(&b, HOUR_NS / 2 - 1, 0, 0), 0);
    assert_int_equal(price(&b, HOUR_NS / 2, 0, 0), 1);
    /* a third each: 0 alone, 1 together */
    assert_int_equal(price(&b, HOUR_NS / 3, 0, 0), 0);
    assert_int_equal(price(&b, HOUR_NS / 3, (__int128)GB * (HOUR_NS / 3), 334), 1);
    /* a correction below zero takes away what it once added */
    assert_int_equal(price(&b, -HOUR_NS, 0, 0), -1);
}

static void does_not_overflow(void **state)
{
    (void)state;
    fen_price_book b = defaults();
    /* 1 TB for 10 years, 87,600 h: 1000 x 87600 x 0.015 = 1,314,000 yuan */
    __int128 byte_ns = (__int128)1000 * GB * 87600 * HOUR_NS;
    fen_usage u = {.cpu_ns = INT64_MAX, .arena_byte_ns = byte_ns};
    __int128 cpu = (__int128)INT64_MAX * 120000000000000 / HOUR_NS;
    __int128 both = fen_price_of(&b, &u, 0);
    assert_true(both - cpu >= (__int128)1314000 * YUAN &&
                both - cpu <= (__int128)1314000 * YUAN + 1);
    fen_price_book dear = {.cpu_core_hour_fyuan = INT64_MAX,
                           .mem_gb_hour_fyuan = INT64_MAX,
                           .request_1000_fyuan = INT64_MAX,
                           .request_on = true};
    u.arena_byte_ns = ((__int128)1 << 126) - 1;
    assert_true(fen_price_of(&dear, &u, INT64_MAX) > 0);
}

static void lines_add_up_to_the_total(void **state)
{
    (void)state;
    fen_price_book b = defaults();
    b.request_on = true;
    enum { N = 4000 };
    static struct fen__bill_line lines[N];
    static __int128 fyuan[N];
    uint64_t seed = 42;
    fen_usage sum = {0};
    int64_t requests = 0;
    for (int i = 0; i < N; i++) {
        lines[i].requests = (int64_t)(fen__rand(&seed) % 7);
        lines[i].usage.cpu_ns = (int64_t)(fen__rand(&seed) % 100000);
        lines[i].usage.arena_byte_ns = (__int128)(fen__rand(&seed) % 1000003) * 1009;
        sum.cpu_ns += lines[i].usage.cpu_ns;
        sum.arena_byte_ns += lines[i].usage.arena_byte_ns;
        requests += lines[i].requests;
    }
    fen__price_lines(&b, lines, N, fyuan);
    __int128 total = 0, alone = 0;
    for (int i = 0; i < N; i++) {
        __int128 one = fen_price_of(&b, &lines[i].usage, lines[i].requests);
        assert_true(fyuan[i] - one >= -1 && fyuan[i] - one <= 1);
        total += fyuan[i];
        alone += one;
    }
    assert_true(total == fen_price_of(&b, &sum, requests));
    assert_true(alone != total); /* else this seed shows nothing */
}

static void rate_of_a_known_load(void **state)
{
    (void)state;
    fen_price_book b = defaults();
    struct fen__cost_rate r = fen__price_rate(&b, 60 * FEN_S, 60 * FEN_S, GB, 60000);
    assert_int_equal((int64_t)r.cpu_fyuan, 33333333333);
    assert_int_equal((int64_t)r.mem_fyuan, 4166666667);
    assert_int_equal((int64_t)r.req_fyuan, 0);
    b.request_on = true;
    r = fen__price_rate(&b, 60 * FEN_S, 60 * FEN_S, GB, 60000);
    assert_int_equal((int64_t)r.req_fyuan, 850000000000000);
    r = fen__price_rate(&b, 0, 1, 1, 1);
    assert_true(r.cpu_fyuan == 0 && r.mem_fyuan == 0 && r.req_fyuan == 0);
}

static void scaled_text(void **state)
{
    (void)state;
    static const struct {
        int64_t v;
        int digits;
        const char *want;
    } cases[] = {{0, 15, "0"},
                 {233333, 15, "0.000000000233333"},
                 {1500, 3, "1.5"},
                 {12000, 3, "12"},
                 {-50, 3, "-0.05"},
                 {7, 0, "7"},
                 {INT64_MIN, 9, "-9223372036.854775808"}};
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        char room[64] = {0};
        fen_buf b = fen_buf_fixed(room, sizeof room);
        fen__put_scaled(&b, cases[i].v, cases[i].digits);
        assert_string_equal(room, cases[i].want);
    }
    char room[64] = {0};
    fen_buf b = fen_buf_fixed(room, sizeof room);
    fen__put_scaled(&b, -((__int128)1 << 126) * 2, 9);
    assert_string_equal(room, "-170141183460469231731687303715.884105728");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),       cmocka_unit_test(rounds_once_and_to_the_nearest),
        cmocka_unit_test(does_not_overflow),    cmocka_unit_test(lines_add_up_to_the_total),
        cmocka_unit_test(rate_of_a_known_load), cmocka_unit_test(scaled_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
