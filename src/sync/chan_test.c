/* chan_test.c - select with both directions on one channel, disabled cases, FEN_AFTER, which of
 * several ready cases is taken, lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/chan.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

static fen_chan *chan;
static _Atomic int peers_done, sent, received, sum_sent, sum_received;

static int lengths(void *arg)
{
    (void)arg;
    fen_chan *c = fen_chan_new(sizeof(int), 3), *r = fen_chan_new(0, 0);
    assert_int_equal(fen_chan_cap(c), 3);
    assert_int_equal(fen_chan_cap(r), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fen_chan_len(c), i);
        assert_int_equal(fen_chan_try_send(c, &i), 0);
    }
    assert_int_equal(fen_chan_try_send(c, &(int){3}), -EAGAIN);
    assert_int_equal(fen_chan_close(c), 0);
    assert_int_equal(fen_chan_len(c), 3); /* still to be received */
    for (int i = 0, v; i < 3; i++) {
        assert_int_equal(fen_chan_recv(c, &v), 0);
        assert_int_equal(v, i);
    }
    assert_int_equal(fen_chan_try_recv(c, NULL), FEN_ECLOSED);
    assert_int_equal(fen_chan_recv(c, NULL), FEN_ECLOSED);
    assert_int_equal(fen_chan_len(c), 0);
    assert_int_equal(fen_chan_len(r), 0);
    fen_chan_free(c);
    fen_chan_free(r);
    return 0;
}

static void test_len_and_cap(void **state)
{
    (void)state;
    run_on_all(lengths, NULL);
    assert_null(fen_chan_new(65537, 1));
    assert_null(fen_chan_new(65536, SIZE_MAX / 65536));
}

/* ---- who was woken leaves the channel alone: it may be gone ---- */

struct large {
    char bytes[64];
};
enum { GONE_RECV, GONE_SELECT, GONE_SEND, GONE_WAYS };

static void woken_by(void *arg)
{
    int way = *(int *)arg;
    struct large v = {{0}};
    fen_case one = FEN_RECV(chan, &v);
    int rc = way == GONE_RECV     ? fen_chan_recv(chan, &v)
             : way == GONE_SELECT ? fen_select(&one, 1, fen_now() + 60 * FEN_S)
                                  : fen_chan_send(chan, &v);
    assert_int_equal(rc, 0);
    for (size_t i = 0; way != GONE_SEND && i < sizeof v.bytes; i++)
        assert_int_equal(v.bytes[i], 'x');
    atomic_fetch_add(&received, 1);
}

/* On one P the waiter goes on after the channel was freed, and its memory has another use. */
static int gone(void *way)
{
    struct large v;
    fen_chan *other[32];
    memset(&v, 'x', sizeof v);
    received = 0;
    chan = fen_chan_new(sizeof v, 0);
    assert_non_null(chan);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(woken_by, way), 0);
    let_wait();
    if (*(int *)way == GONE_SEND)
        assert_int_equal(fen_chan_try_recv(chan, &v), 0);
    else
        assert_int_equal(fen_chan_try_send(chan, &v), 0);
    fen_chan_free(chan);
    for (int i = 0; i < 32; i++) {
        other[i] = fen_chan_new(3, 0);
        assert_non_null(other[i]);
    }
    assert_int_equal(received, 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(received, 1);
    for (int i = 0; i < 32; i++)
        fen_chan_free(other[i]);
    return 0;
}

static void test_a_channel_is_freed_before_its_waiter_goes_on(void **state)
{
    (void)state;
    for (int way = 0; way < GONE_WAYS; way++)
        run_on(1, gone, &way);
}

/* ---- one channel, both directions ---- */

enum { EACH = 200, PEERS = 6 };

/* Whichever can be done; a peer cannot meet itself, so some other took or gave. */
static void either(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < EACH; i++) {
        int out = me * EACH + i, in = -1;
        fen_case c[] = {FEN_SEND(chan, &out), FEN_RECV(chan, &in)};
        int k = fen_select(c, 2, FEN_NEVER);
        assert_int_equal(c[k].rc, 0);
        if (k == 0) {
            atomic_fetch_add(&sent, 1);
            atomic_fetch_add(&sum_sent, out);
        } else {
            assert_true(in >= 0 && in / EACH != me);
            atomic_fetch_add(&received, 1);
            atomic_fetch_add(&sum_received, in);
        }
        atomic_fetch_add(&peers_done, 1);
    }
}

