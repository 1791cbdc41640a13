/* pace.c - when free memory goes back: the pacer, the limit, and the thread that does it.
 *
 * The heap is paced between open and close (a run of the scheduler). Then nobody who allocates or
 * frees gives anything back: the page heap compares its counters with marks set here and says which
 * are reached (fen__pace_due).
 *
 *   GOAL    the footprint, that is pages in use and free ones that are kept, has grown by percent
 *           of what was live after the last reclaim; or free pages are more than percent of those
 *           in use. The first is the text-book rule, live x (1 + percent / 100), less what no
 *           reclaim can undo: a heap with holes is not reclaimed over and over. The second is the
 *           same rule for a heap that shrinks
 *   LOOK    more free pages than retain_percent: those that nobody took for IDLE_NS go back
 *   LIMIT   the process comes near its limit
 *   KEPT    a room above keeps something (warm stacks): what it does not use goes back by time
 *
 * The limit is for the process's own memory (anonymous pages: heap, stacks, other libraries), which
 * the kernel knows. It is read every LOOK_NS while anybody works (fen__pace_tick), and between two
 * readings the footprint's growth is added. Shares of the limit:
 *
 *   EASY --TIGHT_AT--> TIGHT --SHORT_AT--> SHORT        and back at 4 % less: no flutter
 *
 * From TIGHT on everything free is given back again and again, less often where that brings little.
 * In SHORT upper rooms refuse work. At CEILING_AT the page heap refuses to grow; the rest is for
 * what cannot be refused: stacks, the kernel's estimate, pages of the program's file (4 MiB of a
 * limit of 58 are 7 %).
 *
 * The thread is started by the first need and sleeps on `due`. A bit is cleared when it has been
 * dealt with, marks set anew before, so that who meets a mark that is still reached sets it again.
 * LOOK, LIMIT and KEPT make it wake by time, and all end by themselves: an idle process has no
 * wake-ups. Without the thread (none could be had) nothing goes back but on request.
 *
 * Lock: pace.lock guards settings, marks and counters; it is taken before the page heap's.
 *
 * Rejected: slices on the workers, between fibers (each a pause for whoever is next); a cycle by
 * the clock alone (the first rule of a heap that does not change is to leave it alone). */
#include "mem/reclaim.h"

#include <stdlib.h>
#include <string.h>

#include "sys/cgroup.h"
#include "sys/proc.h"

#define LIVE_MIN ((int64_t)4 << 20) /* a heap is paced as if it had so much */
#define IDLE_NS FEN_S
#define LOOK_NS (5 * FEN_MS)
#define LIMIT_SOON (10 * FEN_MS) /* the next reclaim after one that brought something */
#define LIMIT_LATER (200 * FEN_MS)
#define STACK_BYTES (256u << 10)
enum { TIGHT_AT = 80, SHORT_AT = 88, CEILING_AT = 92, BACK = 4, CGROUP_SHARE = 90 }; /* % */

static struct {
    uint32_t lock;
    bool open;
    int percent;
    int64_t slice_ns, limit;
    int64_t live, held;   /* after the last reclaim */
    int64_t own, seen_ns; /* the last look at the process, and when; */
    int64_t seen_held;    /* the footprint then */
    int64_t cycles[4], slice_max_ns;
    void (*told)(const struct fen__reclaim_cycle *c);
} pace = {.percent = 100, .slice_ns = 100 * FEN_US};

static _Atomic uint32_t due_bits; /* FEN__DUE_*; the thread's futex */
static int level;                 /* enum fen_mem_level; by __atomic, any thread */
static int64_t cpu_ns;            /* likewise */

static struct {
    bool started;
    pthread_t thread;
    int64_t limit_at, look_at; /* its own: not before; when free pages have waited long enough */
    int64_t kept_at;           /* when rooms are asked for what they keep; 0: not yet known */
} helper;
static _Atomic bool kept; /* somebody keeps something since they were asked last */

static const struct {
    const char *name;
    int percent;
    int64_t slice_ns, limit;
} profiles[] = {
    {"balanced", 100, 100 * FEN_US, 0},
    {"latency", 200, 40 * FEN_US, 0},
    {"container", 50, 100 * FEN_US, FEN_MEM_AUTO},
};

/* ---- marks ---- */

