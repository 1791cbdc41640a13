/* waits.c - channel, timer, mutex: what fibers wait on. */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <fen/hist.h>
#include <stdlib.h>
#include <sys/resource.h>

struct setting {
    int procs;
    int capacity, fibers;
};

static const struct setting *now_set; /* in the child only */

static void run_with(int (*fn)(void *arg), const struct setting *s, double *out)
{
    now_set = s;
    if (fen_run(fn, out, &(fen_config){.procs = s->procs}))
        *out = NAN;
}

static double median_of(void (*fn)(void *arg, double *out), struct setting *s, int runs)
{
    double v[BENCH_RUNS_MAX];
    for (int i = 0; i < runs; i++)
        in_child(fn, s, &v[i], 1);
    return median(v, runs);
}

/* ---- channel ---- */

#define MESSAGES 500000

static void sender(void *arg)
{
    for (int64_t i = 0; i < MESSAGES; i++)
        fen_chan_send(arg, &i);
    fen_chan_close(arg);
}

static int channel_run(void *out)
{
    int64_t v, sum = 0;
    fen_chan *c = fen_chan_new(sizeof v, (size_t)now_set->capacity);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    double from = now_s();
    if (fen_go(sender, c))
        return -ENOMEM;
    while (fen_chan_recv(c, &v) == 0)
        sum += v;
    *(double *)out = (now_s() - from) * 1e9 / MESSAGES;
    fen_scope_close(s);
    fen_chan_free(c);
    return sum == (int64_t)MESSAGES * (MESSAGES - 1) / 2 ? 0 : -EIO;
}

static void channel_main(void *arg, double *out) { run_with(channel_run, arg, out); }

static void channel_figure(const char *name, int procs, int capacity, const char *go_key)
{
    int runs = runs_or(7);
    struct setting s = {.procs = procs, .capacity = capacity};
    double go = go_key ? go_micro(go_key) : NAN, v = median_of(channel_main, &s, runs);
    emit(FIGURE(.name = name, .unit = "ns", .value = v, .rival = go_key ? "go" : NULL,
                .rival_value = go, .ratio = v / go, .runs = runs, .note = go_key ? go_note : NULL));
}

void bench_channel(void)
{
    channel_figure("unbuffered_message", 1, 0, "unbuffered_message_ns");
    channel_figure("unbuffered_message_all_procs", 0, 0, "unbuffered_message_all_procs_ns");
    channel_figure("buffered_128_message", 1, 128, NULL);
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

static void timer_main(void *arg, double *out) { run_with(timer_run, arg, out); }

void bench_timer(void)
{
    double p50[BENCH_RUNS_MAX], p99[BENCH_RUNS_MAX], cpu[BENCH_RUNS_MAX];
    int runs = runs_or(5);
    struct setting s = {0};
    for (int i = 0; i < runs; i++) {
        double v[3];
        in_child(timer_main, &s, v, 3);
        p50[i] = v[0], p99[i] = v[1], cpu[i] = v[2];
    }
    emit(FIGURE(.name = "late_p50", .unit = "us", .value = median(p50, runs), .runs = runs));
    emit(FIGURE(.name = "late_p99", .unit = "us", .value = median(p99, runs), .runs = runs));
    emit(FIGURE(.name = "cpu_per_sleep", .unit = "ns", .value = median(cpu, runs), .runs = runs,
                .note = "spawn and end of the fiber included"));
}

/* ---- mutex ---- */

#define LOCKS 1000000

struct shared {
    fen_mutex m;
    int64_t count, each;
};

static void locker(void *arg)
{
    struct shared *s = arg;
    for (int64_t i = 0; i < s->each; i++)
        if (fen_mutex_lock(&s->m) == 0) {
            s->count++;
            fen_mutex_unlock(&s->m);
        }
}

static int mutex_run(void *out)
{
    struct shared sh = {.each = LOCKS / now_set->fibers};
    double from = now_s();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < now_set->fibers; i++)
        if (fen_go(locker, &sh))
            return -ENOMEM;
    fen_scope_close(s);
    *(double *)out = (now_s() - from) * 1e9 / (double)sh.count;
    return sh.count == sh.each * now_set->fibers ? 0 : -EIO;
}

static void mutex_main(void *arg, double *out) { run_with(mutex_run, arg, out); }

void bench_mutex(void)
{
    int runs = runs_or(7);
    struct setting alone = {.procs = 1, .fibers = 1}, many = {.procs = 0, .fibers = 8};
    emit(FIGURE(.name = "lock_unlock", .unit = "ns", .value = median_of(mutex_main, &alone, runs),
                .runs = runs));
    emit(FIGURE(.name = "lock_unlock_8_fibers_all_procs", .unit = "ns",
                .value = median_of(mutex_main, &many, runs), .runs = runs));
}
