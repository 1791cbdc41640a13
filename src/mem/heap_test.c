/* heap_test.c - the heap on one thread: classes, alignment, resizing, what goes back, misuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/heap_int.h"

#include <fen/mem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void the_table_is_the_generator_s(void **state)
{
    (void)state;
    if (system("command -v python3 >/dev/null"))
        skip();
    assert_int_equal(chdir(getenv("FEN_SOURCE_DIR")), 0);
    assert_int_equal(system("python3 tools/size_classes.py --check >/dev/null"), 0);
}

static void every_size_gets_the_smallest_class(void **state)
{
    (void)state;
    for (size_t n = 0; n <= FEN__SMALL_MAX; n++) {
        uint32_t k = fen__class_of(n);
        assert_true(fen__classes[k].bytes >= n);
        assert_true(k == 0 || fen__classes[k - 1].bytes < n);
        if (n > 128)
            assert_true((fen__classes[k].bytes - n) * 8 <= fen__classes[k].bytes);
    }
    for (uint32_t k = 0; k < FEN__CLASSES; k++) {
        struct fen__span s = {.base = (char *)&s,
                              .bytes = fen__classes[k].bytes,
                              .recip = fen__classes[k].recip,
                              .blocks = fen__classes[k].blocks};
        size_t span = (size_t)fen__classes[k].pages * FEN__PAGE_BYTES;
        assert_true(s.blocks * s.bytes <= span);
        for (size_t off = 0; off < span; off++) {
            bool start = off % s.bytes == 0 && off / s.bytes < s.blocks;
            if (fen__block_number(&s, s.base + off) != (start ? off / s.bytes : UINT32_MAX))
                fail_msg("class %u, offset %zu", k, off);
        }
    }
}

#define BLOCKS 3000

static size_t any_size(uint64_t *seed)
{
    uint64_t r = fen__rand(seed);
    unsigned shift = (unsigned)(r % 20);
    return (size_t)(fen__rand(seed) % (UINT64_C(2) << shift));
}

static void blocks_do_not_overlap_and_keep_their_bytes(void **state)
{
    (void)state;
    static unsigned char *p[BLOCKS];
    static size_t n[BLOCKS];
    uint64_t seed = 4711;
    int64_t before = fen__ledger_live();
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < BLOCKS; i++) {
            if (fen__rand(&seed) % 3 == 0)
                continue;
            for (size_t k = 0; k < n[i]; k += k < 64 ? 1 : 997)
                assert_int_equal(p[i][k], (unsigned char)(i * 7 + (int)k));
            if (fen__rand(&seed) % 4 == 0 && p[i]) {
                size_t was = n[i], to = any_size(&seed);
                p[i] = fen__heap_realloc(p[i], to);
                for (size_t k = 0; k < was && k < to; k += k < 64 ? 1 : 997)
                    assert_int_equal(p[i][k], (unsigned char)(i * 7 + (int)k));
                n[i] = to;
            } else {
                fen__heap_free(p[i]);
                n[i] = any_size(&seed);
                p[i] = fen__heap_alloc(n[i]);
            }
            assert_non_null(p[i]);
            assert_true(fen__heap_usable(p[i]) >= n[i]);
            bool odd = n[i] <= 8 || (n[i] > 16 && n[i] <= 24);
            assert_int_equal((uintptr_t)p[i] % (odd ? 8 : 16), 0);
            for (size_t k = 0; k < n[i]; k += k < 64 ? 1 : 997)
                p[i][k] = (unsigned char)(i * 7 + (int)k);
        }
    int64_t live = 0;
    for (int i = 0; i < BLOCKS; i++)
        live += (int64_t)fen__heap_usable(p[i]);
    assert_int_equal(fen__ledger_live() - before, live);
    for (int i = 0; i < BLOCKS; i++)
        fen__heap_free(p[i]);
    assert_int_equal(fen__ledger_live(), before);
}

static void zeroed_means_zeroed(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 8, 24, 100, 4000, 32768, 32769, 200000, 1 << 20, 3 << 20};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < FEN__COUNT(sizes); i++) {
            unsigned char *p = fen__heap_zalloc(sizes[i]);
            assert_non_null(p);
            for (size_t k = 0; k < sizes[i]; k++)
                if (p[k])
                    fail_msg("byte %zu of %zu is %d", k, sizes[i], p[k]);
            memset(p, 0xEE, fen__heap_usable(p));
            fen__heap_free(p);
        }
}

static void alignment_is_kept_or_refused(void **state)
{
    (void)state;
    void *p = NULL;
    assert_int_equal(fen__heap_aligned(0, 10, &p), -EINVAL);
    assert_int_equal(fen__heap_aligned(24, 10, &p), -EINVAL);
    assert_null(p);
    for (size_t align = 1; align <= (size_t)16 << 20; align *= 2)
        for (size_t n = 0; n < (size_t)4 << 20; n = n * 3 + 1) {
            assert_int_equal(fen__heap_aligned(align, n, &p), 0);
            assert_int_equal((uintptr_t)p % align, 0);
            assert_true(fen__heap_usable(p) >= n);
            memset(p, 1, n);
            fen__heap_free(p);
        }
    assert_int_equal(fen__heap_aligned(16, SIZE_MAX - 10, &p), -ENOMEM);
    assert_int_equal(fen__heap_aligned((size_t)1 << 62, 10, &p), -ENOMEM);
}

static void what_cannot_be_had_is_null(void **state)
{
    (void)state;
    volatile size_t half = SIZE_MAX / 2 + 2; /* 2 * half wraps to 2 */
    int64_t before = fen__ledger_live();
    assert_null(fen_calloc(half, 2));
    assert_null(fen__heap_alloc(half));
    assert_null(fen__heap_alloc((size_t)1 << 60));
    char *p = fen__heap_alloc(100);
    assert_null(fen__heap_realloc(p, half));
    p[99] = 1;
    fen__heap_free(p);
    static const size_t large[] = {100000, 3000000}; /* a run, a map */
    for (size_t i = 0; i < FEN__COUNT(large); i++) {
        p = fen__heap_alloc(large[i]);
        size_t have = fen__heap_usable(p);
        for (size_t less = 0; less < 20000; less += 1000) /* some wrap to no page at all */
            assert_null(fen__heap_realloc(p, SIZE_MAX - less));
        assert_int_equal(fen__heap_usable(p), have);
        memset(p, 1, have);
        fen__heap_free(p);
    }
    assert_int_equal(fen__ledger_live(), before);
}

