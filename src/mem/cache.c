/* cache.c - what a thread allocates from without a lock.
 *
 * Blocks at hand lie in magazines (magazine.c). For each class a cache has one span that these are
 * filled from (bin) and a list of further ones
 * with free blocks, oldest first, so that frees have time to gather before a span is used again. A
 * span that runs dry is dropped from both and comes back with the first free into it. Blocks are
 * taken from where there are holes before new ones are cut, and a new span is made only when no
 * list, no inbox and no central set has one.
 *
 * A span that becomes empty goes back to the page heap, except the current one and IDLE_MAX bytes
 * of others, which spare a program that allocates and frees in waves the way there and back.
 *
 * What a cache has of spans (bin, list, batches, what came from the inbox) is under its lock, which
 * its thread takes for each stack of blocks that it fills or gives back, and which is free nearly
 * always. Others only try it (fen__cache_visit): the reclaimer, and who posts into the inbox again
 * and again, give away what a thread has that does not come for it, because it sleeps. Magazines
 * have no lock and stay. Others' caches are not waited for, so two may be held at once.
 *
 * A cache is made at the first allocation or free of a thread and given back when the thread ends:
 * its spans go to the central sets, batches are sent, and the record waits for the next thread.
 * Records are never freed and keep their rows of the ledger, so no count is lost; there are as many
 * as threads ever allocated at the same time. A thread that frees after its end (its C library
 * tidying up) works without a cache.
 *
 * After fork the child has the caches of threads it does not have. What their magazines hold is
 * lost to it, and what a cache holds whose lock was taken; live blocks can be freed. All locks but
 * those of others' caches are held across the fork, and the child's heap is not paced. */
#include "mem/heap_int.h"

#include <string.h>

#define IDLE_MAX ((size_t)512 << 10)

uintptr_t fen__heap_secret;

static struct {
    uint32_t lock;
    struct fen__cache *first, *free[FEN__NODES_MAX];
    _Atomic bool ready;
} caches;

/* ---- lists ---- */

static void list_out(struct fen__cache *c, struct fen__span *s)
{
    struct fen__list *l = &c->list[s->bin];
    if (s->prev)
        s->prev->next = s->next;
    else
        l->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        l->last = s->prev;
    if (s->idle)
        c->idle_bytes -= (size_t)s->pages * FEN__PAGE_BYTES;
    s->idle = false;
}

static void list_add(struct fen__cache *c, struct fen__span *s)
{
    struct fen__list *l = &c->list[s->bin];
    s->next = NULL;
    s->prev = l->last;
    if (l->last)
        l->last->next = s;
    else
        l->first = s;
    l->last = s;
}

void fen__cache_enlist(struct fen__cache *c, struct fen__span *s)
{
    fen_dassert(!s->listed);
    s->listed = true;
    list_add(c, s);
}

void fen__cache_relist(struct fen__cache *c, struct fen__span *s)
{
    if (fen__remote_relist(s)) /* else it is in the post and the inbox will do it */
        fen__cache_enlist(c, s);
}

void fen__cache_empty(struct fen__cache *c, struct fen__span *s)
{
    size_t bytes = (size_t)s->pages * FEN__PAGE_BYTES;
    if (!s->listed || s->idle || c->bin[s->bin] == s)
        return;
    if (c->idle_bytes + bytes <= IDLE_MAX) {
        s->idle = true;
        c->idle_bytes += bytes;
        return;
    }
    list_out(c, s);
    fen__span_free(s);
}

/* ---- refill ---- */

/* A span out of the list without a free block. True: it has again. Else it is in the list, behind
 * one that has, or dropped. */
static bool revive(struct fen__cache *c, struct fen__span *s)
{
    const struct fen__span *other = c->list[s->bin].first;
    fen__remote_collect(s);
    if (s->free)
        return true;
    if (s->carved < s->blocks) {
        if (!other || !other->free)
            return fen__span_carve(s);
        list_add(c, s);
        return false;
    }
    s->listed = false; /* once it is unlisted it may be another's */
    if (fen__remote_unlist(s))
        return false;
    s->listed = true;
    fen__remote_collect(s);
    return true;
}

/* The next listed span that has a free block. */
static struct fen__span *from_list(struct fen__cache *c, uint32_t bin)
{
    struct fen__span *s;
    while ((s = c->list[bin].first)) {
        list_out(c, s);
        if (s->free || revive(c, s))
            return s;
    }
    return NULL;
}

