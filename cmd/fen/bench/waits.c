/* waits.c - channel, select, timer, mutex, blocking: what fibers wait on.
 *
 * The same loops stand in bench/rivals/go/micro; one P beside GOMAXPROCS=1 where nothing else is
 * said. Channels and values that others touch lie on no stack. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <fen/hist.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

static double per(int64_t n, double from) { return (now_s() - from) * 1e9 / (double)n; }

/* ---- channel ---- */

#define MESSAGES 300000

static fen_chan *there, *back, *quit;

static void sender(void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < MESSAGES; i++)
        if (fen_chan_send(there, &i))
            return;
    fen_chan_close(there);
}

static double messages(size_t capacity)
{
    int64_t v, sum = 0;
    there = fen_chan_new(sizeof v, capacity);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    double from = now_s();
    if (!there || !s || fen_go(sender, NULL))
        return NAN;
    while (fen_chan_recv(there, &v) == 0)
        sum += v;
    double ns = per(MESSAGES, from);
    int rc = fen_scope_close(s);
    fen_chan_free(there);
    return !rc && sum == (int64_t)MESSAGES * (MESSAGES - 1) / 2 ? ns : NAN;
}

static double unbuffered_round(void) { return messages(0); }
static double buffered_round(void) { return messages(128); }

static void echo(void *arg)
{
    (void)arg;
    int64_t v;
    while (fen_chan_recv(there, &v) == 0)
        if (fen_chan_send(back, &v))
            return;
}

#define TRIPS 150000

/* With a deadline in an hour for the answer, or without. */
static double trips(bool timed)
{
    int64_t v = 0, bad = 0;
    there = fen_chan_new(sizeof v, 0);
    back = fen_chan_new(sizeof v, 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!there || !back || !s || fen_go(echo, NULL))
        return NAN;
    double from = now_s();
    for (int64_t i = 0; i < TRIPS; i++) {
        int64_t until = timed ? fen_now() + 3600 * FEN_S : FEN_NEVER;
        bad += fen_chan_send(there, &i) || fen_chan_recv_until(back, &v, until) || v != i;
    }
    double ns = per(TRIPS, from);
    fen_chan_close(there);
    bad += fen_scope_close(s);
    fen_chan_free(there);
    fen_chan_free(back);
    return bad ? NAN : ns;
}

static double trip_round(void) { return trips(false); }

static void channel_figures(int procs, const char *message, const char *trip, const char *buffered)
{
    struct pairs p;
    struct figure f = {
        .unit = "ns", .bar = true, .at_least = 0.55, .aim = 0.4, .bar_on_ratio = true};
    struct scenario s = {
        .procs = procs, .n = 3, .round = {unbuffered_round, trip_round, buffered_round}};
    pairs_with_go(&p, scenario_main, &s, 6, "channel", procs, runs_or(7));
    f.name = message;
    pairs_emit_both(&p, 0, f);
    f.name = trip;
    pairs_emit_both(&p, 2, f);
    pairs_emit_both(&p, 4, (struct figure){.name = buffered, .unit = "ns"});
}

void bench_channel(void)
{
    channel_figures(1, "unbuffered_message", "round_trip", "buffered_128_message");
    channel_figures(0, "unbuffered_message_all_procs", "round_trip_all_procs",
                    "buffered_128_message_all_procs");
    struct pairs p;
    struct scenario s = {.procs = 1, .n = 2, .round = {unbuffered_round, trip_round}};
    pairs_with(&p, scenario_main, "pthread", threads_channel, &s, 4, runs_or(7));
    pairs_emit(&p, 0, 1, (struct figure){.name = "unbuffered_message_pthread", .unit = "ns"});
    pairs_emit(&p, 2, 1, (struct figure){.name = "round_trip_pthread", .unit = "ns"});
}

/* ---- select ---- */

static void alternate(void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < MESSAGES; i++)
        if (fen_chan_send(i % 2 ? back : there, &i))
            return;
}

/* The sender meets a receiver that waits on both channels, or the other way round. */
static double waiting_round(void)
{
    int64_t v = 0, sum = 0;
    there = fen_chan_new(sizeof v, 0);
    back = fen_chan_new(sizeof v, 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!there || !back || !s || fen_go(alternate, NULL))
        return NAN;
    double from = now_s();
    for (int i = 0; i < MESSAGES; i++) {
        fen_case c[] = {FEN_RECV(there, &v), FEN_RECV(back, &v)};
        if (fen_select(c, 2, FEN_NEVER) < 0)
            return NAN;
        sum += v;
    }
    double ns = per(MESSAGES, from);
    int rc = fen_scope_close(s);
    fen_chan_free(there);
    fen_chan_free(back);
    return !rc && sum == (int64_t)MESSAGES * (MESSAGES - 1) / 2 ? ns : NAN;
}

