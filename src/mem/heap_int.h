/* heap_int.h - the structures of the heap and who may touch what.
 *
 *   page heap (region.c)   regions of 2 MiB in pages of 8 KiB; hands out runs of pages. One lock.
 *   spans (span.c)         a run cut into blocks of one class. A span that has free blocks and no
 *                          home lies in the central set of its class, under that set's lock.
 *   caches (cache.c)       one for each thread that allocates: an M or any other. Its thread
 *                          allocates from the spans whose home it is, without a lock.
 *   magazine.c             free blocks at hand, between the fast paths and the spans
 *   depot.c                full stacks on their way from threads that free to those that allocate
 *   remote.c               frees by other threads than the home
 *   pace.c, reclaim.c      when free memory goes back to the system, and how
 *   node.c                 NUMA nodes: pages, central sets and caches of each
 *   ledger.c               who pays: rows of counters, one writer each
 *   objpool.c              objects of one type, kept ready: a shard of each cache
 *   profile.c              which call sites hold the bytes: a sample of the blocks
 *   heap.c, slow.c         the fast paths, and the others
 *
 * A cache belongs to the thread, never to a P: user code may be inside the allocator when its P is
 * taken. A fiber moves only in calls of the runtime, and none of these is one.
 *
 * Lock order: object pools (table, shard, old), profile, a cache, central set, page heap, caches'
 * list, records. Ledger's orphans: a leaf. The depot's shelves and others' caches: tried, never
 * waited for (the shelves are at a fork).
 *
 * Equations
 *   span     blocks >= carved >= used; used counts blocks handed out, until the home itself takes
 *            them back: those in `remote`, magazines, the depot and outgoing batches count as used
 *   ledger   for each account: sum over caches and orphans of (alloc - freed) = bytes of its live
 *            blocks; over all accounts that is what live blocks hold */
#ifndef FEN_MEM_HEAP_INT_H
#define FEN_MEM_HEAP_INT_H

#include "mem/classes.h"
#include "mem/mem.h"
#include "sys/node.h"
#include "sys/sys.h"

#include <fen/objpool.h>

#include <stdatomic.h>

#ifndef FEN_SHARED                  /* there the tests reach them */
#pragma GCC visibility push(hidden) /* the fast paths reach them without a table of addresses */
#endif

#define FEN__REGION_BYTES ((size_t)2 << 20)
#define FEN__REGION_PAGES (FEN__REGION_BYTES / FEN__PAGE_BYTES)
#define FEN__RUN_PAGES_MAX 128       /* larger blocks have a map of their own */
#define FEN__BINS (2 * FEN__CLASSES) /* the second half: spans of checked blocks (check.c) */
#define FEN__ACCOUNTS_MAX 4096
#define FEN__ROW_GROUP 64
#define FEN__OUT_SLOTS 16
#define FEN__OUT_MAX 64 /* blocks in a batch */

struct fen__block {
    struct fen__block *next;
    uintptr_t mark; /* fen__mark_of while free; not in blocks of 8 bytes */
};

/* What a span needs the slow way for. */
enum { FEN__SPAN_LARGE = 1, FEN__SPAN_TINY = 2, FEN__SPAN_CHECKED = 4, FEN__SPAN_NONE = 8 };

struct fen__span {
    /* ---- the home's; with no home: under the lock of its central set ---- */
    struct fen__block *free;
    uint32_t used;
    uint8_t special; /* fixed, as are the following */
    uint8_t bin;
    uint16_t blocks;
    size_t bytes; /* of a block */
    char *base;
    uint32_t recip;
    bool listed; /* in the home's bin or the central set */
    bool idle;   /* listed, empty and counted in idle_bytes of the home */
    uint16_t carved;
    uint8_t node;                    /* where its pages are; fixed */
    uint16_t *_Atomic own;           /* account of each block; NULL: all are account 0's */
    struct fen__cache *_Atomic home; /* NULL: the central set, or large */
    /* ---- everybody's, see remote.c ---- */
    _Atomic uintptr_t remote FEN__ALIGN(FEN__LINE);
    struct fen__span *inbox_next;
    /* ---- the home's again ---- */
    struct fen__span *next, *prev;
    uint32_t pages;
    uint32_t account; /* large: who pays */
    size_t map_bytes; /* huge: of its map */
    /* ---- profile.c's: a bit for each noted block, modulo 64, and the notes ---- */
    _Atomic uint64_t noted;
    struct fen__sample *samples;
} FEN__ALIGN(FEN__LINE);

