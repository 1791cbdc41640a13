/* find.c - what a P runs next; how it goes idle and is woken.
 *
 * Order: due timers; each 61st tick the global queue; each 100 us that and the poller; runnext and
 * the ring; then the slow path: global queue, poller, stealing (four passes over random victims,
 * runnext only on the last), and sleep in the P's own poller shard until an event, the next timer
 * or a kick.
 *
 * Idle and wake, so that no ready fiber is left while a P sleeps:
 *   submit   1 put the fiber where others can see it (seq_cst)   2 look at n_idle, n_searching
 *   sleep    3 enter the idle list, n_idle++ (seq_cst)           4 look at every queue again
 * One of 2 and 4 sees the other. A submitter wakes at most one P and only when nobody searches; the
 * woken P searches, and the last searcher that finds work wakes the next, so wake-ups spread
 * without a herd. At most half the busy Ps search. An idle P keeps its M: the M sleeps in
 * epoll_wait and is kicked by the shard's eventfd. test/model/idle_test.c explores the protocol.
 *
 * A jam: FEN__JAM fibers in a row parked on a lock, a semaphore or a pool, and nothing else runs.
 * Who holds it may be ready on another P, whose thread the kernel has taken away for milliseconds;
 * in that time this P would turn each start into one more waiter with a stack, thousands of them.
 * So it steals first, and when there is nothing it sleeps a millisecond before it starts more.
 *
 * Rejected: one poller for all (Go's collapses at 192 cores); parking idle Ms on a futex
 * apart from the poller (two wake-ups for an event). */
#include "sched/see.h"

#define PASSES 4
#define START_TICK 8
#define CROWD 8
#define JAM_NAP FEN_MS
#define SHARE 8 /* of the global queue, at a look */

/* A busy P looks at its descriptors, and at the global queue, every half of a long slice, 100 us:
 * by ticks alone a fiber that a thread outside has woken would wait for 61 slices, which may be
 * long, and one a tick could not keep up with more of them. */
static bool look_due(const struct fen__m *m)
{
    return m->bill.last - m->p->last_poll > fen__long_ticks / 2 &&
           (fen__poll_open_count() ||
            atomic_load_explicit(&fen__sched.n_global,
                                 memory_order_relaxed)); /* or the next time */
}

static struct fen__p *pop_idle(void)
{
    struct fen__sched *s = &fen__sched;
    fen__lock(&s->lock);
    struct fen__p *p = s->idle;
    if (p) {
        s->idle = p->next_idle;
        p->idle = false;
        atomic_fetch_sub(&s->n_idle, 1);
    }
    fen__unlock(&s->lock);
    return p;
}

/* Wakes an idle P if nobody is searching. If none is left to wake, a submitter may have relied on
 * our count meanwhile while another P went idle: look again. */
void fen__wake_p(void)
{
    struct fen__sched *s = &fen__sched;
    int none = 0;
    while (FEN__UNLIKELY(atomic_load(&s->n_idle)) && !atomic_load(&s->n_searching) &&
           atomic_compare_exchange_strong(&s->n_searching, &none, 1)) {
        struct fen__p *p = pop_idle();
        if (p) {
            fen__poll_kick(p->number); /* its M searches on our count */
            return;
        }
        atomic_fetch_sub(&s->n_searching, 1);
    }
}

/* runnext alone wakes nobody: its P runs it as soon as the present fiber parks, which for two
 * fibers that wake each other is at once. What it displaces is work for another P. Should the
 * present fiber go on computing, the monitor wakes a P within a millisecond. */
inline void fen__ready(struct fen__g *g)
{
    struct fen__m *m = fen__self_rt();
    if (FEN__UNLIKELY(g->id & FEN__G_THREAD)) {
        fen__outside_ready(g);
        return;
    }
    if (!m) {
        const struct fen__m *self = fen__self();
        bool thread = !self || (self->cur && self->cur->id & FEN__G_THREAD);
        if (thread && !fen__aside()) /* for stuck.c */
            atomic_store_explicit(&fen__see.outside_woke, true, memory_order_relaxed);
        /* Once pushed, g may end, and the run with it: it waits for us (wait_all). */
        atomic_fetch_add(&fen__sched.readying, 1);
        fen__global_push(g, g, 1);
        fen__wake_p();
        atomic_fetch_sub(&fen__sched.readying, 1);
    } else if (fen__queue_next(m, g)) {
        fen__wake_p();
    }
}

