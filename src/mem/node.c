/* node.c - NUMA: memory stays on the node of who allocates it.
 *
 *   pages      a region belongs to a node (region.c), the kernel is asked to put its pages there
 *   spans      have the node of their region; each node has central sets of its own (span.c)
 *   caches     have the node of their thread and take spans of that node. An M enters the node of
 *              its P, which binds its thread there; if it gets a P of another node it changes the
 *              cache too, so that the spans it leaves stay with threads of their node
 *   blocks     that are freed on another node do not join the magazine of who freed them: they are
 *              gathered by span (remote.c) and go home in batches: of FEN__OUT_MAX blocks, or what
 *              there is when the fiber that freed them ends, or when the thread has nothing to do
 *
 * Elsewhere is better than nowhere: only when a node has nothing left and gets nothing more, runs
 * and spans of others are taken. Maps of their own (large blocks) come from where they are touched
 * first, which is what the kernel does.
 *
 * With one node nothing of this happens. All spans and caches say node 0, and the comparison of the
 * two stands only on the way of a free that is billed; where nothing is billed it is the second
 * node that opens that way.
 *
 * Rejected: a page heap with a lock for each node (the pacer's marks are about the sum, and the
 * lock is taken for runs, not for blocks); blocks of other nodes in the magazines, sent home when
 * these are full (most of them would be handed out again before that). */
#include "mem/heap_int.h"

#include "sys/node.h"

uint32_t fen__nodes = 1;

void fen__mem_nodes(int n)
{
    fen__pages_nodes((uint32_t)n);
    if (n > 1) /* from now on each free looks at the span */
        __atomic_store_n(&fen__billed, true, __ATOMIC_RELAXED);
}

struct fen__mem_now *fen__mem_enter(int node)
{
    struct fen__cache *c = fen__cache_self();
    (void)!fen__sys_node_enter(node); /* refused: its memory comes from there all the same */
    if (c && c->node != node)
        fen__cache_leave(c);
    return fen__mem_attach();
}

void fen__far_free(struct fen__cache *c, struct fen__span *s, struct fen__block *b)
{
    c->now.far++;
    fen__row_add(&c->count[s->bin % FEN__CLASSES].out, -1);
    fen__cache_lock(c);
    fen__remote_free(c, s, b);
    fen__cache_unlock(c);
}

void fen__far_sent(struct fen__cache *c, uint32_t blocks)
{
    fen__row_add(&c->far_blocks, blocks);
    fen__row_add(&c->far_batches, 1);
}

void fen__mem_send_home(void)
{
    struct fen__cache *c = fen__cache_self();
    if (!c)
        return;
    c->now.far = 0;
    fen__cache_lock(c);
    fen__remote_flush(c);
    fen__cache_unlock(c);
}

static void add(struct fen__cache *c, void *arg)
{
    int64_t *sum = arg;
    sum[0] += __atomic_load_n(&c->far_blocks, __ATOMIC_RELAXED);
    sum[1] += __atomic_load_n(&c->far_batches, __ATOMIC_RELAXED);
}

void fen__far_stats(int64_t *ret_blocks, int64_t *ret_batches)
{
    int64_t sum[2] = {0, 0};
    fen__cache_each(add, sum);
    *ret_blocks = sum[0];
    *ret_batches = sum[1];
}
