/* coroutine_test.c - contexts: values across switches, nesting, ends and early ends. */
#include <fen/context.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct counter {
    fen_context *c;
    int value, end;
    double third;
};

static void count(void *arg)
{
    struct counter *k = arg;
    volatile double third = 1.0 / 3; /* lives across switches */
    for (; k->value < k->end; k->value++)
        fen_context_suspend(k->c);
    k->third = third;
}

static void it_counts_and_ends(void **state)
{
    (void)state;
    struct counter k = {.end = 3};
    assert_int_equal(fen_context_new(0, count, &k, &k.c), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(fen_context_resume(k.c));
        assert_int_equal(k.value, i);
    }
    assert_false(fen_context_resume(k.c));
    assert_true(k.third == 1.0 / 3);
    assert_false(fen_context_resume(k.c)); /* ended stays ended */
    fen_context_free(k.c);
}

/* One context resumes another: each returns to its own caller. */
static void nest(void *arg)
{
    struct counter *outer = arg, inner = {.end = 2};
    assert_int_equal(fen_context_new(32 << 10, count, &inner, &inner.c), 0);
    while (fen_context_resume(inner.c)) {
        outer->value++;
        fen_context_suspend(outer->c);
    }
    fen_context_free(inner.c);
}

static void they_nest(void **state)
{
    (void)state;
    struct counter k = {0};
    assert_int_equal(fen_context_new(128 << 10, nest, &k, &k.c), 0);
    int resumed = 0;
    while (fen_context_resume(k.c))
        resumed++;
    assert_int_equal(resumed, 2);
    assert_int_equal(k.value, 2);
    fen_context_free(k.c);
}

/* A suspended one is dropped as it stands. */
static void freed_while_suspended(void **state)
{
    (void)state;
    struct counter k = {.end = 3};
    assert_int_equal(fen_context_new(0, count, &k, &k.c), 0);
    assert_true(fen_context_resume(k.c));
    fen_context_free(k.c);
    fen_context_free(NULL);
    assert_int_equal(fen_context_new(9 << 20, count, &k, &k.c), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_counts_and_ends),
        cmocka_unit_test(they_nest),
        cmocka_unit_test(freed_while_suspended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
