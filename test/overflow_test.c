/* overflow_test.c - a fiber that runs out of stack is named, whatever guards its stack. */
#include "fiber/annotate.h"

#include <fen/context.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <fen/sync.h>

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guard_rig.h"

static volatile int sink;
static intptr_t enough; /* bytes of stack to use; 0: without end */

static __attribute__((noinline)) int deeper(uintptr_t start)
{
    volatile char frame[200];
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = 1;
    if (enough && (intptr_t)(start - (uintptr_t)frame) > enough)
        return fen_yield(), frame[0];
    return deeper(start) + frame[0];
}

static void recurse(void *arg)
{
    (void)arg;
    sink = deeper((uintptr_t)__builtin_frame_address(0));
}

static void stray(void *arg) { *(volatile int *)arg = 1; }

/* So large that they find no room but below the fiber's stack. */
enum { LARGE = 8 << 20 };

static void in_context(void (*fn)(void *), void *arg)
{
    fen_context *c;
    if (fen_context_new(LARGE, fn, arg, &c) == 0)
        fen_context_resume(c);
}

static void stray_in_context(void *arg) { in_context(stray, arg); }

static void stray_in_handler(int sig) { stray((void *)(intptr_t)sig); }

static void stray_in_signal(void *arg)
{
    (void)arg;
    struct sigaction sa = {.sa_handler = stray_in_handler, .sa_flags = SA_ONSTACK};
    stack_t own = {.ss_size = 64 << 10};
    own.ss_sp = mmap(NULL, LARGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (own.ss_sp == MAP_FAILED || sigaltstack(&own, NULL) || sigaction(SIGUSR1, &sa, NULL))
        return;
    raise(SIGUSR1);
}

static void send_it(void *arg)
{
    (void)arg;
    raise(SIGSEGV);
}

/* What a sender may write into it is no address of a fault. */
static void forge(void *arg)
{
    (void)arg;
    siginfo_t info = {.si_code = SI_QUEUE};
    info.si_addr = __builtin_frame_address(0);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGSEGV, &info);
}

static void send_forged(void *arg) { in_context(forge, arg); }

/* One frame that reaches far below what it touches, which is no guard of the stack's. */
static void wide(void *arg)
{
    (void)arg;
    size_t step = 1 << 20;
    char *here = __builtin_frame_address(0), *none = (char *)((uintptr_t)here & ~(step - 1));
    do
        none -= step;
    while (mmap(none, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
           MAP_FAILED);
    char *frame = __builtin_alloca((size_t)(here - none) + step);
    __asm__ volatile("" : "+r"(frame)); /* or there is no frame but the one store */
    *(volatile char *)(frame + (none - frame)) = 1;
}

static int with_fiber(void *fn)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (fen_go_named("digger", 0, *(void (**)(void *))fn, (void *)8))
        return 1;
    return fen_scope_close(s);
}

static void on_fault(int sig)
{
    (void)sig;
    static const char text[] = "the program's own handler\n";
    if (write(2, text, sizeof text - 1) < 0)
        _exit(4);
    _exit(3);
}

/* What the child wrote to its error output; *ret_status as from wait. */
static void child(enum fen_guard guard, void (*fn)(void *), void (*handler)(int), char text[4096],
                  int *ret_status)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(p[1], 2);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGSEGV, handler);
        _exit(fen_run(with_fiber, &fn, &(fen_config){.procs = 1, .guard = guard}) ? 9 : 0);
    }
    close(p[1]);
    size_t n = 0;
    for (ssize_t got; n < 4095 && (got = read(p[0], text + n, 4095 - n)) > 0; n += (size_t)got)
        ;
    text[n] = 0;
    close(p[0]);
    assert_int_equal(waitpid(pid, ret_status, 0), pid);
}

