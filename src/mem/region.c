/* region.c - the page heap: regions of 2 MiB, aligned to their size, in pages of 8 KiB.
 *
 * The first page of a region holds its head: which span each page belongs to, which pages are free,
 * which of the free ones may hold bytes (dirty). So the span of an address is found by masking it,
 * and fen__region_map tells for any address whether it lies in a region at all: one byte for each
 * 2 MiB of address space, of which only the pages in use are ever touched.
 *
 * A run of free pages is taken from the region with the smallest sufficient `longest`, by powers of
 * two, first fit inside. Regions stay mapped; what goes back to the system is their free pages.
 * Who gives them back:
 *
 *   without a runtime   the thread that frees: when more pages are dirty than RETAIN_MIN and
 *                       retain_percent of those in use allow, until half of the allowance is left,
 *                       at most SLICE_PAGES at a time, so that no single free pays for all
 *   paced (pace.c)      the reclaimer. Here pages are only counted against the marks that the pacer
 *                       has set, and it is told: a free or an allocation gives nothing back
 *
 * A run that is being given back is marked as used meanwhile, and the lock is not held during the
 * system call. The reclaimer's place in the list of regions (hand) outlives its slices.
 *
 * Footprint is what the heap's pages may hold of the machine: used + dirty.
 *
 * Blocks above RUN_PAGES_MAX have maps of their own: the block starts at a multiple of 2 MiB (or of
 * a larger alignment), its head in the page before, so that the map byte and one load find it.
 *
 * Where there are several NUMA nodes (node.c), a region belongs to one: its pages are asked for
 * there, and each node has its own buckets and reserve. Locks, counters and marks are common: the
 * footprint is the process's.
 *
 * Rejected: a radix tree from page to span (a third dependent load in each free); one reserved
 * range for the whole heap (a limit on address space then is a limit on the heap). */
#include "mem/heap_int.h"

#include "sys/node.h"

#include <assert.h>
#include <string.h>

#define BUCKETS 9          /* by the power of two of the longest free run */
#define RESERVE_REGIONS 16 /* mapped at once */
#define RETAIN_MIN ((size_t)4 << 20 >> 13)
#define SLICE_PAGES 256
#define SCAN_REGIONS 64 /* looked at in a slice */
#define WORDS (FEN__REGION_PAGES / 64)

uint8_t fen__region_map[(size_t)1 << (FEN__ADDRESS_BITS - FEN__REGION_SHIFT)];

struct fen__span fen__span_none = {.special = FEN__SPAN_NONE};

static struct {
    uint32_t lock;
    struct {
        struct fen__region *bucket[BUCKETS];
        char *reserve, *reserve_end;
    } node[FEN__NODES_MAX];
    struct fen__region *all;
    size_t used_pages, dirty_pages; /* used: runs and huge maps, without heads */
    size_t regions, huge_bytes, returned_bytes;
    uint32_t retain_percent;
    bool hugepages;
    struct fen__page_marks marks; /* the pacer's; paced false: none */
    struct fen__region *hand;     /* where the reclaimer goes on */
    size_t dirty_low;             /* fewest dirty pages since the pacer looked */
    size_t refused;               /* runs and maps that the ceiling forbade */
} heap = {.retain_percent = 10};

static_assert(sizeof(struct fen__region) <= FEN__PAGE_BYTES / 2, "the head fits its page");
static_assert(16 * FEN__REGION_PAGES <= FEN__PAGE_BYTES / 2, "and so do the bins behind it");

/* ---- bits ---- */

static uint32_t next_bit(const uint64_t *map, uint32_t at, bool set)
{
    while (at < FEN__REGION_PAGES) {
        uint64_t w = (set ? map[at / 64] : ~map[at / 64]) >> (at % 64);
        if (w)
            return at + (uint32_t)__builtin_ctzll(w);
        at = (at / 64 + 1) * 64;
    }
    return FEN__REGION_PAGES;
}

