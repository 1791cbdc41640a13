/* chan.c - channels.
 *
 * Invariants, under the channel's lock:
 *   count <= capacity; senders wait only when full; receivers wait only when empty and not closed;
 *   so at most one of the two queues holds a fiber that still waits;
 *   closed is set once; a closed channel has no waiters of either kind.
 *
 * Hand-over: a sender that finds a waiting receiver claims it (park.c), copies the element into the
 * receiver's off-stack bytes and completes the wake; a receiver that finds a waiting sender takes
 * the sender's element (or, when buffered, the oldest, and puts the sender's at the end). Nobody
 * touches another fiber's stack: a waiting sender's element is copied off its stack first, and a
 * receiver copies out of its own off-stack bytes after it woke. Who was claimed does not touch the
 * channel any more: it may have been closed and freed by then. */
#include "sync/chan_int.h"

#include "mem/mem.h"

#define ELEM_MAX 65536

fen_chan *fen__chan_make(size_t elem_bytes, size_t capacity, const void *site)
{
    if (elem_bytes > ELEM_MAX || capacity > SIZE_MAX / 4 / (elem_bytes ? elem_bytes : 1))
        return NULL;
    fen_chan *c = fen__mem_calloc(sizeof *c + elem_bytes * capacity);
    if (!c)
        return NULL;
    c->elem = elem_bytes;
    c->cap = capacity;
    if (FEN__UNLIKELY(fen__leaks_wanted()))
        fen__chan_note(c, site);
    return c;
}

/* Not inlined by a program's link-time optimisation: the return address is the place. */
FEN__NOINLINE fen_chan *fen_chan_new(size_t elem_bytes, size_t capacity)
{
    return fen__chan_make(elem_bytes, capacity, __builtin_return_address(0));
}

void fen_chan_free(fen_chan *c)
{
    if (!c)
        return;
    fen__lock(&c->lock); /* the last user may be on its way out */
    fen_promise(!c->senders.head && !c->receivers.head,
                "fen_chan_free while somebody waits at the channel");
    fen__unlock(&c->lock);
    if (FEN__UNLIKELY(c->site != NULL))
        fen__chan_forget(c);
    fen__mem_free(c, sizeof *c + c->elem * c->cap);
}

static inline void put(fen_chan *c, const void *elem)
{
    size_t at = c->first + c->count < c->cap ? c->first + c->count : c->first + c->count - c->cap;
    fen__chan_copy(c->buf + at * c->elem, elem, c->elem);
    c->count++;
}

static inline void get(fen_chan *c, void *ret_elem)
{
    if (ret_elem)
        fen__chan_copy(ret_elem, c->buf + c->first * c->elem, c->elem);
    c->first = c->first + 1 < c->cap ? c->first + 1 : 0;
    c->count--;
}

/* Lock held. 0 or FEN_ECLOSED: done; -EAGAIN: would block. ret: whom to wake after unlocking. */
inline int fen__chan_send_step(fen_chan *c, const void *elem, struct fen__handed *ret)
{
    ret->node = NULL;
    if (c->closed)
        return FEN_ECLOSED;
    struct fen__node *n = c->count ? NULL : fen__waitq_claim(&c->receivers, &ret->claim);
    if (n) {
        fen__chan_copy(n->elem, elem, c->elem);
        ret->node = n;
        ret->rc = 0;
        return 0;
    }
    if (c->count == c->cap)
        return -EAGAIN;
    put(c, elem);
    return 0;
}

inline int fen__chan_recv_step(fen_chan *c, void *ret_elem, struct fen__handed *ret)
{
    ret->node = NULL;
    if (c->count) {
        get(c, ret_elem);
        ret->node = fen__waitq_claim(&c->senders, &ret->claim);
        if (ret->node)
            put(c, ret->node->elem);
        ret->rc = 0;
        return 0;
    }
    if (c->closed)
        return FEN_ECLOSED;
    struct fen__node *n = fen__waitq_claim(&c->senders, &ret->claim);
    if (!n)
        return -EAGAIN;
    if (ret_elem)
        fen__chan_copy(ret_elem, n->elem, c->elem);
    ret->node = n;
    ret->rc = 0;
    return 0;
}

inline void fen__chan_hand(struct fen__handed *h)
{
    if (h->node)
        fen__waitq_done(h->node, h->claim, h->rc);
}

static inline int step(fen_chan *c, enum fen_select_op op, void *elem, struct fen__handed *h)
{
    return op == FEN_OP_SEND ? fen__chan_send_step(c, elem, h) : fen__chan_recv_step(c, elem, h);
}

/* Off-stack bytes for one element: the fiber's own, or a block for a large one. */
void *fen__chan_xfer(struct fen__g *g, size_t bytes)
{
    return bytes <= FEN__XFER_BYTES ? g->xfer : fen__mem_alloc(bytes);
}

void fen__chan_xfer_free(struct fen__g *g, void *xfer, size_t bytes)
{
    if (xfer != g->xfer)
        fen__mem_free(xfer, bytes);
}

