/* look.c - looking at memory that may change or vanish, and the signal that asks for it.
 *
 * A parked fiber's stack may be unmapped, and a channel freed, while somebody looks at it. So
 * the looker lets the kernel copy: what is gone is an error and not a fault. Rejected: a SIGSEGV
 * handler around plain loads (one more owner of that signal), write to a pipe (two system
 * calls). */
#include "sys/look.h"
#include "base/sanitize.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef FEN__TSAN /* as in svc/service.c: a restarted futex wait would never run the handler */
#define RESTART 0
#else
#define RESTART SA_RESTART
#endif

ssize_t fen__sys_copy(void *to, const void *from, size_t n)
{
    size_t page = fen__sys_page_bytes(), first = page - (uintptr_t)from % page;
    uintptr_t at = (uintptr_t)from;
    struct iovec local = {to, n}, remote[2] = {{(void *)at, n}, {NULL, 0}};
    if (first < n) { /* the kernel does not split an iovec: what lies in the first page is had */
        remote[0].iov_len = first;
        remote[1] = (struct iovec){(void *)(at + first), n - first};
    }
    long got =
        syscall(SYS_process_vm_readv, getpid(), &local, 1UL, remote, first < n ? 2UL : 1UL, 0UL);
    return got < 0 ? -errno : got;
}

bool fen__sys_copy_all(void *to, const void *from, size_t n)
{
    return fen__sys_copy(to, from, n) == (ssize_t)n;
}

size_t fen__sys_copy_string(char *to, const char *from, size_t cap)
{
    ssize_t got = from && cap ? fen__sys_copy(to, from, cap - 1) : 0;
    size_t n = got > 0 ? strnlen(to, (size_t)got) : 0;
    if (cap)
        to[n] = 0;
    return n;
}

size_t fen__sys_untouched(const void *low, size_t bytes)
{
    unsigned char in[512];
    size_t page = fen__sys_page_bytes();
    uintptr_t at = (uintptr_t)low, end = at + bytes;
    while (at < end) {
        size_t pages = (end - at + page - 1) / page;
        pages = pages < sizeof in ? pages : sizeof in;
        if (mincore((void *)at, pages * page, in))
            break;
        for (size_t i = 0; i < pages; i++, at += page)
            if (in[i] & 1)
                return at - (uintptr_t)low;
    }
    return at < end ? at - (uintptr_t)low : bytes;
}

/* ---- the signal ---- */

static void (*quit_fn)(void);
static struct sigaction quit_before;

static void on_quit(int sig)
{
    int saved = errno;
    (void)sig;
    quit_fn();
    errno = saved;
}

bool fen__sys_quit_install(void (*fn)(void))
{
    struct sigaction sa = {.sa_handler = on_quit, .sa_flags = RESTART | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGQUIT, NULL, &quit_before) || quit_before.sa_flags & SA_SIGINFO ||
        (quit_before.sa_handler != SIG_DFL && quit_before.sa_handler != SIG_IGN))
        return false;
    quit_fn = fn;
    return sigaction(SIGQUIT, &sa, NULL) == 0;
}

void fen__sys_quit_restore(void)
{
    struct sigaction now;
    if (sigaction(SIGQUIT, NULL, &now) == 0 && now.sa_handler == on_quit)
        sigaction(SIGQUIT, &quit_before, NULL);
}
