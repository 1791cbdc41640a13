/* fdwait_test.c - descriptors that others own: shared, closed, replaced, stale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"
#include "fiber_check.h"

#include <stdatomic.h>
#include <sys/eventfd.h>

struct waiter {
    int fd, events;
    int64_t deadline_ns;
    int rc;
    _Atomic bool done;
    struct fen__g *_Atomic g;
};

static void wait_fd(void *arg)
{
    struct waiter *w = arg;
    atomic_store(&w->g, fen__cur(fen__self()));
    w->rc = fen_fd_wait(w->fd, w->events, w->deadline_ns);
    atomic_store(&w->done, true);
}

static void pair(int fd[2])
{
    must_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

static void stuff(int fd)
{
    char kb[1024] = {0};
    while (send(fd, kb, sizeof kb, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
}

static void drain(int fd)
{
    char kb[1024];
    while (recv(fd, kb, sizeof kb, MSG_DONTWAIT) > 0)
        ;
}

static bool is_parked(struct waiter *w)
{
    struct fen__g *g = atomic_load(&w->g);
    return g && (atomic_load(&g->wait) & 0xffff) == FEN__PARKED &&
           __atomic_load_n(&g->reason, __ATOMIC_RELAXED) == FEN__R_FD;
}

/* Until all n sleep in their wait, or have come out of it. */
static void parked(struct waiter *w, int n)
{
    for (int64_t end = soon(); n > 0;) {
        if (w->done || is_parked(w)) {
            w++, n--;
            continue;
        }
        must(fen_now() < end);
        must_equal(fen_sleep(FEN_MS / 10), 0);
    }
}

/* fd[0] becomes young[0], at once: the number is never free, for the runtime to open a file by. */
static void replace(int fd[2], int young[2])
{
    must_equal(dup2(young[0], fd[0]), fd[0]);
    close(young[0]);
    young[0] = fd[0];
}

/* A number that nothing is opened by: the lowest free ones are. */
static int never_open(void)
{
    int fd = fcntl(0, F_DUPFD, 500);
    must(fd >= 500);
    close(fd);
    return fd;
}

/* ---- one fiber ---- */

static int plain(void *arg)
{
    (void)arg;
    int fd[2], file = open("/proc/self/exe", O_RDONLY), p[2];
    pair(fd);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, 0), -EAGAIN);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, fen_now() + FEN_MS), -ETIMEDOUT);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ | FEN_FD_WRITE, soon()), FEN_FD_WRITE);
    must_equal(send(fd[1], "x", 1, 0), 1);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, soon()), FEN_FD_READ);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, soon()), FEN_FD_READ); /* a level, not an edge */
    must_equal(fen_fd_wait(file, FEN_FD_READ, soon()), FEN_FD_READ);
    close(fd[1]);
    drain(fd[0]);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, soon()), FEN_FD_READ | FEN_FD_HANGUP);
    must_equal(fen_fd_wait(never_open(), FEN_FD_READ, soon()), -EBADF);
    must_equal(fen_fd_wait(-1, FEN_FD_READ, soon()), -EBADF);
    must_equal(fen_fd_wait(fd[0], 0, soon()), -EINVAL);
    must_equal(fen_fd_wait(fd[0], 64, soon()), -EINVAL);
    must_equal(pipe2(p, O_CLOEXEC), 0); /* blocking: not touched */
    must_equal(fen_fd_wait(p[1], FEN_FD_WRITE, soon()), FEN_FD_WRITE);
    close(p[0]);
    must_equal(fen_fd_wait(p[1], FEN_FD_WRITE, soon()), FEN_FD_WRITE | FEN_FD_ERROR);
    close(p[1]);
    close(fd[0]);
    close(file);
    fen_fd_forget(fd[0]);
    fen_fd_forget(-1);
    return 0;
}

static void test_one_fiber(void **state)
{
    (void)state;
    int fd[2];
    run_clean(plain, NULL, 2);
    pair(fd); /* outside a fiber the thread waits */
    assert_int_equal(fen_fd_wait(fd[0], FEN_FD_READ, fen_now() + FEN_MS), -ETIMEDOUT);
    assert_int_equal(send(fd[1], "x", 1, 0), 1);
    assert_int_equal(fen_fd_wait(fd[0], FEN_FD_READ, FEN_NEVER), FEN_FD_READ);
    close(fd[0]);
    close(fd[1]);
}

/* ---- several fibers on one descriptor ---- */

