/* scope.c - structured lifetime.
 *
 * A scope heads a fiber's limits (sched): waiting looks at every limit up the chain, so a deadline
 * or a cancellation above reaches everything below without registration. Only a cancel has to find
 * the sleepers: it sets `ended`, then nudges the owner, and, if the scope ever had children, every
 * fiber whose chain leads through it (one pass over all fibers; a cancel is rare, a spawn is not).
 *
 * Scope memory is never unmapped within a run, so that pass may follow a chain that changes under
 * it: a fiber that changes its own chain runs, and looks at its limits before it waits again; one
 * that is parked does not change its chain.
 *
 * Close: wait for the children (children.c; masked: they have the limit, not the waiting; a close
 * that is not to wait longer leaves the scope as it is), run the clean-ups
 * last in first out, withdraw hooks and timer, pop. The clean-ups wait under a limit of their own
 * that has no parent: nothing that ended above reaches them, and their deadline is theirs. It lies
 * in the scope, because others follow the chain. Masking them instead would let none of their waits
 * have a bound. Locks: a scope's, then a timer heap's.
 *
 * Hooks: whether the scope has ended is looked at under the lock under which a hook is added and a
 * cancel looks for hooks, so one of the two sees the other. `hooked` under the lock implies that
 * the scope is open, and that its timer, if one could be had, comes no later than its deadline: who
 * brings that nearer moves the timers of the scope and of those inside it.
 *
 * Rejected: a tree of scopes under a lock of its own (every spawn and every request would take
 * it). */
#include "sync/sync_int.h"

#include "mem/mem.h"

#include <fen/defer.h>
#include <fen/fiber.h>

#include <string.h>

#define POOL_CHUNK 64

struct chunk {
    struct chunk *next;
    struct fen_scope scopes[POOL_CHUNK];
};

static struct {
    uint32_t lock;
    struct chunk *chunks;
    struct fen_scope *free; /* linked through parent_of_owner */
    struct detached *kept;  /* scopes in blocks of their own */
} pool;

/* scope: its own when the pool has none; then the block stays, and the pool has one more. Taking
 * one from the pool before the fiber is made would not do: a thread may call while a run ends, and
 * the pool with it. */
struct detached {
    void (*fn)(void *arg);
    void *arg;
    struct detached *next;
    struct fen_scope scope;
};

static struct fen__g *current(void)
{
    struct fen__m *m = fen__self();
    return m ? fen__cur(m) : NULL;
}

/* ---- memory ---- */

static struct fen_scope *pool_get(void)
{
    fen__lock(&pool.lock);
    if (!pool.free) {
        struct chunk *c = fen__mem_calloc_for(0, sizeof *c); /* all fibers' in turn */
        for (int i = 0; c && i < POOL_CHUNK; i++) {
            c->scopes[i].parent_of_owner = pool.free;
            pool.free = &c->scopes[i];
        }
        if (c) {
            c->next = pool.chunks;
            pool.chunks = c;
        }
    }
    struct fen_scope *s = pool.free;
    if (s)
        pool.free = s->parent_of_owner;
    fen__unlock(&pool.lock);
    return s;
}

static void pool_put(struct fen_scope *s)
{
    fen__lock(&pool.lock);
    s->parent_of_owner = pool.free;
    pool.free = s;
    fen__unlock(&pool.lock);
}

void fen__scope_pool_fini(void)
{
    while (pool.chunks) {
        struct chunk *c = pool.chunks;
        pool.chunks = c->next;
        fen__mem_free(c, sizeof *c);
    }
    while (pool.kept) {
        struct detached *d = pool.kept;
        pool.kept = d->next;
        fen__mem_free(d, sizeof *d);
    }
    pool.free = NULL;
}

/* ---- open and close ---- */

