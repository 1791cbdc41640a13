/* limit_test.c - spawning beyond fen_config.max_fibers: FEN_ELIMIT from every way to spawn, nothing
 * started, nothing lost, and as many as before once the others have ended, on whatever worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"
#include "sync/run_rig.h"

#include <fen/group.h>
#include <fen/spawner.h>
#include <fen/sync.h>

#include <pthread.h>

#ifdef FEN__TSAN /* which takes milliseconds for a fiber */
enum { ROUNDS = 3, N_LIMITS = 4, SPAWNS = 300 };
#else
enum { ROUNDS = 20, N_LIMITS = 7, SPAWNS = 3000 };
#endif

static fen_wg gate;           /* what the fibers wait for */
static _Atomic int ran, here; /* those that began; those that are not at their end */

static void waits(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ran, 1);
    for (int i = 0; i < 3; i++) /* so that they end on all workers */
        fen_yield();
    (void)fen_wg_wait(&gate);
    atomic_fetch_sub(&here, 1);
}

static int waits_in_group(void *arg)
{
    waits(arg);
    return 0;
}

/* Spawns until it is told to stop; how many that were. */
static int fill(void)
{
    int n = 0, rc;
    while ((rc = fen_go(waits, NULL)) == 0)
        n++;
    assert_int_equal(rc, FEN_ELIMIT);
    atomic_fetch_add(&here, n);
    return n;
}

/* ---- each way to spawn ---- */

static fen_spawner *spawner;

static void *outsider(void *arg)
{
    assert_int_equal(fen_spawner_go(spawner, "outsider", waits, NULL), FEN_ELIMIT);
    assert_int_equal(fen_go_detached("outsider", waits, NULL), FEN_ELIMIT);
    return arg;
}

/* The scope is full, or everything is. */
static void every_way_is_refused(fen_group *g)
{
    pthread_t t;
    assert_int_equal(fen_go_named("named", 0, waits, NULL), FEN_ELIMIT);
    assert_int_equal(fen_go_named("large", 1 << 20, waits, NULL), FEN_ELIMIT);
    assert_int_equal(fen_go_detached("detached", waits, NULL), FEN_ELIMIT);
    assert_int_equal(fen_group_go(g, waits_in_group, NULL), FEN_ELIMIT);
    assert_int_equal(fen_group_try_go(g, waits_in_group, NULL), FEN_ELIMIT);
    assert_int_equal(fen_spawner_go(spawner, "inside", waits, NULL), FEN_ELIMIT);
    assert_int_equal(pthread_create(&t, NULL, outsider, NULL), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
}

static int every_way(void *arg)
{
    int max = *(int *)arg;
    fen_wg_add(&gate, 1);
    fen_group *g = fen_group_open(0, FEN_NEVER);
    assert_non_null(g);
    assert_int_equal(fen_spawner_open(&spawner), 0);
    assert_int_equal(fill(), max - 1);
    every_way_is_refused(g);
    fen_wg_done(&gate);
    fen_spawner_close(spawner);
    assert_int_equal(fen_group_wait(g), 0); /* a refusal is not a member's error */
    assert_int_equal(atomic_load(&ran), max - 1);
    return 0;
}

static const int limits[] = {1, 2, 10, 65, 100, 300, 1000};

static void run_with(int (*fn)(void *), int max, int procs)
{
    int limit = max;
    fen_stats st;
    atomic_store(&ran, 0);
    atomic_store(&here, 0);
    assert_int_equal(
        fen_run(fn, &limit, &(fen_config){.procs = procs, .max_fibers = (uint32_t)max}), 0);
    fen_stats_get(&st);
    assert_int_equal(st.fibers_live, 0);
    assert_int_equal(atomic_load(&here), 0);
}

static void test_every_way_to_spawn_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < N_LIMITS; i++)
        for (int procs = 1; procs <= 4; procs *= 2)
            run_with(every_way, limits[i], procs);
}

/* ---- again and again ----
 * Fibers end on other workers than the one that spawns, whose caches keep what they have ended. */

static int again(void *arg)
{
    int max = *(int *)arg;
    for (int i = 0; i < ROUNDS; i++) {
        fen_wg_add(&gate, 1);
        fen_scope *s = fen_scope_open(FEN_NEVER);
        assert_non_null(s);
        int n = fill();
        fen_wg_done(&gate);
        assert_int_equal(fen_scope_close(s), 0);
        if (n != max - 1)
            fail_msg("limit %d, round %d: %d fibers", max, i, n);
    }
    return 0;
}

static void test_the_limit_is_the_same_in_each_round(void **state)
{
    (void)state;
    for (int i = 0; i < N_LIMITS; i++)
        for (int procs = 1; procs <= 4; procs *= 2)
            run_with(again, limits[i], procs);
}

/* ---- many spawn at once ---- */

#define SPAWNERS 8

static _Atomic int most;

static void counted(void *arg)
{
    (void)arg;
    int n = atomic_fetch_add(&here, 1) + 1, seen = atomic_load(&most);
    while (n > seen && !atomic_compare_exchange_weak(&most, &seen, n))
        ;
    fen_yield();
    atomic_fetch_sub(&here, 1);
}

static void spawns(void *arg)
{
    int *refused = arg;
    (void)fen_wg_wait(&gate); /* until all of them have begun: then there is no room for one more */
    for (int i = 0; i < SPAWNS; i++) {
        int rc = fen_go(counted, NULL);
        if (rc == FEN_ELIMIT) {
            ++*refused;
            fen_yield();
        } else {
            assert_int_equal(rc, 0);
        }
    }
}

static int crowd(void *arg)
{
    static int refused[SPAWNERS];
    int sum = 0, max = *(int *)arg;
    atomic_store(&most, 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    fen_wg_add(&gate, 1);
    for (int i = 0; i < SPAWNERS; i++) {
        refused[i] = 0;
        assert_int_equal(fen_go(spawns, &refused[i]), 0);
    }
    fen_wg_done(&gate);
    assert_int_equal(fen_scope_close(s), 0);
    for (int i = 0; i < SPAWNERS; i++)
        sum += refused[i];
    assert_true(sum > 0);
    assert_in_range(atomic_load(&most), 1, max - 2 + SPAWNERS); /* not this fiber */
    return 0;
}

static void test_many_spawn_at_the_limit(void **state)
{
    (void)state;
    run_with(crowd, 20, 4);
    run_with(crowd, 100, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_to_spawn_is_refused),
        cmocka_unit_test(test_the_limit_is_the_same_in_each_round),
        cmocka_unit_test(test_many_spawn_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
