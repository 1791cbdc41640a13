/* sock_test.c - addresses, Unix and UDP sockets, options, vectors, and closing under a call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"
#include "fiber_check.h"

#include <stdatomic.h>
#include <stdio.h>

/* ---- addresses ---- */

static void test_address_texts(void **state)
{
    (void)state;
    static const char *same[] = {"127.0.0.1:80",     "[::1]:8080", ":443",
                                 "unix:/tmp/a.sock", "unix:@name", "255.255.255.255:65535"};
    static const char *wrong[] = {
        "",        ":",     "80",     "1.2.3:80", "1.2.3.4:65536", "::1:80",     "[::1:80",
        "host:80", "unix:", "unix:@", "1.2.3.4:", "1.2.3.4:-1",    "1.2.3.4:8x", "[::1]80"};
    char text[FEN_ADDR_TEXT], tiny[8];
    fen_addr a;
    for (size_t i = 0; i < FEN__COUNT(same); i++) {
        assert_int_equal(fen_addr_parse(same[i], &a), 0);
        assert_int_equal(fen_addr_text(&a, text, sizeof text), (int)strlen(same[i]));
        assert_string_equal(text, same[i]);
        if (strlen(same[i]) >= sizeof tiny)
            assert_int_equal(fen_addr_text(&a, tiny, sizeof tiny), -ENOSPC);
    }
    for (size_t i = 0; i < FEN__COUNT(wrong); i++)
        assert_int_equal(fen_addr_parse(wrong[i], &a), -EINVAL);
    char long_path[200] = "unix:/";
    memset(long_path + 6, 'x', 150);
    assert_int_equal(fen_addr_parse(long_path, &a), -EINVAL);
    assert_int_equal(fen_addr_parse("localhost:81", &a), 0);
    assert_int_equal(fen_addr_port(&a), 81);
    assert_true(fen_addr_text(&a, text, sizeof text) > 0);
    assert_string_equal(text, "127.0.0.1:81");
    a = (fen_addr){0};
    assert_int_equal(fen_addr_text(&a, text, sizeof text), 5);
}

/* ---- streams: TCP and Unix, the same talk over each ---- */

struct talk {
    fen_sock *listener;
    const char *dial;
    const fen_sock_config *cfg;
};

static void echo_one(void *arg)
{
    struct talk *t = arg;
    fen_sock *s;
    char buf[64];
    must_equal(fen_sock_accept(t->listener, soon(), &s), 0);
    ssize_t got;
    while ((got = fen_sock_read(s, buf, sizeof buf, soon())) > 0)
        must_equal(fen_sock_write(s, buf, (size_t)got, soon()), got);
    must_equal(got, 0);
    fen_sock_close(s);
}

static void talk(fen_sock *l, const char *dial, const fen_sock_config *cfg)
{
    struct talk t = {l, dial, cfg};
    fen_sock *s;
    char buf[8];
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(echo_one, &t), 0);
    must_equal(fen_sock_dial(dial, cfg, soon(), &s), 0);
    must_equal(fen_sock_write(s, "hello", 5, soon()), 5);
    size_t have = 0;
    while (have < 5)
        have += (size_t)fen_sock_read(s, buf + have, 5 - have, soon());
    must_equal(memcmp(buf, "hello", 5), 0);
    must_equal(fen_sock_read(s, buf, 1, 0), -EAGAIN);
    must_equal(fen_sock_read(s, buf, 1, fen_now() + FEN_MS), -ETIMEDOUT);
    must_equal(fen_sock_shutdown(s, FEN_SHUT_WRITE), 0); /* one direction: the other goes on */
    must_equal(fen_sock_write(s, "x", 1, soon()), -EPIPE);
    must_equal(fen_sock_read(s, buf, 1, soon()), 0);
    fen_sock_close(s);
    must_equal(fen_scope_close(scope), 0);
}

