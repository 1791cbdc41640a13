/* sched_int.h - the structures of the scheduler and who may touch what.
 *
 * An M is in one phase at a time, written by itself only:
 *   RT     inside the runtime: it may touch its P; nobody can take the P
 *   USER   running user code: must not touch the P; the monitor may take it
 *   BLOCK  in a declared blocking section: as USER, with less patience
 * word says whether it still owns the P: OWNED; ASKED (the monitor wants it); TAKEN. guard.c has
 * the protocol.
 *
 * Touched by            fields
 * its M in RT           fen__p.tick, quick_until, streak, jam, last_poll, anchor_*, ring.tail,
 *                       push of runnext; fen__m.rand
 * any M in RT           ring.head and runnext by CAS (stealing); timers under timers.lock
 * sched.lock            idle list, spare list, global queue, M list; fen__m.p while it has none,
 *                       a spare's guest
 * its M, any phase      cur, g0_sp, bill, tally, gfree, stacks, spares (what user code can
 *                       touch belongs to the M)
 * the monitor           fen__m.seen_*, since_ns, cpu_* */
#ifndef FEN_SCHED_INT_H
#define FEN_SCHED_INT_H

#include "fiber/cxx.h"
#include "mem/mem.h"
#include "sched/sched.h"
#include "sys/sys.h"

#include <pthread.h>
#include <stdatomic.h>

#ifndef FEN__RING /* a model has its own */
#ifdef FEN_HARD
#define FEN__RING 4
#else
#define FEN__RING 256
#endif
#endif
#define FEN__PROCS_MAX 256
#define FEN__GLOBAL_TICK 61 /* every 61st tick looks at the global queue and the poller */
#define FEN__STREAK_MAX 8   /* runnext in a row before the ring gets a turn */
#define FEN__G_CACHE 64     /* finished fibers an M keeps */
#define FEN__FIBERS_MAX (4u << 20)
#define FEN__STACK_CACHE 64 /* their stacks */
#define FEN__SITES 64       /* a power of two */
#define FEN__JAM 64         /* parks in a row for what others hold; find.c */

enum { FEN__RT, FEN__USER, FEN__BLOCK };
enum { FEN__OWNED, FEN__ASKED, FEN__TAKEN, FEN__SIMULATED /* owned; see sim.c */ };
enum fen__act { FEN__ACT_YIELD, FEN__ACT_PARK, FEN__ACT_EXIT, FEN__ACT_LOST, FEN__ACT_SECTION };

struct fen__heap_entry {
    int64_t when_ns;
    struct fen__timer *t;
};

struct fen__timers {
    uint32_t lock;
    int32_t n, cap;
    struct fen__heap_entry *heap;
    _Atomic int64_t next_ns;   /* FEN_NEVER when empty */
    _Atomic uint64_t next_tsc; /* the same on the TSC; UINT64_MAX when empty */
};

/* Fibers that have not begun; see newborn.c. */
struct fen__newborn {
    uint32_t lock;
    _Atomic uint32_t n;
    struct fen__g *newest, *oldest;
    uint64_t oldest_at; /* TSC of the oldest's last turn */
};

struct fen__p {
    _Atomic(struct fen__g *) runnext;
    _Atomic uint32_t head;
    uint32_t tick, streak;
    uint32_t jam;                 /* parks in a row for what another fiber holds */
    _Atomic uint64_t quick_until; /* TSC: until then fibers may switch to each other; find.c */
    struct fen__m *_Atomic m;
    uint64_t last_poll, anchor_tsc;
    int64_t anchor_ns;
    uint64_t rand;
    uint32_t number;
    int node;           /* NUMA; whoever is its M runs there */
    bool looked;        /* the last look found a fiber in the global queue; find.c */
    bool idle;          /* sched.lock: in the idle list */
    _Atomic bool leave; /* above the number wanted: procs.c */
    struct fen__p *next_idle;
    struct fen__timers timers;
    uint32_t starts_lock;
    _Atomic uint32_t n_starts;
    struct fen__start *starts, **starts_tail; /* first come, first served */
    _Atomic uint32_t tail FEN__ALIGN(FEN__LINE);
    _Atomic(struct fen__g *) ring[FEN__RING];
    struct fen__newborn newborn FEN__ALIGN(FEN__LINE);
} FEN__ALIGN(2 * FEN__LINE);

