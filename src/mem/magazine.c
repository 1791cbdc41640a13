/* magazine.c - free blocks at hand: what the fast paths take from and put into.
 *
 * Two stacks a bin. Blocks go on `head`; when it is full, it becomes `alt`, and what `alt` held,
 * all older, goes back to the spans. An empty `head` takes `alt` over, or is filled with half a
 * stack from the cache's spans, of several if each has few. So a program whose use swings by less
 * than a stack never gets to the spans, and the block that was freed last, which the processor's
 * caches still hold, is the next to be handed out.
 *
 * A block in a magazine counts as used in its span, whoever is its home. Going back is where homes
 * matter: to a span of this cache directly, to any other by remote.c, in batches. A stack whose top
 * block is another cache's goes as a whole to the depot (depot.c), if that has room, and from there
 * to whoever's stacks are empty first. So what one thread makes and another frees still returns to
 * the first, and the other keeps two stacks of it at most: MAG_BYTES each, where a block is large
 * MAG_LEAST blocks.
 *
 * A stack's room is the difference of two counters, one for each direction: with one for both, an
 * allocation waits for what the free before it stored, and that for what the allocation before it
 * stored, which took longer than all the rest of a pair. For the same reason, and because what
 * another thread freed lies in that one's processor cache, an allocation prefetches the next block.
 *
 * Accounts are noted ahead: every block of a stack is noted beside its span for the stack's owner.
 * A free, which has to look there anyway, notes the block for the owner of the stack that it joins;
 * filling notes what it fills. So an allocation for the owner writes nothing, and one for another
 * account notes its block. (A span without an array has account 0's blocks only, which need none.)
 *
 * Rejected: taking from the current span at once, without magazines (a free then touches the span's
 * line and its list, and a new block is the one that was free the longest: 1.7 times as slow on
 * random sizes). */
#include "mem/heap_int.h"

#define MAG_BYTES 32768
#define MAG_MOST 512
#define MAG_LEAST 16

static _Atomic int64_t out_by_nobody[FEN__CLASSES]; /* threads without a cache */

static int32_t size_of(uint32_t bin)
{
    uint32_t n = MAG_BYTES / fen__classes[bin % FEN__CLASSES].bytes;
    return n > MAG_MOST ? MAG_MOST : n < MAG_LEAST ? MAG_LEAST : (int32_t)n;
}

/* A full stack has one more than its room. */
static int64_t full_bytes(uint32_t bin)
{
    return (int64_t)(size_of(bin) + 1) * fen__classes[bin].bytes;
}

static void set_room(struct fen__mag *m, int32_t n) { m->limit = m->puts + (uint32_t)n; }

void fen__mag_init(struct fen__cache *c)
{
    for (uint32_t i = 0; i < FEN__BINS; i++) {
        c->mag[i].bytes = fen__classes[i % FEN__CLASSES].bytes;
        set_room(&c->mag[i], size_of(i));
    }
}

/* ---- back to the spans ---- */

/* Not its home's current span, and now empty or, until now, full. */
static void back_rare(struct fen__cache *c, struct fen__span *s)
{
    if (!s->listed)
        fen__cache_relist(c, s);
    if (!s->used)
        fen__cache_empty(c, s);
}

static void put_back(struct fen__cache *c, struct fen__block *b)
{
    struct fen__span *s = fen__span_in_region(b);
    if (!c || atomic_load_explicit(&s->home, memory_order_relaxed) != c) {
        fen__remote_free(c, s, b);
        return;
    }
    b->next = s->free;
    s->free = b;
    s->used--;
    if ((!s->used || !s->listed) && c->bin[s->bin] != s)
        back_rare(c, s);
}

static void count_out(struct fen__cache *c, uint32_t bin, int64_t n)
{
    if (c)
        fen__row_add(&c->count[bin % FEN__CLASSES].out, n);
    else
        atomic_fetch_add_explicit(&out_by_nobody[bin % FEN__CLASSES], n, memory_order_relaxed);
}

static void all_back(struct fen__cache *c, uint32_t bin, struct fen__block *b)
{
    int64_t n = 0;
    if (!b)
        return;
    fen__cache_lock(c);
    while (b) {
        struct fen__block *next = b->next;
        __builtin_prefetch(next);
        put_back(c, b);
        b = next;
        n++;
    }
    fen__cache_unlock(c);
    count_out(c, bin, -n);
}

static bool foreign(const struct fen__cache *c, const struct fen__block *b)
{
    return atomic_load_explicit(&fen__span_in_region(b)->home, memory_order_relaxed) != c;
}

void fen__mag_full(struct fen__cache *c, uint32_t bin)
{
    struct fen__mag *m = &c->mag[bin];
    struct fen__block *old = m->alt;
    uint16_t owner = m->alt_owner;
    m->alt = m->head;
    m->alt_owner = m->owner;
    m->head = NULL;
    set_room(m, size_of(bin));
    if (!old || (bin < FEN__CLASSES && foreign(c, old) &&
                 fen__depot_put(c->node, bin, old, owner, full_bytes(bin))))
        return;
    all_back(c, bin, old);
}

