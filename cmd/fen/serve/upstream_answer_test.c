/* upstream_answer_test.c - what is taken as a back end's answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "serve/upstream_int.h"

#include <fen/err.h>

#include <string.h>

static int parse(const char *text, struct upstream_head *ret)
{
    return upstream__parse(text, strlen(text), ret);
}

static void a_body_has_one_length(void **state)
{
    (void)state;
    static const char one[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345";
    struct upstream_head h;
    assert_int_equal(parse(one, &h), sizeof one - 1);
    assert_int_equal(h.body_n, 5);
    static const char other[] =
        "HTTP/1.1 200 OK\r\nX-Content-Length: 5\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(parse(other, &h), sizeof other - 1);
    assert_int_equal(h.body_n, 0);
    static const char *const unclear[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nX: y\r\ncontent-length: 5\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length:\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 50\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\n\r\n12345",
    };
    for (size_t i = 0; i < sizeof unclear / sizeof unclear[0]; i++)
        assert_int_equal(parse(unclear[i], &h), FEN_EPARSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_has_one_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
