/* see_refused_test.c - reports where nobody reads fd 2, and where the kernel refuses to read the
 * process's own memory by process_vm_readv, as container sandboxes do; the line that names a
 * variable for which a run is refused. */
#include <fen/fen.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void nap(int64_t ns)
{
    struct timespec t = {ns / FEN_S, ns % FEN_S};
    nanosleep(&t, NULL);
}

/* How a child ended that did that: its wait status. */
static int status_of(void (*fn)(void))
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static fen_chan *left;

static int asks(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        kill(getpid(), SIGQUIT);
        (void)fen_sleep(100 * FEN_MS);
    }
    left = fen_chan_new(0, 1); /* to be told of at the end, by the thread that called fen_run */
    return left ? 0 : 1;
}

static void nobody_reads(void)
{
    int fds[2];
    if (pipe(fds) || dup2(fds[1], 2) < 0 || close(fds[0]) || close(fds[1]))
        _exit(2);
    signal(SIGPIPE, SIG_DFL);
    _exit(fen_run(asks, NULL, &(fen_config){.procs = 2, .report_leaks = true}) != 0);
}

static void a_report_that_nobody_reads_ends_nothing(void **state)
{
    (void)state;
    assert_int_equal(status_of(nobody_reads), 0);
}

static void blocks(void *arg)
{
    (void)arg;
    fen_blocking_begin();
    nap(1200 * FEN_MS); /* longer than the patience of the deadlock report */
    fen_blocking_end();
}

static int waits_for_one_that_blocks(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    int rc = fen_go(blocks, NULL);
    fen_yield();
    int ended = fen_scope_close(s);
    return rc ? rc : ended;
}

static void sandboxed(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
        _exit(77);
    _exit(fen_run(waits_for_one_that_blocks, NULL,
                  &(fen_config){.procs = 1, .on_deadlock = FEN_DEADLOCK_CANCEL}) != 0);
}

static void who_blocks_is_seen_without_process_vm_readv(void **state)
{
    (void)state;
    int status = status_of(sandboxed);
    if (status == 77 << 8)
        skip();
    assert_int_equal(status, 0);
}

static const char *const wrong[][3] = {
    {"FEN_PROCS", "0", "1 to 256"},
    {"FEN_PROCS", "2x", "1 to 256"},
    {"FEN_STACK_GUARD", "none", "canary"},
    {"FEN_FILES", "fast", "ring or pool"},
    {"FEN_NUMA", "fake=1", "fake=N"},
    {"FEN_SIM_SEED", "99999999999999999999", "whole number"},
    {"FEN_DEBUG", "leaks=2", "sigquit, leaks"},
    {"FEN_MEM_PERCENT", "-1", "or off"},
    {"FEN_MEMLIMIT", "1G", "GiB"},
    {"FEN_MEM_PROFILE", "small", "container"},
    {"FEN_HEAP_PROFILE_RATE", "1k", "KiB"},
};

static int nothing(void *arg) { return (void)arg, 0; }

static void a_wrong_variable_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[1024], begin[128];
        int fds[2], old = dup(2);
        assert_int_equal(pipe(fds), 0);
        setenv(wrong[i][0], wrong[i][1], 1);
        dup2(fds[1], 2);
        int rc = fen_run(nothing, NULL, NULL);
        dup2(old, 2);
        close(old);
        close(fds[1]);
        ssize_t n = read(fds[0], text, sizeof text - 1);
        close(fds[0]);
        text[n > 0 ? n : 0] = 0;
        unsetenv(wrong[i][0]);
        assert_int_equal(rc, -EINVAL);
        snprintf(begin, sizeof begin, "fen: %s=%s: expected ", wrong[i][0], wrong[i][1]);
        if (strncmp(text, begin, strlen(begin)) || !strstr(text, wrong[i][2]) ||
            strchr(text, '\n') != text + strlen(text) - 1)
            fail_msg("%s=%s: '%s'", wrong[i][0], wrong[i][1], text);
        setenv(wrong[i][0], "", 1); /* as if it were not set */
        assert_int_equal(fen_run(nothing, NULL, NULL), 0);
        unsetenv(wrong[i][0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_variable_is_named),
        cmocka_unit_test(a_report_that_nobody_reads_ends_nothing),
        cmocka_unit_test(who_blocks_is_seen_without_process_vm_readv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
