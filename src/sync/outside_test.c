/* outside_test.c - threads that are not workers send, receive, lock, select and spawn. */
#include "sched/sched.h" /* FEN__TSAN */
#include "sys/sys.h"

#include <fen/fen.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef FEN__TSAN
enum { THREADS = 4, EACH = 400, RUNS = 60 };
#else
enum { THREADS = 4, EACH = 5000, RUNS = 1000 };
#endif

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    if (pthread_create(t, NULL, fn, arg))
        abort();
}

/* ---- channels ---- */

static fen_chan *up, *down;

static void *echo_thread(void *arg)
{
    (void)arg;
    int64_t v, n = 0;
    while (fen_chan_recv(up, &v) == 0) {
        v = -v;
        if (fen_chan_send(down, &v))
            abort();
        n++;
    }
    return (void *)(intptr_t)n;
}

static void ask(void *arg)
{
    (void)arg;
    for (int64_t i = 1; i <= EACH; i++)
        assert_int_equal(fen_chan_send(up, &i), 0);
}

static int talk_to_threads(void *arg)
{
    size_t cap = *(size_t *)arg;
    pthread_t t[THREADS];
    up = fen_chan_new(sizeof(int64_t), cap);
    down = fen_chan_new(sizeof(int64_t), cap);
    for (int i = 0; i < THREADS; i++)
        start(&t[i], echo_thread, NULL);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(ask, NULL), 0);
    int64_t sum = 0, v;
    for (int i = 0; i < EACH; i++) {
        assert_int_equal(fen_chan_recv(down, &v), 0);
        sum += v;
    }
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(sum, -(int64_t)EACH * (EACH + 1) / 2);
    assert_int_equal(fen_chan_close(up), 0);
    intptr_t served = 0;
    fen_blocking_begin();
    for (int i = 0; i < THREADS; i++) {
        void *n;
        pthread_join(t[i], &n);
        served += (intptr_t)n;
    }
    fen_blocking_end();
    assert_int_equal(served, EACH);
    fen_chan_free(up);
    fen_chan_free(down);
    return 0;
}

static void threads_and_fibers_talk(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 3; cap++)
        for (int procs = 1; procs <= 2; procs++)
            assert_int_equal(fen_run(talk_to_threads, &cap, &(fen_config){.procs = procs}), 0);
}

static void threads_talk_without_a_runtime(void **state)
{
    (void)state;
    pthread_t t;
    int64_t v = 7;
    up = fen_chan_new(sizeof v, 0);
    down = fen_chan_new(sizeof v, 0);
    start(&t, echo_thread, NULL);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(fen_chan_send(up, &v), 0);
        assert_int_equal(fen_select((fen_case[]){FEN_RECV(down, &v)}, 1, FEN_NEVER), 0);
    }
    assert_int_equal(v, 7);
    int64_t began = fen_now();
    assert_int_equal(fen_chan_recv_until(down, &v, fen_now() + 5 * FEN_MS), -ETIMEDOUT);
    assert_int_equal(fen_select((fen_case[]){FEN_RECV(down, &v)}, 1, fen_now() + 5 * FEN_MS),
                     -ETIMEDOUT);
    assert_true(fen_now() - began >= 10 * FEN_MS);
    assert_false(fen_in_fiber());
    assert_int_equal(fen_chan_close(up), 0);
    pthread_join(t, NULL);
    fen_chan_free(up);
    fen_chan_free(down);
}

/* ---- locks, from both sides ---- */

static fen_mutex mutex;
static fen_sem sem;
static fen_wg wg;
static int64_t plain;

static void add_under_lock(void)
{
    for (int i = 0; i < EACH; i++) {
        if (fen_mutex_lock(&mutex))
            abort();
        plain++;
        fen_mutex_unlock(&mutex);
        if (fen_sem_acquire(&sem))
            abort();
        fen_sem_release(&sem);
    }
    fen_wg_done(&wg);
}

static void *lock_thread(void *arg)
{
    add_under_lock();
    return arg;
}
static void lock_fiber(void *arg)
{
    (void)arg;
    add_under_lock();
}