/* A send to one buffered channel, then a select of two of which that one is ready: no switch. */
static double ready_round(void)
{
    int64_t v = 0, bad = 0;
    there = fen_chan_new(sizeof v, 1);
    quit = fen_chan_new(0, 0);
    if (!there || !quit)
        return NAN;
    double from = now_s();
    for (int64_t i = 0; i < MESSAGES; i++) {
        fen_case c[] = {FEN_RECV(there, &v), FEN_RECV(quit, NULL)};
        bad += fen_chan_send(there, &i) || fen_select(c, 2, FEN_NEVER) != 0 || v != i;
    }
    double ns = per(MESSAGES, from);
    fen_chan_free(there);
    fen_chan_free(quit);
    return bad ? NAN : ns;
}

void bench_select(void)
{
    struct pairs p;
    struct scenario s = {.procs = 1, .n = 2, .round = {waiting_round, ready_round}};
    struct figure f = {
        .unit = "ns", .bar = true, .at_least = 0.8, .aim = 0.6, .bar_on_ratio = true};
    pairs_with_go(&p, scenario_main, &s, 4, "select", 1, runs_or(7));
    f.name = "message_by_select_of_2";
    pairs_emit_both(&p, 0, f);
    f.name = "send_and_ready_select_of_2";
    pairs_emit_both(&p, 2, f);
    struct scenario waiting = {.procs = 1, .n = 1, .round = {waiting_round}};
    pairs_with(&p, scenario_main, "pthread", threads_select, &waiting, 1, runs_or(7));
    pairs_emit(&p, 0, 1, (struct figure){.name = "message_by_select_of_2_pthread", .unit = "ns"});
}

/* ---- timer ---- */

#define SLEEPERS 10000

static int64_t late[SLEEPERS]; /* each fiber its own element */

static void sleep_once(void *arg)
{
    int64_t *mine = arg, until = *mine;
    fen_sleep_until(until);
    *mine = fen_now() - until;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* out: lateness P50 and P99 in us, CPU ns a sleeper. */
static int timer_run(void *arg)
{
    double *out = arg, from = cpu_s();
    int64_t base = fen_now() + 50 * FEN_MS;
    fen_hist h;
    fen_hist_init(&h);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < SLEEPERS; i++) {
        late[i] = base + (int64_t)((uint64_t)i * 7919 % SLEEPERS) * (200 * FEN_MS / SLEEPERS);
        if (fen_go(sleep_once, &late[i]))
            return -ENOMEM;
    }
    fen_scope_close(s);
    for (int i = 0; i < SLEEPERS; i++)
        fen_hist_record(&h, late[i]);
    out[0] = (double)fen_hist_quantile(&h, 0.5) / 1e3;
    out[1] = (double)fen_hist_quantile(&h, 0.99) / 1e3;
    out[2] = (cpu_s() - from) * 1e9 / SLEEPERS;
    return 0;
}

static void timer_main(void *arg, double *out)
{
    (void)arg;
    if (fen_run(timer_run, out, NULL))
        *out = NAN;
}

#define TIMERS 200000

static void never(fen_cancel_hook *h, int rc) { (void)h, (void)rc; }

/* What a deadline adds to a wait that ends before it: a timer started and stopped, and the clock
 * read for its time. Each trip parks once with the timer. */
static double wait_timer_round(void)
{
    double without = trips(false);
    return trips(true) - without;
}

/* A scope with a hook; the hook is called at the scope's deadline, by a timer. */
static double hooked_scopes(bool timed)
{
    static fen_cancel_hook h = {.fn = never};
    int bad = 0;
    double from = now_s();
    for (int i = 0; i < TIMERS; i++) {
        fen_scope *s = fen_scope_open(timed ? fen_now() + 3600 * FEN_S : FEN_NEVER);
        bad += !s || fen_cancel_hook_add(s, &h);
        fen_cancel_hook_del(&h);
        bad += s && fen_scope_close(s);
    }
    return bad ? NAN : per(TIMERS, from);
}

static double scope_timer_round(void)
{
    double without = hooked_scopes(false);
    return hooked_scopes(true) - without;
}

static double timed_scope_round(void) { return hooked_scopes(true); }

static void start_stop_figures(void)
{
    struct pairs p;
    struct scenario s = {
        .procs = 1,
        .n = 4,
        .round = {wait_timer_round, wait_timer_round, scope_timer_round, timed_scope_round}};
    pairs_with_go(&p, scenario_main, &s, 8, "timer", 1, runs_or(7));
    pairs_emit_both(&p, 0,
                    (struct figure){.name = "start_stop",
                                    .unit = "ns",
                                    .bar = true,
                                    .at_least = 0.3,
                                    .aim = 0.15,
                                    .bar_on_ratio = true,
                                    .note = "what a deadline adds to a wait; Go: AfterFunc, Stop"});
    pairs_emit(&p, 2, 1,
               (struct figure){
                   .name = "start_stop_reused", .unit = "ns", .note = "the same; Go: Reset, Stop"});
    pairs_emit(&p, 4, 1,
               (struct figure){.name = "start_stop_scope",
                               .unit = "ns",
                               .note = "what a deadline adds to a scope with a hook; "
                                       "Go: AfterFunc, Stop"});
    pairs_emit(&p, 6, 1,
               (struct figure){.name = "scope_with_deadline_and_hook",
                               .unit = "ns",
                               .note = "Go: context.WithTimeout, context.AfterFunc, both undone"});
    s.n = 1;
    pairs_with(&p, scenario_main, "pthread", threads_timer, &s, 1, runs_or(7));
    pairs_emit(&p, 0, 1,
               (struct figure){.name = "start_stop_pthread",
                               .unit = "ns",
                               .note = "the rival: a timerfd set and unset"});
}

