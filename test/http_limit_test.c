/* http_limit_test.c - a server with small limits: late peers, slow readers, too many connections, a
 * flood of tenants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "obs/obs.h"
#include "rig.h"

#define BIG_BYTES (1 << 20)
#define H "Host: x\r\n"

static int hello(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("hello"));
}

static int big(fen_exchange *x, void *arg)
{
    (void)arg;
    char *p = fen_arena_alloc(fen_exchange_arena(x), BIG_BYTES);
    if (!p)
        return -ENOMEM;
    memset(p, 'b', BIG_BYTES);
    return fen_reply(x, 200, "text/plain", (fen_slice){p, BIG_BYTES});
}

static int echo(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, NULL, fen_body(x));
}

static int routes(fen_server *s)
{
    int rc = fen_route(s, "GET /hello", hello, NULL);
    rc = rc ? rc : fen_route(s, "POST /echo", echo, NULL);
    return rc ? rc : fen_route(s, "GET /big", big, NULL);
}

static struct rig rig = {.routes = routes,
                         .cfg = {.header_timeout_ns = 150 * FEN_MS,
                                 .body_timeout_ns = 150 * FEN_MS,
                                 .idle_timeout_ns = 300 * FEN_MS,
                                 .write_timeout_ns = 150 * FEN_MS,
                                 .max_connections = 8,
                                 .max_tenants = 16}};
static struct rig_count idle;

/* A byte now and then does not move the deadline. */
static void drip(struct rig *r, const char *text, const char *what)
{
    int fd = rig_dial(r);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    rig_say(fd, text);
    for (int i = 0; i < 1000 && poll(&p, 1, 10) == 0; i++)
        rig_say(fd, "a");
    struct rig_reply got = rig_read(fd, true);
    if (got.status != 408 || !got.close)
        fail_msg("%s: %d", what, got.status);
    rig_ended(fd, what);
    close(fd);
}

static void late(struct rig *r)
{
    drip(r, "GET /hello HTTP/1.1\r\n" H "X: ", "slow header");
    drip(r, "GET /", "slow request line");
    drip(r, "POST /echo HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n", "slow body");
    drip(r, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nffff\r\n", "slow chunk");
    /* an answered request before it gets its reply first */
    int fd = rig_dial(r);
    rig_say(fd, "GET /hello HTTP/1.1\r\n" H "\r\nGET");
    assert_int_equal(rig_read(fd, true).status, 200);
    assert_int_equal(rig_read(fd, true).status, 408);
    rig_ended(fd, "the second is late");
    close(fd);
}

static void late_peers_get_408(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, late, "late peers");
}

/* Closed without a word: what the server would say could be taken for the next answer. */
static void idle_ones(struct rig *r)
{
    int silent = rig_dial(r), used = rig_dial(r), blank = rig_dial(r);
    assert_int_equal(rig_get(used, "/hello").status, 200);
    rig_say(blank, "\r");
    assert_int_equal(rig_read(blank, true).status, 408);
    rig_ended(silent, "never spoke");
    rig_ended(used, "idle");
    rig_ended(blank, "a lone CR");
    close(silent);
    close(used);
    close(blank);
}

static void idle_connections_are_closed(void **state)
{
    (void)state;
    idle_ones(&rig);
    (void)rig_settled(rig_quiet(idle, "idle connections"), "idle connections");
}

/* The tick is coarse; a connection that is used must not look idle to it. */
static void a_busy_connection_is_not_idle(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(rig_get(fd, "/hello").status, 200);
        rig_nap(50 * FEN_MS);
    }
    close(fd);
}

/* Asks for more than the socket buffers hold and reads nothing. */
static void slow_readers(struct rig *r)
{
    int fds[4];
    struct rig_count want = idle;
    want.open_fds = rig_open_fds() + 4; /* our ends */
    for (int i = 0; i < 4; i++) {
        int small = 4096;
        fds[i] = rig_dial(r);
        setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        for (int k = 0; k < 16; k++)
            rig_say(fds[i], "GET /big HTTP/1.1\r\n" H "\r\n");
    }
    for (int i = 0; i < 4; i++) { /* not before the server has begun with each */
        struct pollfd p = {.fd = fds[i], .events = POLLIN};
        assert_int_equal(poll(&p, 1, RIG_WAIT_S * 1000), 1);
    }
    (void)rig_settled(want, "slow readers are closed while they hold on");
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}

