/* arena.c - bump allocation in chunks; a block too big for a chunk gets one of its own.
 *
 * used <= held always; a reset keeps the newest ordinary chunk, so a steady state takes no memory
 * from the heap. */
#include "mem/mem.h"

#include <assert.h>
#include <string.h>

#define CHUNK_BYTES 8192
#define UNIT 16

struct chunk {
    struct chunk *next;
    size_t bytes; /* of the whole chunk, this head included */
};

struct fen_arena {
    struct chunk *chunks;
    char *at, *end;
    size_t used, held;
};

static_assert(sizeof(struct chunk) % UNIT == 0, "blocks stay aligned");

fen_arena *fen_arena_new(void) { return fen__mem_calloc(sizeof(struct fen_arena)); }

static void drop(fen_arena *a, struct chunk *c)
{
    while (c) {
        struct chunk *next = c->next;
        a->held -= c->bytes;
        fen__mem_free(c, c->bytes);
        c = next;
    }
}

void fen_arena_free(fen_arena *a)
{
    if (!a)
        return;
    drop(a, a->chunks);
    fen__mem_free(a, sizeof *a);
}

void fen_arena_reset(fen_arena *a)
{
    struct chunk *keep = a->chunks;
    if (keep && keep->bytes == CHUNK_BYTES) {
        drop(a, keep->next);
        keep->next = NULL;
        a->at = (char *)(keep + 1);
        a->end = (char *)keep + keep->bytes;
    } else {
        drop(a, keep);
        a->chunks = NULL;
        a->at = a->end = NULL;
    }
    a->used = 0;
}

static void *in_new_chunk(fen_arena *a, size_t n)
{
    bool big = n > (CHUNK_BYTES - sizeof(struct chunk)) / 2;
    size_t bytes = big ? sizeof(struct chunk) + n : CHUNK_BYTES;
    struct chunk *c = fen__mem_alloc(bytes);
    if (!c)
        return NULL;
    c->bytes = bytes;
    a->held += bytes;
    if (big && a->chunks) { /* behind the current chunk, which still has room */
        c->next = a->chunks->next;
        a->chunks->next = c;
    } else {
        c->next = a->chunks;
        a->chunks = c;
        a->at = (char *)(c + 1) + n;
        a->end = (char *)c + bytes;
    }
    a->used += n;
    return c + 1;
}

void *fen_arena_alloc(fen_arena *a, size_t size_bytes)
{
    if (size_bytes > SIZE_MAX / 2)
        return NULL;
    size_t n = (size_bytes + UNIT - 1) & ~(size_t)(UNIT - 1);
    if (FEN__UNLIKELY(n > (size_t)(a->end - a->at)))
        return in_new_chunk(a, n);
    void *p = a->at;
    a->at += n;
    a->used += n;
    return p;
}

char *fen_arena_dup(fen_arena *a, const void *p, size_t n)
{
    char *copy = fen_arena_alloc(a, n + 1);
    if (copy) {
        if (n)
            memcpy(copy, p, n);
        copy[n] = 0;
    }
    return copy;
}

size_t fen_arena_used_bytes(const fen_arena *a) { return a->used; }
size_t fen_arena_held_bytes(const fen_arena *a) { return a->held; }
