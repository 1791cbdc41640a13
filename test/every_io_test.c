/* every_io_test.c - every n-th failing call in each public function of sockets, files, children,
 * signals and the server: EVERY_IO of every.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "every_rig.h"

#include <fen/file.h>
#include <fen/http.h>
#include <fen/io.h>
#include <fen/net.h>
#include <fen/process.h>
#include <fen/signal.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define WAIT (fen_now() + 20 * FEN_S)

/* ---- sockets ---- */

static int addresses(void *arg)
{
    (void)arg;
    fen_addr a;
    char text[FEN_ADDR_TEXT];
    TRY(0, fen_addr_parse, ("127.0.0.1:80", &a));
    MUST(SEE(fen_addr_text, (&a, text, sizeof text)) > 0);
    MUST(SEE(fen_addr_port, (&a)) == 80);
    return 0;
}

/* A listener and a connection to it, without a fault. */
static void connected(fen_sock **ret_listener, fen_sock **ret_client)
{
    fen_addr a;
    char text[FEN_ADDR_TEXT];
    MUST(fen_sock_listen("127.0.0.1:0", NULL, ret_listener) == 0);
    MUST(fen_sock_local(*ret_listener, &a) == 0);
    MUST(fen_addr_text(&a, text, sizeof text) > 0);
    MUST(fen_sock_dial(text, NULL, WAIT, ret_client) == 0);
}

/* Each attempt at a dial may leave a connection in the listener, which goes with it. */
static int dialling(void *arg)
{
    (void)arg;
    fen_addr a;
    char text[FEN_ADDR_TEXT];
    fen_sock *l, *t, *c, *d, *u;
    TRY(0, fen_sock_listen, ("127.0.0.1:0", NULL, &l));
    TRY(0, fen_tcp_listen, ("127.0.0.1:0", 16, &t));
    int port = 0;
    do
        port = SEE(fen_sock_port, (l));
    while (every_failed(port > 0 ? 0 : port, 0));
    TRY(0, fen_sock_local, (l, &a));
    MUST(fen_addr_text(&a, text, sizeof text) > 0);
    TRY(0, fen_sock_dial, (text, NULL, WAIT, &c));
    TRY(0, fen_tcp_dial, (text, WAIT, &d));
    TRY(0, fen_sock_bind, ("127.0.0.1:0", NULL, &u));
    TRY(0, fen_sock_peer, (c, &a));
    TRY(0, fen_sock_configure, (c, &(fen_sock_config){.nagle = true}));
    TRY(0, fen_sock_shutdown, (c, FEN_SHUT_BOTH));
    DO(fen_sock_close, (c));
    fen_sock_close(d);
    fen_sock_close(u);
    fen_sock_close(l);
    fen_sock_close(t);
    return 0;
}

/* A connection that was accepted and could not be kept is gone: each attempt has its own. */
static void accepts(bool tcp)
{
    fen_sock *l, *c, *s = NULL;
    int rc;
    do {
        connected(&l, &c);
        rc = tcp ? SEE(fen_tcp_accept, (l, WAIT, &s)) : SEE(fen_sock_accept, (l, WAIT, &s));
        if (rc == 0)
            fen_sock_close(s);
        fen_sock_close(c);
        fen_sock_close(l);
    } while (every_failed(rc, 0));
}

