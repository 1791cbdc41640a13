/* http_fault_test.c - what a server says to bad input, late, greedy and vanishing peers; and after
 * each group of cases, that no fiber, timer, descriptor or byte was left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rig.h"

#define BIG_BYTES (1 << 20)

static _Atomic int slept_rc, twice_rc, sleeps_begun, children_begun, children_ended;

/* ---- the service ---- */

static int hello(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("hello"));
}

static int order(fen_exchange *x, void *arg)
{
    (void)arg;
    int64_t id;
    int rc = fen_path_i64(x, "id", &id);
    return rc ? rc : fen_reply(x, 200, "text/plain", FEN_SLICE("order"));
}

static int echo(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "application/octet-stream", fen_body(x));
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

static int sleeper(fen_exchange *x, void *arg)
{
    (void)arg;
    int64_t ms;
    int rc = fen_path_i64(x, "ms", &ms);
    atomic_fetch_add(&sleeps_begun, 1);
    if (!rc)
        rc = fen_sleep(ms * FEN_MS);
    atomic_store(&slept_rc, rc ? rc : 1);
    return rc ? rc : fen_reply(x, 200, NULL, (fen_slice){0});
}

static int timed(fen_exchange *x, void *arg)
{
    fen_exchange_timeout(x, 10 * FEN_MS);
    return sleeper(x, arg);
}

/* Everybody at once, and the answer needs memory. */
static int assemble(fen_exchange *x, void *arg)
{
    (void)x;
    (void)arg;
    int rc = fen_sleep(FEN_S);
    return rc ? rc : -ETIMEDOUT;
}

static int never(fen_exchange *x, void *arg)
{
    (void)x;
    (void)arg;
    return 0;
}

static int twice(fen_exchange *x, void *arg)
{
    int rc = hello(x, arg);
    atomic_store(&twice_rc, fen_reply(x, 201, NULL, (fen_slice){0}));
    return rc;
}

static int returns(fen_exchange *x, void *arg)
{
    (void)arg;
    int64_t n;
    int rc = fen_path_i64(x, "n", &n);
    return rc ? rc : (int)-n;
}

static void child(void *arg)
{
    (void)arg;
    atomic_fetch_add(&children_begun, 1);
    (void)fen_sleep(3600 * FEN_S);
    atomic_fetch_add(&children_ended, 1);
}

/* Leaves with its children still asleep: the scope waits for them, so only a cancel ends it. */
static int parent(fen_exchange *x, void *arg)
{
    (void)x;
    (void)arg;
    for (int i = 0; i < 10; i++) {
        int rc = fen_go(child, NULL);
        if (rc)
            return rc;
    }
    return 0;
}

struct thing {
    int64_t number;
    fen_slice name;
};
#define THING_FIELDS(F) F(i64, number, required) F(slice, name, required)
FEN_JSON_STRUCT(thing, THING_FIELDS)

static int json(fen_exchange *x, void *arg)
{
    (void)arg;
    struct thing t;
    char why[128];
    int rc = thing_json_decode(fen_body(x), fen_exchange_arena(x), &t, why, sizeof why);
    if (rc == -ENOMEM)
        return rc;
    return rc ? fen_reply_error(x, 400, why) : fen_reply_json(x, 200, thing_json_encode, &t);
}

static int routes(fen_server *s)
{
    const struct {
        const char *pattern;
        fen_handler fn;
    } all[] = {
        {"GET /hello", hello},   {"GET /orders/{id}", order},  {"POST /echo", echo},
        {"GET /big", big},       {"GET /sleep/{ms}", sleeper}, {"GET /timed/{ms}", timed},
        {"GET /never", never},   {"GET /twice", twice},        {"GET /returns/{n}", returns},
        {"GET /parent", parent}, {"POST /json", json},         {"GET /assemble", assemble},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int rc = fen_route(s, all[i].pattern, all[i].fn, NULL);
        if (rc)
            return rc;
    }
    return 0;
}

static struct rig rig = {.routes = routes,
                         .cfg = {.max_header_bytes = 2048, .max_body_bytes = 100000}};
static struct rig_count idle; /* of a server that nobody talks to */

/* ---- requests and their exact answers ---- */

#define H "Host: x\r\n"
#define CHUNKED "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
#define JSON(n) "POST /json HTTP/1.1\r\n" H "Content-Length: " #n "\r\n\r\n"

