/* hogs.c - a fiber that works 0.2 ms every 5 ms, beside others that do not let go. How late does it
 * wake, and how much of the machine is left to fibers that behave?
 *
 * One process a scenario: all start; after a second of warm-up (each new hog costs a P until it is
 * known) the lateness of each tick is recorded for 1.5 s. With endless loops four good fibers
 * follow that always have work and yield every 0.1 ms: 0.4 s later, lateness again and the
 * CPU time of the good ones, as a share of wall time times Ps.
 *
 * The ticks are an open loop: a tick's time is 5 ms after the last one's, however late that came,
 * and what is overdue when a window closes counts with the lateness it has by then. The windows are
 * opened and closed by a thread outside the runtime, which would see a standstill too. Work is a
 * loop of fixed length, calibrated before the others start.
 *
 * The pthread columns are the same company as threads, which the kernel's scheduler shares out. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP (1000 * FEN_MS)
#define WINDOW (1500 * FEN_MS)
#define SETTLE (400 * FEN_MS)
#define GAP (5 * FEN_MS)
#define CHUNK_NS 20000
#define TICK_CHUNKS 10 /* 0.2 ms */
#define GOOD_CHUNKS 5
#define GOOD 4
#define TICKS_MAX 4096

struct company {
    int n;
    void (*fn)(void *arg);
    bool with_good;
};

enum { P99_ALONE, P99_GOOD, SHARE, CALLS, NUMBERS };

/* In the child only. */
static bool threads; /* the company are threads, not fibers */
static atomic_bool stop, good_may_start;
static atomic_int recording; /* the window that is open, 1 or 2 */
static _Atomic int64_t due, good_cpu, calls;
static int64_t late[3][TICKS_MAX];
static atomic_int ticks[3];
static int loops; /* of a chunk */
static fen_chan *start_good;

static int64_t thread_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * FEN_S + t.tv_nsec;
}

static void chunk(void)
{
    uint64_t x = 1;
    for (int i = 0; i < loops; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        __asm__ volatile("" : "+r"(x));
    }
}

static void calibrate(void)
{
    int64_t best = FEN_S;
    loops = 20000;
    for (int i = 0; i < 200; i++) {
        int64_t from = thread_cpu();
        chunk();
        int64_t took = thread_cpu() - from;
        best = took > 0 && took < best ? took : best;
    }
    loops = (int)((int64_t)loops * CHUNK_NS / best);
}

static void pause_ns(int64_t ns)
{
    struct timespec t = {ns / FEN_S, ns % FEN_S};
    nanosleep(&t, NULL);
}

static void sleep_until(int64_t at)
{
    struct timespec t = {at / FEN_S, at % FEN_S};
    if (threads)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    else
        (void)fen_sleep_until(at);
}

static void let_others(void)
{
    if (threads)
        sched_yield();
    else
        fen_yield();
}

static void record(int window, int64_t ns)
{
    int at = atomic_fetch_add(&ticks[window], 1);
    if (at < TICKS_MAX)
        late[window][at] = ns;
}

static void ticker(void *arg)
{
    (void)arg;
    atomic_store(&due, fen_now());
    while (!atomic_load(&stop)) {
        int64_t at = atomic_load(&due) + GAP;
        atomic_store(&due, at);
        sleep_until(at);
        int window = atomic_load(&recording);
        if (window)
            record(window, fen_now() - at);
        for (int i = 0; i < TICK_CHUNKS; i++)
            chunk();
    }
}

/* Its thread's clock tells its CPU: it stays on its thread until it yields. */
static void good(void *arg)
{
    (void)arg;
    if (!threads)
        (void)!fen_chan_recv(start_good, NULL); /* closed */
    while (threads && !atomic_load(&good_may_start))
        pause_ns(FEN_MS);
    while (!atomic_load(&stop)) {
        int64_t from = thread_cpu();
        for (int i = 0; i < GOOD_CHUNKS; i++)
            chunk();
        int64_t spent = thread_cpu() - from;
        if (atomic_load(&recording) == 2)
            atomic_fetch_add(&good_cpu, spent);
        let_others();
    }
}

