/* sched.h - fibers on an M:N scheduler, for the rooms above.
 *
 * G a fiber, M an OS thread, P the right to run fibers (run queue, timers, poller shard). The
 * files:
 *   sched_int.h the structures and who may touch what     run.c     start and stop
 *   guard.c     entering and leaving the runtime          find.c    who runs next; idle and wake
 *   queue.c     run queues                                park.c    waiting and waking
 *   swap.c      from fiber to fiber
 *   timer.c     timers of a P                             monitor.c takes a P from a stuck M
 *   spawn.c     fibers and their stacks                   bill.c    CPU per fiber
 *   hibernate.c stacks of those that wait long
 *
 * Every public function that touches the scheduler runs between fen__enter and fen__leave; what is
 * marked "RT" below must be called there. */
#ifndef FEN_SCHED_H
#define FEN_SCHED_H

#include "base/base.h"
#include "fiber/fiber.h"
#include "poll/poll.h"
#include "probe/tally.h"

#include <assert.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <stdatomic.h>

/* Why a fiber waits; one list, so that dumps, traces and gdb agree. */
enum fen__reason {
    FEN__R_NONE,
    FEN__R_READ,
    FEN__R_WRITE,
    FEN__R_SLEEP,
    FEN__R_CHAN_SEND,
    FEN__R_CHAN_RECV,
    FEN__R_SELECT,
    FEN__R_MUTEX,
    FEN__R_SEM,
    FEN__R_WG,
    FEN__R_SCOPE,
    FEN__R_FD,       /* another library's descriptor */
    FEN__R_BLOCKING, /* a call on the pool of threads */
    FEN__R_RWLOCK,
    FEN__R_COND,
    FEN__R_ONCE,
    FEN__R_BARRIER,
    FEN__R_POOL,    /* a resource of a pool, or the end of one */
    FEN__R_PROCESS, /* its end; `on` is the slot of its pidfd, node.index its number */
    FEN__R_COUNT
};

/* Low 16 bits of fen__g.wait. From FEN__FIRED on: who woke the fiber. */
enum fen__wait_state {
    FEN__IDLE,    /* does not wait */
    FEN__ARMED,   /* has announced a wait, still runs */
    FEN__PARKED,  /* off its stack */
    FEN__CLAIMED, /* a waker is handing something over */
    FEN__FIRED = 16,
    FEN__BY_IO = 16,
    FEN__BY_TIMER,
    FEN__BY_CANCEL,
    FEN__BY_CLOSE,
    FEN__BY_NOMEM,
    FEN__BY_SYNC = 256 /* + index of the select case */
};

/* What bounds a fiber's waiting; the head of a scope (sync/scope.c). */
struct fen__limit {
    struct fen__limit *parent;
    _Atomic int64_t deadline_ns; /* FEN_NEVER: none of its own; < 0: see fen__limit_deadline */
    _Atomic int ended;           /* 0, -ECANCELED or -ETIMEDOUT */
    bool is_scope;               /* part of a fen_scope; the same for all uses of this memory */
    uint32_t depth;              /* its parent's and one; 0: it has none, or the run's */
};

struct fen__timer {
    int64_t when_ns;
    int32_t at;   /* place in the heap of `home`, -1: not armed */
    int32_t home; /* number of the P */
    void (*fn)(void *arg, uint64_t seq);
    void *arg;
    uint64_t seq; /* handed to fn: tells a stale firing from a true one */
};

/* A fiber's place in a wait queue (sync). Off the stack: others write it while the fiber sleeps. */
struct fen__node {
    struct fen__node *next, *prev;
    struct fen__g *g;
    uint64_t epoch;
    void *queue;   /* the queue it is in, NULL when not; under that queue's lock */
    void *elem;    /* off-stack bytes to be sent or filled */
    int32_t index; /* of the select case; for people: events of a descriptor, a process's number */
    int32_t rc;    /* result, by the waker */
};

