/* netpoll.c - netpoll, blocked: what the poller costs a server, and what blocking calls do to one.
 *
 * netpoll: the order service, on half of the cores, under 100 connections. strace counts the calls
 * to epoll and nothing else (a filter in the kernel lets the other system calls run at full speed);
 * what it counts includes the start and each connection's registration, so a registration a request
 * would show as 1. Then requests a second at 100 and at 10,000 connections, without strace, and the
 * same for a thread per connection.
 *
 * blocked: a trivial handler on two Ps in an open loop, alone and beside 64 fibers that are always
 * in a call of 100 ms: on the pool of threads (fen_blocking), in a declared section, the calls
 * spread over the 100 ms or all beginning and ending at once, and undeclared. The rival of the
 * sections is the floor: 64 threads of the same process that block as long and know of no runtime.
 * A server a measurement, kinds in turn. A fiber that blocks undeclared must be
 * named in the log: how long after it began. */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ORDER_PATH "/orders/{1..100000}"

/* ---- netpoll ---- */

/* Calls in a summary of strace -c whose names begin so. */
static double calls_in(const char *path, const char *name)
{
    char line[256];
    double calls = 0;
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        double share, seconds, each;
        long n;
        if (strstr(line, name) && sscanf(line, "%lf %lf %lf %ld", &share, &seconds, &each, &n) == 4)
            calls += (double)n;
    }
    if (f)
        fclose(f);
    return calls;
}

/* The traced server ends before its tracer, which writes then. */
static bool await_summary(const char *path)
{
    for (int i = 0; i < 300; i++) {
        if (calls_in(path, "epoll_wait") > 0)
            return true;
        usleep(10000);
    }
    return false;
}

static const char *strace_path(void)
{
    static const char *const places[] = {"/usr/bin/strace", "/usr/local/bin/strace", "/bin/strace"};
    for (int i = 0; i < 3; i++)
        if (!access(places[i], X_OK))
            return places[i];
    return NULL;
}

/* out: waits and registrations, each a request. */
static bool traced(const char *db, const cpu_set_t *server, const cpu_set_t *client, double out[2])
{
    char path[] = "/tmp/fen-bench-strace-XXXXXX";
    int fd = mkstemp(path);
    struct child c;
    struct load_figures l = {.requests = 0};
    if (fd < 0)
        return false;
    close(fd);
    const char *argv[] = {strace_path(),
                          "-D", /* the server is the child, strace its companion */
                          "-f",
                          "--seccomp-bpf",
                          "-c",
                          "-qq",
                          "-o",
                          path,
                          "-e",
                          "trace=epoll_wait,epoll_pwait,epoll_pwait2,epoll_ctl",
                          self_path(),
                          "serve",
                          "orders",
                          "--http-addr=127.0.0.1:0",
                          "--admin-addr=127.0.0.1:0",
                          "--quiet",
                          db,
                          NULL};
    bool good = argv[0] && child_start(&c, argv, NULL, NULL, server);
    if (good) {
        good = run_load(&c, ORDER_PATH, 100, 3, client, &l) && l.requests > 0;
        child_stop(&c);
        good = await_summary(path) && good;
    }
    double asked = l.requests * 3.5 / 3; /* the half second of warm-up is not in requests */
    out[0] = (calls_in(path, "epoll_wait") + calls_in(path, "epoll_pwait")) / asked;
    out[1] = calls_in(path, "epoll_ctl") / asked;
    unlink(path);
    return good;
}

static double rate_at(const char *const *argv, int connections, const cpu_set_t *server,
                      const cpu_set_t *client)
{
    struct child c;
    struct load_figures l = {.qps = NAN};
    if (!argv[0] || !child_start(&c, argv, NULL, NULL, server))
        return NAN;
    if (!run_load(&c, ORDER_PATH, connections, 3, client, &l) || l.errors > 0)
        l.qps = NAN;
    child_stop(&c);
    return l.qps;
}

enum { FEN_100, FEN_10000, THREADS_100, THREADS_10000, RATES };

