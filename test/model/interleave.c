/* interleave.c - see interleave.h. */
#include "interleave_int.h"

#include <stdlib.h>
#include <string.h>

struct il il = {.now = -1, .mutant = -1};

void (*il_tls_set)(void *tls);

const struct il_suite *il_suite;

/* ---- choices ---- */

void il_fail_at(const char *what, void *at)
{
    if (!il.failed) {
        il.failed = what;
        il.failed_at = at;
    }
    il.now = -1;
    setcontext(&il.main);
    abort();
}

void il_fail(bool broken, const char *what)
{
    if (broken && il.now < 0 && !il.failed)
        il.failed = what;
    else if (broken)
        il_fail_at(what, __builtin_return_address(0));
}

/* One of n; all of them in turn, run by run. */
static int il_choose(int n)
{
    if (n < 2)
        return 0;
    if (il.depth == IL_TRAIL)
        il_fail_at("too many choices", NULL);
    if (il.depth == il.length) {
        il.trail[il.length][0] = (uint8_t)n;
        il.trail[il.length++][1] = 0;
    }
    return il.trail[il.depth++][1];
}

/* False: all have been made. */
static bool il_next_run(void)
{
    while (il.length && il.trail[il.length - 1][1] + 1 == il.trail[il.length - 1][0])
        il.length--;
    if (!il.length)
        return false;
    il.trail[il.length - 1][1]++;
    return true;
}

/* One of n, of which all but the first cost one. */
static inline int il_pay(int n)
{
    if (il.cost >= il.bound)
        return 0;
    int k = il_choose(n);
    il.cost += k > 0;
    return k;
}

/* ---- actors ---- */

static bool il_can_go(int i)
{
    struct il_actor *a = &il.a[i];
    if (a->done || (a->spins && a->writes_seen == il.writes))
        return false;
    return !a->until || a->until(a->arg);
}

/* Those who can go on, but me. */
static int il_others(int me, int ret[IL_ACTORS])
{
    int n = 0;
    for (int i = 0; i < il.n; i++)
        if (i != me && il_can_go(i))
            ret[n++] = i;
    return n;
}

static void il_switch(int to)
{
    struct il_actor *from = &il.a[il.now];
    il.now = to;
    il.a[to].turn = 0;
    il_tls_set(il.a[to].tls);
    swapcontext(&from->context, &il.a[to].context);
    il_tls_set(il.a[il.now].tls);
}

static void il_raw_write(uintptr_t at, int bytes, uint64_t v)
{
    switch (bytes) {
    case 1: *(volatile uint8_t *)at = (uint8_t)v; break;
    case 2: *(volatile uint16_t *)at = (uint16_t)v; break;
    case 4: *(volatile uint32_t *)at = (uint32_t)v; break;
    default: *(volatile uint64_t *)at = v; break;
    }
    il.writes++;
}

static uint64_t il_raw_read(uintptr_t at, int bytes)
{
    switch (bytes) {
    case 1: return *(volatile uint8_t *)at;
    case 2: return *(volatile uint16_t *)at;
    case 4: return *(volatile uint32_t *)at;
    default: return *(volatile uint64_t *)at;
    }
}

static struct il_sync *il_sync(uintptr_t at)
{
    uint32_t h = (uint32_t)((at * UINT64_C(0x9E3779B97F4A7C15)) >> 40) % IL_CELLS;
    for (struct il_sync *s;; h = (h + 1) % IL_CELLS) {
        s = &il.syncs[h];
        if (s->run != il.run)
            *s = (struct il_sync){.run = il.run, .key = at};
        if (s->key == at)
            return s;
    }
}
static uint32_t *il_clock_of(uintptr_t at) { return il_sync(at)->clock; }

/* A write of an actor becomes visible. */
static void il_appear(int actor, uintptr_t at, int bytes, uint64_t v, uint32_t when)
{
    struct il_sync *s = il_sync(at);
    s->before = il_raw_read(at, bytes);
    s->writer = (uint8_t)actor;
    s->wrote_at = when;
    s->seen = (uint8_t)(1u << actor);
    il_raw_write(at, bytes, v);
}

static void il_join(uint32_t *into, const uint32_t *from)
{
    for (int i = 0; i < IL_ACTORS; i++)
        into[i] = into[i] > from[i] ? into[i] : from[i];
}

static void il_drain(int actor)
{
    struct il_actor *a = &il.a[actor];
    for (uint32_t i = 0; i < a->n_late; i++) {
        uint32_t *clock = il_clock_of(a->late[i].at);
        memset(clock, 0, sizeof a->clock);
        if (a->late[i].releases)
            memcpy(clock, a->late[i].clock, sizeof a->clock);
        il_appear(actor, a->late[i].at, a->late[i].bytes, a->late[i].value,
                  a->late[i].clock[actor]);
    }
    a->n_late = 0;
}

