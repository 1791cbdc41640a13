/* dial.c - connections come and go: accept and dial. */
#include "net/addr.h"
#include "net/net_int.h"

#include <netinet/tcp.h>

#define PAUSE_MIN_NS FEN_MS
#define PAUSE_MAX_NS (100 * FEN_MS)
#define DIAL_STEP_NS FEN_MS

/* ---- accept ---- */

static ssize_t try_accept(fen_sock *l, void *arg)
{
    (void)arg;
    int fd;
    do
        fd = fen__sys_accept(l->fd);
    while (fd == -ECONNABORTED);
    return fd == -EAGAIN && fen__sock_is_shut(l) ? -EINVAL : fd;
}

int fen__net_accept_fd(fen_sock *l, int64_t deadline_ns)
{
    if (!fen__sock_hold(l))
        return -EBADF;
    int fd = (int)fen__sock_try(l, FEN__READ, deadline_ns, try_accept, NULL);
    if (fd >= 0 && l->family != AF_UNIX)
        fen__sys_setsockopt_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    fen__sock_drop(l);
    return fd;
}

/* Short of what a connection needs. The connection stays in the listen queue, so trying again at
 * once would spin. */
static bool is_short(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM;
}

static int pause_short(uint32_t pause_ns, int rc, int64_t deadline_ns)
{
    if (!fen__enter())
        return rc;
    int ended = fen__net_pause(fen__min_i64(fen__sys_now() + pause_ns, deadline_ns));
    fen__leave(fen__self());
    return ended ? ended : rc;
}

static uint32_t next_pause(uint32_t last_ns)
{
    int64_t next = fen__min_i64(2 * (int64_t)last_ns, PAUSE_MAX_NS);
    return (uint32_t)fen__max_i64(next, PAUSE_MIN_NS);
}

int fen_sock_accept(fen_sock *l, int64_t deadline_ns, fen_sock **ret_sock)
{
    if (!fen__sock_hold(l))
        return -EBADF;
    int fd = fen__net_accept_fd(l, deadline_ns);
    int rc = fd < 0 ? fd : 0;
    fen_sock *s = NULL;
    if (!rc) {
        rc = fen__sock_wrap_new(fd, l->family, l->type, &s);
        if (rc)
            fen__sys_close(fd);
        else
            s->tcp = l->tcp;
    }
    uint32_t pause_ns = is_short(rc) ? next_pause(l->pause_ns) : 0;
    if (!rc || pause_ns)
        l->pause_ns = pause_ns;
    fen__sock_drop(l); /* before the pause: a close need not wait for it */
    if (pause_ns)
        return pause_short(pause_ns, rc, deadline_ns);
    if (!rc)
        *ret_sock = s;
    return rc;
}

int fen_tcp_accept(fen_sock *l, int64_t deadline_ns, fen_sock **ret_sock)
{
    return fen_sock_accept(l, deadline_ns, ret_sock);
}

/* ---- dial ---- */

/* Waits for a connect under way. RT. */
static int finish_connect(fen_sock *s, int64_t deadline_ns)
{
    for (;;) {
        int rc = fen__net_wait(s->slot, fen__slot_gen(s->slot), FEN__WRITE, deadline_ns);
        if (rc)
            return rc;
        rc = fen__sys_so_error(s->fd);
        if (rc)
            return rc;
        fen_addr peer;
        socklen_t len = sizeof peer.raw;
        rc = fen__sys_peername(s->fd, &fen__addr_sa(&peer)->sa, &len);
        if (rc != -ENOTCONN)
            return rc; /* else the slot's readiness was of the fresh socket: wait again */
    }
}

static int open_towards(const fen_addr *to, const fen_sock_config *cfg, int type)
{
    fen_addr from;
    int family = fen__addr_family(to), rc = 0;
    bool bound = cfg && cfg->source;
    if (bound) {
        rc = fen_addr_parse(cfg->source, &from);
        if (rc)
            return rc;
        if (fen__addr_family(&from) != family) {
            if (!from.any || family != AF_INET)
                return -EINVAL;
            fen__addr_any_v4(&from);
        }
    }
    int fd = fen__sys_socket(family, type);
    if (fd < 0)
        return fd;
    rc = fen__sock_options(fd, family, type, cfg);
    if (!rc && bound)
        rc = fen__sys_bind(fd, &fen__addr_csa(&from)->sa, from.bytes);
    if (rc) {
        fen__sys_close(fd);
        return rc;
    }
    return fd;
}

/* A Unix listener whose queue is full says EAGAIN, and no event tells when there is room. RT. */
static int start_connect(int fd, const fen_addr *to, int64_t deadline_ns)
{
    for (;;) {
        int rc = fen__sys_connect(fd, &fen__addr_csa(to)->sa, to->bytes);
        if (rc != -EAGAIN || fen__addr_family(to) != AF_UNIX || deadline_ns == 0)
            return rc;
        int64_t now = fen__sys_now();
        if (now >= deadline_ns)
            return -ETIMEDOUT;
        rc = fen__net_pause(fen__min_i64(now + DIAL_STEP_NS, deadline_ns));
        if (rc)
            return rc;
    }
}

static int dial(const fen_addr *to, const fen_sock_config *cfg, int64_t deadline_ns,
                fen_sock **ret_sock)
{
    int type = cfg && cfg->datagram ? SOCK_DGRAM : SOCK_STREAM;
    if (!fen__enter())
        return FEN_ENOTFIBER;
    fen_sock *s = NULL;
    bool pending = false;
    int fd = open_towards(to, cfg, type), rc = fd < 0 ? fd : 0;
    if (!rc) {
        rc = start_connect(fd, to, deadline_ns);
        pending = rc == -EINPROGRESS;
        if (!rc || pending)
            rc = fen__sock_wrap_new(fd, fen__addr_family(to), type, &s);
        if (rc)
            fen__sys_close(fd);
    }
    if (!rc && pending)
        rc = finish_connect(s, deadline_ns);
    fen__leave(fen__self());
    if (rc)
        fen_sock_close(s);
    else
        *ret_sock = s;
    return rc;
}

int fen_sock_dial(const char *addr, const fen_sock_config *cfg, int64_t deadline_ns,
                  fen_sock **ret_sock)
{
    fen_addr to;
    int rc = fen_addr_parse(addr, &to);
    return rc || to.any ? -EINVAL : dial(&to, cfg, deadline_ns, ret_sock);
}

int fen_tcp_dial(const char *addr, int64_t deadline_ns, fen_sock **ret_sock)
{
    fen_addr to;
    int rc = fen_addr_parse(addr, &to);
    if (rc || to.any || fen__addr_family(&to) == AF_UNIX)
        return -EINVAL;
    return dial(&to, NULL, deadline_ns, ret_sock);
}
