/* fibers.c - switch, yield, spawn, parked, scaling, cancel: what the scheduler itself costs.
 *
 * Go's figures are those of one processor (go-micro), so fen's are taken with one P where they are
 * compared. */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIBERS 10000
#define PARKED 100000
#define MILLION 1000000

/* ---- switch ---- */

#define PAIRS 5000000
#define THREAD_ROUNDS 50000

struct bouncer {
    fen_context *c;
};

static void bounce(void *arg)
{
    struct bouncer *b = arg;
    for (;;)
        fen_context_suspend(b->c);
}

static void raw_switch(void *arg, double *out)
{
    (void)arg;
    struct bouncer b;
    if (fen_context_new(0, bounce, &b, &b.c) < 0)
        return;
    fen_context_resume(b.c);
    double from = now_s();
    for (int i = 0; i < PAIRS; i++)
        fen_context_resume(b.c);
    *out = (now_s() - from) * 1e9 / (2.0 * PAIRS);
    fen_context_free(b.c);
}

static _Atomic uint32_t turn;

static void pass(uint32_t mine)
{
    for (int i = 0; i < THREAD_ROUNDS; i++) {
        while (atomic_load(&turn) != mine)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 1 - mine, NULL, NULL, 0);
        atomic_store(&turn, 1 - mine);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void *other_thread(void *arg)
{
    (void)arg;
    pass(1);
    return NULL;
}

/* Two threads on one core hand the turn to each other: each hand-over is one switch. */
static void thread_switch(void *arg, double *out)
{
    (void)arg;
    cpu_set_t one;
    pthread_t t;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    double from = now_s();
    if (pthread_create(&t, NULL, other_thread, NULL))
        return;
    pass(0);
    pthread_join(t, NULL);
    *out = (now_s() - from) * 1e9 / (2.0 * THREAD_ROUNDS);
}

void bench_switch(void)
{
    double raw[BENCH_RUNS_MAX], thread[BENCH_RUNS_MAX], times[BENCH_RUNS_MAX];
    int runs = runs_or(7);
    for (int i = 0; i < runs; i++) {
        in_child(raw_switch, NULL, &raw[i], 1);
        in_child(thread_switch, NULL, &thread[i], 1);
        times[i] = thread[i] / raw[i];
    }
    double t = median(thread, runs), r = median(raw, runs), x = median(times, runs);
    emit(FIGURE(.name = "one_way", .unit = "ns", .value = r, .rival = "threads", .rival_value = t,
                .ratio = r / t, .bar = true, .at_least = 20, .runs = runs));
    emit(FIGURE(.name = "thread_over_fiber", .unit = "x", .more_is_better = true, .value = x,
                .bar = true, .at_least = 20, .runs = runs));
}

/* ---- yield ---- */

#define YIELDS 500000

static void yielder(void *arg)
{
    for (int i = *(const int *)arg; i > 0; i--)
        fen_yield();
}

static int two_yielders(void *arg)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s || fen_go(yielder, arg) || fen_go(yielder, arg))
        return -ENOMEM;
    return fen_scope_close(s);
}

int yields_only(int thousands)
{
    int n = thousands * 1000 / 2;
    /* Meter off: with it, strace counts about one reading of the thread's CPU clock a switch. The
     * bill repeats a reading that took too long, and under strace each does; at full speed 20
     * million yields spend 2 ns each in the kernel. The figure's note says so. */
    return fen_run(two_yielders, &n, &(fen_config){.procs = 1, .meter_off = true}) ? 1 : 0;
}

static int timed_yields(void *arg)
{
    int n = YIELDS;
    double *out = arg, from = now_s();
    int rc = two_yielders(&n);
    *out = (now_s() - from) * 1e9 / (2.0 * YIELDS);
    return rc;
}

static void yield_main(void *arg, double *out)
{
    fen_run(timed_yields, out, &(fen_config){.procs = 1, .meter_off = *(const bool *)arg});
}

double yield_ns(bool meter_off)
{
    double v;
    in_child(yield_main, &meter_off, &v, 1);
    return v;
}

/* System calls of `fen bench _yields N` by strace -c; -1: no strace. */
static double calls_of(const char *thousands)
{
    char command[1024], line[256];
    double calls = 0;
    snprintf(command, sizeof command,
             "timeout 30 strace -f -c -qq -o /dev/stdout '%s' bench _yields %s 2>&-", self_path(),
             thousands);
    FILE *f = popen(command, "re");
    while (f && fgets(line, sizeof line, f)) {
        double share, seconds, each;
        long n;
        if (sscanf(line, "%lf %lf %lf %ld", &share, &seconds, &each, &n) == 4 &&
            !strstr(line, "total"))
            calls += (double)n;
    }
    if (f)
        pclose(f);
    return calls > 0 ? calls : -1;
}

