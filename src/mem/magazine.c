/* magazine.c - free blocks at hand: what the fast paths take from and put into.
 *
 * Two stacks a bin. Blocks go on `head`; when it is full, it becomes `alt`, and what `alt` held,
 * all older, goes back to the spans. An empty `head` takes `alt` over, or is filled with half a
 * stack from the cache's spans. So a program whose use swings by less than a stack never gets to
 * the spans, and the block that was freed last, which the processor's caches still hold, is the
 * next to be handed out.
 *
 * A block in a magazine counts as used in its span, whoever is its home. Going back is where homes
 * matter: to a span of this cache directly, to any other by remote.c, in batches. So what one
 * thread makes and another frees still returns to the first, and the other keeps two stacks of it
 * at most: MAG_BYTES each, where a block is large MAG_LEAST blocks.
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
#define MAG_LEAST 8

static int32_t size_of(uint32_t bin)
{
    uint32_t n = MAG_BYTES / fen__classes[bin % FEN__CLASSES].bytes;
    return n > MAG_MOST ? MAG_MOST : n < MAG_LEAST ? MAG_LEAST : (int32_t)n;
}

void fen__mag_init(struct fen__cache *c)
{
    for (uint32_t i = 0; i < FEN__BINS; i++)
        c->mag[i].room = size_of(i);
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

static void all_back(struct fen__cache *c, struct fen__block *b)
{
    while (b) {
        struct fen__block *next = b->next;
        __builtin_prefetch(next);
        put_back(c, b);
        b = next;
    }
}

void fen__mag_full(struct fen__cache *c, uint32_t bin)
{
    struct fen__mag *m = &c->mag[bin];
    struct fen__block *old = m->alt;
    m->alt = m->head;
    m->alt_owner = m->owner;
    m->head = NULL;
    m->room = size_of(bin);
    all_back(c, old);
}

void fen__mag_anew(struct fen__cache *c, uint32_t bin)
{
    struct fen__mag *m = &c->mag[bin];
    struct fen__block *old = m->head;
    m->head = NULL;
    m->owner = 0;
    m->room = size_of(bin);
    all_back(c, old);
}

void fen__mag_flush(struct fen__cache *c)
{
    for (uint32_t i = 0; i < FEN__BINS; i++) {
        struct fen__mag *m = &c->mag[i];
        struct fen__block *head = m->head, *alt = m->alt;
        m->head = m->alt = NULL;
        m->room = size_of(i);
        all_back(c, head);
        all_back(c, alt);
    }
}

void fen__block_back(struct fen__cache *c, struct fen__span *s, struct fen__block *b)
{
    if (s->bytes > sizeof b->next)
        b->mark = fen__mark_of(b);
    if (!c) {
        put_back(NULL, b);
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
    m->room = -1; /* a full stack has one more than its room */
    return true;
}

bool fen__mag_fill(struct fen__cache *c, uint32_t bin, uint32_t account)
{
    struct fen__mag *m = &c->mag[bin];
    int32_t size = size_of(bin), n = 1, want = size / 2;
    if (m->alt)
        return take_alt(m);
    struct fen__span *s = c->bin[bin];
    if (!s->free)
        s = fen__cache_refill(c, bin);
    if (!s)
        return false;
    struct fen__block *first = s->free, *last = first;
    for (; n < want && last->next; n++)
        last = last->next;
    if (!note(s, first, last, account))
        return false;
    s->free = last->next;
    last->next = NULL;
    s->used += (uint32_t)n;
    m->head = first;
    m->owner = (uint16_t)account;
    m->room = size - n;
    return true;
}
