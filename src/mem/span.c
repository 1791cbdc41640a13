/* span.c - spans, the central sets, and the records that describe both.
 *
 * A span is a run of pages cut into blocks of one class. Blocks are cut when they are first needed,
 * an OS page's worth at a time, so that a new span costs no memory beyond what is used.
 *
 *   made by span_new     home: the cache that asked
 *   central_put          the home gives away a span that has free blocks: it lies in the central
 *                        (partial) set of its class, home NULL, blocks may go on coming back
 *   central_get          a cache that has none left takes one and is its home
 *   span_free            empty: its pages go back. By the home, or from the set under its lock
 *
 * A span without free blocks is in no set: whoever frees the first block of it brings it back
 * (remote.c). So there is a partial set and the full one is implied; rejected: a list of full
 * spans, which every exhausted span would have to enter under the central lock.
 *
 * The accounts of blocks (own) are an array beside the span, made when the first billed block is
 * taken from it: a process that bills nothing pays neither the memory nor the arithmetic. Blocks
 * stay aligned and no block has a header.
 *
 * Records (spans, caches, rows, account arrays) come from maps of their own and are reused, never
 * unmapped: a late look at one is always safe. */
#include "mem/heap_int.h"

#include <string.h>

#define CHUNK_BYTES ((size_t)256 << 10)
#define CARVE_BYTES 4096
#define SWEEP_EVERY 64

/* ---- records ---- */

struct record {
    struct record *next;
};

static struct {
    uint32_t lock;
    char *at, *end;
    struct record *free[FEN__RECS][FEN__CLASSES];
    size_t bytes;
} records;

static void *fresh_record(size_t bytes)
{
    if ((size_t)(records.end - records.at) < bytes) {
        void *p;
        if (fen__sys_map(CHUNK_BYTES, &p))
            return NULL;
        records.at = p;
        records.end = records.at + CHUNK_BYTES;
        records.bytes += CHUNK_BYTES;
    }
    void *p = records.at;
    records.at += bytes;
    return p;
}

void *fen__record_new(enum fen__record kind, size_t bytes, uint32_t size_index)
{
    bytes = (bytes + FEN__LINE - 1) & ~(size_t)(FEN__LINE - 1);
    fen__lock(&records.lock);
    struct record *r = records.free[kind][size_index];
    if (r)
        records.free[kind][size_index] = r->next;
    else
        r = fresh_record(bytes);
    fen__unlock(&records.lock);
    return r;
}

void fen__record_free(enum fen__record kind, void *p, uint32_t size_index)
{
    struct record *r = p;
    fen__lock(&records.lock);
    r->next = records.free[kind][size_index];
    records.free[kind][size_index] = r;
    fen__unlock(&records.lock);
}

int64_t fen__records_bytes(void)
{
    fen__lock(&records.lock);
    int64_t n = (int64_t)records.bytes;
    fen__unlock(&records.lock);
    return n;
}

void fen__records_lock(void) { fen__lock(&records.lock); }
void fen__records_unlock(void) { fen__unlock(&records.lock); }

static struct set {
    uint32_t lock;
    uint32_t puts;
    struct fen__span *first, *last;
    uint32_t n;
    uint64_t wait; /* TSC ticks that threads waited for the lock */
    _Atomic int64_t spans;
} FEN__ALIGN(FEN__LINE) sets[FEN__NODES_MAX * FEN__BINS]; /* touched for nodes there are */

static struct set *set_of(uint32_t node, uint32_t bin) { return &sets[node * FEN__BINS + bin]; }

/* ---- spans ---- */

static uint8_t special_of(uint32_t bin)
{
    return (uint8_t)((bin % FEN__CLASSES == 0 ? FEN__SPAN_TINY : 0) |
                     (bin >= FEN__CLASSES ? FEN__SPAN_CHECKED : 0));
}

