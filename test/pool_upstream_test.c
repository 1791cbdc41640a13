/* pool_upstream_test.c - a resource pool before an upstream that is too slow: each call returns
 * at its deadline, its connection is closed and not lent again, and the pool is whole at the end. A
 * reply carries the number of its request, so a connection that came back with a reply on its way
 * would be seen by its next user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fen/fen.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CALLS 1000
#define CLIENTS 20
#define BUDGET_NS (50 * FEN_MS)
#define UPSTREAM_NS (500 * FEN_MS)
/* An idle machine returns within 60 ms; the test allows for one that is not idle. */
#define LATE_NS (1500 * FEN_MS)

static fen_pool *upstream;
static fen_spawner *behind;
static bool all_slow;
static _Atomic int timed_out, answered, dirty, longest_ms, shortest_ms;

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static bool is_slow(uint32_t id) { return all_slow || id % 3 == 0; }

static void serve(void *arg)
{
    fen_sock *s = arg;
    uint32_t id;
    while (fen_sock_read(s, &id, sizeof id, FEN_NEVER) == sizeof id) {
        if (is_slow(id) && fen_sleep(UPSTREAM_NS) < 0)
            break;
        if (fen_sock_write(s, &id, sizeof id, FEN_NEVER) < 0)
            break;
    }
    fen_sock_close(s);
}

static int dial(void *arg, void **ret)
{
    fen_sock *pair[2];
    int rc = fen_sock_pair(false, pair);
    (void)arg;
    if (rc < 0)
        return rc;
    rc = fen_spawner_go(behind, "upstream", serve, pair[1]);
    if (rc < 0) {
        fen_sock_close(pair[0]);
        fen_sock_close(pair[1]);
        return rc;
    }
    *ret = pair[0];
    return 0;
}

static void hang_up(void *arg, void *resource)
{
    (void)arg;
    fen_sock_close(resource);
}

static int ask(fen_sock *s, uint32_t id)
{
    uint32_t reply = 0;
    ssize_t n = fen_sock_write(s, &id, sizeof id, FEN_NEVER);
    if (n == sizeof id)
        n = fen_sock_read(s, &reply, sizeof reply, FEN_NEVER);
    if (n < 0)
        return (int)n;
    if (reply != id)
        atomic_fetch_add(&dirty, 1);
    return 0;
}

static int call(uint32_t id)
{
    fen_lease l;
    fen_scope *s = fen_scope_open(fen_now() + BUDGET_NS);
    assert_non_null(s);
    int rc = fen_pool_get(upstream, &l);
    if (rc == 0) {
        rc = ask(l.resource, id);
        if (id % 7) /* the rest leave it to the scope */
            fen_pool_put(&l, rc);
    }
    (void)fen_scope_close(s);
    return rc;
}

static void note_time(int ms)
{
    int seen = atomic_load(&longest_ms);
    while (ms > seen && !atomic_compare_exchange_weak(&longest_ms, &seen, ms))
        ;
    seen = atomic_load(&shortest_ms);
    while (ms < seen && !atomic_compare_exchange_weak(&shortest_ms, &seen, ms))
        ;
}

static void client(void *arg)
{
    uint32_t first = (uint32_t)(uintptr_t)arg * (CALLS / CLIENTS);
    for (uint32_t i = 0; i < CALLS / CLIENTS; i++) {
        int64_t from = fen_now();
        int rc = call(first + i);
        if (rc == -ETIMEDOUT) {
            note_time((int)((fen_now() - from) / FEN_MS));
            atomic_fetch_add(&timed_out, 1);
        } else {
            assert_int_equal(rc, 0);
            assert_false(is_slow(first + i));
            atomic_fetch_add(&answered, 1);
        }
    }
}

/* All slots can be had at once. */
static void pool_is_whole(void)
{
    fen_lease l[CLIENTS];
    fen_pool_stats t;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    fen_pool_stats_get(upstream, &t);
    assert_int_equal(t.lent, 0);
    assert_int_equal(t.made - t.destroyed, t.free);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(fen_pool_try_get(upstream, &l[i]), 0);
    for (int i = 0; i < CLIENTS; i++)
        fen_pool_put(&l[i], 0);
    assert_int_equal(fen_scope_close(s), 0);
}

static int main_fiber(void *arg)
{
    (void)arg;
    timed_out = answered = dirty = longest_ms = 0;
    shortest_ms = 1 << 30;
    upstream = fen_pool_new(
        &(fen_pool_config){.name = "upstream", .max = CLIENTS, .make = dial, .destroy = hang_up});
    assert_non_null(upstream);
    fen_scope *servers = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_spawner_open(&behind), 0);
    fen_scope *clients = fen_scope_open(FEN_NEVER);
    for (uintptr_t i = 0; i < CLIENTS; i++)
        assert_int_equal(fen_go(client, (void *)i), 0);
    assert_int_equal(fen_scope_close(clients), 0);
    pool_is_whole();
    assert_int_equal(fen_pool_close(upstream), 0);
    fen_spawner_close(behind);
    assert_int_equal(fen_scope_close(servers), 0);
    fen_pool_stats t;
    fen_pool_stats_get(upstream, &t);
    assert_int_equal(t.made, t.destroyed);
    fen_pool_free(upstream);
    return 0;
}

static void one_run(bool slow)
{
    all_slow = slow;
    int before = open_fds();
    assert_int_equal(fen_run(main_fiber, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(open_fds(), before);
    assert_int_equal(dirty, 0);
    assert_int_equal(timed_out + answered, CALLS);
}

/* 1,000 calls with 50 ms against 500 ms. */
static void test_all_slow(void **state)
{
    (void)state;
    one_run(true);
    assert_int_equal(timed_out, CALLS);
    assert_true(shortest_ms >= 49);
    assert_true(longest_ms <= LATE_NS / FEN_MS);
    print_message("each call returned in %d to %d ms\n", shortest_ms, longest_ms);
}

/* Slow and fast ones in turn: a connection with a reply on its way is not lent again. */
static void test_mixed(void **state)
{
    (void)state;
    one_run(false);
    assert_true(timed_out >= CALLS / 3);
    assert_true(answered > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_slow),
                                       cmocka_unit_test(test_mixed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
