/* process_test.c - child processes: ends, pipes, signals, time limits, no zombies, no leaks. */
#include "sched/sched.h"
#include "sys/sys.h"

#include <fen/fen.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* But for files of /proc: the monitor opens one for a worker when it likes. */
static int count_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char to[64];
        ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof to);
        n += len >= 6 && memcmp(to, "/proc/", 6) != 0;
    }
    closedir(d);
    return n;
}

/* Runs fn in a runtime of two Ps; no descriptor, block or zombie may be left. */
static void in_fibers(int (*fn)(void *arg), void *arg)
{
    int fds = count_fds();
    assert_int_equal(fen_run(fn, arg, &(fen_config){.procs = 2}), 0);
    assert_int_equal(count_fds(), fds);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, dead or alive */
}

#define SH(text)                                                                                   \
    (const char *const[]) { "/bin/sh", "-c", (text), NULL }

static int ends(void *arg)
{
    (void)arg;
    fen_process_status st;
    assert_int_equal(fen_process_run(&(fen_process_config){.argv = SH("exit 7")}, FEN_NEVER, &st),
                     0);
    assert_int_equal(st.code, 7);
    assert_int_equal(st.signal, 0);
    assert_int_equal(
        fen_process_run(&(fen_process_config){.argv = SH("kill -TERM $$")}, FEN_NEVER, &st), 0);
    assert_int_equal(st.code, -1);
    assert_int_equal(st.signal, SIGTERM);
    fen_process *p;
    assert_int_equal(fen_process_open(&(fen_process_config){.argv = SH("exit 3")}, &p), 0);
    assert_true(fen_process_pid(p) > 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fen_process_wait(p, FEN_NEVER, &st), 0);
        assert_int_equal(st.code, 3);
    }
    assert_int_equal(fen_process_kill(p, SIGTERM), -ESRCH);
    fen_process_close(p);
    fen_process_close(NULL);
    return 0;
}

static void a_process_ends_and_says_how(void **state)
{
    (void)state;
    in_fibers(ends, NULL);
}

static int errors(void *arg)
{
    (void)arg;
    fen_process *p = NULL;
    const char *none[] = {NULL}, *lost[] = {"/no/such/program", NULL};
    assert_int_equal(fen_process_open(NULL, &p), -EINVAL);
    assert_int_equal(fen_process_open(&(fen_process_config){.argv = none}, &p), -EINVAL);
    assert_int_equal(fen_process_open(&(fen_process_config){.argv = lost}, &p), -ENOENT);
    assert_int_equal(
        fen_process_open(&(fen_process_config){.file = "/etc/passwd", .argv = lost}, &p), -EACCES);
    assert_int_equal(
        fen_process_open(&(fen_process_config){.argv = SH("true"), .cwd = "/no/such"}, &p),
        -ENOENT);
    fen_process_config bad = {.argv = SH("true"), .io = {{FEN_IO_FD, -1}}};
    assert_int_equal(fen_process_open(&bad, &p), -EBADF);
    bad.io[0] = (fen_process_stream){FEN_IO_FD, 100000};
    assert_int_equal(fen_process_open(&bad, &p), -EBADF);
    bad.io[0] = (fen_process_stream){FEN_IO_STDOUT, 0};
    assert_int_equal(fen_process_open(&bad, &p), -EINVAL);
    bad.io[0] = (fen_process_stream){FEN_IO_PIPE, 0};
    assert_int_equal(fen_process_run(&bad, FEN_NEVER, NULL), -EINVAL);
    assert_null(p);
    return 0;
}

static void what_cannot_start_says_why(void **state)
{
    (void)state;
    in_fibers(errors, NULL);
    fen_process *p;
    assert_int_equal(fen_process_open(&(fen_process_config){.argv = SH("true")}, &p),
                     FEN_ENOTFIBER);
}

/* ---- pipes ---- */

enum { BIG = 300000 };

struct feed {
    fen_process *p;
    char *data;
};

static void feed_main(void *arg)
{
    struct feed *f = arg;
    assert_int_equal(fen_process_write(f->p, f->data, BIG, FEN_NEVER), BIG);
    fen_process_close_input(f->p);
    assert_int_equal(fen_process_write(f->p, "x", 1, FEN_NEVER), -EBADF);
}

