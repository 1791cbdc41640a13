/* stream.c - bytes in and out: try first, wait for readiness only after EAGAIN.
 *
 * The slot functions (fen__net_*) are for a slot that only its user closes; the fen_sock functions
 * hold the socket around them (sock.c). `drained` in the slot is the reader's note that the last
 * read took all there was: a read without a new edge would only say EAGAIN. A reader that does not
 * keep the note (readv, datagrams, splice) clears it, or the next plain read would wait for an edge
 * that has been used up.
 *
 * That a read was short says so of TCP only: elsewhere the kernel ends a read at the end of a
 * record (SOCK_SEQPACKET, netlink, SCTP) or behind passed descriptors (SCM_RIGHTS) with more in the
 * queue. TCP too ends one at the urgent mark, and no cheap call tells; fen/net.h says that urgent
 * data is not supported. */
#include "net/net_int.h"

#include <string.h>

#define IOV_MAX_N 1024
#define IOV_PART 16 /* so many are copied to the stack at a time, to be cut where a write stopped */

int fen__net_wait(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns)
{
    int rc = fen__limit_rc(fen__cur(fen__self()));
    if (rc)
        return rc;
    return deadline_ns == 0 ? -EAGAIN : fen__wait_slot(s, gen, d, deadline_ns);
}

int fen__net_pause(int64_t until_ns)
{
    struct fen__g *g = fen__cur(fen__self());
    int rc = fen__limit_rc(g);
    while (!rc && fen__sys_now() < until_ns) {
        fen__arm(g);
        int code = fen__park(until_ns, FEN__R_SLEEP);
        rc = code == FEN__BY_NOMEM ? -ENOMEM : fen__limit_rc(g);
    }
    return rc;
}

/* RT, the socket held. */
static ssize_t try_until(fen_sock *s, enum fen__dir d, int64_t deadline_ns,
                         ssize_t (*try)(fen_sock *s, void *arg), void *arg)
{
    struct fen__slot *slot = s->slot;
    uint32_t gen = fen__slot_gen(slot);
    for (;;) {
        fen__slot_clear(slot, d);
        ssize_t got = try(s, arg);
        if (got != -EAGAIN && got != -EINTR)
            return got;
        int rc = got == -EAGAIN ? fen__net_wait(slot, gen, d, deadline_ns) : 0;
        if (rc)
            return rc;
    }
}

ssize_t fen__sock_try(fen_sock *s, enum fen__dir d, int64_t deadline_ns,
                      ssize_t (*try)(fen_sock *s, void *arg), void *arg)
{
    if (!fen__enter())
        return FEN_ENOTFIBER;
    ssize_t got = -EBADF;
    if (fen__sock_hold(s)) {
        got = try_until(s, d, deadline_ns, try, arg);
        fen__sock_drop(s);
    }
    fen__leave(fen__self());
    return got;
}

/* ---- one buffer ---- */

static inline ssize_t read_slot(struct fen__slot *s, void *buf, size_t n, int64_t deadline_ns,
                                bool tcp)
{
    struct fen__m *m = fen__enter();
    if (!m)
        return FEN_ENOTFIBER;
    struct fen__g *g = fen__cur(m);
    uint32_t gen = fen__slot_gen(s);
    int fd = s->fd, rc = 0;
    ssize_t got = -EAGAIN;
    do {
        if (fen__slot_maybe_readable(s)) {
            fen__slot_clear(s, FEN__READ);
            got = fen__sys_recv(fd, buf, n);
            s->drained = got == -EAGAIN || (tcp && got > 0 && (size_t)got < n && !s->hup);
        }
        if (got == -EAGAIN)
            rc = fen__net_wait(s, gen, FEN__READ, deadline_ns);
    } while ((got == -EAGAIN && !rc) || got == -EINTR);
    if (got > 0)
        g->in_bytes += got;
    fen__leave(fen__self());
    return rc ? rc : got;
}

ssize_t fen__net_read(struct fen__slot *s, void *buf, size_t n, int64_t deadline_ns)
{
    return read_slot(s, buf, n, deadline_ns, true);
}

