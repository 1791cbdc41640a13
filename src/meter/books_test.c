/* books_test.c - the bill and the books from tallies written by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "meter/meter.h"
#include "sys/sys.h"

#include <string.h>

static void closing_line(void **state)
{
    (void)state;
    struct fen__books b = {.requests_ns = 3201 * FEN_MS,
                           .fibers_ns = 10 * FEN_MS,
                           .runtime_ns = 802 * FEN_MS,
                           .unattributed_ns = 1 * FEN_MS,
                           .thread_cpu_ns = 4016 * FEN_MS};
    char text[192];
    fen__books_close(&b);
    assert_int_equal(b.residual_ns, 2 * FEN_MS);
    fen__books_text(&b, text, sizeof text);
    assert_string_equal(text, "books: requests 3.201 s + fibers 0.010 s + runtime 0.802 s + "
                              "unattributed 0.001 s = 4.014 s; thread CPU 4.016 s; residual "
                              "+0.002 s (+0.05 %)");
    b.thread_cpu_ns = 3000 * FEN_MS;
    b.unattributed_ns = -400 * FEN_US;
    fen__books_close(&b);
    fen__books_text(&b, text, sizeof text);
    assert_string_equal(text, "books: requests 3.201 s + fibers 0.010 s + runtime 0.802 s + "
                              "unattributed 0.000 s = 4.013 s; thread CPU 3.000 s; residual "
                              "-1.013 s (-33.75 %)");
    char tiny[20];
    fen__books_text(&b, tiny, sizeof tiny);
    assert_string_equal(tiny, "books: requests 3.2");
    fen__books_text(&(struct fen__books){0}, text, sizeof text);
    assert_non_null(strstr(text, "residual +0.000 s (+0.00 %)"));
}

static void burn(int64_t ns)
{
    int64_t end = fen__sys_thread_cpu() + ns;
    while (fen__sys_thread_cpu() < end)
        ;
}

static void near(int64_t got, int64_t want, int64_t slack)
{
    if (got < want - slack || got > want + slack)
        fail_msg("%lld is not within %lld of %lld", (long long)got, (long long)slack,
                 (long long)want);
}

/* A worker by hand: 40 ms of CPU, of which it books 20 to a request, 5 to fibers, 10 to runtime. */
static void residual_comes_from_the_kernel(void **state)
{
    (void)state;
    static struct fen__tally block, *t = &block;
    assert_int_equal(fen__tally_register(t), 0);
    uint32_t id = fen__meter_account(fen__meter_operation("GET /b"), FEN_SLICE("acme"));
    struct fen__usage_ticks u = {.cpu_ticks = fen__tsc_from_ns(20 * FEN_MS)};
    fen__count_add(&t->fiber_ticks, fen__tsc_from_ns(FEN_S)); /* of an earlier period */
    struct fen__books_mark m;
    assert_int_equal(fen__books_begin(&m), 0);
    burn(40 * FEN_MS);
    fen__count_add(&t->fiber_ticks, fen__tsc_from_ns(25 * FEN_MS));
    fen__count_add(&t->runtime_ticks, fen__tsc_from_ns(10 * FEN_MS));
    fen__count_add(&t->unattributed_ticks, -fen__tsc_from_ns(1 * FEN_MS));
    fen__meter_settle(t, id, &u, false);
    struct fen__books b;
    assert_int_equal(fen__books_read(&m, 0, &b), 0);
    near(b.requests_ns, 20 * FEN_MS, 10);
    near(b.fibers_ns, 5 * FEN_MS, 10);
    near(b.runtime_ns, 10 * FEN_MS, 10);
    near(b.unattributed_ns, -1 * FEN_MS, 10);
    assert_int_equal(b.requests_ns + b.fibers_ns + b.runtime_ns + b.unattributed_ns + b.residual_ns,
                     b.thread_cpu_ns);
    assert_true(b.residual_ns >= 6 * FEN_MS - 100);
    struct fen__books less;
    assert_int_equal(fen__books_read(&m, 30 * FEN_MS, &less), 0);
    assert_true(less.residual_ns < b.residual_ns); /* other threads' time is not the workers' */
    fen__tally_unregister(t);
}

