/* run_rig.h - what the tests of fibers share: a run on one, two and four Ps, and waiting until
 * something has come about. After cmocka.h. */
#ifndef FEN_SYNC_RUN_RIG_H
#define FEN_SYNC_RUN_RIG_H

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>

#include <stdatomic.h>
#include <stdlib.h>

static inline void run_on(int procs, int (*fn)(void *arg), void *arg)
{
    assert_int_equal(fen_run(fn, arg, &(fen_config){.procs = procs}), 0);
}

static inline void run_on_all(int (*fn)(void *arg), void *arg)
{
    for (int procs = 1; procs <= 4; procs *= 2)
        run_on(procs, fn, arg);
}

/* Lets the others go on until *word is at least n. */
static inline void wait_for(_Atomic int *word, int n)
{
    while (atomic_load(word) < n)
        assert_int_equal(fen_sleep(FEN_US * 50), 0);
}

/* Lets what was just started get as far as it can: into its wait. */
static inline void let_wait(void)
{
    for (int i = 0; i < 20; i++)
        fen_yield();
    (void)fen_sleep(FEN_MS);
}

#endif