static void large_blocks_grow_where_they_are(void **state)
{
    (void)state;
    char *p = fen__heap_alloc(900000), *q;
    memset(p, 7, 100000);
    assert_ptr_equal(fen__heap_realloc(p, 100000), p);
    q = fen__heap_realloc(p, 300000); /* there is room behind it again */
    assert_ptr_equal(p, q);
    assert_int_equal(q[99999], 7);
    assert_ptr_equal(fen__heap_realloc(q, 120000), p);
    q = fen__heap_realloc(p, 5000000);
    assert_int_equal(q[0], 7);
    assert_int_equal(q[99999], 7);
    fen__heap_free(q);
}

static int64_t mapped_bytes(void)
{
    fen_mem_stats s;
    fen_mem_stats_get(&s);
    return s.mapped_bytes;
}

static void check_words(const size_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof *p; i += 509)
        assert_int_equal(p[i], i);
}

static void set_words(size_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof *p; i++)
        p[i] = i;
}

/* A map of its own keeps its pages, wherever it goes: nothing is copied, nothing is lost. */
static void maps_grow_and_shrink_by_their_pages(void **state)
{
    (void)state;
    enum { FIRST = 3 << 20 };
    int64_t before = fen__ledger_live(), mapped = mapped_bytes();
    size_t *p = fen__heap_alloc(FIRST), *q = NULL;
    set_words(p, FIRST);
    for (size_t n = FIRST; n < (size_t)200 << 20; n = n * 3 / 2) {
        size_t *was = p;
        void *between = fen__heap_alloc(2 << 20); /* so that some have no room behind them */
        p = fen__heap_realloc(p, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(fen__heap_usable(p) >= n);
        assert_int_equal(fen__ledger_live() - before,
                         (int64_t)(fen__heap_usable(p) + fen__heap_usable(between)));
        check_words(p, FIRST);
        ((char *)p)[n - 1] = 1;
        q = p != was ? was : q;
        fen__heap_free(between);
    }
    assert_non_null(q); /* it has moved at least once */
    p = fen__heap_realloc(p, FIRST + 100000);
    assert_int_equal(fen__heap_usable(p), FIRST + 106496);
    check_words(p, FIRST);
    assert_int_equal(fen__ledger_live() - before, FIRST + 106496);
    fen__heap_free(p);
    assert_int_equal(fen__ledger_live(), before);
    assert_int_equal(mapped_bytes(), mapped);
}

static int no_mremap(const char *call) { return strcmp(call, "mremap") ? 0 : -ENOMEM; }
static int no_mmap_either(const char *call)
{
    return strcmp(call, "mremap") && strcmp(call, "mmap") ? 0 : -ENOMEM;
}

static void maps_that_cannot_be_moved_are_copied_or_stay(void **state)
{
    (void)state;
    enum { FIRST = 3 << 20 };
    int64_t before = fen__ledger_live(), mapped = mapped_bytes();
    size_t *p = fen__heap_alloc(FIRST);
    set_words(p, FIRST);
    fen__sys_fault = no_mmap_either;
    assert_null(fen__heap_realloc(p, 2 * FIRST));
    check_words(p, FIRST);
    fen__sys_fault = no_mremap;
    p = fen__heap_realloc(p, 2 * FIRST);
    fen__sys_fault = NULL;
    assert_non_null(p);
    check_words(p, FIRST);
    assert_int_equal(fen__ledger_live() - before, fen__heap_usable(p));
    fen__heap_free(p);
    assert_int_equal(fen__ledger_live(), before);
    assert_int_equal(mapped_bytes(), mapped);
}

/* The kernel does not take locked memory back. */
static void zeroed_means_zeroed_in_locked_memory(void **state)
{
    (void)state;
    enum { BYTES = 900000, N = 400 };
    unsigned char *p[N];
    p[0] = fen__heap_alloc(BYTES);
    const unsigned char *was = p[0];
    bool again = false;
    memset(p[0], 0xEE, BYTES);
    if (mlock(was, BYTES)) {
        fen__heap_free(p[0]);
        skip();
    }
    fen__heap_free(p[0]);
    (void)fen_mem_reclaim();
    int n = 0;
    for (; n < N && !again; n++) { /* until the same pages come back */
        p[n] = fen__heap_zalloc(BYTES);
        again = p[n] <= was + BYTES / 2 && p[n] + BYTES > was + BYTES / 2;
        for (size_t k = 0; k < BYTES; k++)
            if (p[n][k])
                fail_msg("byte %zu is %d", k, p[n][k]);
    }
    assert_true(again);
    while (n)
        fen__heap_free(p[--n]);
    munlock(was, BYTES);
}

static void memory_goes_back_to_the_system(void **state)
{
    (void)state;
    enum { N = 20000 };
    static void *p[N];
    fen_mem_stats s;
    for (int i = 0; i < N; i++) {
        p[i] = fen__heap_alloc(2000);
        memset(p[i], 1, 2000);
    }
    for (int i = 0; i < N; i++)
        fen__heap_free(p[i]);
    fen_mem_stats_get(&s);
    assert_true(s.retained_bytes <= 5 << 20); /* of 40 MB */
    assert_true(s.returned_bytes > 30 << 20);
    fen_mem_reclaim();
    fen_mem_stats_get(&s);
    assert_int_equal(s.retained_bytes, 0);
    assert_true(s.held_bytes < 1 << 20);
    assert_int_equal(fen_mem_options_set(&(fen_mem_options){.retain_percent = 101}), -EINVAL);
    assert_int_equal(fen_mem_options_set(&(fen_mem_options){.retain_percent = -1}), 0);
    for (int i = 0; i < N; i++)
        p[i] = fen__heap_alloc(2000);
    for (int i = 0; i < N; i++)
        fen__heap_free(p[i]);
    fen_mem_stats_get(&s);
    assert_true(s.retained_bytes > 30 << 20);
    assert_int_equal(fen_mem_options_set(&(fen_mem_options){.retain_percent = 10}), 0);
}

static int fault_mmap(const char *call) { return strcmp(call, "mmap") ? 0 : -ENOMEM; }

/* Who has to wait for a central set is counted, and nobody else. */
static void *one_sweep(void *arg)
{
    (void)!fen__central_sweep(*(uint32_t *)arg, 1);
    return NULL;
}

static void waits_for_the_central_set_are_counted(void **state)
{
    (void)state;
    uint32_t bin = fen__class_of(9000);
    pthread_t t;
    fen_mem_class before, after;
    assert_int_equal(fen_mem_class_get(FEN_MEM_CLASSES, &before), -EINVAL);
    assert_int_equal(fen_mem_class_get(bin, &before), 0);
    one_sweep(&bin);
    assert_int_equal(fen_mem_class_get(bin, &after), 0);
    assert_int_equal(after.wait_ns, before.wait_ns);
    for (int i = 0; i < 50 && after.wait_ns == before.wait_ns; i++) { /* it may start late */
        fen__central_lock();
        assert_int_equal(pthread_create(&t, NULL, one_sweep, &bin), 0);
        fen__sys_nap(20 * FEN_MS);
        fen__central_unlock();
        pthread_join(t, NULL);
        assert_int_equal(fen_mem_class_get(bin, &after), 0);
    }
    assert_true(after.wait_ns > before.wait_ns);
    assert_true(after.wait_ns - before.wait_ns < 10 * FEN_S);
}

static void a_span_s_blocks_are_counted(void **state)
{
    (void)state;
    enum { N = 100 };
    void *p[N];
    fen_mem_class before, now;
    uint32_t bin = fen__class_of(7000);
    fen_mem_reclaim();
    assert_int_equal(fen_mem_class_get(bin, &before), 0);
    assert_int_equal(before.out_blocks, 0);
    assert_int_equal(before.spans, 0);
    for (int i = 0; i < N; i++)
        p[i] = fen__heap_alloc(7000);
    assert_int_equal(fen_mem_class_get(bin, &now), 0);
    assert_int_equal(now.block_bytes, (int64_t)fen__heap_usable(p[0]));
    assert_true(now.out_blocks >= N && now.out_blocks <= now.blocks);
    assert_int_equal(now.blocks, now.spans * fen__classes[bin].blocks);
    assert_true(now.refills > before.refills);
    for (int i = 0; i < N; i++)
        fen__heap_free(p[i]);
    fen_mem_reclaim();
    assert_int_equal(fen_mem_class_get(bin, &now), 0);
    assert_int_equal(now.out_blocks, 0);
    assert_int_equal(now.spans, 0);
}

static void without_memory_nothing_is_charged(void **state)
{
    (void)state;
    int64_t before = fen__ledger_live();
    fen_mem_reclaim();
    fen__sys_fault = fault_mmap;
    void *first = NULL, **last = NULL;
    int n = 0;
    for (void **p; n < 1 << 20 && (p = fen__heap_alloc(30000)); last = p, n++) {
        *p = last;
        first = p;
    }
    assert_true(n < 1 << 20);
    assert_null(fen__heap_alloc((size_t)8 << 20));
    fen__sys_fault = NULL;
    for (void **p = first; p; p = first) {
        first = *p;
        fen__heap_free(p);
    }
    assert_int_equal(fen__ledger_live(), before);
}

/* ---- misuse: each in a process of its own ---- */

static void double_free(void)
{
    char *p = fen__heap_alloc(64);
    void *q = fen__heap_alloc(64);
    fen__heap_free(p);
    fen__heap_free(q);
    fen__heap_free(p);
}

static void double_free_billed(void)
{
    char *p = fen__heap_alloc_for(3, 64);
    fen__heap_free(p);
    fen__heap_free(p);
}

static void middle_billed(void)
{
    char *p = fen__heap_alloc_for(3, 64);
    fen__heap_free(p + 16);
}

static void double_free_large(void)
{
    void *p = fen__heap_alloc(100000);
    fen__heap_free(p);
    fen__heap_free(p);
}

static void foreign(void)
{
    int here = 0;
    fen__heap_free(&here);
}

static void middle(void)
{
    char *p = fen__heap_alloc(100000);
    fen__heap_free(p + 64);
}

static void realloc_of_the_middle(void)
{
    char *p = fen__heap_alloc(400000);
    (void)!fen__heap_realloc(p + 8192, 400000);
}

static void realloc_of_the_middle_small(void)
{
    char *p = fen__heap_alloc(128);
    (void)!fen__heap_realloc(p + 16, 120);
}

static void realloc_of_freed(void)
{
    char *p = fen__heap_alloc(128);
    fen__heap_free(p);
    (void)!fen__heap_realloc(p, 120);
}

static void after_the_free_at_the_end(void)
{
    fen_mem_check(true);
    char *p = fen__heap_alloc(50);
    fen__heap_free(p);
    p[10] = 1;
    fen_mem_check(false);
}

static void past_the_end(void)
{
    fen_mem_check(true);
    char *p = fen__heap_alloc(50);
    p[50] = 1;
    fen__heap_free(p);
}

static void after_the_free(void)
{
    fen_mem_check(true);
    char *p = fen__heap_alloc(50);
    fen__heap_free(p);
    p[10] = 1;
    for (int i = 0; i < 3000; i++)
        fen__heap_free(fen__heap_alloc(50));
}

static void double_free_checked(void)
{
    fen_mem_check(true);
    char *p = fen__heap_alloc(50);
    fen__heap_free(p);
    fen__heap_free(p);
}

static void dies_with(void (*fn)(void), const char *words)
{
    int fds[2];
    char text[256] = "";
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (!pid) {
        dup2(fds[1], 2);
        fn();
        _exit(0);
    }
    close(fds[1]);
    ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && n > 0);
    if (!strstr(text, words))
        fail_msg("said '%s', not '%s'", text, words);
}

