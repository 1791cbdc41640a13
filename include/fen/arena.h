/* arena.h - bump allocation that is freed whole. One owner at a time; not thread-safe.
 * Nothing here blocks. */
#ifndef FEN_ARENA_H
#define FEN_ARENA_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_arena fen_arena;

/* A new, empty arena, or NULL when out of memory. No chunk is taken before the first allocation.
 * The caller frees it with fen_arena_free. Any thread, does not block. */
FEN_API fen_arena *fen_arena_new(void);

/* Frees every block and the arena. NULL is accepted. */
FEN_API void fen_arena_free(fen_arena *a);

/* size_bytes of memory aligned to 16, not zeroed; NULL when out of memory or over the arena's
 * limit. Lives until fen_arena_reset or fen_arena_free. */
FEN_API void *fen_arena_alloc(fen_arena *a, size_t size_bytes) FEN_MUST_CHECK;

/* A copy of n bytes with a NUL behind them, or NULL as above. */
FEN_API char *fen_arena_dup(fen_arena *a, const void *p, size_t n) FEN_MUST_CHECK;

/* Forgets every block; keeps at most one chunk for reuse. */
FEN_API void fen_arena_reset(fen_arena *a);

/* Bytes handed out since the last reset (rounded up to 16 each), and bytes of chunks held. */
FEN_API size_t fen_arena_used_bytes(const fen_arena *a);
FEN_API size_t fen_arena_held_bytes(const fen_arena *a);

#ifdef __cplusplus
}
#endif
#endif
