/* blocks.c - the face of the heap: public calls, and blocks for the rooms above with the fault seam
 * of tests in front.
 *
 * Under AddressSanitizer both come from the C library instead, with a head for size and account,
 * so that the sanitizer sees every block and every leak of a program; the heap itself is tested
 * there by its own tests. */
#include "mem/heap_int.h"

#include "base/sanitize.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#ifdef FEN__ASAN

struct head {
    size_t bytes;
    char *whole;
    uint32_t account;
    uint32_t pad[3];
};

static int64_t live_bytes; /* by __atomic calls only */

static void *with_head(char *whole, size_t skew, size_t n, uint32_t account)
{
    if (!whole)
        return NULL;
    struct head *h = (struct head *)(whole + skew) - 1;
    *h = (struct head){.bytes = n, .whole = whole, .account = account};
    __atomic_fetch_add(&live_bytes, (int64_t)n, __ATOMIC_RELAXED);
    return h + 1;
}

static void *get_for(uint32_t account, size_t n)
{
    if (n > SIZE_MAX / 2 || account >= FEN__ACCOUNTS_MAX)
        return NULL;
    return with_head(malloc(sizeof(struct head) + n), sizeof(struct head), n, account);
}

static void *get(size_t n) { return get_for(fen_mem_account(), n); }

static void *get_zero(size_t n)
{
    void *p = get(n);
    return p ? memset(p, 0, n) : NULL;
}

static size_t size_of(const void *p) { return p ? ((const struct head *)p)[-1].bytes : 0; }

static void put(void *p)
{
    if (!p)
        return;
    struct head *h = (struct head *)p - 1;
    __atomic_fetch_sub(&live_bytes, (int64_t)h->bytes, __ATOMIC_RELAXED);
    free(h->whole);
}

static void *resize(void *p, size_t n)
{
    void *q = get_for(p ? ((struct head *)p)[-1].account : fen_mem_account(), n);
    if (q && p) {
        memcpy(q, p, n < size_of(p) ? n : size_of(p));
        put(p);
    }
    return q;
}

static int get_aligned(size_t align, size_t n, void **ret_p)
{
    if (!align || align & (align - 1))
        return -EINVAL;
    size_t skew = align > sizeof(struct head) ? align : sizeof(struct head);
    if (n > SIZE_MAX / 4 || skew > SIZE_MAX / 4)
        return -ENOMEM;
    void *whole = NULL;
    if (posix_memalign(&whole, skew, skew + n))
        return -ENOMEM;
    *ret_p = with_head(whole, skew, n, fen_mem_account());
    return 0;
}

int64_t fen__mem_live_bytes(void) { return __atomic_load_n(&live_bytes, __ATOMIC_RELAXED); }

#else

#define get fen__heap_alloc
#define get_for fen__heap_alloc_for
#define get_zero fen__heap_zalloc
#define get_aligned fen__heap_aligned
#define resize fen__heap_realloc
#define put fen__heap_free
#define size_of fen__heap_usable

int64_t fen__mem_live_bytes(void) { return fen__ledger_live(); }

#endif

/* ---- public ---- */

#ifdef FEN__ASAN
void *fen_alloc(size_t size_bytes) { return get(size_bytes); }
void fen_free(void *p) { put(p); }
#endif
void *fen_alloc_for(uint32_t account, size_t size_bytes) { return get_for(account, size_bytes); }
void *fen_realloc(void *p, size_t size_bytes) { return resize(p, size_bytes); }
size_t fen_usable_size(const void *p) { return size_of(p); }

void *fen_calloc(size_t n, size_t size_bytes)
{
    size_t all;
    return __builtin_mul_overflow(n, size_bytes, &all) ? NULL : get_zero(all);
}

int fen_aligned_alloc(size_t align_bytes, size_t size_bytes, void **ret_p)
{
    return get_aligned(align_bytes, size_bytes, ret_p);
}

void fen_mem_stats_get(fen_mem_stats *ret_stats)
{
    struct fen__page_stats pages;
    int64_t far_blocks, far_batches;
    fen__pages_stats(&pages);
    fen__far_stats(&far_blocks, &far_batches);
    *ret_stats = (fen_mem_stats){
        .live_bytes = fen__mem_live_bytes(),
        .held_bytes = pages.used_bytes,
        .retained_bytes = pages.dirty_bytes,
        .mapped_bytes = pages.mapped_bytes,
        .returned_bytes = pages.returned_bytes,
        .records_bytes = fen__records_bytes(),
        .nodes = (int64_t)__atomic_load_n(&fen__nodes, __ATOMIC_RELAXED),
        .far_blocks = far_blocks,
        .far_batches = far_batches,
    };
}

static_assert(FEN_MEM_CLASSES == FEN__CLASSES, "the public number is the table's");

int fen_mem_class_get(uint32_t number, fen_mem_class *ret_class)
{
    if (number >= FEN__CLASSES)
        return -EINVAL;
    fen_mem_class c = {.block_bytes = fen__classes[number].bytes};
    fen__tsc_init();
    fen__central_count(number, &c);
    fen__central_count(FEN__CLASSES + number, &c);
    fen__mag_count(number, &c);
    *ret_class = c;
    return 0;
}

int64_t fen_mem_reclaim(void)
{
    (void)fen__objpool_reclaim(true);
    fen__check_drain(fen__cache_get(false));
    return (int64_t)fen__pace_reclaim();
}

int fen_mem_options_set(const fen_mem_options *options)
{
    if (options->retain_percent < -1 || options->retain_percent > 100)
        return -EINVAL;
    fen__pages_options((uint32_t)options->retain_percent, options->huge_pages);
    return 0;
}

/* ---- for the rooms above ---- */

static bool refused(void) { return fen__sys_fault && fen__sys_fault("malloc"); }

void *fen__mem_alloc(size_t bytes) { return refused() ? NULL : get(bytes); }
void *fen__mem_alloc_for(uint32_t account, size_t bytes)
{
    return refused() ? NULL : get_for(account, bytes);
}
void *fen__mem_calloc(size_t bytes) { return refused() ? NULL : get_zero(bytes); }

void *fen__mem_calloc_for(uint32_t account, size_t bytes)
{
    void *p = fen__mem_alloc_for(account, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *fen__mem_resize(void *p, size_t old_bytes, size_t bytes)
{
    fen_dassert(!p || size_of(p) >= old_bytes);
    (void)old_bytes;
    return refused() ? NULL : resize(p, bytes);
}

void fen__mem_free(void *p, size_t bytes)
{
    fen_dassert(!p || size_of(p) >= bytes);
    (void)bytes;
    put(p);
}
