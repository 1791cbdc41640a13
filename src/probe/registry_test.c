/* registry_test.c - workers that come and go lose no work, and readers may look at any time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "probe/tally.h"
#include "sys/sys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void add_up(const struct fen__tally *t, void *arg)
{
    int64_t *sum = arg;
    sum[0] += fen__count_read(&t->switches);
    for (uint32_t c = 0; c < FEN__ROWS_MAX / FEN__ROW_CHUNK; c++) {
        const struct fen__row *rows = fen__tally_chunk(t, c);
        for (uint32_t r = 0; rows && r < FEN__ROW_CHUNK; r++)
            sum[1] += fen__count_read(&rows[r].requests);
    }
    sum[2]++;
}

static void what_the_dead_counted_stays(void **state)
{
    (void)state;
    static struct fen__tally a, b;
    assert_int_equal(fen__tally_register(&a), 0);
    assert_int_equal(fen__tally_register(&b), 0);
    for (int round = 1; round <= 3; round++) {
        fen__count_add(&a.switches, 5);
        fen__count_add(&b.switches, 1);
        fen__count_add(&fen__tally_row(&a, 4095)->requests, 7);
        fen__count_add(&fen__tally_row(&a, 1)->requests, 2);
        fen__tally_unregister(&a);
        assert_null(a.rows[0]);
        int64_t sum[3] = {0};
        fen__tally_each(add_up, sum);
        assert_int_equal(sum[0], 6 * round);
        assert_int_equal(sum[1], 9 * round);
        assert_int_equal(sum[2], 2);
        memset(&a, 0, sizeof a);
        assert_int_equal(fen__tally_register(&a), 0);
    }
    fen__tally_unregister(&a);
    fen__tally_unregister(&b);
}

static int no_memory(const char *call) { return call[0] == 'm' ? -ENOMEM : 0; }

static void without_memory_work_goes_to_account_0(void **state)
{
    (void)state;
    static struct fen__tally t;
    fen__sys_fault = no_memory;
    assert_int_equal(fen__tally_register(&t), -ENOMEM);
    fen__sys_fault = NULL;
    assert_int_equal(fen__tally_register(&t), 0);
    fen__sys_fault = no_memory;
    struct fen__row *row = fen__tally_row(&t, 3000);
    fen__sys_fault = NULL;
    assert_ptr_equal(row, fen__tally_row(&t, 0));
    assert_int_equal(fen__count_read(&t.rows_refused), 1);
    assert_ptr_not_equal(fen__tally_row(&t, 3000), row);
    fen__tally_unregister(&t);
}

#define THREADS 8
#define ROUNDS 40
#define ADDS 50

static void *worker(void *arg)
{
    uint32_t at = *(uint32_t *)arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct fen__tally *t = calloc(1, sizeof *t);
        fen_assert(t && fen__tally_register(t) == 0);
        for (uint32_t k = 0; k < ADDS; k++) {
            fen__count_add(&t->switches, 1);
            fen__count_add(&fen__tally_row(t, (at + k * 64) % FEN__ROWS_MAX)->requests, 1);
        }
        fen__tally_unregister(t);
        free(t); /* a reader that still looked would be seen by the sanitizers */
    }
    return NULL;
}

static void no_work_is_lost_while_workers_come_and_go(void **state)
{
    (void)state;
    int64_t before[3] = {0}, last[3] = {0}, now[3];
    fen__tally_each(add_up, before);
    pthread_t thread[THREADS];
    uint32_t at[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        at[i] = i;
        assert_int_equal(pthread_create(&thread[i], NULL, worker, &at[i]), 0);
    }
    for (int i = 0; i < 200; i++) {
        now[0] = now[1] = now[2] = 0;
        fen__tally_each(add_up, now);
        assert_true(now[0] >= last[0] && now[1] >= last[1]);
        last[0] = now[0];
        last[1] = now[1];
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    now[0] = now[1] = now[2] = 0;
    fen__tally_each(add_up, now);
    assert_int_equal(now[0] - before[0], THREADS * ROUNDS * ADDS);
    assert_int_equal(now[1] - before[1], THREADS * ROUNDS * ADDS);
    assert_int_equal(now[2], 1);
}

static void more_workers_than_the_limit_are_refused(void **state)
{
    (void)state;
    static struct fen__tally held[FEN__TALLIES_MAX], more;
    for (uint32_t i = 0; i < FEN__TALLIES_MAX; i++)
        assert_int_equal(fen__tally_register(&held[i]), 0);
    assert_int_equal(fen__tally_register(&more), FEN_ELIMIT);
    assert_null(more.rows[0]);
    for (uint32_t i = 0; i < FEN__TALLIES_MAX; i++)
        fen__tally_unregister(&held[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_dead_counted_stays),
        cmocka_unit_test(without_memory_work_goes_to_account_0),
        cmocka_unit_test(no_work_is_lost_while_workers_come_and_go),
        cmocka_unit_test(more_workers_than_the_limit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
