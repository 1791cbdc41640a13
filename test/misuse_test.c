/* misuse_test.c - what must not be done ends the process with a line that names the broken promise,
 * or is a defined error; never silence, never a hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/chan.h>
#include <fen/group.h>
#include <fen/io.h>
#include <fen/local.h>
#include <fen/sync.h>
#include <fen/timer.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- dying ---- */

static int run_misuse(void *fn)
{
    (*(void (**)(void))fn)();
    return 0;
}

static void in_child(void (*misuse)(void), int fd)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGABRT, SIG_DFL);
    dup2(fd, 2);
    alarm(20);
    (void)fen_run(run_misuse, &misuse, &(fen_config){.procs = 1});
    _exit(0);
}

/* Does misuse die of an assertion whose line has that text? */
static void dies(void (*misuse)(void), const char *text)
{
    int pipe_fd[2], status;
    char line[8192] = "";
    size_t n = 0;
    ssize_t got;
    assert_int_equal(pipe(pipe_fd), 0);
    pid_t pid = fork();
    if (pid == 0)
        in_child(misuse, pipe_fd[1]);
    close(pipe_fd[1]);
    while (n < sizeof line - 1 && (got = read(pipe_fd[0], line + n, sizeof line - 1 - n)) > 0)
        n += (size_t)got;
    close(pipe_fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        fail_msg("'%s': status %x, no assertion: %s", text, (unsigned)status, line);
    if (!strstr(line, "fen: assertion failed: ") || !strstr(line, text))
        fail_msg("'%s' expected, not: %s", text, line);
}

static void go(void (*fn)(void *), void *arg)
{
    assert_int_equal(fen_go(fn, arg), 0);
    let_wait();
}

/* ---- mutex ---- */

static fen_mutex mutex;
static fen_rwlock rwlock;
static fen_cond cond;
static fen_sem sem;
static fen_wg wg;
static fen_once once;
static fen_barrier barrier;
static fen_chan *chan;
static fen_timer *timer;
static fen_group *group;

static void lock_it(void *arg)
{
    (void)arg;
    (void)!fen_mutex_lock(&mutex);
}

static void mutex_not_held(void) { fen_mutex_unlock(&mutex); }
static void mutex_of_another(void)
{
    go(lock_it, NULL);
    fen_mutex_unlock(&mutex);
}
static void mutex_twice(void)
{
    lock_it(NULL);
    lock_it(NULL);
}
static void mutex_held_at_the_end(void)
{
    lock_it(NULL);
    fen_mutex_fini(&mutex);
}

static void test_mutex(void **state)
{
    (void)state;
    dies(mutex_not_held, "m->held");
    dies(mutex_of_another, "m->held == fen__holder()");
    dies(mutex_twice, "deadline_ns != FEN_NEVER");
    dies(mutex_held_at_the_end, "!m->held");
}

/* ---- read-write lock ---- */

static void read_it(void *arg)
{
    (void)arg;
    (void)!fen_rwlock_read_lock(&rwlock);
}
static void write_it(void *arg)
{
    (void)arg;
    (void)!fen_rwlock_write_lock(&rwlock);
}
static void nobody_reads(void) { fen_rwlock_read_unlock(&rwlock); }
static void nobody_writes(void) { fen_rwlock_write_unlock(&rwlock); }
static void unlock_read_as_write(void)
{
    read_it(NULL);
    fen_rwlock_write_unlock(&rwlock);
}
static void unlock_write_as_read(void)
{
    write_it(NULL);
    fen_rwlock_read_unlock(&rwlock);
}
static void another_writes(void)
{
    go(write_it, NULL);
    fen_rwlock_write_unlock(&rwlock);
}
static void write_then_read(void)
{
    write_it(NULL);
    read_it(NULL);
}
static void read_at_the_end(void)
{
    read_it(NULL);
    fen_rwlock_fini(&rwlock);
}

static void test_rwlock(void **state)
{
    (void)state;
    dies(nobody_reads, "l->readers > 0");
    dies(nobody_writes, "l->writer");
    dies(unlock_read_as_write, "l->writer");
    dies(unlock_write_as_read, "l->readers > 0");
    dies(another_writes, "l->writer == who");
    dies(write_then_read, "deadline_ns != FEN_NEVER");
    dies(read_at_the_end, "!l->writer && !l->readers");
}

/* ---- the others ---- */

static void wait_cond(void *arg)
{
    (void)arg;
    lock_it(NULL);
    while (!fen_cond_wait(&cond, &mutex))
        ;
}
static void cond_without_mutex(void) { (void)!fen_cond_wait(&cond, &mutex); }
static void cond_with_waiter(void)
{
    go(wait_cond, NULL);
    fen_cond_fini(&cond);
}
static void acquire(void *arg)
{
    (void)arg;
    (void)!fen_sem_acquire(&sem);
}
static void sem_of_less_than_none(void) { fen_sem_init(&sem, -1); }
static void sem_too_many(void)
{
    fen_sem_init(&sem, INT64_MAX - 1);
    fen_sem_release(&sem);
    if (fen_sem_try_acquire(&sem) == 0) { /* so many there may be */
        fen_sem_release(&sem);
        fen_sem_release(&sem);
    }
}
static void sem_with_waiter(void)
{
    go(acquire, NULL);
    fen_sem_fini(&sem);
}
static void wg_below_zero(void) { fen_wg_done(&wg); }
static void wg_far_below_zero(void)
{
    fen_wg_add(&wg, 3);
    fen_wg_add(&wg, -4);
}
static void wg_too_many(void)
{
    fen_wg_add(&wg, INT32_MAX);
    fen_wg_add(&wg, 1);
}
static void wg_by_far_too_many(void) { fen_wg_add(&wg, INT64_MAX); }
static void wg_at_the_end(void)
{
    fen_wg_add(&wg, 1);
    fen_wg_fini(&wg);
}
static int once_again(void *arg)
{
    (void)arg;
    return fen_once_do(&once, once_again, NULL);
}
static void once_inside_itself(void) { (void)!fen_once_do(&once, once_again, NULL); }
static int fini_inside(void *arg)
{
    (void)arg;
    fen_once_fini(&once);
    return 0;
}
static void once_at_the_end(void) { (void)!fen_once_do(&once, fini_inside, NULL); }
static void meet(void *arg)
{
    (void)arg;
    (void)!fen_barrier_wait(&barrier);
}
static void barrier_with_waiter(void)
{
    fen_barrier_init(&barrier, 2);
    go(meet, NULL);
    fen_barrier_fini(&barrier);
}
static void barrier_of_nobody(void) { fen_barrier_init(&barrier, 0); }
static void barrier_without_init(void) { (void)!fen_barrier_wait(&barrier); }

static void test_condition_semaphore_group_once_and_barrier(void **state)
{
    (void)state;
    dies(cond_without_mutex, "m->held");
    dies(cond_with_waiter, "!c->waiters.head");
    dies(sem_with_waiter, "!s->waiters.head");
    dies(sem_of_less_than_none, "permits >= 0");
    dies(sem_too_many, "seen < INT64_MAX");
    dies(wg_below_zero, "wg_left >= 0");
    dies(wg_far_below_zero, "wg_left >= 0");
    dies(wg_too_many, "wg_left <= INT32_MAX");
    dies(wg_by_far_too_many, "n <= INT32_MAX");
    dies(wg_at_the_end, "wg_is_idle(wg)");
    dies(once_inside_itself, "o->runner != g->id + 1");
    dies(once_at_the_end, "!o->runner");
    dies(barrier_with_waiter, "!b->arrived");
    dies(barrier_of_nobody, "parties > 0");
    dies(barrier_without_init, "b->parties > 0");
}

/* ---- channels, timers, groups, scopes ---- */

static void receive(void *arg)
{
    (void)arg;
    (void)fen_chan_recv(chan, NULL);
}
static void chan_with_waiter(void)
{
    chan = fen_chan_new(8, 0);
    go(receive, NULL);
    fen_chan_free(chan);
}
static void timer_with_waiter(void)
{
    timer = fen_timer_new();
    chan = fen_timer_chan(timer);
    go(receive, NULL);
    fen_timer_free(timer);
}
static void free_the_timer(void *arg)
{
    (void)arg;
    fen_timer_free(timer);
}
static void timer_freed_by_its_function(void)
{
    timer = fen_timer_new_func(free_the_timer, NULL);
    (void)fen_timer_start(timer, 1);
    (void)fen_sleep(FEN_S);
}
static int nothing(void *arg)
{
    (void)arg;
    return 0;
}
static void go_in_group(void *arg)
{
    (void)arg;
    (void)!fen_group_go(group, nothing, NULL);
}
static void group_of_another(void)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go_detached("stranger", go_in_group, NULL), 0);
    group = fen_group_open(0, FEN_NEVER);
    (void)fen_sleep(FEN_S);
    (void)s;
}
static void group_not_innermost(void)
{
    group = fen_group_open(0, FEN_NEVER);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    (void)fen_group_wait(group);
    (void)s;
}
static void scope_not_innermost(void)
{
    fen_scope *s = fen_scope_open(FEN_NEVER), *t = fen_scope_open(FEN_NEVER);
    (void)fen_scope_close(s);
    (void)t;
}
static void leave_a_scope_open(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    (void)s;
}
static void fiber_ends_in_a_scope(void)
{
    assert_int_equal(fen_go_named("untidy", 0, leave_a_scope_open, NULL), 0);
    (void)fen_sleep(FEN_S);
}
static int leave_it_open(void *arg)
{
    leave_a_scope_open(arg);
    return 0;
}
static void fiber_of_a_group_ends_in_a_scope(void)
{
    group = fen_group_open(0, FEN_NEVER);
    assert_int_equal(fen_group_go(group, leave_it_open, NULL), 0);
    (void)fen_group_wait(group);
}
static void first_fiber_ends_in_a_scope(void) { leave_a_scope_open(NULL); }
static void waits(void *arg) { (void)fen_chan_recv(arg, NULL); }
static void timers_function_waits(void)
{
    timer = fen_timer_new_func(waits, fen_chan_new(8, 0));
    (void)fen_timer_start(timer, 1);
    (void)fen_sleep(FEN_S);
}
static void sleeps(void *arg)
{
    (void)arg;
    (void)fen_sleep(FEN_MS);
}
static void timers_function_sleeps(void)
{
    timer = fen_timer_new_func(sleeps, NULL);
    (void)fen_timer_start(timer, 1);
    (void)fen_sleep(FEN_S);
}
static void waits_for_fd(void *arg)
{
    int fd[2];
    (void)arg;
    assert_int_equal(pipe(fd), 0);
    (void)!fen_fd_wait(fd[0], FEN_FD_READ, FEN_NEVER);
}
static void timers_function_waits_for_fd(void)
{
    timer = fen_timer_new_func(waits_for_fd, NULL);
    (void)fen_timer_start(timer, 1);
    (void)fen_sleep(FEN_S);
}
static void wait_in_hook(fen_cancel_hook *h, int rc)
{
    (void)rc;
    waits(h->arg);
}
static void hook_waits(void)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_cancel_hook h = {.fn = wait_in_hook, .arg = fen_chan_new(8, 0)};
    assert_int_equal(fen_cancel_hook_add(s, &h), 0);
    fen_scope_cancel(s);
}
static void remove_itself(fen_cancel_hook *h, int rc)
{
    (void)rc;
    fen_cancel_hook_del(h);
}
static void hook_removes_itself(void)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_cancel_hook h = {.fn = remove_itself};
    assert_int_equal(fen_cancel_hook_add(s, &h), 0);
    fen_scope_cancel(s);
}
static void cancel_with_no_error(void) { fen_scope_cancel_with(fen_scope_current(), 0); }

