/* see_refused_test.c - reports where nobody reads fd 2, and where the kernel refuses to read the
 * process's own memory by process_vm_readv, as container sandboxes do. */
#include <fen/fen.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_that_nobody_reads_ends_nothing),
        cmocka_unit_test(who_blocks_is_seen_without_process_vm_readv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