struct answer {
    const char *request;
    int status;
    bool closes;
    const char *body; /* NULL: any */
};

static const struct answer answers[] = {
    {"GET /hello HTTP/1.1\r\n" H "\r\n", 200, false, "hello"},
    {"\r\nGET /hello HTTP/1.1\r\n" H "\r\n", 200, false, "hello"},
    {"GET /hello HTTP/1.0\r\n\r\n", 200, true, "hello"},
    {"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, false, "hello"},
    {"GET /hello HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 200, true, "hello"},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 200, false, ""},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n12345", 200, false, "12345"},
    {CHUNKED "5\r\n12345\r\n0\r\n\r\n", 200, false, "12345"},
    {CHUNKED "5;a=b\r\n12345\r\n1\r\n6\r\n0\r\nT: x\r\n\r\n", 200, false, "123456"},
    /* malformed request lines */
    {"GARBAGE\r\n\r\n", 400, true, NULL},
    {"GET  /hello HTTP/1.1\r\n" H "\r\n", 400, true, NULL},
    {"GET /hello\r\n\r\n", 400, true, NULL},
    {"GET /hel\001lo HTTP/1.1\r\n" H "\r\n", 400, true, NULL},
    {" GET /hello HTTP/1.1\r\n" H "\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\n" H "\n", 400, true, NULL},
    {"GET hello HTTP/1.1\r\n" H "\r\n", 400, true, NULL},
    {"GET /hello HTTP/2.0\r\n" H "\r\n", 505, true, NULL},
    {"CONNECT x:80 HTTP/1.1\r\n" H "\r\n", 501, true, NULL},
    {"\x16\x03\x01\x02\x05\x01\x05\xfc\x03\x03\r\n\r\n", 400, true, NULL},
    /* bad headers */
    {"GET /hello HTTP/1.1\r\n\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H H "\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H "no colon\r\n\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H "A : b\r\n\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H "A: b\r\n folded\r\n\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H "A: \001\r\n\r\n", 400, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400, true, NULL},
    /* framing */
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5\r\n12345\r\n0\r\n\r\n",
     400, true, NULL},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345", 400, true,
     NULL},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400, true, NULL},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 5x\r\n\r\n12345", 400, true, NULL},
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400, true, NULL},
    {"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, true, NULL},
    {"POST /echo HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400, true, NULL},
    {CHUNKED "x\r\n", 400, true, NULL},
    {CHUNKED "-1\r\n", 400, true, NULL},
    {CHUNKED "\r\n", 400, true, NULL},
    {CHUNKED "11111111111111111\r\n", 400, true, NULL},
    {CHUNKED "5\r\n123456\r\n0\r\n\r\n", 400, true, NULL},
    {CHUNKED "5\n12345\r\n0\r\n\r\n", 400, true, NULL},
    {CHUNKED "0\r\nbad trailer\r\n\r\n", 400, true, NULL},
    /* too large */
    {"POST /echo HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n", 413, true, NULL},
    {"POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n", 413,
     true, NULL},
    {CHUNKED "186a1\r\n", 413, true, NULL},
    {"GET /hello HTTP/1.1\r\n" H "Expect: miracles\r\n\r\n", 417, true, NULL},
    /* no such thing */
    {"GET /nothing HTTP/1.1\r\n" H "\r\n", 404, false, "{\"error\":\"not found\"}"},
    {"POST /nothing HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", 404, false, NULL},
    {"DELETE /hello HTTP/1.1\r\n" H "\r\n", 405, false, NULL},
    {"GET /orders/17 HTTP/1.1\r\n" H "\r\n", 200, false, "order"},
    {"GET /orders/abc HTTP/1.1\r\n" H "\r\n", 400, false, "{\"error\":\"bad request\"}"},
    {"GET /orders/1.5 HTTP/1.1\r\n" H "\r\n", 400, false, NULL},
    {"GET /orders/9223372036854775808 HTTP/1.1\r\n" H "\r\n", 400, false, NULL},
    {"GET /orders/%zz HTTP/1.1\r\n" H "\r\n", 400, false, NULL},
    {"GET /orders/%00 HTTP/1.1\r\n" H "\r\n", 400, false, NULL},
    {JSON(2) "{}", 400, false, NULL},
    {JSON(9) "{\"number\"", 400, false, NULL},
    {JSON(4) "null", 400, false, NULL},
    {JSON(0), 400, false, NULL},
    {JSON(26) "{\"number\":1,\"name\":\"\\ud8\"}", 400, false, NULL},
    {JSON(24) "{\"number\":7,\"name\":\"ab\"}", 200, false, "{\"number\":7,\"name\":\"ab\"}"},
    /* handlers */
    {"GET /never HTTP/1.1\r\n" H "\r\n", 500, false, NULL},
    {"GET /twice HTTP/1.1\r\n" H "\r\n", 200, false, "hello"},
    {"GET /timed/500 HTTP/1.1\r\n" H "\r\n", 504, false, NULL},
    {"GET /returns/2 HTTP/1.1\r\n" H "\r\n", 404, false, NULL},
    {"GET /returns/22 HTTP/1.1\r\n" H "\r\n", 400, false, NULL},
    {"GET /returns/34 HTTP/1.1\r\n" H "\r\n", 400, false, NULL},
    {"GET /returns/110 HTTP/1.1\r\n" H "\r\n", 504, false, NULL},
    {"GET /returns/11 HTTP/1.1\r\n" H "\r\n", 503, false, NULL},
    {"GET /returns/5003 HTTP/1.1\r\n" H "\r\n", 503, false, NULL},
    {"GET /returns/5 HTTP/1.1\r\n" H "\r\n", 500, false, NULL},
};
#define NANSWERS (sizeof answers / sizeof answers[0])

static void expect_reply(int fd, const struct answer *a)
{
    struct rig_reply r = rig_read(fd, true);
    if (r.status != a->status || r.close != a->closes || !r.whole ||
        (a->body && strcmp(r.body, a->body)))
        fail_msg("'%s': expected %d%s, got %d%s: %s%s", a->request, a->status,
                 a->closes ? " and close" : "", r.status, r.close ? " and close" : "", r.head,
                 r.body);
}

static void expect_end(int fd, const struct answer *a)
{
    if (a->closes) {
        rig_ended(fd, a->request);
    } else if (rig_get(fd, "/hello").status != 200) {
        fail_msg("'%s': the connection did not go on", a->request);
    }
    close(fd);
}

static void each_answer(struct rig *r)
{
    for (size_t i = 0; i < NANSWERS; i++) {
        int fd = rig_dial(r);
        rig_say(fd, answers[i].request);
        expect_reply(fd, &answers[i]);
        expect_end(fd, &answers[i]);
    }
}

static void every_answer_is_exact(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, each_answer, "answers");
    assert_int_equal(atomic_load(&twice_rc), -EALREADY);
}

