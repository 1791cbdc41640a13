/* mem.c - alloc, larson, xmalloc, random, grow, prodcons, rss, central, billed, profiled: fen's
 * heap beside the C library's and three that Debian has.
 *
 * Each measurement is a process of its own: `fen bench _mem LOAD WHO` (memload.c), the rivals by
 * LD_PRELOAD. Rounds go over all of them in turn, so that each ratio is of neighbours in time. */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RIVALS 4

static const struct rival {
    const char *name, *library, *package;
} rivals[RIVALS] = {
    {"glibc", NULL, NULL},
    {"mimalloc", "libmimalloc.so.2.0", "libmimalloc2.0"},
    {"jemalloc", "libjemalloc.so.2", "libjemalloc2"},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"},
};

double bench_seconds; /* --seconds; 0: 30 */

/* Where the rival's library is; NULL: not there, which is said once. */
static const char *library_path(int rival)
{
    static const char *const dirs[] = {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
                                       "/usr/lib64", "/usr/lib", "/usr/local/lib"};
    static char paths[RIVALS][256];
    static bool looked[RIVALS];
    char *path = paths[rival];
    for (size_t i = 0; !looked[rival] && i < sizeof dirs / sizeof dirs[0]; i++) {
        snprintf(path, sizeof paths[rival], "%s/%s", dirs[i], rivals[rival].library);
        if (access(path, R_OK) == 0)
            break;
        *path = 0;
    }
    if (!looked[rival] && !*path)
        fprintf(stderr, "skipped: %s not installed\n", rivals[rival].package);
    looked[rival] = true;
    return *path ? path : NULL;
}

static double one_run(const char *load, const char *who, const char *library, double seconds)
{
    char command[1024], line[64];
    double v = NAN;
    snprintf(command, sizeof command, "LD_PRELOAD='%s' '%s' bench _mem %s %s %g 2>&-",
             library ? library : "", self_path(), load, who, seconds);
    FILE *f = popen(command, "re");
    if (f && fgets(line, sizeof line, f))
        v = atof(line);
    if (f && pclose(f))
        v = NAN;
    return v;
}

struct compared {
    double fen, value[RIVALS], ratio[RIVALS]; /* NAN: not there */
    int runs, best;
};

static struct compared compare(const char *load, int runs, double seconds, bool more_is_better)
{
    double own[BENCH_RUNS_MAX], v[RIVALS][BENCH_RUNS_MAX], x[RIVALS][BENCH_RUNS_MAX];
    struct compared c = {.runs = runs};
    for (int i = 0; i < runs; i++) {
        own[i] = one_run(load, "fen", NULL, seconds);
        for (int k = 0; k < RIVALS; k++) {
            const char *library = k ? library_path(k) : NULL;
            v[k][i] = k && !library ? NAN : one_run(load, "libc", library, seconds);
            x[k][i] = own[i] / v[k][i];
        }
    }
    c.fen = median(own, runs);
    for (int k = 0; k < RIVALS; k++) {
        c.value[k] = median(v[k], runs);
        c.ratio[k] = median(x[k], runs);
        bool better = more_is_better ? c.value[k] > c.value[c.best] : c.value[k] < c.value[c.best];
        c.best = better ? k : c.best;
    }
    return c;
}

/* One line a rival. The bar is for glibc: no worse; the aim, within `aim` of the best. */
static void emit_all(const char *name, const char *unit, const struct compared *c,
                     bool more_is_better)
{
    for (int k = 0; k < RIVALS; k++)
        if (!isnan(c->value[k]))
            emit(FIGURE(.name = name, .unit = unit, .more_is_better = more_is_better,
                        .value = c->fen, .rival = rivals[k].name, .rival_value = c->value[k],
                        .ratio = c->ratio[k], .bar = k == 0, .bar_on_ratio = true, .at_least = 1,
                        .runs = c->runs, .note = k == c->best ? "the best of them" : NULL));
}

void bench_alloc(void)
{
    static const char *const names[] = {"pair32", "pair64", "batch64"};
    for (int i = 0; i < 3; i++) {
        struct compared c = compare(names[i], runs_or(5), 1, false);
        emit_all(names[i], "ns", &c, false);
    }
}

void bench_larson(void)
{
    struct compared c = compare("larson", runs_or(5), 1, true);
    emit_all("operations_per_cpu_s", "M", &c, true);
}

void bench_xmalloc(void)
{
    struct compared c = compare("xmalloc", runs_or(5), 1, true);
    emit_all("frees_per_cpu_s", "M", &c, true);
}

void bench_random(void)
{
    struct compared c = compare("random_32k", runs_or(5), 1, false);
    emit_all("16_to_32k_10000_live", "ns", &c, false);
    c = compare("random_1k", runs_or(5), 1, false);
    emit_all("16_to_1k_10000_live", "ns", &c, false);
}

