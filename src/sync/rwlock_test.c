/* rwlock_test.c - many readers or one writer, nobody starves, who gives up is not waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include <fen/sync.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

static fen_rwlock lock;
static _Atomic int readers, writers, done;
static int64_t plain;

/* Ends only if all of them are inside together. */
static void meet_inside(void *arg)
{
    (void)arg;
    assert_int_equal(fen_rwlock_read_lock(&lock), 0);
    atomic_fetch_add(&done, 1);
    wait_for(&done, 10);
    fen_rwlock_read_unlock(&lock);
}

static int together(void *arg)
{
    (void)arg;
    done = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_go(meet_inside, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_rwlock_fini(&lock);
    return 0;
}

static void test_readers_are_inside_together(void **state)
{
    (void)state;
    run_on_all(together, NULL);
}

static void use(void *arg)
{
    intptr_t me = (intptr_t)arg;
    for (int i = 0; i < 100; i++) {
        if ((i + me) % 4 == 0) {
            assert_int_equal(fen_rwlock_write_lock(&lock), 0);
            assert_int_equal(atomic_fetch_add(&writers, 1), 0);
            assert_int_equal(readers, 0);
            plain++;
            if (i % 8 == 0)
                fen_yield();
            atomic_fetch_sub(&writers, 1);
            fen_rwlock_write_unlock(&lock);
        } else {
            assert_int_equal(fen_rwlock_read_lock(&lock), 0);
            atomic_fetch_add(&readers, 1);
            assert_int_equal(writers, 0);
            if (i % 8 == 1)
                fen_yield();
            atomic_fetch_sub(&readers, 1);
            fen_rwlock_read_unlock(&lock);
        }
    }
}

static int storm(void *arg)
{
    (void)arg;
    plain = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < 20; i++)
        assert_int_equal(fen_go(use, (void *)i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(plain, 20 * 25);
    fen_rwlock_fini(&lock);
    return 0;
}

static void test_one_writer_or_many_readers(void **state)
{
    (void)state;
    run_on_all(storm, NULL);
}

static char order[16];

static void note(char c)
{
    size_t n = strlen(order);
    order[n] = c;
    order[n + 1] = 0;
}

static void read_note(void *c)
{
    assert_int_equal(fen_rwlock_read_lock(&lock), 0);
    note(*(char *)c);
    fen_yield();
    fen_rwlock_read_unlock(&lock);
}

static void write_note(void *c)
{
    assert_int_equal(fen_rwlock_write_lock(&lock), 0);
    note(*(char *)c);
    fen_yield();
    fen_rwlock_write_unlock(&lock);
}

/* While one reads: a writer, a reader and a writer come. */
static int phases(void *arg)
{
    (void)arg;
    order[0] = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_rwlock_read_lock(&lock), 0);
    assert_int_equal(fen_go(write_note, "1"), 0);
    let_wait();
    assert_int_equal(fen_rwlock_try_read_lock(&lock), -EAGAIN); /* a writer waits */
    assert_int_equal(fen_rwlock_try_write_lock(&lock), -EAGAIN);
    assert_int_equal(fen_go(write_note, "2"), 0);
    let_wait();
    assert_int_equal(fen_go(read_note, "r"), 0);
    let_wait();
    fen_rwlock_read_unlock(&lock);
    assert_int_equal(fen_scope_close(s), 0);
    assert_string_equal(order, "1r2");
    fen_rwlock_fini(&lock);
    return 0;
}

static void test_readers_and_writers_take_turns(void **state)
{
    (void)state;
    run_on(1, phases, NULL);
}

static void read_on_and_on(void *arg)
{
    (void)arg;
    while (!done) {
        assert_int_equal(fen_rwlock_read_lock(&lock), 0);
        fen_yield();
        fen_rwlock_read_unlock(&lock);
    }
}

static void write_on_and_on(void *arg)
{
    (void)arg;
    while (!done) {
        assert_int_equal(fen_rwlock_write_lock(&lock), 0);
        fen_yield();
        fen_rwlock_write_unlock(&lock);
    }
}

static int beside(void *arg)
{
    bool write = arg != NULL;
    done = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fen_go(write ? read_on_and_on : write_on_and_on, NULL), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(write ? fen_rwlock_write_lock(&lock) : fen_rwlock_read_lock(&lock), 0);
        if (write)
            fen_rwlock_write_unlock(&lock);
        else
            fen_rwlock_read_unlock(&lock);
    }
    done = 1;
    assert_int_equal(fen_scope_close(s), 0);
    fen_rwlock_fini(&lock);
    return 0;
}

static void test_nobody_starves(void **state)
{
    (void)state;
    run_on_all(beside, "write");
    run_on_all(beside, NULL);
}

static void read_and_stay(void *arg)
{
    (void)arg;
    assert_int_equal(fen_rwlock_read_lock(&lock), 0);
    atomic_fetch_add(&done, 1);
    fen_rwlock_read_unlock(&lock);
}

