/* timer_test.c - timers and tickers: when they fire, and that stop and start leave nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/chan.h>
#include <fen/io.h>
#include <fen/scope.h>
#include <fen/spawner.h>
#include <fen/sync.h>
#include <fen/timer.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic int fired, inside, got, prevented;

/* ---- to a channel ---- */

static int once(void *arg)
{
    (void)arg;
    int64_t v = 0, t = fen_now();
    fen_timer *timer = fen_timer_new();
    fen_chan *c = fen_timer_chan(timer);
    assert_int_equal(fen_timer_stop(timer), 0);
    assert_int_equal(fen_timer_start(timer, t + 3 * FEN_MS), 0);
    assert_int_equal(fen_chan_try_recv(c, &v), -EAGAIN);
    assert_int_equal(fen_chan_recv(c, &v), 0);
    assert_true(v >= t + 3 * FEN_MS && v <= fen_now());
    assert_int_equal(fen_timer_stop(timer), 0);     /* it had fired */
    assert_int_equal(fen_timer_start(timer, 1), 0); /* long past: at once */
    assert_int_equal(fen_chan_recv(c, &v), 0);
    assert_int_equal(fen_timer_start(timer, FEN_NEVER), 0);
    assert_int_equal(fen_timer_start(timer, fen_now() + FEN_S), 1); /* moved */
    assert_int_equal(fen_timer_stop(timer), 1);
    assert_int_equal(fen_timer_stop(timer), 0);
    /* fired, but nobody took it: stop takes it back */
    assert_int_equal(fen_timer_start(timer, fen_now()), 0);
    while (!fen_chan_len(c))
        assert_int_equal(fen_sleep(FEN_US), 0);
    assert_int_equal(fen_timer_stop(timer), 1);
    assert_int_equal(fen_chan_try_recv(c, &v), -EAGAIN);
    fen_timer_free(timer);
    fen_timer_free(NULL);
    return 0;
}

static void test_once(void **state)
{
    (void)state;
    run_on_all(once, NULL);
}

static int in_select(void *arg)
{
    (void)arg;
    int64_t v;
    fen_timer *a = fen_timer_new(), *b = fen_timer_new();
    assert_int_equal(fen_timer_start(a, fen_now() + FEN_S), 0);
    assert_int_equal(fen_timer_start(b, fen_now() + FEN_MS), 0);
    fen_case c[] = {FEN_RECV(fen_timer_chan(a), &v), FEN_RECV(fen_timer_chan(b), &v)};
    assert_int_equal(fen_select(c, 2, FEN_NEVER), 1);
    assert_int_equal(fen_timer_start(a, fen_now()), 1);
    assert_int_equal(fen_select(c, 2, FEN_NEVER), 0);
    assert_int_equal(fen_timer_start(a, fen_now() + FEN_S), 0);
    fen_timer_free(a); /* armed */
    fen_timer_free(b);
    return 0;
}

static void test_in_a_select(void **state)
{
    (void)state;
    run_on_all(in_select, NULL);
}

static int ticker(void *arg)
{
    (void)arg;
    int64_t v, first = fen_now() + FEN_MS, period = 2 * FEN_MS, last = 0;
    fen_timer *t = fen_timer_new();
    fen_chan *c = fen_timer_chan(t);
    assert_int_equal(fen_timer_every(t, first, 0), -EINVAL);
    assert_int_equal(fen_timer_every(t, first, -5), -EINVAL);
    assert_int_equal(fen_timer_every(t, first, period), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fen_chan_recv(c, &v), 0);
        int64_t slot = (v - first) / period; /* in step with the first, each tick a later slot */
        assert_true(v >= first && (i == 0 || slot > last));
        last = slot;
    }
    assert_int_equal(fen_sleep(10 * period), 0); /* what nobody takes is dropped, but one */
    assert_int_equal(fen_chan_len(c), 1);
    assert_int_equal(fen_timer_stop(t), 1);
    assert_int_equal(fen_chan_len(c), 0);
    assert_int_equal(fen_sleep(3 * period), 0);
    assert_int_equal(fen_chan_len(c), 0);
    /* first long ago: as many ticks are dropped as were missed, the next is in step */
    first = fen_now() - 1001 * period;
    assert_int_equal(fen_timer_every(t, first, period), 0);
    assert_int_equal(fen_chan_recv(c, &v), 0);
    assert_int_equal(fen_chan_recv(c, &v), 0);
    assert_true((v - first) / period > 1000);
    fen_timer_free(t);
    return 0;
}