static void each_answer_bytewise(struct rig *r)
{
    for (size_t i = 0; i < NANSWERS; i++) {
        int fd = rig_dial(r);
        for (const char *p = answers[i].request; *p && rig_send(fd, p, 1); p++)
            if ((p - answers[i].request) % 7 == 0)
                rig_nap(FEN_MS / 20);
        expect_reply(fd, &answers[i]);
        expect_end(fd, &answers[i]);
    }
}

static void the_same_byte_by_byte(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, each_answer_bytewise, "answers byte by byte");
}

/* ---- limits ---- */

static void send_header_of(int fd, size_t bytes)
{
    char *text = malloc(bytes + 1);
    int n = snprintf(text, bytes + 1, "GET /hello HTTP/1.1\r\n" H "X: ");
    memset(text + n, 'x', bytes - (size_t)n);
    rig_send(fd, text, bytes);
    free(text);
}

static void oversized(struct rig *r)
{
    int fd = rig_dial(r);
    send_header_of(fd, 40000);
    struct rig_reply got = rig_read(fd, true);
    assert_int_equal(got.status, 431);
    assert_true(got.close && got.whole);
    rig_ended(fd, "431");
    close(fd);

    fd = rig_dial(r);
    rig_say(fd, "GET /");
    for (int i = 0; i < 3000 && rig_send(fd, "y", 1); i++)
        ;
    assert_int_equal(rig_read(fd, true).status, 414);
    rig_ended(fd, "414");
    close(fd);

    fd = rig_dial(r);
    rig_say(fd, "GET /hello HTTP/1.1\r\n" H);
    for (int i = 0; i < 101; i++)
        rig_say(fd, "a:b\r\n");
    rig_say(fd, "\r\n");
    assert_int_equal(rig_read(fd, true).status, 431);
    rig_ended(fd, "101 fields");
    close(fd);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, oversized, "oversized");
}

