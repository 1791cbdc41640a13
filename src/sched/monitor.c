/* monitor.c - the thread that keeps a stuck M from stopping its P.
 *
 * One mechanism, four patiences (per M, while its calls counter and phase do not move):
 *   BLOCK, thread asleep in kernel 20 us   a declared blocking section that lasts; none when such
 *                                          sections are known to last, but no spare was there
 *   BLOCK                          10 ms   the same, computing or preempted
 *   USER, thread asleep in kernel  200 us  an undeclared blocking call
 *   USER                           10 ms   a computation; 0.5 ms for a repeat offender
 * A P that nobody waits for is left alone, but see "the last one". The fiber's M keeps its thread
 * and computes on; if its thread really burns CPU (not merely preempted) it is demoted to
 * SCHED_IDLE, so that many hogs do not starve the machine by weight of threads. It never holds a P
 * again: at its next runtime call the fiber moves on and the M ends. New Ms are made by this
 * thread, so they do not inherit the class. A take refused for want of an M is a stall: counted,
 * and told like the rest (stall.c).
 *
 * Many demoted threads on one processor still bend its virtual time (EEVDF), in two ways. A thread
 * of weight 3 that has run for a tick of 4 ms stands 1.4 s of virtual time further; dozens of them
 * lie over such a span, and who wakes up is put in at their average.
 * - The turn that the kernel gives them, 1.4 ms, is shorter than a tick. So those that have come
 *   least far have a deadline before that of an M that wakes up, and run first, a tick each: it
 *   came 10 to 35 ms late in each run. Turns of DEMOTED_SLICE make their deadlines the later ones.
 * - The last one of the hogs would keep its P, because nobody waits for it, and with the P its
 *   class. An M that wakes up on its processor is put 36 ms behind it: P99 of a tick 40 ms in one
 *   run of three. So while there are demoted threads, a computation of PATIENCE_LONE loses its P
 *   also when nobody waits for it, and is demoted like the rest. The P that is left over sleeps.
 *
 * An M that was seen computing is looked at once a millisecond: a look is a wake-up of this thread,
 * and at 200 us apart it cost computing fibers a tenth of the machine.
 *
 * The monitor naps 20 us while blocking sections last, else up to 1 ms, up to 10 ms when every P is
 * idle, and then sleeps until an M leaves idle (no wake-ups in an idle process). Before that sleep
 * it asks stuck.c whether anything can end it. It also starts the thread that prints for people
 * (see.c), because it is awake when no P is.
 *
 * When no P was found standing still for CALM looks and none is idle, it naps up to 4 ms: on a
 * saturated core each wake-up pushes a worker off and costs some 15 us. The price: the first stuck
 * M after a calm time is noticed up to 4 ms late instead of 1 ms; from then on, for CALM looks, it
 * is 1 ms again. With an idle P it stays at 1 ms, because share() must find work for it.
 * A section that should have been moved and found no spare ends the nap (section.c). */
#include "sched/see.h"

#include "mem/mem.h"
#include "sys/process.h"

#define PATIENCE_BLOCK (20 * FEN_US)
#define PATIENCE_ASLEEP (200 * FEN_US)
#define PATIENCE_RUNS (10 * FEN_MS)
#define PATIENCE_LONE (30 * FEN_MS) /* beside demoted threads, when nobody waits */
#define DEMOTE_AFTER (3 * FEN_MS)
#define DEMOTED_SLICE (3900 * FEN_US) /* one tick of a kernel with HZ=250 ends it */
#define NAP_MIN (20 * FEN_US)
#define NAP_BUSY FEN_MS
#define NAP_CALM (4 * FEN_MS)
#define NAP_IDLE (10 * FEN_MS)
#define CALM 100    /* looks in a row that found every P moving */
#define HOT_NAPS 50 /* short naps after a take: more are likely */

static struct {
    bool started;
    int hot;
    int calm;    /* looks in a row at which no P stood still */
    int demoted; /* threads of SCHED_IDLE at the last sweep */
} mon;

