/* net.c - messages with addresses, zero copy, and bytes moved inside the kernel. */
#include "sys/sys_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

int fen__sys_socketpair(int type, int ret_fd[2])
{
    FAULT("socketpair");
    return socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fd) ? -errno : 0;
}

ssize_t fen__sys_sendmsg(int fd, const struct iovec *iov, int n, const struct sockaddr *sa,
                         socklen_t len)
{
    FAULT("sendmsg");
    struct msghdr m = {.msg_name = (void *)(uintptr_t)sa,
                       .msg_namelen = sa ? len : 0,
                       .msg_iov = (struct iovec *)(uintptr_t)iov,
                       .msg_iovlen = (size_t)n};
    ssize_t put = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return put < 0 ? -errno : put;
}

/* MSG_TRUNC is read in what comes back, never asked for: on a stream it would throw bytes away. */
ssize_t fen__sys_recvmsg(int fd, const struct iovec *iov, int n, struct sockaddr *sa,
                         socklen_t *len)
{
    FAULT("recvmsg");
    struct msghdr m = {.msg_name = sa,
                       .msg_namelen = sa ? *len : 0,
                       .msg_iov = (struct iovec *)(uintptr_t)iov,
                       .msg_iovlen = (size_t)n};
    ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return -errno;
    if (sa)
        *len = m.msg_namelen;
    return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : got;
}

ssize_t fen__sys_send_zc(int fd, const void *buf, size_t n)
{
    FAULT("send_zc");
    ssize_t put = send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_ZEROCOPY);
    return put < 0 ? -errno : put;
}

int fen__sys_zc_done(int fd, uint32_t *ret_sends, bool *ret_copied)
{
    FAULT("errqueue");
    union {
        char room[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_storage))];
        struct cmsghdr align;
    } control;
    struct msghdr m = {.msg_control = control.room, .msg_controllen = sizeof control.room};
    *ret_sends = 0;
    *ret_copied = false;
    if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return -errno;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (!c)
        return 0;
    struct sock_extended_err e;
    memcpy(&e, CMSG_DATA(c), sizeof e);
    if (e.ee_origin == SO_EE_ORIGIN_ZEROCOPY && e.ee_errno == 0) {
        *ret_sends = e.ee_data - e.ee_info + 1;
        *ret_copied = e.ee_code & SO_EE_CODE_ZEROCOPY_COPIED;
    }
    return 0;
}

int fen__sys_getsockopt_int(int fd, int level, int name, int *ret_value)
{
    FAULT("getsockopt");
    socklen_t len = sizeof *ret_value;
    return getsockopt(fd, level, name, ret_value, &len) ? -errno : 0;
}

int fen__sys_set_nonblock(int fd)
{
    FAULT("fcntl");
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

int fen__sys_disconnect(int fd)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    return connect(fd, &none, sizeof none) ? -errno : 0;
}

/* sendfile and splice have no MSG_NOSIGNAL. The signal is held back around them and, when the call
 * has raised it, taken away; one that was pending or blocked before is left as it was. */
struct held {
    sigset_t before;
    bool ours;
};

static void hold_sigpipe(struct held *h)
{
    sigset_t pipe_only, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &h->before);
    h->ours = !sigismember(&h->before, SIGPIPE) && sigpending(&pending) == 0 &&
              !sigismember(&pending, SIGPIPE);
}

static void release_sigpipe(const struct held *h, bool raised)
{
    sigset_t pipe_only;
    const struct timespec now = {0};
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    if (raised && h->ours)
        sigtimedwait(&pipe_only, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &h->before, NULL);
}

ssize_t fen__sys_sendfile(int fd, int file, int64_t *offset, size_t n)
{
    FAULT("sendfile");
    struct held h;
    hold_sigpipe(&h);
    off_t at = *offset;
    ssize_t put = sendfile(fd, file, &at, n);
    put = put < 0 ? -errno : put;
    release_sigpipe(&h, put == -EPIPE);
    *offset = at;
    return put;
}

ssize_t fen__sys_splice(int from, int to, size_t n)
{
    FAULT("splice");
    struct held h;
    hold_sigpipe(&h);
    ssize_t moved = splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    moved = moved < 0 ? -errno : moved;
    release_sigpipe(&h, moved == -EPIPE);
    return moved;
}

int fen__sys_pipe(int ret_fd[2], size_t bytes)
{
    FAULT("pipe");
    int rc = pipe2(ret_fd, O_NONBLOCK | O_CLOEXEC) ? -errno : fen__sys_own_pipe(ret_fd);
    if (rc)
        return rc;
    if (bytes) /* refused to a user who has many: it stays as it is */
        (void)fcntl(ret_fd[1], F_SETPIPE_SZ, (int)bytes);
    return 0;
}
