/* section_test.c - declared sections that last: the fiber moves and its P goes on with others, the
 * place is forgotten when its sections last no more, and what threads there are is bounded. */
#include <fen/fen.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Within a fiber cmocka's own assertions would jump across stacks. */
static void check_equal(int64_t a, int64_t b, int line)
{
    if (a != b) {
        print_error("line %d: %lld, should be %lld\n", line, (long long)a, (long long)b);
        abort();
    }
}
#define must_equal(a, b) check_equal(a, b, __LINE__)
#define must(cond) check_equal(!!(cond), 1, __LINE__)

#define LONG_NS (100 * FEN_MS)
#define LONGEST_NS (20 * FEN_S) /* the machine is busy with others, perhaps */
#define ROUNDS 5
#define CROWD 32
#define SOON 100 /* sections: far more than a place is remembered for */

static _Atomic bool stop;
static _Atomic int64_t ticks;

static void tick(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&ticks, 1);
        fen_yield();
    }
}

static void block(int64_t ns)
{
    struct timespec left = {.tv_nsec = ns};
    while (ns && nanosleep(&left, &left))
        ;
}

/* So long, and until tick() has come further: when it gets a processor is the machine's affair. */
static void block_until_ticked(int64_t ns, int64_t from)
{
    int64_t end = fen_now() + LONGEST_NS;
    do
        block(ns);
    while (atomic_load(&ticks) == from && fen_now() < end);
}

/* All sections begin here. True: the fiber was moved; *ret_came: ticks in the meantime. */
__attribute__((noinline)) static bool section(int64_t ns, int64_t *ret_came)
{
    pid_t before = gettid();
    fen_blocking_begin();
    bool moved = gettid() != before;
    int64_t from = atomic_load(&ticks);
    if (ns >= LONG_NS)
        block_until_ticked(ns, from);
    else
        block(ns);
    *ret_came = atomic_load(&ticks) - from;
    fen_blocking_end();
    return moved;
}

static void sections_that_lasted_are_moved_the_next_time(void)
{
    int64_t came;
    int moved = 0;
    for (int i = 0; i < ROUNDS; i++) {
        moved += section(LONG_NS, &came);
        must(came > 0); /* the one P was with the other fiber */
    }
    must(moved >= ROUNDS - 2); /* by the first the place is known, by the second a spare */
}

static void and_no_more_when_they_last_no_longer(void)
{
#ifndef FEN_HARD /* there every section is taken for one that lasts */
    int64_t came;
    int here = 0; /* in a row; one may find no spare although the place is known */
    for (int i = 0; i < 10 * SOON && here < SOON; i++)
        here = section(0, &came) ? 0 : here + 1;
    must_equal(here, SOON);
#endif
}

static int run_long_then_short(void *arg)
{
    (void)arg;
    atomic_store(&stop, false);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    must(s != NULL);
    must_equal(fen_go(tick, NULL), 0);
    sections_that_lasted_are_moved_the_next_time();
    and_no_more_when_they_last_no_longer();
    atomic_store(&stop, true);
    return fen_scope_close(s);
}

static void sections_that_last_are_moved_until_they_do_not(void **state)
{
    (void)state;
    must_equal(fen_run(run_long_then_short, NULL, &(fen_config){.procs = 1}), 0);
}

/* ---- a crowd ---- */

static _Atomic int64_t sections;

static void some_sections(void *arg)
{
    int64_t came;
    for (int i = 0; i < *(int *)arg; i++) {
        section(FEN_MS, &came);
        atomic_fetch_add(&sections, 1);
    }
}

static int run_crowd(void *each)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    must(s != NULL);
    for (int i = 0; i < CROWD; i++)
        must_equal(fen_go(some_sections, each), 0);
    return fen_scope_close(s);
}

static int run_crowd_and_count(void *arg)
{
    int64_t *threads = arg;
    int each = 50;
    int rc = run_crowd(&each);
    fen_stats is;
    fen_stats_get(&is);
    *threads = is.threads;
    return rc;
}

static void there_are_as_many_threads_as_sections_at_once(void **state)
{
    (void)state;
    int64_t threads = 0;
    atomic_store(&sections, 0);
    must_equal(fen_run(run_crowd_and_count, &threads, &(fen_config){.procs = 2}), 0);
    must_equal(atomic_load(&sections), CROWD * 50);
    must(threads > 2);
    /* and some that had ended a section and were not yet back in the list when another began */
    must(threads <= 2 * CROWD + 2);
}

static void without_enough_threads_sections_wait_for_each_other(void **state)
{
    (void)state;
    int each = 5;
    atomic_store(&sections, 0);
    must_equal(fen_run(run_crowd, &each, &(fen_config){.procs = 1, .max_threads = 3}), 0);
    must_equal(atomic_load(&sections), CROWD * each);
    atomic_store(&sections, 0);
    must_equal(fen_run(run_crowd, &each, &(fen_config){.procs = 2, .max_threads = 2}), 0);
    must_equal(atomic_load(&sections), CROWD * each);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_that_last_are_moved_until_they_do_not),
        cmocka_unit_test(there_are_as_many_threads_as_sections_at_once),
        cmocka_unit_test(without_enough_threads_sections_wait_for_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
