/* see_refused_test.c - reports where nobody reads fd 2; the line that names a variable for which a
 * run is refused. */
#include <fen/fen.h>

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

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

static const char *const wrong[][3] = {
    {"FEN_PROCS", "0", "1 to 256"},
    {"FEN_PROCS", "2x", "1 to 256"},
    {"FEN_STACK_GUARD", "none", "canary"},
    {"FEN_FILES", "fast", "ring or pool"},
    {"FEN_NUMA", "fake=1", "fake=N"},
    {"FEN_SIM_SEED", "99999999999999999999", "whole number"},
    {"FEN_DEBUG", "leaks=2", "sigquit, leaks"},
    {"FEN_DEBUG", "memcheck", "memcheck with =0 or =1"},
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
