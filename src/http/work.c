/* work.c - a pool of buffers for connections that are being served.
 *
 * Last in, first out, so the next request finds warm memory. A connection that waits for a request
 * has none of this. Blocks that a large request needed go back to the heap at once, and past
 * KEEP_WORKS free records their arenas too. The records themselves are never unmapped within the
 * process: each holds a scope, and a cancel may look along a chain of scopes that is just ending
 * (sync/scope.c). */
#include "http/server_int.h"

#include "mem/mem.h"
#include "sys/sys.h"

#include <string.h>

#define KEEP_WORKS 1024
#define SLAB_WORKS 16

static struct {
    uint32_t lock;
    struct fen__work *free;
    int nfree;
} pool;

static int grow_out(fen_buf *b, size_t need)
{
    struct fen__work *w = b->grow_arg;
    size_t cap = b->cap * 2;
    while (cap - b->n < need)
        cap *= 2;
    bool small = b->p == w->out_small;
    char *p = small ? fen__mem_alloc(cap) : fen__mem_resize(b->p, b->cap, cap);
    if (!p)
        return -ENOMEM;
    if (small)
        memcpy(p, b->p, b->n);
    b->p = p;
    b->cap = cap;
    return 0;
}

static void empty_out(struct fen__work *w)
{
    w->out =
        (fen_buf){.p = w->out_small, .cap = sizeof w->out_small, .grow = grow_out, .grow_arg = w};
}

/* Lock held. */
static void push(struct fen__work *w)
{
    w->next_free = pool.free;
    pool.free = w;
    __atomic_store_n(&pool.nfree, pool.nfree + 1, __ATOMIC_RELAXED);
}

static void put_free(struct fen__work *w)
{
    fen__lock(&pool.lock);
    push(w);
    fen__unlock(&pool.lock);
}

/* Lock held. */
static void add_slab(void)
{
    void *map;
    if (fen__sys_map(SLAB_WORKS * sizeof(struct fen__work), &map))
        return;
    for (int i = SLAB_WORKS; i-- > 0;)
        push((struct fen__work *)map + i);
}

struct fen__work *fen__work_get(void)
{
    fen__lock(&pool.lock);
    if (!pool.free)
        add_slab();
    struct fen__work *w = pool.free;
    if (w) {
        pool.free = w->next_free;
        fen__prefetch(pool.free, 8 * FEN__LINE);
        __atomic_store_n(&pool.nfree, pool.nfree - 1, __ATOMIC_RELAXED);
    }
    fen__unlock(&pool.lock);
    if (w && !w->arena && !(w->arena = fen_arena_new())) {
        put_free(w);
        return NULL;
    }
    if (!w)
        return NULL;
    w->fields = w->fields_small;
    w->in = w->in_small;
    w->in_cap = sizeof w->in_small;
    w->from = w->to = 0;
    w->npending = 0;
    w->billed = w->open = false;
    w->body_cap = 0;
    empty_out(w);
    return w;
}

static void drop_out(struct fen__work *w)
{
    if (w->out.p != w->out_small)
        fen__mem_free(w->out.p, w->out.cap);
    empty_out(w);
}

void fen__work_out_reset(struct fen__work *w) { drop_out(w); }

void fen__work_put(struct fen__work *w)
{
    drop_out(w);
    if (w->in != w->in_small)
        fen__mem_free(w->in, w->in_cap);
    if (w->fields != w->fields_small)
        fen__mem_free(w->fields, FEN__FIELDS_MAX * sizeof *w->fields);
    fen__mem_free(w->body, w->body_cap);
    fen__mem_free(w->carry, FEN__CARRY_BYTES);
    w->body = w->carry = NULL;
    if (__atomic_load_n(&pool.nfree, __ATOMIC_RELAXED) < KEEP_WORKS) {
        fen_arena_reset(w->arena);
    } else {
        fen_arena_free(w->arena);
        w->arena = NULL;
    }
    put_free(w);
}

void fen__work_pool_fini(void)
{
    fen__lock(&pool.lock);
    for (struct fen__work *w = pool.free; w; w = w->next_free) {
        fen_arena_free(w->arena);
        w->arena = NULL;
    }
    fen__unlock(&pool.lock);
}

int fen__work_fields_cap(const struct fen__work *w)
{
    return w->fields == w->fields_small ? FEN__FIELDS_SMALL : FEN__FIELDS_MAX;
}

int fen__work_more_fields(struct fen__work *w)
{
    if (w->fields != w->fields_small)
        return FEN_ELIMIT;
    struct fen__http_field *p = fen__mem_alloc(FEN__FIELDS_MAX * sizeof *p);
    if (!p)
        return -ENOMEM;
    w->fields = p;
    return 0;
}

int fen__work_carry(struct fen__work *w)
{
    if (!w->carry)
        w->carry = fen__mem_alloc(FEN__CARRY_BYTES);
    return w->carry ? 0 : -ENOMEM;
}

int fen__work_room(struct fen__work *w, size_t need)
{
    size_t have = w->to - w->from;
    if (w->from && need > w->in_cap - w->from) {
        memmove(w->in, w->in + w->from, have);
        w->from = 0;
        w->to = have;
    }
    if (need <= w->in_cap - w->from)
        return 0;
    size_t cap = w->in_cap * 2;
    while (cap < need)
        cap *= 2;
    bool small = w->in == w->in_small;
    char *p = small ? fen__mem_alloc(cap) : fen__mem_resize(w->in, w->in_cap, cap);
    if (!p)
        return -ENOMEM;
    if (small)
        memcpy(p, w->in, w->to);
    w->in = p;
    w->in_cap = cap;
    return 0;
}