static void test_channels_timers_groups_and_scopes(void **state)
{
    (void)state;
    dies(chan_with_waiter, "!c->senders.head && !c->receivers.head");
    dies(timer_with_waiter, "!c->senders.head && !c->receivers.head");
    dies(timer_freed_by_its_function, "!m || fen__cur(m)");
    dies(group_of_another, "leads_to(");
    dies(group_not_innermost, "->scope == s");
    dies(scope_not_innermost, "->scope == s");
    dies(scope_not_innermost, "in fiber main (id 1)");
    dies(fiber_ends_in_a_scope, "a fiber ends with a scope of its own open");
    dies(fiber_ends_in_a_scope, "in fiber untidy (id 2, spawned at fiber_ends_in_a_scope");
    dies(fiber_of_a_group_ends_in_a_scope, "(id 2, spawned at fiber_of_a_group_ends_in_a_scope");
    dies(first_fiber_ends_in_a_scope, "a scope ends while one inside it is open");
    dies(timers_function_waits, "a timer's function or a cancel hook waits");
    dies(timers_function_sleeps, "a timer's function or a cancel hook waits");
    dies(timers_function_waits_for_fd, "a timer's function or a cancel hook waits");
    dies(hook_waits, "in fiber main (id 1)");
    dies(hook_waits, "a timer's function or a cancel hook waits");
    dies(hook_removes_itself, "a cancel hook removes one that is running");
    dies(cancel_with_no_error, "rc < 0");
}

