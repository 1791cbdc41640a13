/* servers.c - conns, startup, truth, books, orders: whole servers in processes of their own,
 * under `fen load`.
 *
 * Where servers are compared with each other, server and load have half of the cores each, as in
 * `fen prove`, and the runs are paired: a drift of the machine meets all alike. */
#include "bench/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fen/fen.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONNS 10000
#define ORDER_PATH "/orders/{1..100000}"

/* ---- a client of one request ---- */

static int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {5, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof a))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool ask(int fd)
{
    static const char request[] = "GET /orders/5 HTTP/1.1\r\nHost: bench\r\n\r\n";
    char reply[2048];
    if (write(fd, request, sizeof request - 1) != (ssize_t)sizeof request - 1)
        return false;
    ssize_t n = read(fd, reply, sizeof reply);
    return n > 12 && !memcmp(reply + 8, " 200", 4);
}

/* ---- conns ---- */

static int open_all(int port, int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        fds[i] = dial(port);
        if (fds[i] < 0 || !ask(fds[i])) {
            if (fds[i] >= 0)
                close(fds[i]);
            return i;
        }
    }
    return n;
}

static void idle_figures(void)
{
    struct child c;
    static int fds[CONNS];
    if (!start_orders(&c, NULL)) {
        emit(FIGURE(.name = "rss_per_idle_connection", .unit = "bytes", .value = NAN,
                    .note = "the server did not start"));
        return;
    }
    int warm = dial(c.port);
    for (int i = 0; i < 100 && warm >= 0; i++)
        (void)!ask(warm);
    usleep(500000); /* what the start-up took and gives back is gone */
    int64_t before = child_anon_bytes(&c);
    int n = open_all(c.port, fds, CONNS);
    usleep(300000);
    int64_t grown = child_anon_bytes(&c) - before;
    for (int i = 0; i < n; i++)
        close(fds[i]);
    if (warm >= 0)
        close(warm);
    child_stop(&c);
    emit(FIGURE(.name = "idle_connections", .unit = "", .more_is_better = true, .value = n,
                .bar = true, .at_least = CONNS));
    emit(FIGURE(.name = "rss_per_idle_connection", .unit = "bytes",
                .value = n ? (double)grown / n : NAN, .bar = true, .at_least = 4096,
                .note = "anonymous memory; each has had one request"));
}

static void serving_figures(void)
{
    struct child c;
    struct load_figures l;
    bool good = start_orders(&c, NULL);
    good = good && run_load(&c, ORDER_PATH, CONNS, 5, NULL, &l);
    double mb = good ? (double)child_peak_bytes(&c) / 1e6 : NAN;
    child_stop(&c);
    emit(FIGURE(.name = "peak_rss_serving_10000", .unit = "MB", .value = mb, .bar = true,
                .at_least = 60,
                .note = good ? "all connections closed-loop for 5 s" : "the load failed"));
    if (!good)
        return;
    emit(FIGURE(.name = "errors_serving_10000", .unit = "", .value = l.errors, .bar = true,
                .at_least = 0, .exact = true));
    emit(FIGURE(.name = "requests_serving_10000", .unit = "1/s", .more_is_better = true,
                .value = l.qps));
}

void bench_conns(void)
{
    idle_figures();
    serving_figures();
}

/* ---- startup ---- */

static double start_once(void)
{
    struct child c;
    double from = now_s(), ms = NAN;
    if (!start_orders(&c, NULL))
        return NAN;
    int fd = dial(c.port);
    if (fd >= 0 && ask(fd))
        ms = (now_s() - from) * 1e3;
    if (fd >= 0)
        close(fd);
    child_stop(&c);
    return ms;
}

void bench_startup(void)
{
    double v[BENCH_RUNS_MAX];
    int runs = runs_or(20);
    orders_db();
    for (int i = 0; i < runs; i++)
        v[i] = start_once();
    emit(FIGURE(.name = "exec_to_first_200", .unit = "ms", .value = median(v, runs), .bar = true,
                .at_least = 20, .runs = runs, .note = "fen serve orders, an order from the store"));
}

/* ---- servers inside this program ---- */