void fen__scope_init(struct fen_scope *s, int64_t deadline_ns)
{
    struct fen__g *g = current();
    struct fen_scope *up = g->scope;
    __atomic_store_n(&s->limit.is_scope, true, __ATOMIC_RELAXED);
    __atomic_store_n(&s->limit.parent, g->limit, __ATOMIC_RELAXED);
    __atomic_store_n(&s->limit.depth, g->limit->depth + 1, __ATOMIC_RELAXED);
    atomic_store_explicit(&s->limit.deadline_ns, deadline_ns < 0 ? 0 : deadline_ns,
                          memory_order_relaxed); /* below 0 has a meaning of its own */
    atomic_store_explicit(&s->limit.ended, 0, memory_order_relaxed);
    s->owner = g;
    s->parent_of_owner = up;
    s->children = 1;
    s->spawned = false;
    atomic_store_explicit(&s->cause, 0, memory_order_relaxed);
    s->join_epoch = 0;
    s->face = (fen_scope_face){NULL, (uintptr_t)g->stack.low, g->stack.bytes};
    s->cleanup_ns = FEN_CLEANUP_NS;
    s->timer.at = -1; /* hooks, hooked, timed: none since the memory was last withdrawn, or ever */
    s->bill = up ? up->bill : NULL;
    atomic_store_explicit(&s->cold_after_ns,
                          up ? atomic_load_explicit(&up->cold_after_ns, memory_order_relaxed) : 0,
                          memory_order_relaxed);
    g->scope = s;
    __atomic_store_n(&g->limit, &s->limit, __ATOMIC_RELEASE);
    fen__limits_changed(g);
}

fen_scope *fen_scope_open(int64_t deadline_ns)
{
    if (!current())
        return NULL;
    struct fen_scope *s = pool_get();
    if (s)
        fen__scope_init(s, deadline_ns);
    return s;
}

void fen__scope_run_defers(struct fen_scope *s)
{
    struct fen__g *g = s->owner;
    struct fen__limit *before = g->limit;
    if (!s->face.defers)
        return;
    int64_t bound = s->cleanup_ns == FEN_NEVER ? FEN_NEVER : -s->cleanup_ns;
    __atomic_store_n(&s->cleanup.is_scope, false, __ATOMIC_RELAXED);
    __atomic_store_n(&s->cleanup.parent, NULL, __ATOMIC_RELAXED);
    __atomic_store_n(&s->cleanup.depth, 0, __ATOMIC_RELAXED);
    atomic_store_explicit(&s->cleanup.ended, 0, memory_order_relaxed);
    atomic_store_explicit(&s->cleanup.deadline_ns, bound, memory_order_relaxed);
    __atomic_store_n(&g->limit, &s->cleanup, __ATOMIC_RELEASE);
    fen__limits_changed(g);
    for (fen_defer_record *r = s->face.defers, *next; r; r = next) {
        next = r->next;
        fen_dassert(next != r); /* deferred twice: it would run for ever */
        s->face.defers = next;  /* unlinked first: it may defer again, or abort */
        r->fn(r->arg);
        /* a branch, so that no record waits for the store before it */
        if (FEN__UNLIKELY(s->face.defers != next)) {
            __asm__ volatile("" : : : "memory");
            next = s->face.defers;
        }
    }
    __atomic_store_n(&g->limit, before, __ATOMIC_RELEASE);
    fen__limits_changed(g);
}

/* No hook runs and none will: those left are forgotten, and a late timer sees another seq. */
static void withdraw(struct fen_scope *s)
{
    for (;;) {
        fen__lock(&s->lock);
        bool busy = s->hook_busy;
        if (s->timed)
            fen__timer_del(&s->timer);
        s->timed = false;
        if (!busy) {
            for (fen_cancel_hook *h = s->hooks; h; h = h->next)
                h->scope = NULL;
            s->hooks = NULL;
            s->hooked = false;
        }
        fen__unlock(&s->lock);
        if (!busy)
            return;
    }
}

/* Until when a close waits for the scope's fibers. */
struct patience {
    bool none; /* it does not */
    int64_t deadline_ns;
};
static const struct patience for_ever = {.deadline_ns = FEN_NEVER};

