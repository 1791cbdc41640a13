/* cxx.h - C++'s record of caught exceptions travels with the stack.
 *
 * The C++ run-time keeps, per thread, the chain of exceptions whose catch blocks are being run and
 * the number of those on their way. A fiber that parks in a catch block, or in a destructor that an
 * exception runs, may go on elsewhere: so what is there is taken off the thread before every switch
 * away from a stack that runs user code, kept on that stack, and put back after. A thread between
 * fibers has an empty record.
 *
 * The symbol is weak: a program without C++ pays for one load and a branch. Its layout is fixed by
 * the Itanium C++ ABI, section 2.2.2. A library that brings C++ into a C program by dlopen is not
 * seen: it must not park in a catch block. */
#ifndef FEN_FIBER_CXX_H
#define FEN_FIBER_CXX_H

#include "base/base.h"

struct fen__cxx {
    void *caught;
    unsigned uncaught;
};
struct fen__cxx *__cxa_get_globals(void) __attribute__((weak));

/* By a call each time: after the switch the address is another one. */
static inline struct fen__cxx fen__cxx_take(void)
{
    struct fen__cxx kept = {0}, *now;
    if (FEN__UNLIKELY(__cxa_get_globals != NULL) && (now = __cxa_get_globals())) {
        kept = *now;
        *now = (struct fen__cxx){0};
    }
    return kept;
}

static inline void fen__cxx_put(struct fen__cxx kept)
{
    if (FEN__UNLIKELY(kept.caught || kept.uncaught))
        *__cxa_get_globals() = kept;
}

#endif
