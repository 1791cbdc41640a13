/* slow.c - what the heap's fast paths lead to, and the calls that are never fast.
 *
 * Apart from heap.c, whose functions have no frame: these have one, so a stack that is walked from
 * here by frame pointers begins with the caller of the heap. A fast path that comes here is left by
 * a tail call; the return address then is the caller's. */
#include "mem/heap_int.h"

#include <string.h>

/* ---- taking a block ---- */

/* The block at hand goes to an account. False: no memory for the array that says so. */
bool fen__block_note(struct fen__span *s, const struct fen__block *b, uint32_t account)
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
    if (m->owner != account && !fen__block_note(fen__span_in_region(b), b, account))
        return NULL;
    m->head = b->next;
    m->limit++;
    if (bytes > (int64_t)sizeof b->next)
        b->mark = 0;
    fen__row_add(&r->alloc, bytes);
    fen__profile_spend(c, r, bytes);
    return b;
}

/* What was just handed out, or NULL. Nearly always that is all there is to do. */
static inline void *seen(struct fen__cache *c, void *p, uint32_t account)
{
    if (FEN__UNLIKELY(fen__profile_due(c)) && p)
        fen__profile_take(c, p, account);
    return p;
}

FEN__NOINLINE void *fen__heap_slow(size_t n, uint32_t account)
{
    struct fen__cache *c = fen__cache_get(true);
    bool zero;
    if (!c)
        return NULL;
    c->exact |= c->foreign && account;
    if (n > FEN__SMALL_MAX)
        return seen(c, fen__large_new(c, n, 1, account, &zero), account);
    if (FEN__UNLIKELY(__atomic_load_n(&fen__checked, __ATOMIC_RELAXED))) {
        void *p = fen__check_new(c, n, account);
        if (p)
            return seen(c, p, account);
    }
    return seen(c, fen__block_take(c, fen__class_of(n), account), account);
}

FEN__NOINLINE void *fen__heap_mine(size_t n)
{
    struct fen__cache *c = fen__cache_self();
    return fen__heap_slow(n, c ? c->now.account : 0);
}

/* ---- the rest ---- */

/* The span of a pointer that came to free or realloc. */
struct fen__span *fen__span_of(const void *p)
{
    uint8_t kind = fen__region_kind(p);
    struct fen__span *s = kind == FEN__MAP_REGION ? fen__span_in_region(p)
                          : kind == FEN__MAP_HUGE ? fen__huge_of(p)
                                                  : NULL;
    if (!s || s == &fen__span_none)
        fen__misuse("not a block of this heap", p, NULL);
    return s;
}

void *fen__heap_zalloc(size_t n)
{
    struct fen__cache *c = n > FEN__SMALL_MAX ? fen__cache_get(true) : NULL;
    bool zero = false;
    void *p = c ? seen(c, fen__large_new(c, n, 1, c->now.account, &zero), c->now.account)
                : fen__heap_alloc(n);
    return !p || zero ? p : memset(p, 0, n);
}

size_t fen__heap_usable(const void *p)
{
    if (!p)
        return 0;
    struct fen__span *s = fen__span_of(p);
    return s->special & FEN__SPAN_CHECKED ? fen__check_size(s, p) : s->bytes;
}

uint32_t fen__heap_account(const void *p)
{
    struct fen__span *s = fen__span_of(p);
    const uint16_t *own = atomic_load_explicit(&s->own, memory_order_relaxed);
    uint32_t n = own ? fen__block_number(s, p) : 0;
    return n == UINT32_MAX ? 0 : own ? own[n] : s->account;
}

void *fen__heap_realloc(void *p, size_t n)
{
    if (!p)
        return fen__heap_alloc(n);
    struct fen__span *s = fen__span_of(p);
    const struct fen__block *b = p;
    if (s->special & FEN__SPAN_LARGE ? p != s->base : fen__block_number(s, p) == UINT32_MAX)
        fen__misuse("realloc of a pointer into the middle of a block", p, s);
    if (!(s->special & (FEN__SPAN_LARGE | FEN__SPAN_TINY)) && b->mark == fen__mark_of(p))
        fen__misuse("realloc of a freed block", p, s);
    size_t have = fen__heap_usable(p), was = s->bytes;
    /* 16 bytes need another alignment than the 24 they could stay in. */
    bool fits = n <= have && (n > have / 2 || have <= 64) && (have != 24 || n > 16);
    struct fen__cache *c = s->special & FEN__SPAN_LARGE ? fen__cache_get(true) : NULL;
    void *q = c ? fen__large_resize(c, s, n) : fits && !(s->special & FEN__SPAN_CHECKED) ? p : NULL;
    if (q) {
        if (c && s->bytes != was)
            fen__profile_resized(c, s, p, was);
        return q;
    }
    q = fen__heap_alloc_for(fen__heap_account(p), n);
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
    *ret_p = seen(c, p, c->now.account);
    return 0;
}
