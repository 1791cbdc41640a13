/* balance_test.c - work finds the Ps: stealing, overflow, no starvation, trees that begin branch by
 * branch. */
#include "fiber/annotate.h"

#include <fen/chan.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guard_rig.h"

#if defined(FEN__TSAN) || defined(FEN__ASAN)
enum { FIBERS = 1000, STORM = 800, LIVE = 80, TRIES = 1, PLAIN = 0 };
#else
enum { FIBERS = 4000, STORM = 1000000, LIVE = 2000, TRIES = 60, PLAIN = 1 };
#endif

/* ---- an idle P steals from a loaded one ---- */

enum { THREADS_MAX = 64 };
static struct {
    _Atomic pid_t tid;
    _Atomic int64_t units;
} by_thread[THREADS_MAX];

/* A unit more for this thread. */
static int64_t count_here(void)
{
    pid_t self = gettid();
    for (int i = 0; i < THREADS_MAX; i++) {
        pid_t none = 0;
        if (by_thread[i].tid == self ||
            atomic_compare_exchange_strong(&by_thread[i].tid, &none, self) || none == self)
            return atomic_fetch_add(&by_thread[i].units, 1) + 1;
    }
    abort();
}

static void one_unit(void *arg)
{
    (void)arg;
    for (volatile int i = 0; i < 20000; i++)
        ;
    (void)count_here();
}

/* How long the thread ran, and waited to run because the machine had no processor for it: the rest
 * it slept. -1: this kernel does not tell. */
static int64_t wanted_to_run_ns(pid_t tid)
{
    char path[64];
    long long ran_ns = -1, waited_ns = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", (int)tid);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%lld %lld", &ran_ns, &waited_ns) != 2 || !ran_ns)
        ran_ns = -1;
    if (f)
        fclose(f);
    return ran_ns < 0 ? -1 : ran_ns + waited_ns;
}

struct load {
    int64_t wall_ns, wanted_ns; /* of all threads that did some of it; -1 */
};

static int loaded(void *arg)
{
    struct load *l = arg;
    fen_stats was, st; /* totals of the process, over all runs */
    fen_stats_get(&was);
    int64_t begun = fen_now();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < FIBERS; i++)
        if (fen_go(one_unit, NULL))
            abort();
    if (fen_scope_close(s))
        abort();
    l->wall_ns = fen_now() - begun;
    for (int i = 0; i < THREADS_MAX && l->wanted_ns >= 0; i++) {
        int64_t ns = by_thread[i].tid ? wanted_to_run_ns(by_thread[i].tid) : 0;
        l->wanted_ns = ns < 0 ? -1 : l->wanted_ns + ns;
    }
    fen_stats_get(&st);
    return st.fibers_spawned == was.fibers_spawned + FIBERS ? 0 : -1;
}

/* Everything is spawned on one P. As long as there is work, both want to run, whatever share of the
 * machine they get: a P that sleeps meanwhile wants less. Each of a few tries may show it, for the
 * others may come late, or a thread ends whose P was handed on. */
static void test_idle_p_takes_its_share(void **state)
{
    (void)state;
    int best = 0; /* % */
    for (int i = 0; i < TRIES && best < 160; i++) {
        struct load l = {0};
        memset(by_thread, 0, sizeof by_thread);
        assert_int_equal(fen_run(loaded, &l, &(fen_config){.procs = 2}), 0);
        int64_t sum = 0;
        for (int k = 0; k < THREADS_MAX; k++)
            sum += by_thread[k].units;
        assert_int_equal(sum, FIBERS);
        if (l.wanted_ns < 0)
            skip();
        int percent = (int)(l.wanted_ns * 100 / l.wall_ns);
        best = percent > best ? percent : best;
    }
    if (PLAIN && best < 160) /* a sanitizer's threads take turns in its own way */
        fail_msg("both together wanted to run %d %% of the time", best);
}

/* Fewer than a ring holds: nothing goes to the global list, so the other P has to steal. None ends
 * before it has: how soon its thread runs is the machine's affair. */
