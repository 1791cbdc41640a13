/* group_test.c - the first error cancels the rest, and is what the wait returns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/group.h>

#include <errno.h>

static fen_group *group;
static _Atomic int inside, most, ran, cancelled, may_fail;

static int work(void *arg)
{
    (void)arg;
    int n = atomic_fetch_add(&inside, 1) + 1;
    if (n > most)
        most = n;
    fen_yield();
    atomic_fetch_add(&ran, 1);
    atomic_fetch_sub(&inside, 1);
    return 3; /* no error */
}

static int limited(void *arg)
{
    (void)arg;
    most = ran = 0;
    fen_group *g = fen_group_open(4, FEN_NEVER);
    for (int i = 0; i < 100; i++)
        assert_int_equal(fen_group_go(g, work, NULL), 0);
    assert_int_equal(fen_group_wait(g), 0);
    assert_int_equal(ran, 100);
    assert_true(most <= 4);
    return 0;
}

static void test_limit(void **state)
{
    (void)state;
    run_on_all(limited, NULL);
}

static int wait_long(void *arg)
{
    (void)arg;
    int rc = fen_sleep(100 * FEN_S);
    assert_int_equal(rc, -ECANCELED);
    assert_int_equal(fen_scope_cause(NULL), -EIO);
    atomic_fetch_add(&cancelled, 1);
    return rc; /* not the first */
}

static int go_wrong(void *arg)
{
    (void)arg;
    wait_for(&may_fail, 1);
    return -EIO;
}

static int first_error(void *arg)
{
    (void)arg;
    cancelled = 0;
    may_fail = 0;
    fen_scope *outer = fen_scope_open(FEN_NEVER);
    fen_group *g = fen_group_open(0, FEN_NEVER);
    for (int i = 0; i < 20; i++)
        assert_int_equal(fen_group_go(g, i == 10 ? go_wrong : wait_long, NULL), 0);
    may_fail = 1;
    assert_int_equal(fen_sleep(100 * FEN_S), -ECANCELED); /* the opener is in the group's scope */
    assert_int_equal(fen_group_go(g, work, NULL), -EIO);
    assert_int_equal(fen_group_try_go(g, work, NULL), -EIO);
    assert_int_equal(fen_group_wait(g), -EIO);
    assert_int_equal(cancelled, 19);
    assert_int_equal(fen_scope_close(outer), 0); /* the failure stays inside */
    return 0;
}

static void test_first_error_cancels_the_rest_with_that_cause(void **state)
{
    (void)state;
    run_on_all(first_error, NULL);
}

/* Full: go waits, and learns that the group failed meanwhile. */
static int full(void *arg)
{
    (void)arg;
    may_fail = 0;
    fen_group *g = fen_group_open(1, FEN_NEVER);
    assert_int_equal(fen_group_go(g, go_wrong, NULL), 0);
    assert_int_equal(fen_group_try_go(g, work, NULL), -EAGAIN);
    assert_int_equal(fen_group_go_until(g, work, NULL, 1), -ETIMEDOUT);
    may_fail = 1;
    int rc = fen_group_go(g, work, NULL);
    assert_int_equal(rc, -EIO);
    assert_int_equal(fen_group_wait(g), -EIO);
    g = fen_group_open(1, fen_now() + 100 * FEN_S);
    assert_int_equal(fen_group_go(g, work, NULL), 0);
    fen_scope_set_deadline(fen_group_scope(g), fen_now() + FEN_MS);
    assert_int_equal(fen_sleep(FEN_S), -ETIMEDOUT);
    assert_int_equal(fen_group_go(g, work, NULL), -ETIMEDOUT);
    assert_int_equal(fen_group_wait(g), -ETIMEDOUT);
    g = fen_group_open(0, FEN_NEVER);
    fen_scope_cancel_with(fen_group_scope(g), -ENOSPC);
    assert_int_equal(fen_group_go(g, work, NULL), -ECANCELED);
    assert_int_equal(fen_group_wait(g), -ECANCELED);
    return 0;
}

