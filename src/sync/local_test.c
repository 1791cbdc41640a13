/* local_test.c - fiber-local values, labels, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include "sync/sync.h"

#include <fen/local.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static _Atomic int destroyed, joined, checked;
static fen_local_key key, other;

static void count(void *value) { atomic_fetch_add(&destroyed, *(int *)value); }

static void hold(void *arg)
{
    assert_null(fen_local_get(key)); /* not inherited, and nothing of an earlier fiber */
    assert_int_equal(fen_local_set(key, arg), 0);
    for (int i = 0; i < 5; i++) {
        assert_ptr_equal(fen_local_get(key), arg);
        fen_yield();
    }
}

static int values(void *arg)
{
    (void)arg;
    static int one = 1;
    destroyed = 0;
    assert_int_equal(fen_local_key_new(count, &key), 0);
    assert_int_equal(fen_local_set(key, &one), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 50; i++)
        assert_int_equal(fen_go(hold, &one), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(destroyed, 50); /* before the scope closes */
    assert_int_equal(fen_local_set(key, NULL), 0);
    fen_local_key_free(key);
    return 0;
}

static void test_values_belong_to_their_fiber_and_end_with_it(void **state)
{
    (void)state;
    run_on_all(values, NULL);
    assert_int_equal(fen_local_set(key, NULL), FEN_ENOTFIBER);
    assert_null(fen_local_get(key));
}

static int keys(void *arg)
{
    (void)arg;
    static int one = 1;
    fen_local_key k[200];
    int n = 0, rc = 0;
    while (n < 200 && !(rc = fen_local_key_new(NULL, &k[n])))
        n++;
    assert_int_equal(rc, FEN_ELIMIT);
    assert_true(n >= 100);
    for (int i = n - 1; i >= 0; i--) /* the highest first, then the others */
        assert_int_equal(fen_local_set(k[i], &k[i]), 0);
    for (int i = 0; i < n; i++)
        assert_ptr_equal(fen_local_get(k[i]), &k[i]);
    fen_local_key_free(k[7]);
    fen_local_key_free(k[7]); /* twice: nothing happens */
    assert_null(fen_local_get(k[7]));
    assert_int_equal(fen_local_set(k[7], &one), -EINVAL);
    fen_local_key again;
    assert_int_equal(fen_local_key_new(NULL, &again), 0);
    assert_int_equal(again.index, k[7].index);
    assert_null(fen_local_get(again)); /* not the old key's value */
    assert_int_equal(fen_local_set((fen_local_key){0}, &one), -EINVAL);
    assert_int_equal(fen_local_set((fen_local_key){1000, 1}, &one), -EINVAL);
    fen_local_key_free(again);
    for (int i = 0; i < n; i++)
        fen_local_key_free(k[i]);
    return 0;
}

static void test_keys_run_out_and_come_back(void **state)
{
    (void)state;
    run_on(2, keys, NULL);
    run_on(1, keys, NULL);
}

/* Sets the other value, sleeps (cancelled or not), and counts. */
static void chain(void *value)
{
    (void)value;
    assert_int_equal(fen_sleep(FEN_MS / 10), 0);
    static int one = 1;
    if (atomic_fetch_add(&destroyed, 1) < 2)
        assert_int_equal(fen_local_set(other, &one), 0);
}

static void in_a_cancelled_scope(void *arg)
{
    assert_int_equal(fen_local_set(key, arg), 0);
    assert_int_equal(fen_sleep(100 * FEN_S), -ECANCELED);
}

static int chained(void *arg)
{
    (void)arg;
    static int one = 1;
    destroyed = 0;
    assert_int_equal(fen_local_key_new(chain, &key), 0);
    assert_int_equal(fen_local_key_new(chain, &other), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(in_a_cancelled_scope, &one), 0);
    let_wait();
    fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(destroyed, 3);
    fen_local_key_free(key);
    fen_local_key_free(other);
    return 0;
}

static void test_destructors_may_block_and_set_values(void **state)
{
    (void)state;
    run_on_all(chained, NULL);
}

static void detached(void *arg)
{
    assert_int_equal(fen_local_set(key, arg), 0);
    assert_int_equal(fen_sleep(100 * FEN_S), -ECANCELED);
}

static int leave_detached(void *arg)
{
    (void)arg;
    static int one = 1;
    assert_int_equal(fen_go_detached("stray", detached, &one), 0);
    assert_int_equal(fen_local_set(key, &one), 0);
    let_wait();
    return 0;
}

static void test_first_and_detached_fibers_destroy_theirs_too(void **state)
{
    (void)state;
    destroyed = 0;
    assert_int_equal(fen_local_key_new(count, &key), 0);
    run_on(2, leave_detached, NULL);
    assert_int_equal(destroyed, 2);
    fen_local_key_free(key);
}

/* ---- labels ---- */

static bool label_is(const char *k, const char *want)
{
    fen_slice v;
    int rc = fen_label_get(k, &v);
    return want ? rc == 0 && v.n == strlen(want) && !memcmp(v.p, want, v.n) : rc == -ENOENT;
}

static void inherits(void *arg)
{
    (void)arg;
    assert_true(label_is("tenant", "acme"));
    assert_int_equal(fen_label_set("tenant", FEN_SLICE("other")), 0); /* its own from now on */
    assert_int_equal(fen_label_set("step", FEN_SLICE("2")), 0);
    fen_yield();
    assert_true(label_is("tenant", "other") && label_is("step", "2"));
    atomic_fetch_add(&joined, 1);
}

static int labels(void *arg)
{
    (void)arg;
    fen_slice k, v;
    assert_true(label_is("tenant", NULL));
    assert_int_equal(fen_label_set("tenant", (fen_slice){0}), 0);
    assert_int_equal(fen_label_set("tenant", FEN_SLICE("acme")), 0);
    assert_int_equal(fen_label_set("route", FEN_SLICE("GET /orders/{id}")), 0);
    joined = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 20; i++)
        assert_int_equal(fen_go(inherits, NULL), 0);
    assert_int_equal(fen_go_detached("stray", inherits, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    wait_for(&joined, 21);
    assert_true(label_is("tenant", "acme") && label_is("step", NULL));
    assert_int_equal(fen_label_set("tenant", FEN_SLICE("")), 0); /* set again: the last one now */
    assert_int_equal(fen_label_at(0, &k, &v), 0);
    assert_int_equal(k.n, 5);
    assert_int_equal(v.n, 16);
    assert_int_equal(fen_label_at(1, &k, &v), 0);
    assert_int_equal(v.n, 0);
    assert_int_equal(fen_label_at(2, &k, &v), -ENOENT);
    assert_int_equal(fen_label_at(-1, &k, &v), -ENOENT);
    assert_int_equal(fen_label_set("route", (fen_slice){0}), 0);
    assert_true(label_is("route", NULL) && label_is("tenant", ""));
    return 0;
}

static void test_labels_are_inherited_and_then_ones_own(void **state)
{
    (void)state;
    run_on_all(labels, NULL);
}

static int limits(void *arg)
{
    (void)arg;
    char k[40], text[80];
    fen_slice v;
    memset(text, 'x', sizeof text);
    static const char *bad[] = {"", "1a", "_a", "Abc", "a-b", "a b", "a=b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(fen_label_set(bad[i], FEN_SLICE("v")), -EINVAL);
    assert_int_equal(fen_label_set(NULL, FEN_SLICE("v")), -EINVAL);
    assert_int_equal(fen_label_set("held", FEN_SLICE("v")), 0);
    assert_int_equal(fen_label_get(NULL, &v), -EINVAL);
    assert_int_equal(fen_label_set("held", (fen_slice){0}), 0);
    assert_int_equal(fen_label_set("a", FEN_SLICE("two\nlines")), -EINVAL);
    assert_int_equal(fen_label_set("a", (fen_slice){"\0", 1}), -EINVAL);
    assert_int_equal(fen_label_set("a", (fen_slice){text, 64}), -EINVAL);
    memset(k, 'k', sizeof k);
    k[32] = 0;
    assert_int_equal(fen_label_set(k, FEN_SLICE("v")), -EINVAL);
    k[31] = 0;
    assert_int_equal(fen_label_set(k, (fen_slice){text, 63}), 0); /* 96 bytes */
    k[0] = 'a';
    assert_int_equal(fen_label_set(k, (fen_slice){text, 63}), 0); /* 192 */
    k[0] = 'b';
    assert_int_equal(fen_label_set(k, (fen_slice){text, 63}), FEN_ELIMIT);
    assert_true(label_is(k, NULL));
    for (int i = 0; i < 6; i++) {
        snprintf(k, sizeof k, "l%d", i);
        assert_int_equal(fen_label_set(k, FEN_SLICE("v")), 0);
    }
    assert_int_equal(fen_label_set("l9", FEN_SLICE("v")), FEN_ELIMIT);
    assert_int_equal(fen_label_set("l3", FEN_SLICE("w")), 0); /* no ninth */
    return 0;
}

static void test_label_limits(void **state)
{
    (void)state;
    fen_slice v;
    run_on(1, limits, NULL);
    assert_int_equal(fen_label_set("a", FEN_SLICE("v")), FEN_ENOTFIBER);
    assert_int_equal(fen_label_get("a", &v), -ENOENT);
    assert_int_equal(fen_label_get(NULL, &v), -EINVAL);
}

/* ---- read by others meanwhile ---- */

static _Atomic bool stop;

static void change(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < 300 || checked < 20; i++) {
        char v[8];
        snprintf(v, sizeof v, "%03d", (me * 37 + i) % 1000);
        assert_int_equal(fen_label_set("a", (fen_slice){0}), 0);
        assert_int_equal(fen_label_set("b", (fen_slice){0}), 0);
        fen_slice s = {v, 3};
        assert_int_equal(fen_label_set("a", s), 0);
        assert_int_equal(fen_label_set("b", s), 0);
        fen_yield();
    }
}

static void look(struct fen__g *g, void *arg)
{
    char text[FEN_LABELS_BYTES];
    size_t n = fen__labels_read(g, text);
    (void)arg;
    assert_true(n == 0 || n == 6 || n == 12);
    if (n == 12)
        assert_memory_equal(text + 2, text + 8, 4);
    atomic_fetch_add(&checked, n == 12);
}

static void *watch(void *arg)
{
    (void)arg;
    while (!stop)
        fen__each_g(look, NULL);
    return NULL;
}

static int watched(void *arg)
{
    (void)arg;
    pthread_t t;
    stop = false;
    assert_int_equal(pthread_create(&t, NULL, watch, NULL), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < 8; i++)
        assert_int_equal(fen_go(change, (void *)i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    stop = true;
    pthread_join(t, NULL);
    return 0;
}

static void test_others_read_whole_sets(void **state)
{
    (void)state;
    checked = 0;
    run_on_all(watched, NULL);
    assert_true(checked > 0);
}

/* ---- names ---- */

static int names(void *arg)
{
    (void)arg;
    assert_string_equal(fen_fiber_name(), "main");
    assert_int_equal(fen_fiber_rename("worker"), 0);
    fen_yield();
    assert_string_equal(fen_fiber_name(), "worker");
    assert_int_equal(fen_fiber_rename(NULL), 0);
    assert_string_equal(fen_fiber_name(), "");
    return 0;
}

static void test_rename(void **state)
{
    (void)state;
    run_on(2, names, NULL);
    assert_int_equal(fen_fiber_rename("x"), FEN_ENOTFIBER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_belong_to_their_fiber_and_end_with_it),
        cmocka_unit_test(test_keys_run_out_and_come_back),
        cmocka_unit_test(test_destructors_may_block_and_set_values),
        cmocka_unit_test(test_first_and_detached_fibers_destroy_theirs_too),
        cmocka_unit_test(test_labels_are_inherited_and_then_ones_own),
        cmocka_unit_test(test_label_limits),
        cmocka_unit_test(test_others_read_whole_sets),
        cmocka_unit_test(test_rename),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
