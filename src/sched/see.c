/* see.c - the thread that prints for people, and what asks it to: SIGQUIT, a deadlock, a stack
 * that is nearly full. Configuration and the report of what was left at the end.
 *
 * Who asks must not print: a signal handler may not, a worker holds a P, and the monitor must
 * not block on a descriptor that nobody reads. So they set a bit in `asked` (any number of
 * requests of a kind are one) and poke; the monitor, which is awake when nothing else is, starts
 * the helper on the first request; from then on the helper sleeps on `asked` itself. A process
 * that nobody asks has no such thread.
 *
 * fen__see.lock: who looks at the run's memory holds it; fen__see_close takes it before that
 * memory goes. Rank: above the scheduler's lock. */
#include "sched/see.h"

#include "mem/mem.h"
#include "sys/process.h"

#include <stdlib.h>
#include <string.h>

#define SITES 64 /* spawn sites that are told from each other in stack warnings */
#define HELPER_STACK (256u << 10)

struct fen__see fen__see;

static struct {
    bool started;
    pthread_t thread;
} helper;

/* ---- configuration ---- */

struct word {
    const char *name;
    int value;
};

static int look_up(const struct word *w, int n, const char *text, size_t len, int *ret)
{
    for (int i = 0; i < n; i++)
        if (strlen(w[i].name) == len && !memcmp(w[i].name, text, len)) {
            *ret = w[i].value;
            return 0;
        }
    return -EINVAL;
}

/* One "key=value" of FEN_DEBUG. */
static int set(const char *text, size_t len, bool *ret_quit)
{
    static const struct word keys[] = {{"sigquit", 0},   {"leaks", 1},    {"stacks", 2},
                                       {"hibernate", 3}, {"deadlock", 4}, {"memtrace", 5},
                                       {"memcheck", 6}};
    static const struct word bools[] = {{"0", 0}, {"1", 1}};
    static const struct word modes[] = {{"report", FEN_DEADLOCK_REPORT},
                                        {"ignore", FEN_DEADLOCK_IGNORE},
                                        {"abort", FEN_DEADLOCK_ABORT},
                                        {"cancel", FEN_DEADLOCK_CANCEL}};
    const char *eq = memchr(text, '=', len);
    int key, value;
    if (!eq || look_up(keys, 7, text, (size_t)(eq - text), &key))
        return -EINVAL;
    size_t rest = len - (size_t)(eq + 1 - text);
    bool mode = key == 4;
    if (look_up(mode ? modes : bools, mode ? 4 : 2, eq + 1, rest, &value))
        return -EINVAL;
    switch (key) {
    case 0: *ret_quit = value; break;
    case 1: fen__see.leaks = value; break;
    case 2: fen__see.paint = value; break;
    case 3: fen__see.watch = value; break;
    case 5: fen__see.memtrace = value; break;
    case 6:
        if (value) /* under the preload it is on already, and =0 leaves what the program said */
            fen_mem_check(true);
        break;
    default: fen__see.on_deadlock = (enum fen_on_deadlock)value;
    }
    return 0;
}

static bool want_quit;

int fen__see_config(const fen_config *cfg)
{
    if (cfg->on_deadlock > FEN_DEADLOCK_CANCEL)
        return -EINVAL;
    fen__see.on_deadlock = cfg->on_deadlock;
    fen__see.paint = cfg->paint_stacks;
    fen__see.watch = cfg->watch_hibernating;
    fen__see.memtrace = cfg->trace_memory;
    fen__see.leaks = cfg->report_leaks;
    fen__see.report = cfg->report;
    fen__see.report_arg = cfg->report_arg;
    want_quit = !cfg->sigquit_off;
    const char *at = fen__env("FEN_DEBUG");
    while (at && *at) {
        size_t len = strcspn(at, ",");
        if (set(at, len, &want_quit))
            return fen__env_refuse(
                "FEN_DEBUG",
                "a list of sigquit, leaks, stacks, hibernate, memtrace, "
                "memcheck with =0 or =1 and deadlock with =report, =ignore, =abort or =cancel");
        at += len + (at[len] == ',');
    }
    return 0;
}

bool fen__leaks_wanted(void) { return fen__see.leaks; }

void fen__report(const char *text, size_t n)
{
    if (fen__see.report) {
        fen__see.report(fen__see.report_arg, text, n);
        return;
    }
    for (int tries = 0; n && tries < 1000;) {
        ssize_t put = fen__sys_write_quiet(2, text, n);
        if (put > 0) {
            text += put;
            n -= (size_t)put;
        } else if (put == -EAGAIN) { /* somebody made it non-blocking; a second, then no more */
            fen__sys_nap(FEN_MS);
            tries++;
        } else if (put != -EINTR) {
            return;
        }
    }
}

static void report(void *arg, const char *text, size_t n)
{
    (void)arg;
    fen__report(text, n);
}

/* ---- stacks that are nearly full ---- */

struct site {
    const void *site;
    char name[FEN__NAME_BYTES];
    uint64_t number;
    size_t used, of;
    bool told;
};

static struct {
    uint32_t lock;
    int n;
    struct site s[SITES];
} deep;

