/* io.c - descriptors. Thin: one call, -errno. */
#include "sys/sys_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fen__sys_own_fd(int fd)
{
    if (fd < 0 || fd > 2)
        return fd < 0 ? -errno : fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3), rc = high < 0 ? -errno : high;
    close(fd);
    return rc;
}

int fen__sys_own_pipe(int fd[2])
{
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        fd[i] = fen__sys_own_fd(fd[i]);
        rc = fd[i] < 0 && !rc ? fd[i] : rc;
    }
    for (int i = 0; i < 2 && rc; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return rc;
}

ssize_t fen__sys_read(int fd, void *buf, size_t n)
{
    FAULT("read");
    ssize_t got = read(fd, buf, n);
    return got < 0 ? -errno : got;
}

ssize_t fen__sys_write(int fd, const void *buf, size_t n)
{
    FAULT("write");
    ssize_t put = write(fd, buf, n);
    return put < 0 ? -errno : put;
}

ssize_t fen__sys_recv(int fd, void *buf, size_t n)
{
    FAULT("recv");
    ssize_t got = recv(fd, buf, n, MSG_DONTWAIT);
    return got < 0 ? -errno : got;
}

ssize_t fen__sys_peek(int fd, void *buf, size_t n)
{
    ssize_t got = recv(fd, buf, n, MSG_DONTWAIT | MSG_PEEK);
    return got < 0 ? -errno : got;
}

ssize_t fen__sys_send(int fd, const void *buf, size_t n)
{
    FAULT("send");
    ssize_t put = send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return put < 0 ? -errno : put;
}

int fen__sys_close(int fd) { return close(fd) ? -errno : 0; }

int fen__sys_socket(int family, int type)
{
    FAULT("socket");
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int fen__sys_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    FAULT("bind");
    return bind(fd, sa, len) ? -errno : 0;
}

int fen__sys_listen(int fd, int backlog)
{
    FAULT("listen");
    return listen(fd, backlog) ? -errno : 0;
}

/* The filter sees TCP headers: byte 13 holds the flags, 2 is SYN. */
int fen__sys_listen_last(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog prog = {.len = FEN__COUNT(code), .filter = code};
    FAULT("setsockopt");
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) ? -errno : 0;
}

int fen__sys_accept(int fd)
{
    FAULT("accept");
    int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return got < 0 ? -errno : got;
}

int fen__sys_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    FAULT("connect");
    return connect(fd, sa, len) ? -errno : 0;
}

int fen__sys_so_error(int fd)
{
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
        return -errno;
    return -err;
}

int fen__sys_setsockopt_int(int fd, int level, int name, int value)
{
    FAULT("setsockopt");
    return setsockopt(fd, level, name, &value, sizeof value) ? -errno : 0;
}

int fen__sys_sockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    FAULT("getsockname");
    return getsockname(fd, sa, len) ? -errno : 0;
}

int fen__sys_peername(int fd, struct sockaddr *sa, socklen_t *len)
{
    FAULT("getpeername");
    return getpeername(fd, sa, len) ? -errno : 0;
}

int fen__sys_shutdown(int fd, int how)
{
    FAULT("shutdown");
    return shutdown(fd, how) ? -errno : 0;
}

int fen__sys_epoll_create(void)
{
    FAULT("epoll_create");
    return fen__sys_own_fd(epoll_create1(EPOLL_CLOEXEC));
}

int fen__sys_epoll_add(int ep, int fd, uint32_t events, uint64_t data)
{
    FAULT("epoll_ctl");
    struct epoll_event ev = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int fen__sys_epoll_mod(int ep, int fd, uint32_t events, uint64_t data)
{
    FAULT("epoll_mod");
    struct epoll_event ev = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev) ? -errno : 0;
}

int fen__sys_epoll_del(int ep, int fd)
{
    struct epoll_event ev = {0};
    return epoll_ctl(ep, EPOLL_CTL_DEL, fd, &ev) ? -errno : 0;
}

/* epoll_pwait2 (Linux 5.11) takes nanoseconds; before it, and where a seccomp filter does not know
 * it (EPERM), milliseconds rounded up. */
static int wait_ns(int ep, struct epoll_event *ev, int n, int64_t left_ns)
{
#ifdef SYS_epoll_pwait2
    struct timespec ts = {.tv_sec = left_ns / FEN_S, .tv_nsec = left_ns % FEN_S};
    int got = (int)syscall(SYS_epoll_pwait2, ep, ev, n, &ts, NULL, 0);
    if (got >= 0 || (errno != ENOSYS && errno != EPERM))
        return got;
#endif
    int64_t ms = fen__min_i64((left_ns + FEN_MS - 1) / FEN_MS, 1000000);
    return epoll_wait(ep, ev, n, (int)ms);
}

int fen__sys_epoll_wait(int ep, struct epoll_event *ev, int n, int64_t deadline_ns)
{
    int got;
    if (deadline_ns == 0 || deadline_ns == FEN_NEVER) {
        got = epoll_wait(ep, ev, n, deadline_ns ? -1 : 0);
    } else {
        int64_t left = deadline_ns - fen__sys_now();
        got = left > 0 ? wait_ns(ep, ev, n, left) : epoll_wait(ep, ev, n, 0);
    }
    if (got < 0)
        return errno == EINTR ? 0 : -errno;
    return got;
}

bool fen__sys_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

int fen__sys_poll(int fd, int events, int64_t deadline_ns)
{
    FAULT("poll");
    struct pollfd p = {.fd = fd, .events = (short)events};
    int got;
    do {
        int64_t left = deadline_ns > 0 ? deadline_ns - fen__sys_now() : 0;
        struct timespec ts = {.tv_sec = left / FEN_S, .tv_nsec = left % FEN_S};
        if (left < 0)
            ts = (struct timespec){0};
        got = ppoll(&p, 1, deadline_ns == FEN_NEVER ? NULL : &ts, NULL);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    return p.revents & POLLNVAL ? -EBADF : p.revents;
}

int fen__sys_eventfd(void)
{
    FAULT("eventfd");
    return fen__sys_own_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

void fen__sys_eventfd_signal(int fd)
{
    uint64_t one = 1;
    ssize_t put = write(fd, &one, sizeof one);
    (void)put; /* full means that it is signalled already */
}

bool fen__sys_eventfd_take(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof n) == sizeof n;
}
