/* io_fault_test.c - every n-th system call of sockets, files and foreign descriptors, and of child
 * processes, signals and calls on the pool, fails: no crash, no hang, nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fault.h"
#include "fiber_check.h"
#include "rig.h"

#include <fen/process.h>
#include <fen/signal.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

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

static int only_files(void *arg)
{
    (void)arg;
    return files();
}

/* ---- children, signals, the pool ---- */

/* Its exit code is a part of what is checked: an input that was cut short gives another. */
static int child(void)
{
    const char *argv[] = {"/bin/sh", "-c", "read x; echo $x; exit 7", NULL};
    fen_process_config cfg = {.argv = argv,
                              .io = {{FEN_IO_PIPE, 0}, {FEN_IO_PIPE, 0}, {FEN_IO_NULL, 0}}};
    fen_process *p;
    fen_process_status st = {0};
    char buf[8];
    int rc = fen_process_open(&cfg, &p);
    if (rc)
        return rc;
    ssize_t n = fen_process_write(p, "ok\n", 3, WAIT);
    n = n < 0 ? n : fen_process_read(p, 1, buf, sizeof buf, WAIT);
    if (n >= 0)
        must_equal(n == 3 && !memcmp(buf, "ok\n", 3), 1);
    fen_process_close_input(p);
    rc = n < 0 ? (int)n : fen_process_wait(p, WAIT, &st);
    if (rc == 0)
        must_equal(st.code, 7);
    fen_process_close(p);
    return rc;
}

static int signalled(void)
{
    int usr1 = SIGUSR1, got = 0;
    fen_signal *s;
    int rc = fen_signal_open(&usr1, 1, &s);
    if (rc)
        return rc;
    raise(SIGUSR1);
    rc = fen_chan_recv_until(fen_signal_chan(s), &got, WAIT);
    if (rc == 0)
        must_equal(got, SIGUSR1);
    fen_signal_close(s);
    return rc == FEN_ECLOSED ? -ECANCELED : rc;
}

static int seven(void *arg)
{
    *(int *)arg = 7;
    return 7;
}

static int on_the_pool(void)
{
    int ran = 0, rc = fen_blocking(seven, &ran);
    must_equal(rc == 7 ? ran == 7 : ran == 0, 1);
    return rc < 0 ? rc : 0;
}

static int guests(void *arg)
{
    int first = 0, rc[] = {child(), signalled(), on_the_pool()};
    (void)arg;
    for (size_t i = 0; i < sizeof rc / sizeof rc[0]; i++)
        first = first ? first : rc[i];
    return first;
}

static enum fen_files files_by;

static void nth_fails(int (*fn)(void *), const char *call, int rc)
{
    const fen_config cfg = {.procs = 2, .max_blocking = 2, .files = files_by};
    bool hit = true;
    int nth = 1;
    for (; hit && nth < 400; nth += nth < 16 ? 1 : 11) {
        struct rig_count before = rig_counts();
        fault_arm(call, rc, nth);
        int got = fen_run(fn, NULL, &cfg);
        hit = fault_disarm();
        struct rig_count after = rig_counts();
        if (!hit && got && got != -ETIMEDOUT) /* a busy machine may be late */
            fail_msg("%s %d: %d without a fault", call, nth, got);
        if (!rig_same_but_heap(after, before) || after.heap_bytes != before.heap_bytes)
            fail_msg("%s %d (%d): open %d, was %d; fibers %ld, fds %ld, heap %ld", call, nth, got,
                     after.open_fds, before.open_fds, (long)after.fibers, (long)after.fds,
                     (long)(after.heap_bytes - before.heap_bytes));
    }
    if (nth <= 2) /* the mix has to make the call at all */
        fail_msg("%s: never called", call);
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
        nth_fails(mix, faults[i].call, faults[i].rc);
    fault_end();
}

/* The same with files on the pool alone, and by the ring alone, where there is one. */
static void test_every_call_of_files_fails_whichever_way(void **state)
{
    static const struct {
        enum fen_files way;
        const char *call;
        int rc;
    } calls[] = {
        {FEN_FILES_POOL, "open", -EMFILE},       {FEN_FILES_POOL, "read", -EIO},
        {FEN_FILES_POOL, "pread", -EINTR},       {FEN_FILES_POOL, "pread", -EIO},
        {FEN_FILES_POOL, "pwrite", -EINTR},      {FEN_FILES_POOL, "fsync", -EIO},
        {FEN_FILES_POOL, "thread", -EAGAIN},     {FEN_FILES_POOL, "malloc", -ENOMEM},
        {FEN_FILES_RING, "uring_setup", -EPERM}, {FEN_FILES_RING, "uring_enter", -EINTR},
        {FEN_FILES_RING, "uring_enter", -EBUSY}, {FEN_FILES_RING, "read", -EIO},
        {FEN_FILES_RING, "eventfd", -EMFILE},    {FEN_FILES_RING, "thread", -EAGAIN},
        {FEN_FILES_RING, "malloc", -ENOMEM},     {FEN_FILES_RING, "mmap", -ENOMEM},
    };
    (void)state;
    fault_begin();
    patience_ns = 20 * FEN_S;
    assert_int_equal(fen_run(only_files, NULL, &(fen_config){.procs = 2, .max_blocking = 2}), 0);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        files_by = calls[i].way;
        nth_fails(only_files, calls[i].call, calls[i].rc);
    }
    files_by = FEN_FILES_AUTO;
    fault_end();
}

static void test_every_call_for_children_signals_and_the_pool_fails(void **state)
{
    static const struct {
        const char *call;
        int rc;
    } calls[] = {
        {"spawn", -EAGAIN},   {"pidfd_open", -EMFILE}, {"pipe", -EMFILE},
        {"read", -EINTR},     {"read", -EIO},          {"write", -EINTR},
        {"write", -EPIPE},    {"epoll_ctl", -ENOSPC},  {"epoll_create", -EMFILE},
        {"eventfd", -EMFILE}, {"thread", -EAGAIN},     {"malloc", -ENOMEM},
        {"mmap", -ENOMEM},
    };
    (void)state;
    fault_begin();
    patience_ns = 20 * FEN_S;
    assert_int_equal(fen_run(guests, NULL, &(fen_config){.procs = 2, .max_blocking = 2}), 0);
    patience_ns = FEN_S;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        nth_fails(guests, calls[i].call, calls[i].rc);
    fault_end();
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
    struct sigaction sa;
    assert_int_equal(sigaction(SIGUSR1, NULL, &sa), 0);
    assert_true(sa.sa_handler == SIG_DFL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_every_call_of_files_fails_whichever_way),
        cmocka_unit_test(test_every_call_for_children_signals_and_the_pool_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