/* Not a struct assignment: others may still look at `home` of a record that was a span before. */
static void span_init(struct fen__span *s, struct fen__cache *c, uint32_t bin)
{
    const struct fen__class *k = &fen__classes[bin % FEN__CLASSES];
    s->free = NULL;
    s->used = 0;
    s->special = special_of(bin);
    s->bin = (uint8_t)bin;
    s->blocks = k->blocks;
    s->bytes = k->bytes;
    s->recip = k->recip;
    s->pages = k->pages;
    s->carved = 0;
    s->listed = true;
    s->idle = false;
    s->account = 0;
    s->node = c->node;
    s->samples = NULL;
    atomic_store_explicit(&s->noted, 0, memory_order_relaxed);
    atomic_store_explicit(&s->own, NULL, memory_order_relaxed);
    atomic_store_explicit(&s->home, c, memory_order_relaxed);
    atomic_store_explicit(&s->remote, FEN__REMOTE_LISTED, memory_order_relaxed);
}

struct fen__span *fen__span_new(struct fen__cache *c, uint32_t bin)
{
    bool zero;
    struct fen__span *s = fen__record_new(FEN__REC_SPAN, sizeof *s, 0);
    if (!s)
        return NULL;
    span_init(s, c, bin);
    if (fen__run_new(s->pages, 1, s, &s->base, &zero)) {
        fen__record_free(FEN__REC_SPAN, s, 0);
        return NULL;
    }
    (void)fen__span_carve(s);
    atomic_fetch_add_explicit(&set_of(s->node, bin)->spans, 1, memory_order_relaxed);
    return s;
}

void fen__span_free(struct fen__span *s)
{
    uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    if (own)
        fen__record_free(FEN__REC_OWN, own, s->bin % FEN__CLASSES);
    atomic_fetch_sub_explicit(&set_of(s->node, s->bin)->spans, 1, memory_order_relaxed);
    fen__run_free(s->base, s->pages);
    fen__record_free(FEN__REC_SPAN, s, 0);
}

bool fen__span_carve(struct fen__span *s)
{
    uint32_t n = s->bytes >= CARVE_BYTES ? 1 : (uint32_t)(CARVE_BYTES / s->bytes);
    if (n > (uint32_t)(s->blocks - s->carved))
        n = (uint32_t)(s->blocks - s->carved);
    if (!n)
        return false;
    struct fen__block *next = s->free;
    for (uint32_t i = s->carved + n; i-- > s->carved;) {
        struct fen__block *b = (struct fen__block *)(s->base + i * s->bytes);
        b->next = next;
        if (s->bytes > sizeof b->next)
            b->mark = fen__mark_of(b);
        next = b;
    }
    s->free = next;
    s->carved = (uint16_t)(s->carved + n);
    return true;
}

bool fen__billed;

/* Everything in the span so far is account 0's, so the zeroes are true. A thread that frees such a
 * block meanwhile may see the array or not: both mean account 0. Whoever frees a block that was
 * billed has it from the thread that billed it, by some lock or queue of its own, and sees it. */
uint16_t *fen__span_owners(struct fen__span *s)
{
    uint16_t *own = atomic_load_explicit(&s->own, memory_order_acquire), *mine;
    size_t bytes = s->blocks * sizeof *own;
    if (own)
        return own;
    mine = fen__record_new(FEN__REC_OWN, bytes, s->bin % FEN__CLASSES);
    if (!mine)
        return NULL;
    memset(mine, 0, bytes);
    __atomic_store_n(&fen__billed, true, __ATOMIC_RELAXED);
    if (atomic_compare_exchange_strong(&s->own, &own, mine))
        return mine;
    fen__record_free(FEN__REC_OWN, mine, s->bin % FEN__CLASSES);
    return own;
}

/* ---- the central sets ---- */

/* The clock is looked at by those who have to wait, no other. */
static void set_lock(struct set *t)
{
    if (FEN__LIKELY(fen__trylock(&t->lock)))
        return;
    uint64_t from = fen__tsc();
    fen__lock(&t->lock);
    __atomic_store_n(&t->wait, t->wait + fen__tsc() - from, __ATOMIC_RELAXED);
}

static void set_out(struct set *t, struct fen__span *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        t->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        t->last = s->prev;
    __atomic_store_n(&t->n, t->n - 1, __ATOMIC_RELAXED);
}