static int through_cat(void *arg)
{
    (void)arg;
    fen_process_config cfg = {.argv = (const char *const[]){"cat", NULL},
                              .io = {{FEN_IO_PIPE, 0}, {FEN_IO_PIPE, 0}, {FEN_IO_NULL, 0}}};
    struct feed f = {.data = malloc(BIG)};
    char *back = malloc(BIG + 1);
    for (int i = 0; i < BIG; i++)
        f.data[i] = (char)(i * 31 + i / 977);
    assert_int_equal(fen_process_open(&cfg, &f.p), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(feed_main, &f), 0);
    ssize_t at = 0, got;
    while ((got = fen_process_read(f.p, 1, back + at, (size_t)(BIG + 1 - at), FEN_NEVER)) > 0)
        at += got;
    assert_int_equal(got, 0);
    assert_int_equal(at, BIG);
    assert_memory_equal(back, f.data, BIG);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(fen_process_read(f.p, 2, back, 1, FEN_NEVER), -EBADF);
    fen_process_status st;
    assert_int_equal(fen_process_wait(f.p, FEN_NEVER, &st), 0);
    assert_int_equal(st.code, 0);
    fen_process_close(f.p);
    free(back);
    free(f.data);
    return 0;
}

static void bytes_go_through_pipes(void **state)
{
    (void)state;
    in_fibers(through_cat, NULL);
}

static ssize_t read_all(fen_process *p, int stream, char *text, size_t n)
{
    size_t at = 0;
    ssize_t got;
    while ((got = fen_process_read(p, stream, text + at, n - 1 - at, FEN_NEVER)) > 0)
        at += (size_t)got;
    text[at] = 0;
    return got < 0 ? got : (ssize_t)at;
}

static int surroundings(void *arg)
{
    (void)arg;
    char text[256];
    fen_process *p;
    fen_process_config cfg = {.argv = SH("echo $FOO; pwd; echo oops >&2; ls /proc/self/fd | wc -l"),
                              .env = (const char *const[]){"FOO=bar", "PATH=/usr/bin:/bin", NULL},
                              .cwd = "/tmp",
                              .io = {{FEN_IO_NULL, 0}, {FEN_IO_PIPE, 0}, {FEN_IO_STDOUT, 0}}};
    assert_int_equal(fen_process_open(&cfg, &p), 0);
    assert_true(read_all(p, 1, text, sizeof text) > 0);
    assert_string_equal(text, "bar\n/tmp\noops\n4\n"); /* 0, 1, 2 and what ls opened */
    fen_process_close(p);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    cfg = (fen_process_config){.argv = SH("echo to a descriptor"), .io[1] = {FEN_IO_FD, fds[1]}};
    assert_int_equal(fen_process_run(&cfg, FEN_NEVER, NULL), 0);
    close(fds[1]);
    ssize_t n = read(fds[0], text, sizeof text);
    close(fds[0]);
    assert_int_equal(n, 16);
    return 0;
}

static void environment_directory_and_descriptors_are_as_asked(void **state)
{
    (void)state;
    in_fibers(surroundings, NULL);
}

static int to_the_dead(void *arg)
{
    fen_process *p;
    fen_process_config cfg = {.argv = SH("exit 0"), .io = {{FEN_IO_PIPE, 0}}};
    assert_int_equal(fen_process_open(&cfg, &p), 0);
    assert_int_equal(fen_process_wait(p, FEN_NEVER, NULL), 0);
    assert_int_equal(fen_process_write(p, "hello", 5, FEN_NEVER), -EPIPE);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    assert_int_equal(write(fds[1], "x", 1), -1); /* the program's own write: no signal either */
    close(fds[1]);
    fen_process_close(p);
    (void)arg;
    return 0;
}

static void sigpipe_kills_nobody(void **state)
{
    (void)state;
    struct sigaction sa;
    assert_int_equal(sigaction(SIGPIPE, NULL, &sa), 0);
    assert_true(sa.sa_handler == SIG_DFL);
    in_fibers(to_the_dead, NULL);
}

/* ---- time limits and killing ---- */