void fen__stop_searching(struct fen__m *m)
{
    if (!m->searching)
        return;
    m->searching = false;
    if (atomic_fetch_sub(&fen__sched.n_searching, 1) == 1)
        fen__wake_p(); /* I found work, there may be more */
}

/* Wakes what became ready. Fibers go to the tail in the order of their events. */
static void deliver(struct fen__m *m, const fen__waiter *w, int n)
{
    for (int i = 0; i < n; i++) {
        if (fen__w_is_hook(w[i])) {
            struct fen__hook *h = (struct fen__hook *)(uintptr_t)(w[i] & ~UINT64_C(3));
            h->fire(h);
            continue;
        }
        struct fen__g *g = fen__g_at((uint32_t)(w[i] >> 32));
        int was = fen__claim(g, w[i] >> 2 & FEN__W_EPOCH_MASK);
        if (!was)
            continue;
        uint64_t word = atomic_load_explicit(&g->wait, memory_order_relaxed);
        atomic_store_explicit(&g->wait, (word & ~UINT64_C(0xffff)) | FEN__BY_IO,
                              memory_order_release);
        if (FEN__UNLIKELY(g->id & FEN__G_THREAD))
            fen__outside_ready(g);
        else if (was == FEN__PARKED)
            fen__queue_tail(m, g);
    }
    fen__count_add(&m->tally.poll_events, n);
    if (n > 1)
        fen__wake_p();
}

int fen__find_poll(struct fen__m *m)
{
    fen__waiter w[2 * FEN__POLL_BATCH];
    bool kicked;
    m->p->last_poll = m->bill.last;
    int n = fen__poll_wait(m->p->number, w, (int)FEN__COUNT(w), 0, &kicked);
    fen__count_add(&m->tally.polls, 1);
    if (n > 0)
        deliver(m, w, n);
    return n > 0 ? n : 0;
}

/* About 3 us. */
static void back_off(void)
{
    uint64_t end = fen__tsc() + fen__long_ticks / 64;
    while (fen__tsc() < end)
        ;
}

static bool jammed(const struct fen__p *p) { return p->jam >= FEN__JAM; }

/* Half of nothing is nothing: starts are taken one at a time, they are not in a ring. */
static struct fen__g *steal_from(struct fen__m *m, struct fen__p *from, bool runnext)
{
    struct fen__g *g = fen__queue_steal(m->p, from, runnext);
    if (!g)
        g = fen__newborn_steal(m, from);
    return g || jammed(m->p) ? g : fen__start_pop(m, from);
}

static struct fen__g *steal(struct fen__m *m)
{
    struct fen__sched *s = &fen__sched;
    struct fen__p *p = m->p;
    int nps = s->nps;
    if (nps < 2)
        return NULL;
    if (!m->searching) {
        int busy = s->n_live - atomic_load(&s->n_idle);
        if (2 * atomic_load(&s->n_searching) >= busy)
            return NULL;
        m->searching = true;
        atomic_fetch_add(&s->n_searching, 1);
    }
    for (int pass = 0; pass < PASSES; pass++) {
        if (pass == PASSES - 1)
            back_off(); /* the owner most likely takes its runnext itself */
        uint32_t first = (uint32_t)fen__rand(&p->rand);
        for (int i = 0; i < nps; i++) {
            struct fen__p *from = &s->ps[(first + (uint32_t)i) % (uint32_t)nps];
            struct fen__g *g = from == p ? NULL : steal_from(m, from, pass == PASSES - 1);
            if (g) {
                fen__count_add(&m->tally.steals, 1);
                return g;
            }
        }
    }
    return NULL;
}

