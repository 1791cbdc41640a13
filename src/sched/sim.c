/* sim.c - simulated runs: one number fixes who runs next, when it is interrupted, what time it is
 * and what fails, so that any run can be had again.
 *
 * One M with one P runs everything. What differs from a real run hangs on three hooks, none of
 * which costs a real run a branch on its way from fiber to fiber:
 *   the P's next timer is always due by the TSC (fen__tsc_at), so fen__find_quick gives up and
 *   fen__find comes here                          -> fen__sim_find: who runs, what time it is
 *   the M's word is SIMULATED instead of OWNED, so fen__enter takes its slow way
 *                                                 -> fen__sim_enter: interrupted before each call
 *   the thread's clock is virtual (sys/sim.c), and fen__sys_fault is ours
 *
 * Ready fibers go through the P's ordinary queues, so nothing that makes a fiber ready knows of the
 * simulation; here they are taken out into one array in the order of the queues and drawn from it.
 *
 * A turn:  1 the clock moves by a little; now and then to the next timer, though others could run
 *          2 timers that are due fire     3 now and then, descriptors are asked without waiting
 *          4 a ready fiber is drawn; nobody is ready: descriptors, then the clock jumps to the next
 *            timer; no timer: a deadlock, or the world outside has to act
 *
 * Uniform draws alone find few bugs that need one fiber to be slow or another to be fast for long.
 * So the seed also decides the character of a run: how often fibers are interrupted (never, or one
 * call in 2 to 64), and how far rank counts, a random number of each fiber: the highest ranking of
 * `rivals` draws runs. Every ready fiber keeps a chance, so loops that yield end.
 *
 * The end is simulated too: when the first fiber's function has returned, the M cancels what is
 * left (in a real run the thread in fen_run does), and only when all have ended does fen_run learn
 * it.
 *
 * Not simulated: other threads, what comes over descriptors from outside, the CPU bill (it is off).
 *
 * Touched by the one M in RT only, but for what is set before it starts, and the atomics.
 * Rejected: several Ps by turns on one thread (stealing is invisible to programs, and the protocols
 * between Ps need real memory orders: test/model, test/handoff_test.c); replacing the queues (their
 * callers are many, and the array costs nothing of that). */
#include "sched/see.h"

#include <fen/sim.h>

#include <stdlib.h>
#include <string.h>

#define BEGIN_NS (1000 * FEN_S)
#define TURN_NS 2000   /* the clock moves up to so much a turn */
#define LATE_NS FEN_MS /* a timer fires up to so much late */
#define JUMP_ONE_IN 32 /* turns at which the clock jumps although somebody is ready */
#define POLL_ONE_IN 4  /* turns at which descriptors are asked although somebody is ready */
#define START_ONE_IN 8 /* turns at which a start gets its fiber although somebody is ready */
#define LATE_ONE_IN 8  /* jumps that go beyond the timer */
#define NUDGE_NAP_NS (FEN_MS / 4)

enum event { RUN = 1, INTERRUPT, JUMP, POLL, FAULT, END, STUCK };

static struct {
    uint64_t seed, rand;
    uint32_t faults;       /* one in so many; 0: none */
    uint32_t interrupt;    /* one call in so many; 0: none */
    uint32_t rivals;       /* draws of which the highest rank wins */
    struct fen__g **ready; /* FEN__FIBERS_MAX places; touched as far as needed */
    _Atomic uint32_t n;
    bool faulty;        /* calls may fail now */
    _Atomic bool ended; /* the first fiber's function has returned */
    bool settled, told; /* what was left has been cancelled; a deadlock has been reported */
    _Atomic uint64_t hash;
} sim;

/* ---- the seed ---- */

static uint32_t draw(uint32_t below) { return (uint32_t)((fen__rand(&sim.rand) >> 32) % below); }
static bool chance(uint32_t one_in) { return one_in && draw(one_in) == 0; }

/* Relaxed: one writer; who reads it from another thread has its own order with the run. */
static void note(enum event what, uint64_t value)
{
    uint64_t h = atomic_load_explicit(&sim.hash, memory_order_relaxed);
    h = fen__mix(h ^ fen__mix(value * 8 + what));
    atomic_store_explicit(&sim.hash, h, memory_order_relaxed);
}

uint64_t fen_sim_hash(void) { return atomic_load_explicit(&sim.hash, memory_order_relaxed); }

bool fen__sim_here(void) { return fen__sys_is_virtual(); }

uint32_t fen__draw(struct fen__m *m, uint32_t below)
{
    uint64_t *rand = FEN__UNLIKELY(fen__sys_is_virtual()) ? &sim.rand : &m->rand;
    return (uint32_t)((fen__rand(rand) >> 32) * below >> 32);
}