static int streams(void *arg)
{
    (void)arg;
    fen_sock *l;
    char text[FEN_ADDR_TEXT], path[64];
    fen_addr a;
    const fen_sock_config keep = {.keep_alive = true,
                                  .keep_idle_s = 30,
                                  .keep_interval_s = 5,
                                  .keep_count = 3,
                                  .user_timeout_ms = 5000,
                                  .send_buffer_bytes = 1 << 16,
                                  .recv_buffer_bytes = 1 << 16,
                                  .nagle = true,
                                  .backlog = 8,
                                  .reuse_port = true};
    static const char *at[] = {"127.0.0.1:0", "[::1]:0", ":0"};
    for (size_t i = 0; i < FEN__COUNT(at); i++) {
        int rc = fen_sock_listen(at[i], &keep, &l);
        if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL)
            continue; /* no IPv6 here */
        must_equal(rc, 0);
        must_equal(fen_sock_local(l, &a), 0);
        must(fen_addr_text(&a, text, sizeof text) > 0);
        if (i == 2)
            snprintf(text, sizeof text, "127.0.0.1:%d", fen_sock_port(l));
        talk(l, text, &(fen_sock_config){.keep_alive = true});
        fen_sock_close(l);
    }
    snprintf(path, sizeof path, "unix:@fen-sock-test-%d", (int)getpid());
    must_equal(fen_sock_listen(path, NULL, &l), 0);
    fen_sock *twice;
    must_equal(fen_sock_listen(path, NULL, &twice), -EADDRINUSE);
    talk(l, path, NULL);
    fen_sock_close(l);
    must_equal(fen_sock_dial(path, NULL, soon(), &l), -ECONNREFUSED);
    snprintf(path, sizeof path, "unix:/tmp/fen-sock-test-%d", (int)getpid());
    must_equal(fen_sock_dial(path, NULL, soon(), &l), -ENOENT);
    must_equal(fen_sock_listen(path, NULL, &l), 0);
    talk(l, path, NULL);
    fen_sock_close(l);
    must_equal(unlink(path + 5), 0);
    return 0;
}

static void test_streams(void **state)
{
    (void)state;
    run_clean(streams, NULL, 2);
}

/* ---- bad input ---- */

static int bad_input(void *arg)
{
    (void)arg;
    fen_sock *s, *p[2];
    must_equal(fen_sock_listen("nowhere", NULL, &s), -EINVAL);
    must_equal(fen_sock_listen(":0", &(fen_sock_config){.backlog = -1}, &s), -EINVAL);
    must_equal(fen_sock_dial(":80", NULL, soon(), &s), -EINVAL);
    must_equal(fen_tcp_dial("unix:@x", soon(), &s), -EINVAL);
    must_equal(fen_tcp_listen("unix:@x", 0, &s), -EINVAL);
    must_equal(fen_sock_dial("127.0.0.1:1", &(fen_sock_config){.source = "bad"}, soon(), &s),
               -EINVAL);
    must_equal(fen_sock_dial("127.0.0.1:1", &(fen_sock_config){.source = "[::1]:0"}, soon(), &s),
               -EINVAL);
    must_equal(fen_sock_dial("127.0.0.1:1", NULL, soon(), &s), -ECONNREFUSED);
    must_equal(fen_sock_adopt(-1, &s), -EBADF);
    int fd = open("/dev/null", O_RDONLY);
    must_equal(fen_sock_adopt(fd, &s), -ENOTSOCK);
    close(fd);
    must_equal(fen_sock_pair(false, p), 0);
    must_equal(fen_sock_readv(p[0], NULL, -1, soon()), -EINVAL);
    must_equal(fen_sock_writev(p[0], NULL, 1025, soon()), -EINVAL);
    must_equal(fen_sock_send_file(p[0], 0, -1, 1, soon()), -EINVAL);
    must_equal(fen_sock_configure(p[0], &(fen_sock_config){.keep_count = -1}), -EINVAL);
    must_equal(fen_sock_shutdown(p[0], (enum fen_shut)7), -EINVAL);
    fen_sock_close(p[0]);
    must_equal(fen_sock_write(p[1], "x", 1, soon()), -EPIPE); /* and no SIGPIPE */
    fen_sock_close(p[1]);
    fen_sock_close(NULL);
    return 0;
}