static int64_t requests_of(const struct fen__bill_line *l, uint32_t n, bool tenant,
                           const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(name, tenant ? fen__meter_tenant_name(l[i].tenant)
                                : fen__meter_operation_name(l[i].operation)) == 0)
            return l[i].requests;
    return -1;
}

static void bill_adds_up(void **state)
{
    (void)state;
    uint32_t a = fen__meter_operation("GET /x"), p = fen__meter_operation("GET /y");
    static struct fen__tally block[2], *t[2] = {&block[0], &block[1]};
    assert_int_equal(fen__tally_register(t[0]), 0);
    assert_int_equal(fen__tally_register(t[1]), 0);
    struct fen__usage_ticks u = {.cpu_ticks = 1001,
                                 .wait_ticks = 77,
                                 .arena_bytes = 8192,
                                 .arena_byte_ticks = (__int128)1 << 70,
                                 .in_bytes = 5,
                                 .out_bytes = 6};
    for (int i = 0; i < 10; i++) {
        fen__meter_settle(t[i % 2], fen__meter_account(a, FEN_SLICE("red")), &u, i == 0);
        fen__meter_settle(t[i % 2], fen__meter_account(p, FEN_SLICE("red")), &u, false);
        fen__meter_settle(t[0], fen__meter_account(p, FEN_SLICE("blue")), &u, false);
    }
    fen__count_add(&t[0]->handlers, 3);
    fen__count_add(&t[1]->handlers, -1);
    struct fen__bill b;
    assert_int_equal(fen__bill_read(&b), 0);
    struct fen__bill_line sum = {0};
    for (uint32_t i = 0; i < b.n; i++) {
        sum.requests += b.lines[i].requests;
        sum.usage.cpu_ns += b.lines[i].usage.cpu_ns;
        sum.usage.arena_byte_ns += b.lines[i].usage.arena_byte_ns;
        if (b.lines[i].account == fen__meter_account(a, FEN_SLICE("red"))) {
            assert_int_equal(b.lines[i].requests, 10);
            assert_int_equal(b.lines[i].errors, 1);
            assert_int_equal(b.lines[i].usage.cpu_ns, fen__tsc_to_ns(10010));
            assert_int_equal(b.lines[i].usage.arena_bytes, 81920);
            assert_true(b.lines[i].usage.arena_byte_ns == fen__tsc_to_ns_wide((__int128)10 << 70));
            assert_int_equal(b.lines[i].usage.out_bytes, 60);
        }
    }
    assert_int_equal(sum.requests, b.total.requests);
    assert_int_equal(sum.usage.cpu_ns, b.total.usage.cpu_ns);
    assert_true(sum.usage.arena_byte_ns == b.total.usage.arena_byte_ns);
    assert_int_equal(b.handlers, 2);
    static struct fen__bill_line by[FEN__TENANTS_MAX + FEN__TENANT_FIRST];
    uint32_t n = fen__bill_by_tenant(&b, by, FEN__COUNT(by));
    assert_int_equal(requests_of(by, n, true, "red"), 20);
    assert_int_equal(requests_of(by, n, true, "blue"), 10);
    n = fen__bill_by_operation(&b, by, FEN__COUNT(by));
    assert_int_equal(requests_of(by, n, false, "GET /x"), 10);
    assert_int_equal(requests_of(by, n, false, "GET /y"), 20);
    fen__bill_free(&b);
    fen__tally_unregister(t[0]);
    fen__tally_unregister(t[1]);
}

static int no_memory(const char *call) { return call[0] == 'm' ? -ENOMEM : 0; }

static void bill_without_memory(void **state)
{
    (void)state;
    struct fen__bill b;
    fen__sys_fault = no_memory;
    int rc = fen__bill_read(&b);
    fen__sys_fault = NULL;
    assert_int_equal(rc, -ENOMEM);
}

int main(void)
{
    fen__tsc_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closing_line),
        cmocka_unit_test(residual_comes_from_the_kernel),
        cmocka_unit_test(bill_adds_up),
        cmocka_unit_test(bill_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
