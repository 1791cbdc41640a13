/* backend.c - --mode=backend: an upstream that takes its time.
 *
 * Every request is answered not before --delay has passed since it was read, and in order of
 * arrival: the delay is one constant, so a ring in that order is already sorted by due time, and no
 * heap is needed. It shares its CPUs with the servers under test, so it has to be lean: due times
 * are looked at on a grid of TICK_NS, and while there is traffic the loop sleeps to the next point
 * of the grid, so that a wake-up serves many connections. What that adds (up to two ticks) is the
 * same for every server that asks.
 *
 * Answers that fall due together leave in one send for each connection: they gather in the
 * connection's outbox, which is on the list of full ones until the end of the pass. A callee that
 * is asked over few pipelined connections thus makes few system calls, one that is asked over a
 * connection for each request makes one for each.
 *
 * Invariants: head - tail <= RING; due times in the ring never fall; a conn lives while it has
 * entries in the ring (conn.waiting counts them) or an outbox, even when its peer is gone. An
 * outbox that the socket did not take waits for EPOLLOUT; a peer that lets it grow to OUTBOX_MAX
 * is dropped.
 *
 * Rejected: a timerfd per connection (a system call and a wake-up each), a heap (see above).
 */
#include "baseline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum {
    EVENTS = 512,
    RING = 1 << 16,
    TICK_NS = 250000,
    INPUT_BYTES = 1 << 16,
    OUTBOX_BYTES = 1 << 14, /* at first */
    OUTBOX_MAX = 1 << 22,   /* of a peer that does not read */
};

struct due {
    int64_t at_ns;
    struct conn *conn;
    int64_t what; /* the quote's id, or a negative status */
    bool close;
    bool is_head;
};

struct outbox {
    struct outbox *below; /* in clockwork.full, clockwork.spare */
    struct conn *conn;
    size_t from, to, cap;
    bool listed; /* in clockwork.full */
    char *data;
};

struct clockwork {
    struct loop *loop;
    struct outbox *full, *spare; /* to be sent at the end of the pass; without a connection */
    unsigned head, tail;         /* next to fill, next to answer */
    struct due ring[RING];
    char in[INPUT_BYTES];
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t next_tick(int64_t t) { return (t + TICK_NS - 1) / TICK_NS * TICK_NS; }

/* A price that depends on the id alone, so that a test can tell a mixed-up answer. */
static int64_t price_of(int64_t id) { return 1000 + (id % 9000 * 7919) % 9000; }

/* ---- answers ---- */

static struct outbox *outbox_of(struct clockwork *cw, struct conn *c)
{
    struct outbox *o = c->outbox;
    if (!o) {
        o = cw->spare;
        if (o)
            cw->spare = o->below;
        else if (!(o = calloc(1, sizeof *o)))
            return NULL;
        o->conn = c;
        c->outbox = o;
    }
    if (!o->listed) {
        o->listed = true;
        o->below = cw->full;
        cw->full = o;
    }
    return o;
}

static bool outbox_put(struct outbox *o, const char *p, size_t n)
{
    if (o->from && o->cap - o->to < n) {
        memmove(o->data, o->data + o->from, o->to - o->from);
        o->to -= o->from;
        o->from = 0;
    }
    size_t cap = o->cap ? o->cap : OUTBOX_BYTES;
    while (cap - o->to < n)
        cap *= 2;
    if (cap > OUTBOX_MAX)
        return false;
    if (cap != o->cap) {
        char *data = realloc(o->data, cap);
        if (!data)
            return false;
        o->data = data;
        o->cap = cap;
    }
    memcpy(o->data + o->to, p, n);
    o->to += n;
    return true;
}

static void conn_drop(struct clockwork *cw, struct conn *c)
{
    struct outbox *o = c->outbox;
    if (o) {
        o->from = o->to = 0;
        o->conn = NULL;
        o->below = cw->spare;
        cw->spare = o;
    }
    conn_free(c);
}

/* The outbox is in no list. Sends what it can; the connection may end here. */
static void outbox_send(struct clockwork *cw, struct outbox *o)
{
    struct conn *c = o->conn;
    ssize_t n = 0;
    while (o->from < o->to &&
           (n = send(c->fd, o->data + o->from, o->to - o->from, MSG_NOSIGNAL)) > 0)
        o->from += (size_t)n;
    if (o->from < o->to && n < 0 && errno == EAGAIN) {
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = c};
        if (!epoll_ctl(cw->loop->epfd, EPOLL_CTL_MOD, c->fd, &ev))
            return;
    }
    if (o->from < o->to)
        c->ended = true; /* gone, or it does not read */
    else if (c->last_word)
        http_last_word(c->fd);
    o->from = o->to = 0;
    if (c->ended && c->waiting == 0) {
        conn_drop(cw, c);
        return;
    }
    c->outbox = NULL;
    o->conn = NULL;
    o->below = cw->spare;
    cw->spare = o;
}

