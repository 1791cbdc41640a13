/* pool_int.h - a resource pool as pool.c, pools.c and describe.c see it. */
#ifndef FEN_SYNC_POOL_INT_H
#define FEN_SYNC_POOL_INT_H

#include "sync/sync_int.h"

#include "sys/look.h"

#include <fen/pool.h>

struct fen__slot_of {
    void *resource; /* who has the slot, else the lock */
    bool made;      /* there is one */
    int next;       /* in a stack; -1: the last */
    int64_t free_ns;
    /* ---- who has the slot writes, others read under the lock; atomic ---- */
    uint64_t fiber; /* who has the lease; 0: nobody. To 0 under the lock */
    const struct fen__g *g;
    uint64_t since; /* TSC */
    const void *site;
    int64_t gets, waited;
};

struct fen_pool {
    fen_pool_config cfg;
    uint32_t lock;
    bool closed;
    int empty, free; /* tops of the stacks; -1 */
    int n_free, out;
    int waiting; /* atomic; to less under the lock */
    struct fen_waitq waiters, closers;
    int64_t made, destroyed, refused, discarded, forgotten; /* atomic */
    const void *site;
    fen_pool *next, **pprev; /* all pools */
    struct fen__slot_of slots[];
};

/* Whom a slot that came back wakes. */
struct fen__pool_wake {
    struct fen__node *to;
    int claim, slot;
    struct fen__woken closers;
};

/* ---- pool.c; the pool's lock is held ---- */
void fen__pool_stats(const fen_pool *p, fen_pool_stats *ret_stats);
bool fen__slot_holder(const struct fen__slot_of *s, fen_pool_holder *ret_holder);

/* ---- pools.c ---- */
void fen__pool_note(fen_pool *p);
void fen__pool_forget(fen_pool *p);
/* Says which pools were not freed, and who still holds a lease; their number. */
int64_t fen__pools_report(void);
/* The part of a dump that tells of pools: those that somebody has something of or waits for. */
void fen__pools_dump(void (*put)(void *arg, const char *text, size_t n), void *arg);

#endif
