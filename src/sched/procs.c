/* procs.c - changing the number of Ps while they run.
 *
 * s->ps has room for FEN__PROCS_MAX Ps from the start; s->nps of them have ever been used and are
 * initialised, in order; s->nprocs is how many are wanted, and p->leave says it for one. P 0 is
 * always wanted. A P is live while it has an M (p->m, under sched.lock; s->n_live counts them); all
 * loops that look for work go over nps, for a P that is not live has none.
 *
 *   up    fen_procs_set (under procs.lock) initialises new Ps and opens their poller shards, then
 *         raises nprocs and wakes the monitor. The monitor gives each wanted P without an M a spare
 *         or a new one (fen__procs_raise): threads are born there, so they inherit nothing of the
 *         caller's.
 *   down  fen_procs_set lowers nprocs, sets leave, and kicks the poller shards of the Ps above,
 *         for their Ms may sleep there. The M of such a P sees at its next scheduling point that it
 *         is leaving (fen__procs_leaving; in RT, so nobody can take the P), and retires it:
 *           1 ready fibers go to the global queue, waiting starts to P 0
 *           2 timers move to P 0: both heaps locked, `home` changed under both; a fen__timer_del
 *             that looked at the old home sees the change under the lock and looks again
 *           3 P 0's poller watches the whole shard (poll/epoll.c: shards nest); descriptors stay
 *             where they are registered, and no registration changes
 *           4 under sched.lock: is it still unwanted? then p->m = NULL and the M becomes a spare
 *           5 if it was searching, the next searcher is woken; P 0 is kicked, for its earliest
 *             timer may have changed
 *         A fiber that computes keeps its P until its next call; the monitor takes the P from it
 *         after the usual patience, as if somebody waited for it (`wanted` in monitor.c).
 *
 * A P leaves the idle list before it retires: enter_idle refuses a leaving P under sched.lock, and
 * one that slept there already is kicked after leave was set. So no waker can choose a P that
 * has no M, and the idle protocol of find.c holds unchanged: what a submitter put where others can
 * see it is found by a live P, because a retiring P hands on what it has (1) and its turn to search
 * (5) as its last acts.
 *
 * New descriptors go to the shards of the first nprocs Ps. Rejected: moving descriptors one by one
 * (an event between the two registrations would be lost or come twice). */
#include "sched/sched_int.h"

#include "sys/node.h"

static struct {
    uint32_t lock;
    bool open;
} procs;

void fen__procs_init(struct fen__p *p, int number)
{
    p->number = (uint32_t)number;
    p->node = fen__sys_node_of(number);
    p->rand = fen__sched.seed + (uint64_t)number * 7919 + 1;
    fen__queue_init(p);
    fen__timers_init(p);
}

void fen__procs_open(bool open)
{
    fen__lock(&procs.lock);
    procs.open = open;
    fen__unlock(&procs.lock);
}

/* procs.lock held. Ps that were never used. */
static int grow(int n)
{
    struct fen__sched *s = &fen__sched;
    for (int i = s->nps; i < n; i++) {
        int rc = fen__poll_add_shard(i);
        if (rc)
            return rc;
        fen__procs_init(&s->ps[i], i);
        atomic_store(&s->nps, i + 1);
    }
    return 0;
}

int fen_procs_set(int n)
{
    struct fen__sched *s = &fen__sched;
    if (n < 1 || n > FEN__PROCS_MAX)
        return -EINVAL;
    if (fen__forked)
        return FEN_EFORKED;
    fen__lock(&procs.lock);
    int rc = !procs.open ? FEN_ECLOSED : n > s->max_ms ? -EINVAL : grow(n);
    if (!rc) {
        atomic_store(&s->nprocs, n);
        fen__poll_use_shards(n);
        for (int i = 0; i < s->nps; i++)
            atomic_store(&s->ps[i].leave, i >= n);
        for (int i = n; i < s->nps; i++)
            fen__poll_kick((uint32_t)i);
        fen__monitor_poke();
    }
    fen__unlock(&procs.lock);
    return rc;
}

/* ---- up: on the monitor ---- */

static bool raise_one(struct fen__p *p)
{
    struct fen__sched *s = &fen__sched;
    struct fen__m *n = NULL;
    fen__lock(&s->lock);
    if (!p->m && !fen__procs_leaving(p) && !s->stop) {
        n = s->spares ? s->spares : fen__m_new(NULL);
        if (n) {
            if (n->spare)
                s->spares = n->next_spare;
            fen__poll_release((int)p->number);
            fen__m_give(n, p);
            atomic_fetch_add(&s->n_live, 1);
        }
    }
    fen__unlock(&s->lock);
    if (n)
        fen__sys_futex_wake(&n->wake, 1);
    return n != NULL;
}

void fen__procs_raise(void)
{
    struct fen__sched *s = &fen__sched;
    int want = s->nprocs;
    for (int i = 1; i < want; i++)
        if (!s->ps[i].m && !raise_one(&s->ps[i]))
            return; /* no thread to be had: next time */
}

/* ---- down: on the M of the P, in RT ---- */

static void give_away_fibers(struct fen__p *p)
{
    struct fen__g *g;
    while ((g = fen__queue_pop(p)))
        fen__global_push(g, g, 1);
}

static bool still_leaves(struct fen__m *m)
{
    struct fen__sched *s = &fen__sched;
    fen__lock(&s->lock);
    struct fen__p *p = m->p;
    bool go = fen__procs_leaving(p);
    if (go) {
        atomic_store(&p->m, NULL);
        m->p = NULL;
        atomic_store(&m->word, FEN__TAKEN);
        atomic_fetch_sub(&s->n_live, 1);
    } else {
        fen__poll_release((int)p->number);
    }
    fen__unlock(&s->lock);
    return go;
}

/* False: it could not, for want of memory or descriptors, or need not any more. */
bool fen__procs_retire(struct fen__m *m)
{
    struct fen__p *p = m->p, *to = &fen__sched.ps[0];
    give_away_fibers(p);
    fen__start_move(p, to);
    bool ok = fen__timers_move(p, to) == 0 && fen__poll_adopt((int)p->number, 0) == 0;
    if (!ok)
        fen__sys_nap(FEN_MS); /* and again */
    ok = ok && still_leaves(m);
    fen__stop_searching(m);
    fen__wake_p();
    fen__poll_kick(0);
    return ok;
}