static void set_end(struct set *t, struct fen__span *s)
{
    s->next = NULL;
    s->prev = t->last;
    if (t->last)
        t->last->next = s;
    else
        t->first = s;
    t->last = s;
    __atomic_store_n(&t->n, t->n + 1, __ATOMIC_RELAXED);
}

/* Lock held. What was freed by others since a span came here may have emptied it. Those that stay
 * go to the end, so that the next sweep looks at others. */
static size_t sweep(struct set *t, uint32_t n)
{
    size_t bytes = 0;
    for (n = n < t->n ? n : t->n; n; n--) {
        struct fen__span *s = t->first;
        set_out(t, s);
        fen__remote_collect(s);
        if (s->used) {
            set_end(t, s);
            continue;
        }
        bytes += (size_t)s->pages * FEN__PAGE_BYTES;
        fen__span_free(s);
    }
    return bytes;
}

static struct fen__span *get(struct fen__cache *c, struct set *t)
{
    if (!__atomic_load_n(&t->n, __ATOMIC_RELAXED)) /* a miss costs a new span, no more */
        return NULL;
    set_lock(t);
    struct fen__span *s = t->first;
    if (s) {
        set_out(t, s);
        atomic_store_explicit(&s->home, c, memory_order_relaxed);
    }
    fen__unlock(&t->lock);
    if (s)
        fen__remote_collect(s);
    return s;
}

struct fen__span *fen__central_get(struct fen__cache *c, uint32_t bin)
{
    return get(c, set_of(c->node, bin));
}

struct fen__span *fen__central_far(struct fen__cache *c, uint32_t bin)
{
    struct fen__span *s = NULL;
    uint32_t nodes = __atomic_load_n(&fen__nodes, __ATOMIC_RELAXED);
    for (uint32_t node = 0; !s && node < nodes; node++)
        s = get(c, set_of(node, bin));
    return s;
}

void fen__central_put(struct fen__span *s)
{
    struct set *t = set_of(s->node, s->bin);
    set_lock(t);
    atomic_store_explicit(&s->home, NULL, memory_order_relaxed);
    s->listed = true;
    s->idle = false;
    s->prev = NULL;
    s->next = t->first;
    if (t->first)
        t->first->prev = s;
    else
        t->last = s;
    t->first = s;
    __atomic_store_n(&t->n, t->n + 1, __ATOMIC_RELAXED);
    if (++t->puts % SWEEP_EVERY == 0)
        sweep(t, SWEEP_EVERY);
    fen__unlock(&t->lock);
}

uint32_t fen__central_sets(void)
{
    return FEN__BINS * __atomic_load_n(&fen__nodes, __ATOMIC_RELAXED);
}

size_t fen__central_sweep(uint32_t set, uint32_t n)
{
    set_lock(&sets[set]);
    size_t bytes = sweep(&sets[set], n);
    fen__unlock(&sets[set].lock);
    return bytes;
}

uint32_t fen__central_spans(uint32_t set)
{
    return __atomic_load_n(&sets[set].n, __ATOMIC_RELAXED);
}

void fen__central_count(uint32_t bin, fen_mem_class *c)
{
    for (uint32_t i = bin; i < fen__central_sets(); i += FEN__BINS) {
        const struct set *t = &sets[i];
        int64_t spans = atomic_load_explicit(&t->spans, memory_order_relaxed);
        c->spans += spans;
        c->blocks += spans * fen__classes[bin % FEN__CLASSES].blocks;
        c->partial_spans += fen__central_spans(i);
        c->wait_ns += fen__tsc_to_ns((int64_t)__atomic_load_n(&t->wait, __ATOMIC_RELAXED));
    }
}

void fen__central_lock(void)
{
    for (uint32_t i = 0; i < fen__central_sets(); i++)
        fen__lock(&sets[i].lock);
}

void fen__central_unlock(void)
{
    for (uint32_t i = 0; i < fen__central_sets(); i++)
        fen__unlock(&sets[i].lock);
}
