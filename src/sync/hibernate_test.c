/* hibernate_test.c - stacks that are given back come back whole, and only those go that may. */
#include <fen/chan.h>
#include <fen/debug.h>
#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <fen/spawner.h>
#include <fen/sync.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON (5 * FEN_MS)
#define PATIENCE (8 * FEN_S)

static int64_t cold_now(void)
{
    fen_stats s;
    fen_stats_get(&s);
    return s.fibers_hibernating;
}

/* Until so many hibernate. */
static void wait_cold(int64_t n)
{
    int64_t end = fen_now() + PATIENCE;
    while (cold_now() != n && fen_now() < end)
        assert_int_equal(fen_sleep(FEN_MS), 0);
    assert_int_equal(cold_now(), n);
}

/* Nobody hibernates although the hibernator has had time: a fiber that may, does. */
static void assert_warm_but(int64_t n)
{
    wait_cold(n);
    assert_int_equal(fen_sleep(4 * SOON), 0);
    assert_int_equal(cold_now(), n);
}

/* ---- what is on the stack survives ---- */

#define SLEEPERS 300
static fen_chan *gate;
static _Atomic int woken;

static void fill(unsigned char *at, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        at[i] = (unsigned char)(seed >> 16);
    }
}

static void hold(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    unsigned char here[900], same[900];
    volatile double x = seed * 0.5;
    fill(here, sizeof here, seed);
    for (int round = 0; round < 2; round++) {
        int v = 0;
        assert_int_equal(fen_chan_recv(gate, &v), 0);
        assert_int_equal(v, 42);
        fill(same, sizeof same, seed);
        assert_memory_equal(here, same, sizeof here);
        assert_true(x == seed * 0.5);
        atomic_fetch_add(&woken, 1);
    }
}

static int keeps_stacks(void *arg)
{
    (void)arg;
    woken = 0;
    gate = fen_chan_new(sizeof(int), 0);
    assert_non_null(gate);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_hibernate(s, SOON), 0);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(fen_go(hold, (void *)(uintptr_t)(i + 1)), 0);
    for (int round = 0; round < 2; round++) {
        wait_cold(SLEEPERS);
        int v = 42;
        for (int i = 0; i < SLEEPERS; i++)
            assert_int_equal(fen_chan_send(gate, &v), 0);
        if (round == 0)
            while (woken < SLEEPERS)
                fen_yield();
    }
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(woken, 2 * SLEEPERS);
    assert_int_equal(cold_now(), 0);
    fen_chan_free(gate);
    return 0;
}

static void test_stacks_come_back_whole(void **state)
{
    (void)state;
    static const enum fen_guard guards[] = {FEN_GUARD_AUTO, FEN_GUARD_MPROTECT, FEN_GUARD_CANARY};
    for (int i = 0; i < 3; i++)
        for (int procs = 1; procs <= 2; procs++)
            assert_int_equal(
                fen_run(keeps_stacks, NULL, &(fen_config){.procs = procs, .guard = guards[i]}), 0);
}

static void test_watched_stacks_come_back_whole(void **state)
{
    (void)state;
    fen_config cfg = {.procs = 2, .watch_hibernating = true};
    assert_int_equal(fen_run(keeps_stacks, NULL, &cfg), 0);
}

/* ---- timers, cancel, a race of wakes with the hibernator ---- */

static void doze(void *arg)
{
    unsigned char here[200], same[200];
    for (int i = 1; i <= 30; i++) {
        fill(here, sizeof here, (unsigned)i);
        assert_int_equal(fen_sleep(FEN_MS * (i % 3) + (int64_t)(uintptr_t)arg * 10 * FEN_US), 0);
        fill(same, sizeof same, (unsigned)i);
        assert_memory_equal(here, same, sizeof here);
    }
}

static int naps(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_hibernate(s, FEN_MS), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(fen_go(doze, (void *)(uintptr_t)i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(cold_now(), 0);
    return 0;
}

static void test_sleepers_are_woken_while_they_are_being_put_away(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 3; procs++)
        assert_int_equal(fen_run(naps, NULL, &(fen_config){.procs = procs}), 0);
}

static void until_cancelled(void *arg)
{
    (void)arg;
    assert_int_equal(fen_sleep(100 * FEN_S), -ECANCELED);
    atomic_fetch_add(&woken, 1);
}

static int cancels(void *arg)
{
    (void)arg;
    woken = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_hibernate(s, SOON), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_go(until_cancelled, NULL), 0);
    wait_cold(10);
    fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_int_equal(woken, 10);
    return 0;
}

static void test_cancel_wakes_them(void **state)
{
    (void)state;
    assert_int_equal(fen_run(cancels, NULL, NULL), 0);
}

/* ---- who may not ---- */

static fen_wg done;

static void wait_gate(void *arg)
{
    (void)arg;
    assert_int_equal(fen_chan_recv(gate, NULL), FEN_ECLOSED);
}

static void with_child(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(wait_gate, NULL), 0);
    wait_gate(NULL);
    assert_int_equal(fen_scope_close(s), 0);
}

static void with_sibling(void *arg)
{
    assert_int_equal(fen_go(wait_gate, arg), 0);
    wait_gate(NULL);
}

static void no_hook(fen_cancel_hook *h, int rc) { (void)h, (void)rc; }

static void with_hook(void *arg)
{
    (void)arg;
    fen_cancel_hook h = {.fn = no_hook};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_cancel_hook_add(s, &h), 0);
    wait_gate(NULL);
    fen_cancel_hook_del(&h);
    assert_int_equal(fen_scope_close(s), 0);
}

static fen_wg *_Atomic on_stack;