/* Thieves write head, the owner writes tail: apart, or each spawn would fetch the line back. And
 * no P lies in a line, or in a pair of lines, of another. `fen bench sharing` has the price. */
static_assert(offsetof(struct fen__p, tail) % FEN__LINE == 0, "tail begins a line");
static_assert(offsetof(struct fen__p, tail) - offsetof(struct fen__p, head) >= FEN__LINE,
              "and head is in another");
static_assert(offsetof(struct fen__p, newborn) % FEN__LINE == 0, "its lock begins a line");
static_assert(_Alignof(struct fen__p) == 2 * FEN__LINE, "Ps are padded");
static_assert(sizeof(struct fen__p) % (2 * FEN__LINE) == 0, "to pairs of lines");

/* The bill of the slice that runs now; see bill.c. */
struct fen__bill {
    uint64_t last, win0; /* TSC: end of the last slice, start of the window */
    int64_t cpu0_ns;     /* thread clock at win0 */
    volatile uint64_t *rseq;
    uint64_t rseq_armed;
};

struct fen__m {
    _Atomic uint32_t phase, word, calls;
    bool searching, meter, impatient; /* patience_ns is the short one */
    uint32_t who;                     /* cur's id plus 1, beside it for fen__brief_who; 0: none */
    struct fen__p *p;
    struct fen__g *cur, *prev; /* prev: just switched out; NULL: the M's own stack was left */
    void *g0_sp;
    enum fen__act act;
    _Atomic uintptr_t site; /* of the section that is open; section.c */
    _Atomic int64_t patience_ns;
    struct fen__bill bill;
    struct fen__g *gfree;
    uint32_t ngfree, nstacks;
    uint32_t stack_credit, stack_room; /* slots reserved: for fibers to come, for `stacks` */
    uint64_t number, number_end;       /* of the next fibers */
    uint64_t control;                  /* floating-point control words that a fiber begins with */
    uint64_t rand;                     /* fen__draw's */
    struct fen__spares spares;
    struct fen__annot annot;
    struct fen__mem_now *mem; /* who pays for memory; NULL: nobody in particular */
    struct fen__cxx *cxx;     /* the thread's record of caught exceptions; never NULL */
    /* ---- cold ---- */
    _Atomic uint32_t wake;
    _Atomic int tid;
    _Atomic bool demoted, hog;    /* hog: why the monitor took the P last time */
    bool spare, first;            /* first: starts the first fiber */
    struct fen__g *_Atomic guest; /* it runs a section without a P; section.c */
    bool ended, joined;           /* sched.lock: its thread retired; there is none (any more) */
    pthread_t thread;
    struct fen__m *next_spare, *next;
    int node; /* that its thread has entered; -1: none */
    int64_t cpu_start_ns;
    /* the monitor's notes */
    uint32_t seen_calls, seen_phase;
    int64_t since_ns, cpu_seen_ns, cpu_at_take_ns;
    uint32_t stat_lock;
    int statfd; /* under it: fen__sys_asleep's */
    struct fen__tally tally FEN__ALIGN(2 * FEN__LINE);
    struct fen__stack stacks[FEN__STACK_CACHE]; /* of fibers that have ended, the last one's last */
    char altstack[FEN__ALTSTACK_BYTES];         /* for crash.c; not touched before */
};
/* phase and word are what every call into the runtime touches; its counters are read by others. */
static_assert(offsetof(struct fen__m, cur) + sizeof(void *) <= FEN__LINE,
              "hot fields of an M first");
static_assert(offsetof(struct fen__m, tally) % (2 * FEN__LINE) == 0, "counters of its own lines");
static_assert(_Alignof(struct fen__m) == 2 * FEN__LINE, "Ms are padded");

