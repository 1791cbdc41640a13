/* pool_test.c - resource pools: the bound, first come first served, and a resource that is settled
 * exactly once however its scope ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/mem.h"
#include "sync/run_rig.h"
#include "sys/sys.h"

#include <fen/fiber.h>
#include <fen/pool.h>
#include <pthread.h>
#include <string.h>

/* ---- a resource that is checked ---- */

struct res {
    _Atomic int users;
    bool live;
};

#define RES_MAX 4096
static struct res resources[RES_MAX];
static _Atomic int n_made, n_destroyed;
static int make_rc, check_rc, checks;
static int64_t make_ns;

static int res_make(void *arg, void **ret)
{
    (void)arg;
    if (make_ns) {
        int rc = fen_sleep(make_ns);
        if (rc)
            return rc;
    }
    if (make_rc)
        return make_rc;
    int i = atomic_fetch_add(&n_made, 1);
    assert_true(i < RES_MAX);
    resources[i] = (struct res){.live = true};
    *ret = &resources[i];
    return 0;
}

static void res_destroy(void *arg, void *resource)
{
    struct res *r = resource;
    (void)arg;
    assert_true(r->live); /* once */
    r->live = false;
    atomic_fetch_add(&n_destroyed, 1);
}

static int res_check(void *arg, void *resource)
{
    (void)arg;
    assert_true(((struct res *)resource)->live);
    checks++;
    return check_rc;
}

static fen_pool *pool_of(int max)
{
    n_made = n_destroyed = 0;
    make_rc = check_rc = checks = 0;
    make_ns = 0;
    fen_pool *p = fen_pool_new(
        &(fen_pool_config){.name = "things", .max = max, .make = res_make, .destroy = res_destroy});
    assert_non_null(p);
    return p;
}

static fen_pool_stats stats(fen_pool *p)
{
    fen_pool_stats s;
    fen_pool_stats_get(p, &s);
    return s;
}

static fen_scope *scope(int64_t for_ns)
{
    fen_scope *s = fen_scope_open(for_ns == FEN_NEVER ? FEN_NEVER : fen_now() + for_ns);
    assert_non_null(s);
    return s;
}

/* ---- settled exactly once ---- */

enum ending {
    PUT,
    PUT_ERROR,
    PUT_TWICE,
    FORGOTTEN,
    CANCELLED,
    TIMED_OUT,
    CANCELLED_NO_PUT,
    ENDINGS
};

static void one_ending(fen_pool *p, enum ending how)
{
    fen_lease l;
    fen_scope *s = scope(how == TIMED_OUT ? 20 * FEN_MS : FEN_NEVER);
    assert_int_equal(fen_pool_get(p, &l), 0);
    assert_true(((struct res *)l.resource)->live);
    int rc = 0;
    if (how == CANCELLED || how == CANCELLED_NO_PUT)
        fen_scope_cancel(s);
    if (how == TIMED_OUT)
        assert_int_equal(fen_sleep(FEN_S), -ETIMEDOUT);
    if (how == PUT_ERROR)
        rc = -EIO;
    if (how != FORGOTTEN && how != CANCELLED_NO_PUT)
        fen_pool_put(&l, rc);
    if (how == PUT_TWICE)
        fen_pool_put(&l, rc);
    (void)fen_scope_close(s);
    fen_pool_stats t = stats(p);
    assert_int_equal(t.lent, 0);
    assert_int_equal(t.free, how == PUT || how == PUT_TWICE);
    assert_int_equal(n_made - n_destroyed, t.free);
    assert_int_equal(t.forgotten, how == FORGOTTEN || how == CANCELLED_NO_PUT);
    assert_int_equal(t.discarded, how == PUT_ERROR || how == CANCELLED || how == TIMED_OUT);
}

static int endings(void *arg)
{
    (void)arg;
    for (enum ending e = 0; e < ENDINGS; e++) {
        fen_pool *p = pool_of(2);
        one_ending(p, e);
        fen_pool_free(p);
        assert_int_equal(n_made, n_destroyed);
    }
    fen_pool_put(NULL, 0);
    return 0;
}

static void test_endings(void **state)
{
    (void)state;
    run_on_all(endings, NULL);
}