static int shared(void *arg)
{
    (void)arg;
    int fd[2];
    pair(fd);
    stuff(fd[0]);
    struct waiter w[6];
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 6; i++) {
        w[i] = (struct waiter){fd[0], i % 2 ? FEN_FD_WRITE : FEN_FD_READ, soon(), 0, false, NULL};
        must_equal(fen_go(wait_fd, &w[i]), 0);
    }
    parked(w, 6);
    drain(fd[1]); /* room to write */
    while (!(w[1].done && w[3].done && w[5].done))
        must_equal(fen_sleep(FEN_MS / 10), 0);
    must(!w[0].done && !w[2].done && !w[4].done); /* woken perhaps, and waiting again */
    must_equal(send(fd[1], "x", 1, 0), 1);
    must_equal(fen_scope_close(scope), 0);
    for (int i = 0; i < 6; i++)
        must_equal(w[i].rc, i % 2 ? FEN_FD_WRITE : FEN_FD_READ);
    int twin = dup(fd[0]); /* the same socket under two numbers */
    drain(fd[0]);
    w[0] = (struct waiter){fd[0], FEN_FD_READ, soon(), 0, false, NULL};
    w[1] = (struct waiter){twin, FEN_FD_READ, soon(), 0, false, NULL};
    scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w[0]), 0);
    must_equal(fen_go(wait_fd, &w[1]), 0);
    parked(w, 2);
    must_equal(send(fd[1], "x", 1, 0), 1);
    must_equal(fen_scope_close(scope), 0);
    must(w[0].rc == FEN_FD_READ && w[1].rc == FEN_FD_READ);
    close(twin);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void test_shared(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 2; procs++)
        run_clean(shared, NULL, procs);
}

/* ---- closed while others wait ---- */

static int closed(void *arg)
{
    (void)arg;
    int fd[2], young[2];
    pair(fd);
    struct waiter w = {fd[0], FEN_FD_READ, soon(), 0, false, NULL}, v = w;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w), 0);
    must_equal(fen_go(wait_fd, &v), 0);
    parked(&w, 1);
    parked(&v, 1);
    fen_fd_forget(fd[0]); /* told before the close */
    must_equal(fen_scope_close(scope), 0);
    must(w.rc == -EBADF && v.rc == -EBADF);
    close(fd[0]);
    close(fd[1]);

    pair(fd); /* not told: the number comes back as another socket, and is waited for */
    w = (struct waiter){fd[0], FEN_FD_READ, soon(), 0, false, NULL};
    scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    pair(young);
    replace(fd, young);
    close(fd[1]);
    v = (struct waiter){young[0], FEN_FD_READ, soon(), 0, false, NULL};
    must_equal(fen_go(wait_fd, &v), 0);
    while (!w.done) /* the new registration tells that the old one is gone */
        must_equal(fen_sleep(FEN_MS / 10), 0);
    must_equal(w.rc, -EBADF);
    must(!v.done);
    must_equal(send(young[1], "x", 1, 0), 1);
    must_equal(fen_scope_close(scope), 0);
    must_equal(v.rc, FEN_FD_READ);

    w = (struct waiter){young[1], FEN_FD_READ, fen_now() + 5 * FEN_MS, 0, false, NULL};
    scope = fen_scope_open(FEN_NEVER); /* not told, not used again: the deadline */
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    close(young[1]);
    must_equal(fen_scope_close(scope), 0);
    must(w.rc == -ETIMEDOUT || w.rc == -EBADF);
    close(young[0]);
    return 0;
}

/* Told after an event has woken them and before one of them has come to look: what the event told
 * is gone by then, and it would wait again, for a descriptor that nobody will tell it of. True: it
 * was so. */
static bool forget_between(int fd[2])
{
    struct waiter w[2];
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 2; i++) {
        w[i] = (struct waiter){fd[0], FEN_FD_READ, soon(), 0, false, NULL};
        must_equal(fen_go(wait_fd, &w[i]), 0);
    }
    parked(w, 2);
    must_equal(send(fd[1], "x", 1, 0), 1);
    for (int64_t end = soon(); is_parked(&w[0]) && is_parked(&w[1]); fen_yield())
        must(fen_now() < end);
    drain(fd[0]);
    fen_fd_forget(fd[0]);
    must_equal(fen_scope_close(scope), 0);
    for (int i = 0; i < 2; i++)
        must(w[i].rc == FEN_FD_READ || w[i].rc == -EBADF);
    return w[0].rc == -EBADF || w[1].rc == -EBADF;
}

static int forgotten(void *arg)
{
    (void)arg;
    int fd[2];
    pair(fd);
    bool seen = false;
    for (int i = 0; i < 10000 && !seen; i++)
        seen = forget_between(fd);
    must(seen);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

/* Woken, and before it comes to look forgotten and closed, and the number is another's which is
 * ready. On one P, where the teller was woken first. */
static void forget_and_replace(void *arg)
{
    int *fd = arg; /* the teller's, the waiter's pair, what takes its number */
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, soon()), FEN_FD_READ);
    fen_fd_forget(fd[1]);
    must_equal(dup2(fd[3], fd[1]), fd[1]);
}

