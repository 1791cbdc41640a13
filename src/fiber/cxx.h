/* cxx.h - C++'s record of caught exceptions travels with the stack.
 *
 * The C++ run-time keeps, per thread, the chain of exceptions whose catch blocks are being run and
 * the number of those on their way. A fiber that parks in a catch block, or in a destructor that an
 * exception runs, may go on elsewhere: so what is there is taken off the thread before every switch
 * away from a stack that runs user code, kept on that stack, and put back after, into what is then
 * the thread's own record. A thread between fibers has an empty record.
 *
 * Nearly always the record is empty on both sides: then it is read and nothing else is done. The
 * symbol is weak, for programs without C++. Its layout is fixed by the Itanium C++ ABI, section
 * 2.2.2. A library that brings C++ into a C program by dlopen is not seen: it must not park in a
 * catch block. */
#ifndef FEN_FIBER_CXX_H
#define FEN_FIBER_CXX_H

#include "base/base.h"

struct fen__cxx {
    void *caught;
    unsigned uncaught;
};
struct fen__cxx *__cxa_get_globals(void) __attribute__((weak));

/* Of the calling thread; NULL: no C++ in the program, or none of its memory. */
static inline struct fen__cxx *fen__cxx_now(void)
{
    return FEN__UNLIKELY(__cxa_get_globals != NULL) ? __cxa_get_globals() : NULL;
}

static inline bool fen__cxx_busy(const struct fen__cxx *now)
{
    return now->caught || now->uncaught;
}

static inline struct fen__cxx fen__cxx_take(struct fen__cxx *now)
{
    struct fen__cxx kept = *now;
    *now = (struct fen__cxx){0};
    return kept;
}

#endif
