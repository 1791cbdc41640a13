/* profile.c - the heap profile: a sample of the blocks, by who asked for them.
 *
 * Sample points lie along the bytes that a thread allocates, with gaps drawn from an exponential
 * distribution whose mean is the rate: a Poisson process, so a pattern of allocations cannot hide
 * between them. A block is noted when a point lies in it, which for s bytes has the chance
 * 1 - exp(-s / rate), and then counts as 1 / chance blocks: the estimates have no bias, whatever
 * the sizes. After a point the next gap begins at the end of the block.
 *
 * A block that is not noted costs nothing of its own: the fast path compares the row's bytes with
 * a gate anyway (ledger.c); the gate is the nearer of its own and of the next point (sample_at,
 * which counts on the current row and moves with it from account to account). A free finds by the
 * page where the block begins whether it may take the fast path; that of a noted block says no,
 * and there a mask in the span's record, a bit for each block modulo 64, tells the noted block
 * from its neighbours. No block has a header and none moves.
 *
 *   note      thread that allocates: sample on the span's list, bit set, page slow; before the
 *             block is handed out, so that whoever frees it sees them
 *   forget    thread that frees: sample off the list, mask made anew, page fast when no other one
 *             begins there; before the block can be handed out again
 * Both under one lock. Samples are rate bytes apart, so it is rarely wanted.
 *
 * Counts go to buckets: call site, account, name of the fiber and size. They are only ever added,
 * BUCKETS_MAX at most; beyond, all goes to one bucket without a stack. For each bucket
 *   alloc weight - freed weight = sum of the weights of its samples on spans' lists
 *
 * Rejected: sampling every n-th block (large and small ones then need different n); a table by
 * address that every free has to ask; a longer block with a header for the noted ones (its class
 * would not be what is billed). */
#include "mem/heap_int.h"

#include <string.h>

#define BUCKETS_MAX 32768
#define HEADS 8192
#define WEIGHT_BITS 16 /* weights are in 2^-16 of a block */

int64_t fen__profile_rate;

struct bucket {
    struct bucket *next, *all;
    uint64_t hash;
    uint64_t allocated, freed; /* weights; under the lock */
    int64_t bytes;
    uint32_t account, n;
    char name[FEN__PROFILE_NAME];
    const void *pc[FEN__PROFILE_FRAMES];
};

struct fen__sample {
    struct fen__sample *next; /* of the span */
    const void *p;
    struct bucket *bucket;
    uint64_t weight;
};

static struct {
    uint32_t lock;
    uint32_t n;
    struct bucket *head[HEADS];
    struct bucket *all; /* pairs with the load in fen__profile_each */
    int64_t lost;
    bool chosen; /* somebody set the rate */
    void (*_Atomic fiber)(const uint32_t *carrier, struct fen__mem_fiber *ret);
} profile;

/* ---- arithmetic: libm is not linked ---- */

/* Natural logarithm of 0 < x <= 1, to 1e-10. */
static double log_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & (UINT64_MAX >> 12)) | UINT64_C(1023) << 52;
    memcpy(&x, &bits, sizeof x); /* 1 <= x < 2 */
    if (x > 1.4142135623730951) {
        x /= 2;
        e++;
    }
    double z = (x - 1) / (x + 1), q = z * z; /* ln x = 2 artanh z, |z| < 0.172 */
    return e * 0.69314718055994531 +
           2 * z * (1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q / 11)))));
}

/* 1 - exp(-x) for x >= 0, as exact for small x. */
static double chance_of(double x)
{
    int halvings = 0;
    if (x > 40)
        return 1;
    for (; x > 1.0 / 16; halvings++)
        x /= 2;
    double c = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6)))));
    while (halvings--)
        c *= 2 - c; /* 1 - (1 - c)^2 */
    return c;
}

static uint64_t weight_of(int64_t bytes, int64_t rate)
{
    double w = rate > 1 ? 1 / chance_of((double)bytes / (double)rate) : 1;
    return (uint64_t)(w * (1 << WEIGHT_BITS) + 0.5);
}

