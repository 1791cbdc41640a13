/* queue.c - run queues: a ring and a runnext slot for each P, one global list.
 *
 * Ring: the owner (the M that holds the P, in RT) pushes at tail; owner and thieves pop at head by
 * CAS. head <= tail <= head + FEN__RING in uint32 arithmetic. A slot between them is not rewritten:
 * the owner writes slot tail only when tail - head < FEN__RING, having seen head with acquire
 * (pairs with the release half of the thief's CAS), so a thief that copied a slot which was then
 * reused fails its CAS.
 *
 * runnext: the fiber made ready last, run first while its data is warm. At most FEN__STREAK_MAX in
 * a row, so that a pair waking each other cannot starve the ring; stolen only on the last pass of a
 * thief (a stealable LIFO slot taken too eagerly cost Tokio two reverts).
 *
 * A full ring sends half of itself to the global list, which every P looks at each 61st tick,
 * each 100 us and whenever its own ring is empty. */
#include "sched/sched_int.h"

void fen__queue_init(struct fen__p *p)
{
    p->head = p->tail = 0;
    p->runnext = NULL;
    p->starts = NULL;
    p->starts_tail = &p->starts;
}

/* seq_cst loads: step 4 of find.c's idle protocol. */
uint32_t fen__queue_ring_len(struct fen__p *p)
{
    uint32_t n = atomic_load(&p->tail) - atomic_load(&p->head);
    return n > FEN__RING ? 0 : n; /* not seen together: somebody is at work there */
}

uint32_t fen__queue_len(struct fen__p *p)
{
    return fen__queue_ring_len(p) + atomic_load(&p->newborn.n) + atomic_load(&p->n_starts) +
           (atomic_load_explicit(&p->runnext, memory_order_relaxed) != NULL);
}

void fen__global_push(struct fen__g *head, struct fen__g *last, int n)
{
    last->next = NULL;
    fen__lock(&fen__sched.lock);
    *fen__sched.global_tail = head;
    fen__sched.global_tail = &last->next;
    atomic_fetch_add(&fen__sched.n_global, n);
    fen__unlock(&fen__sched.lock);
}

/* Half of a full ring and g itself go to the global list. False: a thief was quicker, there is
 * room. */
static bool overflow(struct fen__m *m, struct fen__p *p, struct fen__g *g, uint32_t h, uint32_t t)
{
    struct fen__g *batch[FEN__RING / 2];
    uint32_t n = (t - h) / 2;
    fen_assert(n > 0);
    for (uint32_t i = 0; i < n; i++)
        batch[i] = atomic_load_explicit(&p->ring[(h + i) % FEN__RING], memory_order_relaxed);
    if (!atomic_compare_exchange_strong(&p->head, &h, h + n))
        return false;
    for (uint32_t i = 0; i + 1 < n; i++)
        batch[i]->next = batch[i + 1];
    batch[n - 1]->next = g;
    fen__global_push(batch[0], g, (int)n + 1);
    fen__count_add(&m->tally.overflows, 1);
    return true;
}

static inline void push(struct fen__m *m, struct fen__g *g, memory_order order)
{
    struct fen__p *p = m->p;
    for (;;) {
        uint32_t h = atomic_load_explicit(&p->head, memory_order_acquire);
        uint32_t t = atomic_load_explicit(&p->tail, memory_order_relaxed);
        if (FEN__LIKELY(t - h < FEN__RING)) {
            atomic_store_explicit(&p->ring[t % FEN__RING], g, memory_order_relaxed);
            atomic_store_explicit(&p->tail, t + 1, order);
            return;
        }
        if (overflow(m, p, g, h, t))
            return;
    }
}

void fen__queue_tail(struct fen__m *m, struct fen__g *g)
{
    /* a look at n_idle that follows must not overtake it (find.c) */
    push(m, g, memory_order_seq_cst);
}

/* Nobody is woken for it, no look at n_idle follows. release: pairs with the acquire of a thief. */
inline void fen__queue_yielded(struct fen__m *m, struct fen__g *g)
{
    push(m, g, memory_order_release);
}

void fen__queue_put(struct fen__m *m, struct fen__g *g)
{
    if (fen__g_begun(g))
        fen__queue_tail(m, g);
    else
        fen__newborn_push(m, g);
}

/* Only the owner fills runnext, so one that it finds empty stays empty; and nobody who goes to
 * sleep looks at it. release: pairs with the exchange of a thief. */
inline bool fen__queue_next(struct fen__m *m, struct fen__g *g)
{
    if (!atomic_load_explicit(&m->p->runnext, memory_order_relaxed)) {
        atomic_store_explicit(&m->p->runnext, g, memory_order_release);
        return false;
    }
    struct fen__g *old = atomic_exchange(&m->p->runnext, g);
    if (old)
        fen__queue_put(m, old);
    return old != NULL;
}

/* With thousands of fibers each switch misses the cache on the fiber and on its stack: the stack of
 * the one after this and the object of the one after that are asked for ahead. They are hints on
 * memory that is never unmapped; a thief may have taken the fibers meanwhile. */
