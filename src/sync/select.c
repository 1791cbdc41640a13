/* select.c - waiting for one of several channel operations.
 *
 *   1 lock all channels in address order      2 do a random one of those that can go
 *   3 none: arm one epoch, queue a node in every channel, unlock all, park
 *   4 the waker claims the fiber by that epoch, so exactly one case is done, by the waker
 *   5 take the other nodes out again; the channel whose case was done is not touched any more,
 *     unless it stands in another case too: it may have been closed and freed by then
 * Nodes and elements live in one heap block, not on the stack: others write them while the fiber
 * sleeps. A deadline leaves nothing behind. */
#include "sync/chan_int.h"

#include "mem/mem.h"

#include <string.h>

struct wait_set {
    int n;
    size_t bytes;
    struct fen__node *nodes;
    char *elems; /* one element after another, each rounded up to 16 */
};

static size_t round16(size_t n) { return (n + 15) & ~(size_t)15; }

/* The distinct channels of the enabled cases, sorted by address. */
static int sort_chans(const fen_case *cases, int n, fen_chan **ret)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        fen_chan *c = cases[i].op == FEN_OP_NONE ? NULL : cases[i].c;
        int at = 0;
        while (at < m && ret[at] < c)
            at++;
        if (!c || (at < m && ret[at] == c))
            continue;
        memmove(ret + at + 1, ret + at, (size_t)(m - at) * sizeof *ret);
        ret[at] = c;
        m++;
    }
    return m;
}

static void lock_all(fen_chan **chans, int m)
{
    for (int i = 0; i < m; i++)
        fen__lock(&chans[i]->lock);
}

static void unlock_all(fen_chan **chans, int m)
{
    while (m-- > 0)
        fen__unlock(&chans[m]->lock);
}

/* Its lock held. False: it cannot go. True: it can, or everybody who waits there has been woken by
 * another channel or by a deadline and is on the way out, which only the try itself can tell. */
static inline bool may_go(const fen_case *k)
{
    const fen_chan *c = k->c;
    if (!c || k->op == FEN_OP_NONE)
        return false;
    bool partner =
        k->op == FEN_OP_SEND ? c->count < c->cap || c->receivers.head : c->count || c->senders.head;
    return partner || c->closed;
}

/* All locks held. Those that may go are drawn one after another until one does, so each that can go
 * is as likely. Looking first costs less than trying in random order, where the processor guesses
 * wrong half of the time even if a single one can go. Rejected: a scan on from a random case, which
 * gives a ready one the share of all those before it that are not. */
static int try_cases(fen_case *cases, int n, struct fen__handed *h)
{
    uint8_t left[FEN_SELECT_MAX];
    uint32_t of = 0;
    for (int i = 0; i < n; i++)
        if (may_go(&cases[i]))
            left[of++] = (uint8_t)i;
    while (of) {
        uint32_t at = of > 1 ? fen__draw(fen__self(), of) : 0;
        int k = left[at];
        fen_case *c = &cases[k];
        left[at] = left[--of];
        c->rc = c->op == FEN_OP_SEND ? fen__chan_send_step(c->c, c->elem, h)
                                     : fen__chan_recv_step(c->c, c->elem, h);
        if (c->rc != -EAGAIN)
            return k;
    }
    return -1;
}

static int make_set(const fen_case *cases, int n, struct wait_set *w)
{
    w->n = n;
    w->bytes = (size_t)n * sizeof *w->nodes;
    for (int i = 0; i < n; i++)
        w->bytes += cases[i].c ? round16(cases[i].c->elem) : 0;
    w->nodes = w->bytes ? fen__mem_calloc(w->bytes) : NULL;
    if (w->bytes && !w->nodes)
        return -ENOMEM;
    w->elems = n ? (char *)(w->nodes + n) : NULL;
    return 0;
}

/* All locks held. */
static void queue_all(const fen_case *cases, struct wait_set *w, struct fen__g *g, uint64_t epoch)
{
    char *elem = w->elems;
    fen_assert(w->nodes || !w->n);
    for (int i = 0; i < w->n; i++) {
        fen_chan *c = cases[i].op == FEN_OP_NONE ? NULL : cases[i].c;
        struct fen__node *n = &w->nodes[i];
        if (!c)
            continue;
        *n = (struct fen__node){.g = g, .epoch = epoch, .index = i, .elem = elem};
        elem += round16(c->elem);
        if (cases[i].op == FEN_OP_SEND)
            fen__chan_copy(n->elem, cases[i].elem, c->elem);
        fen__waitq_push(cases[i].op == FEN_OP_SEND ? &c->senders : &c->receivers, n);
    }
}