struct inside {
    char admin[40];
};

static int64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * FEN_S + t.tv_nsec;
}

/* Stops by the thread's CPU clock, which others do not advance: what was burnt is known. */
static int burn(fen_exchange *x, void *arg)
{
    int64_t end = thread_cpu_ns() + *(const int64_t *)arg;
    uint64_t v = 1;
    while (thread_cpu_ns() < end)
        for (int i = 0; i < 200; i++) {
            v = v * 3 + 1;
            __asm__ volatile("" : "+r"(v));
        }
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

static int inside_serve(void *arg)
{
    static int64_t short_ns = 2 * FEN_MS, long_ns = 8 * FEN_MS;
    const struct inside *in = arg;
    fen_server *s = fen_server_new(NULL);
    if (!s || fen_route(s, "GET /2ms", burn, &short_ns) || fen_route(s, "GET /8ms", burn, &long_ns))
        return -ENOMEM;
    int rc = fen_server_run(
        s, &(fen_service_config){.addr = "127.0.0.1:0", .admin_addr = in->admin, .quiet = true});
    fen_server_free(s);
    return rc;
}

static int inside_main(void *arg) { return fen_run(inside_serve, arg, NULL); }

static bool start_inside(struct child *c)
{
    struct inside in;
    c->admin_port = free_port();
    snprintf(in.admin, sizeof in.admin, "127.0.0.1:%d", c->admin_port);
    return child_start(c, NULL, inside_main, &in, NULL);
}

/* ---- truth ---- */

static pid_t start_hog(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    for (volatile uint64_t i = 0;; i++)
        ;
}

/* Both routes at once: the second load runs in a child of this process. */
static bool both_routes(const struct child *c, double seconds)
{
    pid_t pid = fork();
    struct load_figures l;
    if (pid == 0)
        _exit(run_load(c, "/8ms", 4, seconds, NULL, &l) ? 0 : 1);
    int status = 1;
    bool good = run_load(c, "/2ms", 4, seconds, NULL, &l);
    return waitpid(pid, &status, 0) == pid && status == 0 && good;
}

/* How far the bill of a route is from what it burnt, in percent. */
static double off_percent(const char *page, const char *route, double truth_ns)
{
    char from[64];
    snprintf(from, sizeof from, "\"operation\":\"GET %s\"", route);
    double n = number_in(page, from, "requests"), cpu = number_in(page, from, "cpu_ns");
    return n > 0 ? (cpu / n / truth_ns - 1) * 100 : NAN;
}

static void truth(int hogs, const char *short_name, const char *long_name, const char *worst_name)
{
    struct child c;
    pid_t hog[64];
    char *page = NULL;
    bool good = start_inside(&c);
    for (int i = 0; i < hogs; i++)
        hog[i] = start_hog();
    good = good && both_routes(&c, 4);
    for (int i = 0; i < hogs; i++) {
        kill(hog[i], SIGKILL);
        waitpid(hog[i], NULL, 0);
    }
    if (good)
        page = admin_page(&c, "/debug/vars");
    child_stop(&c);
    double a = off_percent(page, "/2ms", 2e6), b = off_percent(page, "/8ms", 8e6);
    free(page);
    emit(FIGURE(.name = short_name, .unit = "%", .value = a));
    emit(FIGURE(.name = long_name, .unit = "%", .value = b));
    emit(FIGURE(.name = worst_name, .unit = "%", .value = fmax(fabs(a), fabs(b)) + 0 * (a + b),
                .bar = true, .at_least = 5,
                .note = hogs ? "a foreign process burns on every core" : NULL));
}

void bench_truth(void)
{
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    int cores = CPU_COUNT(&cpus) < 64 ? CPU_COUNT(&cpus) : 64;
    truth(0, "billed_2ms_off", "billed_8ms_off", "two_routes_error");
    truth(cores, "billed_2ms_off_hog", "billed_8ms_off_hog", "two_routes_error_hog");
}

/* ---- books ---- */

void bench_books(void)
{
    struct child c;
    struct load_figures l;
    bool good = start_orders(&c, NULL);
    int64_t cpu = good ? child_cpu_ns(&c) : 0;
    char *before = good ? admin_page(&c, "/debug/vars") : NULL;
    good = good && before && run_load(&c, ORDER_PATH, 100, 4, NULL, &l);
    cpu = good ? child_cpu_ns(&c) - cpu : 0;
    char *after = good ? admin_page(&c, "/debug/vars") : NULL;
    child_stop(&c);
    static const char *const parts[] = {"requests_ns",     "fibers_ns",     "runtime_ns",
                                        "unattributed_ns", "thread_cpu_ns", "residual_ns"};
    double d[6];
    for (int i = 0; i < 6; i++)
        d[i] = number_in(after, "\"books\"", parts[i]) - number_in(before, "\"books\"", parts[i]);
    free(before);
    free(after);
    emit(FIGURE(.name = "unattributed", .unit = "%", .value = fabs(d[3]) * 100 / d[4], .bar = true,
                .at_least = 3, .note = "of thread CPU, over 4 s of load"));
    emit(FIGURE(.name = "residual", .unit = "%", .value = fabs(d[5]) * 100 / d[4], .bar = true,
                .at_least = 3));
    double sum = d[0] + d[1] + d[2] + d[3];
    emit(FIGURE(.name = "conservation_error", .unit = "%",
                .value = cpu > 0 ? fabs(sum / (double)cpu - 1) * 100 : NAN, .bar = true,
                .at_least = 3, .note = "the books' sum against the process's CPU clock"));
}

/* ---- orders ---- */

enum { FEN, PTHREAD, GO, KINDS };

static bool start_kind(struct child *c, int kind, const cpu_set_t *cpus)
{
    char db[160];
    if (kind == FEN)
        return start_orders(c, cpus);
    const char *path = kind == GO ? rival_path("go-orders") : beside("fen-baseline");
    snprintf(db, sizeof db, "--db=%s", orders_db());
    const char *argv[] = {path, "--addr=127.0.0.1:0", db, kind == GO ? NULL : "--mode=pthread",
                          NULL};
    c->pid = 0;
    c->out = -1;
    return path && child_start(c, argv, NULL, NULL, cpus);
}

static void orders_ratio(const char *name, const char *rival, double v[KINDS][BENCH_RUNS_MAX],
                         int kind, double bar, int runs, const char *absent)
{
    double r[BENCH_RUNS_MAX], fen[BENCH_RUNS_MAX], other[BENCH_RUNS_MAX];
    for (int i = 0; i < runs; i++) {
        fen[i] = v[FEN][i];
        other[i] = v[kind][i];
        r[i] = fen[i] / other[i];
    }
    emit(FIGURE(.name = name, .unit = "us", .value = median(fen, runs), .rival = rival,
                .rival_value = absent ? NAN : median(other, runs),
                .ratio = absent ? NAN : median(r, runs), .bar = true,
                .at_least = absent ? NAN : bar, .bar_on_ratio = true, .runs = runs,
                .note = absent));
}

void bench_orders(void)
{
    static double v[KINDS][BENCH_RUNS_MAX];
    struct child c[KINDS];
    bool up[KINDS];
    cpu_set_t server, client;
    int runs = runs_or(7);
    split_cpus(&server, &client);
    for (int k = 0; k < KINDS; k++)
        up[k] = start_kind(&c[k], k, &server);
    for (int i = 0; i < runs; i++)
        for (int j = 0; j < KINDS; j++) {
            int k = (i + j) % KINDS;
            struct load_figures l;
            v[k][i] = up[k] && run_load(&c[k], ORDER_PATH, 100, 2, &client, &l) && l.errors == 0
                          ? l.cpu_us
                          : NAN;
        }
    for (int k = 0; k < KINDS; k++)
        child_stop(&c[k]);
    orders_ratio("cpu_per_request_pthread", "pthread", v, PTHREAD, 1, runs,
                 up[PTHREAD] ? NULL : "fen-baseline is not built");
    orders_ratio("cpu_per_request_go", "go", v, GO, 0.6, runs,
                 up[GO] ? NULL : "go-orders is not built (bench/rivals/go/build.sh)");
}
