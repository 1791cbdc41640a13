/* run.c - one load run: starts the worker threads, ticks every 100 ms, adds up.
 *
 * The server's CPU is read from its process clock (clock_getcpuclockid): exact nanoseconds that
 * include threads which have already exited; a sum over /proc/PID/task would lose those. It is read
 * at both ends of the measured span together with the wall clock, and divided by the throughput, so
 * that a late wake-up of this thread shifts both alike. utime and stime (10 ms ticks) only tell the
 * user and kernel parts. */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PROBE_MS 1000

struct server_clock {
    int64_t at_ns, cpu_ns, user_ticks, sys_ticks;
};

struct run {
    const struct load_conf *conf;
    struct worker *workers;
    int n; /* initialised */
    struct server_clock before, after;
    int64_t completed, failed, cap;
    int64_t start_ns, warm_ns, end_ns;
};

static int refuse(const struct load_conf *c, const char *why)
{
    fprintf(stderr, "fen load: %s: %s\n", c->host, why);
    return 1;
}

/* One connection before the load, so that a missing server is one clear line. */
static int probe(const struct load_conf *c)
{
    int err = 0;
    socklen_t n = sizeof err;
    int fd = socket(c->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse(c, strerror(errno));
    if (connect(fd, (const struct sockaddr *)&c->addr, c->addr_bytes)) {
        err = errno;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (err == EINPROGRESS && poll(&p, 1, PROBE_MS) == 1)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n);
        else if (err == EINPROGRESS)
            err = ETIMEDOUT;
    }
    close(fd);
    if (err == ECONNREFUSED)
        return refuse(c, "nothing listens there (connection refused)");
    return err ? refuse(c, strerror(err)) : 0;
}

static int allow_files(int64_t want)
{
    struct rlimit r;
    want += 64;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return -errno;
    if ((int64_t)r.rlim_cur >= want)
        return 0;
    r.rlim_cur = (rlim_t)want;
    if (r.rlim_max != RLIM_INFINITY && (int64_t)r.rlim_max < want)
        r.rlim_max = (rlim_t)want; /* works for root only */
    return setrlimit(RLIMIT_NOFILE, &r) ? -errno : 0;
}

static void stat_ticks(int pid, struct server_clock *s)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    if (f)
        fclose(f);
    const char *p = strrchr(text, ')'); /* the name may hold anything */
    long long user, sys;
    if (p &&
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &sys) == 2) {
        s->user_ticks = user;
        s->sys_ticks = sys;
    }
}

static bool read_server(int pid, struct server_clock *ret)
{
    clockid_t id;
    struct timespec t;
    if (clock_getcpuclockid(pid, &id) || clock_gettime(id, &t))
        return false;
    *ret = (struct server_clock){fen_now(), t.tv_sec * FEN_S + t.tv_nsec, 0, 0};
    stat_ticks(pid, ret);
    return true;
}

static int start(struct run *r)
{
    const struct load_conf *c = r->conf;
    int threads = (int)c->threads;
    r->workers = calloc((size_t)threads, sizeof *r->workers);
    if (!r->workers)
        return refuse(c, "out of memory");
    r->start_ns = fen_now() + 2 * FEN_MS;
    r->warm_ns = r->start_ns + c->warmup_ns;
    r->end_ns = r->warm_ns + c->duration_ns;
    for (r->n = 0; r->n < threads; r->n++) {
        int share = (int)(c->connections / threads + (r->n < c->connections % threads));
        int rc = worker_init(&r->workers[r->n], c, r->n, share);
        if (rc) {
            worker_fini(&r->workers[r->n]);
            return refuse(c, strerror(-rc));
        }
        r->workers[r->n].start_ns = r->start_ns;
        r->workers[r->n].warm_ns = r->warm_ns;
        r->workers[r->n].end_ns = r->end_ns;
    }
    for (int i = 0; i < threads; i++) {
        int rc = pthread_create(&r->workers[i].thread, NULL, worker_main, &r->workers[i]);
        if (rc) {
            for (int k = 0; k < i; k++) {
                atomic_store(&r->workers[k].quit, true);
                pthread_join(r->workers[k].thread, NULL);
            }
            return refuse(c, strerror(rc));
        }
        if (c->cpus)
            pthread_setaffinity_np(r->workers[i].thread, sizeof *c->cpus, c->cpus);
    }
    return 0;
}