static int replaced(void *arg)
{
    bool teller_last = arg;
    int tell[2], old[2], ready[2];
    pair(tell), pair(old), pair(ready);
    must_equal(send(ready[1], "x", 1, 0), 1);
    int fd[4] = {tell[0], old[0], old[1], ready[0]};
    struct waiter w = {old[0], FEN_FD_READ, soon(), 0, false, NULL};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(forget_and_replace, fd), 0);
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    for (int i = 0; i < 2; i++) /* both are ready when somebody looks */
        must_equal(send((i == 1) == teller_last ? tell[1] : old[1], "x", 1, 0), 1);
    must_equal(fen_scope_close(scope), 0);
    must(w.rc == -EBADF || w.rc == FEN_FD_READ); /* the waiter may have been the first */
    for (int i = 0; i < 2; i++)
        close(tell[i]), close(old[i]), close(ready[i]);
    return w.rc == -EBADF;
}

/* Closed and not forgotten; then the runtime opens a socket by that number, and a false alarm makes
 * the waiter look again. It must not touch the socket's registration. */
static void read_sock(void *arg)
{
    char c;
    must_equal(fen_sock_read(arg, &c, 1, soon()), 1);
}

static int taken_over(void *arg)
{
    (void)arg;
    int fd[2];
    fen_sock *s[2];
    pair(fd);
    struct waiter w = {fd[0], FEN_FD_READ, soon(), 0, false, NULL};
    fen_scope *around = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    close(fd[0]);
    must_equal(fen_sock_pair(false, s), 0);
    must(fcntl(fd[0], F_GETFD) >= 0); /* the number is one of the pair's */
    fen_scope *readers = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_sock, s[0]), 0);
    must_equal(fen_go(read_sock, s[1]), 0);
    must_equal(fen_sleep(FEN_MS), 0);
    fen_scope_set_deadline(around, soon() + 20 * FEN_S);
    must_equal(fen_sleep(FEN_MS), 0);
    must_equal(fen_sock_write(s[0], "x", 1, soon()), 1);
    must_equal(fen_sock_write(s[1], "x", 1, soon()), 1);
    must_equal(fen_scope_close(readers), 0);
    must_equal(fen_scope_close(around), 0);
    must_equal(w.rc, -EBADF);
    fen_sock_close(s[0]);
    fen_sock_close(s[1]);
    close(fd[1]);
    return 0;
}

/* The same with a descriptor that is not the runtime's: a false alarm does not look at it. */
static int not_mistaken(void *arg)
{
    (void)arg;
    int fd[2], young[2];
    pair(fd), pair(young);
    must_equal(send(young[1], "x", 1, 0), 1);
    struct waiter w = {fd[0], FEN_FD_READ, soon(), 0, false, NULL};
    fen_scope *around = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    replace(fd, young);
    fen_scope_set_deadline(around, soon() + 20 * FEN_S);
    must_equal(fen_scope_close(around), 0);
    must_equal(w.rc, -EBADF);
    close(fd[0]), close(fd[1]), close(young[1]);
    return 0;
}

/* Nor one that cannot be waited for at all. */
static int a_file_by_now(void *arg)
{
    (void)arg;
    int fd[2], file = open("/proc/self/exe", O_RDONLY);
    pair(fd);
    struct waiter w = {fd[0], FEN_FD_READ, soon(), 0, false, NULL};
    fen_scope *around = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    must_equal(dup2(file, fd[0]), fd[0]);
    fen_scope_set_deadline(around, soon() + 20 * FEN_S);
    must_equal(fen_scope_close(around), 0);
    must_equal(w.rc, -EBADF);
    close(fd[0]), close(fd[1]), close(file);
    return 0;
}

static void test_a_number_that_is_anothers_by_now(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; i < 1000 && seen < 3; i++)
        seen += fen_run(replaced, i % 2 ? &i : NULL, &(fen_config){.procs = 1}) != 0;
    assert_int_equal(seen, 3);
    for (int procs = 1; procs <= 2; procs++) {
        run_clean(taken_over, NULL, procs);
        run_clean(not_mistaken, NULL, procs);
        run_clean(a_file_by_now, NULL, procs);
    }
}

static void test_forgotten_between_two_waits(void **state)
{
    (void)state;
    run_clean(forgotten, NULL, 1);
}

static void test_closed_meanwhile(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 2; procs++)
        run_clean(closed, NULL, procs);
}

/* ---- a stale registration ---- */

