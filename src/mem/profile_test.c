/* profile_test.c - the heap profile: are its estimates true, and does it forget what was freed? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/heap_int.h"
#include "sys/look.h"

#include <fen/fiber.h>
#include <fen/run.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SIGMAS 6 /* a true estimate is beyond in two of a billion runs */

struct sum {
    uint32_t account;
    const char *name; /* NULL: any */
    int64_t bytes;    /* of a block; 0: any */
    int64_t alloc_objects, alloc_bytes, inuse_objects, inuse_bytes;
    uint32_t entries, frames;
    const void *site;
};

static void add(const struct fen__profile_entry *e, void *arg)
{
    struct sum *s = arg;
    if (e->account != s->account || (s->name && strcmp(e->name, s->name)) ||
        (s->bytes && e->bytes != s->bytes))
        return;
    s->entries++;
    s->alloc_objects += e->alloc_objects;
    s->alloc_bytes += e->alloc_bytes;
    s->inuse_objects += e->inuse_objects;
    s->inuse_bytes += e->inuse_bytes;
    if (e->n) {
        s->site = e->pc[0];
        s->frames = e->n;
    }
}

static struct sum sum_of(uint32_t account, int64_t bytes)
{
    struct sum s = {.account = account, .bytes = bytes};
    fen__profile_each(add, &s);
    return s;
}

static void rate(int64_t bytes) { assert_int_equal(fen_profile_heap_rate_set(bytes), 0); }

/* Each test bills an account of its own, so that it sees its own blocks alone. */
static uint32_t fresh_account(void)
{
    static uint32_t last = 100;
    return ++last;
}

FEN__NOINLINE static void *planted(uint32_t account, size_t n)
{
    void *volatile p = fen__heap_alloc_for(account, n);
    assert_non_null(p);
    return p;
}

/* ---- is it true? ---- */

/* The variance of an estimate of n blocks, in blocks squared: each counts 1/p with the chance p. */
static double sigma_of(double n, double bytes, double mean)
{
    double p = -expm1(-bytes / mean);
    return sqrt(n * (1 - p) / p);
}

static void near(double got, double expected, double sigma)
{
    if (fabs(got - expected) > SIGMAS * sigma + 1)
        fail_msg("%.0f, expected %.0f with a sigma of %.1f", got, expected, sigma);
}

static void estimates(size_t n, int count, int64_t mean)
{
    uint32_t account = fresh_account();
    void **p = malloc((size_t)count * sizeof *p);
    assert_non_null(p);
    for (int i = 0; i < count; i++)
        p[i] = planted(account, n);
    double bytes = (double)fen__heap_usable(p[0]), sigma = sigma_of(count, bytes, (double)mean);
    struct sum s = sum_of(account, 0);
    near((double)s.alloc_objects, count, sigma);
    near((double)s.inuse_objects, count, sigma);
    near((double)s.alloc_bytes, count * bytes, sigma * bytes);
    for (int i = 0; i < count; i++)
        if (i % 4)
            fen__heap_free(p[i]);
    s = sum_of(account, 0);
    near((double)s.inuse_objects, (count + 3) / 4, sigma_of(count / 4.0, bytes, (double)mean));
    near((double)s.alloc_objects, count, sigma);
    for (int i = 0; i < count; i += 4)
        fen__heap_free(p[i]);
    s = sum_of(account, 0);
    assert_int_equal(s.inuse_objects, 0);
    assert_int_equal(s.inuse_bytes, 0);
    assert_true(s.alloc_objects > 0);
    free(p);
}

/* Sizes far below, near and above the rate, tiny, small, large and huge. */
static void estimates_are_true(void **state)
{
    (void)state;
    rate(4096);
    estimates(8, 40000, 4096);
    estimates(48, 40000, 4096);
    estimates(1000, 20000, 4096);
    estimates(4096, 4000, 4096);
    estimates(30000, 1000, 4096);
    estimates(100000, 100, 4096);
    rate(512 << 10);
    estimates(64, 400000, 512 << 10);
    estimates(20000, 4000, 512 << 10);
    estimates(300000, 300, 512 << 10);
    estimates((size_t)2 << 20, 40, 512 << 10);
}