void bench_timer(void)
{
    double p50[BENCH_RUNS_MAX], p99[BENCH_RUNS_MAX], cpu[BENCH_RUNS_MAX];
    int runs = runs_or(5);
    start_stop_figures();
    for (int i = 0; i < runs; i++) {
        double v[3];
        in_child(timer_main, NULL, v, 3);
        p50[i] = v[0], p99[i] = v[1], cpu[i] = v[2];
    }
    emit(FIGURE(.name = "late_p50", .unit = "us", .value = median(p50, runs), .runs = runs));
    emit(FIGURE(.name = "late_p99", .unit = "us", .value = median(p99, runs), .runs = runs));
    emit(FIGURE(.name = "cpu_per_sleep", .unit = "ns", .value = median(cpu, runs), .runs = runs,
                .note = "spawn and end of the fiber included"));
}

/* ---- mutex ---- */

#define LOCKS 1000000
#define LOCKERS 8

static struct {
    fen_mutex m;
    pthread_mutex_t thread_m;
    int64_t count, each;
} sh = {.thread_m = PTHREAD_MUTEX_INITIALIZER};

static void locker(void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < sh.each; i++)
        if (fen_mutex_lock(&sh.m) == 0) {
            sh.count++;
            fen_mutex_unlock(&sh.m);
        }
}

static double lock_round(void)
{
    sh.count = 0;
    sh.each = LOCKS;
    double from = now_s();
    locker(NULL);
    return sh.count == LOCKS ? per(LOCKS, from) : NAN;
}

static double contended_round(void)
{
    sh.count = 0;
    sh.each = LOCKS / 4 / LOCKERS;
    double from = now_s();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < LOCKERS; i++)
        if (!s || fen_go(locker, NULL))
            return NAN;
    int rc = fen_scope_close(s);
    return !rc && sh.count == sh.each * LOCKERS ? per(sh.count, from) : NAN;
}

static void pthread_main(void *arg, double *out)
{
    (void)arg;
    double from = now_s();
    for (int i = 0; i < LOCKS; i++) {
        pthread_mutex_lock(&sh.thread_m);
        sh.count++;
        pthread_mutex_unlock(&sh.thread_m);
    }
    *out = per(LOCKS, from);
}

/* What no mutex can be below here: the two locked instructions of an uncontended pair. */
static void floor_main(void *arg, double *out)
{
    static uint32_t word;
    (void)arg;
    double from = now_s();
    for (int i = 0; i < LOCKS; i++) {
        uint32_t free_word = 0;
        if (__atomic_compare_exchange_n(&word, &free_word, 1, 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            sh.count++;
            (void)__atomic_sub_fetch(&word, 1, __ATOMIC_RELEASE);
        }
    }
    *out = per(LOCKS, from);
}

void bench_mutex(void)
{
    struct pairs p;
    struct scenario alone = {.procs = 1, .n = 1, .round = {lock_round}};
    struct scenario many = {.n = 1, .round = {contended_round}};
    pairs_with_go(&p, scenario_main, &alone, 2, "mutex", 1, runs_or(21));
    pairs_emit_both(
        &p, 0,
        (struct figure){
            .name = "lock_unlock", .unit = "ns", .bar = true, .at_least = 1, .bar_on_ratio = true});
    pairs_with(&p, scenario_main, "pthread", pthread_main, &alone, 1, runs_or(7));
    pairs_emit(&p, 0, 1, (struct figure){.name = "lock_unlock_pthread", .unit = "ns"});
    pairs_with(&p, scenario_main, "two locked instructions", floor_main, &alone, 1, runs_or(7));
    pairs_emit(&p, 0, 1, (struct figure){.name = "lock_unlock_floor", .unit = "ns"});
    pairs_with_go(&p, scenario_main, &many, 2, "mutex_8", 0, runs_or(7));
    pairs_emit(&p, 0, 1, (struct figure){.name = "lock_unlock_8_fibers_all_procs", .unit = "ns"});
}

/* ---- blocking ---- */

#define SECTIONS 1000000

static double section_round(void)
{
    double from = now_s();
    for (int i = 0; i < SECTIONS; i++) {
        fen_blocking_begin();
        __asm__ volatile("" ::: "memory");
        fen_blocking_end();
    }
    return per(SECTIONS, from);
}

void bench_blocking(void)
{
    struct pairs p;
    struct scenario s = {.procs = 1, .n = 1, .round = {section_round}};
    pairs_with_go(&p, scenario_main, &s, 2, "blocking", 1, runs_or(7));
    pairs_emit_both(&p, 0,
                    (struct figure){.name = "section",
                                    .unit = "ns",
                                    .bar = true,
                                    .at_least = 15,
                                    .aim = 2,
                                    .note = "Go: what Syscall adds to RawSyscall"});
}
