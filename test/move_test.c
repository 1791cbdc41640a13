/* move_test.c - zero copy, files and streams moved inside the kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault.h"
#include "fiber_check.h"

#include <stdio.h>

enum { BYTES = 3 << 20 };

static unsigned char *noise(void)
{
    unsigned char *p = malloc(BYTES);
    uint64_t r = 7;
    for (size_t i = 0; i < BYTES; i += 8) {
        uint64_t v = fen__rand(&r);
        memcpy(p + i, &v, 8);
    }
    return p;
}

static void tcp_pair(fen_sock *ret[2])
{
    fen_sock *l;
    char text[64];
    must_equal(fen_tcp_listen("127.0.0.1:0", 0, &l), 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", fen_sock_port(l));
    must_equal(fen_tcp_dial(text, soon(), &ret[0]), 0);
    must_equal(fen_tcp_accept(l, soon(), &ret[1]), 0);
    fen_sock_close(l);
}

struct sink {
    fen_sock *sock;
    const unsigned char *want;
    size_t got;
    ssize_t rc;
};

static void read_all(void *arg)
{
    struct sink *k = arg;
    static unsigned char buf[2][65536];
    unsigned char *mine = buf[k->want == NULL];
    while ((k->rc = fen_sock_read(k->sock, mine, sizeof buf[0], soon())) > 0) {
        if (k->want)
            must_equal(memcmp(mine, k->want + k->got, (size_t)k->rc), 0);
        k->got += (size_t)k->rc;
    }
}

/* ---- zero copy ---- */

static int zero_copy(void *arg)
{
    unsigned char *bytes = arg;
    fen_sock *p[2];
    uint64_t sends, copied;
    tcp_pair(p);
    struct sink k = {.sock = p[1], .want = bytes};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_all, &k), 0);
    must_equal(fen_sock_write_zc(p[0], bytes, 100, soon()), 100); /* too small: a plain write */
    fen_sock_zc_count(p[0], &sends, &copied);
    must_equal((int64_t)sends, 0);
    must_equal(fen_sock_write_zc(p[0], bytes + 100, BYTES - 100, soon()), BYTES - 100);
    fen_sock_zc_count(p[0], &sends, &copied);
    must(sends >= 3);
    must_equal((int64_t)p[0]->zc_done, (int64_t)sends); /* the buffer is ours again */
    must_equal((int64_t)copied, (int64_t)sends);        /* a peer on this machine: always copied */
    must_equal(fen_sock_shutdown(p[0], FEN_SHUT_WRITE), 0);
    must_equal(fen_scope_close(scope), 0);
    must_equal((int64_t)k.got, BYTES);
    fen_sock_close(p[0]);
    fen_sock_close(p[1]);
    must_equal(fen_sock_pair(false, p), 0); /* not TCP: a plain write */
    k = (struct sink){.sock = p[1], .want = bytes};
    scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_all, &k), 0);
    must_equal(fen_sock_write_zc(p[0], bytes, BYTES, soon()), BYTES);
    fen_sock_zc_count(p[0], &sends, &copied);
    must_equal((int64_t)sends, 0);
    fen_sock_close(p[0]);
    must_equal(fen_scope_close(scope), 0);
    fen_sock_close(p[1]);
    return 0;
}

/* The kernel said "copied" often enough: plain writes from then on. */
static int gives_up(void *arg)
{
    unsigned char *bytes = arg;
    fen_sock *p[2];
    uint64_t sends, copied, last = 0;
    tcp_pair(p);
    struct sink k = {.sock = p[1]};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_all, &k), 0);
    for (int i = 0; i < 100; i++) {
        fen_sock_zc_count(p[0], &last, &copied);
        must_equal(fen_sock_write_zc(p[0], bytes, 20000, soon()), 20000);
    }
    fen_sock_zc_count(p[0], &sends, &copied);
    must(sends == last && sends >= 16 && sends < 60);
    fen_sock_close(p[0]);
    must_equal(fen_scope_close(scope), 0);
    must_equal((int64_t)k.got, 2000000);
    fen_sock_close(p[1]);
    return 0;
}

/* Nobody reads: the deadline comes, the connection is reset and the buffer is ours. */
static int gets_the_buffer_back(void *arg)
{
    unsigned char *bytes = arg;
    for (int how = 0; how < 3; how++) {
        fen_sock *p[2];
        char byte;
        tcp_pair(p);
        fen_scope *scope = fen_scope_open(how == 1 ? fen_now() + 20 * FEN_MS : FEN_NEVER);
        if (how == 2)
            fen_scope_cancel(scope);
        int64_t deadline = how == 0 ? fen_now() + 20 * FEN_MS : FEN_NEVER;
        ssize_t rc = 0;
        for (int i = 0; i < 100 && rc >= 0; i++)
            rc = fen_sock_write_zc(p[0], bytes, BYTES, deadline);
        must_equal(rc, how == 2 ? -ECANCELED : -ETIMEDOUT);
        must(p[0]->zc_sends > 0 && p[0]->zc_done == p[0]->zc_sends);
        must_equal(fen_scope_close(scope), how == 0 ? 0 : rc);
        ssize_t got;
        while ((got = fen_sock_read(p[1], bytes, BYTES, soon())) > 0)
            ;
        must(got == -ECONNRESET || got == 0);
        must(fen_sock_write(p[0], "x", 1, soon()) < 0);
        must(fen_sock_read(p[0], &byte, 1, soon()) <= 0);
        fen_sock_close(p[0]);
        fen_sock_close(p[1]);
    }
    return 0;
}

