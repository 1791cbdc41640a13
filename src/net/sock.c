/* sock.c - sockets: the record, opening, options, closing.
 *
 * Who may touch the descriptor. Between loading s->fd and the system call another thread may close
 * the socket, and the kernel gives the number to the next one that opens anything: the call would
 * read a stranger's bytes. So each call holds the socket:
 *
 *   users     calls under way, plus FEN__SOCK_SHUT once it is closed
 *   hold      CAS users -> users + 1, refused when SHUT        fen__sock_hold
 *   drop      users - 1; SHUT and none left: release           fen__sock_drop
 *   close     users += SHUT + 1; wake who waits; drop          fen_sock_close
 *   release   close(fd), slot and record back to their slabs   fen__sock_release, once
 *
 * A waiter holds too, so its slot is not reused while it may still clear or arm it; close shuts the
 * slot (every wait in it ends with -EBADF), release frees it. Close does not wait for the others:
 * it may be called where nobody can park, and they leave at once: a system call here never blocks,
 * and a parked call has been woken. Refusing by CAS instead of adding and taking back keeps a late
 * hold from being counted in a record that has been released.
 *
 * A record is never unmapped, so a late hold meets SHUT until the record is used again. It cannot
 * tell the next use from its own: calling after the close returned is the caller's mistake, as with
 * free.
 *
 * The connections of the HTTP server have one owner each that alone closes them; they use the slot
 * functions of stream.c and pay none of this. Rejected: a lock for reads and one for writes, as in
 * Go's fdMutex (a second reader gets -EBUSY here, nothing is queued); hazard pointers (a membarrier
 * for each close). */
#include "net/net_int.h"

#include "mem/pool.h"
#include "net/addr.h"

#include <netinet/tcp.h>

#define BACKLOG 4096

static void made(void *record) { ((struct fen_sock *)record)->users = FEN__SOCK_SHUT; }

static struct fen__pool pool = FEN__POOL(struct fen_sock, next_free, 64, made);

static bool is_tcp(int family, int type)
{
    return (family == AF_INET || family == AF_INET6) && type == SOCK_STREAM;
}

int fen__sock_wrap_new(int fd, int family, int type, fen_sock **ret_sock)
{
    static uint32_t shard;
    struct fen_sock *s = fen__pool_get(&pool);
    if (!s)
        return -ENOMEM;
    s->fd = fd;
    s->family = (uint8_t)family;
    s->type = (uint8_t)type;
    s->zc = s->zc_copies = 0;
    s->pause_ns = 0;
    s->shut = false;
    s->tcp = is_tcp(family, type);
    s->zc_sends = s->zc_copied = s->zc_done = 0;
    fen__fd_new(fd);
    int rc = fen__poll_open(fd, __atomic_fetch_add(&shard, 1, __ATOMIC_RELAXED), &s->slot);
    if (rc) {
        fen__pool_put(&pool, s);
        return rc;
    }
    __atomic_store_n(&s->users, 0, __ATOMIC_RELEASE); /* pairs with the CAS of fen__sock_hold */
    *ret_sock = s;
    return 0;
}

int fen__sock_wrap(int fd, fen_sock **ret_sock)
{
    return fen__sock_wrap_new(fd, AF_UNSPEC, 0, ret_sock);
}

/* fd is closed when it cannot be wrapped. */
static int wrap_or_close(int fd, int family, int type, fen_sock **ret_sock)
{
    int rc = fen__sock_wrap_new(fd, family, type, ret_sock);
    if (rc)
        fen__sys_close(fd);
    return rc;
}

void fen__sock_release(fen_sock *s)
{
    fen__poll_free(s->slot);
    fen__sys_close(s->fd);
    fen__pool_put(&pool, s);
}

void fen_sock_close(fen_sock *s)
{
    if (!s)
        return;
    struct fen__m *m = fen__enter_any();
    uint32_t before = __atomic_fetch_add(&s->users, FEN__SOCK_SHUT + 1, __ATOMIC_ACQ_REL);
    fen_promise(!(before & FEN__SOCK_SHUT), "a socket is closed twice");
    fen__shut_slot(s->slot);
    fen__sock_drop(s);
    fen__leave_any(m);
}