/* Free blocks of one bin that a cache keeps at hand, last in first out: blocks of any home, which
 * count as used there. Two stacks: `alt` is empty or full. */
struct fen__mag {
    struct fen__block *head, *alt;
    uint32_t puts, limit;      /* limit - puts: room for so many more in head */
    uint16_t owner, alt_owner; /* the account that all blocks of the stack are noted for */
    uint32_t bytes;            /* of a block */
};

struct fen__list {
    struct fen__span *first, *last;
};

/* A batch of blocks on their way to the home of one span. */
struct fen__out {
    struct fen__span *span;
    struct fen__block *first, *last;
    uint32_t n;
};

/* Resources of one account on one cache; written by its thread alone. See ledger.c. */
struct fen__mem_row {
    int64_t alloc, freed; /* bytes, only grow */
    int64_t gate, fgate;  /* values of alloc and freed that need the slow way */
    uint64_t stamp;       /* TSC up to which the ticks count; 0: never yet */
    int64_t lease;        /* bytes this row holds of what the account has charged */
    uint64_t ticks_low;   /* byte-ticks, 128 bits */
    int64_t ticks_high;
} FEN__ALIGN(FEN__LINE);

/* What one cache did with one class; written by its thread alone. */
struct fen__class_count {
    int64_t refills, out; /* out: blocks taken from spans less those given back */
};

struct fen__cache {
    struct fen__mem_now now;           /* what the scheduler sets */
    uint32_t row_id;                   /* whose row `now.row` is; UINT32_MAX: nobody asked yet */
    uint8_t node;                      /* of its thread; with no thread, of the one before */
    bool foreign;                      /* no M's */
    bool exact;                        /* foreign and has billed: looks at the clock each time */
    uint32_t epoch;                    /* fen__flush_epoch at its last flush */
    uint32_t lock;                     /* of its spans, lists and batches; see cache.c */
    uint32_t uses, uses_seen;          /* lock: times that its thread took it; at the last visit */
    struct fen__span *came;            /* lock: out of the inbox, not looked at yet */
    size_t idle_bytes;                 /* in spans that are listed and empty */
    int64_t profile_rate;              /* by which now.sample_at was drawn; 0: off */
    uint64_t rand;                     /* profile.c's; 0: not seeded */
    const char *stack_low, *stack_top; /* of the thread; equal: not known, NULL: not asked */
    bool profiling;                    /* what is allocated now is the profile's own doing */
    struct fen__mag mag[FEN__BINS] FEN__ALIGN(FEN__LINE);
    struct fen__span *bin[FEN__BINS]; /* the span that magazines are filled from */
    struct fen__list list[FEN__BINS]; /* further ones with free blocks */
    struct fen__out out[FEN__OUT_SLOTS];
    struct fen__mem_row *_Atomic rows[FEN__ACCOUNTS_MAX / FEN__ROW_GROUP];
    struct fen__class_count count[FEN__CLASSES];
    int64_t far_blocks, far_batches; /* sent to other nodes; written by its thread alone */
    uint32_t pools;                  /* no object pool of a higher number has a shard here */
    struct fen__objshard *pool[FEN_OBJPOOLS_MAX]; /* objpool.c's; atomic */
    /* ---- others' ---- */
    _Atomic uintptr_t inbox FEN__ALIGN(FEN__LINE); /* spans; FEN__INBOX_CLOSED */
    _Atomic uint32_t posts;                        /* into the inbox, by who looks into it */
    struct fen__cache *next;                       /* all that ever were; never taken out */
    struct fen__cache *next_free;                  /* lock of the list */
} FEN__ALIGN(FEN__LINE);