#define FEN__JOB_BYTES 64
#define FEN__XFER_BYTES 16 /* a larger element of a fiber that waits has a block of its own */
#define FEN__BLOCKING_MAX 1024
#define FEN__BLOCKING_DEFAULT 64
/* In fen__g.id: not a fiber but a thread that waits (outside.c). */
#define FEN__G_THREAD UINT32_C(0x80000000)
enum { FEN__LIVE = 1, FEN__ENDING };

/* A fiber. Slab memory that is never unmapped within a run; epoch counts on across reuses, so a
 * late waker can always look and never hits the wrong wait. */
struct fen__g {
    void *sp;              /* saved stack pointer while not running */
    _Atomic uint64_t wait; /* epoch << 16 | enum fen__wait_state */
    struct fen__g *next;   /* in one run queue, or in a free list */
    struct fen__limit *limit;
    uint64_t parked_at; /* TSC when it last left a worker */
    int64_t cpu_ticks;  /* billed to it so far */
    int64_t wait_ticks;
    uint32_t id;          /* index in the slab */
    uint8_t reason, mask; /* enum fen__reason; >0: cancellation masked */
    uint8_t convicted;    /* >0: took its P too long of late, gets a short patience */
    uint8_t live;         /* FEN__LIVE, FEN__ENDING: its function has returned; 0: free */
    /* ---- the running fiber only ---- */
    uint64_t limits_seen; /* fen__limits_epoch at its last look at its limits; 0: look again */
    union {
        int64_t limits_deadline;
        void *copy; /* while cold: of the stack's bytes in use; limits_seen is 0 then */
    };
    int64_t in_bytes, out_bytes, arena_bytes, arena_byte_ticks;
    int64_t alloc_bytes; /* of blocks that it took, as their classes are */
    void (*fn)(void *arg);
    void *arg;
    void (*end)(struct fen__g *g); /* called on the fiber after fn; NULL: nothing */
    const char *name;
    uint64_t number;         /* from 1, never reused within a run */
    void *scope;             /* sync's */
    void *locals, *labels;   /* sync's; NULL: none */
    void *local;             /* what the fiber touches first when it runs again: asked for ahead */
    const void *on;          /* what it waits for, while reason says how */
    const void *site;        /* where it was spawned: a return address, or NULL */
    bool deep, painted;      /* stack: warned of already; its unused part was painted */
    bool lent;               /* has spawned into a scope that is not its own */
    _Atomic uint8_t cold;    /* hibernate.c's; any thread */
    uint32_t account;        /* who pays for them; mem copies it, no more */
    struct fen__timer timer; /* deadline of the present wait */
    union {
        struct {
            struct fen__node node;
            char xfer[FEN__XFER_BYTES] FEN__ALIGN(8);
        };
        char job[FEN__JOB_BYTES]; /* a call on the pool of threads, while it waits for one */
    };
    struct fen__stack stack;
    struct fen__annot annot;
};

/* What a switch and a wake-up touch comes first and is 64 bytes; a record of 384 would begin on a
 * line, but 24 bytes more for each of a hundred thousand fibers is not worth the line saved. */
static_assert(offsetof(struct fen__g, limits_seen) == FEN__LINE, "hot fields of a fiber first");
#if !defined(FEN__ASAN) && !defined(FEN__TSAN) && !defined(FEN_VALGRIND)
static_assert(sizeof(struct fen__g) <= 360, "100,000 fibers are counted on");
#endif

struct fen__m;

/* ---- guard.c: the guarded section ---- */
struct fen__m *fen__enter(void); /* NULL outside a fiber */
void fen__leave(struct fen__m *m);
/* The same for a call that may wait, from any thread: one that is no worker gets a stand-in for an
 * M and a fiber, and waits by fen__arm and fen__park like a fiber (outside.c). NULL: fen__enter_rc
 * says why. Goes with fen__leave_wait(fen__self()). */
struct fen__m *fen__enter_wait(void);
void fen__leave_wait(struct fen__m *m);
int fen__enter_rc(void); /* FEN_EFORKED, or FEN_ELIMIT: 4,096 threads wait already */
struct fen__g *fen__cur(struct fen__m *m);
struct fen__tally *fen__tally_of(struct fen__m *m);
/* Free lists of an M for the rooms above, all zeros at first; the memory in them is the rooms', who
 * free it when the run ends. Its fiber may touch them at any moment, between two parks. */
