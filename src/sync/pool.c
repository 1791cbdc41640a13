/* pool.c - resource pools.
 *
 * A pool has `max` slots. A slot is the right to have one resource, and has one or not:
 *
 *   empty <--> out <--> free        out: lent, or its resource is being made, checked or destroyed
 *
 * Who is done hands its slot, with or without a resource, straight to the first waiter; a waiter
 * that gets an empty one makes the resource itself, with its own deadline, so a slow make holds up
 * nobody else. Empty and free are stacks: the resource used last is the warmest, and what a quiet
 * pool does not need lies at the bottom.
 *
 * A lease is a clean-up of the scope in which it was taken. A put takes the record out of the scope
 * and settles; the scope's end settles what was not put. Exactly one of the two finds `pool` set,
 * and both are the same fiber's, so nothing has to be atomic. A resource goes back only on a put
 * without an error in a scope that may still go on. After a cancel or a time-out nobody knows what
 * is on its way over the connection: it is destroyed. A lease that was forgotten says nothing about
 * its resource either.
 *
 * Invariants: empty + free + out = max; a waiter that can be claimed implies that no slot is empty
 * or free, so who comes late cannot overtake; closed implies no free slot but for the moment in
 * which close itself empties the stack; who waits or has waited counts as waiting until it has a
 * slot or, if it gets none, until its last look at the pool, so close, which waits for both, may be
 * followed by free. What others read of a lease (who, since when) lies in the
 * slot, not on the fiber's stack; its user alone writes it, without the lock.
 * Locks: a pool's; the list of pools (pools.c) before it. Callbacks run
 * without a lock.
 *
 * Rejected: a resource that is made by the pool's own fiber (it would need a bound, a scope and a
 * bill of its own; here the request that needs it pays); a lease that may go back clean when its
 * scope has ended (that is the bug this is for). */
#include "sync/pool_int.h"

#include "mem/mem.h"

#include <fen/defer.h>
#include <fen/err.h>

#include <string.h>

/* ---- slots; the pool's lock is held ---- */

static int pop(fen_pool *p, int *stack)
{
    int i = *stack;
    if (i >= 0)
        *stack = p->slots[i].next;
    return i;
}

static void push(fen_pool *p, int *stack, int i)
{
    p->slots[i].next = *stack;
    *stack = i;
}

/* -EAGAIN: none is to be had; FEN_ECLOSED. */
static int slot_take(fen_pool *p)
{
    if (p->closed)
        return FEN_ECLOSED;
    int i = pop(p, &p->free);
    p->n_free -= i >= 0;
    if (i < 0)
        i = pop(p, &p->empty);
    p->out += i >= 0;
    return i >= 0 ? i : -EAGAIN;
}

/* Nobody has a slot or is in a wait: a close may return. */
static bool settled(fen_pool *p)
{
    return !p->out && !__atomic_load_n(&p->waiting, __ATOMIC_RELAXED);
}

/* The slot's user is done. False: the pool is closed and the resource must be destroyed first. */
static bool slot_done(fen_pool *p, int i, struct fen__pool_wake *w)
{
    struct fen__slot_of *s = &p->slots[i];
    if (p->closed && s->made)
        return false;
    __atomic_store_n(&s->fiber, 0, __ATOMIC_RELAXED);
    w->to = p->closed ? NULL : fen__waitq_claim(&p->waiters, &w->claim);
    w->slot = i;
    if (w->to)
        return true; /* it stays out */
    if (s->made) {
        s->free_ns = p->cfg.check ? fen__sys_now() : 0;
        push(p, &p->free, i);
        p->n_free++;
    } else {
        push(p, &p->empty, i);
    }
    p->out--;
    if (settled(p))
        (void)fen__woken_all(&w->closers, &p->closers);
    return true;
}

/* ---- resources; no lock ---- */

static void destroy(fen_pool *p, int i)
{
    struct fen__slot_of *s = &p->slots[i];
    void *resource = s->resource;
    s->made = false;
    s->resource = NULL;
    p->cfg.destroy(p->cfg.arg, resource);
    __atomic_fetch_add(&p->destroyed, 1, __ATOMIC_RELAXED);
}

