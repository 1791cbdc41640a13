/* timer.c - timers of a P: a 4-ary heap under a lock of its own.
 *
 * The owner adds; anybody may delete (a fiber that was stolen deletes in the P where it armed). The
 * heap holds (when, timer) pairs so that sifting stays in one array. fn runs without the lock, with
 * the arg and seq copied under it: a timer deleted and reused in between is told apart by seq.
 *
 * next_tsc lets the scheduler see "nothing due" without reading a clock. The TSC is anchored to the
 * monotonic clock again every 100 ms, so calibration error stays below some microseconds. */
#include "sched/sched_int.h"

#include "mem/mem.h"

#define ARITY 4
#define BATCH 32
#define CAP_MIN 256 /* entries */

void fen__anchor(struct fen__p *p)
{
    p->anchor_ns = fen__sys_now();
    p->anchor_tsc = fen__tsc();
}

uint64_t fen__tsc_at(struct fen__p *p, int64_t when_ns)
{
    if (FEN__UNLIKELY(fen__sched.sim))
        return 0; /* always due: the way from find.c to sim.c costs no branch of its own */
    if (when_ns == FEN_NEVER)
        return UINT64_MAX;
    int64_t ahead = when_ns - p->anchor_ns;
    return ahead <= 0 ? p->anchor_tsc : p->anchor_tsc + (uint64_t)fen__tsc_from_ns(ahead);
}

void fen__timers_init(struct fen__p *p)
{
    p->timers.next_ns = FEN_NEVER;
    fen__anchor(p);
    p->timers.next_tsc = fen__tsc_at(p, FEN_NEVER);
}

void fen__timers_fini(struct fen__p *p)
{
    struct fen__timers *h = &p->timers;
    fen__mem_free(h->heap, (size_t)h->cap * sizeof *h->heap);
    h->heap = NULL;
    h->n = h->cap = 0;
}

static void place(struct fen__timers *h, int32_t i, struct fen__heap_entry e)
{
    h->heap[i] = e;
    e.t->at = i;
}

static void up(struct fen__timers *h, int32_t i, struct fen__heap_entry e)
{
    while (i > 0) {
        int32_t parent = (i - 1) / ARITY;
        if (h->heap[parent].when_ns <= e.when_ns)
            break;
        place(h, i, h->heap[parent]);
        i = parent;
    }
    place(h, i, e);
}

static void down(struct fen__timers *h, int32_t i, struct fen__heap_entry e)
{
    for (;;) {
        int32_t first = i * ARITY + 1, best = -1;
        for (int32_t c = first; c < first + ARITY && c < h->n; c++)
            if (best < 0 || h->heap[c].when_ns < h->heap[best].when_ns)
                best = c;
        if (best < 0 || h->heap[best].when_ns >= e.when_ns)
            break;
        place(h, i, h->heap[best]);
        i = best;
    }
    place(h, i, e);
}

/* Lock held. */
static int resize(struct fen__timers *h, int32_t cap)
{
    size_t old = (size_t)h->cap * sizeof *h->heap, bytes = (size_t)cap * sizeof *h->heap;
    /* the P's, whoever's timer is the first; a block stays with its account */
    struct fen__heap_entry *heap =
        h->heap ? fen__mem_resize(h->heap, old, bytes) : fen__mem_alloc_for(0, bytes);
    if (!heap)
        return -ENOMEM;
    h->heap = heap;
    h->cap = cap;
    return 0;
}

/* Lock held. A burst of timers does not keep its memory. */
static void shrink(struct fen__timers *h)
{
    if (FEN__UNLIKELY(h->cap > CAP_MIN && h->n < h->cap / 8))
        (void)resize(h, h->cap / 2);
}

/* Lock held. */
static void remove_at(struct fen__timers *h, int32_t i)
{
    h->heap[i].t->at = -1;
    struct fen__heap_entry last = h->heap[--h->n];
    if (i == h->n)
        return;
    if (i > 0 && last.when_ns < h->heap[(i - 1) / ARITY].when_ns)
        up(h, i, last);
    else
        down(h, i, last);
}

