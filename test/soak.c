/* soak.c - everything at once for minutes: spawn trees, channels, select, timers, cancellation,
 * groups, locks, sockets, blocking sections, hogs, threads outside, and a number of Ps that
 * changes.
 *
 *     fen_soak [SECONDS]     (default 600)
 *
 * Not one of the tests: ./dev stress runs it. Each load is a fiber (or a thread) that repeats one
 * round and counts it. Every ten seconds a line tells what lives and what has moved. It fails
 *   - when a load has not moved for STALL_S seconds (a lost wake-up, a hang), at once;
 *   - when fibers, timers, descriptors or heap bytes stand above their bound: what the loads can
 *     hold at once, in the tenth minute no more than in the first;
 *   - when resident memory has grown by more than RSS_SLACK since the warm-up;
 *   - when anything is left at the end.
 * The watch is an ordinary thread, so that a runtime that stands still is seen too. Its seconds are
 * its own looks, so that the whole process may be stopped and go on later. */
#include "base/sanitize.h"

#include <fen/fen.h>

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef FEN__TSAN
enum { COPIES = 1, TREE = 5, STALL_S = 30, FIBERS_MAX = 2000, RSS_SLACK_MB = 400 };
#elif defined(FEN__ASAN)
enum { COPIES = 2, TREE = 6, STALL_S = 20, FIBERS_MAX = 4000, RSS_SLACK_MB = 600 };
#else
enum { COPIES = 4, TREE = 7, STALL_S = 5, FIBERS_MAX = 6000, RSS_SLACK_MB = 64 };
#endif
enum { TIMERS_MAX = 6000, FDS_MAX = 400, HEAP_MAX_MB = 64, WARM_S = 20, LINE_S = 10, OUTSIDE = 2 };

static _Atomic bool stop;

static _Noreturn void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("soak: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort(); /* a core shows where everybody is */
}

/* rc must be 0, or, when the caller's limit may end, what says so. */
static void must(int rc, const char *what)
{
    if (rc < 0)
        die("%s: %s", what, fen_strerror(rc));
}

static bool ended(int rc) { return rc == -ECANCELED || rc == -ETIMEDOUT; }

static uint64_t dice(uint64_t *r, uint64_t sides)
{
    *r = *r * 6364136223846793005u + 1442695040888963407u;
    return (*r >> 33) % sides;
}

/* ---- spawn trees ---- */

static _Atomic int64_t tree_nodes;

static void tree_node(void *arg)
{
    uintptr_t depth = (uintptr_t)arg;
    atomic_fetch_add(&tree_nodes, 1);
    for (int i = 0; depth && i < 2; i++)
        must(fen_go(tree_node, (void *)(depth - 1)), "go");
    if (depth % 2)
        fen_yield();
}

static void round_tree(uint64_t *r)
{
    int64_t before = atomic_load(&tree_nodes);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        die("scope_open");
    must(fen_go(tree_node, (void *)(uintptr_t)(1 + dice(r, TREE))), "go");
    must(fen_scope_close(s), "close");
    if (atomic_load(&tree_nodes) == before)
        die("a tree without nodes");
}

/* ---- channels and select ---- */

struct mill {
    fen_chan *in, *out;
};

static void mill_worker(void *arg)
{
    struct mill *m = arg;
    int64_t v;
    while (fen_chan_recv(m->in, &v) == 0)
        must(fen_chan_send(m->out, &v), "send");
}

/* What goes through three workers comes back whole, in any order. */
static void round_channels(uint64_t *r)
{
    struct mill m = {fen_chan_new(sizeof(int64_t), dice(r, 4)),
                     fen_chan_new(sizeof(int64_t), dice(r, 4))};
    fen_scope *s = m.in && m.out ? fen_scope_open(FEN_NEVER) : NULL;
    if (!s)
        die("channels");
    for (int i = 0; i < 3; i++)
        must(fen_go(mill_worker, &m), "go");
    int64_t sent = 0, got = 0, sum = 0, v;
    while (got < 200) {
        fen_case c[] = {FEN_SEND(sent < 200 ? m.in : NULL, &sent), FEN_RECV(m.out, &v),
                        FEN_AFTER(4 * STALL_S * FEN_S)};
        int which = fen_select(c, 3, FEN_NEVER);
        must(which, "select");
        if (which == 2)
            die("select: %lld sent, %lld back, nothing moves", (long long)sent, (long long)got);
        sent += which == 0;
        got += which == 1;
        sum += which == 1 ? v : 0;
    }
    if (sum != 199 * 200 / 2)
        die("channels: sum %lld", (long long)sum);
    must(fen_chan_close(m.in), "close");
    must(fen_scope_close(s), "close");
    fen_chan_free(m.in);
    fen_chan_free(m.out);
}

/* ---- timers ---- */