static void test_ticker_keeps_its_step_and_drops(void **state)
{
    (void)state;
    run_on_all(ticker, NULL);
}

/* ---- stop and start against the firing ---- */

struct race {
    fen_timer *timer;
    int64_t start_ns;
};

static void receive(void *arg)
{
    struct race *r = arg;
    int64_t v;
    int rc = fen_chan_recv(fen_timer_chan(r->timer), &v);
    if (rc == 0)
        atomic_fetch_add(&got, 1);
    else
        assert_int_equal(rc, -ECANCELED);
}

/* Whatever the moment: the value is received, or stop says that it will not be. */
static int stop_races(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        struct race r = {fen_timer_new(), 0};
        got = 0;
        fen_scope *s = fen_scope_open(FEN_NEVER);
        assert_int_equal(fen_go(receive, &r), 0);
        int64_t when = fen_now() + i % 20 * 5 * FEN_US;
        assert_int_equal(fen_timer_start(r.timer, when), 0);
        if (i % 3)
            assert_int_equal(fen_sleep_until(when - FEN_US + i % 5 * 2 * FEN_US), 0);
        int stopped = fen_timer_stop(r.timer);
        fen_scope_cancel(s);
        assert_int_equal(fen_scope_close(s), -ECANCELED);
        assert_int_equal(got + stopped, 1);
        fen_timer_free(r.timer);
    }
    return 0;
}

static void test_stop_and_the_firing_agree(void **state)
{
    (void)state;
    run_on_all(stop_races, NULL);
}

static int no_stale(void *arg)
{
    (void)arg;
    fen_timer *t = fen_timer_new();
    for (int i = 0; i < 300; i++) {
        int64_t v = 0, when = fen_now() + i % 20 * 3 * FEN_US;
        (void)fen_timer_start(t, when);
        if (i % 2)
            assert_int_equal(fen_sleep_until(when - FEN_US + i % 4 * FEN_US), 0);
        int64_t again = fen_now() + 50 * FEN_US;
        assert_true(fen_timer_start(t, again) >= 0);
        assert_int_equal(fen_chan_recv(fen_timer_chan(t), &v), 0);
        assert_true(v >= again); /* not the first one's */
    }
    fen_timer_free(t);
    return 0;
}

static void test_no_stale_value_after_a_new_start(void **state)
{
    (void)state;
    run_on_all(no_stale, NULL);
}

static void hammer(void *arg)
{
    fen_timer *t = arg;
    int64_t v;
    for (int i = 0; i < 100; i++) {
        switch (i % 4) {
        case 0: assert_true(fen_timer_start(t, fen_now() + i % 7 * FEN_US) >= 0); break;
        case 1: (void)fen_chan_try_recv(fen_timer_chan(t), &v); break;
        case 2: assert_true(fen_timer_every(t, fen_now(), 3 * FEN_US) >= 0); break;
        default: assert_true(fen_timer_stop(t) >= 0);
        }
        if (i % 8 == 3)
            fen_yield();
    }
}

static int hammered(void *arg)
{
    (void)arg;
    fen_timer *t = fen_timer_new();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 8; i++)
        assert_int_equal(fen_go(hammer, t), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_timer_free(t);
    return 0;
}

