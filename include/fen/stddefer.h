/* stddefer.h - the keyword defer, in the spelling of ISO TS 25755:
 *
 *     defer { unlock(m); };
 *
 * The block runs when the enclosing one is left, last in first out, and sees the variables as they
 * are then, not as they were here: where the value at this place is meant, take FEN_DEFER. Not after
 * longjmp or exit. No jump into, out of or over it (-Wjump-misses-init tells). The semicolon after
 * the block is optional in the TS and harmless.
 *
 * A compiler with the TS is used as it is. With gcc the block is a nested function that only the
 * cleanup attribute calls: nobody takes its address, so there is no trampoline and the stack stays
 * not executable. Clang's blocks copy variables when the defer is reached and cannot assign them,
 * which is another meaning under the same word: rejected. */
#ifndef FEN_STDDEFER_H
#define FEN_STDDEFER_H

#if defined(__STDC_DEFER_TS25755__)
#include <stddefer.h>
#elif defined(__cplusplus)
#error "fen/stddefer.h: defer is C; a destructor does the same in C++"
#elif defined(__GNUC__) && !defined(__clang__)
#define FEN_STDDEFER3(n)                                                                           \
    __extension__ auto void fen_defer_block_##n(int *);                                            \
    int fen_defer_mark_##n __attribute__((cleanup(fen_defer_block_##n), unused)) = 0;              \
    void fen_defer_block_##n(int *fen_defer_unused __attribute__((unused)))
#define FEN_STDDEFER2(n) FEN_STDDEFER3(n)
#define defer FEN_STDDEFER2(__COUNTER__)
#else
#error "fen/stddefer.h: this compiler has no sound defer block; use FEN_DEFER of fen/defer.h"
#endif

#endif
