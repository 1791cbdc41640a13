/* run.c - starting Ps and Ms, an M's life, stopping.
 *
 * An M without a P is a spare and sleeps on its futex until it is given one, or a guest: a fiber
 * whose section it runs without a P (section.c). A P always has an M.
 * An M that lost its P parks its fiber on the global queue and becomes a spare; one that was
 * demoted to SCHED_IDLE cannot be promoted again without privilege, so it ends. M structures stay
 * until the run ends, because the books need their tallies; a new thread takes over that of one
 * that has ended. */
#include "sched/see.h"

#include "mem/mem.h"
#include "sys/node.h"
#include "sys/process.h"
#include "sys/trace.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define M_STACK_BYTES (256u << 10)
#define MAX_THREADS 1000

struct boot {
    void (*fn)(void *arg);
    void *arg;
};
static struct boot boot;

/* ---- an M's life ---- */

/* sched.lock held. */
void fen__m_give(struct fen__m *m, struct fen__p *p)
{
    m->spare = false;
    m->p = p;
    atomic_store(&p->m, m);
    atomic_store_explicit(&m->word, FEN__OWNED, memory_order_release);
    atomic_fetch_add(&m->wake, 1);
}

/* Sleeps as a spare until it has a P or a guest. False: the run ends, or this M retires. */
static bool wait_for_work(struct fen__m *m)
{
    struct fen__sched *s = &fen__sched;
    for (;;) {
        fen__lock(&s->lock);
        uint32_t seen = m->wake;
        bool have = m->p || m->guest, end = s->stop || (!have && m->demoted);
        if (!have && !end && !m->spare) {
            m->spare = true;
            m->next_spare = s->spares;
            s->spares = m;
        }
        fen__unlock(&s->lock);
        /* a guest comes without a P, and stays on the memory that its M is at */
        if (have && !end && m->p && FEN__UNLIKELY(m->node != m->p->node)) {
            m->node = m->p->node;
            m->mem = fen__mem_enter(m->node);
        }
        if (have || end)
            return !end;
        fen__mem_flush(); /* it may sleep for long */
        fen__sys_futex_wait(&m->wake, seen, FEN_NEVER);
        fen__charge_sleep(m);
    }
}

/* A fiber's section, without a P; the fiber leaves as one does that has lost its P. */
static void run_guest(struct fen__m *m)
{
    fen__bill_follow(m);
    int64_t from = fen__sys_now(), cpu = fen__sys_thread_cpu();
    atomic_store_explicit(&m->hog, false, memory_order_relaxed); /* of an earlier take */
    fen__charge(m, NULL);
    fen__run_one(m, m->guest);
    int64_t slept = fen__sys_now() - from - (fen__sys_thread_cpu() - cpu);
    fen__section_ended(atomic_load_explicit(&m->site, memory_order_relaxed), slept);
    m->guest = NULL; /* after the push: stuck.c sees the fiber somewhere at any moment */
    m->act = FEN__ACT_YIELD;
}

static void first_fiber(void)
{
    struct fen__spawn how = {
        .fn = boot.fn, .arg = boot.arg, .name = "main", .limit = &fen__sched.limit};
    fen__outside_open(); /* every M is there, no fiber has run */
    if (fen__sched.sim)
        fen__sim_begin(fen__self());
    else
        fen__procs_open(true);
    int rc = fen__spawn(&how, NULL);
    if (rc) {
        fen__sched.rc = rc;
        atomic_store(&fen__sched.done, 1);
        fen__sys_futex_wake(&fen__sched.done, 1);
    }
}

/* The monitor may be about to look at the thread: it sees tid 0 then, and opens nothing. */
static void stat_close(struct fen__m *m)
{
    fen__lock(&m->stat_lock);
    if (m->statfd >= 0)
        fen__sys_close(m->statfd);
    m->statfd = -1;
    fen__unlock(&m->stat_lock);
}