static void test_many_fibers_on_one_timer(void **state)
{
    (void)state;
    run_on_all(hammered, NULL);
}

/* ---- calling a function ---- */

static fen_timer *self;
static fen_wg wg;

static void call(void *arg)
{
    (void)arg;
    assert_int_equal(atomic_fetch_add(&inside, 1), 0); /* not twice at once */
    assert_false(fen_in_fiber());                      /* a worker, but no fiber of its own */
    assert_int_equal(fen_fiber_id(), 0);
    atomic_fetch_sub(&inside, 1);
    if (atomic_fetch_add(&fired, 1) == 2)
        fen_wg_done(&wg);
}

static void call_again(void *arg)
{
    (void)arg;
    if (atomic_fetch_add(&fired, 1) < 5)
        assert_int_equal(fen_timer_start(self, fen_now() + 100 * FEN_US), 0);
    else
        fen_wg_done(&wg);
}

static void call_and_stop(void *arg)
{
    (void)arg;
    if (atomic_fetch_add(&fired, 1) == 3) {
        assert_int_equal(fen_timer_stop(self), 1); /* the ticker's next */
        fen_wg_done(&wg);
    }
}

static int functions(void *arg)
{
    (void)arg;
    fired = 0;
    self = fen_timer_new_func(call, NULL);
    assert_null(fen_timer_chan(self));
    fen_wg_add(&wg, 1);
    assert_int_equal(fen_timer_every(self, fen_now(), 200 * FEN_US), 0);
    assert_int_equal(fen_wg_wait(&wg), 0);
    assert_int_equal(fen_timer_stop(self), 1);
    int n = fired;
    assert_int_equal(fen_sleep(FEN_MS), 0);
    assert_int_equal(fired, n);
    fen_timer_free(self);

    fired = 0;
    self = fen_timer_new_func(call_again, NULL);
    fen_wg_add(&wg, 1);
    assert_int_equal(fen_timer_start(self, fen_now()), 0);
    assert_int_equal(fen_wg_wait(&wg), 0);
    assert_int_equal(fired, 6);
    fen_timer_free(self);

    fired = 0;
    self = fen_timer_new_func(call_and_stop, NULL);
    fen_wg_add(&wg, 1);
    assert_int_equal(fen_timer_every(self, fen_now(), 100 * FEN_US), 0);
    assert_int_equal(fen_wg_wait(&wg), 0);
    assert_int_equal(fen_timer_stop(self), 0);
    assert_int_equal(fired, 4);
    fen_timer_free(self);
    return 0;
}

static void test_functions(void **state)
{
    (void)state;
    run_on_all(functions, NULL);
}

static void slow(void *arg)
{
    (void)arg;
    atomic_store(&inside, 1);
    int64_t end = fen_now() + 2 * FEN_MS;
    while (fen_now() < end)
        ;
    atomic_store(&inside, 0);
    atomic_fetch_add(&fired, 1);
}

static void *stop_it(void *timer)
{
    atomic_fetch_add(&prevented, fen_timer_stop(timer));
    assert_int_equal(inside, 0);
    return NULL;
}

/* A thread stops it at any moment: afterwards the function does not run. */
static int stop_waits(void *arg)
{
    (void)arg;
    for (int i = 0; i < 12; i++) {
        pthread_t t;
        fired = inside = prevented = 0;
        fen_timer *timer = fen_timer_new_func(slow, NULL);
        assert_int_equal(fen_timer_start(timer, fen_now() + 200 * FEN_US), 0);
        fen_blocking_begin();
        int64_t until = fen_now() + i * 50 * FEN_US;
        while (fen_now() < until && !inside)
            ;
        assert_int_equal(pthread_create(&t, NULL, stop_it, timer), 0);
        pthread_join(t, NULL);
        fen_blocking_end();
        assert_int_equal(fired + prevented, 1);
        fen_timer_free(timer);
    }
    return 0;
}