void fen__monitor_poke(void)
{
    if (atomic_exchange(&fen__sched.monitor_deep, 0)) {
        atomic_fetch_add(&fen__sched.monitor_wake, 1);
        fen__sys_futex_wake(&fen__sched.monitor_wake, 1);
    }
}

/* Any thread; what it is to see was stored before. */
void fen__monitor_hurry(void)
{
    atomic_fetch_add(&fen__sched.monitor_wake, 1);
    fen__sys_futex_wake(&fen__sched.monitor_wake, 1);
}

static bool wanted(struct fen__p *p, int64_t now)
{
    return fen__queue_len(p) || atomic_load_explicit(&fen__sched.n_global, memory_order_relaxed) ||
           atomic_load_explicit(&p->timers.next_ns, memory_order_relaxed) <= now ||
           fen__poll_pending(p->number) || fen__procs_leaving(p);
}

enum fen__why { DECLARED, ASLEEP, COMPUTES };

/* Steps 5 to 8 of guard.c. */
static bool take(struct fen__m *m, enum fen__why why, int64_t now)
{
    struct fen__sched *s = &fen__sched;
    uint32_t e = FEN__OWNED;
    if (!atomic_compare_exchange_strong(&m->word, &e, FEN__ASKED))
        return false;
    if (!s->no_membarrier)
        fen__sys_membarrier();
    e = FEN__ASKED;
    /* acquire: pairs with the release of phase in fen__leave */
    if (atomic_load_explicit(&m->phase, memory_order_acquire) == FEN__RT) {
        atomic_compare_exchange_strong(&m->word, &e, FEN__OWNED);
        return false;
    }
    fen__lock(&s->lock);
    struct fen__m *n = s->spares;
    if (!n) /* a new one starts as a spare: if the race below is lost, it stays one */
        n = fen__m_new(NULL);
    if (!n) {
        atomic_compare_exchange_strong(&m->word, &e, FEN__OWNED);
        fen__unlock(&s->lock);
        atomic_fetch_add(&s->refused, 1);
        fen__stall_refused(now - m->since_ns, now);
        return false;
    }
    atomic_store_explicit(&m->hog, why == COMPUTES, memory_order_relaxed); /* released by the CAS */
    bool won = atomic_compare_exchange_strong(&m->word, &e, FEN__TAKEN);
    struct fen__p *p = m->p; /* not the P we were scanning: it may have changed hands */
    if (won) {
        m->p = NULL;
        m->cpu_at_take_ns = fen__sys_cpu_of(m->tid);
        if (n->spare)
            s->spares = n->next_spare;
        fen__m_give(n, p);
        if (why == DECLARED)
            fen__section_taken(atomic_load_explicit(&m->site, memory_order_relaxed));
        else
            fen__stall_note(m, why == COMPUTES ? FEN_EVENT_HOG : FEN_EVENT_BLOCKED, now);
    }
    fen__unlock(&s->lock);
    if (!won)
        return false;
    fen__sys_futex_wake(&n->wake, 1);
    atomic_fetch_add(&s->handoffs, 1);
    mon.hot = HOT_NAPS;
    fen__stall_begin();
    return true;
}

static bool asleep(struct fen__m *m)
{
    fen__lock(&m->stat_lock); /* the thread may be ending: stat_close */
    bool yes = fen__sys_asleep(atomic_load(&m->tid), &m->statfd);
    fen__unlock(&m->stat_lock);
    return yes;
}

/* A section that computes, or whose thread was merely preempted, is not blocked: it gets more time,
 * because a hand-over costs more than it brings when the processor itself is what is short. One
 * that would have been moved (section.c) loses its P as soon as it sleeps, whoever waits. */