static void set_bits(uint64_t *map, uint32_t at, uint32_t n, bool set)
{
    while (n) {
        uint32_t in = at % 64, k = 64 - in < n ? 64 - in : n;
        uint64_t mask = UINT64_MAX >> ((64 - k) & 63) << in; /* 1 <= k <= 64 */
        map[at / 64] = set ? map[at / 64] | mask : map[at / 64] & ~mask;
        at += k;
        n -= k;
    }
}

static uint32_t count_bits(const uint64_t *map, uint32_t at, uint32_t n)
{
    uint32_t sum = 0, end = at + n;
    while ((at = next_bit(map, at, true)) < end) {
        uint32_t stop = next_bit(map, at, false);
        sum += (stop < end ? stop : end) - at;
        at = stop;
    }
    return sum;
}

/* ---- who has the pages ---- */

static void set_pages(struct fen__region *r, uint32_t at, uint32_t n, struct fen__span *s)
{
    memset(fen__region_bins(r) + at, s->special ? FEN__BIN_SLOW : s->bin, n);
    while (n--)
        r->page[at++] = s;
}

/* ---- buckets ---- */

static uint32_t bucket_of(uint32_t longest) { return 31 - (uint32_t)__builtin_clz(longest); }

static void bucket_out(struct fen__region *r)
{
    if (!r->longest)
        return;
    if (r->prev)
        r->prev->next = r->next;
    else
        heap.node[r->node].bucket[bucket_of(r->longest)] = r->next;
    if (r->next)
        r->next->prev = r->prev;
}

static uint32_t longest_run(const struct fen__region *r)
{
    uint32_t longest = 0, at = 0;
    while ((at = next_bit(r->free, at, true)) < FEN__REGION_PAGES) {
        uint32_t end = next_bit(r->free, at, false);
        longest = end - at > longest ? end - at : longest;
        at = end;
    }
    return longest;
}

/* After its free pages have changed. */
static void bucket_move(struct fen__region *r)
{
    uint32_t longest = longest_run(r);
    if (longest == r->longest)
        return;
    bucket_out(r);
    r->longest = longest;
    if (!longest)
        return;
    struct fen__region **head = &heap.node[r->node].bucket[bucket_of(longest)];
    r->prev = NULL;
    r->next = *head;
    if (r->next)
        r->next->prev = r;
    *head = r;
}

/* ---- regions ---- */

static struct fen__region *region_of(const void *p)
{
    return (struct fen__region *)((uintptr_t)p & ~(FEN__REGION_BYTES - 1));
}

static uint32_t page_of(const void *p)
{
    return (uint32_t)((uintptr_t)p % FEN__REGION_BYTES / FEN__PAGE_BYTES);
}

static int reserve(uint32_t node)
{
    for (size_t n = RESERVE_REGIONS; n; n = n > 1 ? 1 : 0) {
        void *p;
        if (fen__sys_map_aligned(n * FEN__REGION_BYTES, FEN__REGION_BYTES, 0, &p))
            continue;
        heap.node[node].reserve = p;
        heap.node[node].reserve_end = (char *)p + n * FEN__REGION_BYTES;
        fen__sys_node_prefer(p, n * FEN__REGION_BYTES, (int)node);
        return 0;
    }
    return -ENOMEM;
}

static struct fen__region *region_new(uint32_t node)
{
    if (heap.node[node].reserve == heap.node[node].reserve_end && reserve(node))
        return NULL;
    struct fen__region *r = (struct fen__region *)heap.node[node].reserve;
    heap.node[node].reserve += FEN__REGION_BYTES;
    r->node = (uint8_t)node;
    if (heap.hugepages)
        fen__sys_hugepages(r, FEN__REGION_BYTES);
    set_bits(r->free, 1, FEN__REGION_PAGES - 1, true);
    set_pages(r, 0, FEN__REGION_PAGES, &fen__span_none);
    r->all = heap.all;
    heap.all = r;
    heap.regions++;
    fen__region_map[(uintptr_t)r >> FEN__REGION_SHIFT] = FEN__MAP_REGION;
    bucket_move(r);
    return r;
}

