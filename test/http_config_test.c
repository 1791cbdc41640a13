/* http_config_test.c - a server's settings at their ends: time-outs that never come, bodies of any
 * size, more tenants than there can be; and no memory for its timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "meter/meter.h"
#include "rig.h"
#include "sys/sys.h"

#define H "Host: x\r\n"

static _Atomic bool slow_begun;

static int hello(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("hello"));
}

static int echo(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", fen_body(x));
}

static int slow(fen_exchange *x, void *arg)
{
    (void)arg;
    fen_exchange_timeout(x, FEN_NEVER);
    atomic_store(&slow_begun, true);
    int rc = fen_sleep(500 * FEN_MS);
    return rc ? rc : fen_reply(x, 200, "text/plain", FEN_SLICE("slow"));
}

/* The first timer of a P needs memory for the heap of timers: tick and accepter get none. */
static _Atomic bool short_of_memory;
static _Atomic int ticks_refused, accepts_refused;

static int no_memory(const char *call)
{
    bool tick = !strcmp(fen_fiber_name(), "http tick");
    if (strcmp(call, "malloc") != 0 || !atomic_load(&short_of_memory) ||
        (!tick && strcmp(fen_fiber_name(), "http accept") != 0))
        return 0;
    atomic_fetch_add(tick ? &ticks_refused : &accepts_refused, 1);
    return -ENOMEM;
}

static int routes(fen_server *s)
{
    int rc = fen_route(s, "GET /hello", hello, NULL);
    rc = rc ? rc : fen_route(s, "POST /echo", echo, NULL);
    return rc ? rc : fen_route(s, "GET /slow", slow, NULL);
}

static void time_outs_may_never_come(void **state)
{
    (void)state;
    static struct rig rig = {.routes = routes,
                             .cfg = {.header_timeout_ns = FEN_NEVER,
                                     .body_timeout_ns = FEN_NEVER,
                                     .idle_timeout_ns = FEN_NEVER,
                                     .write_timeout_ns = FEN_NEVER,
                                     .drain_timeout_ns = FEN_NEVER}};
    rig_start(&rig);
    int fd = rig_dial(&rig);
    rig_say(fd, "GET /hello HT");
    rig_nap(20 * FEN_MS);
    rig_say(fd, "TP/1.1\r\n" H "\r\n");
    assert_int_equal(rig_read(fd, true).status, 200);
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n12");
    rig_nap(20 * FEN_MS);
    rig_say(fd, "345");
    assert_string_equal(rig_read(fd, true).body, "12345");
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n12");
    rig_nap(20 * FEN_MS);
    rig_say(fd, "345\r\n0\r\n\r\n");
    assert_string_equal(rig_read(fd, true).body, "12345");
    rig_say(fd, "GET /slow HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < RIG_WAIT_S * 1000 && !atomic_load(&slow_begun); i++)
        rig_nap(FEN_MS);
    fen_server_stop(rig.server);
    struct rig_reply got = rig_read(fd, true);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "slow");
    assert_true(got.close);
    close(fd);
    rig_stop(&rig);
}

static void bodies_may_have_any_size(void **state)
{
    (void)state;
    static struct rig rig = {.routes = routes, .cfg = {.max_body_bytes = SIZE_MAX}};
    rig_start(&rig);
    int fd = rig_dial(&rig);
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n12345");
    struct rig_reply got = rig_read(fd, true);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "12345");
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
                "5\r\n12345\r\n0\r\n\r\n");
    assert_string_equal(rig_read(fd, true).body, "12345");
    rig_say(fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 9000000000000000000\r\n\r\n12345");
    assert_int_equal(rig_read(fd, true).status, 503); /* as much as that nobody has */
    close(fd);
    rig_stop(&rig);
}

static void a_lack_of_memory_ends_neither_tick_nor_accepter(void **state)
{
    (void)state;
    static struct rig rig = {.routes = routes,
                             .procs = 1,
                             .cfg = {.idle_timeout_ns = 100 * FEN_MS, .max_connections = 1}};
    atomic_store(&short_of_memory, true);
    fen__sys_fault = no_memory;
    rig_start(&rig);
    int fd = rig_dial(&rig), second = rig_dial(&rig); /* which waits in the listen queue */
    assert_int_equal(rig_get(fd, "/hello").status, 200);
    rig_nap(50 * FEN_MS);
    atomic_store(&short_of_memory, false);
    assert_true(atomic_load(&ticks_refused) > 0);
    assert_true(atomic_load(&accepts_refused) > 0);
    close(fd);
    assert_int_equal(rig_get(second, "/hello").status, 200);
    rig_ended(second, "swept as idle");
    close(second);
    rig_stop(&rig);
    fen__sys_fault = NULL;
}

/* The server's result; what it wrote on standard error in said. */
static int run_aside(fen_server *s, const fen_service_config *cfg, char *said, size_t bytes)
{
    int p[2], old = dup(2);
    assert_true(old >= 0);
    assert_int_equal(pipe(p), 0);
    dup2(p[1], 2);
    close(p[1]);
    int rc = fen_server_run(s, cfg);
    dup2(old, 2);
    close(old);
    ssize_t n = read(p[0], said, bytes - 1);
    said[n > 0 ? n : 0] = 0;
    close(p[0]);
    return rc;
}

static int runs_in_vain(void *arg)
{
    char said[256];
    assert_int_equal(run_aside(arg, &(fen_service_config){.addr = NULL}, said, sizeof said),
                     -EINVAL);
    assert_non_null(strstr(said, "no address"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    return 0;
}

static void a_service_without_address_or_fiber_is_refused(void **state)
{
    (void)state;
    char said[256];
    fen_server *s = fen_server_new(NULL);
    assert_non_null(s);
    assert_int_equal(fen_run(runs_in_vain, s, NULL), 0);
    assert_int_equal(run_aside(s, &(fen_service_config){.addr = "127.0.0.1:0"}, said, sizeof said),
                     FEN_ENOTFIBER);
    assert_string_equal(said, "");
    fen_server_free(s);
}

static void a_route_needs_a_handler(void **state)
{
    (void)state;
    fen_server *s = fen_server_new(NULL);
    assert_non_null(s);
    assert_int_equal(fen_route(s, "GET /y", NULL, NULL), -EINVAL);
    assert_int_equal(fen_route(s, "GET /y", hello, NULL), 0);
    fen_server_free(s);
}

/* The tenants are counted in the whole process, so this comes last. */
static void tenants_are_bounded(void **state)
{
    (void)state;
    fen_server *s = fen_server_new(&(fen_server_config){.max_tenants = FEN__TENANTS_MAX + 1});
    assert_non_null(s);
    fen_server_free(s);
    s = fen_server_new(&(fen_server_config){.max_tenants = -1});
    assert_non_null(s);
    fen_server_free(s);
    char name[16];
    for (int i = 0; i < 2 * FEN__TENANTS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        (void)fen__meter_account(0, (fen_slice){name, strlen(name)});
    }
    assert_true(fen__meter_tenants() >
                FEN__TENANTS_DEFAULT + FEN__TENANT_FIRST); /* -1: as it was */
    assert_true(fen__meter_tenants() <= FEN__TENANTS_MAX + FEN__TENANT_FIRST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_outs_may_never_come),
        cmocka_unit_test(bodies_may_have_any_size),
        cmocka_unit_test(a_lack_of_memory_ends_neither_tick_nor_accepter),
        cmocka_unit_test(a_service_without_address_or_fiber_is_refused),
        cmocka_unit_test(a_route_needs_a_handler),
        cmocka_unit_test(tenants_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
