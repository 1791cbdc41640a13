/* pace.c - mem: what the three memory profiles cost and what they bring, on the same load.
 *
 * 48 MiB stay, waves of up to 96 MiB more come and go, all of it in blocks of random sizes, for
 * three seconds in a process of its own. A slice is what a reclaim does without a rest. Then the
 * slices of a server under the order load. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define LIVE_BYTES (48 * MIB)
#define WAVE_BYTES (96 * MIB)
#define RUN_NS (3 * FEN_S)

enum { P95, P99, LONGEST, CYCLES, CPU, PEAK, WORK, LOOK, FIGURES };
#define SHOWN LOOK /* of each profile */
static const char *const profiles[] = {"balanced", "latency", "container"};
#define PROFILES 3

const char *bench_profile; /* --profile; NULL: all of them */

static uint64_t seed = 88172645463325252u;

static size_t random_size(size_t most)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return 16 + seed % most;
}

static void *more(void *list, size_t bytes, size_t *done)
{
    for (size_t at = 0; at < bytes;) {
        size_t n = random_size(seed % 8 ? 1024 : 32768);
        void **p = fen_alloc(n);
        if (!p)
            break;
        memset(p, 1, n);
        *p = list;
        list = p;
        at += n;
        *done += n;
    }
    return list;
}

static void drop(void *list)
{
    while (list) {
        void *next = *(void **)list;
        fen_free(list);
        list = next;
    }
}

/* Of a pointer that others may set, which nearly always is NULL: all that a reclaim does for its
 * line while nobody wants one. */
static double look_ns(void)
{
    enum { LOOKS = 1000000 };
    static void (*volatile told)(void);
    int64_t from = fen_now();
    for (int i = 0; i < LOOKS; i++)
        if (told)
            told();
    return (double)(fen_now() - from) / LOOKS;
}

static int waves(void *arg)
{
    size_t done = 0, ignored = 0;
    void *live = more(NULL, LIVE_BYTES, &ignored);
    for (int64_t end = fen_now() + RUN_NS; fen_now() < end;) {
        drop(more(NULL, random_size(WAVE_BYTES), &done));
        int rc = fen_sleep(2 * FEN_MS); /* as a service between two crowds */
        if (rc)
            return rc;
    }
    drop(live);
    *(double *)arg = (double)done / (double)MIB;
    return 0;
}

static void measure(void *profile, double *out)
{
    double mib = NAN;
    const fen_config cfg = {.procs = 1, .mem_profile = profile};
    if (fen_run(waves, &mib, &cfg))
        return;
    struct rusage u;
    fen_mem_pace p;
    getrusage(RUSAGE_SELF, &u);
    fen_mem_pace_get(&p);
    double cpu_ns = 1e9 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                    1e3 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    out[P95] = (double)p.slice_p95_ns / 1e3;
    out[P99] = (double)p.slice_p99_ns / 1e3;
    out[LONGEST] = (double)p.slice_max_ns / 1e3;
    out[CYCLES] = (double)p.cycles;
    out[CPU] = 100 * (double)p.cpu_ns / cpu_ns;
    out[PEAK] = (double)u.ru_maxrss / 1024;
    out[WORK] = mib / (cpu_ns / 1e9);
    out[LOOK] = 100 * (double)p.cycles * look_ns() / cpu_ns;
}

static void emit_profile(const char *profile, double v[FIGURES][BENCH_RUNS_MAX], int runs)
{
    static const struct {
        const char *what, *unit;
        double at_least, aim;
    } shown[SHOWN] = {{"slice_p95", "us", 300, 100},       {"slice_p99", "us", 300, 100},
                      {"slice_longest", "us", 0, 0},       {"reclaims", "", 0, 0},
                      {"reclaim_cpu", "%", 0, 0},          {"peak_memory", "MiB", 0, 0},
                      {"allocated_per_cpu_s", "MiB", 0, 0}};
    for (int i = 0; i < SHOWN; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", profile, shown[i].what);
        emit(FIGURE(.name = name, .unit = shown[i].unit, .value = median(v[i], runs),
                    .more_is_better = i == WORK, .bar = shown[i].aim > 0,
                    .at_least = shown[i].at_least, .aim = shown[i].aim, .runs = runs));
    }
}

#define CROWDS_MAX 16
#define SLICES_ENOUGH 20 /* for a P95 */

/* Slices under the order load: crowds of 1,000 connections come and go, at a low percentage, until
 * there have been enough. */
static void under_orders(void)
{
    struct child c;
    struct load_figures l;
    double slices = 0, p95 = NAN;
    setenv("FEN_MEM_PERCENT", "10", 1);
    bool good = start_orders(&c, NULL);
    unsetenv("FEN_MEM_PERCENT");
    for (int i = 0; good && i < CROWDS_MAX && slices < SLICES_ENOUGH; i++) {
        good = run_load(&c, "/orders/{1..100000}", 1000, 1, NULL, &l);
        char *page = good ? admin_page(&c, "/debug/vars") : NULL;
        slices = number_in(page, "\"memory\"", "slices");
        p95 = number_in(page, "\"memory\"", "slice_p95_ns") / 1e3;
        free(page);
    }
    child_stop(&c);
    emit(FIGURE(.name = "orders_slices", .unit = "", .value = slices,
                .note = "orders keep what they need: there is little to give back"));
    emit(FIGURE(.name = "orders_slice_p95", .unit = "us", .value = slices > 0 ? p95 : NAN,
                .bar = true, .at_least = 300, .aim = 100,
                .note = slices > 0 ? NULL
                        : good     ? "no reclaim was due"
                                   : "the load failed"));
}

void bench_memory(void)
{
    static double v[PROFILES][FIGURES][BENCH_RUNS_MAX];
    double ratio[BENCH_RUNS_MAX], p95[2];
    int runs = runs_or(3);
    bool both = !bench_profile;
    for (int r = 0; r < runs; r++) {
        for (int k = 0; k < PROFILES; k++) {
            double out[FIGURES];
            if (!both && strcmp(profiles[k], bench_profile))
                continue;
            in_child(measure, (void *)profiles[k], out, FIGURES);
            for (int i = 0; i < FIGURES; i++)
                v[k][i][r] = out[i];
        }
        ratio[r] = v[1][P95][r] / v[0][P95][r];
    }
    for (int k = 0; k < PROFILES; k++)
        if (both || !strcmp(profiles[k], bench_profile))
            emit_profile(profiles[k], v[k], runs);
    if (!both)
        return;
    emit(FIGURE(.name = "memtrace_off", .unit = "% of CPU", .value = median(v[0][LOOK], runs),
                .bar = true, .at_least = 1, .runs = runs,
                .note = "reclaims of the balanced profile, a look at a pointer each"));
    p95[0] = median(v[0][P95], runs);
    p95[1] = median(v[1][P95], runs);
    emit(FIGURE(.name = "latency_slice_p95", .unit = "us", .value = p95[1], .rival = "balanced",
                .rival_value = p95[0], .ratio = median(ratio, runs), .bar = true,
                .bar_on_ratio = true, .at_least = 0.7, .runs = runs));
    under_orders();
}

bool bench_profile_ok(void)
{
    for (int k = 0; bench_profile && k < PROFILES; k++)
        if (!strcmp(profiles[k], bench_profile))
            return true;
    return !bench_profile;
}