static void rates(const char *db, const cpu_set_t *server, const cpu_set_t *client)
{
    static double v[RATES][BENCH_RUNS_MAX];
    double fen_kept[BENCH_RUNS_MAX], kept[BENCH_RUNS_MAX];
    const char *fen[] = {
        self_path(), "serve", "orders", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0",
        "--quiet",   db,      NULL};
    const char *threads[] = {beside("fen-baseline"), "--mode=pthread", "--addr=127.0.0.1:0", db,
                             NULL};
    int runs = runs_or(3);
    for (int i = 0; i < runs; i++) {
        for (int k = 0; k < RATES; k++)
            v[k][i] = rate_at(k < THREADS_100 ? fen : threads, k % 2 ? 10000 : 100, server, client);
        fen_kept[i] = v[FEN_10000][i] / v[FEN_100][i] * 100;
        kept[i] = v[THREADS_10000][i] / v[THREADS_100][i] * 100;
    }
    struct figure f = {.unit = "1/s", .more_is_better = true, .runs = runs, .rival = "pthread"};
    f.name = "requests_100";
    f.value = median(v[FEN_100], runs);
    f.rival_value = median(v[THREADS_100], runs);
    emit(&f);
    f.name = "requests_10000";
    f.value = median(v[FEN_10000], runs);
    f.rival_value = median(v[THREADS_10000], runs);
    emit(&f);
    emit(FIGURE(.name = "kept_at_10000", .unit = "%", .more_is_better = true,
                .value = median(fen_kept, runs), .runs = runs, .rival = "pthread",
                .rival_value = median(kept, runs), .bar = true, .at_least = 80));
}

void bench_netpoll(void)
{
    char db[160];
    cpu_set_t server, client;
    double calls[2];
    const char *path = orders_db(), *why = NULL;
    split_cpus(&server, &client);
    snprintf(db, sizeof db, "--db=%s", path ? path : "");
    if (!traced(db, &server, &client, calls)) {
        calls[0] = calls[1] = NAN;
        why = strace_path() ? "strace did not work" : "no strace";
    }
    emit(FIGURE(.name = "epoll_wait_per_request", .unit = "calls", .value = calls[0], .bar = true,
                .at_least = 0.25, .note = why));
    emit(FIGURE(.name = "epoll_ctl_per_request", .unit = "calls", .value = calls[1], .bar = true,
                .at_least = 0.01, .note = why ? why : "the start and 100 connections"));
    rates(db, &server, &client);
}

/* ---- blocked ---- */

#define BLOCKERS 64
#define CALL_NS (100 * FEN_MS)
#define RATE 3000
#define ASKERS 20
#define NAMINGS 5 /* the log is told at most once a second */
#define OTHERS 4

enum kind { ALONE, POOLED, DECLARED, AT_ONCE, UNDECLARED, THREADS, THREADS_AT_ONCE, KINDS };

static int nap(void *ns)
{
    struct timespec t = {0, *(const int64_t *)ns};
    nanosleep(&t, NULL);
    return 0;
}

static int64_t call_ns = CALL_NS;
static enum kind company;
static atomic_int order; /* in which the blockers began */

static void block_once(void)
{
    switch (company) {
    case POOLED: (void)!fen_blocking(nap, &call_ns); break;
    case DECLARED:
    case AT_ONCE:
        fen_blocking_begin();
        nap(&call_ns);
        fen_blocking_end();
        break;
    default: nap(&call_ns); fen_yield();
    }
}

static void block(void *arg)
{
    (void)arg;
    if (company != AT_ONCE)
        fen_sleep(CALL_NS / BLOCKERS * atomic_fetch_add(&order, 1));
    while (fen_scope_check(NULL) == 0) /* until the server has drained */
        block_once();
}

/* ---- the floor ---- */

static pthread_t threads[BLOCKERS];
static int nthreads;
static atomic_bool threads_stop;

static void *block_a_thread(void *number)
{
    int64_t first = company == THREADS ? CALL_NS / BLOCKERS * (int64_t)(intptr_t)number : 0;
    nap(&first);
    while (!atomic_load(&threads_stop))
        nap(&call_ns);
    return NULL;
}

static int start_threads(void)
{
    int rc = 0;
    while (nthreads < BLOCKERS && !rc) {
        rc = -pthread_create(&threads[nthreads], NULL, block_a_thread, (void *)(intptr_t)nthreads);
        nthreads += !rc;
    }
    return rc;
}

static void stop_threads(void)
{
    atomic_store(&threads_stop, true);
    while (nthreads > 0)
        pthread_join(threads[--nthreads], NULL);
}

/* ---- the server ---- */

