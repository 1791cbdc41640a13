/* measure.c - one run: server up, load, figures, server down, raw files.
 *
 * Every run has a fresh server (and back end), so no run inherits the memory or the caches of the
 * one before. CPU comes from the process clock, memory at rest before the first request and while
 * the load runs, context switches from the kernel's account of the dead process, which includes
 * threads that have ended. */
#include "prove.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_NS (300 * FEN_US) /* longer warm-up for more clients: threads take time to start */

static struct load_result result; /* 37 KiB and more: not on the stack */

struct watch {
    pid_t pid, helper;
    int64_t middle_ns, rss_kb, threads, helper_cpu_ns;
    bool seen;
};

static void on_tick(void *arg, int64_t since_start_ns)
{
    struct watch *w = arg;
    if (w->seen || since_start_ns < w->middle_ns)
        return;
    w->seen = true;
    w->rss_kb = proc_status(w->pid, "VmRSS");
    w->threads = proc_status(w->pid, "Threads");
}

static void path_of(const struct plan *p, const struct run *r, const char *suffix, char *to)
{
    snprintf(to, PATH_MAX, "%s/raw/%s%s", p->out, r->name, suffix);
}

static void configure(const struct plan *p, const struct workload *w, int run,
                      const struct server *s, struct load_conf *c)
{
    char url[256];
    load_conf_init(c);
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s{1..%" PRId64 "}", s->port, w->path, p->orders);
    (void)load_conf_url(c, "prove", url);
    (void)load_conf_tenants(c, "prove", "acme,globex,initech");
    c->connections = w->connections;
    c->threads = p->helper_cores > 1 && w->connections > 1 ? 2 : 1;
    c->duration_ns = p->duration_ns / w->part;
    c->warmup_ns = p->warmup_ns + w->connections * CONNECT_NS;
    c->timeout_ns = 10 * FEN_S;
    c->seed = run + 1;
    c->expect = 200;
    c->server_pid = s->pid;
    c->cpus = &p->helper_cpus;
    c->stop = &prove_stop;
}

static void figures(const struct plan *p, const struct load_conf *c, const struct load_result *r,
                    const struct watch *w, struct run *run)
{
    const fen_hist *h = &r->latency;
    double *v = run->v;
    v[M_QPS] = load_qps(r);
    v[M_MEAN] = fen_hist_mean(h) / 1e6;
    v[M_P50] = (double)fen_hist_quantile(h, 0.5) / 1e6;
    v[M_P90] = (double)fen_hist_quantile(h, 0.9) / 1e6;
    v[M_P99] = (double)fen_hist_quantile(h, 0.99) / 1e6;
    v[M_P999] = (double)fen_hist_quantile(h, 0.999) / 1e6;
    v[M_CPU] = load_server_us(r);
    v[M_CORES] = r->server_span_ns ? (double)r->server_cpu_ns / (double)r->server_span_ns : 0;
    v[M_RSS] = (double)w->rss_kb * 1024 / 1e6;
    v[M_THREADS] = (double)w->threads;
    v[M_LITTLE] = load_little(c, r).deviation_percent;
    v[M_USE] = money_use(&p->prices, v[M_CPU], v[M_RSS], v[M_QPS]);
    v[M_NODE] = money_node(p, v[M_QPS]);
    run->requests = r->requests;
    run->errors = load_errors(r);
    run->unexpected = r->unexpected;
    run->generator_share = r->generator_share;
    run->helper_share =
        (double)(r->generator_cpu_ns + w->helper_cpu_ns) / (double)r->span_ns / p->helper_cores;
    double left = 1;
    for (int i = 0; i < CURVE_POINTS; i++, left *= 0.79432823472428150) /* 10^-0.1 */
        run->curve_ms[i] = (double)fen_hist_quantile(h, 1 - left) / 1e6;
    int64_t last = 0, completed = 0;
    for (int64_t i = 0; i + 1 < r->intervals_n && run->series_n < SERIES_MAX; i++) {
        int64_t span = r->intervals[i].at_ns - last;
        completed += r->intervals[i].completed;
        if (span < LOAD_TICK_NS / 2) /* after a late tick: a spike that is none */
            continue;
        last = r->intervals[i].at_ns;
        run->series[run->series_n].at_s = (float)((double)last / 1e9);
        run->series[run->series_n++].qps = (float)((double)completed * 1e9 / (double)span);
        completed = 0;
    }
}

static void write_raw(const struct plan *p, const struct load_conf *c, struct run *run)
{
    char path[PATH_MAX];
    path_of(p, run, ".load.json", path);
    FILE *f = fopen(path, "we");
    if (f) {
        load_print_json(f, c, &result);
        fclose(f);
    }
    path_of(p, run, ".samples", path);
    FILE *samples = fopen(path, "we");
    int rc = samples ? load_write_samples(samples, c, &result) : -errno;
    if (!f || rc)
        snprintf(run->why, sizeof run->why, "raw files could not be written: %s", strerror(-rc));
}