/* The kernel's work for fresh pages is most of it, whoever asks: a tenth is no difference. */
void bench_grow(void)
{
    static const char *const names[] = {"grow_halves", "grow_steps"};
    for (int i = 0; i < 2; i++) {
        struct compared c = compare(names[i], runs_or(5), 1, false);
        for (int k = 0; k < RIVALS; k++)
            if (!isnan(c.value[k]))
                emit(FIGURE(.name = names[i], .unit = "ms", .value = c.fen, .rival = rivals[k].name,
                            .rival_value = c.value[k], .ratio = c.ratio[k], .bar = k == 0,
                            .bar_on_ratio = true, .at_least = 1.1, .runs = c.runs,
                            .note = k == c.best ? "the best of them" : NULL));
    }
}

void bench_prodcons(void)
{
    struct compared c = compare("prodcons", runs_or(5), 1, false);
    for (int k = 0; k < RIVALS; k++)
        if (!isnan(c.value[k]))
            emit(FIGURE(.name = "message_of_128_bytes", .unit = "ns", .value = c.fen,
                        .rival = rivals[k].name, .rival_value = c.value[k], .ratio = c.ratio[k],
                        .bar = k == c.best, .at_least = fmax(26, c.value[k]), .aim = 12,
                        .runs = c.runs, .note = k == c.best ? "the best of them" : NULL));
}

void bench_rss(void)
{
    struct compared c = compare("rss", runs_or(1), bench_seconds > 0 ? bench_seconds : 30, false);
    for (int k = 0; k < RIVALS; k++)
        if (!isnan(c.value[k]))
            emit(FIGURE(.name = "resident_over_live", .unit = "x", .value = c.fen,
                        .rival = rivals[k].name, .rival_value = c.value[k], .ratio = c.ratio[k],
                        .bar = k == 0, .at_least = 1.3, .aim = 1.15, .runs = c.runs));
}

/* Nothing to compare with: the others do not tell how long their locks are waited for. */
void bench_central(void)
{
    double v[BENCH_RUNS_MAX];
    int runs = runs_or(5);
    for (int k = 0; k < runs; k++)
        v[k] = one_run("central", "fen", NULL, 1);
    emit(FIGURE(.name = "lock_wait", .unit = "%", .value = median(v, runs), .bar = true,
                .at_least = 1, .aim = 0.1, .runs = runs));
}

/* What an account costs, in a fiber; the unbilled process has never heard of one. */
void bench_billed(void)
{
    static const char *const names[] = {"pair64", "random_1k"};
    for (int i = 0; i < 2; i++) {
        double with[BENCH_RUNS_MAX], without[BENCH_RUNS_MAX], more[BENCH_RUNS_MAX];
        int runs = runs_or(7);
        for (int k = 0; k < runs; k++) {
            without[k] = one_run(names[i], "unbilled", NULL, 1);
            with[k] = one_run(names[i], "billed", NULL, 1);
            more[k] = with[k] - without[k];
        }
        double w = median(with, runs), o = median(without, runs);
        emit(FIGURE(.name = names[i], .unit = "ns", .value = w, .rival = "unbilled",
                    .rival_value = o, .ratio = w / o, .runs = runs));
        emit(FIGURE(.name = i ? "random_more" : "pair_more", .unit = "ns",
                    .value = median(more, runs), .bar = i == 0, .at_least = 3, .aim = 1,
                    .runs = runs));
    }
}

/* What the heap profile costs at its usual rate; runs with it and without take turns. The last two
 * are its worst: large blocks of which nothing is used, one in thirty of them noted. */
void bench_profiled(void)
{
    static const struct {
        const char *load, *figure;
        bool more_is_better;
    } f[] = {{"pair64", "pair64", false},
             {"batch64", "batch64", false},
             {"random_1k", "16_to_1k_10000_live", false},
             {"larson", "larson", true},
             {"random_32k", "16_to_32k_10000_live", false}};
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        double with[BENCH_RUNS_MAX], without[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX];
        int runs = runs_or(7);
        for (int k = 0; k < runs; k++) {
            bool first = k % 2;
            if (first)
                with[k] = one_run(f[i].load, "profiled", NULL, 1);
            without[k] = one_run(f[i].load, "fen", NULL, 1);
            if (!first)
                with[k] = one_run(f[i].load, "profiled", NULL, 1);
            ratio[k] = with[k] / without[k];
        }
        emit(FIGURE(.name = f[i].figure, .unit = f[i].more_is_better ? "M" : "ns",
                    .more_is_better = f[i].more_is_better, .value = median(with, runs),
                    .rival = "not profiled", .rival_value = median(without, runs),
                    .ratio = median(ratio, runs), .runs = runs));
    }
}