static void loop_for_ever(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) /* pairs with nothing: a flag */
        ;
}

static void yield_every_15_ms(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        int64_t end = fen_now() + 15 * FEN_MS;
        while (fen_now() < end && !atomic_load(&stop))
            chunk();
        let_others();
    }
}

static void nap_100_ms(void)
{
    pause_ns(100 * FEN_MS);
    if (atomic_load(&recording))
        atomic_fetch_add(&calls, 1);
}

static void call_undeclared(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        nap_100_ms();
        let_others();
    }
}

static void call_declared(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        fen_blocking_begin();
        nap_100_ms();
        fen_blocking_end();
    }
}

/* ---- the child ---- */

/* Seconds that the window was open. */
static double window(int which)
{
    int64_t from = fen_now();
    atomic_store(&recording, which);
    pause_ns(WINDOW);
    atomic_store(&recording, 0);
    int64_t now = fen_now();
    for (int64_t at = atomic_load(&due); at < now; at += GAP)
        record(which, now - at);
    return (double)(now - from) / 1e9;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double p99_ms(int which)
{
    int n = atomic_load(&ticks[which]);
    n = n < TICKS_MAX ? n : TICKS_MAX;
    qsort(late[which], (size_t)n, sizeof late[which][0], by_time);
    int at = n * 99 / 100;
    return n ? (double)late[which][at] / 1e6 : NAN;
}

struct keeper {
    const struct company *company;
    double *out;
    int procs;
};

static void *keep_time(void *arg)
{
    const struct keeper *k = arg;
    pause_ns(WARM_UP);
    double seconds = window(1);
    k->out[P99_ALONE] = p99_ms(1);
    k->out[CALLS] = (double)atomic_load(&calls) / seconds;
    atomic_store(&good_may_start, true);
    if (!threads)
        fen_chan_close(start_good);
    if (k->company->with_good) {
        pause_ns(SETTLE);
        seconds = window(2);
        k->out[P99_GOOD] = p99_ms(2);
        k->out[SHARE] = (double)atomic_load(&good_cpu) / 1e9 / seconds / k->procs * 100;
    }
    atomic_store(&stop, true);
    return NULL;
}

struct job {
    void (*fn)(void *arg);
};

static void *as_thread(void *arg)
{
    ((struct job *)arg)->fn(NULL);
    return NULL;
}

static int start(void (*fn)(void *arg))
{
    if (!threads)
        return fen_go(fn, NULL);
    pthread_t t;
    struct job *j = malloc(sizeof *j); /* the process is short */
    if (!j)
        return -1;
    j->fn = fn;
    return pthread_create(&t, NULL, as_thread, j);
}

/* The time is kept on `t`, and the end is when it ends. */
static void start_all(struct keeper *k, pthread_t *t)
{
    calibrate();
    int rc = start(ticker);
    for (int i = 0; i < GOOD && !rc; i++)
        rc = start(good);
    for (int i = 0; i < k->company->n && !rc; i++)
        rc = start(k->company->fn);
    if (rc || pthread_create(t, NULL, keep_time, k))
        _exit(1);
}

static int company_run(void *arg)
{
    struct keeper *k = arg;
    pthread_t t;
    k->procs = fen_procs();
    start_good = fen_chan_new(0, 0);
    if (!start_good)
        _exit(1);
    start_all(k, &t);
    return pthread_detach(t); /* stop is its last act, and the run ends after it */
}

static void company_main(void *arg, double *out)
{
    struct keeper k = {arg, out, 0};
    for (int i = 0; i < NUMBERS; i++)
        out[i] = 0;
    if (fen_run(company_run, &k, NULL))
        out[0] = NAN;
}

static void company_of_threads(void *arg, double *out)
{
    struct keeper k = {arg, out, (int)sysconf(_SC_NPROCESSORS_ONLN)};
    pthread_t t;
    for (int i = 0; i < NUMBERS; i++)
        out[i] = 0;
    threads = true;
    start_all(&k, &t);
    pthread_join(t, NULL); /* the others end with the process */
}

/* ---- figures ---- */

/* The bar is for the median of the runs; the worst of them stands beside it. */
static void late_figure(const struct pairs *p, int number, struct figure f)
{
    char name[80], note[40];
    double worst = 0;
    for (int i = 0; i < p->runs; i++)
        worst = p->fen[number][i] > worst ? p->fen[number][i] : worst;
    pairs_emit(p, number, 1, f);
    snprintf(name, sizeof name, "%s_worst", f.name);
    snprintf(note, sizeof note, "of %d runs", p->runs);
    emit(FIGURE(.name = name, .unit = f.unit, .value = worst, .note = note));
}

static void threads_beside(const struct company *c, const char *name, bool with_good)
{
    struct pairs p;
    char longer[80];
    pairs_with(&p, company_main, "pthread", company_of_threads, (void *)c, NUMBERS, runs_or(1));
    snprintf(longer, sizeof longer, "%s_pthread", name);
    pairs_emit(&p, with_good ? P99_GOOD : P99_ALONE, 1,
               (struct figure){.name = longer, .unit = "ms"});
}

static void loops_beside(int n, double late_bar, double late_aim, double share_bar,
                         double share_aim)
{
    struct pairs p;
    char scenario[32], alone[64], together[64], share[64];
    struct company c = {n, loop_for_ever, true};
    snprintf(scenario, sizeof scenario, "hogs_%d", n);
    snprintf(alone, sizeof alone, "tick_p99_%d_loops", n);
    snprintf(together, sizeof together, "tick_p99_%d_loops_4_good", n);
    snprintf(share, sizeof share, "share_of_4_good_%d_loops", n);
    pairs_with_go(&p, company_main, &c, NUMBERS, scenario, 0, runs_or(3));
    struct figure f = {.unit = "ms", .bar = true, .at_least = late_bar, .aim = late_aim};
    f.name = alone;
    late_figure(&p, P99_ALONE, f);
    f.name = together;
    late_figure(&p, P99_GOOD, f);
    pairs_emit(&p, SHARE, 1,
               (struct figure){.name = share,
                               .unit = "%",
                               .more_is_better = true,
                               .bar = true,
                               .at_least = share_bar,
                               .aim = share_aim});
    threads_beside(&c, together, true);
}

static void calls_beside(const char *late_name, const char *calls_name, void (*fn)(void *),
                         double late_bar, double late_aim)
{
    struct pairs p;
    struct company c = {64, fn, false};
    pairs_with_go(&p, company_main, &c, NUMBERS, "calls", 0, runs_or(3));
    late_figure(
        &p, P99_ALONE,
        (struct figure){
            .name = late_name, .unit = "ms", .bar = true, .at_least = late_bar, .aim = late_aim});
    pairs_emit(
        &p, CALLS, 1,
        (struct figure){
            .name = calls_name, .unit = "1/s", .more_is_better = true, .note = "640 would be all"});
    if (fn == call_undeclared)
        threads_beside(&c, late_name, false);
}

void bench_hogs(void)
{
    struct pairs p;
    struct company yielders = {4, yield_every_15_ms, false};
    loops_beside(2, 8, 1, 85, 95);
    loops_beside(16, 12, 2, 80, 91);
    loops_beside(64, 25, 10, 60, 70);
    pairs_with_go(&p, company_main, &yielders, NUMBERS, "yielders", 0, runs_or(3));
    late_figure(&p, P99_ALONE,
                (struct figure){.name = "tick_p99_4_yield_every_15_ms",
                                .unit = "ms",
                                .bar = true,
                                .at_least = 25,
                                .aim = 10});
    calls_beside("tick_p99_64_undeclared_calls", "undeclared_calls", call_undeclared, 10, 2.5);
    calls_beside("tick_p99_64_declared_calls", "declared_calls", call_declared, 2, 0.4);
}
