/* no_copy_test.c - a request is parsed where it was received: what a handler is given of it lies as
 * far apart as the bytes of the client lay, so nothing of it was copied on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rig.h"

#define PATH "/things/17/parts/left"
#define REQUEST                                                                                    \
    "GET " PATH "?colour=green&size=9 HTTP/1.1\r\n"                                                \
    "Host: here\r\nX-First: the first value\r\nX-Last: the last value\r\n\r\n"

static _Atomic int apart; /* answers whose parts do not lie as they were sent */

/* Where the part stands in the request, counted from the path; and in memory. */
static void look(fen_slice path, fen_slice part, const char *text)
{
    ptrdiff_t sent = strstr(REQUEST, text) - strstr(REQUEST, PATH);
    if (part.n < strlen(text) || memcmp(part.p, text, strlen(text)) ||
        (intptr_t)part.p - (intptr_t)path.p != sent)
        atomic_fetch_add(&apart, 1);
}

static int part(fen_exchange *x, void *arg)
{
    (void)arg;
    fen_slice path = fen_path(x), size;
    look(path, path, PATH);
    look(path, fen_path_value(x, "id"), "17");
    look(path, fen_header(x, "Host"), "here");
    look(path, fen_header(x, "X-First"), "the first value");
    look(path, fen_header(x, "X-Last"), "the last value");
    if (fen_query_value(x, "size", &size) || size.n != 1 || *size.p != '9')
        atomic_fetch_add(&apart, 1);
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

static int routes(fen_server *s) { return fen_route(s, "GET /things/{id}/parts/left", part, NULL); }

static void test_a_request_is_parsed_in_place(void **state)
{
    (void)state;
    struct rig rig = {.routes = routes};
    rig_start(&rig);
    int fd = rig_dial(&rig);
    for (int i = 0; i < 3; i++) {
        rig_say(fd, REQUEST);
        assert_int_equal(rig_read(fd, true).status, 200);
    }
    close(fd);
    rig_stop(&rig);
    assert_int_equal(apart, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_request_is_parsed_in_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