static void add_interval(struct run *r, struct load_result *res, int64_t completed, int64_t failed)
{
    if (res->intervals_n == r->cap) {
        int64_t cap = r->cap ? r->cap * 2 : 256;
        struct load_interval *p = realloc(res->intervals, (size_t)cap * sizeof *p);
        if (!p)
            return;
        res->intervals = p;
        r->cap = cap;
    }
    res->intervals[res->intervals_n++] = (struct load_interval){
        fen_now() - r->warm_ns, completed - r->completed, failed - r->failed};
    r->completed = completed;
    r->failed = failed;
}

static void sleep_until(int64_t at)
{
    struct timespec t = {at / FEN_S, at % FEN_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        continue;
}

static bool over(const struct run *r)
{
    bool dead = true;
    for (int i = 0; i < r->n; i++)
        dead &= atomic_load_explicit(&r->workers[i].dead, memory_order_relaxed);
    return dead || (r->conf->stop && *r->conf->stop);
}

/* Ticks until the end; measures the server at both ends. */
static void watch(struct run *r, struct load_result *res)
{
    const struct load_conf *c = r->conf;
    for (int64_t at = r->start_ns + LOAD_TICK_NS; at < r->warm_ns && !over(r); at += LOAD_TICK_NS)
        sleep_until(at);
    if (!over(r))
        sleep_until(r->warm_ns);
    res->has_server = c->server_pid && read_server((int)c->server_pid, &r->before);
    for (int64_t at = r->warm_ns + LOAD_TICK_NS; at < r->end_ns && !over(r); at += LOAD_TICK_NS) {
        sleep_until(at);
        int64_t completed = 0, failed = 0;
        for (int i = 0; i < r->n; i++) {
            completed += atomic_load_explicit(&r->workers[i].completed, memory_order_relaxed);
            failed += atomic_load_explicit(&r->workers[i].failed, memory_order_relaxed);
        }
        add_interval(r, res, completed, failed);
        if (c->tick)
            c->tick(c->tick_arg, at - r->warm_ns);
    }
    if (!over(r))
        sleep_until(r->end_ns);
    res->has_server = res->has_server && read_server((int)c->server_pid, &r->after);
    for (int i = 0; i < r->n; i++)
        atomic_store_explicit(&r->workers[i].quit, true, memory_order_relaxed);
}

static void add(struct load_result *to, const struct load_result *from)
{
    to->span_ns = from->span_ns > to->span_ns ? from->span_ns : to->span_ns;
    to->requests += from->requests;
    to->unexpected += from->unexpected;
    to->warmup_errors += from->warmup_errors;
    to->warmup_requests += from->warmup_requests;
    to->late += from->late;
    to->unsent += from->unsent;
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    to->service_sum_ns += from->service_sum_ns;
    to->in_flight_mean += from->in_flight_mean;
    to->generator_cpu_ns += from->generator_cpu_ns;
    if (from->generator_share > to->generator_share)
        to->generator_share = from->generator_share;
    for (int i = 0; i < LOAD_STATUS_MAX; i++)
        to->status[i] += from->status[i];
    for (int i = 0; i < ERR_KINDS; i++)
        to->errors[i] += from->errors[i];
    fen_hist_merge(&to->latency, &from->latency);
}

static void collect(struct run *r, struct load_result *res)
{
    for (int i = 0; i < r->n; i++) {
        pthread_join(r->workers[i].thread, NULL);
        add(res, r->workers[i].res);
    }
    add_interval(r, res, res->requests, load_errors(res)); /* so the intervals add up exactly */
    if (!res->has_server)
        return;
    res->server_cpu_ns = r->after.cpu_ns - r->before.cpu_ns;
    res->server_span_ns = r->after.at_ns - r->before.at_ns;
    res->server_user_ticks = r->after.user_ticks - r->before.user_ticks;
    res->server_sys_ticks = r->after.sys_ticks - r->before.sys_ticks;
}

int load_run(const struct load_conf *c, struct load_result *ret_result)
{
    struct run r = {.conf = c};
    memset(ret_result, 0, sizeof *ret_result);
    fen_hist_init(&ret_result->latency);
    if (allow_files(c->connections))
        return refuse(c, "more connections than open files are allowed (ulimit -n)");
    int rc = probe(c);
    if (!rc)
        rc = start(&r);
    if (!rc) {
        watch(&r, ret_result);
        collect(&r, ret_result);
    }
    for (int i = 0; i < r.n; i++)
        worker_fini(&r.workers[i]);
    free(r.workers);
    return rc;
}

void load_result_fini(struct load_result *r)
{
    free(r->intervals);
    r->intervals = NULL;
    r->intervals_n = 0;
}
