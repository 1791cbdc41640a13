/* node_test.c - the heap on two nodes that are made up: blocks go home, in batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem/heap_int.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#define BLOCKS 1000
#define BYTES 100

static int two_nodes(void **state)
{
    (void)state;
    fen__mem_nodes(fen__sys_nodes_open("", 2));
    return 0;
}

static uint32_t node_of(const void *p) { return fen__span_in_region(p)->node; }

/* ---- a thread of a node does as it is told ---- */

struct worker {
    pthread_t thread;
    int node;
    sem_t go, done;
    void (*fn)(struct worker *w);
    void *p[BLOCKS];
    int64_t blocks, batches, blocks0, batches0; /* sent to other nodes */
};

static void *work(void *arg)
{
    struct worker *w = arg;
    (void)fen__mem_enter(w->node);
    for (;;) {
        sem_wait(&w->go);
        if (!w->fn)
            return NULL;
        w->fn(w);
        sem_post(&w->done);
    }
}

static void start(struct worker *w, int node)
{
    w->node = node;
    sem_init(&w->go, 0, 0);
    sem_init(&w->done, 0, 0);
    assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
}

static void tell(struct worker *w, void (*fn)(struct worker *w))
{
    w->fn = fn;
    sem_post(&w->go);
    if (fn)
        sem_wait(&w->done);
    else
        pthread_join(w->thread, NULL);
}

static void fill(struct worker *w)
{
    for (int i = 0; i < BLOCKS; i++) {
        w->p[i] = fen__heap_alloc(BYTES);
        fen_assert(w->p[i] && node_of(w->p[i]) == (uint32_t)w->node);
        memset(w->p[i], w->node, BYTES);
    }
}

static void drop(struct worker *w)
{
    for (int i = 0; i < BLOCKS; i++)
        fen__heap_free(w->p[i]);
}

static void send_home(struct worker *w)
{
    (void)w;
    fen__mem_send_home();
}

/* What its cache has sent to other nodes since it began. */
static void count_far(struct worker *w)
{
    const struct fen__cache *c = fen__cache_self();
    w->blocks = c->far_blocks - w->blocks0;
    w->batches = c->far_batches - w->batches0;
}

static void begin_count(struct worker *w)
{
    const struct fen__cache *c = fen__cache_self();
    w->blocks0 = c->far_blocks;
    w->batches0 = c->far_batches;
}

/* ---- tests ---- */

static struct worker a, b;

static void swap_blocks(void)
{
    static void *t[BLOCKS];
    memcpy(t, a.p, sizeof t);
    memcpy(a.p, b.p, sizeof t);
    memcpy(b.p, t, sizeof t);
}

static void begin(int node_a, int node_b)
{
    start(&a, node_a);
    start(&b, node_b);
    tell(&a, begin_count);
    tell(&b, begin_count);
}

static void end(void)
{
    tell(&a, NULL);
    tell(&b, NULL);
}

static void a_free_on_another_node_goes_home_in_batches(void **state)
{
    (void)state;
    int64_t live = fen__ledger_live();
    begin(0, 1);
    tell(&a, fill);
    tell(&b, fill);
    swap_blocks();
    tell(&b, drop); /* a's blocks: at most 63 of a span wait */
    tell(&b, count_far);
    assert_true(b.batches > 0);
    assert_true(b.blocks >= BLOCKS - FEN__OUT_SLOTS * (FEN__OUT_MAX - 1));
    assert_int_equal(b.blocks / b.batches, FEN__OUT_MAX);
    tell(&b, send_home);
    tell(&b, count_far);
    assert_int_equal(b.blocks, BLOCKS);
    assert_true(b.batches <= BLOCKS / FEN__OUT_MAX + FEN__OUT_SLOTS);
    tell(&b, fill); /* asserts that all of it is its own node's */
    tell(&a, drop);
    tell(&a, fill);
    tell(&a, drop);
    tell(&b, drop);
    tell(&a, count_far);
    assert_true(a.blocks > 0 && a.blocks <= BLOCKS); /* b's first ones, none of its own */
    end();
    assert_int_equal(fen__ledger_live(), live);
}

