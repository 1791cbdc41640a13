/* chan_test.c - select with both directions on one channel, disabled cases, FEN_AFTER, lengths. */
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
        cmocka_unit_test(test_disabled_cases),
        cmocka_unit_test(test_after),
        cmocka_unit_test(test_close_from_a_thread_frees_all_who_wait),
        cmocka_unit_test(test_what_comes_and_goes_is_not_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