/* Takes what is left over at the end, one way or the other. */
static int both_ways(void *arg)
{
    (void)arg;
    chan = fen_chan_new(sizeof(int), 0);
    peers_done = sent = received = sum_sent = sum_received = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < PEERS; i++)
        assert_int_equal(fen_go(either, (void *)i), 0);
    while (peers_done < PEERS * EACH) {
        int in, zero = PEERS * EACH; /* the peer of no one */
        fen_case c[] = {FEN_RECV(chan, &in), FEN_SEND(chan, &zero), FEN_AFTER(FEN_MS)};
        int k = fen_select(c, 3, FEN_NEVER);
        sum_received += k == 0 ? in : 0;
        received += k == 0;
        sum_sent += k == 1 ? zero : 0;
        sent += k == 1;
    }
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(sent, received);
    assert_int_equal(sum_sent, sum_received);
    fen_chan_free(chan);
    return 0;
}

static void test_send_and_receive_in_one_select(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 4; procs *= 2)
        run_on(procs, both_ways, NULL);
}

static int alone(void *arg)
{
    (void)arg;
    int v = 1;
    fen_chan *c = fen_chan_new(sizeof v, 0);
    assert_int_equal(fen_select((fen_case[]){FEN_SEND(c, &v), FEN_RECV(c, &v)}, 2, 0), -ETIMEDOUT);
    assert_int_equal(
        fen_select((fen_case[]){FEN_SEND(c, &v), FEN_RECV(c, &v)}, 2, fen_now() + FEN_MS),
        -ETIMEDOUT); /* it does not meet itself */
    fen_chan_free(c);
    c = fen_chan_new(sizeof v, 1);
    fen_case both[] = {FEN_SEND(c, &v), FEN_RECV(c, &v)};
    for (int i = 0; i < 10; i++) /* a buffered one: put in, take out */
        assert_int_equal(fen_select(both, 2, FEN_NEVER), i % 2);
    assert_int_equal(fen_chan_close(c), 0);
    int k = fen_select(both, 2, FEN_NEVER);
    assert_int_equal(both[k].rc, FEN_ECLOSED);
    fen_chan_free(c);
    return 0;
}

static void test_select_does_not_meet_itself(void **state)
{
    (void)state;
    run_on_all(alone, NULL);
}

/* ---- choice ---- */

static int fair(void *arg)
{
    (void)arg;
    enum { N = 4, LAPS = 4000 };
    fen_chan *c[N];
    int hits[N] = {0}, v = 0;
    for (int i = 0; i < N; i++) {
        c[i] = fen_chan_new(sizeof v, 1);
        assert_int_equal(fen_chan_send(c[i], &v), 0);
    }
    for (int i = 0; i < LAPS; i++) {
        int k = fen_select((fen_case[]){FEN_RECV(c[0], &v), FEN_RECV(c[1], &v), FEN_RECV(c[2], &v),
                                        FEN_RECV(c[3], &v)},
                           N, FEN_NEVER);
        hits[k]++;
        assert_int_equal(fen_chan_send(c[k], &v), 0);
    }
    for (int i = 0; i < N; i++) {
        assert_in_range(hits[i], LAPS / N / 2, LAPS / N * 2);
        fen_chan_free(c[i]);
    }
    return 0;
}

static void test_the_choice_is_fair(void **state)
{
    (void)state;
    run_on_all(fair, NULL);
}

/* ---- of several ready cases each is as likely, whatever stands around them ---- */

enum { DRAWS = 20000 };

static fen_chan *full(void)
{
    int v = 0;
    fen_chan *c = fen_chan_new(sizeof v, 1);
    assert_non_null(c);
    assert_int_equal(fen_chan_send(c, &v), 0);
    return c;
}

/* Of the n cases only a and b can go, both always: each is taken in 45 to 55 of 100, which a fair
 * choice misses by 14 standard deviations. */
