/* lines.c - locality: what the lay-out of memory costs, whoever uses it.
 *
 * A chase over 256 MB, one line a node, in the order of addresses and in a random one, on small
 * pages and on huge ones; and a random one of as many nodes over 1 GiB, since the page tables of
 * 256 MB (512 KiB) fit into a second-level cache of today, those of 1 GiB do not. Then four ways to
 * add up one field of 4,000,000 records, from a list in random order to an array of nothing else:
 * each step's gain is printed. Two prefetches are tried, one where the processor sees the next
 * address itself, one where it does not (records by a list of numbers); a prefetch that gains less
 * than 5 % is not worth its line. "Small pages" means MADV_NOHUGEPAGE: without it the kernel may
 * help one run and not the next. */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LINE 64

/* ---- locality: pages ---- */

#define CHASE_BYTES (256l << 20)
#define NODES (CHASE_BYTES / LINE)
#define WIDE 4 /* lines from one node to the next in the wide chase */

struct node {
    struct node *next;
    int64_t value;
    char cold[LINE - 16];
} __attribute__((aligned(LINE)));

static uint64_t draw(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* Zeroed by the kernel as they are touched; large enough to be a mapping of its own. */
static void *pages(size_t bytes, bool huge)
{
    size_t unit = 2l << 20, all = (bytes + unit - 1) & ~(unit - 1);
    void *p = aligned_alloc(unit, all);
    if (!p)
        _exit(1);
    madvise(p, all, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* where there are none: small */
    return p;
}

/* Of `bytes` at p, in percent, those that the kernel gave as huge pages (/proc/self/smaps). */
static double huge_share(const void *p, size_t bytes)
{
    char line[256];
    unsigned long low, high, kb, sum = 0;
    bool in = false;
    FILE *f = fopen("/proc/self/smaps", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &low, &high) == 2)
            in = low < (uintptr_t)p + bytes && high > (uintptr_t)p;
        else if (in && sscanf(line, "AnonHugePages: %lu kB", &kb) == 1)
            sum += kb;
    }
    if (f)
        fclose(f);
    return (double)sum * 1024 * 100 / (double)bytes;
}

/* order[i] is drawn from 0..n-1 without repeats. */
static uint32_t *shuffled(int64_t n)
{
    uint64_t x = 88172645463325252u;
    uint32_t *order = pages((size_t)n * sizeof *order, true);
    for (int64_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t k = (int64_t)(draw(&x) % (uint64_t)(i + 1));
        uint32_t v = order[i];
        order[i] = order[k];
        order[k] = v;
    }
    return order;
}

/* A ring through n nodes, every step-th of all; order NULL: as they lie. */
static void link_nodes(struct node *all, int64_t n, const uint32_t *order, int64_t step)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t to = (i + 1) % n;
        struct node *e = &all[step * (order ? order[i] : i)];
        e->next = &all[step * (order ? order[to] : to)];
        e->value = 1;
    }
}

static double chase(const struct node *at, int64_t n)
{
    int64_t sum = 0;
    double from = now_s();
    for (int64_t i = 0; i < n; i++, at = at->next)
        sum += at->value;
    double ns = (now_s() - from) * 1e9 / (double)n;
    return sum == n ? ns : NAN;
}

/* A random chase through NODES nodes, the second time round. *share: how much was huge pages. */
static double chase_random(const uint32_t *order, int64_t step, bool huge, double *share)
{
    struct node *all = pages((size_t)step * CHASE_BYTES, huge);
    link_nodes(all, NODES, order, step);
    chase(all, NODES);
    double ns = chase(all, NODES);
    *share = huge_share(all, (size_t)step * (size_t)CHASE_BYTES);
    free(all);
    return ns;
}

enum { SEQUENTIAL, RANDOM, RANDOM_HUGE, RANDOM_WIDE, RANDOM_WIDE_HUGE, CHASES };

