/* lane.c - --mode=epoll: pipelined connections to the back end, shared by the clients of a loop.
 *
 * Questions gather in the lane's buffer while a batch of events is worked off and leave in one send
 * at its end; one receive brings many answers, which are dealt out in order. So the back end costs
 * each request a small share of two system calls. One thread, no lock, no timer. Level-triggered,
 * and one receive of INPUT_BYTES an event: to deal out everything that has come before the next
 * client is heard would bunch the clients up and leave the back end idle meanwhile.
 *
 * Whoever has asked stands in the lane's queue, through conn.link, and is not closed before it has
 * its answer (epoll.c). States: closed (fd -1, nobody waits), open. An end, an error or nonsense
 * closes the lane; who waits is asked for once more on a new connection, because GET may be
 * repeated, the second time answered 502. No time limit: a timer would be work above the floor.
 */
#include "baseline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT_BYTES = 1 << 14, OUTPUT_BYTES = 1 << 12 };

struct lane {
    int fd;
    bool blocked; /* the socket takes no more, or is not connected yet: EPOLLOUT is asked for */
    struct conn *first, *last; /* who waits, in the order of the questions */
    char *out;
    size_t out_from, out_to, out_cap;
    size_t in_len;
    char in[INPUT_BYTES];
};

struct lane *lanes_new(struct loop *l, int n)
{
    struct lane *k = calloc((size_t)n, sizeof *k);
    (void)l;
    for (int i = 0; k && i < n; i++)
        k[i].fd = -1;
    return k;
}

void lanes_free(struct loop *l)
{
    for (int i = 0; l->lanes && i < l->opt->backend_conns; i++) {
        if (l->lanes[i].fd >= 0)
            close(l->lanes[i].fd);
        free(l->lanes[i].out);
    }
    free(l->lanes);
    l->lanes = NULL;
}

static bool put_question(struct lane *k, int64_t id)
{
    if (k->out_cap - k->out_to < QUESTION_MAX_BYTES) {
        size_t cap = k->out_cap ? k->out_cap * 2 : OUTPUT_BYTES;
        char *out = realloc(k->out, cap);
        if (!out)
            return false;
        k->out = out;
        k->out_cap = cap;
    }
    k->out_to += quotes_question(id, k->out + k->out_to);
    return true;
}

static bool watch(struct loop *l, struct lane *k, int op, bool blocked)
{
    struct epoll_event ev = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN,
                             .data.ptr = (char *)k + LANE_TAG};
    k->blocked = blocked;
    return !epoll_ctl(l->epfd, op, k->fd, &ev);
}

static bool dial(struct loop *l, struct lane *k)
{
    k->out_from = k->out_to = k->in_len = 0;
    k->fd = quotes_dial();
    if (k->fd < 0)
        return false;
    if (watch(l, k, EPOLL_CTL_ADD, true))
        return true;
    close(k->fd);
    k->fd = -1;
    return false;
}

static void append(struct lane *k, struct conn *c)
{
    c->link->behind = NULL;
    if (k->first)
        k->last->link->behind = c;
    else
        k->first = c;
    k->last = c;
}

bool lane_ask(struct loop *l, struct conn *c, int64_t id, const struct request *rq)
{
    struct lane *k = &l->lanes[l->turn++ % (unsigned)l->opt->backend_conns];
    if (!c->link) {
        c->link = calloc(1, sizeof *c->link);
        if (!c->link)
            return false;
        c->link->fd = -1;
    }
    if ((k->fd < 0 && !dial(l, k)) || !put_question(k, id))
        return false;
    c->link->id = id;
    c->link->is_head = rq->is_head;
    c->link->close = rq->close;
    c->link->repeated = false;
    c->link->waiting = true;
    append(k, c);
    return true;
}

/* An error shows at the next event. */
static void flush(struct loop *l, struct lane *k)
{
    ssize_t n = 0;
    while (k->out_from < k->out_to &&
           (n = send(k->fd, k->out + k->out_from, k->out_to - k->out_from, MSG_NOSIGNAL)) > 0)
        k->out_from += (size_t)n;
    bool blocked = k->out_from < k->out_to;
    if (!blocked)
        k->out_from = k->out_to = 0;
    if (blocked != k->blocked)
        watch(l, k, EPOLL_CTL_MOD, blocked);
}

void lanes_flush(struct loop *l)
{
    for (int i = 0; l->lanes && i < l->opt->backend_conns; i++)
        if (l->lanes[i].fd >= 0 && l->lanes[i].out_to && !l->lanes[i].blocked)
            flush(l, &l->lanes[i]);
}

static struct conn *take(struct lane *k)
{
    struct conn *c = k->first;
    k->first = c->link->behind;
    c->link->waiting = false;
    return c;
}

/* The connection is of no use: asks again on another, or says that there is no answer. */
static void lost(struct loop *l, struct lane *k, lane_answered *answered, void *arg)
{
    struct conn *c = k->first, *behind;
    close(k->fd);
    k->fd = -1;
    k->first = NULL;
    k->out_from = k->out_to = k->in_len = 0;
    for (; c; c = behind) {
        behind = c->link->behind;
        bool again =
            !c->link->repeated && (k->fd >= 0 || dial(l, k)) && put_question(k, c->link->id);
        if (again) {
            c->link->repeated = true;
            append(k, c);
            continue;
        }
        c->link->waiting = false;
        answered(l, c, -502, "", arg);
    }
}

/* Deals out the whole answers. False when nobody can say where one ends. */
static bool deal(struct loop *l, struct lane *k, lane_answered *answered, void *arg)
{
    char body[BODY_MAX_BYTES];
    size_t used = 0, n;
    while (used < k->in_len && k->first) {
        int rc = quotes_answer_first(k->first->link->id, k->in + used, k->in_len - used, body, &n);
        if (rc == 0)
            break;
        if (n == 0)
            return false;
        used += n;
        answered(l, take(k), rc, body, arg);
    }
    if (used < k->in_len && (!k->first || k->in_len - used >= ANSWER_MAX_BYTES))
        return false; /* unasked, or too long */
    memmove(k->in, k->in + used, k->in_len - used);
    k->in_len -= used;
    return true;
}

void lane_hear(struct loop *l, struct lane *k, unsigned events, lane_answered *answered, void *arg)
{
    if (k->fd < 0)
        return;
    if (events & EPOLLOUT)
        flush(l, k);
    if (!(events & ~(unsigned)EPOLLOUT))
        return;
    ssize_t n = recv(k->fd, k->in + k->in_len, sizeof k->in - k->in_len, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    k->in_len += n > 0 ? (size_t)n : 0;
    if (n <= 0 || !deal(l, k, answered, arg))
        lost(l, k, answered, arg);
}
