/* signal.c - catching signals: the handler sets a bit in each catcher that wants the signal and
 * signals its eventfd; everything else happens elsewhere.
 *
 * The handler runs on any thread of the process, on its alternate stack if it has one (workers do:
 * a fiber's stack is small), restarts system calls, and keeps errno. It takes no lock and reads
 * only the table below.
 *
 * A catcher is closed under a handler: mask goes to 0 first (seq_cst), then close waits until no
 * handler is between its first and last line (`inside`); a handler that comes later reads mask 0.
 * So nobody writes to a descriptor that has been closed and reused.
 *
 * Rejected: signalfd (the signal must be blocked in every thread of the process, those of the host
 * too); blocking sigwait threads (the same). */
#include "sys/signal.h"

#include "base/sanitize.h"

#include "sys/sys.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define SIGNALS 64

static struct {
    _Atomic uint64_t mask, came;
    _Atomic int fd;
    bool used; /* table.lock */
} catchers[FEN__CATCHERS_MAX];

static struct {
    uint32_t lock;
    int users[SIGNALS + 1];
    struct sigaction before[SIGNALS + 1];
} table;

static _Atomic int inside;

/* TSan keeps a signal back until the thread leaves the kernel, which a restarted call never does.
 * */
#ifdef FEN__TSAN
#define RESTART 0
#else
#define RESTART SA_RESTART
#endif

static void on_signal(int signal)
{
    int kept = errno;
    uint64_t bit = UINT64_C(1) << (signal - 1);
    atomic_fetch_add(&inside, 1);
    for (int i = 0; i < FEN__CATCHERS_MAX; i++) {
        if (!(catchers[i].mask & bit))
            continue;
        /* The bit first: who takes the bits after the event finds it. */
        uint64_t had = atomic_fetch_or(&catchers[i].came, bit);
        if (!(had & bit))
            fen__sys_eventfd_signal(catchers[i].fd);
    }
    atomic_fetch_sub(&inside, 1);
    errno = kept;
}

bool fen__signal_ok(int signal)
{
    static const int never[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE,
                                SIGILL,  SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < FEN__COUNT(never); i++)
        if (signal == never[i])
            return false;
    /* 32 and 33 are the C library's own. */
    return signal >= 1 && signal <= SIGNALS && (signal < 32 || signal >= SIGRTMIN);
}

/* Lock held. */
static void give_back(uint64_t mask)
{
    for (int n = 1; n <= SIGNALS; n++) {
        struct sigaction now;
        if (!(mask >> (n - 1) & 1) || --table.users[n] > 0)
            continue;
        if (sigaction(n, NULL, &now) == 0 && now.sa_handler == on_signal)
            sigaction(n, &table.before[n], NULL);
    }
}

/* Lock held. */
static int take_over(uint64_t mask)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = RESTART | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    for (int n = 1; n <= SIGNALS; n++) {
        if (!(mask >> (n - 1) & 1))
            continue;
        if (table.users[n]++ == 0 && sigaction(n, &sa, &table.before[n])) {
            int rc = -errno;
            table.users[n]--;
            give_back(mask & ((UINT64_C(1) << (n - 1)) - 1));
            return rc;
        }
    }
    return 0;
}

int fen__catch_open(uint64_t mask, int *ret_fd)
{
    int fd = fen__sys_eventfd(), i = 0;
    if (fd < 0)
        return fd;
    fen__lock(&table.lock);
    while (i < FEN__CATCHERS_MAX && catchers[i].used)
        i++;
    int rc = i < FEN__CATCHERS_MAX ? 0 : FEN_ELIMIT;
    if (!rc) {
        catchers[i].came = 0;
        catchers[i].fd = fd;
        catchers[i].mask = mask; /* before the handler is in force: nothing is lost */
        rc = take_over(mask);
        if (rc)
            catchers[i].mask = 0;
        catchers[i].used = !rc;
    }
    fen__unlock(&table.lock);
    if (rc) {
        while (inside) /* it may have begun to write */
            fen__sys_nap(FEN_US * 50);
        fen__sys_close(fd);
        return rc;
    }
    *ret_fd = fd;
    return i;
}

uint64_t fen__catch_take(int catcher) { return atomic_exchange(&catchers[catcher].came, 0); }

void fen__catch_close(int catcher)
{
    fen__lock(&table.lock);
    uint64_t mask = catchers[catcher].mask;
    catchers[catcher].mask = 0;
    give_back(mask);
    while (inside) /* pairs with the add in on_signal, which comes before its look at mask */
        fen__sys_nap(FEN_US * 50);
    fen__sys_close(catchers[catcher].fd);
    catchers[catcher].used = false;
    fen__unlock(&table.lock);
}