/* ---- bodies ---- */

#define BODY_BYTES 100000

static void echo_sized(struct rig *r, const char *data, size_t piece)
{
    static char head[256];
    int fd = rig_dial(r);
    int n = snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n",
                     BODY_BYTES);
    rig_send(fd, head, (size_t)n);
    for (size_t at = 0; at < BODY_BYTES; at += piece)
        rig_send(fd, data + at, piece < BODY_BYTES - at ? piece : BODY_BYTES - at);
    struct rig_reply got = rig_read(fd, true);
    assert_int_equal(got.status, 200);
    assert_true(got.whole && got.length == BODY_BYTES);
    assert_memory_equal(got.body, data, sizeof got.body - 1);
    assert_int_equal(rig_get(fd, "/hello").status, 200);
    close(fd);
}

/* The next request follows in the same segment as the end of the body. */
static void echo_chunked(struct rig *r, const char *data, size_t chunk)
{
    int fd = rig_dial(r);
    rig_say(fd, CHUNKED);
    size_t at = 0;
    while (at < BODY_BYTES) {
        char line[16384 + 32];
        size_t run = chunk < BODY_BYTES - at ? chunk : BODY_BYTES - at;
        int n = snprintf(line, sizeof line, "%zx\r\n", run);
        memcpy(line + n, data + at, run);
        memcpy(line + n + run, "\r\n", 2);
        rig_send(fd, line, (size_t)n + run + 2);
        at += run;
    }
    rig_say(fd, "0\r\n\r\nGET /orders/5 HTTP/1.1\r\n" H "\r\nGET /hel");
    struct rig_reply got = rig_read(fd, true);
    assert_int_equal(got.status, 200);
    assert_true(got.whole && got.length == BODY_BYTES);
    assert_memory_equal(got.body, data, sizeof got.body - 1);
    assert_string_equal(rig_read(fd, true).body, "order");
    rig_say(fd, "lo HTTP/1.1\r\n" H "\r\n");
    assert_string_equal(rig_read(fd, true).body, "hello");
    close(fd);
}

static void bodies(struct rig *r)
{
    static char data[BODY_BYTES];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)('a' + i * 7 % 26);
    echo_sized(r, data, BODY_BYTES);
    echo_sized(r, data, 1000);
    echo_chunked(r, data, 16384);
    echo_chunked(r, data, 100);
    echo_chunked(r, data, 2048 - 7);
}

static void bodies_larger_than_buffers(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, bodies, "bodies");
}

static void expectations(struct rig *r)
{
    int fd = rig_dial(r);
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_int_equal(rig_read(fd, true).status, 100);
    rig_say(fd, "body");
    assert_string_equal(rig_read(fd, true).body, "body");
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\n"
                "Transfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(rig_read(fd, true).status, 100);
    rig_say(fd, "4\r\nbody\r\n0\r\n\r\n");
    assert_string_equal(rig_read(fd, true).body, "body");
    /* who does not wait is not told to go on */
    rig_say(fd,
            "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    struct rig_reply got = rig_read(fd, true);
    if (got.status == 100) /* it came in two pieces */
        got = rig_read(fd, true);
    assert_string_equal(got.body, "body");
    close(fd);
}

static void expect_100_continue(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, expectations, "expect");
}

static void heads(struct rig *r)
{
    int fd = rig_dial(r);
    rig_say(fd, "HEAD /hello HTTP/1.1\r\n" H "\r\nHEAD /big HTTP/1.1\r\n" H "\r\n"
                "HEAD /nothing HTTP/1.1\r\n" H "\r\nHEAD /echo HTTP/1.1\r\n" H "\r\n");
    struct rig_reply got = rig_read(fd, false);
    assert_int_equal(got.status, 200);
    assert_non_null(strstr(got.head, "Content-Length: 5\r\n"));
    got = rig_read(fd, false);
    assert_int_equal(got.status, 200);
    assert_non_null(strstr(got.head, "Content-Length: 1048576\r\n"));
    assert_int_equal(rig_read(fd, false).status, 404);
    got = rig_read(fd, false);
    assert_int_equal(got.status, 405);
    assert_non_null(strstr(got.head, "Allow: POST"));
    rig_say(fd, "PUT /hello HTTP/1.1\r\n" H "\r\n");
    got = rig_read(fd, true);
    assert_int_equal(got.status, 405);
    assert_non_null(strstr(got.head, "Allow: GET, HEAD"));
    close(fd);
}

