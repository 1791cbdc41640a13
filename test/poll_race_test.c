/* poll_race_test.c - descriptors that are closed, time out or are reused while somebody waits. */
#include "fiber/annotate.h"
#include "net/net.h"
#include "poll/poll.h"
#include "sched/sched_int.h"
#include "sys/sys.h"

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(FEN__TSAN) || defined(FEN__ASAN)
enum { ROUNDS = 500, CYCLES = 4000 };
#else
enum { ROUNDS = 3000, CYCLES = 100000 };
#endif
enum { WORKERS = 4, STACKS_EACH = 4 * FEN__STACK_CACHE };

/* In a fiber: cmocka's own assertions jump across stacks. */
static void equal(int64_t a, int64_t b, int line)
{
    if (a != b) {
        print_error("line %d: %lld, should be %lld\n", line, (long long)a, (long long)b);
        abort();
    }
}
#define must_equal(a, b) equal(a, b, __LINE__)

static void pair(int fd[2])
{
    must_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

static void wrapped_pair(fen_sock *ret[2])
{
    int fd[2];
    pair(fd);
    for (int i = 0; i < 2; i++)
        must_equal(fen__sock_wrap(fd[i], &ret[i]), 0);
}

static void nap(uint64_t *rand)
{
    for (uint64_t n = fen__rand(rand) >> 56; n > 0; n--)
        __asm__ volatile("" ::: "memory");
    if (fen__rand(rand) >> 63)
        fen_yield();
}

/* ---- close while another fiber waits ---- */

struct reader {
    fen_sock *sock;
    int64_t deadline_ns;
    ssize_t got;
};

static void read_one(void *arg)
{
    struct reader *r = arg;
    char byte;
    r->got = fen_sock_read(r->sock, &byte, 1, r->deadline_ns);
}

static int close_waiting(void *arg)
{
    (void)arg;
    uint64_t rand = 5;
    for (int i = 0; i < ROUNDS; i++) {
        fen_sock *s[2];
        wrapped_pair(s);
        struct reader r = {.sock = s[0], .deadline_ns = fen_now() + 20 * FEN_S};
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(read_one, &r), 0);
        fen_yield();
        if (i % 4 == 0)
            must_equal(fen_sleep(20 * FEN_US), 0); /* surely parked */
        nap(&rand);
        fen_sock_close(s[0]);
        must_equal(fen_scope_close(scope), 0);
        must_equal(r.got, -EBADF);
        fen_sock_close(s[1]);
    }
    return 0;
}

static void test_close_wakes_the_reader(void **state)
{
    (void)state;
    /* One P: the reader is parked, or waits in a queue, when the close comes; more Ps would let it
     * be between looking up its descriptor and the system call, which the caller has to prevent. */
    assert_int_equal(fen_run(close_waiting, NULL, &(fen_config){.procs = 1}), 0);
}

/* ---- deadline and event at the same time ---- */

struct writer {
    fen_sock *sock;
    int64_t at_ns;
};

static void write_at(void *arg)
{
    struct writer *w = arg;
    while (fen_now() < w->at_ns)
        fen_yield();
    must_equal(fen_sock_write(w->sock, "x", 1, FEN_NEVER), 1);
}

static int deadlines(void *arg)
{
    (void)arg;
    uint64_t rand = 9;
    fen_sock *s[2];
    char byte;
    wrapped_pair(s);
    for (int i = 0; i < ROUNDS; i++) {
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        int64_t at = fen_now() + 40 * FEN_US;
        struct writer w = {s[1], at + (int64_t)(fen__rand(&rand) % 20000) - 10000};
        must_equal(fen_go(write_at, &w), 0);
        ssize_t got = fen_sock_read(s[0], &byte, 1, at);
        fen_assert(got == 1 || got == -ETIMEDOUT);
        if (got != 1) /* the byte is there or comes: no event may have been lost to the deadline */
            must_equal(fen_sock_read(s[0], &byte, 1, fen_now() + 20 * FEN_S), 1);
        must_equal(fen_scope_close(scope), 0);
    }
    fen_sock_close(s[0]);
    fen_sock_close(s[1]);
    return 0;
}

static void test_deadline_against_event(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 2; procs++)
        assert_int_equal(fen_run(deadlines, NULL, &(fen_config){.procs = procs}), 0);
}

/* ---- a stale event ---- */

/* A duplicate keeps the registration of a closed descriptor alive in the kernel, so that its events
 * go on coming after the slot belongs to another. */
