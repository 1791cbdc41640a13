/* fault_test.c - the n-th accept, recv, send, epoll_ctl, malloc or mmap fails, for every n, while a
 * few requests are served and while a server starts (there each thread too): no crash, no hang,
 * nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fault.h"
#include "rig.h"

#include <fen/fiber.h>

#define H "Host: x\r\n"
#define BODY_BYTES 20000

/* ---- the service ---- */

static int hello(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("hello"));
}

static int echo(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "application/octet-stream", fen_body(x));
}

static void child(void *arg) { *(int *)arg = fen_sleep(FEN_MS); }

static int family(fen_exchange *x, void *arg)
{
    (void)arg;
    int *rc = fen_arena_alloc(fen_exchange_arena(x), 4 * sizeof *rc);
    fen_exchange_timeout(x, 10 * FEN_S);
    fen_scope *s = rc ? fen_scope_open(FEN_NEVER) : NULL;
    if (!s)
        return -ENOMEM;
    int failed = 0;
    for (int i = 0; i < 4 && !failed; i++)
        failed = fen_go(child, &rc[i]);
    int ended = fen_scope_close(s);
    return failed ? failed : ended ? ended : fen_reply(x, 200, NULL, (fen_slice){0});
}

static int routes(fen_server *s)
{
    int rc = fen_route(s, "GET /hello", hello, NULL);
    rc = rc ? rc : fen_route(s, "POST /echo", echo, NULL);
    return rc ? rc : fen_route(s, "GET /family", family, NULL);
}

static struct rig rig = {.routes = routes};
static struct rig_count idle;

/* ---- requests ---- */

/* Whatever comes is an answer if it comes and ends; silence is a hang. */
static void any_answer(int fd, const char *what, int nth)
{
    struct rig_reply got = rig_read(fd, true);
    if (got.status == -EAGAIN || got.status == -EWOULDBLOCK)
        fail_msg("%s %d: no answer", what, nth);
    if (got.status > 0 && !got.whole && !got.close && got.status < 500)
        fail_msg("%s %d: half an answer (%d)", what, nth, got.status);
    close(fd);
}

static void requests(const char *what, int nth)
{
    static char body[BODY_BYTES];
    char head[128];
    int fd = rig_dial(&rig);
    rig_say(fd, "GET /hello HTTP/1.1\r\n" H "\r\n");
    any_answer(fd, what, nth);
    fd = rig_dial(&rig);
    int n = snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n",
                     BODY_BYTES);
    rig_send(fd, head, (size_t)n);
    rig_send(fd, body, sizeof body);
    any_answer(fd, what, nth);
    fd = rig_dial(&rig);
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2710\r\n");
    rig_send(fd, body, 10000);
    rig_say(fd, "\r\n0\r\n\r\n");
    any_answer(fd, what, nth);
    fd = rig_dial(&rig);
    rig_say(fd, "GET /family HTTP/1.1\r\n" H "\r\n");
    any_answer(fd, what, nth);
}

static void nth_fails(const char *call, int rc)
{
    struct rig_count quiet = rig_quiet(idle, call);
    bool hit = true;
    int nth = 1;
    for (; hit && nth <= 200; nth++) {
        fault_arm(call, rc, nth);
        requests(call, nth);
        hit = fault_disarm();
        (void)rig_settled(quiet, call);
        int fd = rig_dial(&rig);
        assert_int_equal(rig_get(fd, "/hello").status, 200);
        close(fd);
        (void)rig_settled(quiet, call);
    }
    assert_true(nth <= 200); /* every call of the mix has failed once */
}

static void each_call_of_a_request_fails(void **state)
{
    (void)state;
    static const struct {
        const char *call;
        int rc;
    } faults[] = {
        {"accept", -ECONNABORTED}, {"accept", -EMFILE}, {"accept", -ENOBUFS},   {"accept", -EINTR},
        {"recv", -ECONNRESET},     {"recv", -ENOMEM},   {"recv", -EINTR},       {"send", -EPIPE},
        {"send", -ENOBUFS},        {"send", -EINTR},    {"epoll_ctl", -ENOSPC}, {"malloc", -ENOMEM},
        {"mmap", -ENOMEM},
    };
    fault_begin();
    rig_start(&rig);
    rig_nap(50 * FEN_MS);
    idle = rig_counts();
    for (int i = 0; i < 3; i++)
        requests("warm", i);
    int64_t warm = rig_settled(rig_quiet(idle, "warm"), "warm").heap_bytes;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        nth_fails(faults[i].call, faults[i].rc);
    for (int i = 0; i < 3; i++)
        requests("after", i);
    int64_t after = rig_settled(rig_quiet(idle, "after"), "after").heap_bytes;
    if (after - warm > 64 << 10) /* caches: a connection's buffers or two; each fault would add */
        fail_msg("heap bytes: %ld before, %ld after", (long)warm, (long)after);
    rig_stop(&rig);
    fault_end();
}

/* ---- starting ---- */

static void stopper(void *arg)
{
    fen_server *s = arg;
    for (int i = 0; i < 5000 && !fen_server_port(s); i++)
        if (fen_sleep(FEN_MS / 5))
            break;
    fen_server_stop(s);
}

static int start_and_stop(void *arg)
{
    (void)arg;
    fen_server *s = fen_server_new(NULL);
    if (!s)
        return -ENOMEM;
    int rc = routes(s);
    fen_scope *scope = rc ? NULL : fen_scope_open(FEN_NEVER);
    if (!rc)
        rc = scope ? fen_go(stopper, s) : -ENOMEM;
    if (!rc)
        rc = fen_server_serve(s, "127.0.0.1:0");
    if (scope) {
        fen_scope_cancel(scope);
        (void)fen_scope_close(scope);
    }
    fen_server_free(s);
    return rc;
}

static void start_fails(const char *call, int want)
{
    const fen_config cfg = {.procs = 2};
    bool hit = true;
    for (int nth = 1; hit; nth++) {
        struct rig_count before = rig_counts();
        fault_arm(call, want, nth);
        int rc = fen_run(start_and_stop, NULL, &cfg);
        hit = fault_disarm();
        struct rig_count after = rig_counts();
        if (!hit && rc)
            fail_msg("%s %d: %d without a fault", call, nth, rc);
        if (!rig_same_but_heap(after, before))
            fail_msg("%s %d (%d): open %d, was %d; fibers %ld, fds %ld, timers %ld", call, nth, rc,
                     after.open_fds, before.open_fds, (long)after.fibers, (long)after.fds,
                     (long)(after.timers - before.timers));
        if (after.heap_bytes != before.heap_bytes && nth > 1)
            fail_msg("%s %d (%d): %ld heap bytes, were %ld", call, nth, rc, (long)after.heap_bytes,
                     (long)before.heap_bytes);
        assert_true(nth < 500);
    }
}

static void each_call_of_a_start_fails(void **state)
{
    (void)state;
    const fen_config cfg = {.procs = 2};
    fault_begin();
    assert_int_equal(fen_run(start_and_stop, NULL, &cfg), 0); /* what the process keeps for ever */
    start_fails("malloc", -ENOMEM);
    start_fails("mmap", -ENOMEM);
    start_fails("thread", -EAGAIN);
    start_fails("open", -EACCES);
    start_fails("epoll_create", -EMFILE);
    start_fails("eventfd", -EMFILE);
    start_fails("epoll_ctl", -ENOSPC);
    start_fails("socket", -EMFILE);
    start_fails("bind", -EADDRINUSE);
    start_fails("listen", -EADDRINUSE);
    fault_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_of_a_start_fails),
        cmocka_unit_test(each_call_of_a_request_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