static int64_t look_at_blocked(struct fen__p *p, struct fen__m *m, int64_t stuck, int64_t now)
{
    if (fen__section_lasts(atomic_load_explicit(&m->site, memory_order_relaxed))) {
        if (stuck < PATIENCE_RUNS && !asleep(m))
            return stuck < PATIENCE_ASLEEP ? NAP_MIN : PATIENCE_ASLEEP / 2;
        return take(m, DECLARED, now) ? NAP_MIN : PATIENCE_ASLEEP / 2;
    }
    if (stuck < PATIENCE_BLOCK)
        return mon.hot > 0 || stuck ? NAP_MIN : NAP_BUSY;
    if (!wanted(p, now))
        return PATIENCE_ASLEEP / 2;
    if (stuck < PATIENCE_RUNS && !asleep(m))
        return PATIENCE_ASLEEP / 2;
    return take(m, DECLARED, now) ? NAP_MIN : PATIENCE_ASLEEP / 2;
}

/* Looks at the M of one P. Returns the longest nap that still sees what comes next in time. */
static int64_t look(struct fen__p *p, int64_t now)
{
    struct fen__m *m = atomic_load(&p->m);
    if (!m || !m->tid)
        return NAP_BUSY;
    uint32_t calls = atomic_load_explicit(&m->calls, memory_order_relaxed);
    uint32_t phase = atomic_load_explicit(&m->phase, memory_order_relaxed);
    if (calls != m->seen_calls || phase != m->seen_phase) {
        m->seen_calls = calls;
        m->seen_phase = phase;
        m->since_ns = now;
        m->cpu_seen_ns = -1;
        return phase == FEN__BLOCK ? look_at_blocked(p, m, 0, now) : NAP_BUSY;
    }
    if (phase == FEN__RT)
        return NAP_BUSY;
    mon.calm = 0;
    int64_t stuck = now - m->since_ns;
    if (phase == FEN__BLOCK)
        return look_at_blocked(p, m, stuck, now);
    if (stuck < PATIENCE_ASLEEP)
        return PATIENCE_ASLEEP;
    bool lone = !wanted(p, now);
    if (lone && (!mon.demoted || stuck < PATIENCE_LONE))
        return NAP_BUSY;
    if (stuck >= atomic_load_explicit(&m->patience_ns, memory_order_relaxed)) {
        bool sleeps = asleep(m); /* this thread may have come late */
        if (!lone || !sleeps)
            take(m, sleeps ? ASLEEP : COMPUTES, now);
        return NAP_BUSY;
    }
    int64_t cpu = fen__sys_cpu_of(m->tid), seen = m->cpu_seen_ns;
    m->cpu_seen_ns = cpu;
    if (seen >= 0 && cpu != seen)
        return NAP_BUSY; /* it computes: looking more often would only take its time */
    if (cpu == seen && asleep(m))
        take(m, ASLEEP, now);
    return PATIENCE_ASLEEP;
}

/* Ms that lost their P and still compute: demote those that are hogs by their own CPU clock. */
static void demote_hogs(void)
{
    struct fen__sched *s = &fen__sched;
    int demoted = 0;
    fen__lock(&s->lock);
    for (struct fen__m *m = s->ms; m; m = m->next) {
        demoted += m->demoted && m->tid;
        if (m->p || m->spare || m->demoted || !m->tid ||
            atomic_load_explicit(&m->phase, memory_order_relaxed) != FEN__USER)
            continue;
        if (fen__sys_cpu_of(m->tid) - m->cpu_at_take_ns < DEMOTE_AFTER)
            continue;
        m->demoted = true;
        fen__sys_demote(m->tid, DEMOTED_SLICE);
        demoted++;
    }
    fen__unlock(&s->lock);
    mon.demoted = demoted;
}

/* Work queued on a busy P while another is idle: see fen__ready. What an idle P has are starts that
 * it keeps waiting (a jam: find.c), and it would only be woken out of its nap. */
static void share(void)
{
    struct fen__sched *s = &fen__sched;
    bool more = false;
    if (!atomic_load_explicit(&s->n_idle, memory_order_relaxed))
        return;
    fen__lock(&s->lock);
    for (int i = 0; i < s->nps && !more; i++)
        more = !s->ps[i].idle && fen__queue_len(&s->ps[i]);
    fen__unlock(&s->lock);
    if (more)
        fen__wake_p();
}