static void test_bad_input(void **state)
{
    (void)state;
    run_clean(bad_input, NULL, 2);
    fen_sock *s = NULL; /* outside a fiber nothing parks */
    assert_int_equal(fen_sock_dial("127.0.0.1:1", NULL, FEN_NEVER, &s), FEN_ENOTFIBER);
}

/* Before a run and after one there is no poller to register with. */
static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void test_no_socket_without_a_run(void **state)
{
    (void)state;
    int before = count_fds();
    for (int i = 0; i < 2; i++) {
        fen_sock *s[2];
        assert_int_equal(fen_tcp_listen("127.0.0.1:0", 0, &s[0]), FEN_ENOTFIBER);
        assert_int_equal(fen_sock_listen("127.0.0.1:0", NULL, &s[0]), FEN_ENOTFIBER);
        assert_int_equal(fen_sock_bind("127.0.0.1:0", NULL, &s[0]), FEN_ENOTFIBER);
        assert_int_equal(fen_sock_pair(false, s), FEN_ENOTFIBER);
        assert_int_equal(fen_run(nothing, NULL, NULL), 0);
    }
    assert_int_equal(count_fds(), before);
}

/* ---- source address, adopted descriptors ---- */

static int sources(void *arg)
{
    (void)arg;
    fen_sock *l, *s, *peer, *mine;
    fen_addr a, b;
    char to[FEN_ADDR_TEXT], text[FEN_ADDR_TEXT];
    must_equal(fen_tcp_listen("127.0.0.1:0", 0, &l), 0);
    must_equal(fen_sock_local(l, &a), 0);
    must(fen_addr_text(&a, to, sizeof to) > 0);
    must_equal(fen_sock_dial(to, &(fen_sock_config){.source = "127.0.0.9:0"}, soon(), &s), 0);
    must_equal(fen_sock_accept(l, soon(), &peer), 0);
    must_equal(fen_sock_peer(peer, &a), 0);
    must_equal(fen_sock_local(s, &b), 0);
    must_equal(memcmp(&a, &b, sizeof a), 0);
    must(fen_addr_text(&a, text, sizeof text) > 0);
    must_equal(strncmp(text, "127.0.0.9:", 10), 0);
    must_equal(fen_sock_peer(l, &a), -ENOTCONN);
    int fd[2];
    must_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    must_equal(fen_sock_adopt(fd[0], &mine), 0);
    must_equal(write(fd[1], "x", 1), 1);
    must_equal(fen_sock_read(mine, text, sizeof text, soon()), 1);
    close(fd[1]);
    must_equal(fen_sock_read(mine, text, sizeof text, soon()), 0);
    fen_sock_close(mine);
    fen_sock_close(s);
    fen_sock_close(peer);
    fen_sock_close(l);
    return 0;
}

static void test_sources_and_adopted(void **state)
{
    (void)state;
    run_clean(sources, NULL, 2);
}

/* ---- SO_REUSEPORT ---- */

