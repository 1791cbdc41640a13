/* stack.c - stacks in slabs, three ways to guard their low end.
 *
 * A slab is one map of SLAB_STACKS slots. Each slot's lowest page is the guard:
 *   madvise   MADV_GUARD_INSTALL: a fault, and the slab stays one map (Linux 6.13 and later);
 *   mprotect  a fault, but two maps a stack: it stops near vm.max_map_count / 2 stacks, and further
 *             stacks are then guarded by canary only;
 *   canary    16 words of a pattern, checked whenever the fiber is switched out: late, but named.
 * Slots of the default size only; larger ones get a map each.
 *
 * A slot gets its guard when it is first taken. Those that came back form an array used as a stack,
 * under one lock; workers keep some stacks of fibers that have ended, so it is touched only when
 * those caches run dry or over.
 *
 *   warm  came back with its pages: a ring, taken from the end where they came last. Beyond
 *         KEEP_WARM of them who gives a stack gives its pages back too
 *   cold  has no pages: taken when no warm one is left, before fresh ones
 *
 * What nobody took for FEN__KEPT_NS becomes cold: `least` is the fewest that were warm since the
 * last look, and as many, those that lie longest, were not needed. The heap's reclaimer looks as
 * long as any is warm, and all are given back near the limit (pace.c). It takes SLICE stacks out of
 * the ring, gives their pages back without the lock, in one system call, and makes them cold.
 *
 * Who will need slots reserves them by count beforehand: what is reserved is mapped, so taking a
 * slot within one's reservation cannot fail.
 *
 * Rejected: a guard by PROT_NONE for all (32,754 stacks, measured); no guard (silent corruption);
 * 2 MiB-aligned slots (4 KiB of page table per stack). */
#include "fiber/fiber.h"

#include "mem/mem.h"
#include "sys/sys.h"

#include <string.h>

#define SLAB_STACKS 64
#define COLOURS FEN__STACK_COLOURS
#define KEEP_WARM 16384 /* 64 MiB of stacks that used one page */
#define SLICE 64        /* stacks given back at a time: some 100 us */
#define SLICE_HELD 4    /* while others wait */
#define CANARY UINT64_C(0xFE4C0FFEE5AFE57A)
#define CANARY_WORDS (FEN__CANARY_BYTES / 8)

static struct {
    uint32_t lock;
    enum fen_guard guard;
    size_t bytes, page;
    char **slabs;             /* [slots / SLAB_STACKS], room for cap / SLAB_STACKS */
    struct fen__stack *warm;  /* ring of cap: from `first` on, the coldest first */
    struct fen__stack *cold;  /* array used as a stack */
    size_t first, nwarm, cap; /* cap: a power of two; nwarm is looked at without the lock */
    size_t ncold;
    size_t least;             /* warm, since the last look */
    size_t due;               /* of the present look: so many still are to become cold */
    int64_t seen_ns;          /* when the last look was */
    bool seen;                /* somebody will look */
    uint32_t slots, reserved; /* slots >= reserved, those in use included */
    uint32_t used;            /* of the slots: handed out at least once */
    int64_t mapped;
    bool mprotect_spent; /* the map budget is used up: canaries from here */
} pool;

static size_t let_go(struct fen__reclaim_hook *h, bool all);
static struct fen__reclaim_hook hook = {.fn = let_go, .timed = true};

int64_t fen__stack_mapped_bytes(void) { return __atomic_load_n(&pool.mapped, __ATOMIC_RELAXED); }

static int probe_guard(enum fen_guard g)
{
    if (g == FEN_GUARD_CANARY)
        return 0;
    void *p;
    int rc = fen__sys_map(4 * pool.page, &p);
    if (rc)
        return rc;
    rc = g == FEN_GUARD_MADVISE ? fen__sys_guard_madvise(p, pool.page)
                                : fen__sys_guard_mprotect(p, pool.page);
    fen__sys_unmap(p, 4 * pool.page);
    return rc;
}