/* Where `pages` free ones begin at a multiple of align; 0: nowhere. */
static uint32_t find_run(const struct fen__region *r, uint32_t pages, uint32_t align)
{
    uint32_t at = 0;
    while ((at = next_bit(r->free, at, true)) < FEN__REGION_PAGES) {
        uint32_t end = next_bit(r->free, at, false);
        at = (at + align - 1) & ~(align - 1);
        if (at + pages <= end)
            return at;
        at = end > at ? end : at;
    }
    return 0;
}

static struct fen__region *find_on(uint32_t node, uint32_t pages, uint32_t align, uint32_t *ret_at)
{
    for (uint32_t b = bucket_of(pages); b < BUCKETS; b++)
        for (struct fen__region *r = heap.node[node].bucket[b]; r; r = r->next)
            if ((*ret_at = find_run(r, pages, align)))
                return r;
    return NULL;
}

/* On that node; elsewhere rather than nowhere. */
static struct fen__region *find_region(uint32_t node, uint32_t pages, uint32_t align,
                                       uint32_t *ret_at)
{
    struct fen__region *r = find_on(node, pages, align, ret_at);
    if (!r && (r = region_new(node)))
        *ret_at = find_run(r, pages, align);
    for (uint32_t other = 0; !r && other < fen__nodes; other++)
        r = find_on(other, pages, align, ret_at);
    return r;
}

/* Lock held. The free pages become a span's. True: none of them is dirty. */
static bool occupy(struct fen__region *r, uint32_t at, uint32_t pages, struct fen__span *s)
{
    uint32_t dirty = count_bits(r->dirty, at, pages);
    set_bits(r->free, at, pages, false);
    set_bits(r->dirty, at, pages, false);
    set_pages(r, at, pages, s);
    heap.dirty_pages -= dirty;
    heap.used_pages += pages;
    if (heap.dirty_pages < heap.dirty_low)
        heap.dirty_low = heap.dirty_pages;
    bucket_move(r);
    return dirty == 0;
}

/* Lock held. A span's pages become free. */
static void vacate(struct fen__region *r, uint32_t at, uint32_t pages, bool dirty)
{
    set_pages(r, at, pages, &fen__span_none);
    set_bits(r->free, at, pages, true);
    if (dirty)
        set_bits(r->dirty, at, pages, true);
    heap.dirty_pages += dirty ? pages : 0;
    heap.used_pages -= pages;
    bucket_move(r);
}

/* ---- giving back ---- */

static size_t allowed_dirty(uint32_t percent)
{
    size_t share = heap.used_pages / 100 * percent;
    return share > RETAIN_MIN ? share : RETAIN_MIN;
}

/* Lock held, given up and taken again. Gives back a dirty run of r: pages, or 0 when there is
 * none. */
static uint32_t release_run(struct fen__region *r, uint32_t max)
{
    uint32_t at = next_bit(r->dirty, 0, true), low;
    if (at == FEN__REGION_PAGES)
        return 0;
    uint32_t n = next_bit(r->dirty, at, false) - at;
    n = n < max ? n : max;
    char *p = (char *)r + (size_t)at * FEN__PAGE_BYTES;
    low = (uint32_t)(heap.dirty_low > n ? heap.dirty_low - n : 0);
    (void)occupy(r, at, n, &fen__span_none);
    fen__unlock(&heap.lock);
    size_t bytes = (size_t)n * FEN__PAGE_BYTES;
    bool locked = fen__sys_release(p, bytes);
    if (FEN__UNLIKELY(locked)) /* stays, and is promised to be zero all the same */
        memset(p, 0, bytes);
    fen__lock(&heap.lock);
    vacate(r, at, n, false);
    if (heap.dirty_low > low)
        heap.dirty_low = low;
    heap.returned_bytes += locked ? 0 : bytes;
    return n;
}