/* Two sizes that alternate: sampling every n-th block or byte would see one of them alone. */
static void a_pattern_cannot_hide(void **state)
{
    (void)state;
    uint32_t account = fresh_account();
    rate(2048 + 64);
    for (int i = 0; i < 30000; i++) {
        void *a = planted(account, 64), *b = planted(account, 2048);
        fen__heap_free(a);
        fen__heap_free(b);
    }
    near((double)sum_of(account, 64).alloc_objects, 30000, sigma_of(30000, 64, 2048 + 64));
    near((double)sum_of(account, 2048).alloc_objects, 30000, sigma_of(30000, 2048, 2048 + 64));
}

/* Blocks of the account that runs, and of others in between: the gap counts the bytes of both. */
static void accounts_share_the_gap(void **state)
{
    (void)state;
    uint32_t mine = fresh_account(), other = fresh_account();
    assert_int_equal(fen_mem_account_set(mine), 0);
    rate(4096);
    for (int i = 0; i < 40000; i++) {
        void *volatile a = fen__heap_alloc(96);
        void *b = planted(other, 32);
        fen__heap_free(a);
        fen__heap_free(b);
        if (i % 16 == 0) { /* as a switch of fibers does */
            assert_int_equal(fen_mem_account_set(other), 0);
            assert_int_equal(fen_mem_account_set(mine), 0);
        }
    }
    assert_int_equal(fen_mem_account_set(0), 0);
    near((double)sum_of(mine, 0).alloc_objects, 40000, sigma_of(40000, 96, 4096));
    near((double)sum_of(other, 0).alloc_objects, 40000, sigma_of(40000, 32, 4096));
}

/* ---- every block ---- */

static void expect(uint32_t account, int64_t objects, int64_t bytes)
{
    struct sum s = sum_of(account, 0);
    assert_int_equal(s.inuse_objects, objects);
    assert_int_equal(s.inuse_bytes, bytes);
    fen_mem_usage u;
    assert_int_equal(fen_mem_usage_get(account, &u), 0);
    assert_int_equal(u.live_bytes, bytes); /* what the bill says */
}

/* With a rate of 1 nothing is estimated: every way to get and to change a block is seen. */
static void each_way_to_a_block_is_seen(void **state)
{
    (void)state;
    uint32_t account = fresh_account();
    void *aligned = NULL;
    rate(1);
    assert_int_equal(fen_mem_account_set(account), 0);
    void *tiny = fen__heap_alloc(1), *small = fen__heap_alloc(100), *zero = fen__heap_zalloc(200);
    void *large = fen__heap_alloc(40000), *huge = fen__heap_zalloc((size_t)3 << 20);
    assert_int_equal(fen__heap_aligned(4096, 5000, &aligned), 0);
    int64_t held = 8 + 112 + 208 + 40960 + (3 << 20) + 8192;
    expect(account, 6, held);
    small = fen__heap_realloc(small, 110); /* stays */
    expect(account, 6, held);
    small = fen__heap_realloc(small, 1000); /* moves */
    expect(account, 6, held += 1024 - 112);
    large = fen__heap_realloc(large, 60000); /* grows in place, or moves */
    expect(account, 6, held += 65536 - 40960);
    large = fen__heap_realloc(large, 33000);
    expect(account, 6, held += 40960 - 65536);
    huge = fen__heap_realloc(huge, (size_t)5 << 20);
    expect(account, 6, held += 2 << 20);
    fen__heap_free(tiny);
    fen__heap_free(small);
    expect(account, 4, held -= 8 + 1024);
    fen__heap_free(zero);
    fen__heap_free(large);
    fen__heap_free(huge);
    fen__heap_free(aligned);
    expect(account, 0, 0);
    assert_int_equal(fen_mem_account_set(0), 0);
}

/* More noted blocks in a span than the mask has bits, freed in any order. */
static void spans_full_of_samples(void **state)
{
    (void)state;
    enum { N = 2000 };
    static void *p[N];
    uint32_t account = fresh_account(), seed = 1;
    rate(1);
    for (int i = 0; i < N; i++)
        p[i] = planted(account, i % 2 ? 16 : 8);
    assert_int_equal(fen__page_bin(p[1]), FEN__BIN_SLOW);
    for (int n = N; n; n--) {
        seed = seed * 1103515245 + 12345;
        int i = (int)(seed >> 8) % n;
        fen__heap_free(p[i]);
        p[i] = p[n - 1];
        if (n % 100 == 0)
            assert_int_equal(sum_of(account, 0).inuse_objects, n - 1);
    }
    expect(account, 0, 0);
}

