/* interleave.h - source files of libfen as they are, under every interleaving of their accesses to
 * shared memory, within a bound.
 *
 * The files are compiled as for ThreadSanitizer (real_sched.c), so each access to memory is a call;
 * the functions that are called stand here. An actor is a function on a stack of its own. Before
 * each atomic access another actor may go on; a store that is not sequentially consistent may stay
 * in its actor's store buffer until that actor's next locked operation; a weak compare-and-swap may
 * fail for no reason. Each of these costs one; all runs that cost no more than the bound are made
 * (depth first, from the start each time), whoever goes on when an actor has to wait.
 *
 * Between two atomic accesses nobody else moves: that is sound, because two plain accesses of which
 * one is a write and which no release and acquire put in an order are a failure themselves (vector
 * clocks, as ThreadSanitizer has them, but for every run and not for one).
 *
 * A mutant is one access of the files with less order than it has, or a locked operation in two
 * halves. So none is written by hand and all of them can be tried (FEN_MODEL_ALL=1); those that the
 * protocols name are listed, and each must be caught. */
#ifndef FEN_TEST_MODEL_INTERLEAVE_H
#define FEN_TEST_MODEL_INTERLEAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IL_ACTORS 4

/* What is explored. init: the state at the start; actor: what each does; tls: what fen__self says
 * to it; end: what must hold when nobody can go on, each as il_fail. */
struct il_scenario {
    const char *name;
    int actors, bound;
    void (*init)(void);
    void (*actor)(int self);
    void (*end)(void);
    void *(*tls)(int self);
    uint64_t runs; /* fewer do not say what they should */
};

/* A barrier that a protocol names: the file and what its line has (of an inline function also what
 * its caller's line has), and the mutants that must be missed. */
struct il_barrier {
    const char *file, *text;
    const char *kinds; /* o: without its order, r: release and acquire only, h: in two halves */
};

struct il_suite {
    const struct il_scenario *const *scenarios; /* NULL ends them */
    const struct il_barrier *barriers;          /* file NULL ends them */
};
int il_main(const struct il_suite *suite);

/* For scenarios. */
void il_fail(bool broken, const char *what);
bool il_done(int actor);                           /* its function has returned */
void il_wait(bool (*until)(void *arg), void *arg); /* the actor goes on when that is so */
bool il_never(void *arg);                          /* for il_wait: for ever */
void il_own(const void *at, size_t bytes);         /* memory that one actor alone touches */
void il_read(const void *at, size_t bytes);        /* before an access of its own to memory */
void il_write(void *at, size_t bytes);             /* that others touch too */
uint32_t il_swap(uint32_t *word, uint32_t v);      /* an acquire and release of its own */
void il_membarrier(void);                          /* all actors' stores become visible */
extern const struct il_suite *il_suite;
extern void (*il_tls_set)(void *tls);

#endif
