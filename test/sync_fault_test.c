/* sync_fault_test.c - the n-th malloc or mmap fails, for every n, while fibers use every primitive:
 * each call returns -ENOMEM or works, nothing hangs, nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include "fault.h"
#include "mem/mem.h"

#include <fen/chan.h>
#include <fen/group.h>
#include <fen/local.h>
#include <fen/sync.h>
#include <fen/timer.h>

#include <errno.h>
#include <string.h>

/* ---- what must come out of a call ---- */

#define OK_OR_NOMEM(call)                                                                          \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ < 0 && rc_ != -ENOMEM)                                                             \
            fail_msg("%s: %d", #call, rc_);                                                        \
    } while (0)

#define TIMES_OUT(call)                                                                            \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ != -ETIMEDOUT && rc_ != -ENOMEM)                                                   \
            fail_msg("%s: %d", #call, rc_);                                                        \
    } while (0)

static int64_t soon(void) { return fen_now() + 50 * FEN_US; }

static void channels(void)
{
    char big[300] = {0};
    fen_chan *a = fen_chan_new(sizeof big, 0), *b = fen_chan_new(4, 2);
    if (a && b) {
        TIMES_OUT(fen_chan_send_until(a, big, soon()));
        TIMES_OUT(fen_chan_recv_until(a, big, soon()));
        fen_case c[] = {FEN_RECV(a, big), FEN_SEND(a, big), FEN_RECV(b, big)};
        TIMES_OUT(fen_select(c, 3, soon()));
    }
    fen_chan_free(a);
    fen_chan_free(b);
}

static int quick(void *arg)
{
    (void)arg;
    return 0;
}

static void locks(void)
{
    fen_mutex m = {0};
    fen_rwlock l = {0};
    fen_cond c = {0};
    fen_sem s = {0};
    fen_wg w = {0};
    fen_once o = {0};
    fen_barrier b;
    assert_int_equal(fen_mutex_try_lock(&m), 0);
    TIMES_OUT(fen_mutex_lock_until(&m, soon()));
    int rc = fen_cond_wait_until(&c, &m, soon()); /* it holds the mutex again, whatever came */
    assert_true(rc == 0 || rc == -ETIMEDOUT || rc == -ENOMEM);
    fen_mutex_unlock(&m);
    assert_int_equal(fen_rwlock_try_write_lock(&l), 0);
    TIMES_OUT(fen_rwlock_read_lock_until(&l, soon()));
    TIMES_OUT(fen_rwlock_write_lock_until(&l, soon()));
    fen_rwlock_write_unlock(&l);
    TIMES_OUT(fen_sem_acquire_until(&s, soon()));
    fen_wg_add(&w, 1);
    TIMES_OUT(fen_wg_wait_until(&w, soon()));
    fen_wg_done(&w);
    assert_int_equal(fen_once_do(&o, quick, NULL), 0);
    fen_barrier_init(&b, 2);
    TIMES_OUT(fen_barrier_wait_until(&b, soon()));
    fen_mutex_fini(&m);
    fen_rwlock_fini(&l);
    fen_cond_fini(&c);
    fen_sem_fini(&s);
    fen_wg_fini(&w);
    fen_once_fini(&o);
    fen_barrier_fini(&b);
}

static void timers(void)
{
    int64_t v;
    fen_timer *t = fen_timer_new();
    if (t) {
        int rc = fen_timer_start(t, soon());
        OK_OR_NOMEM(rc);
        if (rc == 0)
            assert_int_equal(fen_chan_recv(fen_timer_chan(t), &v), 0);
        rc = fen_timer_every(t, soon(), 50 * FEN_US);
        OK_OR_NOMEM(rc);
        for (int i = 0; i < 3 && rc == 0; i++) { /* FEN_ECLOSED: no memory for the next tick */
            int got = fen_chan_recv(fen_timer_chan(t), &v);
            assert_true(got == 0 || got == FEN_ECLOSED);
        }
    }
    fen_timer_free(t);
}

