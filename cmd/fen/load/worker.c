/* worker.c - one generator thread: an epoll loop over its share of the connections.
 *
 * Closed loop: a connection sends the next request when the last answer is in (as wrk does), so the
 * offered load sinks when the server slows down. Open loop: requests have intended times, fixed in
 * advance; any connection without work takes the next one, and while none is free the schedule
 * waits but the clock does not: latency counts from the intended time, so a stall of the server is
 * charged to every request that it delayed.
 *
 * An event in a batch may be for a connection that an earlier event of the batch closed and
 * reopened; conn_event treats a wake-up without cause as nothing to do, so this is harmless. */
#include "worker.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define RAMP_CONNS 64 /* opened together at the start: listen queues are often 128 long */
#define RAMP_NS (2 * FEN_MS)
#define SWEEP_NS (50 * FEN_MS)
#define RECV_BYTES (64 * 1024)

static int64_t thread_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * FEN_S + t.tv_nsec;
}

void worker_in_flight(struct worker *w, int change, int64_t now)
{
    w->in_flight_integral += (double)w->in_flight * (double)(now - w->in_flight_since_ns);
    w->in_flight += change;
    w->in_flight_since_ns = now;
}

static double next_gap(struct worker *w)
{
    if (!w->conf->poisson)
        return w->gap_ns;
    w->gap_rng ^= w->gap_rng << 13;
    w->gap_rng ^= w->gap_rng >> 7;
    w->gap_rng ^= w->gap_rng << 17;
    return -log(((double)(w->gap_rng >> 11) + 1) / 9007199254740993.0) * w->gap_ns;
}

/* Open loop: sends what is due while a connection is free. */
static void dispatch(struct worker *w)
{
    int64_t now = fen_now();
    while (w->idle_n && w->due_ns <= (double)now) {
        struct conn *c = &w->conns[w->idle[w->idle_first]];
        w->idle_first = (w->idle_first + 1) % w->conns_n;
        w->idle_n--;
        c->in_idle = false;
        if (c->state != CONN_OPEN || c->n)
            continue;
        int64_t at = (int64_t)w->due_ns;
        w->due_ns += next_gap(w);
        conn_send(w, c, 1, &at, now);
        now = fen_now();
    }
}

void worker_feed(struct worker *w, struct conn *c, int64_t now)
{
    if (!w->conf->rate) {
        conn_send(w, c, (int)w->conf->pipeline - c->n, NULL, now);
        return;
    }
    if (!c->in_idle) {
        c->in_idle = true;
        w->idle[(w->idle_first + w->idle_n++) % w->conns_n] = (int)(c - w->conns);
    }
    dispatch(w);
}

static char *put(char *p, const char *s)
{
    size_t n = strlen(s);
    memcpy(p, s, n);
    return p + n;
}

static int build_head(struct worker *w, int t)
{
    const struct load_conf *c = w->conf;
    size_t n = strlen(c->host) + 256;
    for (int i = 0; i < c->headers_n; i++)
        n += strlen(c->headers[i]) + 2;
    if (c->tenants_n)
        n += strlen(c->tenants[t]);
    char *p = w->head[t] = malloc(n);
    if (!p)
        return -ENOMEM;
    p = put(put(put(p, " HTTP/1.1\r\nHost: "), c->host), "\r\n");
    for (int i = 0; i < c->headers_n; i++)
        p = put(put(p, c->headers[i]), "\r\n");
    if (c->tenants_n)
        p = put(put(put(p, "X-Tenant: "), c->tenants[t]), "\r\n");
    if (!c->has_body)
        p = put(p, "\r\n");
    w->head_n[t] = (size_t)(p - w->head[t]);
    return 0;
}

static int build_requests(struct worker *w)
{
    const struct load_conf *c = w->conf;
    size_t head = 0;
    for (int t = 0; t < (c->tenants_n ? c->tenants_n : 1); t++) {
        if (build_head(w, t))
            return -ENOMEM;
        head = w->head_n[t] > head ? w->head_n[t] : head;
    }
    size_t one = strlen(c->method) + 1 + c->path.max_bytes + head + 64 + c->body.max_bytes;
    w->scratch = malloc(one * (size_t)c->pipeline);
    w->body = malloc(c->body.max_bytes + 1);
    w->buf = malloc(RECV_BYTES);
    return w->scratch && w->body && w->buf ? 0 : -ENOMEM;
}

int worker_init(struct worker *w, const struct load_conf *c, int index, int conns_n)
{
    memset(w, 0, sizeof *w);
    w->conf = c;
    w->index = index;
    w->conns_n = w->closed_n = conns_n;
    w->rng = (uint64_t)c->seed * UINT64_C(0x2545F4914F6CDD1D) + (uint64_t)index;
    w->gap_rng = ((uint64_t)c->seed << 8) + (uint64_t)index + 1;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll < 0)
        return -errno;
    w->conns = calloc((size_t)conns_n, sizeof *w->conns);
    w->idle = calloc((size_t)conns_n, sizeof *w->idle);
    struct flight *rings = calloc((size_t)conns_n * (size_t)c->pipeline, sizeof *rings);
    w->res = calloc(1, sizeof *w->res);
    if (w->conns)
        w->conns[0].ring = rings;
    if (!w->conns || !w->idle || !rings || !w->res) {
        if (!w->conns)
            free(rings);
        return -ENOMEM;
    }
    for (int i = 0; i < conns_n; i++) {
        w->conns[i].fd = -1;
        w->conns[i].ring = rings + (int64_t)i * c->pipeline;
    }
    fen_hist_init(&w->res->latency);
    if (c->rate)
        w->gap_ns = 1e9 * (double)c->threads / (double)c->rate;
    return build_requests(w);
}