/* Lock held as above. Regions are never unmapped, so the walk survives the gaps. */
static size_t release_down_to(size_t keep, size_t max)
{
    size_t done = 0;
    for (struct fen__region *r = heap.all; r && heap.dirty_pages > keep && done < max; r = r->all)
        for (uint32_t n = 1; n && heap.dirty_pages > keep && done < max; done += n)
            n = release_run(r, (uint32_t)fen__min_i64((int64_t)(max - done), FEN__REGION_PAGES));
    return done;
}

size_t fen__pages_release(size_t keep_bytes, uint32_t run_pages, int64_t until_ns, bool *ret_more)
{
    size_t done = 0, keep = keep_bytes / FEN__PAGE_BYTES;
    int seen = 0;
    fen__lock(&heap.lock);
    if (!heap.hand)
        heap.hand = heap.all;
    while (heap.hand && heap.dirty_pages > keep && seen < SCAN_REGIONS) {
        uint32_t n = release_run(heap.hand, run_pages);
        if (!n && heap.hand) { /* another reclaim may have reached the end meanwhile */
            heap.hand = heap.hand->all;
            seen++;
        }
        done += n;
        if (n && fen__sys_now() >= until_ns)
            break;
    }
    if (heap.dirty_pages <= keep)
        heap.hand = NULL;
    *ret_more = heap.hand != NULL;
    fen__unlock(&heap.lock);
    return done * FEN__PAGE_BYTES;
}

/* ---- the pacer's marks ---- */

void fen__pages_mark(const struct fen__page_marks *marks)
{
    fen__lock(&heap.lock);
    heap.marks = *marks;
    fen__unlock(&heap.lock);
}

size_t fen__pages_dirty_low(void)
{
    fen__lock(&heap.lock);
    size_t low = heap.dirty_low;
    heap.dirty_low = heap.dirty_pages;
    fen__unlock(&heap.lock);
    return low * FEN__PAGE_BYTES;
}

size_t fen__pages_allowed(uint32_t percent)
{
    fen__lock(&heap.lock);
    size_t pages = allowed_dirty(percent < heap.retain_percent ? percent : heap.retain_percent);
    bool all = heap.retain_percent > 100;
    fen__unlock(&heap.lock);
    return all ? SIZE_MAX : pages * FEN__PAGE_BYTES;
}

/* Lock held. Which marks are reached. */
static uint32_t due(void)
{
    const struct fen__page_marks *k = &heap.marks;
    if (!k->paced)
        return 0;
    size_t bytes = (heap.used_pages + heap.dirty_pages) * FEN__PAGE_BYTES;
    uint32_t why = bytes >= k->goal_bytes ? FEN__DUE_GOAL : 0;
    why |= bytes >= k->short_bytes ? FEN__DUE_LIMIT : 0;
    if (!k->percent || heap.retain_percent > 100)
        return why;
    if (heap.dirty_pages > allowed_dirty(heap.retain_percent))
        why |= FEN__DUE_LOOK;
    return heap.dirty_pages > allowed_dirty(k->percent) ? why | FEN__DUE_GOAL : why;
}

/* Lock held. `pages` more would be above what the limit leaves. */
static bool forbidden(size_t pages)
{
    size_t bytes = (heap.used_pages + heap.dirty_pages + pages) * FEN__PAGE_BYTES;
    bool yes = heap.marks.paced && bytes > heap.marks.ceiling_bytes;
    heap.refused += yes;
    return yes;
}

/* Lock held until here. */
static void unlock_and_tell(void)
{
    uint32_t why = due();
    fen__unlock(&heap.lock);
    if (FEN__UNLIKELY(why))
        fen__pace_due(why);
}

/* ---- runs ---- */