/* out: the chases, then how much of the two on huge pages was. */
static void chase_main(void *arg, double *out)
{
    double none;
    (void)arg;
    on_core(0);
    const uint32_t *order = shuffled(NODES);
    struct node *few = pages(CHASE_BYTES, false);
    link_nodes(few, NODES, NULL, 1);
    chase(few, NODES);
    out[SEQUENTIAL] = chase(few, NODES);
    free(few);
    out[RANDOM] = chase_random(order, 1, false, &none);
    out[RANDOM_HUGE] = chase_random(order, 1, true, &out[CHASES]);
    out[RANDOM_WIDE] = chase_random(order, WIDE, false, &none);
    out[RANDOM_WIDE_HUGE] = chase_random(order, WIDE, true, &out[CHASES + 1]);
}

/* ---- locality: steps ---- */

#define RECORDS 4000000l
#define AHEAD 16 /* records that a prefetch looks ahead; 8 to 32 are alike */

enum { LIST, AOS, SOA, SOA_PREFETCH, BY_NUMBER, BY_NUMBER_PREFETCH, STEPS };

static double per_record(double from, int64_t sum)
{
    double ns = (now_s() - from) * 1e9 / RECORDS;
    return sum == RECORDS ? ns : NAN;
}

static double add_structs(const struct node *r)
{
    int64_t sum = 0;
    double from = now_s();
    for (int64_t i = 0; i < RECORDS; i++)
        sum += r[i].value;
    return per_record(from, sum);
}

static double add_values(const int64_t *v)
{
    int64_t sum = 0;
    double from = now_s();
    for (int64_t i = 0; i < RECORDS; i++)
        sum += v[i];
    return per_record(from, sum);
}

/* v has AHEAD lines more than are added. */
static double add_values_prefetched(const int64_t *v)
{
    int64_t sum = 0;
    double from = now_s();
    for (int64_t i = 0; i < RECORDS; i += 8) {
        __builtin_prefetch(v + i + AHEAD * 8);
        for (int k = 0; k < 8; k++)
            sum += v[i + k];
    }
    return per_record(from, sum);
}

static double add_by_number(const struct node *r, const uint32_t *number, bool prefetch)
{
    int64_t sum = 0;
    double from = now_s();
    if (prefetch)
        for (int64_t i = 0; i < RECORDS; i++) {
            __builtin_prefetch(&r[number[i + AHEAD < RECORDS ? i + AHEAD : i]]);
            sum += r[number[i]].value;
        }
    else
        for (int64_t i = 0; i < RECORDS; i++)
            sum += r[number[i]].value;
    return per_record(from, sum);
}

static void steps_main(void *arg, double *out)
{
    (void)arg;
    on_core(0);
    const uint32_t *order = shuffled(RECORDS);
    struct node *r = pages((size_t)RECORDS * sizeof *r, false);
    int64_t *v = pages((size_t)RECORDS * sizeof *v + AHEAD * LINE, false);
    link_nodes(r, RECORDS, order, 1);
    for (int64_t i = 0; i < RECORDS + AHEAD * 8; i++)
        v[i] = 1;
    out[LIST] = chase(&r[order[0]], RECORDS);
    out[AOS] = add_structs(r);
    out[SOA] = out[SOA_PREFETCH] = INFINITY; /* milliseconds: the best of some */
    for (int i = 0; i < 5; i++) {
        out[SOA] = fmin(out[SOA], add_values(v));
        out[SOA_PREFETCH] = fmin(out[SOA_PREFETCH], add_values_prefetched(v));
    }
    out[BY_NUMBER] = add_by_number(r, order, false);
    out[BY_NUMBER_PREFETCH] = add_by_number(r, order, true);
}

/* ---- locality: figures ---- */

/* How many times cheaper b was than a: the median of the runs. */
static double gain(double v[][BENCH_RUNS_MAX], int a, int b, int runs)
{
    double times[BENCH_RUNS_MAX];
    for (int i = 0; i < runs; i++)
        times[i] = v[a][i] / v[b][i];
    return median(times, runs);
}

