/* jam_test.c - starts that would all wait for one holder: few become fibers, none is forgotten. */
#include "sched/sched.h"

#include <fen/fiber.h>
#include <fen/pool.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <fen/sync.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STARTS = 3000, A_NAP = 64 }; /* A_NAP: FEN__JAM, how many a P starts between two naps */

static struct {
    struct fen__start start[STARTS];
    fen_sem gate;
    fen_pool *pool; /* of one resource: the gate instead; NULL: it is the semaphore */
    _Atomic int passed;
    _Atomic int free_at;     /* how many had passed when the one that needs no permit ran */
    int64_t fibers, took_ns; /* made while the gate was shut, in that time */
} t;

static void through_the_gate(void *start)
{
    if (start == &t.start[STARTS - 1]) {
        atomic_store(&t.free_at, atomic_load(&t.passed));
        return;
    }
    fen_scope *s = t.pool ? fen_scope_open(FEN_NEVER) : NULL;
    fen_lease lease;
    if (s ? fen_pool_get(t.pool, &lease) : fen_sem_acquire(&t.gate))
        abort();
    atomic_fetch_add(&t.passed, 1);
    if (!s)
        fen_sem_release(&t.gate);
    else if (fen_scope_close(s)) /* gives it back */
        abort();
}

static int make(void *arg, void **ret_resource)
{
    *ret_resource = arg;
    return 0;
}
static void destroy(void *arg, void *resource) { (void)arg, (void)resource; }

static void refused(struct fen__start *s)
{
    (void)s;
    abort();
}

static int crowd(void *arg)
{
    fen_stats before, after;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_lease lease;
    t.pool = arg ? fen_pool_new(&(fen_pool_config){
                       .name = "gate", .max = 1, .make = make, .destroy = destroy})
                 : NULL;
    fen_sem_init(&t.gate, 1);
    atomic_store(&t.passed, 0);
    atomic_store(&t.free_at, -1);
    if (t.pool ? fen_pool_get(t.pool, &lease) : fen_sem_acquire(&t.gate))
        return -EINVAL;
    fen_stats_get(&before);
    int64_t from = fen_now();
    struct fen__m *m = fen__enter();
    for (int i = 0; i < STARTS; i++) {
        t.start[i] = (struct fen__start){.fn = through_the_gate, .refused = refused};
        fen__start_later(&t.start[i]);
    }
    fen__leave(m);
    /* The holder sleeps; the P has nothing but starts. */
    fen_sleep(5 * FEN_MS);
    fen_stats_get(&after);
    t.fibers = after.fibers_spawned - before.fibers_spawned;
    t.took_ns = fen_now() - from;
    while (atomic_load(&t.free_at) < 0) /* the gate stays shut until the last start has run */
        fen_sleep(FEN_MS);
    if (t.pool)
        fen_pool_put(&lease, 0);
    else
        fen_sem_release(&t.gate);
    while (atomic_load(&t.passed) < STARTS - 1)
        fen_sleep(FEN_MS);
    if (t.pool && fen_pool_close(t.pool))
        return -EINVAL;
    fen_pool_free(t.pool);
    return fen_scope_close(s);
}

static void makes_few(void *pool)
{
    assert_int_equal(fen_run(crowd, pool, &(fen_config){.procs = 1}), 0);
    int64_t most = A_NAP * (t.took_ns / FEN_MS + 2); /* a nap lasts a millisecond */
    print_message("%d fibers, at most %d\n", (int)t.fibers, (int)most);
    assert_in_range(t.fibers, 1, most);
    assert_int_equal(atomic_load(&t.free_at), 0);
}

static void a_jam_makes_few_fibers(void **state)
{
    (void)state;
    makes_few(NULL);
}

static void a_jam_at_a_pool_makes_few_fibers(void **state)
{
    (void)state;
    makes_few("pool");
}

static void a_jam_on_many_procs_ends(void **state)
{
    (void)state;
    assert_int_equal(fen_run(crowd, NULL, &(fen_config){.procs = 4}), 0);
    assert_int_equal(atomic_load(&t.free_at), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jam_makes_few_fibers),
        cmocka_unit_test(a_jam_at_a_pool_makes_few_fibers),
        cmocka_unit_test(a_jam_on_many_procs_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
