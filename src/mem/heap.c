/* heap.c - the heap's fast paths, and what they lead to.
 *
 * An allocation takes the top block of the class's magazine and adds its bytes to the row of the
 * account that pays; a free finds the span by the address, takes the bytes off the row of the
 * account that paid, and puts the block on top of the magazine, whoever its home is. Whatever needs
 * more (an empty or a full magazine, no account array, a row that is out of date or has no lease
 * left, tiny, large and checked blocks) leaves the fast path by a branch that is well predicted.
 *
 * Order: a block is charged before it is handed out, so a cap can refuse it; it is taken off the
 * bill before others can have it. Classes of 8 bytes have no room for the mark of a free block and
 * always go the slow way. */
#include "base/sanitize.h"
#include "mem/heap_int.h"

#include <string.h>

/* ---- taking a block ---- */

/* The block at hand goes to an account. False: no memory for the array that says so. */
static bool give_owner(struct fen__span *s, const struct fen__block *b, uint32_t account)
{
    uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    if (!own && account)
        own = fen__span_owners(s);
    if (own)
        own[fen__block_index(s, b)] = (uint16_t)account;
    return own || !account;
}

void *fen__block_take(struct fen__cache *c, uint32_t bin, uint32_t account)
{
    int64_t bytes = fen__classes[bin % FEN__CLASSES].bytes;
    struct fen__mem_row *r = fen__row_get(c, account);
    struct fen__mag *m = &c->mag[bin];
    if (!r || !fen__row_settle(c, r, account, bytes))
        return NULL;
    if (!m->head && !fen__mag_fill(c, bin, account))
        return NULL;
    struct fen__block *b = m->head;
    if (m->owner != account && !give_owner(fen__span_in_region(b), b, account))
        return NULL;
    m->head = b->next;
    m->limit++;
    if (bytes > (int64_t)sizeof b->next)
        b->mark = 0;
    fen__row_add(&r->alloc, bytes);
    return b;
}

static FEN__NOINLINE void *alloc_slow(size_t n, uint32_t account)
{
    struct fen__cache *c = fen__cache_get(true);
    bool zero;
    if (!c)
        return NULL;
    c->exact |= c->foreign && account;
    if (account == c->now.account && account != c->row_id) /* there was no memory for its row */
        fen__mem_account_use(&c->now, account);
    if (n > FEN__SMALL_MAX)
        return fen__large_new(c, n, 1, account, &zero);
    if (FEN__UNLIKELY(__atomic_load_n(&fen__checked, __ATOMIC_RELAXED))) {
        void *p = fen__check_new(c, n, account);
        if (p)
            return p;
    }
    return fen__block_take(c, fen__class_of(n), account);
}

static FEN__NOINLINE void *alloc_mine(size_t n)
{
    struct fen__cache *c = fen__cache_self();
    return alloc_slow(n, c ? c->now.account : 0);
}

