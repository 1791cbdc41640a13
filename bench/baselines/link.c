/* link.c - --mode=epoll: a client connection's own connection to the back end.
 *
 * Non-blocking, kept alive, opened at the first quote, in the same epoll as its client: one send
 * and one receive a quote and no thread changes. At most one question is on its way. States: closed
 * (fd -1), idle, asked but not yet sent (still connecting), sent. A kept connection that the back
 * end has closed shows as an end or an error before the first byte: the question is then put once
 * more on a new one, as in quotes.c. There is no time limit: a timer would be work above the floor.
 */
#include "baseline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void shut(struct link *k)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
    k->len = 0;
    k->proved = k->sent = false;
}

void link_free(struct link *k)
{
    if (!k)
        return;
    shut(k);
    free(k);
}

static bool dial(struct loop *l, struct conn *c)
{
    const unsigned interest = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    struct epoll_event ev = {.events = interest, .data.ptr = (char *)c + LINK_TAG};
    c->link->fd = quotes_dial();
    if (c->link->fd >= 0 && !epoll_ctl(l->epfd, EPOLL_CTL_ADD, c->link->fd, &ev))
        return true;
    shut(c->link);
    return false;
}

/* False when the connection is of no use. */
static bool send_question(struct link *k)
{
    char text[QUESTION_MAX_BYTES];
    size_t len = quotes_question(k->id, text);
    ssize_t n = send(k->fd, text, len, MSG_NOSIGNAL);
    k->sent = n == (ssize_t)len;
    return k->sent || (n < 0 && errno == EAGAIN && !k->proved); /* EPOLLOUT follows */
}

static bool put_question(struct loop *l, struct conn *c)
{
    struct link *k = c->link;
    for (;;) {
        bool fresh = k->fd < 0;
        if (fresh && !dial(l, c))
            return false;
        if (send_question(k))
            return true;
        shut(k);
        if (fresh)
            return false;
    }
}

bool link_ask(struct loop *l, struct conn *c, int64_t id, const struct request *rq)
{
    if (!c->link) {
        c->link = calloc(1, sizeof *c->link);
        if (!c->link)
            return false;
        c->link->fd = -1;
    }
    c->link->id = id;
    c->link->is_head = rq->is_head;
    c->link->close = rq->close;
    c->link->waiting = put_question(l, c);
    return c->link->waiting;
}

/* The answer to the question is `status_or_len`; 0 would mean that there is none yet. */
static int done(struct link *k, int status_or_len, bool keep)
{
    k->waiting = false;
    k->len = 0;
    k->proved = true;
    if (!keep)
        shut(k);
    return status_or_len;
}

static int lost(struct loop *l, struct conn *c)
{
    bool again = c->link->proved && c->link->len == 0;
    shut(c->link);
    return again && put_question(l, c) ? 0 : done(c->link, -502, false);
}

int link_hear(struct loop *l, struct conn *c, unsigned events, char *body)
{
    struct link *k = c->link;
    char buf[ANSWER_MAX_BYTES];
    if (k->fd < 0)
        return 0;
    if (k->waiting && !k->sent)
        return send_question(k) ? 0 : done(k, -502, false);
    if (!(events & ~(unsigned)EPOLLOUT))
        return 0;
    memcpy(buf, k->in, k->len);
    ssize_t n = recv(k->fd, buf + k->len, sizeof buf - k->len, 0);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (!k->waiting) {
        shut(k); /* the back end ended it, or spoke unasked */
        return 0;
    }
    if (n <= 0)
        return lost(l, c);
    size_t len = k->len + (size_t)n;
    int rc = quotes_answer(k->id, buf, len, body);
    if (rc == 0 && len == sizeof buf)
        rc = -502;
    if (rc)
        return done(k, rc, rc > 0 && !(events & EPOLLRDHUP));
    memcpy(k->in, buf, len);
    k->len = (unsigned)len;
    return 0;
}
