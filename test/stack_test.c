/* stack_test.c - stacks that came back: what nobody takes for a while gives its pages back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber/fiber.h"
#include "mem/heap_int.h"

#include <sys/mman.h>

#define N 300
#define BEGIN (100 * FEN_S)

static struct fen__stack s[N];

/* Does the uppermost page of that stack hold memory? */
static bool resident(const struct fen__stack *k)
{
    unsigned char in = 0;
    size_t page = fen__sys_page_bytes();
    assert_int_equal(mincore(k->low + k->bytes - page, page, &in), 0);
    return in & 1;
}

static int count_resident(void)
{
    int n = 0;
    for (int i = 0; i < N; i++)
        n += resident(&s[i]);
    return n;
}

static void take(struct fen__stack *to, uint32_t n)
{
    for (uint32_t got; n; n -= got, to += got)
        assert_true((got = fen__stack_take(to, n)) > 0);
}

static void take_and_use_all(void)
{
    take(s, N);
    for (int i = 0; i < N; i++)
        *(char *)(s[i].low + s[i].bytes - 1) = 1;
}

static int open_with(enum fen_guard guard)
{
    fen__sys_virtual_set(BEGIN);
    int rc = fen__stack_init(guard, 0);
    assert_int_equal(fen__stack_reserve(N), rc);
    return rc;
}

static int open_pool(void **state)
{
    (void)state;
    return open_with(FEN_GUARD_AUTO);
}

static int open_canary(void **state)
{
    (void)state;
    return open_with(FEN_GUARD_CANARY);
}

static int close_pool(void **state)
{
    (void)state;
    fen__stack_unreserve(N);
    fen__stack_fini();
    fen__sys_virtual_set(0);
    return 0;
}

static void count(void *arg) { ++*(int *)arg; }

static int ask(enum fen__hooks which, double at_s)
{
    int slices = 0;
    fen__sys_virtual_set(BEGIN + (int64_t)(at_s * (double)FEN_S));
    (void)fen__hooks_call(which, count, &slices);
    return slices;
}

static void what_nobody_takes_goes_back_in_slices(void **state)
{
    (void)state;
    take_and_use_all();
    fen__stack_give(s, N);
    (void)ask(FEN__HOOKS_AGED, 1); /* a reclaim that the heap wanted */
    assert_int_equal(count_resident(), N);
    assert_true(ask(FEN__HOOKS_TIMED, 2) >= N / 64);
    assert_int_equal(count_resident(), 0);
    assert_int_equal(ask(FEN__HOOKS_TIMED, 4), 1); /* nothing to do */
    take_and_use_all();                            /* each of them is there, once */
    for (int i = 0; i < N; i++)
        for (int k = 0; k < i; k++)
            assert_true(s[i].slot != s[k].slot);
    fen__stack_give(s, N);
}

static void what_is_in_use_now_and_then_stays(void **state)
{
    (void)state;
    struct fen__stack hot[100];
    take_and_use_all();
    fen__stack_give(s, N);
    for (int i = 0; i < 3; i++) { /* the last ones, and they come back */
        take(hot, 100);
        fen__stack_give(hot, 100);
    }
    (void)ask(FEN__HOOKS_TIMED, 2);
    assert_int_equal(count_resident(), 100);
    for (int i = 0; i < 100; i++)
        assert_true(resident(&hot[i]));
    take(hot, 40);
    fen__stack_give(hot, 40);
    (void)ask(FEN__HOOKS_TIMED, 4);
    assert_int_equal(count_resident(), 40);
    (void)ask(FEN__HOOKS_TIMED, 6);
    assert_int_equal(count_resident(), 0);
}

static void near_the_limit_all_go_at_once(void **state)
{
    (void)state;
    take_and_use_all();
    fen__stack_give(s, N);
    (void)ask(FEN__HOOKS_ALL, 0);
    assert_int_equal(count_resident(), 0);
}

/* Those who have reserved every slot still get theirs, and what they do not use goes back. */
static void reserved_slots_go_back_too(void **state)
{
    (void)state;
    struct fen__stack rest[64];
    take_and_use_all();
    fen__stack_give(s, N);
    assert_int_equal(fen__stack_reserve(5 * 64 - N), 0); /* of the slab that was begun */
    assert_int_equal(fen__stack_mapped_bytes(), 5 * 64 * (int64_t)s[0].bytes);
    (void)ask(FEN__HOOKS_TIMED, 2);
    assert_int_equal(count_resident(), 0);
    take(s, N);
    take(rest, 5 * 64 - N);
    fen__stack_give(rest, 5 * 64 - N);
    fen__stack_give(s, N);
    fen__stack_unreserve(5 * 64 - N);
}

static void the_canary_stays(void **state)
{
    (void)state;
    take_and_use_all();
    fen__stack_give(s, N);
    (void)ask(FEN__HOOKS_TIMED, 2);
    assert_int_equal(count_resident(), 0);
    for (int i = 0; i < N; i++)
        assert_true(s[i].canary && fen__stack_intact(&s[i]));
}

#define WITH(open, test) cmocka_unit_test_setup_teardown(test, open, close_pool)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(open_pool, what_nobody_takes_goes_back_in_slices),
        WITH(open_pool, what_is_in_use_now_and_then_stays),
        WITH(open_pool, near_the_limit_all_go_at_once),
        WITH(open_pool, reserved_slots_go_back_too),
        WITH(open_canary, the_canary_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