static int shared_port(void *arg)
{
    (void)arg;
    const fen_sock_config share = {.reuse_port = true};
    fen_sock *a, *b, *c;
    char text[64];
    must_equal(fen_sock_listen("127.0.0.1:0", &share, &a), 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", fen_sock_port(a));
    must_equal(fen_sock_listen(text, &share, &b), 0);
    must_equal(fen_sock_listen(text, NULL, &c), -EADDRINUSE);
    int got[2] = {0};
    for (int i = 0; i < 64; i++) {
        must_equal(fen_sock_dial(text, NULL, soon(), &c), 0);
        fen_sock *peer = NULL;
        int from_b = 0;
        while (!peer) {
            from_b = fen_sock_accept(a, 0, &peer) != 0;
            if (from_b && fen_sock_accept(b, 0, &peer))
                must_equal(fen_sleep(FEN_MS / 10), 0);
        }
        got[from_b]++;
        fen_sock_close(peer);
        fen_sock_close(c);
    }
    must(got[0] && got[1]); /* 2 to the -63 if the kernel spreads by chance */
    fen_sock_close(a);
    fen_sock_close(b);
    return 0;
}

static void test_reuse_port(void **state)
{
    (void)state;
    run_clean(shared_port, NULL, 2);
}

/* ---- datagrams ---- */

static void udp(const char *at)
{
    fen_sock *a, *b, *c;
    fen_addr to, from, own;
    char buf[32], text[FEN_ADDR_TEXT];
    int rc = fen_sock_bind(at, NULL, &a);
    if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL)
        return; /* no IPv6 here */
    must_equal(rc, 0);
    must_equal(fen_sock_bind(at, NULL, &b), 0);
    must_equal(fen_sock_local(a, &to), 0);
    must_equal(fen_sock_local(b, &own), 0);
    must_equal(fen_sock_send_to(b, "ping", 4, &to, soon()), 4);
    must_equal(fen_sock_recv_from(a, buf, sizeof buf, &from, soon()), 4);
    must_equal(memcmp(&from, &own, sizeof from), 0);
    must_equal(fen_sock_send_to(a, "", 0, &from, soon()), 0); /* an empty datagram is one */
    must_equal(fen_sock_recv_from(b, buf, sizeof buf, NULL, soon()), 0);
    must_equal(fen_sock_send_to(a, "too long for it", 15, &from, soon()), 15);
    must_equal(fen_sock_send_to(a, "next", 4, &from, soon()), 4);
    must_equal(fen_sock_recv_from(b, buf, 4, NULL, soon()), -EMSGSIZE);
    must_equal(fen_sock_recv_from(b, buf, 4, NULL, soon()), 4);
    must_equal(fen_sock_send_to(b, "x", 1, NULL, soon()), -EDESTADDRREQ);
    must_equal(fen_sock_recv_from(b, buf, 4, NULL, fen_now() + FEN_MS), -ETIMEDOUT);
    must(fen_addr_text(&to, text, sizeof text) > 0);
    must_equal(fen_sock_dial(text, &(fen_sock_config){.datagram = true}, soon(), &c), 0);
    must_equal(fen_sock_send_to(c, "hi", 2, NULL, soon()), 2);
    must_equal(fen_sock_recv_from(a, buf, sizeof buf, &from, soon()), 2);
    must_equal(fen_sock_send_to(a, "ho", 2, &from, soon()), 2);
    must_equal(fen_sock_read(c, buf, sizeof buf, soon()), 2);
    fen_sock_close(a);
    must_equal(fen_sock_send_to(c, "gone", 4, NULL, soon()), 4);
    must_equal(fen_sock_recv_from(c, buf, sizeof buf, NULL, soon()), -ECONNREFUSED);
    fen_sock_close(b);
    fen_sock_close(c);
}

