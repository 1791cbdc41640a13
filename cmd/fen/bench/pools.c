/* pools.c - pool, defer, arena: what fen keeps ready, and what a clean-up costs. Each round runs in
 * a fiber of a process of its own. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double since_ns(int64_t from, int64_t n) { return (double)(fen_now() - from) / (double)n; }

/* ---- pool ---- */

#define POOL_STEPS 1000000
#define BODY 128

/* A real object: two parts of its own, and all of it set to a start. */
struct message {
    uint64_t tag, uses;
    char *name, *body;
    uint64_t counts[24];
};

static int message_init(void *o, void *arg)
{
    struct message *m = o;
    char *(*get)(size_t) = (char *(*)(size_t))arg;
    *m = (struct message){.tag = 1, .name = get(32), .body = get(BODY)};
    if (!m->name || !m->body)
        return -ENOMEM;
    memset(m->name, 0, 32);
    memset(m->body, 0, BODY);
    return 0;
}

static void message_fini(void *o, void *arg)
{
    struct message *m = o;
    void (*put)(void *) = arg ? fen_free : free;
    put(m->name);
    put(m->body);
}

static fen_objpool *messages(void)
{
    return fen_objpool_new(&(fen_objpool_config){.name = "messages",
                                                 .size_bytes = sizeof(struct message),
                                                 .init = message_init,
                                                 .fini = message_fini,
                                                 .arg = (void *)fen_alloc});
}

static double reused = NAN;

static double pool_round(void)
{
    fen_objpool *p = messages();
    int64_t from = fen_now();
    for (int i = 0; p && i < POOL_STEPS; i++) {
        struct message *m = fen_objpool_get(p);
        if (!m)
            return NAN;
        m->uses++;
        fen_objpool_put(p, m);
    }
    double ns = p ? since_ns(from, POOL_STEPS) : NAN;
    fen_objpool_free(p);
    return ns;
}

static double malloc_round(void)
{
    int64_t from = fen_now();
    for (int i = 0; i < POOL_STEPS; i++) {
        struct message *m = malloc(sizeof *m);
        if (!m || message_init(m, (void *)malloc) < 0) {
            free(m);
            return NAN;
        }
        __asm__ volatile("" : : "r"(m) : "memory");
        m->uses++;
        message_fini(m, NULL);
        free(m);
    }
    return since_ns(from, POOL_STEPS);
}

/* Eight fibers on two Ps, each with up to 64 objects at a time, swapped at random. */
static fen_objpool *shared;

static void churn(void *arg)
{
    struct message *held[64] = {NULL};
    uint32_t x = (uint32_t)(uintptr_t)arg + 1;
    for (int i = 0; i < POOL_STEPS / 8; i++) {
        x = x * 1664525 + 1013904223;
        fen_objpool_put(shared, held[x >> 26]);
        held[x >> 26] = fen_objpool_get(shared);
        if (i % 1000 == 0)
            fen_yield();
    }
    for (int i = 0; i < 64; i++)
        fen_objpool_put(shared, held[i]);
}

static int reuse_run(void *arg)
{
    fen_objpool_stats t;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    int rc = s ? 0 : -ENOMEM;
    shared = messages();
    for (uintptr_t i = 0; shared && !rc && i < 8; i++)
        rc = fen_go(churn, (void *)i);
    if (!s || fen_scope_close(s) || rc || !shared)
        return -ENOMEM;
    fen_objpool_stats_get(shared, &t);
    *(double *)arg = 100.0 * (double)(t.gets - t.made) / (double)t.gets;
    fen_objpool_free(shared);
    return 0;
}

static void reuse_main(void *arg, double *out)
{
    (void)arg;
    if (fen_run(reuse_run, out, &(fen_config){.procs = 2}))
        *out = NAN;
}