static _Atomic bool stolen;

static void until_stolen(void *steals_before)
{
    for (int64_t end = fen_now() + 20 * FEN_S; !stolen && fen_now() < end; fen_yield()) {
        fen_stats st;
        fen_stats_get(&st);
        if (st.steals > *(int64_t *)steals_before)
            stolen = true;
    }
}

static int in_the_ring(void *arg)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 200; i++)
        if (fen_go(until_stolen, arg))
            abort();
    return fen_scope_close(s);
}

static void test_idle_p_steals(void **state)
{
    (void)state;
    fen_stats was;
    fen_stats_get(&was);
    int64_t before = was.steals;
    stolen = false;
    assert_int_equal(fen_run(in_the_ring, &before, &(fen_config){.procs = 2}), 0);
    assert_true(stolen);
}

/* ---- the global list is not starved ---- */

static _Atomic int64_t begun, turns_at_start;
static _Atomic bool end;

static void always_ready(void *arg)
{
    (void)arg;
    atomic_fetch_add(&begun, 1);
    while (!end) {
        (void)count_here();
        fen_yield();
    }
}

/* Turns of the thread that it runs on: another's go on while this one has no processor. */
static void late(void *arg)
{
    (void)arg;
    turns_at_start = count_here();
    end = true;
}

enum { CROWD = 600 }; /* more than two rings hold: the others are in the list */

static int crowded(void *ret_turns)
{
    begun = turns_at_start = 0;
    end = false;
    fen_stats was, st; /* totals of the process, over all runs */
    fen_stats_get(&was);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < CROWD; i++)
        if (fen_go(always_ready, NULL))
            abort();
    while (begun < CROWD)
        fen_yield();
    for (int i = 0; i < 10; i++)
        fen_yield();
    fen_stats_get(&st);
    bool over = st.overflows > was.overflows;
    for (int i = 0; i < THREADS_MAX; i++)
        by_thread[i].units = 0;
    if (fen_go(late, NULL))
        abort();
    for (int i = 0; i < CROWD && !end; i++) /* pushes it out of runnext, to the end of some queue */
        fen_yield();
    if (fen_scope_close(s))
        abort();
    *(int64_t *)ret_turns = over ? turns_at_start : -1;
    return 0;
}

/* A list of some 350 that gets each 61st tick is through after 350 * 61 of them. */
static void test_a_fiber_in_the_global_list_starts_in_bounded_time(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 2; procs++) {
        int64_t waited = 0;
        assert_int_equal(fen_run(crowded, &waited, &(fen_config){.procs = procs}), 0);
        assert_in_range(waited, 0, CROWD * 61);
    }
}

/* ---- nor by long slices ---- */

enum { WOKEN = 200 };

static fen_chan *calls;
static _Atomic int woken;

static void wait_for_call(void *arg)
{
    (void)arg;
    if (fen_chan_recv(calls, &(int){0}) == 0)
        atomic_fetch_add(&woken, 1);
}

static void *call_all(void *arg)
{
    for (int i = 0; i < WOKEN; i++)
        if (fen_chan_send(calls, &i))
            abort();
    end = true;
    return arg;
}

static void ready_till_all_ran(void *arg)
{
    (void)arg;
    while (woken < WOKEN)
        fen_yield();
}

static void slice(int64_t ns)
{
    for (int64_t until = fen_now() + ns; fen_now() < until;)
        ;
    fen_yield();
}

/* Two that always have work keep the P; slices of one of them since all have been woken. */
static int outside_wakes(void *ret_slices)
{
    pthread_t t;
    int64_t n = 0;
    woken = 0;
    end = false;
    calls = fen_chan_new(sizeof(int), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < WOKEN; i++)
        if (fen_go(wait_for_call, NULL))
            abort();
    (void)fen_sleep(10 * FEN_MS);
    if (fen_go(ready_till_all_ran, NULL) || pthread_create(&t, NULL, call_all, NULL))
        abort();
    while (!end)
        slice(50 * FEN_US);
    for (; woken < WOKEN; n++)
        slice(300 * FEN_US);
    pthread_join(t, NULL);
    if (fen_scope_close(s))
        abort();
    fen_chan_free(calls);
    *(int64_t *)ret_slices = n;
    return 0;
}

