/* objpool.c - pools of objects of one type.
 *
 * For each pool a thread's cache has a shard: `hand`, an array that only the thread touches, and
 * `spare`, a list under the shard's lock from which others may take. A get takes from hand, else a
 * batch from spare, else half of another shard's spare, else from the pool's `old`, else it makes
 * an object. A put fills hand; a full hand gives its older half to spare; what spare cannot hold is
 * freed.
 *
 *   out --put--> hand <--> spare --reclaim--> old --reclaim--> freed
 *    ^            |          |                 |
 *    +----get-----+----------+-----------------+
 *
 * An object that two reclaims have found free was of no use in between and goes: what is in demand
 * survives, what a burst has left does not. (`old` is what Go calls the victim cache.) A reclaim
 * cannot reach other threads' hands; a thread that sleeps for long empties its own
 * (fen__mem_flush).
 *
 * A shard belongs to the thread's cache, not to a P: a fiber may be inside get when its P is taken.
 * It stays with the cache's record when the thread ends, for the next thread that has it.
 *
 * Invariants: an object's head says to which pool it belongs, and OUT or not; gets - puts = objects
 * out, made - freed = all there are; hand is never longer than HAND.
 * Locks: pools, then a shard's, then old's; each object is made and freed without a lock. While
 * `pins` of a pool is above 0 it is not freed.
 *
 * Rejected: a lock-free ring to steal from (the lock is taken once a batch, and by two threads only
 * when one has run dry); links inside the objects (they are the user's, and poisoned); ready-made
 * objects for every thread (memory that nobody asked for). */
#include "mem/heap_int.h"

#include "base/sanitize.h"

#include <fen/objpool.h>

#include <assert.h>
#include <string.h>

#ifdef FEN__ASAN
#include <sanitizer/asan_interface.h>
#define HIDE(p, n) __asan_poison_memory_region(p, n)
#define SHOW(p, n) __asan_unpoison_memory_region(p, n)
#else
#define HIDE(p, n) ((void)(p), (void)(n))
#define SHOW(p, n) ((void)(p), (void)(n))
#endif

#define HAND 64u
#define BATCH (HAND / 2)

struct head {
    fen_objpool *pool;
    struct head *next; /* OUT; in a list: the next one, or NULL */
};

static_assert(sizeof(struct head) == 16, "objects stay aligned");

static struct head out_mark; /* an address that is in no list */
#define OUT (&out_mark)

struct fen__objshard {
    uint32_t n;                              /* in hand */
    int64_t gets, puts, made, freed, stolen; /* by the owner, read by anybody */
    void *hand[HAND];
    struct fen__objshard *next; /* fixed once it is in the pool's list */
    uint32_t lock;
    uint32_t spares; /* atomic: looked at without the lock */
    struct head *spare;
};

struct fen_objpool {
    fen_objpool_config cfg;
    uint32_t id;
    bool scribble; /* debug: nobody may rely on what a put object held */
    struct fen__objshard *_Atomic shards;
    uint32_t pins; /* pools.lock */
    uint32_t lock;
    uint32_t olds; /* atomic, as spares */
    struct head *old;
    int64_t freed; /* by reclaims and without a shard; atomic, as puts */
    int64_t puts;  /* without a shard */
};

static struct {
    uint32_t lock;
    fen_objpool *at[FEN_OBJPOOLS_MAX];
} pools;

static void count(int64_t *word, int64_t n) { fen__row_add(word, n); }

/* ---- objects ---- */

static size_t whole_bytes(const fen_objpool *p) { return sizeof(struct head) + p->cfg.size_bytes; }

static void *object_make(fen_objpool *p, struct fen__objshard *s)
{
    struct head *h = fen__mem_alloc_for(0, whole_bytes(p));
    if (!h)
        return NULL;
    *h = (struct head){p, OUT};
    memset(h + 1, 0, p->cfg.size_bytes);
    if (p->cfg.init && p->cfg.init(h + 1, p->cfg.arg) < 0) {
        fen__mem_free(h, whole_bytes(p));
        return NULL;
    }
    if (p->scribble)
        memset(h + 1, 0xdb, p->cfg.size_bytes);
    count(&s->made, 1);
    return h + 1;
}

static int64_t list_free(fen_objpool *p, struct head *list)
{
    int64_t n = 0;
    while (list) {
        struct head *h = list;
        list = h->next;
        SHOW(h + 1, p->cfg.size_bytes);
        if (p->cfg.fini)
            p->cfg.fini(h + 1, p->cfg.arg);
        fen__mem_free(h, whole_bytes(p));
        n++;
    }
    return n;
}

