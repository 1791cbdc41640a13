/* outside.c - threads that are not workers: they wait like fibers, and spawn.
 *
 * A thread that calls something that may wait gets a stand-in for the time of the call: an M
 * without a P, whose `cur` is a stand-in for a fiber. So every wait queue, the poller and the one
 * CAS of park.c deal with it as with any fiber; two places know the difference, by FEN__G_THREAD in
 * its id:
 *   fen__park    commits and sleeps on the stand-in's futex instead of switching away; the
 *                deadline is the futex's, and a wake by timer is the thread's own
 *   fen__ready   (and the poller's deliver) bump that futex instead of queueing
 * The current worker is set to the stand-in between fen__outside_enter and fen__outside_leave only:
 * no user code runs in between, so a thread never looks like a fiber to its own code. Without a P
 * it counts as outside the guarded section (fen__self_rt): what it makes ready goes to the global
 * queue.
 *
 * Stand-ins are never unmapped within the process and epochs count on across users: a waker that
 * comes late meets an old epoch, or at worst causes a wake-up for nothing, which the loop bears.
 *
 * End of a run: when the last fiber has ended, every thread that waits is ended with -ECANCELED,
 * and fen_run returns after they have left their calls, so that what they waited for can be freed.
 * Threads that begin to wait later wait as if before the run: for other threads, or the next run.
 * Each wait has a limit of its own for this, so that a later run cannot undo the ending.
 *
 * Spawning: threads share one M that has no thread, only its cache and tally, under spawn.lock.
 * open is true from when all Ms run until the first fiber has returned; fen__outside_close is the
 * barrier after which the count of live fibers only falls.
 *
 * Rejected: a pthread condition variable in each object (a second wait protocol, and select could
 * not have it); a helper fiber that waits for the thread (two switches and a stack a wait). */
#include "sched/sched_int.h"

#define OUTSIDERS_MAX 4096

struct outsider {
    struct fen__m m;
    struct fen__g g;
    struct fen__limit limit;
    _Atomic uint32_t word; /* futex: bumped by each wake-up */
    _Atomic bool busy;     /* between enter and leave */
    uint64_t began;        /* pool.lock */
    struct outsider *next_free;
};

static struct {
    uint32_t lock;
    uint32_t n;
    uint64_t waits;
    struct outsider *_Atomic all[OUTSIDERS_MAX];
    struct outsider *free;
} pool;

static struct {
    uint32_t lock;
    bool open;
    struct fen__m *_Atomic m;
} spawn;

/* ---- stand-ins ---- */

/* pool.lock held. */
static struct outsider *make(void)
{
    void *mem;
    if (pool.n == OUTSIDERS_MAX || fen__sys_map(sizeof(struct outsider), &mem))
        return NULL;
    struct outsider *o = mem;
    o->m.cur = &o->g;
    o->m.rand = fen__mix((uint64_t)fen__sys_now() + pool.n) | 1;
    o->g.id = FEN__G_THREAD | pool.n;
    o->g.limit = &o->limit;
    o->g.timer.at = -1;
    o->limit.deadline_ns = FEN_NEVER;
    atomic_store(&pool.all[pool.n++], o); /* pairs with the load in fen__outside_g */
    return o;
}

struct fen__g *fen__outside_g(uint32_t id)
{
    return &atomic_load(&pool.all[id & ~FEN__G_THREAD])->g;
}

struct fen__m *fen__outside_enter(void)
{
    if (fen__forked)
        return NULL;
    fen__lock(&pool.lock);
    struct outsider *o = pool.free;
    if (o)
        pool.free = o->next_free;
    else
        o = make();
    if (o) {
        o->began = ++pool.waits;
        atomic_store(&o->limit.ended, 0);
        o->g.limits_seen = UINT64_MAX; /* of an earlier user */
        atomic_store(&o->busy, true);
    }
    fen__unlock(&pool.lock);
    if (!o)
        return NULL;
    fen__set_self(&o->m); /* its phase is RT from birth */
    return &o->m;
}

int fen__enter_rc(void) { return fen__forked ? FEN_EFORKED : FEN_ELIMIT; }

void fen__outside_leave(struct fen__m *m)
{
    struct outsider *o = FEN__CONTAINER(m, struct outsider, m);
    fen__set_self(NULL);
    fen__lock(&pool.lock);
    atomic_store(&o->busy, false);
    o->next_free = pool.free;
    pool.free = o;
    fen__unlock(&pool.lock);
}