/* A block of that many bytes or more behind the point is not noted. */
static int64_t gap(struct fen__cache *c, int64_t rate)
{
    if (!rate)
        return FEN__PROFILE_NEVER;
    if (rate == 1)
        return 0;
    if (!c->rand)
        c->rand = (fen__tsc() ^ (uintptr_t)c) | 1;
    double u = (double)((fen__rand(&c->rand) >> 11) + 1) * 0x1p-53; /* 0 < u <= 1 */
    return (int64_t)(-log_of(u) * (double)rate);
}

void fen__profile_renew(struct fen__cache *c)
{
    c->profile_rate = __atomic_load_n(&fen__profile_rate, __ATOMIC_RELAXED);
    c->now.sample_at = c->now.row->alloc + gap(c, c->profile_rate);
    if (c->now.gate != INT64_MIN) /* as it is settled */
        c->now.gate = fen__min_i64(c->now.row->gate, c->now.sample_at);
}

/* ---- the stack ---- */

struct site {
    uint64_t hash;
    int64_t bytes;
    uint32_t account, n;
    char name[FEN__PROFILE_NAME];
    const void *pc[FEN__PROFILE_FRAMES];
};

static void bounds(struct fen__cache *c, struct fen__mem_fiber *f)
{
    void (*of)(const uint32_t *, struct fen__mem_fiber *) =
        atomic_load_explicit(&profile.fiber, memory_order_relaxed);
    if (c->now.carrier && of) {
        of(c->now.carrier, f);
        return;
    }
    if (!c->stack_low) {
        c->profiling = true; /* it may allocate */
        fen__sys_stack_bounds(&c->stack_low, &c->stack_top);
        c->profiling = false;
    }
    *f = (struct fen__mem_fiber){NULL, c->stack_low, c->stack_top};
}

/* Return addresses from the caller of the heap on: frame is that of fen__profile_take, whose caller
 * has a frame too. Further ones are followed upwards only, inside the bounds: there they are
 * mapped, whatever code without frame pointers left in the register. The sanitizers' marks on
 * others' locals mean nothing to a reader of frames. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static uint32_t
walk(const void *frame, const char *low, const char *top, const void **ret)
{
    uint32_t n = 0;
    const char *at = *(const char *const *)frame;
    while (at && n < FEN__PROFILE_FRAMES) {
        const void *const *f = (const void *const *)(const void *)at;
        const char *up = f[0];
        if (!f[1])
            break;
        ret[n++] = f[1];
        if (up <= at || up < low || up > top - 2 * sizeof(void *) || (uintptr_t)up % sizeof(void *))
            break;
        at = up;
    }
    return n;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

static void look(struct fen__cache *c, const void *frame, struct site *site)
{
    struct fen__mem_fiber f = {0};
    bounds(c, &f);
    const char *here = frame;
    bool inside = here >= f.low && here < f.top;
    size_t len = f.name ? strnlen(f.name, FEN__PROFILE_NAME - 1) : 0;
    memset(site->name, 0, sizeof site->name);
    if (len)
        memcpy(site->name, f.name, len);
    site->n = walk(frame, inside ? f.low : NULL, inside ? f.top : (const char *)16, site->pc);
    site->hash = mix(mix(site->account, (uint64_t)site->bytes), site->n);
    for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
        uint64_t part;
        memcpy(&part, site->name + i, sizeof part);
        site->hash = mix(site->hash, part);
    }
    for (uint32_t i = 0; i < site->n; i++)
        site->hash = mix(site->hash, (uintptr_t)site->pc[i]);
}

/* ---- buckets ---- */

static bool same(const struct bucket *b, const struct site *site)
{
    return b->hash == site->hash && b->bytes == site->bytes && b->account == site->account &&
           b->n == site->n && !memcmp(b->pc, site->pc, site->n * sizeof site->pc[0]) &&
           !memcmp(b->name, site->name, sizeof site->name);
}

static struct bucket *find(const struct site *site)
{
    struct bucket *b = profile.head[site->hash % HEADS];
    while (b && !same(b, site))
        b = b->next;
    return b;
}