struct fen__sched {
    struct fen__p *ps;
    _Atomic int nprocs, nps, n_live; /* wanted; ever used; with an M: procs.c */
    _Atomic int n_idle, n_searching;
    uint32_t lock FEN__ALIGN(FEN__LINE);
    struct fen__p *idle;
    struct fen__m *_Atomic spares; /* by relaxed loads also without the lock */
    struct fen__m *ms;
    int n_ms, max_ms, max_blocking;
    uint64_t ms_made; /* under lock; each M has random numbers of its own */
    enum fen_files files;
    struct fen__g *global_head, **global_tail;
    _Atomic int n_global;
    _Atomic uint32_t stop;
    bool no_membarrier;
    _Atomic bool meter; /* the bill is on; each M follows in fen__bill_follow */
    void (*log)(const fen_event *e, void *arg);
    void *log_arg;
    _Atomic uint32_t monitor_wake, monitor_deep;
    pthread_t monitor;
    int64_t monitor_cpu_ns, cpu_start_ns;
    _Atomic int64_t handoffs, refused;
    _Atomic uint64_t sites[FEN__SITES]; /* section.c */
    _Atomic uint32_t missed;            /* fibers that no spare was there for */
    _Atomic int readying;               /* threads in fen__ready that are no workers in RT */
    _Atomic uint32_t running, done;
    int rc;
    uint64_t seed;
    size_t stack_bytes;
    uint32_t max_fibers;
    _Atomic bool scarce; /* so many live that each spawn counts them; spawn.c */
    bool sim;            /* a simulated run; constant while Ms live */
    struct fen__limit limit;
};
extern struct fen__sched fen__sched;

/* env.c. Refused: -EINVAL, and a line on fd 2 that names variable, value and what is accepted. */
const char *fen__env(const char *name); /* NULL: not set, or empty */
int fen__env_refuse(const char *name, const char *expected);
/* *ret is left alone when it is not set; max is below UINT64_MAX. */
int fen__env_number(const char *name, uint64_t max, const char *expected, uint64_t *ret);
int fen__env_choice(const char *name, const char *const *names, int n, const char *expected,
                    int *ret);

/* guard.c */
struct fen__m *fen__reacquire(struct fen__m *m);

/* swap.c */
void fen__swap(struct fen__m *m, enum fen__act act); /* from a fiber; returns when it runs again */
void fen__run_one(struct fen__m *m, struct fen__g *g); /* from the M's own stack */

/* park.c */
bool fen__commit(struct fen__g *g);

/* queue.c */
void fen__queue_init(struct fen__p *p);
/* Runs next on m's P. True if that pushed another fiber to the tail. */
bool fen__queue_next(struct fen__m *m, struct fen__g *g);
/* Runs last on this P. yielded: and no wake-up follows. */
void fen__queue_tail(struct fen__m *m, struct fen__g *g);
void fen__queue_yielded(struct fen__m *m, struct fen__g *g);
struct fen__g *fen__queue_pop(struct fen__p *p);
uint32_t fen__queue_ring_len(struct fen__p *p);
uint32_t fen__queue_len(struct fen__p *p);
struct fen__g *fen__queue_steal(struct fen__p *to, struct fen__p *from, bool runnext);
void fen__global_push(struct fen__g *head, struct fen__g *last, int n);
struct fen__g *fen__global_pop(struct fen__m *m, int want);

void fen__queue_put(struct fen__m *m, struct fen__g *g); /* displaced from runnext */

/* newborn.c */
void fen__newborn_push(struct fen__m *m, struct fen__g *g);      /* onto m's P */
struct fen__g *fen__newborn_pop(struct fen__p *p, uint64_t now); /* by its owner */
/* Half of what p has moves to m's P; one of it is returned instead. NULL: none. */
struct fen__g *fen__newborn_steal(struct fen__m *m, struct fen__p *from);
/* start.c */
void fen__start_move(struct fen__p *from, struct fen__p *to); /* all that wait */
/* A fiber for the oldest start of p, for m to run now; NULL: none. */
struct fen__g *fen__start_pop(struct fen__m *m, struct fen__p *p);

