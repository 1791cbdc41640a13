/* arena.c - bump allocation in chunks; a block too big for a chunk gets one of its own. The bump
 * itself is in the header, and touches nothing but the two pointers there.
 *
 * Invariants: handed out are `used` bytes in chunks before the current one and from..at in it; that
 * is at most held; at and end are multiples of UNIT from each other. A reset keeps the first
 * ordinary chunk, so a steady state takes no memory from the heap. That one is charged to who made
 * the arena, since it outlives every user; the others are their users'.
 *
 * Rejected: chunks that double. 1,000 small blocks take as long with them, so the eight calls of
 * the heap are not what costs. */
#include "mem/mem.h"

#include <assert.h>
#include <string.h>

#define CHUNK_BYTES 8192
#define UNIT FEN_ARENA_ALIGN

struct chunk {
    struct chunk *next;
    size_t bytes; /* of the whole chunk, this head included */
};

struct arena {
    fen_arena face;
    struct chunk *chunks; /* the current one first */
    struct chunk *kept;   /* among them, or NULL */
    uint32_t account;     /* who made the arena */
    char *from;           /* where the current one's blocks begin */
    size_t used, held;
};

static_assert(sizeof(struct chunk) % UNIT == 0, "blocks stay aligned");

static struct arena *of(fen_arena *a) { return (struct arena *)(void *)a; }

fen_arena *fen_arena_new(void)
{
    struct arena *a = fen__mem_calloc(sizeof *a);
    if (!a)
        return NULL;
    a->account = fen_mem_account();
    return &a->face;
}

/* All chunks but one. */
static void drop(struct arena *a, const struct chunk *but)
{
    struct chunk *c = a->chunks;
    while (c) {
        struct chunk *next = c->next;
        bool stays = c == but;
        a->held -= stays ? 0 : c->bytes;
        if (!stays)
            fen__mem_free(c, c->bytes);
        c = next;
    }
}

void fen_arena_free(fen_arena *face)
{
    struct arena *a = of(face);
    if (!a)
        return;
    drop(a, NULL);
    fen__mem_free(a, sizeof *a);
}

/* c: the current chunk from now on, of which n bytes are handed out; NULL: there is none. */
static void go_on_in(struct arena *a, struct chunk *c, size_t n)
{
    a->chunks = c;
    a->from = c ? (char *)(c + 1) : NULL;
    a->face.at = c ? a->from + n : NULL;
    a->face.end = c ? (char *)c + c->bytes : NULL;
}

void fen_arena_reset(fen_arena *face)
{
    struct arena *a = of(face);
    drop(a, a->kept);
    if (a->kept)
        a->kept->next = NULL;
    go_on_in(a, a->kept, 0);
    a->used = 0;
}

void *fen_arena_grow(fen_arena *face, size_t size_bytes)
{
    struct arena *a = of(face);
    if (size_bytes > SIZE_MAX / 2)
        return NULL;
    size_t n = (size_bytes + !size_bytes + UNIT - 1) & ~(size_t)(UNIT - 1);
    if (n <= (size_t)(face->end - face->at))
        return fen_arena_alloc(face, n);
    bool big = n > (CHUNK_BYTES - sizeof(struct chunk)) / 2;
    size_t bytes = big ? sizeof(struct chunk) + n : CHUNK_BYTES;
    bool keep = !big && !a->kept;
    struct chunk *c = keep ? fen__mem_alloc_for(a->account, bytes) : fen__mem_alloc(bytes);
    if (!c)
        return NULL;
    if (keep)
        a->kept = c;
    c->bytes = bytes;
    a->held += bytes;
    if (big && a->chunks) { /* behind the current chunk, which still has room */
        c->next = a->chunks->next;
        a->chunks->next = c;
        a->used += n;
    } else {
        c->next = a->chunks;
        a->used += (size_t)(face->at - a->from);
        go_on_in(a, c, n);
    }
    return c + 1;
}

char *fen_arena_dup(fen_arena *a, const void *p, size_t n)
{
    char *copy = n < SIZE_MAX ? fen_arena_alloc(a, n + 1) : NULL;
    if (copy) {
        if (n)
            memcpy(copy, p, n);
        copy[n] = 0;
    }
    return copy;
}

size_t fen_arena_used_bytes(const fen_arena *face)
{
    const struct arena *a = (const struct arena *)(const void *)face;
    return a->used + (size_t)(face->at - a->from);
}

size_t fen_arena_held_bytes(const fen_arena *face)
{
    return ((const struct arena *)(const void *)face)->held;
}