static void test_stale_event_is_dropped(void **state)
{
    (void)state;
    int old[2], young[2];
    struct fen__slot *a, *b;
    fen__waiter w[8];
    bool kicked;
    assert_int_equal(fen__poll_init(1), 0);
    pair(old);
    assert_int_equal(fen__poll_open(old[0], 0, &a), 0);
    uint32_t gen = fen__slot_gen(a);
    int twin = dup(old[0]);
    assert_true(fen__poll_wait(0, w, 8, 0, &kicked) == 0); /* writable: nobody waits */
    assert_int_equal(a->dir[FEN__WRITE], FEN__W_READY);
    close(old[0]);
    fen__poll_close(a, w);
    pair(young);
    assert_int_equal(fen__poll_open(young[0], 0, &b), 0);
    assert_ptr_equal(a, b);
    assert_true(fen__slot_gen(b) != gen && gen % 2 && fen__slot_gen(b) % 2);
    while (fen__poll_wait(0, w, 8, 0, &kicked) > 0 || b->dir[FEN__WRITE] == FEN__W_NONE)
        ;
    fen__waiter me = fen__w_fiber(1, 1);
    assert_int_equal(fen__slot_arm(b, FEN__READ, me), 0);
    assert_int_equal(write(old[1], "x", 1), 1);
    assert_true(fen__poll_pending(0)); /* the stale event has come */
    assert_int_equal(fen__poll_wait(0, w, 8, 0, &kicked), 0);
    assert_int_equal(b->dir[FEN__READ], me);
    assert_int_equal(write(young[1], "x", 1), 1); /* and a true one is still seen */
    assert_int_equal(fen__poll_wait(0, w, 8, 0, &kicked), 1);
    assert_true(w[0] == me);
    fen__poll_close(b, w);
    assert_int_equal(fen__poll_open_count(), 0);
    close(twin);
    close(old[1]);
    close(young[0]);
    close(young[1]);
    fen__poll_fini();
}

/* ---- many cycles ---- */

static int open_sockets(void)
{
    struct stat st;
    int n = 0;
    for (int fd = 0; fd < 4096; fd++)
        n += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
    return n;
}

static void cycles(void *n)
{
    for (int i = 0; i < *(int *)n; i++) {
        fen_sock *s[2];
        wrapped_pair(s);
        struct reader r = {.sock = s[0], .deadline_ns = i % 8 ? FEN_NEVER : fen_now() + 20 * FEN_S};
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(read_one, &r), 0);
        if (i % 2)
            fen_yield();
        must_equal(fen_sock_write(s[1], "x", 1, FEN_NEVER), 1);
        must_equal(fen_scope_close(scope), 0);
        must_equal(r.got, 1);
        fen_sock_close(s[i % 3 == 0]);
        fen_sock_close(s[i % 3 != 0]);
    }
}

static void cycle_all(int n)
{
    fen_scope *scope = fen_scope_open(fen_now() + 50 * FEN_S);
    for (int i = 0; i < WORKERS; i++)
        must_equal(fen_go(cycles, &n), 0);
    must_equal(fen_scope_close(scope), 0);
}

/* That there have been at once. */
static int64_t count_ms(void)
{
    int64_t n = 0;
    fen__lock(&fen__sched.lock);
    for (struct fen__m *m = fen__sched.ms; m; m = m->next)
        n++;
    fen__unlock(&fen__sched.lock);
    return n;
}

static int open_and_close(void *arg)
{
    (void)arg;
    fen_stats before, after;
    cycle_all(CYCLES / WORKERS / 10);
    int sockets = open_sockets();
    fen_stats_get(&before);
    cycle_all(CYCLES / WORKERS);
    fen_stats_get(&after);
    must_equal(open_sockets(), sockets);
    must_equal(before.fds_live, 0);
    must_equal(after.fds_live, 0);
    must_equal(after.timers_live, 0);
    must_equal(after.fibers_live, 1);
    must_equal(after.heap_live_bytes, before.heap_live_bytes);
    /* Room for the stacks that each thread keeps or has reserved (spawn.c), and there may be more
     * threads by now: a P is handed on where the machine is busy. A page a cycle would show. */
    must_equal(after.stacks_mapped_bytes <= (count_ms() + 1) * STACKS_EACH * (68 << 10), 1);
    return 0;
}

static void test_open_and_close_leave_nothing(void **state)
{
    (void)state;
    assert_int_equal(fen_run(open_and_close, NULL, &(fen_config){.procs = 2}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_wakes_the_reader),
        cmocka_unit_test(test_deadline_against_event),
        cmocka_unit_test(test_stale_event_is_dropped),
        cmocka_unit_test(test_open_and_close_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