static void test_stop_waits_for_the_function(void **state)
{
    (void)state;
    run_on(2, stop_waits, NULL);
}

/* ---- what any thread may call, in a function of a timer or a hook ---- */

static struct {
    fen_chan *c;
    fen_mutex m;
    fen_sem sem;
    fen_wg wg;
    fen_once once;
    fen_spawner *spawner;
    fen_timer *other;
    int fd[2];
    _Atomic int called, ran;
} any;

static void ran(void *arg)
{
    (void)arg;
    any.ran++;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void call_any(void *arg)
{
    int v = 1;
    (void)arg;
    assert_false(fen_in_fiber());
    assert_int_equal(fen_fiber_id(), 0);
    assert_int_equal(fen_go(ran, NULL), FEN_ENOTFIBER);
    assert_int_equal(fen_go_detached("by a callback", ran, NULL), 0);
    assert_int_equal(fen_spawner_go(any.spawner, "by a callback", ran, NULL), 0);
    assert_int_equal(fen_chan_send(any.c, &v), 0);
    assert_int_equal(fen_chan_recv(any.c, &v), 0);
    assert_int_equal(fen_chan_recv_until(any.c, &v, 0), -ETIMEDOUT);
    assert_int_equal(fen_chan_try_recv(any.c, &v), -EAGAIN);
    fen_case one = FEN_RECV(any.c, &v);
    assert_int_equal(fen_select(&one, 1, 0), -ETIMEDOUT);
    assert_int_equal(fen_mutex_lock(&any.m), 0);
    fen_mutex_unlock(&any.m);
    assert_int_equal(fen_sem_acquire(&any.sem), 0);
    fen_sem_release(&any.sem);
    assert_int_equal(fen_wg_wait(&any.wg), 0);
    assert_int_equal(fen_fd_wait(any.fd[1], FEN_FD_WRITE, FEN_NEVER), FEN_FD_WRITE);
    assert_int_equal(fen_fd_wait(any.fd[0], FEN_FD_READ, 1), -ETIMEDOUT);
    assert_true(fen_once_do(&any.once, nothing, NULL) >= 0);
    assert_int_equal(fen_timer_start(any.other, FEN_NEVER), 0);
    assert_int_equal(fen_timer_stop(any.other), 1);
    any.called++;
}

static void call_any_in_hook(fen_cancel_hook *h, int rc)
{
    (void)rc;
    call_any(h);
}

static void cancel_it(void *s) { fen_scope_cancel(s); }

/* By the deadline on a worker's own stack, by another fiber's cancel on that one's. */
static void hook_calls(bool cancel)
{
    fen_scope *s = fen_scope_open(cancel ? FEN_NEVER : fen_now() + FEN_MS);
    fen_cancel_hook h = {.fn = call_any_in_hook};
    int before = any.called;
    assert_int_equal(fen_cancel_hook_add(s, &h), 0);
    if (cancel)
        assert_int_equal(fen_go_detached("canceller", cancel_it, s), 0);
    assert_int_equal(fen_sleep(FEN_NEVER), cancel ? -ECANCELED : -ETIMEDOUT);
    while (any.called == before) /* one that is removed first is not called */
        fen_yield();
    fen_cancel_hook_del(&h);
    assert_int_equal(any.called, before + 1);
    assert_int_equal(fen_scope_close(s), cancel ? -ECANCELED : -ETIMEDOUT);
}

static int callbacks(void *arg)
{
    (void)arg;
    any.called = any.ran = 0;
    any.c = fen_chan_new(sizeof(int), 1);
    any.other = fen_timer_new();
    assert_int_equal(pipe(any.fd), 0);
    fen_sem_init(&any.sem, 1);
    assert_int_equal(fen_spawner_open(&any.spawner), 0);
    fen_timer *t = fen_timer_new_func(call_any, NULL);
    assert_int_equal(fen_timer_start(t, 1), 0);
    wait_for(&any.called, 1);
    hook_calls(false);
    hook_calls(true);
    fen_scope *ended = fen_scope_open(1);
    fen_cancel_hook late = {.fn = call_any_in_hook};
    assert_int_equal(fen_cancel_hook_add(ended, &late), 0); /* called at once */
    fen_cancel_hook_del(&late);
    assert_int_equal(fen_scope_close(ended), -ETIMEDOUT);
    assert_int_equal(any.called, 4);
    wait_for(&any.ran, 8);
    fen_spawner_close(any.spawner);
    fen_timer_free(t);
    fen_timer_free(any.other);
    fen_chan_free(any.c);
    close(any.fd[0]);
    close(any.fd[1]);
    return 0;
}

static void test_callbacks_may_call_what_any_thread_may(void **state)
{
    (void)state;
    run_on_all(callbacks, NULL);
    for (uint64_t seed = 1; seed <= 20; seed++)
        assert_int_equal(fen_run(callbacks, NULL, &(fen_config){.sim_seed = seed}), 0);
}

/* What a timer's function wakes is no sign of a thread outside that may wake more. */
static void finish(void *w) { fen_wg_done(w); }

static int stuck_after_a_timer(void *arg)
{
    fen_wg w = {0}, nobody = {0};
    (void)arg;
    fen_timer *t = fen_timer_new_func(finish, &w);
    fen_wg_add(&w, 1);
    fen_wg_add(&nobody, 1);
    assert_int_equal(fen_timer_start(t, 1), 0);
    assert_int_equal(fen_wg_wait(&w), 0);
    fen_timer_free(t);
    assert_int_equal(fen_wg_wait(&nobody), -ECANCELED);
    return 0;
}

static void quiet(void *arg, const char *text, size_t n)
{
    (void)arg;
    (void)text;
    (void)n;
}

static void test_a_deadlock_is_seen_after_a_timers_function_woke(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        fen_config cfg = {
            .procs = 2, .sim_seed = seed, .on_deadlock = FEN_DEADLOCK_CANCEL, .report = quiet};
        assert_int_equal(fen_run(stuck_after_a_timer, NULL, &cfg), -EDEADLK);
    }
}

