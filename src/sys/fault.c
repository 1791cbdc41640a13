/* fault.c - the SIGSEGV handler: asks whether it can be explained, else hands it on.
 *
 * Everything here runs on the alternate stack and is async-signal-safe: the fault most likely is a
 * stack that has no room left. */
#include "sys/sys.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static size_t (*explain_fault)(const struct fen__sys_fault_at *at, char *ret, size_t n);
static struct sigaction before;

static struct fen__sys_fault_at where(const siginfo_t *info, const ucontext_t *uc)
{
    struct fen__sys_fault_at at = {.addr = (uintptr_t)info->si_addr};
#if defined(__x86_64__)
    at.sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
    at.pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    at.fp = (uintptr_t)uc->uc_mcontext.gregs[REG_RBP];
#else
    at.sp = (uintptr_t)uc->uc_mcontext.sp;
    at.pc = (uintptr_t)uc->uc_mcontext.pc;
    at.fp = (uintptr_t)uc->uc_mcontext.regs[29];
#endif
    return at;
}

/* By kill, raise and the like: no instruction faulted, and si_addr is none. */
static bool was_sent(const siginfo_t *info) { return info->si_code <= 0; }

/* The default action follows when the instruction that faulted is tried again; a signal that was
 * sent comes once more, when the handler returns. */
static void default_action(int sig, const siginfo_t *info)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigaction(sig, &dfl, NULL);
    if (was_sent(info))
        syscall(SYS_tgkill, getpid(), fen__sys_gettid(), sig);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    char text[FEN__FAULT_TEXT];
    struct fen__sys_fault_at at = where(info, context);
    size_t n = was_sent(info) ? 0 : explain_fault(&at, text, sizeof text);
    if (n) {
        ssize_t put = write(2, text, n);
        (void)put; /* nothing is left to do about it */
        default_action(sig, info);
    } else if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(sig, info, context);
    } else if (before.sa_handler == SIG_IGN && was_sent(info)) {
        return;
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        default_action(sig, info);
    } else {
        before.sa_handler(sig);
    }
}

void fen__sys_fault_install(size_t (*explain)(const struct fen__sys_fault_at *at, char *ret,
                                              size_t n))
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    explain_fault = explain;
    sigaction(SIGSEGV, &sa, &before);
}

void fen__sys_fault_restore(void)
{
    struct sigaction now;
    if (sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_sigaction == on_fault)
        sigaction(SIGSEGV, &before, NULL);
}

bool fen__sys_altstack(void *mem)
{
    stack_t old, ours = {.ss_sp = mem, .ss_size = FEN__ALTSTACK_BYTES};
    return sigaltstack(NULL, &old) == 0 && old.ss_flags & SS_DISABLE &&
           sigaltstack(&ours, NULL) == 0;
}

void fen__sys_altstack_drop(void)
{
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
}

void fen__sys_die(const char *text, size_t n)
{
    ssize_t put = write(2, text, n);
    (void)put;
    abort();
}
