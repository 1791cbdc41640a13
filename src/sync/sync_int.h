/* sync_int.h - wait queues: lists of fiber nodes under the lock of the object they wait for. */
#ifndef FEN_SYNC_INT_H
#define FEN_SYNC_INT_H

#include "sync/sync.h"
#include "sys/sys.h"

#include <fen/sync.h>

/* Lock held for all of these. A node is in at most one queue; node->queue says which. */
void fen__waitq_push(struct fen_waitq *q, struct fen__node *n);
void fen__waitq_remove(struct fen_waitq *q, struct fen__node *n);
/* Takes the first node whose fiber still waits and claims it; nodes of fibers that were woken by
 * something else are dropped on the way. NULL: nobody waits. *ret_claim is for fen__claim_done. */
struct fen__node *fen__waitq_claim(struct fen_waitq *q, int *ret_claim);
static inline void fen__waitq_done(struct fen__node *n, int claim, int rc)
{
    n->rc = rc;
    fen__claim_done(n->g, n->epoch, claim, FEN__BY_SYNC + n->index);
}

/* Arms the fiber and queues its own node. Object's lock held. */
static inline void fen__waitq_wait(struct fen_waitq *q, struct fen__g *g, const void *object)
{
    struct fen__node *n = &g->node;
    n->g = g;
    n->index = 0;
    g->on = object;
    n->epoch = fen__arm(g);
    fen__waitq_push(q, n);
}

/* After the wait: takes the node out if it is still queued. Takes the object's lock. */
void fen__waitq_leave(struct fen_waitq *q, uint32_t *lock, struct fen__node *n);

void fen__scope_pool_fini(void);

/* describe.c */
void fen__describe_init(void);
void fen__leaks_report(int64_t heap_before);

#endif
