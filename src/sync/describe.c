/* describe.c - what a parked fiber waits for, for dumps and reports, and the list of channels for the
 * report of what was left.
 *
 * The fiber may wake and its object go away while this looks: everything is copied by the kernel and
 * may be nonsense, which view.c finds out afterwards and drops. */
#include "sync/chan_int.h"

#include "sys/look.h"

#include <fen/sync.h>

#define OF(q, type, member) ((const char *)(q)-offsetof(type, member))

static void look_chan(const char *at, struct fen__on *on)
{
    size_t cap, count;
    on->object = at;
    if (fen__sys_copy_all(&cap, at + offsetof(struct fen_chan, cap), sizeof cap) &&
        fen__sys_copy_all(&count, at + offsetof(struct fen_chan, count), sizeof count)) {
        on->have = (int64_t)count;
        on->of = (int64_t)cap;
    }
}

static void look_mutex(const char *at, struct fen__on *on)
{
    on->object = at;
    if (!fen__sys_copy_all(&on->holder, at + offsetof(fen_mutex, owner), sizeof on->holder))
        on->holder = 0;
}

static void look_count(const char *at, size_t offset, struct fen__on *on)
{
    on->object = at;
    if (!fen__sys_copy_all(&on->have, at + offset, sizeof on->have))
        on->have = -1;
}

static void describe(const struct fen__g *g, struct fen__on *ret)
{
    const void *q = g->on;
    switch ((enum fen__reason)g->reason) {
    case FEN__R_CHAN_SEND: look_chan(OF(q, struct fen_chan, senders), ret); break;
    case FEN__R_CHAN_RECV: look_chan(OF(q, struct fen_chan, receivers), ret); break;
    case FEN__R_SELECT: ret->have = g->node.index; break;
    case FEN__R_MUTEX: look_mutex(OF(q, fen_mutex, waiters), ret); break;
    case FEN__R_SEM: look_count(OF(q, fen_sem, waiters), offsetof(fen_sem, permits), ret); break;
    case FEN__R_WG: look_count(OF(q, fen_wg, waiters), offsetof(fen_wg, count), ret); break;
    case FEN__R_SCOPE: look_count(q, offsetof(struct fen_scope, children), ret); break;
    default: break;
    }
}

void fen__describe_init(void) { fen__on_describe = describe; }

/* ---- what was left ---- */

static struct {
    uint32_t lock;
    struct fen_chan *first;
} chans;

void fen__chan_note(struct fen_chan *c, const void *site)
{
    c->site = site;
    fen__lock(&chans.lock);
    c->next = chans.first;
    c->pprev = &chans.first;
    if (c->next)
        c->next->pprev = &c->next;
    chans.first = c;
    fen__unlock(&chans.lock);
}

void fen__chan_forget(struct fen_chan *c)
{
    fen__lock(&chans.lock);
    *c->pprev = c->next;
    if (c->next)
        c->next->pprev = c->pprev;
    c->pprev = NULL;
    fen__unlock(&chans.lock);
}

#define SHOWN 64

static void put_chan(const struct fen_chan *c)
{
    char bytes[512];
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__text_put(&t, "fen: left: channel=");
    fen__text_hex(&t, (uintptr_t)c);
    fen__text_put(&t, " has=");
    fen__text_dec(&t, (int64_t)c->count);
    fen__text_put(&t, "/");
    fen__text_dec(&t, (int64_t)c->cap);
    fen__text_put(&t, " made=");
    fen__sys_symbol(&t, (const char *)c->site - 1);
    fen__text_put(&t, "\n");
    fen__report(bytes, t.n);
}

static int64_t put_chans(void)
{
    int64_t n = 0;
    fen__lock(&chans.lock);
    for (const struct fen_chan *c = chans.first; c; c = c->next)
        if (n++ < SHOWN)
            put_chan(c);
    fen__unlock(&chans.lock);
    return n;
}

void fen__leaks_report(int64_t heap_before)
{
    int64_t n = put_chans();
    fen_stats s;
    fen_stats_get(&s);
    int64_t heap = s.heap_live_bytes - heap_before;
    if (!n && heap == 0)
        return;
    char bytes[160];
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__text_put(&t, "fen: left at the end of the run: channels=");
    fen__text_dec(&t, n);
    fen__text_put(&t, " heap_bytes=");
    fen__text_dec(&t, heap);
    fen__text_put(&t, "\n");
    fen__report(bytes, t.n);
}