/* Waits in a queue of c, whose lock is held and is let go. */
static int wait(fen_chan *c, enum fen_select_op op, void *elem, int64_t deadline_ns, void *xfer)
{
    struct fen__g *g = fen__cur(fen__self());
    struct fen_waitq *q = op == FEN_OP_SEND ? &c->senders : &c->receivers;
    size_t bytes = c->elem;
    if (op == FEN_OP_SEND)
        fen__chan_copy(xfer, elem, bytes);
    g->node.elem = xfer;
    g->node.rc = 0;
    fen__waitq_wait(q, g, c);
    fen__unlock(&c->lock);
    int code = fen__park(deadline_ns, op == FEN_OP_SEND ? FEN__R_CHAN_SEND : FEN__R_CHAN_RECV);
    if (code >= FEN__BY_SYNC) {
        if (op == FEN_OP_RECV && elem && g->node.rc == 0)
            fen__chan_copy(elem, xfer, bytes);
        return g->node.rc;
    }
    fen__waitq_leave(q, &c->lock, &g->node);
    int rc = fen__code_rc(g, code);
    return rc ? rc : -EAGAIN;
}

/* One operation, waiting if need be. RT. */
static int operate(fen_chan *c, enum fen_select_op op, void *elem, int64_t deadline_ns)
{
    struct fen__g *g = fen__cur(fen__self());
    void *xfer = NULL;
    size_t bytes = c->elem;
    int rc;
    do {
        struct fen__handed h;
        fen__lock(&c->lock);
        rc = step(c, op, elem, &h);
        if (rc != -EAGAIN) {
            fen__unlock(&c->lock);
            fen__chan_hand(&h);
            break;
        }
        if (!xfer && !(xfer = fen__chan_xfer(g, bytes))) {
            fen__unlock(&c->lock);
            return -ENOMEM;
        }
        rc = wait(c, op, elem, deadline_ns, xfer);
    } while (rc == -EAGAIN);
    if (xfer)
        fen__chan_xfer_free(g, xfer, bytes);
    return rc;
}

static int blocking(fen_chan *c, enum fen_select_op op, void *elem, int64_t deadline_ns)
{
    struct fen__m *w = fen__enter_wait();
    if (!w)
        return fen__enter_rc();
    int rc = fen__limit_rc(fen__cur(w));
    if (!rc)
        rc = operate(c, op, elem, deadline_ns);
    fen__leave_wait(fen__self());
    return rc;
}

static int trying(fen_chan *c, enum fen_select_op op, void *elem)
{
    struct fen__m *w = fen__enter_any();
    struct fen__handed h;
    fen__lock(&c->lock);
    int rc = step(c, op, elem, &h);
    fen__unlock(&c->lock);
    fen__chan_hand(&h);
    fen__leave_any(w);
    return rc;
}

int fen_chan_send(fen_chan *c, const void *elem)
{
    return blocking(c, FEN_OP_SEND, (void *)(uintptr_t)elem, FEN_NEVER);
}
int fen_chan_send_until(fen_chan *c, const void *elem, int64_t deadline_ns)
{
    return blocking(c, FEN_OP_SEND, (void *)(uintptr_t)elem, deadline_ns);
}
int fen_chan_try_send(fen_chan *c, const void *elem)
{
    return trying(c, FEN_OP_SEND, (void *)(uintptr_t)elem);
}
int fen_chan_recv(fen_chan *c, void *ret_elem)
{
    return blocking(c, FEN_OP_RECV, ret_elem, FEN_NEVER);
}
int fen_chan_recv_until(fen_chan *c, void *ret_elem, int64_t deadline_ns)
{
    return blocking(c, FEN_OP_RECV, ret_elem, deadline_ns);
}
int fen_chan_try_recv(fen_chan *c, void *ret_elem) { return trying(c, FEN_OP_RECV, ret_elem); }

/* Claims everyone who waits in q and chains them; rc is kept for fen__waitq_done. */
static struct fen__node *claim_all(struct fen_waitq *q, struct fen__node *list)
{
    struct fen__node *n;
    int claim;
    while ((n = fen__waitq_claim(q, &claim))) {
        n->rc = claim;
        n->next = list;
        list = n;
    }
    return list;
}

int fen_chan_close(fen_chan *c)
{
    struct fen__m *w = fen__enter_any();
    struct fen__node *list = NULL, *n;
    fen__lock(&c->lock);
    int rc = c->closed ? FEN_ECLOSED : 0;
    c->closed = true;
    if (!rc) {
        list = claim_all(&c->receivers, list);
        list = claim_all(&c->senders, list);
    }
    fen__unlock(&c->lock);
    while ((n = list)) {
        list = n->next;
        fen__waitq_done(n, n->rc, FEN_ECLOSED);
    }
    fen__leave_any(w);
    return rc;
}

size_t fen_chan_len(fen_chan *c)
{
    struct fen__m *w = fen__enter_any();
    fen__lock(&c->lock);
    size_t n = c->count;
    fen__unlock(&c->lock);
    fen__leave_any(w);
    return n;
}

size_t fen_chan_cap(const fen_chan *c) { return c->cap; }
