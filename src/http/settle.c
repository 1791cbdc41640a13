/* settle.c - from a fiber's counters to an account.
 *
 * The fiber's counters only grow. A request's use is the difference between two readings: the end
 * of the request before it (or the fiber's start) and its own end, so the read that brought its
 * bytes and the parsing are in it. What the write of a batch of replies costs is shared equally by
 * them. A batch of one, which is the usual one, is read once, after the write; that reading's clock
 * is also where its latency ends.
 *
 * Memory is charged as it is taken: from the moment at which a request's route and tenant are known
 * the fiber has their account, until its reply is sent or the next request of the connection has
 * its own. Fibers that the handler starts begin with it. What the connection reads in between is
 * the server's, as are the buffers that it keeps for the next one.
 *
 * While the bill is off (fen__metered) requests are answered and their latency is kept, but nothing
 * of the above is done. What it costs is measured as that difference (fen bench meter). */
#include "http/server_int.h"

#include "mem/mem.h"
#include "meter/meter.h"
#include "sys/sys.h"

#include <string.h>

static struct fen__mark read_mark(const struct fen__g *g)
{
    return (struct fen__mark){g->cpu_ticks, g->wait_ticks, g->in_bytes, g->out_bytes};
}

struct fen__mark fen__mark_now(void) { return read_mark(fen__cur(fen__self())); }

/* Closes the slice and adds what was used since the mark, which moves to now. The TSC then. RT. */
static uint64_t add_since(struct fen__m *m, struct fen__work *w, struct fen__usage_ticks *u)
{
    uint64_t tsc = fen__charge_now(m);
    struct fen__mark now = read_mark(fen__cur(m)), was = w->mark;
    w->mark = now;
    u->cpu_ticks += now.cpu_ticks - was.cpu_ticks;
    u->wait_ticks += now.wait_ticks - was.wait_ticks;
    u->in_bytes += now.in_bytes - was.in_bytes;
    u->out_bytes += now.out_bytes - was.out_bytes;
    return tsc;
}

/* What follows is not the last answered request's. */
static void close_last(struct fen__work *w)
{
    if (!w->open)
        return;
    w->open = false;
    struct fen__m *m = fen__enter();
    (void)add_since(m, w, &w->pending[w->npending - 1].used);
    fen__leave(m);
}

void fen__request_begin(struct fen__work *w)
{
    close_last(w);
    w->arena_from = fen__tsc();
    memset(&w->x.children, 0, sizeof w->x.children);
}

static uint32_t operation_of(const struct fen__work *w, const fen_server *s)
{
    const struct fen__route *r = w->x.match.route;
    return r ? s->operations[r->index] : 0;
}

void fen__request_pays(struct fen__work *w, fen_server *s)
{
    if (!fen__metered())
        return;
    w->x.account = fen__meter_account(operation_of(w, s), w->x.req.tenant);
    fen__mem_pay_as(w->x.account);
}

void fen__server_pays(const fen_server *s) { fen__mem_pay_as(s->account); }

static void add_children(struct fen__usage_ticks *u, struct fen__child_bill *c)
{
    u->cpu_ticks += c->cpu_ticks;
    u->wait_ticks += c->wait_ticks;
    u->arena_bytes += c->arena_bytes;
    u->in_bytes += c->in_bytes;
    u->out_bytes += c->out_bytes;
}

void fen__request_end(struct fen__work *w, fen_server *s)
{
    struct fen__pending *p = &w->pending[w->npending++];
    fen_exchange *x = &w->x;
    p->operation = operation_of(w, s);
    p->began = w->arena_from;
    p->billed = w->open = fen__metered();
    if (!p->billed)
        return;
    w->billed = true;
    p->account = x->account;
    if (p->account == FEN__NO_ACCOUNT)
        p->account = fen__meter_account(p->operation, x->req.tenant);
    p->error = x->status >= 500;
    p->used = (struct fen__usage_ticks){0};
    p->used.arena_bytes = (int64_t)fen_arena_used_bytes(w->arena);
    if (p->used.arena_bytes) /* else what the arena keeps is the server's */
        p->used.arena_byte_ticks =
            (__int128)fen_arena_held_bytes(w->arena) * (int64_t)(fen__tsc() - w->arena_from);
    if (x->scope.spawned)
        add_children(&p->used, &x->children);
}

void fen__batch_sends(struct fen__work *w)
{
    if (w->npending > 1)
        close_last(w);
}

/* share i of n of a total, so that the shares add up */
static int64_t share(int64_t total, int i, int n) { return total * (i + 1) / n - total * i / n; }

static void add_share(struct fen__usage_ticks *u, const struct fen__usage_ticks *wrote, int i,
                      int n)
{
    u->cpu_ticks += share(wrote->cpu_ticks, i, n);
    u->wait_ticks += share(wrote->wait_ticks, i, n);
    u->out_bytes += share(wrote->out_bytes, i, n);
    u->in_bytes += share(wrote->in_bytes, i, n);
}

/* The TSC at the end of the write. */
static uint64_t settle_bill(struct fen__work *w)
{
    int n = w->npending;
    struct fen__usage_ticks wrote = {0};
    struct fen__m *m = fen__enter();
    struct fen__tally *t = fen__tally_of(m);
    uint64_t now = add_since(m, w, n == 1 ? &w->pending[0].used : &wrote);
    for (int i = 0; i < n; i++) {
        struct fen__pending *p = &w->pending[i];
        if (!p->billed)
            continue;
        if (n > 1)
            add_share(&p->used, &wrote, i, n);
        fen__meter_settle(t, p->account, &p->used, p->error);
    }
    fen__leave(m);
    w->billed = w->open = false;
    return now;
}

static uint64_t settle_none(struct fen__work *w)
{
    w->mark = fen__mark_now(); /* bytes are counted all the same */
    return fen__tsc();
}

void fen__batch_settle(struct fen__work *w)
{
    int n = w->npending;
    if (!n)
        return;
    uint64_t now = w->billed ? settle_bill(w) : settle_none(w);
    for (int i = 0; i < n; i++)
        fen__meter_latency(w->pending[i].operation,
                           fen__tsc_to_ns((int64_t)(now - w->pending[i].began)));
    w->npending = 0;
}
