/* heap.c - the heap's fast paths; slow.c is what they lead to.
 *
 * An allocation takes the top block of the class's magazine and adds its bytes to the row of the
 * account that pays; a free finds the span by the address, takes the bytes off the row of the
 * account that paid, and puts the block on top of the magazine, whoever its home is. Whatever needs
 * more (an empty or a full magazine, no account array, a row that is out of date or has no lease
 * left, tiny, large and checked blocks) leaves the fast path by a branch that is well predicted.
 *
 * Order: a block is charged before it is handed out, so a cap can refuse it; it is taken off the
 * bill before others can have it. Classes of 8 bytes have no room for the mark of a free block and
 * always go the slow way, and so do those of a page in which one begins that the profile has
 * noted, until free has looked which it is. */
#include "base/sanitize.h"
#include "mem/heap_int.h"

/* ---- taking a block ---- */

/* The block at hand is noted for another account than the one that pays. */
static FEN__NOINLINE void *alloc_noted(struct fen__cache *c, uint32_t bin)
{
    struct fen__mag *m = &c->mag[bin];
    struct fen__block *b = m->head;
    if (!fen__block_note(fen__span_in_region(b), b, c->now.account))
        return NULL;
    fen__row_add(&c->now.row->alloc, fen__classes[bin].bytes);
    m->head = b->next;
    m->limit++;
    b->mark = 0;
    return b;
}

/* Each way out of a fast path is a tail call, so that the path itself saves no register. */
void *fen__heap_alloc(size_t n)
{
    struct fen__cache *c = fen__cache_self();
    if (FEN__UNLIKELY(!c || n - 9 > FEN__SMALL_MAX - 9)) /* 8 and less wrap around */
        return fen__heap_mine(n);
    uint32_t bin = fen__class_of(n);
    struct fen__mag *m = &c->mag[bin];
    struct fen__mem_row *r = c->now.row;
    struct fen__block *b = m->head;
    int64_t alloc = r->alloc + m->bytes;
    if (FEN__UNLIKELY(!b || alloc > c->now.gate))
        return fen__heap_mine(n);
    if (FEN__UNLIKELY(m->owner != c->now.account))
        return alloc_noted(c, bin);
    struct fen__block *next = b->next;
    __builtin_prefetch(next, 1);
    __atomic_store_n(&r->alloc, alloc, __ATOMIC_RELAXED);
    m->head = next;
    m->limit++;
    b->mark = 0;
    return b;
}

void *fen__heap_alloc_for(uint32_t account, size_t n)
{
    struct fen__cache *c = fen__cache_self();
    if (c && c->now.account == account)
        return fen__heap_alloc(n);
    return account < FEN__ACCOUNTS_MAX ? fen__heap_slow(n, account) : NULL;
}

/* ---- giving it back ---- */

/* The account that the block is charged to; from now on it is noted for the stack that it will
 * join. A stack of another account cannot take a block of a span without an array: the stack is
 * sent off and begins anew as account 0's. */
static inline uint32_t take_owner(struct fen__cache *c, struct fen__span *s, const void *p)
{
    uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    struct fen__mag *m = c ? &c->mag[s->bin] : NULL;
    uint32_t account = own ? own[fen__block_index(s, p)] : 0;
    if (FEN__LIKELY(!m || m->owner == account))
        return account;
    if (!m->head)
        m->owner = (uint16_t)account;
    else if (own)
        own[fen__block_index(s, p)] = m->owner;
    else
        fen__mag_anew(c, s->bin);
    return account;
}

static FEN__NOINLINE void free_checked(void *p)
{
    struct fen__cache *c = fen__cache_get(false);
    struct fen__span *s = fen__span_of(p);
    if (s->special & FEN__SPAN_LARGE) {
        fen__large_free(c, s, p);
        return;
    }
    struct fen__block *b = p;
    if (fen__block_number(s, p) == UINT32_MAX)
        fen__misuse("free of a pointer into the middle of a block", p, s);
    if (s->bytes > sizeof b->next && b->mark == fen__mark_of(b))
        fen__misuse("double free", p, s);
    if (s->special & FEN__SPAN_CHECKED)
        (void)fen__check_size(s, p); /* before its account is believed */
    if (fen__profile_has(s, p))
        fen__profile_freed(s, p);
    fen__row_freed(c, take_owner(c, s, p), (int64_t)s->bytes);
    if (s->special & FEN__SPAN_CHECKED)
        fen__check_free(c, s, p);
    else
        fen__block_back(c, s, b);
}