static int64_t footprint(void)
{
    struct fen__page_stats s;
    fen__pages_stats(&s);
    return s.used_bytes + s.dirty_bytes;
}

/* Lock held. 0: off. */
static int64_t goal(void)
{
    if (pace.percent == FEN_MEM_OFF)
        return 0;
    return pace.held + fen__max_i64(pace.live, LIVE_MIN) / 100 * pace.percent;
}

static int64_t share(int64_t limit, int percent) { return limit / 100 * percent; }

/* Lock held. The footprint at which the process would have so much. */
static size_t mark_at(int64_t own)
{
    return (size_t)fen__max_i64(pace.seen_held + own - pace.own, 0);
}

/* Lock held. */
static void set_marks(void)
{
    int64_t at = goal();
    struct fen__page_marks m = {
        .paced = pace.open,
        .percent = at ? (uint32_t)pace.percent : 0,
        .goal_bytes = at ? (size_t)at : SIZE_MAX,
        .short_bytes = pace.limit ? mark_at(share(pace.limit, SHORT_AT)) : SIZE_MAX,
        .ceiling_bytes = pace.limit ? mark_at(share(pace.limit, CEILING_AT)) : SIZE_MAX,
    };
    fen__pages_mark(&m);
}

/* ---- the limit ---- */

enum fen_mem_level fen_mem_pressure(void)
{
    return (enum fen_mem_level)__atomic_load_n(&level, __ATOMIC_RELAXED);
}

static enum fen_mem_level level_of(int64_t own, int64_t limit, enum fen_mem_level was)
{
    if (!limit)
        return FEN_MEM_EASY;
    if (own >= share(limit, SHORT_AT - (was == FEN_MEM_SHORT ? BACK : 0)))
        return FEN_MEM_SHORT;
    return own >= share(limit, TIGHT_AT - (was != FEN_MEM_EASY ? BACK : 0)) ? FEN_MEM_TIGHT
                                                                            : FEN_MEM_EASY;
}

/* Lock held. Asks the kernel. */
static void look(void)
{
    int64_t own = pace.limit ? fen__sys_own_bytes() : 0;
    pace.seen_ns = fen__sys_now();
    pace.seen_held = footprint();
    if (own >= 0) /* else what was known must do */
        pace.own = own;
    __atomic_store_n(&level, level_of(pace.own, pace.limit, fen_mem_pressure()), __ATOMIC_RELAXED);
    set_marks();
}

static enum fen_mem_level look_now(void)
{
    fen__lock(&pace.lock);
    look();
    fen__unlock(&pace.lock);
    return fen_mem_pressure();
}

/* ---- one reclaim ---- */

static int64_t cycle(enum fen__reclaim_why why, size_t keep)
{
    struct fen__reclaim_cycle c = {.why = why, .at_ns = fen__sys_now()};
    fen__lock(&pace.lock);
    int64_t budget = pace.slice_ns;
    fen__unlock(&pace.lock);
    c.live_before = fen__ledger_live();
    c.held_before = footprint();
    fen__reclaim_run(&c, budget, keep);
    c.took_ns = fen__sys_now() - c.at_ns;
    fen__lock(&pace.lock);
    pace.live = c.live_after;
    pace.held = c.held_after;
    pace.cycles[why]++;
    pace.slice_max_ns = fen__max_i64(pace.slice_max_ns, c.slice_max_ns);
    for (int i = 0; i < 4; i++)
        c.number += pace.cycles[i];
    c.goal = goal();
    set_marks();
    void (*told)(const struct fen__reclaim_cycle *) = pace.told;
    fen__unlock(&pace.lock);
    if (told)
        told(&c);
    return c.returned;
}

size_t fen__pace_reclaim(void)
{
    size_t bytes = (size_t)cycle(FEN__RECLAIM_ASKED, 0);
    if (fen_mem_pressure() != FEN_MEM_EASY)
        (void)look_now();
    return bytes;
}

/* ---- the thread ---- */

void fen__pace_due(uint32_t why)
{
    if (why & FEN__DUE_LIMIT && fen_mem_pressure() != FEN_MEM_SHORT) /* until somebody looks */
        __atomic_store_n(&level, FEN_MEM_SHORT, __ATOMIC_RELAXED);
    if ((atomic_load_explicit(&due_bits, memory_order_relaxed) & why) == why)
        return;
    if ((atomic_fetch_or(&due_bits, why) & why) != why)
        fen__sys_futex_wake(&due_bits, 1);
}