#define FEN__SPARE_KINDS 5
struct fen__spares {
    void *head[FEN__SPARE_KINDS];
    uint32_t n[FEN__SPARE_KINDS];
};
struct fen__spares *fen__spares_of(struct fen__m *m);
/* For calls that any thread may make: the M if this is a fiber outside a blocking section (then
 * inside the guarded section until fen__leave_any), else NULL. */
struct fen__m *fen__enter_any(void);
void fen__leave_any(struct fen__m *m);
/* Around a function of the program that runs inside the guarded section, perhaps on a worker's own
 * stack: meanwhile it looks like a thread outside, so what any thread may call works in it. It must
 * not wait: whoever could wake it may need this worker. In it fen__aside is the worker. On a thread
 * they do nothing. */
struct fen__m *fen__aside_begin(void);
void fen__aside_end(struct fen__m *begun);
void fen__aside_waits(void); /* before a thread's wait: an assertion in such a function */
/* The running fiber, for a call that is one step on memory of its own and neither waits nor wakes:
 * such a call need not enter. NULL: no fiber, or one that has to enter all the same, because its P
 * is asked for or gone, or the run is simulated. */
struct fen__g *fen__brief(void);
/* The same for a call that needs no more than the fiber's id: that plus 1; 0: none. */
uint32_t fen__brief_who(void);

/* ---- park.c: waiting (RT) ----
 *   epoch = fen__arm(g); publish (g, epoch) wherever a waker may look; code = fen__park(...);
 *   withdraw what is still published. A wake between arm and park is kept. */
uint64_t fen__arm(struct fen__g *g);
/* The same under a lock that is let go by fen__unlock before the park: that one's exchange stands
 * between this store and park's look at the limits, as fen__arm's own does (on aarch64 a release
 * before the look's load-acquire, which keep their order). release: pairs with fen__claim's CAS. */
static inline uint64_t fen__arm_locked(struct fen__g *g)
{
    uint64_t epoch = (atomic_load_explicit(&g->wait, memory_order_relaxed) >> 16) + 1;
    atomic_store_explicit(&g->wait, epoch << 16 | FEN__ARMED, memory_order_release);
    return epoch;
}
/* Waits for a wake, the deadline or the end of the fiber's limits. Returns the waker's code
 * (>= FEN__FIRED). FEN__BY_TIMER and FEN__BY_CANCEL: see fen__limit_rc. May change the M. */
int fen__park(int64_t deadline_ns, enum fen__reason why);
/* Takes back an arm that was not followed by a park: 0, or the code that came in between. */
int fen__unarm(struct fen__g *g);
/* Wakes g if it still waits in that epoch. True for the one waker that won. Any thread. */
bool fen__wake(struct fen__g *g, uint64_t epoch, int code);
/* The same in two steps, to hand something over in between; 0: lost the race. */
int fen__claim(struct fen__g *g, uint64_t epoch);
void fen__claim_done(struct fen__g *g, uint64_t epoch, int claim, int code);
/* Wakes g whatever its epoch, so that it looks at its limits again. Any thread. */
void fen__nudge(struct fen__g *g);
/* The only ways to end a limit that others may wait under, or to bring its deadline nearer. */
void fen__limit_end(struct fen__limit *l, int rc);
void fen__limit_deadline_set(struct fen__limit *l, int64_t deadline_ns);
/* A limit's own deadline. One below 0 is a time from now on, fixed by the first look: nobody has to
 * read the clock for a limit under which nobody waits. Such a limit is looked at by its own fiber
 * and the fibers below it. */
