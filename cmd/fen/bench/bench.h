/* bench.h - what the benches share: figures, medians, children, load. */
#ifndef BENCH_H
#define BENCH_H

#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_RUNS_MAX 101

/* One line of output. A value that could not be had is NAN. */
struct figure {
    const char *name, *unit;
    bool more_is_better;
    double value;
    const char *rival; /* whom value is compared with, or NULL */
    double rival_value, ratio;
    bool bar;             /* there is one: at_least, unless that is NAN */
    double at_least, aim; /* aim 0: none beyond at_least */
    bool bar_on_ratio;    /* the bars are for ratio, not for value */
    bool aim_on_value;    /* at_least is for ratio, aim for value */
    bool exact;           /* value must equal at_least */
    int runs;             /* 0: one */
    const char *note;     /* why there is no value or no rival; NULL: nothing to say */
    /* Why at_least lies beyond what the machine gave in this run, by a measurement beside the
     * value's (the floor); NULL: it gave enough. A miss is then "floor" instead of "no": it says
     * nothing against fen, and is a miss all the same. */
    const char *beyond;
};
#define FIGURE(...) (&(struct figure){__VA_ARGS__})

void emit(const struct figure *f);

extern int bench_runs; /* --runs; 0: each bench's own number */
int runs_or(int own);

double median(double *v, int n); /* sorts v; NAN when one of v is */
/* The runs in which the machine could do what is asked for, when there are SAMPLE of them or n: the
 * figures are theirs then. Otherwise all n. ret_of (n of them) are the numbers of the runs; returns
 * how many. */
#define SAMPLE 5
int pick_able(const bool *able, int n, int *ret_of);
double median_of(const double *v, const int *of, int n); /* v[of[0..n-1]], which stays as it is */
double now_s(void);
int64_t own_rss(void); /* bytes resident of this process */

/* ---- fen and a rival in turn (pairs.c) ---- */

#define PAIR_FIGURES 10

struct pairs {
    int runs, n;
    const char *rival;  /* its name; NULL when it is absent */
    const char *absent; /* why */
    double fen[PAIR_FIGURES][BENCH_RUNS_MAX], other[PAIR_FIGURES][BENCH_RUNS_MAX];
};

/* fen (a function in a child) and Go (go-micro SCENARIO PROCS) in turn, runs times. Both
 * give n numbers of the same meaning. */
void pairs_with_go(struct pairs *p, void (*fen)(void *arg, double *out), void *arg, int n,
                   const char *scenario, int procs, int runs);
/* The same with a rival that is a function too. */
void pairs_with(struct pairs *p, void (*fen)(void *arg, double *out), const char *rival,
                void (*other)(void *arg, double *out), void *arg, int n, int runs);

/* Number i of the pairs, times scale, as the figure f, of which name, unit and bars are given. */
void pairs_emit(const struct pairs *p, int i, double scale, struct figure f);
/* Numbers i (later rounds) as f and i + 1 (the first round) as NAME_first, which has no bar. */
void pairs_emit_both(const struct pairs *p, int i, struct figure f);

/* What a child measures in one fiber: rounds, each of which returns ns an operation. */
#define ROUNDS 4
struct scenario {
    int procs, n;
    double (*round[PAIR_FIGURES / 2])(void);
};
/* out[2k]: the median of the later rounds of round[k]; out[2k + 1]: the first one. */
void scenario_main(void *scenario, double *out);

/* Rivals for pairs_with: POSIX threads (threads.c). */
void threads_channel(void *arg, double *out);
void threads_spawn(void *arg, double *out);
void threads_select(void *arg, double *out);
void threads_timer(void *arg, double *out);
void threads_idle(void *n, double *out);        /* int: how many */
void threads_skynet(void *leaves, double *out); /* int64_t */

/* ---- children (child.c) ---- */

struct child {
    pid_t pid;
    int out, port, admin_port;
};

/* Runs fn in a process of its own, which fills out[0..n-1]: a run leaves nothing behind for the
 * next one. False when it failed; out is NAN then. */
