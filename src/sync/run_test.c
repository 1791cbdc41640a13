/* run_test.c - fibers, scopes, channels and locks through the public face. */
#include "sched/sched.h" /* FEN__TSAN */

#include <fen/chan.h>
#include <fen/defer.h>
#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <fen/sync.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef FEN__TSAN /* each fiber costs it much; the interleavings come from other tests too */
enum { RING = 12, LAPS = 60, SLEEPERS = 300, EACH = 100 };
#else
enum { RING = 50, LAPS = 200, SLEEPERS = 3000, EACH = 500 };
#endif

static _Atomic int64_t counter;

static void add_one(void *arg)
{
    (void)arg;
    fen_yield();
    atomic_fetch_add(&counter, 1);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int spawn_many(void *arg)
{
    int n = *(int *)arg;
    for (int round = 0; round < 3; round++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        assert_non_null(s);
        for (int i = 0; i < n; i++)
            assert_int_equal(fen_go(add_one, NULL), 0);
        assert_int_equal(fen_scope_close(s), 0);
    }
    return 42;
}

static void test_spawn_and_join(void **state)
{
    (void)state;
    int n = 1000;
    for (int procs = 1; procs <= 4; procs *= 2) {
        counter = 0;
        assert_int_equal(fen_run(spawn_many, &n, &(fen_config){.procs = procs}), 42);
        assert_int_equal(counter, 3 * n);
    }
}

struct relay {
    fen_chan *in, *out;
    int n;
};

static void relay_main(void *arg)
{
    struct relay *r = arg;
    for (int i = 0; i < r->n; i++) {
        int64_t v;
        assert_int_equal(fen_chan_recv(r->in, &v), 0);
        v++;
        assert_int_equal(fen_chan_send(r->out, &v), 0);
    }
}

static int ring(void *arg)
{
    enum { N = RING };
    size_t cap = *(size_t *)arg;
    fen_chan *c[N + 1];
    struct relay r[N];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i <= N; i++)
        c[i] = fen_chan_new(sizeof(int64_t), cap);
    for (int i = 0; i < N; i++) {
        r[i] = (struct relay){c[i], c[i + 1], LAPS};
        assert_int_equal(fen_go(relay_main, &r[i]), 0);
    }
    for (int lap = 0; lap < LAPS; lap++) {
        int64_t v = lap;
        assert_int_equal(fen_chan_send(c[0], &v), 0);
        assert_int_equal(fen_chan_recv(c[N], &v), 0);
        assert_int_equal(v, lap + N);
    }
    assert_int_equal(fen_scope_close(s), 0);
    for (int i = 0; i <= N; i++)
        fen_chan_free(c[i]);
    return 0;
}

static void test_channel_ring(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 4; procs *= 2)
        for (size_t cap = 0; cap < 3; cap++)
            assert_int_equal(fen_run(ring, &cap, &(fen_config){.procs = procs}), 0);
}

static int sleepy(void *arg)
{
    (void)arg;
    int64_t t = fen_now();
    assert_int_equal(fen_sleep(20 * FEN_MS), 0);
    int64_t took = fen_now() - t;
    assert_true(took >= 20 * FEN_MS && took < 500 * FEN_MS);
    fen_scope *s = fen_scope_open(fen_now() + 10 * FEN_MS);
    t = fen_now();
    assert_int_equal(fen_sleep(5 * FEN_S), -ETIMEDOUT);
    assert_true(fen_now() - t < 2 * FEN_S);
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    return 0;
}

static void test_sleep_and_deadline(void **state)
{
    (void)state;
    assert_int_equal(fen_run(sleepy, NULL, NULL), 0);
}

static void sleep_long(void *arg)
{
    int rc = fen_sleep(100 * FEN_S);
    atomic_fetch_add((_Atomic int64_t *)arg, rc == -ECANCELED);
}

static int cancel_many(void *arg)
{
    (void)arg;
    counter = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(fen_go(sleep_long, &counter), 0);
    fen_yield();
    fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(counter, SLEEPERS);
    return 0;
}

static void test_cancel_reaches_every_child(void **state)
{
    (void)state;
    assert_int_equal(fen_run(cancel_many, NULL, &(fen_config){.procs = 2}), 0);
}

