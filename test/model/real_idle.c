/* real_idle.c - src/sched/find.c and guard.c as they are.
 *
 * Idle and wake: an M looks for work by fen__find, runs what it finds, which may ready others, and
 * then computes for ever or looks again; a thread outside readies fibers. There is no monitor and
 * no time-out. When nobody can go on, nothing that others can see is left in a queue while a P
 * sleeps.
 *
 * Taking a P: an M in and out of the guarded section, where it touches its P; the monitor takes the
 * P (monitor.c), and the M that gets it touches it too: never both at once. */
#include "real_rig.h"

static struct {
    uint32_t kicked[RIG_PS];
    int ran[RIG_GS], n_made;
    int first, more; /* the first fiber readies so many, the thread outside so many */
    bool asleep[RIG_PS];
} w;

static void *tls(int self) { return self < fen__sched.nps ? &rig_m[self] : NULL; }

static bool is_kicked(void *shard) { return w.kicked[(uintptr_t)shard] != 0; }
static void sleep_in_poll(uint32_t shard)
{
    w.asleep[shard] = true;
    il_wait(is_kicked, (void *)(uintptr_t)shard);
    w.asleep[shard] = false;
    (void)il_swap(&w.kicked[shard], 0);
}
static void kick(uint32_t shard) { (void)il_swap(&w.kicked[shard], 1); }

static void make(int n)
{
    for (; n > 0; n--)
        fen__ready(&rig_g[w.n_made++]);
}

/* Fiber 0 readies others and parks; all others compute for ever. */
static void worker(int self)
{
    if (self == 0) {
        w.ran[0]++;
        make(w.first);
    }
    struct fen__g *g = fen__find(&rig_m[self]);
    il_fail(!g, "the run has not ended");
    il_fail(w.ran[g - rig_g]++, "a fiber runs twice");
}

static void actor(int self)
{
    if (self < fen__sched.nps)
        worker(self);
    else
        make(w.more);
}

static void end(void)
{
    int ps = fen__sched.nps, ran = 0;
    bool sleeps = false, work = fen__sched.n_global > 0;
    for (int i = 0; i < ps; i++) {
        sleeps |= w.asleep[i];
        work |= fen__queue_ring_len(&rig_p[i]) > 0;
    }
    il_fail(sleeps && work, "work is left while a P sleeps");
    for (int i = 1; i < w.n_made; i++)
        ran += w.ran[i];
    il_fail(ran < (w.n_made - 1 < ps ? w.n_made - 1 : ps), "a P computes nothing, and has work");
}

static void set(int ps, int first, int more)
{
    rig_init(ps);
    memset(&w, 0, sizeof w);
    rig.sleep = sleep_in_poll;
    rig.kick = kick;
    w.n_made = 1;
    w.first = first;
    w.more = more;
}
static void set_two(void) { set(2, 2, 0); }
static void set_outside(void) { set(2, 1, 1); }
static void set_three(void) { set(3, 3, 0); }

const struct il_scenario real_idle_two = {"idle: two Ps", 2, 3, set_two, actor, end, tls, 1000};
const struct il_scenario real_idle_outside = {
    "idle: two Ps, a thread outside", 3, 2, set_outside, actor, end, tls, 1000};
const struct il_scenario real_idle_three = {
    "idle: three Ps", 3, 2, set_three, actor, end, tls, 1000};

/* ---- taking a P ---- */

static struct {
    uint32_t given;
    struct fen__p *p; /* of the M that gets it */
    bool lost;
} t;

static void lose(struct fen__m *m, enum fen__act act)
{
    (void)m;
    il_fail(act != FEN__ACT_LOST, "the fiber moves on");
    t.lost = true;
    il_wait(il_never, NULL);
}

static bool is_given(void *arg)
{
    (void)arg;
    return t.given != 0;
}
static void give(struct fen__m *m)
{
    t.p = m->p;
    (void)il_swap(&t.given, 1);
}

/* What an M does to its P. */
static void touch(struct fen__p *p)
{
    il_fail(!p, "its P is gone");
    il_write(&p->tick, sizeof p->tick);
    p->tick++;
}

static void take_actor(int self)
{
    if (self == 0) {
        for (int i = 0; i < 3; i++) {
            struct fen__m *m = fen__enter();
            touch(m->p);
            fen__leave(m);
        }
    } else if (self == 1) {
        if (!real_take(&rig_m[0]))
            (void)real_take(&rig_m[0]);
    } else {
        il_wait(is_given, NULL);
        (void)il_swap(&t.given, 0);
        touch(t.p);
    }
}

static void take_set(void)
{
    rig_init(1);
    memset(&t, 0, sizeof t);
    rig.swap = lose;
    rig.give = give;
    rig_m[0].phase = FEN__USER;
    rig_m[1].spare = true;
    fen__sched.spares = &rig_m[1];
}
static void take_set_plain(void)
{
    take_set();
    fen__sched.no_membarrier = true;
}

static void take_end(void)
{
    il_fail(!il_done(1), "the monitor waits for ever");
    il_fail(!il_done(0) && !t.lost, "the M waits for ever");
    il_fail(rig_m[0].p == rig_m[1].p, "two at one P");
}

static void *take_tls(int self) { return self == 0 ? &rig_m[0] : NULL; }
const struct il_scenario real_take_one = {"a P is taken", 3,        3,        take_set,
                                          take_actor,     take_end, take_tls, 500};
const struct il_scenario real_take_plain = {
    "a P is taken, no membarrier", 3, 3, take_set_plain, take_actor, take_end, take_tls, 500};