/* The first n of a list, which has as many. */
static struct head *list_split(struct head **from, uint32_t n)
{
    struct head *first = *from, *last = first;
    for (uint32_t i = 1; i < n; i++)
        last = last->next;
    *from = last->next;
    last->next = NULL;
    return first;
}

/* ---- shards ---- */

static struct fen__objshard *shard_of(const fen_objpool *p, struct fen__cache *c)
{
    return __atomic_load_n(&c->pool[p->id], __ATOMIC_RELAXED); /* by this thread, or before p was */
}

FEN__NOINLINE static struct fen__objshard *shard_new(fen_objpool *p)
{
    struct fen__cache *c = fen__cache_get(true);
    struct fen__objshard *s = c ? shard_of(p, c) : NULL;
    if (s || !c)
        return s;
    s = fen__mem_alloc_for(0, sizeof *s);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    fen__lock(&pools.lock);
    s->next = atomic_load_explicit(&p->shards, memory_order_relaxed);
    atomic_store_explicit(&p->shards, s, memory_order_release); /* pairs with the loads in each */
    __atomic_store_n(&c->pool[p->id], s, __ATOMIC_RELAXED);
    if (c->pools <= p->id)
        c->pools = p->id + 1;
    fen__unlock(&pools.lock);
    return s;
}

static struct fen__objshard *first_shard(const fen_objpool *p)
{
    return atomic_load_explicit(&p->shards, memory_order_acquire);
}

/* Up to max free ones from a list under a lock. Half of them when `half`. */
static struct head *take(uint32_t *lock, struct head **list, uint32_t *n, uint32_t max, bool half,
                         uint32_t *ret_n)
{
    *ret_n = 0;
    if (!__atomic_load_n(n, __ATOMIC_RELAXED))
        return NULL;
    fen__lock(lock);
    uint32_t k = half ? (*n + 1) / 2 : *n;
    k = k < max ? k : max;
    struct head *first = k ? list_split(list, k) : NULL;
    __atomic_store_n(n, *n - k, __ATOMIC_RELAXED);
    fen__unlock(lock);
    *ret_n = k;
    return first;
}

static void hand_fill(struct fen__objshard *s, struct head *list)
{
    while (list) {
        struct head *h = list;
        list = h->next;
        h->next = NULL;
        s->hand[s->n++] = h + 1;
    }
}

/* Hand is empty. */
static void refill(fen_objpool *p, struct fen__objshard *s)
{
    uint32_t n;
    struct head *got = take(&s->lock, &s->spare, &s->spares, BATCH, false, &n);
    for (struct fen__objshard *o = first_shard(p); o && !got; o = o->next)
        if (o != s) {
            got = take(&o->lock, &o->spare, &o->spares, BATCH, true, &n);
            count(&s->stolen, n);
        }
    if (!got)
        got = take(&p->lock, &p->old, &p->olds, BATCH, false, &n);
    hand_fill(s, got);
}

/* The older half, or all, of hand becomes spare. */
static void spill(fen_objpool *p, struct fen__objshard *s, uint32_t n)
{
    struct head *list = NULL, *last = NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct head *h = (struct head *)s->hand[i] - 1;
        h->next = list;
        list = h;
        last = last ? last : h;
    }
    memmove(s->hand, s->hand + n, (s->n - n) * sizeof s->hand[0]);
    s->n -= n;
    if (!list)
        return;
    fen__lock(&s->lock);
    bool fits = s->spares + n <= p->cfg.idle_max;
    if (fits) {
        last->next = s->spare;
        s->spare = list;
        __atomic_store_n(&s->spares, s->spares + n, __ATOMIC_RELAXED);
    }
    fen__unlock(&s->lock);
    if (!fits)
        count(&s->freed, list_free(p, list));
}

/* ---- get and put ---- */

FEN__NOINLINE static void *get_slow(fen_objpool *p)
{
    struct fen__objshard *s = shard_new(p);
    if (!s)
        return NULL;
    if (!s->n)
        refill(p, s);
    void *object = s->n ? s->hand[--s->n] : NULL;
    if (object) {
        ((struct head *)object)[-1].next = OUT;
        SHOW(object, p->cfg.size_bytes);
    } else {
        object = object_make(p, s);
    }
    if (object)
        count(&s->gets, 1);
    return object;
}