int fen__run_new(uint32_t pages, uint32_t align_pages, struct fen__span *s, char **ret_p,
                 bool *ret_zero)
{
    uint32_t at;
    fen__lock(&heap.lock);
    struct fen__region *r = find_region(s->node, pages, align_pages, &at);
    if (r && forbidden(pages - count_bits(r->dirty, at, pages)))
        r = NULL;
    bool zero = r && occupy(r, at, pages, s);
    if (r)
        s->node = r->node;
    unlock_and_tell();
    if (!r)
        return -ENOMEM;
    *ret_p = (char *)r + (size_t)at * FEN__PAGE_BYTES;
    *ret_zero = zero;
    return 0;
}

void fen__run_free(char *p, uint32_t pages)
{
    fen__lock(&heap.lock);
    vacate(region_of(p), page_of(p), pages, true);
    size_t allowed = allowed_dirty(heap.retain_percent);
    if (!heap.marks.paced && heap.dirty_pages > allowed && heap.retain_percent <= 100)
        release_down_to(allowed / 2, SLICE_PAGES);
    unlock_and_tell();
}

bool fen__run_resize(char *p, uint32_t pages, uint32_t to, struct fen__span *s)
{
    struct fen__region *r = region_of(p);
    uint32_t end = page_of(p) + pages;
    if (to < pages) {
        fen__run_free(p + (size_t)to * FEN__PAGE_BYTES, pages - to);
        return true;
    }
    uint32_t more = to - pages;
    fen__lock(&heap.lock);
    bool fits = end + more <= FEN__REGION_PAGES && next_bit(r->free, end, false) >= end + more &&
                !forbidden(more - count_bits(r->dirty, end, more));
    if (fits)
        (void)occupy(r, end, more, s);
    unlock_and_tell();
    return fits;
}

/* ---- huge ---- */

/* False: the limit forbids it. */
static bool count_huge(int64_t bytes)
{
    fen__lock(&heap.lock);
    bool may = bytes < 0 || !forbidden((size_t)bytes / FEN__PAGE_BYTES);
    if (may) {
        heap.huge_bytes += (size_t)bytes;
        heap.used_pages += (size_t)(bytes / FEN__PAGE_BYTES);
    }
    unlock_and_tell();
    return may;
}

/* Only the kernel orders this with what others do: by when an address is whose. */
static void set_kind(const char *base, uint8_t kind)
{
    __atomic_store_n(&fen__region_map[(uintptr_t)base >> FEN__REGION_SHIFT], kind,
                     __ATOMIC_RELAXED);
}

int fen__huge_new(size_t bytes, size_t align, struct fen__span *s)
{
    void *map;
    if (align < FEN__REGION_BYTES)
        align = FEN__REGION_BYTES;
    if (bytes > SIZE_MAX / 4 || align > SIZE_MAX / 4)
        return -ENOMEM;
    s->map_bytes = bytes + FEN__PAGE_BYTES;
    if (!count_huge((int64_t)bytes))
        return -ENOMEM;
    int rc = fen__sys_map_aligned(s->map_bytes, align, FEN__PAGE_BYTES, &map);
    if (rc) {
        (void)count_huge(-(int64_t)bytes);
        return rc;
    }
    *(struct fen__span **)map = s;
    s->base = (char *)map + FEN__PAGE_BYTES;
    if (__atomic_load_n(&heap.hugepages, __ATOMIC_RELAXED))
        fen__sys_hugepages(map, s->map_bytes); /* of all, so that it stays one map for mremap */
    set_kind(s->base, FEN__MAP_HUGE);
    return 0;
}

void fen__huge_free(struct fen__span *s)
{
    size_t bytes = s->map_bytes - FEN__PAGE_BYTES;
    set_kind(s->base, FEN__MAP_NONE); /* before the address can be another's */
    (void)count_huge(-(int64_t)bytes);
    fen__sys_unmap(s->base - FEN__PAGE_BYTES, s->map_bytes);
}