/* ---- region.c ---- */
extern uint8_t fen__region_map[];
extern struct fen__span fen__span_none; /* special, no free block, never any */
enum { FEN__MAP_NONE, FEN__MAP_REGION, FEN__MAP_HUGE };
#if defined(__x86_64__)
#define FEN__ADDRESS_BITS 47
#else
#define FEN__ADDRESS_BITS 48
#endif
#define FEN__REGION_SHIFT 21

struct fen__region {
    struct fen__span *page[FEN__REGION_PAGES]; /* the span that holds the page */
    uint64_t free[FEN__REGION_PAGES / 64];
    uint64_t dirty[FEN__REGION_PAGES / 64]; /* free and perhaps not zero */
    uint32_t longest;                       /* run of free pages */
    uint8_t node;
    struct fen__region *next, *prev; /* of the same bucket */
    struct fen__region *all;
};
/* The bin of each page, FEN__BIN_SLOW where the span is special or there is none. It lies behind
 * the region's head, at an offset that differs from region to region: heads all begin at multiples
 * of 2 MiB, and without it their lines would fight for a few sets of the processor's caches. */
#define FEN__BIN_SLOW 255
static inline uint8_t *fen__region_bins(const void *p)
{
    uintptr_t a = (uintptr_t)p, colour = a >> FEN__REGION_SHIFT & 15;
    return (uint8_t *)((a & ~(FEN__REGION_BYTES - 1)) + FEN__PAGE_BYTES / 2 +
                       colour * FEN__REGION_PAGES);
}
/* Pages for a span, which is noted as theirs, from its node if there are any. align_pages: a power
 * of two. *ret_zero: nothing was ever written to them. 0 or -ENOMEM. */
int fen__run_new(uint32_t pages, uint32_t align_pages, struct fen__span *s, char **ret_p,
                 bool *ret_zero) FEN_MUST_CHECK;
void fen__run_free(char *p, uint32_t pages);
/* Grows or shrinks a run in place. */
bool fen__run_resize(char *p, uint32_t pages, uint32_t to, struct fen__span *s);
int fen__huge_new(size_t bytes, size_t align, struct fen__span *s) FEN_MUST_CHECK;
void fen__huge_free(struct fen__span *s);
bool fen__huge_resize(struct fen__span *s, size_t bytes); /* may move it; false: nothing changed */
struct fen__span *fen__huge_of(const void *p);            /* NULL: not the start of one */
/* One slice of giving back: runs of at most run_pages, until keep_bytes of dirty pages are left or
 * until_ns is past. Bytes; *ret_more: call again, this round over the regions has not ended. */
size_t fen__pages_release(size_t keep_bytes, uint32_t run_pages, int64_t until_ns, bool *ret_more);
/* At which footprint the pacer wants to hear, see fen__pace_due. SIZE_MAX: never. */
struct fen__page_marks {
    bool paced;
    uint32_t percent;     /* dirty pages, of those in use, that are a cycle's cause; 0: off */
    size_t goal_bytes;    /* of the footprint, likewise */
    size_t short_bytes;   /* memory gets short */
    size_t ceiling_bytes; /* no more: what would exceed it is refused */
};
void fen__pages_mark(const struct fen__page_marks *marks);
size_t fen__pages_dirty_low(void); /* bytes; the fewest since the last call */
/* Dirty bytes that may stay: by the smaller of percent and retain_percent; SIZE_MAX: all. */
size_t fen__pages_allowed(uint32_t percent);
struct fen__page_stats {
    int64_t used_bytes, dirty_bytes, mapped_bytes, returned_bytes, refused;
};
void fen__pages_stats(struct fen__page_stats *ret);
/* retain_percent above 100: nothing is given back but by fen__pages_release. */
void fen__pages_options(uint32_t retain_percent, bool hugepages);
void fen__pages_nodes(uint32_t n); /* there are so many nodes; never fewer again */
/* Notes for the page in which a block of s begins whether frees go the slow way. The caller has
 * that block. */
