/* remote_test.c - blocks that travel between threads, and threads that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/heap_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifdef FEN__TSAN
#define MESSAGES 40000
#define SHORT_LIVES 300
#else
#define MESSAGES 400000
#define SHORT_LIVES 10000
#endif
#define RING 1024

static void *_Atomic ring[RING];

/* Puts blocks into the ring, each filled with its number. */
static void *producer(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        size_t n = i % 16 ? 128 : 64 + i % 4000;
        uint32_t *p = fen__heap_alloc(n);
        fen_assert(p);
        p[0] = i;
        p[n / 4 - 1] = i;
        while (atomic_load_explicit(&ring[i % RING], memory_order_relaxed))
            sched_yield();
        atomic_store_explicit(&ring[i % RING], p, memory_order_release);
    }
    return NULL;
}

static void *consumer(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t *p;
        while (!(p = atomic_exchange_explicit(&ring[i % RING], NULL, memory_order_acquire)))
            sched_yield();
        fen_assert(p[0] == i);
        fen__heap_free(p);
    }
    return NULL;
}

static int64_t held_now(void)
{
    fen_mem_stats s;
    fen_mem_stats_get(&s);
    return s.held_bytes;
}

static void a_stream_of_blocks_is_reused(void **state)
{
    (void)state;
    pthread_t a, b;
    int64_t live = fen__ledger_live(), held = held_now();
    assert_int_equal(pthread_create(&a, NULL, producer, NULL), 0);
    assert_int_equal(pthread_create(&b, NULL, consumer, NULL), 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    assert_int_equal(fen__ledger_live(), live);
    fen_mem_reclaim();
    /* 50 MB have gone through; nothing of it is held but what the caches of this thread keep */
    assert_true(held_now() - held < 2 << 20);
}

static void count_cache(struct fen__cache *c, void *arg)
{
    (void)c;
    ++*(int *)arg;
}

static void *short_life(void *arg)
{
    void **left = arg;
    void *mine[20];
    for (size_t i = 0; i < 20; i++)
        mine[i] = fen__heap_alloc(i * 100);
    fen__heap_free(*left); /* of the thread before, whose cache is gone or ours */
    *left = fen__heap_alloc(256);
    for (size_t i = 0; i < 20; i++)
        fen__heap_free(mine[i]);
    return NULL;
}

static void threads_that_come_and_go_leave_nothing(void **state)
{
    (void)state;
    void *left[4] = {0};
    int caches = 0, later = 0;
    int64_t live = fen__ledger_live(), held = 0;
    fen__cache_each(count_cache, &caches);
    for (int i = 0; i < SHORT_LIVES; i += 4) {
        pthread_t t[4];
        for (int k = 0; k < 4; k++)
            assert_int_equal(pthread_create(&t[k], NULL, short_life, &left[k]), 0);
        for (int k = 0; k < 4; k++)
            pthread_join(t[k], NULL);
        if (i == 100)
            held = held_now();
    }
    fen__cache_each(count_cache, &later);
    assert_true(later - caches <= 4);
    assert_true(held_now() <= held + (1 << 20));
    for (int k = 0; k < 4; k++)
        fen__heap_free(left[k]);
    assert_int_equal(fen__ledger_live(), live);
    fen_mem_reclaim();
    assert_true(held_now() < 1 << 20);
}

/* Full spans of a thread that has ended come back by the frees of others. */
static void *fill(void *arg)
{
    void **p = arg;
    for (int i = 0; i < 20000; i++)
        p[i] = fen__heap_alloc(512);
    return NULL;
}

static void *drain(void *arg)
{
    void **p = arg;
    for (int i = 0; i < 20000; i += 2)
        fen__heap_free(p[i]);
    return NULL;
}

static void spans_of_the_dead_are_adopted(void **state)
{
    (void)state;
    static void *p[20000];
    pthread_t t[2];
    int64_t held = held_now();
    assert_int_equal(pthread_create(&t[0], NULL, fill, p), 0);
    pthread_join(t[0], NULL);
    assert_true(held_now() - held >= 20000 * 512);
    assert_int_equal(pthread_create(&t[0], NULL, drain, p), 0);
    assert_int_equal(pthread_create(&t[1], NULL, drain, p + 1), 0);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    fen_mem_reclaim();
    assert_true(held_now() - held < 1 << 20);
}

/* What a thread made that sleeps goes back when others have freed it, all of it when it is asked
 * for, and most of it without. */
struct sleeper {
    void *p[20000];
    _Atomic bool made, wake;
};

static void *fill_and_sleep(void *arg)
{
    struct sleeper *s = arg;
    fill(s->p);
    s->made = true;
    while (!s->wake)
        sched_yield();
    return NULL;
}

static void a_sleeper_s_spans_are_given_away(void **state)
{
    (void)state;
    static struct sleeper s[2];
    pthread_t t[2];
    int64_t held = held_now();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, fill_and_sleep, &s[i]), 0);
        while (!s[i].made)
            sched_yield();
        for (int k = 0; k < 20000; k++)
            fen__heap_free(s[i].p[k]);
    }
    assert_true(held_now() - held < 6 << 20); /* of 20: 4 MiB are kept, and some on the way */
    fen_mem_reclaim();
    assert_true(held_now() - held < 1 << 20);
    for (int i = 0; i < 2; i++) {
        s[i].wake = true;
        pthread_join(t[i], NULL);
    }
}

