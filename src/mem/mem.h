/* mem.h - memory for the rooms above: counted heap blocks, fixed-size slabs, arenas. */
#ifndef FEN_MEM_H
#define FEN_MEM_H

#include "base/base.h"

#include <fen/arena.h>

/* Counted blocks. free needs the size that was asked for. NULL when out of memory. */
void *fen__mem_alloc(size_t bytes) FEN_MUST_CHECK;
void *fen__mem_calloc(size_t bytes) FEN_MUST_CHECK;
void *fen__mem_resize(void *p, size_t old_bytes, size_t bytes) FEN_MUST_CHECK;
void fen__mem_free(void *p, size_t bytes);
int64_t fen__mem_live_bytes(void);

#endif