void bench_yield(void)
{
    double v[BENCH_RUNS_MAX], go = go_micro("gosched_switch_ns");
    int runs = runs_or(7);
    for (int i = 0; i < runs; i++)
        v[i] = yield_ns(false);
    double m = median(v, runs);
    emit(FIGURE(.name = "yield", .unit = "ns", .value = m, .rival = "go", .rival_value = go,
                .ratio = m / go, .note = go_note, .runs = runs));
    double none = calls_of("0"), two = calls_of("200");
    bool have = none >= 0 && two >= 0;
    emit(FIGURE(.name = "syscalls_per_yield", .unit = "calls",
                .value = have ? fmax(0, two - none) / 200e3 : NAN, .bar = true, .at_least = 0.01,
                .note = have ? "meter off; the monitor's own included" : "no strace"));
}

/* ---- spawn ---- */

static void once(void *arg)
{
    fen_yield();
    fen_wg_done(arg);
}

static double spawn_join(int n)
{
    fen_wg w = {0};
    double from = now_s();
    fen_wg_add(&w, n);
    for (int i = 0; i < n; i++)
        if (fen_go(once, &w))
            return NAN;
    fen_wg_wait(&w);
    return now_s() - from;
}

struct rounds {
    int procs, n, rounds;
};

static double *round_out;

static int spawn_rounds(void *arg)
{
    const struct rounds *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        round_out[i] = s ? spawn_join(r->n) : NAN;
        fen_scope_close(s);
    }
    return 0;
}

static void spawn_main(void *arg, double *out)
{
    const struct rounds *r = arg;
    round_out = out;
    fen_run(spawn_rounds, arg, &(fen_config){.procs = r->procs});
}

static void spawn_figures(int procs, const char *first, const char *later, double go_first,
                          double go_later)
{
    double v[BENCH_RUNS_MAX + 1];
    int runs = runs_or(15);
    struct rounds r = {procs, FIBERS, runs + 1};
    in_child(spawn_main, &r, v, runs + 1);
    double cold = v[0] * 1e3, warm = median(v + 1, runs) * 1e3;
    bool rival = procs == 1;
    emit(FIGURE(.name = first, .unit = "ms", .value = cold, .rival = rival ? "go" : NULL,
                .rival_value = go_first, .ratio = cold / go_first));
    emit(FIGURE(.name = later, .unit = "ms", .value = warm, .rival = rival ? "go" : NULL,
                .rival_value = go_later, .ratio = warm / go_later, .bar = true,
                .at_least = rival ? 5 : NAN, .runs = runs));
}

void bench_spawn(void)
{
    const double ms = FIBERS / 1e6; /* of ns a fiber */
    spawn_figures(1, "spawn_yield_join_10000_first", "spawn_yield_join_10000",
                  go_micro("spawn_yield_join_first_ns") * ms,
                  go_micro("spawn_yield_join_later_ns") * ms);
    spawn_figures(0, "spawn_10000_all_procs_first", "spawn_10000_all_procs", NAN, NAN);
    double s;
    struct rounds r = {0, MILLION, 1};
    in_child(spawn_main, &r, &s, 1);
    emit(FIGURE(.name = "spawned_1000000", .unit = "fibers", .more_is_better = true,
                .value = isnan(s) ? 0 : MILLION, .bar = true, .at_least = MILLION));
    emit(FIGURE(.name = "spawn_yield_join_1000000", .unit = "s", .value = s));
}

/* ---- parked ---- */