static void even(fen_case *cases, int n, int a, int b)
{
    int hits[FEN_SELECT_MAX] = {0}, v = 0;
    for (int i = 0; i < DRAWS; i++) {
        int k = fen_select(cases, n, FEN_NEVER);
        assert_true(k == a || k == b);
        hits[k]++;
        assert_int_equal(fen_chan_try_send(cases[k].c, &v), 0);
    }
    assert_in_range(hits[a], DRAWS * 45 / 100, DRAWS * 55 / 100);
    assert_in_range(hits[b], DRAWS * 45 / 100, DRAWS * 55 / 100);
}

/* Empty channels stand before the two. */
static int two_of_many(void *arg)
{
    (void)arg;
    int v;
    fen_case c[FEN_SELECT_MAX];
    for (int i = 0; i < FEN_SELECT_MAX; i++)
        c[i] = FEN_RECV(i < FEN_SELECT_MAX - 2 ? fen_chan_new(sizeof v, 1) : full(), &v);
    even(c, FEN_SELECT_MAX, FEN_SELECT_MAX - 2, FEN_SELECT_MAX - 1);
    for (int i = 0; i < FEN_SELECT_MAX; i++)
        fen_chan_free(c[i].c);
    return 0;
}

static void test_two_ready_ones_of_64_are_equal(void **state)
{
    (void)state;
    run_on(2, two_of_many, NULL);
}

/* Cases that are off, of either kind, and FEN_AFTER. */
static int two_and_none(void *arg)
{
    (void)arg;
    int v;
    fen_chan *a = full(), *b = full();
    fen_case off = {.c = a, .op = FEN_OP_NONE};
    even((fen_case[]){FEN_RECV(NULL, &v), FEN_RECV(a, &v), FEN_RECV(b, &v)}, 3, 1, 2);
    even((fen_case[]){off, FEN_RECV(a, &v), FEN_RECV(b, &v)}, 3, 1, 2);
    even((fen_case[]){FEN_RECV(a, &v), FEN_RECV(b, &v), FEN_AFTER(0)}, 3, 0, 1);
    fen_chan_free(a);
    fen_chan_free(b);
    return 0;
}

static void test_cases_that_are_off_leave_two_ready_ones_equal(void **state)
{
    (void)state;
    run_on(2, two_and_none, NULL);
}

/* One channel in two cases, one element in it: the other case finds nothing. And a send beside a
 * receive of the same. */
static int twice(void *arg)
{
    (void)arg;
    int v = 0;
    fen_chan *c = full(), *d = fen_chan_new(sizeof v, 2);
    even((fen_case[]){FEN_RECV(c, &v), FEN_RECV(c, &v)}, 2, 0, 1);
    assert_int_equal(fen_chan_send(d, &v), 0);
    int sends = 0;
    for (int i = 0; i < DRAWS; i++) {
        int k = fen_select((fen_case[]){FEN_SEND(d, &v), FEN_RECV(d, &v)}, 2, FEN_NEVER);
        sends += k == 0;
        assert_int_equal(k == 0 ? fen_chan_try_recv(d, &v) : fen_chan_try_send(d, &v), 0);
    }
    assert_in_range(sends, DRAWS * 45 / 100, DRAWS * 55 / 100);
    assert_int_equal(fen_chan_len(d), 1);
    /* closed: receiving what is left, or learning on the other that it is over */
    assert_int_equal(fen_chan_close(d), 0);
    fen_case both[] = {FEN_RECV(c, &v), FEN_SEND(d, &v)};
    int closed = 0;
    for (int i = 0; i < DRAWS; i++)
        if (fen_select(both, 2, FEN_NEVER)) {
            assert_int_equal(both[1].rc, FEN_ECLOSED);
            closed++;
        } else {
            assert_int_equal(both[0].rc, 0);
            assert_int_equal(fen_chan_try_send(c, &v), 0);
        }
    assert_in_range(closed, DRAWS * 45 / 100, DRAWS * 55 / 100);
    fen_chan_free(c);
    fen_chan_free(d);
    return 0;
}

static void test_two_ready_cases_of_one_channel_are_equal(void **state)
{
    (void)state;
    run_on(2, twice, NULL);
}

/* Fibers by turns on one P, each with two channels of its own. */
enum { TURNERS = 256, TURNS = 500 };
static int firsts[TURNERS];