static void write_in_vain(void *scope)
{
    int64_t deadline = scope ? FEN_NEVER : fen_now() + 20 * FEN_MS;
    assert_int_equal(fen_rwlock_write_lock_until(&lock, deadline), scope ? -ECANCELED : -ETIMEDOUT);
}

/* A writer that gives up lets in the readers that waited only for it. */
static int give_up(void *cancel)
{
    done = 0;
    fen_scope *all = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_rwlock_read_lock(&lock), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(write_in_vain, cancel ? s : NULL), 0);
    let_wait();
    assert_int_equal(fen_go_detached("reader", read_and_stay, NULL), 0);
    let_wait();
    if (cancel)
        fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), cancel ? -ECANCELED : 0);
    wait_for(&done, 1); /* while we read still */
    fen_rwlock_read_unlock(&lock);
    assert_int_equal(fen_scope_close(all), 0);
    fen_rwlock_fini(&lock);
    return 0;
}

static void test_a_writer_that_gives_up_lets_the_readers_in(void **state)
{
    (void)state;
    run_on_all(give_up, NULL);
    run_on_all(give_up, "cancel");
}

static int forms(void *arg)
{
    (void)arg;
    assert_int_equal(fen_rwlock_try_write_lock(&lock), 0);
    assert_int_equal(fen_rwlock_read_lock_until(&lock, fen_now() + 2 * FEN_MS), -ETIMEDOUT);
    assert_int_equal(fen_rwlock_read_lock_until(&lock, 1), -ETIMEDOUT); /* long past */
    assert_int_equal(fen_rwlock_write_lock_until(&lock, fen_now() + 2 * FEN_MS), -ETIMEDOUT);
    fen_rwlock_write_unlock(&lock);
    assert_int_equal(fen_rwlock_read_lock_until(&lock, 1), 0); /* nothing to wait for */
    assert_int_equal(fen_rwlock_try_read_lock(&lock), 0);
    fen_rwlock_read_unlock(&lock);
    fen_rwlock_read_unlock(&lock);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_scope_cancel(s);
    assert_int_equal(fen_rwlock_write_lock(&lock), 0); /* what need not wait succeeds */
    fen_rwlock_write_unlock(&lock);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    fen_rwlock_fini(&lock);
    return 0;
}

static void *from_a_thread(void *arg)
{
    (void)arg;
    assert_int_equal(fen_rwlock_read_lock(&lock), 0);
    assert_int_equal(fen_rwlock_write_lock_until(&lock, fen_now() + FEN_MS), -ETIMEDOUT);
    fen_rwlock_read_unlock(&lock);
    assert_int_equal(fen_rwlock_write_lock(&lock), 0);
    fen_rwlock_write_unlock(&lock);
    assert_int_equal(fen_rwlock_try_write_lock(&lock), 0);
    fen_rwlock_write_unlock(&lock);
    return NULL;
}

static void test_three_forms(void **state)
{
    (void)state;
    run_on_all(forms, NULL);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, from_a_thread, NULL), 0);
    pthread_join(t, NULL);
}

static void impatient(void *arg)
{
    unsigned x = (unsigned)(intptr_t)arg;
    for (int i = 0; i < 60; i++) {
        x = x * 1103515245 + 12345;
        bool write = x >> 16 & 1;
        int64_t d = fen_now() + (x >> 17) % 100 * FEN_US;
        int rc =
            write ? fen_rwlock_write_lock_until(&lock, d) : fen_rwlock_read_lock_until(&lock, d);
        if (rc) {
            assert_int_equal(rc, -ETIMEDOUT);
            continue;
        }
        assert_int_equal(write ? readers : 0, 0);
        assert_int_equal(atomic_fetch_add(write ? &writers : &readers, 1) && write, 0);
        if (x >> 20 & 1)
            assert_int_equal(fen_sleep(20 * FEN_US), 0);
        atomic_fetch_sub(write ? &writers : &readers, 1);
        if (write)
            fen_rwlock_write_unlock(&lock);
        else
            fen_rwlock_read_unlock(&lock);
    }
}

static int impatience(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < 16; i++)
        assert_int_equal(fen_go(impatient, (void *)i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(fen_rwlock_try_write_lock(&lock), 0);
    fen_rwlock_write_unlock(&lock);
    fen_rwlock_fini(&lock);
    return 0;
}

static void test_deadlines_that_race_with_the_handing_over(void **state)
{
    (void)state;
    run_on_all(impatience, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_are_inside_together),
        cmocka_unit_test(test_one_writer_or_many_readers),
        cmocka_unit_test(test_readers_and_writers_take_turns),
        cmocka_unit_test(test_nobody_starves),
        cmocka_unit_test(test_a_writer_that_gives_up_lets_the_readers_in),
        cmocka_unit_test(test_three_forms),
        cmocka_unit_test(test_deadlines_that_race_with_the_handing_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