static int datagrams(void *arg)
{
    (void)arg;
    fen_sock *p[2], *any, *v4;
    fen_addr to, from;
    char buf[32], name[64];
    udp("127.0.0.1:0");
    udp("[::1]:0");
    must_equal(fen_sock_bind(":0", NULL, &any), 0); /* both families; IPv4 seen as IPv4 */
    must_equal(fen_sock_bind("127.0.0.1:0", NULL, &v4), 0);
    snprintf(name, sizeof name, "127.0.0.1:%d", fen_sock_port(any));
    must_equal(fen_addr_parse(name, &to), 0);
    must_equal(fen_sock_send_to(v4, "a", 1, &to, soon()), 1);
    must_equal(fen_sock_recv_from(any, buf, sizeof buf, &from, soon()), 1);
    must(fen_addr_text(&from, name, sizeof name) > 0);
    must_equal(strncmp(name, "127.0.0.1:", 10), 0);
    must_equal(fen_sock_local(v4, &to), 0);
    must_equal(fen_sock_send_to(any, "b", 1, &to, soon()), 1);
    must_equal(fen_sock_recv_from(v4, buf, sizeof buf, NULL, soon()), 1);
    fen_sock_close(any);
    fen_sock_close(v4);
    must_equal(fen_sock_pair(true, p), 0);
    must_equal(fen_sock_send_to(p[0], "one", 3, NULL, soon()), 3);
    must_equal(fen_sock_send_to(p[0], "two", 3, NULL, soon()), 3);
    must_equal(fen_sock_recv_from(p[1], buf, sizeof buf, NULL, soon()), 3); /* one at a time */
    fen_sock_close(p[0]);
    fen_sock_close(p[1]);
    return 0;
}

static void test_datagrams(void **state)
{
    (void)state;
    run_clean(datagrams, NULL, 2);
}

/* ---- vectors ---- */

enum { PIECES = 100, PIECE = 7001 };

struct vectors {
    fen_sock *from;
    unsigned char *want;
};

static void read_vectors(void *arg)
{
    struct vectors *v = arg;
    unsigned char got[3000];
    size_t at = 0;
    for (;;) {
        struct iovec iov[3] = {{got, 1}, {got + 1, 999}, {got + 1000, 2000}};
        ssize_t n = fen_sock_readv(v->from, iov, 3, soon());
        if (n == 0)
            break;
        must(n > 0);
        must_equal(memcmp(got, v->want + at, (size_t)n), 0);
        at += (size_t)n;
    }
    must_equal((int64_t)at, (int64_t)PIECES * PIECE);
}

static int vectors(void *arg)
{
    (void)arg;
    fen_sock *p[2];
    unsigned char *bytes = malloc((size_t)PIECES * PIECE);
    struct iovec iov[2 * PIECES];
    uint64_t r = 3;
    for (size_t i = 0; i < (size_t)PIECES * PIECE; i++)
        bytes[i] = (unsigned char)fen__rand(&r);
    for (size_t i = 0; i < PIECES; i++) {
        iov[2 * i] = (struct iovec){NULL, 0};
        iov[2 * i + 1] = (struct iovec){bytes + i * PIECE, PIECE};
    }
    must_equal(fen_sock_pair(false, p), 0);
    struct vectors v = {p[1], bytes};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_vectors, &v), 0);
    must_equal(fen_sock_writev(p[0], iov, 2 * PIECES, soon()), (int64_t)PIECES * PIECE);
    must_equal(fen_sock_writev(p[0], iov, 1, soon()), 0); /* nothing in it */
    fen_sock_close(p[0]);
    must_equal(fen_scope_close(scope), 0);
    fen_sock_close(p[1]);
    free(bytes);
    return 0;
}

static void test_vectors(void **state)
{
    (void)state;
    run_clean(vectors, NULL, 2);
}

/* ---- closing between the load of the descriptor and the system call ---- */

/* The seam before recv holds the reader in the gap until the closer has closed its socket and
 * opened another, which gets the lowest free number: the same one, if the close gave it back. */
static _Atomic int in_gap, go_on;

static int hold_in_gap(const char *call)
{
    if (!strcmp(call, "recv") && atomic_exchange(&in_gap, 1) == 0)
        while (!atomic_load(&go_on))
            ;
    return 0;
}

struct gap {
    fen_sock *sock;
    bool raw;
    ssize_t got;
    char byte;
};

static void read_in_gap(void *arg)
{
    struct gap *g = arg;
    g->got = g->raw ? fen__net_read(g->sock->slot, &g->byte, 1, soon())
                    : fen_sock_read(g->sock, &g->byte, 1, soon());
}