/* A duplicate keeps the old socket and its registration alive while its number is another's. */
static int stale(void *arg)
{
    (void)arg;
    int old[2], young[2];
    for (int i = 0; i < 200; i++) {
        pair(old);
        must_equal(fen_fd_wait(old[0], FEN_FD_READ, fen_now() + 10 * FEN_US), -ETIMEDOUT);
        int twin = dup(old[0]);
        pair(young);
        replace(old, young);
        struct waiter w = {young[0], FEN_FD_READ, soon(), 0, false, NULL};
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(wait_fd, &w), 0);
        fen_yield();
        must_equal(send(old[1], "x", 1, 0), 1); /* an event of the old one */
        if (i % 8 == 0)
            parked(&w, 1);
        else
            fen_yield();
        must(!w.done);
        must_equal(send(young[1], "x", 1, 0), 1);
        must_equal(fen_scope_close(scope), 0);
        must_equal(w.rc, FEN_FD_READ);
        close(twin);
        close(old[1]);
        close(young[0]);
        close(young[1]);
    }
    return 0;
}

static void test_stale_registration(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 2; procs++)
        run_clean(stale, NULL, procs);
}

/* A descriptor that was waited for here may become a fen_sock afterwards. */
static int adopted(void *arg)
{
    (void)arg;
    int fd[2];
    char byte;
    fen_sock *s;
    pair(fd);
    must_equal(fen_fd_wait(fd[0], FEN_FD_READ, fen_now() + FEN_MS), -ETIMEDOUT);
    must_equal(fen_sock_adopt(fd[0], &s), 0);
    must_equal(fen_sock_read(s, &byte, 1, fen_now() + FEN_MS), -ETIMEDOUT);
    must_equal(send(fd[1], "x", 1, 0), 1);
    must_equal(fen_sock_read(s, &byte, 1, soon()), 1);
    fen_sock_close(s);
    close(fd[1]);
    return 0;
}

static void test_adopted_afterwards(void **state)
{
    (void)state;
    run_clean(adopted, NULL, 1); /* one shard, so it meets the old registration */
}

/* ---- many at random ---- */

#if defined(FEN__TSAN) || defined(FEN__ASAN)
enum { ROUNDS = 1000 };
#else
enum { ROUNDS = 10000 };
#endif

struct pong {
    int fd;
    _Atomic int n;
};

/* Reads eventfds that two fibers share, so that half of the wake-ups are for nothing. */
static void take(void *arg)
{
    struct pong *p = arg;
    while (atomic_load(&p->n) > 0) {
        uint64_t v;
        int rc = fen_fd_wait(p->fd, FEN_FD_READ, fen_now() + 50 * FEN_US);
        must(rc == FEN_FD_READ || rc == -ETIMEDOUT);
        if (rc > 0 && read(p->fd, &v, sizeof v) == sizeof v)
            atomic_fetch_sub(&p->n, (int)v);
    }
}

static int random_waits(void *arg)
{
    (void)arg;
    struct pong p = {eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), ROUNDS};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 2; i++)
        must_equal(fen_go(take, &p), 0);
    uint64_t r = 21, one = 1;
    for (int i = 0; i < ROUNDS; i++) {
        must_equal(write(p.fd, &one, sizeof one), sizeof one);
        if (fen__rand(&r) % 4 == 0)
            fen_yield();
        if (fen__rand(&r) % 64 == 0)
            must_equal(fen_sleep(20 * FEN_US), 0);
    }
    must_equal(fen_scope_close(scope), 0);
    must_equal(p.n, 0);
    close(p.fd);
    fen_stats st;
    fen_stats_get(&st);
    must_equal(st.fds_live, 0);
    return 0;
}

static void test_random_waits(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 3; procs++)
        run_clean(random_waits, NULL, procs);
}

static int canceled(void *arg)
{
    (void)arg;
    int fd[2];
    pair(fd);
    struct waiter w = {fd[0], FEN_FD_READ, FEN_NEVER, 0, false, NULL};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(wait_fd, &w), 0);
    parked(&w, 1);
    fen_scope_cancel(scope);
    must_equal(fen_scope_close(scope), -ECANCELED);
    must_equal(w.rc, -ECANCELED);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void test_canceled(void **state)
{
    (void)state;
    run_clean(canceled, NULL, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_fiber),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_forgotten_between_two_waits),
        cmocka_unit_test(test_closed_meanwhile),
        cmocka_unit_test(test_a_number_that_is_anothers_by_now),
        cmocka_unit_test(test_stale_registration),
        cmocka_unit_test(test_adopted_afterwards),
        cmocka_unit_test(test_random_waits),
        cmocka_unit_test(test_canceled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
