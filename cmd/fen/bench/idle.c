/* idle.c - parked, idle, million, quiet: what fibers cost that only wait.
 *
 * Resident memory is the growth of the process's own (statm), so it holds everything: stacks,
 * records, tables. 1 KB is 1,024 bytes. Each fiber has run, called into the library and parked on
 * one channel; none has a timer. Page tables are the kernel's and not in it. */
#include "bench/bench.h"

#include <dirent.h>
#include <fen/fen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARKED 100000
#define MILLION 1000000
#define LATER (1600 * FEN_MS) /* "after 1 s", with some room */

struct crowd {
    int n;
    int64_t after;
};

enum { EACH, LIVE, MAPS, NUMBERS };

int64_t own_rss(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static int own_maps(void)
{
    int c, n = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    while (f && (c = getc(f)) != EOF)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

static fen_wg ready;
static fen_chan *gate;

static void park(void *arg)
{
    (void)arg;
    fen_wg_done(&ready);
    (void)!fen_chan_recv(gate, NULL); /* closed */
}

/* Returns when n fibers are parked. */
static int gather(int n)
{
    gate = fen_chan_new(0, 0);
    if (!gate)
        return -1;
    fen_wg_add(&ready, n);
    for (int i = 0; i < n; i++)
        if (fen_go(park, NULL))
            return -1;
    int rc = fen_wg_wait(&ready);
    return rc ? rc : fen_sleep(20 * FEN_MS);
}

static double *crowd_out; /* in the child only */

static int crowd_run(void *arg)
{
    const struct crowd *c = arg;
    fen_stats s;
    int64_t before = own_rss();
    if (c->after && fen_scope_hibernate(NULL, FEN_S))
        _exit(1);
    if (gather(c->n))
        _exit(1);
    fen_sleep(c->after);
    crowd_out[EACH] = (double)(own_rss() - before) / c->n;
    fen_stats_get(&s);
    crowd_out[LIVE] = (double)s.fibers_live - 1;
    crowd_out[MAPS] = own_maps();
    fen_chan_close(gate);
    return 0;
}

static void crowd_main(void *arg, double *out)
{
    crowd_out = out;
    if (fen_run(crowd_run, arg, NULL))
        *out = NAN;
}

/* ---- parked, idle, million ---- */

void bench_parked(void)
{
    struct pairs p;
    struct crowd c = {PARKED, 0};
    pairs_with_go(&p, crowd_main, &c, NUMBERS, "idle", 0, runs_or(1));
    pairs_emit(
        &p, EACH, PARKED / 1e6,
        (struct figure){.name = "rss_100000_parked", .unit = "MB", .bar = true, .at_least = 450});
}

/* A stack that is copied out leaves less than a page. */
static bool hibernates(const struct pairs *p) { return p->fen[EACH][0] < 3072; }

/* As many threads as any system allows, and as many fibers. */
static void idle_threads(void)
{
    int n = 2000;
    struct crowd few = {n, 0};
    double threads[BENCH_RUNS_MAX], fibers[BENCH_RUNS_MAX];
    int runs = runs_or(3);
    for (int i = 0; i < runs; i++) {
        double v[NUMBERS];
        in_child(crowd_main, &few, v, NUMBERS);
        fibers[i] = v[EACH] / 1024;
        in_child(threads_idle, &n, v, 1);
        threads[i] = v[0] / 1024;
    }
    double fen = median(fibers, runs), other = median(threads, runs);
    emit(FIGURE(.name = "resident_per_fiber_of_2000", .unit = "KB", .value = fen,
                .rival = "pthread", .rival_value = other, .ratio = fen / other, .runs = runs,
                .note = "a thread's 16 KB in the kernel are not counted"));
}

void bench_idle(void)
{
    struct pairs p;
    struct crowd now = {PARKED, 0}, later = {PARKED, LATER};
    pairs_with_go(&p, crowd_main, &now, NUMBERS, "idle", 0, runs_or(5));
    pairs_emit(
        &p, EACH, 1. / 1024,
        (struct figure){.name = "resident_per_fiber", .unit = "KB", .bar = true, .at_least = 4.4});
    pairs_with_go(&p, crowd_main, &later, NUMBERS, "idle_later", 0, runs_or(1));
    pairs_emit(&p, EACH, 1. / 1024,
               (struct figure){.name = "resident_per_fiber_after_1s",
                               .unit = "KB",
                               .bar = true,
                               .at_least = 1.3,
                               .aim = 1.0,
                               .note = hibernates(&p) ? NULL : "the stacks were not given back"});
    idle_threads();
}

void bench_million(void)
{
    struct pairs p;
    struct crowd c = {MILLION, 0};
    pairs_with_go(&p, crowd_main, &c, NUMBERS, "million", 0, runs_or(1));
    pairs_emit(&p, LIVE, 1,
               (struct figure){.name = "idle_fibers",
                               .unit = "fibers",
                               .more_is_better = true,
                               .bar = true,
                               .at_least = MILLION});
    pairs_emit(&p, MAPS, 1,
               (struct figure){.name = "maps", .unit = "maps", .bar = true, .at_least = 99});
    pairs_emit(
        &p, EACH, 1. / 1024,
        (struct figure){.name = "resident_per_fiber", .unit = "KB", .bar = true, .at_least = 4.4});
}

/* ---- quiet ---- */

#define WATCH_S 3

static int quiet_run(void *arg)
{
    (void)arg;
    if (gather(PARKED))
        return -1;
    if (write(1, "ready\n", 6) != 6)
        return -1;
    return fen_chan_recv(gate, NULL);
}

static int quiet_main(void *arg) { return fen_run(quiet_run, arg, NULL); }

/* Times that a thread of the process has been switched to, as both kinds of switching away. */
static int64_t switches_of(pid_t pid)
{
    char path[300], line[256];
    int64_t sum = 0, n;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)pid, e->d_name);
        FILE *f = *e->d_name == '.' ? NULL : fopen(path, "re");
        while (f && fgets(line, sizeof line, f)) {
            const char *at = strstr(line, "voluntary_ctxt_switches:");
            if (at && sscanf(at, "%*[^0-9]%ld", &n) == 1)
                sum += n;
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return sum;
}

/* What the process did before still has to be booked, and the standstill reported: that is over
 * when it has used no CPU for half a second. False: not within 20 s. */
static bool has_settled(const struct child *c)
{
    int64_t was = -1;
    for (int i = 0; i < 40; i++) {
        int64_t now = child_cpu_ns(c);
        if (now == was)
            return true;
        was = now;
        usleep(500000);
    }
    return false;
}

static void wakeups(void *argv, double *out)
{
    struct child c;
    if (!child_ready(&c, argv, argv ? NULL : quiet_main, NULL))
        return;
    sleep(1);
    bool settled = has_settled(&c); /* if it never does, the count says so */
    (void)settled;
    int64_t before = switches_of(c.pid);
    sleep(WATCH_S);
    int64_t after = switches_of(c.pid);
    if (before > 0 && after > 0)
        *out = (double)(after - before) / WATCH_S;
    child_stop(&c);
}

void bench_quiet(void)
{
    double fen, go = NAN;
    const char *path = rival_path("go-micro");
    const char *argv[] = {path, "quiet", "0", NULL};
    in_child(wakeups, NULL, &fen, 1);
    if (path)
        in_child(wakeups, argv, &go, 1);
    emit(FIGURE(.name = "wakeups_100000_parked", .unit = "1/s", .value = fen, .rival = "go",
                .rival_value = go, .ratio = fen / go, .bar = true, .at_least = 0, .exact = true,
                .note = path ? NULL : "no Go figure: go-micro is not built"));
}
