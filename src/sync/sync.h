/* sync.h - what this room shows to the rooms above it, apart from its public headers. */
#ifndef FEN_SYNC_ROOM_H
#define FEN_SYNC_ROOM_H

#include "sched/sched.h"

#include <fen/local.h>
#include <fen/pool.h>
#include <fen/scope.h>

#include <stdatomic.h>

/* A scope: a limit, the fibers it must outlive, its clean-ups and hooks.
 * Invariants: a fiber's current scope is the top of its own chain; children counts fibers spawned
 * in it that have not ended; only the owner opens, closes and defers; ended is set once. */
struct fen_scope {
    fen_scope_face face; /* first: the header's part */
    struct fen__limit limit;
    struct fen__g *owner;
    struct fen_scope *parent_of_owner; /* the owner's current scope before this one */
    uint32_t lock;                     /* hooks, joiner */
    uint32_t hook_busy;                /* hooks being called now */
    _Atomic int64_t children;          /* and 1 for the owner, unless it waits for them */
    _Atomic bool spawned;              /* it, or one inside it, ever had a child: see scope.c */
    bool hooked, timed;                /* the owner's: ever had a hook; timer was armed for it */
    _Atomic int64_t cold_after_ns;     /* 0: its fibers do not hibernate */
    _Atomic int cause;                 /* set once, before limit.ended; 0: not cancelled */
    uint64_t join_epoch;               /* owner waits for children == 0; 0: does not */
    struct fen__limit cleanup;         /* what the clean-ups wait under; see scope.c */
    int64_t cleanup_ns;
    fen_cancel_hook *hooks;
    struct fen__timer timer;      /* calls the hooks at the deadline */
    uint64_t seq;                 /* counts uses of this memory: a late timer is stale */
    struct fen__child_bill *bill; /* of the request this belongs to; NULL outside of one */
};

/* Resources of ended fibers that worked for a request, added as they end. */
struct fen__child_bill {
    _Atomic int64_t cpu_ticks, wait_ticks, arena_bytes, in_bytes, out_bytes;
};

/* Prepares caller's memory as a scope of the running fiber, and closes it; for the connection
 * record's exchange, which has its memory already. RT is not needed. */
void fen__scope_init(struct fen_scope *s, int64_t deadline_ns);
int fen__scope_fini(struct fen_scope *s);

/* The labels of a fiber, also of another one while it runs: "key\0value\0" one after another. The
 * bytes written, 0: none. What was read may be a moment old, never torn. */
size_t fen__labels_read(struct fen__g *g, char ret[FEN_LABELS_BYTES]);

/* ring.c: one call by io_uring; *c and what it points to are not on the caller's stack, the buffer
 * may be. 0 and the kernel's result, also when the scope ended too late; -ECANCELED, -ETIMEDOUT:
 * the scope ended first, a write may have been cut short; FEN__RING_NONE: not done and not to be
 * had here, ask the pool. */
struct fen__uring_call;
#define FEN__RING_NONE 1
int fen__ring_call(const struct fen__uring_call *c, int *ret_result) FEN_MUST_CHECK;

/* ---- pools.c: who has what of the pools ---- */

#define FEN__POOLS_SHOWN 64
#define FEN__HOLDERS_SHOWN 16

struct fen__pool_view {
    const fen_pool *pool; /* an address, no more */
    char name[64];        /* "": none */
    const void *site;     /* return address of the call that made it */
    fen_pool_stats stats;
    int holders, shown; /* all leases that are out, and the oldest of them */
    fen_pool_holder holder[FEN__HOLDERS_SHOWN];
};

/* The pools that there are, at most FEN__POOLS_SHOWN, and how many there are in all; NULL: no
 * memory. Free with fen__pools_view_free. Any thread, does not block. */
struct fen__pool_view *fen__pools_view(int *ret_n, int *ret_all) FEN_MUST_CHECK;
void fen__pools_view_free(struct fen__pool_view *v);

/* Masks (+1) and unmasks (-1) cancellation for the running fiber. */
void fen__mask(int by);

#endif
