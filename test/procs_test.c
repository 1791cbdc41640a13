/* procs_test.c - the number of Ps goes up and down under load and at rest: nothing is lost. */
#include "entries.h"
#include "sched/sched.h"

#include <fen/fen.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef FEN__TSAN
enum { CHANGES = 150, SLEEPERS = 60, PAIRS = 20, CONNS = 10, MOST = 8 };
#else
enum { CHANGES = 600, SLEEPERS = 300, PAIRS = 50, CONNS = 40, MOST = 16 };
#endif

static _Atomic bool stop;
static _Atomic int64_t naps, messages, bytes, late;

/* Timers. */
static void sleep_main(void *arg)
{
    uint64_t r = (uint64_t)(uintptr_t)arg * 2654435761u + 1;
    while (!atomic_load(&stop)) {
        r = r * 6364136223846793005u + 1442695040888963407u;
        int64_t until = fen_now() + (int64_t)(r >> 44) % 3000 * FEN_US;
        assert_int_equal(fen_sleep_until(until), 0);
        int64_t over = fen_now() - until;
        assert_true(over >= 0);
        atomic_fetch_add(&late, over > 2 * FEN_S);
        atomic_fetch_add(&naps, 1);
    }
}

/* Wake-ups and steals. */
static void ping_main(void *arg)
{
    fen_chan **c = arg;
    int v = 0, got = 0;
    while (!atomic_load(&stop)) {
        assert_int_equal(fen_chan_send(c[0], &v), 0);
        assert_int_equal(fen_chan_recv(c[1], &got), 0);
        assert_int_equal(got, v + 1);
        v++;
        atomic_fetch_add(&messages, 1);
    }
    assert_int_equal(fen_chan_close(c[0]), 0);
}

static void pong_main(void *arg)
{
    fen_chan **c = arg;
    int v;
    while (fen_chan_recv(c[0], &v) == 0) {
        v++;
        assert_int_equal(fen_chan_send(c[1], &v), 0);
    }
}

/* Descriptors. */
static fen_sock *listener;
static char addr[32];

static void echo_main(void *arg)
{
    char buf[64];
    ssize_t n;
    while ((n = fen_sock_read(arg, buf, sizeof buf, FEN_NEVER)) > 0)
        assert_int_equal(fen_sock_write(arg, buf, (size_t)n, FEN_NEVER), n);
    fen_sock_close(arg);
}

static void accept_main(void *arg)
{
    (void)arg;
    fen_sock *s;
    while (fen_tcp_accept(listener, FEN_NEVER, &s) == 0)
        assert_int_equal(fen_go(echo_main, s), 0);
}

static void client_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        fen_sock *s;
        char buf[8];
        assert_int_equal(fen_tcp_dial(addr, FEN_NEVER, &s), 0);
        for (int i = 0; i < 20 && !atomic_load(&stop); i++) {
            assert_int_equal(fen_sock_write(s, "ping", 4, FEN_NEVER), 4);
            for (ssize_t at = 0, n; at < 4; at += n) {
                n = fen_sock_read(s, buf, 4, FEN_NEVER);
                assert_true(n > 0);
            }
            atomic_fetch_add(&bytes, 4);
        }
        fen_sock_close(s);
    }
}

/* A hog now and then: its P has to be taken from it. */
static void hog_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        int64_t until = fen_now() + 15 * FEN_MS;
        while (fen_now() < until)
            ;
        assert_int_equal(fen_sleep(20 * FEN_MS), 0);
    }
}

static void change_all(void)
{
    uint64_t r = 99;
    for (int i = 0; i < CHANGES; i++) {
        r = r * 6364136223846793005u + 1442695040888963407u;
        int n = 1 + (int)(r >> 40) % MOST;
        assert_int_equal(fen_procs_set(n), 0);
        assert_int_equal(fen_procs(), n);
        usleep((useconds_t)(r >> 50) % 4000);
    }
}

static void *change_thread(void *arg)
{
    change_all();
    atomic_store(&stop, true);
    return arg;
}

