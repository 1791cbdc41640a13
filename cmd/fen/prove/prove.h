/* prove.h - the comparison: a plan, servers run in turn, figures, a report.
 *
 * A rival is a server with its flags. The last one is the floor: the least that the machine's
 * sockets cost; it says how far a bar can be reached here and is in no list of wins and losses. A
 * workload is a kind of request and a load. A cell is one rival under one workload: several runs,
 * and the median of each metric over them. */
#ifndef FEN_PROVE_H
#define FEN_PROVE_H

#include "../load/load.h"

#include <fen/meter.h>
#include <limits.h>

#define RIVALS_MAX 16
#define RUNS_MAX 15
#define CURVE_POINTS 41 /* of the latency curve: 1 - 10^(-i/10), so 0 % to 99.99 % */
#define SERIES_MAX 600  /* 100 ms intervals kept for the plots */
#define BILL_MAX 256
#define SLOW_DELAY "20ms"
#define FLOOR "floor"

enum rival_kind { RIVAL_FEN, RIVAL_POOL, RIVAL_PTHREAD, RIVAL_EPOLL, RIVAL_GO };

struct rival {
    char name[32];
    enum rival_kind kind;
    int threads;       /* RIVAL_POOL */
    int backend_conns; /* of the baselines: pipelined ones to the back end; 0: one a thread */
};

enum workload_id { W_ORDERS, W_SLOW, W_SLOW_FEW, W_SWEEP, WORKLOADS };

struct workload {
    const char *key, *title, *what;
    const char *path; /* with its {a..b} */
    int64_t connections;
    bool backend;
    int part; /* its runs last a part of --load's time: 1 or 2 */
};

enum metric {
    M_QPS,
    M_MEAN,
    M_P50,
    M_P90,
    M_P99,
    M_P999,
    M_CPU,
    M_CORES,
    M_RSS_REST,
    M_RSS,
    M_RSS_PEAK,
    M_THREADS,
    M_SWITCHES,
    M_LITTLE,
    M_USE,
    M_NODE,
    METRICS
};

struct metric_info {
    const char *key, *title, *unit;
    int digits;
};
extern const struct metric_info metric_info[METRICS];

struct run {
    char name[96];  /* of its raw files */
    char why[200];  /* empty: it succeeded */
    char argv[512]; /* the server's command line */
    double v[METRICS];
    int64_t requests, errors, unexpected;
    double generator_share, helper_share; /* of a core; of the cores of generator and back end */
    double curve_ms[CURVE_POINTS];
    int series_n;
    struct {
        float at_s, qps;
    } series[SERIES_MAX];
};

struct cell {
    const struct rival *rival;
    struct run *run; /* RUNS_MAX of them, or NULL: not measured */
    int runs, good;
    double median[METRICS], low[METRICS], high[METRICS];
    int typical; /* the run whose QPS is the median: its curves are drawn */
};

struct plan {
    const char *service, *out, *price_file;
    struct rival rival[RIVALS_MAX];
    int rivals; /* rival[0] is fen */
    int64_t connections, slow_connections, duration_ns, warmup_ns, runs;
    int64_t orders, target_qps, sla_ns;
    bool quick, pin, go, json;
    char go_note[128]; /* why Go is not there, or empty */
    char fen_path[PATH_MAX], baseline_path[PATH_MAX], go_path[PATH_MAX];
    char dir[64], db[128]; /* temporary */
    cpu_set_t all, server_cpus, helper_cpus;
    int server_cores, helper_cores;
    double node_gb;
    double busy; /* load average of the machine before anything was started */
    fen_price_book prices;
    struct workload workload[WORKLOADS];
};

struct bill_row {
    char tenant[64], operation[96];
    double requests, cpu_ns, wait_ns, arena_bytes, in_bytes, out_bytes, yuan_per_million;
};

struct proof {
    struct plan plan;
    struct cell cell[WORKLOADS][RIVALS_MAX];
    struct rival sweep[RIVALS_MAX]; /* pool sizes */
    int sweep_n;
    struct bill_row bill[BILL_MAX];
    int bill_n;
    double seconds;
};

enum verdict { BAR_ABSENT, BAR_MET, BAR_MISSED, BAR_OUT_OF_REACH };

struct bar {
    const char *text, *rival;
    enum workload_id workload;
    enum metric metric;
    double got, want;
    double floor; /* what the floor gets; 0: not measured, or the bar is not one of throughput */
    bool at_least, floor_load_full;
    enum verdict verdict;
};