static void *wait_thread(void *arg)
{
    *(int *)arg = fen_wg_wait(&wg);
    return NULL;
}

static int lock_together(void *arg)
{
    (void)arg;
    pthread_t t[THREADS], waiter;
    int rc = 1;
    plain = 0;
    fen_sem_init(&sem, 2);
    fen_wg_add(&wg, 2 * THREADS);
    start(&waiter, wait_thread, &rc);
    for (int i = 0; i < THREADS; i++) {
        start(&t[i], lock_thread, NULL);
        assert_int_equal(fen_go(lock_fiber, NULL), 0);
    }
    assert_int_equal(fen_wg_wait(&wg), 0);
    fen_blocking_begin();
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    pthread_join(waiter, NULL);
    fen_blocking_end();
    assert_int_equal(rc, 0);
    assert_int_equal(plain, 2 * THREADS * EACH);
    return 0;
}

static void threads_and_fibers_share_locks(void **state)
{
    (void)state;
    assert_int_equal(fen_run(lock_together, NULL, &(fen_config){.procs = 2}), 0);
}

/* ---- meeting, reading and writing, setting up, from both sides ---- */

enum { MEETINGS = 50 };
static fen_barrier barrier;
static fen_rwlock rwlock;
static fen_once once[MEETINGS];
static int64_t sets[MEETINGS];
static _Atomic int lasts;

static int set_up(void *n)
{
    ++*(int64_t *)n;
    return fen_sleep(FEN_MS / 10); /* the others wait for it */
}

static void meet(void)
{
    for (int i = 0; i < MEETINGS; i++) {
        int last = fen_barrier_wait(&barrier);
        assert_true(last == 0 || last == 1);
        atomic_fetch_add(&lasts, last);
        assert_int_equal(fen_once_do(&once[i], set_up, &sets[i]), 0);
        assert_int_equal(sets[i], 1);
        assert_int_equal(fen_rwlock_write_lock(&rwlock), 0);
        plain++;
        fen_rwlock_write_unlock(&rwlock);
        assert_int_equal(fen_rwlock_read_lock(&rwlock), 0);
        assert_true(plain > 2 * THREADS * i && plain <= 2 * THREADS * (i + 1));
        fen_rwlock_read_unlock(&rwlock);
    }
}

static void *meet_thread(void *arg)
{
    meet();
    return arg;
}

static void meet_fiber(void *arg)
{
    (void)arg;
    meet();
}

static int meet_all(void *arg)
{
    (void)arg;
    pthread_t t[THREADS];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < THREADS; i++) {
        start(&t[i], meet_thread, NULL);
        assert_int_equal(fen_go(meet_fiber, NULL), 0);
    }
    assert_int_equal(fen_scope_close(s), 0);
    fen_blocking_begin();
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    fen_blocking_end();
    return 0;
}