/* Near the limit. True: it still is. */
static bool limit_step(int64_t now)
{
    enum fen_mem_level l = look_now();
    if (l != FEN_MEM_EASY && now >= helper.limit_at) {
        int64_t got = cycle(FEN__RECLAIM_LIMIT, 0);
        fen__lock(&pace.lock);
        bool much = got > pace.limit / 100;
        fen__unlock(&pace.lock);
        helper.limit_at = fen__sys_now() + (much ? LIMIT_SOON : LIMIT_LATER);
        l = look_now();
    }
    return l != FEN_MEM_EASY;
}

/* More free pages than one keeps for long. True: there still are. */
static bool look_step(int64_t now)
{
    if (!helper.look_at) {
        (void)fen__pages_dirty_low(); /* from now on */
        helper.look_at = now + IDLE_NS;
        return true;
    }
    if (now < helper.look_at)
        return true;
    struct fen__page_stats s;
    size_t low = fen__pages_dirty_low(), allowed = fen__pages_allowed(100);
    fen__pages_stats(&s);
    if (low > allowed)
        (void)cycle(FEN__RECLAIM_IDLE, allowed / 2 + ((size_t)s.dirty_bytes - low));
    fen__pages_stats(&s);
    bool more = (size_t)s.dirty_bytes > fen__pages_allowed(100);
    helper.look_at = more ? now + IDLE_NS : 0;
    return more;
}

void fen__reclaim_later(void)
{
    if (atomic_load_explicit(&kept, memory_order_relaxed))
        return;
    atomic_store(&kept, true); /* pairs with the load in help() */
    fen__pace_due(FEN__DUE_KEPT);
}

/* True: there is, or may be, something that is kept. */
static bool kept_step(int64_t now)
{
    if (!helper.kept_at)
        helper.kept_at = now + FEN__KEPT_NS;
    if (now < helper.kept_at)
        return true;
    struct fen__reclaim_cycle c = {0};
    atomic_store(&kept, false); /* who asks from now on is asked again */
    fen__reclaim_kept(&c);
    fen__lock(&pace.lock);
    pace.slice_max_ns = fen__max_i64(pace.slice_max_ns, c.slice_max_ns);
    fen__unlock(&pace.lock);
    helper.kept_at = 0;
    return false;
}

static bool goal_reached(void)
{
    fen__lock(&pace.lock);
    int64_t at = goal();
    fen__unlock(&pace.lock);
    return at && footprint() >= at;
}

/* What `why` asks for; the bits that are dealt with. */
static uint32_t deal_with(uint32_t why)
{
    uint32_t done = 0;
    int64_t now = fen__sys_now();
    if ((why & FEN__DUE_LIMIT || fen_mem_pressure() != FEN_MEM_EASY) && !limit_step(now))
        done |= FEN__DUE_LIMIT;
    if (why & FEN__DUE_GOAL) {
        fen__lock(&pace.lock);
        int percent = pace.percent;
        fen__unlock(&pace.lock);
        if (percent != FEN_MEM_OFF)
            (void)cycle(FEN__RECLAIM_GOAL, fen__pages_allowed((uint32_t)percent) / 2);
        if (!goal_reached()) /* again, by what was allocated meanwhile */
            done |= FEN__DUE_GOAL;
    }
    if (why & FEN__DUE_LOOK && !look_step(now))
        done |= FEN__DUE_LOOK;
    if (why & FEN__DUE_KEPT && !kept_step(now))
        done |= FEN__DUE_KEPT;
    __atomic_store_n(&cpu_ns, fen__sys_thread_cpu(), __ATOMIC_RELAXED);
    return done;
}