/* deadline 0: now + timeout, computed at the first wait. */
static ssize_t write_all(struct fen__slot *s, const void *buf, size_t n, int64_t deadline_ns,
                         int64_t timeout_ns)
{
    struct fen__m *m = fen__enter();
    if (!m)
        return FEN_ENOTFIBER;
    struct fen__g *g = fen__cur(m);
    uint32_t gen = fen__slot_gen(s);
    int fd = s->fd, rc = 0;
    size_t done = 0;
    while (done < n && !rc) {
        fen__slot_clear(s, FEN__WRITE);
        ssize_t put = fen__sys_send(fd, (const char *)buf + done, n - done);
        if (put > 0) {
            done += (size_t)put;
            g->out_bytes += put;
        } else if (put == -EAGAIN) {
            if (timeout_ns && !deadline_ns)
                deadline_ns = fen__time_after(fen__sys_now(), timeout_ns);
            rc = fen__net_wait(s, gen, FEN__WRITE, deadline_ns);
        } else if (put != -EINTR) {
            rc = (int)put;
        }
    }
    fen__leave(fen__self());
    return rc ? rc : (ssize_t)n;
}

ssize_t fen__net_write(struct fen__slot *s, const void *buf, size_t n, int64_t deadline_ns)
{
    return write_all(s, buf, n, deadline_ns, 0);
}

ssize_t fen__net_write_within(struct fen__slot *s, const void *buf, size_t n, int64_t timeout_ns)
{
    return write_all(s, buf, n, 0, timeout_ns);
}

ssize_t fen_sock_read(fen_sock *s, void *buf, size_t n, int64_t deadline_ns)
{
    if (FEN__UNLIKELY(s->type == SOCK_DGRAM))
        return fen_sock_recv_from(s, buf, n, NULL, deadline_ns);
    if (!fen__sock_hold(s))
        return -EBADF;
    ssize_t got = read_slot(s->slot, buf, n, deadline_ns, s->tcp);
    fen__sock_drop(s);
    return got;
}

ssize_t fen_sock_write(fen_sock *s, const void *buf, size_t n, int64_t deadline_ns)
{
    if (!fen__sock_hold(s))
        return -EBADF;
    ssize_t put = fen__net_write(s->slot, buf, n, deadline_ns);
    fen__sock_drop(s);
    return put;
}

/* ---- several buffers ---- */

struct vec {
    const struct iovec *iov;
    int n;
    size_t skip;  /* bytes of iov[0] that went out already */
    size_t total; /* written so far */
};

static ssize_t try_readv(fen_sock *s, void *arg)
{
    struct vec *v = arg;
    s->slot->drained = false;
    return fen__sys_recvmsg(s->fd, v->iov, v->n, NULL, NULL);
}

ssize_t fen_sock_readv(fen_sock *s, const struct iovec *iov, int n, int64_t deadline_ns)
{
    struct vec v = {.iov = iov, .n = n};
    if (n < 0 || n > IOV_MAX_N)
        return -EINVAL;
    ssize_t got = fen__sock_try(s, FEN__READ, deadline_ns, try_readv, &v);
    if (got > 0)
        fen__cur(fen__self())->in_bytes += got;
    return got;
}

/* What went out comes off the front. */
static void advance(struct vec *v, size_t put)
{
    v->total += put;
    v->skip += put;
    while (v->n && v->skip >= v->iov->iov_len) {
        v->skip -= v->iov->iov_len;
        v->iov++;
        v->n--;
    }
}

static ssize_t try_writev(fen_sock *s, void *arg)
{
    struct vec *v = arg;
    struct iovec part[IOV_PART];
    advance(v, 0); /* empty buffers at the front */
    while (v->n) {
        int k = v->n < IOV_PART ? v->n : IOV_PART;
        memcpy(part, v->iov, (size_t)k * sizeof *part);
        part[0].iov_base = (char *)part[0].iov_base + v->skip;
        part[0].iov_len -= v->skip;
        ssize_t put = fen__sys_sendmsg(s->fd, part, k, NULL, 0);
        if (put < 0)
            return put;
        fen__cur(fen__self())->out_bytes += put;
        advance(v, (size_t)put);
    }
    return (ssize_t)v->total;
}

ssize_t fen_sock_writev(fen_sock *s, const struct iovec *iov, int n, int64_t deadline_ns)
{
    struct vec v = {.iov = iov, .n = n};
    if (n < 0 || n > IOV_MAX_N)
        return -EINVAL;
    return fen__sock_try(s, FEN__WRITE, deadline_ns, try_writev, &v);
}