static void *m_main(void *arg)
{
    struct fen__m *m = arg;
    fen__set_self(m);
    fen__annot_thread(&m->annot);
    fen__sys_timer_slack(1);
    fen__trace_unblock();
    fen__sys_block_sigpipe(); /* a peer that leaves is an error code, never the process's end */
    fen__bill_start(m);
    static struct fen__cxx none; /* stays empty */
    m->cxx = fen__cxx_now() ? fen__cxx_now() : &none;
    m->control = fen__control();
    bool altstack = fen__sys_altstack(m->altstack);
    atomic_store(&m->tid, fen__sys_gettid());
    while (wait_for_work(m)) {
        struct fen__g *g;
        if (m->guest) {
            run_guest(m);
            continue;
        }
        if (m->first) { /* not before every M could be had: see start_ms */
            m->first = false;
            first_fiber();
        }
        while (m->act != FEN__ACT_LOST && (!fen__procs_leaving(m->p) || !fen__procs_retire(m)) &&
               (g = fen__find(m)))
            fen__run_one(m, g);
        m->act = FEN__ACT_YIELD;
    }
    fen__charge(m, NULL);
    if (altstack)
        fen__sys_altstack_drop();
    fen__lock(&fen__sched.lock);
    /* a retired M makes room for another; by an atomic, since fen_stats_get has no lock */
    __atomic_fetch_sub(&fen__sched.n_ms, 1, __ATOMIC_RELAXED);
    atomic_store(&m->tid, 0);
    stat_close(m);
    m->ended = true;
    fen__set_self(NULL);
    fen__unlock(&fen__sched.lock);
    return NULL;
}

/* sched.lock held. The structure, cache and tally of an M whose thread is gone; NULL: none. Not
 * waited for: a demoted thread may take its time to end. */
static struct fen__m *take_over(void)
{
    for (struct fen__m *m = fen__sched.ms; m; m = m->next)
        if (m->joined || (m->ended && pthread_tryjoin_np(m->thread, NULL) == 0)) {
            m->joined = true;
            m->ended = m->spare = false;
            m->demoted = false;
            m->hog = false;
            return m;
        }
    return NULL;
}

static struct fen__m *m_alloc(void)
{
    void *mem;
    if (fen__sys_map(sizeof(struct fen__m), &mem))
        return NULL;
    struct fen__m *m = mem;
    if (fen__tally_register(&m->tally) < 0) {
        fen__sys_unmap(mem, sizeof *m);
        return NULL;
    }
    m->statfd = -1;
    m->rand = fen__mix(fen__sched.seed + fen__sched.ms_made++) | 1;
    m->first = !fen__sched.ms;
    m->next = fen__sched.ms;
    return m;
}

static int start_thread(struct fen__m *m)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, M_STACK_BYTES);
    int rc = pthread_create(&m->thread, &attr, m_main, m);
    pthread_attr_destroy(&attr);
    return -rc;
}

/* sched.lock held. */
struct fen__m *fen__m_new(struct fen__p *p)
{
    struct fen__sched *s = &fen__sched;
    if (s->n_ms >= s->max_ms)
        return NULL;
    struct fen__m *old = take_over(), *m = old ? old : m_alloc();
    if (!m)
        return NULL;
    m->word = FEN__TAKEN;
    m->impatient = true; /* not set yet */
    m->meter = atomic_load_explicit(&s->meter, memory_order_relaxed);
    m->act = FEN__ACT_YIELD;
    m->mem = NULL;
    m->node = -1;
    if (p)
        fen__m_give(m, p);
    if (start_thread(m)) {
        if (old)
            return NULL;
        fen__tally_unregister(&m->tally);
        fen__sys_unmap(m, sizeof *m);
        return NULL;
    }
    m->joined = false;
    __atomic_fetch_add(&s->n_ms, 1, __ATOMIC_RELAXED);
    if (!old)
        s->ms = m;
    return m;
}

/* ---- start and stop ---- */