int fen__sim_config(const fen_config *cfg)
{
    uint64_t seed = cfg->sim_seed, faults = cfg->sim_faults;
    int rc =
        seed ? 0
             : fen__env_number("FEN_SIM_SEED", UINT64_MAX - 1, "a whole number from 1 on", &seed);
    if (!rc && seed && !faults)
        rc = fen__env_number("FEN_SIM_FAULTS", UINT32_MAX, "one in how many calls fails, from 1 on",
                             &faults);
    if (rc)
        return rc;
    fen__sched.sim = seed != 0;
    sim.seed = seed;
    sim.faults = (uint32_t)faults;
    return 0;
}

/* ---- faults ---- */

static const struct {
    const char *call;
    int rc;
} failures[] = {
    {"malloc", -ENOMEM},    {"mmap", -ENOMEM},        {"thread", -EAGAIN},
    {"socket", -EMFILE},    {"socketpair", -EMFILE},  {"pipe", -EMFILE},
    {"open", -EMFILE},      {"epoll_ctl", -ENOSPC},   {"accept", -ECONNABORTED},
    {"bind", -EADDRINUSE},  {"listen", -EADDRINUSE},  {"connect", -ECONNREFUSED},
    {"recv", -ECONNRESET},  {"recvmsg", -ECONNRESET}, {"send", -EPIPE},
    {"sendmsg", -EPIPE},    {"read", -EIO},           {"write", -EIO},
    {"pread", -EIO},        {"pwrite", -ENOSPC},      {"fsync", -EIO},
    {"ftruncate", -ENOSPC}, {"rename", -ENOSPC},      {"unlink", -EIO},
};

static int fault(const char *call)
{
    if (!fen__sys_is_virtual() || !sim.faulty)
        return 0;
    for (uint32_t i = 0; i < FEN__COUNT(failures); i++)
        if (!strcmp(failures[i].call, call)) {
            if (!chance(sim.faults))
                return 0;
            note(FAULT, i);
            return failures[i].rc;
        }
    return 0;
}

/* ---- begin and end ---- */

static size_t ready_bytes(void) { return FEN__FIBERS_MAX * sizeof *sim.ready; }

int fen__sim_open(void)
{
    void *mem;
    if (!fen__sched.sim)
        return 0;
    int rc = fen__sys_map(ready_bytes(), &mem);
    if (rc)
        return rc;
    sim.ready = mem;
    sim.rand = fen__mix(sim.seed) | 1;
    sim.faulty = sim.settled = sim.told = false;
    atomic_store(&sim.n, 0);
    atomic_store(&sim.ended, false);
    atomic_store(&sim.hash, 1);
    static const uint32_t interrupts[] = {0, 2, 4, 16, 64}, rivals[] = {1, 1, 2, 8};
    sim.interrupt = interrupts[draw(FEN__COUNT(interrupts))];
    sim.rivals = rivals[draw(FEN__COUNT(rivals))];
    if (sim.faults && !fen__sys_fault)
        fen__sys_fault = fault;
    return 0;
}

/* The M's thread has ended. */
void fen__sim_close(void)
{
    if (!fen__sched.sim)
        return;
    if (fen__sys_fault == fault)
        fen__sys_fault = NULL;
    fen__sys_unmap(sim.ready, ready_bytes());
    sim.ready = NULL;
}

void fen__sim_begin(struct fen__m *m)
{
    fen__sys_virtual_set(BEGIN_NS);
    atomic_store(&m->word, FEN__SIMULATED);
}

void fen__sim_first_ended(void) { atomic_store(&sim.ended, true); }

static void nudge(struct fen__g *g, void *arg)
{
    (void)arg;
    fen__nudge(g);
}

static void quietly(void (*fn)(void))
{
    bool faulty = sim.faulty;
    sim.faulty = false;
    fn();
    sim.faulty = faulty;
}

/* Once is enough: who does not park now looks at its limits when it does. */
static void settle(void)
{
    sim.settled = true;
    note(END, 0);
    if (fen__see.leaks)
        quietly(fen__see_leaks);
    fen__limit_end(&fen__sched.limit, -ECANCELED);
    fen__each_g(nudge, NULL);
}

/* Nobody is ready and no timer is armed; fibers wait for the world outside, or pay no heed. */
static void press(struct fen__m *m)
{
    fen__each_g(nudge, NULL);
    fen__sys_nap(NUDGE_NAP_NS);
    fen__find_poll(m);
}

/* All fibers have ended; timers without one may still be armed. */
static void finish(struct fen__m *m)
{
    if (!atomic_exchange(&fen__sched.done, 1))
        fen__sys_futex_wake(&fen__sched.done, 1);
    fen__find_idle(m); /* until fen_run stops us */
    fen__stop_searching(m);
}

