/* drain_test.c - SIGTERM under load: no reset, no reply cut short, no request that had begun before
 * the signal without its reply.
 *
 * The server is a child process; the clients are plain sockets in one poll loop here. Three
 * kinds: kept alive, one request a connection, and idle. A client that was told to close, or finds
 * the port closed, retires. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rig.h"

#include <fcntl.h>
#include <sys/wait.h>

#define H "Host: x\r\n"
#define CLIENTS 48
#define REPETITIONS 20
#define REPLY_BYTES 20000

/* ---- the server ---- */

static int work(fen_exchange *x, void *arg)
{
    (void)arg;
    char *p = fen_arena_alloc(fen_exchange_arena(x), REPLY_BYTES);
    if (!p)
        return -ENOMEM;
    memset(p, 'w', REPLY_BYTES);
    int rc = fen_sleep(FEN_MS);
    return rc ? rc : fen_reply(x, 200, "text/plain", (fen_slice){p, REPLY_BYTES});
}

static int hello(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("hello"));
}

static int slow(fen_exchange *x, void *arg)
{
    (void)arg;
    int rc = fen_sleep(400 * FEN_MS);
    return rc ? rc : fen_reply(x, 200, "text/plain", FEN_SLICE("slow"));
}

static int stuck(fen_exchange *x, void *arg)
{
    (void)arg;
    int rc = fen_sleep(3600 * FEN_S);
    return rc ? rc : fen_reply(x, 200, NULL, (fen_slice){0});
}

static int64_t drain_timeout_ns;

static int service(void *arg)
{
    (void)arg;
    const fen_server_config cfg = {.drain_timeout_ns = drain_timeout_ns};
    fen_server *s = fen_server_new(&cfg);
    if (!s || fen_route(s, "GET /work", work, NULL) || fen_route(s, "GET /hello", hello, NULL) ||
        fen_route(s, "GET /slow", slow, NULL) || fen_route(s, "GET /stuck", stuck, NULL))
        return -ENOMEM;
    const fen_service_config run = {.addr = "127.0.0.1:0", .admin_addr = "", .quiet = true};
    int rc = fen_server_run(s, &run);
    fen_server_free(s);
    return rc;
}

struct server {
    pid_t pid;
    int port;
};

static struct server start_server(int64_t drain_ns)
{
    struct server s;
    int out[2];
    char line[128] = {0};
    drain_timeout_ns = drain_ns;
    assert_int_equal(pipe(out), 0);
    s.pid = fork();
    if (!s.pid) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        int rc = fen_run(service, NULL, &(fen_config){.procs = 2});
        _exit(rc ? 3 : 0);
    }
    close(out[1]);
    for (size_t n = 0; !strchr(line, '\n') && n + 1 < sizeof line; n++)
        assert_int_equal(read(out[0], line + n, 1), 1);
    close(out[0]);
    s.port = atoi(strrchr(line, ':') + 1);
    assert_true(s.port > 0);
    return s;
}

/* Waits for the server's end, at most RIG_WAIT_S; its exit code. */
static int ended(struct server *s)
{
    int status;
    for (int i = 0; i < RIG_WAIT_S * 200; i++) {
        if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
            s->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        }
        rig_nap(5 * FEN_MS);
    }
    kill(s->pid, SIGKILL);
    waitpid(s->pid, &status, 0);
    fail_msg("the server did not end after SIGTERM");
    return -1;
}

static int try_dial(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {.tv_sec = RIG_WAIT_S};
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!connect(fd, (struct sockaddr *)&a, sizeof a))
        return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

/* ---- clients ---- */

enum kind { KEPT, ONCE, IDLE };

struct client {
    enum kind kind;
    int fd;            /* -1: retired */
    bool dialing;      /* no answer to its handshake yet */
    bool waiting;      /* a request is out */
    bool early;        /* ... whose first byte went out before the signal */
    size_t have, want; /* bytes of the reply so far; want 0: the head is not whole yet */
    bool close_seen;
    char head[512];
};

static struct {
    bool signalled;
    int replies, resets, cut_short, early_lost, crossed, told, refused;
} seen;

static void retire(struct client *c)
{
    close(c->fd);
    c->fd = -1;
}