/* RT. 0: they have ended. */
static int await_children(struct fen_scope *s, struct fen__g *g, struct patience p)
{
    if (!atomic_load_explicit(&s->spawned, memory_order_relaxed))
        return 0;
    return p.none ? fen__scope_try_join(s) : fen__scope_join(s, g, p.deadline_ns);
}

/* Of which nothing is left: the owner goes back to the scope around it. */
static int pop(struct fen_scope *s, struct fen__g *g)
{
    if (s->hooked)
        withdraw(s);
    /* Always: a timer that was taken out of its heap may be on its way here without a trace. Pairs
     * with the look under the lock in call_hooks: who sees a later hook there sees this too. */
    __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELAXED);
    int rc = fen__limit_rc(g);
    g->scope = s->parent_of_owner;
    __atomic_store_n(&g->limit, s->limit.parent, __ATOMIC_RELEASE);
    fen__limits_changed(g);
    return rc;
}

/* 0, or why the scope is still open. */
static int close_scope(struct fen_scope *s, struct patience p, int *ret_rc)
{
    struct fen__m *m = fen__enter();
    struct fen__g *g = m ? fen__cur(m) : NULL;
    fen_promise(g, "a scope is closed outside a fiber");
    fen_promise(s && s->owner == g, "a scope is closed by another than its owner");
    fen_promise(g->scope == s, "a scope ends while one inside it is open");
    g->mask++;
    int rc = await_children(s, g, p);
    if (!rc && s->face.defers) {
        g->mask--;
        fen__leave(fen__self());
        fen__scope_run_defers(s);
        fen__enter();
        g->mask++;
        /* A clean-up may have spawned; its last child may still hold the lock. */
        rc = await_children(s, g, p);
    }
    g->mask--;
    if (!rc)
        *ret_rc = pop(s, g);
    fen__leave(fen__self());
    return rc;
}

int fen__scope_fini(struct fen_scope *s)
{
    int rc = 0;
    (void)close_scope(s, for_ever, &rc); /* a wait for ever that nothing ends but the fibers' end */
    return rc;
}

int fen_scope_close(fen_scope *s)
{
    int rc = fen__scope_fini(s);
    pool_put(s);
    return rc;
}

static int close_within(fen_scope *s, struct patience p, int *ret_rc)
{
    int why = 0, rc = close_scope(s, p, &why);
    if (rc)
        return rc;
    pool_put(s);
    if (ret_rc)
        *ret_rc = why;
    return 0;
}

int fen_scope_close_until(fen_scope *s, int64_t deadline_ns, int *ret_rc)
{
    return close_within(s, (struct patience){.deadline_ns = deadline_ns}, ret_rc);
}

int fen_scope_try_close(fen_scope *s, int *ret_rc)
{
    return close_within(s, (struct patience){.none = true}, ret_rc);
}

fen_scope *fen_scope_current(void)
{
    struct fen__g *g = current();
    return g ? g->scope : NULL;
}

void fen_defer_check(const fen_scope *s)
{
    fen_promise(s->owner == current(), "fen_defer by another than the scope's owner");
}

/* ---- deadline and cancellation ---- */

void fen_scope_set_cleanup(fen_scope *s, int64_t bound_ns)
{
    fen_promise(
        s->owner == current() && bound_ns > 0,
        "fen_scope_set_cleanup by another than the scope's owner, or a bound that is not above 0");
    s->cleanup_ns = bound_ns;
}

int64_t fen_scope_deadline(const fen_scope *s)
{
    const struct fen__g *g = s ? NULL : current();
    struct fen__limit *l = s ? (struct fen__limit *)&s->limit : g ? g->limit : NULL;
    int64_t d = FEN_NEVER;
    for (; l; l = l->parent)
        d = fen__min_i64(d, fen__limit_deadline(l));
    return d;
}

int fen_scope_check(fen_scope *s)
{
    const struct fen__g *g = s ? NULL : current();
    const struct fen__limit *l = s ? &s->limit : g ? g->limit : NULL;
    if (!s && g && g->mask)
        return 0;
    for (; l; l = l->parent) {
        int rc = atomic_load(&l->ended);
        if (rc)
            return rc;
    }
    return fen__sys_past(fen_scope_deadline(s)) ? -ETIMEDOUT : 0;
}