struct writer {
    fen_sock *sock;
    unsigned char *bytes;
    ssize_t rc;
};

static void write_much(void *arg)
{
    struct writer *w = arg;
    do
        w->rc = fen_sock_write_zc(w->sock, w->bytes, BYTES, soon());
    while (w->rc > 0);
}

static int closed_meanwhile(void *arg)
{
    fen_sock *p[2];
    tcp_pair(p);
    struct writer w = {.sock = p[0], .bytes = arg};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(write_much, &w), 0);
    must_equal(fen_sleep(20 * FEN_MS), 0);
    fen_sock_close(p[0]); /* it is inside, and waits for room */
    must_equal(fen_scope_close(scope), 0);
    must_equal(w.rc, -EBADF);
    fen_sock_close(p[1]);
    return 0;
}

static void test_zero_copy(void **state)
{
    (void)state;
    unsigned char *bytes = noise();
    run_clean(zero_copy, bytes, 2);
    run_clean(gives_up, bytes, 2);
    run_clean(gets_the_buffer_back, bytes, 2);
    run_clean(closed_meanwhile, bytes, 2);
    free(bytes);
}

/* ---- files ---- */

static int temporary(const unsigned char *bytes)
{
    char path[] = "/tmp/fen-move-XXXXXX";
    int fd = mkstemp(path);
    must(fd >= 0);
    must_equal(unlink(path), 0);
    must_equal(write(fd, bytes, BYTES), BYTES);
    return fd;
}

static int send_files(void *arg)
{
    unsigned char *bytes = arg;
    int file = temporary(bytes);
    for (int tcp = 0; tcp < 2; tcp++) {
        fen_sock *p[2];
        if (tcp)
            tcp_pair(p);
        else
            must_equal(fen_sock_pair(false, p), 0);
        struct sink k = {.sock = p[1], .want = bytes + 1000};
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(read_all, &k), 0);
        must_equal(fen_sock_send_file(p[0], file, 1000, 5000, soon()), 5000);
        must_equal(fen_sock_send_file(p[0], file, 6000, SIZE_MAX / 2, soon()), BYTES - 6000);
        must_equal(fen_sock_send_file(p[0], file, BYTES, 10, soon()), 0);
        fen_sock_shutdown(p[0], FEN_SHUT_WRITE);
        must_equal(fen_scope_close(scope), 0);
        must_equal((int64_t)k.got, BYTES - 1000);
        fen_sock_close(p[0]);
        fen_sock_close(p[1]);
        must_equal(fen_sock_pair(false, p), 0);
        must_equal(fen_sock_send_file(p[0], file, 0, BYTES, fen_now() + 5 * FEN_MS), -ETIMEDOUT);
        fen_sock_close(p[1]);
        must_equal(fen_sock_send_file(p[0], file, 0, BYTES, soon()), -EPIPE); /* no SIGPIPE */
        fen_sock_close(p[0]);
    }
    close(file);
    return 0;
}

static void test_send_file(void **state)
{
    (void)state;
    unsigned char *bytes = noise();
    run_clean(send_files, bytes, 2);
    free(bytes);
}

/* ---- a proxy ---- */

struct proxy {
    fen_sock *from, *to;
    size_t n;
    ssize_t rc;
};

static void relay(void *arg)
{
    struct proxy *x = arg;
    x->rc = fen_sock_splice(x->from, x->to, x->n, soon());
    if (x->rc >= 0)
        fen_sock_shutdown(x->to, FEN_SHUT_WRITE);
}

static int proxies(void *arg)
{
    unsigned char *bytes = arg;
    fen_sock *a[2], *b[2];
    for (int tcp = 0; tcp < 2; tcp++) {
        if (tcp) {
            tcp_pair(a);
            tcp_pair(b);
        } else {
            must_equal(fen_sock_pair(false, a), 0);
            must_equal(fen_sock_pair(false, b), 0);
        }
        struct sink k = {.sock = b[1], .want = bytes};
        struct proxy x = {.from = a[1], .to = b[0], .n = tcp ? SIZE_MAX : BYTES - 5};
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(read_all, &k), 0);
        must_equal(fen_go(relay, &x), 0);
        must_equal(fen_sock_write(a[0], bytes, BYTES, soon()), BYTES);
        fen_sock_shutdown(a[0], FEN_SHUT_WRITE);
        must_equal(fen_scope_close(scope), 0);
        must_equal(x.rc, tcp ? BYTES : BYTES - 5);
        must_equal((int64_t)k.got, x.rc);
        char rest[8];
        must_equal(fen_sock_read(a[1], rest, sizeof rest, soon()), tcp ? 0 : 5);
        for (int i = 0; i < 2; i++) {
            fen_sock_close(a[i]);
            fen_sock_close(b[i]);
        }
    }
    return 0;
}