static void threads_and_fibers_meet(void **state)
{
    (void)state;
    plain = 0;
    fen_barrier_init(&barrier, 2 * THREADS);
    assert_int_equal(fen_run(meet_all, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(plain, 2 * THREADS * MEETINGS);
    assert_int_equal(lasts, MEETINGS);
    fen_barrier_fini(&barrier);
    fen_rwlock_fini(&rwlock);
}

/* ---- the end of a run ---- */

static _Atomic int waiting, canceled;

static void *wait_for_ever(void *arg)
{
    int64_t v;
    atomic_fetch_add(&waiting, 1);
    int rc = fen_chan_recv(arg, &v);
    atomic_fetch_add(&canceled, rc == -ECANCELED);
    return NULL;
}

static int leave_threads_waiting(void *arg)
{
    (void)arg;
    while (atomic_load(&waiting) < THREADS)
        fen_sleep(FEN_MS);
    return fen_sleep(5 * FEN_MS);
}

static void the_end_of_a_run_ends_the_waits_of_threads(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        pthread_t t[THREADS];
        fen_chan *c = fen_chan_new(sizeof(int64_t), 0);
        atomic_store(&waiting, 0);
        atomic_store(&canceled, 0);
        for (int i = 0; i < THREADS; i++)
            start(&t[i], wait_for_ever, c);
        assert_int_equal(fen_run(leave_threads_waiting, NULL, NULL), 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(t[i], NULL);
        assert_int_equal(atomic_load(&canceled), THREADS);
        fen_chan_free(c);
    }
}

/* ---- spawning ---- */

enum { BACKLOG = 500 }; /* a sanitizer bears some thousand live fibers */
static _Atomic int64_t accepted, ran;
static _Atomic bool stop;

static void count_one(void *arg)
{
    (void)arg;
    fen_yield();
    atomic_fetch_add(&ran, 1);
}

static void *spawn_detached(void *arg)
{
    int64_t started = 0;
    for (int i = 0; i < EACH || arg; i++) {
        int rc = fen_go_detached("guest", count_one, NULL);
        if (rc == FEN_ECLOSED && (!arg || atomic_load(&stop)))
            break;
        started += rc == 0;
        atomic_fetch_add(&accepted, rc == 0);
        if (rc == FEN_ECLOSED)
            sched_yield();
        else if (rc)
            abort();
        while (atomic_load(&accepted) - atomic_load(&ran) > BACKLOG) /* all that are run */
            sched_yield();
    }
    return (void *)(intptr_t)started;
}

static int host_spawners(void *arg)
{
    (void)arg;
    pthread_t t[THREADS];
    intptr_t started = 0;
    for (int i = 0; i < THREADS; i++)
        start(&t[i], spawn_detached, NULL);
    fen_blocking_begin();
    for (int i = 0; i < THREADS; i++) {
        void *n;
        pthread_join(t[i], &n);
        started += (intptr_t)n;
    }
    fen_blocking_end();
    assert_int_equal(started, THREADS * EACH);
    while (atomic_load(&ran) < started)
        fen_yield();
    return 0;
}

static void threads_spawn_detached_fibers(void **state)
{
    (void)state;
    atomic_store(&accepted, 0);
    atomic_store(&ran, 0);
    assert_int_equal(fen_go_detached("nobody", count_one, NULL), FEN_ECLOSED);
    assert_int_equal(fen_run(host_spawners, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(atomic_load(&ran), THREADS * EACH);
}

static int come_and_go(void *arg)
{
    (void)arg;
    return fen_sleep(FEN_MS);
}

/* Runs begin and end while threads spawn as fast as they can: whatever was accepted runs. */
static void spawns_meet_the_end_of_runs(void **state)
{
    (void)state;
    pthread_t t[2];
    intptr_t started = 0;
    atomic_store(&accepted, 0);
    atomic_store(&ran, 0);
    atomic_store(&stop, false);
    for (int i = 0; i < 2; i++)
        start(&t[i], spawn_detached, &stop);
    for (int i = 0; i < RUNS / 20; i++)
        assert_int_equal(fen_run(come_and_go, NULL, &(fen_config){.procs = 2}), 0);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        void *n;
        pthread_join(t[i], &n);
        started += (intptr_t)n;
    }
    assert_int_equal(atomic_load(&ran), started);
    assert_true(started > 0);
}

static void *spawn_in_scope(void *arg)
{
    for (int i = 0; i < EACH; i++)
        if (fen_spawner_go(arg, "scoped", count_one, NULL))
            abort();
    fen_spawner_close(arg);
    return NULL;
}

static int scoped(void *arg)
{
    (void)arg;
    pthread_t t;
    fen_spawner *h;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_spawner_open(&h), 0);
    start(&t, spawn_in_scope, h);
    assert_int_equal(fen_scope_close(s), 0); /* waits for the handle and for what it started */
    assert_int_equal(atomic_load(&ran), EACH);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_spawner_open(&h), 0);
    fen_scope_cancel(s);
    assert_int_equal(fen_spawner_go(h, NULL, count_one, NULL), -ECANCELED);
    fen_spawner_close(h);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    return 0;
}

static void a_spawner_holds_its_scope_open(void **state)
{
    (void)state;
    fen_spawner *h;
    assert_int_equal(fen_spawner_open(&h), FEN_ENOTFIBER);
    for (int procs = 1; procs <= 2; procs++) {
        atomic_store(&accepted, 0);
        atomic_store(&ran, 0);
        assert_int_equal(fen_run(scoped, NULL, &(fen_config){.procs = procs}), 0);
    }
}

/* ---- a spawner and the report of a deadlock ---- */

static fen_spawner *spawner;
static _Atomic int reports;

static void count_report(void *arg, const char *text, size_t n)
{
    (void)arg;
    (void)n;
    atomic_fetch_add(&reports, strstr(text, "fen: deadlock: ") != NULL);
}

/* Longer than the patience of the report. */
static void stall(void) { poll(NULL, 0, 700); }

static void *spawn_late(void *arg)
{
    stall();
    if (fen_spawner_go(spawner, "late", count_one, NULL))
        abort();
    fen_spawner_close(spawner);
    return arg;
}

static void *close_late(void *arg)
{
    stall();
    fen_spawner_close(spawner);
    return arg;
}

/* The scope's owner waits for who has the spawner; with a channel, for nobody, once it is closed,
 * which wakes no fiber. */
static int await_a_spawner(void *c)
{
    pthread_t t;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_spawner_open(&spawner), 0);
    start(&t, c ? close_late : spawn_late, NULL);
    if (c)
        assert_int_equal(fen_chan_recv(c, NULL), -ECANCELED);
    int rc = fen_scope_close(s);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    return rc;
}