/* The scope that a limit heads, or NULL: a connection and the run have limits that are no
 * scopes. */
static struct fen_scope *scope_of(struct fen__limit *l)
{
    bool yes = __atomic_load_n(&l->is_scope, __ATOMIC_RELAXED);
    return yes ? FEN__CONTAINER(l, struct fen_scope, limit) : NULL;
}

/* The limit above l, which may be of a chain that changes meanwhile and so may have another use by
 * now: a walk that does not come nearer to the run's ends, or it could go round. Whoever changes
 * its chain looks at all of it before it waits (park.c), so nothing is missed. */
static struct fen__limit *above_of(const struct fen__limit *l)
{
    struct fen__limit *up = __atomic_load_n(&l->parent, __ATOMIC_RELAXED);
    bool nearer = up && __atomic_load_n(&up->depth, __ATOMIC_RELAXED) <
                            __atomic_load_n(&l->depth, __ATOMIC_RELAXED);
    return nearer ? up : NULL;
}

static bool leads_to(const struct fen__limit *l, const struct fen_scope *s)
{
    while (l && l != &s->limit)
        l = above_of(l);
    return l;
}

static void nudge_below(struct fen__g *g, void *arg)
{
    struct fen_scope *s = arg;
    if (leads_to(__atomic_load_n(&g->limit, __ATOMIC_ACQUIRE), s))
        fen__nudge(g);
}

/* Everybody who waits under the scope looks at its limits again. */
static void nudge_all(struct fen_scope *s)
{
    if (atomic_load(&s->spawned))
        fen__each_g(nudge_below, s);
    else
        fen__nudge(s->owner);
}

/* On whatever stack, perhaps inside the guarded section. */
static void call_hook(fen_cancel_hook *h, int rc)
{
    struct fen__m *m = fen__aside_begin();
    h->fn(h, rc);
    fen__aside_end(m);
}

/* Takes the first hook out and calls it; until none is left. A cancel and the deadline may be here
 * together: hook_busy counts them. Which use of the scope's memory is meant is told by seq, or,
 * when the cancelled scope `above` is given, by the chain: a scope that has hooks is open, so what
 * is above it is open too and the chain does not change while the lock is held. */
static void call_hooks(struct fen_scope *s, uint64_t seq, const struct fen_scope *above, int rc)
{
    for (bool calling = false;;) {
        fen__lock(&s->lock);
        s->hook_busy -= calling;
        bool same = above ? s->hooks && leads_to(&s->limit, above)
                          : __atomic_load_n(&s->seq, __ATOMIC_RELAXED) == seq;
        fen_cancel_hook *h = same ? s->hooks : NULL;
        calling = h != NULL;
        s->hook_busy += calling;
        if (h) {
            s->hooks = h->next;
            if (h->next)
                h->next->pprev = &s->hooks;
            h->scope = NULL;
        }
        fen__unlock(&s->lock);
        if (!h)
            return;
        call_hook(h, rc);
    }
}

/* The hooks of the scopes that g has open below s. */
static void hooks_below(struct fen__g *g, void *arg)
{
    struct fen_scope *s = arg;
    struct fen__limit *l = __atomic_load_n(&g->limit, __ATOMIC_ACQUIRE);
    while (l && l != &s->limit) {
        struct fen_scope *inner = scope_of(l);
        l = above_of(l);
        if (inner)
            call_hooks(inner, 0, s, -ECANCELED);
    }
}

void fen_scope_cancel_with(fen_scope *s, int rc)
{
    int none = 0;
    fen_promise(rc < 0, "a scope is cancelled with a cause that is not below 0");
    if (!atomic_compare_exchange_strong(&s->cause, &none, rc))
        return;
    fen__limit_end(&s->limit, -ECANCELED); /* who sees this sees the cause */
    struct fen__m *m = fen__enter_any();
    call_hooks(s, __atomic_load_n(&s->seq, __ATOMIC_RELAXED), NULL, -ECANCELED);
    if (atomic_load(&s->spawned))
        fen__each_g(hooks_below, s);
    else
        hooks_below(s->owner, s);
    nudge_all(s);
    fen__leave_any(m);
}

