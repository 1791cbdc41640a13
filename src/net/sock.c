/* sock.c - stream sockets: try first, wait for readiness only after EAGAIN.
 *
 * A fen_sock is a slab record that is never unmapped within the process, so that a reader woken by
 * fen_sock_close with -EBADF may return through it safely. */
#include "net/net.h"

#include "mem/mem.h"
#include "net/addr.h"
#include "sched/sched.h"
#include "sys/sys.h"

#include <netinet/tcp.h>

#define POOL_CHUNK 64
#define BACKLOG 4096

static struct {
    uint32_t lock;
    struct fen_sock *free;
} pool;

static struct fen_sock *pool_get(void)
{
    fen__lock(&pool.lock);
    if (!pool.free) {
        void *map;
        if (fen__sys_map(POOL_CHUNK * sizeof(struct fen_sock), &map) == 0)
            for (int i = 0; i < POOL_CHUNK; i++) {
                struct fen_sock *s = (struct fen_sock *)map + i;
                s->next_free = pool.free;
                pool.free = s;
            }
    }
    struct fen_sock *s = pool.free;
    if (s)
        pool.free = s->next_free;
    fen__unlock(&pool.lock);
    return s;
}

static void pool_put(struct fen_sock *s)
{
    fen__lock(&pool.lock);
    s->next_free = pool.free;
    pool.free = s;
    fen__unlock(&pool.lock);
}

int fen__sock_wrap(int fd, fen_sock **ret_sock)
{
    static _Atomic uint32_t shard;
    struct fen_sock *s = pool_get();
    if (!s)
        return -ENOMEM;
    s->fd = fd;
    int rc = fen__poll_open(fd, shard++, &s->slot);
    if (rc) {
        pool_put(s);
        return rc;
    }
    *ret_sock = s;
    return 0;
}

void fen_sock_close(fen_sock *s)
{
    if (!s)
        return;
    struct fen__m *m = fen__enter_any();
    int fd = s->fd;
    fen__close_slot(s->slot);
    fen__sys_close(fd);
    pool_put(s);
    fen__leave_any(m);
}

static int open_bound(const struct fen__addr *a, int backlog)
{
    int fd = fen__sys_socket(a->sa.sa_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    fen__sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (a->sa.sa_family == AF_INET6)
        fen__sys_setsockopt_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !a->any);
    int rc = fen__sys_bind(fd, &a->sa, a->len);
    if (!rc)
        rc = fen__sys_listen(fd, backlog ? backlog : BACKLOG);
    if (rc) {
        fen__sys_close(fd);
        return rc;
    }
    return fd;
}

int fen_tcp_listen(const char *addr, int backlog, fen_sock **ret_sock)
{
    struct fen__addr a;
    int rc = fen__addr_parse(addr, &a);
    if (rc)
        return rc;
    int fd = open_bound(&a, backlog);
    if (fd == -EAFNOSUPPORT && a.any) { /* a kernel without IPv6 */
        struct fen__addr v4 = {.v4 = {.sin_family = AF_INET, .sin_port = a.v6.sin6_port},
                               .len = sizeof v4.v4};
        fd = open_bound(&v4, backlog);
    }
    if (fd < 0)
        return fd;
    rc = fen__sock_wrap(fd, ret_sock);
    if (rc)
        fen__sys_close(fd);
    return rc;
}

int fen_sock_port(fen_sock *s)
{
    struct fen__addr a = {.len = sizeof a.v6};
    int rc = fen__sys_sockname(s->fd, &a.sa, &a.len);
    if (rc)
        return rc;
    return ntohs(a.sa.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
}

/* RT. Waits unless the fiber's limits say otherwise. */
static int wait_for(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns)
{
    int rc = fen__limit_rc(fen__cur(fen__self()));
    if (rc)
        return rc;
    return deadline_ns == 0 ? -EAGAIN : fen__wait_slot(s, gen, d, deadline_ns);
}

int fen__net_accept_fd(fen_sock *l, int64_t deadline_ns)
{
    if (!fen__enter())
        return FEN_ENOTFIBER;
    struct fen__slot *s = l->slot;
    uint32_t gen = fen__slot_gen(s);
    int own = l->fd, fd, rc = 0;
    do {
        fen__slot_clear(s, FEN__READ);
        fd = fen__sys_accept(own);
        if (fd == -EAGAIN)
            rc = wait_for(s, gen, FEN__READ, deadline_ns);
    } while ((fd == -EAGAIN && !rc) || fd == -ECONNABORTED || fd == -EINTR);
    if (fd >= 0)
        fen__sys_setsockopt_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    fen__leave(fen__self());
    return rc ? rc : fd;
}

int fen_tcp_accept(fen_sock *l, int64_t deadline_ns, fen_sock **ret_sock)
{
    int fd = fen__net_accept_fd(l, deadline_ns);
    if (fd < 0)
        return fd;
    int rc = fen__sock_wrap(fd, ret_sock);
    if (rc)
        fen__sys_close(fd);
    return rc;
}

/* Waits for a connect under way. RT. */
static int finish_connect(fen_sock *s, int64_t deadline_ns)
{
    for (;;) {
        int rc = wait_for(s->slot, fen__slot_gen(s->slot), FEN__WRITE, deadline_ns);
        if (rc)
            return rc;
        rc = fen__sys_so_error(s->fd);
        if (rc)
            return rc;
        struct fen__addr peer = {.len = sizeof peer.v6};
        rc = fen__sys_peername(s->fd, &peer.sa, &peer.len);
        if (rc != -ENOTCONN)
            return rc; /* else the slot's readiness was of the fresh socket: wait again */
    }
}

int fen_tcp_dial(const char *addr, int64_t deadline_ns, fen_sock **ret_sock)
{
    struct fen__addr a;
    int rc = fen__addr_parse(addr, &a);
    if (rc || a.any)
        return -EINVAL;
    if (!fen__enter())
        return FEN_ENOTFIBER;
    fen_sock *s = NULL;
    bool pending = false;
    int fd = fen__sys_socket(a.sa.sa_family, SOCK_STREAM);
    if (fd < 0) {
        rc = fd;
        goto out;
    }
    fen__sys_setsockopt_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    rc = fen__sys_connect(fd, &a.sa, a.len);
    pending = rc == -EINPROGRESS;
    if (rc && !pending) {
        fen__sys_close(fd);
        goto out;
    }
    rc = fen__sock_wrap(fd, &s);
    if (rc) {
        fen__sys_close(fd);
        goto out;
    }
    if (pending)
        rc = finish_connect(s, deadline_ns);
out:
    fen__leave(fen__self());
    if (rc)
        fen_sock_close(s);
    else
        *ret_sock = s;
    return rc;
}

ssize_t fen__net_read(struct fen__slot *s, void *buf, size_t n, int64_t deadline_ns)
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
            s->drained = got == -EAGAIN || (got > 0 && (size_t)got < n && !s->hup);
        }
        if (got == -EAGAIN)
            rc = wait_for(s, gen, FEN__READ, deadline_ns);
    } while ((got == -EAGAIN && !rc) || got == -EINTR);
    if (got > 0)
        g->in_bytes += got;
    fen__leave(fen__self());
    return rc ? rc : got;
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
                deadline_ns = fen__sys_now() + timeout_ns;
            rc = wait_for(s, gen, FEN__WRITE, deadline_ns);
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
    return fen__net_read(s->slot, buf, n, deadline_ns);
}

ssize_t fen_sock_write(fen_sock *s, const void *buf, size_t n, int64_t deadline_ns)
{
    return fen__net_write(s->slot, buf, n, deadline_ns);
}