/* A span without noted blocks is as fast as before. */
static void a_span_is_fast_again(void **state)
{
    (void)state;
    uint32_t account = fresh_account();
    rate(1);
    void *noted = planted(account, 700);
    rate(FEN_PROFILE_OFF);
    void *other = planted(account, 700);
    assert_int_equal(fen__page_bin(noted), FEN__BIN_SLOW);
    assert_int_equal(sum_of(account, 0).inuse_bytes, 704);
    fen__heap_free(other);
    assert_int_equal(sum_of(account, 0).inuse_objects, 1); /* the neighbour's was not its */
    fen__heap_free(noted);
    assert_int_equal(sum_of(account, 0).inuse_objects, 0);
    assert_int_not_equal(fen__page_bin(noted), FEN__BIN_SLOW);
    assert_int_equal(fen_profile_heap_rate(), FEN_PROFILE_OFF);
    fen__heap_free(planted(account, 700));
    assert_int_equal(sum_of(account, 0).alloc_objects, 1);
}

/* ---- who asked ---- */

static void name_of(char *to, size_t cap, const void *pc)
{
    struct fen__text t = {to, 0, cap - 1};
    fen__sys_symbol(&t, (const char *)pc - 1);
    to[t.n] = 0;
}

struct caller {
    char names[4][64];
    uint32_t account, n;
    const char *fiber;
};

static void take_names(const struct fen__profile_entry *e, void *arg)
{
    struct caller *k = arg;
    if (e->account != k->account || !e->inuse_objects || (k->fiber && strcmp(e->name, k->fiber)))
        return;
    k->n = e->n;
    uint32_t from = 0;
    for (uint32_t i = 0; i < e->n && from == 0; i++) {
        name_of(k->names[0], sizeof k->names[0], e->pc[i]);
        from = !strncmp(k->names[0], "planted", 7) ? i + 1 : 0;
    }
    for (uint32_t i = 1; from && i < 4 && from - 1 + i < e->n; i++)
        name_of(k->names[i], sizeof k->names[i], e->pc[from - 1 + i]);
}

FEN__NOINLINE static void *outer(uint32_t account)
{
    void *p = planted(account, 300);
    __asm__ volatile("" : "+r"(p)); /* no tail call */
    return p;
}

static void the_call_site_comes_first(void **state)
{
    (void)state;
    struct caller k = {.account = fresh_account()};
    rate(1);
    void *p = outer(k.account);
    rate(FEN_PROFILE_OFF);
    fen__sys_objects_note();
    fen__profile_each(take_names, &k);
    assert_memory_equal(k.names[0], "planted+", 8);
    assert_memory_equal(k.names[1], "outer+", 6);
    assert_memory_equal(k.names[2], "the_call_site_comes_first+", 10);
    fen__heap_free(p);
}

static void *held[2];

static void fiber(void *arg)
{
    uint32_t account = *(uint32_t *)arg;
    assert_int_equal(fen_mem_account_set(account), 0);
    held[0] = outer(account);
    assert_int_equal(fen_fiber_rename("a name that is longer than what is kept of it"), 0);
    held[1] = planted(account, 64);
}

static int in_run(void *arg)
{
    rate(1);
    int rc = fen_go_named("gatherer", 0, fiber, arg);
    while (!__atomic_load_n(&held[1], __ATOMIC_ACQUIRE))
        fen_yield();
    rate(FEN_PROFILE_OFF);
    return rc;
}

static void fibers_have_names_and_stacks(void **state)
{
    (void)state;
    struct caller k = {.account = fresh_account(), .fiber = "gatherer"};
    assert_int_equal(fen_run(in_run, &k.account, &(fen_config){.procs = 1}), 0);
    fen__profile_each(take_names, &k);
    assert_memory_equal(k.names[0], "planted+", 8);
    assert_memory_equal(k.names[1], "outer+", 6);
    assert_memory_equal(k.names[2], "fiber+", 6);
    assert_true(k.n >= 4 && k.n < FEN__PROFILE_FRAMES);
    struct sum s = {.account = k.account, .name = "a name that is longer than what"};
    fen__profile_each(add, &s);
    assert_int_equal(s.inuse_bytes, 64);
    fen__heap_free(held[0]);
    fen__heap_free(held[1]);
    assert_int_equal(sum_of(k.account, 0).inuse_objects, 0);
}

static int nothing(void *arg)
{
    *(int64_t *)arg = fen_profile_heap_rate();
    return 0;
}

