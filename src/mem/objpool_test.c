/* objpool_test.c - object pools: reuse, stealing, reclaim, misuse, and nothing left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/mem.h"
#include "sys/sys.h"

#include <fen/mem.h>
#include <fen/objpool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct thing {
    uint64_t tag, uses;
    char bytes[80];
};
#define TAG UINT64_C(0xfeed)

static _Atomic int64_t inits, finis;

static int thing_init(void *o, void *arg)
{
    struct thing *t = o;
    (void)arg;
    for (size_t i = 0; i < sizeof t->bytes; i++)
        assert_int_equal(t->bytes[i], 0);
    t->tag = TAG;
    atomic_fetch_add(&inits, 1);
    return 0;
}

static void thing_fini(void *o, void *arg)
{
    (void)arg;
    assert_int_equal(((struct thing *)o)->tag, TAG);
    atomic_fetch_add(&finis, 1);
}

static const fen_objpool_config things = {
    .name = "things", .size_bytes = sizeof(struct thing), .init = thing_init, .fini = thing_fini};

static fen_objpool_stats stats(const fen_objpool *p)
{
    fen_objpool_stats s;
    fen_objpool_stats_get(p, &s);
    return s;
}

static fen_objpool *fresh(const fen_objpool_config *c)
{
    fen_objpool *p = fen_objpool_new(c);
    assert_non_null(p);
    inits = finis = 0;
    return p;
}

/* The object that was put last comes back, as init and its users left it, built once. */
static void test_reuse(void **state)
{
    (void)state;
    fen_objpool *p = fresh(&things);
    struct thing *first = fen_objpool_get(p);
    assert_int_equal((uintptr_t)first % 16, 0);
    fen_objpool_put(p, first);
    for (uint64_t i = 0; i < 1000000; i++) {
        struct thing *t = fen_objpool_get(p);
        assert_ptr_equal(t, first);
        assert_int_equal(t->uses++, i);
        fen_objpool_put(p, t);
    }
    fen_objpool_stats s = stats(p);
    assert_int_equal(s.gets, 1000001);
    assert_int_equal(s.puts, 1000001);
    assert_int_equal(s.made, 1);
    assert_int_equal(s.idle, 1);
    fen_objpool_put(p, NULL);
    fen_objpool_free(p);
    fen_objpool_free(NULL);
    assert_int_equal(inits, 1);
    assert_int_equal(finis, 1);
}

/* More than a hand: all come back, each once; what is above idle_max is freed. */
static void test_many(void **state)
{
    enum { N = 1000 };
    static void *at[N];
    (void)state;
    fen_objpool_config c = things;
    c.idle_max = 200;
    fen_objpool *p = fresh(&c);
    for (int i = 0; i < N; i++)
        assert_non_null(at[i] = fen_objpool_get(p));
    for (int i = 0; i < N; i++)
        fen_objpool_put(p, at[i]);
    fen_objpool_stats s = stats(p);
    assert_int_equal(s.made, N);
    assert_true(s.idle <= 200 + 64 && s.idle >= 128);
    assert_int_equal(s.idle, s.made - s.freed);
    assert_int_equal(finis, s.freed);
    for (int i = 0; i < N; i++) {
        assert_non_null(at[i] = fen_objpool_get(p));
        assert_int_equal(((struct thing *)at[i])->uses++, 0); /* each once */
    }
    assert_int_equal(stats(p).made, N + N - s.idle);
    for (int i = 0; i < N; i++)
        fen_objpool_put(p, at[i]);
    fen_objpool_free(p);
    assert_int_equal(inits, finis);
}

static void mark(void *o, void *arg)
{
    ((struct thing *)o)->uses = 0;
    ++*(int *)arg;
}

