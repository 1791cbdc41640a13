/* load_resp_test.c - the load generator's response reader: every split of every answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../cmd/fen/load/resp.c"

static struct resp r;

/* Feeds text in pieces of at most `piece` bytes; the bytes used until the end, or -1 when bad. */
static long feed(const char *text, size_t piece, bool to_head)
{
    size_t n = strlen(text);
    resp_init(&r, to_head);
    for (size_t at = 0, used; at < n; at += used) {
        size_t len = n - at < piece ? n - at : piece;
        char *exact = malloc(len); /* so that a sanitizer sees any read beyond */
        memcpy(exact, text + at, len);
        enum resp_result rc = resp_feed(&r, exact, len, &used);
        free(exact);
        if (rc == RESP_BAD)
            return -1;
        if (rc == RESP_DONE)
            return (long)(at + used);
    }
    return -2; /* wants more */
}

#define OK "HTTP/1.1 200 OK\r\n"

static void test_good_answers_at_every_split(void **state)
{
    (void)state;
    static const struct {
        const char *text, *rest;
        int status;
        bool keep_alive, to_head;
    } good[] = {
        {OK "Content-Length: 5\r\n\r\nhello", "", 200, true, false},
        {OK "content-length:5\r\n\r\nhello", "HTTP/1.1 404", 200, true, false},
        {OK "Content-Length: 0\r\nConnection: close\r\n\r\n", "x", 200, false, false},
        {OK "Connection: foo, Close\r\nContent-Length: 1\r\n\r\nx", "", 200, false, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "", 200, false, false},
        {"HTTP/1.0 200\nConnection: keep-alive\nContent-Length: 2\n\nab", "", 200, true, false},
        {OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "z",
         200, true, false},
        {OK "Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", "", 200, true, false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nq", "", 201,
         true, false},
        {"HTTP/1.1 204 No Content\r\n\r\n", "HTTP", 204, true, false},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 304, true, false},
        {OK "Content-Length: 99\r\n\r\n", "", 200, true, true},
        {"HTTP/1.1 503 \r\nContent-Length: 1\r\n\r\nx", "", 503, true, false},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        for (size_t piece = 1; piece <= strlen(good[i].text) + strlen(good[i].rest); piece++) {
            char text[512];
            snprintf(text, sizeof text, "%s%s", good[i].text, good[i].rest);
            if (feed(text, piece, good[i].to_head) != (long)strlen(good[i].text))
                fail_msg("answer %zu in pieces of %zu", i, piece);
            assert_int_equal(r.status, good[i].status);
            assert_int_equal(r.keep_alive, good[i].keep_alive);
        }
}

static void test_malformed_at_every_split(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 099 low\r\n\r\n",
        "HTTP/1.1 999 high\r\n\r\n",
        "HTTP/1.1200 OK\r\n\r\n",
        "\r\n",
        OK "no colon here\r\n\r\n",
        OK ": no name\r\n\r\n",
        OK "Content-Length: five\r\n\r\n",
        OK "Content-Length: -5\r\n\r\n",
        OK "Content-Length: 99999999999999999999\r\n\r\n",
        OK "Content-Length:\r\n\r\n",
        OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK "Transfer-Encoding: gzip\r\n\r\n",
        OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (size_t piece = 1; piece <= strlen(bad[i]); piece++)
            if (feed(bad[i], piece, false) != -1)
                fail_msg("answer %zu in pieces of %zu was taken", i, piece);
}

static void test_body_until_close_and_short(void **state)
{
    (void)state;
    assert_int_equal(feed(OK "\r\nsome bytes", 4, false), -2);
    assert_int_equal(resp_eof(&r), RESP_DONE);
    assert_false(r.keep_alive);
    assert_int_equal(feed(OK "Content-Length: 50\r\n\r\nsome", 4, false), -2);
    assert_int_equal(resp_eof(&r), RESP_MORE);
    assert_int_equal(feed("HTTP/1.1 2", 4, false), -2);
    assert_true(resp_begun(&r));
    assert_int_equal(resp_eof(&r), RESP_MORE);
    resp_init(&r, false);
    assert_false(resp_begun(&r));
}

static void test_head_limit(void **state)
{
    (void)state;
    static char text[RESP_HEAD_MAX + 1000];
    int n = snprintf(text, sizeof text, OK "X: ");
    memset(text + n, 'a', sizeof text - 1 - (size_t)n);
    assert_int_equal(feed(text, 4096, false), -1);
    memcpy(text + 2000, "\r\nContent-Length: 0\r\n\r\n", 24);
    assert_int_equal(feed(text, 100, false), (long)strlen(text));
}

static void test_random_bytes_never_break_it(void **state)
{
    (void)state;
    static const char alphabet[] = "HTTP/1. 2050\r\n:Content-Length chunked;aF\0\xff";
    srand(3);
    for (int i = 0; i < 20000; i++) {
        char text[200];
        int n = snprintf(text, sizeof text, "%s", i & 1 ? OK "Transfer-Encoding: chunked\r\n" : "");
        while (n < 199)
            text[n++] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        resp_init(&r, false);
        for (size_t at = 0, used; at < sizeof text; at += used) {
            size_t len = (size_t)rand() % 20 + 1;
            if (len > sizeof text - at)
                len = sizeof text - at;
            enum resp_result rc = resp_feed(&r, text + at, len, &used);
            assert_true(used <= len && used > 0);
            if (rc == RESP_BAD)
                break;
            if (rc == RESP_DONE)
                resp_init(&r, false);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_answers_at_every_split),
        cmocka_unit_test(test_malformed_at_every_split),
        cmocka_unit_test(test_body_until_close_and_short),
        cmocka_unit_test(test_head_limit),
        cmocka_unit_test(test_random_bytes_never_break_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
