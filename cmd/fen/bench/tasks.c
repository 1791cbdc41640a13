/* tasks.c - tasks, hibernate: crowds of waiting fibers, how soon one of them wakes, and what a
 * million that give their stacks back cost, and whom.
 *
 * tasks: 100,000 fibers wait on one channel, first in first out. A thread outside the runtime sends
 * the time once a millisecond; whose turn it is notes how late that came and waits again, so each
 * wake-up meets a fiber, a record and a stack that nobody has touched for long. First alone, then
 * beside four fibers that always have work and yield every 0.1 ms. Twice: with resident stacks, and
 * with stacks given back. Beside it threads, of which the machine does not carry so many: 10,000
 * with default stacks, what each adds to the process's size and to its resident memory. The two are
 * not the same thing, and neither is comparable with the other side's.
 *
 * hibernate: 1,000,000 fibers, then the order to hibernate. Who pays for giving the stacks back is
 * whoever runs meanwhile: a fiber that works in units of about 0.8 us is timed for a second
 * before, and then until all stacks are gone. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TASKS 100000
#define MILLION 1000000
#define WAKES 1500
#define BUSY 4
#define PATIENCE (20 * FEN_S)

/* In the child only. */
static fen_wg ready;
static fen_chan *turns;
static atomic_bool stop;
static atomic_int phase; /* 0: nobody sends; 1: alone; 2: beside others */
static int64_t late[3][WAKES];
static atomic_int n_late[3];

static int64_t pages_of(int field)
{
    long v[2] = {0, 0};
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%ld %ld", &v[0], &v[1]) != 2)
        v[0] = v[1] = 0;
    if (f)
        fclose(f);
    return v[field] * sysconf(_SC_PAGESIZE);
}
static int64_t size_now(void) { return pages_of(0); }
static int64_t rss_now(void) { return pages_of(1); }

static void pause_ns(int64_t ns)
{
    struct timespec t = {ns / FEN_S, ns % FEN_S};
    nanosleep(&t, NULL);
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double p99(int64_t *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_time);
    int at = n * 99 / 100;
    return n ? (double)v[at] : NAN;
}

/* A loop of some microseconds. */
static void work(int loops)
{
    uint64_t x = 1;
    for (int i = 0; i < loops; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        __asm__ volatile("" : "+r"(x));
    }
}

/* ---- the crowd ---- */

static void task(void *arg)
{
    int64_t sent;
    (void)arg;
    fen_wg_done(&ready);
    while (fen_chan_recv(turns, &sent) == 0) {
        int in = atomic_load(&phase), at = atomic_fetch_add(&n_late[in], 1);
        if (at < WAKES)
            late[in][at] = fen_now() - sent;
    }
}

static int gather(int n)
{
    turns = fen_chan_new(sizeof(int64_t), 0);
    if (!turns)
        return -1;
    fen_wg_add(&ready, n);
    for (int i = 0; i < n; i++)
        if (fen_go(task, NULL))
            return -1;
    int rc = fen_wg_wait(&ready);
    return rc ? rc : fen_sleep(20 * FEN_MS);
}

/* Until n hibernate. */
static int fall_asleep(int n)
{
    fen_stats s = {0};
    for (int64_t end = fen_now() + PATIENCE; fen_now() < end;) {
        fen_stats_get(&s);
        if (s.fibers_hibernating >= n)
            return 0;
        if (fen_sleep(10 * FEN_MS))
            return -1;
    }
    return -1;
}

/* ---- tasks ---- */

enum { RSS, IDLE_P99, BUSY_P99, TASK_NUMBERS };

static void busy(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        int64_t end = fen_now() + 100 * FEN_US;
        while (fen_now() < end)
            work(200);
        fen_yield();
    }
}

/* An outside thread: it would see a runtime that stands still. */
static void *send_times(void *arg)
{
    int in = *(int *)arg;
    atomic_store(&phase, in);
    for (int i = 0; i < WAKES; i++) {
        pause_ns(FEN_MS);
        int64_t now = fen_now();
        if (fen_chan_send(turns, &now))
            break;
    }
    pause_ns(50 * FEN_MS); /* the last one's wake-up */
    return NULL;
}

static int wake_many(int in)
{
    pthread_t t;
    if (pthread_create(&t, NULL, send_times, &in))
        return -1;
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    return 0;
}