static void misuse_is_named(void **state)
{
    (void)state;
    dies_with(double_free, "double free: 0x");
    dies_with(double_free, "block of 64 bytes");
    dies_with(double_free_billed, "double free");
    dies_with(double_free_large, "not a block of this heap");
    dies_with(foreign, "not a block of this heap");
    dies_with(middle, "into the middle");
    dies_with(middle_billed, "into the middle");
    dies_with(realloc_of_the_middle, "realloc of a pointer into the middle");
    dies_with(realloc_of_the_middle_small, "realloc of a pointer into the middle");
    dies_with(realloc_of_freed, "realloc of a freed block");
    dies_with(after_the_free_at_the_end, "write to a freed block");
    dies_with(past_the_end, "past the end");
    dies_with(after_the_free, "write to a freed block");
    dies_with(double_free_checked, "double free");
}

static void checked_blocks_serve_like_others(void **state)
{
    (void)state;
    int64_t before = fen__ledger_live();
    static char *p[500];
    char *old = fen__heap_alloc(70);
    fen_mem_check(true);
    for (int i = 0; i < 500; i++) {
        p[i] = fen__heap_alloc((size_t)i * 70);
        assert_true(fen__heap_usable(p[i]) >= (size_t)i * 70);
        memset(p[i], 1, (size_t)i * 70);
    }
    for (int i = 0; i < 500; i++)
        p[i] = fen__heap_realloc(p[i], 600);
    fen__heap_free(old);
    fen_mem_check(false);
    for (int i = 0; i < 500; i++)
        fen__heap_free(p[i]);
    assert_int_equal(fen__ledger_live(), before);
}

