/* request_test.c - a request that waits: the time-out by channel and select, the deadline that
 * reaches the store, cancellation of many, the client that leaves.
 *
 * Upper bounds of times are asserted only under FEN_TIMED=1 (./dev rows sets it): a busy machine
 * must not fail the suite. What must not come too early is always asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rig.h"

#if defined(__SANITIZE_THREAD__)
#define CHILDREN 1000 /* TSan knows some 8,000 fibers */
#define ROUNDS 20
#else
#define CHILDREN 10000
#define ROUNDS 100 /* CLIENTS * ROUNDS = 10,000 requests */
#endif
#define CLIENTS 100

static _Atomic int64_t store_ended_ns, store_rc;
static _Atomic int cancelled;

static void at_most(double got, double limit, const char *what)
{
    print_message("%s: %.4f s\n", what, got);
    const char *timed = getenv("FEN_TIMED");
    if (timed && *timed == '1' && got > limit)
        fail_msg("%s took %.4f s; the bar is %.4f s", what, got, limit);
}

/* ---- the service ---- */

struct fetch {
    fen_chan *result;
    int64_t ms;
};

/* The store: it answers after a while, unless whoever asked has gone. */
static void fetch(void *arg)
{
    struct fetch *f = arg;
    if (fen_sleep(f->ms * FEN_MS) == 0)
        (void)!fen_chan_send(f->result, &f->ms);
}

/* A fiber fetches, the handler waits for its result or for the time-out; the loser is cancelled. */
static int wait_for(fen_exchange *x, int64_t limit_ns)
{
    struct fetch f = {0};
    int64_t got = 0;
    int rc = fen_path_i64(x, "ms", &f.ms);
    if (rc)
        return rc;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    f.result = fen_chan_new(sizeof got, 1);
    rc = s && f.result ? fen_go(fetch, &f) : -ENOMEM;
    fen_case c = FEN_RECV(f.result, &got);
    if (!rc)
        rc = fen_select(&c, 1, fen_now() + limit_ns);
    if (s) {
        fen_scope_cancel(s);
        fen_scope_close(s);
    }
    fen_chan_free(f.result);
    if (rc == -ETIMEDOUT)
        return fen_reply_error(x, 504, "timeout");
    return rc < 0 ? rc : fen_reply(x, got == f.ms ? 200 : 500, "text/plain", FEN_SLICE("data"));
}

static int two_seconds(fen_exchange *x, void *arg)
{
    (void)arg;
    return wait_for(x, 2 * FEN_S);
}

static int five_ms(fen_exchange *x, void *arg)
{
    (void)arg;
    return wait_for(x, 5 * FEN_MS);
}

static void slow_store(void *arg)
{
    (void)arg;
    atomic_store(&store_rc, fen_sleep(FEN_S));
    atomic_store(&store_ended_ns, fen_now());
}

/* 100 ms for all; the store, a fiber of its own, takes 1 s. */
static int hurried(fen_exchange *x, void *arg)
{
    (void)arg;
    fen_exchange_timeout(x, 100 * FEN_MS);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    int rc = fen_go(slow_store, NULL);
    int closed = fen_scope_close(s);
    return rc ? rc : closed ? closed : fen_reply(x, 200, NULL, (fen_slice){0});
}

static void patient(void *arg)
{
    fen_wg_done(arg);
    if (fen_sleep(3600 * FEN_S) == -ECANCELED)
        atomic_fetch_add(&cancelled, 1);
}

/* Replies with the nanoseconds from the cancel to the end of the last child. */
static int crowd(fen_exchange *x, void *arg)
{
    (void)arg;
    fen_wg ready = {0};
    char text[32];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    fen_wg_add(&ready, CHILDREN);
    int rc = 0;
    for (int i = 0; i < CHILDREN && !rc; i++)
        rc = fen_go(patient, &ready);
    if (!rc)
        rc = fen_wg_wait(&ready);
    int64_t from = fen_now();
    fen_scope_cancel(s);
    fen_scope_close(s);
    int n = snprintf(text, sizeof text, "%lld", (long long)(fen_now() - from));
    return rc ? rc : fen_reply(x, 200, "text/plain", (fen_slice){text, (size_t)n});
}

static int endless(fen_exchange *x, void *arg)
{
    (void)arg;
    atomic_store(&store_rc, 1); /* it runs */
    int rc = fen_sleep(3600 * FEN_S);
    atomic_store(&store_rc, rc);
    return rc ? rc : fen_reply(x, 200, NULL, (fen_slice){0});
}