/* ---- options ---- */

static bool sane(const fen_sock_config *c)
{
    return c->keep_idle_s >= 0 && c->keep_interval_s >= 0 && c->keep_count >= 0 &&
           c->user_timeout_ms >= 0 && c->send_buffer_bytes >= 0 && c->recv_buffer_bytes >= 0 &&
           c->backlog >= 0;
}

/* Those that are set; 0 or the first failure. */
static int set_options(int fd, int family, int type, const fen_sock_config *c)
{
    bool inet = family != AF_UNIX, tcp = is_tcp(family, type);
    const struct {
        bool on;
        int level, name, value;
    } set[] = {
        {inet && c->reuse_port, SOL_SOCKET, SO_REUSEPORT, 1},
        {c->broadcast, SOL_SOCKET, SO_BROADCAST, 1},
        {c->send_buffer_bytes > 0, SOL_SOCKET, SO_SNDBUF, c->send_buffer_bytes},
        {c->recv_buffer_bytes > 0, SOL_SOCKET, SO_RCVBUF, c->recv_buffer_bytes},
        {tcp && c->nagle, IPPROTO_TCP, TCP_NODELAY, 0},
        {tcp && c->keep_alive, SOL_SOCKET, SO_KEEPALIVE, 1},
        {tcp && c->keep_idle_s > 0, IPPROTO_TCP, TCP_KEEPIDLE, c->keep_idle_s},
        {tcp && c->keep_interval_s > 0, IPPROTO_TCP, TCP_KEEPINTVL, c->keep_interval_s},
        {tcp && c->keep_count > 0, IPPROTO_TCP, TCP_KEEPCNT, c->keep_count},
        {tcp && c->user_timeout_ms > 0, IPPROTO_TCP, TCP_USER_TIMEOUT, c->user_timeout_ms},
    };
    int rc = sane(c) ? 0 : -EINVAL;
    for (size_t i = 0; i < FEN__COUNT(set) && !rc; i++)
        if (set[i].on)
            rc = fen__sys_setsockopt_int(fd, set[i].level, set[i].name, set[i].value);
    return rc;
}

static const fen_sock_config none;

int fen__sock_options(int fd, int family, int type, const fen_sock_config *cfg)
{
    const fen_sock_config *c = cfg ? cfg : &none;
    int rc = set_options(fd, family, type, c);
    if (!rc && is_tcp(family, type) && !c->nagle) /* the system's own is Nagle */
        rc = fen__sys_setsockopt_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return rc;
}

int fen_sock_configure(fen_sock *s, const fen_sock_config *cfg)
{
    if (!fen__sock_hold(s))
        return -EBADF;
    int rc = set_options(s->fd, s->family, s->type, cfg ? cfg : &none);
    fen__sock_drop(s);
    return rc;
}

/* ---- opening ---- */

static int open_bound(const fen_addr *a, int type, const fen_sock_config *cfg)
{
    const union fen__sa *u = fen__addr_csa(a);
    int family = fen__addr_family(a);
    int fd = fen__sys_socket(family, type);
    if (fd < 0)
        return fd;
    if (family != AF_UNIX && type == SOCK_STREAM)
        fen__sys_setsockopt_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (family == AF_INET6)
        fen__sys_setsockopt_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !a->any);
    int rc = fen__sock_options(fd, family, type, cfg);
    if (!rc)
        rc = fen__sys_bind(fd, &u->sa, a->bytes);
    if (!rc && type == SOCK_STREAM)
        rc = fen__sys_listen(fd, cfg && cfg->backlog ? cfg->backlog : BACKLOG);
    if (rc) {
        fen__sys_close(fd);
        return rc;
    }
    return fd;
}

static int open_at(const char *addr, int type, const fen_sock_config *cfg, fen_sock **ret_sock)
{
    fen_addr a;
    int rc = fen_addr_parse(addr, &a);
    if (rc)
        return rc;
    struct fen__m *m = fen__enter_any();
    int fd = open_bound(&a, type, cfg);
    if (fd == -EAFNOSUPPORT && a.any) { /* a kernel without IPv6 */
        fen__addr_any_v4(&a);
        fd = open_bound(&a, type, cfg);
    }
    rc = fd < 0 ? fd : wrap_or_close(fd, fen__addr_family(&a), type, ret_sock);
    fen__leave_any(m);
    return rc;
}