static int under_load(void *arg)
{
    (void)arg;
    pthread_t t;
    fen_chan *chans[PAIRS][2];
    assert_int_equal(fen_tcp_listen("127.0.0.1:0", 0, &listener), 0);
    snprintf(addr, sizeof addr, "127.0.0.1:%d", fen_sock_port(listener));
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_scope *server = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(accept_main, NULL), 0);
    fen_scope *clients = fen_scope_open(FEN_NEVER);
    for (uintptr_t i = 0; i < SLEEPERS; i++)
        assert_int_equal(fen_go(sleep_main, (void *)i), 0);
    for (int i = 0; i < PAIRS; i++) {
        chans[i][0] = fen_chan_new(sizeof(int), 0);
        chans[i][1] = fen_chan_new(sizeof(int), 0);
        assert_int_equal(fen_go(ping_main, chans[i]), 0);
        assert_int_equal(fen_go(pong_main, chans[i]), 0);
    }
    for (int i = 0; i < CONNS; i++)
        assert_int_equal(fen_go(client_main, NULL), 0);
    assert_int_equal(fen_go(hog_main, NULL), 0);
    assert_int_equal(pthread_create(&t, NULL, change_thread, NULL), 0);
    assert_int_equal(fen_scope_close(clients), 0);
    fen_sock_close(listener);
    assert_int_equal(fen_scope_close(server), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    for (int i = 0; i < PAIRS; i++) {
        fen_chan_free(chans[i][0]);
        fen_chan_free(chans[i][1]);
    }
    return 0;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void nothing_is_lost_under_load(void **state)
{
    (void)state;
    assert_int_equal(fen_run(nothing, NULL, NULL), 0); /* TSan has its own thread from here on */
    int fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    atomic_store(&stop, false);
    assert_int_equal(fen_run(under_load, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(entries("/proc/self/fd"), fds);
    /* A joined thread may still be listed for a moment. */
    for (int i = 0; i < 1000 && entries("/proc/self/task") > threads; i++)
        usleep(1000);
    assert_int_equal(entries("/proc/self/task"), threads);
    print_message("%lld naps, %lld messages, %lld bytes\n", (long long)naps, (long long)messages,
                  (long long)bytes);
    assert_true(naps > 0 && messages > 0 && bytes > 0);
    assert_int_equal(late, 0);
}

/* ---- at rest ---- */

static _Atomic int woken;

static void wait_timer(void *arg)
{
    (void)arg;
    assert_int_equal(fen_sleep(150 * FEN_MS), 0);
    atomic_fetch_add(&woken, 1);
}

static void wait_fd(void *arg)
{
    char c;
    assert_int_equal(fen_sock_read(arg, &c, 1, FEN_NEVER), 1);
    atomic_fetch_add(&woken, 1);
}

/* Timers and descriptors that were armed on many Ps work when one is left, and that one sleeps. */
static int shrink_at_rest(void *arg)
{
    (void)arg;
    enum { N = 32 };
    fen_sock *in[N], *out[N];
    assert_int_equal(fen_tcp_listen("127.0.0.1:0", 0, &listener), 0);
    snprintf(addr, sizeof addr, "127.0.0.1:%d", fen_sock_port(listener));
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < N; i++) {
        assert_int_equal(fen_tcp_dial(addr, FEN_NEVER, &in[i]), 0);
        assert_int_equal(fen_tcp_accept(listener, FEN_NEVER, &out[i]), 0);
        assert_int_equal(fen_go(wait_timer, NULL), 0);
        assert_int_equal(fen_go(wait_fd, out[i]), 0);
        if (i % 4 == 0)
            assert_int_equal(fen_sleep(FEN_MS), 0); /* lets the fibers spread */
    }
    assert_int_equal(fen_sleep(5 * FEN_MS), 0);
    assert_int_equal(fen_procs_set(1), 0);
    assert_int_equal(fen_sleep(30 * FEN_MS), 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(fen_sock_write(in[i], "x", 1, FEN_NEVER), 1);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(atomic_load(&woken), 2 * N);
    for (int i = 0; i < N; i++) {
        fen_sock_close(in[i]);
        fen_sock_close(out[i]);
    }
    fen_sock_close(listener);
    return 0;
}

static void what_was_armed_elsewhere_fires(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        atomic_store(&woken, 0);
        assert_int_equal(fen_run(shrink_at_rest, NULL, &(fen_config){.procs = 8}), 0);
    }
}

/* ---- up, from a process that sleeps ---- */

static _Atomic int together;
static void meet(void *arg)
{
    (void)arg; /* ends only when all three run at the same time, without a call to fen */
    atomic_fetch_add(&together, 1);
    while (atomic_load(&together) < 3)
        ;
}

static void *raise_later(void *arg)
{
    usleep(100000); /* the monitor sleeps for good by then */
    *(int *)arg = fen_procs_set(3);
    return NULL;
}

static int grow_at_rest(void *arg)
{
    (void)arg;
    pthread_t t;
    int rc = -1;
    fen_stats st;
    assert_int_equal(pthread_create(&t, NULL, raise_later, &rc), 0);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    assert_int_equal(rc, 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fen_go(meet, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_stats_get(&st);
    assert_true(st.threads >= 3);
    return 0;
}

static void more_are_there_when_asked_for(void **state)
{
    (void)state;
    atomic_store(&together, 0);
    assert_int_equal(fen_run(grow_at_rest, NULL, &(fen_config){.procs = 1}), 0);
}

static int refusals(void *arg)
{
    (void)arg;
    assert_int_equal(fen_procs_set(0), -EINVAL);
    assert_int_equal(fen_procs_set(-1), -EINVAL);
    assert_int_equal(fen_procs_set(257), -EINVAL);
    assert_int_equal(fen_procs_set(21), -EINVAL); /* above max_threads */
    assert_int_equal(fen_procs(), 2);
    return 0;
}

static int to_the_limit(void *arg)
{
    (void)arg;
    assert_int_equal(fen_procs_set(256), 0);
    assert_int_equal(fen_sleep(50 * FEN_MS), 0);
    assert_int_equal(fen_procs_set(1), 0);
    assert_int_equal(fen_sleep(50 * FEN_MS), 0);
    assert_int_equal(fen_procs_set(2), 0);
    return 0;
}

static void out_of_range_is_refused(void **state)
{
    (void)state;
    assert_int_equal(fen_procs_set(2), FEN_ECLOSED);
    assert_int_equal(fen_run(refusals, NULL, &(fen_config){.procs = 2, .max_threads = 20}), 0);
    assert_int_equal(fen_run(to_the_limit, NULL, &(fen_config){.procs = 1}), 0);
    assert_int_equal(fen_procs(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_under_load),
        cmocka_unit_test(what_was_armed_elsewhere_fires),
        cmocka_unit_test(more_are_there_when_asked_for),
        cmocka_unit_test(out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