/* To another address, its pages and all. */
static int move_huge(struct fen__span *s, size_t map_bytes)
{
    void *to = NULL;
    int rc = fen__sys_map_aligned(map_bytes, FEN__REGION_BYTES, FEN__PAGE_BYTES, &to);
    if (rc)
        return rc;
    set_kind(s->base, FEN__MAP_NONE);
    rc = fen__sys_remap(s->base - FEN__PAGE_BYTES, s->map_bytes, map_bytes, to);
    if (rc)
        fen__sys_unmap(to, map_bytes);
    else
        s->base = (char *)to + FEN__PAGE_BYTES;
    set_kind(s->base, FEN__MAP_HUGE);
    return rc;
}

bool fen__huge_resize(struct fen__span *s, size_t bytes)
{
    size_t map_bytes = bytes + FEN__PAGE_BYTES;
    int64_t more = (int64_t)map_bytes - (int64_t)s->map_bytes;
    if (!count_huge(more))
        return false;
    if (fen__sys_remap(s->base - FEN__PAGE_BYTES, s->map_bytes, map_bytes, NULL) &&
        move_huge(s, map_bytes)) {
        (void)count_huge(-more);
        return false;
    }
    s->map_bytes = map_bytes;
    return true;
}

struct fen__span *fen__huge_of(const void *p)
{
    if ((uintptr_t)p % FEN__REGION_BYTES)
        return NULL;
    return *(struct fen__span *const *)((const char *)p - FEN__PAGE_BYTES);
}

/* ---- for the rest of the room ---- */

/* Others read the byte while they free blocks of the page: for those either value will do.
 * An exchange for its barrier: the next free often loads this very byte, and a processor that once
 * had to take such a load back keeps it waiting for all stores before it, each time, for long. */
void fen__page_slow(const struct fen__span *s, const void *p, bool slow)
{
    uint8_t *bin = fen__region_bins(p) + page_of(p);
    (void)__atomic_exchange_n(bin, slow ? FEN__BIN_SLOW : s->bin, __ATOMIC_SEQ_CST);
}

void fen__regions_each(void (*fn)(struct fen__span *s, void *arg), void *arg)
{
    for (struct fen__region *r = heap.all; r; r = r->all)
        for (uint32_t i = 1; i < FEN__REGION_PAGES; i++)
            if (r->page[i] != &fen__span_none && r->page[i] != r->page[i - 1])
                fn(r->page[i], arg);
}

void fen__pages_stats(struct fen__page_stats *ret)
{
    fen__lock(&heap.lock);
    *ret = (struct fen__page_stats){
        .used_bytes = (int64_t)(heap.used_pages * FEN__PAGE_BYTES),
        .dirty_bytes = (int64_t)(heap.dirty_pages * FEN__PAGE_BYTES),
        .mapped_bytes = (int64_t)(heap.regions * FEN__REGION_BYTES + heap.huge_bytes),
        .returned_bytes = (int64_t)heap.returned_bytes,
        .refused = (int64_t)heap.refused,
    };
    fen__unlock(&heap.lock);
}

void fen__pages_options(uint32_t retain_percent, bool hugepages)
{
    fen__lock(&heap.lock);
    heap.retain_percent = retain_percent;
    __atomic_store_n(&heap.hugepages, hugepages, __ATOMIC_RELAXED);
    fen__unlock(&heap.lock);
}

/* Under the lock, and so are the system calls: nodes are set once, before there are workers. */
void fen__pages_nodes(uint32_t n)
{
    fen__lock(&heap.lock);
    bool first = fen__nodes == 1 && n > 1;
    for (struct fen__region *r = first ? heap.all : NULL; r; r = r->all)
        fen__sys_node_prefer(r, FEN__REGION_BYTES, 0);
    if (first && heap.node[0].reserve < heap.node[0].reserve_end)
        fen__sys_node_prefer(heap.node[0].reserve,
                             (size_t)(heap.node[0].reserve_end - heap.node[0].reserve), 0);
    if (n > fen__nodes)
        __atomic_store_n(&fen__nodes, n, __ATOMIC_RELAXED);
    fen__unlock(&heap.lock);
}

void fen__pages_lock(void) { fen__lock(&heap.lock); }
void fen__pages_unlock(void) { fen__unlock(&heap.lock); }