/* Lock held. NULL: no memory. */
static struct bucket *add(const struct site *site)
{
    struct bucket *b = fen__record_new(FEN__REC_BUCKET, sizeof *b, 0);
    if (!b)
        return NULL;
    b->hash = site->hash;
    b->allocated = b->freed = 0;
    b->bytes = site->bytes;
    b->account = site->account;
    b->n = site->n;
    memcpy(b->name, site->name, sizeof b->name);
    memcpy(b->pc, site->pc, site->n * sizeof b->pc[0]);
    b->next = profile.head[b->hash % HEADS];
    profile.head[b->hash % HEADS] = b;
    b->all = profile.all;
    __atomic_store_n(&profile.all, b, __ATOMIC_RELEASE);
    profile.n++;
    return b;
}

/* Lock held. */
static struct bucket *bucket_of(struct site *site)
{
    struct bucket *b = find(site);
    if (b || profile.n < BUCKETS_MAX)
        return b ? b : add(site);
    site->hash = mix(0, (uint64_t)site->bytes);
    site->account = site->n = 0;
    memset(site->name, 0, sizeof site->name);
    b = find(site);
    return b ? b : add(site); /* as many as there are sizes */
}

/* ---- noting and forgetting ---- */

/* NULL: no memory. */
static struct fen__sample *record(const void *p, uint64_t weight)
{
    struct fen__sample *x = fen__record_new(FEN__REC_SAMPLE, sizeof *x, 0);
    if (!x)
        return NULL;
    *x = (struct fen__sample){.p = p, .weight = weight};
    return x;
}

FEN__NOINLINE void fen__profile_take(struct fen__cache *c, const void *p, uint32_t account)
{
    int64_t rate = c->profile_rate;
    struct fen__span *s = fen__span_of(p);
    struct site site = {.bytes = (int64_t)s->bytes, .account = account};
    fen__profile_renew(c);
    if (!rate || c->profiling)
        return;
    look(c, __builtin_frame_address(0), &site);
    struct fen__sample *x = record(p, weight_of(site.bytes, rate));
    fen__lock(&profile.lock);
    struct bucket *b = x ? bucket_of(&site) : NULL;
    profile.lost += !b;
    if (b) {
        uint64_t noted = atomic_load_explicit(&s->noted, memory_order_relaxed);
        b->allocated += x->weight;
        x->bucket = b;
        x->next = s->samples;
        s->samples = x;
        if (!s->special)
            fen__page_slow(s, p, true);
        atomic_store_explicit(&s->noted, noted | fen__profile_bit(s, p), memory_order_relaxed);
    }
    fen__unlock(&profile.lock);
    if (x && !b)
        fen__record_free(FEN__REC_SAMPLE, x, 0);
}

/* The bit may be a neighbour's: then nothing is found and nothing changes. */
void fen__profile_freed(struct fen__span *s, const void *p)
{
    struct fen__sample *gone = NULL;
    uint64_t noted = 0;
    bool alone = true; /* in its page */
    fen__lock(&profile.lock);
    for (struct fen__sample **at = &s->samples; *at;) {
        struct fen__sample *x = *at;
        if (x->p == p) {
            gone = x;
            *at = x->next;
        } else {
            noted |= fen__profile_bit(s, x->p);
            alone &= (uintptr_t)x->p / FEN__PAGE_BYTES != (uintptr_t)p / FEN__PAGE_BYTES;
            at = &x->next;
        }
    }
    if (gone) {
        gone->bucket->freed += gone->weight;
        atomic_store_explicit(&s->noted, noted, memory_order_relaxed);
        if (alone && !s->special)
            fen__page_slow(s, p, false);
    }
    fen__unlock(&profile.lock);
    if (gone)
        fen__record_free(FEN__REC_SAMPLE, gone, 0);
}