void fen__page_slow(const struct fen__span *s, const void *p, bool slow);
void fen__pages_lock(void);
void fen__pages_unlock(void);
void fen__regions_each(void (*fn)(struct fen__span *s, void *arg), void *arg); /* all locks held */

/* Of what is no address at all the top bits are ignored; looking at its head will fault. */
static inline uint8_t fen__region_kind(const void *p)
{
    uint32_t n = (uint32_t)((uintptr_t)p >> FEN__REGION_SHIFT);
    return __atomic_load_n(
        &fen__region_map[n & ((1u << (FEN__ADDRESS_BITS - FEN__REGION_SHIFT)) - 1)],
        __ATOMIC_RELAXED);
}

static inline uint8_t fen__page_bin(const void *p)
{
    const uint8_t *bins = fen__region_bins(p); /* pairs with fen__page_slow: by any lock or queue */
    return __atomic_load_n(&bins[(uintptr_t)p % FEN__REGION_BYTES / FEN__PAGE_BYTES],
                           __ATOMIC_RELAXED);
}

/* fen__span_none when the page belongs to none. */

static inline struct fen__span *fen__span_in_region(const void *p)
{
    struct fen__region *r = (struct fen__region *)((uintptr_t)p & ~(FEN__REGION_BYTES - 1));
    return r->page[(uintptr_t)p % FEN__REGION_BYTES / FEN__PAGE_BYTES];
}

/* ---- node.c ---- */
extern uint32_t fen__nodes; /* with memory of their own; 1: none of what follows ever matters */
/* Every free by a thread of another node goes the slow way, to here. The block is off the bill. */
void fen__far_free(struct fen__cache *c, struct fen__span *s, struct fen__block *b);
void fen__far_sent(struct fen__cache *c, uint32_t blocks);
void fen__far_stats(int64_t *ret_blocks, int64_t *ret_batches);

/* ---- span.c ---- */
/* Carved records, never given back to the system; zeroed on first use only. */
enum fen__record {
    FEN__REC_SPAN,
    FEN__REC_CACHE,
    FEN__REC_ROWS,
    FEN__REC_OWN,
    FEN__REC_SAMPLE,
    FEN__REC_BUCKET,
    FEN__RECS
};
void *fen__record_new(enum fen__record kind, size_t bytes, uint32_t size_index);
void fen__record_free(enum fen__record kind, void *p, uint32_t size_index);
int64_t fen__records_bytes(void);
void fen__records_lock(void);
void fen__records_unlock(void);
struct fen__span *fen__span_new(struct fen__cache *c, uint32_t bin);
void fen__span_free(struct fen__span *s);
bool fen__span_carve(struct fen__span *s); /* more free blocks, if it was never used up */
/* Room for the accounts of its blocks, made if there is none: by any thread that has a block of it.
 * NULL: no memory. From the first call on, fen__billed is true. */
uint16_t *fen__span_owners(struct fen__span *s);
/* False: all blocks and all threads are account 0's. Set before the first one is not. */
extern bool fen__billed;
/* Of the cache's node; from any other node. */
struct fen__span *fen__central_get(struct fen__cache *c, uint32_t bin);
struct fen__span *fen__central_far(struct fen__cache *c, uint32_t bin);
void fen__central_put(struct fen__span *s);
/* Looks at up to n spans of a set, which go to its end, and frees those that are empty: bytes. */
size_t fen__central_sweep(uint32_t set, uint32_t n);
uint32_t fen__central_spans(uint32_t set);
uint32_t fen__central_sets(void);                        /* of all bins and nodes */
void fen__central_count(uint32_t bin, fen_mem_class *c); /* adds what its sets know */
void fen__central_lock(void);
void fen__central_unlock(void);

/* The number of a block, by its address. */
static inline uint32_t fen__block_index(const struct fen__span *s, const void *p)
{
    return (uint32_t)((size_t)((const char *)p - s->base) * s->recip >> 32);
}