static void an_open_spawner_is_no_deadlock(void **state)
{
    (void)state;
    fen_config cfg = {.on_deadlock = FEN_DEADLOCK_CANCEL, .report = count_report};
    fen_chan *c = fen_chan_new(0, 0);
    atomic_store(&ran, 0);
    assert_int_equal(fen_run(await_a_spawner, NULL, &cfg), 0);
    assert_int_equal(atomic_load(&ran), 1);
    assert_int_equal(atomic_load(&reports), 0);
    assert_int_equal(fen_run(await_a_spawner, c, &cfg), -EDEADLK);
    assert_int_equal(atomic_load(&reports), 1);
    fen_chan_free(c);
}

/* ---- fork ---- */

#ifndef FEN__TSAN /* its child has no background thread, and TSan complains */

static fen_chan *held;

static int in_child(void)
{
    int64_t v = 0;
    if (fen_in_fiber() || fen_run(come_and_go, NULL, NULL) != FEN_EFORKED)
        return 1;
    if (fen_chan_recv(held, &v) != FEN_EFORKED || fen_chan_send(held, &v) != FEN_EFORKED)
        return 2;
    if (fen_go_detached("no", count_one, NULL) != FEN_EFORKED)
        return 3;
    if (fen_go(count_one, NULL) != FEN_ENOTFIBER)
        return 4;
    return strcmp(fen_strerror(FEN_EFORKED), "a forked child may only exec") ? 5 : 0;
}

static int forks(void *arg)
{
    int status = -1;
    held = fen_chan_new(sizeof(int64_t), 0);
    fen_blocking_begin();
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_child());
    waitpid(pid, &status, 0);
    *(int *)arg = status;
    fen_blocking_end();
    fen_chan_free(held);
    return 0;
}