/* Somebody else, for nothing; back to main when nobody can. */
static void il_give_way(void)
{
    int others[IL_ACTORS], me = il.now, n;
    il_drain(me);
    n = il_others(me, others);
    if (!n && il_can_go(me))
        return;
    if (!n) { /* what is still in a buffer becomes visible at last */
        for (int i = 0; i < il.n; i++)
            il_drain(i);
        n = il_others(me, others);
        if (!n && il_can_go(me))
            return;
    }
    if (n) {
        il_switch(others[il_choose(n)]);
        return;
    }
    il.now = -1;
    swapcontext(&il.a[me].context, &il.main);
    abort();
}

/* The actor goes on when that is so. */
void il_wait(bool (*until)(void *arg), void *arg)
{
    struct il_actor *a = &il.a[il.now];
    a->until = until;
    a->arg = arg;
    while (!until(arg))
        il_give_way();
    a->until = NULL;
}

/* Before each step that others can see. */
static void il_point(void)
{
    struct il_actor *a = &il.a[il.now];
    int others[IL_ACTORS], n, k;
    if (++il.steps > IL_STEPS)
        il_fail_at("it makes no way", NULL);
    if (a->writes_seen != il.writes) {
        a->writes_seen = il.writes;
        a->quiet = 0;
    } else if (++a->quiet > IL_QUIET) {
        a->spins = true;
        il_give_way();
        a->spins = false;
        a->quiet = 0;
    }
    if (++a->turn > IL_TURN) {
        a->turn = 0;
        n = il_others(il.now, others);
        if (n)
            il_switch(others[il_choose(n)]);
    }
    if (il.cost >= il.bound || (n = il_others(il.now, others)) == 0)
        return;
    k = il_pay(n + 1);
    if (k)
        il_switch(others[k - 1]);
}

/* ---- who may touch what ---- */

static bool il_is_own(uintptr_t at)
{
    for (int i = 0; i < il.n; i++)
        if (at - (uintptr_t)il.a[i].stack < IL_STACK)
            return true;
    for (int i = 0; i < il.n_own; i++)
        if (at - il.own[i][0] < il.own[i][1])
            return true;
    return false;
}

void il_own(const void *at, size_t bytes)
{
    il.own[il.n_own][0] = (uintptr_t)at;
    il.own[il.n_own++][1] = bytes;
}

static struct il_cell *il_cell(uintptr_t key)
{
    uint32_t h = (uint32_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 40) % IL_CELLS;
    for (struct il_cell *c;; h = (h + 1) % IL_CELLS) {
        c = &il.cells[h];
        if (c->run != il.run)
            *c = (struct il_cell){.run = il.run, .key = key};
        if (c->key == key)
            return c;
    }
}

static void il_touch(uintptr_t at, int bytes, bool writes, bool atomic, void *site)
{
    struct il_cell *c = il_cell(at >> 3);
    uint8_t mask = (uint8_t)(((1u << bytes) - 1) << (at & 7));
    const uint32_t *seen = il.a[il.now].clock;
    if ((c->wrote & mask) && c->writer != il.now && !(atomic && c->wrote_atomic) &&
        c->wrote_at > seen[c->writer])
        il_fail_at("two touch it at once: one has written", site);
    for (int i = 0; writes && i < il.n; i++)
        if (i != il.now && (c->read[i] & mask) && !(atomic && c->read_atomic[i]) &&
            c->read_at[i] > seen[i])
            il_fail_at("two touch it at once: one has read", site);
    if (writes) {
        c->writer = (uint8_t)il.now;
        c->wrote = mask;
        c->wrote_atomic = atomic;
        c->wrote_at = seen[il.now];
    } else {
        c->read[il.now] = mask;
        c->read_atomic[il.now] = atomic;
        c->read_at[il.now] = seen[il.now];
    }
}

static void il_plain(uintptr_t at, size_t bytes, bool writes, void *site)
{
    if (il.now < 0 || il_is_own(at))
        return;
    for (; bytes; at++, bytes--) {
        int n = 1;
        if (!(at & 7) && bytes >= 8)
            n = 8;
        else if (!(at & 3) && bytes >= 4)
            n = 4;
        il_touch(at, n, writes, false, site);
        at += (uintptr_t)n - 1;
        bytes -= (size_t)n - 1;
    }
}

/* ---- atomic accesses ---- */