static void a_run_sets_the_rate(void **state)
{
    (void)state;
    int64_t seen = 0;
    assert_int_equal(fen_run(nothing, &seen, &(fen_config){.heap_profile_rate = 4096}), 0);
    assert_int_equal(seen, 4096);
    assert_int_equal(fen_run(nothing, &seen, &(fen_config){.heap_profile_rate = FEN_PROFILE_OFF}),
                     0);
    assert_int_equal(seen, FEN_PROFILE_OFF);
    setenv("FEN_HEAP_PROFILE_RATE", "64KiB", 1);
    assert_int_equal(fen_run(nothing, &seen, NULL), 0);
    assert_int_equal(seen, 64 << 10);
    setenv("FEN_HEAP_PROFILE_RATE", "64K", 1);
    assert_int_equal(fen_run(nothing, &seen, NULL), -EINVAL);
    unsetenv("FEN_HEAP_PROFILE_RATE");
    assert_int_equal(fen_run(nothing, &seen, &(fen_config){.heap_profile_rate = -7}), -EINVAL);
}

static void rates_are_parsed_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* 0: refused */
    } cases[] = {{"off", FEN_PROFILE_OFF},
                 {"1", 1},
                 {"524288", 524288},
                 {"7B", 7},
                 {"512KiB", 512 << 10},
                 {"2MiB", 2 << 20},
                 {"1048576MiB", FEN_PROFILE_RATE_MAX},
                 {"1048577MiB", 0},
                 {"99999999999999999999", 0},
                 {"0", 0},
                 {"", 0},
                 {"KiB", 0},
                 {"-1", 0},
                 {"1K", 0},
                 {"1 MiB", 0},
                 {"1MiBx", 0}};
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        int64_t got = 77;
        int rc = fen_profile_heap_rate_parse(cases[i].text, &got);
        assert_int_equal(rc, cases[i].bytes ? 0 : -EINVAL);
        assert_int_equal(got, cases[i].bytes ? cases[i].bytes : 77);
    }
    assert_int_equal(fen_profile_heap_rate_set(0), -EINVAL);
    assert_int_equal(fen_profile_heap_rate_set(-2), -EINVAL);
    assert_int_equal(fen_profile_heap_rate_set(FEN_PROFILE_RATE_MAX + 1), -EINVAL);
}

/* ---- threads ---- */

enum { THREADS = 4, SLOTS = 512 };
#ifdef FEN__TSAN
enum { STEPS = 20000 };
#else
enum { STEPS = 200000 };
#endif
static void *_Atomic slot[SLOTS];
static uint32_t crowd;

/* Puts a block where another thread takes it from. */
static void *swap(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    for (int i = 0; i < STEPS; i++) {
        uint64_t r = fen__rand(&seed);
        size_t n = r % 64 == 0 ? r >> 8 & 0x1FFFF : r >> 8 & 0x3FF;
        void *p = i % 5 ? planted(crowd + r % 3, n) : NULL;
        fen__heap_free(atomic_exchange(&slot[(r >> 32) % SLOTS], p));
        if (i % 4096 == 0)
            rate(1 + (int64_t)(fen__rand(&seed) % 4096));
    }
    return NULL;
}

/* Blocks freed by other threads than took them, while the rate changes: in the end, at every call
 * site what is live is exactly nothing. */
static void freed_elsewhere_is_forgotten(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    crowd = fresh_account();
    (void)fresh_account();
    (void)fresh_account();
    rate(100);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, swap, (void *)(i + 1)), 0);
    for (int i = 0; i < 20; i++)
        (void)sum_of(crowd, 0); /* reads while they work */
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        fen__heap_free(atomic_exchange(&slot[i], NULL));
    for (uint32_t i = 0; i < 3; i++) {
        struct sum s = sum_of(crowd + i, 0);
        assert_true(s.alloc_objects > STEPS / 2);
        expect(crowd + i, 0, 0);
    }
    assert_int_equal(fen__profile_lost(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_are_true),
        cmocka_unit_test(a_pattern_cannot_hide),
        cmocka_unit_test(accounts_share_the_gap),
        cmocka_unit_test(each_way_to_a_block_is_seen),
        cmocka_unit_test(spans_full_of_samples),
        cmocka_unit_test(a_span_is_fast_again),
        cmocka_unit_test(the_call_site_comes_first),
        cmocka_unit_test(fibers_have_names_and_stacks),
        cmocka_unit_test(a_run_sets_the_rate),
        cmocka_unit_test(rates_are_parsed_or_refused),
        cmocka_unit_test(freed_elsewhere_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
