/* epoll.c - --mode=epoll: the floor.
 *
 * One edge-triggered loop per CPU, a receive and a send a request, a reply that needs no work. What
 * it spends is what the kernel's TCP path and the bare protocol cost on this machine; no server
 * that answers over sockets can do with much less. Orders are not looked up: each is the same row.
 */
#include "baseline.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 256 };

static const char order[] = "{\"id\":1,\"customer\":17,\"item\":\"widget-42\",\"quantity\":3,"
                            "\"price_cents\":1999,\"status\":\"paid\",\"created_at\":1700000000}";

static bool answer(struct conn *c, struct reply *out, const struct request *rq)
{
    static const char error[] = "{\"error\":\"not found\"}";
    int64_t id;
    bool known = rq->is_get && http_path_id(rq, "/orders/", 8, &id) == 0;
    for (int tries = 0; tries < 2; tries++) {
        if (rq->is_get && rq->path_len == 1) {
            if (http_reply(out, 200, "text/plain", "ok\n", 3, rq))
                return true;
        } else if (known) {
            if (http_reply(out, 200, "application/json", order, sizeof order - 1, rq))
                return true;
        } else if (http_reply(out, 404, "application/json", error, sizeof error - 1, rq)) {
            return true;
        }
        if (!http_flush(c->fd, out)) /* a peer that does not read is dropped */
            return false;
    }
    return false;
}

/* Returns false when the connection is to be closed. */
static bool feed(struct conn *c, struct reply *out, const char *in, size_t len)
{
    size_t used = 0;
    bool open = true;
    out->len = 0;
    while (open && used < len) {
        struct request rq;
        int n = http_parse(in + used, len - used, &rq);
        if (n == 0)
            break;
        if (n < 0) {
            rq = (struct request){.close = true};
            http_reply(out, -n, "application/json", "{}", 2, &rq);
            http_flush(c->fd, out);
            http_last_word(c->fd);
            return false;
        } else {
            open = answer(c, out, &rq) && !rq.close;
            used += (size_t)n;
        }
    }
    if (out->len && !http_flush(c->fd, out))
        return false;
    return open && conn_keep(c, in + used, len - used);
}

static void serve_conn(struct conn *c, unsigned events)
{
    char in[REQUEST_MAX_BYTES];
    struct reply out;
    bool more = true;
    conn_take_over(c);
    while (more) {
        int n = conn_receive(c, in, &more);
        if (n == -EAGAIN)
            return;
        if (n <= 0 || !feed(c, &out, in, (size_t)n)) {
            conn_free(c);
            return;
        }
        more |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0; /* the end comes after */
    }
}

static void *run(void *arg)
{
    struct loop *l = arg;
    struct epoll_event ev[EVENTS];
    for (;;) {
        int n = epoll_wait(l->epfd, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (!ev[i].data.ptr)
                return NULL;
            serve_conn(ev[i].data.ptr, ev[i].events);
        }
    }
}

int serve_epoll(const struct options *opt)
{
    int n = opt->threads ? opt->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return loops_run(opt, n, run);
}
