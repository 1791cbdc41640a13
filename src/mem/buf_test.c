/* buf_test.c - appending to fixed, heap and arena buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/mem.h"
#include "sys/sys.h"

#include <fen/buf.h>

static void fixed_keeps_what_fits(void **state)
{
    (void)state;
    char room[8];
    fen_buf b = fen_buf_fixed(room, sizeof room);
    fen_buf_put_str(&b, "abcd");
    fen_buf_put_i64(&b, -123);
    assert_int_equal(b.err, 0);
    assert_int_equal(b.n, 8);
    assert_memory_equal(room, "abcd-123", 8);
    fen_buf_put(&b, NULL, 0);
    assert_int_equal(b.err, 0);
    fen_buf_put_char(&b, 'x');
    assert_int_equal(b.err, -ENOBUFS);
    assert_int_equal(b.n, 8);
    b.n = 0; /* room again, but the failure stays */
    fen_buf_put_char(&b, 'x');
    assert_int_equal(b.n, 0);
}

static void numbers(void **state)
{
    (void)state;
    char room[128];
    fen_buf b = fen_buf_fixed(room, sizeof room);
    fen_buf_put_i64(&b, 0);
    fen_buf_put_char(&b, ' ');
    fen_buf_put_i64(&b, INT64_MIN);
    fen_buf_put_char(&b, ' ');
    fen_buf_put_i64(&b, INT64_MAX);
    fen_buf_put_char(&b, ' ');
    fen_buf_put_u64(&b, UINT64_MAX);
    fen_buf_put_char(&b, 0);
    assert_string_equal(room, "0 -9223372036854775808 9223372036854775807 18446744073709551615");
}

static void grow_one(fen_buf *b)
{
    for (int i = 0; i < 5000; i++)
        fen_buf_put_u64(b, (uint64_t)(i % 10));
    assert_int_equal(b->err, 0);
    assert_int_equal(b->n, 5000);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(b->p[i], '0' + i % 10);
}

static void heap_grows_and_gives_back(void **state)
{
    (void)state;
    int64_t before = fen__mem_live_bytes();
    fen_buf b = fen_buf_heap();
    grow_one(&b);
    assert_true(fen__mem_live_bytes() - before >= 5000);
    fen_buf_free(&b);
    assert_int_equal(fen__mem_live_bytes(), before);
    fen_buf_put_char(&b, 'y');
    assert_int_equal(b.n, 1);
    fen_buf_free(&b);
}

static void arena_grows(void **state)
{
    (void)state;
    fen_arena *a = fen_arena_new();
    fen_buf b = fen_buf_arena(a);
    grow_one(&b);
    fen_arena_free(a);
}

static int no_memory(const char *call) { return call[0] == 'm' ? -ENOMEM : 0; }

static void out_of_memory_is_kept(void **state)
{
    (void)state;
    fen_buf b = fen_buf_heap();
    fen_buf_put_str(&b, "kept");
    fen__sys_fault = no_memory;
    assert_int_equal(fen_buf_reserve(&b, 1000), -ENOMEM);
    fen__sys_fault = NULL;
    fen_buf_put_str(&b, "late");
    assert_int_equal(b.err, -ENOMEM);
    assert_int_equal(b.n, 4);
    assert_int_equal(fen_buf_reserve(&b, SIZE_MAX), -ENOMEM);
    fen_buf_free(&b);
    assert_int_equal(fen_buf_reserve(&b, SIZE_MAX), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_keeps_what_fits),     cmocka_unit_test(numbers),
        cmocka_unit_test(heap_grows_and_gives_back), cmocka_unit_test(arena_grows),
        cmocka_unit_test(out_of_memory_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