/* The same for any address; UINT32_MAX: no block starts there. */
static inline uint32_t fen__block_number(const struct fen__span *s, const void *p)
{
    size_t off = (size_t)((const char *)p - s->base);
    uint32_t n = fen__block_index(s, p);
    return FEN__LIKELY(n * s->bytes == off && n < s->blocks) ? n : UINT32_MAX;
}

/* ---- cache.c ---- */
struct fen__cache *fen__cache_get(bool for_alloc); /* of this thread; NULL: none to be had */
void fen__cache_each(void (*fn)(struct fen__cache *c, void *arg), void *arg);
/* A span to take blocks from; NULL: no memory. */
struct fen__span *fen__cache_refill(struct fen__cache *c, uint32_t bin);
/* There are spans with free blocks beside the current one, which has none. */
static inline bool fen__cache_listed(const struct fen__cache *c, uint32_t bin)
{
    return !c->bin[bin]->free && c->list[bin].first && c->list[bin].first->free;
}
void fen__cache_enlist(struct fen__cache *c, struct fen__span *s); /* LISTED, not in the list yet */
void fen__cache_relist(struct fen__cache *c,
                       struct fen__span *s);                      /* FULL, a free block came back */
void fen__cache_empty(struct fen__cache *c, struct fen__span *s); /* its last block came back */
void fen__cache_flush(struct fen__cache *c);
/* The calling thread's own, for a while in which it touches spans; NULL: it has none. */
static inline void fen__cache_lock(struct fen__cache *c)
{
    if (c) {
        fen__lock(&c->lock);
        __atomic_store_n(&c->uses, c->uses + 1, __ATOMIC_RELAXED);
    }
}
static inline void fen__cache_unlock(struct fen__cache *c)
{
    if (c)
        fen__unlock(&c->lock);
}
/* Another thread's: gives up to n spans away, if that thread has not taken its cache since the last
 * visit, or in any case (busy). True: it has more. */
bool fen__cache_visit(struct fen__cache *c, uint32_t n, bool busy);
/* The calling thread has no cache any more; the next one is for the node it has entered then. */
void fen__cache_leave(struct fen__cache *c);
/* True: h has no thread and s, which names it, is the caller's alone. */
bool fen__cache_disown(struct fen__cache *h, struct fen__span *s);

/* ---- remote.c ---- */
enum { FEN__REMOTE_LISTED, FEN__REMOTE_FULL, FEN__REMOTE_NOTED, FEN__REMOTE_TAGS = 3 };
#define FEN__INBOX_CLOSED ((uintptr_t)1)
void fen__remote_free(struct fen__cache *c, struct fen__span *s, struct fen__block *b);
void fen__remote_flush(struct fen__cache *c);
void fen__remote_collect(struct fen__span *s);
bool fen__remote_unlist(struct fen__span *s); /* LISTED to FULL; false: blocks have come */
bool fen__remote_relist(struct fen__span *s); /* FULL to LISTED; false: it is in the post */
void fen__remote_inbox(struct fen__cache *c, uint32_t n); /* looks at up to n spans */
bool fen__remote_waits(const struct fen__cache *c);       /* there are more */
void fen__remote_open(struct fen__cache *c);
void fen__remote_close(struct fen__cache *c);

/* ---- ledger.c ---- */
struct fen__mem_row *fen__row_get(struct fen__cache *c, uint32_t account); /* NULL: no memory */
/* Makes room in the row for `need` bytes more: brings its time up to date and its lease. False: the
 * account's cap forbids it. */
bool fen__row_settle(struct fen__cache *c, struct fen__mem_row *r, uint32_t account, int64_t need);
void fen__row_freed(struct fen__cache *c, uint32_t account, int64_t bytes); /* c may be NULL */
int64_t fen__ledger_live(void);
void fen__ledger_lock(void);
void fen__ledger_unlock(void);
void fen__ledger_forget(void); /* in a forked child: no other thread is writing */

static inline void fen__row_add(int64_t *word, int64_t v) /* pairs with the loads in fold */
{
    __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) + v, __ATOMIC_RELAXED);
}