static int say_ok(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

static int blocked_serve(void *kind)
{
    company = *(const enum kind *)kind;
    fen_server *s = fen_server_new(NULL);
    fen_scope *crowd = fen_scope_open(FEN_NEVER);
    int rc = s && crowd ? fen_route(s, "GET /", say_ok, NULL) : -ENOMEM;
    bool beside_threads = company == THREADS || company == THREADS_AT_ONCE;
    for (int i = 0; i < BLOCKERS && !rc && company != ALONE && !beside_threads; i++)
        rc = fen_go(block, NULL);
    if (!rc && beside_threads)
        rc = start_threads();
    fen_service_config c = {.addr = "127.0.0.1:0", .admin_addr = "127.0.0.1:0", .quiet = true};
    if (!rc)
        rc = fen_server_run(s, &c);
    if (crowd) {
        fen_scope_cancel(crowd);
        (void)fen_scope_close(crowd);
    }
    stop_threads();
    fen_server_free(s);
    return rc;
}

static int blocked_main(void *kind)
{
    return fen_run(blocked_serve, kind, &(fen_config){.procs = 2});
}

/* ---- who blocks undeclared is named ---- */

static _Atomic int64_t began, named_ns; /* in the child only */

static void hear(const fen_event *e, void *arg)
{
    (void)arg;
    if (e->kind == FEN_EVENT_BLOCKED && !strcmp(e->name, "offender"))
        atomic_store(&named_ns, fen_now() - atomic_load(&began));
}

static void offend(void *arg)
{
    (void)arg;
    atomic_store(&began, fen_now());
    nap(&call_ns);
}

/* Somebody must be waiting: a P that nobody misses is not taken, and nobody is named. */
static void work(void *arg)
{
    (void)arg;
    while (fen_scope_check(NULL) == 0) {
        for (int64_t until = fen_now() + 100 * FEN_US; fen_now() < until;)
            ;
        fen_yield();
    }
}

static int offences(void *arg)
{
    double *out = arg;
    fen_scope *others = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < OTHERS; i++)
        if (!others || fen_go(work, NULL))
            return -1;
    for (int i = 0; i < NAMINGS; i++) {
        atomic_store(&named_ns, 0);
        fen_scope *s = fen_scope_open(FEN_NEVER);
        if (!s || fen_go_named("offender", 0, offend, NULL))
            return -1;
        (void)fen_scope_close(s);
        int64_t ns = atomic_load(&named_ns);
        *out = ns ? fmax(*out, (double)ns / 1e6) : INFINITY; /* not named: later than any bar */
        fen_sleep(1100 * FEN_MS);
    }
    fen_scope_cancel(others);
    (void)fen_scope_close(others);
    return 0;
}

static void naming_main(void *arg, double *out)
{
    (void)arg;
    *out = 0;
    if (fen_run(offences, out, &(fen_config){.procs = 2, .log = hear}) || isinf(*out))
        *out = NAN;
}

static void blocked_figures(double p99[KINDS][BENCH_RUNS_MAX], double times[KINDS][BENCH_RUNS_MAX],
                            int runs)
{
    static const char *const names[KINDS] = {"p99_alone", "p99_64_pooled_calls",
                                             "p99_64_declared_calls", "p99_64_declared_at_once",
                                             "p99_64_undeclared_calls"};
    static const enum kind floor_of[KINDS] = {[DECLARED] = THREADS, [AT_ONCE] = THREADS_AT_ONCE};
    double worst;
    in_child(naming_main, NULL, &worst, 1);
    for (int k = 0; k < THREADS; k++) {
        struct figure f = {.name = names[k], .unit = "ms", .runs = runs};
        f.value = median(p99[k], runs);
        if (floor_of[k]) {
            f.rival = "pthread";
            f.rival_value = median(p99[floor_of[k]], runs);
            f.ratio = f.value / f.rival_value;
        }
        emit(&f);
    }
    emit(FIGURE(.name = "pooled_over_alone", .unit = "x", .value = median(times[POOLED], runs),
                .runs = runs, .bar = true, .at_least = 2));
    emit(FIGURE(.name = "declared_over_alone", .unit = "x", .value = median(times[DECLARED], runs),
                .runs = runs, .bar = true, .at_least = 2, .rival = "pthread",
                .rival_value = median(times[THREADS], runs)));
    emit(FIGURE(.name = "named_within", .unit = "ms", .value = worst, .bar = true, .at_least = 20,
                .note = isnan(worst) ? "not named" : "the worst of five calls of 100 ms"));
}

/* P99 of one kind, from a server of its own. */
static double p99_beside(enum kind k)
{
    struct child c;
    struct load_figures l;
    if (!child_start(&c, NULL, blocked_main, &k, NULL))
        return NAN;
    bool good = run_load_open(&c, "/", RATE, ASKERS, 1.5, NULL, &l) && l.errors == 0;
    child_stop(&c);
    return good ? l.p99_ms : NAN;
}

void bench_blocked(void)
{
    static double p99[KINDS][BENCH_RUNS_MAX], times[KINDS][BENCH_RUNS_MAX];
    int runs = runs_or(5);
    for (int i = 0; i < runs; i++)
        for (enum kind k = ALONE; k < KINDS; k++) {
            p99[k][i] = p99_beside(k);
            times[k][i] = p99[k][i] / p99[ALONE][i];
        }
    blocked_figures(p99, times, runs);
}
