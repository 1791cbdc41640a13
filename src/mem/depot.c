/* depot.c - full stacks of blocks on their way from threads that free to threads that allocate.
 *
 * Where one thread allocates what another frees, the second one's magazines overflow with blocks
 * whose home is the first. To send them home costs a look at each block's span on one side and a
 * walk over what came on the other. A whole stack changes hands for the price of one short lock,
 * whatever is in it: a block in the depot counts as used in its span and is noted for the stack's
 * owner, as in a magazine, so neither the spans nor the bill know of the trade.
 *
 * Only stacks whose top block is another cache's come here (magazine.c); what a thread frees of its
 * own goes back to its spans, where memory gathers that can be given back. There are at most
 * STACKS of a class and node, and DEPOT_BYTES in all; more goes home as ever. Each reclaim empties
 * it. Threads of a node have shelves of their own: no other node's blocks are in their magazines.
 *
 * Nobody waits here: who finds the lock taken goes to the spans. The lock is held for a few
 * instructions, and across a fork. */
#include "mem/heap_int.h"

#define STACKS 14
#define DEPOT_BYTES ((int64_t)4 << 20)

static struct shelf {
    uint32_t lock, n;
    uint16_t owner[STACKS];
    struct fen__block *top[STACKS];
} FEN__ALIGN(FEN__LINE) shelves[FEN__NODES_MAX * FEN__CLASSES]; /* touched for nodes there are */

static _Atomic int64_t held_bytes;

bool fen__depot_put(uint32_t node, uint32_t bin, struct fen__block *top, uint32_t owner,
                    int64_t bytes)
{
    struct shelf *t = &shelves[node * FEN__CLASSES + bin];
    if (__atomic_load_n(&t->n, __ATOMIC_RELAXED) >= STACKS)
        return false;
    if (atomic_fetch_add_explicit(&held_bytes, bytes, memory_order_relaxed) + bytes > DEPOT_BYTES ||
        !fen__trylock(&t->lock)) {
        atomic_fetch_sub_explicit(&held_bytes, bytes, memory_order_relaxed);
        return false;
    }
    uint32_t n = t->n;
    if (n < STACKS) {
        t->top[n] = top;
        t->owner[n] = (uint16_t)owner;
        __atomic_store_n(&t->n, n + 1, __ATOMIC_RELAXED);
    }
    fen__unlock(&t->lock);
    if (n >= STACKS)
        atomic_fetch_sub_explicit(&held_bytes, bytes, memory_order_relaxed);
    return n < STACKS;
}

struct fen__block *fen__depot_get(uint32_t node, uint32_t bin, uint16_t *ret_owner, int64_t bytes)
{
    struct shelf *t = &shelves[node * FEN__CLASSES + bin];
    struct fen__block *top = NULL;
    if (!__atomic_load_n(&t->n, __ATOMIC_RELAXED) || !fen__trylock(&t->lock))
        return NULL;
    if (t->n) {
        uint32_t n = t->n - 1;
        top = t->top[n];
        *ret_owner = t->owner[n];
        __atomic_store_n(&t->n, n, __ATOMIC_RELAXED);
    }
    fen__unlock(&t->lock);
    if (top)
        atomic_fetch_sub_explicit(&held_bytes, bytes, memory_order_relaxed);
    return top;
}

int64_t fen__depot_bytes(void) { return atomic_load_explicit(&held_bytes, memory_order_relaxed); }

static uint32_t shelves_n(void)
{
    return FEN__CLASSES * __atomic_load_n(&fen__nodes, __ATOMIC_RELAXED);
}

void fen__depot_lock(void)
{
    for (uint32_t i = 0; i < shelves_n(); i++)
        fen__lock(&shelves[i].lock);
}

void fen__depot_unlock(void)
{
    for (uint32_t i = 0; i < shelves_n(); i++)
        fen__unlock(&shelves[i].lock);
}
