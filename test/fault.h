/* fault.h - the n-th call of a kind fails: fen__sys_fault for tests. Kinds are the names that
 * src/sys gives to fen__sys_fault. */
#ifndef FEN_TEST_FAULT_H
#define FEN_TEST_FAULT_H

#include "sys/sys.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static const char *_Atomic fault_call;
static _Atomic int fault_rc, fault_left, fault_hits;

static inline int fault_hook(const char *call)
{
    const char *name = atomic_load(&fault_call);
    if (!name || strcmp(name, call) || atomic_fetch_sub(&fault_left, 1) != 1)
        return 0;
    atomic_fetch_add(&fault_hits, 1);
    return atomic_load(&fault_rc);
}

/* The hook is in place between these two, before the run and after it. */
static inline void fault_begin(void) { fen__sys_fault = fault_hook; }
static inline void fault_end(void) { fen__sys_fault = NULL; }

/* From now on the nth call from here returns rc. */
static inline void fault_arm(const char *call, int rc, int nth)
{
    atomic_store(&fault_hits, 0);
    atomic_store(&fault_rc, rc);
    atomic_store(&fault_left, nth);
    atomic_store(&fault_call, call);
}

/* True: there was an nth call, and it has failed. */
static inline bool fault_disarm(void)
{
    atomic_store(&fault_call, NULL);
    return atomic_load(&fault_hits) > 0;
}

#endif
