/* tree_test.c - trees of scopes: many children, causes, cancels from anywhere at any moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/group.h>

#include "base/sanitize.h"

#include <errno.h>
#include <pthread.h>

#ifdef FEN__TSAN /* each fiber costs it much */
enum { CHILDREN = 1000, FANOUT = 8, SPAWNS = 400, LAPS = 1 };
#else
enum { CHILDREN = 10000, FANOUT = 20, SPAWNS = 20000, LAPS = 5 };
#endif

static _Atomic int alive, ended;

static void sleep_on(void *want)
{
    atomic_fetch_add(&alive, 1);
    int rc = fen_sleep(100 * FEN_S);
    assert_int_equal(rc, -ECANCELED);
    assert_int_equal(fen_scope_cause(NULL), *(int *)want);
    atomic_fetch_add(&ended, 1);
}

static void *cancel_scope(void *s)
{
    fen_scope_cancel_with(s, -EPIPE);
    fen_scope_cancel_with(s, -EIO); /* the first one counts */
    fen_scope_cancel(s);
    return NULL;
}

static int many_children(void *thread)
{
    static int want = -EPIPE;
    alive = ended = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_cause(s), 0);
    for (int i = 0; i < CHILDREN; i++)
        assert_int_equal(fen_go(sleep_on, &want), 0);
    wait_for(&alive, CHILDREN);
    if (thread) {
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, cancel_scope, s), 0);
        pthread_join(t, NULL);
    } else {
        cancel_scope(s);
    }
    assert_int_equal(fen_scope_cause(s), -EPIPE);
    assert_int_equal(fen_scope_check(s), -ECANCELED);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(ended, CHILDREN);
    return 0;
}

static void test_a_cancel_reaches_ten_thousand_children(void **state)
{
    (void)state;
    run_on(1, many_children, NULL);
    run_on(4, many_children, NULL);
}

static void test_a_cancel_from_a_thread_reaches_them_too(void **state)
{
    (void)state;
    run_on(2, many_children, "thread");
}

/* ---- three generations ---- */

static int cause = -ENOSPC;

static void grandparent(void *depth)
{
    if (!depth) {
        sleep_on(&cause);
        return;
    }
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < FANOUT; i++)
        assert_int_equal(fen_go(grandparent, (void *)((intptr_t)depth - 1)), 0);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(fen_scope_cause(NULL), cause);
}

static int generations(void *arg)
{
    (void)arg;
    alive = ended = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fen_go(grandparent, (void *)2), 0);
    wait_for(&alive, 3 * FANOUT * FANOUT);
    fen_scope_cancel_with(s, cause);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(ended, 3 * FANOUT * FANOUT);
    return 0;
}

static void test_a_cause_is_seen_generations_below(void **state)
{
    (void)state;
    run_on_all(generations, NULL);
}

static int nearest(void *arg)
{
    (void)arg;
    fen_scope *a = fen_scope_open(FEN_NEVER), *b = fen_scope_open(FEN_NEVER),
              *c = fen_scope_open(FEN_NEVER);
    fen_scope_cancel_with(a, -EIO);
    assert_int_equal(fen_scope_cause(NULL), -EIO);
    fen_scope_cancel_with(b, -EPIPE);
    assert_int_equal(fen_scope_cause(c), -EPIPE);
    assert_int_equal(fen_scope_cause(a), -EIO);
    fen_scope_cancel(c);
    assert_int_equal(fen_scope_cause(c), -ECANCELED);
    assert_int_equal(fen_scope_close(c), -ECANCELED);
    assert_int_equal(fen_scope_close(b), -ECANCELED);
    assert_int_equal(fen_scope_close(a), -ECANCELED);
    assert_int_equal(fen_scope_cause(NULL), 0);
    a = fen_scope_open(FEN_NEVER); /* the same memory most likely: nothing is left of the past */
    assert_int_equal(fen_scope_cause(a), 0);
    assert_int_equal(fen_scope_close(a), 0);
    return 0;
}

static void test_the_nearest_cause_counts(void **state)
{
    (void)state;
    run_on_all(nearest, NULL);
}

/* ---- while fibers are being started ---- */

static _Atomic int started, finished;

static void wait_or_not(void *arg)
{
    (void)arg;
    int rc = fen_sleep(100 * FEN_S);
    assert_int_equal(rc, -ECANCELED);
    atomic_fetch_add(&finished, 1);
}

static void *cancel_once_some_run(void *s)
{
    while (started < 50)
        ;
    fen_scope_cancel(s);
    return NULL;
}