int64_t fen__limit_deadline(struct fen__limit *l);
extern _Atomic uint64_t fen__limits_epoch;
int fen__limit_look(struct fen__g *g);
/* 0, or why the fiber must stop waiting: its limits ended or passed. */
static inline int fen__limit_rc(struct fen__g *g)
{
    bool same = g->limits_seen == atomic_load(&fen__limits_epoch); /* pairs with fen__limit_end */
    if (FEN__LIKELY(same && !g->mask && g->limits_deadline == FEN_NEVER))
        return 0;
    return fen__limit_look(g);
}
/* The running fiber changed its own chain or the deadline of a limit that only it is under. */
static inline void fen__limits_changed(struct fen__g *g) { g->limits_seen = 0; }
/* What a code means as an error: -ETIMEDOUT, -EBADF, -ENOMEM, or for FEN__BY_CANCEL what the limits
 * say now (0: a false alarm, wait again); 0 for the codes of a true wake. */
int fen__code_rc(struct fen__g *g, int code);
/* Waits until the slot's direction may be ready. gen: s->gen when the caller's operation began; a
 * slot that was closed since, and perhaps opened again, is -EBADF.
 * 0, -ETIMEDOUT, -ECANCELED, -EBADF, -EBUSY. RT. */
int fen__wait_slot(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns);
/* The same, until the process `pid` has ended, whose pidfd the slot is of. */
int fen__wait_pidfd(struct fen__slot *s, uint32_t gen, int pid, int64_t deadline_ns);
/* Closes a slot and wakes who waits in it. Any thread. shut does the waking alone: the slot stays,
 * for who may still look at it, until fen__poll_free. */
void fen__close_slot(struct fen__slot *s);
void fen__shut_slot(struct fen__slot *s);
/* Something other than a fiber that waits in a slot. fire runs on a worker's own stack (RT); it may
 * spawn and wake, must not park, and owns the hook from then on. Aligned to 8. */
struct fen__hook {
    void (*fire)(struct fen__hook *h);
};

/* ---- spawn.c ---- */
struct fen__spawn {
    void (*fn)(void *arg);
    void *arg;
    const char *name;
    size_t stack_bytes;
    struct fen__limit *limit;
    void *scope;
    void *labels;
    void (*end)(struct fen__g *g);
    const void *site; /* return address of the call that asked for it, or NULL */
};
/* Filled in by the room above: called on a fiber that has ended with locals or labels, before its
 * end and before it stops counting as live. */
extern void (*fen__attached_end)(struct fen__g *g);
/* A new ready fiber. 0, -ENOMEM, FEN_ELIMIT. RT. */
int fen__spawn(const struct fen__spawn *how, struct fen__g **ret_g);
/* The same from a thread that is no worker. 0, -ENOMEM, FEN_ELIMIT; FEN_ECLOSED: no runtime runs,
 * or its first fiber has returned; FEN_EFORKED. */
int fen__spawn_outside(const struct fen__spawn *how);
/* Work that gets a fiber only when a P has nothing better to run, so that a burst of events costs a
 * list node each and not a stack each, and the fiber is a warm one. Caller's memory, until fn runs
 * or refused is called (no fiber to be had); both own it from then on. fn runs in a fiber under
 * that limit, without a scope. */
struct fen__start {
    struct fen__start *next;
    const char *name;
    struct fen__limit *limit; /* NULL: the run's */
    void (*fn)(void *start);
    void (*refused)(struct fen__start *s); /* on a worker's own stack (RT) */
};
void fen__start_later(struct fen__start *s); /* RT */

/* The fiber in that place of the slab, or the thread that waits with that id; it was handed out
 * once. Any thread. */
struct fen__g *fen__g_at(uint32_t id);
/* Calls fn for each fiber slot in use or once used. Any thread; the fibers go on meanwhile. */
void fen__each_g(void (*fn)(struct fen__g *g, void *arg), void *arg);
/* A limit above all fibers of the run: ends detached fibers at shutdown. */
struct fen__limit *fen__run_limit(void);
int64_t fen__fibers_live(void);