void bench_pool(void)
{
    static struct pairs p;
    struct scenario own = {.procs = 1, .n = 1, .round = {pool_round}};
    struct scenario plain = {.procs = 1, .n = 1, .round = {malloc_round}};
    pairs_with_go(&p, scenario_main, &own, 2, "pool", 1, runs_or(5));
    pairs_emit(
        &p, 0, 1,
        (struct figure){.name = "get_put", .unit = "ns", .bar = true, .at_least = 8, .aim = 3});
    static double other[BENCH_RUNS_MAX], times[BENCH_RUNS_MAX];
    int runs = runs_or(5);
    for (int i = 0; i < runs; i++) {
        double a[2], b[2];
        in_child(scenario_main, &own, a, 2);
        in_child(scenario_main, &plain, b, 2);
        other[i] = b[0];
        times[i] = b[0] / a[0];
    }
    emit(FIGURE(.name = "times_faster_than_construct", .unit = "x", .more_is_better = true,
                .value = median(times, runs), .bar = true, .at_least = 3.5, .runs = runs));
    emit(FIGURE(.name = "construct_and_free", .unit = "ns", .value = median(other, runs),
                .runs = runs, .note = "malloc, three blocks, set to a start"));
    in_child(reuse_main, NULL, &reused, 1);
    emit(FIGURE(.name = "reuse_of_1000000", .unit = "%", .more_is_better = true, .value = reused,
                .bar = true, .at_least = 92, .aim = 99));
}

/* ---- defer ---- */

#define DEFERS 4000000
#define SCOPES 40000
#define EACH 16
#define LOOP 1000
#define BATCH 100000

static int done;

/* The clean-ups. Out of line, so that by hand they are the same functions as deferred. */
#define OUT_OF_LINE __attribute__((noinline))

static inline void bump(int *n)
{
    ++*n;
    __asm__ volatile("" : : : "memory");
}
OUT_OF_LINE static void bump_arg(void *n) { bump(n); }
OUT_OF_LINE static int bump_rc(void *n) { return bump(n), 0; }
OUT_OF_LINE static void bump_copy(void *copy) { bump(*(int **)copy); }

__attribute__((noinline)) static int by_hand(int *n)
{
    int v = *n;
    bump_arg(n);
    return v;
}

__attribute__((noinline)) static int by_defer(int *n)
{
    FEN_DEFER(bump_arg, n);
    return *n;
}

static double calls(int (*fn)(int *))
{
    int64_t from = fen_now();
    for (int i = 0; i < DEFERS; i++)
        (void)fn(&done);
    return since_ns(from, DEFERS);
}

/* Beyond the same call by hand. */
static double block_round(void)
{
    double hand = calls(by_hand), with = calls(by_defer);
    return with > hand ? with - hand : 0;
}

enum what { BY_HAND, RECORDS, BY_HAND_5, GROUPS };

/* Scopes with EACH records or groups of five in them, or with the same calls by hand. The five
 * stand one after the other, as a handler has them. */
static double scopes(enum what what)
{
    static fen_defer_record r[EACH];
    static fen_defer_group g[EACH];
    int64_t from = fen_now();
    for (int k = 0; k < SCOPES; k++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        if (!s)
            return NAN;
        for (int i = 0; what == BY_HAND && i < EACH; i++)
            bump_arg(&done);
        for (int i = 0; what == BY_HAND_5 && i < 5 * EACH; i++)
            (void)bump_rc(&done);
        for (int i = 0; what == RECORDS && i < EACH; i++)
            fen_defer(s, &r[i], bump_arg, &done);
        for (int i = 0; what == GROUPS && i < EACH; i++) {
            fen_defer_group_init(&g[i], s, NULL);
            if (fen_defer_group_add(&g[i], bump_rc, &done) ||
                fen_defer_group_add(&g[i], bump_rc, &done) ||
                fen_defer_group_add(&g[i], bump_rc, &done) ||
                fen_defer_group_add(&g[i], bump_rc, &done) ||
                fen_defer_group_add(&g[i], bump_rc, &done))
                return NAN;
        }
        if (fen_scope_close(s))
            return NAN;
    }
    return since_ns(from, (int64_t)SCOPES * EACH);
}