/* Of an account that is not the current one, or whose row must be settled, or into a stack that is
 * noted for another. */
static FEN__NOINLINE void free_other(struct fen__cache *c, struct fen__block *b)
{
    struct fen__span *s = fen__span_in_region(b);
    int64_t bytes = (int64_t)s->bytes;
    if (fen__block_number(s, b) == UINT32_MAX)
        fen__misuse("free of a pointer into the middle of a block", b, s);
    uint32_t account = take_owner(c, s, b);
    struct fen__mem_row *g =
        atomic_load_explicit(&c->rows[account / FEN__ROW_GROUP], memory_order_relaxed);
    struct fen__mem_row *r = g ? g + account % FEN__ROW_GROUP : NULL;
    if (FEN__LIKELY(r && r->freed + bytes <= r->fgate && r->stamp == c->now.now))
        fen__row_add(&r->freed, bytes);
    else
        fen__row_freed(c, account, bytes);
    b->mark = fen__mark_of(b);
    if (FEN__UNLIKELY(s->node != c->node))
        fen__far_free(c, s, b);
    else
        fen__mag_put(c, s->bin, b);
}

static FEN__NOINLINE void free_billed(struct fen__cache *c, struct fen__block *b, uint32_t bin)
{
    const struct fen__span *s = fen__span_in_region(b);
    const uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    uint32_t n = fen__block_number(s, b);
    uint32_t account = own && n != UINT32_MAX ? own[n] : 0;
    int64_t freed = c->now.row->freed + (int64_t)s->bytes;
    if (FEN__UNLIKELY(n == UINT32_MAX || account != c->row_id || account != c->mag[bin].owner ||
                      freed > c->now.fgate || s->node != c->node)) {
        free_other(c, b);
        return;
    }
    __atomic_store_n(&c->now.row->freed, freed, __ATOMIC_RELAXED);
    b->mark = fen__mark_of(b);
    fen__mag_put(c, bin, b);
}

static FEN__NOINLINE void free_twice(const void *p)
{
    fen__misuse("double free", p, fen__span_in_region(p));
}

static inline void free_small(struct fen__cache *c, struct fen__block *b, uint32_t bin)
{
    uintptr_t mark = fen__mark_of(b);
    if (FEN__UNLIKELY(b->mark == mark)) {
        free_twice(b);
        return;
    }
    struct fen__mem_row *r = c->now.row;
    int64_t freed = r->freed + c->mag[bin].bytes;
    if (FEN__UNLIKELY(freed > c->now.fgate || __atomic_load_n(&fen__billed, __ATOMIC_RELAXED))) {
        free_billed(c, b, bin);
        return;
    }
    __atomic_store_n(&r->freed, freed, __ATOMIC_RELAXED);
    b->mark = mark;
    fen__mag_put(c, bin, b);
}

static FEN__NOINLINE void free_slow(void *p)
{
    struct fen__cache *c = fen__cache_self();
    if (!p)
        return;
    struct fen__span *s = fen__region_kind(p) == FEN__MAP_REGION ? fen__span_in_region(p) : NULL;
    if (!c || !s || s->special) {
        free_checked(p);
        return;
    }
    if (fen__profile_has(s, p)) /* else another block of the page is noted */
        fen__profile_freed(s, p);
    free_small(c, p, s->bin);
}

void fen__heap_free(void *p)
{
    struct fen__cache *c = fen__cache_self();
    uint32_t bin;
    if (FEN__UNLIKELY(!c || fen__region_kind(p) != FEN__MAP_REGION ||
                      (bin = fen__page_bin(p)) == FEN__BIN_SLOW))
        free_slow(p);
    else
        free_small(c, p, bin);
}

#ifndef FEN__ASAN /* there: blocks.c */
/* The public names themselves, not calls of these. */
void *fen_alloc(size_t size_bytes) __attribute__((alias("fen__heap_alloc")));
void fen_free(void *p) __attribute__((alias("fen__heap_free")));
#endif
