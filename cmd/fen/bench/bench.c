/* bench.c - fen bench: one mechanism after the other, each figure beside its bar and its rival.
 *
 * This process never runs the library itself: every measurement is made in a child, so that no
 * bench inherits another one's memory, threads or descriptors. */
#include "bench/bench.h"

#include "cmd.h"

#include <fen/types.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct {
    const char *name;
    void (*run)(void);
    const char *what;
} benches[] = {
    {"switch", bench_switch, "a switch between two stacks; threads beside it"},
    {"yield", bench_yield, "fen_yield between fibers, and that it makes no system call"},
    {"channel", bench_channel, "a message and a round trip over channels"},
    {"select", bench_select, "a select of two channels"},
    {"timer", bench_timer, "a timer started and stopped; 10,000 sleepers: lateness, CPU"},
    {"spawn", bench_spawn, "one fiber, 10,000 and 1,000,000: spawn, yield, join"},
    {"skynet", bench_skynet, "a tree of 1,111,111 fibers that add up over channels"},
    {"mutex", bench_mutex, "lock and unlock, alone and contended"},
    {"blocking", bench_blocking, "a declared blocking section that does not block"},
    {"idle", bench_idle, "100,000 idle fibers: memory at once and after a while"},
    {"million", bench_million, "1,000,000 idle fibers: memory, maps"},
    {"quiet", bench_quiet, "wake-ups of the process while 100,000 fibers are parked"},
    {"scaling", bench_scaling, "CPU-bound fibers on one P and on two"},
    {"hogs", bench_hogs, "a ticking fiber beside endless loops and blocking calls"},
    {"poller", bench_poller, "a ready descriptor among 100, 1,000 and 10,000 idle ones"},
    {"pollers", bench_pollers, "select, poll and epoll by hand: cost and bytes copied an event"},
    {"parked", bench_parked, "memory of 100,000 parked fibers"},
    {"tasks", bench_tasks, "100,000 waiting fibers: memory, a wake-up; threads beside them"},
    {"hibernate", bench_hibernate, "1,000,000 that give their stacks back, and a neighbour"},
    {"cancel", bench_cancel, "cancelling 10,000 children"},
    {"conns", bench_conns, "10,000 keep-alive connections: memory idle and serving"},
    {"c10k", bench_c10k, "10,000 busy connections beside thread per connection and a pool"},
    {"netpoll", bench_netpoll, "polls and registrations a request; 100 connections to 10,000"},
    {"blocked", bench_blocked, "requests beside 64 fibers in blocking calls; who is named"},
    {"move", bench_move, "CPU of a gigabyte: sendfile and splice beside read and write"},
    {"files", bench_files, "4 KiB of a file: cached, by io_uring, on the pool, by pread"},
    {"startup", bench_startup, "exec to the first 200"},
    {"meter", bench_meter, "what the bill costs"},
    {"truth", bench_truth, "two interleaved routes: billed against burnt"},
    {"books", bench_books, "does the process's CPU add up?"},
    {"orders", bench_orders, "CPU a request beside pthread and Go"},
    {"router", bench_router, "a match among 1,000 patterns"},
    {"json", bench_json, "an order written and read"},
    {"alloc", bench_alloc, "a block taken and given back, one thread"},
    {"larson", bench_larson, "threads that end and leave their blocks to others"},
    {"xmalloc", bench_xmalloc, "one thread allocates, another frees, in batches"},
    {"random", bench_random, "random sizes, 10,000 live"},
    {"grow", bench_grow, "a buffer that grows to 256 MiB by realloc"},
    {"prodcons", bench_prodcons, "a block passed from one thread to another"},
    {"rss", bench_rss, "memory held over memory in use, a random trace"},
    {"central", bench_central, "two threads, one class: waits for the central set's lock"},
    {"billed", bench_billed, "what an account for every block costs"},
    {"profiled", bench_profiled, "what the heap profile costs"},
    {"pool", bench_pool, "an object from a pool and back, beside building it; reuse"},
    {"defer", bench_defer, "a clean-up in each form; a million; a batch"},
    {"defer-service", bench_defer_service,
     "a service that cleans up by hand, by records, in batches"},
    {"arena", bench_arena, "1,000 small blocks and one reset, beside malloc and free"},
    {"mem", bench_memory, "the memory profiles: slices of reclaims, their CPU, peak memory"},
    {"vars", bench_vars, "the page of 1,000 variables"},
    {"sharing", bench_sharing, "two counters in one cache line, and apart"},
    {"locality", bench_locality, "random against sequential, huge pages, list to arrays"},
};
#define BENCHES (sizeof benches / sizeof benches[0])