static double record_round(void)
{
    double hand = scopes(BY_HAND);
    return scopes(RECORDS) - hand;
}

static double group_round(void)
{
    double hand = scopes(BY_HAND_5);
    return scopes(GROUPS) - hand;
}

static double loop_of(int64_t n, int64_t each)
{
    int *at = &done;
    int64_t from = fen_now();
    for (int64_t k = 0; k < n / each; k++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        if (!s)
            return NAN;
        for (int64_t i = 0; i < each; i++)
            if (fen_defer_dyn(s, bump_copy, &at, sizeof at))
                return NAN;
        if (fen_scope_close(s))
            return NAN;
    }
    return since_ns(from, n);
}

static double loop_round(void) { return loop_of(1000000, LOOP); }

static double one_by_one_round(void)
{
    static fen_defer_record r[BATCH];
    int64_t from = fen_now();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; s && i < BATCH; i++)
        fen_defer(s, &r[i], bump_arg, &done);
    return s && !fen_scope_close(s) ? since_ns(from, BATCH) : NAN;
}

static double batch_round(void)
{
    static void *items[BATCH];
    for (int i = 0; i < BATCH; i++)
        items[i] = &done;
    fen_defer_batch b;
    int64_t from = fen_now();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (s)
        fen_defer_many(s, &b, bump_arg, items, BATCH);
    return s && !fen_scope_close(s) ? since_ns(from, BATCH) : NAN;
}

static int64_t allocated(void)
{
    fen_mem_usage u;
    return fen_mem_usage_get(0, &u) ? -1 : u.allocated_bytes;
}

/* Bytes that records and groups take from the heap; blocks of a million dynamic ones at once. */
static int allocs_run(void *arg)
{
    double *out = arg;
    (void)scopes(BY_HAND); /* the scopes' own memory */
    int64_t before = allocated();
    double ok = scopes(RECORDS) + scopes(GROUPS) + block_round();
    out[0] = ok >= 0 ? (double)(allocated() - before) : NAN;
    out[1] = loop_of(1000000, 1000000) >= 0 ? (double)fen_defer_blocks() : NAN;
    return 0;
}

static void allocs_main(void *arg, double *out)
{
    (void)arg;
    if (fen_run(allocs_run, out, &(fen_config){.procs = 1}))
        out[0] = out[1] = NAN;
}

static double ns_per_tick(void)
{
#ifdef __x86_64__
    int64_t from = fen_now();
    uint64_t ticks = __builtin_ia32_rdtsc();
    while (fen_now() < from + 20 * FEN_MS)
        ;
    return (double)(fen_now() - from) / (double)(__builtin_ia32_rdtsc() - ticks);
#else
    return NAN;
#endif
}

static void emit_batch(int runs)
{
    static double one[BENCH_RUNS_MAX], all[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX];
    struct scenario s = {.procs = 1, .n = 2, .round = {one_by_one_round, batch_round}};
    for (int i = 0; i < runs; i++) {
        double out[4];
        in_child(scenario_main, &s, out, 4);
        one[i] = out[0];
        all[i] = out[2];
        ratio[i] = out[2] / out[0];
    }
    double v = median(all, runs), tick = ns_per_tick();
    emit(FIGURE(.name = "batch_of_100000", .unit = "ns", .value = v, .rival = "one by one",
                .rival_value = median(one, runs), .ratio = median(ratio, runs), .bar = true,
                .bar_on_ratio = true, .at_least = 0.69, .runs = runs));
    if (!isnan(tick))
        emit(FIGURE(.name = "batch_call", .unit = "cycles", .value = v / tick, .bar = true,
                    .at_least = 29.1, .runs = runs, .note = "of the TSC"));
}