static void leave_all(const fen_case *cases, struct wait_set *w, fen_chan **chans, int m)
{
    lock_all(chans, m);
    for (int i = 0; i < w->n; i++)
        if (cases[i].c && w->nodes[i].queue)
            fen__waitq_remove(w->nodes[i].queue, &w->nodes[i]);
    unlock_all(chans, m);
}

/* Case k was done by its waker: takes its channel out of the m, if no other node lies there. */
static int without(const fen_case *cases, int n, int k, fen_chan **chans, int m)
{
    fen_chan *c = cases[k].c;
    int left = 0;
    for (int i = 0; i < n; i++)
        if (i != k && cases[i].c == c && cases[i].op != FEN_OP_NONE)
            return m;
    for (int i = 0; i < m; i++)
        if (chans[i] != c)
            chans[left++] = chans[i];
    return left;
}

/* Locks held on entry, let go here. The chosen case, -EAGAIN for a false alarm, or the error. */
static int wait_any(fen_case *cases, struct wait_set *w, fen_chan **chans, int m,
                    int64_t deadline_ns)
{
    struct fen__g *g = fen__cur(fen__self());
    uint32_t bytes[FEN_SELECT_MAX];
    for (int i = 0; i < w->n; i++)
        bytes[i] = cases[i].op != FEN_OP_NONE && cases[i].c ? (uint32_t)cases[i].c->elem : 0;
    queue_all(cases, w, g, fen__arm_locked(g));
    unlock_all(chans, m);
    g->on = w->nodes;
    g->node.index = w->n; /* not in use during a select: says how many for whoever looks */
    int code = fen__park(deadline_ns, FEN__R_SELECT);
    int k = code - FEN__BY_SYNC;
    leave_all(cases, w, chans, k < 0 ? m : without(cases, w->n, k, chans, m));
    if (k < 0) {
        int rc = fen__code_rc(g, code);
        return rc ? rc : -EAGAIN;
    }
    fen_assert(w->nodes && k < w->n);
    fen_case *c = &cases[k];
    c->rc = w->nodes[k].rc;
    if (c->op == FEN_OP_RECV && c->rc == 0 && c->elem)
        fen__chan_copy(c->elem, w->nodes[k].elem, bytes[k]);
    return k;
}

static int select_rt(fen_case *cases, int n, int64_t deadline_ns)
{
    fen_chan *chans[FEN_SELECT_MAX];
    struct wait_set w = {0};
    int m = sort_chans(cases, n, chans), rc = fen__limit_rc(fen__cur(fen__self()));
    while (!rc) {
        struct fen__handed h = {0};
        lock_all(chans, m);
        int k = n ? try_cases(cases, n, &h) : -1;
        if (k >= 0 || deadline_ns == 0) {
            unlock_all(chans, m);
            fen__chan_hand(&h);
            rc = k >= 0 ? k : -ETIMEDOUT;
            break;
        }
        if (!w.nodes && (rc = make_set(cases, n, &w))) {
            unlock_all(chans, m);
            break;
        }
        rc = wait_any(cases, &w, chans, m, deadline_ns);
        if (rc != -EAGAIN)
            break;
        rc = 0;
    }
    fen__mem_free(w.nodes, w.bytes);
    return rc;
}

/* When the first of the FEN_AFTER cases comes, and which it is; FEN_NEVER: there is none. 0 stands
 * for "not later than now". */
static int64_t first_after(const fen_case *cases, int n, int *ret_k)
{
    int k = -1;
    for (int i = 0; i < n; i++)
        if (FEN__UNLIKELY(cases[i].op == FEN_OP_AFTER) &&
            (k < 0 || cases[i].after_ns < cases[k].after_ns))
            k = i;
    if (FEN__LIKELY(k < 0))
        return FEN_NEVER;
    *ret_k = k;
    int64_t after = cases[k].after_ns;
    return after <= 0 ? 0 : fen__time_after(fen__sys_now(), after);
}

int fen_select(fen_case *cases, int n, int64_t deadline_ns)
{
    if (n < 0 || n > FEN_SELECT_MAX)
        return -EINVAL;
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    int k = -1;
    int64_t after = first_after(cases, n, &k);
    int rc = select_rt(cases, n, fen__min_i64(deadline_ns, after));
    if (rc == -ETIMEDOUT && k >= 0 && after <= deadline_ns) {
        rc = fen__limit_rc(fen__cur(fen__self())); /* the scope's time, or its end meanwhile */
        if (!rc) {
            cases[k].rc = 0;
            rc = k;
        }
    }
    fen__leave_wait(fen__self());
    return rc;
}
