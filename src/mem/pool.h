/* pool.h - records of one kind, never unmapped: who comes late to one may always look at it. */
#ifndef FEN_MEM_POOL_H
#define FEN_MEM_POOL_H

#include "base/base.h"

#include <stddef.h>

struct fen__pool {
    uint32_t lock;
    uint32_t bytes, link, chunk; /* of a record; where its link lies in it; records in one map */
    void (*made)(void *record);  /* called once, when its memory is new and zero; NULL: nothing */
    void *free;
};

/* Of a static pool. The link is the member of a record that is of use only while it is free; the
 * others keep what they held. */
#define FEN__POOL(type, link_member, records, made_fn)                                             \
    {                                                                                              \
        .bytes = sizeof(type), .link = offsetof(type, link_member), .chunk = (records),            \
        .made = made_fn                                                                            \
    }

/* NULL: no memory. Any thread. */
void *fen__pool_get(struct fen__pool *p) FEN_MUST_CHECK;
void fen__pool_put(struct fen__pool *p, void *record);

#endif
