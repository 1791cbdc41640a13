/* work.c - a pool of buffers for connections that are being served.
 *
 * Last in, first out, so the next request finds warm memory. A connection that waits for a request
 * has none of this. Blocks that a large request needed go back to the heap at once; at most
 * KEEP_WORKS free records are kept. */
#include "http/server_int.h"

#include "mem/mem.h"
#include "sys/sys.h"

#include <string.h>

#define KEEP_WORKS 4096

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

static void out_small(struct fen__work *w)
{
    w->out = (fen_buf){
        .p = w->out_small, .cap = sizeof w->out_small, .grow = grow_out, .grow_arg = w};
}

static void drop_out(struct fen__work *w)
{
    if (w->out.p != w->out_small)
        fen__mem_free(w->out.p, w->out.cap);
    out_small(w);
}

void fen__work_out_reset(struct fen__work *w)
{
    if (w->out.p == w->out_small)
        w->out.n = 0, w->out.err = 0;
    else
        drop_out(w);
}

struct fen__work *fen__work_get(void)
{
    fen__lock(&pool.lock);
    struct fen__work *w = pool.free;
    if (w) {
        pool.free = w->next_free;
        pool.nfree--;
    }
    fen__unlock(&pool.lock);
    if (!w) {
        w = fen__mem_alloc(sizeof *w);
        if (!w)
            return NULL;
        memset(w, 0, offsetof(struct fen__work, pending));
        w->body = NULL;
        w->arena = fen_arena_new();
        if (!w->arena) {
            fen__mem_free(w, sizeof *w);
            return NULL;
        }
    }
    w->in = w->in_small;
    w->in_cap = sizeof w->in_small;
    w->from = w->to = 0;
    w->npending = 0;
    w->body_cap = 0;
    out_small(w);
    return w;
}

void fen__work_put(struct fen__work *w)
{
    drop_out(w);
    if (w->in != w->in_small)
        fen__mem_free(w->in, w->in_cap);
    if (w->body)
        fen__mem_free(w->body, w->body_cap);
    w->body = NULL;
    fen_arena_reset(w->arena);
    fen__lock(&pool.lock);
    bool keep = pool.nfree < KEEP_WORKS;
    if (keep) {
        w->next_free = pool.free;
        pool.free = w;
        pool.nfree++;
    }
    fen__unlock(&pool.lock);
    if (!keep) {
        fen_arena_free(w->arena);
        fen__mem_free(w, sizeof *w);
    }
}

void fen__work_pool_fini(void)
{
    while (pool.free) {
        struct fen__work *w = pool.free;
        pool.free = w->next_free;
        fen_arena_free(w->arena);
        fen__mem_free(w, sizeof *w);
    }
    pool.nfree = 0;
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
