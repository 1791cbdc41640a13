/* bill_test.c - from a fiber's slices to the books, in real runs: what fibers burn is billed to
 * their account, the bill outlives the run, and the buckets meet the process clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "obs/obs.h"
#include "sched/sched.h"
#include "sys/sys.h"

#include <fen/fiber.h>
#include <fen/scope.h>

#define FIBERS 8
#define BURN_NS (20 * FEN_MS)

static uint32_t account;

/* What a server does at the end of a request. */
static void settle(void)
{
    struct fen__m *m = fen__enter();
    fen__charge_now(m);
    struct fen__g *g = fen__cur(m);
    struct fen__usage_ticks u = {.cpu_ticks = g->cpu_ticks, .wait_ticks = g->wait_ticks};
    fen__meter_settle(fen__tally_of(m), account, &u, false);
    fen__leave(m);
}

static void burn(void *arg)
{
    (void)arg;
    volatile uint64_t x = 1;
    int64_t end = fen__sys_thread_cpu() + BURN_NS; /* one yield-free stretch on one thread */
    while (fen__sys_thread_cpu() < end)
        for (int i = 0; i < 1000; i++)
            x = x * 3 + 1;
    settle();
}

static int64_t line_cpu_ns(const struct fen__bill *b, int64_t *ret_requests)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (b->lines[i].account == account) {
            *ret_requests = b->lines[i].requests;
            return b->lines[i].usage.cpu_ns;
        }
    return 0;
}

static int run(void *arg)
{
    struct fen__books_mark m;
    assert_int_equal(fen__books_begin(&m), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < FIBERS; i++)
        assert_int_equal(fen_go(burn, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(fen_sleep(5 * FEN_MS), 0);
    struct fen__view *v = arg;
    assert_int_equal(fen__view_read(v, &m, 0, NULL), 0);
    return 7;
}

static void check(const struct fen__view *v, int rounds)
{
    const int64_t want = FIBERS * BURN_NS;
    int64_t requests = 0, cpu_ns = line_cpu_ns(&v->bill, &requests);
    assert_int_equal(requests, rounds * FIBERS);
    /* wide bounds: a busy machine must not fail this; raw wall time under load would */
    assert_true(cpu_ns >= rounds * want * 8 / 10 && cpu_ns <= rounds * want * 15 / 10);
    const struct fen__books *b = &v->books;
    char text[192];
    fen__books_text(b, text, sizeof text);
    if (b->requests_ns < want * 8 / 10 || b->thread_cpu_ns < want)
        fail_msg("%s", text);
    int64_t share = fen__books_share_ppm(b);
    if (share < -150000 || share > 150000)
        fail_msg("%s", text);
    assert_int_equal(b->requests_ns + b->fibers_ns + b->runtime_ns + b->unattributed_ns +
                         b->residual_ns,
                     b->thread_cpu_ns);
    assert_true(v->stats.threads > 0 && v->cmdline_n > 0 && v->proc.resident_bytes > 0);
}

static void the_bill_outlives_the_run(void **state)
{
    (void)state;
    static struct fen__view v;
    fen__tsc_init();
    account = fen__meter_account(fen__meter_operation("GET /burn"), FEN_SLICE("acme"));
    for (int round = 1; round <= 2; round++) {
        assert_int_equal(fen_run(run, &v, NULL), 7);
        check(&v, round);
        fen__view_free(&v);
    }
    struct fen__bill after; /* no worker lives */
    int64_t requests = 0;
    assert_int_equal(fen__bill_read(&after), 0);
    assert_true(line_cpu_ns(&after, &requests) > 0);
    assert_int_equal(requests, 2 * FIBERS);
    fen__bill_free(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_bill_outlives_the_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
