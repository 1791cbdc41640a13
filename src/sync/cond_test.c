/* cond_test.c - signals reach a waiter that still waits; the mutex is held again whatever came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/sync.h>

#include <errno.h>
#include <pthread.h>

static fen_mutex mutex;
static fen_cond cond, not_full;
static int tokens;
static _Atomic int taken, waiting, given_up;

/* ---- a bounded buffer ---- */

enum { ITEMS = 300, ROOM = 3 };

static void produce(void *arg)
{
    (void)arg;
    for (int i = 0; i < ITEMS; i++) {
        assert_int_equal(fen_mutex_lock(&mutex), 0);
        while (tokens == ROOM)
            assert_int_equal(fen_cond_wait(&not_full, &mutex), 0);
        tokens++;
        fen_cond_signal(&cond);
        fen_mutex_unlock(&mutex);
    }
}

static void consume(void *arg)
{
    (void)arg;
    for (int i = 0; i < ITEMS; i++) {
        assert_int_equal(fen_mutex_lock(&mutex), 0);
        while (tokens == 0)
            assert_int_equal(fen_cond_wait(&cond, &mutex), 0);
        tokens--;
        assert_true(tokens >= 0 && tokens < ROOM);
        fen_mutex_unlock(&mutex);
        fen_cond_signal(&not_full);
    }
}

static int buffer(void *arg)
{
    (void)arg;
    tokens = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fen_go(produce, NULL), 0);
        assert_int_equal(fen_go(consume, NULL), 0);
    }
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(tokens, 0);
    fen_cond_fini(&cond);
    fen_cond_fini(&not_full);
    fen_mutex_fini(&mutex);
    return 0;
}

static void test_bounded_buffer(void **state)
{
    (void)state;
    run_on_all(buffer, NULL);
}

/* ---- a waiter that gives up eats no signal ---- */

/* deadline 0: waits for ever. Who times out does not look at the tokens. */
static void take(void *deadline)
{
    int rc = 0;
    int64_t d = deadline ? *(int64_t *)deadline : FEN_NEVER;
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    atomic_fetch_add(&waiting, 1);
    while (!rc && tokens == 0)
        rc = fen_cond_wait_until(&cond, &mutex, d);
    assert_int_equal(fen_mutex_try_lock(&mutex), -EAGAIN); /* held again */
    if (!rc) {
        tokens--;
        atomic_fetch_add(&taken, 1);
    } else {
        assert_int_equal(rc, -ETIMEDOUT);
        atomic_fetch_add(&given_up, 1);
    }
    fen_mutex_unlock(&mutex);
}

static void give(void)
{
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    tokens++;
    fen_cond_signal(&cond);
    fen_mutex_unlock(&mutex);
}

static int race(void *arg)
{
    (void)arg;
    enum { TIMED = 3 };
    for (int round = 0; round < 60; round++) {
        tokens = 0;
        waiting = taken = given_up = 0;
        fen_scope *s = fen_scope_open(FEN_NEVER);
        int64_t deadline = fen_now() + FEN_MS + round % 10 * 20 * FEN_US;
        for (int i = 0; i < TIMED; i++)
            assert_int_equal(fen_go(take, &deadline), 0);
        assert_int_equal(fen_go(take, NULL), 0);
        wait_for(&waiting, TIMED + 1);
        assert_int_equal(fen_sleep_until(deadline - 50 * FEN_US + round % 7 * 20 * FEN_US), 0);
        int gave = 0;
        while (taken + given_up < TIMED + 1) { /* a signal that is eaten: this never ends */
            give();
            gave++;
            while (taken < gave && taken + given_up < TIMED + 1)
                assert_int_equal(fen_sleep(50 * FEN_US), 0);
        }
        assert_int_equal(fen_scope_close(s), 0);
        assert_int_equal(taken + tokens, gave);
    }
    fen_cond_fini(&cond);
    return 0;
}

static void test_a_waiter_that_gives_up_eats_no_signal(void **state)
{
    (void)state;
    run_on_all(race, NULL);
}

/* ---- the rest ---- */

static void wait_all(void *want)
{
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    atomic_fetch_add(&waiting, 1);
    int rc = 0;
    while (!rc && !tokens)
        rc = fen_cond_wait(&cond, &mutex);
    assert_int_equal(rc, *(int *)want);
    assert_int_equal(fen_mutex_try_lock(&mutex), -EAGAIN);
    atomic_fetch_add(&taken, 1);
    fen_mutex_unlock(&mutex);
}

static void *broadcast(void *arg)
{
    (void)arg;
    fen_cond_broadcast(&cond);
    return NULL;
}

static int all(void *cancel)
{
    enum { N = 30 };
    int want = cancel ? -ECANCELED : 0;
    tokens = 0;
    waiting = taken = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < N; i++)
        assert_int_equal(fen_go(wait_all, &want), 0);
    wait_for(&waiting, N);
    assert_int_equal(fen_mutex_lock(&mutex), 0); /* now all of them are inside */
    tokens = !cancel;
    fen_mutex_unlock(&mutex);
    if (cancel) {
        fen_scope_cancel(s);
    } else {
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, broadcast, NULL), 0);
        wait_for(&taken, N);
        pthread_join(t, NULL);
    }
    assert_int_equal(fen_scope_close(s), want);
    assert_int_equal(taken, N);
    fen_cond_fini(&cond);
    fen_mutex_fini(&mutex);
    return 0;
}

static void test_broadcast_from_a_thread_reaches_all(void **state)
{
    (void)state;
    run_on_all(all, NULL);
}

static void test_cancel_reaches_all_and_the_mutex_is_held(void **state)
{
    (void)state;
    run_on_all(all, "cancel");
}

static int ended(void *arg)
{
    int rc;
    (void)arg;
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    while (!(rc = fen_cond_wait_until(&cond, &mutex, 1))) /* long past */
        ;
    assert_int_equal(rc, -ETIMEDOUT);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_scope_cancel(s);
    assert_int_equal(fen_cond_wait(&cond, &mutex), -ECANCELED);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    fen_mutex_unlock(&mutex);
    fen_cond_signal(&cond); /* nobody waits: nothing happens */
    return 0;
}

static void test_deadline_in_the_past_and_scope_that_has_ended(void **state)
{
    (void)state;
    run_on_all(ended, NULL);
    /* A thread waits too, and has the mutex again afterwards. */
    assert_int_equal(fen_mutex_lock(&mutex), 0);
    int64_t until = fen_now() + FEN_MS;
    int rc;
    while ((rc = fen_cond_wait_until(&cond, &mutex, until)) == 0)
        ; /* a false alarm is allowed */
    assert_int_equal(rc, -ETIMEDOUT);
    assert_int_equal(fen_mutex_try_lock(&mutex), -EAGAIN);
    fen_mutex_unlock(&mutex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded_buffer),
        cmocka_unit_test(test_a_waiter_that_gives_up_eats_no_signal),
        cmocka_unit_test(test_broadcast_from_a_thread_reaches_all),
        cmocka_unit_test(test_cancel_reaches_all_and_the_mutex_is_held),
        cmocka_unit_test(test_deadline_in_the_past_and_scope_that_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
