/* once_test.c - once, barrier, and what the wait group has more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/sync.h>

#include <errno.h>

static fen_once once;
static _Atomic int calls, passed, lasts, timeouts, failed;
static int value;

/* ---- once ---- */

static int slow_init(void *fails)
{
    int n = atomic_fetch_add(&calls, 1);
    assert_int_equal(fen_sleep(FEN_MS), 0);
    if (n < (int)(intptr_t)fails)
        return -EIO;
    value = 42;
    return 0;
}

static void need(void *fails)
{
    int rc = fen_once_do(&once, slow_init, fails);
    if (rc) {
        assert_int_equal(rc, -EIO);
        atomic_fetch_add(&failed, 1);
    } else {
        assert_int_equal(value, 42);
        atomic_fetch_add(&passed, 1);
    }
}

static int many_need(void *fails)
{
    once = (fen_once){0};
    calls = passed = failed = value = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 50; i++)
        assert_int_equal(fen_go(need, fails), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(failed, (int)(intptr_t)fails);
    assert_int_equal(passed, 50 - (int)(intptr_t)fails);
    assert_int_equal(calls, (int)(intptr_t)fails + 1);
    fen_once_fini(&once);
    return 0;
}

static void test_it_runs_once(void **state)
{
    (void)state;
    run_on_all(many_need, 0);
}

static void test_a_failure_is_its_callers_and_the_next_tries_again(void **state)
{
    (void)state;
    run_on_all(many_need, (void *)3);
}

static int long_init(void *arg)
{
    (void)arg;
    atomic_fetch_add(&calls, 1);
    return fen_sleep(100 * FEN_S);
}

static void start_long(void *arg)
{
    (void)arg;
    assert_int_equal(fen_once_do(&once, long_init, NULL), -ECANCELED);
}

static int quick_init(void *arg)
{
    (void)arg;
    value = 7;
    return 1; /* not an error */
}

static void wait_quick(void *arg)
{
    (void)arg;
    assert_int_equal(fen_once_do(&once, quick_init, NULL), 0);
    assert_int_equal(value, 7);
    atomic_fetch_add(&passed, 1);
}

static int runner_is_cancelled(void *arg)
{
    (void)arg;
    once = (fen_once){0};
    calls = passed = value = 0;
    fen_scope *all = fen_scope_open(FEN_NEVER), *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(start_long, NULL), 0);
    wait_for(&calls, 1);
    assert_int_equal(fen_once_try_do(&once, quick_init, NULL), -EAGAIN);
    assert_int_equal(fen_once_do_until(&once, quick_init, NULL, fen_now() + FEN_MS), -ETIMEDOUT);
    for (int i = 0; i < 5; i++)
        assert_int_equal(fen_go_detached("waiter", wait_quick, NULL), 0);
    let_wait();
    fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    wait_for(&passed, 5);
    assert_int_equal(fen_once_try_do(&once, long_init, NULL), 0);
    assert_int_equal(fen_scope_close(all), 0);
    return 0;
}

static int at_once(void *arg)
{
    (void)arg;
    return -EIO;
}

static void test_a_cancelled_runner_hands_over(void **state)
{
    (void)state;
    run_on_all(runner_is_cancelled, NULL);
    assert_int_equal(fen_once_do(&once, long_init, NULL), 0); /* done: any thread */
    once = (fen_once){0};
    assert_int_equal(fen_once_do(&once, at_once, NULL), -EIO); /* a thread runs it too */
}

/* ---- barrier ---- */

enum { PARTIES = 5, ROUNDS = 50 };
static fen_barrier barrier;
static _Atomic int in_round[ROUNDS];

static void meet(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        atomic_fetch_add(&in_round[i], 1);
        int rc = fen_barrier_wait(&barrier);
        assert_true(rc == 0 || rc == 1);
        atomic_fetch_add(&lasts, rc);
        assert_int_equal(in_round[i], PARTIES); /* nobody is behind */
    }
}