static void count_up(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

static void round_timers(uint64_t *r)
{
    _Atomic int calls = 0;
    fen_timer *once = fen_timer_new(), *tick = fen_timer_new(),
              *f = fen_timer_new_func(count_up, &calls);
    if (!once || !tick || !f)
        die("timer_new");
    int64_t v;
    for (int i = 0; i < 10; i++) {
        must(fen_timer_start(once, fen_now() + (int64_t)dice(r, 2000) * FEN_US), "timer");
        must(fen_timer_start(f, fen_now() + (int64_t)dice(r, 1000) * FEN_US), "timer");
        must(fen_timer_every(tick, fen_now(), FEN_MS / 2), "timer");
        must(fen_chan_recv(fen_timer_chan(tick), &v), "tick");
        if (dice(r, 2))
            must(fen_chan_recv(fen_timer_chan(once), &v), "once");
        must(fen_timer_stop(once), "stop");
        must(fen_timer_stop(tick), "stop");
    }
    fen_timer_free(once);
    fen_timer_free(tick);
    fen_timer_free(f);
}

/* ---- cancellation and groups ---- */

static void sleeper(void *arg)
{
    (void)arg;
    while (!fen_sleep(FEN_MS))
        ;
}

static void round_cancel(uint64_t *r)
{
    bool by_deadline = dice(r, 2);
    fen_scope *s = fen_scope_open(by_deadline ? fen_now() + 2 * FEN_MS : FEN_NEVER);
    if (!s)
        die("scope_open");
    for (int i = 0; i < 20; i++) {
        int rc = fen_go(sleeper, NULL);
        if (rc && !ended(rc))
            must(rc, "go");
    }
    if (!by_deadline) {
        must(fen_sleep((int64_t)dice(r, 2000) * FEN_US), "sleep");
        fen_scope_cancel(s);
    }
    int rc = fen_scope_close(s);
    if (rc && !ended(rc))
        must(rc, "close");
}

static int group_work(void *arg)
{
    uintptr_t n = (uintptr_t)arg;
    int rc = fen_sleep((int64_t)n * 50 * FEN_US);
    return rc ? rc : n == 9 ? -EIO : 0;
}

static void round_group(uint64_t *r)
{
    bool fails = dice(r, 2);
    fen_group *g = fen_group_open(4, FEN_NEVER);
    if (!g)
        die("group_open");
    for (uintptr_t i = 0; i < (fails ? 20u : 9u); i++) {
        int rc = fen_group_go(g, group_work, (void *)i);
        if (rc && !ended(rc) && rc != -EIO)
            must(rc, "group_go");
    }
    int rc = fen_group_wait(g);
    if (rc != (fails ? -EIO : 0))
        die("group: %s", fen_strerror(rc));
}

/* ---- locks ---- */

static fen_mutex mutex;
static fen_rwlock rwlock;
static fen_sem sem;
static int64_t guarded, guarded_copy; /* mutex; rwlock: both move together */

static void round_locks(uint64_t *r)
{
    for (int i = 0; i < 50; i++) {
        int rc = fen_mutex_lock_until(&mutex, fen_now() + (int64_t)dice(r, 4000) * FEN_US);
        if (rc == 0) {
            guarded++;
            if (dice(r, 8) == 0)
                fen_yield();
            fen_mutex_unlock(&mutex);
        } else if (!ended(rc)) {
            must(rc, "mutex");
        }
        must(fen_sem_acquire(&sem), "sem");
        fen_yield();
        fen_sem_release(&sem);
        if (fen_rwlock_try_read_lock(&rwlock))
            must(fen_rwlock_read_lock(&rwlock), "rwlock");
        fen_rwlock_read_unlock(&rwlock);
    }
    must(fen_rwlock_write_lock(&rwlock), "rwlock");
    guarded_copy++;
    fen_rwlock_write_unlock(&rwlock);
}

/* ---- sockets ---- */

static fen_sock *listener;
static char addr[32];

static void echo_main(void *arg)
{
    char buf[4096];
    ssize_t n;
    while ((n = fen_sock_read(arg, buf, sizeof buf, FEN_NEVER)) > 0)
        if (fen_sock_write(arg, buf, (size_t)n, FEN_NEVER) < 0)
            break; /* the client was cut off */
    fen_sock_close(arg);
}

static void accept_main(void *arg)
{
    fen_sock *s;
    (void)arg;
    while (fen_tcp_accept(listener, FEN_NEVER, &s) == 0)
        must(fen_go(echo_main, s), "go");
}

static void round_sockets(uint64_t *r)
{
    fen_sock *s;
    char out[3000], in[3000];
    must(fen_tcp_dial(addr, FEN_NEVER, &s), "dial");
    memset(out, (int)dice(r, 256), sizeof out);
    for (int i = 0; i < 10; i++) {
        size_t n = 1 + dice(r, sizeof out);
        must((int)fen_sock_write(s, out, n, FEN_NEVER), "write");
        for (size_t at = 0; at < n;) {
            ssize_t got = fen_sock_read(s, in + at, n - at, FEN_NEVER);
            must((int)got, "read");
            if (got == 0)
                die("the echo ended early");
            at += (size_t)got;
        }
        if (memcmp(in, out, n) != 0)
            die("the echo is another");
        if (dice(r, 4) == 0 && fen_sock_read(s, in, 1, fen_now() + FEN_US * 100) != -ETIMEDOUT)
            die("a byte that nobody sent");
    }
    fen_sock_close(s);
}

/* ---- what holds a thread up ---- */

static void spin(int64_t ns)
{
    for (int64_t end = fen_now() + ns; fen_now() < end;)
        ;
}

static int nap_outside(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)(uintptr_t)arg}, NULL);
    return 7;
}