static void with_own_wg(void *arg)
{
    (void)arg;
    fen_wg mine = {0};
    fen_wg_add(&mine, 1);
    on_stack = &mine;
    assert_int_equal(fen_wg_wait(&mine), 0);
}

static fen_spawner *spawner;

static void with_anothers_child(void *arg)
{
    assert_int_equal(fen_spawner_go(spawner, "lent", wait_gate, arg), 0);
    wait_gate(NULL);
}

static void not_wanted(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_hibernate(s, 0), 0);
    wait_gate(NULL);
    assert_int_equal(fen_scope_close(s), 0);
}

static const struct {
    void (*fn)(void *arg);
    int cold; /* of the fibers that it makes */
} refused[] = {{with_child, 1}, {with_sibling, 1}, {with_anothers_child, 1},
               {with_hook, 0},  {with_own_wg, 0},  {not_wanted, 0}};

static int refuses(void *arg)
{
    int i = *(int *)arg;
    gate = fen_chan_new(0, 0);
    assert_non_null(gate);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_hibernate(NULL, SOON), 0);
    assert_int_equal(fen_spawner_open(&spawner), 0);
    assert_int_equal(fen_go(wait_gate, NULL), 0);
    assert_int_equal(fen_go(refused[i].fn, NULL), 0);
    assert_warm_but(1 + refused[i].cold);
    fen_spawner_close(spawner);
    fen_chan_close(gate);
    if (refused[i].fn == with_own_wg)
        fen_wg_done(on_stack);
    assert_int_equal(fen_scope_close(s), 0);
    fen_chan_free(gate);
    return 0;
}

static void test_who_may_not_stays_warm(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(fen_run(refuses, &i, &(fen_config){.procs = 2}), 0);
}

static void try_parents(void *arg)
{
    (void)arg;
    assert_int_equal(fen_scope_hibernate(NULL, SOON), -EINVAL);
    fen_wg_done(&done);
}

static int bad_values(void *arg)
{
    (void)arg;
    assert_int_equal(fen_scope_hibernate(NULL, -1), -EINVAL);
    assert_int_equal(fen_scope_hibernate(NULL, FEN_MS - 1), -EINVAL);
    fen_wg_add(&done, 1);
    assert_int_equal(fen_go(try_parents, NULL), 0);
    return fen_wg_wait(&done);
}

static void test_bad_values(void **state)
{
    (void)state;
    assert_int_equal(fen_scope_hibernate(NULL, SOON), FEN_ENOTFIBER);
    assert_int_equal(fen_run(bad_values, NULL, NULL), 0);
}

/* ---- what others see of them ---- */

static char dump[1 << 16];
static size_t dumped;

static void keep(void *arg, const char *text, size_t n)
{
    (void)arg;
    n = n < sizeof dump - 1 - dumped ? n : sizeof dump - 1 - dumped;
    memcpy(dump + dumped, text, n);
    dumped += n;
}

static int dumps(void *arg)
{
    (void)arg;
    dumped = 0;
    gate = fen_chan_new(0, 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_scope_hibernate(s, SOON), 0);
    assert_int_equal(fen_go_named("dozer", 0, wait_gate, NULL), 0);
    wait_cold(1);
    assert_int_equal(fen_debug_fibers(keep, NULL), 0);
    fen_chan_close(gate);
    assert_int_equal(fen_scope_close(s), 0);
    fen_chan_free(gate);
    return 0;
}

static void test_a_dump_shows_their_frames(void **state)
{
    (void)state;
    assert_int_equal(fen_run(dumps, NULL, NULL), 0);
    const char *at = strstr(dump, "name=dozer");
    assert_non_null(at);
    assert_non_null(strstr(at, " hibernates"));
    const char *frames = strstr(at, " < wait_gate+0x");
    assert_non_null(frames);
}

static int *_Atomic lent;

static void lends(void *arg)
{
    (void)arg;
    int mine = 1;
    lent = &mine;
    wait_gate(NULL);
}

static int touches(void *arg)
{
    (void)arg;
    gate = fen_chan_new(0, 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (fen_scope_hibernate(s, SOON) || fen_go_named("lender", 0, lends, NULL))
        _exit(1);
    while (!cold_now())
        fen_sleep(FEN_MS);
    *lent = 2;
    _exit(0);
}

static void test_watching_names_a_stranger(void **state)
{
    (void)state;
    int fd[2], status;
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        dup2(fd[1], 2);
        setenv("FEN_DEBUG", "hibernate=1", 1);
        _exit(fen_run(touches, NULL, NULL) ? 2 : 3);
    }
    close(fd[1]);
    ssize_t n = 0, got;
    while ((got = read(fd[0], dump + n, sizeof dump - 1 - (size_t)n)) > 0)
        n += got;
    dump[n] = 0;
    close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(dump, "the stack of a hibernating fiber was touched: lender (id "));
    assert_non_null(strstr(dump, " by main (id 1"));
}

static int no_guard_probe(void *arg)
{
    (void)arg;
    return 0;
}

int main(void)
{
    if (getenv("FEN_STACK_GUARD") && fen_run(no_guard_probe, NULL, NULL) == -EINVAL) {
        puts("skipped: this kernel has no such guard");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stacks_come_back_whole),
        cmocka_unit_test(test_watched_stacks_come_back_whole),
        cmocka_unit_test(test_sleepers_are_woken_while_they_are_being_put_away),
        cmocka_unit_test(test_cancel_wakes_them),
        cmocka_unit_test(test_who_may_not_stays_warm),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_a_dump_shows_their_frames),
        cmocka_unit_test(test_watching_names_a_stranger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