static void *help(void *arg)
{
    (void)arg;
    for (;;) {
        uint32_t why = atomic_load(&due_bits);
        if (why & FEN__DUE_STOP)
            return NULL;
        atomic_fetch_and(&due_bits, ~deal_with(why));
        if (atomic_load(&kept)) /* perhaps while the bit was still set */
            atomic_fetch_or(&due_bits, FEN__DUE_KEPT);
        why = atomic_load(&due_bits);
        if (why & (FEN__DUE_GOAL | FEN__DUE_STOP))
            continue;
        int64_t until = why & FEN__DUE_LOOK ? helper.look_at : FEN_NEVER;
        if (why & FEN__DUE_KEPT)
            until = fen__min_i64(until, helper.kept_at);
        if (fen_mem_pressure() != FEN_MEM_EASY)
            until = fen__min_i64(until, fen__sys_now() + LOOK_NS);
        if ((!(why & FEN__DUE_LOOK) || helper.look_at) &&
            (!(why & FEN__DUE_KEPT) || helper.kept_at))
            fen__sys_futex_wait(&due_bits, why, until);
    }
}

static void start(void)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    helper.started = pthread_create(&helper.thread, &attr, help, NULL) == 0;
    pthread_attr_destroy(&attr);
}

void fen__pace_tick(int64_t now_ns)
{
    fen__lock(&pace.lock);
    bool watch = pace.open && pace.limit && now_ns - pace.seen_ns >= LOOK_NS;
    if (watch)
        look();
    fen__unlock(&pace.lock);
    if (watch && fen_mem_pressure() != FEN_MEM_EASY)
        fen__pace_due(FEN__DUE_LIMIT);
    if (!helper.started && atomic_load_explicit(&due_bits, memory_order_relaxed))
        start();
}

int64_t fen__pace_cpu_ns(void) { return __atomic_load_n(&cpu_ns, __ATOMIC_RELAXED); }

/* ---- a run ---- */

static int64_t limit_of(int64_t bytes)
{
    if (bytes != FEN_MEM_AUTO)
        return bytes;
    int64_t cgroup = fen__sys_cgroup_memory("");
    return cgroup ? fen__max_i64(share(cgroup, CGROUP_SHARE), FEN_MEM_LIMIT_MIN) : 0;
}

void fen__pace_open(const struct fen__pace_config *cfg)
{
    int64_t limit = limit_of(cfg->limit_bytes);
    fen_assert(!helper.started);
    atomic_store(&due_bits, 0);
    atomic_store(&kept, false);
    helper.limit_at = helper.look_at = helper.kept_at = 0;
    __atomic_store_n(&cpu_ns, 0, __ATOMIC_RELAXED);
    fen__lock(&pace.lock);
    pace.open = true;
    pace.percent = cfg->percent;
    pace.slice_ns = cfg->slice_ns;
    pace.limit = limit;
    pace.told = cfg->told;
    pace.live = fen__ledger_live();
    pace.held = footprint();
    look();
    fen__unlock(&pace.lock);
}

void fen__pace_close(void)
{
    if (helper.started) {
        fen__pace_due(FEN__DUE_STOP);
        pthread_join(helper.thread, NULL);
        helper.started = false;
    }
    fen__lock(&pace.lock);
    pace.open = false;
    pace.limit = 0;
    pace.told = NULL;
    look();
    fen__unlock(&pace.lock);
}

/* ---- forks ---- */

void fen__pace_lock(void) { fen__lock(&pace.lock); }
void fen__pace_unlock(void) { fen__unlock(&pace.lock); }

/* The child of a process that was paced: its thread is not there, so who frees gives back, as
 * without a runtime, and the limit, which the parent keeps, is not the child's. */
void fen__pace_forget(void)
{
    helper.started = false;
    atomic_store(&due_bits, 0);
    atomic_store(&kept, false);
    fen__lock(&pace.lock);
    pace.open = false;
    pace.limit = 0;
    pace.told = NULL;
    __atomic_store_n(&level, FEN_MEM_EASY, __ATOMIC_RELAXED);
    set_marks();
    fen__unlock(&pace.lock);
}

/* ---- the public face ---- */

int fen_mem_percent_set(int percent)
{
    if (percent != FEN_MEM_OFF && (percent < 1 || percent > FEN_MEM_PERCENT_MAX))
        return -EINVAL;
    fen__lock(&pace.lock);
    pace.percent = percent;
    set_marks();
    fen__unlock(&pace.lock);
    return 0;
}

