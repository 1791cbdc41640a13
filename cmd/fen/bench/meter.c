/* meter.c - what the bill costs: a switch, and a request.
 *
 * A percent of a request is less than what two server processes differ by (where their memory lies)
 * and less than what a shared machine changes by within a second. So one process under a steady
 * load has its bill switched off and on (fen_meter_switch) every MOMENT; four moments in the order
 * on off off on, or its mirror by lot, make one figure, in which a steady drift of the machine
 * cancels. Several processes, many figures: their median and, from the ranks alone, the interval
 * that holds the true median in 95 of 100 runs.
 *
 * The server counts its own requests and reads its own process clock. The edge after each turn is
 * left out: a worker follows within 61 switches, and requests under way belong to both sides.
 *
 * Proof of the method: with the bill on in all moments it gives 0.06 % (-0.05 to 0.14).
 *
 * Rejected: pairs of processes, one with and one without (medians of 9 pairs lay between -3 and
 * +3 % for the same program). */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define EDGE_NS (5 * FEN_MS)
#define MOMENT_NS (45 * FEN_MS)
#define WARM_NS (800 * FEN_MS)
#define FOURS 50 /* of one process: 10 s */
#define PROCESSES_MAX 11
#define CONNECTIONS 50

static void switch_cost(void)
{
    double on[BENCH_RUNS_MAX], off[BENCH_RUNS_MAX], more[BENCH_RUNS_MAX];
    int runs = runs_or(9);
    for (int i = 0; i < runs; i++) {
        on[i] = yield_ns(false);
        off[i] = yield_ns(true);
        more[i] = on[i] - off[i];
    }
    emit(FIGURE(.name = "switch_on", .unit = "ns", .value = median(on, runs), .rival = "off",
                .rival_value = median(off, runs), .runs = runs));
    emit(FIGURE(.name = "cost_per_switch", .unit = "ns", .value = median(more, runs), .bar = true,
                .at_least = 15, .aim = 6, .runs = runs));
}

/* ---- in the server's process ---- */

/* Shared with the server's process. */
struct probe {
    _Atomic int fours; /* done so far */
    double loss[FOURS];
};

static _Atomic int64_t served;

static int small(fen_exchange *x, void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&served, 1, memory_order_relaxed); /* a figure, nothing more */
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

static int64_t process_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * FEN_S + t.tv_nsec;
}

static void nap(int64_t ns)
{
    struct timespec t = {ns / FEN_S, ns % FEN_S};
    nanosleep(&t, NULL);
}

struct sum {
    double cpu_ns, requests;
};

static void moment(bool on, struct sum *to)
{
    fen_meter_switch(on);
    nap(EDGE_NS);
    int64_t cpu = process_cpu_ns(), n = atomic_load_explicit(&served, memory_order_relaxed);
    nap(MOMENT_NS);
    to->requests += (double)(atomic_load_explicit(&served, memory_order_relaxed) - n);
    to->cpu_ns += (double)(process_cpu_ns() - cpu);
}

/* What the bill takes of a CPU-second's requests, in percent. */
static double one_four(bool first_on)
{
    struct sum s[2] = {{0}};
    for (int i = 0; i < 4; i++) {
        bool on = (i == 0 || i == 3) == first_on;
        moment(on, &s[on]);
    }
    return (1 - s[false].cpu_ns / s[false].requests / (s[true].cpu_ns / s[true].requests)) * 100;
}

static void *turn(void *arg)
{
    struct probe *p = arg;
    uint32_t lot = 12345;
    while (!atomic_load_explicit(&served, memory_order_relaxed))
        nap(FEN_MS);
    nap(WARM_NS);
    for (int i = 0; i < FOURS; i++) {
        lot = lot * 1664525 + 1013904223;
        p->loss[i] = one_four(lot >> 31);
        atomic_store(&p->fours, i + 1); /* pairs with the load in run_process */
    }
    fen_meter_switch(true);
    return NULL;
}

static int serve(void *arg)
{
    pthread_t turner;
    fen_server *s = fen_server_new(NULL);
    int rc = s ? fen_route(s, "GET /small", small, NULL) : -ENOMEM;
    if (rc == 0)
        rc = -pthread_create(&turner, NULL, turn, arg);
    if (rc == 0) /* the turner ends with the process at the latest */
        rc = fen_server_run(
            s, &(fen_service_config){.addr = "127.0.0.1:0", .admin_addr = "", .quiet = true});
    fen_server_free(s);
    return rc;
}

static int serve_main(void *arg) { return fen_run(serve, arg, NULL); }

/* ---- in this process ---- */

/* Fills p with FOURS figures; false when the load broke off. */
static bool run_process(struct probe *p, const cpu_set_t *server, const cpu_set_t *client)
{
    struct child c;
    struct load_figures l;
    double seconds = (double)(4 * FOURS * (EDGE_NS + MOMENT_NS) + WARM_NS) / 1e9 + 0.7;
    memset(p, 0, sizeof *p);
    bool good = child_start(&c, NULL, serve_main, p, server) &&
                run_load(&c, "/small", CONNECTIONS, seconds, client, &l) && l.errors == 0;
    good = good && atomic_load(&p->fours) == FOURS;
    child_stop(&c);
    return good;
}

static void emit_loss(double *loss, int n)
{
    const char *note = n ? NULL : "the load failed";
    double mid = n ? median(loss, n) : NAN;     /* sorts */
    int rank = (int)((n - 1.96 * sqrt(n)) / 2); /* of the interval's lower end, by the signs */
    double low = n ? loss[rank] : NAN, high = n ? loss[n - 1 - rank] : NAN;
    emit(FIGURE(.name = "throughput_loss", .unit = "%", .value = mid, .bar = true, .at_least = 2,
                .aim = 1, .runs = n,
                .note = note ? note : "requests per CPU-second, on against off"));
    emit(FIGURE(.name = "throughput_loss_low", .unit = "%", .value = low, .runs = n,
                .note = note ? note : "lower end of the 95 % interval of the median"));
    emit(FIGURE(.name = "throughput_loss_high", .unit = "%", .value = high, .bar = true,
                .at_least = 2, .runs = n, .note = note ? note : "its upper end"));
}

static void request_cost(void)
{
    static double loss[PROCESSES_MAX * FOURS];
    cpu_set_t server, client;
    int n = 0, runs = runs_or(3);
    split_cpus(&server, &client);
    struct probe *p =
        mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < runs && i < PROCESSES_MAX && p != MAP_FAILED; i++) {
        if (!run_process(p, &server, &client))
            continue;
        memcpy(loss + n, p->loss, sizeof p->loss);
        n += FOURS;
    }
    if (p != MAP_FAILED)
        munmap(p, sizeof *p);
    emit_loss(loss, n);
}

void bench_meter(void)
{
    switch_cost();
    request_cost();
}
