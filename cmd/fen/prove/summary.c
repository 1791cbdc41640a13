/* summary.c - medians over runs, ratios, bars, instances: every judgement the report prints. */
#include "prove.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HELPERS_FULL 0.85
#define BUSY 0.5 /* load average for each core */

const struct metric_info metric_info[METRICS] = {
    [M_QPS] = {"qps", "requests/s", "/s", 0},
    [M_MEAN] = {"mean_ms", "mean", "ms", 2},
    [M_P50] = {"p50_ms", "P50", "ms", 2},
    [M_P90] = {"p90_ms", "P90", "ms", 2},
    [M_P99] = {"p99_ms", "P99", "ms", 2},
    [M_P999] = {"p999_ms", "P99.9", "ms", 2},
    [M_CPU] = {"cpu_us", "CPU/request", "us", 2},
    [M_CORES] = {"cores", "cores used", "", 2},
    [M_RSS_REST] = {"rss_rest_mb", "RSS at rest", "MB", 1},
    [M_RSS] = {"rss_mb", "RSS", "MB", 1},
    [M_RSS_PEAK] = {"rss_peak_mb", "RSS peak", "MB", 1},
    [M_THREADS] = {"threads", "threads", "", 0},
    [M_SWITCHES] = {"switches", "switches/request", "", 2},
    [M_LITTLE] = {"little_percent", "Little's law off", "%", 2},
    [M_USE] = {"yuan_use", "yuan/M by use", "", 6},
    [M_NODE] = {"yuan_node", "yuan/M by node", "", 6},
};

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The lower of the two middle ones when their number is even: a value that was measured. */
void summarise(struct cell *c)
{
    double v[RUNS_MAX];
    c->good = 0;
    for (int m = 0; m < METRICS; m++) {
        int n = 0;
        for (int i = 0; i < c->runs; i++)
            if (!*c->run[i].why)
                v[n++] = c->run[i].v[m];
        if (!n)
            return;
        qsort(v, (size_t)n, sizeof v[0], rising);
        c->low[m] = v[0];
        c->high[m] = v[n - 1];
        c->median[m] = v[(n - 1) / 2];
        c->good = n;
    }
    for (int i = 0; i < c->runs; i++)
        if (!*c->run[i].why && c->run[i].v[M_QPS] == c->median[M_QPS])
            c->typical = i;
}

const struct cell *cell_of(const struct proof *f, enum workload_id w, const char *rival)
{
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &f->cell[w][i];
        if (c->good && !strcmp(c->rival->name, rival))
            return c;
    }
    return NULL;
}

double ratio(const struct cell *product, const struct cell *baseline, enum metric m)
{
    if (!product || !baseline || !product->good || !baseline->good || baseline->median[m] <= 0)
        return 0;
    return product->median[m] / baseline->median[m];
}

static bool reaches(const struct bar *b, double x)
{
    return x > 0 && (b->at_least ? x >= b->want : x <= b->want);
}

/* A floor that is behind fen was disturbed: it bounds nothing and excuses nothing. */
static bool floor_holds(const struct bar *b)
{
    return b->floor > 0 && (b->at_least ? b->floor >= b->got : b->floor <= b->got);
}

/* The floor bounds throughput, and what follows from it alone (yuan by node). Its latency is no
 * bound: a server may treat its clients more evenly. */
static void judge(const struct proof *f, struct bar *b)
{
    const struct cell *floor = cell_of(f, b->workload, FLOOR),
                      *other = cell_of(f, b->workload, b->rival);
    b->got = ratio(cell_of(f, b->workload, "fen"), other, b->metric);
    b->floor = b->metric == M_QPS || b->metric == M_NODE ? ratio(floor, other, b->metric) : 0;
    b->floor_load_full = b->floor > 0 && helpers_full(floor);
    if (b->got <= 0)
        b->verdict = BAR_ABSENT;
    else if (reaches(b, b->got))
        b->verdict = BAR_MET;
    else
        b->verdict = floor_holds(b) && !reaches(b, b->floor) ? BAR_OUT_OF_REACH : BAR_MISSED;
}

const char *way_to_backend(const struct rival *r)
{
    if (r->kind == RIVAL_FEN)
        return "pipelined, one connection a core";
    return r->backend_conns ? "pipelined, one connection" : "a connection for each thread";
}

const char *bar_word(const struct bar *b)
{
    static const char *const words[] = {"absent", "met", "MISSED", "out of reach"};
    return words[b->verdict];
}