static void round_blocking(uint64_t *r)
{
    long ns = (long)(1 + dice(r, 3 * FEN_MS));
    fen_blocking_begin();
    nap_outside((void *)(uintptr_t)ns);
    fen_blocking_end();
    if (fen_blocking(nap_outside, (void *)(uintptr_t)ns) != 7)
        die("fen_blocking");
}

static void round_hog(uint64_t *r)
{
    spin((int64_t)dice(r, 25 * FEN_MS));
    must(fen_sleep((int64_t)dice(r, 60 * FEN_MS)), "sleep");
}

static void round_procs(uint64_t *r)
{
    must(fen_procs_set(1 + (int)dice(r, 4)), "procs_set");
    must(fen_sleep((int64_t)dice(r, 40 * FEN_MS)), "sleep");
}

/* ---- threads outside ---- */

static fen_spawner *spawner;
static fen_chan *outside_chan;
static _Atomic int64_t outside_rounds[OUTSIDE];
static _Atomic int outside_live;

static void answer(void *arg)
{
    int64_t v = (int64_t)(uintptr_t)arg;
    must(fen_chan_send(outside_chan, &v), "send");
}

static void *outside_main(void *arg)
{
    _Atomic int64_t *rounds = arg;
    for (int64_t v; !atomic_load(&stop); atomic_fetch_add(rounds, 1)) {
        must(fen_spawner_go(spawner, "answer", answer, (void *)(uintptr_t)5), "spawner");
        must(fen_chan_recv(outside_chan, &v), "recv in a thread");
        must(fen_mutex_lock(&mutex), "mutex in a thread");
        guarded++;
        fen_mutex_unlock(&mutex);
        if (v != 5)
            die("a thread received %lld", (long long)v);
    }
    atomic_fetch_sub(&outside_live, 1);
    return NULL;
}

/* ---- the loads ---- */

static struct load {
    const char *name;
    void (*round)(uint64_t *r);
    int copies;
    _Atomic int64_t rounds;
} loads[] = {
    {"trees", round_tree, COPIES, 0},
    {"channels", round_channels, COPIES, 0},
    {"timers", round_timers, COPIES, 0},
    {"cancels", round_cancel, COPIES, 0},
    {"groups", round_group, COPIES, 0},
    {"locks", round_locks, 2 * COPIES, 0},
    {"sockets", round_sockets, 2 * COPIES, 0},
    {"blocking", round_blocking, COPIES, 0},
    {"hogs", round_hog, 1, 0},
    {"procs", round_procs, 1, 0},
};
enum { LOADS = sizeof loads / sizeof loads[0] };

static void load_main(void *arg)
{
    struct load *l = arg;
    uint64_t r = (uint64_t)fen_now() ^ (uintptr_t)&r;
    while (!atomic_load(&stop)) {
        l->round(&r);
        atomic_fetch_add(&l->rounds, 1);
    }
}

static int soak_main(void *arg)
{
    (void)arg;
    pthread_t t[OUTSIDE];
    fen_sem_init(&sem, 3);
    outside_chan = fen_chan_new(sizeof(int64_t), 1);
    must(fen_tcp_listen("127.0.0.1:0", 0, &listener), "listen");
    snprintf(addr, sizeof addr, "127.0.0.1:%d", fen_sock_port(listener));
    must(fen_go(accept_main, NULL), "go");
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s || !outside_chan)
        die("start");
    must(fen_spawner_open(&spawner), "spawner");
    atomic_store(&outside_live, OUTSIDE);
    for (int i = 0; i < OUTSIDE; i++)
        if (pthread_create(&t[i], NULL, outside_main, &outside_rounds[i]))
            die("pthread_create");
    for (int i = 0; i < LOADS; i++)
        for (int k = 0; k < loads[i].copies; k++)
            must(fen_go_named(loads[i].name, 0, load_main, &loads[i]), "go");
    while (atomic_load(&outside_live))
        must(fen_sleep(50 * FEN_MS), "sleep");
    fen_spawner_close(spawner);
    must(fen_scope_close(s), "close");
    for (int i = 0; i < OUTSIDE; i++)
        pthread_join(t[i], NULL);
    fen_sock_close(listener);
    fen_chan_free(outside_chan);
    return 0;
}