static int accepting(void *arg)
{
    (void)arg;
    fen_sock *s;
    accepts(false);
    accepts(true);
    int fd[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    TRY(0, fen_sock_adopt, (fd[0], &s));
    fen_sock_close(s);
    close(fd[1]);
    fen_sock *pair[2];
    TRY(0, fen_sock_pair, (false, pair));
    fen_sock_close(pair[0]);
    fen_sock_close(pair[1]);
    return 0;
}

#define BULK (512 << 10) /* more than the kernel takes at once */
static char bytes[BULK];

static void swallow(void *arg)
{
    char waste[16384];
    while (fen_sock_read(arg, waste, sizeof waste, WAIT) > 0)
        ;
}

/* A write that failed half-way leaves a stream of no use: each attempt has its own. */
static void writes_zc(void)
{
    fen_sock *l, *c, *s;
    uint64_t sends, copied;
    bool again;
    do {
        connected(&l, &c);
        MUST(fen_sock_accept(l, WAIT, &s) == 0);
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        MUST(fen_go(swallow, s) == 0);
        /* a lost report of what the kernel is done with ends at the deadline */
        again = SPOILT(BULK, fen_sock_write_zc, (c, bytes, BULK, fen_now() + FEN_S));
        DO(fen_sock_zc_count, (c, &sends, &copied));
        fen_sock_shutdown(c, FEN_SHUT_BOTH);
        (void)fen_scope_close(scope);
        fen_sock_close(s);
        fen_sock_close(c);
        fen_sock_close(l);
    } while (again);
}

/* A write that failed may have been sent in part: its reader takes what comes. */
static int writing(void *arg)
{
    (void)arg;
    fen_sock *l, *c, *s;
    struct iovec iov[2] = {{bytes, 100}, {bytes, BULK - 100}};
    connected(&l, &c);
    MUST(fen_sock_accept(l, WAIT, &s) == 0);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    MUST(fen_go(swallow, s) == 0);
    TRY(BULK, fen_sock_write, (c, bytes, BULK, WAIT));
    writes_zc();
    TRY(BULK, fen_sock_writev, (c, iov, 2, WAIT));
    int file = fen_file_open("/proc/self/exe", O_RDONLY, 0);
    MUST(file >= 0);
    TRY(4096, fen_sock_send_file, (c, file, 0, 4096, WAIT));
    MUST(fen_file_close(file) == 0);
    MUST(fen_sock_shutdown(c, FEN_SHUT_WRITE) == 0);
    MUST(fen_scope_close(scope) == 0);
    fen_sock_close(s);
    fen_sock_close(c);
    fen_sock_close(l);
    return 0;
}

static void says_later(void *arg)
{
    MUST(fen_sleep(FEN_MS) == 0);
    MUST(fen_sock_write(arg, "hello", 5, WAIT) == 5);
}

static int reading(void *arg)
{
    (void)arg;
    char buf[8];
    fen_sock *p[2], *q[2];
    struct iovec iov[2] = {{buf, 2}, {buf + 2, 6}};
    MUST(fen_sock_pair(false, p) == 0 && fen_sock_pair(false, q) == 0);
    MUST(fen_go(says_later, p[0]) == 0);
    TRY(5, fen_sock_read, (p[1], buf, sizeof buf, WAIT));
    MUST(fen_go(says_later, p[0]) == 0);
    TRY(5, fen_sock_readv, (p[1], iov, 2, WAIT));
    fen_scope *s = fen_scope_open(FEN_NEVER); /* a fault must not eat what was to be spliced */
    MUST(fen_sock_write(p[0], "hellohello", 10, WAIT) == 10);
    TRY(5, fen_sock_splice, (p[1], q[0], 5, WAIT));
    MUST(fen_scope_close(s) == 0);
    for (int i = 0; i < 2; i++) {
        fen_sock_close(p[i]);
        fen_sock_close(q[i]);
    }
    return 0;
}

static int datagrams(void *arg)
{
    (void)arg;
    fen_sock *a, *b = NULL;
    fen_addr to, from;
    char buf[16];
    MUST(fen_sock_bind("127.0.0.1:0", NULL, &a) == 0 &&
         fen_sock_bind("127.0.0.1:0", NULL, &b) == 0);
    MUST(fen_sock_local(a, &to) == 0);
    TRY(1, fen_sock_send_to, (b, "x", 1, &to, WAIT));
    TRY(1, fen_sock_recv_from, (a, buf, sizeof buf, &from, WAIT));
    fen_sock_close(a);
    fen_sock_close(b);
    return 0;
}

/* ---- files, descriptors, the pool ---- */

static int files(void *arg)
{
    static const char path[] = "/tmp/fen-every-file", to[] = "/tmp/fen-every-file-2";
    (void)arg;
    char buf[8];
    fen_file_info info;
    int fd = -1;
    do {
        every_begin("fen_file_open");
        fd = fen_file_open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
        every_end();
    } while (every_failed(fd < 0 ? fd : 0, 0));
    TRY(5, fen_file_write, (fd, "hello", 5));
    TRY(1, fen_file_pwrite, (fd, "J", 1, 0));
    TRY(5, fen_file_pread, (fd, buf, sizeof buf, 0));
    TRY(0, fen_file_read, (fd, buf, sizeof buf));
    TRY(0, fen_file_sync, (fd, true));
    TRY(0, fen_file_truncate, (fd, 1));
    TRY(0, fen_file_fstat, (fd, &info));
    TRY(0, fen_file_stat, (path, &info));
    TRY(0, fen_file_close, (fd));
    TRY(0, fen_file_rename, (path, to));
    TRY(0, fen_file_unlink, (to));
    return 0;
}

static void writes_later(void *arg)
{
    MUST(fen_sleep(300 * FEN_US) == 0);
    MUST(write(*(int *)arg, "x", 1) == 1);
}

static int seven(void *arg)
{
    *(int *)arg += 1;
    return 7;
}

static int guests(void *arg)
{
    (void)arg;
    int fd[2], ran = 0;
    MUST(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    MUST(s && fen_go(writes_later, &fd[1]) == 0);
    TRY(FEN_FD_READ, fen_fd_wait, (fd[0], FEN_FD_READ, WAIT));
    DO(fen_fd_forget, (fd[0]));
    MUST(fen_scope_close(s) == 0);
    close(fd[0]);
    close(fd[1]);
    TRY(7, fen_blocking, (seven, &ran));
    MUST(ran == 1); /* one that failed has not run */
    return 0;
}

/* ---- children and signals ---- */

static int children(void *arg)
{
    (void)arg;
    const char *argv[] = {"/bin/sh", "-c", "read x; echo $x; exit 7", NULL};
    const char *quick[] = {"/bin/true", NULL};
    fen_process_config cfg = {.argv = argv,
                              .io = {{FEN_IO_PIPE, 0}, {FEN_IO_PIPE, 0}, {FEN_IO_NULL, 0}}};
    fen_process *p;
    fen_process_status st;
    char buf[8];
    TRY(0, fen_process_open, (&cfg, &p));
    MUST(SEE(fen_process_pid, (p)) > 0);
    TRY(3, fen_process_write, (p, "ok\n", 3, WAIT));
    TRY(3, fen_process_read, (p, 1, buf, sizeof buf, WAIT));
    DO(fen_process_close_input, (p));
    MUST(fen_process_wait(p, WAIT, &st) == 0 && st.code == 7);
    DO(fen_process_close, (p));
    TRY(0, fen_process_run, (&(fen_process_config){.argv = quick}, WAIT, &st));
    MUST(fen_process_open(&cfg, &p) == 0);
    TRY(0, fen_process_kill, (p, SIGKILL));
    fen_process_close(p);
    return 0;
}

/* The first deadline of its run, and the child is not there yet. */
static int reaping(void *arg)
{
    (void)arg;
    const char *argv[] = {"/bin/sh", "-c", "sleep 0.05; exit 7", NULL};
    fen_process *p;
    fen_process_status st;
    MUST(fen_process_open(&(fen_process_config){.argv = argv}, &p) == 0);
    TRY(0, fen_process_wait, (p, WAIT, &st));
    MUST(st.code == 7);
    fen_process_close(p);
    return 0;
}

static int signalled(void *arg)
{
    (void)arg;
    int usr1 = SIGUSR1, got = 0;
    fen_signal *s;
    TRY(0, fen_signal_open, (&usr1, 1, &s));
    raise(SIGUSR1);
    MUST(fen_chan_recv_until(SEE(fen_signal_chan, (s)), &got, WAIT) == 0 && got == SIGUSR1);
    DO(fen_signal_close, (s));
    return 0;
}

/* ---- the server ---- */

/* Large replies, which do not fit into what the connection has. */
static void encode_bulk(fen_buf *b, const void *bulk)
{
    fen_json_value_string(b, (fen_slice){bulk, 100000});
}

static int plain(fen_exchange *x, void *arg)
{
    int64_t i;
    fen_slice q;
    (void)arg;
    MUST(SEE(fen_method, (x)).n == 4 && SEE(fen_path, (x)).n == 4);
    MUST(SEE(fen_path_value, (x, "id")).n == 1);
    MUST(SEE(fen_path_i64, (x, "id", &i)) == 0 && i == 7);
    MUST(SEE(fen_query_value, (x, "q", &q)) == 0 && q.n == 1);
    MUST(SEE(fen_query_i64, (x, "n", &i)) == 0 && i == 5);
    MUST(SEE(fen_header, (x, "host")).n == 1);
    bool here = SEE(fen_exchange_local, (x)); /* who cannot be asked is not from here */
    MUST(here != atomic_load(&every.hit));
    MUST(SEE(fen_body, (x)).n == 2);
    MUST(SEE(fen_exchange_arena, (x)) != NULL);
    DO(fen_exchange_timeout, (x, 10 * FEN_S));
    TRY(0, fen_reply_header, (x, "X-Thing", "a value"));
    return (int)TRY(0, fen_reply, (x, 200, "text/plain", (fen_slice){bytes, BULK}));
}

static char why[100000];

static int refuses(fen_exchange *x, void *arg)
{
    (void)arg;
    return (int)TRY(0, fen_reply_error, (x, 418, why));
}

static int json(fen_exchange *x, void *arg)
{
    (void)arg;
    return (int)TRY(0, fen_reply_json, (x, 200, encode_bulk, bytes));
}

static void serves(void *arg) { MUST(fen_server_serve(arg, "127.0.0.1:0") == 0); }

static void asks(fen_server *s, const char *request, const char *want)
{
    char text[32], got[64] = "", rest[4096];
    fen_sock *c;
    size_t n = 0;
    ssize_t more;
    snprintf(text, sizeof text, "127.0.0.1:%d", fen_server_port(s));
    MUST(fen_sock_dial(text, NULL, WAIT, &c) == 0);
    MUST(fen_sock_write(c, request, strlen(request), WAIT) > 0);
    while (n < sizeof got - 1 && (more = fen_sock_read(c, got + n, sizeof got - 1 - n, WAIT)) > 0)
        n += (size_t)more;
    MUST(strstr(got, want) || (every.met && !n)); /* no memory: the connection ends */
    while (fen_sock_read(c, rest, sizeof rest, WAIT) > 0)
        ;
    fen_sock_close(c);
}

static int exchanges(void *arg)
{
    const char *pattern;
    (void)arg;
    memset(why, 'w', sizeof why - 1);
    fen_server *s = GET(fen_server_new, (NULL));
    TRY(0, fen_route, (s, "POST /p/{id}", plain, NULL));
    MUST(fen_route(s, "GET /no", refuses, NULL) == 0 && fen_route(s, "GET /js", json, NULL) == 0);
    MUST(SEE(fen_route_find, (s, FEN_SLICE("GET"), FEN_SLICE("/no"), &pattern)) == 200);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    MUST(fen_go(serves, s) == 0);
    while (!SEE(fen_server_port, (s)))
        MUST(fen_sleep(50 * FEN_US) == 0);
    asks(s,
         "POST /p/7?q=a&n=5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
         "2\r\n\r\nab",
         "HTTP/1.1 200 ");
    asks(s, "GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 418 ");
    asks(s, "GET /js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
         "HTTP/1.1 "); /* 500 without memory */
    DO(fen_server_stop, (s));
    MUST(fen_scope_close(scope) == 0);
    DO(fen_server_free, (s));
    return 0;
}

static void stops(void *arg)
{
    while (fen_scope_check(NULL) == 0 && !fen_server_port(arg))
        if (fen_sleep(50 * FEN_US))
            return;
    fen_server_stop(arg);
}

/* Each attempt has a server of its own. */
static void served(bool service)
{
    int64_t rc = 0;
    do {
        fen_server *s = fen_server_new(NULL);
        MUST(s != NULL);
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        MUST(fen_go(stops, s) == 0);
        rc = service ? SEE(fen_server_run, (s, &(fen_service_config){.addr = "127.0.0.1:0",
                                                                     .admin_addr = "",
                                                                     .quiet = true}))
                     : SEE(fen_server_serve, (s, "127.0.0.1:0"));
        fen_scope_cancel(scope);
        (void)fen_scope_close(scope);
        fen_server_free(s);
    } while (every_failed(rc, 0));
}

static int serving(void *arg)
{
    (void)arg;
    served(false);
    served(true);
    return 0;
}

static void test_io(void **state)
{
    static struct every_row rows[] = {EVERY_IO(EVERY_ROW)};
    static const struct every_scenario scenarios[] = {
        {"addresses", addresses, OUTSIDE}, {"dialling", dialling, INSIDE},
        {"accepting", accepting, INSIDE},  {"writing", writing, INSIDE},
        {"reading", reading, INSIDE},      {"datagrams", datagrams, INSIDE},
        {"files", files, INSIDE},          {"guests", guests, INSIDE},
        {"children", children, INSIDE},    {"signalled", signalled, INSIDE},
        {"reaping", reaping, INSIDE},      {"exchanges", exchanges, INSIDE},
        {"serving", serving, INSIDE},
    };
    (void)state;
    every_test(rows, sizeof rows / sizeof rows[0], scenarios,
               sizeof scenarios / sizeof scenarios[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_io)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