/* raw: the reader and the closer without the protocol of sock.c. The byte of another socket that
 * the reader got, or 0. */
static int stolen_byte(bool raw)
{
    fen_sock *p[2], *other[2];
    must_equal(fen_sock_pair(false, p), 0);
    int number = p[0]->fd;
    struct gap g = {.sock = p[0], .raw = raw};
    atomic_store(&in_gap, 0);
    atomic_store(&go_on, 0);
    fen__sys_fault = hold_in_gap;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_in_gap, &g), 0);
    while (!atomic_load(&in_gap))
        fen_yield(); /* the reader stays on its worker, this goes on on another */
    if (raw) {
        fen__close_slot(p[0]->slot);
        close(number);
    } else {
        fen_sock_close(p[0]);
    }
    must_equal(fen_sock_pair(false, other), 0);
    must_equal(other[0]->fd == number, raw);
    must_equal(send(other[1]->fd, "S", 1, 0), 1);
    atomic_store(&go_on, 1);
    must_equal(fen_scope_close(scope), 0);
    fen__sys_fault = NULL;
    if (!raw) {
        must_equal(g.got, -EBADF);
        char byte;
        must_equal(fen_sock_read(other[0], &byte, 1, soon()), 1); /* it is where it belongs */
        must_equal(byte, 'S');
    }
    fen_sock_close(other[0]);
    fen_sock_close(other[1]);
    fen_sock_close(p[1]);
    return g.got == 1 ? g.byte : 0;
}

static int close_in_gap(void *arg)
{
    (void)arg;
    must_equal(stolen_byte(true), 'S'); /* the litmus is sharp: without the count it is stolen */
    for (int i = 0; i < 20; i++)
        must_equal(stolen_byte(false), 0);
    return 0;
}

static void test_close_does_not_pull_the_descriptor_away(void **state)
{
    (void)state;
    run_clean(close_in_gap, NULL, 2);
}

/* ---- closing while others are inside: every kind of call, at random moments ---- */

struct user {
    fen_sock *sock;
    int kind;
    ssize_t rc;
};

static void use_until_error(void *arg)
{
    struct user *u = arg;
    char buf[16];
    fen_sock *s;
    struct iovec iov = {buf, sizeof buf};
    switch (u->kind % 4) {
    case 0: u->rc = fen_sock_read(u->sock, buf, sizeof buf, soon()); break;
    case 1: u->rc = fen_sock_readv(u->sock, &iov, 1, soon()); break;
    case 2: u->rc = fen_sock_accept(u->sock, soon(), &s); break;
    case 3: u->rc = fen_sock_recv_from(u->sock, buf, sizeof buf, NULL, soon()); break;
    }
}

static void fill(void *arg)
{
    struct user *u = arg;
    static char big[1 << 20];
    u->rc = fen_sock_write(u->sock, big, sizeof big, soon());
}

/* A call that begins after the close would be the caller's mistake: wait until all are inside. */
static void inside(fen_sock *s, uint32_t n)
{
    while (__atomic_load_n(&s->users, __ATOMIC_ACQUIRE) < n)
        fen_yield();
}

static void close_while(int kind, int64_t after_ns)
{
    fen_sock *p[2] = {NULL, NULL};
    struct user u = {.kind = kind}, w = {.kind = kind};
    bool stream = kind % 4 < 2;
    if (kind % 4 == 2)
        must_equal(fen_sock_listen("127.0.0.1:0", NULL, &p[0]), 0);
    else
        must_equal(fen_sock_pair(kind % 4 == 3, p), 0);
    u.sock = w.sock = p[0];
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(use_until_error, &u), 0);
    if (stream)
        must_equal(fen_go(fill, &w), 0);
    inside(p[0], stream ? 2 : 1);
    int64_t until = fen_now() + after_ns;
    while (fen_now() < until)
        fen_yield();
    fen_sock_close(p[0]);
    must_equal(fen_scope_close(scope), 0);
    must_equal(u.rc, -EBADF);
    if (stream)
        must_equal(w.rc, -EBADF);
    fen_sock_close(p[1]);
}