static void page_figures(int runs)
{
    static const char *const names[CHASES] = {"chase_sequential", "chase_random",
                                              "chase_random_huge", "chase_random_1_gib",
                                              "chase_random_1_gib_huge"};
    static double v[CHASES + 2][BENCH_RUNS_MAX];
    double out[CHASES + 2];
    for (int i = 0; i < runs; i++) {
        in_child(chase_main, NULL, out, CHASES + 2);
        for (int k = 0; k < CHASES + 2; k++)
            v[k][i] = out[k];
    }
    double random = gain(v, RANDOM, SEQUENTIAL, runs);
    double share = fmin(median(v[CHASES], runs), median(v[CHASES + 1], runs));
    const char *small = share < 90 ? "the kernel gave small pages" : NULL;
    double times = small ? NAN : gain(v, RANDOM, RANDOM_HUGE, runs);
    double wide = small ? NAN : gain(v, RANDOM_WIDE, RANDOM_WIDE_HUGE, runs);
    for (int k = 0; k < CHASES; k++)
        emit(FIGURE(.name = names[k], .unit = "ns", .value = median(v[k], runs), .runs = runs));
    emit(FIGURE(.name = "random_over_sequential", .unit = "x", .value = random, .runs = runs));
    emit(FIGURE(.name = "huge_pages_given", .unit = "%", .more_is_better = true, .value = share));
    emit(FIGURE(.name = "huge_pages_gain", .unit = "x", .more_is_better = true, .value = times,
                .runs = runs, .note = small));
    emit(FIGURE(.name = "huge_pages_gain_1_gib", .unit = "x", .more_is_better = true, .value = wide,
                .bar = true, .at_least = 1.3, .runs = runs, .note = small));
}

static void step_figures(int runs)
{
    static const char *const names[] = {"list",         "array_of_structs", "struct_of_arrays",
                                        "soa_prefetch", "by_number",        "by_number_prefetch"};
    static double v[STEPS][BENCH_RUNS_MAX];
    double out[STEPS];
    for (int i = 0; i < runs; i++) {
        in_child(steps_main, NULL, out, STEPS);
        for (int k = 0; k < STEPS; k++)
            v[k][i] = out[k];
    }
    double to_aos = gain(v, LIST, AOS, runs), to_soa = gain(v, AOS, SOA, runs),
           whole = gain(v, LIST, SOA, runs), seen = (gain(v, SOA, SOA_PREFETCH, runs) - 1) * 100,
           unseen = (gain(v, BY_NUMBER, BY_NUMBER_PREFETCH, runs) - 1) * 100;
    for (int k = 0; k < STEPS; k++)
        emit(FIGURE(.name = names[k], .unit = "ns", .value = median(v[k], runs), .runs = runs));
    emit(FIGURE(.name = "aos_over_list", .unit = "x", .more_is_better = true, .value = to_aos));
    emit(FIGURE(.name = "soa_over_aos", .unit = "x", .more_is_better = true, .value = to_soa));
    emit(FIGURE(.name = "soa_over_list", .unit = "x", .more_is_better = true, .value = whole,
                .bar = true, .at_least = 20, .runs = runs));
    emit(FIGURE(.name = "prefetch_in_order", .unit = "%", .more_is_better = true, .value = seen,
                .note = seen >= 5 ? "worth it" : "not worth it: no such prefetch in fen"));
    emit(FIGURE(.name = "prefetch_by_number", .unit = "%", .more_is_better = true, .value = unseen,
                .bar = true, .at_least = 5, .runs = runs,
                .note = "the only kind of prefetch in fen: an address known ahead"));
}

void bench_locality(void)
{
    int runs = runs_or(3);
    page_figures(runs);
    step_figures(runs);
}
