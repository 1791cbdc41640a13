/* fibers.c - switch, yield, spawn, cancel: what the scheduler itself costs.
 *
 * One P beside GOMAXPROCS=1 where nothing else is said. */
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
    struct pairs p;
    double times[BENCH_RUNS_MAX];
    pairs_with(&p, raw_switch, "threads", thread_switch, NULL, 1, runs_or(7));
    for (int i = 0; i < p.runs; i++)
        times[i] = p.other[0][i] / p.fen[0][i];
    pairs_emit(
        &p, 0, 1,
        (struct figure){.name = "one_way", .unit = "ns", .bar = true, .at_least = 12, .aim = 8});
    emit(FIGURE(.name = "thread_over_fiber", .unit = "x", .more_is_better = true,
                .value = median(times, p.runs), .bar = true, .at_least = 20, .runs = p.runs));
}

/* ---- yield ---- */

#define YIELDS 300000

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

static double yield_round(void)
{
    int n = YIELDS;
    double from = now_s();
    return two_yielders(&n) ? NAN : (now_s() - from) * 1e9 / (2.0 * YIELDS);
}

static int timed_yields(void *arg)
{
    yield_round();
    *(double *)arg = yield_round();
    return 0;
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
    struct pairs p;
    struct scenario s = {.procs = 1, .n = 1, .round = {yield_round}};
    pairs_with_go(&p, scenario_main, &s, 2, "yield", 1, runs_or(21));
    pairs_emit_both(&p, 0,
                    (struct figure){.name = "yield",
                                    .unit = "ns",
                                    .bar = true,
                                    .at_least = 0.45,
                                    .aim = 25,
                                    .bar_on_ratio = true,
                                    .aim_on_value = true});
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

static double spawn_round(void)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    double v = s ? spawn_join(FIBERS) * 1e3 : NAN;
    return s && fen_scope_close(s) == 0 ? v : NAN;
}

#define SINGLES 200000

static fen_wg single; /* on no stack: a parked fiber's is not to be written to by others */

static void finish(void *arg) { fen_wg_done(arg); }

/* One after the other: the stack and the record of the last one are there. */
static double single_round(void)
{
    double from = now_s();
    for (int i = 0; i < SINGLES; i++) {
        fen_wg_add(&single, 1);
        if (fen_go(finish, &single))
            return NAN;
        if (fen_wg_wait(&single))
            return NAN;
    }
    return (now_s() - from) * 1e9 / SINGLES;
}

static int million_run(void *out)
{
    *(double *)out = spawn_join(MILLION);
    return 0;
}

static void million_main(void *arg, double *out)
{
    (void)arg;
    fen_run(million_run, out, NULL);
}

void bench_spawn(void)
{
    struct pairs p;
    double s;
    struct scenario one = {.procs = 1, .n = 2, .round = {single_round, spawn_round}};
    struct scenario all = {.n = 1, .round = {spawn_round}};
    struct figure batch = {
        .name = "spawn_yield_join_10000", .unit = "ms", .bar = true, .at_least = 5};
    pairs_with_go(&p, scenario_main, &one, 4, "spawn", 1, runs_or(7));
    pairs_emit_both(&p, 0,
                    (struct figure){.name = "spawn_join",
                                    .unit = "ns",
                                    .bar = true,
                                    .at_least = 0.35,
                                    .aim = 100,
                                    .bar_on_ratio = true,
                                    .aim_on_value = true});
    pairs_emit_both(&p, 2, batch);
    struct scenario single_only = {.procs = 1, .n = 1, .round = {single_round}};
    pairs_with(&p, scenario_main, "pthread", threads_spawn, &single_only, 1, runs_or(7));
    pairs_emit(&p, 0, 1, (struct figure){.name = "spawn_join_pthread", .unit = "ns"});
    pairs_with_go(&p, scenario_main, &all, 2, "spawn_batch", 0, runs_or(7));
    pairs_emit_both(&p, 0, (struct figure){.name = "spawn_10000_all_procs", .unit = "ms"});
    in_child(million_main, NULL, &s, 1);
    emit(FIGURE(.name = "spawned_1000000", .unit = "fibers", .more_is_better = true,
                .value = isnan(s) ? 0 : MILLION, .bar = true, .at_least = MILLION));
    emit(FIGURE(.name = "spawn_yield_join_1000000", .unit = "s", .value = s));
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

static double *round_out; /* in the child only */

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