struct task_run {
    bool cold;
    double *out;
};

static int tasks_run(void *arg)
{
    const struct task_run *r = arg;
    int64_t before = rss_now();
    if (r->cold && fen_scope_hibernate(NULL, 100 * FEN_MS))
        _exit(1);
    if (gather(TASKS) || (r->cold && fall_asleep(TASKS)))
        _exit(1);
    r->out[RSS] = (double)(rss_now() - before) / 1e6;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s || wake_many(1))
        _exit(1);
    for (int i = 0; i < BUSY; i++)
        if (fen_go(busy, NULL))
            _exit(1);
    if (wake_many(2))
        _exit(1);
    atomic_store(&stop, true);
    r->out[IDLE_P99] = p99(late[1], WAKES) / 1e3;
    r->out[BUSY_P99] = p99(late[2], WAKES) / 1e3;
    fen_chan_close(turns);
    return fen_scope_close(s);
}

static void tasks_main(void *cold, double *out)
{
    struct task_run r = {*(bool *)cold, out};
    if (fen_run(tasks_run, &r, NULL) || n_late[1] < WAKES || n_late[2] < WAKES)
        *out = NAN;
}

/* ---- threads ---- */

#define MANY_THREADS 10000

static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static atomic_int inside;

static void *wait_at_door(void *arg)
{
    atomic_fetch_add(&inside, 1);
    pthread_mutex_lock(&door);
    pthread_mutex_unlock(&door);
    return arg;
}

/* out: how many there were, KB of address space and of memory for each. */
static void threads_main(void *arg, double *out)
{
    pthread_t t;
    int n = 0;
    (void)arg;
    pthread_mutex_lock(&door);
    int64_t size = size_now(), rss = rss_now();
    while (n < MANY_THREADS && !pthread_create(&t, NULL, wait_at_door, NULL))
        n++;
    for (int i = 0; i < 5000 && atomic_load(&inside) < n; i++)
        pause_ns(FEN_MS);
    out[0] = n;
    out[1] = n ? (double)(size_now() - size) / 1024 / n : NAN;
    out[2] = n ? (double)(rss_now() - rss) / 1024 / n : NAN;
}

static void thread_figures(void)
{
    double v[3];
    in_child(threads_main, NULL, v, 3); /* ends with the child */
    emit(FIGURE(.name = "threads_made", .unit = "", .more_is_better = true, .value = v[0],
                .note = "of 10,000 asked for"));
    emit(FIGURE(.name = "thread_virtual", .unit = "KB", .value = v[1],
                .note = "address space, default stack"));
    emit(FIGURE(.name = "thread_resident", .unit = "KB", .value = v[2],
                .note = "the kernel's own stack of 16 KB not in it"));
}

void bench_tasks(void)
{
    static double v[2][TASK_NUMBERS][BENCH_RUNS_MAX];
    double out[TASK_NUMBERS];
    int runs = runs_or(3);
    for (int i = 0; i < runs; i++)
        for (int cold = 0; cold < 2; cold++) {
            bool how = cold;
            in_child(tasks_main, &how, out, TASK_NUMBERS);
            for (int k = 0; k < TASK_NUMBERS; k++)
                v[cold][k][i] = out[k];
        }
    emit(FIGURE(.name = "rss_100000_resident", .unit = "MB", .value = median(v[0][RSS], runs),
                .runs = runs, .bar = true, .at_least = 450));
    emit(FIGURE(.name = "rss_100000_hibernating", .unit = "MB", .value = median(v[1][RSS], runs),
                .runs = runs, .bar = true, .at_least = 200));
    emit(FIGURE(.name = "wake_p99_idle", .unit = "us", .value = median(v[0][IDLE_P99], runs),
                .runs = runs, .bar = true, .at_least = 100));
    emit(FIGURE(.name = "wake_p99_loaded", .unit = "us", .value = median(v[0][BUSY_P99], runs),
                .runs = runs, .bar = true, .at_least = 1000));
    emit(FIGURE(.name = "wake_p99_idle_hibernating", .unit = "us",
                .value = median(v[1][IDLE_P99], runs), .runs = runs));
    emit(FIGURE(.name = "wake_p99_loaded_hibernating", .unit = "us",
                .value = median(v[1][BUSY_P99], runs), .runs = runs, .bar = true,
                .at_least = 1000));
    thread_figures();
}