static int il_site(void *at, const char *op, int order, bool locked)
{
    int i = 0;
    while (i < il.n_sites && il.sites[i].at != at)
        i++;
    if (i == IL_SITES)
        abort();
    if (i == il.n_sites)
        il.sites[il.n_sites++] = (struct il_site){at, op, order, locked, 0};
    il.sites[i].scenarios |= UINT64_C(1) << il.scenario;
    return i;
}

static bool il_acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order >= __ATOMIC_ACQ_REL;
}
static bool il_releases(int order) { return order >= __ATOMIC_RELEASE; }

/* The order that counts here; *ret_split: a locked operation in two halves. */
static int il_order(void *at, const char *op, int order, bool locked, bool *ret_split)
{
    int site = il_site(at, op, order, locked);
    *ret_split = false;
    if (site != il.mutant)
        return order;
    *ret_split = il.mutant_kind == IL_SPLIT;
    if (il.mutant_kind == IL_WEAK)
        return __ATOMIC_RELAXED;
    return il.mutant_kind == IL_SOFT ? __ATOMIC_ACQ_REL : order;
}

static void il_note(void *site, uint64_t value)
{
    il.last[il.steps % IL_LAST] = (struct il_step){site, il.now, value};
}

static uint64_t il_forwarded(uintptr_t at, int bytes)
{
    struct il_actor *a = &il.a[il.now];
    for (uint32_t i = a->n_late; i-- > 0;)
        if (a->late[i].at == at)
            return a->late[i].value;
    return il_raw_read(at, bytes);
}

/* The last write is another's, and nothing says that the actor must have seen it. */
static bool il_is_news(uintptr_t at)
{
    const struct il_sync *s = il_sync(at);
    return s->wrote_at && s->writer != il.now && !(s->seen >> il.now & 1) &&
           s->wrote_at > il.a[il.now].clock[s->writer];
}

static uint64_t il_load(uintptr_t at, int bytes, int order, void *site)
{
    bool split;
    if (il.now < 0 || il_is_own(at))
        return il_raw_read(at, bytes);
    int was = order;
    order = il_order(site, "load", order, false, &split);
    bool early = order != was; /* a mutant: it may have been made before */
    il_point();
    il_touch(at, bytes, false, true, site);
    bool stale = early && il_is_news(at) && il_pay(2);
    if (il_acquires(order) && !stale)
        il_join(il.a[il.now].clock, il_clock_of(at));
    uint64_t v = stale ? il_sync(at)->before : il_forwarded(at, bytes);
    if (!stale)
        il_sync(at)->seen |= (uint8_t)(1u << il.now);
    il_note(site, v);
    return v;
}

/* What a store does once it is its turn. */
static void il_put(uintptr_t at, int bytes, uint64_t v, int order, void *site)
{
    struct il_actor *a = &il.a[il.now];
    il_touch(at, bytes, true, true, site);
    if (order == __ATOMIC_SEQ_CST)
        il_drain(il.now);
    if (a->n_late == IL_LATE)
        il_drain(il.now);
    struct il_late *l = &a->late[a->n_late++];
    *l = (struct il_late){.at = at, .value = v, .bytes = (uint8_t)bytes};
    l->releases = il_releases(order);
    memcpy(l->clock, a->clock, sizeof a->clock);
    a->clock[il.now]++;
    if (order == __ATOMIC_SEQ_CST || (a->n_late == 1 && !il_pay(2)))
        il_drain(il.now);
}

static void il_store(uintptr_t at, int bytes, uint64_t v, int order, void *site)
{
    bool split;
    if (il.now < 0 || il_is_own(at)) {
        il_raw_write(at, bytes, v);
        return;
    }
    order = il_order(site, "store", order, false, &split);
    il_point();
    il_note(site, v);
    il_put(at, bytes, v, order, site);
}

enum il_op { IL_EXCHANGE, IL_ADD, IL_SUB, IL_AND, IL_OR, IL_XOR };

static uint64_t il_result(enum il_op op, uint64_t old, uint64_t v)
{
    switch (op) {
    case IL_EXCHANGE: return v;
    case IL_ADD: return old + v;
    case IL_SUB: return old - v;
    case IL_AND: return old & v;
    case IL_OR: return old | v;
    default: return old ^ v;
    }
}

/* A locked operation: the point before it, what its order means, and its write. */
static void il_locked(uintptr_t at, int bytes, int order, void *site, bool split, bool writes,
                      uint64_t v)
{
    struct il_actor *a = &il.a[il.now];
    uint32_t *clock = il_clock_of(at);
    il_touch(at, bytes, writes, true, site);
    if (il_acquires(order))
        il_join(a->clock, clock);
    if (!writes)
        return;
    if (il_releases(order)) {
        il_join(clock, a->clock);
        a->clock[il.now]++;
    }
    if (split) { /* a load, and a store that may be late */
        il_point();
        il_put(at, bytes, v, __ATOMIC_RELAXED, site);
        return;
    }
    il_appear(il.now, at, bytes, v, a->clock[il.now] - il_releases(order));
}