static int selects(void *arg)
{
    (void)arg;
    fen_chan *a = fen_chan_new(sizeof(int), 1), *b = fen_chan_new(sizeof(int), 1);
    int v = 0, one = 1;
    int64_t t = fen_now();
    assert_int_equal(
        fen_select((fen_case[]){FEN_RECV(a, &v), FEN_RECV(b, &v)}, 2, fen_now() + 10 * FEN_MS),
        -ETIMEDOUT);
    assert_true(fen_now() - t >= 10 * FEN_MS);
    assert_int_equal(fen_chan_send(b, &one), 0);
    assert_int_equal(fen_select((fen_case[]){FEN_RECV(a, &v), FEN_RECV(b, &v)}, 2, FEN_NEVER), 1);
    assert_int_equal(v, 1);
    assert_int_equal(fen_select((fen_case[]){FEN_RECV(a, &v)}, 1, 0), -ETIMEDOUT);
    assert_int_equal(fen_chan_close(a), 0);
    assert_int_equal(fen_chan_close(a), FEN_ECLOSED);
    fen_case c[] = {FEN_RECV(a, &v)};
    assert_int_equal(fen_select(c, 1, FEN_NEVER), 0);
    assert_int_equal(c[0].rc, FEN_ECLOSED);
    assert_int_equal(fen_chan_send(a, &one), FEN_ECLOSED);
    fen_chan_free(a);
    fen_chan_free(b);
    return 0;
}

static void test_select(void **state)
{
    (void)state;
    assert_int_equal(fen_run(selects, NULL, NULL), 0);
}

enum { PRODUCERS = 8 };
static fen_chan *many[3];

static void produce(void *arg)
{
    for (int i = 0; i < EACH; i++) {
        int64_t v = (int64_t)(intptr_t)arg * EACH + i;
        int rc = fen_select(
            (fen_case[]){FEN_SEND(many[0], &v), FEN_SEND(many[1], &v), FEN_SEND(many[2], &v)}, 3,
            FEN_NEVER);
        assert_true(rc >= 0);
    }
}

static int select_storm(void *arg)
{
    static bool seen[PRODUCERS * EACH];
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 3; i++)
        many[i] = fen_chan_new(sizeof(int64_t), (size_t)(intptr_t)arg * (size_t)i);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(fen_go(produce, (void *)i), 0);
    for (int i = 0; i < PRODUCERS * EACH; i++) {
        int64_t v = -1;
        int rc = fen_select(
            (fen_case[]){FEN_RECV(many[0], &v), FEN_RECV(many[1], &v), FEN_RECV(many[2], &v)}, 3,
            FEN_NEVER);
        assert_true(rc >= 0 && v >= 0 && v < PRODUCERS * EACH && !seen[v]);
        seen[v] = true;
    }
    assert_int_equal(fen_scope_close(s), 0);
    for (int i = 0; i < 3; i++)
        fen_chan_free(many[i]);
    return 0;
}

static void test_select_delivers_each_once(void **state)
{
    (void)state;
    for (intptr_t cap = 0; cap < 2; cap++)
        for (int procs = 1; procs <= 4; procs *= 2)
            assert_int_equal(fen_run(select_storm, (void *)cap, &(fen_config){.procs = procs}), 0);
}

static fen_mutex mutex;
static fen_sem sem;
static fen_wg wg;
static int64_t plain;
static _Atomic int inside;

static void use_locks(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(fen_mutex_lock(&mutex), 0);
        int64_t x = plain;
        if (i % 16 == 0)
            fen_yield();
        plain = x + 1;
        fen_mutex_unlock(&mutex);
        assert_int_equal(fen_sem_acquire(&sem), 0);
        assert_true(atomic_fetch_add(&inside, 1) < 3);
        if (i % 16 == 0)
            fen_yield();
        atomic_fetch_sub(&inside, 1);
        fen_sem_release(&sem);
    }
    fen_wg_done(&wg);
}

static int locks(void *arg)
{
    (void)arg;
    plain = 0;
    fen_sem_init(&sem, 3);
    fen_wg_add(&wg, 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(fen_go(use_locks, NULL), 0);
    assert_int_equal(fen_wg_wait(&wg), 0);
    assert_int_equal(plain, 20 * 200);
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    assert_int_equal(fen_mutex_lock_until(&mutex, fen_now() + 5 * FEN_MS), -ETIMEDOUT);
    assert_int_equal(fen_mutex_try_lock(&mutex), -EAGAIN);
    fen_mutex_unlock(&mutex);
    assert_int_equal(fen_mutex_try_lock(&mutex), 0);
    fen_mutex_unlock(&mutex);
    return 0;
}

static void test_locks(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 4; procs *= 2)
        assert_int_equal(fen_run(locks, NULL, &(fen_config){.procs = procs}), 0);
}

static char order[8];
static void note(void *c)
{
    size_t n = strlen(order);
    order[n] = *(char *)c;
    order[n + 1] = 0;
}
static _Atomic int hook_rc;
static void hook(fen_cancel_hook *h, int rc)
{
    (void)h;
    hook_rc = rc;
}

