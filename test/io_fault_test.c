/* io_fault_test.c - every n-th system call of sockets, files and foreign descriptors fails: no
 * crash, no hang, nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fault.h"
#include "rig.h"

#include <fcntl.h>

/* ---- a mix of everything ----
 * Each step may fail; then the rest of it is left out. Peers that would wait for ever for a partner
 * which failed have a deadline. */

static int64_t patience_ns = 20 * FEN_S;
#define WAIT (fen_now() + patience_ns)
#define BULK (256 << 10)

struct peer {
    fen_sock *sock;
    int fd;
};

static void swallow(void *arg)
{
    struct peer *p = arg;
    static char waste[65536];
    ssize_t got = 1;
    for (int i = 0; i < 3 && got > 0; i++) {
        struct iovec iov = {waste, 1000};
        got = fen_sock_readv(p->sock, &iov, 1, WAIT);
    }
    while (got > 0)
        got = fen_sock_read(p->sock, waste, sizeof waste, WAIT);
}

static int bulk_writes(fen_sock *s)
{
    static char bytes[BULK];
    struct iovec iov[2] = {{bytes, 100}, {bytes, sizeof bytes - 100}};
    ssize_t rc = fen_sock_write(s, bytes, sizeof bytes, WAIT);
    if (rc >= 0)
        rc = fen_sock_writev(s, iov, 2, WAIT);
    if (rc >= 0)
        rc = fen_sock_write_zc(s, bytes, sizeof bytes, WAIT);
    int file = rc >= 0 ? fen_file_open("/proc/self/exe", O_RDONLY, 0) : -1;
    if (file >= 0) {
        rc = fen_sock_send_file(s, file, 0, BULK, WAIT);
        fen_file_close(file);
    }
    return rc < 0 ? (int)rc : file < 0 ? file : 0;
}

static int stream(const char *at)
{
    fen_sock *l, *c = NULL, *s = NULL;
    fen_addr a;
    char text[FEN_ADDR_TEXT];
    int rc = fen_sock_listen(at, &(fen_sock_config){.reuse_port = true}, &l);
    if (rc)
        return rc;
    rc = fen_sock_local(l, &a);
    if (!rc && fen_addr_text(&a, text, sizeof text) > 0)
        rc = fen_sock_dial(text, NULL, WAIT, &c);
    if (!rc)
        rc = fen_sock_accept(l, WAIT, &s);
    struct peer p = {.sock = s};
    fen_scope *scope = rc ? NULL : fen_scope_open(FEN_NEVER);
    if (scope && !(rc = fen_go(swallow, &p)))
        rc = bulk_writes(c);
    fen_sock_shutdown(c ? c : l, FEN_SHUT_BOTH);
    if (scope)
        fen_scope_close(scope);
    fen_sock_close(s);
    fen_sock_close(c);
    fen_sock_close(l);
    return rc;
}

static int datagrams(void)
{
    fen_sock *a, *b;
    fen_addr to;
    char buf[16];
    int rc = fen_sock_bind("127.0.0.1:0", NULL, &a);
    if (rc)
        return rc;
    rc = fen_sock_bind("127.0.0.1:0", NULL, &b);
    if (!rc) {
        rc = fen_sock_local(a, &to);
        ssize_t n = rc ? rc : fen_sock_send_to(b, "x", 1, &to, WAIT);
        n = n < 0 ? n : fen_sock_recv_from(a, buf, sizeof buf, &to, WAIT);
        rc = n < 0 ? (int)n : 0;
        fen_sock_close(b);
    }
    fen_sock_close(a);
    return rc;
}

static int spliced(void)
{
    fen_sock *a[2], *b[2];
    int rc = fen_sock_pair(false, a);
    if (rc)
        return rc;
    rc = fen_sock_pair(false, b);
    if (!rc) {
        ssize_t n = fen_sock_write(a[0], "hello", 5, WAIT);
        n = n < 0 ? n : fen_sock_splice(a[1], b[0], 5, WAIT);
        rc = n < 0 ? (int)n : 0;
        fen_sock_close(b[0]);
        fen_sock_close(b[1]);
    }
    fen_sock_close(a[0]);
    fen_sock_close(a[1]);
    return rc;
}