/* FEN_STACK_GUARD, or what was configured. */
static int choose_guard(enum fen_guard configured, enum fen_guard *ret)
{
    static const char *const names[] = {"auto", "madvise", "mprotect", "canary"};
    int guard = configured;
    int rc = guard ? 0
                   : fen__env_choice("FEN_STACK_GUARD", names, FEN__COUNT(names),
                                     "auto, madvise, mprotect or canary", &guard);
    *ret = (enum fen_guard)guard;
    return guard < 0 || guard > FEN_GUARD_CANARY ? -EINVAL : rc;
}

static int choose_files(enum fen_files configured, enum fen_files *ret)
{
    static const char *const names[] = {"auto", "ring", "pool"};
    int files = configured;
    int rc = files ? 0
                   : fen__env_choice("FEN_FILES", names, FEN__COUNT(names), "auto, ring or pool",
                                     &files);
    *ret = (enum fen_files)files;
    return files < 0 || files > FEN_FILES_POOL ? -EINVAL : rc;
}

static int choose_procs(int configured, int *ret)
{
    uint64_t procs = 0;
    static_assert(FEN__PROCS_MAX == 256, "the text says so");
    int rc = configured ? 0
                        : fen__env_number("FEN_PROCS", FEN__PROCS_MAX,
                                          "a whole number from 1 to 256", &procs);
    *ret = configured ? configured : procs ? (int)procs : fen__sys_cpus_allowed();
    return configured < 0 || configured > FEN__PROCS_MAX ? -EINVAL : rc;
}

/* FEN_NUMA: 0 nodes to be faked, or for "fake=N" so many; 1: as if there was one. */
static int env_nodes(int *ret_fake)
{
    const char *text = fen__env("FEN_NUMA");
    *ret_fake = 0;
    if (!text || !strcmp(text, "auto"))
        return 0;
    if (!strcmp(text, "off")) {
        *ret_fake = 1;
        return 0;
    }
    char *end = NULL;
    long n = strncmp(text, "fake=", 5) ? 0 : strtol(text + 5, &end, 10);
    static_assert(FEN__NODES_MAX == 16, "the text says so");
    if (n < 2 || n > FEN__NODES_MAX || *end)
        return fen__env_refuse("FEN_NUMA", "auto, off, or fake=N for N nodes, 2 to 16");
    *ret_fake = (int)n;
    return 0;
}

/* A simulated run has one worker and decides nothing by the machine it runs on. */
static int open_nodes(void)
{
    int fake, rc = env_nodes(&fake);
    if (!rc)
        fen__mem_nodes(fen__sys_nodes_open("", fen__sched.sim ? 1 : fake));
    return rc;
}

static int configure(const fen_config *cfg, enum fen_guard *ret_guard)
{
    struct fen__sched *s = &fen__sched;
    int procs, rc = cfg->max_threads < 0 ? -EINVAL : choose_procs(cfg->procs, &procs);
    rc = rc ? rc : choose_guard(cfg->guard, ret_guard);
    rc = rc ? rc : choose_files(cfg->files, &s->files);
    rc = rc ? rc : fen__sim_config(cfg);
    if (rc)
        return rc;
    s->nprocs = s->nps = s->sim ? 1 : procs < FEN__PROCS_MAX ? procs : FEN__PROCS_MAX;
    s->max_ms = cfg->max_threads ? cfg->max_threads : MAX_THREADS;
    s->max_blocking = cfg->max_blocking ? cfg->max_blocking : FEN__BLOCKING_DEFAULT;
    if (s->max_ms < s->nprocs || s->max_blocking < 0 || s->max_blocking > FEN__BLOCKING_MAX)
        return -EINVAL;
    s->max_fibers = cfg->max_fibers ? cfg->max_fibers : FEN__FIBERS_MAX;
    if (s->max_fibers > FEN__FIBERS_MAX)
        return -EINVAL;
    s->meter = !cfg->meter_off && !s->sim;
    s->log = cfg->log;
    s->log_arg = cfg->log_arg;
    s->seed = cfg->seed ? cfg->seed : (uint64_t)fen__sys_now() | 1;
    s->ms_made = 0;
    return 0;
}