/* ---- defined errors ---- */

static int errors(void *arg)
{
    int v = 1;
    (void)arg;
    fen_chan *c = fen_chan_new(sizeof v, 1);
    assert_int_equal(fen_chan_close(c), 0);
    assert_int_equal(fen_chan_close(c), FEN_ECLOSED);
    assert_int_equal(fen_chan_send(c, &v), FEN_ECLOSED);
    assert_int_equal(fen_chan_send_until(c, &v, 1), FEN_ECLOSED);
    assert_int_equal(fen_chan_try_send(c, &v), FEN_ECLOSED);
    fen_chan_free(c);
    c = fen_chan_new(sizeof v, 0);
    assert_int_equal(fen_chan_send_until(c, &v, 1), -ETIMEDOUT); /* deadlines in the past */
    assert_int_equal(fen_chan_recv_until(c, &v, -FEN_S), -ETIMEDOUT);
    fen_chan_free(c);
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    assert_int_equal(fen_mutex_lock_until(&mutex, 1), -ETIMEDOUT); /* one's own, with a deadline */
    assert_int_equal(fen_mutex_try_lock(&mutex), -EAGAIN);
    fen_mutex_unlock(&mutex);
    assert_int_equal(fen_sem_acquire_until(&sem, 1), -ETIMEDOUT);
    assert_int_equal(fen_sem_try_acquire(&sem), -EAGAIN);
    fen_wg_add(&wg, 1);
    assert_int_equal(fen_wg_wait_until(&wg, 1), -ETIMEDOUT);
    fen_wg_done(&wg);
    assert_int_equal(fen_wg_wait_until(&wg, 1), 0);
    assert_int_equal(fen_go_detached(NULL, receive, NULL), -EINVAL); /* only by name */
    assert_int_equal(fen_go_detached("", receive, NULL), -EINVAL);
    return 0;
}

