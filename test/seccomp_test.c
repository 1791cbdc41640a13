/* seccomp_test.c - under a filter that answers EPERM to calls younger than itself, as those of
 * older container hosts do, fen takes the older calls; to reading a process's memory, as those of
 * container sandboxes do, it reads its own by other means. */
#include <fen/fen.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { RIGHT, WRONG, ABSENT = 77 };
#define EPOLL_PWAIT2 441 /* the same on every machine since Linux 5.11 */

static bool refuse(uint32_t call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * FEN_S + t.tv_nsec;
}

static int sleeper(void *arg)
{
    (void)arg;
    int64_t t = fen_now(), cpu = cpu_ns();
    int rc = fen_sleep(500 * FEN_MS);
    cpu = cpu_ns() - cpu;
    if (rc == 0 && fen_now() - t >= 500 * FEN_MS && cpu < 100 * FEN_MS)
        return RIGHT;
    fprintf(stderr, "fen_sleep: %d, %lld us of CPU\n", rc, (long long)(cpu / FEN_US));
    return WRONG;
}

static int reader(void *arg)
{
    (void)arg;
    char text[4] = "";
    int fd = fen_file_open("/proc/self/exe", O_RDONLY, 0);
    ssize_t n = fd < 0 ? fd : fen_file_pread(fd, text, sizeof text, 0);
    ssize_t next = fd < 0 ? fd : fen_file_read(fd, text, sizeof text);
    if (n == 4 && next == 4 && text[1] == 'E')
        return RIGHT;
    fprintf(stderr, "fen_file_pread: %zd, fen_file_read: %zd\n", n, next);
    return WRONG;
}

static void nap(int64_t ns)
{
    struct timespec t = {ns / FEN_S, ns % FEN_S};
    nanosleep(&t, NULL);
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

static void under_filter(uint32_t call, int (*fn)(void *), int procs)
{
    fen_config cfg = {.procs = procs, .on_deadlock = FEN_DEADLOCK_CANCEL};
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(refuse(call) ? fen_run(fn, NULL, &cfg) : ABSENT);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == ABSENT)
        skip();
    assert_int_equal(WEXITSTATUS(status), RIGHT);
}

static void test_who_sleeps_rests(void **state)
{
    (void)state;
    under_filter(EPOLL_PWAIT2, sleeper, 2);
}

static void test_files_are_read(void **state)
{
    (void)state;
    under_filter(SYS_preadv2, reader, 2);
}

static void test_who_blocks_is_no_deadlock(void **state)
{
    (void)state;
    under_filter(SYS_process_vm_readv, waits_for_one_that_blocks, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_sleeps_rests),
        cmocka_unit_test(test_files_are_read),
        cmocka_unit_test(test_who_blocks_is_no_deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