static int limits(void *arg)
{
    (void)arg;
    fen_process *p;
    fen_process_config cfg = {.argv = SH("sleep 100 & sleep 100"), .group = true};
    assert_int_equal(fen_process_open(&cfg, &p), 0);
    assert_int_equal(fen_process_wait(p, fen_now() + 5 * FEN_MS, NULL), -ETIMEDOUT);
    fen_scope *s = fen_scope_open(fen_now() + 5 * FEN_MS);
    assert_int_equal(fen_process_wait(p, FEN_NEVER, NULL), -ETIMEDOUT);
    assert_int_equal(fen_process_run(&cfg, FEN_NEVER, NULL), -ETIMEDOUT);
    fen_process_close(p); /* kills and reaps although the scope has ended */
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    int64_t began = fen_now();
    assert_int_equal(fen_process_run(&cfg, fen_now() + 20 * FEN_MS, NULL), -ETIMEDOUT);
    assert_true(fen_now() - began < 20 * FEN_S);
    fen_process_status st;
    const char *alone[] = {"sleep", "100", NULL}; /* a shell might leave its child behind */
    assert_int_equal(fen_process_open(&(fen_process_config){.argv = alone}, &p), 0);
    assert_int_equal(fen_process_kill(p, 12345), -EINVAL);
    assert_int_equal(fen_process_kill(p, SIGKILL), 0);
    assert_int_equal(fen_process_wait(p, FEN_NEVER, &st), 0);
    assert_int_equal(st.signal, SIGKILL);
    fen_process_close(p);
    return 0;
}

static void a_scope_bounds_a_process(void **state)
{
    (void)state;
    in_fibers(limits, NULL);
}

static _Atomic int done;

static void run_true(void *arg)
{
    (void)arg;
    fen_process_status st = {.code = -2};
    assert_int_equal(fen_process_run(&(fen_process_config){.argv = SH("exit 5")}, FEN_NEVER, &st),
                     0);
    assert_int_equal(st.code, 5);
    atomic_fetch_add(&done, 1);
}

static int many(void *arg)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < *(int *)arg; i++)
        assert_int_equal(fen_go(run_true, NULL), 0);
    return fen_scope_close(s);
}

static void many_at_once(void **state)
{
    (void)state;
    int n = 50;
    atomic_store(&done, 0);
    in_fibers(many, &n);
    assert_int_equal(atomic_load(&done), n);
}

/* A thread that is no worker may have a process too. */
static void *thread_main(void *arg)
{
    run_true(arg);
    return NULL;
}
static int from_a_thread(void *arg)
{
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, thread_main, arg), 0);
    while (!atomic_load(&done))
        fen_sleep(FEN_MS);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    return 0;
}

static void a_thread_waits_for_a_process(void **state)
{
    (void)state;
    atomic_store(&done, 0);
    in_fibers(from_a_thread, NULL);
}

/* ---- a host that reaps every child ---- */

/* By waitpid(-1); the pid of whom it took. */
static int reap_any(void)
{
    int pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) == 0)
        fen_sleep(FEN_MS);
    return pid;
}

static int reaped(void *arg)
{
    (void)arg;
    fen_process *p;
    fen_process_status st = {.code = -2};
    assert_int_equal(fen_process_open(&(fen_process_config){.argv = SH("exit 7")}, &p), 0);
    assert_int_equal(reap_any(), fen_process_pid(p));
    for (int i = 0; i < 3; i++)
        assert_int_equal(fen_process_wait(p, FEN_NEVER, &st), -ECHILD);
    assert_int_equal(st.code, -2);
    assert_int_equal(fen_process_kill(p, SIGTERM), -ESRCH);
    fen_process_close(p);
    return 0;
}

/* The group's number may be another group's by now. It stands for one here: a process of the old
 * group, which must not get the signal. */