static int reuse(void *arg)
{
    (void)arg;
    fen_pool *p = pool_of(4);
    fen_scope *s = scope(FEN_NEVER);
    for (int i = 0; i < 100; i++) {
        fen_lease a, b;
        assert_int_equal(fen_pool_get(p, &a), 0);
        assert_int_equal(fen_pool_get(p, &b), 0);
        assert_ptr_not_equal(a.resource, b.resource);
        void *last = b.resource;
        fen_pool_put(&a, 0);
        fen_pool_put(&b, 5); /* any number of bytes is no error */
        assert_int_equal(fen_pool_try_get(p, &a), 0);
        assert_ptr_equal(a.resource, last);
        fen_pool_put(&a, 0);
    }
    assert_int_equal(n_made, 2);
    assert_int_equal(fen_scope_close(s), 0);
    fen_pool_free(p);
    fen_pool_free(NULL);
    return 0;
}

static void test_reuse(void **state)
{
    (void)state;
    run_on_all(reuse, NULL);
}

/* ---- the bound, and who comes first ---- */

static fen_pool *the_pool;
static _Atomic int order[64], n_order, waiting;

static void one_waiter(void *arg)
{
    fen_lease l;
    fen_scope *s = scope(FEN_NEVER);
    atomic_fetch_add(&waiting, 1);
    assert_int_equal(fen_pool_get(the_pool, &l), 0);
    order[atomic_fetch_add(&n_order, 1)] = (int)(intptr_t)arg;
    fen_pool_put(&l, (intptr_t)arg % 3 ? 0 : -EIO); /* the place is handed on as well */
    assert_int_equal(fen_scope_close(s), 0);
}

static int in_turn(void *arg)
{
    (void)arg;
    the_pool = pool_of(1);
    n_order = waiting = 0;
    fen_scope *s = scope(FEN_NEVER);
    fen_lease l, late;
    assert_int_equal(fen_pool_get(the_pool, &l), 0);
    for (intptr_t i = 0; i < 20; i++) {
        assert_int_equal(fen_go(one_waiter, (void *)i), 0);
        wait_for(&waiting, (int)i + 1);
        while (stats(the_pool).waiting < i + 1)
            assert_int_equal(fen_sleep(50 * FEN_US), 0);
    }
    assert_int_equal(fen_pool_try_get(the_pool, &late), -EAGAIN);
    fen_pool_put(&l, 0);
    (void)!fen_pool_try_get(the_pool, &late); /* no barging: it is somebody's already, or free */
    fen_pool_put(late.pool == the_pool ? &late : NULL, 0);
    assert_int_equal(fen_scope_close(s), 0);
#ifndef FEN_HARD /* each second wait ends for nothing there, and who was in it waits anew */
    for (int i = 0; i < 20; i++)
        assert_int_equal(order[i], i);
#endif
    assert_int_equal(n_order, 20);
    assert_int_equal(stats(the_pool).waited, 20);
    fen_pool_free(the_pool);
    assert_int_equal(n_made, n_destroyed);
    return 0;
}

static void test_in_turn(void **state)
{
    (void)state;
    run_on_all(in_turn, NULL);
}

/* Many more fibers than resources: never two users of one, never more than max, nothing lost. */
static _Atomic int in_use;

static void hammer(void *arg)
{
    unsigned x = (unsigned)(uintptr_t)arg * 7919 + 1;
    for (int i = 0; i < 50; i++) {
        x = x * 1664525 + 1013904223;
        fen_scope *s = scope(x >> 30 ? 100 * FEN_MS : 200 * FEN_US);
        fen_lease l;
        int rc = fen_pool_get(the_pool, &l);
        if (rc == 0) {
            struct res *r = l.resource;
            assert_int_equal(atomic_fetch_add(&r->users, 1), 0);
            assert_true(atomic_fetch_add(&in_use, 1) < 3);
            if (x >> 29 & 1)
                fen_yield();
            else
                rc = fen_sleep((x >> 8) % 300 * FEN_US);
            atomic_fetch_sub(&in_use, 1);
            atomic_fetch_sub(&r->users, 1);
            if (x >> 20 & 7)
                fen_pool_put(&l, rc);
        } else {
            assert_true(rc == -ETIMEDOUT);
        }
        (void)fen_scope_close(s);
    }
}

