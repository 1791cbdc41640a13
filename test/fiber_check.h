/* fiber_check.h - for tests that run in fibers: assertions that work there (cmocka's own jump
 * across stacks), and a run around a test. Included after cmocka.h. */
#ifndef FEN_TEST_FIBER_CHECK_H
#define FEN_TEST_FIBER_CHECK_H

#include "net/net_int.h"

#include <fcntl.h>
#include <fen/fen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void check_equal(int64_t a, int64_t b, int line)
{
    if (a != b) {
        print_error("line %d: %lld, should be %lld\n", line, (long long)a, (long long)b);
        abort();
    }
}
#define must_equal(a, b) check_equal(a, b, __LINE__)
#define must(cond) check_equal(!!(cond), 1, __LINE__)

/* Soon enough for a machine that is busy, never if it hangs. */
static inline int64_t soon(void) { return fen_now() + 20 * FEN_S; }

static inline int count_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 2048; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* fn in a fiber; afterwards no descriptor may be left. */
static inline void run_clean(int (*fn)(void *), void *arg, int procs)
{
    int before = count_fds();
    assert_int_equal(fen_run(fn, arg, &(fen_config){.procs = procs}), 0);
    assert_int_equal(count_fds(), before);
}

#endif