static void test_overflow_names_the_fiber(void **state)
{
    (void)state;
    enough = 0;
    for (enum fen_guard g = FEN_GUARD_AUTO; g <= FEN_GUARD_CANARY; g++) {
        char text[4096];
        int status;
        /* A canary stops nobody: another fiber that gets the P meanwhile may meet its stack
         * overwritten before the digger faults. That is rare, unless waits end for no reason. */
        for (int tries = g == FEN_GUARD_CANARY ? 5 : 1; tries > 0; tries--) {
            child(g, recurse, SIG_DFL, text, &status);
            if (strstr(text, "digger"))
                break;
        }
        if (g == FEN_GUARD_MADVISE && WIFEXITED(status) && WEXITSTATUS(status) == 9)
            continue; /* a kernel without that guard */
        if (!strstr(text, "fen: stack overflow in fiber digger (id 2, "))
            fail_msg("guard %d, status %x: %s", g, (unsigned)status, text);
        assert_non_null(strstr(text, ", spawned at with_fiber+0x"));
        assert_true(WIFSIGNALED(status));
        assert_true(WTERMSIG(status) == SIGSEGV || g == FEN_GUARD_CANARY);
        if (WTERMSIG(status) != SIGSEGV)
            continue; /* found at the next switch: the frames are those of then */
        assert_non_null(strstr(text, "\n    at deeper+0x"));
        assert_non_null(strstr(text, " frames ..."));
        assert_non_null(strstr(text, "recurse+0x"));
    }
}

/* Only the canary is hit, and the next switch notices. */
static void test_canary_is_looked_at_when_the_fiber_is_switched_out(void **state)
{
    (void)state;
    char text[4096];
    int status;
    enough = 64 << 10; /* a default stack has as much, less its colour */
    child(FEN_GUARD_CANARY, recurse, SIG_DFL, text, &status);
    assert_non_null(strstr(text, "fen: stack overflow in fiber digger (id 2, "));
    assert_non_null(strstr(text, ", spawned at with_fiber+0x"));
    assert_true(strstr(text, "fen_yield+0x") || strstr(text, "deeper+0x")); /* LTO: inlined */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* Frames that step over the canary, into a stack below that nobody uses. */
static __attribute__((noinline)) int sparse(int left)
{
    char frame[4096];
    int deepest = 0;
    __asm__ volatile("" : : "r"(frame) : "memory"); /* so it is there */
    if (left)
        deepest = sparse(left - 1);
    else
        fen_yield();
    __asm__ volatile("" : : "r"(frame) : "memory");
    return deepest + 1;
}

static void step_over(void *arg)
{
    (void)arg;
    sink = sparse(18);
}

static void sleeper(void *arg)
{
    (void)arg;
    (void)fen_sleep(FEN_S);
}

static void over_a_sleepers_stack(void *arg)
{
    for (int i = 0; i < 8; i++)
        if (fen_go(sleeper, NULL))
            return;
    fen_yield();
    step_over(arg);
}

static void test_canary_is_not_needed_to_see_where_a_fiber_is_switched_out(void **state)
{
    (void)state;
    char text[4096];
    int status;
    child(FEN_GUARD_CANARY, over_a_sleepers_stack, SIG_DFL, text, &status);
    assert_non_null(strstr(text, "fen: stack overflow in fiber digger (id 2, "));
    assert_true(WIFSIGNALED(status));
}

/* In a cancel hook the stack is the canceller's. */
static void hook_recurses(fen_cancel_hook *h, int rc)
{
    (void)rc;
    recurse(h);
}

static void overflow_in_hook(void *arg)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_cancel_hook h = {.fn = hook_recurses, .arg = arg};
    if (!fen_cancel_hook_add(s, &h))
        fen_scope_cancel(s);
}

