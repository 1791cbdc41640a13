/* interleave_int.h - what interleave.c (the runs) and interleave_report.c (the test, and what it
 * prints) share. */
#ifndef FEN_TEST_MODEL_INTERLEAVE_INT_H
#define FEN_TEST_MODEL_INTERLEAVE_INT_H

#include "interleave.h"

#include <ucontext.h>

enum {
    IL_STACK = 64 << 10,
    IL_LATE = 8,        /* stores in a buffer */
    IL_TRAIL = 4096,    /* choices of a run */
    IL_STEPS = 20000,   /* of a run: more is a loop that makes no way */
    IL_QUIET = 60,      /* steps of one actor while nothing was written: it waits for somebody */
    IL_TURN = 400,      /* steps of one actor in a row: it does too, whatever it writes meanwhile */
    IL_CELLS = 1 << 12, /* words that were touched */
    IL_SITES = 512,
    IL_LAST = 48,
    IL_MUTANT_BOUND = 2 /* there are many mutants, and most are caught by one or two */
};

struct il_late {
    uintptr_t at;
    uint64_t value;
    uint32_t clock[IL_ACTORS];
    uint8_t bytes;
    bool releases;
};

struct il_actor {
    ucontext_t context;
    char *stack;
    void (*fn)(int self);
    void *tls; /* what fen__self says on it */
    bool done, spins;
    bool (*until)(void *arg);
    void *arg;
    uint32_t quiet, turn, writes_seen, n_late;
    struct il_late late[IL_LATE];
    uint32_t clock[IL_ACTORS];
};

/* What is known of eight bytes: who wrote and read them last, and of which. */
struct il_cell {
    uint32_t run, wrote_at, read_at[IL_ACTORS];
    uintptr_t key;
    uint8_t writer, wrote, wrote_atomic, read[IL_ACTORS], read_atomic[IL_ACTORS];
};
/* What an acquire of this address gets; and what was there before the last write, which those who
 * have not seen that may still find by a load without an order. */
struct il_sync {
    uint32_t run, clock[IL_ACTORS];
    uintptr_t key;
    uint64_t before;
    uint32_t wrote_at;
    uint8_t writer, seen; /* seen: bits of actors */
};

#define IL_HERE __builtin_return_address(0)

/* Of an access: without its order; release and acquire instead of one order for all; a locked
 * operation as a load and a store. */
enum il_kind { IL_WEAK, IL_SOFT, IL_SPLIT, IL_KINDS };
struct il_step {
    void *site;
    int actor;
    uint64_t value;
};

struct il_site {
    void *at;
    const char *op;
    int order;
    bool locked;
    uint64_t scenarios; /* in which it is reached */
};

struct il {
    const struct il_scenario *s;
    struct il_actor a[IL_ACTORS];
    int n, now; /* now: who runs; -1: nobody */
    ucontext_t main;
    uint8_t trail[IL_TRAIL][2]; /* of how many, which */
    int depth, length, cost, bound;
    uint32_t run, steps, writes;
    uint64_t runs;
    const char *failed;
    void *failed_at;
    struct il_cell cells[IL_CELLS];
    struct il_sync syncs[IL_CELLS];
    struct il_site sites[IL_SITES];
    int scenario, n_sites, mutant, mutant_kind; /* mutant: a site, -1: none */
    struct il_step last[IL_LAST];               /* a ring of the last steps */
    uintptr_t own[IL_ACTORS][2];                /* memory of which nobody else looks at */
    int n_own;
};
extern struct il il;

/* The scenario of that number, all its runs, with the mutant that is set: what failed, or NULL. */
const char *il_explore(int scenario);
__attribute__((noreturn)) void il_fail_at(const char *what, void *at);

#endif
