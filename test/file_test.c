/* file_test.c - files and the pool of threads behind them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_check.h"
#include "sync/sync.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* ---- files ---- */

static void use_files(void)
{
    char a[64], b[64], buf[100];
    fen_file_info info;
    snprintf(a, sizeof a, "/tmp/fen-file-a-%d", (int)getpid());
    snprintf(b, sizeof b, "/tmp/fen-file-b-%d", (int)getpid());
    must_equal(fen_file_open(a, O_RDONLY, 0), -ENOENT);
    int fd = fen_file_open(a, O_CREAT | O_EXCL | O_RDWR, 0600);
    must(fd >= 0);
    must(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    must_equal(fen_file_open(a, O_CREAT | O_EXCL | O_RDWR, 0600), -EEXIST);
    must_equal(fen_file_write(fd, "hello world", 11), 11);
    must_equal(fen_file_pwrite(fd, "W", 1, 6), 1);
    must_equal(fen_file_sync(fd, false), 0);
    must_equal(fen_file_sync(fd, true), 0);
    must_equal(fen_file_pread(fd, buf, sizeof buf, 0), 11);
    must_equal(memcmp(buf, "hello World", 11), 0);
    must_equal(fen_file_pread(fd, buf, sizeof buf, 11), 0);
    must_equal(fen_file_pread(fd, buf, 4, 1), 4);
    must_equal(fen_file_read(fd, buf, sizeof buf), 0); /* the position is where the write ended */
    must_equal(fen_file_truncate(fd, 5), 0);
    must_equal(fen_file_fstat(fd, &info), 0);
    must_equal(info.bytes, 5);
    must(S_ISREG(info.mode) && (info.mode & 0777) == 0600);
    must_equal(fen_file_rename(a, b), 0);
    must_equal(fen_file_stat(a, &info), -ENOENT);
    must_equal(fen_file_stat(b, &info), 0);
    must(info.modified_ns > 1500000000 * FEN_S);
    must_equal(fen_file_unlink(b), 0);
    must_equal(fen_file_unlink(b), -ENOENT);
    must_equal(fen_file_close(fd), 0);
    must_equal(fen_file_close(fd), -EBADF);
    must_equal(fen_file_pread(fd, buf, 1, 0), -EBADF);
    fd = fen_file_open("/dev/full", O_WRONLY, 0);
    must_equal(fen_file_write(fd, "x", 1), -ENOSPC);
    must_equal(fen_file_close(fd), 0);
}

static int files(void *arg)
{
    (void)arg;
    use_files();
    return 0;
}

static void test_files(void **state)
{
    (void)state;
    run_clean(files, NULL, 2);
    use_files(); /* outside a fiber the thread does it */
}

/* An offset below 0 is none, whichever way the call goes; -1 means the position to the kernel. */
static int offsets(void *arg)
{
    (void)arg;
    char path[64], buf[4];
    snprintf(path, sizeof path, "/tmp/fen-file-o-%d", (int)getpid());
    int fd = fen_file_open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    must(fd >= 0);
    must_equal(unlink(path), 0);
    must_equal(fen_file_write(fd, "hello world", 11), 11);
    must_equal(lseek(fd, 2, SEEK_SET), 2);
    for (int64_t at = -1; at > -3; at--) {
        must_equal(fen_file_pread(fd, buf, sizeof buf, at), -EINVAL);
        must_equal(fen_file_pwrite(fd, "X", 1, at), -EINVAL);
        must_equal(lseek(fd, 0, SEEK_CUR), 2);
    }
    must_equal(fen_file_pread(fd, buf, sizeof buf, 0), 4);
    must_equal(memcmp(buf, "hell", 4), 0);
    must_equal(fen_file_close(fd), 0);
    return 0;
}

static void test_offset_below_zero(void **state)
{
    (void)state;
    run_clean(offsets, NULL, 2);
    offsets(NULL);
}

static int far_times(void *arg)
{
    (void)arg;
    static const int64_t years[][2] = {{13569465600, INT64_MAX}, /* 2400 */
                                       {-13569465600, INT64_MIN},
                                       {9000000000, 9000000000 * FEN_S},
                                       {-1, -FEN_S}};
    fen_file_info info;
    int fd = memfd_create("far", MFD_CLOEXEC); /* a file system that keeps every time */
    must(fd >= 0);
    for (size_t i = 0; i < FEN__COUNT(years); i++) {
        struct timespec t[2] = {{.tv_sec = years[i][0]}, {.tv_sec = years[i][0]}};
        must_equal(futimens(fd, t), 0);
        must_equal(fen_file_fstat(fd, &info), 0);
        must_equal(info.modified_ns, years[i][1]);
    }
    close(fd);
    return 0;
}

static void test_far_times(void **state)
{
    (void)state;
    run_clean(far_times, NULL, 1);
}

/* ---- a read that has begun ---- */

static int reads, cancel_at, later_at; /* how many from the cache; at which of them */
static _Atomic pthread_t reader;
static fen_scope *ends;

static int end_scope(const char *call)
{
    if (!strcmp(call, "thread") && later_at < 0)
        return -EAGAIN; /* nobody else can do the rest */
    if (strcmp(call, "read") || !pthread_equal(pthread_self(), reader)) /* the monitor reads too */
        return 0;
    if (++reads == cancel_at)
        fen_scope_cancel(ends);
    return reads == abs(later_at) ? -EAGAIN : 0;
}

static int begun_read(void *arg)
{
    (void)arg;
    enum { BYTES = 256 << 10 };
    static char buf[BYTES];
    char path[64];
    snprintf(path, sizeof path, "/var/tmp/fen-file-l-%d", (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(fd >= 0);
    must_equal(unlink(path), 0);
    memset(buf, 0, BYTES);
    must_equal(write(fd, buf, BYTES), BYTES);
    if (fen__sys_pread_cached(fd, buf, 1, 0) != 1) {
        print_message("skipped: no RWF_NOWAIT in /var/tmp\n");
        goto out;
    }
    static const int when[][2] = {{1, 0}, {2, 0}, {2, -3}, {2, 3}};
    for (size_t i = 0; i < FEN__COUNT(when); i++) {
        must_equal(lseek(fd, 0, SEEK_SET), 0);
        memset(buf, 1, BYTES);
        cancel_at = when[i][0];
        later_at = when[i][1];
        reads = 0;
        reader = pthread_self();
        ends = fen_scope_open(FEN_NEVER);
        fen__sys_fault = end_scope;
        ssize_t got = fen_file_read(fd, buf, BYTES);
        fen__sys_fault = NULL;
        must_equal(got, BYTES);
        must_equal(lseek(fd, 0, SEEK_CUR), BYTES);
        must(!memchr(buf, 1, BYTES));
        must_equal(lseek(fd, 0, SEEK_SET), 0);
        if (reads >= cancel_at) { /* one that has not begun does not */
            must_equal(fen_file_read(fd, buf, BYTES), -ECANCELED);
            must_equal(lseek(fd, 0, SEEK_CUR), 0);
            must_equal(fen_scope_close(ends), -ECANCELED);
        } else {
            must_equal(fen_scope_close(ends), 0);
        }
    }
out:
    close(fd);
    return 0;
}

static void test_a_read_that_has_begun_is_done(void **state)
{
    (void)state;
    const char *way = getenv("FEN_FILES");
    if (!way || strcmp(way, "auto")) /* else it is one job */
        skip();
    run_clean(begun_read, NULL, 2);
}

/* ---- the pool ---- */

static _Atomic int running, most;

static int nap_counted(void *arg)
{
    int now = atomic_fetch_add(&running, 1) + 1, seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        ;
    must(!fen_in_fiber());
    struct timespec ts = {.tv_nsec = 2 * FEN_MS};
    nanosleep(&ts, NULL);
    atomic_fetch_sub(&running, 1);
    return *(int *)arg;
}

static void one_call(void *arg)
{
    int n = *(int *)arg;
    must_equal(fen_blocking(nap_counted, arg), n);
}

static int bounded(void *arg)
{
    (void)arg;
    int n = 7;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 50; i++)
        must_equal(fen_go(one_call, &n), 0);
    must_equal(fen_scope_close(scope), 0);
    must_equal(most, 3);
    return 0;
}

static void test_bounded(void **state)
{
    (void)state;
    atomic_store(&most, 0);
    assert_int_equal(fen_run(bounded, NULL, &(fen_config){.procs = 2, .max_blocking = 3}), 0);
    assert_int_equal(fen_run(bounded, NULL, &(fen_config){.max_blocking = -1}), -EINVAL);
    assert_int_equal(fen_run(bounded, NULL, &(fen_config){.max_blocking = 5000}), -EINVAL);
}

/* ---- cancellation: before it begins, and after ---- */

static _Atomic int begun, let_go;

static int held(void *arg)
{
    atomic_fetch_add(&begun, 1);
    while (!atomic_load(&let_go)) {
        struct timespec ts = {.tv_nsec = FEN_MS / 10};
        nanosleep(&ts, NULL);
    }
    *(int *)arg = 1;
    return 5;
}

struct call {
    int touched;
    _Atomic int rc; /* looked at while the call goes on */
    int64_t deadline_ns;
};

static void call_held(void *arg)
{
    struct call *c = arg;
    int on_stack = 0; /* what the job writes lies here: it must not outlive this frame */
    c->rc = fen_blocking_until(held, &on_stack, c->deadline_ns);
    c->touched = on_stack;
}

static int canceling(void *arg)
{
    (void)arg;
    struct call first = {.deadline_ns = FEN_NEVER}, second = {.deadline_ns = FEN_NEVER},
                third = {.deadline_ns = fen_now() + 5 * FEN_MS};
    atomic_store(&begun, 0);
    atomic_store(&let_go, 0);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(call_held, &first), 0);
    while (!atomic_load(&begun))
        must_equal(fen_sleep(FEN_MS / 10), 0);
    must_equal(fen_go(call_held, &second), 0); /* one thread only: these two wait for it */
    must_equal(fen_go(call_held, &third), 0);
    must_equal(fen_sleep(10 * FEN_MS), 0);
    must_equal(third.rc, -ETIMEDOUT);
    must_equal(first.rc, 0);
    fen_scope_cancel(scope);
    while (second.rc != -ECANCELED)
        fen_yield();         /* this fiber is in the scope too */
    must_equal(first.rc, 0); /* cancelled too, and stays with its job */
    atomic_store(&let_go, 1);
    must_equal(fen_scope_close(scope), -ECANCELED);
    must(first.rc == 5 && first.touched == 1);
    must(!second.touched && !third.touched && begun == 1);
    return 0;
}

static void test_canceling(void **state)
{
    (void)state;
    assert_int_equal(fen_run(canceling, NULL, &(fen_config){.procs = 2, .max_blocking = 1}), 0);
}

/* ---- a scope that has ended, a deadline in the past: nothing begins ---- */

#define ROUNDS 2000 /* a thread that is awake takes a queued job within the first few */

static int count_call(void *arg)
{
    ++*(int *)arg;
    return 0;
}

static int no_thread(const char *call) { return strcmp(call, "thread") ? 0 : -EAGAIN; }

static void begins_nothing(int fd, const char *path, int rc)
{
    static int called; /* not on the stack: a job that is begun may be late */
    fen_file_info info;
    called = 0;
    for (int i = 0; i < ROUNDS; i++) {
        must_equal(fen_blocking(count_call, &called), rc);
        must_equal(fen_try_blocking(count_call, &called), rc);
        must_equal(fen_blocking_until(count_call, &called, soon()), rc);
        must_equal(fen_file_write(fd, "x", 1), rc);
        must_equal(fen_file_pwrite(fd, "x", 1, 0), rc);
        must_equal(fen_file_truncate(fd, 9), rc);
        must_equal(fen_file_unlink(path), rc);
        must_equal(fen_file_stat(path, &info), rc);
    }
    must_equal(called, 0);
    struct stat st;
    must(!stat(path, &st) && st.st_size == 0);
}

static void write_late(void *fd) { must_equal(fen_file_write(*(int *)fd, "late", 4), 4); }

/* What has to be done all the same is. */
static void ends_well(fen_scope *s, int fd, int rc)
{
    int more = dup(fd), called = 0;
    fen_defer_record late;
    must(more >= 0);
    fen_defer(s, &late, write_late, &more);
    must_equal(fen_file_close(fd), 0);
    fen__mask(+1);
    must_equal(fen_blocking(count_call, &called), 0);
    fen__mask(-1);
    must_equal(called, 1);
    must_equal(fen_scope_close(s), rc);
    must_equal(lseek(more, 0, SEEK_CUR), 4);
    must_equal(fen_file_close(more), 0);
}

static int too_late(void *arg)
{
    char path[64];
    snprintf(path, sizeof path, "/var/tmp/fen-file-t-%d", (int)getpid());
    for (int expired = 0; expired < 2; expired++) {
        int called = 0, rc = expired ? -ETIMEDOUT : -ECANCELED;
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        must(fd >= 0);
        fen_scope *s = fen_scope_open(expired ? fen_now() - FEN_S : FEN_NEVER);
        if (!expired)
            fen_scope_cancel(s);
        if (!expired) { /* there is no thread yet, nor is one asked for */
            fen__sys_fault = no_thread;
            must_equal(fen_blocking(count_call, &called), rc);
            must_equal(fen_file_truncate(fd, 9), rc);
            fen__sys_fault = NULL;
        }
        fen__mask(+1);
        must_equal(fen_blocking(count_call, &called), 0); /* from now on there is */
        fen__mask(-1);
        begins_nothing(fd, path, rc);
        ends_well(s, fd, rc);
        must_equal(unlink(path), 0);
    }
    *(int *)arg = 0;
    for (int i = 0; i < ROUNDS; i++) {
        must_equal(fen_blocking_until(count_call, arg, fen_now() - FEN_S), -ETIMEDOUT);
        must_equal(fen_blocking_until(count_call, arg, 0), -ETIMEDOUT);
    }
    must_equal(*(int *)arg, 0);
    must_equal(fen_blocking_until(count_call, arg, soon()), 0);
    return *(int *)arg - 1;
}

static void test_what_has_ended_begins_nothing(void **state)
{
    (void)state;
    int called = 0;
    for (int i = 1; i <= 2; i++)
        run_clean(too_late, &called, i);
    assert_int_equal(fen_blocking_until(count_call, &called, 0), -ETIMEDOUT); /* a thread */
    assert_int_equal(fen_blocking_until(count_call, &called, soon()), 0);
    assert_int_equal(called, 2);
}

/* ---- the bill ---- */

static int burn(void *arg)
{
    (void)arg;
    struct timespec t;
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    while (t.tv_sec == 0 && t.tv_nsec < 30 * FEN_MS);
    return 0;
}

static int billed(void *arg)
{
    (void)arg;
    struct fen__g *g = fen__cur(fen__self());
    int64_t before = g->cpu_ticks;
    must_equal(fen_blocking(burn, NULL), 0);
    must(fen__tsc_to_ns(g->cpu_ticks - before) >= 30 * FEN_MS);
    struct fen__cpu_books b;
    fen__cpu_books(&b);
    must(b.fibers_ns >= 30 * FEN_MS && b.fibers_ns <= b.process_ns + 5 * FEN_MS);
    return 0;
}

static void test_billed(void **state)
{
    (void)state;
    run_clean(billed, NULL, 2);
}

/* ---- without standing in the queue ---- */

static int touch(void *arg)
{
    ++*(int *)arg;
    return 9;
}

static int trying(void *arg)
{
    (void)arg;
    struct call first = {.deadline_ns = FEN_NEVER}, second = {.deadline_ns = FEN_NEVER};
    int touched = 0, n = 1;
    atomic_store(&begun, 0);
    atomic_store(&let_go, 0);
    must_equal(fen_try_blocking(touch, &touched), 9); /* a thread is made */
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(call_held, &first), 0);
    while (atomic_load(&begun) < 1)
        must_equal(fen_sleep(FEN_MS / 10), 0);
    must_equal(fen_try_blocking(touch, &touched), 9); /* a second one */
    must_equal(fen_go(call_held, &second), 0);
    while (atomic_load(&begun) < 2)
        must_equal(fen_sleep(FEN_MS / 10), 0);
    must_equal(fen_try_blocking(touch, &touched), -EAGAIN); /* two are all, and both work */
    must_equal(touched, 2);
    atomic_store(&let_go, 1);
    must_equal(fen_scope_close(scope), 0);
    must(first.rc == 5 && second.rc == 5);
    while (fen_try_blocking(touch, &touched) == -EAGAIN) /* until the threads are back */
        fen_yield();
    must_equal(touched, 3);
    must_equal(fen_blocking(nap_counted, &n), 1); /* nothing of the refused is in the queue */
    must_equal(touched, 3);
    return 0;
}

