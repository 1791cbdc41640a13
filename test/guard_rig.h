/* guard_rig.h - for tests that are run once more under each FEN_STACK_GUARD. */
#ifndef FEN_TEST_GUARD_RIG_H
#define FEN_TEST_GUARD_RIG_H

#include <fen/run.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static inline int guard_rig_nothing(void *arg)
{
    (void)arg;
    return 0;
}

/* True, and said: the environment names a guard that this kernel does not have. Main returns 77. */
static inline bool guard_is_missing(void)
{
    if (!getenv("FEN_STACK_GUARD") || fen_run(guard_rig_nothing, NULL, NULL) != -EINVAL)
        return false;
    puts("skipped: this kernel has no such guard");
    return true;
}

#endif