static void give_back(fen_pool *p, int i)
{
    struct fen__pool_wake w = {0};
    struct fen__m *m = fen__enter_any();
    fen__lock(&p->lock);
    bool done = slot_done(p, i, &w);
    fen__unlock(&p->lock);
    if (w.to)
        fen__waitq_done(w.to, w.claim, w.slot);
    fen__woken_done(&w.closers, 0); /* the pool may be gone */
    fen__leave_any(m);
    if (done)
        return;
    destroy(p, i);
    give_back(p, i); /* once: it has none now */
}

/* Sees to it that the slot, which is the caller's, has a resource that is of use. */
static int make_ready(fen_pool *p, int i)
{
    struct fen__slot_of *s = &p->slots[i];
    if (s->made && p->cfg.check && fen__sys_now() - s->free_ns >= p->cfg.check_after_ns &&
        p->cfg.check(p->cfg.arg, s->resource) < 0)
        destroy(p, i);
    if (s->made)
        return 0;
    void *resource = NULL;
    int rc = p->cfg.make(p->cfg.arg, &resource);
    if (rc < 0)
        return rc;
    s->resource = resource;
    s->made = true;
    __atomic_fetch_add(&p->made, 1, __ATOMIC_RELAXED);
    return 0;
}

/* The same under a deadline of the call's own. */
static int make_ready_until(fen_pool *p, int i, int64_t deadline_ns)
{
    if (deadline_ns == FEN_NEVER || (p->slots[i].made && !p->cfg.check))
        return make_ready(p, i);
    fen_scope *s = fen_scope_open(deadline_ns);
    if (!s)
        return -ENOMEM;
    int rc = make_ready(p, i);
    (void)fen_scope_close(s); /* what was made in time is of use to the next one, if not to this */
    return rc;
}

/* ---- get ---- */

/* RT. One round of waiting; lock held, let go. A slot, -EAGAIN: a false alarm, or an error. */
static int wait_round(fen_pool *p, struct fen__g *g, int64_t deadline_ns)
{
    fen__waitq_wait(&p->waiters, g, p);
    fen__unlock(&p->lock);
    int code = fen__park(deadline_ns, FEN__R_POOL);
    if (code >= FEN__BY_SYNC)
        return g->node.rc;
    fen__waitq_leave(&p->waiters, &p->lock, &g->node);
    int rc = fen__code_rc(g, code);
    return rc ? rc : -EAGAIN;
}

/* RT. The end of a get that has no slot; lock held, let go. Then the pool may be gone. */
static void refuse(fen_pool *p, bool waited)
{
    struct fen__woken closers = {0};
    __atomic_fetch_add(&p->refused, 1, __ATOMIC_RELAXED);
    if (waited)
        __atomic_fetch_sub(&p->waiting, 1, __ATOMIC_RELAXED);
    if (settled(p))
        (void)fen__woken_all(&closers, &p->closers);
    fen__unlock(&p->lock);
    fen__woken_done(&closers, 0);
}

/* RT. A slot, or an error, which is counted. */
static int slot_get(fen_pool *p, struct fen__g *g, int64_t deadline_ns, bool wait, bool *ret_waited)
{
    int i;
    for (;;) {
        fen__lock(&p->lock);
        i = slot_take(p);
        if (i != -EAGAIN || !wait)
            break;
        if (!*ret_waited)
            __atomic_fetch_add(&p->waiting, 1, __ATOMIC_RELAXED);
        *ret_waited = true;
        i = wait_round(p, g, deadline_ns);
        if (i == -EAGAIN)
            continue;
        fen__lock(&p->lock);
        break;
    }
    if (i < 0) {
        refuse(p, *ret_waited);
        return i;
    }
    if (*ret_waited)
        __atomic_fetch_sub(&p->waiting, 1, __ATOMIC_RELAXED);
    fen__unlock(&p->lock);
    return i;
}

static void lease_end(void *lease);

static void lend(fen_pool *p, int i, fen_scope *s, bool waited, const void *site, fen_lease *ret)
{
    struct fen__slot_of *slot = &p->slots[i];
    __atomic_store_n(&slot->g, s->owner, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->since, fen__tsc(), __ATOMIC_RELAXED);
    __atomic_store_n(&slot->site, site, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->gets, slot->gets + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->waited, slot->waited + waited, __ATOMIC_RELAXED);
    /* pairs with the load in fen__slot_holder: who sees it sees the rest */
    __atomic_store_n(&slot->fiber, s->owner->number, __ATOMIC_RELEASE);
    ret->resource = slot->resource;
    ret->scope = s;
    ret->pool = p;
    ret->slot = i;
    fen_defer(s, &ret->record, lease_end, ret);
}