/* By ticks alone it takes 61 turns for each, half of them long; by time some slices for all. */
static void test_who_is_woken_from_outside_does_not_wait_for_61_long_slices(void **state)
{
    (void)state;
    int64_t slices = 0;
    assert_int_equal(fen_run(outside_wakes, &slices, &(fen_config){.procs = 1}), 0);
    assert_in_range(slices, 0, WOKEN * 61 / 8);
}

/* ---- a tree begins branch by branch ---- */

enum { FAN = 8, DEPTH = PLAIN ? 5 : 3 };

static void node(void *depth)
{
    int d = *(int *)depth - 1;
    fen_scope *s = d ? fen_scope_open(FEN_NEVER) : NULL;
    for (int i = 0; s && i < FAN; i++)
        if (fen_go(node, &d))
            abort();
    if (s && fen_scope_close(s))
        abort();
}

static int tree(void *ret_stats)
{
    int depth = DEPTH;
    node(&depth);
    fen_stats_get(ret_stats);
    return 0;
}

/* 4,681 fibers, of which 585 wait for children; level by level that many would have a stack. */
static void test_a_tree_has_few_stacks(void **state)
{
    (void)state;
    fen_stats st;
    assert_int_equal(fen_run(tree, &st, &(fen_config){.procs = 1}), 0);
    assert_in_range(st.stacks_mapped_bytes, 1, 256 * (68 << 10));
}

/* One that was spawned first is not forgotten behind newer ones. */
static _Atomic bool first_ran;
static void first(void *arg)
{
    (void)arg;
    first_ran = true;
}

static void breed(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++)
        if (!first_ran && fen_go(breed, NULL))
            abort();
    for (volatile int i = 0; i < 1000; i++)
        ;
}

static int never_ending(void *arg)
{
    (void)arg;
    first_ran = false;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (fen_go(first, NULL) || fen_go(breed, NULL))
        abort();
    return fen_scope_close(s);
}

static void test_the_oldest_begins_though_there_are_always_newer_ones(void **state)
{
    (void)state;
    assert_int_equal(fen_run(never_ending, NULL, &(fen_config){.procs = 1}), 0);
    assert_true(first_ran);
}

/* ---- a storm of spawns ---- */

static _Atomic int64_t ran;
static void count(void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&ran, 1, memory_order_relaxed);
}

static void spawner(void *arg)
{
    for (int left = *(int *)arg; left > 0;) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        for (int i = 0; i < LIVE / 4 && left > 0; i++, left--)
            if (fen_go(count, NULL))
                abort();
        if (fen_scope_close(s))
            abort();
    }
}

static int storm(void *arg)
{
    (void)arg;
    int each = STORM / 4;
    ran = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 4; i++)
        if (fen_go(spawner, &each))
            abort();
    if (fen_scope_close(s))
        abort();
    fen_stats st;
    do /* the last ones have woken this fiber just before they end */
        fen_stats_get(&st);
    while ((st.fibers_live > 1 || st.run_queue) && fen_sleep(FEN_MS) == 0);
    return ran == STORM ? 0 : -1;
}

static void test_a_storm_of_spawns(void **state)
{
    (void)state;
    assert_int_equal(fen_run(storm, NULL, &(fen_config){.procs = 2}), 0);
}

int main(void)
{
    if (guard_is_missing())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_p_takes_its_share),
        cmocka_unit_test(test_idle_p_steals),
        cmocka_unit_test(test_a_fiber_in_the_global_list_starts_in_bounded_time),
        cmocka_unit_test(test_who_is_woken_from_outside_does_not_wait_for_61_long_slices),
        cmocka_unit_test(test_a_tree_has_few_stacks),
        cmocka_unit_test(test_the_oldest_begins_though_there_are_always_newer_ones),
        cmocka_unit_test(test_a_storm_of_spawns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
