/* c10k.c - c10k: 10,000 connections that are all at work, closed loop.
 *
 * Twice: a handler that does nothing, fen beside a thread for each connection; and one that asks a
 * back end of 20 ms, fen beside a pool of 200 threads. Each run has fresh servers, in turn, on half
 * of the cores; load and back end have the other half. A closed loop ties the figures together:
 * connections = requests/s x mean latency (Little), so a P99 far below connections / rate is
 * impossible; the deviation from it is printed.
 *
 * How evenly a server uses its cores is asked in runs of its own, in which it has all of them, as
 * the load does: the kernel's clock of each of its threads, core by core (perf_event_open, which
 * makes a switch of threads dearer; so none of the other figures comes from these runs). Balance is
 * what the core that worked least for it did, in percent of what the one did that worked most. */
#include "bench/bench.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONNS 10000
#define SECONDS 3
#define BALANCE_SECONDS 1

enum { QPS, P50, P99, P999, CPU, PERCENT, PEAK, LITTLE, ERRORS, BALANCE, NUMBERS };

/* ---- CPU by core ---- */

#define CLOCKS_MAX 8192

struct clocks {
    int n;
    struct {
        int fd, core;
    } of[CLOCKS_MAX];
};

/* The threads that tid will make are counted with it. */
static void clocks_add(struct clocks *c, int tid, int core)
{
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE,
                                .size = sizeof a,
                                .config = PERF_COUNT_SW_TASK_CLOCK,
                                .inherit = 1};
    if (c->n == CLOCKS_MAX)
        return;
    int fd = (int)syscall(SYS_perf_event_open, &a, tid, core, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return;
    c->of[c->n].fd = fd;
    c->of[c->n++].core = core;
}

static void clocks_open(struct clocks *c, pid_t pid, const cpu_set_t *cores)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    c->n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        for (int core = 0; atoi(e->d_name) > 0 && core < CPU_SETSIZE; core++)
            if (CPU_ISSET(core, cores))
                clocks_add(c, atoi(e->d_name), core);
    if (d)
        closedir(d);
}

/* Percent; NAN where the kernel does not let us count. */
static double clocks_close(struct clocks *c, const cpu_set_t *cores)
{
    static double ns[CPU_SETSIZE];
    double least = INFINITY, most = 0;
    memset(ns, 0, sizeof ns);
    for (int i = 0; i < c->n; i++) {
        uint64_t v = 0;
        if (read(c->of[i].fd, &v, sizeof v) == sizeof v)
            ns[c->of[i].core] += (double)v;
        close(c->of[i].fd);
    }
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, cores)) {
            least = fmin(least, ns[core]);
            most = fmax(most, ns[core]);
        }
    return most > 0 ? least * 100 / most : NAN;
}

/* ---- one server ---- */

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
        out[P999] = l.p999_ms;
        out[CPU] = l.cpu_us;
        out[PERCENT] = l.cpu_us * l.qps / 1e6 * 100 / CPU_COUNT(server);
        out[PEAK] = (double)child_peak_bytes(&c) / 1e6;
        out[LITTLE] = fabs(l.little_off);
        out[ERRORS] = l.errors;
    }
    child_stop(&c);
}

