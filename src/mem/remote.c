/* remote.c - blocks that are freed by another thread than the span's home.
 *
 * The freeing thread gathers blocks of one span in a batch (fen__out) and pushes the batch to the
 * span's `remote` word with one compare-and-swap: a list of blocks with a tag in its low bits. The
 * tag says who will look:
 *
 *   LISTED   the span is in its home's bin or in the central set: whoever needs blocks looks
 *   FULL     it is in no list; its home does not know of it. The first push must tell
 *   NOTED    somebody is telling: the span is in, or on its way to, its home's inbox
 *
 *   transition          by                                  how
 *   -> LISTED           who makes the span                  plain, nobody knows it yet
 *   LISTED -> LISTED    any pusher; home or the set's       CAS release; exchange acquire
 *                       holder, who takes the list
 *   LISTED -> FULL      the home, when free and remote      CAS (0|LISTED -> 0|FULL), release
 *                       are empty (unlist)
 *   FULL   -> LISTED    the home, when it frees a block     CAS (0|FULL -> 0|LISTED)
 *                       itself (relist)
 *   FULL   -> NOTED     the pusher whose block comes first  CAS acq_rel; it alone may and must post
 *   NOTED  -> NOTED     any further pusher                  CAS release
 *   NOTED  -> LISTED    who takes the span from the inbox,  exchange, acquire
 *                       or adopts it
 *
 * Pairs: each push releases the block's contents, each take acquires them. FULL -> NOTED acquires
 * what unlist released, so the poster reads the right home. A NOTED span has a block in remote that
 * the home still counts as used, so nobody can find it empty and free it under the poster's hands.
 *
 * The inbox of a cache is a stack of spans, or CLOSED while the cache has no thread. A poster that
 * finds it closed adopts the span for the central set: under the lock of the caches it looks again
 * (opening takes that lock too, so from here on nobody is the home) and clears home. Spans that
 * are FULL when their home's thread ends are left as they are: they name a cache without a thread
 * until the first free brings them back, or until a new thread takes over that cache and is their
 * home by that.
 *
 * A thread that sleeps does not look into its inbox. So every VISIT_EVERY posts the poster looks
 * into it, and so does the reclaimer. They do what is the home's above under the lock of its cache,
 * which the home has then, too. Who sends batches off in a visit, or before it sleeps itself, posts
 * and does not look: visits do not nest.
 *
 * In a batch, blocks wait for at most OUT_MAX frees of the same span or for a free into another one
 * that shares the slot; a thread that ends, or an M that has no P, sends them off (flush). They are
 * off the bill at once: only their reuse waits.
 *
 * Rejected: one message queue for each cache (the blocks of many spans then must be sorted by the
 * receiver, one miss a block); sending each block (a CAS on a contended line each time: 26 ns). */
#include "mem/heap_int.h"

#define OUT_BYTES ((size_t)16 << 10) /* a batch of large blocks is short */
#define VISIT_EVERY 8

static struct fen__block *blocks_of(uintptr_t word)
{
    return (struct fen__block *)(word & ~(uintptr_t)FEN__REMOTE_TAGS);
}

/* ---- taking ---- */

static void splice(struct fen__span *s, struct fen__block *first)
{
    struct fen__block *last = first;
    uint32_t n = 1;
    if (!first)
        return;
    for (; last->next; last = last->next) { /* another core wrote them, this one will */
        __builtin_prefetch(last->next, 1);
        n++;
    }
    last->next = s->free;
    s->free = first;
    fen_assert(s->used >= n); /* else more blocks came back than ever went out */
    s->used -= n;
}

void fen__remote_collect(struct fen__span *s)
{
    if (atomic_load_explicit(&s->remote, memory_order_relaxed) == FEN__REMOTE_LISTED)
        return;
    splice(s, blocks_of(
                  atomic_exchange_explicit(&s->remote, FEN__REMOTE_LISTED, memory_order_acquire)));
}

bool fen__remote_unlist(struct fen__span *s)
{
    uintptr_t was = FEN__REMOTE_LISTED;
    return atomic_compare_exchange_strong_explicit(&s->remote, &was, FEN__REMOTE_FULL,
                                                   memory_order_release, memory_order_relaxed);
}

