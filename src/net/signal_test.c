/* signal_test.c - signals come as events: once each, none lost, and what was before comes back. */
#include "sched/sched.h"

#include <fen/fen.h>

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define OPEN(s, ...)                                                                               \
    fen_signal_open((int[]){__VA_ARGS__}, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), s)

static int next(fen_signal *s, int64_t wait_ns)
{
    int n = 0, rc = fen_chan_recv_until(fen_signal_chan(s), &n, fen_now() + wait_ns);
    return rc ? rc : n;
}

static _Atomic int own;
static void own_handler(int n)
{
    (void)n;
    atomic_fetch_add(&own, 1);
}

static int one_each(void *arg)
{
    (void)arg;
    fen_signal *s, *t;
    assert_int_equal(OPEN(&s, SIGUSR1, SIGTERM, SIGRTMIN), 0);
    assert_int_equal(OPEN(&t, SIGUSR1), 0);
    assert_int_equal(next(s, 5 * FEN_MS), -ETIMEDOUT);
    kill(getpid(), SIGTERM);
    assert_int_equal(next(s, 5 * FEN_S), SIGTERM);
    kill(getpid(), SIGUSR1);
    assert_int_equal(next(s, 5 * FEN_S), SIGUSR1);
    assert_int_equal(next(t, 5 * FEN_S), SIGUSR1);
    kill(getpid(), SIGRTMIN);
    assert_int_equal(next(s, 5 * FEN_S), SIGRTMIN);
    int n = 0;
    kill(getpid(), SIGUSR1);
    fen_case c = FEN_RECV(fen_signal_chan(t), &n);
    assert_int_equal(fen_select(&c, 1, fen_now() + 5 * FEN_S), 0);
    assert_int_equal(n, SIGUSR1);
    fen_signal_close(s);
    kill(getpid(), SIGUSR1);
    assert_int_equal(next(t, 5 * FEN_S), SIGUSR1);
    fen_signal_close(t);
    fen_signal_close(NULL);
    return 0;
}

static void signals_come_as_events_and_are_given_back(void **state)
{
    (void)state;
    struct sigaction sa;
    signal(SIGUSR1, own_handler);
    assert_int_equal(fen_run(one_each, NULL, &(fen_config){.procs = 2}), 0);
    kill(getpid(), SIGUSR1);
    assert_int_equal(atomic_load(&own), 1);
    assert_int_equal(sigaction(SIGTERM, NULL, &sa), 0);
    assert_true(sa.sa_handler == SIG_DFL);
}

static int refusals(void *arg)
{
    (void)arg;
    fen_signal *s, *all[65];
    static const int bad[] = {0, -1, 65, 1000, SIGKILL, SIGSTOP, SIGSEGV, SIGABRT, 32};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(fen_signal_open(&bad[i], 1, &s), -EINVAL);
    assert_int_equal(fen_signal_open(bad, 0, &s), -EINVAL);
    for (int i = 0; i < 64; i++)
        assert_int_equal(OPEN(&all[i], SIGUSR2), 0);
    assert_int_equal(OPEN(&s, SIGUSR2), FEN_ELIMIT);
    kill(getpid(), SIGUSR2);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(next(all[i], 5 * FEN_S), SIGUSR2);
        fen_signal_close(all[i]);
    }
    return 0;
}

static void what_cannot_be_caught_is_refused(void **state)
{
    (void)state;
    fen_signal *s;
    assert_int_equal(OPEN(&s, SIGUSR1), FEN_ENOTFIBER);
    assert_int_equal(fen_run(refusals, NULL, NULL), 0);
}

/* ---- a storm ---- */

enum { STORM = 20000 };
static _Atomic bool over;

static void *storm(void *arg)
{
    for (int i = 0; i < STORM; i++)
        kill(getpid(), i % 2 ? SIGUSR1 : SIGUSR2);
    atomic_store(&over, true);
    kill(getpid(), SIGTERM);
    return arg;
}

static int in_the_storm(void *arg)
{
    (void)arg;
    fen_signal *s;
    pthread_t t;
    int seen[65] = {0}, n;
    assert_int_equal(OPEN(&s, SIGUSR1, SIGUSR2, SIGTERM), 0);
    assert_int_equal(pthread_create(&t, NULL, storm, NULL), 0);
    while (!atomic_load(&over)) /* nobody receives meanwhile: one of each may wait, no more */
        fen_sleep(FEN_MS);
    fen_sleep(5 * FEN_MS);
    while ((n = next(s, 100 * FEN_MS)) > 0)
        seen[n]++;
    assert_in_range(seen[SIGUSR1], 1, 2); /* one in the fiber's hand, one caught meanwhile */
    assert_in_range(seen[SIGUSR2], 1, 2);
    assert_int_equal(seen[SIGTERM], 1);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    fen_signal_close(s);
    return 0;
}

static void a_storm_is_bounded_and_loses_no_kind(void **state)
{
    (void)state;
    atomic_store(&over, false);
    assert_int_equal(fen_run(in_the_storm, NULL, &(fen_config){.procs = 2}), 0);
}

/* ---- opening and closing while signals come ---- */

static void *rain(void *arg)
{
    (void)arg;
    while (!atomic_load(&over))
        kill(getpid(), SIGUSR1);
    return NULL;
}

static int open_and_close(void *arg)
{
    (void)arg;
    pthread_t t;
    fen_signal *s;
    int n;
    assert_int_equal(pthread_create(&t, NULL, rain, NULL), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(OPEN(&s, SIGUSR1), 0);
        if (i % 2)
            assert_int_equal(fen_chan_recv(fen_signal_chan(s), &n), 0);
        fen_signal_close(s);
    }
    atomic_store(&over, true);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    return 0;
}

static void it_closes_while_signals_come(void **state)
{
    (void)state;
    signal(SIGUSR1, own_handler); /* in between they are the host's */
    atomic_store(&over, false);
    assert_int_equal(fen_run(open_and_close, NULL, &(fen_config){.procs = 2}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_come_as_events_and_are_given_back),
        cmocka_unit_test(what_cannot_be_caught_is_refused),
        cmocka_unit_test(a_storm_is_bounded_and_loses_no_kind),
        cmocka_unit_test(it_closes_while_signals_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