static double balance(const char *const *argv, const char *path)
{
    static struct clocks clocks;
    struct child c;
    struct load_figures l;
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    if (!argv[0] || !child_start(&c, argv, NULL, NULL, NULL))
        return NAN;
    clocks_open(&clocks, c.pid, &all);
    bool good = run_load(&c, path, CONNS, BALANCE_SECONDS, NULL, &l);
    double v = clocks_close(&clocks, &all);
    child_stop(&c);
    return good ? v : NAN;
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

static void balances(struct pairs *p, const char *const *fen, const char *const *other,
                     const char *path)
{
    for (int i = 0; i < p->runs; i++) {
        p->fen[BALANCE][i] = balance(fen, path);
        p->other[BALANCE][i] = balance(other, path);
    }
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

/* What both comparisons have; of a request, fen burns at most what the other does. */
static void common(const struct pairs *p, const char *const names[NUMBERS])
{
    pairs_emit(p, P50, 1, (struct figure){.name = names[P50], .unit = "ms"});
    pairs_emit(p, P999, 1, (struct figure){.name = names[P999], .unit = "ms"});
    against(p, CPU, names[CPU], "us", 1, 0);
    pairs_emit(p, PERCENT, 1,
               (struct figure){.name = names[PERCENT], .unit = "%", .note = "of its cores"});
    pairs_emit(p, BALANCE, 1,
               (struct figure){.name = names[BALANCE],
                               .unit = "%",
                               .more_is_better = true,
                               .note = isnan(p->fen[BALANCE][0])
                                           ? "the kernel does not count by core"
                                           : "the least used core to the most used one"});
    pairs_emit(p, LITTLE, 1, (struct figure){.name = names[LITTLE], .unit = "%"});
    pairs_emit(p, ERRORS, 1,
               (struct figure){
                   .name = names[ERRORS], .unit = "", .bar = true, .at_least = 0, .exact = true});
}

static void nothing_to_do(const char *db)
{
    static struct pairs p;
    const char *fen[] = {
        self_path(), "serve", "orders", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
        "--quiet",   db,      NULL};
    const char *threads[] = {beside("fen-baseline"), "--mode=pthread", "--addr=127.0.0.1:0", db,
                             NULL};
    static const char *const names[NUMBERS] = {[P50] = "trivial_p50",
                                               [P999] = "trivial_p999",
                                               [CPU] = "trivial_cpu_per_request",
                                               [PERCENT] = "trivial_cpu",
                                               [BALANCE] = "trivial_balance",
                                               [LITTLE] = "trivial_little_off",
                                               [ERRORS] = "trivial_errors"};
    p.runs = runs_or(5);
    p.rival = "pthread";
    in_turn(&p, fen, threads, "/");
    balances(&p, fen, threads, "/");
    against(&p, QPS, "trivial_requests", "1/s", 1, 1.78);
    against(&p, P99, "trivial_p99", "ms", 1, 0.33);
    pairs_emit(
        &p, PEAK, 1,
        (struct figure){.name = "trivial_peak_rss", .unit = "MB", .bar = true, .at_least = 40});
    common(&p, names);
}

/* Writes its address as the flag of those that ask it. */
static bool start_back_end(struct child *c, const cpu_set_t *cpus, char *flag, size_t bytes)
{
    const char *argv[] = {beside("fen-baseline"), "--mode=backend", "--addr=127.0.0.1:0",
                          "--delay=20ms", NULL};
    bool up = argv[0] && child_start(c, argv, NULL, NULL, cpus);
    snprintf(flag, bytes, "--backend=127.0.0.1:%d", up ? c->port : 1);
    return up;
}

static void back_end(const char *db)
{
    static struct pairs p;
    static const char path[] = "/quotes/{1..1000000}";
    static const char *const names[NUMBERS] = {[P50] = "backend_p50",
                                               [P999] = "backend_p999",
                                               [CPU] = "backend_cpu_per_request",
                                               [PERCENT] = "backend_cpu",
                                               [BALANCE] = "backend_balance",
                                               [LITTLE] = "backend_little_off",
                                               [ERRORS] = "backend_errors"};
    char at[48];
    cpu_set_t server, client;
    struct child c;
    const char *fen[] = {
        self_path(), "serve", "orders", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
        "--quiet",   db,      at,       "--backend-conns=1",       "--deadline=5s",
        NULL};
    const char *pool[] = {
        beside("fen-baseline"), "--mode=pool", "--threads=200", "--addr=127.0.0.1:0", db, at, NULL};
    p.runs = runs_or(5);
    p.rival = "pool200";
    split_cpus(&server, &client);
    bool up = start_back_end(&c, &client, at, sizeof at);
    in_turn(&p, fen, pool, path);
    if (up)
        child_stop(&c);
    up = start_back_end(&c, NULL, at, sizeof at);
    balances(&p, fen, pool, path);
    if (up)
        child_stop(&c);
    against(&p, QPS, "backend_requests", "1/s", 1.78, 0);
    against(&p, P99, "backend_p99", "ms", 0.33, 0);
    pairs_emit(&p, PEAK, 1, (struct figure){.name = "backend_peak_rss", .unit = "MB"});
    common(&p, names);
}

void bench_c10k(void)
{
    char db[160];
    const char *path = orders_db();
    snprintf(db, sizeof db, "--db=%s", path ? path : "");
    nothing_to_do(db);
    back_end(db);
}