static int hammered(void *arg)
{
    (void)arg;
    the_pool = pool_of(3);
    fen_scope *s = scope(FEN_NEVER);
    for (uintptr_t i = 0; i < 40; i++)
        assert_int_equal(fen_go(hammer, (void *)i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_pool_stats t = stats(the_pool);
    assert_int_equal(t.lent, 0);
    assert_int_equal(t.waiting, 0);
    assert_int_equal(t.free, n_made - n_destroyed);
    assert_int_equal(t.gets + t.refused, 40 * 50);
    fen_pool_free(the_pool);
    assert_int_equal(n_made, n_destroyed);
    return 0;
}

static void test_hammered(void **state)
{
    (void)state;
    run_on_all(hammered, NULL);
}

/* ---- deadlines, making, checking ---- */

static int deadlines(void *arg)
{
    (void)arg;
    fen_pool *p = pool_of(1);
    fen_scope *s = scope(FEN_NEVER);
    fen_lease l, m;
    make_ns = FEN_S * 30; /* the making is bounded by the call's deadline */
    assert_int_equal(fen_pool_get_until(p, fen_now() + 10 * FEN_MS, &l), -ETIMEDOUT);
    assert_int_equal(stats(p).lent, 0);
    make_ns = 0;
    make_rc = -ECONNREFUSED;
    assert_int_equal(fen_pool_get(p, &l), -ECONNREFUSED);
    make_rc = 0;
    assert_int_equal(fen_pool_get(p, &l), 0);
    assert_int_equal(fen_pool_get_until(p, fen_now() + 10 * FEN_MS, &m), -ETIMEDOUT); /* waiting */
    fen_scope *in = scope(10 * FEN_MS);
    assert_int_equal(fen_pool_get(p, &m), -ETIMEDOUT); /* the scope's deadline does as well */
    assert_int_equal(fen_scope_close(in), -ETIMEDOUT);
    fen_pool_put(&l, 0);
    assert_int_equal(stats(p).refused, 4);
    in = scope(FEN_NEVER);
    fen_scope_cancel(in);
    assert_int_equal(fen_pool_get(p, &m), -ECANCELED); /* although one is free */
    assert_int_equal(fen_scope_close(in), -ECANCELED);
    assert_int_equal(stats(p).free, 1);
    assert_int_equal(fen_scope_close(s), 0);
    fen_pool_free(p);
    return 0;
}

static void test_deadlines(void **state)
{
    (void)state;
    run_on_all(deadlines, NULL);
}

static int checked_idle(void *arg)
{
    (void)arg;
    fen_pool_free(pool_of(1)); /* resets the counts */
    fen_pool *p = fen_pool_new(&(fen_pool_config){.max = 1,
                                                  .make = res_make,
                                                  .destroy = res_destroy,
                                                  .check = res_check,
                                                  .check_after_ns = 5 * FEN_MS});
    fen_scope *s = scope(FEN_NEVER);
    fen_lease l;
    assert_int_equal(fen_pool_get(p, &l), 0);
    void *first = l.resource;
    fen_pool_put(&l, 0);
    assert_int_equal(fen_sleep(10 * FEN_MS), 0);
    assert_int_equal(fen_pool_get(p, &l), 0); /* it is well */
    assert_int_equal(checks, 1);
    assert_ptr_equal(l.resource, first);
    fen_pool_put(&l, 0);
    check_rc = -EPIPE;
    assert_int_equal(fen_sleep(10 * FEN_MS), 0);
    assert_int_equal(fen_pool_get_until(p, fen_now() + FEN_S, &l), 0);
    assert_int_equal(checks, 2);
    assert_ptr_not_equal(l.resource, first);
    fen_pool_put(&l, 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_pool_free(p);
    assert_int_equal(n_made, 2);
    assert_int_equal(n_destroyed, 2);
    return 0;
}

static void test_checked(void **state)
{
    (void)state;
    run_on_all(checked_idle, NULL);
}

/* ---- close, holders ---- */

static _Atomic int got_closed, holding, let_go;

static void hold(void *arg)
{
    fen_lease l;
    fen_scope *s = scope(FEN_NEVER);
    (void)arg;
    assert_int_equal(fen_pool_get(the_pool, &l), 0);
    atomic_store(&holding, 1);
    wait_for(&let_go, 1);
    fen_pool_put(&l, 0);
    assert_int_equal(fen_scope_close(s), 0);
}

static void want(void *arg)
{
    fen_lease l;
    fen_scope *s = scope(FEN_NEVER);
    (void)arg;
    assert_int_equal(fen_pool_get(the_pool, &l), FEN_ECLOSED);
    atomic_store(&got_closed, 1);
    assert_int_equal(fen_scope_close(s), 0);
}

static void see_holder(void *arg, const fen_pool_holder *h)
{
    assert_non_null(h->resource);
    assert_true(h->fiber > 0 && h->site && h->since_ns > 0 && h->since_ns <= fen_now());
    ++*(int *)arg;
}

static void see_name(void *arg, const fen_pool_holder *h) { assert_string_equal(h->name, arg); }

/* The name that it had is not needed any more. */
static int renamed(void *arg)
{
    (void)arg;
    fen_pool *pool = pool_of(1);
    fen_lease l;
    char *first = strdup("the first name");
    assert_int_equal(fen_fiber_rename(first), 0);
    fen_scope *s = scope(FEN_NEVER);
    assert_int_equal(fen_pool_get(pool, &l), 0);
    fen_pool_each_holder(pool, see_name, first);
    assert_int_equal(fen_fiber_rename("another"), 0);
    memset(first, 'x', strlen(first));
    free(first);
    fen_pool_each_holder(pool, see_name, (char[]){"another"});
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(fen_pool_close(pool), 0);
    fen_pool_free(pool);
    return 0;
}

static void test_a_holder_has_the_name_of_now(void **state)
{
    (void)state;
    run_on_all(renamed, NULL);
}

static int closing(void *arg)
{
    (void)arg;
    the_pool = pool_of(1);
    got_closed = holding = let_go = 0;
    fen_scope *s = scope(FEN_NEVER);
    assert_int_equal(fen_go(hold, NULL), 0);
    wait_for(&holding, 1);
    int holders = 0;
    fen_pool_each_holder(the_pool, see_holder, &holders);
    assert_int_equal(holders, 1);
    assert_int_equal(fen_go(want, NULL), 0);
    while (!stats(the_pool).waiting)
        assert_int_equal(fen_sleep(50 * FEN_US), 0);
    fen_scope *in = scope(5 * FEN_MS);
    assert_int_equal(fen_pool_close(the_pool), -ETIMEDOUT); /* one is still on loan */
    (void)fen_scope_close(in);
    wait_for(&got_closed, 1);
    atomic_store(&let_go, 1);
    assert_int_equal(fen_pool_close(the_pool), 0);
    assert_int_equal(n_made, n_destroyed); /* what came back was not kept */
    holders = 0;
    fen_pool_each_holder(the_pool, see_holder, &holders);
    assert_int_equal(holders, 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_pool_free(the_pool);
    return 0;
}

static void test_close(void **state)
{
    (void)state;
    run_on_all(closing, NULL);
}

/* ---- who may not ---- */

static void in_parents_scope(void *arg)
{
    fen_lease l;
    *(int *)arg = fen_pool_get(the_pool, &l);
}

static int wrong_scope(void *arg)
{
    static int rc;
    (void)arg;
    the_pool = pool_of(1);
    rc = 0;
    fen_scope *s = scope(FEN_NEVER);
    assert_int_equal(fen_go(in_parents_scope, &rc), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(rc, -EINVAL);
    fen_pool_free(the_pool);
    return 0;
}

static void test_refused(void **state)
{
    (void)state;
    fen_lease l;
    fen_pool_config c = {.max = 1, .make = res_make, .destroy = res_destroy};
    fen_pool *p = fen_pool_new(&c);
    assert_non_null(p);
    assert_int_equal(fen_pool_get(p, &l), FEN_ENOTFIBER);
    fen_pool_free(p);
    c.max = 0;
    assert_null(fen_pool_new(&c));
    c.max = FEN_POOL_MAX + 1;
    assert_null(fen_pool_new(&c));
    c = (fen_pool_config){.max = 1, .destroy = res_destroy};
    assert_null(fen_pool_new(&c));
    run_on_all(wrong_scope, NULL);
}

/* ---- no memory ---- */

static int fail_at, calls;
static int refuse(const char *call)
{
    return !strcmp(call, "malloc") && ++calls == fail_at ? -ENOMEM : 0;
}

static bool some_work(void)
{
    fen_pool *p =
        fen_pool_new(&(fen_pool_config){.max = 2, .make = res_make, .destroy = res_destroy});
    fen_scope *s = fen_scope_open(FEN_NEVER);
    bool failed = !p || !s;
    for (int i = 0; p && s && i < 4; i++) {
        fen_lease l;
        int rc = fen_pool_get_until(p, fen_now() + FEN_S, &l);
        failed |= rc != 0;
        if (rc == 0)
            fen_pool_put(&l, i == 2 ? -EIO : 0);
    }
    if (s)
        (void)fen_scope_close(s);
    fen_pool_free(p);
    return failed;
}

static int no_memory(void *arg)
{
    (void)arg;
    n_made = n_destroyed = make_rc = 0;
    fen_scope *hog[64]; /* so that opening a scope has to take memory */
    bool failed = true;
    int opened = 0;
    for (fail_at = 1; failed && fail_at < 100; fail_at++) {
        while (opened < 63)
            hog[opened++] = scope(FEN_NEVER);
        calls = 0;
        fen__sys_fault = refuse;
        failed = some_work();
        fen__sys_fault = NULL;
        assert_int_equal(n_made, n_destroyed);
    }
    assert_true(fail_at > 2 && !failed);
    while (opened)
        (void)fen_scope_close(hog[--opened]);
    return 0;
}

static void test_no_memory(void **state)
{
    (void)state;
    int64_t before = fen__mem_live_bytes();
    run_on(1, no_memory, NULL);
    assert_int_equal(fen__mem_live_bytes(), before);
}

/* ---- close, then free: not under who waited ---- */

static fen_pool *shut;
static _Atomic int shut_done, left, went;

static void *close_and_free(void *arg)
{
    (void)arg;
    int rc = fen_pool_close(shut);
    left = stats(shut).waiting;
    shut_done = 1;
    fen_pool_free(shut);
    return (void *)(intptr_t)rc;
}

static void get_refused(void *arg)
{
    fen_lease l;
    (void)arg;
    fen_scope *s = scope(FEN_NEVER);
    assert_int_equal(fen_pool_get(shut, &l), FEN_ECLOSED);
    went = 1;
    assert_int_equal(fen_scope_close(s), 0);
}

/* On the one P the waiter, woken by the close, does not go on before the lease has come back; but a
 * P that is kept for long is taken. */
static int close_under_a_waiter(void *arg)
{
    fen_lease l, none;
    pthread_t t;
    void *rc;
    (void)arg;
    shut_done = left = went = 0;
    shut = pool_of(1);
    fen_scope *s = scope(FEN_NEVER);
    assert_int_equal(fen_pool_get(shut, &l), 0);
    assert_int_equal(fen_go(get_refused, NULL), 0);
    while (!stats(shut).waiting)
        let_wait();
    assert_int_equal(pthread_create(&t, NULL, close_and_free, NULL), 0);
    while (fen_pool_try_get(shut, &none) == -EAGAIN)
        ;
    fen_pool_put(&l, 0);
    for (int64_t end = fen_now() + 2 * FEN_MS; !shut_done && fen_now() < end;)
        ;
    fen_blocking_begin();
    pthread_join(t, &rc);
    fen_blocking_end();
    assert_int_equal((intptr_t)rc, 0);
    assert_int_equal(left, 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(went, 1);
    return 0;
}

static void test_close_waits_for_those_who_waited(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++)
        run_on(1, close_under_a_waiter, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_waits_for_those_who_waited),
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_in_turn),
        cmocka_unit_test(test_hammered),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_a_holder_has_the_name_of_now),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