/* ---- magazine.c ---- */
/* Fills head, which is empty; new blocks are noted for account. False: no memory. */
bool fen__mag_fill(struct fen__cache *c, uint32_t bin, uint32_t account);
void fen__mag_full(struct fen__cache *c, uint32_t bin); /* room is below 0 */
void fen__mag_flush(struct fen__cache *c);
void fen__mag_anew(struct fen__cache *c, uint32_t bin); /* head goes back; its owner is account 0 */
void fen__mag_init(struct fen__cache *c);
/* Sends home one stack of the depot. c: the thread's cache or NULL. False: there is none. */
bool fen__mag_drain(struct fen__cache *c, uint32_t node, uint32_t bin);
void fen__mag_count(uint32_t bin, fen_mem_class *c); /* adds what the caches counted */

static inline void fen__mag_put(struct fen__cache *c, uint32_t bin, struct fen__block *b)
{
    struct fen__mag *m = &c->mag[bin];
    uint32_t puts = m->puts + 1;
    b->next = m->head;
    m->head = b;
    m->puts = puts;
    if (FEN__UNLIKELY((int32_t)(m->limit - puts) < 0))
        fen__mag_full(c, bin);
}

/* ---- depot.c ---- */
/* A full stack, `bytes` in all, of blocks that are noted for owner. False: no room just now. */
bool fen__depot_put(uint32_t node, uint32_t bin, struct fen__block *top, uint32_t owner,
                    int64_t bytes);
/* One of them, likewise; NULL: none just now. */
struct fen__block *fen__depot_get(uint32_t node, uint32_t bin, uint16_t *ret_owner, int64_t bytes);
int64_t fen__depot_bytes(void);
void fen__depot_lock(void);
void fen__depot_unlock(void);

/* ---- heap.c ---- */
extern uintptr_t fen__heap_secret;
static inline uintptr_t fen__mark_of(const void *p) { return fen__heap_secret ^ (uintptr_t)p; }
static inline uint32_t fen__class_of(size_t n)
{
    return n <= 1024 ? fen__class_small[(n + 7) / 8] : fen__class_big[(n - 1024 + 127) / 128];
}
/* A block of that bin, charged; NULL: no memory, or a cap. */
void *fen__block_take(struct fen__cache *c, uint32_t bin, uint32_t account);
/* A block that is off the bill. c: the thread's cache or NULL. */
void fen__block_back(struct fen__cache *c, struct fen__span *s, struct fen__block *b);
/* The block at hand goes to an account. False: no memory for the array that says so. */
bool fen__block_note(struct fen__span *s, const struct fen__block *b, uint32_t account);
void *fen__heap_alloc(size_t n) FEN_MUST_CHECK;
void *fen__heap_slow(size_t n, uint32_t account) FEN_MUST_CHECK;
void *fen__heap_mine(size_t n) FEN_MUST_CHECK; /* for the account of now */
struct fen__span *fen__span_of(const void *p); /* of any pointer; what is no block's ends it all */
void *fen__heap_alloc_for(uint32_t account, size_t n) FEN_MUST_CHECK;
void *fen__heap_zalloc(size_t n) FEN_MUST_CHECK;
int fen__heap_aligned(size_t align, size_t n, void **ret_p) FEN_MUST_CHECK;
void *fen__heap_realloc(void *p, size_t n) FEN_MUST_CHECK;
void fen__heap_free(void *p);
size_t fen__heap_usable(const void *p);
uint32_t fen__heap_account(const void *p);

/* ---- profile.c ---- */
#define FEN__PROFILE_NEVER (INT64_C(1) << 62)
extern int64_t fen__profile_rate; /* mean bytes between samples; 0: off */
/* Draws where the next sample is; after the rate has changed, too. */
void fen__profile_renew(struct fen__cache *c);
/* Notes a block that was just handed out, for an account. */
void fen__profile_take(struct fen__cache *c, const void *p, uint32_t account);
void fen__profile_freed(struct fen__span *s, const void *p); /* of a block that it has */
/* A large block grew or shrank, or moved: as if it were freed and allocated. */
void fen__profile_resized(struct fen__cache *c, struct fen__span *s, const void *was_at,
                          size_t was_bytes);