int fen__stack_init(enum fen_guard want, size_t default_bytes)
{
    pool.page = fen__sys_page_bytes();
    if (default_bytes == 0)
        default_bytes = FEN__STACK_DEFAULT;
    if (default_bytes > FEN__STACK_MAX)
        return -EINVAL;
    if (default_bytes < (16u << 10))
        default_bytes = 16u << 10;
    /* The guard page comes on top, so the size asked for is usable, and slots are an odd number of
     * pages apart: tops at the same offset of a power of two fight for the same cache
     * sets. */
    pool.bytes = ((default_bytes + pool.page - 1) & ~(pool.page - 1)) + pool.page;
    pool.mprotect_spent = false;
    pool.guard = want;
    int rc = want == FEN_GUARD_AUTO ? 0 : probe_guard(want);
    if (rc)
        return rc;
    if (want == FEN_GUARD_AUTO)
        for (pool.guard = FEN_GUARD_MADVISE; probe_guard(pool.guard); pool.guard++)
            ;
    fen__reclaim_register(&hook);
    return 0;
}

void fen__stack_fini(void)
{
    fen__reclaim_unregister(&hook);
    for (uint32_t i = 0; i < pool.slots / SLAB_STACKS; i++)
        fen__sys_unmap(pool.slabs[i], SLAB_STACKS * pool.bytes);
    fen__mem_free(pool.slabs, pool.cap / SLAB_STACKS * sizeof *pool.slabs);
    fen__mem_free(pool.warm, pool.cap * sizeof *pool.warm);
    fen__mem_free(pool.cold, pool.cap * sizeof *pool.cold);
    memset(&pool, 0, sizeof pool);
}

static void put_canary(char *low)
{
    uint64_t *w = (uint64_t *)low;
    for (int i = 0; i < CANARY_WORDS; i++)
        w[i] = CANARY;
}

static void guard(struct fen__stack *s)
{
    if (pool.guard == FEN_GUARD_MADVISE && fen__sys_guard_madvise(s->low, pool.page) == 0)
        return;
    if (pool.guard == FEN_GUARD_MPROTECT &&
        !__atomic_load_n(&pool.mprotect_spent, __ATOMIC_RELAXED)) {
        if (fen__sys_guard_mprotect(s->low, pool.page) == 0)
            return;
        __atomic_store_n(&pool.mprotect_spent, true, __ATOMIC_RELAXED);
    }
    put_canary(s->low + pool.page);
    s->canary = true;
}

bool fen__stack_intact(const struct fen__stack *s)
{
    if (!s->canary)
        return true;
    const uint64_t *w = (const uint64_t *)(s->low + pool.page);
    return w[0] == CANARY && w[CANARY_WORDS - 1] == CANARY;
}

static struct fen__stack *warm_at(size_t i)
{
    return &pool.warm[(pool.first + i) & (pool.cap - 1)];
}

/* Lock held. Room in all arrays for every slot that will exist. What was never written to in them
 * is no memory, so no more is copied than there is. */
static int reserve(size_t slots)
{
    if (slots <= pool.cap)
        return 0;
    size_t cap = pool.cap ? pool.cap * 2 : 1024;
    while (cap < slots)
        cap *= 2;
    size_t bytes = cap / SLAB_STACKS * sizeof *pool.slabs;
    size_t old = pool.cap / SLAB_STACKS * sizeof *pool.slabs, each = sizeof *pool.warm;
    char **slabs = fen__mem_alloc_for(0, bytes); /* nobody's in particular */
    struct fen__stack *warm = !slabs ? NULL : fen__mem_alloc_for(0, cap * each);
    struct fen__stack *cold = !warm ? NULL : fen__mem_alloc_for(0, cap * each);
    if (!cold) {
        fen__mem_free(warm, cap * each);
        fen__mem_free(slabs, bytes);
        return -ENOMEM;
    }
    if (old)
        memcpy(slabs, pool.slabs, old);
    for (size_t i = 0; i < pool.nwarm; i++)
        warm[i] = *warm_at(i);
    if (pool.ncold)
        memcpy(cold, pool.cold, pool.ncold * each);
    fen__mem_free(pool.slabs, old);
    fen__mem_free(pool.warm, pool.cap * each);
    fen__mem_free(pool.cold, pool.cap * each);
    pool.warm = warm;
    pool.cold = cold;
    pool.first = 0;
    pool.slabs = slabs;
    pool.cap = cap;
    return 0;
}

static char *warn_line(const struct fen__stack *s)
{
    return s->low + pool.page + (s->bytes - pool.page) / 5;
}