static void takes_turns(void *first)
{
    int v;
    fen_chan *a = full(), *b = full();
    for (int i = 0; i < TURNS; i++) {
        fen_case c[] = {FEN_RECV(a, &v), FEN_RECV(b, &v)};
        int k = fen_select(c, 2, FEN_NEVER);
        *(int *)first += k == 0;
        assert_int_equal(fen_chan_try_send(c[k].c, &v), 0);
        fen_yield();
    }
    fen_chan_free(a);
    fen_chan_free(b);
}

static int turns(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    memset(firsts, 0, sizeof firsts);
    for (int i = 0; i < TURNERS; i++)
        assert_int_equal(fen_go(takes_turns, &firsts[i]), 0);
    assert_int_equal(fen_scope_close(s), 0);
    for (int i = 0; i < TURNERS; i++)
        assert_in_range(firsts[i], TURNS * 30 / 100, TURNS * 70 / 100);
    return 0;
}

static void test_fibers_by_turns_do_not_share_a_period(void **state)
{
    (void)state;
    run_on(1, turns, NULL);
}

/* Senders who wait: three empty channels before the two, so that a scan would favour one. */
static void offers(void *c)
{
    int v = 1;
    while (fen_chan_send(c, &v) == 0)
        ;
}

static int two_wait(void *arg)
{
    (void)arg;
    enum { N = 5, LAPS = 4000 };
    int hits[N] = {0}, v;
    fen_case c[N];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < N; i++)
        c[i] = FEN_RECV(fen_chan_new(sizeof v, 0), &v);
    for (int i = N - 2; i < N; i++)
        assert_int_equal(fen_go(offers, c[i].c), 0);
    for (int i = 0; i < LAPS; i++) {
        fen_yield(); /* one P: whoever was taken from last time is back in its wait */
        hits[fen_select(c, N, FEN_NEVER)]++;
    }
    for (int i = N - 2; i < N; i++)
        assert_int_equal(fen_chan_close(c[i].c), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(hits[N - 2] + hits[N - 1], LAPS);
    assert_in_range(hits[N - 1], LAPS * 45 / 100, LAPS * 55 / 100);
    for (int i = 0; i < N; i++)
        fen_chan_free(c[i].c);
    return 0;
}

static void test_two_senders_who_wait_are_equal(void **state)
{
    (void)state;
    run_on(1, two_wait, NULL);
}

#ifndef FEN_HARD /* each second wait ends for nothing there: who was woken waits in both anew */
/* Waits on two channels again and again, and is sent something on the first only. */
static void takes_either(void *two)
{
    fen_chan **c = two;
    int v;
    fen_case k[] = {FEN_RECV(c[0], &v), FEN_RECV(c[1], &v)};
    while (fen_select(k, 2, FEN_NEVER) == 0 && k[0].rc == 0)
        ;
}

/* Who was woken by the one still stands in the queue of the other: nobody to send to. */
static int already_woken(void *arg)
{
    (void)arg;
    enum { LAPS = 4000 };
    static fen_chan *c[2];
    fen_chan *a = full(), *b = full();
    int v = 0, hits[3] = {0};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 2; i++)
        c[i] = fen_chan_new(sizeof v, 0);
    assert_int_equal(fen_go(takes_either, c), 0);
    fen_case k[] = {FEN_SEND(c[1], &v), FEN_RECV(a, &v), FEN_RECV(b, &v)};
    for (int i = 0; i < LAPS; i++) {
        fen_yield(); /* one P: it is in its wait, and does not go on before the next time */
        assert_int_equal(fen_chan_send(c[0], &v), 0);
        int took = fen_select(k, 3, 0);
        assert_true(took == 1 || took == 2);
        hits[took]++;
        assert_int_equal(fen_chan_try_send(k[took].c, &v), 0);
    }
    assert_in_range(hits[1], LAPS * 45 / 100, LAPS * 55 / 100);
    assert_int_equal(fen_chan_close(c[0]), 0);
    assert_int_equal(fen_scope_close(s), 0);
    for (int i = 0; i < 2; i++)
        fen_chan_free(c[i]);
    fen_chan_free(a);
    fen_chan_free(b);
    return 0;
}

static void test_who_was_woken_elsewhere_is_passed_over(void **state)
{
    (void)state;
    run_on(1, already_woken, NULL);
}
#endif