/* Step 3. False: work has come to the global queue. */
static bool enter_idle(struct fen__m *m)
{
    struct fen__sched *s = &fen__sched;
    fen__lock(&s->lock);
    bool ok = !s->n_global && !s->stop && !fen__procs_leaving(m->p);
    if (ok) {
        m->p->idle = true;
        m->p->next_idle = s->idle;
        s->idle = m->p;
        atomic_fetch_add(&s->n_idle, 1);
        if (m->searching) {
            m->searching = false;
            atomic_fetch_sub(&s->n_searching, 1);
        }
    }
    fen__unlock(&s->lock);
    return ok;
}

/* Out of the idle list; if a waker was quicker, the M searches on the waker's count. */
static void leave_idle(struct fen__m *m)
{
    struct fen__sched *s = &fen__sched;
    fen__lock(&s->lock);
    if (m->p->idle) {
        m->p->idle = false;
        struct fen__p **at = &s->idle;
        while (*at != m->p)
            at = &(*at)->next_idle;
        *at = m->p->next_idle;
        atomic_fetch_sub(&s->n_idle, 1);
    } else {
        m->searching = true;
    }
    fen__unlock(&s->lock);
}

static bool work_elsewhere(struct fen__m *m)
{
    for (int i = 0; i < fen__sched.nps; i++)
        if (&fen__sched.ps[i] != m->p &&
            (fen__queue_ring_len(&fen__sched.ps[i]) || atomic_load(&fen__sched.ps[i].newborn.n) ||
             (!jammed(m->p) && atomic_load(&fen__sched.ps[i].n_starts))))
            return true;
    return false;
}

/* Sleeps until something may have happened. */
void fen__find_idle(struct fen__m *m)
{
    fen__waiter w[2 * FEN__POLL_BATCH];
    bool kicked = false;
    if (!enter_idle(m))
        return;
    int n = 0;
    if (!work_elsewhere(m)) {
        fen__mem_idle();
        int64_t until = atomic_load_explicit(&m->p->timers.next_ns, memory_order_relaxed);
        if (jammed(m->p)) /* it leaves starts behind, here or elsewhere, that it may take soon */
            until = fen__min_i64(until, fen__sys_now() + JAM_NAP);
        n = fen__poll_wait(m->p->number, w, (int)FEN__COUNT(w), until, &kicked);
        fen__count_add(&m->tally.polls, 1);
    }
    leave_idle(m);
    m->p->jam = 0;
    fen__charge_sleep(m);
    m->p->last_poll = m->bill.last;
    fen__count_add(&m->tally.wakeups, 1);
    if (atomic_load(&fen__sched.monitor_deep)) /* pairs with the store in deep_sleep */
        fen__monitor_poke();
    if (n > 0)
        deliver(m, w, n);
}

static inline bool timers_due(struct fen__m *m)
{
    struct fen__p *p = m->p;
    if (!m->meter)
        m->bill.last = fen__tsc();
    if (FEN__UNLIKELY(m->bill.last - p->anchor_tsc > 500 * fen__long_ticks)) { /* 100 ms */
        fen__lock(&p->timers.lock);
        fen__anchor(p);
        atomic_store_explicit(&p->timers.next_tsc, fen__tsc_at(p, p->timers.next_ns),
                              memory_order_relaxed);
        fen__unlock(&p->timers.lock);
    }
    return m->bill.last >= atomic_load_explicit(&p->timers.next_tsc, memory_order_relaxed);
}

/* Is it a start's turn? Ready fibers come first, because they are under way; each START_TICK-th
 * time a start, so that fibers which never stop being ready cannot keep them out. While CROWD and
 * more are ready, start and fiber take turns: they were woken together, by one read that held many
 * answers, and the waits that starts begin should not all begin only when the crowd has gone. */
static inline bool start_due(struct fen__p *p, uint32_t tick)
{
    return atomic_load_explicit(&p->n_starts, memory_order_relaxed) &&
           tick % (fen__queue_ring_len(p) < CROWD ? START_TICK : 2) == 0;
}