void bar_note(const struct bar *b, char *ret, size_t bytes)
{
    *ret = 0;
    if (b->floor <= 0 || b->verdict == BAR_ABSENT || b->verdict == BAR_MET)
        return;
    snprintf(ret, bytes, "the floor reaches %.2f on this machine%s", b->floor,
             !floor_holds(b)      ? ", less than fen: disturbed, it judges nothing"
             : b->floor_load_full ? " (there the load side is the limit)"
                                  : "");
}

int bars(const struct proof *f, struct bar *ret, int max)
{
    static const struct {
        enum workload_id w;
        const char *rival;
        enum metric m;
        bool at_least;
        double want;
        const char *text;
    } table[] = {
        {W_SLOW, "pool200", M_QPS, true, 5, "slow back end: requests/s of pool200, times"},
        {W_SLOW, "pthread", M_QPS, true, 1.5, "slow back end: requests/s of pthread, times"},
        {W_SLOW, "pool200", M_NODE, false, 0.58, "slow back end: yuan by node, share of pool200"},
        {W_SLOW, "pool200", M_P99, false, 0.33, "slow back end: P99, share of pool200"},
        {W_ORDERS, "pool200", M_QPS, true, 2.68, "orders: requests/s of pool200, times"},
        {W_ORDERS, "pool200", M_P99, false, 0.19, "orders: P99, share of pool200"},
        {W_ORDERS, "go", M_CPU, false, 1, "orders: CPU a request, share of go"},
    };
    int n = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0] && n < max; i++) {
        if (!cell_of(f, table[i].w, table[i].rival))
            continue;
        ret[n] = (struct bar){.text = table[i].text,
                              .rival = table[i].rival,
                              .workload = table[i].w,
                              .metric = table[i].m,
                              .want = table[i].want,
                              .at_least = table[i].at_least};
        judge(f, &ret[n++]);
    }
    return n;
}

bool machine_busy(const struct plan *p) { return p->busy > BUSY * CPU_COUNT(&p->all); }

int64_t instances(const struct plan *p, const struct cell *c)
{
    if (!c || !c->good || c->median[M_QPS] <= 0)
        return 0;
    return (int64_t)ceil((double)p->target_qps / c->median[M_QPS]);
}

bool helpers_full(const struct cell *c)
{
    const struct run *r = &c->run[c->typical];
    return r->helper_share > HELPERS_FULL || r->generator_share > HELPERS_FULL;
}

void headline(const struct proof *f, char *ret, size_t bytes)
{
    const struct cell *fen = cell_of(f, W_SLOW, "fen");
    const struct cell *other = fen ? cell_of(f, W_SLOW, f->plan.rival[1].name) : NULL;
    if (!other) {
        snprintf(ret, bytes, "No comparison: see the failed runs below.");
        return;
    }
    double qps = ratio(fen, other, M_QPS), money = ratio(fen, other, M_NODE);
    const struct cell *a = cell_of(f, W_ORDERS, "fen"),
                      *b = cell_of(f, W_ORDERS, f->plan.rival[1].name);
    int n = snprintf(ret, bytes,
                     "Behind a 20 ms back end fen serves %.2f times the requests of %s on the same "
                     "cores; a million requests cost %.0f %% %s (by node).",
                     qps, other->rival->name, fabs(1 - money) * 100, money < 1 ? "less" : "more");
    if (a && b && n > 0 && (size_t)n < bytes)
        snprintf(ret + n, bytes - (size_t)n,
                 " Where nothing waits (orders from SQLite): %.2f times the requests at %.2f times "
                 "the CPU each.",
                 ratio(a, b, M_QPS), ratio(a, b, M_CPU));
}

void verdicts(const struct proof *f, verdict_fn *fn, void *arg)
{
    static const struct {
        enum metric m;
        bool more_is_better;
    } judged[] = {{M_QPS, true},  {M_P99, false}, {M_P999, false},
                  {M_CPU, false}, {M_RSS, false}, {M_USE, false}};
    for (int w = W_ORDERS; w <= W_SLOW_FEW; w++) {
        const struct cell *fen = cell_of(f, (enum workload_id)w, "fen");
        for (int i = 1; fen && i < RIVALS_MAX; i++) {
            const struct cell *c = &f->cell[w][i];
            if (c->good && c->rival->kind == RIVAL_EPOLL)
                continue;
            for (size_t k = 0; c->good && k < sizeof judged / sizeof judged[0]; k++) {
                double x = ratio(fen, c, judged[k].m);
                if (x > 0)
                    fn(arg, (enum workload_id)w, fen, c, judged[k].m,
                       judged[k].more_is_better ? x >= 1 : x <= 1, x);
            }
        }
    }
}
