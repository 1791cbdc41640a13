/* pairs.c - fen and a rival in turn: fen, rival, fen, rival ... so a drift of the machine meets
 * both. The ratio is the median of the ratios of the pairs, not the ratio of the medians.
 *
 * Each side of a pair is a process of its own that warms up apart: its first round is reported as
 * such, the rounds after it give the figure. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one side ---- */

static double *scenario_out; /* in the child only */

static int scenario_run(void *arg)
{
    const struct scenario *s = arg;
    for (int k = 0; k < s->n; k++) {
        double later[ROUNDS - 1];
        scenario_out[2 * k + 1] = s->round[k]();
        for (int i = 0; i < ROUNDS - 1; i++)
            later[i] = s->round[k]();
        scenario_out[2 * k] = median(later, ROUNDS - 1);
    }
    return 0;
}

void scenario_main(void *scenario, double *out)
{
    const struct scenario *s = scenario;
    scenario_out = out;
    if (fen_run(scenario_run, scenario, &(fen_config){.procs = s->procs}))
        *out = NAN;
}

/* ---- Go ---- */

static char go_name[16]; /* "go1.26" */

static const char *go_absent(void)
{
    if (rival_path("go-micro"))
        return NULL;
    static const char *why;
    if (!why)
        why = system("command -v go >/dev/null 2>&1") ? "skipped: go not installed"
                                                      : "bench/rivals/go/build.sh was not run";
    return why;
}

/* {"go":"go1.26.8", ... "values":[1,2]} */
static void read_values(const char *page, double *out, int n)
{
    int major, minor;
    const char *at = strstr(page, "\"go\":\"go");
    if (at && sscanf(at + strlen("\"go\":\"go"), "%d.%d", &major, &minor) == 2)
        snprintf(go_name, sizeof go_name, "go%d.%d", major, minor);
    at = strstr(page, "\"values\":[");
    at = at ? at + strlen("\"values\":[") : NULL;
    for (int i = 0; at && i < n; i++) {
        char *end;
        double v = strtod(at, &end);
        if (end == at)
            return;
        out[i] = v;
        at = end + 1;
    }
}

static void go_round(const char *scenario, int procs, double *out, int n)
{
    char command[PATH_MAX + 128], page[1024];
    for (int i = 0; i < n; i++)
        out[i] = NAN;
    snprintf(command, sizeof command, "'%s' %s %d", rival_path("go-micro"), scenario, procs);
    FILE *f = popen(command, "re");
    size_t got = f ? fread(page, 1, sizeof page - 1, f) : 0;
    page[got] = 0;
    if (f && pclose(f) == 0)
        read_values(page, out, n);
}

/* ---- pairs ---- */

static void keep(double to[][BENCH_RUNS_MAX], int run, const double *out, int n)
{
    for (int k = 0; k < n; k++)
        to[k][run] = out[k];
}

void pairs_with_go(struct pairs *p, void (*fen)(void *arg, double *out), void *arg, int n,
                   const char *scenario, int procs, int runs)
{
    double out[PAIR_FIGURES];
    *p = (struct pairs){.runs = runs, .n = n, .absent = go_absent()};
    for (int i = 0; i < runs; i++) {
        in_child(fen, arg, out, n);
        keep(p->fen, i, out, n);
        for (int k = 0; k < n; k++)
            out[k] = NAN;
        if (!p->absent)
            go_round(scenario, procs, out, n);
        keep(p->other, i, out, n);
    }
    p->rival = p->absent ? NULL : go_name;
    if (!p->absent && isnan(p->other[0][0]))
        p->absent = "go-micro failed";
}

void pairs_with(struct pairs *p, void (*fen)(void *arg, double *out), const char *rival,
                void (*other)(void *arg, double *out), void *arg, int n, int runs)
{
    double out[PAIR_FIGURES];
    *p = (struct pairs){.runs = runs, .n = n, .rival = rival};
    for (int i = 0; i < runs; i++) {
        in_child(fen, arg, out, n);
        keep(p->fen, i, out, n);
        in_child(other, arg, out, n);
        keep(p->other, i, out, n);
    }
}

void pairs_emit(const struct pairs *p, int i, double scale, struct figure f)
{
    double fen[BENCH_RUNS_MAX], other[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX];
    for (int k = 0; k < p->runs; k++) {
        fen[k] = p->fen[i][k] * scale;
        other[k] = p->other[i][k] * scale;
        ratio[k] = fen[k] / other[k];
    }
    f.value = median(fen, p->runs);
    f.rival = p->rival;
    f.rival_value = median(other, p->runs);
    f.ratio = median(ratio, p->runs);
    f.runs = p->runs;
    if (!f.note)
        f.note = p->absent;
    emit(&f);
}

void pairs_emit_both(const struct pairs *p, int i, struct figure f)
{
    char name[80];
    pairs_emit(p, i, 1, f);
    snprintf(name, sizeof name, "%s_first", f.name);
    pairs_emit(p, i + 1, 1, (struct figure){.name = name, .unit = f.unit});
}
