/* buf.c - byte buffers that grow: on the heap by doubling, in an arena by copying. */
#include "mem/mem.h"

#include <fen/buf.h>

#define FIRST_BYTES 256

/* The capacity to grow to, or 0 when no size_t holds it. */
static size_t wider(const fen_buf *b, size_t need)
{
    if (need > SIZE_MAX / 4 - b->n)
        return 0;
    size_t cap = b->cap ? 2 * b->cap : FIRST_BYTES;
    return cap < b->n + need ? b->n + need : cap;
}

static int grow_heap(fen_buf *b, size_t need)
{
    size_t cap = wider(b, need);
    char *p = cap ? fen__mem_resize(b->p, b->cap, cap) : NULL;
    if (!p)
        return -ENOMEM;
    b->p = p;
    b->cap = cap;
    return 0;
}

fen_buf fen_buf_heap(void) { return (fen_buf){.grow = grow_heap}; }

void fen_buf_free(fen_buf *b)
{
    fen_promise(b->grow == grow_heap, "fen_buf_free of a buffer that is not from fen_buf_heap");
    fen__mem_free(b->p, b->cap);
    *b = fen_buf_heap();
}

static int grow_arena(fen_buf *b, size_t need)
{
    size_t cap = wider(b, need);
    char *p = cap ? fen_arena_alloc(b->grow_arg, cap) : NULL;
    if (!p)
        return -ENOMEM;
    if (b->n)
        memcpy(p, b->p, b->n);
    b->p = p;
    b->cap = cap;
    return 0;
}

fen_buf fen_buf_arena(fen_arena *a) { return (fen_buf){.grow = grow_arena, .grow_arg = a}; }