/* Lock held. */
static int add_slab(void)
{
    int rc = reserve(pool.slots + SLAB_STACKS);
    if (rc)
        return rc;
    void *map;
    rc = fen__sys_map(SLAB_STACKS * pool.bytes, &map);
    if (rc)
        return rc;
    pool.slabs[pool.slots / SLAB_STACKS] = map;
    __atomic_fetch_add(&pool.mapped, (int64_t)(SLAB_STACKS * pool.bytes), __ATOMIC_RELAXED);
    pool.slots += SLAB_STACKS;
    return 0;
}

int fen__stack_map(size_t bytes, struct fen__stack *ret_stack)
{
    if (bytes > FEN__STACK_MAX)
        return -EINVAL;
    bytes = ((bytes + pool.page - 1) & ~(pool.page - 1)) + pool.page;
    void *map;
    int rc = fen__sys_map(bytes, &map);
    if (rc)
        return rc;
    __atomic_fetch_add(&pool.mapped, (int64_t)bytes, __ATOMIC_RELAXED);
    *ret_stack = (struct fen__stack){map, bytes, UINT32_MAX, false, NULL};
    ret_stack->warn = warn_line(ret_stack);
    guard(ret_stack);
    return 0;
}

bool fen__stack_is_slot(size_t bytes) { return bytes + pool.page <= pool.bytes; }

int fen__stack_reserve(uint32_t n)
{
    fen__lock(&pool.lock);
    int rc = 0;
    while (!rc && pool.slots - pool.reserved < n)
        rc = add_slab();
    if (!rc)
        pool.reserved += n;
    fen__unlock(&pool.lock);
    return rc;
}

void fen__stack_unreserve(uint32_t n)
{
    fen__lock(&pool.lock);
    pool.reserved -= n;
    fen__unlock(&pool.lock);
}

bool fen__stack_of_some(const void *at)
{
    bool in = false;
    fen__lock(&pool.lock);
    for (uint32_t i = 0; i < pool.slots / SLAB_STACKS && !in; i++)
        in = (uintptr_t)at - (uintptr_t)pool.slabs[i] < SLAB_STACKS * pool.bytes;
    fen__unlock(&pool.lock);
    return in;
}

/* Lock held: some of the slots that were never used; they have no guard yet. */
static uint32_t take_fresh(struct fen__stack *ret, uint32_t n)
{
    n = n < pool.slots - pool.used ? n : pool.slots - pool.used;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = pool.used++;
        char *low = pool.slabs[slot / SLAB_STACKS] + (size_t)(slot % SLAB_STACKS) * pool.bytes;
        ret[i] = (struct fen__stack){low, pool.bytes, slot, false, NULL};
        ret[i].warn = warn_line(&ret[i]);
    }
    return n;
}

/* Lock held. */
static void set_warm(size_t n) { __atomic_store_n(&pool.nwarm, n, __ATOMIC_RELAXED); }

/* Lock held. Warm ones, and if there is none cold ones: up to n. */
static uint32_t take_used(struct fen__stack *ret, uint32_t n)
{
    uint32_t had = n < pool.nwarm ? n : (uint32_t)pool.nwarm;
    for (uint32_t i = 0; i < had; i++)
        ret[i] = *warm_at(pool.nwarm - had + i);
    set_warm(pool.nwarm - had);
    if (pool.nwarm < pool.least)
        pool.least = pool.nwarm;
    if (had)
        return had;
    had = n < pool.ncold ? n : (uint32_t)pool.ncold;
    pool.ncold -= had;
    memcpy(ret, &pool.cold[pool.ncold], had * sizeof *ret);
    return had;
}

uint32_t fen__stack_take(struct fen__stack *ret, uint32_t n)
{
    fen__lock(&pool.lock);
    uint32_t had = take_used(ret, n);
    uint32_t fresh = had ? 0 : take_fresh(ret, n);
    fen__unlock(&pool.lock);
    for (uint32_t i = 0; i < fresh; i++)
        guard(&ret[i]);
    return had + fresh;
}

void fen__stack_give(const struct fen__stack *s, uint32_t n)
{
    if (__atomic_load_n(&pool.nwarm, __ATOMIC_RELAXED) > KEEP_WARM)
        for (uint32_t i = 0; i < n; i++)
            fen__stack_release(&s[i]);
    fen__lock(&pool.lock);
    for (uint32_t i = 0; i < n; i++)
        *warm_at(pool.nwarm + i) = s[i];
    bool first = !pool.seen && n;
    if (first) {
        pool.seen = true;
        pool.seen_ns = fen__sys_now();
        pool.least = pool.nwarm + n;
    }
    set_warm(pool.nwarm + n);
    fen__unlock(&pool.lock);
    if (first)
        fen__reclaim_later();
}

