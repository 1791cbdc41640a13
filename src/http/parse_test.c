/* parse_test.c - heads that must be taken and heads that must be refused: whole, byte by byte and
 * cut anywhere. */
#include "http/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct head {
    int status; /* 0: taken */
    const char *text;
    size_t n;
};
#define OK(text)                                                                                   \
    {                                                                                              \
        0, text, sizeof(text) - 1                                                                  \
    }
#define BAD(status, text)                                                                          \
    {                                                                                              \
        status, text, sizeof(text) - 1                                                             \
    }
#define H "Host: a\r\n"
#define POST "POST / HTTP/1.1\r\n" H

static const struct head heads[] = {
    /* request line */
    OK("GET / HTTP/1.1\r\n" H "\r\n"),
    OK("\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    OK("GET / HTTP/1.0\r\n\r\n"),
    OK("GET / HTTP/1.7\r\n" H "\r\n"),
    OK("M-SEARCH /x HTTP/1.1\r\n" H "\r\n"),
    OK("GET /a%20b?c=d&e?f/%zz HTTP/1.1\r\n" H "\r\n"),
    OK("GET http://b.example:80/x?y HTTP/1.1\r\n" H "\r\n"),
    OK("GET HTTPS://b HTTP/1.1\r\n" H "\r\n"),
    OK("GET http://[::1]:8080?q HTTP/1.1\r\n" H "\r\n"),
    OK("OPTIONS * HTTP/1.1\r\n" H "\r\n"),
    OK("GET //x HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "\rGET / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "\nGET / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, " GET / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "\tGET / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET  / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET /  HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET\t/ HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET / HTTP/1.1 \r\n" H "\r\n"),
    BAD(400, "GET /\r\n"),
    BAD(400, "GET\r\n"),
    BAD(400, "GET /a b HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET /a\x01 HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET /a\x7f HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET /a\0 HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET /a#b HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET a HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET * HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET ?x HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET http:// HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET http:///x HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET http://u@b/ HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET ftp://b/ HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET a:80 HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "G(T / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GE\xc3T / HTTP/1.1\r\n" H "\r\n"),
    BAD(400, "GET / http/1.1\r\n" H "\r\n"),
    BAD(400, "GET / HTTP/1.11\r\n" H "\r\n"),
    BAD(400, "GET / HTTP/11.1\r\n" H "\r\n"),
    BAD(400, "GET / HTTP/1,1\r\n" H "\r\n"),
    BAD(400, "GET / HTTP/1.\r\n" H "\r\n"),
    BAD(400, "GET / HTTP /1.1\r\n" H "\r\n"),
    BAD(400, "GET / ICAP/1.1\r\n" H "\r\n"),
    BAD(400, "\x16\x03\x01\x02\x00\x01"),
    BAD(501, "CONNECT b:443 HTTP/1.1\r\n" H "\r\n"),
    BAD(505, "GET / HTTP/2.0\r\n" H "\r\n"),
    BAD(505, "GET / HTTP/0.9\r\n\r\n"),
    BAD(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    /* line ends */
    BAD(400, "GET / HTTP/1.1\n" H "\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "\n"),
    BAD(400, "GET / HTTP/1.1\r" H "\r\n"),
    BAD(400, "GET / HTTP/1.1\r\r\n" H "\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "\rX"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: a\r\n\r\r\n"),
    /* fields */
    OK("GET / HTTP/1.1\r\nhOsT:a\r\nX:\r\nY:   \t \r\nZ: a\tb \xff\r\n\r\n"),
    OK("GET / HTTP/1.1\r\n" H "!#$%&'*+-.^_`|~09: x\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X : y\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X\t: y\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H " X: y\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: y\r\n z\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: y\r\n\tz\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H ": y\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X Y: z\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X[]: z\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X\0: z\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "\xc3\xa9: z\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: a\x0b\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H "X: a\x1b[0m\r\n\r\n"),
    /* Host */
    OK("GET / HTTP/1.1\r\nHost: a.b-c_d~:65535\r\n\r\n"),
    OK("GET / HTTP/1.1\r\nHost: a:\r\n\r\n"),
    OK("GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n"),
    OK("GET / HTTP/1.1\r\nHost: a%41\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n\r\n"),
    BAD(400, "GET http://b/ HTTP/1.1\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\n" H H "\r\n"),
    BAD(400, "GET / HTTP/1.0\r\n" H H "\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: a%4\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: [a]\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
    BAD(400, "GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"),
    /* framing */
    OK(POST "Content-Length: 0\r\n\r\n"),
    OK(POST "Content-Length: \t 9223372036854775807 \r\n\r\n"),
    OK(POST "transfer-encoding:CHUNKED\r\n\r\n"),
    OK(POST "Transfer-Encoding:\tchunked\t\r\n\r\n"),
    OK(POST "Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
    BAD(400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: x\r\nContent-Length: 5\r\n\r\n"),
    BAD(400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    BAD(400, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    BAD(400, POST "Content-Length: 5, 5\r\n\r\n"),
    BAD(400, POST "Content-Length:\r\n\r\n"),
    BAD(400, POST "Content-Length: +5\r\n\r\n"),
    BAD(400, POST "Content-Length: -5\r\n\r\n"),
    BAD(400, POST "Content-Length: 5 5\r\n\r\n"),
    BAD(400, POST "Content-Length: 1_0\r\n\r\n"),
    BAD(400, POST "Content-Length: 0x5\r\n\r\n"),
    BAD(400, POST "Content-Length: 5.0\r\n\r\n"),
    BAD(400, POST "Content-Length: \"5\"\r\n\r\n"),
    BAD(400, POST "Content-Length: 9223372036854775808\r\n\r\n"),
    BAD(400, POST "Content-Length: 18446744073709551621\r\n\r\n"),
    BAD(400, POST "Content-Length : 5\r\n\r\n"),
    BAD(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD(400, "POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding:\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked, chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked, gzip\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked,\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: , chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked;a=b\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked x\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: \x0b"
                  "chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunked\0\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding\t: chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding:\r\n chunked\r\n\r\n"),
    BAD(400, POST "X: y\rTransfer-Encoding: chunked\r\n\r\n"),
    BAD(501, POST "Transfer-Encoding: xchunked\r\n\r\n"),
    BAD(501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    BAD(501, POST "Transfer-Encoding: identity\r\n\r\n"),
    BAD(501, POST "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD(400, POST "Transfer-Encoding: chunke\xff"
                  "d\r\n\r\n"),
    BAD(417, POST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
    OK("POST / HTTP/1.0\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
};

#define FIELDS 8
static const struct fen__http_limits limits = {4096, FIELDS};

static int parse(const char *p, size_t n, struct fen__http_scan *scan, struct fen__http_request *r,
                 struct fen__http_field *fields)
{
    *r = (struct fen__http_request){.fields = fields, .fields_cap = FIELDS};
    return fen__http_parse_head(p, n, &limits, scan, r);
}

/* Feeds the cuts given, each time from a block of exactly that size, so that ASan sees a byte too
 * far; the verdict. */
static int in_pieces(const char *p, size_t n, size_t first, size_t step)
{
    struct fen__http_scan scan = {0};
    struct fen__http_request r;
    struct fen__http_field fields[FIELDS];
    for (size_t have = first;; have += step) {
        if (have > n)
            have = n;
        char *block = malloc(have ? have : 1);
        memcpy(block, p, have);
        int rc = parse(block, have, &scan, &r, fields);
        free(block);
        if (rc || have == n)
            return rc;
    }
}

static int expected(const struct head *h) { return h->status ? -h->status : (int)h->n; }

static void check(const char *p, size_t n, int verdict, size_t which)
{
    int whole = in_pieces(p, n, n, 1);
    if (whole != verdict)
        fail_msg("head %zu: %d instead of %d", which, whole, verdict);
    int bytes = in_pieces(p, n, 0, 1);
    if (bytes != verdict)
        fail_msg("head %zu byte by byte: %d instead of %d", which, bytes, verdict);
    for (size_t cut = 0; cut < n; cut++) {
        int two = in_pieces(p, n, cut, n);
        if (two != verdict)
            fail_msg("head %zu cut at %zu: %d instead of %d", which, cut, two, verdict);
    }
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < FEN__COUNT(heads); i++)
        check(heads[i].text, heads[i].n, expected(&heads[i]), i);
}

/* A head that is fine is never judged before its last byte, and needs nothing behind it. */
static void test_prefixes_are_incomplete(void **state)
{
    (void)state;
    for (size_t i = 0; i < FEN__COUNT(heads); i++) {
        for (size_t n = 0; !heads[i].status && n < heads[i].n; n++)
            assert_int_equal(in_pieces(heads[i].text, n, n, 1), 0);
    }
}

static void test_pipelined(void **state)
{
    (void)state;
    static const char two[] = "GET /1 HTTP/1.1\r\n" H "\r\nGET /2 HTTP/1.1\r\n" H "\r\n";
    struct fen__http_request r;
    struct fen__http_field fields[FIELDS];
    int first = parse(two, sizeof two - 1, NULL, &r, fields);
    assert_int_equal(first, 28);
    assert_memory_equal(r.path.p, "/1", 2);
    assert_int_equal(parse(two + first, sizeof two - 1 - 28, NULL, &r, fields), 28);
    assert_memory_equal(r.path.p, "/2", 2);
}

static void is(fen_slice s, const char *text)
{
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

static void test_what_is_found(void **state)
{
    (void)state;
    static const char text[] =
        "POST /orders/17?dry=1&x HTTP/1.1\r\nHost: shop:80\r\nX-Tenant:  acme \r\n"
        "Content-Length: 12\r\nExpect: 100-Continue\r\nX-tenant: other\r\n\r\n";
    struct fen__http_request r;
    struct fen__http_field fields[FIELDS];
    assert_int_equal(parse(text, sizeof text - 1, NULL, &r, fields), sizeof text - 1);
    is(r.method, "POST");
    is(r.target, "/orders/17?dry=1&x");
    is(r.path, "/orders/17");
    is(r.query, "dry=1&x");
    is(r.host, "shop:80");
    is(r.tenant, "acme");
    assert_int_equal(r.content_length, 12);
    assert_true(r.expect_continue && r.keep_alive && !r.chunked);
    assert_int_equal(r.minor, 1);
    assert_int_equal(r.fields_n, 5);
    is(fen__http_field(&r, "X-TENANT", 8), "acme");
    assert_null(fen__http_field(&r, "X-Tenan", 7).p);
}

static void test_absolute_target_names_the_host(void **state)
{
    (void)state;
    static const char text[] = "GET http://Other:81?q HTTP/1.1\r\nHost: a\r\n\r\n";
    struct fen__http_request r;
    struct fen__http_field fields[FIELDS];
    assert_true(parse(text, sizeof text - 1, NULL, &r, fields) > 0);
    is(r.host, "Other:81");
    is(r.path, "/");
    is(r.query, "q");
}

static void test_keep_alive(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", true},
        {"GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: x , CLOSE\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n", true},
        {"GET / HTTP/1.1\r\n" H "Connection: keep-alive\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        struct fen__http_request r;
        struct fen__http_field fields[FIELDS];
        assert_true(parse(cases[i].text, strlen(cases[i].text), NULL, &r, fields) > 0);
        assert_int_equal(r.keep_alive, cases[i].keep);
    }
}

static void test_limits(void **state)
{
    (void)state;
    char text[6000];
    size_t n = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" H);
    for (int i = 1; i < FIELDS; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "X: y\r\n");
    memcpy(text + n, "\r\nX: z\r\n\r\n", 10);
    check(text, n + 2, (int)n + 2, 1000);
    check(text, n, 0, 1001);
    memmove(text + n, text + n + 2, 8); /* one field more */
    check(text, n + 8, -431, 1002);

    n = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" H "X: ");
    memset(text + n, 'x', sizeof text - n);
    memcpy(text + 4092, "\r\n\r\n", 4);
    assert_int_equal(in_pieces(text, 4096, 4096, 1), 4096);
    assert_int_equal(in_pieces(text, 4096, 0, 1), 4096);
    memcpy(text + 4092, "x\r\n\r\n", 5);
    assert_int_equal(in_pieces(text, 4097, 4097, 1), -431);
    assert_int_equal(in_pieces(text, 4097, 0, 1), -431);
    assert_int_equal(in_pieces(text, 4096, 3000, 96), -431);

    memset(text, '/', sizeof text);
    memcpy(text, "GET ", 4);
    assert_int_equal(in_pieces(text, 5000, 5000, 1), -414);
    assert_int_equal(in_pieces(text, 5000, 0, 1), -414);
}

/* Random changes to good and bad heads: the cut never matters. */
static void test_fuzz_cuts(void **state)
{
    (void)state;
    static const char spice[] = "\r\n\r\n :,\t\0ax0/\x7f\xff";
    uint64_t seed = 20240607;
    for (int round = 0; round < 30000; round++) {
        const struct head *h = &heads[fen__rand(&seed) % FEN__COUNT(heads)];
        char text[256];
        size_t n = h->n < sizeof text ? h->n : sizeof text;
        memcpy(text, h->text, n);
        for (uint64_t k = fen__rand(&seed) % 4; k; k--) {
            size_t at = fen__rand(&seed) % n;
            if (fen__rand(&seed) & 1)
                memmove(text + at, text + at + 1, --n - at);
            else
                text[at] = spice[fen__rand(&seed) % (sizeof spice - 1)];
        }
        int whole = in_pieces(text, n, n, 1);
        size_t first = fen__rand(&seed) % (n + 1), step = 1 + fen__rand(&seed) % 9;
        int pieces = in_pieces(text, n, first, step);
        if (whole != pieces)
            fail_msg("round %d: whole %d, pieces %d", round, whole, pieces);
        assert_int_equal(in_pieces(text, n, 0, 1), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_prefixes_are_incomplete),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_what_is_found),
        cmocka_unit_test(test_absolute_target_names_the_host),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_fuzz_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