static int stranger(void *arg)
{
    (void)arg;
    fen_process *p;
    char byte, line[16];
    fen_process_config cfg = {
        .argv = SH("sleep 100 & echo $!"), .io = {[1] = {FEN_IO_PIPE, 0}}, .group = true};
    for (int closes = 0; closes < 2; closes++) {
        assert_int_equal(fen_process_open(&cfg, &p), 0);
        int leader = fen_process_pid(p);
        assert_true(fen_process_read(p, 1, line, sizeof line, FEN_NEVER) > 1);
        int other = atoi(line);
        assert_int_equal(reap_any(), leader);
        if (!closes) {
            assert_int_equal(fen_process_kill(p, SIGKILL), -ESRCH);
            assert_int_equal(fen_process_read(p, 1, &byte, 1, fen_now() + 20 * FEN_MS),
                             -ETIMEDOUT); /* its end of the pipe is open: it lives */
        }
        fen_process_close(p);
        assert_int_equal(kill(other, SIGKILL), 0);
    }
    return 0;
}

static void a_host_may_reap(void **state)
{
    (void)state;
    in_fibers(reaped, NULL);
    in_fibers(stranger, NULL);
}

/* ---- each call that can fail, failing ---- */

static _Atomic int left;
/* One of our standard streams is closed: nothing of the runtime's may take its place. */
static int closed_stream(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        int kept = fcntl(i, F_DUPFD_CLOEXEC, 100);
        fen_process_config cfg = {.argv = SH("cat; echo out; echo err >&2")};
        fen_process *p;
        char text[16] = "";
        int pipe_fd[2];
        assert_true(kept >= 100);
        close(i);
        for (int k = 0; k < 3; k++)
            cfg.io[k].how = FEN_IO_PIPE;
        assert_int_equal(fen_process_open(&cfg, &p), 0);
        fen_process_close_input(p);
        assert_int_equal(fen_process_read(p, 1, text, sizeof text, FEN_NEVER), 4);
        assert_string_equal(text, "out\n");
        assert_int_equal(fen_process_read(p, 2, text, sizeof text, FEN_NEVER), 4);
        assert_string_equal(text, "err\n");
        fen_process_close(p);
        assert_int_equal(fen__sys_pipe(pipe_fd, 0), 0); /* of a splice */
        assert_true(pipe_fd[0] > 2 && pipe_fd[1] > 2);
        close(pipe_fd[0]);
        close(pipe_fd[1]);
        cfg.io[i].how = FEN_IO_INHERIT;
        assert_int_equal(fen_process_open(&cfg, &p), -EBADF);
        assert_int_equal(fcntl(i, F_GETFD), -1);
        assert_int_equal(dup2(kept, i), i);
        close(kept);
    }
    return 0;
}

static void a_closed_stream_is_not_replaced(void **state)
{
    (void)state;
    in_fibers(closed_stream, NULL);
}

static int fail_one(const char *call)
{
    if (!strcmp(call, "mmap")) /* the monitor makes workers when it likes */
        return 0;
    return atomic_fetch_sub(&left, 1) == 1 ? -EMFILE : 0;
}

static int faults(void *arg)
{
    (void)arg;
    fen_process_config cfg = {.argv = SH("exit 0"),
                              .io = {{FEN_IO_PIPE, 0}, {FEN_IO_PIPE, 0}, {FEN_IO_PIPE, 0}}};
    int failed = 0, n = 1;
    for (bool ok = false; !ok && n < 30; n++) {
        fen_process *p;
        int fds = count_fds();
        atomic_store(&left, n);
        fen__sys_fault = fail_one;
        int rc = fen_process_open(&cfg, &p);
        fen__sys_fault = NULL;
        ok = rc == 0;
        failed += rc == -EMFILE;
        if (ok)
            fen_process_close(p);
        assert_int_equal(count_fds(), fds);
    }
    assert_true(failed >= 7); /* three pipes, the start, the pidfd, registering */
    return 0;
}

static void a_failure_on_the_way_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(fen_run(faults, NULL, &(fen_config){.procs = 1}), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_ends_and_says_how),
        cmocka_unit_test(what_cannot_start_says_why),
        cmocka_unit_test(bytes_go_through_pipes),
        cmocka_unit_test(environment_directory_and_descriptors_are_as_asked),
        cmocka_unit_test(sigpipe_kills_nobody),
        cmocka_unit_test(a_scope_bounds_a_process),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(a_thread_waits_for_a_process),
        cmocka_unit_test(a_host_may_reap),
        cmocka_unit_test(a_failure_on_the_way_leaves_nothing),
        cmocka_unit_test(a_closed_stream_is_not_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
