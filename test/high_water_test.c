/* high_water_test.c - with painted stacks the mark of the dump is the truth within 5 %. */
#include <fen/fen.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char text[1 << 16];
static size_t text_n;
static volatile int sink;

static void take(void *arg, const char *p, size_t n)
{
    (void)arg;
    n = n < sizeof text - 1 - text_n ? n : sizeof text - 1 - text_n;
    memcpy(text + text_n, p, n);
    text_n += n;
    text[text_n] = 0;
}

static size_t depth_bytes, truth_bytes;

static __attribute__((noinline)) void use(size_t n)
{
    unsigned char *p = __builtin_alloca(n);
    memset(p, 1, n);
    __asm__ volatile("" : : "r"(p) : "memory");
    sink = p[n - 1];
}

/* top of its stack: a page-sized step above this frame at most. */
static void plumb(void *arg)
{
    char here;
    (void)arg;
    size_t above = 4096 - ((uintptr_t)&here & 4095);
    use(depth_bytes);
    truth_bytes = depth_bytes + (above < 1024 ? above : 1024);
    (void)!fen_sleep(50 * FEN_MS);
}

static int plumb_one(void *arg)
{
    (void)arg;
    if (fen_go_named("plumber", 128 << 10, plumb, NULL) || fen_sleep(20 * FEN_MS))
        return -1;
    text_n = 0;
    return fen_debug_fibers(take, NULL);
}

/* The largest mark of the dump, in bytes. */
static size_t highest(void)
{
    size_t most = 0;
    for (const char *at = text; (at = strstr(at, " peak=")); at++) {
        char *end;
        size_t v = strtoul(at + 6, &end, 10);
        v <<= *end == 'K' ? 10 : 0;
        most = v > most ? v : most;
    }
    return most;
}

static void test_the_high_water_mark_is_true_within_5_percent(void **state)
{
    (void)state;
    static const size_t depths[] = {40 << 10, 70 << 10, 110 << 10};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        fen_config cfg = {.procs = 2, .paint_stacks = true};
        depth_bytes = depths[i];
        assert_int_equal(fen_run(plumb_one, NULL, &cfg), 0);
        assert_in_range(highest(), truth_bytes * 95 / 100, truth_bytes * 105 / 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_high_water_mark_is_true_within_5_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