/* Every P that has an M is idle, and none still lacks one. */
static bool all_idle(void)
{
    struct fen__sched *s = &fen__sched;
    int live = atomic_load(&s->n_live);
    return atomic_load(&s->n_idle) == live && live == atomic_load(&s->nprocs);
}

/* Looks at every P. Returns the longest nap; telling: an event is under way (stall.c). */
static int64_t look_at_all(int64_t now, bool telling)
{
    struct fen__sched *s = &fen__sched;
    int64_t most = NAP_IDLE;
    mon.calm += mon.calm < CALM;
    for (int i = 0; i < s->nps; i++)
        most = fen__min_i64(most, look(&s->ps[i], now));
    if (all_idle())
        return telling ? NAP_BUSY : NAP_IDLE;
    if (most >= NAP_BUSY && mon.calm == CALM && !atomic_load(&s->n_idle))
        return NAP_CALM;
    return fen__min_i64(most, NAP_BUSY);
}

/* One more spare after each round in which a fiber found none: there will be as many as sections
 * that are open at once. */
static void restock(void)
{
    struct fen__sched *s = &fen__sched;
    if (!atomic_exchange(&s->missed, 0))
        return;
    fen__lock(&s->lock);
    (void)fen__m_new(NULL); /* refused: sections begin with a P, as before */
    fen__unlock(&s->lock);
}

/* Sleeps until an M leaves idle. */
static void deep_sleep(void)
{
    struct fen__sched *s = &fen__sched;
    uint32_t seen = atomic_load(&s->monitor_wake);
    atomic_store(&s->monitor_deep, 1); /* seq_cst: pairs with the load in find.c idle() */
    if (all_idle() && !atomic_load(&s->stop) && !atomic_load(&fen__see.asked)) {
        fen__hibernate_tick(); /* here: whatever parks later pokes */
        fen__pace_tick(fen__sys_now());
        fen__sys_futex_wait(&s->monitor_wake, seen, fen__stuck_look(fen__sys_now()));
    }
    atomic_store(&s->monitor_deep, 0);
}

static void *monitor(void *arg)
{
    (void)arg;
    struct fen__sched *s = &fen__sched;
    int64_t nap = NAP_MIN, swept = 0;
    uint32_t seen = atomic_load(&s->monitor_wake);
    fen__sys_timer_slack(1);
    fen__sys_block_sigpipe(); /* also for the threads that begin here: some print */
    while (!atomic_load(&s->stop)) {
        if (FEN__UNLIKELY(atomic_load_explicit(&fen__see.asked, memory_order_relaxed)))
            fen__see_work();
        if (all_idle() && nap >= NAP_IDLE)
            deep_sleep();
        fen__sys_futex_wait(&s->monitor_wake, seen, fen__sys_now() + nap);
        seen = atomic_load(&s->monitor_wake); /* before it looks: pairs with fen__monitor_hurry */
        int64_t now = fen__sys_now();
        restock();
        mon.hot -= mon.hot > 0;
        bool telling = fen__stall_poll(now);
        int64_t most = look_at_all(now, telling);
        if (now - swept >= FEN_MS) {
            swept = now;
            demote_hogs();
            fen__procs_raise();
            share();
            fen__hibernate_tick();
            fen__pace_tick(now);
        }
        nap = fen__min_i64(most, nap * 2);
        __atomic_store_n(&s->monitor_cpu_ns, fen__sys_thread_cpu(), __ATOMIC_RELAXED);
    }
    fen__stall_poll(FEN_NEVER); /* what is known by now */
    return NULL;
}

int fen__monitor_start(void)
{
    mon.hot = mon.calm = mon.demoted = 0;
    mon.started = pthread_create(&fen__sched.monitor, NULL, monitor, NULL) == 0;
    return mon.started ? 0 : -EAGAIN;
}

void fen__monitor_stop(void)
{
    if (!mon.started)
        return;
    atomic_fetch_add(&fen__sched.monitor_wake, 1);
    fen__sys_futex_wake(&fen__sched.monitor_wake, 1);
    pthread_join(fen__sched.monitor, NULL);
    mon.started = false;
}