void fen__profile_lock(void);
void fen__profile_unlock(void);

/* The sample of now is due: more was allocated than the gap. */
static inline bool fen__profile_due(const struct fen__cache *c)
{
    return c->now.row->alloc > c->now.sample_at;
}

/* Bytes that were added to a row; those of the current one count by themselves. */
static inline void fen__profile_spend(struct fen__cache *c, const struct fen__mem_row *r,
                                      int64_t bytes)
{
    if (r == c->now.row)
        return;
    c->now.sample_at -= bytes;
    if (c->now.gate > c->now.sample_at)
        c->now.gate = c->now.sample_at;
}

static inline uint64_t fen__profile_bit(const struct fen__span *s, const void *p)
{
    return UINT64_C(1) << fen__block_index(s, p) % 64;
}

/* False: the block is not noted. Whoever has a block that is, has it from the thread that noted it,
 * and sees the bit. */
static inline bool fen__profile_has(const struct fen__span *s, const void *p)
{
    uint64_t noted = atomic_load_explicit(&s->noted, memory_order_relaxed);
    return FEN__UNLIKELY(noted) && noted & fen__profile_bit(s, p);
}

/* ---- pace.c ---- */
enum {
    FEN__DUE_GOAL = 1,
    FEN__DUE_LIMIT = 2, /* near the limit */
    FEN__DUE_LOOK = 4,  /* more dirty pages than one keeps for long */
    FEN__DUE_STOP = 8,
    FEN__DUE_KEPT = 16 /* a room keeps what it may want to let go in a while */
};
void fen__pace_due(uint32_t why); /* any thread; the page heap's lock is not held */
/* Goes up when the caches should be flushed. */
extern uint32_t fen__flush_epoch;
/* A whole reclaim on the calling thread; the bytes given back. */
size_t fen__pace_reclaim(void);
/* Around a fork. In the child the heap is not paced: it has no reclaimer. */
void fen__pace_lock(void);
void fen__pace_unlock(void);
void fen__pace_forget(void);

/* ---- hooks.c ---- */
enum fen__hooks { FEN__HOOKS_TIMED, FEN__HOOKS_AGED, FEN__HOOKS_ALL };
/* Asks the timed hooks, or every one, to let go of what was not used, or of all; each(arg), unless
 * NULL, after each call. Bytes; 0 when another thread is asking them just now. */
size_t fen__hooks_call(enum fen__hooks which, void (*each)(void *arg), void *arg);
/* Around a fork; in the child nobody is asking. */
void fen__hooks_lock(void);
void fen__hooks_unlock(bool child);

/* ---- large.c ---- */
void *fen__large_new(struct fen__cache *c, size_t n, size_t align, uint32_t account,
                     bool *ret_zero);
void fen__large_free(struct fen__cache *c, struct fen__span *s, const void *p);
/* Where the block is now, perhaps elsewhere; NULL: it is as it was, and n needs another block. */
void *fen__large_resize(struct fen__cache *c, struct fen__span *s, size_t n);

/* ---- objpool.c ---- */
/* What the thread has at hand goes where others find it. */
void fen__objpool_flush(struct fen__cache *c);
/* Around a fork, as for the others. */
void fen__objpool_lock(void);
void fen__objpool_unlock(bool child);

/* ---- check.c ---- */
extern bool fen__checked; /* new blocks have a red zone and are poisoned */
__attribute__((noreturn, cold)) void fen__misuse(const char *what, const void *p,
                                                 const struct fen__span *s);
void *fen__check_new(struct fen__cache *c, size_t n, uint32_t account);
void fen__check_free(struct fen__cache *c, struct fen__span *s, void *p);
size_t fen__check_size(const struct fen__span *s, const void *p);
void fen__check_drain(struct fen__cache *c); /* empties the quarantine */
void fen__check_lock(void);
void fen__check_unlock(void);

#ifndef FEN_SHARED
#pragma GCC visibility pop
#endif

#endif
