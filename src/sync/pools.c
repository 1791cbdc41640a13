/* pools.c - all resource pools, for people: who has what, who waits.
 *
 * What is shown is copied under the locks and put into words without them: finding a symbol's name
 * may read the program's file. Bounds: FEN__POOLS_SHOWN pools, of each the FEN__HOLDERS_SHOWN
 * leases that have been out longest, since the one that was never given back is among them.
 * Locks: the list's, then a pool's. */
#include "sync/pool_int.h"

#include "mem/mem.h"

#include <string.h>

static struct {
    uint32_t lock;
    fen_pool *first;
} pools;

void fen__pool_note(fen_pool *p)
{
    fen__lock(&pools.lock);
    p->next = pools.first;
    p->pprev = &pools.first;
    if (p->next)
        p->next->pprev = &p->next;
    pools.first = p;
    fen__unlock(&pools.lock);
}

void fen__pool_forget(fen_pool *p)
{
    fen__lock(&pools.lock);
    *p->pprev = p->next;
    if (p->next)
        p->next->pprev = p->pprev;
    fen__unlock(&pools.lock);
}

/* ---- a copy ---- */

/* Keeps the oldest, in the order of their age. */
static void keep_holder(struct fen__pool_view *v, const fen_pool_holder *h)
{
    v->holders++;
    int at = v->shown;
    while (at > 0 && v->holder[at - 1].since_ns > h->since_ns)
        at--;
    if (at == FEN__HOLDERS_SHOWN)
        return;
    v->shown += v->shown < FEN__HOLDERS_SHOWN;
    memmove(&v->holder[at + 1], &v->holder[at], (size_t)(v->shown - at - 1) * sizeof v->holder[0]);
    v->holder[at] = *h;
}

static void look(fen_pool *p, struct fen__pool_view *ret)
{
    *ret = (struct fen__pool_view){.pool = p, .site = p->site};
    size_t n = p->cfg.name ? strnlen(p->cfg.name, sizeof ret->name - 1) : 0;
    if (n)
        memcpy(ret->name, p->cfg.name, n);
    fen__lock(&p->lock);
    fen__pool_stats(p, &ret->stats);
    for (int i = 0; i < p->cfg.max && p->out; i++) {
        fen_pool_holder h;
        if (fen__slot_holder(&p->slots[i], &h))
            keep_holder(ret, &h);
    }
    fen__unlock(&p->lock);
}

struct fen__pool_view *fen__pools_view(int *ret_n, int *ret_all)
{
    struct fen__pool_view *v = fen__mem_calloc(FEN__POOLS_SHOWN * sizeof *v);
    int n = 0;
    if (!v)
        return NULL;
    fen__lock(&pools.lock);
    for (fen_pool *p = pools.first; p; p = p->next)
        if (n++ < FEN__POOLS_SHOWN)
            look(p, &v[n - 1]);
    fen__unlock(&pools.lock);
    *ret_all = n;
    *ret_n = n < FEN__POOLS_SHOWN ? n : FEN__POOLS_SHOWN;
    return v;
}

void fen__pools_view_free(struct fen__pool_view *v)
{
    fen__mem_free(v, v ? FEN__POOLS_SHOWN * sizeof *v : 0);
}

/* ---- in words ---- */

static void word(struct fen__text *t, const char *label, const char *s)
{
    fen__text_put(t, label);
    fen__text_word(t, s[0] ? s : "-", s[0] ? strlen(s) : 1);
}

static void number(struct fen__text *t, const char *label, int64_t v)
{
    fen__text_put(t, label);
    fen__text_dec(t, v);
}

static void place(struct fen__text *t, const char *label, const void *site)
{
    fen__text_put(t, label);
    fen__sys_symbol(t, (const char *)site - 1); /* - 1: the call, not what follows it */
}

static void put_pool(struct fen__text *t, const struct fen__pool_view *v)
{
    const fen_pool_stats *s = &v->stats;
    word(t, "pool=", v->name);
    fen__text_put(t, " on=");
    fen__text_hex(t, (uintptr_t)v->pool);
    number(t, " lent=", s->lent);
    number(t, "/", s->max);
    number(t, " free=", s->free);
    number(t, " waiting=", s->waiting);
    number(t, " discarded=", s->discarded);
    number(t, " forgotten=", s->forgotten);
    place(t, " made=", v->site);
    fen__text_put(t, "\n");
}

static void put_holder(struct fen__text *t, const fen_pool_holder *h, int64_t now_ns)
{
    number(t, "    lent_to=", (int64_t)h->fiber);
    word(t, " name=", h->name);
    fen__text_put(t, " for=");
    fen__text_ns(t, now_ns - h->since_ns);
    fen__text_put(t, " resource=");
    fen__text_hex(t, (uintptr_t)h->resource);
    place(t, " by=", h->site);
    fen__text_put(t, "\n");
}

static void put_view(const struct fen__pool_view *v, int64_t now_ns,
                     void (*put)(void *arg, const char *text, size_t n), void *arg)
{
    char bytes[768];
    struct fen__text t = {bytes, 0, sizeof bytes};
    put_pool(&t, v);
    put(arg, bytes, t.n);
    for (int i = 0; i < v->shown; i++) {
        t.n = 0;
        put_holder(&t, &v->holder[i], now_ns);
        put(arg, bytes, t.n);
    }
    t.n = 0;
    if (v->holders > v->shown) {
        number(&t, "    and ", v->holders - v->shown);
        fen__text_put(&t, " that have theirs for less long\n");
        put(arg, bytes, t.n);
    }
}

void fen__pools_dump(void (*put)(void *arg, const char *text, size_t n), void *arg)
{
    int n, all;
    struct fen__pool_view *v = fen__pools_view(&n, &all);
    int64_t now_ns = fen__sys_now();
    for (int i = 0; v && i < n; i++)
        if (v[i].stats.lent || v[i].stats.waiting)
            put_view(&v[i], now_ns, put, arg);
    fen__pools_view_free(v);
}

/* ---- what was left ---- */

static void put_left(void *arg, const char *text, size_t n)
{
    char bytes[800];
    struct fen__text t = {bytes, 0, sizeof bytes};
    (void)arg;
    while (n && *text == ' ') { /* a line stands for itself here */
        text++;
        n--;
    }
    fen__text_put(&t, "fen: left: ");
    fen__text_bytes(&t, text, n);
    fen__report(bytes, t.n);
}

int64_t fen__pools_report(void)
{
    int n = 0, all = 0;
    struct fen__pool_view *v = fen__pools_view(&n, &all);
    int64_t now_ns = fen__sys_now();
    for (int i = 0; v && i < n; i++)
        put_view(&v[i], now_ns, put_left, NULL);
    fen__pools_view_free(v);
    return all;
}