/* ---- the watch ---- */

static int64_t rss_bytes(void)
{
    long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &all, &resident) != 2)
        die("/proc/self/statm");
    fclose(f);
    return (int64_t)resident * sysconf(_SC_PAGESIZE);
}

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void check_moves(int64_t now)
{
    static int64_t seen[LOADS + OUTSIDE], since[LOADS + OUTSIDE];
    for (int i = 0; i < LOADS + OUTSIDE; i++) {
        int64_t n = atomic_load(i < LOADS ? &loads[i].rounds : &outside_rounds[i - LOADS]);
        if (n != seen[i] || !since[i]) {
            seen[i] = n;
            since[i] = now;
        }
        if (now - since[i] > STALL_S)
            die("%s: nothing moves for %d s", i < LOADS ? loads[i].name : "a thread", STALL_S);
    }
}

static int64_t seconds = 600, warm_rss, most_rss;

static void check_bounds(int64_t at_s, bool line)
{
    fen_stats s;
    fen_stats_get(&s);
    int fds = open_fds();
    int64_t rss = rss_bytes();
    if (at_s >= (seconds < 4 * WARM_S ? seconds / 4 : WARM_S) && !warm_rss)
        warm_rss = rss;
    most_rss = rss > most_rss ? rss : most_rss;
    if (line) {
        printf(
            "%4lld s  fibers %lld timers %lld fds %lld open %d threads %lld heap %lld KB rss %lld "
            "MB |",
            (long long)at_s, (long long)s.fibers_live, (long long)s.timers_live,
            (long long)s.fds_live, fds, (long long)s.threads, (long long)(s.heap_live_bytes >> 10),
            (long long)(rss >> 20));
        for (int i = 0; i < LOADS; i++)
            printf(" %s %lld", loads[i].name, (long long)atomic_load(&loads[i].rounds));
        printf(" outside %lld\n", (long long)atomic_load(&outside_rounds[0]));
        fflush(stdout);
    }
    if (s.fibers_live > FIBERS_MAX || s.timers_live > TIMERS_MAX || fds > FDS_MAX ||
        s.heap_live_bytes > (int64_t)HEAP_MAX_MB << 20)
        die("too much lives: fibers %lld timers %lld descriptors %d heap bytes %lld",
            (long long)s.fibers_live, (long long)s.timers_live, fds, (long long)s.heap_live_bytes);
    if (warm_rss && rss - warm_rss > (int64_t)RSS_SLACK_MB << 20)
        die("resident memory grows: %lld MB, %lld MB when warm", (long long)(rss >> 20),
            (long long)(warm_rss >> 20));
}

static void *watch_main(void *arg)
{
    (void)arg;
    for (int64_t looks = 1; looks <= 2 * seconds; looks++) {
        nanosleep(&(struct timespec){.tv_nsec = 500 * FEN_MS}, NULL);
        check_moves(looks / 2);
        check_bounds(looks / 2, looks % (2 * LINE_S) == 0);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 4 * STALL_S; i++) { /* the main thread ends the process before */
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    die("it does not end");
}

int main(int argc, char **argv)
{
    char *end = NULL;
    if (argc > 1)
        seconds = strtoll(argv[1], &end, 10);
    pthread_t watch;
    if (argc > 2 || seconds < 1 || (end && *end)) {
        fprintf(stderr, "usage: fen_soak [SECONDS]\n");
        return 2;
    }
    int fds = open_fds();
    if (pthread_create(&watch, NULL, watch_main, NULL))
        die("pthread_create");
    pthread_detach(watch);
    must(fen_run(soak_main, NULL, &(fen_config){.procs = 2, .report_leaks = true}), "run");
    fen_stats s;
    fen_stats_get(&s);
    if (s.fibers_live || s.timers_live || s.fds_live || open_fds() > fds + 2)
        die("left: fibers %lld timers %lld fds %lld, open %d of %d", (long long)s.fibers_live,
            (long long)s.timers_live, (long long)s.fds_live, open_fds(), fds);
    printf("soak: ok, %lld s, %lld mutex rounds; resident %lld MB when warm, %lld MB at most, "
           "bound %lld MB\n",
           (long long)seconds, (long long)guarded, (long long)(warm_rss >> 20),
           (long long)(most_rss >> 20), (long long)(warm_rss >> 20) + RSS_SLACK_MB);
    return 0;
}
