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

/* Arms the fiber and queues its own node. Object's lock held; let go before the park. */
static inline void fen__waitq_wait(struct fen_waitq *q, struct fen__g *g, const void *object)
{
    struct fen__node *n = &g->node;
    n->g = g;
    n->index = 0;
    g->on = object;
    n->epoch = fen__arm_locked(g);
    fen__waitq_push(q, n);
}

/* After the wait: takes the node out if it is still queued. Takes the object's lock. */
void fen__waitq_leave(struct fen_waitq *q, uint32_t *lock, struct fen__node *n);

/* What a scope's close waits for: hold by the owner, or by who holds already; let go by anybody. */
void fen__scope_hold(struct fen_scope *s);
void fen__scope_let_go(struct fen_scope *s);
void fen__scope_child_end(struct fen__g *g);
/* The owner, masked: every fiber of the scope has ended (0), or -ETIMEDOUT, -ENOMEM: some are left,
 * and the owner holds the scope as before. RT. */
int fen__scope_join(struct fen_scope *s, struct fen__g *g, int64_t deadline_ns);
int fen__scope_try_join(struct fen_scope *s); /* 0, -EAGAIN */
/* Fibers that were claimed under a lock and are woken after it, first come first. */
struct fen__woken {
    struct fen__node *head, *last;
};
/* Claims the first waiter, or all, to the end of the list; the number of them. Lock held. */
int fen__woken_first(struct fen__woken *w, struct fen_waitq *q);
int fen__woken_all(struct fen__woken *w, struct fen_waitq *q);
/* Wakes them with that result. The object may be gone by the time the last is woken. */
void fen__woken_done(struct fen__woken *w, int rc);

/* Who holds a lock: the fiber's place in the slab + 1; a thread that is no fiber, or a worker on
 * its own stack, is FEN__BY_THREAD. A mutex has FEN__WAITED beside it (lock.c); fen-gdb.py
 * knows. */
#define FEN__BY_THREAD UINT32_C(0x7fffffff)
#define FEN__WAITED UINT32_C(0x80000000)
/* fen_sem.permits: none, and there may be waiters (lock.c). */
#define FEN__SEM_WAITED INT64_MIN
static inline uint32_t fen__holder_of(const struct fen__g *g)
{
    return g->id & FEN__G_THREAD ? FEN__BY_THREAD : g->id + 1;
}
static inline uint32_t fen__holder(void)
{
    struct fen__m *m = fen__self();
    struct fen__g *g = m ? fen__cur(m) : NULL;
    return g ? fen__holder_of(g) : FEN__BY_THREAD;
}

/* scope.c: a new fiber of a scope in which the caller runs. 0, -ENOMEM, FEN_ELIMIT,
 * FEN_ENOTFIBER. */
int fen__scope_go(struct fen_scope *s, void (*fn)(void *arg), void *arg, const void *site);
void fen__scope_pool_fini(void);
/* Runs the clean-ups, last in first out, each unlinked first; on the owner, outside the guarded
 * section. */
void fen__scope_run_defers(struct fen_scope *s);
void fen__defer_pool_fini(void);

/* wg.c: the count in fen_wg.word. */
int64_t fen__wg_count(uint64_t word);
/* describe.c */
void fen__describe_init(void);
/* hibernate.c */
void fen__hibernate_init(void);
void fen__leaks_report(int64_t heap_before);
/* label.c: one more user of a set of labels, one less (NULL: nothing). */
void *fen__labels_share(void *labels);
void fen__labels_drop(void *labels);
/* local.c: see fen__attached_end. */
void fen__locals_end(struct fen__g *g);

#endif
