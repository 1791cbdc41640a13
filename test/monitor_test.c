/* monitor_test.c - the monitor in real runs: a P whose worker is stuck is handed on, also when
 * nothing has stood still for so long that the monitor looks rarely; who computes for ever is
 * demoted, the last one too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fen/fen.h>

#include <dirent.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define CALM_NS (250 * FEN_MS)    /* more than a hundred looks at most a millisecond apart */
#define STUCK_NS (20 * FEN_MS)    /* at least */
#define STUCK_MAX_NS (20 * FEN_S) /* the machine is busy with others, perhaps */
#define ROUNDS 2

static _Atomic bool stop;
static _Atomic int64_t ticks;

/* Never stops being ready: the one P is never idle. */
static void tick(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&ticks, 1);
        fen_yield();
    }
}

/* Until the other fiber has come further: it cannot before the P is handed on. */
static void keep_the_thread(int64_t from)
{
    int64_t begun = fen_now(), now = begun;
    while (now < begun + STUCK_NS || (atomic_load(&ticks) == from && now < begun + STUCK_MAX_NS)) {
        struct timespec left = {.tv_nsec = STUCK_NS};
        while (nanosleep(&left, &left)) /* the library's signals do not shorten it */
            ;
        now = fen_now();
    }
}

/* How far tick() came while this fiber kept its thread. */
static int64_t progress(bool declared)
{
    int64_t end = fen_now() + CALM_NS;
    while (fen_now() < end)
        fen_yield();
    if (declared)
        fen_blocking_begin();
    int64_t from = atomic_load(&ticks);
    keep_the_thread(from);
    int64_t came = atomic_load(&ticks) - from;
    if (declared)
        fen_blocking_end();
    return came;
}

static int run(void *arg)
{
    const bool *declared = arg;
    fen_stats was, is;
    atomic_store(&stop, false);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    assert_int_equal(fen_go(tick, NULL), 0);
    fen_stats_get(&was);
    for (int i = 0; i < ROUNDS; i++)
        assert_true(progress(*declared) > 0);
    fen_stats_get(&is);
    assert_true(is.handoffs - was.handoffs >= ROUNDS);
    atomic_store(&stop, true);
    return fen_scope_close(s);
}

static void a_call_that_blocks_is_noticed_after_a_calm_time(void **state)
{
    (void)state;
    bool declared = false;
    assert_int_equal(fen_run(run, &declared, &(fen_config){.procs = 1}), 0);
}

static void a_declared_section_is_noticed_after_a_calm_time(void **state)
{
    (void)state;
    bool declared = true;
    assert_int_equal(fen_run(run, &declared, &(fen_config){.procs = 1}), 0);
}

/* ---- endless loops ---- */

#define HOGS 3
#define LONGEST_NS (20 * FEN_S)

static void compute(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) /* pairs with nothing: a flag */
        ;
}

static int threads_demoted(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += atoi(e->d_name) > 0 && sched_getscheduler(atoi(e->d_name)) == SCHED_IDLE;
    closedir(d);
    return n;
}

/* Nobody waits for the P of the last one: this fiber sleeps on the other. */
static int run_beside_hogs(void *arg)
{
    (void)arg;
    int64_t end = fen_now() + LONGEST_NS;
    atomic_store(&stop, false);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    for (int i = 0; i < HOGS; i++)
        assert_int_equal(fen_go(compute, NULL), 0);
    while (threads_demoted() < HOGS && fen_now() < end)
        assert_int_equal(fen_sleep(5 * FEN_MS), 0);
    assert_int_equal(threads_demoted(), HOGS);
    atomic_store(&stop, true);
    return fen_scope_close(s);
}

static void the_last_hog_is_demoted_like_the_rest(void **state)
{
    (void)state;
    assert_int_equal(fen_run(run_beside_hogs, NULL, &(fen_config){.procs = 2}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_blocks_is_noticed_after_a_calm_time),
        cmocka_unit_test(a_declared_section_is_noticed_after_a_calm_time),
        cmocka_unit_test(the_last_hog_is_demoted_like_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