int bench_runs;
#define ALL_RUNS 5
static bool as_json, all_met = true, all_at_once;
static const char *current;
static char commit[64] = "unknown", machine[256];

/* `all` takes some minutes as it is. */
int runs_or(int own)
{
    if (bench_runs)
        return bench_runs;
    return all_at_once && own > ALL_RUNS ? ALL_RUNS : own;
}

double now_s(void) { return (double)fen_now() / 1e9; }

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *v, int n)
{
    for (int i = 0; i < n; i++)
        if (isnan(v[i]))
            return NAN; /* a run that failed is no figure, and must not look like one */
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

int pick_able(const bool *able, int n, int *ret_of)
{
    int have = 0;
    for (int i = 0; i < n; i++)
        if (able[i])
            ret_of[have++] = i;
    if (have >= SAMPLE || have == n)
        return have;
    for (int i = 0; i < n; i++)
        ret_of[i] = i;
    return n;
}

double median_of(const double *v, const int *of, int n)
{
    double own[BENCH_RUNS_MAX];
    for (int i = 0; i < n; i++)
        own[i] = v[of[i]];
    return median(own, n);
}

/* ---- what the figures were measured on ---- */

static void first_line(const char *command, char *to, size_t bytes)
{
    FILE *f = popen(command, "re");
    if (f && fgets(to, (int)bytes, f))
        to[strcspn(to, "\n")] = 0;
    if (f)
        pclose(f);
}

static void identify(void)
{
    char cpu[128] = "unknown processor", command[600], dir[512];
    struct utsname u = {0};
    snprintf(dir, sizeof dir, "%s", self_path());
    *strrchr(dir, '/') = 0;
    snprintf(command, sizeof command, "git -C '%s' describe --always --dirty --exclude='*' 2>&-",
             dir);
    first_line(command, commit, sizeof commit);
    first_line("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo", cpu, sizeof cpu);
    uname(&u);
    snprintf(machine, sizeof machine, "%ld x %s, Linux %s", sysconf(_SC_NPROCESSORS_ONLN), cpu,
             u.release);
}

/* ---- output ---- */

static bool reaches(const struct figure *f, double bar, bool on_ratio)
{
    double v = on_ratio ? f->ratio : f->value;
    if (f->exact)
        return v == bar;
    return f->more_is_better ? v >= bar : v <= bar;
}

static bool has_bar(const struct figure *f) { return f->bar && !isnan(f->at_least); }

static const char *met(const struct figure *f)
{
    if (!has_bar(f) || (f->bar_on_ratio && isnan(f->ratio) && !isnan(f->value)))
        return NULL; /* nothing to judge it by */
    if (f->aim > 0 && reaches(f, f->aim, f->bar_on_ratio && !f->aim_on_value))
        return "aim";
    if (reaches(f, f->at_least, f->bar_on_ratio))
        return "at_least";
    return f->beyond ? "floor" : "no";
}

static bool missed(const struct figure *f)
{
    const char *m = met(f);
    return isnan(f->value) || (m && (!strcmp(m, "no") || !strcmp(m, "floor")));
}

static const char *note(const struct figure *f)
{
    const char *m = met(f);
    return m && !strcmp(m, "floor") ? f->beyond : f->note;
}

static void put_number(const char *key, double v)
{
    if (isnan(v) || isinf(v))
        printf(",\"%s\":null", key);
    else
        printf(",\"%s\":%.6g", key, v);
}

static void put_text(const char *key, const char *v)
{
    if (v)
        printf(",\"%s\":\"%s\"", key, v);
    else
        printf(",\"%s\":null", key);
}

static double load_average(void)
{
    double v = NAN;
    return getloadavg(&v, 1) == 1 ? v : NAN;
}

static void emit_json(const struct figure *f)
{
    printf("{\"bench\":\"%s\",\"figure\":\"%s\"", current, f->name);
    put_number("value", f->value);
    put_text("unit", f->unit);
    put_text("better", f->more_is_better ? "higher" : "lower");
    bool rival = f->rival && !isnan(f->rival_value);
    put_text("rival", rival ? f->rival : NULL);
    put_number("rival_value", rival ? f->rival_value : NAN);
    put_number("ratio", rival && f->ratio > 0 ? f->ratio : NAN);
    put_number("at_least", has_bar(f) ? f->at_least : NAN);
    put_number("aim", f->aim > 0 ? f->aim : NAN);
    put_text("met", met(f));
    printf(",\"runs\":%d", f->runs ? f->runs : 1);
    put_text("note", note(f));
    put_number("load_average", load_average());
    put_text("commit", commit);
    put_text("machine", machine);
    printf("}\n");
}

static void cell(double v, int width)
{
    if (isnan(v))
        printf(" %*s", width, "-");
    else
        printf(" %*.4g", width, v);
}

/* "<= 0.45x / 25 ns": at least, and the aim where there is one. */
static void bar_text(const struct figure *f, char *to, size_t bytes)
{
    if (!has_bar(f))
        return;
    const char *op = f->exact            ? "=="
                     : f->more_is_better ? ">="
                                         : "<=",
               *x = f->bar_on_ratio ? "x" : "";
    int n = snprintf(to, bytes, "%s %.4g%s", op, f->at_least, x);
    if (f->aim > 0)
        snprintf(to + n, bytes - (size_t)n, " / %.4g%s%s", f->aim, f->aim_on_value ? " " : x,
                 f->aim_on_value ? f->unit : "");
}

static void emit_row(const struct figure *f)
{
    const char *m = met(f);
    char bar[64] = "";
    bar_text(f, bar, sizeof bar);
    printf("%-8s %-34s", current, f->name);
    cell(f->value, 10);
    printf(" %-6s %-9s", f->unit, f->rival ? f->rival : "");
    cell(f->rival ? f->rival_value : NAN, 9);
    cell(f->rival && f->ratio > 0 ? f->ratio : NAN, 7);
    printf("  %-19s %-8s %s\n", bar, m ? m : "", note(f) ? note(f) : "");
}

void emit(const struct figure *f)
{
    if (missed(f))
        all_met = false;
    if (as_json)
        emit_json(f);
    else
        emit_row(f);
    fflush(stdout);
}

/* ---- the command ---- */

static int usage(FILE *to)
{
    fprintf(to, "usage: fen bench NAME... [--json] [--runs=N] [--seconds=N] [--profile=P]; NAME is "
                "all or of\n");
    for (size_t i = 0; i < BENCHES; i++)
        fprintf(to, "  %-8s %s\n", benches[i].name, benches[i].what);
    fprintf(to, "exit status 1: a figure misses its bar\n");
    return to == stderr ? 2 : 0;
}

static int find(const char *name)
{
    for (size_t i = 0; i < BENCHES; i++)
        if (!strcmp(benches[i].name, name))
            return (int)i;
    return -1;
}

static void run_one(size_t i)
{
    current = benches[i].name;
    benches[i].run();
}

int cmd_bench(int argc, char **argv)
{
    const char *words[BENCHES + 1];
    int64_t runs = 0, seconds = 0;
    const struct arg tab[] = {
        {"json", ARG_BOOL, &as_json, 0, 0, "one JSON object a figure"},
        {"runs", ARG_INT, &runs, 1, BENCH_RUNS_MAX, "of each measurement (each bench's own)"},
        {"seconds", ARG_INT, &seconds, 1, 600, "of the trace of rss (30)"},
        {"profile", ARG_STR, &bench_profile, 0, 0, "of mem: balanced, latency, container (all)"},
    };
    memset(words, 0, sizeof words);
    int rc = args_parse(argc, argv, tab, 4, words, BENCHES + 1);
    if (rc)
        return rc < 0 ? usage(stdout) : rc;
    if (!bench_profile_ok()) {
        fprintf(stderr, "fen bench: --profile=%s: expected balanced, latency or container\n",
                bench_profile);
        return 2;
    }
    if (!words[0])
        return usage(stderr);
    if (!strcmp(words[0], "_yields"))
        return yields_only(words[1] ? atoi(words[1]) : 0);
    if (!strcmp(words[0], "_mem"))
        return mem_load(words + 1);
    bool all = !strcmp(words[0], "all");
    for (int i = 0; words[i] && !all; i++)
        if (find(words[i]) < 0) {
            fprintf(stderr, "fen bench: unknown bench '%s'\n", words[i]);
            return usage(stderr);
        }
    bench_runs = (int)runs;
    bench_seconds = (double)seconds;
    all_at_once = all;
    signal(SIGPIPE, SIG_IGN);
    raise_files();
    identify();
    if (!as_json)
        printf("# %s, commit %s, load average %.2f\n%-8s %-34s %10s %-6s %-9s %9s %7s  %-19s %s\n",
               machine, commit, load_average(), "bench", "figure", "value", "unit", "rival",
               "its value", "ratio", "bar (at least / aim)", "met");
    for (size_t i = 0; i < BENCHES; i++)
        if (all)
            run_one(i);
    for (int i = 0; words[i] && !all; i++)
        run_one((size_t)find(words[i]));
    remove_orders_db();
    return all_met ? 0 : 1;
}