static uint64_t il_rmw(uintptr_t at, int bytes, enum il_op op, uint64_t v, int order, void *site)
{
    bool split = false;
    uint64_t all = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * bytes) - 1;
    if (il.now >= 0 && !il_is_own(at)) {
        order = il_order(site, "rmw", order, true, &split);
        il_point();
        if (order != __ATOMIC_RELAXED)
            il_drain(il.now);
        uint64_t old = il_forwarded(at, bytes) & all;
        il_note(site, old);
        il_locked(at, bytes, order, site, split, true, il_result(op, old, v) & all);
        return old;
    }
    uint64_t old = il_raw_read(at, bytes);
    il_raw_write(at, bytes, il_result(op, old, v) & all);
    return old;
}

/* The value that was there: it was changed if that is the expected one and *ret_failed is false. */
static uint64_t il_cas(uintptr_t at, int bytes, uint64_t expected, uint64_t v, int order, bool weak,
                       void *site, bool *ret_done)
{
    bool split = false;
    bool plain = il.now < 0 || il_is_own(at);
    if (!plain) {
        order = il_order(site, "cas", order, true, &split);
        il_point();
        if (order != __ATOMIC_RELAXED)
            il_drain(il.now);
    }
    uint64_t old = plain ? il_raw_read(at, bytes) : il_forwarded(at, bytes);
    *ret_done = old == expected && !(weak && !plain && il_pay(2));
    if (!plain)
        il_note(site, old);
    if (!plain)
        il_locked(at, bytes, order, site, split, *ret_done, v);
    else if (*ret_done)
        il_raw_write(at, bytes, v);
    return old;
}

/* In place of the barrier that all threads go through. */
void il_membarrier(void)
{
    bool split;
    int order = il_order(IL_HERE, "membarrier", __ATOMIC_SEQ_CST, false, &split);
    il_point();
    for (int i = 0; i < il.n && order != __ATOMIC_RELAXED; i++)
        il_drain(i);
}

bool il_never(void *arg)
{
    (void)arg;
    return false;
}
bool il_done(int actor) { return actor >= il.n || il.a[actor].done; }

/* ---- a model's own accesses ---- */

void il_read(const void *at, size_t bytes) { il_plain((uintptr_t)at, bytes, false, IL_HERE); }
void il_write(void *at, size_t bytes) { il_plain((uintptr_t)at, bytes, true, IL_HERE); }
uint32_t il_swap(uint32_t *word, uint32_t v)
{
    if (il.now < 0)
        return *word = v;
    il_point();
    il_drain(il.now);
    uint32_t old = (uint32_t)il_raw_read((uintptr_t)word, 4);
    il_locked((uintptr_t)word, 4, __ATOMIC_ACQ_REL, IL_HERE, false, true, v);
    return old;
}

/* ---- what the compiler calls ---- */

void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void);
void __tsan_func_exit(void) {}

#define IL_PLAIN(n)                                                                                \
    void __tsan_read##n(void *p);                                                                  \
    void __tsan_read##n(void *p) { il_plain((uintptr_t)p, n, false, IL_HERE); }                    \
    void __tsan_write##n(void *p);                                                                 \
    void __tsan_write##n(void *p) { il_plain((uintptr_t)p, n, true, IL_HERE); }                    \
    void __tsan_unaligned_read##n(void *p);                                                        \
    void __tsan_unaligned_read##n(void *p) { il_plain((uintptr_t)p, n, false, IL_HERE); }          \
    void __tsan_unaligned_write##n(void *p);                                                       \
    void __tsan_unaligned_write##n(void *p) { il_plain((uintptr_t)p, n, true, IL_HERE); }
IL_PLAIN(1)
IL_PLAIN(2)
IL_PLAIN(4)
IL_PLAIN(8)
IL_PLAIN(16)
void __tsan_read_range(void *p, unsigned long n);
void __tsan_read_range(void *p, unsigned long n) { il_plain((uintptr_t)p, n, false, IL_HERE); }
void __tsan_write_range(void *p, unsigned long n);
void __tsan_write_range(void *p, unsigned long n) { il_plain((uintptr_t)p, n, true, IL_HERE); }