static void head_and_allow(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, heads, "HEAD and Allow");
}

/* The first replies of a connection were limited to the small buffer. */
static void a_large_reply_comes_first(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    struct rig_reply got = rig_get(fd, "/big");
    assert_int_equal(got.status, 200);
    assert_true(got.whole && got.length == BIG_BYTES);
    close(fd);
}

/* ---- pipelining ---- */

static int pipeline_text(char *text, size_t cap, int n)
{
    int at = 0;
    for (int i = 0; i < n; i++) {
        char *to = text + at;
        size_t room = cap - (size_t)at;
        switch (i % 5) {
        case 0: at += snprintf(to, room, "GET /hello HTTP/1.1\r\n" H "\r\n"); break;
        case 1: at += snprintf(to, room, "GET /orders/x HTTP/1.1\r\n" H "\r\n"); break;
        case 2:
            at +=
                snprintf(to, room, "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\n%03d", i);
            break;
        case 3: at += snprintf(to, room, CHUNKED "3\r\n%03d\r\n0\r\n\r\n", i); break;
        default: at += snprintf(to, room, "GET /none HTTP/1.1\r\n" H "\r\n"); break;
        }
    }
    return at;
}

static void pipeline_check(int fd, int n)
{
    static const int status[] = {200, 400, 200, 200, 404};
    for (int i = 0; i < n; i++) {
        char want[8];
        struct rig_reply got = rig_read(fd, true);
        if (got.status != status[i % 5])
            fail_msg("request %d of %d: %d instead of %d", i, n, got.status, status[i % 5]);
        snprintf(want, sizeof want, "%03d", i);
        if (i % 5 == 2 || i % 5 == 3)
            assert_string_equal(got.body, want);
    }
}

static void pipelines(struct rig *r)
{
    static char text[16384];
    for (int n = 1; n <= 50; n++) {
        int fd = rig_dial(r), len = pipeline_text(text, sizeof text, n);
        rig_send(fd, text, (size_t)len);
        if (n % 10 == 0) { /* an error of framing is the last answer, the ones before it stay */
            rig_say(fd, "BAD\r\n\r\nGET /hello HTTP/1.1\r\n" H "\r\n");
            pipeline_check(fd, n);
            assert_int_equal(rig_read(fd, true).status, 400);
            rig_ended(fd, "pipeline with an error");
        } else {
            pipeline_check(fd, n);
            assert_int_equal(rig_get(fd, "/hello").status, 200);
        }
        close(fd);
    }
    int fd = rig_dial(r), len = pipeline_text(text, sizeof text, 50);
    for (int i = 0; i < len; i++)
        rig_send(fd, text + i, 1);
    pipeline_check(fd, 50);
    close(fd);
}

static void one_to_fifty_pipelined(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, pipelines, "pipelines");
}

/* ---- peers that leave ---- */

static void half_closed(struct rig *r)
{
    int fd = rig_dial(r); /* finished sending before the handler began or while it ran */
    rig_say(fd, "GET /hello HTTP/1.1\r\n" H "\r\nGET /big HTTP/1.1\r\n" H "\r\n");
    shutdown(fd, SHUT_WR);
    assert_int_equal(rig_read(fd, true).status, 200);
    struct rig_reply got = rig_read(fd, true);
    assert_true(got.status == 200 && got.whole);
    rig_ended(fd, "half-closed");
    close(fd);

    static const char *cut[] = {"GET /hel", "GET /hello HTTP/1.1\r\nHost",
                                "POST /echo HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n1234",
                                CHUNKED "5\r\n123"};
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        fd = rig_dial(r);
        rig_say(fd, cut[i]);
        shutdown(fd, SHUT_WR);
        got = rig_read(fd, true);
        if (got.status != 400 || !got.close)
            fail_msg("'%s' and the end: %d", cut[i], got.status);
        rig_ended(fd, cut[i]);
        close(fd);
    }
    fd = rig_dial(r);
    shutdown(fd, SHUT_WR);
    rig_ended(fd, "nothing was sent");
    close(fd);
}

static void half_closed_peers_are_answered(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, half_closed, "half-closed");
}