static void slow_readers_are_cut(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, slow_readers, "slow readers");
}

/* The ninth waits in the listen queue until one leaves. */
static void crowd(struct rig *r)
{
    int fds[9];
    for (int i = 0; i < 9; i++)
        fds[i] = rig_dial(r);
    for (int i = 0; i < 8; i++)
        assert_int_equal(rig_get(fds[i], "/hello").status, 200);
    struct pollfd p = {.fd = fds[8], .events = POLLIN};
    rig_say(fds[8], "GET /hello HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(poll(&p, 1, 50), 0);
    close(fds[0]);
    assert_int_equal(rig_read(fds[8], true).status, 200);
    for (int i = 1; i < 9; i++)
        close(fds[i]);
}

static void connections_are_bounded(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, crowd, "crowd");
}

/* ---- tenants ---- */

#define FLOOD 100000
#define BATCH 50

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true; /* freed memory stays resident */
#else
static const bool sanitized = false;
#endif

static long resident_pages(void)
{
    long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &resident), 2);
    fclose(f);
    return resident;
}

static int64_t requests_billed(uint32_t *ret_lines)
{
    struct fen__bill b;
    int64_t n = 0;
    assert_int_equal(fen__bill_read(&b), 0);
    for (uint32_t i = 0; i < b.n; i++)
        n += b.lines[i].requests;
    *ret_lines = b.n;
    fen__bill_free(&b);
    return n;
}

static void flood(struct rig *r, int from, int n)
{
    static char text[BATCH * 160];
    int fd = rig_dial(r);
    for (int i = from; i < from + n; i += BATCH) {
        int at = 0;
        for (int k = i; k < i + BATCH; k++) /* one in ten is not a name at all */
            at += snprintf(text + at, sizeof text - (size_t)at,
                           "GET /hello HTTP/1.1\r\n" H "X-Tenant: %s%d%s\r\n\r\n",
                           k % 10 ? "t" : "\"\t", k,
                           k % 7 ? ""
                                 : "-and-a-name-too-long-to-be-kept-"
                                   "as-it-is-in-any-table-of-names");
        rig_send(fd, text, (size_t)at);
        for (int k = 0; k < BATCH; k++)
            assert_int_equal(rig_read(fd, true).status, 200);
    }
    close(fd);
}

static void a_flood_of_tenants_is_bounded(void **state)
{
    (void)state;
    uint32_t before_lines, lines;
    flood(&rig, 0, 10000);
    struct rig_count was = rig_settled(rig_quiet(idle, "flood"), "flood");
    int64_t before = requests_billed(&before_lines);
    uint32_t accounts = fen__meter_accounts(), tenants = fen__meter_tenants();
    long pages = resident_pages();
    flood(&rig, 10000, FLOOD);
    assert_true(rig_settled(was, "flood").heap_bytes <= was.heap_bytes);
    if (!sanitized) /* 4 MiB; 100,000 names kept would be more */
        assert_true(resident_pages() - pages < 1024);
    assert_int_equal(fen__meter_accounts(), accounts);
    assert_int_equal(fen__meter_tenants(), tenants);
    assert_true(tenants <= 16 + FEN__TENANT_FIRST);
    assert_int_equal(requests_billed(&lines) - before, FLOOD); /* the books close: none is lost */
    assert_int_equal(lines, before_lines);
}

static int start(void **state)
{
    (void)state;
    rig_start(&rig);
    rig_nap(50 * FEN_MS);
    idle = rig_counts();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    rig_stop(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_peers_get_408),
        cmocka_unit_test(idle_connections_are_closed),
        cmocka_unit_test(a_busy_connection_is_not_idle),
        cmocka_unit_test(slow_readers_are_cut),
        cmocka_unit_test(connections_are_bounded),
        cmocka_unit_test(a_flood_of_tenants_is_bounded),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