/* find.c */
struct fen__g *fen__find(struct fen__m *m);
void fen__stop_searching(struct fen__m *m);
int fen__find_poll(struct fen__m *m);  /* wakes who has an event now; how many */
void fen__find_idle(struct fen__m *m); /* sleeps until something may have happened */
struct fen__g *fen__find_quick(struct fen__m *m);
void fen__wake_p(void);
void fen__ready(struct fen__g *g); /* any thread, any phase */

/* timer.c */
void fen__timers_init(struct fen__p *p);
void fen__timers_fini(struct fen__p *p);
void fen__timers_run(struct fen__p *p);
int fen__timers_move(struct fen__p *from, struct fen__p *to); /* all; 0 or -ENOMEM */
uint64_t fen__tsc_at(struct fen__p *p, int64_t when_ns);      /* simulated: always due */
void fen__anchor(struct fen__p *p);

/* procs.c */
static inline bool fen__procs_leaving(struct fen__p *p)
{
    return FEN__UNLIKELY(atomic_load_explicit(&p->leave, memory_order_relaxed));
}
bool fen__procs_retire(struct fen__m *m); /* true: m has no P any more */
void fen__procs_init(struct fen__p *p, int number);
void fen__procs_open(bool open);
void fen__procs_raise(void); /* the monitor's */

/* stall.c; the monitor's */
void fen__stall_init(void);
void fen__stall_fini(void);
void fen__stall_note(struct fen__m *m, enum fen_event_kind kind, int64_t now); /* sched.lock held */
void fen__stall_begin(void);
void fen__stall_refused(int64_t stuck_ns, int64_t now);
bool fen__stall_poll(int64_t now); /* true: an event is under way */

/* outside.c */
struct fen__m *fen__outside_enter(void);
void fen__outside_leave(struct fen__m *m);
int fen__outside_park(struct fen__g *g, int64_t deadline_ns);
void fen__outside_ready(struct fen__g *g);
struct fen__g *fen__outside_g(uint32_t id);
struct fen__tally *fen__outside_tally(void); /* of fibers that threads spawned; NULL: none yet */
void fen__outside_open(void);                /* threads may spawn */
void fen__outside_close(void);               /* no more */
void fen__outside_end(void);                 /* ends the waits of threads and sees them leave */
void fen__outside_fini(void);

/* spawn.c */
int64_t fen__fibers_unended(void); /* spawned, and their functions have not returned */
int fen__spawn_make(struct fen__m *m, const struct fen__spawn *how, struct fen__g **ret_g);
int fen__spawn_init(void);
void fen__spawn_fini(void);
void fen__g_free(struct fen__m *m, struct fen__g *g);
void fen__g_bind(struct fen__m *m, struct fen__g *g); /* g begins: it gets its stack */
static inline bool fen__g_begun(const struct fen__g *g) { return g->sp != NULL; }

/* monitor.c */
int fen__monitor_start(void);
void fen__monitor_stop(void);
void fen__monitor_poke(void);
void fen__monitor_hurry(void); /* ends its nap */

/* section.c */
struct fen__m *fen__section_move(struct fen__m *m);         /* the M that the fiber is on then */
void fen__section_give(struct fen__m *m, struct fen__g *g); /* what FEN__ACT_SECTION asks for */
void fen__section_missed(void);                             /* it should have been moved */
void fen__section_taken(uintptr_t site);                    /* the monitor's: one there lasts */
void fen__section_ended(uintptr_t site, int64_t slept_ns);  /* of one that was moved */
static inline uint32_t fen__site_at(uintptr_t site)
{
    return (uint32_t)(site * UINT64_C(0x9E3779B97F4A7C15) >> 58) % FEN__SITES;
}
/* Sections begun there lasted lately. Relaxed: a hint. */
static inline bool fen__section_lasts(uintptr_t site)
{
#ifdef FEN_HARD
    (void)site;
    return true;
#endif
    return atomic_load_explicit(&fen__sched.sites[fen__site_at(site)], memory_order_relaxed) >> 8 ==
           site;
}

/* run.c */
void fen__m_give(struct fen__m *m, struct fen__p *p); /* sched.lock held */
struct fen__m *fen__m_new(struct fen__p *p);          /* sched.lock held; NULL when refused */