struct fen__span *fen__cache_refill(struct fen__cache *c, uint32_t bin)
{
    struct fen__span *s = c->bin[bin];
    fen__remote_inbox(c, UINT32_MAX);
    if (s != &fen__span_none && (s->free || revive(c, s)))
        return s;
    c->bin[bin] = &fen__span_none;
    s = from_list(c, bin);
    if (!s)
        s = fen__central_get(c, bin);
    if (s && !s->free)
        (void)fen__span_carve(s);
    if (!s)
        s = fen__span_new(c, bin);
    if (!s && __atomic_load_n(&fen__nodes, __ATOMIC_RELAXED) > 1)
        s = fen__central_far(c, bin);
    if (s)
        c->bin[bin] = s;
    return s;
}

/* ---- flush ---- */

/* The home gives it away, empty, partial or full. */
static void give_away(struct fen__span *s)
{
    fen__remote_collect(s);
    if (!s->used) {
        fen__span_free(s);
        return;
    }
    if (!s->free && s->carved == s->blocks) {
        s->listed = false; /* as in revive */
        if (fen__remote_unlist(s))
            return;
        fen__remote_collect(s);
    }
    fen__central_put(s);
}

/* Up to n spans and the current one of each bin; how many are left of n. */
static uint32_t flush_bins(struct fen__cache *c, uint32_t n)
{
    for (uint32_t bin = 0; bin < FEN__BINS && n; bin++) {
        struct fen__span *s = c->bin[bin];
        c->bin[bin] = &fen__span_none;
        if (s != &fen__span_none)
            give_away(s);
        for (; n && (s = c->list[bin].first); n--) {
            list_out(c, s);
            give_away(s);
        }
    }
    return n;
}

void fen__cache_flush(struct fen__cache *c)
{
    fen__objpool_flush(c);
    fen__mag_flush(c);
    fen__cache_lock(c);
    fen__remote_flush(c);
    fen__remote_inbox(c, UINT32_MAX);
    (void)flush_bins(c, UINT32_MAX);
    fen__cache_unlock(c);
}

bool fen__cache_visit(struct fen__cache *c, uint32_t n, bool busy)
{
    if (!fen__trylock(&c->lock))
        return false;
    bool more = false, rests = c->uses == c->uses_seen;
    __atomic_store_n(&c->uses_seen, c->uses, __ATOMIC_RELAXED);
    if (rests || busy) {
        fen__remote_flush(c);
        fen__remote_inbox(c, n);
        more = !flush_bins(c, n) || fen__remote_waits(c);
    }
    fen__unlock(&c->lock);
    return more;
}

void fen__mem_flush(void)
{
    struct fen__cache *c = fen__cache_self();
    if (!c)
        return;
    c->epoch = __atomic_load_n(&fen__flush_epoch, __ATOMIC_RELAXED);
    fen__cache_flush(c);
}

void fen__mem_idle(void)
{
    const struct fen__cache *c = fen__cache_self();
    if (c && FEN__UNLIKELY(c->now.far))
        fen__mem_send_home();
    if (c && c->epoch != __atomic_load_n(&fen__flush_epoch, __ATOMIC_RELAXED))
        fen__mem_flush();
}

/* ---- threads ---- */

void fen__cache_leave(struct fen__cache *c)
{
    fen__objpool_flush(c);
    fen__set_cache(NULL);
    fen__mag_flush(c);
    fen__cache_lock(c);
    fen__remote_flush(c);
    fen__remote_close(c);
    c->now.far = 0;
    (void)flush_bins(c, UINT32_MAX);
    fen__cache_unlock(c);
    fen__lock(&caches.lock);
    c->next_free = caches.free[c->node];
    caches.free[c->node] = c;
    fen__unlock(&caches.lock);
}

static void leave(void *arg) { fen__cache_leave(arg); }

bool fen__cache_disown(struct fen__cache *h, struct fen__span *s)
{
    fen__lock(&caches.lock);
    bool closed = atomic_load(&h->inbox) == FEN__INBOX_CLOSED;
    if (closed)
        atomic_store_explicit(&s->home, NULL, memory_order_relaxed);
    fen__unlock(&caches.lock);
    return closed;
}

static void before_fork(void)
{
    fen__hooks_lock();
    fen__objpool_lock();
    fen__profile_lock();
    fen__depot_lock();
    fen__cache_lock(fen__cache_self()); /* a visitor may be in it */
    fen__central_lock();
    fen__pace_lock();
    fen__pages_lock();
    fen__lock(&caches.lock); /* a new cache's record is made under it */
    fen__records_lock();
    fen__ledger_lock();
    fen__check_lock();
}