/* Lock held. */
static void publish(struct fen__p *p)
{
    struct fen__timers *h = &p->timers;
    int64_t next = h->n ? h->heap[0].when_ns : FEN_NEVER;
    if (atomic_load_explicit(&h->next_ns, memory_order_relaxed) == next)
        return;
    uint64_t next_tsc = fen__tsc_at(p, next);
    atomic_store_explicit(&h->next_ns, next, memory_order_relaxed);
    atomic_store_explicit(&h->next_tsc, next_tsc, memory_order_relaxed);
    /* p's M may overwrite this if it is not ours: then the timer is 100 us late */
    if (next_tsc < atomic_load_explicit(&p->quick_until, memory_order_relaxed))
        atomic_store_explicit(&p->quick_until, next_tsc, memory_order_relaxed);
}

/* Lock held. */
static int grow(struct fen__timers *h) { return resize(h, h->cap ? h->cap * 2 : CAP_MIN); }

int fen__timer_add(struct fen__timer *t, int64_t when_ns, void (*fn)(void *, uint64_t), void *arg,
                   uint64_t seq)
{
    struct fen__m *m = fen__self();
    struct fen__p *p = m->p;
    struct fen__timers *h = &p->timers;
    fen__lock(&h->lock);
    if (h->n == h->cap && grow(h)) {
        fen__unlock(&h->lock);
        return -ENOMEM;
    }
    t->when_ns = when_ns;
    __atomic_store_n(&t->home, (int32_t)p->number, __ATOMIC_RELAXED);
    t->fn = fn;
    t->arg = arg;
    t->seq = seq;
    up(h, h->n++, (struct fen__heap_entry){when_ns, t});
    publish(p);
    fen__unlock(&h->lock);
    fen__count_add(&m->tally.timers_added, 1);
    return 0;
}

/* The P in whose heap it is, that heap locked; it may have moved before (fen__timers_move). */
static struct fen__p *lock_home(struct fen__timer *t)
{
    for (;;) {
        int32_t home = __atomic_load_n(&t->home, __ATOMIC_RELAXED);
        struct fen__p *p = &fen__sched.ps[home];
        fen__lock(&p->timers.lock);
        if (__atomic_load_n(&t->home, __ATOMIC_RELAXED) == home)
            return p;
        fen__unlock(&p->timers.lock);
    }
}

bool fen__timer_del(struct fen__timer *t)
{
    struct fen__p *p = lock_home(t);
    struct fen__timers *h = &p->timers;
    bool armed = t->at >= 0;
    if (armed) {
        remove_at(h, t->at);
        shrink(h);
        publish(p);
    }
    fen__unlock(&h->lock);
    struct fen__m *m = fen__self();
    if (armed && m)
        fen__count_add(&m->tally.timers_removed, 1);
    return armed;
}

/* The caller owns `from`, so nobody adds to it; nobody else holds two of these locks. */
int fen__timers_move(struct fen__p *from, struct fen__p *to)
{
    struct fen__timers *h = &from->timers, *k = &to->timers;
    int rc = 0;
    fen__lock(&h->lock);
    fen__lock(&k->lock);
    while (h->n && !rc) {
        rc = k->n == k->cap ? grow(k) : 0;
        if (rc)
            break;
        struct fen__timer *t = h->heap[--h->n].t; /* the last: what is left stays a heap */
        __atomic_store_n(&t->home, (int32_t)to->number, __ATOMIC_RELAXED);
        up(k, k->n++, (struct fen__heap_entry){t->when_ns, t});
    }
    shrink(h);
    publish(from);
    publish(to);
    fen__unlock(&k->lock);
    fen__unlock(&h->lock);
    return rc;
}

void fen__timers_run(struct fen__p *p)
{
    struct fen__timers *h = &p->timers;
    struct fen__timer due[BATCH];
    int n = 0;
    fen__lock(&h->lock);
    fen__anchor(p);
    while (h->n && n < BATCH && h->heap[0].when_ns <= p->anchor_ns) {
        due[n++] = *h->heap[0].t;
        remove_at(h, 0);
    }
    shrink(h);
    atomic_store_explicit(&h->next_ns, INT64_MIN, memory_order_relaxed); /* publish afresh */
    publish(p);
    fen__unlock(&h->lock);
    fen__count_add(&fen__self()->tally.timers_removed, n);
    for (int i = 0; i < n; i++)
        due[i].fn(due[i].arg, due[i].seq);
}
