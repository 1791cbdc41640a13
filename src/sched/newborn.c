/* newborn.c - fibers that have not begun.
 *
 * They have no stack yet (spawn.c), so how many begin before others have ended decides how much
 * memory a program touches: a tree of a million fibers that begins level by level has a hundred
 * thousand stacks in use at once; branch by branch, some dozens, which stay in the cache. So the
 * owner takes the newest first, and thieves the oldest, which are the biggest branches. So that
 * none waits behind newer ones for ever, the oldest has a turn every TURN_LONGS long slices (1 ms);
 * a turn by count would open branch after branch, and so would an overflow to the global list,
 * which has its turns by count: this list has no bound.
 *
 * The newest of all is not here but in the P's runnext; it comes here when the next one takes its
 * place (fen__queue_put).
 *
 *   newest -> next -> ... -> oldest      next: to the older one; local: to the newer one
 *   n counts them                        all under the lock
 *
 * n is raised seq_cst, after the fiber is in the list and before the submitter looks at n_idle, so
 * a P that goes to sleep sees the fiber or is seen (find.c). Who steals has its loot in nobody's
 * list for a moment: it is searching then, and wakes the next searcher when it has found something.
 *
 * Rejected: the lock-free deque of Chase and Lev (its owner needs a full barrier at each pop, which
 * costs what the lock does, and thieves get one at a time); newest first for the ready ones too
 * (they are under way, and whom they answer waits). */
#include "sched/sched_int.h"

#define TURN_LONGS 5
#define LOOT_MAX 128

/* Lock held. */
static struct fen__g *take_newest(struct fen__newborn *b)
{
    struct fen__g *g = b->newest;
    b->newest = g->next;
    if (b->newest)
        b->newest->local = NULL;
    else
        b->oldest = NULL;
    atomic_fetch_sub_explicit(&b->n, 1, memory_order_relaxed); /* fewer: nobody relies on it */
    return g;
}

/* Lock held. */
static struct fen__g *take_oldest(struct fen__newborn *b)
{
    struct fen__g *g = b->oldest;
    b->oldest = g->local;
    if (b->oldest)
        b->oldest->next = NULL;
    else
        b->newest = NULL;
    g->local = NULL;
    atomic_fetch_sub_explicit(&b->n, 1, memory_order_relaxed);
    return g;
}

void fen__newborn_push(struct fen__m *m, struct fen__g *g)
{
    struct fen__newborn *b = &m->p->newborn;
    fen__lock(&b->lock);
    g->next = b->newest;
    if (b->newest)
        b->newest->local = g;
    else
        b->oldest = g;
    b->newest = g;
    atomic_fetch_add(&b->n, 1);
    fen__unlock(&b->lock);
}

/* now: TSC of about now. Nothing in a simulated run may depend on it. */
static bool oldest_turn(struct fen__newborn *b, uint64_t now)
{
    if (now - b->oldest_at < TURN_LONGS * fen__long_ticks || fen__sched.sim)
        return false;
    b->oldest_at = now;
    return true;
}

struct fen__g *fen__newborn_pop(struct fen__p *p, uint64_t now)
{
    struct fen__newborn *b = &p->newborn;
    fen__lock(&b->lock);
    struct fen__g *g = !b->newest ? NULL : oldest_turn(b, now) ? take_oldest(b) : take_newest(b);
    fen__unlock(&b->lock);
    return g;
}

struct fen__g *fen__newborn_steal(struct fen__m *m, struct fen__p *from)
{
    struct fen__newborn *b = &from->newborn;
    struct fen__g *loot[LOOT_MAX];
    if (!atomic_load(&b->n))
        return NULL;
    fen__lock(&b->lock);
    uint32_t n = atomic_load_explicit(&b->n, memory_order_relaxed);
    n -= n / 2;
    n = n < LOOT_MAX ? n : LOOT_MAX;
    for (uint32_t i = 0; i < n; i++)
        loot[i] = take_oldest(b);
    fen__unlock(&b->lock);
    for (uint32_t i = 1; i < n; i++)
        fen__newborn_push(m, loot[i]);
    return n ? loot[0] : NULL;
}
