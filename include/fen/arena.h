/* arena.h - bump allocation that is freed whole. One owner at a time; not thread-safe.
 * Nothing here blocks. */
#ifndef FEN_ARENA_H
#define FEN_ARENA_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_ARENA_ALIGN 16

/* The free rest of the current chunk, so that most blocks need no call. All of it is fen's. */
typedef struct fen_arena {
    char *at, *end; /* multiples of FEN_ARENA_ALIGN; equal while there is no chunk */
} fen_arena;

/* A new, empty arena, or NULL when out of memory. No chunk is taken before the first allocation.
 * The caller frees it with fen_arena_free. Any thread, does not block. */
FEN_API fen_arena *fen_arena_new(void);

/* Frees every block and the arena. NULL is accepted. */
FEN_API void fen_arena_free(fen_arena *a);

/* What fen_arena_alloc does when the current chunk has no room: the same with a new chunk, which is
 * charged to the account of the running fiber. */
FEN_API void *fen_arena_grow(fen_arena *a, size_t size_bytes) FEN_MUST_CHECK;

/* size_bytes of memory aligned to FEN_ARENA_ALIGN, not zeroed; NULL when out of memory. Lives until
 * fen_arena_reset or fen_arena_free. Size 0 is a block too. */
static inline FEN_MUST_CHECK void *fen_arena_alloc(fen_arena *a, size_t size_bytes)
{
    char *p = a->at;
    if (__builtin_expect(size_bytes - 1 >= (size_t)(a->end - p), 0)) /* or 0 bytes */
        return fen_arena_grow(a, size_bytes);
    a->at = p + ((size_bytes + FEN_ARENA_ALIGN - 1) & ~(size_t)(FEN_ARENA_ALIGN - 1));
    return p;
}

/* A copy of n bytes with a NUL behind them, or NULL as above. */
FEN_API char *fen_arena_dup(fen_arena *a, const void *p, size_t n) FEN_MUST_CHECK;

/* Forgets every block; keeps at most one chunk for reuse. */
FEN_API void fen_arena_reset(fen_arena *a);

/* Bytes handed out since the last reset (rounded up to FEN_ARENA_ALIGN each), and bytes of chunks
 * held. */
FEN_API size_t fen_arena_used_bytes(const fen_arena *a);
FEN_API size_t fen_arena_held_bytes(const fen_arena *a);

#ifdef __cplusplus
}
#endif
#endif