extern volatile bool prove_stop; /* SIGINT or SIGTERM came */

/* plan.c. 0; 2 after one line on stderr; -1 after --help. */
int plan_parse(struct plan *p, int argc, char **argv);

/* server.c: one child process at a time of each role. */
struct server {
    pid_t pid;
    int port, admin_port, out; /* out: its stdout */
    char argv_text[512];
};
enum server_role { ROLE_FEN, ROLE_BASELINE, ROLE_GO, ROLE_BACKEND };
struct usage {
    int64_t voluntary, involuntary;
};
/* Starts and waits for "listening on". 0; else -1 and one line in why. */
int server_start(struct server *s, const struct plan *p, const struct rival *r, int backend_port,
                 const char *log, char *why, size_t why_bytes);
int server_start_backend(struct server *s, const struct plan *p, const char *log, char *why,
                         size_t why_bytes);
/* SIGTERM, at most 5 s, then SIGKILL. A server that is not running is fine. */
void server_stop(struct server *s, struct usage *ret_usage);
/* Runs to the end: the exit code, or -1. */
int server_run_once(const struct plan *p, const char *const *argv, const char *log,
                    int64_t limit_ns);

/* proc.c: from /proc, KiB and counts; 0 when unknown. */
int64_t proc_status(pid_t pid, const char *key);
int64_t proc_cpu_ns(pid_t pid);

/* measure.c: one run of one rival under one workload, raw files written. */
void measure(struct proof *f, enum workload_id w, struct cell *c, int run);

/* bill.c: what fen says each tenant and operation used. */
int bill_parse(const char *json, struct bill_row *rows, int max);
/* GET on loopback: the body (heap), or NULL. */
char *http_get(int port, const char *path);

/* money.c */
double money_use(const fen_price_book *b, double cpu_us, double rss_mb, double qps);
double money_node(const struct plan *p, double qps);
double money_node_hour(const struct plan *p);

/* summary.c */
void summarise(struct cell *c);
const struct cell *cell_of(const struct proof *f, enum workload_id w, const char *rival);
/* product / baseline of a metric; 0 when unknown. */
double ratio(const struct cell *product, const struct cell *baseline, enum metric m);
int bars(const struct proof *f, struct bar *ret, int max);
/* How a rival asks the back end. */
const char *way_to_backend(const struct rival *r);
/* "met", "MISSED", "absent"; "out of reach": missed by the floor of the same run as well, which was
 * not behind fen. */
const char *bar_word(const struct bar *b);
/* What the floor says about a bar that was missed; empty when there is nothing to say. */
void bar_note(const struct bar *b, char *ret, size_t bytes);
/* Was the machine at work before the first run? */
bool machine_busy(const struct plan *p);
/* Machines that carry target_qps; 0 when unknown. */
int64_t instances(const struct plan *p, const struct cell *c);
/* Does the load side look like the limit? */
bool helpers_full(const struct cell *c);
/* One line: what came out on the deciding workload. */
void headline(const struct proof *f, char *ret, size_t bytes);
/* Calls back for every comparison of fen with a baseline (not the floor): better or worse. */
typedef void verdict_fn(void *arg, enum workload_id w, const struct cell *fen,
                        const struct cell *other, enum metric m, bool win, double times);
void verdicts(const struct proof *f, verdict_fn *fn, void *arg);

/* pack.c, report_*.c: 0 or -errno. */
int pack_begin(const struct proof *f);
int pack_summary(const struct proof *f);
/* One JSON object a line: figure, value (of fen), rival_value, ratio; against rival[1]. */
void report_json(const struct proof *f, FILE *to);
void report_text(const struct proof *p, FILE *f);
int report_html(const struct proof *f);

/* svg.c */
struct svg_bar {
    const char *label;
    double value, low, high;
    bool product;
};
struct svg_line {
    const char *label;
    const double *x, *y;
    int n;
    bool product, points;
};
struct svg_axis {
    const char *x_title, *y_title;
    bool x_nines; /* x is 0..CURVE_POINTS-1 of the latency curve */
    bool x_log, y_log;
};
void svg_bars(FILE *f, const char *unit, int digits, const struct svg_bar *b, int n);
void svg_lines(FILE *f, const struct svg_axis *a, const struct svg_line *l, int n);
void html_text(FILE *f, const char *s);

#endif
