/* ledger.c - which account holds how many bytes, for how long, and how many it may.
 *
 * Each cache has a row of counters for each account that it served. Only the cache's thread writes
 * it, with plain stores; a reader adds the rows of all caches (fold). A block is charged to its
 * account when it is handed out and taken off the same account when it is freed, in whatever row
 * the freeing thread has: one row's alloc - freed may be negative, the sum over the rows is exact.
 * What is charged are the bytes of the block, not those asked for.
 *
 *   stamp    byte_ticks counts alloc - freed up to here. A thread counts time by `now.now`, the TSC
 *            at which its slice began; the first use of a row in a slice brings the row up to date.
 *            So a block's time is as fine as a slice, or as LEASE bytes of churn within one. A
 *            thread that is no M has no slices: once it has billed anything, it reads the TSC at
 *            every call (exact); before that, for account 0, only when it takes the slow way
 *   gate     fast paths compare alloc with gate and freed with fgate and come here beyond; of the
 *            current account's row they look at the cache's copies, which a new slice resets. The
 *            copy of gate is not above the point where the profile wants a block (profile.c)
 *
 * Charging and caps. `charged` is what an account has in leases: every row holds at least what it
 * has charged, and takes or returns a lease at a time, so that threads meet there rarely: LEASE
 * bytes, or a 64th of what the row holds up to LEASE_MOST, or a 64th of the cap.
 *   sum of leases = charged >= sum of (alloc - freed) = live
 *   r->lease - 3 leases <= alloc - freed <= r->lease   for each row, when it was last settled
 * peak is the largest `charged`: never below the true peak, above it by at most three leases for
 * each thread. cap bounds `charged`, so live bytes never exceed it; near the cap leases are exact,
 * and an allocation may be refused while other threads hold up to cap / 16 unused.
 *
 * A free by a thread without a cache, or without memory for its row, goes to the orphans under a
 * lock.
 *
 * Readers: stamp is BUSY while the thread writes ticks_low and ticks_high, and else only grows, so
 * a reader that finds the same stamp before and after has a whole triple. Every store in between is
 * a release and every load an acquire: a reader that sees a new triple's part sees stamp change. In
 * a forked child the threads that were writing are gone: their rows are BUSY no more (forget). */
#include "mem/heap_int.h"

#include <assert.h>
#include <string.h>

#define LEASE ((int64_t)64 << 10)
#define LEASE_MOST (16 * LEASE)
#define BUSY UINT64_MAX

static_assert(offsetof(struct fen__mem_row, alloc) == 0, "fen__mem_begin reads it");
static_assert(sizeof(struct fen__mem_row) == FEN__LINE, "a row is a line");

struct account {
    _Atomic int64_t charged, peak, cap; /* cap 0: none */
};

static struct account accounts[FEN__ACCOUNTS_MAX];
static struct fen__mem_row row_none = {.gate = INT64_MIN, .fgate = INT64_MIN};

static struct {
    uint32_t lock;
    int64_t freed; /* of all rows */
    struct fen__mem_row rows[FEN__ACCOUNTS_MAX];
} orphans;

/* ---- time ---- */

/* Without a shift: high may be negative. */
static __int128 join(int64_t high, uint64_t low)
{
    return (__int128)high * ((__int128)1 << 64) + low;
}

/* Brings the row's byte-ticks up to now. */
static void tick(struct fen__mem_row *r, uint64_t now)
{
    uint64_t was = r->stamp;
    if (now <= was)
        return; /* another core's counter may lag a little */
    __int128 ticks = join(r->ticks_high, r->ticks_low);
    ticks += (__int128)(r->alloc - r->freed) * (int64_t)(was ? now - was : 0);
    __atomic_store_n(&r->stamp, BUSY, __ATOMIC_RELEASE);
    __atomic_store_n(&r->ticks_low, (uint64_t)ticks, __ATOMIC_RELEASE);
    __atomic_store_n(&r->ticks_high, (int64_t)(ticks >> 64), __ATOMIC_RELEASE);
    __atomic_store_n(&r->stamp, now, __ATOMIC_RELEASE);
}

/* ---- leases ---- */

