/* queue_test.c - the run queues alone: overflow, stealing, runnext, and owner against thieves. */
#include "sched/sched_int.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N (1u << 14) /* fibers; only their addresses, `next` and `sp` are used */

static struct fen__g *gs;
static struct fen__p *ps;
static struct fen__m m[2];

static int setup(void **state)
{
    (void)state;
    static char stack;
    gs = calloc(N, sizeof *gs);
    for (uint32_t i = 0; gs && i < N; i++)
        gs[i].sp = &stack; /* it has begun; newborn_test.c has the others */
    ps = aligned_alloc(2 * FEN__LINE, 4 * sizeof *ps);
    memset(ps, 0, 4 * sizeof *ps);
    for (int i = 0; i < 4; i++)
        fen__queue_init(&ps[i]);
    memset(m, 0, sizeof m);
    m[0].p = &ps[0];
    m[1].p = &ps[1];
    fen__sched.ps = ps;
    fen__sched.nprocs = 4;
    fen__sched.global_head = NULL;
    fen__sched.global_tail = &fen__sched.global_head;
    fen__sched.n_global = 0;
    return gs && ps ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(gs);
    free(ps);
    return 0;
}

static void fill(struct fen__m *w, uint32_t from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fen__queue_tail(w, &gs[from + i]);
}

static int64_t overflows(void) { return fen__count_read(&m[0].tally.overflows); }

static void test_full_ring_moves_half_and_the_new_one_in_order(void **state)
{
    (void)state;
    fill(&m[0], 0, FEN__RING);
    assert_int_equal(fen__queue_ring_len(&ps[0]), FEN__RING);
    assert_int_equal(fen__sched.n_global, 0);
    assert_int_equal(overflows(), 0);
    fen__queue_tail(&m[0], &gs[FEN__RING]);
    assert_int_equal(fen__queue_ring_len(&ps[0]), FEN__RING / 2);
    assert_int_equal(fen__sched.n_global, FEN__RING / 2 + 1);
    assert_int_equal(overflows(), 1);
    struct fen__g *g = fen__sched.global_head;
    for (uint32_t i = 0; i < FEN__RING / 2; i++, g = g->next)
        assert_ptr_equal(g, &gs[i]);
    assert_ptr_equal(g, &gs[FEN__RING]);
    assert_null(g->next);
    for (uint32_t i = FEN__RING / 2; i < FEN__RING; i++)
        assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[i]);
    assert_null(fen__queue_pop(&ps[0]));
}

static void test_global_pop_is_fair_and_in_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        fen__global_push(&gs[i], &gs[i], 1);
    assert_ptr_equal(fen__global_pop(&m[0], 128), &gs[0]); /* 8 / 4 Ps + 1 = 3 of them */
    assert_int_equal(fen__sched.n_global, 5);
    assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[1]);
    assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[2]);
    assert_null(fen__queue_pop(&ps[0]));
    for (uint32_t i = 3; i < 8; i++)
        assert_ptr_equal(fen__global_pop(&m[0], 1), &gs[i]);
    assert_null(fen__global_pop(&m[0], 1));
    fen__global_push(&gs[8], &gs[8], 1); /* the tail was reset */
    assert_ptr_equal(fen__global_pop(&m[0], 1), &gs[8]);
}

static void test_steal_takes_half(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 4; n++) { /* a ring of the hard mode holds 4 */
        fill(&m[0], 0, n);
        uint32_t want = n - n / 2;
        assert_ptr_equal(fen__queue_steal(&ps[1], &ps[0], false), &gs[want - 1]);
        assert_int_equal(fen__queue_ring_len(&ps[1]), want - 1);
        assert_int_equal(fen__queue_ring_len(&ps[0]), n - want);
        for (uint32_t i = 0; i + 1 < want; i++)
            assert_ptr_equal(fen__queue_pop(&ps[1]), &gs[i]);
        for (uint32_t i = want; i < n; i++)
            assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[i]);
    }
    assert_null(fen__queue_steal(&ps[1], &ps[0], true));
}