/* What this P has. */
static struct fen__g *own(struct fen__m *m)
{
    struct fen__p *p = m->p;
    struct fen__g *g = NULL;
    bool starts = atomic_load_explicit(&p->n_starts, memory_order_relaxed) && !jammed(p);
    if (starts && start_due(p, p->tick))
        g = fen__start_pop(m, p);
    if (!g)
        g = fen__queue_pop(p);
    if (g || !starts)
        return g;
    /* A fiber on the global queue may hold what every new one would wait for. */
    g = fen__global_pop(m, 1);
    return g ? g : fen__start_pop(m, p);
}

static struct fen__g *slow(struct fen__m *m)
{
    struct fen__g *g = NULL;
    while (!g && !atomic_load_explicit(&fen__sched.stop, memory_order_relaxed) &&
           !fen__procs_leaving(m->p)) {
        fen__bill_follow(m);
        if (timers_due(m))
            fen__timers_run(m->p);
        g = fen__global_pop(m, 128);
        if (!g)
            g = own(m);
        if (!g && fen__find_poll(m))
            g = own(m);
        if (!g)
            g = steal(m);
        if (!g)
            fen__find_idle(m);
    }
    fen__stop_searching(m);
    fen__charge(m, NULL);
    return g;
}

/* g: found already, or NULL. With long slices every find comes here, and threads outside may fill
 * the global queue as fast: who is from there and who is of the P's own take turns, or those would
 * not run at all. */
static struct fen__g *look(struct fen__m *m, struct fen__g *g)
{
    struct fen__p *p = m->p;
    p->last_poll = m->bill.last;
    if (!g && !p->looked)
        g = fen__global_pop(m, SHARE);
    p->looked = g != NULL;
    if (fen__poll_open_count())
        fen__find_poll(m);
    fen__charge(m, NULL);
    return g;
}

/* The M's own stack looks at everything at least every half of a long slice, 100 us: timers,
 * descriptors, whether the P leaves. */
static void allow_quick(struct fen__m *m)
{
    uint64_t next = atomic_load_explicit(&m->p->timers.next_tsc, memory_order_relaxed);
    uint64_t until = m->bill.last + fen__long_ticks / 2;
    atomic_store_explicit(&m->p->quick_until, next < until ? next : until, memory_order_relaxed);
}

/* The next fiber when nothing but the P's own queue is due, for a fiber that switches away; NULL:
 * the M's own stack has to look. */
inline struct fen__g *fen__find_quick(struct fen__m *m)
{
    struct fen__p *p = m->p;
    uint32_t tick = p->tick + 1;
    if (FEN__UNLIKELY(!m->meter))
        m->bill.last = fen__tsc();
    if (FEN__UNLIKELY(m->bill.last >= atomic_load_explicit(&p->quick_until, memory_order_relaxed) ||
                      tick % FEN__GLOBAL_TICK == 0))
        return NULL;
    if (FEN__UNLIKELY(start_due(p, tick)))
        return NULL;
#ifdef FEN_HARD
    if (tick % 2) /* both ways are taken */
        return NULL;
#endif
    struct fen__g *g = fen__queue_pop(p);
    p->tick += g != NULL;
    return g;
}

/* The next fiber for this M's P; NULL when the run ends, or the P has to leave and has nothing at
 * hand. The M keeps its P throughout. */
struct fen__g *fen__find(struct fen__m *m)
{
    struct fen__p *p = m->p;
    struct fen__g *g = NULL;
    if (FEN__UNLIKELY(timers_due(m))) {
        if (FEN__UNLIKELY(fen__sched.sim))
            return fen__sim_find(m);
        fen__timers_run(p);
    }
    if (FEN__UNLIKELY(++p->tick % FEN__GLOBAL_TICK == 0)) {
        fen__bill_follow(m);
        g = fen__global_pop(m, 1);
    }
    if (FEN__UNLIKELY(look_due(m)))
        g = look(m, g);
#ifdef FEN_HARD
    if (!g && fen__queue_ring_len(p) <= FEN__RING / 2) { /* others' work before one's own */
        g = steal(m);
        fen__stop_searching(m);
    }
#endif
    if (!g)
        g = own(m);
    if (!g)
        g = slow(m);
    if (g)
        allow_quick(m);
    return g;
}