static void answer(struct clockwork *cw, const struct due *d)
{
    struct reply out;
    char body[80];
    const struct request rq = {.close = d->close, .is_head = d->is_head};
    char *at = body;
    out.len = 0;
    if (d->what >= 0) {
        memcpy(at, "{\"id\":", 6);
        at = put_i64(at + 6, d->what);
        memcpy(at, ",\"price\":", 9);
        at = put_i64(at + 9, price_of(d->what));
        *at++ = '}';
    } else {
        memcpy(at, "{\"error\":\"no such quote\"}", 25);
        at += 25;
    }
    int status = d->what >= 0 ? 200 : (int)-d->what;
    http_reply(&out, status, "application/json", body, (size_t)(at - body), &rq);
    struct outbox *o = outbox_of(cw, d->conn);
    bool put = o && outbox_put(o, out.data, out.len);
    d->conn->last_word |= d->close;
    d->conn->ended |= d->close || !put;
}

/* Everything that is due, one send a connection. A conn without outbox ends in outbox_send too:
 * each answer lists one. */
static void answer_due(struct clockwork *cw)
{
    int64_t now = now_ns();
    for (; cw->tail != cw->head && cw->ring[cw->tail % RING].at_ns <= now; cw->tail++) {
        struct due *d = &cw->ring[cw->tail % RING];
        answer(cw, d);
        d->conn->waiting--;
        if (!d->conn->outbox && d->conn->waiting == 0)
            conn_free(d->conn); /* no memory for it */
    }
    while (cw->full) {
        struct outbox *o = cw->full;
        cw->full = o->below;
        o->listed = false;
        outbox_send(cw, o);
    }
}

/* ---- questions ---- */

/* Takes the whole requests of `in` into the ring. False when nothing more is to be read. */
static bool take(struct clockwork *cw, struct conn *c, const char *in, size_t len)
{
    size_t used = 0;
    int64_t at_ns = now_ns() + cw->loop->opt->delay_ns;
    while (used < len) {
        struct request rq;
        int64_t id;
        int n = http_parse(in + used, len - used, &rq);
        if (n == 0)
            break;
        if (cw->head - cw->tail == RING)
            return false;
        struct due *d = &cw->ring[cw->head++ % RING];
        *d = (struct due){.at_ns = at_ns, .conn = c, .what = n, .close = true};
        c->waiting++;
        if (n < 0)
            return false;
        int rc = rq.is_get ? http_path_id(&rq, "/quote/", 7, &id) : -ENOENT;
        d->what = rc == 0 ? id : rc == -EINVAL ? -400 : -404;
        d->close = rq.close;
        d->is_head = rq.is_head;
        if (rq.close)
            return false;
        used += (size_t)n;
    }
    return conn_keep(c, in + used, len - used);
}

static void receive(struct clockwork *cw, struct conn *c, unsigned events)
{
    bool more = true;
    conn_take_over(c);
    while (more && !c->ended) {
        int n = conn_receive(c, cw->in, sizeof cw->in, &more);
        if (n == -EAGAIN)
            break;
        if (n <= 0 || !take(cw, c, cw->in, (size_t)n))
            c->ended = true;
        more |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0; /* the end comes after */
    }
    if (c->outbox) /* the socket was full; perhaps it is no more */
        outbox_send(cw, c->outbox);
    else if (c->ended && c->waiting == 0)
        conn_free(c);
}

static int wait_events(struct clockwork *cw, struct epoll_event *ev)
{
    if (cw->head == cw->tail)
        return epoll_wait(cw->loop->epfd, ev, EVENTS, -1);
    int64_t left = next_tick(cw->ring[cw->tail % RING].at_ns) - now_ns();
    struct timespec t = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    if (left < 0)
        t = (struct timespec){0};
    int n = epoll_pwait2(cw->loop->epfd, ev, EVENTS, &t, NULL);
    if (n < 0 && errno == ENOSYS) /* Linux < 5.11: whole milliseconds, upwards */
        n = epoll_wait(cw->loop->epfd, ev, EVENTS, left <= 0 ? 0 : (int)(left / 1000000 + 1));
    return n;
}

static void clockwork_free(struct clockwork *cw)
{
    for (struct outbox *o; (o = cw->spare);) {
        cw->spare = o->below;
        free(o->data);
        free(o);
    }
    free(cw);
}

static void *run(void *arg)
{
    struct epoll_event ev[EVENTS];
    struct clockwork *cw = calloc(1, sizeof *cw);
    if (!cw) {
        fprintf(stderr, "fen-baseline: out of memory\n");
        exit(1);
    }
    cw->loop = arg;
    for (;;) {
        int n = wait_events(cw, ev);
        for (int i = 0; i < n; i++) {
            if (!ev[i].data.ptr) {
                clockwork_free(cw);
                return NULL;
            }
            receive(cw, ev[i].data.ptr, ev[i].events);
        }
        answer_due(cw);
        if (n > 0 && cw->head != cw->tail) {
            int64_t until = next_tick(now_ns() + 1);
            struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        }
    }
}

int serve_backend(const struct options *opt)
{
    return loops_run(opt, opt->threads ? opt->threads : 1, run);
}