static int64_t own_rss(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

struct hold {
    fen_wg ready;
    fen_chan *gate;
};

static void park(void *arg)
{
    struct hold *h = arg;
    fen_wg_done(&h->ready);
    (void)!fen_chan_recv(h->gate, NULL); /* closed */
}

static int parked_run(void *arg)
{
    struct hold h = {.gate = fen_chan_new(0, 0)};
    int64_t before = own_rss();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_wg_add(&h.ready, PARKED);
    for (int i = 0; i < PARKED; i++)
        if (fen_go(park, &h))
            return -ENOMEM;
    fen_wg_wait(&h.ready);
    fen_sleep(20 * FEN_MS);
    *(double *)arg = (double)(own_rss() - before);
    fen_chan_close(h.gate);
    int rc = fen_scope_close(s);
    fen_chan_free(h.gate);
    return rc;
}

static void parked_main(void *arg, double *out)
{
    (void)arg;
    fen_run(parked_run, out, NULL);
}

void bench_parked(void)
{
    double v, go = go_micro("parked_100000_rss_bytes") / 1e6;
    in_child(parked_main, NULL, &v, 1);
    v /= 1e6;
    emit(FIGURE(.name = "rss_100000_parked", .unit = "MB", .value = v, .rival = "go",
                .rival_value = go, .ratio = v / go, .bar = true, .at_least = 450, .note = go_note));
}

/* ---- scaling ---- */

#define WORKERS 64
#define WORK 3000000

static void work(void *arg)
{
    uint64_t x = 1;
    for (int i = 0; i < WORK; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        __asm__ volatile("" : "+r"(x));
    }
    atomic_fetch_add((_Atomic uint64_t *)arg, x);
}

static int scaling_run(void *arg)
{
    _Atomic uint64_t sum = 0;
    double from = now_s();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < WORKERS; i++)
        if (fen_go(work, (void *)&sum))
            return -ENOMEM;
    int rc = fen_scope_close(s);
    *(double *)arg = now_s() - from;
    return rc;
}

static void scaling_main(void *arg, double *out)
{
    fen_run(scaling_run, out, &(fen_config){.procs = *(const int *)arg});
}

static _Atomic int units_left;

static void *work_units(void *arg)
{
    while (atomic_fetch_sub(&units_left, 1) > 0)
        work(arg);
    return NULL;
}

/* The floor: the same units, taken by threads that share nothing but a counter. */
static void threads_main(void *arg, double *out)
{
    int n = *(const int *)arg;
    pthread_t t[2];
    _Atomic uint64_t sum = 0;
    atomic_store(&units_left, WORKERS);
    double from = now_s();
    for (int i = 0; i < n; i++)
        if (pthread_create(&t[i], NULL, work_units, (void *)&sum))
            abort();
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
    *out = now_s() - from;
}

void bench_scaling(void)
{
    double v[BENCH_RUNS_MAX], threads[BENCH_RUNS_MAX];
    int runs = runs_or(9), one = 1, two = 2;
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    bool able = CPU_COUNT(&cpus) >= 2;
    for (int i = 0; i < runs && able; i++) {
        double a, b;
        in_child(scaling_main, &one, &a, 1);
        in_child(scaling_main, &two, &b, 1);
        v[i] = a / b;
        in_child(threads_main, &one, &a, 1);
        in_child(threads_main, &two, &b, 1);
        threads[i] = a / b;
    }
    double floor = able ? median(threads, runs) : NAN;
    emit(FIGURE(.name = "scaling_1_to_2", .unit = "x", .more_is_better = true,
                .value = able ? median(v, runs) : NAN, .rival = "threads", .rival_value = floor,
                .ratio = able ? median(v, runs) / floor : NAN, .bar = true, .at_least = 1.8,
                .runs = runs, .note = able ? NULL : "fewer than two cores"));
}

/* ---- cancel ---- */

static void sleeper(void *arg)
{
    fen_wg_done(arg);
    fen_sleep(3600 * FEN_S);
}

static double cancel_once(void)
{
    fen_wg ready = {0};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_wg_add(&ready, FIBERS);
    for (int i = 0; i < FIBERS; i++)
        if (fen_go(sleeper, &ready))
            return NAN;
    fen_wg_wait(&ready);
    fen_sleep(5 * FEN_MS); /* the last ones park */
    double from = now_s();
    fen_scope_cancel(s);
    fen_scope_close(s);
    return (now_s() - from) * 1e3;
}

static int cancel_run(void *arg)
{
    int n = runs_or(9);
    for (int i = 0; i < n; i++)
        round_out[i] = cancel_once();
    (void)arg;
    return 0;
}

static void cancel_main(void *arg, double *out)
{
    (void)arg;
    round_out = out;
    fen_run(cancel_run, NULL, NULL);
}

void bench_cancel(void)
{
    double v[BENCH_RUNS_MAX];
    int runs = runs_or(9);
    in_child(cancel_main, NULL, v, runs);
    emit(FIGURE(.name = "cancel_10000_children", .unit = "ms", .value = median(v, runs),
                .bar = true, .at_least = 5, .runs = runs));
}