void *fen_objpool_get(fen_objpool *p)
{
    struct fen__cache *c = fen__cache_self();
    struct fen__objshard *s = c ? shard_of(p, c) : NULL;
    if (FEN__UNLIKELY(!s || !s->n))
        return get_slow(p);
    void *object = s->hand[--s->n];
    ((struct head *)object)[-1].next = OUT;
    count(&s->gets, 1);
    SHOW(object, p->cfg.size_bytes);
    return object;
}

/* Without a shard, for want of memory, the object goes back to the heap. */
FEN__NOINLINE static void put_slow(fen_objpool *p, void *object)
{
    struct fen__objshard *s = shard_new(p);
    struct head *h = (struct head *)object - 1;
    if (!s) {
        h->next = NULL;
        __atomic_fetch_add(&p->puts, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&p->freed, list_free(p, h), __ATOMIC_RELAXED);
        return;
    }
    while (s->n == HAND) /* fini may have put something too */
        spill(p, s, BATCH);
    s->hand[s->n++] = object;
    count(&s->puts, 1);
}

void fen_objpool_put(fen_objpool *p, void *object)
{
    if (FEN__UNLIKELY(!object))
        return;
    struct head *h = (struct head *)object - 1;
    fen_promise(h->pool == p && h->next == OUT,
                "fen_objpool_put of an object of another pool, or put twice");
    if (p->cfg.clear)
        p->cfg.clear(object, p->cfg.arg);
    if (p->cfg.zero)
        memset(object, 0, p->cfg.size_bytes);
    else if (p->scribble)
        memset(object, 0xdb, p->cfg.size_bytes);
    h->next = NULL;
    HIDE(object, p->cfg.size_bytes);
    struct fen__cache *c = fen__cache_self();
    struct fen__objshard *s = c ? shard_of(p, c) : NULL;
    if (FEN__UNLIKELY(!s || s->n == HAND)) {
        put_slow(p, object);
        return;
    }
    s->hand[s->n++] = object;
    count(&s->puts, 1);
}

/* ---- a thread's end, and long sleeps ---- */

void fen__objpool_flush(struct fen__cache *c)
{
    if (!c->pools)
        return;
    fen__lock(&pools.lock); /* no pool goes meanwhile */
    for (uint32_t i = 0; i < c->pools; i++) {
        fen_objpool *p = pools.at[i];
        struct fen__objshard *s = __atomic_load_n(&c->pool[i], __ATOMIC_RELAXED);
        uint32_t room = 0;
        if (!p || !s)
            continue;
        fen__lock(&s->lock);
        if (s->spares < p->cfg.idle_max)
            room = p->cfg.idle_max - s->spares;
        fen__unlock(&s->lock);
        spill(p, s,
              s->n < room ? s->n : room); /* the rest waits for the thread: never a fini here */
    }
    fen__unlock(&pools.lock);
}

/* With the table's lock held no pool goes and no shard comes. */
void fen__objpool_lock(void)
{
    fen__lock(&pools.lock);
    for (uint32_t i = 0; i < FEN_OBJPOOLS_MAX; i++) {
        fen_objpool *p = pools.at[i];
        for (struct fen__objshard *s = p ? first_shard(p) : NULL; s; s = s->next)
            fen__lock(&s->lock);
        if (p)
            fen__lock(&p->lock);
    }
}

void fen__objpool_unlock(bool child)
{
    for (uint32_t i = 0; i < FEN_OBJPOOLS_MAX; i++) {
        fen_objpool *p = pools.at[i];
        for (struct fen__objshard *s = p ? first_shard(p) : NULL; s; s = s->next)
            fen__unlock(&s->lock);
        if (!p)
            continue;
        fen__unlock(&p->lock);
        if (child) /* who held it is not here */
            p->pins = 0;
    }
    fen__unlock(&pools.lock);
}

/* ---- reclaim ---- */

/* One pool, pinned: frees what is old, and makes old what is spare; all: frees that too. */
static int64_t reclaim(fen_objpool *p, bool all)
{
    uint32_t n;
    int64_t freed = list_free(p, take(&p->lock, &p->old, &p->olds, UINT32_MAX, false, &n));
    for (struct fen__objshard *s = first_shard(p); s; s = s->next) {
        struct head *list = take(&s->lock, &s->spare, &s->spares, UINT32_MAX, false, &n);
        if (all || !list) {
            freed += list_free(p, list);
            continue;
        }
        struct head *last = list;
        while (last->next)
            last = last->next;
        fen__lock(&p->lock);
        last->next = p->old;
        p->old = list;
        __atomic_store_n(&p->olds, p->olds + n, __ATOMIC_RELAXED);
        fen__unlock(&p->lock);
    }
    __atomic_fetch_add(&p->freed, freed, __ATOMIC_RELAXED);
    return freed;
}