bool in_child(void (*fn)(void *arg, double *out), void *arg, double *out, int n);

/* Starts a program (or, with fn, this one in fn) and waits for "listening on HOST:PORT"; false when
 * it did not come. cpus may be NULL. */
bool child_start(struct child *c, const char *const *argv, int (*fn)(void *arg), void *arg,
                 const cpu_set_t *cpus);
/* The same for a child that says "ready". */
bool child_ready(struct child *c, const char *const *argv, int (*fn)(void *arg), void *arg);
void child_stop(struct child *c);
int64_t child_anon_bytes(const struct child *c);
int64_t child_peak_bytes(const struct child *c);
int64_t child_cpu_ns(const struct child *c);

const char *self_path(void);              /* this program */
const char *beside(const char *name);     /* a program in this one's directory; NULL: not there */
const char *rival_path(const char *name); /* ../rivals/name; NULL: not there */
const char *orders_db(void);              /* 100,000 orders, made once; NULL: failed */
void remove_orders_db(void);
int free_port(void);
void raise_files(void);

/* `fen serve orders` on the order book, with an admin listener. */
bool start_orders(struct child *c, const cpu_set_t *cpus);

/* One run of `fen load`. */
struct load_figures {
    double qps, cpu_us, requests, errors; /* cpu_us: of the server, a request */
    double p50_ms, p99_ms, p999_ms;
    double little_off; /* percent; see `fen load` */
};
bool run_load(const struct child *server, const char *path, int connections, double seconds,
              const cpu_set_t *cpus, struct load_figures *ret);
/* The same in an open loop: so many requests a second, whatever comes back. */
bool run_load_open(const struct child *server, const char *path, int rate, int connections,
                   double seconds, const cpu_set_t *cpus, struct load_figures *ret);

/* The number behind the first "key": at or after the text `from` in a JSON page; NAN. */
double number_in(const char *page, const char *from, const char *key);
char *admin_page(const struct child *c, const char *path); /* heap, or NULL */

/* Two halves of the allowed cores; both whole when there is only one. */
void split_cpus(cpu_set_t *ret_server, cpu_set_t *ret_load);
/* The calling thread runs on the nth of the allowed cores, if there are so many. */
void on_core(int n);

/* ---- benches ---- */
void bench_switch(void);
void bench_yield(void);
void bench_spawn(void);
void bench_skynet(void);
void bench_channel(void);
void bench_select(void);
void bench_timer(void);
void bench_mutex(void);
void bench_blocking(void);
void bench_scaling(void);
void bench_hogs(void);
void bench_poller(void);
void bench_parked(void);
void bench_idle(void);
void bench_million(void);
void bench_quiet(void);
void bench_cancel(void);
void bench_conns(void);
void bench_startup(void);
void bench_meter(void);
void bench_truth(void);
void bench_books(void);
void bench_orders(void);
void bench_router(void);
void bench_json(void);
void bench_vars(void);
void bench_alloc(void);
void bench_larson(void);
void bench_xmalloc(void);
void bench_grow(void);
void bench_random(void);
void bench_prodcons(void);
void bench_rss(void);
void bench_central(void);
void bench_billed(void);
void bench_profiled(void);
void bench_pool(void);
void bench_defer(void);
void bench_defer_service(void);
void bench_arena(void);
void bench_sharing(void);
void bench_locality(void);
void bench_tasks(void);
void bench_hibernate(void);
void bench_pollers(void);
void bench_netpoll(void);
void bench_blocked(void);
void bench_c10k(void);
void bench_move(void);
void bench_files(void);
void bench_memory(void);
extern const char *bench_profile;
bool bench_profile_ok(void);
extern double bench_seconds;
/* What `bench _mem` runs: load, allocator, seconds. */
int mem_load(const char *const *words);
/* What `bench yield` runs under strace. */
int yields_only(int thousands);
double yield_ns(bool meter_off);

#endif
