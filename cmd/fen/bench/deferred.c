/* deferred.c - defer-service: does it matter to a service how its handlers clean up?
 *
 * One server whose handler takes five blocks, answers, and gives them back: by hand, by a record
 * each, or by one batch for all. 10,000 connections ask at a fixed rate (open loop). Time is cut
 * into windows of half a second, and each window belongs to a mode: server and load tell which from
 * the same clock. Three windows make a round, each with another order; figures are compared within
 * it, so what disturbs the machine for longer than a second meets all alike. What was due within
 * EDGE_NS of a border is not counted. Server and load have half of the cores each.
 *
 * What the clean-ups cost is measured apart, in a loop, and given as a share of the CPU that a
 * request takes; where perf is installed, a profile of each mode is kept beside the program. */
#include "bench/bench.h"

#include "load/load.h"
#include "prove/prove.h"

#include <errno.h>
#include <fen/fen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CONNS 10000
#define RATE 10000
#define WARM_NS (3 * FEN_S)
#define WINDOW_NS (500 * FEN_MS)
#define EDGE_NS (20 * FEN_MS)
#define PROFILE_NS (4 * FEN_S)
#define BLOCKS 5

enum mode { BY_HAND, RECORDS, BATCH, MODES };

/* Shared by this process, the server and the load. */
static struct turns {
    int64_t from_ns; /* where the first window begins; FEN_NEVER: mode `fixed` */
    enum mode fixed;
} * turns;

static int64_t window_at(int64_t ns) { return (ns - turns->from_ns) / WINDOW_NS; }

static enum mode mode_of(int64_t window)
{
    return (enum mode)((window % MODES + window / MODES) % MODES);
}

static enum mode mode_at(int64_t ns)
{
    return ns < turns->from_ns ? turns->fixed : mode_of(window_at(ns));
}

static const char *const names[MODES] = {"manual", "record", "batch"};

static const size_t sizes[BLOCKS] = {64, 192, 512, 1024, 4096};

/* What a handler holds; the scope's forms need their memory until the scope has closed. */
struct held {
    void *block[BLOCKS];
    fen_defer_record record[BLOCKS];
    fen_defer_batch batch;
};

static int take(struct held *h, int i)
{
    char *p = fen_alloc(sizes[i]);
    if (!p)
        return -ENOMEM;
    *p = 1;
    h->block[i] = p;
    return 0;
}

/* The five blocks, and what gives them back when s closes; BY_HAND: the caller does. */
static int take_all(enum mode mode, struct held *h, fen_scope *s)
{
    for (int i = 0; i < BLOCKS; i++) {
        if (take(h, i)) {
            for (; mode != RECORDS && i > 0; i--)
                fen_free(h->block[i - 1]);
            return -ENOMEM;
        }
        if (mode == RECORDS)
            fen_defer(s, &h->record[i], fen_free, h->block[i]);
    }
    if (mode == BATCH)
        fen_defer_many(s, &h->batch, fen_free, h->block, BLOCKS);
    return 0;
}

static void give_back(struct held *h)
{
    for (int i = BLOCKS; i-- > 0;)
        fen_free(h->block[i]);
}

/* ---- the service ---- */

static int handle(fen_exchange *x, void *arg)
{
    (void)arg;
    enum mode mode = mode_at(fen_now());
    struct held *h = fen_arena_alloc(fen_exchange_arena(x), sizeof *h);
    int rc = h ? take_all(mode, h, fen_scope_current()) : -ENOMEM;
    if (rc)
        return rc;
    rc = fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
    if (mode == BY_HAND)
        give_back(h);
    return rc;
}

static int serve(void *arg)
{
    (void)arg;
    fen_server *s = fen_server_new(NULL);
    if (!s || fen_route(s, "GET /five", handle, NULL))
        return -ENOMEM;
    int rc = fen_server_run(
        s, &(fen_service_config){.addr = "127.0.0.1:0", .admin_addr = "", .quiet = true});
    fen_server_free(s);
    return rc;
}

static int serve_main(void *arg) { return fen_run(serve, arg, NULL); }

/* ---- the clean-ups alone ---- */

#define LOOPS 400000

/* ns a round of scope, blocks and clean-ups. */
static double loop(enum mode mode)
{
    static struct held h;
    int64_t from = fen_now();
    for (int i = 0; i < LOOPS; i++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        if (!s || take_all(mode, &h, s))
            return NAN;
        if (mode == BY_HAND)
            give_back(&h);
        if (fen_scope_close(s))
            return NAN;
    }
    return (double)(fen_now() - from) / LOOPS;
}