/* ---- the clock and the world ---- */

static bool has_timer(struct fen__p *p) { return p->timers.next_ns != FEN_NEVER; }

static void run_timers(struct fen__p *p)
{
    while (p->timers.next_ns <= fen__sys_now()) /* FEN_NEVER is never reached */
        fen__timers_run(p);
}

/* To the next timer, or a little beyond, where others may be due as well. */
static void jump(struct fen__p *p)
{
    int64_t to = fen__max_i64(p->timers.next_ns, fen__sys_now());
    if (chance(LATE_ONE_IN) && to < FEN_NEVER - LATE_NS)
        to += draw(LATE_NS);
    fen__sys_virtual_set(to);
    note(JUMP, (uint64_t)to);
}

static bool events(struct fen__m *m)
{
    int n = fen__poll_open_count() ? fen__find_poll(m) : 0;
    if (n > 0)
        note(POLL, (uint64_t)n);
    return n > 0;
}

/* ---- who runs ---- */

static void add(struct fen__g *g)
{
    uint32_t n = atomic_load_explicit(&sim.n, memory_order_relaxed);
    fen_assert(n < FEN__FIBERS_MAX);
    sim.ready[n] = g;
    atomic_store_explicit(&sim.n, n + 1, memory_order_relaxed); /* fen_stats_get counts them */
}

uint32_t fen__sim_ready(void) { return atomic_load_explicit(&sim.n, memory_order_relaxed); }

static void collect(struct fen__m *m)
{
    struct fen__g *g;
    do {
        while ((g = fen__queue_pop(m->p)))
            add(g);
        g = fen__global_pop(m, 1);
        if (g)
            add(g);
    } while (g);
    if (atomic_load(&m->p->n_starts) && (!fen__sim_ready() || chance(START_ONE_IN))) {
        g = fen__start_pop(m, m->p);
        if (g)
            add(g);
    }
}

static uint64_t rank(uint32_t i) { return fen__mix(sim.ready[i]->number ^ sim.seed); }

static struct fen__g *pick(void)
{
    uint32_t n = fen__sim_ready(), best = draw(n);
    for (uint32_t i = 1; i < sim.rivals; i++) {
        uint32_t other = draw(n);
        best = rank(other) > rank(best) ? other : best;
    }
    struct fen__g *g = sim.ready[best];
    sim.ready[best] = sim.ready[n - 1];
    atomic_store_explicit(&sim.n, n - 1, memory_order_relaxed);
    note(RUN, g->number);
    sim.faulty = sim.faults != 0;
    return g;
}

static void report_stuck(void)
{
    char bytes[96];
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__text_put(&t, "fen: simulated, FEN_SIM_SEED=");
    if (sim.seed <= INT64_MAX)
        fen__text_dec(&t, (int64_t)sim.seed);
    else
        fen__text_hex(&t, sim.seed);
    fen__text_put(&t, "\n");
    fen__report(bytes, t.n);
    fen__stuck_report();
}

/* Nobody is ready. */
static void starve(struct fen__m *m)
{
    if (events(m))
        return;
    if (sim.settled && fen__fibers_live() == 0) {
        finish(m);
    } else if (has_timer(m->p)) {
        jump(m->p);
    } else if (sim.settled) {
        press(m);
    } else if (!sim.told && fen__see.on_deadlock != FEN_DEADLOCK_IGNORE && fen__stuck_helpless()) {
        sim.told = true;
        note(STUCK, 0);
        quietly(report_stuck);
    } else {
        fen__find_idle(m);
        fen__stop_searching(m);
    }
}

struct fen__g *fen__sim_find(struct fen__m *m)
{
    while (!atomic_load_explicit(&fen__sched.stop, memory_order_relaxed)) {
        if (FEN__UNLIKELY(atomic_load_explicit(&fen__see.asked, memory_order_relaxed)))
            fen__see_work(); /* there is no monitor */
        fen__sys_virtual_set(fen__sys_now() + draw(TURN_NS));
        if (has_timer(m->p) && chance(JUMP_ONE_IN))
            jump(m->p);
        run_timers(m->p);
        if (chance(POLL_ONE_IN))
            events(m);
        if (atomic_load(&sim.ended) && !sim.settled)
            settle();
        collect(m);
        if (fen__sim_ready())
            return pick();
        starve(m);
    }
    return NULL;
}

/* The M's own stack has nobody to interrupt. */
struct fen__m *fen__sim_enter(struct fen__m *m)
{
    if (m->cur && chance(sim.interrupt)) {
        note(INTERRUPT, m->cur->number);
        fen__swap(m, FEN__ACT_YIELD);
    }
    return m;
}