static void test_full_failed_timed_out_and_cancelled_groups_take_nobody(void **state)
{
    (void)state;
    run_on_all(full, NULL);
}

/* A fiber of the group adds to it, from inside a scope of its own. */
static int add_more(void *depth)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < (intptr_t)depth; i++)
        assert_int_equal(fen_group_go(group, add_more, (void *)((intptr_t)depth - 1)), 0);
    assert_int_equal(fen_scope_close(s), 0);
    atomic_fetch_add(&ran, 1);
    return 0;
}

static int nested(void *arg)
{
    (void)arg;
    ran = 0;
    group = fen_group_open(0, FEN_NEVER);
    assert_int_equal(fen_group_go(group, add_more, (void *)4), 0);
    assert_int_equal(fen_group_wait(group), 0);
    assert_int_equal(ran, 1 + 4 + 4 * 3 + 4 * 3 * 2 + 4 * 3 * 2);
    return 0;
}

static void test_fibers_of_the_group_may_add_to_it(void **state)
{
    (void)state;
    run_on_all(nested, NULL);
    assert_null(fen_group_open(0, FEN_NEVER)); /* not a fiber */
}

static int fail_at_gate(void *arg)
{
    wait_for(&may_fail, 1);
    return arg ? -EAGAIN : 0; /* an error like any other */
}

/* Fibers of a group are waited for until a time, and go on after it. */
static int until(void *fails)
{
    int rc = 7;
    int64_t soon = fen_now() + 5 * FEN_MS;
    may_fail = ran = 0;
    fen_group *g = fen_group_open(2, FEN_NEVER);
    assert_int_equal(fen_group_go(g, fail_at_gate, fails), 0);
    assert_int_equal(fen_group_try_wait(g, &rc), -EAGAIN);
    assert_int_equal(fen_group_wait_until(g, -1, &rc), -ETIMEDOUT);
    assert_int_equal(fen_group_wait_until(g, soon, &rc), -ETIMEDOUT);
    assert_true(fen_now() >= soon);
    assert_int_equal(rc, 7);
    assert_int_equal(fen_scope_check(fen_group_scope(g)), 0); /* nobody was cancelled */
    assert_int_equal(fen_group_go(g, work, NULL), 0);         /* it takes more */
    may_fail = 1;
    assert_int_equal(fen_group_wait_until(g, fen_now() + 20 * FEN_S, &rc), 0);
    assert_int_equal(rc, fails ? -EAGAIN : 0);
    assert_int_equal(ran, 1);
    return 0;
}

static int sleep_past(void *arg)
{
    (void)arg;
    return fen_sleep(20 * FEN_S) == -ETIMEDOUT ? 0 : -EINVAL;
}

/* The group's deadline ends its fibers, and through them the wait, which has none. */
static int own_deadline(void *arg)
{
    int rc = 7;
    (void)arg;
    for (int form = 0; form < 2; form++) {
        fen_group *g = fen_group_open(0, fen_now() + 3 * FEN_MS);
        assert_int_equal(fen_group_go(g, sleep_past, NULL), 0);
        if (form == 0)
            assert_int_equal(fen_group_wait_until(g, FEN_NEVER, &rc), 0);
        else
            rc = fen_group_wait(g);
        assert_int_equal(rc, -ETIMEDOUT);
    }
    return 0;
}

static void test_wait_until_leaves_the_group_when_fibers_are_left(void **state)
{
    (void)state;
    run_on_all(until, NULL);
    run_on_all(until, &ran);
    run_on_all(own_deadline, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_first_error_cancels_the_rest_with_that_cause),
        cmocka_unit_test(test_full_failed_timed_out_and_cancelled_groups_take_nobody),
        cmocka_unit_test(test_fibers_of_the_group_may_add_to_it),
        cmocka_unit_test(test_wait_until_leaves_the_group_when_fibers_are_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