void worker_fini(struct worker *w)
{
    for (int i = 0; w->conns && i < w->conns_n; i++) {
        if (w->conns[i].fd >= 0)
            close(w->conns[i].fd);
        free(w->conns[i].out);
    }
    for (int t = 0; t <= LOAD_TENANTS_MAX; t++)
        free(w->head[t]);
    free(w->conns ? w->conns[0].ring : NULL);
    free(w->conns);
    free(w->idle);
    free(w->scratch);
    free(w->body);
    free(w->buf);
    free(w->res);
    if (w->epoll >= 0)
        close(w->epoll);
}

static void open_due(struct worker *w, int64_t now)
{
    for (int i = 0; i < w->conns_n && w->closed_n > w->lost_n; i++)
        if (w->conns[i].state == CONN_CLOSED && w->conns[i].retry_ns <= now)
            conn_open(w, &w->conns[i], now);
}

static void time_out(struct worker *w, int64_t now)
{
    int64_t limit = now - w->conf->timeout_ns;
    for (int i = 0; i < w->conns_n; i++) {
        struct conn *c = &w->conns[i];
        if (c->state == CONN_CONNECTING && c->since_ns < limit)
            conn_fail(w, c, ERR_CONNECT, now);
        else if (c->state == CONN_OPEN && c->n && c->ring[c->first].sent_ns < limit)
            conn_fail(w, c, ERR_TIMEOUT, now);
    }
}

static void begin(struct worker *w, int64_t now)
{
    w->measuring = true;
    w->begin_ns = now;
    w->begin_cpu_ns = thread_cpu();
    w->res->bytes_in = w->res->bytes_out = 0;
    worker_in_flight(w, 0, now);
    w->in_flight_integral = 0;
}

static int wait_events(struct worker *w, struct epoll_event *ev, int64_t until, int64_t now)
{
    int64_t left = until > now ? until - now : 0;
    struct timespec t = {left / FEN_S, left % FEN_S};
    int n = epoll_pwait2(w->epoll, ev, EVENTS, &t, NULL);
    if (n < 0 && errno == ENOSYS) /* before Linux 5.11 */
        n = epoll_wait(w->epoll, ev, EVENTS, (int)(left / FEN_MS));
    return n;
}

static void finish(struct worker *w, int64_t now)
{
    if (!w->measuring)
        begin(w, now);
    worker_in_flight(w, 0, now);
    struct load_result *r = w->res;
    r->span_ns = now - w->begin_ns;
    r->in_flight_mean = r->span_ns ? w->in_flight_integral / (double)r->span_ns : 0;
    r->generator_cpu_ns = thread_cpu() - w->begin_cpu_ns;
    r->generator_share = r->span_ns ? (double)r->generator_cpu_ns / (double)r->span_ns : 0;
    if (w->conf->rate && w->due_ns < (double)now)
        r->unsent = (int64_t)(((double)now - w->due_ns) / w->gap_ns) + 1;
}

void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct epoll_event ev[EVENTS];
    int64_t now = fen_now(), sweep = now + SWEEP_NS, reopen = now;
    prctl(PR_SET_TIMERSLACK, 1000UL); /* an open loop must wake on time */
    w->due_ns = (double)w->start_ns + w->gap_ns * (w->index + 1) / (double)w->conf->threads;
    w->in_flight_since_ns = now;
    for (int i = 0; i < w->conns_n; i++)
        w->conns[i].retry_ns = w->start_ns + i / RAMP_CONNS * RAMP_NS;
    while (now < w->end_ns && !atomic_load_explicit(&w->quit, memory_order_relaxed)) {
        if (!w->measuring && now >= w->warm_ns)
            begin(w, now);
        if (w->closed_n > w->lost_n && now >= reopen) {
            open_due(w, now);
            reopen = now + RAMP_NS;
        }
        if (w->lost_n == w->conns_n) {
            atomic_store_explicit(&w->dead, true, memory_order_relaxed);
            break;
        }
        if (w->conf->rate)
            dispatch(w);
        int64_t until = w->measuring ? w->end_ns : w->warm_ns;
        until = sweep < until ? sweep : until;
        if (w->closed_n > w->lost_n && reopen < until)
            until = reopen;
        if (w->conf->rate && w->idle_n && w->due_ns < (double)until)
            until = (int64_t)w->due_ns;
        int n = wait_events(w, ev, until, fen_now());
        for (int i = 0; i < n; i++)
            conn_event(w, ev[i].data.ptr, ev[i].events);
        now = fen_now();
        if (now >= sweep) {
            time_out(w, now);
            sweep = now + SWEEP_NS;
        }
    }
    finish(w, now);
    return NULL;
}
