/* pool.c - a free list under a lock, filled a map at a time. The lock is a leaf. */
#include "mem/pool.h"

#include "sys/sys.h"

static void **link_of(const struct fen__pool *p, void *record)
{
    return (void **)(void *)((char *)record + p->link);
}

static void push(struct fen__pool *p, void *record)
{
    *link_of(p, record) = p->free;
    p->free = record;
}

static void fill(struct fen__pool *p)
{
    void *map;
    if (fen__sys_map((size_t)p->chunk * p->bytes, &map))
        return;
    for (uint32_t i = 0; i < p->chunk; i++) {
        void *record = (char *)map + (size_t)i * p->bytes;
        if (p->made)
            p->made(record);
        push(p, record);
    }
}

void *fen__pool_get(struct fen__pool *p)
{
    fen__lock(&p->lock);
    if (!p->free)
        fill(p);
    void *record = p->free;
    if (record)
        p->free = *link_of(p, record);
    fen__unlock(&p->lock);
    return record;
}

void fen__pool_put(struct fen__pool *p, void *record)
{
    fen__lock(&p->lock);
    push(p, record);
    fen__unlock(&p->lock);
}