static void ask(struct client *c)
{
    const char *text = c->kind == ONCE ? "GET /work HTTP/1.1\r\n" H "Connection: close\r\n\r\n"
                                       : "GET /work HTTP/1.1\r\n" H "\r\n";
    c->early = !seen.signalled;
    c->waiting = true;
    c->have = c->want = 0;
    c->close_seen = false;
    if (send(c->fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
        seen.resets++;
        retire(c);
    }
}

static void dialed(struct client *c, int rc)
{
    c->dialing = false;
    if (rc == ECONNREFUSED && seen.signalled)
        seen.refused++;
    else if (rc)
        seen.resets++;
    if (rc)
        retire(c);
    else if (c->kind != IDLE)
        ask(c);
}

static void dial(struct client *c, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->waiting = false;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    c->dialing = true;
    int rc = connect(c->fd, (struct sockaddr *)&a, sizeof a) ? errno : 0;
    if (rc != EINPROGRESS)
        dialed(c, rc);
}

static void gone(struct client *c, ssize_t got)
{
    if (got < 0)
        seen.resets++;
    else if (c->waiting && c->have)
        seen.cut_short++;
    else if (c->waiting && c->early)
        seen.early_lost++;
    else if (c->waiting)
        seen.crossed++;
    retire(c);
}

static void head_part(struct client *c, const char *p, size_t n)
{
    size_t last = sizeof c->head - 1, room = last - (c->have < last ? c->have : last);
    memcpy(c->head + c->have, p, n < room ? n : room);
    c->head[c->have + (n < room ? n : room)] = 0;
    const char *end = strstr(c->head, "\r\n\r\n"), *length = strstr(c->head, "Content-Length: ");
    if (!end || !length)
        return;
    c->want = (size_t)(end + 4 - c->head) + (size_t)atol(length + 16);
    c->close_seen = strstr(c->head, "Connection: close") != NULL;
}

static void take(struct client *c, int port)
{
    char buf[65536];
    if (c->dialing) {
        int rc = 0;
        socklen_t len = sizeof rc;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &rc, &len);
        dialed(c, rc);
        return;
    }
    ssize_t got = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        gone(c, got);
        return;
    }
    if (!c->want)
        head_part(c, buf, (size_t)got);
    c->have += (size_t)got;
    if (!c->want || c->have < c->want)
        return;
    c->waiting = false;
    seen.replies++;
    seen.told += c->close_seen && c->kind == KEPT;
    if (c->kind == KEPT && !c->close_seen) {
        ask(c);
        return;
    }
    retire(c);
    if (c->kind == ONCE)
        dial(c, port);
}