static void test_clear_and_zero(void **state)
{
    (void)state;
    int cleared = 0;
    fen_objpool_config c = things;
    c.clear = mark;
    c.arg = &cleared;
    fen_objpool *p = fresh(&c);
    for (int i = 0; i < 5; i++) {
        struct thing *t = fen_objpool_get(p);
        assert_int_equal(t->uses, 0);
        t->uses = 7;
        fen_objpool_put(p, t);
    }
    assert_int_equal(cleared, 5);
    fen_objpool_free(p);
    p = fresh(&(fen_objpool_config){.size_bytes = 33, .zero = true});
    for (int i = 0; i < 200; i++) {
        char *o = fen_objpool_get(p);
        for (int k = 0; k < 33; k++)
            assert_int_equal(o[k], 0);
        memset(o, 'x', 33);
        fen_objpool_put(p, o);
    }
    fen_objpool_free(p);
}

/* Debug builds: what a put object held is not to be relied on. */
static void test_scribbled(void **state)
{
    (void)state;
    fen_objpool *p = fresh(&(fen_objpool_config){.size_bytes = 32});
    char *o = fen_objpool_get(p);
    memset(o, 'x', 32);
    fen_objpool_put(p, o);
    assert_ptr_equal(fen_objpool_get(p), o);
#ifndef NDEBUG
    assert_int_equal((unsigned char)o[0], 0xdb);
    assert_int_equal((unsigned char)o[31], 0xdb);
#endif
    fen_objpool_put(p, o);
    fen_objpool_free(p);
}

/* ---- threads ---- */

static void *put_all(void *arg)
{
    void **of = arg; /* a pool, then objects to the NULL */
    for (void **o = of + 1; *o; o++)
        fen_objpool_put(of[0], *o);
    return NULL;
}

/* What a thread that has ended left free, another takes instead of making new ones. */
static void test_steal(void **state)
{
    enum { N = 300 };
    static void *at[N + 2];
    (void)state;
    fen_objpool *p = fresh(&things);
    pthread_t t;
    at[0] = p;
    for (int i = 1; i <= N; i++)
        assert_non_null(at[i] = fen_objpool_get(p));
    assert_int_equal(pthread_create(&t, NULL, put_all, at), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    for (int i = 1; i <= N; i++)
        assert_non_null(at[i] = fen_objpool_get(p));
    fen_objpool_stats s = stats(p);
    assert_int_equal(s.made, N);
    assert_int_equal(s.stolen, N);
    put_all(at);
    fen_objpool_free(p);
    assert_int_equal(finis, N);
}

#define THREADS 4
#ifdef FEN__TSAN
#define STEPS 20000
#else
#define STEPS 200000
#endif
static struct thing *_Atomic slots[512];
static fen_objpool *shared;
static _Atomic int running;

/* Takes, leaves with others, and puts what others left; one of them reclaims meanwhile. */
static void *churn(void *arg)
{
    uint32_t x = (uint32_t)(uintptr_t)arg * 2654435761u + 1;
    for (int i = 0; i < STEPS; i++) {
        x = x * 1664525 + 1013904223;
        struct thing *t = NULL;
        if (x >> 31) {
            t = fen_objpool_get(shared);
            assert_non_null(t);
            assert_int_equal(t->tag, TAG);
            assert_int_equal(__atomic_exchange_n(&t->bytes[0], 1, __ATOMIC_RELAXED), 0);
        }
        t = atomic_exchange(&slots[(x >> 8) % 512], t);
        if (t) {
            assert_int_equal(__atomic_exchange_n(&t->bytes[0], 0, __ATOMIC_RELAXED), 1);
            fen_objpool_put(shared, t);
        }
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    int64_t before = fen__mem_live_bytes();
    shared = fresh(&things);
    running = THREADS;
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)i), 0);
    while (atomic_load(&running)) {
        (void)fen__objpool_reclaim(false);
        usleep(200);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 512; i++)
        fen_objpool_put(shared, slots[i]);
    memset(slots, 0, sizeof slots);
    fen_objpool_stats s = stats(shared);
    assert_int_equal(s.gets, s.puts);
    assert_true(s.made * 10 < s.gets);
    fen_objpool_free(shared);
    assert_int_equal(inits, s.made);
    assert_int_equal(finis, s.made);
    assert_int_equal(fen__mem_live_bytes(), before);
}

/* ---- reclaim ---- */

