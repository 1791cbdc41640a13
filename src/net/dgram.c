/* dgram.c - datagrams with addresses. */
#include "net/addr.h"
#include "net/net_int.h"

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
    ssize_t put = fen__sock_try(s, FEN__WRITE, deadline_ns, try_send, &d);
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