size_t fen__objpool_reclaim(bool all)
{
    size_t bytes = 0;
    struct fen__cache *c = fen__cache_self();
    if (c)
        fen__objpool_flush(c);
    for (uint32_t i = 0; i < FEN_OBJPOOLS_MAX; i++) {
        fen__lock(&pools.lock);
        fen_objpool *p = pools.at[i];
        if (p)
            p->pins++;
        fen__unlock(&pools.lock);
        if (!p)
            continue;
        bytes += (size_t)reclaim(p, all) * whole_bytes(p);
        fen__lock(&pools.lock);
        p->pins--;
        fen__unlock(&pools.lock);
    }
    return bytes;
}

/* ---- pools ---- */

static size_t let_go(struct fen__reclaim_hook *h, bool all)
{
    (void)h;
    return fen__objpool_reclaim(all);
}

static struct fen__reclaim_hook hook = {.fn = let_go}; /* from the first pool on */

/* A place in the table; false: there is none. */
static bool enter(fen_objpool *p)
{
    static bool hooked;
    fen__lock(&pools.lock);
    while (p->id < FEN_OBJPOOLS_MAX && pools.at[p->id])
        p->id++;
    if (p->id < FEN_OBJPOOLS_MAX)
        pools.at[p->id] = p;
    bool first = !hooked;
    hooked = true;
    fen__unlock(&pools.lock);
    if (first)
        fen__reclaim_register(&hook);
    return p->id < FEN_OBJPOOLS_MAX;
}

fen_objpool *fen_objpool_new(const fen_objpool_config *config)
{
    if (config->size_bytes == 0 || config->size_bytes > FEN_OBJPOOL_BYTES_MAX)
        return NULL;
    fen_objpool *p = fen__mem_alloc_for(0, sizeof *p);
    if (!p)
        return NULL;
    *p = (fen_objpool){.cfg = *config};
#ifndef NDEBUG
    p->scribble = !config->init && !config->clear && !config->zero;
#endif
    if (!p->cfg.idle_max)
        p->cfg.idle_max = FEN_OBJPOOL_IDLE;
    if (!enter(p)) {
        fen__mem_free(p, sizeof *p);
        return NULL;
    }
    return p;
}

static void forget_shard(struct fen__cache *c, void *arg)
{
    __atomic_store_n(&c->pool[((fen_objpool *)arg)->id], NULL, __ATOMIC_RELAXED);
}

/* Out of the table, once no reclaim is at it. */
static void leave(fen_objpool *p)
{
    for (bool busy = true; busy;) {
        fen__lock(&pools.lock);
        busy = p->pins;
        if (!busy) {
            pools.at[p->id] = NULL;
            fen__cache_each(forget_shard, p);
        }
        fen__unlock(&pools.lock);
    }
}

void fen_objpool_free(fen_objpool *p)
{
    fen_objpool_stats stats;
    if (!p)
        return;
    leave(p);
    fen_objpool_stats_get(p, &stats);
    fen_promise(stats.gets == stats.puts, "fen_objpool_free while an object is still out");
    (void)list_free(p, p->old);
    for (struct fen__objshard *s = first_shard(p), *next; s; s = next) {
        next = s->next;
        for (uint32_t i = 0; i < s->n; i++)
            (void)list_free(p, (struct head *)s->hand[i] - 1);
        (void)list_free(p, s->spare);
        fen__mem_free(s, sizeof *s);
    }
    fen__mem_free(p, sizeof *p);
}

void fen_objpool_stats_get(const fen_objpool *p, fen_objpool_stats *ret_stats)
{
    fen_objpool_stats t = {.freed = __atomic_load_n(&p->freed, __ATOMIC_RELAXED),
                           .puts = __atomic_load_n(&p->puts, __ATOMIC_RELAXED)};
    for (struct fen__objshard *s = first_shard(p); s; s = s->next) {
        t.gets += __atomic_load_n(&s->gets, __ATOMIC_RELAXED);
        t.puts += __atomic_load_n(&s->puts, __ATOMIC_RELAXED);
        t.made += __atomic_load_n(&s->made, __ATOMIC_RELAXED);
        t.freed += __atomic_load_n(&s->freed, __ATOMIC_RELAXED);
        t.stolen += __atomic_load_n(&s->stolen, __ATOMIC_RELAXED);
    }
    t.idle = t.made - t.freed - (t.gets - t.puts);
    *ret_stats = t;
}