#if defined(FEN__TSAN) || defined(FEN__ASAN)
enum { CLOSINGS = 400, CYCLES = 4000 };
#else
enum { CLOSINGS = 4000, CYCLES = 100000 };
#endif

static int close_at_random(void *arg)
{
    (void)arg;
    uint64_t r = 11;
    for (int i = 0; i < CLOSINGS; i++)
        close_while(i, (int64_t)(fen__rand(&r) % 20000));
    return 0;
}

static void test_close_while_in_use(void **state)
{
    (void)state;
    run_clean(close_at_random, NULL, 2);
    run_clean(close_at_random, NULL, 3);
}

/* ---- shutdown as the way to stop a loop; a cancelled scope ---- */

static void loop(void *arg)
{
    struct user *u = arg;
    do {
        use_until_error(u);
    } while (u->rc > 0 || u->rc == -EAGAIN);
}

static int stop_loops(void *arg)
{
    (void)arg;
    for (int kind = 0; kind < 4; kind++) {
        fen_sock *p[2] = {NULL, NULL};
        if (kind == 2)
            must_equal(fen_sock_listen("unix:@fen-stop", NULL, &p[0]), 0);
        else if (kind == 3)
            must_equal(fen_sock_bind("127.0.0.1:0", NULL, &p[0]), 0);
        else
            must_equal(fen_sock_pair(false, p), 0);
        struct user u = {.sock = p[0], .kind = kind};
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(loop, &u), 0);
        must_equal(fen_sleep(FEN_MS), 0);
        int rc = fen_sock_shutdown(p[0], FEN_SHUT_BOTH);
        must(rc == 0 ||
             (kind == 3 && rc == -ENOTCONN)); /* it stops an unconnected UDP all the same */
        must_equal(fen_scope_close(scope), 0);
        must_equal(u.rc, kind == 2 ? -EINVAL : 0);
        fen_sock_close(p[0]);
        fen_sock_close(p[1]);
        must_equal(fen_sock_pair(false, p), 0);
        u = (struct user){.sock = p[0], .kind = kind == 2 ? 0 : kind};
        scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(use_until_error, &u), 0);
        must_equal(fen_sleep(FEN_MS), 0);
        fen_scope_cancel(scope);
        must_equal(fen_scope_close(scope), -ECANCELED);
        must_equal(u.rc, -ECANCELED);
        fen_sock_close(p[0]);
        fen_sock_close(p[1]);
    }
    return 0;
}

static void test_stopping(void **state)
{
    (void)state;
    run_clean(stop_loops, NULL, 2);
}

/* ---- short of descriptors ---- */

static _Atomic int accepts;

static int no_descriptors(const char *call)
{
    if (strcmp(call, "accept"))
        return 0;
    atomic_fetch_add(&accepts, 1);
    return -EMFILE;
}

static int short_of_descriptors(void *arg)
{
    (void)arg;
    fen_sock *l, *c, *s;
    must_equal(fen_sock_listen("unix:@fen-short", NULL, &l), 0);
    must_equal(fen_sock_dial("unix:@fen-short", NULL, soon(), &c), 0);
    fen__sys_fault = no_descriptors;
    int64_t end = fen_now() + 200 * FEN_MS;
    int rounds = 0, rc;
    for (; fen_now() < end; rounds++) {
        rc = fen_sock_accept(l, end, &s);
        must(rc == -EMFILE);
    }
    must(rounds < 20); /* 1 + 2 + 4 ... + 100 + 100 ms */
    must_equal(atomic_load(&accepts), rounds);
    must_equal(fen_sock_accept(l, 0, &s), -EMFILE); /* without waiting */
    fen__sys_fault = NULL;
    must_equal(fen_sock_accept(l, soon(), &s), 0); /* and the connection is still there */
    must_equal(l->pause_ns, 0);
    fen_sock_close(s);
    fen_sock_close(c);
    fen_sock_close(l);
    return 0;
}