int fen_mem_limit_set(int64_t bytes)
{
    if (bytes && bytes != FEN_MEM_AUTO && bytes < FEN_MEM_LIMIT_MIN)
        return -EINVAL;
    int64_t limit = limit_of(bytes);
    fen__lock(&pace.lock);
    pace.limit = limit;
    look();
    fen__unlock(&pace.lock);
    return 0;
}

int fen_mem_slice_set(int64_t budget_ns)
{
    if (budget_ns < 10 * FEN_US || budget_ns > 10 * FEN_MS)
        return -EINVAL;
    fen__lock(&pace.lock);
    pace.slice_ns = budget_ns;
    fen__unlock(&pace.lock);
    return 0;
}

int fen__pace_profile(const char *name, struct fen__pace_config *ret)
{
    for (size_t i = 0; i < FEN__COUNT(profiles); i++)
        if (!strcmp(profiles[i].name, name)) {
            ret->percent = profiles[i].percent;
            ret->slice_ns = profiles[i].slice_ns;
            ret->limit_bytes = profiles[i].limit;
            return 0;
        }
    return -EINVAL;
}

int fen_mem_profile_set(const char *name)
{
    struct fen__pace_config c = {0};
    int rc = fen__pace_profile(name, &c);
    rc = rc ? rc : fen_mem_percent_set(c.percent);
    rc = rc ? rc : fen_mem_slice_set(c.slice_ns);
    return rc ? rc : fen_mem_limit_set(c.limit_bytes);
}

/* A whole number at *text, which moves behind it; -1: none, or too large. */
static int64_t number(const char **text)
{
    int64_t v = 0;
    if (**text < '0' || **text > '9')
        return -1;
    for (; **text >= '0' && **text <= '9'; ++*text)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, **text - '0', &v))
            return -1;
    return v;
}

int fen_mem_percent_parse(const char *text, int *ret_percent)
{
    if (!strcmp(text, "off")) {
        *ret_percent = FEN_MEM_OFF;
        return 0;
    }
    int64_t v = number(&text);
    if (*text || v < 1 || v > FEN_MEM_PERCENT_MAX)
        return -EINVAL;
    *ret_percent = (int)v;
    return 0;
}

int fen_mem_limit_parse(const char *text, int64_t *ret_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (!strcmp(text, "auto") || !strcmp(text, "off")) {
        *ret_bytes = text[0] == 'a' ? FEN_MEM_AUTO : 0;
        return 0;
    }
    int64_t v = number(&text);
    for (size_t i = 0; v >= 0 && i < FEN__COUNT(units); i++)
        if (!strcmp(text, units[i])) {
            if (__builtin_mul_overflow(v, INT64_C(1) << (10 * i), &v) || v < FEN_MEM_LIMIT_MIN)
                return -EINVAL;
            *ret_bytes = v;
            return 0;
        }
    return -EINVAL;
}

void fen_mem_pace_get(fen_mem_pace *ret_pace)
{
    struct fen__hist h = {0};
    struct fen__page_stats s;
    fen__hist_merge(&h, fen__reclaim_slices());
    fen__pages_stats(&s);
    fen__lock(&pace.lock);
    *ret_pace = (fen_mem_pace){
        .percent = pace.percent,
        .slice_ns = pace.slice_ns,
        .limit_bytes = pace.limit,
        .level = fen_mem_pressure(),
        .own_bytes = pace.own,
        .live_bytes = pace.live,
        .goal_bytes = goal(),
        .cycles = pace.cycles[0] + pace.cycles[1] + pace.cycles[2] + pace.cycles[3],
        .goal_cycles = pace.cycles[FEN__RECLAIM_GOAL],
        .idle_cycles = pace.cycles[FEN__RECLAIM_IDLE],
        .limit_cycles = pace.cycles[FEN__RECLAIM_LIMIT],
        .asked_cycles = pace.cycles[FEN__RECLAIM_ASKED],
        .returned_bytes = s.returned_bytes,
        .refused = s.refused,
        .slices = fen__hist_count(&h),
        .slice_p50_ns = fen__hist_quantile(&h, 0.50),
        .slice_p95_ns = fen__hist_quantile(&h, 0.95),
        .slice_p99_ns = fen__hist_quantile(&h, 0.99),
        .slice_max_ns = pace.slice_max_ns,
        .cpu_ns = fen__pace_cpu_ns(),
    };
    fen__unlock(&pace.lock);
}
