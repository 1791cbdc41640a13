/* stuck.c - a deadlock: every fiber waits and nothing inside fen can wake one.
 *
 * Looked for where it costs nothing: when the monitor has found every P idle for a while and is
 * about to sleep until an M stirs. All of this must hold, and still hold PATIENCE later without a
 * switch in between:
 *   every P idle; no fiber on a thread (a blocking section or a computation whose P was taken); no
 *   start queued; no timer armed; no descriptor with somebody waiting in it, fen's or another
 *   library's; no call on the pool of threads; no outsider declared, which an open spawner is too,
 *   and no thread outside fen has ever woken a fiber of this run; the first fiber has not ended; a
 *   fiber lives.
 * What cannot be seen is a thread outside that will send for the first time later. Hence the words
 * of the report, that the default goes on waiting, and fen_outsider_begin.
 *
 * Only a state in which everything waits is found: a part of the program that waits for itself
 * while another part runs is seen in a dump, not here. Once a run. */
#include "sched/see.h"

#include "mem/mem.h"

#include <stdlib.h>

#define PATIENCE (500 * FEN_MS)
#define CYCLE_MAX 16
#define SHOWN 64

static struct {
    int64_t since_ns, switches;
    bool done;
} stuck;

void fen__stuck_init(void)
{
    stuck.since_ns = stuck.switches = 0;
    stuck.done = false;
}

void fen_outsider_begin(void) { atomic_fetch_add(&fen__see.outsiders, 1); }

void fen_outsider_end(void)
{
    fen_promise(atomic_fetch_sub(&fen__see.outsiders, 1) > 0,
                "fen_outsider_end without a fen_outsider_begin");
    fen__monitor_poke(); /* it may sleep with that in mind */
}

static bool ps_quiet(void)
{
    struct fen__sched *s = &fen__sched;
    for (int i = 0; i < s->nps; i++) {
        struct fen__p *p = &s->ps[i];
        if (atomic_load(&p->timers.next_ns) != FEN_NEVER || atomic_load(&p->n_starts) ||
            fen__queue_len(p))
            return false;
    }
    return atomic_load(&s->n_idle) == atomic_load(&s->n_live) && !atomic_load(&s->n_global);
}

static bool nobody_runs(void)
{
    struct fen__running *r = fen__running_take();
    bool none = r && r->n == 0;
    fen__running_free(r);
    return none;
}

static void add_outer_wait(struct fen__g *g, void *n)
{
    uint8_t why = __atomic_load_n(&g->reason, __ATOMIC_RELAXED);
    *(int *)n += why == FEN__R_FD || why == FEN__R_BLOCKING;
}

static bool none_waits_outside(void)
{
    int n = 0;
    fen__each_g(add_outer_wait, &n);
    return n == 0;
}

bool fen__stuck_helpless(void)
{
    return !atomic_load(&fen__see.outsiders) && !atomic_load(&fen__see.outside_woke) &&
           !atomic_load(&fen__sched.done) && nobody_runs() && fen__fibers_live() > 0 &&
           !fen__poll_waiting() && none_waits_outside();
}

static bool is_stuck(void) { return ps_quiet() && fen__stuck_helpless() && ps_quiet(); }

static void add_switches(struct fen__tally *t, void *n)
{
    *(int64_t *)n += fen__count_read(&t->switches);
}

int64_t fen__stuck_look(int64_t now)
{
    if (stuck.done || fen__see.on_deadlock == FEN_DEADLOCK_IGNORE || !is_stuck()) {
        stuck.since_ns = 0;
        return FEN_NEVER;
    }
    int64_t switches = 0;
    fen__each_tally(add_switches, &switches);
    if (!stuck.since_ns || switches != stuck.switches) {
        stuck.since_ns = now;
        stuck.switches = switches;
    }
    if (now - stuck.since_ns < PATIENCE)
        return stuck.since_ns + PATIENCE;
    stuck.done = true;
    fen__see_ask(FEN__ASK_STUCK);
    return 0;
}

/* ---- the report ---- */

struct edges {
    int n, cap;
    struct {
        uint64_t from, to;
    } at[];
};

static void add_edge(struct fen__g *g, void *arg)
{
    struct edges *e = arg;
    static struct fen__running nobody;
    struct fen__view v;
    if (e->n == e->cap || !fen__view_take(g, &nobody, &v) || !v.on.holder)
        return;
    e->at[e->n].from = v.number;
    e->at[e->n++].to = v.on.holder;
}

static uint64_t follow(const struct edges *e, uint64_t from)
{
    for (int i = 0; i < e->n; i++)
        if (e->at[i].from == from)
            return e->at[i].to;
    return 0;
}

/* The first circle of fibers in which each waits for a mutex that the next one holds. */
static void put_cycle(const struct edges *e)
{
    char bytes[512];
    struct fen__text t = {bytes, 0, sizeof bytes};
    for (int i = 0; i < e->n && i < SHOWN; i++) {
        uint64_t start = e->at[i].from, at = start;
        int len = 0;
        do
            at = follow(e, at);
        while (at && at != start && ++len < CYCLE_MAX);
        if (at != start)
            continue;
        fen__text_put(&t, "fen: each holds what the one before it waits for: fiber ");
        fen__text_dec(&t, (int64_t)start);
        do {
            at = follow(e, at);
            fen__text_put(&t, " -> ");
            fen__text_dec(&t, (int64_t)at);
        } while (at != start);
        fen__text_put(&t, "\n");
        fen__report(bytes, t.n);
        return;
    }
}

static void report_cycle(void)
{
    enum { CAP = 4096 };
    size_t bytes = sizeof(struct edges) + CAP * 2 * sizeof(uint64_t);
    struct edges *e = fen__mem_calloc(bytes);
    if (!e)
        return;
    e->cap = CAP;
    fen__each_g(add_edge, e);
    put_cycle(e);
    fen__mem_free(e, bytes);
}

static void report(void *arg, const char *text, size_t n)
{
    (void)arg;
    fen__report(text, n);
}

static void nudge(struct fen__g *g, void *arg)
{
    (void)arg;
    fen__nudge(g);
}

void fen__stuck_report(void)
{
    static const char head[] = "fen: deadlock: every fiber waits and nothing inside fen can wake "
                               "one; only a thread outside "
                               "fen could (fen_outsider_begin says that there is one)\n";
    fen__report(head, sizeof head - 1);
    (void)fen__dump(report, NULL);
    report_cycle();
    if (fen__see.on_deadlock == FEN_DEADLOCK_ABORT)
        abort();
    if (fen__see.on_deadlock != FEN_DEADLOCK_CANCEL)
        return;
    fen__sched.rc = -EDEADLK;
    fen__limit_end(&fen__sched.limit, -ECANCELED);
    fen__each_g(nudge, NULL);
}
