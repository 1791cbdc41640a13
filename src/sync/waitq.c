/* waitq.c - first come, first served lists of waiting fibers. */
#include "sync/sync_int.h"

inline void fen__waitq_push(struct fen_waitq *q, struct fen__node *n)
{
    n->queue = q;
    n->next = NULL;
    n->prev = q->tail;
    if (q->tail)
        ((struct fen__node *)q->tail)->next = n;
    else
        q->head = n;
    q->tail = n;
}

inline void fen__waitq_remove(struct fen_waitq *q, struct fen__node *n)
{
    if (n->queue != q)
        return;
    if (n->prev)
        n->prev->next = n->next;
    else
        q->head = n->next;
    if (n->next)
        n->next->prev = n->prev;
    else
        q->tail = n->prev;
    n->queue = NULL;
}

inline struct fen__node *fen__waitq_claim(struct fen_waitq *q, int *ret_claim)
{
    struct fen__node *n;
    while ((n = q->head)) {
        fen__waitq_remove(q, n);
        *ret_claim = fen__claim(n->g, n->epoch);
        if (*ret_claim)
            return n;
    }
    return NULL;
}

void fen__waitq_leave(struct fen_waitq *q, uint32_t *lock, struct fen__node *n)
{
    fen__lock(lock);
    fen__waitq_remove(q, n);
    fen__unlock(lock);
}

static bool claim_one(struct fen__woken *w, struct fen_waitq *q)
{
    int claim;
    struct fen__node *n = fen__waitq_claim(q, &claim);
    if (!n)
        return false;
    n->rc = claim; /* until fen__woken_done */
    n->next = NULL;
    if (w->head)
        w->last->next = n;
    else
        w->head = n;
    w->last = n;
    return true;
}

int fen__woken_first(struct fen__woken *w, struct fen_waitq *q) { return claim_one(w, q); }

int fen__woken_all(struct fen__woken *w, struct fen_waitq *q)
{
    int n = 0;
    while (q->head && claim_one(w, q))
        n++;
    return n;
}

void fen__woken_done(struct fen__woken *w, int rc)
{
    for (struct fen__node *n = w->head, *next; n; n = next) {
        next = n->next;
        fen__waitq_done(n, n->rc, rc);
    }
}