/* ---- hibernate ---- */

#define UNITS_MAX 8000000
#define UNIT_LOOPS 740 /* 0.8 us or so */

enum { EACH, BEFORE, MEANWHILE, SECONDS, HIBERNATE_NUMBERS };

static int64_t *unit_ns[2];
static int n_units[2];       /* the neighbour's, until it has ended */
static atomic_int recording; /* 0: nothing; 1, 2: into unit_ns[0], [1] */
static fen_chan *begin;

static void neighbour(void *arg)
{
    (void)arg;
    (void)!fen_chan_recv(begin, NULL); /* closed */
    while (!atomic_load(&stop)) {
        int64_t from = fen_now();
        work(UNIT_LOOPS);
        int64_t took = fen_now() - from;
        int in = atomic_load(&recording) - 1;
        if (in >= 0 && n_units[in] < UNITS_MAX)
            unit_ns[in][n_units[in]++] = took;
        fen_yield();
    }
}

/* The stacks of scope s go, while the neighbour works. */
static int hibernate_all(fen_scope *s, double *out)
{
    fen_chan_close(begin);
    if (fen_sleep(200 * FEN_MS))
        return -1;
    atomic_store(&recording, 1);
    if (fen_sleep(FEN_S))
        return -1;
    atomic_store(&recording, 2);
    double from = now_s();
    if (fen_scope_hibernate(s, 10 * FEN_MS) || fall_asleep(MILLION))
        return -1;
    out[SECONDS] = now_s() - from;
    atomic_store(&recording, 0);
    return 0;
}

static int hibernate_run(void *arg)
{
    double *out = arg;
    begin = fen_chan_new(0, 0);
    for (int i = 0; i < 2; i++)
        unit_ns[i] = calloc(UNITS_MAX, sizeof *unit_ns[i]);
    if (!begin || !unit_ns[0] || !unit_ns[1] || fen_go(neighbour, NULL)) /* in no such scope */
        _exit(1);
    int64_t before = rss_now();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s || gather(MILLION) || hibernate_all(s, out))
        _exit(1);
    int64_t own = (int64_t)(n_units[0] + n_units[1]) * (int64_t)sizeof **unit_ns;
    out[EACH] = (double)(rss_now() - before - own) / MILLION / 1024;
    atomic_store(&stop, true);
    out[BEFORE] = p99(unit_ns[0], n_units[0]) / 1e3;
    out[MEANWHILE] = p99(unit_ns[1], n_units[1]) / 1e3;
    ssize_t put = write(1, out, sizeof *out * HIBERNATE_NUMBERS);
    _exit(put < 0 ? 1 : 0); /* a million wake-ups saved */
}

static void hibernate_main(void *arg, double *out)
{
    (void)arg;
    if (fen_run(hibernate_run, out, NULL))
        *out = NAN;
}

void bench_hibernate(void)
{
    static double v[HIBERNATE_NUMBERS][BENCH_RUNS_MAX];
    double out[HIBERNATE_NUMBERS], ratio[BENCH_RUNS_MAX];
    int runs = runs_or(1);
    for (int i = 0; i < runs; i++) {
        in_child(hibernate_main, NULL, out, HIBERNATE_NUMBERS);
        for (int k = 0; k < HIBERNATE_NUMBERS; k++)
            v[k][i] = out[k];
        ratio[i] = out[MEANWHILE] / out[BEFORE];
    }
    emit(FIGURE(.name = "resident_of_1000000", .unit = "KB", .value = median(v[EACH], runs),
                .runs = runs, .bar = true, .at_least = 1.3, .aim = 1.0));
    emit(FIGURE(.name = "seconds_to_hibernate", .unit = "s", .value = median(v[SECONDS], runs),
                .runs = runs));
    emit(FIGURE(.name = "neighbour_p99_before", .unit = "us", .value = median(v[BEFORE], runs),
                .runs = runs));
    emit(FIGURE(.name = "neighbour_p99_meanwhile", .unit = "us",
                .value = median(v[MEANWHILE], runs), .runs = runs));
    emit(FIGURE(.name = "neighbour_p99_ratio", .unit = "x", .value = median(ratio, runs),
                .runs = runs, .bar = true, .at_least = 2));
}