static void leave(struct rig *r)
{
    static const char *said[] = {"",
                                 "GET",
                                 "GET /hello HTTP/1.1\r\n" H "\r\n",
                                 "GET /big HTTP/1.1\r\n" H "\r\n",
                                 "GET /sleep/20 HTTP/1.1\r\n" H "\r\n",
                                 "POST /echo HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n1234",
                                 CHUNKED "5\r\n123"};
    for (size_t i = 0; i < 4 * sizeof said / sizeof said[0]; i++) {
        int fd = rig_dial(r);
        rig_say(fd, said[i / 4]);
        if (i & 2)
            rig_nap(5 * FEN_MS);
        if (i & 1)
            rig_reset(fd);
        else
            close(fd);
    }
}

static void peers_that_leave(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, leave, "peers that leave");
}

/* Only a request that has begun is cancelled: a peer that closes before is answered. */
static void wait_for(_Atomic int *count, int to)
{
    for (int i = 0; i < RIG_WAIT_S * 1000 && atomic_load(count) < to; i++)
        rig_nap(FEN_MS);
    assert_int_equal(atomic_load(count), to);
}

static void wait_for_sleeper(int rc)
{
    for (int i = 0; i < RIG_WAIT_S * 1000 && !atomic_load(&slept_rc); i++)
        rig_nap(FEN_MS);
    assert_int_equal(atomic_load(&slept_rc), rc);
}

static void disconnect(struct rig *r)
{
    for (int i = 0; i < 2; i++) {
        int fd = rig_dial(r);
        atomic_store(&slept_rc, 0);
        int begun = atomic_load(&sleeps_begun);
        rig_say(fd, "GET /sleep/3600000 HTTP/1.1\r\n" H "\r\n");
        wait_for(&sleeps_begun, begun + 1);
        rig_nap(10 * FEN_MS);
        assert_int_equal(atomic_load(&slept_rc), 0);
        if (i)
            rig_reset(fd);
        else
            close(fd);
        wait_for_sleeper(-ECANCELED);
    }
    int fd = rig_dial(r);
    int begun = atomic_load(&children_begun), ended = atomic_load(&children_ended);
    rig_say(fd, "GET /parent HTTP/1.1\r\n" H "\r\n");
    wait_for(&children_begun, begun + 10);
    rig_reset(fd);
    wait_for(&children_ended, ended + 10);
}

static void client_disconnect_cancels_the_request(void **state)
{
    (void)state;
    rig_rounds(&rig, idle, disconnect, "disconnect");
}

/* ---- time-outs ---- */

#define MANY_CONNS 200
#define MANY_ROUNDS 50

static void many(struct rig *r, int rounds, const char *said)
{
    static int fds[MANY_CONNS];
    for (int i = 0; i < MANY_CONNS; i++)
        fds[i] = rig_dial(r);
    for (int k = 0; k < rounds; k++) {
        for (int i = 0; i < MANY_CONNS; i++)
            rig_say(fds[i], said);
        for (int i = 0; i < MANY_CONNS; i++)
            assert_int_equal(rig_read(fds[i], true).status, 504);
    }
    for (int i = 0; i < MANY_CONNS; i++)
        close(fds[i]);
}

static void ten_thousand_timeouts_leave_nothing(void **state)
{
    (void)state;
    /* the caches hold what 200 requests at once need */
    many(&rig, 1, "GET /assemble HTTP/1.1\r\n" H "\r\n");
    many(&rig, 2, "GET /timed/60000 HTTP/1.1\r\n" H "\r\n");
    struct rig_count before = rig_settled(rig_quiet(idle, "warm"), "warm");
    many(&rig, MANY_ROUNDS, "GET /timed/60000 HTTP/1.1\r\n" H "\r\n"); /* 10,000 */
    struct rig_count after = rig_settled(before, "10,000 time-outs");
    assert_int_equal(after.heap_bytes, before.heap_bytes);
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
        cmocka_unit_test(a_large_reply_comes_first),
        cmocka_unit_test(every_answer_is_exact),
        cmocka_unit_test(the_same_byte_by_byte),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(bodies_larger_than_buffers),
        cmocka_unit_test(expect_100_continue),
        cmocka_unit_test(head_and_allow),
        cmocka_unit_test(one_to_fifty_pipelined),
        cmocka_unit_test(half_closed_peers_are_answered),
        cmocka_unit_test(peers_that_leave),
        cmocka_unit_test(client_disconnect_cancels_the_request),
        cmocka_unit_test(ten_thousand_timeouts_leave_nothing),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