static void after_fork_both_go_on(void **state)
{
    (void)state;
    char *p = fen__heap_alloc(100);
    pid_t pid = fork();
    if (!pid) {
        for (int i = 0; i < 1000; i++)
            fen__heap_free(fen__heap_alloc((size_t)i * 50));
        fen__heap_free(p);
        _exit(3);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    fen__heap_free(p);
}

static _Atomic bool leave;

static void *fork_once(void *arg)
{
    int status = -1;
    pid_t pid = fork();
    if (!pid)
        _exit(3);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 3 ? arg : NULL;
}

static void *begin(void *arg)
{
    fen__heap_free(fen__heap_alloc(100));
    while (!leave)
        fen__sys_nap(FEN_MS);
    return arg;
}

/* A fork comes first to the lock of the records, then threads whose caches must be made. */
static void a_fork_waits_in_the_order_of_the_others(void **state)
{
    (void)state;
    enum { N = 64 };
    pthread_t forker, t[N];
    void *well = NULL;
    int here = 0;
    fen__heap_free(fen__heap_alloc(100));
    (void)alarm(30); /* it may stand still */
    fen__records_lock();
    assert_int_equal(pthread_create(&forker, NULL, fork_once, &here), 0);
    fen__sys_nap(50 * FEN_MS);
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&t[i], NULL, begin, NULL), 0);
    fen__sys_nap(50 * FEN_MS);
    fen__records_unlock();
    pthread_join(forker, &well);
    leave = true;
    for (int i = 0; i < N; i++)
        pthread_join(t[i], NULL);
    (void)alarm(0);
    assert_ptr_equal(well, &here);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_the_generator_s),
        cmocka_unit_test(every_size_gets_the_smallest_class),
        cmocka_unit_test(blocks_do_not_overlap_and_keep_their_bytes),
        cmocka_unit_test(zeroed_means_zeroed),
        cmocka_unit_test(alignment_is_kept_or_refused),
        cmocka_unit_test(what_cannot_be_had_is_null),
        cmocka_unit_test(large_blocks_grow_where_they_are),
        cmocka_unit_test(maps_grow_and_shrink_by_their_pages),
        cmocka_unit_test(maps_that_cannot_be_moved_are_copied_or_stay),
        cmocka_unit_test(zeroed_means_zeroed_in_locked_memory),
        cmocka_unit_test(memory_goes_back_to_the_system),
        cmocka_unit_test(waits_for_the_central_set_are_counted),
        cmocka_unit_test(a_span_s_blocks_are_counted),
        cmocka_unit_test(without_memory_nothing_is_charged),
        cmocka_unit_test(misuse_is_named),
        cmocka_unit_test(checked_blocks_serve_like_others),
        cmocka_unit_test(after_fork_both_go_on),
        cmocka_unit_test(a_fork_waits_in_the_order_of_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