int fen_sock_listen(const char *addr, const fen_sock_config *cfg, fen_sock **ret_sock)
{
    return open_at(addr, SOCK_STREAM, cfg, ret_sock);
}

int fen_sock_bind(const char *addr, const fen_sock_config *cfg, fen_sock **ret_sock)
{
    return open_at(addr, SOCK_DGRAM, cfg, ret_sock);
}

int fen_tcp_listen(const char *addr, int backlog, fen_sock **ret_sock)
{
    const fen_sock_config cfg = {.backlog = backlog};
    fen_addr a;
    int rc = fen_addr_parse(addr, &a);
    if (rc || fen__addr_family(&a) == AF_UNIX)
        return -EINVAL;
    return open_at(addr, SOCK_STREAM, &cfg, ret_sock);
}

int fen_sock_pair(bool datagram, fen_sock *ret_sock[2])
{
    int type = datagram ? SOCK_DGRAM : SOCK_STREAM, fd[2];
    fen_sock *s[2];
    struct fen__m *m = fen__enter_any();
    int rc = fen__sys_socketpair(type, fd);
    if (rc)
        goto out;
    rc = wrap_or_close(fd[0], AF_UNIX, type, &s[0]);
    if (rc) {
        fen__sys_close(fd[1]);
        goto out;
    }
    rc = wrap_or_close(fd[1], AF_UNIX, type, &s[1]);
    if (rc) {
        fen__leave_any(m);
        fen_sock_close(s[0]);
        return rc;
    }
    ret_sock[0] = s[0];
    ret_sock[1] = s[1];
out:
    fen__leave_any(m);
    return rc;
}

int fen_sock_adopt(int fd, fen_sock **ret_sock)
{
    int type, family, protocol;
    int rc = fen__sys_getsockopt_int(fd, SOL_SOCKET, SO_TYPE, &type);
    if (!rc)
        rc = fen__sys_getsockopt_int(fd, SOL_SOCKET, SO_DOMAIN, &family);
    if (!rc)
        rc = fen__sys_getsockopt_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol);
    if (!rc)
        rc = fen__sys_set_nonblock(fd);
    struct fen__m *m = fen__enter_any();
    if (!rc)
        rc = fen__sock_wrap_new(fd, family, type, ret_sock);
    if (!rc)
        (*ret_sock)->tcp &= protocol == IPPROTO_TCP;
    fen__leave_any(m);
    return rc;
}

/* ---- who ---- */

static int address(fen_sock *s, int (*get)(int fd, struct sockaddr *sa, socklen_t *len),
                   fen_addr *ret_addr)
{
    fen_addr a = {0};
    socklen_t len = sizeof a.raw;
    if (!fen__sock_hold(s))
        return -EBADF;
    int rc = get(s->fd, &fen__addr_sa(&a)->sa, &len);
    fen__sock_drop(s);
    if (rc)
        return rc;
    a.bytes = len;
    *ret_addr = a;
    return 0;
}

int fen_sock_local(fen_sock *s, fen_addr *ret_addr)
{
    return address(s, fen__sys_sockname, ret_addr);
}

int fen_sock_peer(fen_sock *s, fen_addr *ret_addr)
{
    return address(s, fen__sys_peername, ret_addr);
}

int fen_sock_port(fen_sock *s)
{
    fen_addr a;
    int rc = fen_sock_local(s, &a);
    return rc ? rc : fen_addr_port(&a);
}

int fen_sock_shutdown(fen_sock *s, enum fen_shut how)
{
    if (how > FEN_SHUT_BOTH)
        return -EINVAL;
    if (!fen__sock_hold(s))
        return -EBADF;
    if (how != FEN_SHUT_WRITE) /* before the event: pairs with fen__sock_is_shut */
        __atomic_store_n(&s->shut, true, __ATOMIC_RELEASE);
    int rc = fen__sys_shutdown(s->fd, (int)how); /* the same numbers: SHUT_RD, SHUT_WR, SHUT_RDWR */
    fen__sock_drop(s);
    return rc;
}
