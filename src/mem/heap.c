/* heap.c - counted blocks over the C library's allocator.
 *
 * The counter is one word shared by all threads: callers on hot paths keep caches of their own, so
 * it moves only when a cache is filled or dropped. */
#include "mem/mem.h"

#include "sys/sys.h"

#include <stdlib.h>

static int64_t live_bytes; /* by __atomic calls only */

static bool refused(void) { return fen__sys_fault && fen__sys_fault("malloc"); }

void *fen__mem_alloc(size_t bytes)
{
    void *p = refused() ? NULL : malloc(bytes);
    if (p)
        __atomic_fetch_add(&live_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    return p;
}

void *fen__mem_calloc(size_t bytes)
{
    void *p = refused() ? NULL : calloc(1, bytes);
    if (p)
        __atomic_fetch_add(&live_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    return p;
}

void *fen__mem_resize(void *p, size_t old_bytes, size_t bytes)
{
    void *q = refused() ? NULL : realloc(p, bytes);
    if (q)
        __atomic_fetch_add(&live_bytes, (int64_t)bytes - (int64_t)old_bytes, __ATOMIC_RELAXED);
    return q;
}

void fen__mem_free(void *p, size_t bytes)
{
    if (p)
        __atomic_fetch_sub(&live_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    free(p);
}

int64_t fen__mem_live_bytes(void) { return __atomic_load_n(&live_bytes, __ATOMIC_RELAXED); }
