/* deferred.c - defer-service: does it matter to a service how its handlers clean up?
 *
 * One server, three routes that take five blocks, answer, and give them back: by hand, by a record
 * each, by one batch for all. 10,000 connections ask for one route at a time at a fixed rate (open
 * loop), the routes in turn, each round in another order; server and load have half of the cores
 * each. Figures are compared within a round. What the clean-ups cost is measured apart, in a loop,
 * and given as a share of the CPU that a request takes; where perf is installed, a profile of each
 * mode is kept beside the program. */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CONNS 10000
#define RATE 20000
#define SECONDS 2
#define BLOCKS 5

enum mode { BY_HAND, RECORDS, BATCH, MODES };
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

static int handle(fen_exchange *x, enum mode mode)
{
    struct held *h = fen_arena_alloc(fen_exchange_arena(x), sizeof *h);
    int rc = h ? take_all(mode, h, fen_scope_current()) : -ENOMEM;
    if (rc)
        return rc;
    rc = fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
    if (mode == BY_HAND)
        give_back(h);
    return rc;
}

static int by_hand(fen_exchange *x, void *arg) { return (void)arg, handle(x, BY_HAND); }
static int by_records(fen_exchange *x, void *arg) { return (void)arg, handle(x, RECORDS); }
static int by_batch(fen_exchange *x, void *arg) { return (void)arg, handle(x, BATCH); }

static int serve(void *arg)
{
    (void)arg;
    fen_server *s = fen_server_new(NULL);
    if (!s || fen_route(s, "GET /manual", by_hand, NULL) ||
        fen_route(s, "GET /record", by_records, NULL) || fen_route(s, "GET /batch", by_batch, NULL))
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

enum { P50, P99, CPU, QPS, ERRORS, NUMBERS };
static double got[MODES][NUMBERS][BENCH_RUNS_MAX];

static void ask(const struct child *c, enum mode mode, const cpu_set_t *client, int round)
{
    struct load_figures l;
    char path[32];
    double seconds = bench_seconds > 0 ? bench_seconds : SECONDS;
    snprintf(path, sizeof path, "/%s", names[mode]);
    bool good = run_load_open(c, path, RATE, CONNS, seconds, client, &l);
    const double v[NUMBERS] = {l.p50_ms, l.p99_ms, l.cpu_us, l.qps, l.errors};
    for (int k = 0; k < NUMBERS; k++)
        got[mode][k][round] = good ? v[k] : NAN;
}

/* A profile of the server while it serves one mode; what could not be had is said on fd 2. */
static void profile(const struct child *c, enum mode mode, const cpu_set_t *client)
{
    char dir[PATH_MAX], command[3 * PATH_MAX];
    snprintf(dir, sizeof dir, "%s", self_path());
    snprintf(strrchr(dir, '/'), 24, "/defer-service");
    (void)mkdir(dir, 0755);
    snprintf(command, sizeof command,
             "perf record -q -F 999 -g -p %d -o '%s/%s.perf' -- sleep 2 >&2 2>/dev/null",
             (int)c->pid, dir, names[mode]);
    FILE *perf = popen(command, "re");
    ask(c, mode, client, BENCH_RUNS_MAX - 1);
    if (!perf || pclose(perf)) {
        fprintf(stderr, "skipped: no profile of %s: perf is not installed, or may not\n",
                names[mode]);
        return;
    }
    snprintf(command, sizeof command,
             "perf report --stdio --no-children -g none --percent-limit 0.01 -i '%s/%s.perf' "
             "2>/dev/null >'%s/%s.txt'",
             dir, names[mode], dir, names[mode]);
    if (!system(command))
        fprintf(stderr, "profile: %s/%s.perf, .txt\n", dir, names[mode]);
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
                .note = "lower end of the 95 % interval of the median"));
    emit(FIGURE(.name = high, .unit = "x", .value = sorted[n - 1 - rank], .runs = n,
                .note = "its upper end"));
}

static void emit_mode(enum mode mode, int runs, double alone_ns)
{
    static const struct {
        const char *what, *unit;
    } shown[NUMBERS] = {{"p50", "ms"}, {"p99", "ms"}, {"cpu", "us"}, {"requests", "1/s"}, {"", ""}};
    double ratio[BENCH_RUNS_MAX], mid[NUMBERS], errors = 0;
    char name[48];
    for (int i = 0; i < runs; i++) {
        ratio[i] = got[mode][P99][i] / got[BY_HAND][P99][i];
        errors += got[mode][ERRORS][i];
    }
    double times = median(ratio, runs), hand[BENCH_RUNS_MAX];
    memcpy(hand, got[BY_HAND][P99], sizeof hand);
    double hand_p99 = median(hand, runs);
    for (int k = 0; k < ERRORS; k++) {
        double v[BENCH_RUNS_MAX];
        memcpy(v, got[mode][k], sizeof v);
        mid[k] = median(v, runs);
        snprintf(name, sizeof name, "%s_%s", names[mode], shown[k].what);
        bool bar = k == P99 && mode != BY_HAND;
        emit(FIGURE(.name = name, .unit = shown[k].unit, .more_is_better = k == QPS,
                    .value = mid[k], .rival = bar ? "by hand" : NULL, .rival_value = hand_p99,
                    .ratio = bar ? times : NAN, .bar = bar, .bar_on_ratio = true, .at_least = 1.05,
                    .runs = runs));
    }
    if (mode != BY_HAND && !isnan(times))
        emit_interval(mode, ratio, runs);
    snprintf(name, sizeof name, "%s_errors", names[mode]);
    emit(FIGURE(.name = name, .value = errors, .bar = true, .exact = true, .at_least = 0,
                .unit = "", .runs = runs));
    if (mode == BY_HAND)
        return;
    snprintf(name, sizeof name, "%s_of_5_alone", names[mode]);
    emit(FIGURE(.name = name, .unit = "ns", .value = alone_ns, .runs = runs,
                .note = "beyond the same frees by hand"));
    snprintf(name, sizeof name, "%s_share_of_cpu", names[mode]);
    emit(FIGURE(.name = name, .unit = "%", .value = alone_ns / mid[CPU] / 10, .runs = runs,
                .note = "that, of a request's CPU"));
}

void bench_defer_service(void)
{
    cpu_set_t server, client;
    struct child c;
    int runs = runs_or(15);
    double ns[MODES];
    runs = runs < BENCH_RUNS_MAX - 1 ? runs : BENCH_RUNS_MAX - 1; /* the last place: profiles */
    raise_files();
    split_cpus(&server, &client);
    alone(runs, ns);
    bool up = child_start(&c, NULL, serve_main, NULL, &server);
    for (int i = 0; i < runs; i++)
        for (int m = 0; m < MODES; m++) {
            enum mode mode = (enum mode)((m + i) % MODES);
            if (up)
                ask(&c, mode, &client, i);
            else
                got[mode][P50][i] = got[mode][P99][i] = got[mode][CPU][i] = got[mode][QPS][i] =
                    got[mode][ERRORS][i] = NAN;
        }
    for (int m = 0; up && m < MODES; m++)
        profile(&c, (enum mode)m, &client);
    child_stop(&c);
    for (int m = 0; m < MODES; m++)
        emit_mode((enum mode)m, runs, ns[m]);
}