static void write_server(const struct plan *p, const struct workload *w, const struct run *run,
                         const struct usage *u)
{
    char path[PATH_MAX];
    path_of(p, run, ".server.json", path);
    FILE *f = fopen(path, "we");
    if (!f)
        return;
    fprintf(f, "{\"argv\":");
    load_json_string(f, run->argv);
    fprintf(f, ",\"workload\":\"%s\",\"failed\":", w->key);
    load_json_string(f, run->why);
    fprintf(f,
            ",\"rss_rest_mb\":%.4f,\"rss_mb\":%.4f,\"rss_peak_mb\":%.4f,\"threads\":%.0f,"
            "\"context_switches_voluntary\":%" PRId64 ",\"context_switches_involuntary\":%" PRId64
            ",\"requests_with_warmup\":%" PRId64 ",\"helper_share\":%.4f}\n",
            run->v[M_RSS_REST], run->v[M_RSS], run->v[M_RSS_PEAK], run->v[M_THREADS], u->voluntary,
            u->involuntary, result.requests + result.warmup_requests, run->helper_share);
    fclose(f);
}

/* fen's own books, kept raw; the last run's rows go into the report. */
static void take_bill(struct proof *f, const struct server *s, const struct run *run)
{
    char path[PATH_MAX], *text = http_get(s->admin_port, "/debug/vars");
    if (!text)
        return;
    path_of(&f->plan, run, ".vars.json", path);
    FILE *to = fopen(path, "we");
    if (to) {
        fputs(text, to);
        fclose(to);
    }
    struct bill_row *rows = calloc(BILL_MAX, sizeof *rows);
    int n = rows ? bill_parse(text, rows, BILL_MAX) : 0;
    if (n) {
        memcpy(f->bill, rows, sizeof f->bill);
        f->bill_n = n;
    }
    free(rows);
    free(text);
}

static int load_server(struct proof *f, const struct workload *w, int number,
                       const struct server *s, const struct server *back, struct run *run)
{
    static struct load_conf c;
    struct watch watch = {.pid = s->pid, .middle_ns = f->plan.duration_ns / w->part / 2};
    configure(&f->plan, w, number, s, &c);
    c.tick = on_tick;
    c.tick_arg = &watch;
    int64_t before = back->pid ? proc_cpu_ns(back->pid) : 0, at = fen_now();
    if (load_run(&c, &result)) {
        snprintf(run->why, sizeof run->why, "the load could not run");
        return -1;
    }
    /* The back end is read around the warm-up too: scale to the measured span. */
    if (back->pid)
        watch.helper_cpu_ns = (int64_t)((double)(proc_cpu_ns(back->pid) - before) *
                                        (double)result.span_ns / (double)(fen_now() - at));
    if (result.requests && result.span_ns)
        figures(&f->plan, &c, &result, &watch, run);
    run->v[M_RSS_PEAK] = (double)proc_status(s->pid, "VmHWM") * 1024 / 1e6;
    if (!result.span_ns)
        snprintf(run->why, sizeof run->why, "the generator got no CPU time: the machine is busy");
    else if (!result.requests)
        snprintf(run->why, sizeof run->why, "no request was answered");
    else if (result.unexpected * 2 > result.requests)
        snprintf(run->why, sizeof run->why, "most answers had another status than 200");
    write_raw(&f->plan, &c, run);
    return 0;
}

void measure(struct proof *f, enum workload_id id, struct cell *cell, int number)
{
    const struct plan *p = &f->plan;
    const struct workload *w = &p->workload[id];
    struct run *run = &cell->run[number];
    struct server back = {.out = -1}, s = {.out = -1};
    struct usage u = {0};
    char log[PATH_MAX];
    memset(run, 0, sizeof *run);
    memset(&result, 0, sizeof result);
    snprintf(run->name, sizeof run->name, "%s-%s-%d", w->key, cell->rival->name, number + 1);
    path_of(p, run, ".log", log);
    if ((!w->backend || !server_start_backend(&back, p, log, run->why, sizeof run->why)) &&
        !server_start(&s, p, cell->rival, back.port, log, run->why, sizeof run->why)) {
        snprintf(run->argv, sizeof run->argv, "%s", s.argv_text);
        run->v[M_RSS_REST] = (double)proc_status(s.pid, "VmRSS") * 1024 / 1e6;
        if (!load_server(f, w, number, &s, &back, run) && cell->rival->kind == RIVAL_FEN)
            take_bill(f, &s, run);
    }
    server_stop(&s, &u);
    server_stop(&back, NULL);
    int64_t all = result.requests + result.warmup_requests;
    run->v[M_SWITCHES] = all ? (double)(u.voluntary + u.involuntary) / (double)all : 0;
    write_server(p, w, run, &u);
    load_result_fini(&result);
    cell->runs = number + 1;
}