void fen_scope_cancel(fen_scope *s) { fen_scope_cancel_with(s, -ECANCELED); }

int fen_scope_cause(fen_scope *s)
{
    struct fen__g *g = s ? NULL : current();
    if (g && g->scope && g->limit == &((struct fen_scope *)g->scope)->cleanup)
        s = g->scope; /* a clean-up asks why */
    struct fen__limit *l = s ? &s->limit : g ? g->limit : NULL;
    for (; l; l = l->parent) {
        int rc = atomic_load(&l->ended); /* pairs with the store in fen__limit_end */
        struct fen_scope *ended = rc ? scope_of(l) : NULL;
        int cause = ended ? atomic_load(&ended->cause) : 0;
        if (rc)
            return cause ? cause : rc;
    }
    return fen__sys_past(fen_scope_deadline(s)) ? -ETIMEDOUT : 0;
}

static void deadline_came(void *scope, uint64_t seq) { call_hooks(scope, seq, NULL, -ETIMEDOUT); }

/* RT on a worker, lock held. Arms the timer that calls the hooks for the deadline. 0, -ENOMEM. */
static int arm_hooks(struct fen_scope *s)
{
    int64_t d = fen_scope_deadline(s);
    if (s->timed)
        fen__timer_del(&s->timer);
    int rc = d == FEN_NEVER ? 0 : fen__timer_add(&s->timer, d, deadline_came, s, s->seq);
    s->timed = d != FEN_NEVER && !rc;
    return rc;
}

/* A deadline that came nearer, and the timers of the hooks below it. */
struct nearer {
    struct fen_scope *s;
    bool worker; /* RT on one: else no timer can be armed here */
    bool left;   /* there was one */
};

/* Once too often does no harm: the timer is armed for the deadline that its scope has now. */
static void hasten(struct fen_scope *s, struct nearer *n)
{
    fen__lock(&s->lock);
    if (s->hooked && leads_to(&s->limit, n->s)) {
        if (n->worker)
            (void)arm_hooks(s);
        else
            n->left = true;
    }
    fen__unlock(&s->lock);
}

/* Those of the scopes that g has open, down from that one, of which only the address is used. */
static void hasten_below(struct fen__g *g, void *arg)
{
    struct nearer *n = arg;
    struct fen__limit *l = __atomic_load_n(&g->limit, __ATOMIC_ACQUIRE);
    while (l) {
        struct fen_scope *inner = scope_of(l);
        bool last = l == &n->s->limit;
        l = last ? NULL : above_of(l);
        if (inner)
            hasten(inner, n);
    }
}

/* False: there are timers that must be moved, by a worker. */
static bool hasten_all(struct fen_scope *s, bool worker)
{
    struct nearer n = {.s = s, .worker = worker};
    if (atomic_load(&s->spawned))
        fen__each_g(hasten_below, &n);
    else
        hasten_below(s->owner, &n);
    return !n.left;
}

/* A fiber for a thread. The scope may have closed by now: then no chain leads to it, or to another
 * that has its memory. */
static void hasten_main(void *scope)
{
    struct nearer n = {.s = scope, .worker = true};
    struct fen__m *m = fen__enter();
    fen__each_g(hasten_below, &n);
    fen__leave(m);
}

/* False: it is no later already. Of two who set it the earlier time stays, by the lock. alone: only
 * the caller is under it. */
static bool lower_deadline(struct fen_scope *s, int64_t deadline_ns, bool alone)
{
    fen__lock(&s->lock);
    bool lower = deadline_ns < atomic_load_explicit(&s->limit.deadline_ns, memory_order_relaxed);
    if (lower && alone) {
        atomic_store_explicit(&s->limit.deadline_ns, deadline_ns, memory_order_relaxed);
        fen__limits_changed(s->owner);
    } else if (lower) {
        fen__limit_deadline_set(&s->limit, deadline_ns);
    }
    fen__unlock(&s->lock);
    return lower;
}

