/* describe.c - what a parked fiber waits for, for dumps and reports, and the list of channels
 * for the report of what was left.
 *
 * The fiber may wake and its object go away while this looks: everything is copied by the kernel
 * and may be nonsense, which view.c finds out afterwards and drops. */
#include "sync/chan_int.h"
#include "sync/pool_int.h"

#include "mem/mem.h"

#include "sys/look.h"

#include <fen/sync.h>

#include <string.h>

static int64_t peek(const char *at, size_t offset)
{
    int64_t v;
    return fen__sys_copy_all(&v, at + offset, sizeof v) ? v : -1;
}

static int64_t small(const char *at, size_t offset)
{
    uint32_t v;
    return fen__sys_copy_all(&v, at + offset, sizeof v) ? (int64_t)v : -1;
}

static uint64_t holder(const char *at, size_t offset)
{
    int64_t v = small(at, offset); /* place in the slab + 1 */
    if (v < 0)
        return 0;
    uint32_t who = (uint32_t)v & ~FEN__WAITED;
    return who && who != FEN__BY_THREAD ? fen__number_of(who - 1) : 0;
}

static void describe(const struct fen__g *g, struct fen__on *ret)
{
    const char *on = g->on;
    ret->object = on;
    switch ((enum fen__reason)g->reason) {
    case FEN__R_CHAN_SEND:
    case FEN__R_CHAN_RECV:
        ret->have = peek(on, offsetof(struct fen_chan, count));
        ret->of = peek(on, offsetof(struct fen_chan, cap));
        break;
    case FEN__R_SELECT: /* the nodes are fen's own and tell nobody anything */
        ret->object = NULL;
        ret->have = g->node.index;
        break;
    case FEN__R_MUTEX: ret->holder = holder(on, offsetof(fen_mutex, held)); break;
    case FEN__R_RWLOCK: ret->holder = holder(on, offsetof(fen_rwlock, writer)); break;
    case FEN__R_ONCE: ret->holder = holder(on, offsetof(fen_once, runner)); break;
    case FEN__R_COND: break;
    case FEN__R_BARRIER:
        ret->have = small(on, offsetof(fen_barrier, arrived));
        ret->of = small(on, offsetof(fen_barrier, parties));
        break;
    case FEN__R_SEM:
        ret->have = peek(on, offsetof(fen_sem, permits));
        ret->have = ret->have == FEN__SEM_WAITED ? 0 : ret->have;
        break;
    case FEN__R_WG: ret->have = fen__wg_count((uint64_t)peek(on, offsetof(fen_wg, word))); break;
    case FEN__R_POOL:
        ret->have = small(on, offsetof(struct fen_pool, n_free));
        ret->of = small(on, offsetof(struct fen_pool, cfg.max));
        break;
    case FEN__R_SCOPE: ret->have = peek(on, offsetof(struct fen_scope, children)); break;
    default: ret->object = NULL; break;
    }
}

/* "key=value,key=value" */
static void put_labels(struct fen__g *g, struct fen__text *t)
{
    char text[FEN_LABELS_BYTES];
    size_t n = fen__labels_read(g, text);
    for (size_t at = 0, pair = 0; at < n; pair++) {
        size_t len = strnlen(text + at, n - at);
        if (pair)
            fen__text_put(t, pair % 2 ? "=" : ",");
        fen__text_word(t, text + at, len);
        at += len + 1;
    }
}

void fen__describe_init(void)
{
    __atomic_store_n(&fen__on_describe, describe, __ATOMIC_RELAXED); /* as ever */
    __atomic_store_n(&fen__labels_put, put_labels, __ATOMIC_RELAXED);
    __atomic_store_n(&fen__on_dump, fen__pools_dump, __ATOMIC_RELAXED);
}

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
    int64_t n = put_chans(), n_pools = fen__pools_report();
    int64_t heap = fen__mem_live_bytes() - heap_before;
    if (!n && !n_pools && heap == 0)
        return;
    char bytes[160];
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__text_put(&t, "fen: left at the end of the run: channels=");
    fen__text_dec(&t, n);
    if (n_pools) {
        fen__text_put(&t, " pools=");
        fen__text_dec(&t, n_pools);
    }
    fen__text_put(&t, " heap_bytes=");
    fen__text_dec(&t, heap);
    fen__text_put(&t, "\n");
    fen__report(bytes, t.n);
}