static inline void ask_ahead(struct fen__p *p, uint32_t h, uint32_t t)
{
#ifndef FEN__TSAN
    if (t - h < 3)
        return;
    struct fen__g *one = atomic_load_explicit(&p->ring[(h + 1) % FEN__RING], memory_order_relaxed);
    struct fen__g *two = atomic_load_explicit(&p->ring[(h + 2) % FEN__RING], memory_order_relaxed);
    fen__prefetch(__atomic_load_n((char **)&one->sp, __ATOMIC_RELAXED), 10 * FEN__LINE);
    fen__prefetch((char *)one + FEN__LINE, 4 * FEN__LINE);
    fen__prefetch(__atomic_load_n(&one->local, __ATOMIC_RELAXED), 6 * FEN__LINE);
    fen__prefetch(two, 3 * FEN__LINE); /* up to `local` */
#else
    (void)p, (void)h, (void)t;
#endif
}

static inline struct fen__g *pop_ring(struct fen__p *p)
{
    for (;;) {
        uint32_t h = atomic_load_explicit(&p->head, memory_order_acquire);
        uint32_t t = atomic_load_explicit(&p->tail, memory_order_relaxed);
        if (t == h)
            return NULL;
        struct fen__g *g = atomic_load_explicit(&p->ring[h % FEN__RING], memory_order_relaxed);
        ask_ahead(p, h, t);
        /* release: pairs with the owner's acquire of head before it reuses the slot */
        if (atomic_compare_exchange_weak_explicit(&p->head, &h, h + 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return g;
    }
}

/* TSC of about now, as its M has it; 0: nobody runs there. */
static uint64_t now(struct fen__p *p)
{
    struct fen__m *m = atomic_load_explicit(&p->m, memory_order_relaxed);
    return m ? m->bill.last : 0;
}

static inline bool has_newborn(struct fen__p *p) /* its own M's question */
{
    return atomic_load_explicit(&p->newborn.n, memory_order_relaxed) != 0;
}

/* runnext; then the ring and those that have not begun take turns. */
inline struct fen__g *fen__queue_pop(struct fen__p *p)
{
    if (p->streak < FEN__STREAK_MAX && atomic_load_explicit(&p->runnext, memory_order_relaxed)) {
        struct fen__g *g = atomic_exchange(&p->runnext, NULL);
        if (g) {
            p->streak++;
            return g;
        }
    }
    p->streak = 0;
    bool newborn = has_newborn(p);
    struct fen__g *g = newborn && p->tick % 2 ? fen__newborn_pop(p, now(p)) : NULL;
    if (!g)
        g = pop_ring(p);
    if (!g && newborn)
        g = fen__newborn_pop(p, now(p));
    if (!g && atomic_load_explicit(&p->runnext, memory_order_relaxed))
        g = atomic_exchange(&p->runnext, NULL);
    return g;
}

/* Moves half of `from` (or, if allowed and the ring is empty, its runnext) to `to`, whose owner
 * calls; the last one is returned instead of queued. */
struct fen__g *fen__queue_steal(struct fen__p *to, struct fen__p *from, bool runnext)
{
    for (;;) {
        uint32_t h = atomic_load_explicit(&from->head, memory_order_acquire);
        uint32_t t = atomic_load_explicit(&from->tail, memory_order_acquire);
        uint32_t n = t - h;
        n -= n / 2;
        if (n > FEN__RING / 2)
            continue; /* head and tail were not seen together */
        if (n == 0)
            return runnext ? atomic_exchange(&from->runnext, NULL) : NULL;
        uint32_t end = atomic_load_explicit(&to->tail, memory_order_relaxed);
        for (uint32_t i = 0; i < n; i++) {
            struct fen__g *g =
                atomic_load_explicit(&from->ring[(h + i) % FEN__RING], memory_order_relaxed);
            atomic_store_explicit(&to->ring[(end + i) % FEN__RING], g, memory_order_relaxed);
        }
        if (!atomic_compare_exchange_strong(&from->head, &h, h + n))
            continue;
        struct fen__g *g =
            atomic_load_explicit(&to->ring[(end + n - 1) % FEN__RING], memory_order_relaxed);
        atomic_store(&to->tail, end + n - 1);
        return g;
    }
}

/* Up to `want` from the global list: the first is returned, the rest go to this P. */
struct fen__g *fen__global_pop(struct fen__m *m, int want)
{
    if (!atomic_load_explicit(&fen__sched.n_global, memory_order_relaxed))
        return NULL;
    fen__lock(&fen__sched.lock);
    int n = atomic_load_explicit(&fen__sched.n_global, memory_order_relaxed);
    int fair = n / atomic_load_explicit(&fen__sched.nprocs, memory_order_relaxed) + 1;
    want = want < fair ? want : fair;
    want = want < n ? want : n;
    struct fen__g *first = fen__sched.global_head, *g = first;
    for (int i = 1; i < want; i++)
        g = g->next;
    if (first) {
        fen__sched.global_head = g->next;
        if (!g->next)
            fen__sched.global_tail = &fen__sched.global_head;
        g->next = NULL;
        atomic_fetch_sub(&fen__sched.n_global, want);
    }
    fen__unlock(&fen__sched.lock);
    for (g = first ? first->next : NULL; g;) {
        struct fen__g *next = g->next;
        fen__queue_tail(m, g);
        g = next;
    }
    return first;
}