static void note_peak(struct account *a, int64_t charged)
{
    int64_t peak = atomic_load_explicit(&a->peak, memory_order_relaxed);
    while (charged > peak &&
           !atomic_compare_exchange_weak_explicit(&a->peak, &peak, charged, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

/* What a row that holds so much takes and returns at a time: a share of that, or of the cap. */
static int64_t lease_of(int64_t held, int64_t cap)
{
    int64_t lease = held / 64 > LEASE_MOST ? LEASE_MOST : held / 64 > LEASE ? held / 64 : LEASE;
    return cap && cap / 64 < lease ? cap / 64 : lease;
}

/* Charges at least `least` and at most `want`: what it got; 0: the cap forbids it. */
static int64_t charge(struct account *a, int64_t least, int64_t want)
{
    int64_t cap = atomic_load_explicit(&a->cap, memory_order_relaxed), got;
    int64_t was = atomic_load_explicit(&a->charged, memory_order_relaxed);
    do {
        got = cap && was + want > cap ? least : want;
        if (cap && was + got > cap)
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&a->charged, &was, was + got,
                                                    memory_order_relaxed, memory_order_relaxed));
    note_peak(a, was + got);
    return got;
}

bool fen__row_settle(struct fen__cache *c, struct fen__mem_row *r, uint32_t account, int64_t need)
{
    struct account *a = &accounts[account];
    int64_t want = r->alloc - r->freed + need;
    int64_t lease = lease_of(want, atomic_load_explicit(&a->cap, memory_order_relaxed));
    if (c->exact || r->alloc + need > r->gate || r->freed > r->fgate)
        c->now.now = fen__tsc();
    tick(r, c->now.now);
    if (FEN__UNLIKELY(c->profile_rate != __atomic_load_n(&fen__profile_rate, __ATOMIC_RELAXED)))
        fen__profile_renew(c);
    if (want > r->lease) {
        int64_t got = charge(a, want - r->lease, want - r->lease + lease);
        if (!got)
            return false;
        r->lease += got;
    } else if (r->lease - want > 2 * lease) {
        atomic_fetch_sub_explicit(&a->charged, r->lease - want - lease, memory_order_relaxed);
        r->lease = want + lease;
    }
    r->gate = r->alloc + need + (r->lease - want);
    r->fgate = r->freed + 3 * lease - (r->lease - want);
    if (c->exact) {
        c->now.now++; /* matches no stamp: the next call looks at the clock too */
    } else if (r == c->now.row) {
        c->now.gate = fen__min_i64(r->gate, c->now.sample_at);
        c->now.fgate = r->fgate;
    }
    return true;
}

/* ---- rows ---- */

/* The row of who pays is wanted for the first time since it does. */
static FEN__NOINLINE void adopt(struct fen__cache *c, struct fen__mem_row *r)
{
    struct fen__mem_now *n = &c->now;
    n->sample_at += r->alloc;
    n->row = r;
    n->from = r->alloc;
    c->row_id = n->account;
}

struct fen__mem_row *fen__row_get(struct fen__cache *c, uint32_t account)
{
    struct fen__mem_row *g =
        atomic_load_explicit(&c->rows[account / FEN__ROW_GROUP], memory_order_relaxed);
    if (FEN__UNLIKELY(!g)) {
        g = fen__record_new(FEN__REC_ROWS, FEN__ROW_GROUP * sizeof *g, 0);
        if (!g)
            return NULL;
        memset(g, 0, FEN__ROW_GROUP * sizeof *g);
        for (uint32_t i = 0; i < FEN__ROW_GROUP; i++)
            g[i].gate = g[i].fgate = -1;
        /* pairs with the load in fold: the zeroes are seen before the pointer */
        atomic_store_explicit(&c->rows[account / FEN__ROW_GROUP], g, memory_order_release);
    }
    g += account % FEN__ROW_GROUP;
    if (account == c->now.account && account != c->row_id)
        adopt(c, g);
    return g;
}

static void orphan(uint32_t account, int64_t bytes)
{
    fen__lock(&orphans.lock);
    struct fen__mem_row *r = &orphans.rows[account];
    tick(r, fen__tsc());
    fen__row_add(&r->freed, bytes);
    fen__row_add(&orphans.freed, bytes);
    fen__unlock(&orphans.lock);
    atomic_fetch_sub_explicit(&accounts[account].charged, bytes, memory_order_relaxed);
}

void fen__row_freed(struct fen__cache *c, uint32_t account, int64_t bytes)
{
    struct fen__mem_row *r = c ? fen__row_get(c, account) : NULL;
    if (!r) {
        orphan(account, bytes);
        return;
    }
    c->exact |= c->foreign && account;
    if (c->exact)
        c->now.now = fen__tsc();
    tick(r, c->now.now); /* with what it held until now */
    fen__row_add(&r->freed, bytes);
    if (r == c->now.row || r->freed > r->fgate)
        (void)fen__row_settle(c, r, account, 0); /* needs nothing, so it cannot be refused */
    else if (c->exact)
        c->now.now++;
}

/* Most fibers that pay by turns take no block in their slice: the row is looked up by the first
 * that does (fen__row_get), to which the gate leads. */
void fen__mem_account_use(struct fen__mem_now *n, uint32_t account)
{
    struct fen__cache *c = FEN__CONTAINER(n, struct fen__cache, now);
    if (!n->row) {
        n->sample_at = FEN__PROFILE_NEVER;
    } else if (n->row != &row_none) {
        n->taken += n->row->alloc - n->from;
        n->sample_at -= n->row->alloc;
    }
    n->row = &row_none;
    n->from = 0;
    n->gate = n->fgate = INT64_MIN;
    n->account = account;
    c->row_id = UINT32_MAX;
    if (account && !__atomic_load_n(&fen__billed, __ATOMIC_RELAXED))
        __atomic_store_n(&fen__billed, true, __ATOMIC_RELAXED);
    c->exact |= c->foreign && account;
    if (c->exact)
        n->now = fen__tsc();
}

/* ---- reading ---- */

struct sum {
    int64_t alloc, freed;
    __int128 ticks;
};

struct reading {
    uint32_t account; /* the only one, or FEN__ACCOUNTS_MAX: all */
    uint64_t now;
    struct sum *sums; /* of each account read */
};

static void add_row(struct sum *s, uint64_t now, const struct fen__mem_row *r)
{
    uint64_t stamp;
    __int128 ticks;
    do {
        stamp = __atomic_load_n(&r->stamp, __ATOMIC_ACQUIRE);
        ticks = join(__atomic_load_n(&r->ticks_high, __ATOMIC_ACQUIRE),
                     __atomic_load_n(&r->ticks_low, __ATOMIC_ACQUIRE));
    } while (stamp == BUSY || stamp != __atomic_load_n(&r->stamp, __ATOMIC_RELAXED));
    int64_t alloc = __atomic_load_n(&r->alloc, __ATOMIC_RELAXED);
    int64_t freed = __atomic_load_n(&r->freed, __ATOMIC_RELAXED);
    s->alloc += alloc;
    s->freed += freed;
    s->ticks += ticks;
    if (stamp && now > stamp)
        s->ticks += (__int128)(alloc - freed) * (int64_t)(now - stamp);
}

static void fold(struct fen__cache *c, void *arg)
{
    struct reading *rd = arg;
    const struct fen__mem_row *g =
        atomic_load_explicit(&c->rows[rd->account / FEN__ROW_GROUP], memory_order_acquire);
    if (g)
        add_row(rd->sums, rd->now, g + rd->account % FEN__ROW_GROUP);
}

static void fold_each(struct fen__cache *c, void *arg)
{
    struct reading *rd = arg;
    for (uint32_t at = 0; at < FEN__ACCOUNTS_MAX; at += FEN__ROW_GROUP) {
        const struct fen__mem_row *g =
            atomic_load_explicit(&c->rows[at / FEN__ROW_GROUP], memory_order_acquire);
        for (uint32_t i = 0; g && i < FEN__ROW_GROUP; i++)
            add_row(&rd->sums[at + i], rd->now, &g[i]);
    }
}

static fen_mem_usage usage_of(uint32_t account, const struct sum *s)
{
    const struct account *a = &accounts[account];
    return (fen_mem_usage){
        .allocated_bytes = s->alloc,
        .freed_bytes = s->freed,
        .live_bytes = s->alloc - s->freed,
        .peak_bytes = atomic_load_explicit(&a->peak, memory_order_relaxed),
        .cap_bytes = atomic_load_explicit(&a->cap, memory_order_relaxed),
        .byte_seconds = (int64_t)(fen__tsc_to_ns_wide(s->ticks) / FEN_S),
    };
}

int fen_mem_usage_get(uint32_t account, fen_mem_usage *ret_usage)
{
    if (account >= FEN__ACCOUNTS_MAX)
        return -EINVAL;
    struct sum s = {0};
    struct reading rd = {account, fen__tsc(), &s};
    fen__tsc_init();
    fen__cache_each(fold, &rd);
    fen__lock(&orphans.lock);
    add_row(&s, rd.now, &orphans.rows[account]);
    fen__unlock(&orphans.lock);
    *ret_usage = usage_of(account, &s);
    return 0;
}

int fen__mem_usage_each(void (*fn)(uint32_t account, const fen_mem_usage *u, void *arg), void *arg)
{
    size_t bytes = FEN__ACCOUNTS_MAX * sizeof(struct sum);
    struct reading rd = {.account = FEN__ACCOUNTS_MAX, .sums = fen__mem_calloc(bytes)};
    if (!rd.sums)
        return -ENOMEM;
    fen__tsc_init();
    rd.now = fen__tsc();
    fen__cache_each(fold_each, &rd);
    fen__lock(&orphans.lock);
    for (uint32_t i = 0; i < FEN__ACCOUNTS_MAX; i++)
        add_row(&rd.sums[i], rd.now, &orphans.rows[i]);
    fen__unlock(&orphans.lock);
    for (uint32_t i = 0; i < FEN__ACCOUNTS_MAX; i++)
        if (rd.sums[i].alloc || rd.sums[i].freed) {
            fen_mem_usage u = usage_of(i, &rd.sums[i]);
            fn(i, &u, arg);
        }
    fen__mem_free(rd.sums, bytes);
    return 0;
}

static void fold_all(struct fen__cache *c, void *arg)
{
    int64_t *live = arg;
    for (uint32_t i = 0; i < FEN__ACCOUNTS_MAX / FEN__ROW_GROUP; i++) {
        const struct fen__mem_row *g = atomic_load_explicit(&c->rows[i], memory_order_acquire);
        for (uint32_t k = 0; g && k < FEN__ROW_GROUP; k++)
            *live += __atomic_load_n(&g[k].alloc, __ATOMIC_RELAXED) -
                     __atomic_load_n(&g[k].freed, __ATOMIC_RELAXED);
    }
}

int64_t fen__ledger_live(void)
{
    int64_t live = 0;
    fen__cache_each(fold_all, &live);
    return live - __atomic_load_n(&orphans.freed, __ATOMIC_RELAXED);
}

/* ---- the public face ---- */

int fen_mem_cap_set(uint32_t account, int64_t bytes)
{
    if (account >= FEN__ACCOUNTS_MAX || bytes < 0)
        return -EINVAL;
    atomic_store_explicit(&accounts[account].cap, bytes, memory_order_relaxed);
    return 0;
}

uint32_t fen_mem_account(void)
{
    struct fen__cache *c = fen__cache_self();
    return c ? c->now.account : 0;
}

int fen_mem_account_set(uint32_t account)
{
    if (account >= FEN__ACCOUNTS_MAX)
        return -EINVAL;
    struct fen__cache *c = fen__cache_self();
    if (!c && !(c = fen__cache_get(true)))
        return -ENOMEM;
    if (c->now.account != account)
        fen__mem_account_use(&c->now, account);
    if (c->now.carrier)
        *c->now.carrier = account;
    return 0;
}

static void forget_busy(struct fen__cache *c, void *arg)
{
    uint64_t now = *(const uint64_t *)arg;
    for (uint32_t i = 0; i < FEN__ACCOUNTS_MAX / FEN__ROW_GROUP; i++) {
        struct fen__mem_row *g = atomic_load_explicit(&c->rows[i], memory_order_acquire);
        for (uint32_t k = 0; g && k < FEN__ROW_GROUP; k++)
            if (__atomic_load_n(&g[k].stamp, __ATOMIC_RELAXED) == BUSY)
                __atomic_store_n(&g[k].stamp, now, __ATOMIC_RELAXED);
    }
}

/* Its ticks may be those of before or after the fork's interval, or half of either. */
void fen__ledger_forget(void)
{
    uint64_t now = fen__tsc();
    fen__cache_each(forget_busy, &now);
}

void fen__ledger_lock(void) { fen__lock(&orphans.lock); }
void fen__ledger_unlock(void) { fen__unlock(&orphans.lock); }