static double hand_round(void) { return loop(BY_HAND); }
static double record_round(void) { return loop(RECORDS); }
static double batch_round(void) { return loop(BATCH); }

/* ns that each mode takes beyond the frees themselves. */
static void alone(int runs, double ret[MODES])
{
    static double v[MODES][BENCH_RUNS_MAX];
    struct scenario s = {.procs = 1, .n = MODES, .round = {hand_round, record_round, batch_round}};
    for (int i = 0; i < runs; i++) {
        double out[2 * MODES];
        in_child(scenario_main, &s, out, 2 * MODES);
        for (int m = 0; m < MODES; m++)
            v[m][i] = out[2 * m] - out[0];
    }
    for (int m = 0; m < MODES; m++)
        ret[m] = median(v[m], runs);
}

/* ---- under load ---- */

enum { P50, P99, CPU, NUMBERS };
#define WINDOWS_MAX (MODES * BENCH_RUNS_MAX)

struct load_of {
    const struct child *server;
    const cpu_set_t *cpus;
    int64_t duration_ns;
    int windows; /* 0: none are kept */
};

/* What the load's thread keeps of each window: out[NUMBERS * window + ...]. */
static struct {
    double *out;
    int pid, windows, now; /* now: -1 before the first */
    int64_t cpu_ns;
    fen_hist latency;
} watch;

static void window_end(int next)
{
    int64_t cpu = proc_cpu_ns(watch.pid);
    if (watch.now >= 0) {
        double *v = watch.out + (ptrdiff_t)NUMBERS * watch.now;
        v[P50] = (double)fen_hist_quantile(&watch.latency, 0.5) / 1e6;
        v[P99] = (double)fen_hist_quantile(&watch.latency, 0.99) / 1e6;
        v[CPU] = (double)(cpu - watch.cpu_ns) / 1e3 / (RATE / (double)FEN_S * WINDOW_NS);
    }
    watch.now = next;
    watch.cpu_ns = cpu;
    fen_hist_init(&watch.latency);
}

static void answered(void *arg, int64_t intended_ns, int64_t now_ns)
{
    (void)arg;
    int64_t now = window_at(now_ns), in = (intended_ns - turns->from_ns) % WINDOW_NS;
    if (now_ns < turns->from_ns || watch.now >= watch.windows)
        return;
    if (now != watch.now)
        window_end((int)now);
    if (watch.now < watch.windows && in >= EDGE_NS && in < WINDOW_NS - EDGE_NS)
        fen_hist_record(&watch.latency, now_ns - intended_ns);
}

/* out: the windows' figures, then the errors; in a process of its own. */
static void load_child(void *arg, double *out)
{
    const struct load_of *l = arg;
    struct load_conf c;
    struct load_result r;
    char url[64];
    load_conf_init(&c);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/five", l->server->port);
    for (int i = 0; i < NUMBERS * l->windows + 1; i++)
        out[i] = NAN;
    if (load_conf_url(&c, "bench", url))
        return;
    c.connections = CONNS;
    c.rate = RATE;
    c.expect = 200;
    c.warmup_ns = WARM_NS;
    c.duration_ns = l->duration_ns;
    c.server_pid = l->server->pid;
    c.cpus = l->cpus;
    watch.out = out;
    watch.pid = l->server->pid;
    watch.windows = l->windows;
    watch.now = -1;
    if (l->windows) {
        c.answered = answered;
        turns->from_ns = fen_now() + WARM_NS + FEN_S / 2;
    }
    if (!load_run(&c, &r)) {
        out[NUMBERS * l->windows] = (double)(load_errors(&r) + r.unexpected);
        load_result_fini(&r);
    }
}

/* A profile of the server while it serves one mode; what could not be had is said on fd 2. */
static void profile(const struct child *c, enum mode mode, const cpu_set_t *client)
{
    char dir[PATH_MAX], command[3 * PATH_MAX];
    struct load_of l = {.server = c, .cpus = client, .duration_ns = PROFILE_NS};
    double errors;
    snprintf(dir, sizeof dir, "%s", self_path());
    *strrchr(dir, '/') = 0;
    snprintf(command, sizeof command, "%s/defer-service", dir);
    (void)mkdir(command, 0755);
    turns->from_ns = FEN_NEVER;
    turns->fixed = mode;
    snprintf(command, sizeof command,
             "perf record -q -F 999 -g -p %d -o '%s/defer-service/%s.perf' -- sleep %d >&2 2>&-",
             (int)c->pid, dir, names[mode], (int)((WARM_NS + PROFILE_NS) / FEN_S));
    FILE *perf = popen(command, "re");
    in_child(load_child, &l, &errors, 1);
    if (!perf || pclose(perf)) {
        fprintf(stderr, "skipped: no profile of %s: perf is not installed, or may not\n",
                names[mode]);
        return;
    }
    fprintf(stderr, "profile: %s/defer-service/%s.perf\n", dir, names[mode]);
}