static void set_ps(struct fen__p *ps)
{
    fen__lock(&fen__sched.lock);
    fen__sched.ps = ps;
    fen__unlock(&fen__sched.lock);
}

static int start_ps(void)
{
    const struct fen__sched *s = &fen__sched;
    struct fen__p *ps;
    void *mem;
    int rc = fen__sys_map(FEN__PROCS_MAX * sizeof *ps, &mem);
    if (rc)
        return rc;
    rc = fen__sim_open();
    if (rc) {
        fen__sys_unmap(mem, FEN__PROCS_MAX * sizeof *ps);
        return rc;
    }
    ps = mem;
    for (int i = 0; i < s->nps; i++)
        fen__procs_init(&ps[i], i);
    set_ps(ps);
    return 0;
}

static int start_ms(void)
{
    struct fen__sched *s = &fen__sched;
    int started = 0;
    fen__lock(&s->lock);
    while (started < s->nprocs && fen__m_new(&s->ps[started]))
        started++;
    s->n_live = started;
    int rc = started != s->nprocs ? -EAGAIN : s->sim ? 0 : fen__monitor_start();
    if (rc)
        atomic_store(&s->stop,
                     1); /* under the lock: the first fiber has not begun and never will */
    fen__unlock(&s->lock);
    return rc;
}

static void stop_ms(void)
{
    struct fen__sched *s = &fen__sched;
    fen__lock(&s->lock);
    atomic_store(&s->stop, 1);
    for (struct fen__m *m = s->ms; m; m = m->next) {
        atomic_fetch_add(&m->wake, 1);
        fen__sys_futex_wake(&m->wake, 1);
    }
    fen__unlock(&s->lock);
    for (int i = 0; i < s->nps; i++)
        fen__poll_kick((uint32_t)i);
    fen__monitor_stop();
    fen__pace_close();
    fen__hibernate_close();
    fen__see_close();
    for (struct fen__m *m = s->ms; m; m = s->ms) {
        if (!m->joined)
            pthread_join(m->thread, NULL);
        fen__lock(&s->lock); /* somebody may be reading its tally: fen__each_tally */
        s->ms = m->next;
        fen__unlock(&s->lock);
        stat_close(m);
        fen__tally_unregister(&m->tally);
        fen__sys_unmap(m, sizeof *m);
    }
}

static void fini(void)
{
    struct fen__sched *s = &fen__sched;
    for (int i = 0; i < s->nps; i++)
        fen__timers_fini(&s->ps[i]);
    struct fen__p *ps = s->ps;
    set_ps(NULL); /* only fen_stats_get could still look */
    fen__sys_unmap(ps, FEN__PROCS_MAX * sizeof *ps);
    fen__sim_close();
    fen__spawn_fini();
    fen__stack_fini();
}

static void nudge(struct fen__g *g, void *arg)
{
    (void)arg;
    fen__nudge(g);
}

static struct {
    uint32_t lock;
    struct fen__at_end *list;
} at_end;

void fen__run_at_end(struct fen__at_end *e)
{
    fen__lock(&at_end.lock);
    if (!e->on) {
        e->on = true;
        e->next = at_end.list;
        at_end.list = e;
    }
    fen__unlock(&at_end.lock);
}

static void call_at_end(void)
{
    for (;;) {
        fen__lock(&at_end.lock);
        struct fen__at_end *e = at_end.list;
        if (e) {
            at_end.list = e->next;
            e->on = false;
        }
        fen__unlock(&at_end.lock);
        if (!e)
            return;
        e->fn();
    }
}

