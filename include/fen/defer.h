/* defer.h - a clean-up for the enclosing C block. Compiles to a direct call on every way out of the
 * block; no record exists at run time. */
#ifndef FEN_DEFER_H
#define FEN_DEFER_H

struct fen_block_defer {
    void (*fn)(void *arg);
    void *arg;
};

static inline __attribute__((always_inline)) void fen_block_defer_run(struct fen_block_defer *d)
{
    d->fn(d->arg);
}

#define FEN_DEFER_CAT2(a, b) a##b
#define FEN_DEFER_CAT(a, b) FEN_DEFER_CAT2(a, b)

/* Runs fn(arg) when the block is left by any way but longjmp or exit; last in first out. arg is
 * evaluated here, now. fn takes one pointer and returns nothing. A goto over it does not compile
 * under -Wjump-misses-init. Leaving the block must not change a struct that is being returned. */
#define FEN_DEFER(func, argument)                                                                  \
    __attribute__((cleanup(fen_block_defer_run), unused)) struct fen_block_defer FEN_DEFER_CAT(    \
        fen_defer_, __COUNTER__) = {(func), (argument)}

#endif
