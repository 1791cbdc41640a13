/* large.c - blocks above the largest class: a run of pages each, or a map of its own.
 *
 * The span of such a block has one block, no home and its account in itself. It is made and freed
 * by any thread, under the lock of the page heap alone. A run grows where it is if the pages behind
 * it are free. A map grows and shrinks by mremap: when there is no room behind it, the kernel moves
 * its pages to another address, which takes less than to copy what is in them. */
#include "mem/heap_int.h"

static size_t pages_of(size_t n) { return (n + FEN__PAGE_BYTES - 1) / FEN__PAGE_BYTES; }

static int get_memory(struct fen__span *s, size_t pages, size_t align, bool *ret_zero)
{
    size_t align_pages = align > FEN__PAGE_BYTES ? align / FEN__PAGE_BYTES : 1;
    s->map_bytes = 0;
    if (pages <= FEN__RUN_PAGES_MAX && align_pages < FEN__REGION_PAGES / 2) {
        s->pages = (uint32_t)pages;
        return fen__run_new(s->pages, (uint32_t)align_pages, s, &s->base, ret_zero);
    }
    *ret_zero = true;
    s->pages = 0;
    return fen__huge_new(pages * FEN__PAGE_BYTES, align, s);
}

static void init(struct fen__span *s, size_t bytes, uint32_t account)
{
    s->free = NULL;
    s->used = 1;
    s->special = FEN__SPAN_LARGE;
    s->bin = 0;
    s->blocks = 1;
    s->bytes = bytes;
    s->recip = 0;
    s->listed = s->idle = false;
    s->account = account;
    s->samples = NULL;
    atomic_store_explicit(&s->noted, 0, memory_order_relaxed);
    atomic_store_explicit(&s->own, NULL, memory_order_relaxed);
    atomic_store_explicit(&s->home, NULL, memory_order_relaxed);
    atomic_store_explicit(&s->remote, FEN__REMOTE_LISTED, memory_order_relaxed);
}

void *fen__large_new(struct fen__cache *c, size_t n, size_t align, uint32_t account, bool *ret_zero)
{
    if (n > SIZE_MAX / 4)
        return NULL;
    size_t pages = pages_of(n), bytes = pages * FEN__PAGE_BYTES;
    struct fen__mem_row *r = fen__row_get(c, account);
    if (!r || !fen__row_settle(c, r, account, (int64_t)bytes))
        return NULL;
    struct fen__span *s = fen__record_new(FEN__REC_SPAN, sizeof *s, 0);
    if (!s)
        return NULL;
    init(s, bytes, account);
    s->node = c->node;
    if (get_memory(s, pages, align, ret_zero)) {
        fen__record_free(FEN__REC_SPAN, s, 0);
        return NULL;
    }
    fen__row_add(&r->alloc, (int64_t)bytes);
    fen__profile_spend(c, r, (int64_t)bytes);
    return s->base;
}

void fen__large_free(struct fen__cache *c, struct fen__span *s, const void *p)
{
    if (p != s->base)
        fen__misuse("free of a pointer into the middle of a block", p, s);
    if (fen__profile_has(s, p))
        fen__profile_freed(s, p);
    fen__row_freed(c, s->account, (int64_t)s->bytes);
    if (s->map_bytes)
        fen__huge_free(s);
    else
        fen__run_free(s->base, s->pages);
    fen__record_free(FEN__REC_SPAN, s, 0);
}

/* Of the pages of a run, or of a map. */
static bool resize(struct fen__span *s, size_t pages)
{
    if (s->map_bytes)
        return fen__huge_resize(s, pages * FEN__PAGE_BYTES);
    if (!fen__run_resize(s->base, s->pages, (uint32_t)pages, s))
        return false;
    s->pages = (uint32_t)pages;
    return true;
}

void *fen__large_resize(struct fen__cache *c, struct fen__span *s, size_t n)
{
    if (n <= FEN__SMALL_MAX || n > SIZE_MAX / 4)
        return NULL;
    size_t pages = pages_of(n), bytes = pages * FEN__PAGE_BYTES;
    if (bytes == s->bytes)
        return s->base;
    if ((pages > FEN__RUN_PAGES_MAX) != (s->map_bytes != 0))
        return NULL;
    int64_t more = (int64_t)bytes - (int64_t)s->bytes;
    struct fen__mem_row *r = more > 0 ? fen__row_get(c, s->account) : NULL;
    if (more > 0 && (!r || !fen__row_settle(c, r, s->account, more)))
        return NULL;
    if (!resize(s, pages))
        return NULL;
    if (more > 0)
        fen__row_add(&r->alloc, more);
    else
        fen__row_freed(c, s->account, -more);
    s->bytes = bytes;
    return s->base;
}