/* The child must not go on as a worker. */
static _Atomic int child;

static void fork_it(void *arg)
{
    (void)arg;
    pid_t pid = fork();
    if (pid)
        atomic_store(&child, pid);
    else
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static int forks(void *arg)
{
    int status = 0;
    (void)arg;
    child = 0;
    fen_timer *t = fen_timer_new_func(fork_it, NULL);
    assert_int_equal(fen_timer_start(t, 1), 0);
    wait_for(&child, 1);
    fen_timer_free(t);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    return 0;
}

static void test_a_child_forked_in_a_function_may_only_exec(void **state)
{
    (void)state;
    run_on(2, forks, NULL);
}

static void test_outside_a_fiber(void **state)
{
    (void)state;
    fen_timer *t = fen_timer_new();
    assert_int_equal(fen_timer_start(t, 1), FEN_ENOTFIBER);
    assert_int_equal(fen_timer_every(t, 1, 1), FEN_ENOTFIBER);
    assert_int_equal(fen_timer_stop(t), 0);
    fen_timer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_in_a_select),
        cmocka_unit_test(test_ticker_keeps_its_step_and_drops),
        cmocka_unit_test(test_stop_and_the_firing_agree),
        cmocka_unit_test(test_no_stale_value_after_a_new_start),
        cmocka_unit_test(test_many_fibers_on_one_timer),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_stop_waits_for_the_function),
        cmocka_unit_test(test_callbacks_may_call_what_any_thread_may),
        cmocka_unit_test(test_a_deadlock_is_seen_after_a_timers_function_woke),
        cmocka_unit_test(test_a_child_forked_in_a_function_may_only_exec),
        cmocka_unit_test(test_outside_a_fiber),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