static void unlock_all(bool child)
{
    fen__check_unlock();
    fen__ledger_unlock();
    fen__records_unlock();
    fen__unlock(&caches.lock);
    fen__pages_unlock();
    fen__pace_unlock();
    fen__central_unlock();
    fen__cache_unlock(fen__cache_self());
    fen__depot_unlock();
    fen__profile_unlock();
    fen__objpool_unlock(child);
    fen__hooks_unlock(child);
}

static void after_fork(void) { unlock_all(false); }

/* A visitor may have been in one that has no thread: it has nothing, and the child may take it. */
static void in_child(void)
{
    for (uint32_t i = 0; i < FEN__NODES_MAX; i++)
        for (struct fen__cache *c = caches.free[i]; c; c = c->next_free)
            __atomic_store_n(&c->lock, 0, __ATOMIC_RELAXED);
    unlock_all(true);
    fen__pace_forget();
    fen__ledger_forget();
}

/* The handlers of libraries allocate, so ours have to be the last ones before a fork: those that
 * were registered first. May allocate; refused, only forks of busy processes are unsafe. */
__attribute__((constructor(101))) static void watch_forks(void)
{
    static _Atomic bool done;
    if (!atomic_exchange(&done, true))
        (void)!fen__sys_at_fork(before_fork, after_fork, in_child);
}

static void make_ready(void)
{
    fen__lock(&caches.lock);
    bool first = !atomic_load_explicit(&caches.ready, memory_order_relaxed);
    /* before any block can be */
    if (first)
        fen__heap_secret =
            (uintptr_t)fen__tsc() * (uintptr_t)UINT64_C(0x9E3779B97F4A7C15) ^ (uintptr_t)&caches;
    atomic_store_explicit(&caches.ready, true, memory_order_release);
    fen__unlock(&caches.lock);
    if (first) /* before the constructor, in that of a library */
        watch_forks();
}

/* Lock held. */
static struct fen__cache *cache_new(void)
{
    struct fen__cache *c = fen__record_new(FEN__REC_CACHE, sizeof *c, 0);
    if (!c)
        return NULL;
    memset(c, 0, sizeof *c);
    for (uint32_t i = 0; i < FEN__BINS; i++)
        c->bin[i] = &fen__span_none;
    c->epoch = __atomic_load_n(&fen__flush_epoch, __ATOMIC_RELAXED);
    fen__mag_init(c);
    atomic_store(&c->inbox, FEN__INBOX_CLOSED);
    c->next = caches.first; /* pairs with the load in fen__cache_each */
    __atomic_store_n(&caches.first, c, __ATOMIC_RELEASE);
    return c;
}

FEN__NOINLINE struct fen__cache *fen__cache_get(bool for_alloc)
{
    struct fen__cache *c = fen__cache_self();
    if (c || (!for_alloc && fen__sys_thread_ends()))
        return c;
    if (!atomic_load_explicit(&caches.ready, memory_order_acquire))
        make_ready();
    if ((c = fen__cache_self())) /* it allocated */
        return c;
    int node = fen__sys_node();
    fen__lock(&caches.lock);
    c = caches.free[node];
    if (c)
        caches.free[node] = c->next_free;
    else if ((c = cache_new()))
        c->node = (uint8_t)node;
    if (c)
        fen__remote_open(c);
    fen__unlock(&caches.lock);
    if (!c)
        return NULL;
    c->foreign = true;
    c->exact = false;
    c->stack_low = c->stack_top = NULL;
    c->now.carrier = NULL;
    c->now.now = fen__tsc();
    fen__set_cache(c);
    fen__mem_account_use(&c->now, 0);
    (void)!fen__sys_at_thread_exit(leave, c); /* may allocate; refused: the cache stays in use */
    return c;
}

struct fen__mem_now *fen__mem_attach(void)
{
    struct fen__cache *c = fen__cache_get(true);
    if (c)
        c->foreign = false;
    return c ? &c->now : NULL;
}

void fen__cache_each(void (*fn)(struct fen__cache *c, void *arg), void *arg)
{
    for (struct fen__cache *c = __atomic_load_n(&caches.first, __ATOMIC_ACQUIRE); c; c = c->next)
        fn(c, arg);
}