static void a_forked_child_is_refused(void **state)
{
    (void)state;
    int status = -1;
    assert_int_equal(fen_run(forks, &status, NULL), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    pid_t pid = fork(); /* no runtime runs: the child may have one */
    if (pid == 0)
        _exit(fen_run(come_and_go, NULL, NULL) ? 1 : 0);
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}
#endif

/* ---- sleeping ---- */

static void on_signal(int sig) { (void)sig; }

static void *sleep_thread(void *arg)
{
    int64_t t = fen_now();
    assert_int_equal(fen_sleep(300 * FEN_MS), 0);
    *(int64_t *)arg = fen_now() - t;
    return NULL;
}

static void a_signal_does_not_end_a_threads_sleep(void **state)
{
    (void)state;
    pthread_t t;
    int64_t took = 0;
    struct sigaction sa = {.sa_handler = on_signal}, before;
    assert_int_equal(sigaction(SIGUSR1, &sa, &before), 0);
    start(&t, sleep_thread, &took);
    for (int i = 0; i < 3; i++) {
        usleep(50000);
        assert_int_equal(pthread_kill(t, SIGUSR1), 0);
    }
    pthread_join(t, NULL);
    sigaction(SIGUSR1, &before, NULL);
    assert_true(took >= 300 * FEN_MS);
}

static const int64_t long_past[] = {INT64_MIN, INT64_MIN + 1, -FEN_S, -1, 0};

/* A fiber, and a thread when arg is set. */
static int wait_until_long_past(void *arg)
{
    int64_t v, t = fen_now();
    int p[2], none = arg ? FEN_ENOTFIBER : 0;
    fen_chan *c = fen_chan_new(sizeof v, 0);
    fen_timer *timer = fen_timer_new();
    assert_int_equal(pipe(p), 0);
    for (size_t i = 0; i < sizeof long_past / sizeof *long_past; i++) {
        assert_int_equal(fen_sleep_until(long_past[i]), 0);
        assert_int_equal(fen_sleep(long_past[i]), 0);
        assert_int_equal(fen_chan_recv_until(c, &v, long_past[i]), -ETIMEDOUT);
        assert_int_equal(fen_fd_wait(p[0], POLLIN, long_past[i]),
                         long_past[i] ? -ETIMEDOUT : -EAGAIN);
        assert_int_equal(fen_timer_start(timer, long_past[i]), none);
        if (!arg)
            assert_int_equal(fen_chan_recv(fen_timer_chan(timer), &v), 0);
    }
    assert_true(fen_now() - t < FEN_S);
    close(p[0]);
    close(p[1]);
    fen_timer_free(timer);
    fen_chan_free(c);
    return 0;
}

static void deadlines_long_past_come_at_once(void **state)
{
    (void)state;
    (void)wait_until_long_past((void *)1);
    for (int procs = 1; procs <= 2; procs++)
        assert_int_equal(fen_run(wait_until_long_past, NULL, &(fen_config){.procs = procs}), 0);
}

/* ---- the end of a wait group ---- */

static _Atomic int fini_done;

static void *end_wg(void *arg)
{
    fen_wg_fini(arg);
    fini_done = 1;
    return NULL;
}

/* A waiter that gave up has let the count go, and holds the lock for one step more. */
static void test_the_end_of_a_wait_group_waits_for_who_leaves(void **state)
{
    fen_wg w = {0};
    pthread_t t;
    (void)state;
    fini_done = 0;
    fen__lock(&w.lock);
    start(&t, end_wg, &w);
    usleep(20000);
    assert_int_equal(fini_done, 0);
    fen__unlock(&w.lock);
    pthread_join(t, NULL);
    assert_int_equal(fini_done, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_end_of_a_wait_group_waits_for_who_leaves),
        cmocka_unit_test(threads_and_fibers_talk),
        cmocka_unit_test(threads_talk_without_a_runtime),
        cmocka_unit_test(threads_and_fibers_share_locks),
        cmocka_unit_test(threads_and_fibers_meet),
        cmocka_unit_test(the_end_of_a_run_ends_the_waits_of_threads),
        cmocka_unit_test(threads_spawn_detached_fibers),
        cmocka_unit_test(spawns_meet_the_end_of_runs),
        cmocka_unit_test(a_spawner_holds_its_scope_open),
        cmocka_unit_test(an_open_spawner_is_no_deadlock),
        cmocka_unit_test(a_signal_does_not_end_a_threads_sleep),
        cmocka_unit_test(deadlines_long_past_come_at_once),
#ifndef FEN__TSAN
        cmocka_unit_test(a_forked_child_is_refused),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