/* The block at hand is noted for another account than the one that pays. */
static FEN__NOINLINE void *alloc_noted(struct fen__cache *c, uint32_t bin)
{
    struct fen__mag *m = &c->mag[bin];
    struct fen__block *b = m->head;
    if (!give_owner(fen__span_in_region(b), b, c->now.account))
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
        return alloc_mine(n);
    uint32_t bin = fen__class_of(n);
    struct fen__mag *m = &c->mag[bin];
    struct fen__mem_row *r = c->now.row;
    struct fen__block *b = m->head;
    int64_t alloc = r->alloc + m->bytes;
    if (FEN__UNLIKELY(!b || alloc > c->now.gate))
        return alloc_mine(n);
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
    return account < FEN__ACCOUNTS_MAX ? alloc_slow(n, account) : NULL;
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

/* The span of a pointer that came to free or realloc. */
static struct fen__span *span_of(const void *p)
{
    uint8_t kind = fen__region_kind(p);
    struct fen__span *s = kind == FEN__MAP_REGION ? fen__span_in_region(p)
                          : kind == FEN__MAP_HUGE ? fen__huge_of(p)
                                                  : NULL;
    if (!s || s == &fen__span_none)
        fen__misuse("not a block of this heap", p, NULL);
    return s;
}

static FEN__NOINLINE void free_slow(void *p)
{
    if (!p)
        return;
    struct fen__cache *c = fen__cache_get(false);
    struct fen__span *s = span_of(p);
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

void fen__heap_free(void *p)
{
    struct fen__cache *c = fen__cache_self();
    struct fen__block *b = p;
    uint32_t bin;
    if (FEN__UNLIKELY(!c || fen__region_kind(p) != FEN__MAP_REGION ||
                      (bin = fen__page_bin(p)) == FEN__BIN_SLOW)) {
        free_slow(p);
        return;
    }
    uintptr_t mark = fen__mark_of(b);
    if (FEN__UNLIKELY(b->mark == mark)) {
        free_twice(p);
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

/* ---- the rest ---- */

void *fen__heap_zalloc(size_t n)
{
    struct fen__cache *c = n > FEN__SMALL_MAX ? fen__cache_get(true) : NULL;
    bool zero = false;
    void *p = c ? fen__large_new(c, n, 1, c->now.account, &zero) : fen__heap_alloc(n);
    return !p || zero ? p : memset(p, 0, n);
}

size_t fen__heap_usable(const void *p)
{
    if (!p)
        return 0;
    struct fen__span *s = span_of(p);
    return s->special & FEN__SPAN_CHECKED ? fen__check_size(s, p) : s->bytes;
}

uint32_t fen__heap_account(const void *p)
{
    struct fen__span *s = span_of(p);
    const uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    uint32_t n = own ? fen__block_number(s, p) : 0;
    return n == UINT32_MAX ? 0 : own ? own[n] : s->account;
}

void *fen__heap_realloc(void *p, size_t n)
{
    if (!p)
        return fen__heap_alloc(n);
    struct fen__span *s = span_of(p);
    size_t have = fen__heap_usable(p);
    /* 16 bytes need another alignment than the 24 they could stay in. */
    bool fits = n <= have && (n > have / 2 || have <= 64) && (have != 24 || n > 16);
    struct fen__cache *c = s->special & FEN__SPAN_LARGE ? fen__cache_get(true) : NULL;
    if (c ? fen__large_resize(c, s, n) : fits && !(s->special & FEN__SPAN_CHECKED))
        return p;
    void *q = fen__heap_alloc_for(fen__heap_account(p), n);
    if (!q)
        return NULL;
    memcpy(q, p, n < have ? n : have);
    fen__heap_free(p);
    return q;
}

/* Spans begin at a page, so the blocks of a class lie at multiples of what divides their size. */
int fen__heap_aligned(size_t align, size_t n, void **ret_p)
{
    struct fen__cache *c = fen__cache_get(true);
    bool zero;
    if (!align || align & (align - 1))
        return -EINVAL;
    if (!c)
        return -ENOMEM;
    uint32_t bin =
        n <= FEN__SMALL_MAX && align <= FEN__PAGE_BYTES ? fen__class_of(n) : FEN__CLASSES;
    while (bin < FEN__CLASSES && fen__classes[bin].bytes % align)
        bin++;
    void *p = bin < FEN__CLASSES ? fen__block_take(c, bin, c->now.account)
                                 : fen__large_new(c, n ? n : 1, align, c->now.account, &zero);
    if (!p)
        return -ENOMEM;
    *ret_p = p;
    return 0;
}

#ifndef FEN__ASAN /* there: blocks.c */
/* The public names themselves, not calls of these. */
void *fen_alloc(size_t size_bytes) __attribute__((alias("fen__heap_alloc")));
void fen_free(void *p) __attribute__((alias("fen__heap_free")));
#endif
