/* dgram.c - datagrams with addresses. */
#include "net/addr.h"
#include "net/net_int.h"

#define SEND_STEP_NS FEN_MS

struct dgram {
    struct iovec iov;
    fen_addr *from;
    const fen_addr *to;
};

static ssize_t try_send(fen_sock *s, void *arg)
{
    const struct dgram *d = arg;
    const struct sockaddr *sa = d->to ? &fen__addr_csa(d->to)->sa : NULL;
    return fen__sys_sendmsg(s->fd, &d->iov, 1, sa, d->to ? d->to->bytes : 0);
}

/* A fiber's short sleep, at most until the deadline. */
static int pause_once(int64_t deadline_ns)
{
    int64_t now = fen__sys_now();
    if (now >= deadline_ns)
        return -ETIMEDOUT;
    fen__enter();
    int rc = fen__net_pause(fen__min_i64(now + SEND_STEP_NS, deadline_ns));
    fen__leave(fen__self());
    return rc;
}

/* A Unix receiver whose queue is full says EAGAIN, and no event tells a sender that is not
 * connected with it when there is room. The one event there is comes of the try itself, which gives
 * its buffer back: who waited for it would never rest. */
static ssize_t send_in_steps(fen_sock *s, struct dgram *d, int64_t deadline_ns)
{
    if (!fen__sock_hold(s))
        return -EBADF;
    ssize_t put;
    int rc = 0;
    do {
        put = fen__sock_try(s, FEN__WRITE, 0, try_send, d); /* -EBADF once it is closed */
        if (put == -EAGAIN && deadline_ns)
            rc = pause_once(deadline_ns);
    } while (put == -EAGAIN && deadline_ns && !rc);
    fen__sock_drop(s);
    return rc ? rc : put;
}

ssize_t fen_sock_send_to(fen_sock *s, const void *buf, size_t n, const fen_addr *to,
                         int64_t deadline_ns)
{
    fen_addr mapped;
    struct dgram d = {.iov = {(void *)(uintptr_t)buf, n}, .to = to};
    if (to && s->family == AF_INET6 && fen__addr_family(to) == AF_INET) {
        mapped = *to;
        fen__addr_map(&mapped);
        d.to = &mapped;
    }
    ssize_t put = to && s->family == AF_UNIX
                      ? send_in_steps(s, &d, deadline_ns)
                      : fen__sock_try(s, FEN__WRITE, deadline_ns, try_send, &d);
    if (put > 0)
        fen__cur(fen__self())->out_bytes += put;
    return put;
}

static ssize_t try_recv(fen_sock *s, void *arg)
{
    const struct dgram *d = arg;
    s->slot->drained = false;
    fen_addr a = {0};
    socklen_t len = sizeof a.raw;
    ssize_t got = fen__sys_recvmsg(s->fd, &d->iov, 1, &fen__addr_sa(&a)->sa, &len);
    a.bytes = len;
    if (got >= 0 && d->from)
        *d->from = a;
    return got == -EAGAIN && fen__sock_is_shut(s) ? 0 : got;
}

ssize_t fen_sock_recv_from(fen_sock *s, void *buf, size_t n, fen_addr *ret_from,
                           int64_t deadline_ns)
{
    struct dgram d = {.iov = {buf, n}, .from = ret_from};
    ssize_t got = fen__sock_try(s, FEN__READ, deadline_ns, try_recv, &d);
    if (got > 0)
        fen__cur(fen__self())->in_bytes += got;
    return got;
}