/* ---- figures ---- */

/* The interval of a median, by the signs: 95 %. */
static void emit_interval(enum mode mode, double *sorted, int n)
{
    char low[48], high[48];
    int rank = (int)((n - 1.96 * sqrt(n)) / 2);
    rank = rank < 0 ? 0 : rank;
    snprintf(low, sizeof low, "%s_p99_over_manual_low", names[mode]);
    snprintf(high, sizeof high, "%s_p99_over_manual_high", names[mode]);
    emit(FIGURE(.name = low, .unit = "x", .value = sorted[rank], .runs = n,
                .note = "lower end of the 95 % interval of the median over rounds"));
    emit(FIGURE(.name = high, .unit = "x", .value = sorted[n - 1 - rank], .runs = n,
                .note = "its upper end"));
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The mean of the lower half: a stall of the machine falls on any mode's window and only adds. */
static double quiet_half(const double *v, int n)
{
    double sorted[BENCH_RUNS_MAX], sum = 0;
    int half = (n + 1) / 2;
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    for (int i = 0; i < half; i++)
        sum += sorted[i];
    return sum / half;
}

static double got[MODES][NUMBERS][BENCH_RUNS_MAX];

static void emit_mode(enum mode mode, int runs, double alone_ns)
{
    static const char *const shown[NUMBERS] = {"p50", "p99", "cpu"};
    double ratio[BENCH_RUNS_MAX], mid[NUMBERS];
    char name[48];
    for (int i = 0; i < runs; i++)
        ratio[i] = got[mode][P99][i] / got[BY_HAND][P99][i];
    double hand_p99 = quiet_half(got[BY_HAND][P99], runs);
    double times = quiet_half(got[mode][P99], runs) / hand_p99;
    for (int k = 0; k < NUMBERS; k++) {
        double v[BENCH_RUNS_MAX];
        bool bar = k == P99 && mode != BY_HAND;
        memcpy(v, got[mode][k], sizeof v);
        mid[k] = k == P99 ? quiet_half(v, runs) : median(v, runs);
        snprintf(name, sizeof name, "%s_%s", names[mode], shown[k]);
        emit(FIGURE(.name = name, .unit = k == CPU ? "us" : "ms", .value = mid[k],
                    .rival = bar ? "by hand" : NULL, .rival_value = hand_p99,
                    .ratio = bar ? times : NAN, .bar = bar, .bar_on_ratio = true, .at_least = 1.05,
                    .runs = runs));
    }
    if (mode == BY_HAND)
        return;
    if (!isnan(median(ratio, runs))) /* which sorts */
        emit_interval(mode, ratio, runs);
    snprintf(name, sizeof name, "%s_of_5_alone", names[mode]);
    emit(FIGURE(.name = name, .unit = "ns", .value = alone_ns,
                .note = "beyond the same frees by hand"));
    snprintf(name, sizeof name, "%s_share_of_cpu", names[mode]);
    emit(FIGURE(.name = name, .unit = "%", .value = alone_ns / mid[CPU] / 10,
                .note = "that, of a request's CPU"));
}

void bench_defer_service(void)
{
    static double out[WINDOWS_MAX * NUMBERS + 1];
    cpu_set_t server, client;
    struct child c;
    double ns[MODES];
    int runs = runs_or(60);
    turns = mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (turns == MAP_FAILED)
        return;
    turns->from_ns = FEN_NEVER;
    raise_files();
    split_cpus(&server, &client);
    alone(5, ns);
    int windows = MODES * runs, numbers = NUMBERS * windows + 1;
    struct load_of l = {&c, &client, (windows + 2) * WINDOW_NS, windows};
    bool up = child_start(&c, NULL, serve_main, NULL, &server);
    if (!up || !in_child(load_child, &l, out, numbers))
        for (int i = 0; i < numbers; i++)
            out[i] = NAN;
    for (int w = 0; w < windows; w++)
        for (int k = 0; k < NUMBERS; k++)
            got[mode_of(w)][k][w / MODES] = out[NUMBERS * w + k];
    for (int m = 0; up && m < MODES; m++)
        profile(&c, (enum mode)m, &client);
    child_stop(&c);
    for (int m = 0; m < MODES; m++)
        emit_mode((enum mode)m, runs, ns[m]);
    emit(FIGURE(.name = "errors", .unit = "", .value = out[numbers - 1], .bar = true, .exact = true,
                .at_least = 0));
    munmap(turns, sizeof *turns);
}