/* ---- warm ones become cold ---- */

/* Lock held. A look begins unless one is under way: how many were of no use since the last one. */
static void look(bool all)
{
    int64_t now = fen__sys_now();
    if (pool.due)
        return;
    if (all) {
        pool.due = pool.nwarm;
    } else if (now - pool.seen_ns >= FEN__KEPT_NS * 9 / 10) {
        pool.due = pool.least < pool.nwarm ? pool.least : pool.nwarm;
        pool.least = pool.nwarm - pool.due;
        pool.seen_ns = now;
    }
}

static void release(const struct fen__stack *s, uint32_t n)
{
    struct iovec part[SLICE];
    for (uint32_t i = 0; i < n; i++) {
        size_t keep = pool.page + (s[i].canary ? pool.page : 0); /* the canary's page stays */
        part[i] = (struct iovec){s[i].low + keep, s[i].bytes - keep};
    }
    fen__sys_release_parts(part, (int)n);
}

/* Lock held. The coldest warm ones, out of the ring: a slice of those that are due. */
static uint32_t take_coldest(struct fen__stack *ret, uint32_t most)
{
    uint32_t n = pool.due < most ? (uint32_t)pool.due : most;
    if (n > pool.nwarm)
        n = (uint32_t)pool.nwarm;
    for (uint32_t i = 0; i < n; i++)
        ret[i] = *warm_at(i);
    pool.first = (pool.first + n) & (pool.cap - 1);
    pool.due -= n;
    set_warm(pool.nwarm - n);
    pool.due = pool.due < pool.nwarm ? pool.due : pool.nwarm;
    return n;
}

/* Lock held. */
static void put_cold(const struct fen__stack *s, uint32_t n)
{
    memcpy(&pool.cold[pool.ncold], s, n * sizeof *s);
    pool.ncold += n;
}

/* Lock held, and let go in between. Slots in nobody's list are reserved, so that no other who has
 * reserved one finds none. Where all are reserved a few are given back under the lock. */
static void one_slice(void)
{
    struct fen__stack s[SLICE];
    uint32_t spare = pool.slots - pool.reserved;
    uint32_t n = take_coldest(s, !spare ? SLICE_HELD : spare < SLICE ? spare : SLICE);
    if (!spare) {
        release(s, n);
        put_cold(s, n);
        return;
    }
    pool.reserved += n;
    fen__unlock(&pool.lock);
    release(s, n);
    fen__lock(&pool.lock);
    pool.reserved -= n;
    put_cold(s, n);
}

static size_t let_go(struct fen__reclaim_hook *h, bool all)
{
    if (FEN__UNLIKELY(fen__forked)) /* a child: the lock may be held for ever */
        return 0;
    fen__lock(&pool.lock);
    look(all);
    if (pool.due)
        one_slice();
    h->more = pool.due > 0;
    bool later = !h->more && pool.nwarm;
    pool.seen = h->more || later;
    fen__unlock(&pool.lock);
    if (later)
        fen__reclaim_later();
    return 0; /* of the heap's bytes */
}

void fen__stack_unmap(struct fen__stack *s)
{
    __atomic_fetch_sub(&pool.mapped, (int64_t)s->bytes, __ATOMIC_RELAXED);
    fen__sys_unmap(s->low, s->bytes);
}

/* The slots' odd distance spreads the tops over pages; sixteen colours of a line each spread them
 * within the page, and leave most of it to the fiber. */
void *fen__stack_top(const struct fen__stack *s)
{
    return s->low + s->bytes - (size_t)(s->slot % COLOURS) * FEN__LINE;
}

void *fen__stack_low(const struct fen__stack *s) { return s->low + pool.page; }

void fen__stack_release(const struct fen__stack *s)
{
    (void)!fen__sys_release(s->low + pool.page, s->bytes - pool.page);
    if (s->canary)
        put_canary(s->low + pool.page);
}

void fen__stack_paint(const struct fen__stack *s)
{
    char *low = s->low + pool.page + (s->canary ? FEN__CANARY_BYTES : 0);
    memset(low, FEN__PAINT, (size_t)((char *)fen__stack_top(s) - low));
}