void fen_scope_set_deadline(fen_scope *s, int64_t deadline_ns)
{
    deadline_ns = deadline_ns < 0 ? 0 : deadline_ns;
    struct fen__m *m = fen__enter_any();
    bool alone = s->owner == current() && !atomic_load_explicit(&s->spawned, memory_order_relaxed);
    if (lower_deadline(s, deadline_ns, alone)) {
        struct fen__spawn how = {
            .fn = hasten_main, .arg = s, .name = "deadline", .limit = fen__run_limit()};
        if (!hasten_all(s, m != NULL))
            (void)fen__spawn_outside(&how); /* none to be had: those hooks are called later */
        if (!alone)
            nudge_all(s);
    }
    fen__leave_any(m);
}

int fen_cancel_hook_add(fen_scope *s, fen_cancel_hook *h)
{
    struct fen__m *m = fen__enter();
    fen_promise(m && s->owner == fen__cur(m), "a hook is added by another than the scope's owner");
    int failed = 0;
    h->home = s;
    fen__lock(&s->lock);
    int rc = fen_scope_check(s); /* a cancel that this does not see finds the hook */
    h->scope = rc ? NULL : s;
    s->hooked = true;
    if (!rc) {
        h->next = s->hooks;
        h->pprev = &s->hooks;
        if (h->next)
            h->next->pprev = &h->next;
        s->hooks = h;
        failed = s->timed ? 0 : arm_hooks(s);
    }
    fen__unlock(&s->lock);
    if (rc)
        call_hook(h, rc);
    fen__leave(fen__self());
    return failed;
}

void fen_cancel_hook_del(fen_cancel_hook *h)
{
    fen_scope *s = h->home; /* its memory may have another user by now: then h is not in its list */
    struct fen__m *m = fen__enter_any();
    for (bool busy = true; busy && s;) {
        fen__lock(&s->lock);
        busy = s->hook_busy;
        if (h->scope == s) {
            *h->pprev = h->next;
            if (h->next)
                h->next->pprev = h->pprev;
            h->scope = NULL;
            busy = false;
        }
        fen__unlock(&s->lock);
        fen_promise(!busy || !fen__aside(), "a cancel hook removes one that is running");
    }
    fen__leave_any(m);
}

void fen__mask(int by)
{
    struct fen__g *g = current();
    if (g) /* a thread has nothing to mask */
        g->mask = (uint8_t)(g->mask + by);
}

/* ---- spawning ---- */

static void add_bill(struct fen__g *g, struct fen__child_bill *b)
{
    struct fen__m *m = fen__enter();
    (void)fen__charge_now(m);
    fen__leave(m);
    atomic_fetch_add_explicit(&b->cpu_ticks, g->cpu_ticks, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->wait_ticks, g->wait_ticks, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->arena_bytes, g->arena_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->in_bytes, g->in_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->out_bytes, g->out_bytes, memory_order_relaxed);
}

/* On the child, last. */
void fen__scope_child_end(struct fen__g *g)
{
    struct fen_scope *s = g->scope;
    fen_promise(s->owner != g, "a fiber ends with a scope of its own open");
    if (s->bill)
        add_bill(g, s->bill);
    fen__scope_let_go(s);
}

/* Every scope up the chain has fibers below it now: a cancel of any of them must look for them.
 * Those that are not marked yet were opened by this fiber, so nobody else marks them. s comes last:
 * a marked scope stands for a marked chain. */
static void mark_spawned(struct fen_scope *s)
{
    for (struct fen__limit *l = s->limit.parent; l && l != fen__run_limit(); l = l->parent) {
        struct fen_scope *up = scope_of(l);
        if (!up)
            continue;
        if (atomic_load_explicit(&up->spawned, memory_order_relaxed))
            break;
        atomic_store(&up->spawned, true);
    }
    atomic_store(&s->spawned, true);
}

