/* hooks_test.c - rooms that are asked to let go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/heap_int.h"

#include <pthread.h>

struct kept {
    struct fen__reclaim_hook hook;
    int calls, alls;
    _Atomic int inside;
    bool slow;
};

static size_t let_go(struct fen__reclaim_hook *h, bool all)
{
    struct kept *k = (struct kept *)h;
    assert_int_equal(atomic_fetch_add(&k->inside, 1), 0);
    if (k->slow)
        fen__sys_nap(20 * FEN_MS);
    k->calls++;
    k->alls += all;
    atomic_fetch_sub(&k->inside, 1);
    return 10;
}

static void count(void *arg) { ++*(int *)arg; }

static void all_are_asked(void **state)
{
    (void)state;
    static struct kept k[3];
    int between = 0;
    for (int i = 0; i < 3; i++) {
        k[i].hook.fn = let_go;
        fen__reclaim_register(&k[i].hook);
    }
    assert_int_equal(fen__hooks_call(FEN__HOOKS_AGED, count, &between), 30);
    assert_int_equal(between, 3);
    fen__reclaim_unregister(&k[1].hook);
    assert_int_equal(fen__hooks_call(FEN__HOOKS_ALL, NULL, NULL), 20);
    assert_int_equal(k[0].calls, 2);
    assert_int_equal(k[0].alls, 1);
    assert_int_equal(k[1].calls, 1);
    (void)fen_mem_reclaim();
    assert_int_equal(k[2].alls, 2);
    fen__reclaim_unregister(&k[0].hook);
    fen__reclaim_unregister(&k[2].hook);
    fen__reclaim_unregister(&k[2].hook); /* it is not there: nothing happens */
    assert_int_equal(fen__hooks_call(FEN__HOOKS_ALL, NULL, NULL), 0);
}

static void *call_them(void *arg)
{
    (void)arg;
    (void)fen__hooks_call(FEN__HOOKS_ALL, NULL, NULL);
    return NULL;
}

static void taking_one_out_waits_for_it(void **state)
{
    (void)state;
    static struct kept k = {.hook.fn = let_go, .slow = true};
    pthread_t t;
    fen__reclaim_register(&k.hook);
    assert_int_equal(pthread_create(&t, NULL, call_them, NULL), 0);
    while (!atomic_load(&k.inside))
        fen__sys_nap(FEN_MS / 10);
    assert_int_equal(fen__hooks_call(FEN__HOOKS_ALL, NULL, NULL), 0); /* they are being asked */
    fen__reclaim_unregister(&k.hook);
    assert_int_equal(atomic_load(&k.inside), 0);
    assert_int_equal(k.calls, 1);
    pthread_join(t, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_asked),
        cmocka_unit_test(taking_one_out_waits_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
