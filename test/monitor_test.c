/* monitor_test.c - the monitor in real runs: a P whose worker is stuck is handed on, also when
 * nothing has stood still for so long that the monitor looks rarely. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fen/fen.h>

#include <stdatomic.h>
#include <time.h>

#define CALM_NS (250 * FEN_MS) /* more than a hundred looks at most a millisecond apart */
#define STUCK_NS (200 * FEN_MS)
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

static void keep_the_thread(int64_t ns)
{
    struct timespec left = {.tv_nsec = ns};
    while (nanosleep(&left, &left)) /* the library's signals do not shorten it */
        ;
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
    keep_the_thread(STUCK_NS);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_blocks_is_noticed_after_a_calm_time),
        cmocka_unit_test(a_declared_section_is_noticed_after_a_calm_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