static void test_overflow_in_a_hook_names_the_fiber(void **state)
{
    (void)state;
    char text[4096];
    int status;
    enough = 0;
    child(FEN_GUARD_AUTO, overflow_in_hook, SIG_DFL, text, &status);
    assert_non_null(strstr(text, "fen: stack overflow in fiber digger (id 2, "));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* A context's stack may lie below the fiber's, which is switched out on it when it has lost its P
 * or the run is simulated. */
static void calls_in_context(void *sem)
{
    for (int i = 0; i < 200; i++) {
        fen_sem_release(sem);
        (void)!fen_sem_try_acquire(sem);
    }
}

static int use_contexts(void *arg)
{
    (void)arg;
    fen_sem sem;
    fen_sem_init(&sem, 0);
    for (int i = 0; i < 4; i++) {
        fen_context *c;
        if (fen_context_new(i % 2 ? LARGE : 64 << 10, calls_in_context, &sem, &c))
            return -ENOMEM;
        fen_context_resume(c);
        fen_context_free(c);
    }
    return 0;
}

static void test_a_context_is_no_overflow(void **state)
{
    (void)state;
    for (enum fen_guard g = FEN_GUARD_AUTO; g <= FEN_GUARD_CANARY; g++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            int rc = fen_run(use_contexts, NULL, &(fen_config){.sim_seed = seed, .guard = g});
            assert_true(rc == 0 || (g == FEN_GUARD_MADVISE && rc == -EINVAL));
        }
}

/* As the environment chooses the guard. */
static void test_overflow_with_each_guard_of_the_environment(void **state)
{
    (void)state;
    static const char *const guards[] = {"madvise", "mprotect", "canary"};
    enough = 0;
    for (size_t i = 0; i < sizeof guards / sizeof *guards; i++) {
        char text[4096];
        int status;
        setenv("FEN_STACK_GUARD", guards[i], 1);
        for (int tries = i == 2 ? 5 : 1; tries > 0; tries--) { /* as above */
            child(FEN_GUARD_AUTO, recurse, SIG_DFL, text, &status);
            if (strstr(text, "digger"))
                break;
        }
        if (i == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 9)
            continue;
        assert_non_null(strstr(text, "fen: stack overflow in fiber digger (id 2, "));
        assert_true(WIFSIGNALED(status));
    }
    unsetenv("FEN_STACK_GUARD");
}

static void test_other_faults_go_to_the_handler_before(void **state)
{
    (void)state;
    char text[4096];
    int status;
    void (*const faults[])(void *) = {stray, stray_in_context, stray_in_signal, send_it,
                                      send_forged};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        child(FEN_GUARD_AUTO, faults[i], on_fault, text, &status);
        assert_string_equal(text, "the program's own handler\n");
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
        child(FEN_GUARD_AUTO, faults[i], SIG_DFL, text, &status);
        assert_string_equal(text, "");
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
}

static void test_a_frame_wider_than_the_guard_is_an_overflow(void **state)
{
    (void)state;
    char text[4096];
    int status;
    child(FEN_GUARD_AUTO, wide, SIG_DFL, text, &status);
    assert_non_null(strstr(text, "fen: stack overflow in fiber digger (id 2, "));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* A fault cannot be ignored, a signal that was sent can. */
static void test_what_is_ignored(void **state)
{
    (void)state;
    char text[4096];
    int status;
    child(FEN_GUARD_AUTO, send_it, SIG_IGN, text, &status);
    assert_string_equal(text, "");
    assert_int_equal(status, 0);
    child(FEN_GUARD_AUTO, stray, SIG_IGN, text, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void test_handler_is_put_back(void **state)
{
    (void)state;
    struct sigaction sa;
    signal(SIGSEGV, on_fault);
    assert_int_equal(fen_run(nothing, NULL, NULL), 0);
    assert_int_equal(sigaction(SIGSEGV, NULL, &sa), 0);
    assert_true(sa.sa_handler == on_fault);
    signal(SIGSEGV, SIG_DFL);
}

int main(void)
{
#if defined(FEN__ASAN) || defined(FEN__TSAN)
    puts("skipped: the sanitizer's own handler and frames are in the way");
    return 77;
#endif
    if (guard_is_missing())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overflow_names_the_fiber),
        cmocka_unit_test(test_canary_is_looked_at_when_the_fiber_is_switched_out),
        cmocka_unit_test(test_canary_is_not_needed_to_see_where_a_fiber_is_switched_out),
        cmocka_unit_test(test_overflow_in_a_hook_names_the_fiber),
        cmocka_unit_test(test_a_context_is_no_overflow),
        cmocka_unit_test(test_overflow_with_each_guard_of_the_environment),
        cmocka_unit_test(test_other_faults_go_to_the_handler_before),
        cmocka_unit_test(test_a_frame_wider_than_the_guard_is_an_overflow),
        cmocka_unit_test(test_what_is_ignored),
        cmocka_unit_test(test_handler_is_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
