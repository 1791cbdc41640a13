/* cap_test.c - an account's cap is reached in the middle of a request: the request ends with an
 * answer, its memory and its fibers are gone, others and later ones are served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/base.h"
#include "base/sanitize.h"
#include "rig.h"

#include <fen/defer.h>
#include <fen/mem.h>

#define ROOM_BYTES ((int64_t)1 << 20)
#define PIECE_BYTES 20000
#define ROUNDS 40

static _Atomic uint32_t account;
static _Atomic bool capped;
static _Atomic int nulls; /* allocations that were refused */

/* Whoever comes first puts a cap on what the service's requests are charged to. */
static void cap(void)
{
    fen_mem_usage u;
    account = fen_mem_account();
    int rc = fen_mem_usage_get(account, &u);
    if (!rc && atomic_load(&capped))
        rc = fen_mem_cap_set(account, ROOM_BYTES);
    fen_assert(!rc && u.live_bytes < ROOM_BYTES);
}

/* All of the request's room and more, from its arena. */
static int greedy(fen_exchange *x, void *arg)
{
    (void)arg;
    cap();
    for (int i = 0; i < 4 * ROOM_BYTES / PIECE_BYTES; i++) {
        char *p = fen_arena_alloc(fen_exchange_arena(x), PIECE_BYTES);
        if (!p) {
            nulls++;
            return -ENOMEM;
        }
        memset(p, 1, PIECE_BYTES);
    }
    return fen_reply(x, 200, NULL, FEN_SLICE("all"));
}

static void drop(void *copy) { fen_free(*(void **)copy); }

/* The same by blocks that clean-ups give back, in fibers of its own. */
static void child(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; s && i < 4 * ROOM_BYTES / PIECE_BYTES; i++) {
        void *p = fen_alloc(PIECE_BYTES);
        if (!p) {
            nulls++;
            break;
        }
        if (fen_defer_dyn(s, drop, &p, sizeof p)) {
            fen_free(p);
            break;
        }
        fen_yield();
    }
    if (s)
        (void)!fen_scope_close(s);
}

static int family(fen_exchange *x, void *arg)
{
    (void)arg;
    cap();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    int rc = 0;
    for (int i = 0; i < 4 && !rc; i++)
        rc = fen_go(child, NULL);
    int ended = fen_scope_close(s);
    rc = rc ? rc : ended;
    return rc ? rc : fen_reply(x, 200, NULL, FEN_SLICE("together"));
}

/* Takes all there is and answers all the same. */
static int deaf(fen_exchange *x, void *arg)
{
    (void)arg;
    cap();
    while (fen_arena_alloc(fen_exchange_arena(x), PIECE_BYTES) &&
           fen_arena_used_bytes(fen_exchange_arena(x)) < 4 * ROOM_BYTES)
        ;
    nulls += atomic_load(&capped);
    return fen_reply(x, 200, NULL, FEN_SLICE("what?"));
}

static int small(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, NULL, FEN_SLICE("small"));
}

static int routes(fen_server *s)
{
    int rc = fen_route(s, "GET /greedy", greedy, NULL);
    rc = rc ? rc : fen_route(s, "GET /family", family, NULL);
    rc = rc ? rc : fen_route(s, "GET /deaf", deaf, NULL);
    return rc ? rc : fen_route(s, "GET /small", small, NULL);
}

static struct rig rig = {.routes = routes};

/* A whole answer, and the status. */
static int ask(const char *path)
{
    int fd = rig_dial(&rig);
    struct rig_reply got = rig_get(fd, path);
    close(fd);
    if (got.status <= 0 || !got.whole)
        fail_msg("%s: no whole answer (%d)", path, got.status);
    return got.status;
}

static bool refusal(int status) { return status == 500 || status == 503; }

static int64_t live_of(const char *path)
{
    fen_mem_usage u;
    assert_true(ask(path) > 0);
    assert_int_equal(fen_mem_usage_get(account, &u), 0);
    return u.live_bytes;
}

static void round_of(const char *path, bool must_refuse)
{
    capped = true;
    int status = ask(path);
    if (must_refuse ? !refusal(status) : status != 200 && !refusal(status))
        fail_msg("%s: %d", path, status);
    assert_int_equal(ask("/small"), 200); /* another account, or a request that needs little */
    assert_int_equal(fen_mem_cap_set(account, 0), 0);
    capped = false;
    assert_int_equal(ask(path), 200);
}

static void a_cap_in_the_middle_of_a_request(void **state)
{
    (void)state;
    static const char *const paths[] = {"/greedy", "/family", "/deaf"};
#ifdef FEN__ASAN
    skip(); /* there blocks are the C library's, which knows no caps */
#endif
    rig_start(&rig);
    rig_nap(50 * FEN_MS);
    struct rig_count idle = rig_counts();
    for (int p = 0; p < 3; p++) {
        int64_t warm = 0, heap = 0;
        nulls = 0;
        for (int i = 0; i < ROUNDS; i++) {
            round_of(paths[p], p == 0);
            idle = rig_settled(rig_quiet(idle, paths[p]), paths[p]);
            if (i == ROUNDS / 2) {
                warm = live_of(paths[p]);
                heap = rig_settled(rig_quiet(idle, paths[p]), paths[p]).heap_bytes;
            }
        }
        assert_true(nulls >= ROUNDS); /* the cap was met */
        assert_true(live_of(paths[p]) <= warm + PIECE_BYTES);
        int64_t end = rig_settled(rig_quiet(idle, paths[p]), paths[p]).heap_bytes;
        if (end - heap > 64 << 10) /* a connection's buffers; each round would leave more */
            fail_msg("%s: %ld bytes, were %ld", paths[p], (long)end, (long)heap);
    }
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_cap_in_the_middle_of_a_request)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
