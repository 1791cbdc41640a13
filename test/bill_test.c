/* bill_test.c - from a fiber's slices to the books, in real runs: what fibers burn is billed to
 * their account, the bill outlives the run, and the buckets meet the process clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rig.h"

#include "obs/obs.h"
#include "sched/sched.h"
#include "sys/sys.h"

#define FIBERS 8
#define BURN_NS (20 * FEN_MS)

static uint32_t account;

/* What a server does at the end of a request. */
static void settle(void)
{
    struct fen__m *m = fen__enter();
    (void)fen__charge_now(m);
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

/* ---- off and on again ---- */

static int64_t fiber_ticks(void)
{
    struct fen__m *m = fen__enter();
    (void)fen__charge_now(m);
    int64_t ticks = fen__cur(m)->cpu_ticks;
    fen__leave(m);
    return ticks;
}

static void burn_for(int64_t ns)
{
    volatile uint64_t x = 1;
    int64_t end = fen__sys_thread_cpu() + ns;
    while (fen__sys_thread_cpu() < end)
        for (int i = 0; i < 1000; i++)
            x = x * 3 + 1;
}

/* The worker follows within 61 switches. */
static void turn(bool on)
{
    fen_meter_switch(on);
    for (int i = 0; i < 100; i++)
        fen_yield();
    assert_int_equal(fen__metered(), on);
}

#define TURNS 20
#define TURN_NS (2 * FEN_MS)

static int run_turns(void *arg)
{
    (void)arg;
    struct fen__books_mark mark;
    struct fen__books b;
    assert_int_equal(fen__books_begin(&mark), 0);
    int64_t off_ns = 0, on_ns = 0;
    for (int i = 0; i < TURNS; i++) {
        int64_t from = fiber_ticks();
        burn_for(TURN_NS);
        on_ns += fen__tsc_to_ns(fiber_ticks() - from);
        turn(false);
        from = fiber_ticks();
        burn_for(TURN_NS);
        off_ns += fiber_ticks() - from;
        turn(true);
    }
    assert_int_equal(fen_sleep(2 * FEN_MS), 0); /* the window is closed */
    assert_int_equal(fen__books_read(&mark, 0, &b), 0);
    assert_int_equal(off_ns, 0); /* counters stand still */
    /* wide: a busy machine must not fail it; a window left open while off would bill twice that */
    assert_true(on_ns > TURNS * TURN_NS * 8 / 10 && on_ns < TURNS * TURN_NS * 15 / 10);
    assert_true(b.fibers_ns < TURNS * TURN_NS * 15 / 10);
    /* what ran while it was off is in no bucket; the clock that proves it is the process's */
    assert_true(b.residual_ns > TURNS * TURN_NS * 8 / 10);
    assert_true(b.unattributed_ns < TURNS * TURN_NS / 4);
    assert_true(b.unattributed_ns > -TURNS * TURN_NS / 4);
    return 3;
}

static void off_and_on_again(void **state)
{
    (void)state;
    fen__tsc_init();
    assert_int_equal(fen_run(run_turns, NULL, &(fen_config){.procs = 1}), 3);
}

static int run_metered(void *arg)
{
    (void)arg;
    return fen__metered() ? 1 : 2;
}

/* Each run begins as its configuration says, whatever the one before left. */
static void a_run_begins_as_configured(void **state)
{
    (void)state;
    fen_meter_switch(false);
    assert_int_equal(fen_run(run_metered, NULL, NULL), 1);
    fen_meter_switch(true);
    assert_int_equal(fen_run(run_metered, NULL, &(fen_config){.meter_off = true}), 2);
}

/* ---- requests ---- */

static int plain(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok"));
}

static int turn_off(fen_exchange *x, void *arg)
{
    turn(false);
    return plain(x, arg);
}

static int turn_on(fen_exchange *x, void *arg)
{
    turn(true);
    return plain(x, arg);
}

static int routes(fen_server *s)
{
    int rc = fen_route(s, "GET /plain", plain, NULL);
    if (!rc)
        rc = fen_route(s, "GET /turn/off", turn_off, NULL);
    return rc ? rc : fen_route(s, "GET /turn/on", turn_on, NULL);
}

static int64_t booked(const char *operation)
{
    struct fen__bill b;
    uint32_t op = fen__meter_operation(operation);
    int64_t n = 0;
    assert_int_equal(fen__bill_read(&b), 0);
    for (uint32_t i = 0; i < b.n; i++)
        n += b.lines[i].operation == op ? b.lines[i].requests : 0;
    fen__bill_free(&b);
    return n;
}

static void ask(int fd, const char *path, int times)
{
    for (int i = 0; i < times; i++)
        assert_int_equal(rig_get(fd, path).status, 200);
}

/* Those answered while it is off are not booked, those after it are; their latency is kept. */
static void requests_while_it_is_off(void **state)
{
    (void)state;
    struct rig rig = {.routes = routes, .procs = 1};
    rig_start(&rig);
    int fd = rig_dial(&rig);
    ask(fd, "/plain", 5);
    ask(fd, "/turn/off", 1);
    ask(fd, "/plain", 7);
    /* many requests of one write */
    for (int i = 0; i < 3; i++)
        assert_true(rig_say(fd, "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"));
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_read(fd, true).status, 200);
    ask(fd, "/turn/on", 1);
    ask(fd, "/plain", 11);
    close(fd);
    rig_stop(&rig);
    assert_int_equal(booked("GET /plain"), 5 + 11);
    assert_int_equal(booked("GET /turn/off"), 0);
    assert_int_equal(booked("GET /turn/on"), 1);
    const struct fen__hist *h = fen__meter_latency_of(fen__meter_operation("GET /plain"));
    assert_int_equal(fen__hist_count(h), 5 + 7 + 3 + 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bill_outlives_the_run), cmocka_unit_test(off_and_on_again),
        cmocka_unit_test(a_run_begins_as_configured), cmocka_unit_test(requests_while_it_is_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