static void note_deep(const struct fen__g *g, size_t used)
{
    fen__lock(&deep.lock);
    int i = 0;
    while (i < deep.n && deep.s[i].site != g->site)
        i++;
    bool fresh = i == deep.n && i < SITES;
    if (fresh) {
        struct site *s = &deep.s[deep.n++];
        *s = (struct site){.site = g->site, .number = g->number, .used = used};
        s->of = (size_t)((char *)fen__stack_top(&g->stack) - (char *)fen__stack_low(&g->stack));
        fen__sys_copy_string(s->name, g->name, sizeof s->name);
    }
    fen__unlock(&deep.lock);
    if (fresh)
        fen__see_ask(FEN__ASK_DEEP);
}

void fen__see_deep(struct fen__g *g, size_t used)
{
    g->deep = true;
    note_deep(g, used);
}

void fen__see_ended(struct fen__g *g)
{
    struct fen__view v = {.low = fen__stack_low(&g->stack),
                          .top = fen__stack_top(&g->stack),
                          .canary = g->stack.canary,
                          .painted = true};
    size_t used = fen__stack_peak(&v);
    if (!g->deep && v.top - used < g->stack.warn)
        note_deep(g, used);
}

static void put_deep(const struct site *s)
{
    char bytes[512];
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__text_put(&t, "fen: stack nearly full: fiber=");
    fen__text_dec(&t, (int64_t)s->number);
    fen__text_put(&t, " name=");
    fen__text_put(&t, s->name[0] ? s->name : "-");
    fen__text_put(&t, " used=");
    fen__text_dec(&t, (int64_t)s->used);
    fen__text_put(&t, " of=");
    fen__text_dec(&t, (int64_t)s->of);
    if (s->site) {
        fen__text_put(&t, " spawn=");
        fen__sys_symbol(&t, (const char *)s->site - 1);
    }
    fen__text_put(&t, " (told once for each spawn site)\n");
    fen__report(bytes, t.n);
}

static void report_deep(void)
{
    for (int i = 0; i < SITES; i++) {
        fen__lock(&deep.lock);
        bool tell = i < deep.n && !deep.s[i].told;
        struct site s = deep.s[i];
        if (tell)
            deep.s[i].told = true;
        fen__unlock(&deep.lock);
        if (tell)
            put_deep(&s);
    }
}

/* ---- the helper ---- */

static void work(uint32_t what)
{
    if (what & FEN__ASK_DEEP)
        report_deep();
    if (what & FEN__ASK_DUMP)
        (void)fen__dump(report, NULL);
    if (what & FEN__ASK_STUCK)
        fen__stuck_report();
}

static void *help(void *arg)
{
    (void)arg;
    for (;;) {
        uint32_t what = atomic_exchange(&fen__see.asked, 0);
        work(what);
        if (what & FEN__ASK_STOP)
            return NULL;
        fen__sys_futex_wait(&fen__see.asked, 0, FEN_NEVER);
    }
}

void fen__see_ask(uint32_t what)
{
    atomic_fetch_or(&fen__see.asked, what);
    fen__sys_futex_wake(&fen__see.asked, 1);
    fen__monitor_poke();
}

void fen__see_work(void)
{
    if (helper.started)
        return; /* it is on its way */
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, HELPER_STACK);
    helper.started = pthread_create(&helper.thread, &attr, help, NULL) == 0;
    pthread_attr_destroy(&attr);
    if (!helper.started) /* better late hand-overs than nothing said */
        work(atomic_exchange(&fen__see.asked, 0));
}

static void on_quit(void) { fen__see_ask(FEN__ASK_DUMP); }

void fen__see_open(void)
{
    atomic_store(&fen__see.asked, 0);
    atomic_store(&fen__see.outside_woke, false);
    deep.n = 0;
    fen__stuck_init();
    fen__hibernate_open(fen__see.watch);
    fen__layout_fill();
    fen__sys_objects_note();
    fen__see.start_ns = fen__sys_now();
    fen__lock(&fen__see.lock);
    fen__see.open = true;
    fen__unlock(&fen__see.lock);
    if (want_quit)
        want_quit = fen__sys_quit_install(on_quit);
}

void fen__see_close(void)
{
    if (want_quit)
        fen__sys_quit_restore();
    if (helper.started) {
        fen__see_ask(FEN__ASK_STOP);
        pthread_join(helper.thread, NULL);
        helper.started = false;
    } else {
        work(atomic_exchange(&fen__see.asked, 0) & FEN__ASK_DEEP);
    }
    fen__lock(&fen__see.lock);
    fen__see.open = false;
    fen__unlock(&fen__see.lock);
}

/* ---- what was left ---- */

struct left {
    struct fen__running *running;
    int64_t n;
};

static void put_left(struct fen__g *g, void *arg)
{
    struct left *l = arg;
    struct fen__view v;
    char bytes[1024];
    if (!fen__view_take(g, l->running, &v) || v.ending || v.number == 1 || l->n++ >= SITES)
        return;
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__text_put(&t, "fen: left: ");
    fen__view_put(&t, &v);
    fen__report(bytes, t.n);
}

void fen__see_leaks(void)
{
    struct left l = {fen__running_take(), 0};
    char bytes[128];
    struct fen__text t = {bytes, 0, sizeof bytes};
    if (l.running)
        fen__each_g(put_left, &l);
    fen__running_free(l.running);
    fen_stats s;
    fen_stats_get(&s);
    if (!l.n && !s.fds_live)
        return;
    fen__text_put(&t, "fen: left at the end of the first fiber: fibers=");
    fen__text_dec(&t, l.n);
    fen__text_put(&t, " fds=");
    fen__text_dec(&t, s.fds_live);
    fen__text_put(&t, "\n");
    fen__report(bytes, t.n);
}