static void test_runnext_is_stolen_only_when_allowed(void **state)
{
    (void)state;
    assert_false(fen__queue_next(&m[0], &gs[0]));
    assert_null(fen__queue_steal(&ps[1], &ps[0], false));
    assert_ptr_equal(fen__queue_steal(&ps[1], &ps[0], true), &gs[0]);
    assert_int_equal(fen__queue_len(&ps[0]), 0);
    assert_false(fen__queue_next(&m[0], &gs[0]));
    assert_true(fen__queue_next(&m[0], &gs[1])); /* pushes the first to the tail */
    assert_ptr_equal(fen__queue_steal(&ps[1], &ps[0], true), &gs[0]); /* the ring comes first */
    assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[1]);
}

static void test_runnext_has_a_streak_limit(void **state)
{
    (void)state;
    fill(&m[0], 100, 2);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < FEN__STREAK_MAX; i++) {
            assert_false(fen__queue_next(&m[0], &gs[i]));
            assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[i]);
        }
        assert_false(fen__queue_next(&m[0], &gs[50]));
        assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[100 + round]);
        assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[50]);
        ps[0].streak = 0;
    }
}

static void test_counters_wrap(void **state)
{
    (void)state;
    ps[0].head = ps[0].tail = UINT32_MAX - 1;
    fill(&m[0], 0, 4);
    assert_int_equal(fen__queue_ring_len(&ps[0]), 4);
    assert_ptr_equal(fen__queue_steal(&ps[1], &ps[0], false), &gs[1]);
    assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[2]);
    assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[3]);
}

/* ---- owner against two thieves; the owner also takes from the global list ---- */

static _Atomic uint8_t popped[N];
static _Atomic uint32_t n_popped;

static void count(struct fen__g *g)
{
    atomic_fetch_add(&popped[g - gs], 1);
    atomic_fetch_add(&n_popped, 1);
}

static void *thief(void *arg)
{
    struct fen__p *mine = arg;
    for (uint32_t i = 0; n_popped < N; i++) {
        struct fen__g *g = fen__queue_steal(mine, &ps[0], i % 4 == 3);
        for (; g; g = fen__queue_pop(mine))
            count(g);
        if (i % 64 == 0)
            sched_yield();
    }
    return NULL;
}

static void test_every_fiber_is_popped_once(void **state)
{
    (void)state;
    pthread_t t[2];
    uint64_t rand = 42;
    memset(popped, 0, sizeof popped);
    n_popped = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, thief, &ps[2 + i]), 0);
    for (uint32_t i = 0; i < N;) {
        uint64_t r = fen__rand(&rand) % 600; /* often more than the ring holds */
        for (; r && i < N; r--, i++)
            if (r % 3)
                fen__queue_tail(&m[0], &gs[i]);
            else
                fen__queue_next(&m[0], &gs[i]);
        struct fen__g *g;
        for (r = fen__rand(&rand) % 400; r && (g = fen__queue_pop(&ps[0])); r--)
            count(g);
        if (i % 7 == 0)
            for (; (g = fen__global_pop(&m[0], 32));)
                count(g);
    }
    while (n_popped < N) {
        struct fen__g *g = fen__queue_pop(&ps[0]);
        g = g ? g : fen__global_pop(&m[0], 32);
        if (g)
            count(g);
        else
            sched_yield();
    }
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(popped[i], 1);
    assert_int_equal(n_popped, N);
    assert_true(overflows() > 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_full_ring_moves_half_and_the_new_one_in_order),
        TEST(test_global_pop_is_fair_and_in_order),
        TEST(test_steal_takes_half),
        TEST(test_runnext_is_stolen_only_when_allowed),
        TEST(test_runnext_has_a_streak_limit),
        TEST(test_counters_wrap),
        TEST(test_every_fiber_is_popped_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