static int routes(fen_server *s)
{
    int rc = fen_route(s, "GET /fetch/{ms}", two_seconds, NULL);
    rc = rc ? rc : fen_route(s, "GET /quick/{ms}", five_ms, NULL);
    rc = rc ? rc : fen_route(s, "GET /hurried", hurried, NULL);
    rc = rc ? rc : fen_route(s, "GET /crowd", crowd, NULL);
    return rc ? rc : fen_route(s, "GET /endless", endless, NULL);
}

/* ---- the tests ---- */

static struct rig rig = {.routes = routes};
static struct rig_count idle;

static double seconds_since(int64_t from_ns) { return (double)(fen_now() - from_ns) / 1e9; }

static void a_quick_fetch_is_answered(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    struct rig_reply r = rig_get(fd, "/fetch/10");
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "data");
    close(fd);
    rig_settled(idle, "a quick fetch");
}

static void a_slow_fetch_times_out_after_two_seconds(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    int64_t from = fen_now();
    struct rig_reply r = rig_get(fd, "/fetch/3000");
    double took = seconds_since(from);
    assert_int_equal(r.status, 504);
    assert_string_equal(r.body, "{\"error\":\"timeout\"}");
    assert_true(took >= 2.0);
    at_most(took, 2.10, "504");
    close(fd);
    rig_settled(idle, "a slow fetch"); /* long before the fetch would have ended by itself */
    assert_true(seconds_since(from) < 3.0 || !getenv("FEN_TIMED"));
}

static void time_outs(struct rig *g)
{
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = rig_dial(g);
    for (int k = 0; k < ROUNDS; k++) {
        for (int i = 0; i < CLIENTS; i++)
            assert_true(rig_say(fds[i], "GET /quick/60000 HTTP/1.1\r\nHost: x\r\n\r\n"));
        for (int i = 0; i < CLIENTS; i++)
            assert_int_equal(rig_read(fds[i], true).status, 504);
    }
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
}

/* Caches grow to the most that was ever needed at once, which a later ten thousand may exceed a
 * little; what leaks grows with each of them. So two in a row must end with the same bytes. */
static void ten_thousand_time_outs_leave_nothing(void **state)
{
    (void)state;
    int64_t before, after = 0;
    for (int round = 0; round < 4; round++) {
        before = after;
        time_outs(&rig);
        after = rig_settled(idle, "10,000 time-outs more").heap_bytes;
        if (after == before)
            return;
    }
    fail_msg("heap bytes still grow: %ld, then %ld", (long)before, (long)after);
}

static void the_deadline_reaches_the_store(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    atomic_store(&store_ended_ns, 0);
    int64_t from = fen_now();
    struct rig_reply r = rig_get(fd, "/hurried");
    double took = seconds_since(from);
    assert_int_equal(r.status, 504);
    assert_int_equal(atomic_load(&store_rc), -ETIMEDOUT);
    double gone = (double)(atomic_load(&store_ended_ns) - from) / 1e9;
    assert_true(took >= 0.1 && gone >= 0.1);
    at_most(took, 0.110, "504");
    at_most(gone, 0.120, "the waiting fiber ended");
    close(fd);
    rig_settled(idle, "a deadline");
}

static void a_cancel_reaches_ten_thousand_children(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    atomic_store(&cancelled, 0);
    struct rig_reply r = rig_get(fd, "/crowd");
    assert_int_equal(r.status, 200);
    assert_int_equal(atomic_load(&cancelled), CHILDREN);
    print_message("10,000 children: %.2f ms\n", atof(r.body) / 1e6);
    close(fd);
    rig_settled(idle, "a crowd");
}

static void the_client_leaves(void **state)
{
    (void)state;
    int fd = rig_dial(&rig);
    atomic_store(&store_rc, 0);
    rig_say(fd, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < RIG_WAIT_S * 1000 && atomic_load(&store_rc) == 0; i++)
        rig_nap(FEN_MS);
    rig_reset(fd);
    rig_settled(idle, "the client left");
    assert_int_equal(atomic_load(&store_rc), -ECANCELED);
}

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    rig_start(&rig);
    int fd = rig_dial(&rig);
    rig_get(fd, "/none");
    close(fd);
    rig_nap(50 * FEN_MS);
    idle = rig_counts();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quick_fetch_is_answered),
        cmocka_unit_test(a_slow_fetch_times_out_after_two_seconds),
        cmocka_unit_test(ten_thousand_time_outs_leave_nothing),
        cmocka_unit_test(the_deadline_reaches_the_store),
        cmocka_unit_test(a_cancel_reaches_ten_thousand_children),
        cmocka_unit_test(the_client_leaves),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