static void test_trying(void **state)
{
    (void)state;
    int touched = 0;
    assert_int_equal(fen_run(trying, NULL, &(fen_config){.procs = 2, .max_blocking = 2}), 0);
    assert_int_equal(fen_try_blocking(touch, &touched), 9); /* a thread runs it itself */
    assert_int_equal(touched, 1);
}

/* ---- no thread to be had ---- */

static int threadless(void *arg)
{
    (void)arg;
    int n = 3, fd = open("/dev/null", O_RDONLY);
    fen__sys_fault = no_thread;
    must_equal(fen_blocking(nap_counted, &n), -EAGAIN);
    must_equal(fen_try_blocking(nap_counted, &n), -EAGAIN);
    must_equal(fen_file_open("/dev/null", O_RDONLY, 0), -EAGAIN);
    must_equal(fen_file_close(fd), 0);
    fen__sys_fault = NULL;
    must_equal(fen_blocking(nap_counted, &n), 3);
    return 0;
}

static void test_no_thread(void **state)
{
    (void)state;
    run_clean(threadless, NULL, 2);
}

static void many(void *arg)
{
    int n = 1;
    (void)arg;
    for (int i = 0; i < 20; i++)
        must_equal(fen_blocking(nap_counted, &n), 1);
}

static int crowd(void *arg)
{
    (void)arg;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 200; i++)
        must_equal(fen_go(many, NULL), 0);
    must_equal(fen_scope_close(scope), 0);
    return 0;
}

static void test_crowd(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++)
        run_clean(crowd, NULL, i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_canceling),
        cmocka_unit_test(test_billed),
        cmocka_unit_test(test_no_thread),
        cmocka_unit_test(test_trying),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_offset_below_zero),
        cmocka_unit_test(test_far_times),
        cmocka_unit_test(test_a_read_that_has_begun_is_done),
        cmocka_unit_test(test_what_has_ended_begins_nothing),
    };
    static const char *const ways[] = {"auto", "ring", "pool"}; /* a ring: where there is one */
    int failed = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        setenv("FEN_FILES", ways[i], 1);
        failed += cmocka_run_group_tests_name(ways[i], tests, NULL, NULL);
    }
    return failed;
}