static int poll_all(struct client *cs, int port, int timeout_ms)
{
    struct pollfd p[CLIENTS];
    int live = 0;
    for (int i = 0; i < CLIENTS; i++) {
        p[i] = (struct pollfd){.fd = cs[i].fd, .events = cs[i].dialing ? POLLOUT : POLLIN};
        live += cs[i].fd >= 0 && !cs[i].dialing;
    }
    if ((live || !seen.signalled) && poll(p, CLIENTS, timeout_ms) > 0)
        for (int i = 0; i < CLIENTS; i++)
            if (p[i].revents && cs[i].fd >= 0)
                take(&cs[i], port);
    return live;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void one_drain(int number)
{
    struct server s = start_server(0);
    struct client cs[CLIENTS];
    memset(&seen, 0, sizeof seen);
    memset(cs, 0, sizeof cs);
    for (int i = 0; i < CLIENTS; i++) {
        cs[i].kind = i % 4 == 0 ? IDLE : i % 4 == 1 ? ONCE : KEPT;
        dial(&cs[i], s.port);
    }
    int64_t end = now_ms() + 40 + number * 7 % 50;
    while (now_ms() < end)
        poll_all(cs, s.port, 5);
    seen.signalled = true;
    kill(s.pid, SIGTERM);
    end = now_ms() + RIG_WAIT_S * 1000;
    while (poll_all(cs, s.port, 50) && now_ms() < end)
        ;
    assert_int_equal(ended(&s), 0);
    assert_int_equal(try_dial(s.port), -ECONNREFUSED);
    for (int i = 0; i < CLIENTS; i++)
        if (cs[i].fd >= 0)
            retire(&cs[i]); /* its handshake was ignored: no answer, no reset */
    if (seen.resets || seen.cut_short || seen.early_lost || !seen.replies || !seen.told)
        fail_msg("repetition %d: %d replies, %d told to close; %d resets, %d cut short, %d lost, "
                 "%d crossed",
                 number, seen.replies, seen.told, seen.resets, seen.cut_short, seen.early_lost,
                 seen.crossed);
}

static void sigterm_under_load(void **state)
{
    (void)state;
    for (int i = 0; i < REPETITIONS; i++)
        one_drain(i);
}

/* ---- one connection at a time ---- */

static void begun_requests_are_finished(void **state)
{
    (void)state;
    struct server s = start_server(0);
    int begun = try_dial(s.port), waiting = try_dial(s.port), quiet = try_dial(s.port);
    assert_int_equal(rig_get(quiet, "/hello").status, 200);
    rig_say(begun, "GET /hel");
    rig_say(waiting, "GET /slow HTTP/1.1\r\n" H "\r\n");
    rig_nap(100 * FEN_MS);
    kill(s.pid, SIGTERM);
    rig_nap(50 * FEN_MS);
    struct rig_reply got = rig_get(quiet, "/hello"); /* within the grace */
    assert_int_equal(got.status, 200);
    assert_true(got.close);
    rig_ended(quiet, "idle and then not");
    got = rig_read(waiting, true);
    assert_string_equal(got.body, "slow");
    assert_true(got.close);
    kill(s.pid, SIGTERM); /* a second one changes nothing */
    rig_nap(200 * FEN_MS);
    rig_say(begun, "lo HTTP/1.1\r\n" H "\r\n");
    got = rig_read(begun, true);
    assert_string_equal(got.body, "hello");
    assert_true(got.close);
    rig_ended(begun, "begun before the signal");
    assert_int_equal(ended(&s), 0);
    close(begun);
    close(waiting);
    close(quiet);
}

/* More requests than the server has read when it decides to close: the reply must survive them. */
static void pipelined_at_the_signal(void **state)
{
    (void)state;
    struct server s = start_server(0);
    int fd = try_dial(s.port);
    rig_say(fd, "GET /slow HTTP/1.1\r\n" H "\r\n");
    rig_nap(50 * FEN_MS);
    kill(s.pid, SIGTERM);
    rig_nap(100 * FEN_MS);
    for (int i = 0; i < 20; i++)
        rig_say(fd, "GET /hello HTTP/1.1\r\n" H "\r\n");
    struct rig_reply got = rig_read(fd, true);
    assert_string_equal(got.body, "slow");
    assert_true(got.close && got.whole);
    rig_ended(fd, "pipelined");
    close(fd);
    assert_int_equal(ended(&s), 0);
}

/* A peer that sends without end after the server has shut its side is not listened to for ever. */
static void a_flood_does_not_hold_the_drain(void **state)
{
    (void)state;
    static char flood[65536];
    struct server s = start_server(0);
    int fd = try_dial(s.port);
    assert_int_equal(rig_get(fd, "/hello").status, 200);
    kill(s.pid, SIGTERM);
    rig_ended(fd, "idle at the signal");
    int64_t began = now_ms();
    while (now_ms() - began < RIG_WAIT_S * 1000 && rig_send(fd, flood, sizeof flood))
        ;
    assert_true(now_ms() - began < 8000); /* the drain's time-out is 10 s */
    close(fd);
    assert_int_equal(ended(&s), 0);
}

/* said: a request of a handler that never ends by itself, perhaps with more behind it. */
static void cut(const char *said)
{
    struct server s = start_server(500 * FEN_MS);
    int fd = try_dial(s.port);
    rig_say(fd, said);
    rig_nap(50 * FEN_MS);
    int64_t began = now_ms();
    kill(s.pid, SIGTERM);
    assert_int_equal(ended(&s), 0);
    assert_true(now_ms() - began >= 400);
    close(fd);
}

static void a_stuck_handler_is_cut(void **state)
{
    (void)state;
    cut("GET /stuck HTTP/1.1\r\n" H "\r\n");
}

static void a_stuck_handler_with_bytes_behind_it_is_cut(void **state)
{
    (void)state;
    cut("GET /stuck HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begun_requests_are_finished),
        cmocka_unit_test(pipelined_at_the_signal),
        cmocka_unit_test(a_flood_does_not_hold_the_drain),
        cmocka_unit_test(a_stuck_handler_is_cut),
        cmocka_unit_test(a_stuck_handler_with_bytes_behind_it_is_cut),
        cmocka_unit_test(sigterm_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
