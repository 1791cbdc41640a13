/* arena_test.c - blocks of an arena: where they lie, what is counted, what a reset keeps, who
 * pays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/mem.h"
#include "sys/sys.h"

#include <fen/arena.h>
#include <fen/mem.h>

#include <stdlib.h>
#include <string.h>

#define MOST 4096

static struct {
    unsigned char *p;
    size_t n;
} blocks[MOST];

/* Every block keeps what was written to it, at its place, and none overlaps another. */
static void blocks_are_apart(void **state)
{
    (void)state;
    fen_arena *a = fen_arena_new();
    uint32_t x = 1;
    size_t sum = 0;
    for (int i = 0; i < MOST; i++) {
        x = x * 1664525 + 1013904223;
        size_t n = i % 97 == 96 ? 4000 + (x >> 18) : (x >> 24);
        blocks[i].p = fen_arena_alloc(a, n);
        blocks[i].n = n;
        assert_non_null(blocks[i].p);
        assert_int_equal((uintptr_t)blocks[i].p % FEN_ARENA_ALIGN, 0);
        memset(blocks[i].p, i & 0xff, n);
        sum += (n + 15) / 16 * 16;
        assert_true(fen_arena_used_bytes(a) >= sum); /* 0 bytes at a chunk's end take 16 */
        assert_true(fen_arena_used_bytes(a) <= sum + 16 * (size_t)i + 16);
        assert_true(fen_arena_held_bytes(a) >= fen_arena_used_bytes(a));
    }
    for (int i = 0; i < MOST; i++)
        for (size_t k = 0; k < blocks[i].n; k++)
            assert_int_equal(blocks[i].p[k], i & 0xff);
    fen_arena_free(a);
    fen_arena_free(NULL);
}

static void sizes_at_the_edges(void **state)
{
    (void)state;
    fen_arena *a = fen_arena_new();
    assert_int_equal(fen_arena_held_bytes(a), 0);
    assert_int_equal(fen_arena_used_bytes(a), 0);
    void *none = fen_arena_alloc(a, 0), *one;
    assert_non_null(none); /* also before the first chunk */
    assert_non_null((one = fen_arena_alloc(a, 1)));
    assert_int_equal((uintptr_t)one % 16, 0);
    assert_null(fen_arena_alloc(a, SIZE_MAX));
    assert_null(fen_arena_alloc(a, SIZE_MAX - 14)); /* rounded up it is 0 */
    assert_null(fen_arena_alloc(a, SIZE_MAX / 2 + 1));
    assert_null(fen_arena_dup(a, "abc", SIZE_MAX));
    size_t used = fen_arena_used_bytes(a);
    size_t rest = (size_t)(a->end - a->at);
    char *p = fen_arena_alloc(a, rest); /* fits to the last byte */
    assert_non_null(p);
    assert_ptr_equal(p + rest, a->end);
    assert_int_equal(fen_arena_used_bytes(a), used + rest);
    size_t held = fen_arena_held_bytes(a);
    assert_non_null(fen_arena_alloc(a, 1));
    assert_int_equal(fen_arena_held_bytes(a), 2 * held);
    fen_arena_free(a);
}

static void a_reset_keeps_one_chunk(void **state)
{
    (void)state;
    int64_t live = fen__mem_live_bytes();
    fen_arena *a = fen_arena_new();
    char *first = fen_arena_alloc(a, 100);
    size_t chunk = fen_arena_held_bytes(a);
    char *big = fen_arena_alloc(a, 4 * chunk); /* a chunk of its own, the small one goes on */
    assert_non_null(big);
    assert_ptr_equal(fen_arena_alloc(a, 16), first + 112);
    assert_true(fen_arena_held_bytes(a) >= 5 * chunk);
    fen_arena_reset(a);
    assert_int_equal(fen_arena_held_bytes(a), chunk);
    assert_int_equal(fen_arena_used_bytes(a), 0);
    assert_ptr_equal(fen_arena_alloc(a, 100), first);
    for (int i = 0; i < 1000; i++)
        assert_non_null(fen_arena_alloc(a, 64));
    assert_int_equal(fen_arena_used_bytes(a), 112 + 64000);
    fen_arena_reset(a);
    assert_int_equal(fen_arena_held_bytes(a), chunk);
    fen_arena_free(a);
    a = fen_arena_new();
    big = fen_arena_alloc(a, 4 * chunk); /* alone: nothing to keep */
    assert_non_null(big);
    fen_arena_reset(a);
    assert_int_equal(fen_arena_held_bytes(a), 0);
    assert_non_null(fen_arena_alloc(a, 1));
    fen_arena_free(a);
    assert_int_equal(fen__mem_live_bytes(), live);
}

static int refuse(const char *call) { return !strcmp(call, "malloc"); }

static void without_memory(void **state)
{
    (void)state;
    fen_arena *a = fen_arena_new();
    assert_non_null(fen_arena_alloc(a, 16));
    size_t used = fen_arena_used_bytes(a), held = fen_arena_held_bytes(a);
    fen__sys_fault = refuse;
    assert_null(fen_arena_alloc(a, 4 * held));
    assert_non_null(fen_arena_alloc(a, 16)); /* there is room yet */
    fen__sys_fault = NULL;
    assert_int_equal(fen_arena_used_bytes(a), used + 16);
    assert_int_equal(fen_arena_held_bytes(a), held);
    fen_arena_free(a);
}

/* Chunks are billed to whoever allocates when they are taken, to the byte. */
static void chunks_are_billed(void **state)
{
    (void)state;
    fen_mem_usage u;
#ifdef FEN__ASAN
    skip(); /* there blocks are the C library's, which knows no accounts */
#endif
    assert_int_equal(fen_mem_account_set(9), 0);
    assert_int_equal(fen_mem_usage_get(9, &u), 0);
    int64_t before = u.live_bytes;
    fen_arena *a = fen_arena_new();
    assert_int_equal(fen_mem_usage_get(9, &u), 0);
    int64_t head = u.live_bytes - before;
    for (int i = 0; i < 5000; i++)
        assert_non_null(fen_arena_alloc(a, 48));
    assert_int_equal(fen_mem_usage_get(9, &u), 0);
    assert_int_equal(u.live_bytes - before - head, fen_arena_held_bytes(a));
    fen_arena_free(a);
    assert_int_equal(fen_mem_usage_get(9, &u), 0);
    assert_int_equal(u.live_bytes, before);
    assert_int_equal(fen_mem_account_set(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_apart),        cmocka_unit_test(sizes_at_the_edges),
        cmocka_unit_test(a_reset_keeps_one_chunk), cmocka_unit_test(without_memory),
        cmocka_unit_test(chunks_are_billed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