static int while_spawning(void *arg)
{
    (void)arg;
    pthread_t t;
    started = finished = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(pthread_create(&t, NULL, cancel_once_some_run, s), 0);
    while (started < SPAWNS && (started < 100 || !fen_scope_check(s))) {
        assert_int_equal(fen_go(wait_or_not, NULL), 0);
        started++;
        if (started % 16 == 0)
            fen_yield();
    }
    for (int i = 0; i < 20; i++, started++) /* after the cancel: it ends at its first wait */
        assert_int_equal(fen_go(wait_or_not, NULL), 0);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(finished, started);
    return 0;
}

static void test_a_cancel_while_fibers_are_started(void **state)
{
    (void)state;
    for (int i = 0; i < LAPS; i++)
        run_on_all(while_spawning, NULL);
}

/* ---- deadlines ---- */

static void sleep_past(void *arg)
{
    (void)arg;
    assert_int_equal(fen_sleep(100 * FEN_S), -ETIMEDOUT);
    assert_int_equal(fen_scope_cause(NULL), -ETIMEDOUT);
    atomic_fetch_add(&ended, 1);
}

static int deadlines(void *arg)
{
    (void)arg;
    ended = 0;
    fen_scope *s = fen_scope_open(1); /* long past */
    assert_int_equal(fen_scope_check(s), -ETIMEDOUT);
    assert_int_equal(fen_scope_cause(s), -ETIMEDOUT);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_go(sleep_past, NULL), 0);
    assert_int_equal(fen_sleep(FEN_S), -ETIMEDOUT);
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    assert_int_equal(ended, 10);

    s = fen_scope_open(fen_now() + 100 * FEN_S);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_go(sleep_past, NULL), 0);
    let_wait();
    fen_scope_set_deadline(s, fen_now() + 200 * FEN_S); /* later: ignored */
    assert_true(fen_scope_deadline(s) < fen_now() + 101 * FEN_S);
    assert_int_equal(fen_scope_check(s), 0);
    fen_scope_set_deadline(s, fen_now() + FEN_MS); /* shortened, while they sleep */
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    assert_int_equal(ended, 20);

    s = fen_scope_open(fen_now() + 100 * FEN_S);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_go(sleep_past, NULL), 0);
    let_wait();
    fen_scope_set_deadline(s, 1); /* into the past */
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    assert_int_equal(ended, 30);
    return 0;
}

static void test_deadlines_past_and_shortened(void **state)
{
    (void)state;
    run_on_all(deadlines, NULL);
}

/* ---- deep ---- */

enum { DEEP = 1500 };

static _Atomic int deep_rc;

static void sleep_deep(void *ready)
{
    fen_scope **s = calloc(DEEP, sizeof(fen_scope *));
    assert_non_null(s);
    for (int i = 0; i < DEEP; i++)
        assert_non_null(s[i] = fen_scope_open(FEN_NEVER));
    *(_Atomic int *)ready = 1;
    deep_rc = fen_sleep(20 * FEN_S);
    for (int i = DEEP; i-- > 0;)
        (void)fen_scope_close(s[i]);
    free(s);
}

static int deep(void *arg)
{
    _Atomic int ready = 0;
    bool deadline = arg;
    deep_rc = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(sleep_deep, &ready), 0);
    wait_for(&ready, 1);
    let_wait();
    int64_t t = fen_now();
    if (deadline)
        fen_scope_set_deadline(s, t + FEN_MS);
    else
        fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), deadline ? -ETIMEDOUT : -ECANCELED);
    assert_int_equal(deep_rc, deadline ? -ETIMEDOUT : -ECANCELED);
    assert_true(fen_now() - t < 10 * FEN_S);
    return 0;
}

static fen_group *top;

static int go_deeper(void *left)
{
    intptr_t n = (intptr_t)left;
    if (n < 0)
        return 0;
    if (n == 0)
        return fen_group_go(top, go_deeper, (void *)-1);
    fen_group *g = fen_group_open(0, FEN_NEVER);
    assert_non_null(g);
    assert_int_equal(fen_group_go(g, go_deeper, (void *)(n - 1)), 0);
    return fen_group_wait(g);
}

static int deep_groups(void *arg)
{
    (void)arg;
    top = fen_group_open(0, FEN_NEVER);
    assert_int_equal(fen_group_go(top, go_deeper, (void *)(intptr_t)DEEP), 0);
    assert_int_equal(fen_group_wait(top), 0);
    return 0;
}

static void test_scopes_may_be_thousands_deep(void **state)
{
    (void)state;
    run_on_all(deep, NULL);
    run_on_all(deep, (void *)1);
    run_on_all(deep_groups, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cancel_reaches_ten_thousand_children),
        cmocka_unit_test(test_a_cancel_from_a_thread_reaches_them_too),
        cmocka_unit_test(test_a_cause_is_seen_generations_below),
        cmocka_unit_test(test_the_nearest_cause_counts),
        cmocka_unit_test(test_a_cancel_while_fibers_are_started),
        cmocka_unit_test(test_deadlines_past_and_shortened),
        cmocka_unit_test(test_scopes_may_be_thousands_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