static void what_came_home_is_used_again(void **state)
{
    (void)state;
    struct fen__page_stats before, after;
    begin(0, 1);
    for (int i = 0; i < 50; i++) {
        tell(&a, fill);
        memcpy(b.p, a.p, sizeof a.p);
        tell(&b, drop);
        tell(&b, send_home);
        fen__pages_stats(i == 5 ? &before : &after);
    }
    assert_true(after.used_bytes <= before.used_bytes + 8 * FEN__PAGE_BYTES);
    end();
}

static void on_the_same_node_nothing_is_sent(void **state)
{
    (void)state;
    begin(1, 1);
    tell(&a, fill);
    memcpy(b.p, a.p, sizeof a.p);
    tell(&b, drop);
    tell(&b, send_home);
    tell(&b, count_far);
    assert_int_equal(b.blocks, 0);
    end();
}

/* A thread's cache and its spans serve threads of its node when it has ended: `fill` asserts that
 * nobody gets a block of another node. */
static void what_a_thread_leaves_stays_on_its_node(void **state)
{
    (void)state;
    int64_t live = fen__ledger_live();
    for (int i = 0; i < 20; i++) {
        begin(i % 2, !(i % 2));
        tell(&a, fill);
        tell(&a, NULL); /* full spans and rests stay behind */
        memcpy(b.p, a.p, sizeof a.p);
        start(&a, !(i % 2));
        tell(&a, fill);
        tell(&b, drop);
        tell(&b, fill);
        tell(&b, drop);
        tell(&a, drop);
        end();
    }
    assert_int_equal(fen__ledger_live(), live);
}

static void move(struct worker *w)
{
    w->node = !w->node;
    (void)fen__mem_enter(w->node);
}

static void a_thread_that_moves_takes_memory_there(void **state)
{
    (void)state;
    begin(0, 0);
    for (int i = 0; i < 20; i++) {
        tell(&a, fill);
        tell(&a, move);
        swap_blocks();
        tell(&a, fill);
        tell(&b, drop);
        tell(&a, drop);
    }
    end();
}

static void large_blocks_come_from_the_node_too(void **state)
{
    (void)state;
    (void)fen__mem_enter(1);
    void *p = fen__heap_alloc(100000);
    assert_int_equal(node_of(p), 1);
    (void)fen__mem_enter(0);
    fen__heap_free(p);
    void *q = fen__heap_alloc(100000);
    assert_int_equal(node_of(q), 0);
    fen__heap_free(q);
}

static int no_map(const char *call) { return strcmp(call, "mmap") ? 0 : -ENOMEM; }

static void elsewhere_is_better_than_nowhere(void **state)
{
    (void)state;
    static void *keep[4096];
    int n = 0;
    bool far = false;
    (void)fen__mem_enter(0);
    void *other = fen__heap_alloc(500000); /* the node has a region with room */
    (void)fen__mem_enter(1);
    fen__sys_fault = no_map;
    while (n < 4096 && !far && (keep[n] = fen__heap_alloc(400000)))
        far = node_of(keep[n++]) == 0;
    fen__sys_fault = NULL;
    while (n)
        fen__heap_free(keep[--n]);
    fen__heap_free(other);
    (void)fen__mem_enter(0);
    assert_true(far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_free_on_another_node_goes_home_in_batches),
        cmocka_unit_test(what_came_home_is_used_again),
        cmocka_unit_test(on_the_same_node_nothing_is_sent),
        cmocka_unit_test(what_a_thread_leaves_stays_on_its_node),
        cmocka_unit_test(a_thread_that_moves_takes_memory_there),
        cmocka_unit_test(large_blocks_come_from_the_node_too),
        cmocka_unit_test(elsewhere_is_better_than_nowhere),
    };
    return cmocka_run_group_tests(tests, two_nodes, NULL);
}