static int proxy_ends(void *arg)
{
    (void)arg;
    fen_sock *a[2], *b[2];
    must_equal(fen_sock_pair(false, a), 0);
    must_equal(fen_sock_pair(false, b), 0);
    must_equal(fen_sock_splice(a[1], b[0], 10, fen_now() + FEN_MS), -ETIMEDOUT);
    must_equal(fen_sock_splice(a[1], b[0], 10, 0), -EAGAIN);
    must_equal(fen_sock_splice(a[1], b[0], 0, soon()), 0);
    struct proxy x = {.from = a[1], .to = b[0], .n = 10};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(relay, &x), 0);
    must_equal(fen_sleep(FEN_MS), 0);
    fen_sock_close(a[1]);
    must_equal(fen_scope_close(scope), 0);
    must_equal(x.rc, -EBADF);
    fen_sock_close(a[0]);
    must_equal(fen_sock_pair(false, a), 0);
    fen_sock_close(b[1]);
    must_equal(fen_sock_write(a[0], "lost", 4, soon()), 4);
    must_equal(fen_sock_splice(a[1], b[0], 10, soon()), -EPIPE); /* no SIGPIPE */
    fen_sock_close(a[0]);
    fen_sock_close(a[1]);
    fen_sock_close(b[0]);
    return 0;
}

/* Who waits for bytes has no pipe: many quiet transfers need no descriptors of their own. */
static int quiet_ones(void *arg)
{
    enum { N = 100, PIPES = 32 }; /* more than are kept */
    static fen_sock *a[N][2], *b[N][2];
    static struct proxy x[N];
    (void)arg;
    for (int i = 0; i < N; i++) {
        must_equal(fen_sock_pair(false, a[i]), 0);
        must_equal(fen_sock_pair(false, b[i]), 0);
    }
    int before = count_fds();
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < N; i++) {
        x[i] = (struct proxy){.from = a[i][1], .to = b[i][0], .n = SIZE_MAX};
        must_equal(fen_go(relay, &x[i]), 0);
    }
    must_equal(fen_sleep(20 * FEN_MS), 0);
    must(count_fds() - before <= 2 * PIPES);
    for (int i = 0; i < N; i++) { /* each is still at work */
        char got[8];
        must_equal(fen_sock_write(a[i][0], "hello", 5, soon()), 5);
        must_equal(fen_sock_read(b[i][1], got, sizeof got, soon()), 5);
        must_equal(memcmp(got, "hello", 5), 0);
        fen_sock_close(a[i][0]);
    }
    must_equal(fen_scope_close(scope), 0);
    must(count_fds() - before + N <= 2 * PIPES);
    for (int i = 0; i < N; i++) {
        must_equal(x[i].rc, 5);
        fen_sock_close(a[i][1]);
        fen_sock_close(b[i][0]);
        fen_sock_close(b[i][1]);
    }
    return 0;
}

/* The only pipe is in another transfer, which is stuck, and there is no descriptor for a second
 * one: what has begun goes on when there is. */
static int short_of_pipes(void *arg)
{
    fen_sock *a[2], *b[2], *c[2], *d[2];
    char got[8];
    must_equal(fen_sock_pair(false, a), 0);
    must_equal(fen_sock_pair(false, b), 0);
    must_equal(fen_sock_pair(false, c), 0);
    must_equal(fen_sock_pair(false, d), 0);
    struct proxy x = {.from = a[1], .to = b[0], .n = SIZE_MAX},
                 y = {.from = c[1], .to = d[0], .n = SIZE_MAX};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(relay, &x), 0);
    must_equal(fen_sleep(5 * FEN_MS), 0);
    must_equal(fen_go(relay, &y), 0); /* nobody reads d[1] */
    must_equal(fen_sock_write(c[0], arg, BYTES, fen_now() + 20 * FEN_MS), -ETIMEDOUT);
    fault_arm("pipe", -EMFILE, 1);
    must_equal(fen_sock_write(a[0], "hello", 5, soon()), 5);
    must_equal(fen_sock_read(b[1], got, sizeof got, soon()), 5);
    must(fault_disarm());
    fen_sock_close(a[0]);
    fen_sock_close(d[1]);
    must_equal(fen_scope_close(scope), 0);
    must_equal(x.rc, 5);
    must_equal(y.rc, -EPIPE);
    fen_sock *rest[] = {a[1], b[0], b[1], c[0], c[1], d[0]};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        fen_sock_close(rest[i]);
    return 0;
}

static void test_splice(void **state)
{
    (void)state;
    unsigned char *bytes = noise();
    run_clean(proxies, bytes, 2);
    run_clean(proxy_ends, NULL, 2);
    run_clean(quiet_ones, NULL, 2);
    fault_begin();
    run_clean(short_of_pipes, bytes, 1);
    fault_end();
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_copy),
        cmocka_unit_test(test_send_file),
        cmocka_unit_test(test_splice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