FEN__NOINLINE void fen__profile_resized(struct fen__cache *c, struct fen__span *s,
                                        const void *was_at, size_t was_bytes)
{
    struct fen__mem_row *r = fen__row_get(c, s->account);
    int64_t counted = r == c->now.row && s->bytes > was_bytes ? (int64_t)(s->bytes - was_bytes) : 0;
    if (fen__profile_has(s, was_at))
        fen__profile_freed(s, was_at);
    c->now.sample_at -= (int64_t)s->bytes - counted;
    c->now.gate = INT64_MIN;
    if (fen__profile_due(c))
        fen__profile_take(c, s->base, s->account);
}

/* ---- reading ---- */

static int64_t scaled(uint64_t weight, int64_t each)
{
    return (int64_t)(((unsigned __int128)weight * (uint64_t)each + (1u << (WEIGHT_BITS - 1))) >>
                     WEIGHT_BITS);
}

void fen__profile_each(void (*fn)(const struct fen__profile_entry *e, void *arg), void *arg)
{
    for (struct bucket *b = __atomic_load_n(&profile.all, __ATOMIC_ACQUIRE); b; b = b->all) {
        fen__lock(&profile.lock);
        uint64_t allocated = b->allocated, live = allocated - b->freed;
        fen__unlock(&profile.lock);
        const struct fen__profile_entry e = {
            .pc = b->pc,
            .n = b->n,
            .account = b->account,
            .name = b->name,
            .bytes = b->bytes,
            .alloc_objects = scaled(allocated, 1),
            .alloc_bytes = scaled(allocated, b->bytes),
            .inuse_objects = scaled(live, 1),
            .inuse_bytes = scaled(live, b->bytes),
        };
        fn(&e, arg);
    }
}

int64_t fen__profile_lost(void)
{
    fen__lock(&profile.lock);
    int64_t n = profile.lost;
    fen__unlock(&profile.lock);
    return n;
}

void fen__profile_lock(void) { fen__lock(&profile.lock); }
void fen__profile_unlock(void) { fen__unlock(&profile.lock); }

/* ---- the rate ---- */

static void set_rate(int64_t bytes)
{
    __atomic_store_n(&fen__profile_rate, bytes, __ATOMIC_RELAXED);
    struct fen__cache *c = fen__cache_self();
    if (c)
        c->now.gate = INT64_MIN; /* the next block comes the slow way and finds the new rate */
}

int fen_profile_heap_rate_set(int64_t bytes)
{
    if (bytes != FEN_PROFILE_OFF && (bytes < 1 || bytes > FEN_PROFILE_RATE_MAX))
        return -EINVAL;
    __atomic_store_n(&profile.chosen, true, __ATOMIC_RELAXED);
    set_rate(bytes == FEN_PROFILE_OFF ? 0 : bytes);
    return 0;
}

int64_t fen_profile_heap_rate(void)
{
    int64_t rate = __atomic_load_n(&fen__profile_rate, __ATOMIC_RELAXED);
    return rate ? rate : FEN_PROFILE_OFF;
}

void fen__profile_begin(int64_t rate)
{
    if (rate)
        set_rate(rate == FEN_PROFILE_OFF ? 0 : rate);
    else if (!__atomic_load_n(&profile.chosen, __ATOMIC_RELAXED))
        set_rate(FEN_PROFILE_RATE);
}

void fen__profile_fibers(void (*fn)(const uint32_t *carrier, struct fen__mem_fiber *ret))
{
    atomic_store_explicit(&profile.fiber, fn, memory_order_relaxed);
}

int fen_profile_heap_rate_parse(const char *text, int64_t *ret_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB"};
    int64_t v = 0;
    if (!strcmp(text, "off")) {
        *ret_bytes = FEN_PROFILE_OFF;
        return 0;
    }
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && v <= FEN_PROFILE_RATE_MAX; at++)
        v = 10 * v + (*at - '0');
    size_t i = 0;
    while (*at && i < FEN__COUNT(units) && strcmp(at, units[i]))
        i++;
    v = i < FEN__COUNT(units) && v <= FEN_PROFILE_RATE_MAX ? v << 10 * i : 0;
    if (v < 1 || v > FEN_PROFILE_RATE_MAX)
        return -EINVAL;
    *ret_bytes = v;
    return 0;
}