/* ---- waiting ---- */

void fen__outside_ready(struct fen__g *g)
{
    struct outsider *o = FEN__CONTAINER(g, struct outsider, g);
    atomic_fetch_add(&o->word,
                     1); /* after the word `wait`; pairs with the load in the park below */
    fen__sys_futex_wake(&o->word, 1);
}

static int fired(struct fen__g *g)
{
    int state = (int)(atomic_load(&g->wait) & 0xffff);
    return state >= FEN__FIRED ? state : 0;
}

int fen__outside_park(struct fen__g *g, int64_t deadline_ns)
{
    struct outsider *o = FEN__CONTAINER(g, struct outsider, g);
    uint64_t epoch = atomic_load_explicit(&g->wait, memory_order_relaxed) >> 16;
    if (FEN__UNLIKELY(!g->mask && atomic_load(&o->limit.ended))) {
        int code = fen__unarm(g);
        return code ? code : FEN__BY_CANCEL;
    }
#ifdef FEN_HARD
    if (epoch & 1)
        fen__nudge(g);
#endif
    bool sleeps = fen__commit(g);
    for (;;) {
        uint32_t seen = atomic_load(&o->word);
        int code = fired(g);
        if (code || !sleeps)
            return code;
        if (fen__sys_past(deadline_ns)) {
            fen__wake(g, epoch, FEN__BY_TIMER); /* or somebody else was quicker */
            continue;
        }
        fen__aside_waits();
        fen__sys_futex_wait(&o->word, seen, deadline_ns);
    }
}

/* Waits that began at `until` or before: ended; how many are still in their calls. */
static int end_waits(uint64_t until)
{
    int left = 0;
    fen__lock(&pool.lock);
    for (uint32_t i = 0; i < pool.n; i++) {
        struct outsider *o = pool.all[i];
        if (!atomic_load(&o->busy) || o->began > until)
            continue;
        left++;
        fen__limit_end(&o->limit, -ECANCELED);
        fen__nudge(&o->g);
    }
    fen__unlock(&pool.lock);
    return left;
}

void fen__outside_end(void)
{
    fen__lock(&pool.lock);
    uint64_t until = pool.waits;
    fen__unlock(&pool.lock);
    while (end_waits(until) > 0)
        fen__sys_nap(FEN_MS / 4);
}

/* ---- spawning ---- */

/* spawn.lock held. */
static struct fen__m *spawn_m(void)
{
    struct fen__m *m = spawn.m;
    void *mem;
    if (m || fen__sys_map(sizeof *m, &mem))
        return m;
    m = mem;
    if (fen__tally_register(&m->tally) < 0) {
        fen__sys_unmap(mem, sizeof *m);
        return NULL;
    }
    atomic_store(&spawn.m, m); /* pairs with the load in fen__outside_tally */
    return m;
}

int fen__spawn_outside(const struct fen__spawn *how)
{
    struct fen__g *g = NULL;
    if (fen__forked)
        return FEN_EFORKED;
    fen__lock(&spawn.lock);
    struct fen__m *m = spawn.open ? spawn_m() : NULL;
    int rc = m ? 0 : spawn.open ? -ENOMEM : FEN_ECLOSED;
    if (!rc) {
        m->bill.last = fen__tsc();
        rc = fen__spawn_make(m, how, &g);
    }
    if (!rc) /* under the lock: the run cannot end before the fiber is in a queue */
        fen__ready(g);
    fen__unlock(&spawn.lock);
    return rc;
}

struct fen__tally *fen__outside_tally(void)
{
    struct fen__m *m = atomic_load(&spawn.m);
    return m ? &m->tally : NULL;
}

static void set_open(bool open)
{
    fen__lock(&spawn.lock);
    spawn.open = open;
    fen__unlock(&spawn.lock);
}

void fen__outside_open(void) { set_open(true); }
void fen__outside_close(void) { set_open(false); }

/* After close; nobody spawns. */
void fen__outside_fini(void)
{
    fen__lock(&fen__sched.lock); /* somebody may be reading its tally: fen__each_tally */
    struct fen__m *m = atomic_exchange(&spawn.m, NULL);
    fen__unlock(&fen__sched.lock);
    if (!m)
        return;
    fen__tally_unregister(&m->tally);
    fen__sys_unmap(m, sizeof *m);
}