/* Detached fibers may outlive the first one: they are cancelled and waited for. */
static void wait_all(void)
{
    struct fen__sched *s = &fen__sched;
    while (!atomic_load(&s->done))
        fen__sys_futex_wait(&s->done, 0, FEN_NEVER);
    if (fen__see.leaks && !s->sim)
        fen__see_leaks();
    fen__limit_end(&s->limit, -ECANCELED);
    fen__outside_close();
    fen__procs_open(false);
    while (fen__fibers_live() > 0) {
        fen__each_g(nudge, NULL);
        fen__sys_nap(FEN_MS / 4);
    }
    while (atomic_load(&s->readying)) /* pairs with fen__ready */
        fen__sys_nap(FEN_MS / 20);
    fen__outside_end(); /* after the fibers, whose clean-ups threads may still serve */
}

static void first_main(void *arg)
{
    struct boot *b = arg;
    b->fn(b->arg);
    if (fen__sched.sim) { /* the rest of the end belongs to the simulation too */
        fen__sim_first_ended();
        return;
    }
    atomic_store(&fen__sched.done, 1);
    fen__sys_futex_wake(&fen__sched.done, 1);
}

/* Of the run before. All but the lock, which somebody may hold in fen_stats_get. */
static void clear(void)
{
    struct fen__sched *s = &fen__sched;
    char *from = (char *)&s->ps, *lock = (char *)&s->lock, *behind = lock + sizeof s->lock;
    fen__lock(&s->lock);
    memset(from, 0, (size_t)(lock - from));
    memset(behind, 0, (size_t)((char *)&s->running - behind));
    s->global_tail = &s->global_head;
    fen__unlock(&s->lock);
}

int fen__sched_run(void (*fn)(void *arg), void *arg, const fen_config *cfg,
                   void (*fini_above)(void *arg))
{
    static const fen_config none;
    struct fen__sched *s = &fen__sched;
    uint32_t idle_word = 0;
    if (fen__forked)
        return FEN_EFORKED;
    if (fen__self() || !atomic_compare_exchange_strong(&s->running, &idle_word, 1))
        return -EBUSY;
    clear();
    s->done = 0;
    s->rc = 0;
    s->limit = (struct fen__limit){.deadline_ns = FEN_NEVER};
    struct boot inner = {fn, arg};
    boot = (struct boot){first_main, &inner};
    enum fen_guard guard = FEN_GUARD_AUTO;
    cfg = cfg ? cfg : &none;
    int rc = configure(cfg, &guard);
    if (rc)
        goto out;
    rc = fen__sys_mark_forks(&s->running);
    rc = rc ? rc : fen__see_config(cfg);
    rc = rc ? rc : fen__pace_configure(cfg);
    rc = rc ? rc : open_nodes();
    if (rc)
        goto out;
    fen__bill_units();
    s->cpu_start_ns = fen__sys_process_cpu();
    s->no_membarrier = fen__sys_membarrier_init() != 0;
    rc = fen__stack_init(guard, cfg->stack_bytes);
    if (rc)
        goto out;
    rc = fen__poll_init(s->nprocs);
    if (rc)
        goto fail_stack;
    rc = start_ps();
    if (rc)
        goto fail_poll;
    fen__spawn_init();
    fen__crash_init();
    fen__stall_init();
    fen__see_open();
    fen__profile_start();
    if (!s->sim)
        fen__pace_begin();
    rc = start_ms();
    if (!rc) {
        wait_all();
        call_at_end();
        rc = s->rc;
    }
    stop_ms();
    fen__stall_fini();
    fen__sys_fault_restore();
    fen__outside_fini();
    fini();
    fen__poll_fini();
    goto out;
fail_poll:
    fen__poll_fini();
fail_stack:
    fen__stack_fini();
out:
    boot.arg = NULL;
    fini_above(arg);
    atomic_store(&s->running, 0);
    return rc;
}

int fen__max_blocking(void) { return fen__sched.max_blocking; }
enum fen_files fen__files(void) { return fen__sched.files; }
_Atomic int fen__file_ring;
int fen_procs(void) { return atomic_load(&fen__sched.running) ? fen__sched.nprocs : 0; }