void bench_defer(void)
{
    static struct pairs p;
    int runs = runs_or(5);
    double out[2];
    struct scenario go = {.procs = 1, .n = 2, .round = {block_round, loop_round}};
    pairs_with_go(&p, scenario_main, &go, 4, "defer", 1, runs);
    pairs_emit(&p, 0, 1,
               (struct figure){.name = "block", .unit = "ns", .bar = true, .at_least = 1});
    pairs_emit(&p, 2, 1,
               (struct figure){.name = "loop", .unit = "ns", .bar = true, .at_least = 20});
    static double record[BENCH_RUNS_MAX], group[BENCH_RUNS_MAX];
    struct scenario own = {.procs = 1, .n = 2, .round = {record_round, group_round}};
    for (int i = 0; i < runs; i++) {
        double v[4];
        in_child(scenario_main, &own, v, 4);
        record[i] = v[0];
        group[i] = v[2];
    }
    emit(FIGURE(.name = "record", .unit = "ns", .value = median(record, runs), .bar = true,
                .at_least = 3, .runs = runs));
    emit(FIGURE(.name = "group_of_5", .unit = "ns", .value = median(group, runs), .bar = true,
                .at_least = 15, .runs = runs));
    in_child(allocs_main, NULL, out, 2);
    emit(FIGURE(.name = "heap_bytes", .unit = "bytes", .value = out[0], .bar = true, .exact = true,
                .at_least = 0, .note = "block, record and group"));
    emit(FIGURE(.name = "blocks_of_1000000_dynamic", .unit = "blocks", .value = out[1], .bar = true,
                .at_least = 3200));
    emit_batch(runs);
}

/* ---- arena ---- */

#define BLOCKS 1000
#define ARENA_ROUNDS 3000

static uint16_t small_size[BLOCKS]; /* bytes; a table, so that both sides pay for little else */

static void draw_sizes(void)
{
    for (int i = 0; i < BLOCKS; i++)
        small_size[i] = (uint16_t)(16 + i * 7 % 13 * 8);
}

static double arena_round(void)
{
    fen_arena *a = fen_arena_new();
    int64_t from = fen_now();
    for (int k = 0; a && k < ARENA_ROUNDS; k++) {
        for (int i = 0; i < BLOCKS; i++) {
            char *p = fen_arena_alloc(a, small_size[i]);
            if (!p)
                return NAN;
            *p = 1;
        }
        fen_arena_reset(a);
    }
    double ns = a ? since_ns(from, ARENA_ROUNDS) : NAN;
    fen_arena_free(a);
    return ns;
}

static double blocks_round(void)
{
    static char *p[BLOCKS];
    int64_t from = fen_now();
    for (int k = 0; k < ARENA_ROUNDS; k++) {
        for (int i = 0; i < BLOCKS; i++) {
            p[i] = malloc(small_size[i]);
            if (!p[i])
                return NAN;
            *p[i] = 1;
        }
        for (int i = 0; i < BLOCKS; i++)
            free(p[i]);
    }
    return since_ns(from, ARENA_ROUNDS);
}

void bench_arena(void)
{
    static double own[BENCH_RUNS_MAX], other[BENCH_RUNS_MAX], times[BENCH_RUNS_MAX];
    struct scenario s = {.procs = 1, .n = 2, .round = {arena_round, blocks_round}};
    int runs = runs_or(9);
    draw_sizes();
    for (int i = 0; i < runs; i++) {
        double out[4];
        in_child(scenario_main, &s, out, 4);
        own[i] = out[0];
        other[i] = out[2];
        times[i] = out[2] / out[0];
    }
    emit(FIGURE(.name = "1000_blocks_and_reset", .unit = "ns", .value = median(own, runs),
                .runs = runs));
    emit(FIGURE(.name = "1000_malloc_and_free", .unit = "ns", .value = median(other, runs),
                .runs = runs));
    emit(FIGURE(.name = "times_faster", .unit = "x", .more_is_better = true,
                .value = median(times, runs), .bar = true, .at_least = 10, .runs = runs));
}