/* ---- see.c, dump.c: what people look at ---- */
/* What a parked fiber waits for, in words of the room that owns the thing. */
struct fen__on {
    const void *object; /* as the program knows it; NULL: none */
    int64_t have, of;   /* -1: not known; elements and room, permits, count, descriptor, pid */
    int events;         /* of the descriptor: FEN_FD_READ, FEN_FD_WRITE; 0: the reason says it */
    uint64_t holder;    /* number of the fiber that holds it; 0: nobody known */
};
/* Set by sync before a run. g is a copy; what its pointers lead to may be gone: fen__sys_copy. */
extern void (*fen__on_describe)(const struct fen__g *g, struct fen__on *ret_on);
/* Likewise: appends the labels of a fiber that may run meanwhile. */
struct fen__text;
extern void (*fen__labels_put)(struct fen__g *g, struct fen__text *t);
/* Likewise: the end of a dump, what the rooms above know beside the fibers. */
extern void (*fen__on_dump)(void (*put)(void *arg, const char *text, size_t n), void *arg);
/* The number of the fiber in that place of the slab; 0: there is none. Any thread. */
uint64_t fen__number_of(uint32_t id);
/* Hands text to the run's report function, or writes it to fd 2. May block the thread. */
void fen__report(const char *text, size_t n);
/* Is this run's end to be checked for what was not given back? Set as the run begins. */
bool fen__leaks_wanted(void);

/* ---- run.c ---- */
/* Runs fn(arg) as the first fiber and returns when every fiber has ended; last calls fini(arg),
 * before another run can begin. See fen_run. */
int fen__sched_run(void (*fn)(void *arg), void *arg, const fen_config *cfg,
                   void (*fini)(void *arg));
int fen__max_blocking(void);     /* fen_config.max_blocking of this run */
enum fen_files fen__files(void); /* fen_config.files of this run; AUTO when none runs */
/* 1 while a ring for files is open: fen_stats.file_ring; set by sync. */
extern _Atomic int fen__file_ring;

/* Calls fn once when the last fiber of this run has ended and before its workers stop: for threads
 * and caches that belong to the run. Caller's static memory; registering again before that does
 * nothing. Any thread. */
struct fen__at_end {
    void (*fn)(void);
    struct fen__at_end *next;
    bool on;
};
void fen__run_at_end(struct fen__at_end *e);

/* ---- hibernate.c ---- */
/* Fibers that wait for longer than this may lose their stack's pages; the shortest wish of a run
 * counts, cold_after says for each fiber. Any thread. */
void fen__hibernate_want(int64_t after_ns);
/* Filled in by the room above: after how many ns of waiting g may hibernate, FEN_NEVER when it may
 * not. g is parked and cannot go on meanwhile; on the hibernator's thread, which holds its lock. */
extern int64_t (*fen__cold_after)(const struct fen__g *g);
/* ---- sim.c: simulated runs ---- */
/* Is the caller inside one, that is, on its one worker? Any thread. */
bool fen__sim_here(void);
/* A random number below `below`, each as likely; m is the caller's. The seed of a simulated run
 * decides it there. RT. */
uint32_t fen__draw(struct fen__m *m, uint32_t below);

/* ---- timer.c (RT) ---- */
/* 0 or -ENOMEM. fn runs on a worker's own stack. */
int fen__timer_add(struct fen__timer *t, int64_t when_ns, void (*fn)(void *arg, uint64_t seq),
                   void *arg, uint64_t seq) FEN_MUST_CHECK;
/* True if it was armed and will not fire. */
bool fen__timer_del(struct fen__timer *t);

/* ---- bill.c ---- */
/* Closes the running slice, so that g->cpu_ticks is up to date (RT). The TSC at its end, of now if
 * the bill is off. */
uint64_t fen__charge_now(struct fen__m *m);
/* Adds what another thread burned for the running fiber (RT). */
void fen__charge_extra(struct fen__m *m, int64_t cpu_ns);
/* The worker keeps the bill now; else counters stand still. A fiber sees a change only after it
 * parked. */
bool fen__metered(void);
/* Sums over all workers, in ns; cpu is the independent process clock since the run began. */
struct fen__cpu_books {
    int64_t fibers_ns, runtime_ns, unattributed_ns, process_ns;
};
void fen__cpu_books(struct fen__cpu_books *ret);
/* Of the monitor and of the heap's reclaimer in this run; they have no tally. */
int64_t fen__monitor_cpu_ns(void);
void fen__each_tally(void (*fn)(struct fen__tally *t, void *arg), void *arg);

#endif
