/* hibernate.c - fibers that wait long give their stack's pages back.
 *
 * A thread of its own, the hibernator, which exists only in a run in which some scope asked for it,
 * looks through all fibers now and then. It copies the bytes in use of those that may hibernate to
 * a block each and gives the pages back, up to BATCH stacks by one system call (each call costs the
 * other cores a shoot-down of their address caches). Whoever runs such a fiber next puts the bytes
 * back first, in fen__run_begin, on its own stack.
 *
 *   g->cold   WARM ---1---> COOLING ---4---> COLD         g->wait (park.c)
 *               ^              |               |            PARKED --a--> FIRED, queued, b: run
 *               '-------5------+-------6-------'
 *
 *   1 hibernator, under hib.lock          cold = COOLING (seq_cst)
 *   2                                     wait is still the PARKED of that epoch (seq_cst); else 5
 *   3                                     may it? else 5. Copy the bytes in use
 *   4 when the batch is full              give the pages back, then cold = COLD (release)
 *   a a waker                             CAS on wait (seq_cst)
 *   b who runs it                         looks at cold (seq_cst): COOLING, waits for hib.lock;
 *                                         6 COLD, copies back, cold = WARM
 *
 * Wakers know nothing of it. Why it is sound: when 2 sees the old word, a comes after 2, and so b
 * sees the COOLING of 1; then b waits for the lock, which is let go only when every fiber of the
 * batch is WARM or COLD. When 2 sees another word, nothing was touched. Only the hibernator leaves
 * WARM, only who runs the fiber leaves COLD, so plain stores do. test/model/hibernate_test.c
 * explores it, with a store buffer.
 *
 * The wait in b is for a batch of copies and one system call, 100 to 200 us, and met only by a
 * fiber that is woken in the very moment at which its batch is under way.
 *
 * When it looks: after / GAP_PARTS past the earliest time at which a fiber that waits could be due,
 * and while Ms work so rarely that looking takes at most one part in SCAN_PARTS of its time.
 * When nobody will be due it sleeps until the monitor, which is awake whenever an M is, says that
 * fibers may have parked (fen__hibernate_tick); so an idle process comes to rest. While Ms work it
 * rests after each batch for as long as that took.
 *
 * Watching (FEN_DEBUG=hibernate=1): the pages stay and become inaccessible instead, so that a
 * stranger's touch faults; crash.c names the fiber. That takes two maps a stack; a stack for which
 * there is none left stays warm.
 *
 * Locks: hib.lock comes before the lock of a scope (fen__cold_after); b holds no lock.
 *
 * Rejected: restoring from a fault handler (guard page or write protection and SIGSEGV): between
 * the opening of the page and the copy a second toucher sees zeroes, measured; userfaultfd: needs
 * privilege, and system calls into such memory fail for good; MADV_PAGEOUT: nothing without
 * swap; a state in the wait word: each waker would have to wait for it. */
#include "sched/see.h"

#include "mem/mem.h"

#define BATCH 64
#define GAP_PARTS 16
#define SCAN_PARTS 20
#define USED_MAX (8u << 10) /* more is copied for too little gain */
#define HIBERNATOR_STACK (256u << 10)

int64_t (*fen__cold_after)(const struct fen__g *g);

static struct {
    _Atomic int64_t after_ns; /* the shortest wish of this run; FEN_NEVER: none */
    _Atomic uint32_t events;  /* futex: fibers may have parked since */
    _Atomic uint32_t deep, stop;
    uint32_t lock; /* held while a fiber is COOLING */
    bool started, watch;
    _Atomic int64_t cold, cpu_ns;
    pthread_t thread;
} hib = {.after_ns = FEN_NEVER};

/* One look through the fibers. */
struct pass {
    int64_t now_ns, after_ns, due_ns; /* due: the next fiber that waits will be, FEN_NEVER: none */
    int64_t batch_ns;                 /* spent on batches, not on looking */
    uint64_t now;                     /* TSC */
    bool locked;
    int looked, n; /* in this hold of the lock; n of them COOLING */
    struct fen__g *g[BATCH];
    struct iovec pages[BATCH];
};

static bool parked(uint64_t wait) { return (wait & 0xffff) == FEN__PARKED; }

/* ---- the batch: hib.lock held ---- */

/* What the fiber waits for calls it by what lies in its object or on the heap. */
static bool waits_off_stack(const struct fen__g *g)
{
    const char *on = g->on;
    switch (g->reason) {
    case FEN__R_SLEEP: return true; /* `on` is of an earlier wait */
    case FEN__R_READ:
    case FEN__R_WRITE:
    case FEN__R_PROCESS:
    case FEN__R_CHAN_SEND:
    case FEN__R_CHAN_RECV:
    case FEN__R_SELECT:
    case FEN__R_MUTEX:
    case FEN__R_SEM:
    case FEN__R_WG:
    case FEN__R_RWLOCK:
    case FEN__R_COND: return on < g->stack.low || on >= g->stack.low + g->stack.bytes;
    default: return false;
    }
}