static void test_reclaim(void **state)
{
    enum { N = 500 };
    static void *at[N];
    (void)state;
    fen_objpool *p = fresh(&things);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++)
            at[i] = fen_objpool_get(p);
        for (int i = 0; i < N; i++)
            fen_objpool_put(p, at[i]);
        assert_int_equal(stats(p).made, N); /* the second time: taken back from what is old */
        assert_int_equal(fen__objpool_reclaim(false), 0);
        assert_int_equal(stats(p).idle, N);
    }
    assert_true(fen__objpool_reclaim(false) >= N * sizeof(struct thing));
    assert_int_equal(stats(p).idle, 0);
    assert_int_equal(finis, N);
    fen_objpool_put(p, fen_objpool_get(p));
    assert_true(fen_mem_reclaim() >= 0); /* everything, at once */
    assert_int_equal(stats(p).idle, 0);
    assert_int_equal(finis, N + 1);
    fen_objpool_free(p);
}

/* ---- bad input, no memory ---- */

static void test_refused(void **state)
{
    (void)state;
    fen_objpool *all[FEN_OBJPOOLS_MAX + 1];
    assert_null(fen_objpool_new(&(fen_objpool_config){.size_bytes = 0}));
    assert_null(fen_objpool_new(&(fen_objpool_config){.size_bytes = FEN_OBJPOOL_BYTES_MAX + 1}));
    for (int i = 0; i < FEN_OBJPOOLS_MAX; i++)
        assert_non_null(all[i] = fen_objpool_new(&things));
    assert_null(fen_objpool_new(&things));
    for (int i = 0; i < FEN_OBJPOOLS_MAX; i++)
        fen_objpool_free(all[i]);
}

static int fail_at, calls;
static int refuse(const char *call)
{
    return !strcmp(call, "malloc") && ++calls == fail_at ? -ENOMEM : 0;
}

static int init_fails(void *o, void *arg)
{
    (void)o;
    return ++*(int *)arg % 2 ? -EIO : 0;
}

static void some(const fen_objpool_config *c, bool *ret_failed)
{
    fen_objpool *p = fen_objpool_new(c);
    void *o[3] = {NULL};
    *ret_failed = !p;
    for (int i = 0; p && i < 3; i++)
        *ret_failed |= !(o[i] = fen_objpool_get(p));
    for (int i = 0; p && i < 3; i++)
        fen_objpool_put(p, o[i]);
    fen_objpool_free(p);
}

/* The n-th allocation fails, for each n: an error, and nothing is left. */
static void test_no_memory(void **state)
{
    (void)state;
    bool failed = true;
    int64_t before = fen__mem_live_bytes();
    for (fail_at = 1; failed; fail_at++) {
        calls = 0;
        fen__sys_fault = refuse;
        some(&things, &failed);
        fen__sys_fault = NULL;
        assert_int_equal(fen__mem_live_bytes(), before);
    }
    assert_true(fail_at > 5);
    int n = 0;
    some(&(fen_objpool_config){.size_bytes = 8, .init = init_fails, .arg = &n}, &failed);
    assert_true(failed);
    assert_int_equal(fen__mem_live_bytes(), before);
}

/* ---- misuse ends the process ---- */

static void put_twice(void)
{
    fen_objpool *p = fen_objpool_new(&things);
    void *o = fen_objpool_get(p);
    fen_objpool_put(p, o);
    fen_objpool_put(p, o);
}

static void put_elsewhere(void)
{
    fen_objpool *p = fen_objpool_new(&things), *q = fen_objpool_new(&things);
    fen_objpool_put(q, fen_objpool_get(p));
}

static void free_too_early(void)
{
    fen_objpool *p = fen_objpool_new(&things);
    if (fen_objpool_get(p))
        fen_objpool_free(p);
}

static void test_misuse(void **state)
{
    static void (*const bad[])(void) = {put_twice, put_elsewhere, free_too_early};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pid_t child = fork();
        if (!child) {
            close(2);
            bad[i]();
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),          cmocka_unit_test(test_many),
        cmocka_unit_test(test_clear_and_zero), cmocka_unit_test(test_scribbled),
        cmocka_unit_test(test_steal),          cmocka_unit_test(test_threads),
        cmocka_unit_test(test_reclaim),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),      cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