static void *without_a_fiber(void *arg)
{
    int v = 1;
    fen_chan *c = fen_chan_new(sizeof v, 1);
    /* What waits blocks the thread, with the same errors. */
    assert_int_equal(fen_chan_send(c, &v), 0);
    assert_int_equal(fen_chan_send_until(c, &v, 1), -ETIMEDOUT);
    assert_int_equal(fen_chan_recv(c, &v), 0);
    assert_int_equal(fen_select(&FEN_RECV(c, &v), 1, 0), -ETIMEDOUT);
    assert_int_equal(fen_chan_close(c), 0);
    assert_int_equal(fen_chan_recv(c, &v), FEN_ECLOSED);
    fen_chan_free(c);
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    assert_int_equal(fen_mutex_lock_until(&mutex, 1), -ETIMEDOUT);
    fen_mutex_unlock(&mutex);
    assert_int_equal(fen_sem_acquire_until(&sem, 1), -ETIMEDOUT);
    fen_barrier_init(&barrier, 2);
    assert_int_equal(fen_barrier_wait_until(&barrier, 1), -ETIMEDOUT);
    /* What needs a fiber, or a runtime, says so. */
    assert_null(fen_scope_open(FEN_NEVER));
    assert_int_equal(fen_scope_cause(NULL), 0);
    assert_int_equal(fen_go(receive, NULL), FEN_ENOTFIBER);
    assert_int_equal(fen_go_detached("x", receive, NULL), FEN_ECLOSED);
    return arg;
}

static void test_defined_errors(void **state)
{
    (void)state;
    run_on_all(errors, NULL);
    (void)without_a_fiber(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutex),
        cmocka_unit_test(test_rwlock),
        cmocka_unit_test(test_condition_semaphore_group_once_and_barrier),
        cmocka_unit_test(test_channels_timers_groups_and_scopes),
        cmocka_unit_test(test_defined_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
