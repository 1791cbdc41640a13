/* numa_test.c - a run on two nodes that are made up (FEN_NUMA): Ps take turns on them, memory is
 * the node's where a fiber runs, and what a fiber frees elsewhere goes home when it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem/heap_int.h"

#include <fen/fen.h>

#include <stdlib.h>

#define BLOCKS 40 /* less than a batch: only an end sends them */
#define TRIES 1000

static uint32_t node_here(void) { return fen__cache_self()->node; }

static struct {
    void *p[BLOCKS];
    uint32_t node;
    _Atomic int done; /* 1: freed on the other node, 2: it ran on the same */
} work;

static void drop_elsewhere(void *arg)
{
    (void)arg;
    bool far = node_here() != work.node;
    for (int i = 0; i < BLOCKS && far; i++)
        fen__heap_free(work.p[i]);
    atomic_store(&work.done, far ? 1 : 2);
}

static fen_mem_stats stats(void)
{
    fen_mem_stats s;
    fen_mem_stats_get(&s);
    return s;
}

/* While this fiber computes, the other P takes the child; unless the monitor was quicker. */
static bool one_try(void)
{
    work.node = node_here();
    for (int i = 0; i < BLOCKS; i++) {
        work.p[i] = fen__heap_alloc(64);
        assert_int_equal(fen__span_in_region(work.p[i])->node, work.node);
    }
    work.done = 0;
    assert_int_equal(fen_go_detached("drop", drop_elsewhere, NULL), 0);
    while (!atomic_load(&work.done))
        ;
    if (work.done == 1)
        return true;
    for (int i = 0; i < BLOCKS; i++)
        fen__heap_free(work.p[i]);
    fen_yield();
    return false;
}

static int two(void *arg)
{
    (void)arg;
    int left = TRIES;
    fen_mem_stats before = stats(), now = before;
    assert_int_equal(before.nodes, 2);
    while (left && !one_try())
        left--;
    assert_true(left > 0);
    for (int64_t until = fen_now() + 5 * FEN_S; fen_now() < until;) {
        now = stats();
        if (now.far_blocks - before.far_blocks >= BLOCKS)
            break;
        assert_int_equal(fen_sleep(FEN_MS), 0);
    }
    int64_t blocks = now.far_blocks - before.far_blocks;
    assert_true(blocks >= BLOCKS);
    assert_true(now.far_batches - before.far_batches <= blocks / 4); /* and not one by one */
    return 0;
}

static void a_fiber_s_end_sends_what_it_freed_home(void **state)
{
    (void)state;
    int64_t live = fen__ledger_live();
    assert_int_equal(setenv("FEN_NUMA", "fake=2", 1), 0);
    assert_int_equal(fen_run(two, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(fen__ledger_live(), live);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void a_word_it_does_not_know_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"fake", "fake=1", "fake=17", "fake=2x", "on", "2"};
    static const char *const good[] = {"", "off", "auto", "fake=2", "fake=16"};
    for (size_t i = 0; i < FEN__COUNT(bad); i++) {
        assert_int_equal(setenv("FEN_NUMA", bad[i], 1), 0);
        assert_int_equal(fen_run(nothing, NULL, NULL), -EINVAL);
    }
    for (size_t i = 0; i < FEN__COUNT(good); i++) {
        assert_int_equal(setenv("FEN_NUMA", good[i], 1), 0);
        assert_int_equal(fen_run(nothing, NULL, NULL), 0);
    }
    assert_int_equal(unsetenv("FEN_NUMA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fiber_s_end_sends_what_it_freed_home),
        cmocka_unit_test(a_word_it_does_not_know_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