/* g is COOLING and cannot go on. May it hibernate now? If only later, that is noted. */
static bool may(struct pass *p, const struct fen__g *g)
{
    if (g->live != FEN__LIVE || g->painted || !waits_off_stack(g) ||
        fen__stack_used(&g->stack, g->sp) > USED_MAX)
        return false;
    int64_t after = fen__cold_after(g);
    if (after == FEN_NEVER)
        return false;
    int64_t due = p->now_ns + after - fen__tsc_to_ns((int64_t)(p->now - g->parked_at));
    if (due > p->now_ns)
        p->due_ns = fen__min_i64(p->due_ns, due);
    return due <= p->now_ns;
}

static bool copy_out(struct pass *p, struct fen__g *g)
{
    size_t used = fen__stack_used(&g->stack, g->sp);
    char *at;
    void *copy = fen__mem_alloc(used);
    if (!copy)
        return false;
    fen__stack_copy(copy, g->sp, used);
    g->limits_seen = 0; /* the copy takes that look's place: the fiber looks again */
    g->copy = copy;
    fen__stack_pages(&g->stack, &at, &p->pages[p->n].iov_len);
    p->pages[p->n].iov_base = at;
    p->g[p->n++] = g;
    return true;
}

/* Steps 1 to 3. wait: g's word at the first look. */
static void cool(struct pass *p, struct fen__g *g, uint64_t wait)
{
    atomic_store(&g->cold, FEN__COOLING);
    /* pairs with the CAS of whoever wakes it, and so with the look in fen__hibernate_end */
    if (atomic_load(&g->wait) == wait && may(p, g) && copy_out(p, g))
        return;
    atomic_store_explicit(&g->cold, FEN__WARM, memory_order_release); /* pairs with thaw */
}

static void stay_warm(struct fen__g *g)
{
    fen__mem_free(g->copy, fen__stack_used(&g->stack, g->sp));
    atomic_store_explicit(&g->cold, FEN__WARM, memory_order_release);
}

/* Step 4. */
static void give_back(struct pass *p)
{
    if (!hib.watch)
        fen__sys_release_parts(p->pages, p->n);
    for (int i = 0; i < p->n; i++) {
        struct iovec *v = &p->pages[i];
        if (hib.watch && fen__sys_access(v->iov_base, v->iov_len, false)) {
            stay_warm(p->g[i]);
            continue;
        }
        atomic_fetch_add_explicit(&hib.cold, 1, memory_order_relaxed);
        atomic_store_explicit(&p->g[i]->cold, FEN__COLD, memory_order_release); /* with thaw */
    }
}

/* ---- the pass ---- */

static bool all_idle(void)
{
    return atomic_load(&fen__sched.n_idle) == atomic_load(&fen__sched.n_live);
}

static void begin_batch(struct pass *p)
{
    fen__lock(&hib.lock);
    p->locked = true;
    p->looked = p->n = 0;
}

static void end_batch(struct pass *p)
{
    if (p->n)
        give_back(p);
    fen__unlock(&hib.lock);
    p->locked = false;
}

static void rest(struct pass *p, int64_t began)
{
    int64_t took = fen__sys_now() - began;
    p->batch_ns += took;
    if (!all_idle() && !atomic_load(&hib.stop)) {
        fen__sys_nap(took);
        p->batch_ns += took;
    }
}

static void look_at(struct fen__g *g, void *arg)
{
    struct pass *p = arg;
    /* acquire: pairs with the CAS in fen__commit; what was before it stays while the word does */
    uint64_t wait = atomic_load_explicit(&g->wait, memory_order_acquire);
    if (!parked(wait) || atomic_load_explicit(&g->cold, memory_order_relaxed) != FEN__WARM)
        return;
    int64_t waits =
        fen__tsc_to_ns((int64_t)(p->now - __atomic_load_n(&g->parked_at, __ATOMIC_RELAXED)));
    if (waits < p->after_ns) {
        p->due_ns = fen__min_i64(p->due_ns, p->now_ns + p->after_ns - waits);
        return;
    }
    if (!p->locked)
        begin_batch(p);
    cool(p, g, wait);
    if (++p->looked < BATCH)
        return;
    int64_t began = fen__sys_now();
    bool worked = p->n > 0;
    end_batch(p);
    if (worked)
        rest(p, began);
}

/* Until when nobody is due; FEN_NEVER. ret: how long the looking took. */
static int64_t pass(struct pass *p, int64_t *ret_looking_ns)
{
    p->now_ns = fen__sys_now();
    p->now = fen__tsc();
    p->after_ns = atomic_load(&hib.after_ns);
    p->due_ns = FEN_NEVER;
    p->batch_ns = 0;
    fen__each_g(look_at, p);
    if (p->locked)
        end_batch(p);
    *ret_looking_ns = fen__max_i64(0, fen__sys_now() - p->now_ns - p->batch_ns);
    return p->due_ns;
}

/* ---- the thread ---- */

