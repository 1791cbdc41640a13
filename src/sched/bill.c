/* bill.c - the CPU of each fiber, exact, at the price of one TSC read a slice.
 *
 * A slice is what ran between two TSC reads. The kernel may have taken the thread away inside it,
 * so slices are collected in a window and the window is closed against the thread's CPU clock:
 *
 *   - when rseq says that this slice was interrupted (thread.c), or it is longer than LONG;
 *   - at the latest WINDOW after the last close.
 *
 * All earlier slices of the window ran undisturbed, so the excess (TSC time of the window minus CPU
 * time of the window) was taken from the slice just ended and comes off its owner, at most its own
 * length; what does not fit is "unattributed", a signed figure, and stays visible.
 *
 * Reading the thread clock is itself a preemption point (the value is taken, then the kernel may
 * switch), so the TSC is read first and the clock second; when the pair is not tight the reading is
 * repeated and what lies between belongs to the runtime.
 *
 * Invariant, for each M at a close: fiber + runtime + unattributed ticks = CPU clock since its
 * start, less what ran while the bill was off (fen_meter_switch). It is checked from outside
 * against the process clock (fen__cpu_books), which this file never uses for billing. Rejected:
 * reading the clock at every switch (650 ns, and 6 % error by its own cost); raw TSC (3.7 times the
 * truth at fourfold oversubscription); scaling a tick (42 % off). */
#include "sched/sched_int.h"

#define LONG_NS (200 * FEN_US)
#define WINDOW_NS FEN_MS
#define TIGHT_NS 4000
#define TRIES 3

uint64_t fen__long_ticks, fen__window_ticks;
static uint64_t tight_ticks;

void fen__bill_units(void)
{
    fen__tsc_init();
    fen__long_ticks = (uint64_t)fen__tsc_from_ns(LONG_NS);
    fen__window_ticks = (uint64_t)fen__tsc_from_ns(WINDOW_NS);
    tight_ticks = (uint64_t)fen__tsc_from_ns(TIGHT_NS);
}

static void rearm(struct fen__m *m)
{
    if (m->bill.rseq)
        *m->bill.rseq = m->bill.rseq_armed;
}

void fen__bill_start(struct fen__m *m)
{
    if (fen__rseq_slot(&m->bill.rseq, &m->bill.rseq_armed))
        m->bill.rseq = NULL;
    m->bill.win0 = m->bill.last = fen__tsc();
    m->bill.cpu0_ns = fen__sys_thread_cpu();
    /* What the thread used before its first slice is the runtime's. */
    m->cpu_start_ns = m->bill.cpu0_ns;
    fen__count_add(&m->tally.runtime_ticks, fen__tsc_from_ns(m->bill.cpu0_ns));
    rearm(m);
}

static void take_off(struct fen__m *m, struct fen__g *g, int64_t ticks)
{
    if (g) {
        g->cpu_ticks -= ticks;
        fen__count_add(&m->tally.fiber_ticks, -ticks);
    } else {
        fen__count_add(&m->tally.runtime_ticks, -ticks);
    }
}

FEN__NOINLINE void fen__bill_reconcile(struct fen__m *m, struct fen__g *g, uint64_t now, uint64_t d,
                                       bool disturbed)
{
    struct fen__bill *b = &m->bill;
    for (int i = 0;; i++) {
        rearm(m);
        int64_t cpu = fen__sys_thread_cpu();
        uint64_t after = fen__tsc();
        int64_t excess = (int64_t)(now - b->win0) - fen__tsc_from_ns(cpu - b->cpu0_ns);
        int64_t mine = !disturbed ? 0 : excess > (int64_t)d ? (int64_t)d : excess;
        take_off(m, g, mine);
        fen__count_add(&m->tally.unattributed_ticks, -(excess - mine));
        fen__count_add(&m->tally.runtime_ticks, (int64_t)(after - now));
        fen__count_add(&m->tally.clock_reads, 1);
        b->win0 = now;
        b->cpu0_ns = cpu;
        b->last = after;
        if (after - now <= tight_ticks || i == TRIES)
            return;
        g = NULL; /* the reading itself was interrupted: its gap is the runtime's */
        d = after - now;
        now = after;
        disturbed = true;
    }
}

/* Off: the window is closed and stays closed. On: one begins as in fen__bill_start; what ran in
 * between belongs to no bucket. A fiber that parked meanwhile has its last slice counted as
 * waiting. */
void fen__bill_turn(struct fen__m *m)
{
    if (m->meter) {
        fen__charge_sleep(m);
        m->meter = false;
        return;
    }
    m->meter = true;
    rearm(m); /* first: a switch between the two readings is then seen in the first slice */
    m->bill.win0 = m->bill.last = fen__tsc();
    m->bill.cpu0_ns = fen__sys_thread_cpu();
}

/* Relaxed: nothing is published with it. */
void fen_meter_switch(bool on)
{
    atomic_store_explicit(&fen__sched.meter, on, memory_order_relaxed);
}

bool fen__metered(void) { return fen__self()->meter; }

/* RT. */
uint64_t fen__charge_now(struct fen__m *m)
{
    fen__charge(m, m->cur);
    return m->meter ? m->bill.last : fen__tsc();
}

void fen__charge_extra(struct fen__m *m, int64_t cpu_ns)
{
    if (!m->meter)
        return;
    int64_t ticks = fen__tsc_from_ns(cpu_ns);
    m->cur->cpu_ticks += ticks;
    fen__count_add(&m->tally.fiber_ticks, ticks);
}

void fen__each_tally(void (*fn)(struct fen__tally *t, void *arg), void *arg)
{
    fen__lock(&fen__sched.lock); /* the run may end: what is in the lists stays until then */
    for (struct fen__m *m = fen__sched.ms; m; m = m->next)
        fn(&m->tally, arg);
    struct fen__tally *outside = fen__outside_tally();
    if (outside)
        fn(outside, arg);
    fen__unlock(&fen__sched.lock);
}

static void add_books(struct fen__tally *t, void *arg)
{
    struct fen__cpu_books *b = arg;
    b->fibers_ns += fen__count_read(&t->fiber_ticks);
    b->runtime_ns += fen__count_read(&t->runtime_ticks);
    b->unattributed_ns += fen__count_read(&t->unattributed_ticks);
}

int64_t fen__monitor_cpu_ns(void)
{
    return __atomic_load_n(&fen__sched.monitor_cpu_ns, __ATOMIC_RELAXED) + fen__pace_cpu_ns();
}

/* Summed in ticks, converted once. */
void fen__cpu_books(struct fen__cpu_books *ret)
{
    *ret = (struct fen__cpu_books){0};
    fen__each_tally(add_books, ret);
    ret->fibers_ns = fen__tsc_to_ns(ret->fibers_ns);
    ret->runtime_ns = fen__tsc_to_ns(ret->runtime_ns);
    ret->unattributed_ns = fen__tsc_to_ns(ret->unattributed_ns);
    ret->runtime_ns += fen__monitor_cpu_ns() + fen__hibernate_cpu_ns();
    ret->process_ns = fen__sys_process_cpu() - fen__sched.cpu_start_ns;
}
