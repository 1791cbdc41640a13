/* trace.c - the stack of a thread that computes, from outside.
 *
 * Only the thread itself knows its registers, so it is sent SIGURG, whose default is to be ignored:
 * one that comes after the handler was taken back does no harm. The handler runs on the alternate
 * stack, takes no lock, and follows frame pointers only inside the bounds that came with the
 * request, only upwards, and only if the stack pointer lies there too: then the thread stands on
 * that stack, and it is mapped. Code without frame pointers, a leaf above all, hides its caller or
 * cuts the list short; it cannot lead outside.
 *
 *   IDLE -- ask --> ASKED -- handler: CAS --> BUSY -- frames written --> DONE -- answer --> IDLE
 *                     '-- forget: CAS --> IDLE
 *
 * Rejected: perf_event_open (forbidden by default on Debian and in containers); ptrace (not of
 * one's own threads); reading the stack without registers (dead frames look like live ones). */
#include "sys/trace.h"

#include "sys/sys.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "sys/proc.h"

#define FRAMES 32

enum { IDLE, ASKED, BUSY, DONE };

static struct {
    _Atomic int state;
    int tid, n;
    const char *low, *top;
    const void *frame[FRAMES];
} request;
static struct sigaction before;

struct regs {
    const char *pc, *sp, *fp;
};

static struct regs registers(const ucontext_t *uc)
{
#if defined(__x86_64__)
    const greg_t *r = uc->uc_mcontext.gregs;
    return (struct regs){(const char *)r[REG_RIP], (const char *)r[REG_RSP],
                         (const char *)r[REG_RBP]};
#else
    return (struct regs){(const char *)uc->uc_mcontext.pc, (const char *)uc->uc_mcontext.sp,
                         (const char *)uc->uc_mcontext.regs[29]};
#endif
}

/* The sanitizers' marks on a stack that is not ours to touch mean nothing to a reader of frames. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static int
walk(struct regs r, const char *low, const char *top, const void **ret, int max)
{
    int n = 0;
    ret[n++] = r.pc;
    const char *last = r.sp;
    if (r.sp < low || r.sp >= top)
        return n;
    while (n < max && r.fp >= last && r.fp <= top - 2 * sizeof(void *) &&
           (uintptr_t)r.fp % sizeof(void *) == 0) {
        const char *const *f = (const char *const *)(const void *)r.fp;
        if (!f[1])
            break;
        ret[n++] = f[1];
        last = r.fp + 1;
        r.fp = f[0];
    }
    return n;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    int asked = ASKED;
    /* pairs with the store in fen__trace_ask */
    if (atomic_load(&request.state) != ASKED || request.tid != (int)syscall(SYS_gettid) ||
        !atomic_compare_exchange_strong(&request.state, &asked, BUSY))
        return;
    request.n = walk(registers(context), request.low, request.top, request.frame, FRAMES);
    atomic_store(&request.state, DONE); /* pairs with the load in fen__trace_answer */
}

bool fen__trace_install(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGURG, NULL, &before) || (before.sa_flags & SA_SIGINFO) ||
        (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN))
        return false;
    atomic_store(&request.state, IDLE);
    return sigaction(SIGURG, &sa, NULL) == 0;
}

void fen__trace_restore(void)
{
    struct sigaction now;
    if (sigaction(SIGURG, NULL, &now) == 0 && now.sa_sigaction == on_signal)
        sigaction(SIGURG, &before, NULL);
}

void fen__trace_unblock(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int fen__trace_ask(int tid, const void *low, const void *top)
{
    if (atomic_load(&request.state) != IDLE)
        return -EBUSY;
    request.tid = tid;
    request.low = low;
    request.top = top;
    atomic_store(&request.state, ASKED);
    if (syscall(SYS_tgkill, getpid(), tid, SIGURG) == 0)
        return 0;
    int rc = -errno;
    atomic_store(&request.state, IDLE);
    return rc;
}

int fen__trace_answer(const void **ret_frames, int n)
{
    if (atomic_load(&request.state) != DONE)
        return -EAGAIN;
    n = n < request.n ? n : request.n;
    memcpy(ret_frames, request.frame, (size_t)n * sizeof *ret_frames);
    atomic_store(&request.state, IDLE);
    return n;
}

bool fen__trace_forget(void)
{
    int state = ASKED;
    return atomic_compare_exchange_strong(&request.state, &state, IDLE) || state == IDLE;
}

/* /proc/self/task/T/syscall: "running", or "NUMBER ARG1 ... ARG6 SP PC". */
const void *fen__trace_sleeper(int tid)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    ssize_t n = fen__sys_file_read(path, text, sizeof text - 1);
    if (n <= 0)
        return NULL;
    text[n] = 0;
    const char *last = strrchr(text, ' ');
    return last ? (const void *)(uintptr_t)strtoull(last, NULL, 16) : NULL;
}