static int get(fen_pool *p, int64_t deadline_ns, bool wait, const void *site, fen_lease *ret)
{
    bool waited = false;
    struct fen__m *m = fen__enter();
    if (!m)
        return FEN_ENOTFIBER;
    struct fen__g *g = fen__cur(m);
    fen_scope *s = g->scope;
    int rc = s && s->owner == g ? fen_scope_check(NULL) : -EINVAL;
    if (rc)
        __atomic_fetch_add(&p->refused, 1, __ATOMIC_RELAXED);
    int i = rc ? rc : slot_get(p, g, deadline_ns, wait, &waited);
    fen__leave(fen__self());
    if (i < 0)
        return i;
    rc = make_ready_until(p, i, deadline_ns);
    if (rc < 0) {
        __atomic_fetch_add(&p->refused, 1, __ATOMIC_RELAXED);
        give_back(p, i);
        return rc;
    }
    lend(p, i, s, waited, site, ret);
    return 0;
}

/* Not tail calls: the return address is the caller's own line. */
FEN__NOINLINE int fen_pool_get(fen_pool *p, fen_lease *ret_lease)
{
    return get(p, FEN_NEVER, true, __builtin_return_address(0), ret_lease);
}

FEN__NOINLINE int fen_pool_get_until(fen_pool *p, int64_t deadline_ns, fen_lease *ret_lease)
{
    return get(p, deadline_ns, true, __builtin_return_address(0), ret_lease);
}

FEN__NOINLINE int fen_pool_try_get(fen_pool *p, fen_lease *ret_lease)
{
    return get(p, FEN_NEVER, false, __builtin_return_address(0), ret_lease);
}

/* ---- put ---- */

static void settle(fen_lease *lease, bool clean)
{
    fen_pool *p = lease->pool;
    lease->pool = NULL;
    lease->resource = NULL;
    if (!clean)
        destroy(p, lease->slot);
    give_back(p, lease->slot);
}

static void lease_end(void *arg)
{
    fen_lease *lease = arg;
    __atomic_fetch_add(&lease->pool->forgotten, 1, __ATOMIC_RELAXED);
    settle(lease, false);
}

void fen_pool_put(fen_lease *lease, int rc)
{
    if (!lease || !lease->pool)
        return;
    bool clean = rc >= 0 && fen_scope_check(lease->scope) == 0;
    bool mine = fen_undefer(lease->scope, &lease->record);
    fen_promise(mine, "fen_pool_put of a lease that was put already, or by another fiber");
    if (!clean)
        __atomic_fetch_add(&lease->pool->discarded, 1, __ATOMIC_RELAXED);
    settle(lease, clean);
}

/* ---- the pool ---- */

FEN__NOINLINE fen_pool *fen_pool_new(const fen_pool_config *config)
{
    if (config->max < 1 || config->max > FEN_POOL_MAX || !config->make || !config->destroy)
        return NULL;
    size_t bytes = sizeof(fen_pool) + (size_t)config->max * sizeof(struct fen__slot_of);
    fen_pool *p = fen__mem_calloc(bytes);
    if (!p)
        return NULL;
    p->cfg = *config;
    p->site = __builtin_return_address(0);
    p->empty = p->free = -1;
    for (int i = config->max; i-- > 0;)
        push(p, &p->empty, i);
    fen__pool_note(p);
    return p;
}

/* Destroys what is free: each is out meanwhile, so a second close waits for it. */
static void drain(fen_pool *p)
{
    for (;;) {
        fen__lock(&p->lock);
        int i = pop(p, &p->free);
        p->n_free -= i >= 0;
        p->out += i >= 0;
        fen__unlock(&p->lock);
        if (i < 0)
            return;
        destroy(p, i);
        give_back(p, i);
    }
}

/* RT. Until no slot is out and nobody waits for one. */
static int wait_all(fen_pool *p, struct fen__g *g)
{
    for (int rc = 0;;) {
        fen__lock(&p->lock);
        if (settled(p)) {
            fen__unlock(&p->lock);
            return 0;
        }
        fen__waitq_wait(&p->closers, g, p);
        fen__unlock(&p->lock);
        int code = fen__park(FEN_NEVER, FEN__R_POOL);
        if (code >= FEN__BY_SYNC)
            continue;
        fen__waitq_leave(&p->closers, &p->lock, &g->node);
        rc = fen__code_rc(g, code);
        if (rc)
            return rc;
    }
}