/* A thread that is no worker chooses alike. */
static void *outside(void *arg)
{
    two_of_many(arg);
    return NULL;
}

static void test_two_ready_ones_are_equal_to_a_thread(void **state)
{
    (void)state;
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, outside, NULL), 0);
    pthread_join(t, NULL);
}

static int disabled(void *arg)
{
    (void)arg;
    int v = 5;
    fen_chan *c = fen_chan_new(sizeof v, 1);
    fen_case off = {.c = c, .op = FEN_OP_NONE};
    assert_int_equal(fen_chan_send(c, &v), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(
            fen_select((fen_case[]){FEN_RECV(NULL, &v), off, FEN_SEND(NULL, &v)}, 3, 0),
            -ETIMEDOUT);
    assert_int_equal(
        fen_select((fen_case[]){FEN_RECV(NULL, &v), off, FEN_RECV(c, &v)}, 3, FEN_NEVER), 2);
    /* nothing enabled: a wait for the deadline, or for a cancel */
    assert_int_equal(fen_select(NULL, 0, fen_now() + FEN_MS), -ETIMEDOUT);
    assert_int_equal(fen_select(&off, 1, fen_now() + FEN_MS), -ETIMEDOUT);
    fen_scope *s = fen_scope_open(fen_now() + FEN_MS);
    assert_int_equal(fen_select(&off, 1, FEN_NEVER), -ETIMEDOUT);
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    assert_int_equal(fen_select(&off, FEN_SELECT_MAX + 1, 0), -EINVAL);
    assert_int_equal(fen_select(&off, -1, 0), -EINVAL);
    fen_chan_free(c);
    return 0;
}

static void test_disabled_cases(void **state)
{
    (void)state;
    run_on_all(disabled, NULL);
}

/* ---- FEN_AFTER ---- */

/* Its time has come and woken the fiber, and before it goes on its scope is cancelled: there is no
 * deadline that a select could tell of. */
static _Atomic int after_came;

static void wait_after(void *c)
{
    fen_case k[] = {FEN_RECV(c, NULL), FEN_AFTER(100 * FEN_US)};
    int rc = fen_select(k, 2, FEN_NEVER);
    assert_true(rc == 1 || rc == -ECANCELED);
    after_came += rc == 1;
}

static int after_and_cancel(void *arg)
{
    (void)arg;
    fen_chan *c = fen_chan_new(0, 0);
    for (int i = 0; i < 3000; i++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        int64_t t = fen_now() + 100 * FEN_US + i % 40 * FEN_US;
        assert_int_equal(fen_go(wait_after, c), 0);
        fen_yield();
        while (fen_now() < t)
            ;
        fen_scope_cancel(s);
        assert_int_equal(fen_scope_close(s), -ECANCELED);
    }
    fen_chan_free(c);
    return 0;
}

static void test_after_and_cancel(void **state)
{
    (void)state;
    run_on(2, after_and_cancel, NULL);
    print_message("the time came first %d times\n", after_came);
}

static int after(void *arg)
{
    (void)arg;
    int v = 5;
    fen_chan *c = fen_chan_new(sizeof v, 1);
    int64_t t = fen_now();
    fen_case a[] = {FEN_RECV(c, &v), FEN_AFTER(100 * FEN_S), FEN_AFTER(3 * FEN_MS)};
    assert_int_equal(fen_select(a, 3, FEN_NEVER), 2);
    assert_true(fen_now() - t >= 3 * FEN_MS);
    assert_int_equal(fen_select(a, 3, 0), -ETIMEDOUT); /* does not block */
    assert_int_equal(fen_select(a, 3, fen_now() + FEN_MS), -ETIMEDOUT);
    assert_int_equal(fen_chan_send(c, &v), 0);
    a[2] = FEN_AFTER(0);
    assert_int_equal(fen_select(a, 3, FEN_NEVER), 0); /* what can go on comes first */
    assert_int_equal(fen_select(a, 3, FEN_NEVER), 2);
    a[2] = FEN_AFTER(-FEN_S);
    assert_int_equal(fen_select(a, 3, FEN_NEVER), 2);
    a[2] = FEN_AFTER(FEN_NEVER);
    fen_scope *s = fen_scope_open(fen_now() + 2 * FEN_MS); /* the scope's time is not the case's */
    assert_int_equal(fen_select(a, 3, FEN_NEVER), -ETIMEDOUT);
    a[2] = FEN_AFTER(0);
    assert_int_equal(fen_select(a, 3, FEN_NEVER), -ETIMEDOUT);
    assert_int_equal(fen_scope_close(s), -ETIMEDOUT);
    fen_chan_free(c);
    return 0;
}

static void test_after(void **state)
{
    (void)state;
    run_on_all(after, NULL);
}

/* ---- closing ---- */

static void end_of_it(void *send)
{
    int v = 1;
    assert_int_equal(send ? fen_chan_send(chan, &v) : fen_chan_recv(chan, &v), FEN_ECLOSED);
    fen_case c = send ? FEN_SEND(chan, &v) : FEN_RECV(chan, &v);
    assert_int_equal(fen_select(&c, 1, FEN_NEVER), 0);
    assert_int_equal(c.rc, FEN_ECLOSED);
    atomic_fetch_add(&received, 1);
}

static void *close_it(void *arg)
{
    (void)arg;
    assert_int_equal(fen_chan_close(chan), 0);
    assert_int_equal(fen_chan_close(chan), FEN_ECLOSED);
    return NULL;
}

static int closing(void *send)
{
    enum { N = 20 };
    pthread_t t;
    received = 0;
    chan = fen_chan_new(sizeof(int), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < N; i++)
        assert_int_equal(fen_go(end_of_it, send), 0);
    let_wait();
    assert_int_equal(pthread_create(&t, NULL, close_it, NULL), 0);
    wait_for(&received, N);
    pthread_join(t, NULL);
    assert_int_equal(fen_scope_close(s), 0);
    fen_chan_free(chan);
    return 0;
}

static void test_close_from_a_thread_frees_all_who_wait(void **state)
{
    (void)state;
    run_on_all(closing, NULL);
    run_on_all(closing, "send");
}

/* ---- the list of what is left ---- */

static void makes_and_frees(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2000; i++) {
        fen_chan *c = fen_chan_new(sizeof(int), 1);
        assert_non_null(c);
        if (i % 2)
            fen_yield();
        else
            for (volatile int k = 0; k < 200; k++)
                ;
        fen_chan_free(c);
    }
}

