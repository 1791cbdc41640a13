/* serve_test.c - fen serve's start and end, with what can fail or take long in its place: nothing
 * is used after it is gone, and no start that fails half way stands still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "serve/orders.h"

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/http.h>
#include <fen/run.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool backend;
    int start_rc, run_rc, check_rc; /* of upstream_start, fen_server_run, store_check */
    int checks, stops;
    bool freed, stopped_late;
} fake;

static int fake_upstream_start(struct upstream *u, int conns)
{
    (void)u;
    (void)conns;
    return fake.start_rc;
}

static int fake_server_run(fen_server *s, const fen_service_config *cfg)
{
    (void)s;
    (void)cfg;
    return fake.run_rc;
}

static void fake_server_stop(fen_server *s)
{
    (void)s;
    fake.stops++;
    fake.stopped_late = fake.freed;
}

static void fake_server_free(fen_server *s)
{
    fake.freed = true;
    fen_server_free(s);
}

/* Takes longer than the server that cannot listen. */
static int fake_check(const struct store *s, char *ret_text, size_t text_bytes)
{
    (void)s;
    (void)fen_sleep(50 * FEN_MS);
    fake.checks++;
    snprintf(ret_text, text_bytes, "damaged, says the test");
    return fake.check_rc;
}

#define upstream_start fake_upstream_start
#define fen_server_run fake_server_run
#define fen_server_stop fake_server_stop
#define fen_server_free fake_server_free
#define store_check fake_check
#define cmd_serve cmd_serve_tested
#include "serve/serve.c" /* NOLINT(bugprone-suspicious-include): with the names above */

/* Runs as cmd_serve does. */
static int served(void)
{
    char path[] = "/tmp/fen-serve-XXXXXX", text[512];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct options o = {.backend_conns = 1, .max_body_bytes = 65536};
    const struct store_config cfg = {.path = path, .fill = 10, .check_later = true};
    assert_int_equal(store_open(&cfg, &o.orders.store, text, sizeof text), 0);
    if (fake.backend)
        assert_int_equal(upstream_open("127.0.0.1:1", &o.orders.backend), 0);
    alarm(20); /* a writer that nobody stops keeps the run */
    int rc = fen_run(run_main, &o, &(fen_config){.procs = 1});
    alarm(0);
    store_close(o.orders.store);
    unlink(path);
    return rc;
}

static void the_check_ends_before_the_server_does(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.run_rc = -EADDRINUSE;
    fake.check_rc = FEN_ECORRUPT;
    assert_int_equal(served(), FEN_ECORRUPT);
    assert_int_equal(fake.checks, 1);
    assert_int_equal(fake.stops, 1);
    assert_true(fake.freed);
    assert_false(fake.stopped_late);
    memset(&fake, 0, sizeof fake);
    fake.run_rc = -EADDRINUSE;
    assert_int_equal(served(), -EADDRINUSE);
    assert_int_equal(fake.checks, 1);
}

static void a_start_that_fails_half_way_ends(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.backend = true;
    fake.start_rc = -ENOMEM;
    assert_int_equal(served(), -ENOMEM);
    assert_int_equal(fake.checks, 1);
    assert_true(fake.freed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_ends_before_the_server_does),
        cmocka_unit_test(a_start_that_fails_half_way_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