#define IL_RMW(bits, name, op)                                                                     \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile void *p, uint##bits##_t v, int order);    \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile void *p, uint##bits##_t v, int order)     \
    {                                                                                              \
        return (uint##bits##_t)il_rmw((uintptr_t)p, bits / 8, op, v, order, IL_HERE);              \
    }

#define IL_ATOMIC(bits)                                                                            \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order);                  \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order)                   \
    {                                                                                              \
        return (uint##bits##_t)il_load((uintptr_t)p, bits / 8, order, IL_HERE);                    \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile void *p, uint##bits##_t v, int order);               \
    void __tsan_atomic##bits##_store(volatile void *p, uint##bits##_t v, int order)                \
    {                                                                                              \
        il_store((uintptr_t)p, bits / 8, v, order, IL_HERE);                                       \
    }                                                                                              \
    IL_RMW(bits, exchange, IL_EXCHANGE)                                                            \
    IL_RMW(bits, fetch_add, IL_ADD)                                                                \
    IL_RMW(bits, fetch_sub, IL_SUB)                                                                \
    IL_RMW(bits, fetch_and, IL_AND)                                                                \
    IL_RMW(bits, fetch_or, IL_OR)                                                                  \
    IL_RMW(bits, fetch_xor, IL_XOR)                                                                \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile void *p, void *e, uint##bits##_t v, \
                                                      int order, int failure);                     \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile void *p, void *e, uint##bits##_t v, \
                                                      int order, int failure)                      \
    {                                                                                              \
        (void)failure;                                                                             \
        bool done;                                                                                 \
        *(uint##bits##_t *)e = (uint##bits##_t)il_cas(                                             \
            (uintptr_t)p, bits / 8, *(uint##bits##_t *)e, v, order, false, IL_HERE, &done);        \
        return done;                                                                               \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile void *p, void *e, uint##bits##_t v,   \
                                                    int order, int failure);                       \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile void *p, void *e, uint##bits##_t v,   \
                                                    int order, int failure)                        \
    {                                                                                              \
        (void)failure;                                                                             \
        bool done;                                                                                 \
        *(uint##bits##_t *)e = (uint##bits##_t)il_cas(                                             \
            (uintptr_t)p, bits / 8, *(uint##bits##_t *)e, v, order, true, IL_HERE, &done);         \
        return done;                                                                               \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                     \
        volatile void *p, uint##bits##_t e, uint##bits##_t v, int order, int failure);             \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                     \
        volatile void *p, uint##bits##_t e, uint##bits##_t v, int order, int failure)              \
    {                                                                                              \
        (void)failure;                                                                             \
        bool done;                                                                                 \
        return (uint##bits##_t)il_cas((uintptr_t)p, bits / 8, e, v, order, false, IL_HERE, &done); \
    }
IL_ATOMIC(8)
IL_ATOMIC(16)
IL_ATOMIC(32)
IL_ATOMIC(64)

/* ---- runs ---- */

static void il_actor_main(void)
{
    int self = il.now;
    il_tls_set(il.a[self].tls);
    il.a[self].fn(self);
    il.a[self].done = true;
    il_give_way();
}

static void il_one_run(void)
{
    volatile bool begun = false;
    il.run++;
    il.depth = il.cost = 0;
    il.steps = il.writes = 0;
    memset(il.last, 0, sizeof il.last);
    il.failed = NULL;
    il.n = il.s->actors;
    il.n_own = 0;
    il.s->init();
    for (int i = 0; i < il.n; i++) {
        struct il_actor *a = &il.a[i];
        char *stack = a->stack ? a->stack : malloc(IL_STACK);
        memset(a, 0, sizeof *a);
        a->stack = stack;
        a->fn = il.s->actor;
        a->tls = il.s->tls ? il.s->tls(i) : NULL;
        a->clock[i] = 1;
        getcontext(&a->context);
        a->context.uc_stack.ss_sp = stack;
        a->context.uc_stack.ss_size = IL_STACK;
        a->context.uc_link = NULL;
        makecontext(&a->context, il_actor_main, 0);
    }
    getcontext(&il.main);
    if (!begun) {
        begun = true;
        il.now = il_choose(il.n);
        setcontext(&il.a[il.now].context);
    }
    il.now = -1;
    il_tls_set(NULL);
    if (!il.failed)
        il.s->end();
    il.runs++;
}

const char *il_explore(int scenario)
{
    il.scenario = scenario;
    il.s = il_suite->scenarios[scenario];
    il.bound = il.mutant < 0 || il.s->bound < IL_MUTANT_BOUND ? il.s->bound : IL_MUTANT_BOUND;
    il.length = 0;
    il.runs = 0;
    do
        il_one_run();
    while (!il.failed && il_next_run());
    return il.failed;
}
