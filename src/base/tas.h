/* tas.h - a test-and-set lock for sections of a few hundred nanoseconds that make no call which can
 * park or block. Not for hot paths: readers there go without a lock. */
#ifndef FEN_BASE_TAS_H
#define FEN_BASE_TAS_H

#include "base/base.h"

typedef struct fen__tas {
    bool held;
} fen__tas;

static inline void fen__tas_lock(fen__tas *l)
{
    while (__atomic_exchange_n(&l->held, true, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&l->held, __ATOMIC_RELAXED)) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("yield");
#endif
        }
    }
}

static inline void fen__tas_unlock(fen__tas *l)
{
    __atomic_store_n(&l->held, false, __ATOMIC_RELEASE);
}

#endif