void fen__scope_hold(struct fen_scope *s)
{
    if (!atomic_load_explicit(&s->spawned, memory_order_relaxed))
        mark_spawned(s);
    atomic_fetch_add(&s->children, 1);
}

/* RT. A new fiber of s, which the caller keeps open. */
static int go_in(struct fen__m *m, struct fen_scope *s, struct fen__spawn *how)
{
    fen__scope_hold(s);
    fen__cur(m)->lent |= s->owner != fen__cur(m);
    how->limit = &s->limit;
    how->scope = s;
    how->end = fen__scope_child_end;
    how->labels = fen__labels_share(fen__cur(m)->labels);
    int rc = fen__spawn(how, NULL);
    if (rc) {
        fen__labels_drop(how->labels);
        atomic_fetch_sub(&s->children, 1); /* the caller holds the scope open */
    }
    return rc;
}

int fen__scope_go(struct fen_scope *s, void (*fn)(void *), void *arg, const void *site)
{
    struct fen__m *m = fen__enter();
    if (!m)
        return FEN_ENOTFIBER;
    fen_promise(leads_to(fen__cur(m)->limit, s),
                "a fiber is added to a scope or group from outside of it"); /* which may close */
    struct fen__spawn how = {.fn = fn, .arg = arg, .site = site};
    int rc = go_in(m, s, &how);
    fen__leave(m);
    return rc;
}

static int go(const char *name, size_t stack_bytes, void (*fn)(void *), void *arg, const void *site)
{
    if (stack_bytes > FEN__STACK_MAX)
        return -EINVAL;
    struct fen__m *m = fen__enter();
    if (!m)
        return FEN_ENOTFIBER;
    struct fen__spawn how = {
        .fn = fn, .arg = arg, .name = name, .stack_bytes = stack_bytes, .site = site};
    int rc = go_in(m, fen__cur(m)->scope, &how);
    fen__leave(m);
    return rc;
}

/* Not tail calls: the return address is the caller's own line. */
/* Not inlined into the program by its link-time optimisation: the return address is the place. */
FEN__NOINLINE int fen_go(void (*fn)(void *), void *arg)
{
    return go(NULL, 0, fn, arg, __builtin_return_address(0));
}

FEN__NOINLINE int fen_go_named(const char *name, size_t stack_bytes, void (*fn)(void *), void *arg)
{
    return go(name, stack_bytes, fn, arg, __builtin_return_address(0));
}

static void detached_keep(struct detached *d)
{
    fen__lock(&pool.lock);
    d->next = pool.kept;
    pool.kept = d;
    fen__unlock(&pool.lock);
}

static void detached_main(void *arg)
{
    struct detached *d = arg;
    void (*fn)(void *) = d->fn;
    void *fn_arg = d->arg;
    struct fen_scope *s = pool_get();
    if (s) {
        fen__mem_free(d, sizeof *d);
    } else {
        detached_keep(d);
        s = &d->scope;
    }
    fen__scope_init(s, FEN_NEVER);
    fn(fn_arg);
    int rc = fen_scope_close(s);
    (void)rc; /* nobody waits for a detached fiber */
}

FEN__NOINLINE int fen_go_detached(const char *name, void (*fn)(void *), void *arg)
{
    if (!name || !*name)
        return -EINVAL;
    struct detached *d = fen__mem_calloc(sizeof *d);
    if (!d)
        return -ENOMEM;
    d->fn = fn;
    d->arg = arg;
    struct fen__m *m = fen__enter();
    struct fen__spawn how = {.fn = detached_main,
                             .arg = d,
                             .name = name,
                             .limit = fen__run_limit(),
                             .site = __builtin_return_address(0)};
    int rc;
    if (m) {
        fen__cur(m)->lent = true;
        how.labels = fen__labels_share(fen__cur(m)->labels);
        rc = fen__spawn(&how, NULL);
    } else {
        rc = fen__spawn_outside(&how);
    }
    if (m)
        fen__leave(m);
    if (rc) {
        fen__labels_drop(how.labels);
        fen__mem_free(d, sizeof *d);
    }
    return rc;
}