static void sleep_until(int64_t t_ns)
{
    while (fen__sys_now() < t_ns && !atomic_load(&hib.stop))
        fen__sys_futex_wait(&hib.stop, 0, t_ns);
}

/* Until something happens after `seen` was read. */
static void sleep_deep(uint32_t seen)
{
    atomic_store(&hib.deep, 1); /* seq_cst: pairs with the exchange in fen__hibernate_tick */
    if (!atomic_load(&hib.stop))
        fen__sys_futex_wait(&hib.events, seen, FEN_NEVER);
    atomic_store(&hib.deep, 0);
}

static void *hibernator(void *arg)
{
    (void)arg;
    static struct pass p; /* too large for a small stack; there is one thread */
    while (!atomic_load(&hib.stop)) {
        uint32_t seen = atomic_load(&hib.events);
        int64_t looking, due = pass(&p, &looking), now = fen__sys_now();
        int64_t gap = atomic_load(&hib.after_ns) / GAP_PARTS;
        if (!all_idle())
            gap = fen__max_i64(gap, SCAN_PARTS * looking);
        atomic_store_explicit(&hib.cpu_ns, fen__sys_thread_cpu(), memory_order_relaxed);
        if (due == FEN_NEVER) {
            sleep_deep(seen);
            due = 0;
        }
        sleep_until(fen__max_i64(due, now) + gap); /* who parked together is looked at together */
    }
    return NULL;
}

/* Born on the monitor, it inherits nothing of a worker's. If it cannot be had now, then later. */
static void start(void)
{
    hib.started = fen__sys_thread(&hib.thread, HIBERNATOR_STACK, hibernator, NULL) == 0;
}

void fen__hibernate_tick(void)
{
    if (FEN__LIKELY(atomic_load_explicit(&hib.after_ns, memory_order_relaxed) == FEN_NEVER))
        return;
    if (!hib.started)
        start();
    atomic_fetch_add(&hib.events, 1);
    if (atomic_exchange(&hib.deep, 0)) /* pairs with the store in sleep_deep */
        fen__sys_futex_wake(&hib.events, 1);
}

void fen__hibernate_want(int64_t after_ns)
{
    int64_t have = atomic_load(&hib.after_ns);
    while (after_ns < have && !atomic_compare_exchange_weak(&hib.after_ns, &have, after_ns))
        ;
    fen__monitor_poke();
}

void fen__hibernate_open(bool watch)
{
    atomic_store(&hib.after_ns, FEN_NEVER);
    atomic_store(&hib.stop, 0);
    atomic_store(&hib.cpu_ns, 0);
    hib.watch = watch;
}

void fen__hibernate_close(void)
{
    if (!hib.started)
        return;
    atomic_store(&hib.stop, 1);
    atomic_fetch_add(&hib.events, 1);
    fen__sys_futex_wake(&hib.stop, 1);
    fen__sys_futex_wake(&hib.events, 1);
    pthread_join(hib.thread, NULL);
    hib.started = false;
}

int64_t fen__hibernate_count(void) { return atomic_load_explicit(&hib.cold, memory_order_relaxed); }

int64_t fen__hibernate_cpu_ns(void)
{
    return atomic_load_explicit(&hib.cpu_ns, memory_order_relaxed);
}

/* ---- who runs it ---- */

static void wake_access(struct fen__g *g)
{
    char *at;
    size_t bytes;
    fen__stack_pages(&g->stack, &at, &bytes);
    fen_assert(fen__sys_access(at, bytes, true) == 0); /* it gives maps back, it takes none */
}

FEN__NOINLINE void fen__hibernate_thaw(struct fen__g *g)
{
    while (atomic_load(&g->cold) == FEN__COOLING) {
        fen__lock(&hib.lock);
        fen__unlock(&hib.lock);
    }
    /* acquire: pairs with the stores in give_back and cool */
    if (atomic_load_explicit(&g->cold, memory_order_acquire) != FEN__COLD)
        return;
    size_t used = fen__stack_used(&g->stack, g->sp);
    if (FEN__UNLIKELY(hib.watch))
        wake_access(g);
    fen__stack_copy(g->sp, g->copy, used);
    fen__mem_free(g->copy, used);
    atomic_fetch_sub_explicit(&hib.cold, 1, memory_order_relaxed);
    atomic_store_explicit(&g->cold, FEN__WARM, memory_order_release);
}

/* ---- a stranger's touch ---- */

const struct fen__g *fen__hibernate_victim(uintptr_t addr)
{
    uint64_t chunks, used, per;
    if (!hib.watch)
        return NULL;
    fen__spawn_table(&chunks, &used, &per);
    uint32_t n = *(const uint32_t *)(uintptr_t)used;
    for (uint32_t i = 0; i < n; i++) {
        struct fen__g *g = fen__g_at(i);
        uintptr_t low = (uintptr_t)g->stack.low;
        if (atomic_load(&g->cold) == FEN__COLD && addr >= low && addr < low + g->stack.bytes)
            return g;
    }
    return NULL;
}
