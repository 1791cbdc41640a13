/* sock_edge_test.c - what a short read says, options of an open socket, a full Unix receiver, and a
 * write without a time-out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_check.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>

/* ---- a short read that leaves something ---- */

/* Reads twice; what both take is there before the first. */
static void read_two(fen_sock *s, ssize_t first, ssize_t second)
{
    char buf[64];
    must_equal(fen_fd_wait(s->fd, FEN_FD_READ, soon()), FEN_FD_READ);
    must_equal(fen_sleep(5 * FEN_MS), 0); /* the edge is seen before the first read */
    must_equal(fen_sock_read(s, buf, sizeof buf, soon()), first);
    must_equal(fen_sock_read(s, buf, sizeof buf, fen_now() + 5 * FEN_S), second);
    must_equal(fen_sock_read(s, buf, sizeof buf, 0), -EAGAIN);
}

/* "ab" with a descriptor: the kernel ends a read behind it. */
static void pass_descriptor(int to)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(char[]){'a', 'b'}, 2};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    int fd = 0;
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    must_equal(sendmsg(to, &msg, 0), 2);
}

static int short_reads(void *arg)
{
    (void)arg;
    static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};
    for (size_t i = 0; i < FEN__COUNT(types); i++) {
        int fd[2];
        fen_sock *s;
        must_equal(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, fd), 0);
        must_equal(fen_sock_adopt(fd[0], &s), 0);
        if (i)
            pass_descriptor(fd[1]);
        else
            must_equal(send(fd[1], "ab", 2, 0), 2);
        must_equal(send(fd[1], "cde", 3, 0), 3);
        read_two(s, 2, 3);
        close(fd[1]);
        fen_sock_close(s);
    }
    return 0;
}

static void test_short_read_is_not_all(void **state)
{
    (void)state;
    run_clean(short_reads, NULL, 2);
}

/* ---- options of an open socket ---- */

static int nodelay(const fen_sock *s)
{
    int on = -1;
    must_equal(fen__sys_getsockopt_int(s->fd, IPPROTO_TCP, TCP_NODELAY, &on), 0);
    return on;
}

static int options(void *arg)
{
    (void)arg;
    fen_sock *l, *s, *peer;
    char to[64];
    must_equal(fen_tcp_listen("127.0.0.1:0", 0, &l), 0);
    snprintf(to, sizeof to, "127.0.0.1:%d", fen_sock_port(l));
    must_equal(fen_sock_dial(to, &(fen_sock_config){.nagle = true}, soon(), &s), 0);
    must_equal(fen_sock_accept(l, soon(), &peer), 0);
    must(!nodelay(s) && nodelay(peer));
    must_equal(fen_sock_configure(s, &(fen_sock_config){.keep_alive = true}), 0);
    must(!nodelay(s));
    must_equal(fen_sock_configure(peer, &(fen_sock_config){.nagle = true}), 0);
    must(!nodelay(peer));
    fen_sock_close(s);
    fen_sock_close(peer);
    int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP); /* a stream that is not TCP, if there is */
    if (fd < 0)
        fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd >= 0) {
        must_equal(fen_sock_adopt(fd, &s), 0);
        must_equal(fen_sock_configure(s, &(fen_sock_config){.send_buffer_bytes = 1 << 16}), 0);
        fen_sock_close(s);
    }
    fen_sock_close(l);
    return 0;
}

static void test_configure_changes_what_is_set(void **state)
{
    (void)state;
    run_clean(options, NULL, 2);
}

/* ---- a full Unix receiver ---- */

struct letter {
    fen_sock *from;
    const fen_addr *to;
    int64_t deadline_ns;
    ssize_t rc;
    _Atomic bool done;
};

static void send_letter(void *arg)
{
    struct letter *m = arg;
    m->rc = fen_sock_send_to(m->from, "x", 1, m->to, m->deadline_ns);
    atomic_store(&m->done, true);
}

static _Atomic int tries;

