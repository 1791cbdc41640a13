/* pool_test.c - records are made once, come back with what they held, and are nobody else's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/pool.h"
#include "sys/sys.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { CHUNK = 8, MANY = 3 * CHUNK, THREADS = 4, ROUNDS = 20000 };

struct record {
    int made, used;
    struct record *next;
};

static int refused_calls;
static int no_map(const char *call)
{
    bool hit = !strcmp(call, "mmap");
    refused_calls += hit;
    return hit ? -ENOMEM : 0;
}

static void made(void *record) { ((struct record *)record)->made++; }
static struct fen__pool pool = FEN__POOL(struct record, next, CHUNK, made);
static struct fen__pool empty = FEN__POOL(struct record, next, CHUNK, NULL);

static void records_are_made_once_and_keep_what_they_hold(void **state)
{
    (void)state;
    struct record *r[MANY];
    for (int i = 0; i < MANY; i++) {
        r[i] = fen__pool_get(&pool);
        assert_non_null(r[i]);
        assert_int_equal(r[i]->made, 1);
        assert_int_equal(r[i]->used, 0); /* nobody has it yet */
        r[i]->used = i + 1;
    }
    for (int i = 0; i < MANY; i++)
        fen__pool_put(&pool, r[i]);
    for (int i = MANY - 1; i >= 0; i--) { /* the last one first: it is warm */
        struct record *again = fen__pool_get(&pool);
        assert_ptr_equal(again, r[i]);
        assert_int_equal(again->made, 1);
        assert_int_equal(again->used, i + 1);
        again->used = 0;
    }
    for (int i = 0; i < MANY; i++)
        fen__pool_put(&pool, r[i]);
}

static void without_memory_there_is_none(void **state)
{
    (void)state;
    fen__sys_fault = no_map;
    assert_null(fen__pool_get(&empty));
    fen__sys_fault = NULL;
    assert_int_equal(refused_calls, 1);
    struct record *r = fen__pool_get(&empty);
    assert_non_null(r);
    fen__pool_put(&empty, r);
}

/* NULL: nothing was wrong. */
static void *get_and_put(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct record *r = fen__pool_get(&pool);
        if (!r || r->used++) /* plain: TSan sees two owners too */
            return arg;
        r->used = 0;
        fen__pool_put(&pool, r);
    }
    return NULL;
}

static void a_record_has_one_owner(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, get_and_put, t), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(t[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_made_once_and_keep_what_they_hold),
        cmocka_unit_test(without_memory_there_is_none),
        cmocka_unit_test(a_record_has_one_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