static int files(void)
{
    char path[] = "/tmp/fen-io-fault", to[] = "/tmp/fen-io-fault-2", buf[8];
    fen_file_info info;
    int fd = fen_file_open(path, O_CREAT | O_RDWR, 0600), rc;
    if (fd < 0)
        return fd;
    ssize_t n = fen_file_write(fd, "hello", 5);
    n = n < 0 ? n : fen_file_pwrite(fd, "J", 1, 0);
    n = n < 0 ? n : fen_file_pread(fd, buf, sizeof buf, 0);
    n = n < 0 ? n : fen_file_read(fd, buf, sizeof buf);
    n = n < 0 ? n : fen_file_sync(fd, true);
    n = n < 0 ? n : fen_file_truncate(fd, 1);
    n = n < 0 ? n : fen_file_fstat(fd, &info);
    n = n < 0 ? n : fen_file_stat(path, &info);
    rc = fen_file_close(fd);
    rc = rc ? rc : fen_file_rename(path, to);
    rc = rc ? rc : fen_file_unlink(to);
    unlink(path); /* what a failure has left */
    unlink(to);
    return n < 0 ? (int)n : rc;
}

static void write_later(void *arg)
{
    struct peer *p = arg;
    fen_sleep(FEN_MS);
    ssize_t put = write(p->fd, "x", 1);
    (void)put;
}

static int foreign(void)
{
    int fd[2];
    if (pipe2(fd, O_CLOEXEC | O_NONBLOCK))
        return -errno;
    struct peer p = {.fd = fd[1]};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    int rc = scope ? fen_go(write_later, &p) : -ENOMEM;
    if (!rc)
        rc = fen_fd_wait(fd[0], FEN_FD_READ, WAIT);
    if (scope)
        fen_scope_close(scope);
    close(fd[0]);
    close(fd[1]);
    return rc < 0 ? rc : 0;
}

static int mix(void *arg)
{
    int first = 0, rc[] = {stream("127.0.0.1:0"),
                           stream("unix:@fen-io-fault"),
                           datagrams(),
                           spliced(),
                           files(),
                           foreign()};
    (void)arg;
    for (size_t i = 0; i < sizeof rc / sizeof rc[0]; i++)
        first = first ? first : rc[i];
    return first;
}

static void nth_fails(const char *call, int rc)
{
    const fen_config cfg = {.procs = 2, .max_blocking = 2};
    bool hit = true;
    int nth = 1;
    for (; hit && nth < 400; nth += nth < 16 ? 1 : 11) {
        struct rig_count before = rig_counts();
        fault_arm(call, rc, nth);
        int got = fen_run(mix, NULL, &cfg);
        hit = fault_disarm();
        struct rig_count after = rig_counts();
        if (!hit && got && got != -ETIMEDOUT) /* a busy machine may be late */
            fail_msg("%s %d: %d without a fault", call, nth, got);
        if (!rig_same_but_heap(before, after) || after.heap_bytes != before.heap_bytes)
            fail_msg("%s %d (%d): open %d, was %d; fibers %ld, fds %ld, heap %ld", call, nth, got,
                     after.open_fds, before.open_fds, (long)after.fibers, (long)after.fds,
                     (long)(after.heap_bytes - before.heap_bytes));
    }
    assert_true(nth > 2); /* the mix makes the call at all */
}

static const struct {
    const char *call;
    int rc;
} faults[] = {
    {"socket", -EMFILE},     {"socketpair", -EMFILE},   {"bind", -EADDRINUSE},
    {"listen", -EADDRINUSE}, {"connect", -ENETUNREACH}, {"accept", -EMFILE},
    {"accept", -ENOMEM},     {"recv", -ECONNRESET},     {"recv", -EINTR},
    {"send", -EPIPE},        {"send", -EINTR},          {"sendmsg", -ENOBUFS},
    {"sendmsg", -EINTR},     {"recvmsg", -ECONNRESET},  {"recvmsg", -EINTR},
    {"send_zc", -ENOBUFS},   {"send_zc", -EPIPE},       {"send_zc", -EINTR},
    {"errqueue", -EINTR},    {"errqueue", -ENOMEM},     {"sendfile", -EIO},
    {"sendfile", -EINTR},    {"splice", -EPIPE},        {"splice", -EINTR},
    {"pipe", -EMFILE},       {"open", -EMFILE},         {"read", -EIO},
    {"read", -EINTR},        {"write", -ENOSPC},        {"pread", -EIO},
    {"pwrite", -EINTR},      {"fsync", -EIO},           {"ftruncate", -EFBIG},
    {"stat", -EACCES},       {"rename", -EXDEV},        {"unlink", -EBUSY},
    {"poll", -ENOMEM},       {"epoll_mod", -ENOMEM},    {"epoll_ctl", -ENOSPC},
    {"thread", -EAGAIN},     {"malloc", -ENOMEM},       {"mmap", -ENOMEM},
};

static void test_every_call_fails(void **state)
{
    (void)state;
    fault_begin();
    /* what the process keeps for ever */
    assert_int_equal(fen_run(mix, NULL, &(fen_config){.procs = 2, .max_blocking = 2}), 0);
    patience_ns = 50 * FEN_MS;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        nth_fails(faults[i].call, faults[i].rc);
    fault_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_call_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