int fen_pool_close(fen_pool *p)
{
    struct fen__woken w = {0};
    struct fen__m *m = fen__enter_any();
    fen__lock(&p->lock);
    p->closed = true;
    (void)fen__woken_all(&w, &p->waiters);
    fen__unlock(&p->lock);
    fen__woken_done(&w, FEN_ECLOSED);
    fen__leave_any(m);
    drain(p);
    m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    int rc = wait_all(p, fen__cur(m));
    fen__leave_wait(fen__self());
    return rc;
}

void fen_pool_free(fen_pool *p)
{
    if (!p)
        return;
    drain(p);
    fen__lock(&p->lock); /* the last user may be on its way out */
    fen_promise(settled(p) && !p->waiters.head && !p->closers.head,
                "fen_pool_free while a lease is out or somebody waits");
    fen__unlock(&p->lock);
    fen__pool_forget(p);
    fen__mem_free(p, sizeof *p + (size_t)p->cfg.max * sizeof p->slots[0]);
}

/* ---- looking at it ---- */

/* Lock held. */
void fen__pool_stats(const fen_pool *p, fen_pool_stats *ret_stats)
{
    *ret_stats = (fen_pool_stats){
        .max = p->cfg.max,
        .free = p->n_free,
        .lent = p->out,
        .waiting = __atomic_load_n(&p->waiting, __ATOMIC_RELAXED),
        .made = __atomic_load_n(&p->made, __ATOMIC_RELAXED),
        .destroyed = __atomic_load_n(&p->destroyed, __ATOMIC_RELAXED),
        .refused = __atomic_load_n(&p->refused, __ATOMIC_RELAXED),
        .discarded = __atomic_load_n(&p->discarded, __ATOMIC_RELAXED),
        .forgotten = __atomic_load_n(&p->forgotten, __ATOMIC_RELAXED),
    };
    for (int i = 0; i < p->cfg.max; i++) {
        ret_stats->gets += __atomic_load_n(&p->slots[i].gets, __ATOMIC_RELAXED);
        ret_stats->waited += __atomic_load_n(&p->slots[i].waited, __ATOMIC_RELAXED);
    }
}

void fen_pool_stats_get(fen_pool *p, fen_pool_stats *ret_stats)
{
    fen__lock(&p->lock);
    fen__pool_stats(p, ret_stats);
    fen__unlock(&p->lock);
}

/* Lock held. False: nobody has a lease on it. Else it does not end meanwhile, since its end takes
 * the lock; so its fiber lives. The name may change, and the old one go, while it is read. */
bool fen__slot_holder(const struct fen__slot_of *s, fen_pool_holder *ret_holder)
{
    uint64_t fiber = __atomic_load_n(&s->fiber, __ATOMIC_ACQUIRE); /* pairs with lend */
    if (!fiber)
        return false;
    const struct fen__g *g = __atomic_load_n(&s->g, __ATOMIC_RELAXED);
    const char *name = __atomic_load_n(&g->name, __ATOMIC_RELAXED);
    int64_t ticks = (int64_t)(fen__tsc() - __atomic_load_n(&s->since, __ATOMIC_RELAXED));
    *ret_holder =
        (fen_pool_holder){.resource = s->resource, /* fixed while it is lent */
                          .fiber = fiber,
                          .since_ns = fen__sys_now() - fen__tsc_to_ns(fen__max_i64(ticks, 0)),
                          .site = __atomic_load_n(&s->site, __ATOMIC_RELAXED)};
    fen__sys_copy_string(ret_holder->name, name, sizeof ret_holder->name);
    return true;
}

void fen_pool_each_holder(fen_pool *p, void (*fn)(void *arg, const fen_pool_holder *h), void *arg)
{
    for (int i = 0; i < p->cfg.max; i++) {
        fen_pool_holder h;
        fen__lock(&p->lock);
        bool lent = fen__slot_holder(&p->slots[i], &h);
        fen__unlock(&p->lock);
        if (lent)
            fn(arg, &h);
    }
}
