/* conn.c - one client connection: open, send, receive, fail, open again.
 *
 *   CLOSED -conn_open-> CONNECTING -opened-> OPEN -conn_close/conn_fail-> CLOSED
 *
 * A connection that fails waits 10 ms, doubling to 1 s, so that a dead server is not hammered; one
 * that the server closed politely after an answer reopens at once. Requests are answered in order;
 * the ring holds their times. Level-triggered epoll, one recv a wake-up: a second recv would nearly
 * always answer EAGAIN. */
#include "worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BACKOFF_FIRST_NS (10 * FEN_MS)
#define BACKOFF_LAST_NS FEN_S
#define LATE_NS FEN_MS
#define RECV_BYTES (64 * 1024)

static void watch(struct worker *w, struct conn *c, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};
    epoll_ctl(w->epoll, op, c->fd, &ev);
}

/* Closes; reopening is due at retry_ns. */
static void shut(struct worker *w, struct conn *c, int64_t retry_ns, int64_t now)
{
    if (c->fd >= 0)
        close(c->fd); /* leaves the epoll set by itself */
    if (c->state != CONN_CLOSED)
        w->closed_n++;
    worker_in_flight(w, -c->n, now);
    c->fd = -1;
    c->state = CONN_CLOSED;
    c->n = c->first = 0;
    c->out_n = c->out_at = 0;
    c->retry_ns = retry_ns;
    if (!w->conf->reconnect) {
        c->retry_ns = FEN_NEVER;
        w->lost_n++;
    }
}

void conn_fail(struct worker *w, struct conn *c, enum load_error kind, int64_t now)
{
    int lost = c->n ? c->n : 1;
    if (w->measuring)
        w->res->errors[kind] += lost;
    else
        w->res->warmup_errors += lost;
    if (w->measuring)
        atomic_fetch_add_explicit(&w->failed, lost, memory_order_relaxed);
    c->backoff_ns = c->backoff_ns ? c->backoff_ns * 2 : BACKOFF_FIRST_NS;
    if (c->backoff_ns > BACKOFF_LAST_NS)
        c->backoff_ns = BACKOFF_LAST_NS;
    shut(w, c, now + c->backoff_ns, now);
}

/* The server ended the connection between answers: no error; but one that closes without ever
 * answering must not be dialled in a hot loop. */
static void reopen(struct worker *w, struct conn *c, int64_t now)
{
    bool answered = c->answered;
    shut(w, c, answered ? now : now + BACKOFF_FIRST_NS, now);
    if (answered && c->retry_ns != FEN_NEVER)
        conn_open(w, c, now);
}

void conn_open(struct worker *w, struct conn *c, int64_t now)
{
    int one = 1;
    w->closed_n--;
    c->state = CONN_CONNECTING;
    c->since_ns = now;
    c->answered = false;
    c->fd = socket(w->conf->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        conn_fail(w, c, ERR_CONNECT, now);
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (const struct sockaddr *)&w->conf->addr, w->conf->addr_bytes) &&
        errno != EINPROGRESS) {
        conn_fail(w, c, ERR_CONNECT, now);
        return;
    }
    watch(w, c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void opened(struct worker *w, struct conn *c)
{
    int err = 0;
    socklen_t n = sizeof err;
    int64_t now = fen_now();
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n) || err) {
        conn_fail(w, c, ERR_CONNECT, now);
        return;
    }
    c->state = CONN_OPEN;
    resp_init(&c->resp, !strcmp(w->conf->method, "HEAD"));
    watch(w, c, EPOLL_CTL_MOD, EPOLLIN);
    worker_feed(w, c, now);
}