static int make_and_free(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 8; i++)
        assert_int_equal(fen_go(makes_and_frees, NULL), 0);
    return fen_scope_close(s);
}

static void count_reports(void *n, const char *text, size_t bytes)
{
    (void)text, (void)bytes;
    ++*(int *)n;
}

/* Each is in a list with its neighbours, which other threads take out meanwhile. */
static void test_what_comes_and_goes_is_not_left(void **state)
{
    (void)state;
    int n = 0;
    fen_config cfg = {.procs = 2, .report_leaks = true, .report = count_reports, .report_arg = &n};
    assert_int_equal(fen_run(make_and_free, NULL, &cfg), 0);
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_channel_is_freed_before_its_waiter_goes_on),
        cmocka_unit_test(test_len_and_cap),
        cmocka_unit_test(test_send_and_receive_in_one_select),
        cmocka_unit_test(test_select_does_not_meet_itself),
        cmocka_unit_test(test_the_choice_is_fair),
        cmocka_unit_test(test_two_ready_ones_of_64_are_equal),
        cmocka_unit_test(test_cases_that_are_off_leave_two_ready_ones_equal),
        cmocka_unit_test(test_two_ready_cases_of_one_channel_are_equal),
        cmocka_unit_test(test_fibers_by_turns_do_not_share_a_period),
        cmocka_unit_test(test_two_senders_who_wait_are_equal),
#ifndef FEN_HARD
        cmocka_unit_test(test_who_was_woken_elsewhere_is_passed_over),
#endif
        cmocka_unit_test(test_two_ready_ones_are_equal_to_a_thread),
        cmocka_unit_test(test_disabled_cases),
        cmocka_unit_test(test_after),
        cmocka_unit_test(test_close_from_a_thread_frees_all_who_wait),
        cmocka_unit_test(test_what_comes_and_goes_is_not_left),
        cmocka_unit_test(test_after_and_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