bool fen__remote_relist(struct fen__span *s)
{
    uintptr_t was = FEN__REMOTE_FULL;
    return atomic_compare_exchange_strong_explicit(&s->remote, &was, FEN__REMOTE_LISTED,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* ---- telling ---- */

/* The home has no thread: the span is ours alone. */
static void adopt(struct fen__span *s)
{
    splice(s, blocks_of(
                  atomic_exchange_explicit(&s->remote, FEN__REMOTE_LISTED, memory_order_acquire)));
    if (s->used)
        fen__central_put(s);
    else
        fen__span_free(s);
}

static bool post_to(struct fen__cache *h, struct fen__span *s)
{
    uintptr_t in = atomic_load_explicit(&h->inbox, memory_order_relaxed);
    do {
        if (in == FEN__INBOX_CLOSED)
            return false;
        s->inbox_next = (struct fen__span *)in;
    } while (!atomic_compare_exchange_weak_explicit(&h->inbox, &in, (uintptr_t)s,
                                                    memory_order_release, memory_order_relaxed));
    return true;
}

/* The cache that was told; NULL: it has no thread. */
static struct fen__cache *tell(struct fen__span *s)
{
    struct fen__cache *h = atomic_load_explicit(&s->home, memory_order_relaxed);
    while (!post_to(h, s))
        if (fen__cache_disown(h, s)) {
            adopt(s);
            return NULL;
        }
    return h;
}

/* Likewise; NULL also when there is nothing to tell. */
static struct fen__cache *push(struct fen__span *s, struct fen__block *first,
                               struct fen__block *last)
{
    uintptr_t was = atomic_load_explicit(&s->remote, memory_order_relaxed), now;
    do {
        uintptr_t tag = was & FEN__REMOTE_TAGS;
        last->next = blocks_of(was);
        now = (uintptr_t)first | (tag == FEN__REMOTE_FULL ? FEN__REMOTE_NOTED : tag);
    } while (!atomic_compare_exchange_weak_explicit(&s->remote, &was, now, memory_order_acq_rel,
                                                    memory_order_relaxed));
    return (was & FEN__REMOTE_TAGS) == FEN__REMOTE_FULL ? tell(s) : NULL;
}

/* Who posts a lot to a thread that does not look does its work. */
static void look_for(struct fen__cache *told)
{
    if (told && atomic_fetch_add_explicit(&told->posts, 1, memory_order_relaxed) % VISIT_EVERY == 0)
        (void)fen__cache_visit(told, 2 * VISIT_EVERY, false);
}

/* ---- batches ---- */

static struct fen__cache *dispatch(struct fen__cache *c, struct fen__out *o)
{
    struct fen__span *s = o->span;
    o->span = NULL;
    if (FEN__UNLIKELY(s->node != c->node))
        fen__far_sent(c, o->n);
    return push(s, o->first, o->last);
}

static struct fen__out *slot_of(struct fen__cache *c, const struct fen__span *s)
{
    uintptr_t a = (uintptr_t)s / sizeof *s;
    return &c->out[(a ^ a >> 5) % FEN__OUT_SLOTS];
}

void fen__remote_free(struct fen__cache *c, struct fen__span *s, struct fen__block *b)
{
    if (FEN__UNLIKELY(!c)) {
        look_for(push(s, b, b));
        return;
    }
    struct fen__out *o = slot_of(c, s);
    if (FEN__LIKELY(o->span == s)) {
        b->next = o->first;
        o->first = b;
        o->n++;
    } else {
        if (o->span)
            look_for(dispatch(c, o));
        b->next = NULL;
        *o = (struct fen__out){s, b, b, 1};
    }
    if (FEN__UNLIKELY(o->n >= FEN__OUT_MAX || o->n * s->bytes >= OUT_BYTES))
        look_for(dispatch(c, o));
}

void fen__remote_flush(struct fen__cache *c)
{
    for (uint32_t i = 0; i < FEN__OUT_SLOTS; i++)
        if (c->out[i].span)
            (void)dispatch(c, &c->out[i]);
}

/* ---- the inbox ---- */

/* All under the cache's lock; without it nobody closes the inbox. */
static bool posted(const struct fen__cache *c)
{
    uintptr_t in = atomic_load_explicit(&c->inbox, memory_order_relaxed);
    return in && in != FEN__INBOX_CLOSED;
}

bool fen__remote_waits(const struct fen__cache *c) { return c->came || posted(c); }

static void take_inbox(struct fen__cache *c, uintptr_t leave)
{
    c->came = (struct fen__span *)atomic_exchange_explicit(&c->inbox, leave, memory_order_acquire);
}

static void receive(struct fen__cache *c)
{
    struct fen__span *s = c->came;
    c->came = s->inbox_next; /* not ours any more once it is LISTED */
    splice(s, blocks_of(
                  atomic_exchange_explicit(&s->remote, FEN__REMOTE_LISTED, memory_order_acquire)));
    fen__cache_enlist(c, s);
    if (!s->used)
        fen__cache_empty(c, s);
}

void fen__remote_inbox(struct fen__cache *c, uint32_t n)
{
    for (; n; n--) {
        if (!c->came && posted(c))
            take_inbox(c, 0);
        if (!c->came)
            return;
        receive(c);
    }
}

/* Under the lock of the caches. */
void fen__remote_open(struct fen__cache *c)
{
    fen_assert(atomic_load(&c->inbox) == FEN__INBOX_CLOSED);
    atomic_store(&c->inbox, 0);
}

/* Whoever posts from now on adopts. The spans that came last are listed, for the flush. */
void fen__remote_close(struct fen__cache *c)
{
    fen__remote_inbox(c, UINT32_MAX);
    take_inbox(c, FEN__INBOX_CLOSED);
    while (c->came)
        receive(c);
}