static int meetings(void *arg)
{
    (void)arg;
    lasts = 0;
    for (int i = 0; i < ROUNDS; i++)
        in_round[i] = 0;
    fen_barrier_init(&barrier, PARTIES);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < PARTIES; i++)
        assert_int_equal(fen_go(meet, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(lasts, ROUNDS);
    fen_barrier_fini(&barrier);
    return 0;
}

static void test_barrier_round_after_round(void **state)
{
    (void)state;
    run_on_all(meetings, NULL);
}

static void meet_in_time(void *arg)
{
    unsigned x = (unsigned)(intptr_t)arg;
    for (int i = 0; i < 100; i++) {
        x = x * 1103515245 + 12345;
        int rc = fen_barrier_wait_until(&barrier, fen_now() + (x >> 16) % 60 * FEN_US);
        assert_true(rc == 0 || rc == 1 || rc == -ETIMEDOUT);
        atomic_fetch_add(rc == 0 ? &passed : rc == 1 ? &lasts : &timeouts, 1);
        if (x >> 24 & 1)
            fen_yield();
    }
}

/* However the deadlines fall: each round has one last and one other. */
static int races(void *arg)
{
    (void)arg;
    passed = lasts = timeouts = 0;
    fen_barrier_init(&barrier, 2);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < 6; i++)
        assert_int_equal(fen_go(meet_in_time, (void *)i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(passed, lasts);
    assert_int_equal(passed + lasts + timeouts, 600);
    fen_barrier_fini(&barrier);
    return 0;
}

static void test_all_of_a_round_agree_that_it_took_place(void **state)
{
    (void)state;
    run_on_all(races, NULL);
}

static void come_second(void *arg)
{
    (void)arg;
    assert_true(fen_barrier_wait(&barrier) >= 0);
}

static int withdrawn(void *arg)
{
    (void)arg;
    fen_barrier_init(&barrier, 2);
    assert_int_equal(fen_barrier_try_wait(&barrier), -EAGAIN);
    assert_int_equal(fen_barrier_wait_until(&barrier, fen_now() + FEN_MS), -ETIMEDOUT);
    assert_int_equal(fen_barrier_wait_until(&barrier, 1), -ETIMEDOUT);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(come_second, NULL), 0); /* the only one: the arrivals were taken back */
    let_wait();
    assert_int_equal(fen_barrier_try_wait(&barrier), 1);
    assert_int_equal(fen_scope_close(s), 0);
    fen_barrier_init(&barrier, 1);
    assert_int_equal(fen_barrier_wait(&barrier), 1);
    fen_barrier_fini(&barrier);
    return 0;
}

static void test_who_gives_up_takes_its_arrival_back(void **state)
{
    (void)state;
    run_on_all(withdrawn, NULL);
}

/* ---- wait group ---- */

static fen_wg wg;

static void wait_wg(void *arg)
{
    (void)arg;
    assert_int_equal(fen_wg_wait(&wg), 0);
    atomic_fetch_add(&passed, 1);
}

/* The count comes to 0 and is raised at once: those who waited are free all the same. */
static int reuse(void *arg)
{
    (void)arg;
    for (int round = 0; round < 20; round++) {
        passed = 0;
        fen_scope *s = fen_scope_open(FEN_NEVER);
        fen_wg_add(&wg, 1);
        assert_int_equal(fen_wg_try_wait(&wg), -EAGAIN);
        for (int i = 0; i < 10; i++)
            assert_int_equal(fen_go(wait_wg, NULL), 0);
        let_wait();
        while (passed < 10) { /* once, unless one was late in coming */
            fen_wg_done(&wg);
            fen_wg_add(&wg, 1);
            let_wait();
        }
        assert_int_equal(fen_scope_close(s), 0);
        assert_int_equal(passed, 10);
        assert_int_equal(fen_wg_wait_until(&wg, fen_now() + 100 * FEN_US), -ETIMEDOUT);
        fen_wg_done(&wg);
        assert_int_equal(fen_wg_try_wait(&wg), 0);
        fen_wg_fini(&wg);
    }
    return 0;
}

static void test_a_wait_group_may_be_used_again_while_waiters_leave(void **state)
{
    (void)state;
    run_on_all(reuse, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_runs_once),
        cmocka_unit_test(test_a_failure_is_its_callers_and_the_next_tries_again),
        cmocka_unit_test(test_a_cancelled_runner_hands_over),
        cmocka_unit_test(test_barrier_round_after_round),
        cmocka_unit_test(test_all_of_a_round_agree_that_it_took_place),
        cmocka_unit_test(test_who_gives_up_takes_its_arrival_back),
        cmocka_unit_test(test_a_wait_group_may_be_used_again_while_waiters_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