static int count_tries(const char *call)
{
    if (!strcmp(call, "sendmsg"))
        atomic_fetch_add(&tries, 1);
    return 0;
}

/* Its queue has room again, of which a sender that is not connected is told by no event; and the
 * other ends of such a wait. */
static int full_receiver(void *arg)
{
    (void)arg;
    fen_sock *r, *a, *b;
    fen_addr to;
    char text[64], byte;
    snprintf(text, sizeof text, "unix:@fen-letters-%d", (int)getpid());
    must_equal(fen_addr_parse(text, &to), 0);
    must_equal(fen_sock_bind(text, NULL, &r), 0);
    snprintf(text, sizeof text, "unix:@fen-letters-a-%d", (int)getpid());
    must_equal(fen_sock_bind(text, NULL, &a), 0);
    snprintf(text, sizeof text, "unix:@fen-letters-b-%d", (int)getpid());
    must_equal(fen_sock_bind(text, NULL, &b), 0);
    int n = 0;
    ssize_t rc;
    while ((rc = fen_sock_send_to(a, "x", 1, &to, 0)) == 1)
        must(n++ < 10000);
    must_equal(rc, -EAGAIN);
    fen__sys_fault = count_tries;
    must_equal(fen_sock_send_to(b, "x", 1, &to, fen_now() + 5 * FEN_MS), -ETIMEDOUT);
    fen__sys_fault = NULL;
    must(atomic_load(&tries) > 1 && atomic_load(&tries) < 10); /* it sleeps in between */
    fen_scope *limit = fen_scope_open(fen_now() + 5 * FEN_MS);
    must_equal(fen_sock_send_to(b, "x", 1, &to, FEN_NEVER), -ETIMEDOUT);
    must_equal(fen_scope_close(limit), -ETIMEDOUT);
    struct letter m = {.from = b, .to = &to, .deadline_ns = fen_now() + 5 * FEN_S};
    struct letter last = {.from = b, .to = &to, .deadline_ns = FEN_NEVER};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(send_letter, &m), 0);
    must_equal(fen_sleep(5 * FEN_MS), 0);
    must(!atomic_load(&m.done));
    must_equal(fen_sock_recv_from(r, &byte, 1, NULL, soon()), 1);
    must_equal(fen_scope_close(scope), 0);
    must_equal(m.rc, 1);
    scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(send_letter, &last), 0);
    must_equal(fen_sleep(5 * FEN_MS), 0);
    fen_sock_close(b);
    must_equal(fen_scope_close(scope), 0);
    must_equal(last.rc, -EBADF);
    fen_sock_close(a);
    fen_sock_close(r);
    return 0;
}

static void test_full_unix_receiver(void **state)
{
    (void)state;
    run_clean(full_receiver, NULL, 2);
}

/* ---- a time-out without end ---- */

static void read_slowly(void *arg)
{
    char buf[4096];
    must_equal(fen_sleep(5 * FEN_MS), 0);
    for (size_t have = 0; have < (size_t)4 << 20;) {
        ssize_t got = fen_sock_read(arg, buf, sizeof buf, soon());
        must(got > 0);
        have += (size_t)got;
    }
}

static int never_times_out(void *arg)
{
    (void)arg;
    size_t n = (size_t)4 << 20;
    char *data = calloc(1, n);
    fen_sock *p[2];
    must_equal(fen_sock_pair(false, p), 0);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_slowly, p[1]), 0);
    must_equal(fen__net_write_within(p[0]->slot, data, n, FEN_NEVER), (int64_t)n);
    must_equal(fen_scope_close(scope), 0);
    fen_sock_close(p[0]);
    fen_sock_close(p[1]);
    free(data);
    return 0;
}

static void test_a_write_within_never(void **state)
{
    (void)state;
    run_clean(never_times_out, NULL, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_read_is_not_all),
        cmocka_unit_test(test_configure_changes_what_is_set),
        cmocka_unit_test(test_full_unix_receiver),
        cmocka_unit_test(test_a_write_within_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