static void child(void *arg)
{
    fen_local_key *key = arg;
    OK_OR_NOMEM(fen_local_set(*key, key));
    OK_OR_NOMEM(fen_label_set("step", FEN_SLICE("child")));
    int rc = fen_sleep(20 * FEN_US); /* cancelled: a detached one at the end of the run */
    assert_true(rc == 0 || rc == -ENOMEM || rc == -ECANCELED);
}

static int member(void *arg)
{
    child(arg);
    return 0;
}

static void fibers(fen_local_key *key)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return;
    OK_OR_NOMEM(fen_label_set("step", FEN_SLICE("parent")));
    for (int i = 0; i < 4; i++) {
        OK_OR_NOMEM(fen_go(child, key));
        OK_OR_NOMEM(fen_go_detached("stray", child, key));
        OK_OR_NOMEM(fen_go_named("large", 256 << 10, child, key));
    }
    assert_int_equal(fen_scope_close(s), 0);
    fen_group *g = fen_group_open(2, FEN_NEVER);
    if (!g)
        return;
    for (int i = 0; i < 6; i++)
        OK_OR_NOMEM(fen_group_go(g, member, key));
    assert_int_equal(fen_group_wait(g), 0);
}

static int everything(void *key)
{
    channels();
    locks();
    timers();
    fibers(key);
    return 0;
}

static void each_call_fails(const char *call)
{
    fen_local_key key;
    assert_int_equal(fen_local_key_new(NULL, &key), 0);
    assert_int_equal(fen_run(everything, &key, &(fen_config){.procs = 2}), 0);
    int64_t idle = fen__mem_live_bytes();
    bool hit = true;
    int nth = 1;
    for (; hit && nth < 500; nth++) {
        fault_arm(call, -ENOMEM, nth);
        int rc = fen_run(everything, &key, &(fen_config){.procs = 2});
        hit = fault_disarm();
        if (rc && !(hit && (rc == -ENOMEM || rc == -EAGAIN)))
            fail_msg("%s %d: %d", call, nth, rc);
        if (fen__mem_live_bytes() != idle)
            fail_msg("%s %d: %ld bytes left behind", call, nth,
                     (long)(fen__mem_live_bytes() - idle));
        fen_stats st;
        fen_stats_get(&st);
        assert_int_equal(st.fibers_live, 0);
    }
    print_message("%s: each of %d failed once\n", call, nth - 2);
    assert_in_range(nth, 5, 499);
    fen_local_key_free(key);
}

/* ---- a detached fiber that was promised runs ---- */

static void ran(void *n)
{
    fen_scope *s = fen_scope_current();
    ++*(int *)n;
    assert_non_null(s);
    assert_int_equal(fen_scope_check(s), 0);
}

/* On one P: there is no memory for its scope by the time it begins. */
static int starved(void *n)
{
    fen_scope *open[200];
    int k = 0;
    fault_arm("malloc", -ENOMEM, 1);
    while (k < 200 && (open[k] = fen_scope_open(FEN_NEVER)))
        k++;
    assert_true(fault_disarm() && k < 200);
    assert_int_equal(fen_go_detached("starved", ran, n), 0);
    fault_arm("malloc", -ENOMEM, 1);
    for (int i = 0; i < 1000 && !*(int *)n; i++)
        fen_yield();
    assert_true(fault_disarm());
    assert_int_equal(*(int *)n, 1);
    open[k++] = fen_scope_open(FEN_NEVER); /* the one that it had */
    while (k > 0)
        assert_int_equal(fen_scope_close(open[--k]), 0);
    return 0;
}

static void test_a_detached_fiber_needs_no_more_memory(void **state)
{
    int64_t idle = 0;
    (void)state;
    for (int i = 0; i < 3; i++) {
        int n = 0;
        run_on(1, starved, &n);
        if (i)
            assert_int_equal(fen__mem_live_bytes(), idle);
        idle = fen__mem_live_bytes();
    }
}

static void test_each_malloc_fails(void **state)
{
    (void)state;
    each_call_fails("malloc");
}

static void test_each_mmap_fails(void **state)
{
    (void)state;
    each_call_fails("mmap");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_detached_fiber_needs_no_more_memory),
        cmocka_unit_test(test_each_malloc_fails),
        cmocka_unit_test(test_each_mmap_fails),
    };
    fault_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