/* hibernate.c */
enum { FEN__WARM, FEN__COOLING, FEN__COLD };
void fen__hibernate_open(bool watch);
void fen__hibernate_close(void);    /* after the fibers and the monitor */
void fen__hibernate_tick(void);     /* the monitor's: fibers may have parked */
int64_t fen__hibernate_count(void); /* cold now */
int64_t fen__hibernate_cpu_ns(void);
void fen__hibernate_thaw(struct fen__g *g);
/* The fiber whose stack, taken away, holds addr; NULL: none. Signal-safe. */
const struct fen__g *fen__hibernate_victim(uintptr_t addr);
/* Before g runs. seq_cst: after the CAS that woke g; pairs with the look at `wait` in cool(). */
static inline void fen__hibernate_end(struct fen__g *g)
{
    if (FEN__UNLIKELY(atomic_load(&g->cold)))
        fen__hibernate_thaw(g);
}
/* sim.c */
int fen__sim_config(const fen_config *cfg); /* 0, -EINVAL */
int fen__sim_open(void);                    /* 0, -ENOMEM; nothing unless simulated */
void fen__sim_close(void);
void fen__sim_begin(struct fen__m *m);           /* on the one M, before its first fiber */
struct fen__g *fen__sim_find(struct fen__m *m);  /* in the place of fen__find */
struct fen__m *fen__sim_enter(struct fen__m *m); /* a call of a fiber: somebody else's turn? */
void fen__sim_first_ended(void);                 /* the first fiber's function has returned */
uint32_t fen__sim_ready(void);                   /* fibers that wait for their turn */

/* crash.c */
void fen__crash_init(void);
__attribute__((noreturn, cold)) void fen__crash_overflow(const struct fen__g *g);

/* bill.c */
void fen__bill_start(struct fen__m *m);
void fen__bill_units(void);
void fen__bill_turn(struct fen__m *m);
void fen__bill_reconcile(struct fen__m *m, struct fen__g *g, uint64_t now, uint64_t d,
                         bool disturbed);
extern uint64_t fen__long_ticks, fen__window_ticks;

/* Ends the slice: what ran since the last call belongs to g, or to the runtime when g is NULL. One
 * TSC read and a few plain adds; the thread clock is read only for a disturbed or a long slice and
 * once a window. */
static inline void fen__charge(struct fen__m *m, struct fen__g *g)
{
    if (!m->meter)
        return;
    uint64_t now = fen__tsc(), d = now - m->bill.last;
    m->bill.last = now;
    if (g) {
        g->cpu_ticks += (int64_t)d;
        fen__count_add(&m->tally.fiber_ticks, (int64_t)d);
    } else {
        fen__count_add(&m->tally.runtime_ticks, (int64_t)d);
    }
    bool hit = d > fen__long_ticks || (m->bill.rseq && *m->bill.rseq != m->bill.rseq_armed);
    if (FEN__UNLIKELY(hit || now - m->bill.win0 > fen__window_ticks))
        fen__bill_reconcile(m, g, now, d, hit);
}

/* RT, on the M's own stack, where no slice of a fiber is open. Not on the way of each switch. */
static inline void fen__bill_follow(struct fen__m *m)
{
    if (FEN__UNLIKELY(m->meter != atomic_load_explicit(&fen__sched.meter, memory_order_relaxed)))
        fen__bill_turn(m);
}

/* fen__charge after the thread slept by its own will: the runtime's slice is reconciled at once. */
static inline void fen__charge_sleep(struct fen__m *m)
{
    if (!m->meter)
        return;
    uint64_t now = fen__tsc(), d = now - m->bill.last;
    m->bill.last = now;
    fen__count_add(&m->tally.runtime_ticks, (int64_t)d);
    fen__bill_reconcile(m, NULL, now, d, true);
}

static inline struct fen__m *fen__self_rt(void)
{
    struct fen__m *m = fen__self();
    return m && atomic_load_explicit(&m->phase, memory_order_relaxed) == FEN__RT && m->p ? m : NULL;
}

#endif