static void test_accept_backs_off(void **state)
{
    (void)state;
    run_clean(short_of_descriptors, NULL, 2);
}

/* A full listen queue of a Unix socket gives no event; dial waits all the same. */
static int full_queue(void *arg)
{
    (void)arg;
    fen_sock *l, *c[4], *late, *s;
    int n = 0, rc = 0;
    must_equal(fen_sock_listen("unix:@fen-full", &(fen_sock_config){.backlog = 1}, &l), 0);
    while (n < 4 && !(rc = fen_sock_dial("unix:@fen-full", NULL, 0, &c[n])))
        n++;
    must_equal(rc, -EAGAIN);
    must_equal(fen_sock_dial("unix:@fen-full", NULL, fen_now() + 5 * FEN_MS, &late), -ETIMEDOUT);
    must_equal(fen_sock_accept(l, soon(), &s), 0);
    must_equal(fen_sock_dial("unix:@fen-full", NULL, soon(), &late), 0);
    fen_sock_close(late);
    fen_sock_close(s);
    while (n > 0)
        fen_sock_close(c[--n]);
    fen_sock_close(l);
    return 0;
}

static void test_full_unix_queue(void **state)
{
    (void)state;
    run_clean(full_queue, NULL, 2);
}

/* ---- a peer that resets ---- */

static int resets(void *arg)
{
    (void)arg;
    fen_sock *l, *c, *s;
    char text[64], byte;
    must_equal(fen_tcp_listen("127.0.0.1:0", 0, &l), 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", fen_sock_port(l));
    for (int i = 0; i < 2; i++) {
        must_equal(fen_tcp_dial(text, soon(), &c), 0);
        must_equal(fen_tcp_accept(l, soon(), &s), 0);
        struct linger hard = {.l_onoff = 1};
        must_equal(setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
        fen_sock_close(s);
        ssize_t rc = i ? fen_sock_read(c, &byte, 1, soon()) : 0;
        for (int k = 0; !i && k < 1000 && rc >= 0; k++)
            rc = fen_sock_write(c, "x", 1, soon());
        must(rc == -ECONNRESET || (!i && rc == -EPIPE));
        must_equal(fen_sock_write(c, "x", 1, soon()), -EPIPE); /* no SIGPIPE */
        fen_sock_close(c);
    }
    fen_sock_close(l);
    return 0;
}

static void test_resets(void **state)
{
    (void)state;
    run_clean(resets, NULL, 2);
}

/* ---- many cycles ---- */

static void cycles(void *arg)
{
    char b;
    for (int i = *(int *)arg; i > 0; i--) {
        fen_sock *p[2];
        must_equal(fen_sock_pair(i % 2, p), 0);
        must_equal(fen_sock_write(p[0], "x", 1, soon()), 1);
        must_equal(fen_sock_read(p[1], &b, 1, soon()), 1);
        fen_sock_close(p[i % 3 == 0]);
        fen_sock_close(p[i % 3 != 0]);
    }
}

static int all_cycles(void *arg)
{
    (void)arg;
    int n = CYCLES / 4;
    fen_stats st;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 4; i++)
        must_equal(fen_go(cycles, &n), 0);
    must_equal(fen_scope_close(scope), 0);
    fen_stats_get(&st);
    must_equal(st.fds_live, 0);
    return 0;
}

static void test_many_cycles(void **state)
{
    (void)state;
    run_clean(all_cycles, NULL, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_texts),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_no_socket_without_a_run),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_sources_and_adopted),
        cmocka_unit_test(test_reuse_port),
        cmocka_unit_test(test_datagrams),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_close_does_not_pull_the_descriptor_away),
        cmocka_unit_test(test_close_while_in_use),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_accept_backs_off),
        cmocka_unit_test(test_full_unix_queue),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_many_cycles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