static int defers(void *arg)
{
    (void)arg;
    fen_defer_record r[3];
    assert_int_equal(sizeof r[0], 24);
    fen_scope *s = fen_scope_open(fen_now() + 5 * FEN_MS);
    fen_defer(s, &r[0], note, "a");
    fen_defer(s, &r[1], note, "b");
    fen_defer(s, &r[2], note, "c");
    fen_cancel_hook h = {.fn = hook};
    fen_cancel_hook_add(s, &h);
    fen_blocking_begin();
    usleep(100000); /* the deadline comes while the thread is blocked */
    fen_blocking_end();
    assert_int_equal(hook_rc, -ETIMEDOUT);
    assert_int_equal(fen_sleep(FEN_S), -ETIMEDOUT);
    fen_cancel_hook_del(&h);
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    assert_string_equal(order, "cba");
    order[0] = 0;
    {
        FEN_DEFER(note, "x");
        FEN_DEFER(note, "y");
    }
    assert_string_equal(order, "yx");
    return 0;
}

static void test_defer_and_hook(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        order[0] = 0;
        assert_int_equal(fen_run(defers, NULL, &(fen_config){.procs = 2}), 0);
    }
}

static void block_a_while(void *arg)
{
    (void)arg;
    fen_blocking_begin();
    usleep(50000);
    fen_blocking_end();
    atomic_fetch_add(&counter, 1);
}

static int blockers(void *arg)
{
    (void)arg;
    counter = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    int64_t t = fen_now();
    for (int i = 0; i < 40; i++)
        assert_int_equal(fen_go(block_a_while, NULL), 0);
    assert_int_equal(fen_sleep(FEN_MS), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(counter, 40);
    assert_true(fen_now() - t < 2 * FEN_S); /* one after another it is 40 x 50 ms / 2 */
    fen_stats st;
    fen_stats_get(&st);
    assert_true(st.handoffs > 0);
    return 0;
}

static void test_blocking_sections_hand_the_p_over(void **state)
{
    (void)state;
    assert_int_equal(fen_run(blockers, NULL, &(fen_config){.procs = 2}), 0);
}

static _Atomic bool stop_hog;
static void hog(void *arg)
{
    (void)arg;
    while (!stop_hog)
        ;
}

static int beside_hogs(void *arg)
{
    (void)arg;
    stop_hog = false;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fen_go(hog, NULL), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_sleep(2 * FEN_MS), 0);
    stop_hog = true;
    assert_int_equal(fen_scope_close(s), 0);
    return 0;
}

static void test_endless_loops_do_not_stop_the_others(void **state)
{
    (void)state;
    assert_int_equal(fen_run(beside_hogs, NULL, &(fen_config){.procs = 2}), 0);
}

static int busy_inner(void *arg)
{
    (void)arg;
    return fen_run(spawn_many, NULL, NULL);
}

static void test_run_twice_and_nested(void **state)
{
    (void)state;
    assert_int_equal(fen_run(busy_inner, NULL, NULL), -EBUSY);
    assert_int_equal(fen_run(spawn_many, &(int){5}, NULL), 42);
    assert_int_equal(fen_run(spawn_many, &(int){5}, &(fen_config){.procs = -1}), -EINVAL);
    assert_int_equal(fen_run(spawn_many, &(int){5}, &(fen_config){.procs = 100000}), -EINVAL);
    for (int i = 0; i < 2; i++) {
        int bad = i ? -1 : 99;
        assert_int_equal(fen_run(nothing, NULL, &(fen_config){.guard = (enum fen_guard)bad}),
                         -EINVAL);
        assert_int_equal(fen_run(nothing, NULL, &(fen_config){.files = (enum fen_files)bad}),
                         -EINVAL);
    }
}

static void detached(void *arg)
{
    (void)arg;
    assert_int_equal(fen_sleep(100 * FEN_S), -ECANCELED);
    atomic_fetch_add(&counter, 1);
}

static int leave_detached(void *arg)
{
    (void)arg;
    counter = 0;
    assert_int_equal(fen_go_detached(NULL, detached, NULL), -EINVAL);
    assert_int_equal(fen_go_detached("stray", detached, NULL), 0);
    fen_yield();
    return 0;
}

static void test_detached_fibers_end_with_the_run(void **state)
{
    (void)state;
    assert_int_equal(fen_run(leave_detached, NULL, NULL), 0);
    assert_int_equal(counter, 1);
}

int main(void)
{
    if (getenv("FEN_STACK_GUARD") && fen_run(nothing, NULL, NULL) == -EINVAL) {
        puts("skipped: this kernel has no such guard");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spawn_and_join),
        cmocka_unit_test(test_channel_ring),
        cmocka_unit_test(test_sleep_and_deadline),
        cmocka_unit_test(test_cancel_reaches_every_child),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_select_delivers_each_once),
        cmocka_unit_test(test_locks),
        cmocka_unit_test(test_defer_and_hook),
        cmocka_unit_test(test_blocking_sections_hand_the_p_over),
        cmocka_unit_test(test_endless_loops_do_not_stop_the_others),
        cmocka_unit_test(test_run_twice_and_nested),
        cmocka_unit_test(test_detached_fibers_end_with_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
