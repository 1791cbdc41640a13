/* c10k.c - c10k: 10,000 connections that are all at work, closed loop.
 *
 * Twice: a handler that does nothing, fen beside a thread for each connection; and one that asks a
 * back end of 20 ms, fen beside a pool of 200 threads. Each run has fresh servers, in turn, on half
 * of the cores; load and back end have the other half. A closed loop ties the figures together:
 * connections = requests/s x mean latency (Little), so a P99 far below connections / rate is
 * impossible; the deviation from it is printed. */
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

#define CONNS 10000
#define SECONDS 3

enum { QPS, P50, P99, CPU, PEAK, LITTLE, ERRORS, NUMBERS };

/* One server under load: started, measured, ended. */
static void measure(const char *const *argv, const char *path, const cpu_set_t *server,
                    const cpu_set_t *client, double *out)
{
    struct child c;
    struct load_figures l;
    for (int i = 0; i < NUMBERS; i++)
        out[i] = NAN;
    if (!argv[0] || !child_start(&c, argv, NULL, NULL, server))
        return;
    if (run_load(&c, path, CONNS, SECONDS, client, &l)) {
        out[QPS] = l.qps;
        out[P50] = l.p50_ms;
        out[P99] = l.p99_ms;
        out[CPU] = l.cpu_us;
        out[PEAK] = (double)child_peak_bytes(&c) / 1e6;
        out[LITTLE] = fabs(l.little_off);
        out[ERRORS] = l.errors;
    }
    child_stop(&c);
}

static void keep(double to[][BENCH_RUNS_MAX], int run, const double *out)
{
    for (int k = 0; k < NUMBERS; k++)
        to[k][run] = out[k];
}

static void in_turn(struct pairs *p, const char *const *fen, const char *const *other,
                    const char *path)
{
    cpu_set_t server, client;
    double out[NUMBERS];
    split_cpus(&server, &client);
    p->n = NUMBERS;
    for (int i = 0; i < p->runs; i++) {
        measure(fen, path, &server, &client, out);
        keep(p->fen, i, out);
        measure(other, path, &server, &client, out);
        keep(p->other, i, out);
    }
}

/* What both comparisons have, without a bar on the ratio. */
static void common(const struct pairs *p, const char *p50, const char *cpu, const char *little,
                   const char *errors)
{
    pairs_emit(p, P50, 1, (struct figure){.name = p50, .unit = "ms"});
    pairs_emit(p, CPU, 1, (struct figure){.name = cpu, .unit = "us"});
    pairs_emit(p, LITTLE, 1, (struct figure){.name = little, .unit = "%"});
    pairs_emit(
        p, ERRORS, 1,
        (struct figure){.name = errors, .unit = "", .bar = true, .at_least = 0, .exact = true});
}

static void against(const struct pairs *p, int figure, const char *name, const char *unit,
                    double at_least, double aim)
{
    pairs_emit(p, figure, 1,
               (struct figure){.name = name,
                               .unit = unit,
                               .more_is_better = figure == QPS,
                               .bar = true,
                               .at_least = at_least,
                               .aim = aim,
                               .bar_on_ratio = true});
}

static void nothing_to_do(const char *db)
{
    static struct pairs p;
    const char *fen[] = {
        self_path(), "serve", "orders", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
        "--quiet",   db,      NULL};
    const char *threads[] = {beside("fen-baseline"), "--mode=pthread", "--addr=127.0.0.1:0", db,
                             NULL};
    p.runs = runs_or(3);
    p.rival = "pthread";
    in_turn(&p, fen, threads, "/");
    against(&p, QPS, "trivial_requests", "1/s", 1, 1.78);
    against(&p, P99, "trivial_p99", "ms", 1, 0.33);
    pairs_emit(
        &p, PEAK, 1,
        (struct figure){.name = "trivial_peak_rss", .unit = "MB", .bar = true, .at_least = 40});
    common(&p, "trivial_p50", "trivial_cpu_per_request", "trivial_little_off", "trivial_errors");
}

static void back_end(const char *db)
{
    static struct pairs p;
    char at[48];
    cpu_set_t server, client;
    struct child c;
    const char *backend[] = {beside("fen-baseline"), "--mode=backend", "--addr=127.0.0.1:0",
                             "--delay=20ms", NULL};
    split_cpus(&server, &client);
    bool up = backend[0] && child_start(&c, backend, NULL, NULL, &client);
    snprintf(at, sizeof at, "--backend=127.0.0.1:%d", up ? c.port : 1);
    const char *fen[] = {
        self_path(), "serve", "orders", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
        "--quiet",   db,      at,       "--backend-conns=1",       "--deadline=5s",
        NULL};
    const char *pool[] = {
        beside("fen-baseline"), "--mode=pool", "--threads=200", "--addr=127.0.0.1:0", db, at, NULL};
    p.runs = runs_or(3);
    p.rival = "pool200";
    in_turn(&p, fen, pool, "/quotes/{1..1000000}");
    if (up)
        child_stop(&c);
    against(&p, QPS, "backend_requests", "1/s", 1.78, 0);
    against(&p, P99, "backend_p99", "ms", 0.33, 0);
    pairs_emit(&p, PEAK, 1, (struct figure){.name = "backend_peak_rss", .unit = "MB"});
    common(&p, "backend_p50", "backend_cpu_per_request", "backend_little_off", "backend_errors");
}

void bench_c10k(void)
{
    char db[160];
    const char *path = orders_db();
    snprintf(db, sizeof db, "--db=%s", path ? path : "");
    nothing_to_do(db);
    back_end(db);
}
