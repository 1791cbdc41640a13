/* epoll.c - --mode=epoll: the floor.
 *
 * One edge-triggered loop per CPU, a receive and a send a request, a reply that needs no work. What
 * it spends is what the kernel's TCP path and the bare protocol cost on this machine; no server
 * that answers over sockets can do with much less. Orders are not looked up: each is the same row.
 * With --backend, quotes are passed on: receive, send, receive, send and a share of epoll_wait
 * (link.c), or receive, send and a share of one send and one receive (--backend-conns, lane.c).
 *
 * A client connection is open, or waits for a quote (link->waiting), or dead. While it waits, it is
 * not read: what follows the request is put away, an event is noted (news), and both are taken up
 * after the reply. A dead one is freed after the batch, which may hold an event of its other
 * descriptor still.
 */
#include "baseline.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { EVENTS = 256 };

static const char order[] = "{\"id\":1,\"customer\":17,\"item\":\"widget-42\",\"quantity\":3,"
                            "\"price_cents\":1999,\"status\":\"paid\",\"created_at\":1700000000}";

static const char json[] = "application/json";
static const char nothing[] = "{\"error\":\"not found\"}";
static const char unavailable[] = "{\"error\":\"backend unavailable\"}";

static bool waits(const struct conn *c) { return c->link && c->link->waiting; }

/* Appends; makes room first when there is none. A peer that does not read is dropped (false). */
static bool reply(struct conn *c, struct reply *out, int status, const char *type, const char *body,
                  size_t len, const struct request *rq)
{
    return http_reply(out, status, type, body, len, rq) ||
           (http_flush(c->fd, out) && http_reply(out, status, type, body, len, rq));
}

static bool answer(struct loop *l, struct conn *c, struct reply *out, const struct request *rq)
{
    int64_t id;
    if (rq->is_get && rq->path_len == 1)
        return reply(c, out, 200, "text/plain", "ok\n", 3, rq);
    if (rq->is_get && http_path_id(rq, "/orders/", 8, &id) == 0)
        return reply(c, out, 200, json, order, sizeof order - 1, rq);
    if (!rq->is_get || !l->opt->has_backend || http_path_id(rq, "/quotes/", 8, &id))
        return reply(c, out, 404, json, nothing, sizeof nothing - 1, rq);
    bool asked = l->lanes ? lane_ask(l, c, id, rq) : link_ask(l, c, id, rq);
    return asked || reply(c, out, 502, json, unavailable, sizeof unavailable - 1, rq);
}

/* Returns false when the connection is to be closed. */
static bool feed(struct loop *l, struct conn *c, const char *in, size_t len)
{
    struct reply out;
    size_t used = 0;
    bool open = true;
    out.len = 0;
    while (open && used < len && !waits(c)) {
        struct request rq;
        int n = http_parse(in + used, len - used, &rq);
        if (n == 0)
            break;
        if (n < 0) {
            rq = (struct request){.close = true};
            http_reply(&out, -n, json, "{}", 2, &rq);
            http_flush(c->fd, &out);
            http_last_word(c->fd);
            return false;
        }
        open = answer(l, c, &out, &rq) && (!rq.close || waits(c));
        used += (size_t)n;
    }
    if (out.len && !http_flush(c->fd, &out))
        return false;
    return open && conn_keep(c, in + used, len - used);
}

static bool on_client(struct loop *l, struct conn *c, bool ending)
{
    char in[REQUEST_MAX_BYTES];
    bool more = true;
    while (more && !waits(c)) {
        int n = conn_receive(c, in, sizeof in, &more);
        if (n == -EAGAIN)
            return true;
        if (n <= 0 || !feed(l, c, in, (size_t)n))
            return false;
        more |= ending; /* the end comes after */
    }
    c->news |= more;
    return true;
}

/* What came while the quote was awaited. */
static bool resume(struct loop *l, struct conn *c)
{
    if (c->rest_len) {
        char *rest = c->rest;
        size_t len = c->rest_len;
        c->rest = NULL;
        c->rest_len = 0;
        bool open = feed(l, c, rest, len);
        free(rest);
        if (!open)
            return false;
    }
    if (!c->news || waits(c))
        return true;
    c->news = false;
    return on_client(l, c, true); /* the news may be the end: read until there is nothing */
}

/* The quote has come, n bytes of JSON, or a negative status. False: to be closed. */
static bool on_quote(struct loop *l, struct conn *c, int n, const char *body)
{
    struct reply out;
    const struct request rq = {.is_head = c->link->is_head, .close = c->link->close};
    out.len = 0;
    if (n > 0)
        http_reply(&out, 200, json, body, (size_t)n, &rq);
    else
        http_reply(&out, -n, json, unavailable, sizeof unavailable - 1, &rq);
    return http_flush(c->fd, &out) && !rq.close && resume(l, c);
}

static bool on_link(struct loop *l, struct conn *c, unsigned events)
{
    char body[BODY_MAX_BYTES];
    int n = link_hear(l, c, events, body);
    return n == 0 || on_quote(l, c, n, body);
}

static bool on_event(struct loop *l, struct conn *c, bool of_link, unsigned events)
{
    if (of_link)
        return on_link(l, c, events);
    conn_take_over(c);
    if (!waits(c))
        return on_client(l, c, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    c->news = true;
    return true;
}

static void free_all(struct conn *dead)
{
    while (dead) {
        struct conn *below = dead->below;
        conn_free(dead);
        dead = below;
    }
}

static void bury(struct conn *c, struct conn **dead)
{
    c->dead = true;
    c->below = *dead;
    *dead = c;
}

static void on_lane(struct loop *l, struct conn *c, int n, const char *body, void *dead)
{
    if (!on_quote(l, c, n, body))
        bury(c, dead);
}

static void *run(void *arg)
{
    struct loop *l = arg;
    struct epoll_event ev[EVENTS];
    if (l->opt->has_backend && l->opt->backend_conns)
        l->lanes = lanes_new(l, l->opt->backend_conns);
    for (;;) {
        struct conn *dead = NULL;
        int n = epoll_wait(l->epfd, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            char *p = ev[i].data.ptr;
            if (!p) { /* every connection was gone before: `dead` is empty */
                lanes_free(l);
                return NULL;
            }
            uintptr_t tag = (uintptr_t)p & (LINK_TAG | LANE_TAG);
            if (tag == LANE_TAG) {
                lane_hear(l, (struct lane *)(void *)(p - LANE_TAG), ev[i].events, on_lane, &dead);
                continue;
            }
            struct conn *c = (struct conn *)(void *)(p - tag);
            if (!c->dead && !on_event(l, c, tag == LINK_TAG, ev[i].events))
                bury(c, &dead);
        }
        lanes_flush(l);
        free_all(dead);
    }
}

int serve_epoll(const struct options *opt)
{
    cpu_set_t cpus; /* those it may use: more loops than these would only switch between threads */
    int n = opt->threads;
    if (n == 0)
        n = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus);
    return loops_run(opt, n, run);
}