/* Nobody frees into its inbox any more: a batch in hand, and spans with holes. */
static void a_sleeper_s_holes_are_filled_by_others(void **state)
{
    (void)state;
    static struct sleeper s;
    static void *mine[9000];
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, fill_and_sleep, &s), 0);
    while (!s.made)
        sched_yield();
    for (int k = 0; k < 20000; k += 2)
        fen__heap_free(s.p[k]);
    fen_mem_reclaim();
    int64_t held = held_now();
    for (int k = 0; k < 9000; k++)
        mine[k] = fen__heap_alloc(512);
    assert_true(held_now() - held < 1 << 20);
    for (int k = 0; k < 9000; k++)
        fen__heap_free(mine[k]);
    for (int k = 1; k < 20000; k += 2)
        fen__heap_free(s.p[k]);
    s.wake = true;
    pthread_join(t, NULL);
}

/* Threads start and end while others free what they made: posts meet closed and reopened
 * inboxes, and visitors caches at work. */
static void *_Atomic pool[512];
static _Atomic bool stop;

static void *pool_step(uint64_t *seed, int n)
{
    for (int i = 0; i < n; i++) {
        uint64_t r = fen__rand(seed);
        void *p = r & 1 ? fen__heap_alloc(r >> 8 & 0x3FF) : NULL;
        fen__heap_free(atomic_exchange(&pool[r >> 32 & 511], p));
    }
    return NULL;
}

static void *brief(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    return pool_step(&seed, 2000);
}

static void *steady(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    while (!stop)
        pool_step(&seed, 1000);
    return NULL;
}

static void *reclaim(void *arg)
{
    while (!stop)
        fen_mem_reclaim();
    return arg;
}

static void ends_and_posts_may_meet(void **state)
{
    (void)state;
    int64_t live = fen__ledger_live();
    pthread_t s[3], b[3];
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&s[i], NULL, steady, (void *)(i + 1)), 0);
    assert_int_equal(pthread_create(&s[2], NULL, reclaim, NULL), 0);
    for (uintptr_t i = 0; i < (MESSAGES < 100000 ? 20 : 300); i++) {
        for (uintptr_t k = 0; k < 3; k++)
            assert_int_equal(pthread_create(&b[k], NULL, brief, (void *)(i * 3 + k + 9)), 0);
        for (int k = 0; k < 3; k++)
            pthread_join(b[k], NULL);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(s[i], NULL);
    for (int i = 0; i < 512; i++)
        fen__heap_free(pool[i]);
    assert_int_equal(fen__ledger_live(), live);
    fen_mem_reclaim();
    assert_true(held_now() < 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_blocks_is_reused),
        cmocka_unit_test(threads_that_come_and_go_leave_nothing),
        cmocka_unit_test(spans_of_the_dead_are_adopted),
        cmocka_unit_test(a_sleeper_s_spans_are_given_away),
        cmocka_unit_test(a_sleeper_s_holes_are_filled_by_others),
        cmocka_unit_test(ends_and_posts_may_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