/* Keeps what the socket did not take; EPOLLOUT flushes it. */
static void hold(struct worker *w, struct conn *c, const char *p, size_t n, int64_t now)
{
    char *out = realloc(c->out, n);
    if (!out) {
        conn_fail(w, c, ERR_RESET, now);
        return;
    }
    memcpy(out, p, n);
    c->out = out;
    c->out_n = n;
    c->out_at = 0;
    watch(w, c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

static char *put_request(struct worker *w, char *p)
{
    const struct load_conf *conf = w->conf;
    size_t n = strlen(conf->method);
    memcpy(p, conf->method, n);
    p[n] = ' ';
    p = load_template_put(&conf->path, p + n + 1, &w->rng);
    memcpy(p, w->head[w->tenant], w->head_n[w->tenant]);
    p += w->head_n[w->tenant];
    if (conf->tenants_n)
        w->tenant = (w->tenant + 1) % conf->tenants_n;
    if (conf->has_body) {
        size_t body = (size_t)(load_template_put(&conf->body, w->body, &w->rng) - w->body);
        p += snprintf(p, 48, "Content-Length: %zu\r\n\r\n", body); /* 64 bytes are reserved */
        memcpy(p, w->body, body);
        p += body;
    }
    return p;
}

void conn_send(struct worker *w, struct conn *c, int n, const int64_t *intended, int64_t now)
{
    char *p = w->scratch;
    int slots = (int)w->conf->pipeline;
    for (int i = 0; i < n; i++) {
        p = put_request(w, p);
        int64_t at = intended ? intended[i] : now;
        if (w->measuring && now - at > LATE_NS)
            w->res->late++;
        c->ring[(c->first + c->n++) % slots] = (struct flight){at, now};
    }
    worker_in_flight(w, n, now);
    size_t len = (size_t)(p - w->scratch);
    w->res->bytes_out += (int64_t)len;
    if (c->out_n) { /* cannot be: nothing is sent before the last answer, which follows the flush;
                     * a server that answers early has broken the order, so start afresh */
        conn_fail(w, c, ERR_MALFORMED, now);
        return;
    }
    ssize_t sent = send(c->fd, w->scratch, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        conn_fail(w, c, ERR_RESET, now);
    else if (sent < (ssize_t)len)
        hold(w, c, w->scratch + (sent < 0 ? 0 : sent), len - (size_t)(sent < 0 ? 0 : sent), now);
}

static void flush(struct worker *w, struct conn *c)
{
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_n - c->out_at, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_fail(w, c, ERR_RESET, fen_now());
        return;
    }
    c->out_at += (size_t)n;
    if (c->out_at == c->out_n) {
        c->out_n = c->out_at = 0;
        watch(w, c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void completed(struct worker *w, struct conn *c, int64_t now)
{
    struct flight f = c->ring[c->first];
    c->first = (uint16_t)((c->first + 1) % w->conf->pipeline);
    c->n--;
    c->backoff_ns = 0;
    c->answered = true;
    worker_in_flight(w, -1, now);
    struct load_result *r = w->res;
    if (!w->measuring) {
        r->warmup_requests++;
        return;
    }
    r->requests++;
    r->status[c->resp.status]++;
    if (w->conf->expect && c->resp.status != w->conf->expect)
        r->unexpected++;
    r->service_sum_ns += now - f.sent_ns;
    fen_hist_record(&r->latency, now - f.intended_ns);
    if (w->conf->answered)
        w->conf->answered(w->conf->answered_arg, f.intended_ns, now);
    atomic_store_explicit(&w->completed, r->requests, memory_order_relaxed);
}

static void ended(struct worker *w, struct conn *c)
{
    int64_t now = fen_now();
    if (c->n && resp_eof(&c->resp) == RESP_DONE)
        completed(w, c, now);
    if (c->n)
        conn_fail(w, c, ERR_SHORT, now);
    else
        reopen(w, c, now);
}

/* Takes the answers in buf; false when the connection is gone. */
static bool answers(struct worker *w, struct conn *c, size_t n, int64_t now)
{
    bool to_head = c->resp.to_head;
    for (size_t at = 0, used; at < n; at += used) {
        enum resp_result rc = c->n ? resp_feed(&c->resp, w->buf + at, n - at, &used) : RESP_BAD;
        if (rc == RESP_BAD) { /* also bytes that nobody asked for */
            conn_fail(w, c, ERR_MALFORMED, now);
            return false;
        }
        if (rc == RESP_MORE)
            continue;
        completed(w, c, now);
        if (!c->resp.keep_alive) {
            if (c->n)
                conn_fail(w, c, ERR_SHORT, now);
            else
                reopen(w, c, now);
            return false;
        }
        resp_init(&c->resp, to_head);
    }
    return true;
}

static void readable(struct worker *w, struct conn *c)
{
    ssize_t n = recv(c->fd, w->buf, RECV_BYTES, 0);
    if (n == 0) {
        ended(w, c);
        return;
    }
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_fail(w, c, ERR_RESET, fen_now());
        return;
    }
    int64_t now = fen_now();
    w->res->bytes_in += n;
    if (answers(w, c, (size_t)n, now) && c->n < w->conf->pipeline)
        worker_feed(w, c, now);
}

void conn_event(struct worker *w, struct conn *c, uint32_t events)
{
    if (c->state == CONN_CONNECTING) {
        opened(w, c);
        return;
    }
    if (c->state == CONN_OPEN && events & EPOLLOUT && c->out_n)
        flush(w, c);
    if (c->state == CONN_OPEN && events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        readable(w, c);
}