bool fen__mag_drain(struct fen__cache *c, uint32_t node, uint32_t bin)
{
    uint16_t owner;
    struct fen__block *b = fen__depot_get(node, bin, &owner, full_bytes(bin));
    all_back(c, bin, b);
    return b;
}

void fen__mag_anew(struct fen__cache *c, uint32_t bin)
{
    struct fen__mag *m = &c->mag[bin];
    struct fen__block *old = m->head;
    m->head = NULL;
    m->owner = 0;
    set_room(m, size_of(bin));
    all_back(c, bin, old);
}

void fen__mag_flush(struct fen__cache *c)
{
    for (uint32_t i = 0; i < FEN__BINS; i++) {
        struct fen__mag *m = &c->mag[i];
        struct fen__block *head = m->head, *alt = m->alt;
        m->head = m->alt = NULL;
        set_room(m, size_of(i));
        all_back(c, i, head);
        all_back(c, i, alt);
    }
}

void fen__block_back(struct fen__cache *c, struct fen__span *s, struct fen__block *b)
{
    if (s->bytes > sizeof b->next)
        b->mark = fen__mark_of(b);
    if (!c) {
        put_back(NULL, b);
        count_out(NULL, s->bin, -1);
        return;
    }
    if (FEN__UNLIKELY(s->node != c->node)) {
        fen__far_free(c, s, b);
        return;
    }
    uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    if (own)
        own[fen__block_index(s, b)] = c->mag[s->bin].owner;
    else if (c->mag[s->bin].owner)
        fen__mag_anew(c, s->bin);
    fen__mag_put(c, s->bin, b);
}

/* ---- from the spans ---- */

/* Notes the blocks up to and with last for account; false: no memory for the array. */
static bool note(struct fen__span *s, const struct fen__block *b, const struct fen__block *last,
                 uint32_t account)
{
    uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    if (!own && !account)
        return true;
    if (!own && !(own = fen__span_owners(s)))
        return false;
    for (;; b = b->next) {
        own[fen__block_index(s, b)] = (uint16_t)account;
        if (b == last)
            return true;
    }
}

static bool take_alt(struct fen__mag *m)
{
    m->head = m->alt;
    m->owner = m->alt_owner;
    m->alt = NULL;
    set_room(m, -1);
    return true;
}

static bool take_shelved(const struct fen__cache *c, struct fen__mag *m, uint32_t bin)
{
    struct fen__block *b = fen__depot_get(c->node, bin, &m->owner, full_bytes(bin));
    if (!b)
        return false;
    m->head = b;
    set_room(m, -1);
    return true;
}

bool fen__mag_fill(struct fen__cache *c, uint32_t bin, uint32_t account)
{
    struct fen__mag *m = &c->mag[bin];
    int32_t size = size_of(bin), n = 0, want = size / 2;
    if (m->alt)
        return take_alt(m);
    fen__row_add(&c->count[bin % FEN__CLASSES].refills, 1);
    if (bin < FEN__CLASSES && take_shelved(c, m, bin))
        return true;
    if (FEN__UNLIKELY(fen_mem_pressure() != FEN_MEM_EASY))
        fen__mem_idle();
    fen__cache_lock(c);
    struct fen__span *s = c->bin[bin];
    if (!s->free)
        s = fen__cache_refill(c, bin);
    struct fen__block *head = NULL;
    while (s && n < want) { /* of several spans, where each has few */
        struct fen__block *first = s->free, *last = first;
        uint32_t k = 1;
        for (; n + (int32_t)k < want && last->next; k++)
            last = last->next;
        if (!note(s, first, last, account))
            break;
        s->free = last->next;
        last->next = head;
        s->used += k;
        n += (int32_t)k;
        head = first;
        s = fen__cache_listed(c, bin) ? fen__cache_refill(c, bin) : NULL;
    }
    fen__cache_unlock(c);
    count_out(c, bin, n);
    m->head = head;
    m->owner = (uint16_t)account;
    set_room(m, size - n);
    return head;
}

/* ---- counts ---- */

struct count {
    fen_mem_class *to;
    uint32_t bin;
};

static void add_count(struct fen__cache *c, void *arg)
{
    const struct count *n = arg;
    n->to->refills += __atomic_load_n(&c->count[n->bin].refills, __ATOMIC_RELAXED);
    n->to->out_blocks += __atomic_load_n(&c->count[n->bin].out, __ATOMIC_RELAXED);
}

void fen__mag_count(uint32_t bin, fen_mem_class *c)
{
    c->out_blocks += atomic_load_explicit(&out_by_nobody[bin], memory_order_relaxed);
    fen__cache_each(add_count, &(struct count){c, bin});
}
