/* newborn_test.c - fibers that have not begun: who takes which, and in what order. */
#include "sched/sched_int.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N 4096

static struct fen__g *gs;
static struct fen__p *ps;
static struct fen__m m[2];

static int setup(void **state)
{
    (void)state;
    gs = calloc(N, sizeof *gs);
    ps = aligned_alloc(2 * FEN__LINE, 2 * sizeof *ps);
    if (!gs || !ps)
        return -1;
    memset(ps, 0, 2 * sizeof *ps);
    memset(m, 0, sizeof m);
    for (int i = 0; i < 2; i++) {
        fen__queue_init(&ps[i]);
        m[i].p = &ps[i];
        ps[i].m = &m[i];
    }
    fen__long_ticks = 1000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(gs);
    free(ps);
    return 0;
}

static void fill(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fen__newborn_push(&m[0], &gs[i]);
}

static void test_the_owner_takes_the_newest(void **state)
{
    (void)state;
    fill(N); /* more than any ring holds */
    assert_int_equal(ps[0].newborn.n, N);
    assert_int_equal(fen__queue_len(&ps[0]), N);
    for (int i = N - 1; i >= 0; i--)
        assert_ptr_equal(fen__newborn_pop(&ps[0], 0), &gs[i]);
    assert_null(fen__newborn_pop(&ps[0], 0));
    assert_int_equal(ps[0].newborn.n, 0);
}

static void test_the_oldest_has_a_turn_now_and_then(void **state)
{
    (void)state;
    fill(8);
    uint64_t t = 1000 * 1000;
    assert_ptr_equal(fen__newborn_pop(&ps[0], t), &gs[0]);
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 1), &gs[7]);
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 4999), &gs[6]);
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 5000), &gs[1]);
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 5001), &gs[5]);
    fen__sched.sim = true; /* time decides nothing there */
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 90000), &gs[4]);
    fen__sched.sim = false;
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 90000), &gs[2]);
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 990000), &gs[3]); /* the oldest and the last */
    assert_null(fen__newborn_pop(&ps[0], t + 990000));
    fill(1);
    assert_ptr_equal(fen__newborn_pop(&ps[0], t + 990001), &gs[0]);
}

static void test_a_thief_takes_half_of_the_oldest(void **state)
{
    (void)state;
    assert_null(fen__newborn_steal(&m[1], &ps[0]));
    fill(1);
    assert_ptr_equal(fen__newborn_steal(&m[1], &ps[0]), &gs[0]);
    assert_null(fen__newborn_steal(&m[1], &ps[0]));
    fill(7);
    assert_ptr_equal(fen__newborn_steal(&m[1], &ps[0]), &gs[0]);
    assert_int_equal(ps[1].newborn.n, 3);
    for (int i = 3; i > 0; i--)
        assert_ptr_equal(fen__newborn_pop(&ps[1], 0), &gs[i]);
    for (int i = 6; i > 3; i--)
        assert_ptr_equal(fen__newborn_pop(&ps[0], 0), &gs[i]);
    assert_int_equal(fen__queue_len(&ps[0]) + fen__queue_len(&ps[1]), 0);
    fill(N); /* at most 128 at a time */
    assert_ptr_equal(fen__newborn_steal(&m[1], &ps[0]), &gs[0]);
    assert_int_equal(ps[1].newborn.n, 127);
    assert_int_equal(ps[0].newborn.n, N - 128);
}

static void test_ready_ones_and_newborn_take_turns(void **state)
{
    (void)state;
    static char begun;
    fill(2);
    for (int i = 2; i < 5; i++) {
        gs[i].sp = &begun;
        fen__queue_tail(&m[0], &gs[i]);
    }
    gs[5].sp = &begun;
    fen__queue_next(&m[0], &gs[5]);
    static const int want[] = {5, 1, 2, 0, 3, 4};
    for (size_t i = 0; i < FEN__COUNT(want); i++) {
        assert_ptr_equal(fen__queue_pop(&ps[0]), &gs[want[i]]);
        ps[0].tick++;
    }
    assert_null(fen__queue_pop(&ps[0]));
}

static void test_what_runnext_displaces_goes_where_it_belongs(void **state)
{
    (void)state;
    static char begun;
    gs[1].sp = &begun;
    assert_false(fen__queue_next(&m[0], &gs[0]));
    assert_true(fen__queue_next(&m[0], &gs[1]));
    assert_int_equal(ps[0].newborn.n, 1);
    assert_true(fen__queue_next(&m[0], &gs[2]));
    assert_int_equal(ps[0].newborn.n, 1);
    assert_int_equal(fen__queue_ring_len(&ps[0]), 1);
}

/* ---- an owner against a thief ---- */

static _Atomic uint32_t seen[N];
static _Atomic bool done;

static void count(struct fen__g *g) { atomic_fetch_add(&seen[g - gs], 1); }

static void *thief(void *arg)
{
    (void)arg;
    for (bool last = false; !last;) {
        last = atomic_load(&done);
        struct fen__g *g = fen__newborn_steal(&m[1], &ps[0]);
        for (; g; g = fen__newborn_pop(&ps[1], 0))
            count(g);
    }
    return NULL;
}

static void test_every_one_is_taken_once(void **state)
{
    (void)state;
    pthread_t t;
    memset((void *)seen, 0, sizeof seen);
    done = false;
    assert_int_equal(pthread_create(&t, NULL, thief, NULL), 0);
    uint64_t rand = 1, now = 0;
    for (uint32_t i = 0; i < N;) {
        for (uint64_t r = fen__rand(&rand) % 9; r && i < N; r--)
            fen__newborn_push(&m[0], &gs[i++]);
        for (uint64_t r = fen__rand(&rand) % 9; r; r--) {
            struct fen__g *g = fen__newborn_pop(&ps[0], now += 900);
            if (g)
                count(g);
        }
    }
    atomic_store(&done, true);
    pthread_join(t, NULL);
    struct fen__g *g;
    while ((g = fen__newborn_pop(&ps[0], 0)))
        count(g);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(ps[0].newborn.n + ps[1].newborn.n, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_the_owner_takes_the_newest),
        T(test_the_oldest_has_a_turn_now_and_then),
        T(test_a_thief_takes_half_of_the_oldest),
        T(test_ready_ones_and_newborn_take_turns),
        T(test_what_runnext_displaces_goes_where_it_belongs),
        T(test_every_one_is_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
