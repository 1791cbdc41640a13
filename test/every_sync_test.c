/* every_sync_test.c - every n-th failing call in each public function of the runtime, scopes and
 * what fibers wait for: EVERY_SYNC of every.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"

#include "every_rig.h"

#include <fen/chan.h>
#include <fen/context.h>
#include <fen/debug.h>
#include <fen/defer.h>
#include <fen/group.h>
#include <fen/io.h>
#include <fen/local.h>
#include <fen/pool.h>
#include <fen/spawner.h>
#include <fen/sync.h>
#include <fen/timer.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void late(void);
static int64_t soon(void) { return fen_now() + 200 * FEN_US; }
static int64_t far(void) { return fen_now() + 3600 * FEN_S; }
static void nothing(void *arg) { (void)arg; }
static int zero(void *arg)
{
    (void)arg;
    return 0;
}

/* A partner that comes when the caller waits. */
static void partner(void (*fn)(void *), void *arg) { MUST(fen_go(fn, arg) == 0); }
static void late(void) { MUST(fen_sleep(FEN_MS) == 0); }

/* ---- channels ---- */

static char big[300];

static void takes(void *c)
{
    char got[sizeof big];
    late();
    MUST(fen_chan_recv(c, got) == 0);
}

static void gives(void *c)
{
    late();
    MUST(fen_chan_send(c, big) == 0);
}

static int channels(void *arg)
{
    (void)arg;
    fen_chan *c = GET(fen_chan_new, (sizeof big, 0)), *b = fen_chan_new(sizeof big, 1);
    MUST(b != NULL);
    char got[sizeof big];
    MUST(SEE(fen_chan_cap, (b)) == 1 && SEE(fen_chan_len, (b)) == 0);
    partner(takes, c);
    TRY(0, fen_chan_send, (c, big));
    partner(gives, c);
    TRY(0, fen_chan_recv, (c, got));
    MUST(SEE(fen_chan_try_send, (b, big)) == 0 && SEE(fen_chan_try_recv, (b, got)) == 0);
    fen_case cases[] = {FEN_RECV(c, got), FEN_SEND(c, big), FEN_RECV(b, got)};
    TRY(-ETIMEDOUT, fen_select, (cases, 3, soon()));
    partner(gives, b);
    TRY(2, fen_select, (cases, 3, FEN_NEVER));
    MUST(SEE(fen_chan_close, (c)) == 0 && fen_chan_close(b) == 0);
    DO(fen_chan_free, (c));
    fen_chan_free(b);
    return 0;
}

/* ---- locks ---- */

static fen_mutex mutex;
static fen_rwlock rwlock;
static fen_cond cond;
static fen_sem sem;
static fen_wg wg;
static fen_once once;
static fen_barrier barrier;

/* Somebody has the lock, lets the caller wait for it, and goes. */
static void holds_mutex(void *arg)
{
    MUST(fen_mutex_lock(&mutex) == 0);
    atomic_store((_Atomic bool *)arg, true);
    late();
    fen_mutex_unlock(&mutex);
}

static void held_by(void (*fn)(void *))
{
    _Atomic bool there = false;
    partner(fn, &there);
    while (!atomic_load(&there))
        MUST(fen_sleep(20 * FEN_US) == 0);
}

static void signals(void *arg)
{
    (void)arg;
    late();
    MUST(fen_mutex_lock(&mutex) == 0);
    fen_cond_signal(&cond);
    fen_mutex_unlock(&mutex);
}

static int mutexes(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER); /* partners have ended before the locks do */
    late();
    held_by(holds_mutex);
    TRY(0, fen_mutex_lock, (&mutex));
    DO(fen_mutex_unlock, (&mutex));
    MUST(SEE(fen_mutex_try_lock, (&mutex)) == 0);
    partner(signals, NULL);
    TRY(0, fen_cond_wait, (&cond, &mutex));
    DO(fen_cond_signal, (&cond));
    DO(fen_cond_broadcast, (&cond));
    fen_mutex_unlock(&mutex);
    MUST(fen_scope_close(s) == 0);
    DO(fen_cond_fini, (&cond));
    DO(fen_mutex_fini, (&mutex));
    return 0;
}

static void writes(void *arg)
{
    MUST(fen_rwlock_write_lock(&rwlock) == 0);
    atomic_store((_Atomic bool *)arg, true);
    late();
    fen_rwlock_write_unlock(&rwlock);
}

static int rwlocks(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    late();
    held_by(writes);
    TRY(0, fen_rwlock_read_lock, (&rwlock));
    DO(fen_rwlock_read_unlock, (&rwlock));
    held_by(writes);
    TRY(0, fen_rwlock_write_lock, (&rwlock));
    DO(fen_rwlock_write_unlock, (&rwlock));
    MUST(SEE(fen_rwlock_try_read_lock, (&rwlock)) == 0);
    MUST(SEE(fen_rwlock_try_write_lock, (&rwlock)) == -EAGAIN);
    fen_rwlock_read_unlock(&rwlock);
    MUST(fen_scope_close(s) == 0);
    DO(fen_rwlock_fini, (&rwlock));
    return 0;
}

static void releases(void *arg)
{
    (void)arg;
    late();
    fen_sem_release(&sem);
}

static void done(void *arg)
{
    (void)arg;
    late();
    fen_wg_done(&wg);
}

static int counters(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    late(); /* the first deadline of a run needs memory, and it is not to be a partner's */
    DO(fen_sem_init, (&sem, 1));
    MUST(SEE(fen_sem_try_acquire, (&sem)) == 0);
    partner(releases, NULL);
    TRY(0, fen_sem_acquire, (&sem));
    DO(fen_sem_release, (&sem));
    DO(fen_wg_add, (&wg, 2));
    MUST(SEE(fen_wg_try_wait, (&wg)) == -EAGAIN);
    DO(fen_wg_done, (&wg));
    partner(done, NULL);
    TRY(0, fen_wg_wait, (&wg));
    MUST(fen_scope_close(s) == 0);
    DO(fen_sem_fini, (&sem));
    DO(fen_wg_fini, (&wg));
    return 0;
}

static int slow_once(void *arg)
{
    atomic_store((_Atomic bool *)arg, true);
    late();
    late();
    return -EAGAIN; /* the waiter tries again */
}

static void runs_once(void *arg) { MUST(fen_once_do(&once, slow_once, arg) == -EAGAIN); }

static void arrives(void *arg)
{
    (void)arg;
    late();
    MUST(fen_barrier_wait(&barrier) >= 0);
}

static int meetings(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    late();
    held_by(runs_once);
    MUST(SEE(fen_once_try_do, (&once, zero, NULL)) == -EAGAIN);
    TRY(0, fen_once_do, (&once, zero, NULL));
    DO(fen_barrier_init, (&barrier, 2));
    MUST(SEE(fen_barrier_try_wait, (&barrier)) == -EAGAIN);
    partner(arrives, NULL);
    MUST(SEE(fen_barrier_wait, (&barrier)) >= 0);
    MUST(fen_scope_close(s) == 0);
    DO(fen_barrier_fini, (&barrier));
    DO(fen_once_fini, (&once));
    once = (fen_once){0};
    return 0;
}

/* ---- timers ---- */

static int timers(void *arg)
{
    (void)arg;
    fen_timer *t = GET(fen_timer_new, ()), *f = GET(fen_timer_new_func, (nothing, NULL));
    MUST(SEE(fen_timer_chan, (t)) != NULL && fen_timer_start(f, far()) == 0);
    MUST(SEE(fen_timer_stop, (f)) == 1);
    DO(fen_timer_free, (t));
    fen_timer_free(f);
    return 0;
}

/* ---- fibers ---- */

static int tenth(void *arg)
{
    MUST(fen_sleep(FEN_US) == 0);
    *(int *)arg += 1;
    return 0;
}

static int spawning(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    TRY(0, fen_go_named, ("named", 256 << 10, nothing, NULL));
    TRY(0, fen_go_detached, ("stray", nothing, NULL));
    MUST(fen_scope_close(s) == 0);
    DO(fen_yield, ());
    TRY(0, fen_sleep, (20 * FEN_US));
    MUST(SEE(fen_in_fiber, ()) && SEE(fen_fiber_id, ()) > 0);
    TRY(0, fen_fiber_rename, ("another name than before"));
    MUST(!strcmp(SEE(fen_fiber_name, ()), "another name than before"));
    DO(fen_blocking_begin, ());
    DO(fen_blocking_end, ());
    fen_spawner *sp;
    s = fen_scope_open(FEN_NEVER);
    TRY(0, fen_spawner_open, (&sp));
    DO(fen_spawner_close, (sp));
    MUST(fen_scope_close(s) == 0);
    return 0;
}

static int comes_late(void *arg)
{
    (void)arg;
    late();
    return 0;
}

static int groups(void *arg)
{
    (void)arg;
    int ran = 0;
    fen_group *g = GET(fen_group_open, (1, FEN_NEVER)); /* one at a time: the others wait */
    MUST(SEE(fen_group_scope, (g)) == fen_scope_current());
    TRY(0, fen_group_try_go, (g, tenth, &ran));
    TRY(0, fen_group_go, (g, tenth, &ran));
    TRY(0, fen_group_go_until, (g, tenth, &ran, far()));
    MUST(SEE(fen_group_wait, (g)) == 0);
    MUST(ran == 3);
    g = fen_group_open(0, FEN_NEVER);
    MUST(g && fen_group_go(g, comes_late, NULL) == 0);
    MUST(SEE(fen_group_try_wait, (g, NULL)) == -EAGAIN);
    MUST(fen_group_wait(g) == 0);
    return 0;
}

/* ---- scopes ---- */

static void hook_fn(fen_cancel_hook *h, int rc) { *(int *)h->arg = rc; }

static void comes_late_too(void *arg)
{
    (void)arg;
    late();
}

static int scopes(void *arg)
{
    (void)arg;
    int told = 0;
    bool before = every.met;
    fen_cancel_hook h = {.fn = hook_fn, .arg = &told};
    fen_scope *s = fen_scope_open(far());
    MUST(SEE(fen_scope_current, ()) == s && SEE(fen_scope_check, (s)) == 0);
    before = every.met;
    int rc = SEE(fen_cancel_hook_add, (s, &h)); /* it is there even if it has no timer */
    MUST(rc == (every.met && !before ? -ENOMEM : 0));
    MUST(SEE(fen_scope_deadline, (s)) < FEN_NEVER);
    DO(fen_scope_set_deadline, (s, fen_now() + FEN_S));
    TRY(0, fen_scope_hibernate, (s, FEN_S));
    DO(fen_scope_cancel_with, (s, -EIO));
    DO(fen_scope_cancel, (s));
    MUST(told == -ECANCELED && SEE(fen_scope_cause, (s)) == -EIO);
    DO(fen_cancel_hook_del, (&h));
    MUST(SEE(fen_scope_close, (s)) == -ECANCELED);
    s = fen_scope_open(FEN_NEVER);
    partner(comes_late_too, NULL);
    MUST(SEE(fen_scope_try_close, (s, NULL)) == -EAGAIN);
    MUST(fen_scope_close(s) == 0);
    return 0;
}

static void counts(void *arg) { ++**(int **)arg; }
static void counts_item(void *item) { ++*(int *)item; }
static int counts_one(void *arg)
{
    ++*(int *)arg;
    return 0;
}

static int deferring(void *arg)
{
    (void)arg;
    int n = 0, *p = &n, rc = -1;
    void *items[] = {&n, &n};
    fen_defer_record r = {0}, r2 = {0};
    fen_defer_group group;
    fen_defer_batch batch = {0};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    DO(fen_scope_set_cleanup, (s, FEN_S));
    DO(fen_defer, (s, &r, counts_item, &n));
    DO(fen_defer_check, (s));
    fen_defer(s, &r2, counts_item, &n);
    MUST(SEE(fen_undefer, (s, &r2)));
    TRY(0, fen_defer_dyn, (s, counts, &p, sizeof p));
    MUST(SEE(fen_defer_blocks, ()) >= 1);
    DO(fen_defer_group_init, (&group, s, &rc));
    for (int i = 0; i < FEN_DEFER_GROUP_INLINE + 1; i++)
        TRY(0, fen_defer_group_add, (&group, counts_one, &n));
    MUST(SEE(fen_defer_group_run, (&group)) == 0);
    fen_defer_group other;
    fen_defer_group_init(&other, s, NULL);
    TRY(0, fen_defer_group_grow, (&other));
    DO(fen_defer_group_shrink, (&other));
    DO(fen_defer_group_end, (&other));
    DO(fen_defer_many, (s, &batch, counts_item, items, 2));
    MUST(fen_scope_close(s) == 0);
    MUST(n == 1 + 1 + FEN_DEFER_GROUP_INLINE + 1 + 2);
    return 0;
}

/* ---- values, labels, pools ---- */

static int values(void *arg)
{
    (void)arg;
    fen_local_key key;
    fen_slice k, v;
    TRY(0, fen_local_key_new, (NULL, &key));
    TRY(0, fen_local_set, (key, &key));
    MUST(SEE(fen_local_get, (key)) == &key);
    DO(fen_local_key_free, (key));
    MUST(fen_label_set("step", FEN_SLICE("one")) == 0);
    MUST(SEE(fen_label_get, ("step", &v)) == 0 && v.n == 3);
    MUST(SEE(fen_label_at, (0, &k, &v)) == 0 && k.n == 4);
    return 0;
}

static int makes(void *arg, void **ret)
{
    *ret = arg;
    return 0;
}
static void destroys(void *arg, void *resource) { MUST(arg == resource); }
static void sees(void *arg, const fen_pool_holder *h) { *(int *)arg += h->fiber > 0; }

static void borrows(void *arg)
{
    fen_lease l;
    fen_scope *s = fen_scope_open(FEN_NEVER); /* a lease is a record of one's own scope */
    MUST(s && fen_pool_get(arg, &l) == 0);
    late();
    fen_pool_put(&l, 0);
    MUST(fen_scope_close(s) == 0);
}

static int pools(void *arg)
{
    (void)arg;
    int token = 0, n = 0;
    fen_lease l;
    fen_pool_stats st;
    fen_pool_config cfg = {.max = 1, .make = makes, .destroy = destroys, .arg = &token};
    fen_pool *p = GET(fen_pool_new, (&cfg));
    TRY(0, fen_pool_try_get, (p, &l));
    DO(fen_pool_each_holder, (p, sees, &n));
    MUST(n == 1);
    DO(fen_pool_put, (&l, 0));
    fen_scope *s = fen_scope_open(FEN_NEVER);
    partner(borrows, p);
    MUST(fen_sleep(50 * FEN_US) == 0);
    TRY(0, fen_pool_get, (p, &l));
    fen_pool_put(&l, 0);
    MUST(fen_scope_close(s) == 0);
    DO(fen_pool_stats_get, (p, &st));
    MUST(st.free == 1 && st.lent == 0);
    TRY(0, fen_pool_close, (p));
    DO(fen_pool_free, (p));
    return 0;
}

/* ---- what takes memory only once in a run ----
 * The first deadline makes room for many, the first fiber for its neighbours: each of these has a
 * run of its own, in which it comes first. */

/* It may return 0 for no reason: again then. */
static void cond_until_deadline(void)
{
    int64_t rc;
    do
        rc = SEE(fen_cond_wait_until, (&cond, &mutex, soon()));
    while (rc == 0 || every_failed(rc, -ETIMEDOUT));
}

static int first_deadlines(void *arg)
{
    fen_chan *c = fen_chan_new(sizeof big, 0);
    char got[sizeof big];
    fen_lease l;
    fen_pool_config cfg = {.max = 1, .make = makes, .destroy = destroys, .arg = &cfg};
    fen_pool *p = fen_pool_new(&cfg);
    MUST(c && p && fen_mutex_try_lock(&mutex) == 0);
    switch (*(int *)arg) {
    case 0: TRY(-ETIMEDOUT, fen_mutex_lock_until, (&mutex, soon())); break;
    case 1: cond_until_deadline(); break;
    case 2: TRY(-ETIMEDOUT, fen_chan_send_until, (c, big, soon())); break;
    case 3: TRY(-ETIMEDOUT, fen_chan_recv_until, (c, got, soon())); break;
    case 4:
        MUST(fen_pool_try_get(p, &l) == 0);
        TRY(-ETIMEDOUT, fen_pool_get_until, (p, soon(), &(fen_lease){0}));
        fen_pool_put(&l, 0);
        break;
    default: TRY(0, fen_sleep_until, (soon()));
    }
    fen_mutex_unlock(&mutex);
    fen_chan_free(c);
    fen_pool_free(p);
    return 0;
}

static void awaits(void *w) { MUST(fen_wg_wait(w) == 0); }
static int awaits_too(void *w) { return fen_wg_wait(w); }

static void first_close(fen_wg *w)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    MUST(s && fen_go(awaits, w) == 0);
    TRY(-ETIMEDOUT, fen_scope_close_until, (s, soon(), NULL));
    fen_wg_done(w);
    MUST(fen_scope_close(s) == 0);
    fen_wg_add(w, 1);
}

static void first_group(fen_wg *w)
{
    fen_group *g = fen_group_open(0, FEN_NEVER);
    MUST(g && fen_group_go(g, awaits_too, w) == 0);
    TRY(-ETIMEDOUT, fen_group_wait_until, (g, soon(), NULL));
    fen_wg_done(w);
    MUST(fen_group_wait(g) == 0);
    fen_wg_add(w, 1);
}

static int first_waits(void *arg)
{
    fen_rwlock l = {0};
    fen_sem s = {0};
    static fen_wg w; /* on no stack: others wait on it */
    fen_barrier b;
    fen_barrier_init(&b, 2);
    fen_wg_add(&w, 1);
    MUST(fen_rwlock_try_write_lock(&l) == 0);
    switch (*(int *)arg) {
    case 0: TRY(-ETIMEDOUT, fen_rwlock_read_lock_until, (&l, soon())); break;
    case 1: TRY(-ETIMEDOUT, fen_rwlock_write_lock_until, (&l, soon())); break;
    case 2: TRY(-ETIMEDOUT, fen_sem_acquire_until, (&s, soon())); break;
    case 3: TRY(-ETIMEDOUT, fen_wg_wait_until, (&w, soon())); break;
    case 4: TRY(-ETIMEDOUT, fen_barrier_wait_until, (&b, soon())); break;
    case 5: first_close(&w); break;
    default: first_group(&w);
    }
    fen_wg_done(&w);
    fen_rwlock_write_unlock(&l);
    fen_barrier_fini(&b);
    return 0;
}

static _Atomic bool once_runs;
static int until_told(void *go)
{
    once_runs = true;
    while (!*(_Atomic bool *)go)
        fen_yield();
    return 0;
}

static void inside_once(void *go) { MUST(fen_once_do(&once, until_told, go) == 0); }

static int seven(void *arg)
{
    *(int *)arg += 1;
    return 7;
}

static void labelled(void *gate)
{
    TRY(0, fen_label_set, ("step", FEN_SLICE("one")));
    (void)fen_wg_wait(gate);
}

/* The records of labels are the process's and never go back: each go needs more of them. */
static void labels(void)
{
    static int crowd = 0;
    fen_wg gate = {0};
    crowd += 70;
    fen_wg_add(&gate, 1);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < crowd; i++)
        partner(labelled, &gate);
    for (int i = 0; i < crowd; i++)
        fen_yield();
    fen_wg_done(&gate);
    MUST(fen_scope_close(s) == 0);
}

static int first_of_others(void *arg)
{
    int ran = 0;
    static _Atomic bool go; /* the partner looks at it when this fiber has ended */
    go = false;
    fen_timer *t = fen_timer_new();
    MUST(t != NULL);
    switch (*(int *)arg) {
    case 0:
        once = (fen_once){0};
        once_runs = false;
        partner(inside_once, &go);
        while (!once_runs)
            fen_yield();
        TRY(-ETIMEDOUT, fen_once_do_until, (&once, zero, NULL, soon()));
        go = true;
        break;
    case 1: TRY(0, fen_timer_start, (t, far())); break;
    case 2: TRY(0, fen_timer_every, (t, far(), FEN_S)); break;
    case 3: labels(); break;
    case 4: TRY(7, fen_blocking_until, (seven, &ran, far())); break;
    default: TRY(7, fen_try_blocking, (seven, &ran));
    }
    MUST(ran == (*(int *)arg >= 4)); /* what was refused has not run */
    (void)fen_timer_stop(t);
    fen_timer_free(t);
    return 0;
}

#define CROWD 1100 /* more than one piece of the slabs of fibers and of scopes */

static void waits(void *arg) { (void)fen_wg_wait(arg); }

static int crowds(void *arg)
{
    static fen_scope *open[CROWD];
    fen_wg gate = {0};
    fen_spawner *sp;
    bool spawns = *(int *)arg;
    if (*(int *)arg == 2) {
        for (int i = 0; i < CROWD; i++)
            open[i] = GET(fen_scope_open, (FEN_NEVER));
        for (int i = CROWD; i--;)
            MUST(fen_scope_close(open[i]) == 0);
        return 0;
    }
    fen_wg_add(&gate, 1);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    MUST(s && fen_spawner_open(&sp) == 0);
    for (int i = 0; i < CROWD; i++)
        if (spawns)
            TRY(0, fen_spawner_go, (sp, "spawned", waits, &gate));
        else
            TRY(0, fen_go, (waits, &gate));
    fen_spawner_close(sp);
    fen_wg_done(&gate);
    MUST(fen_scope_close(s) == 0);
    return 0;
}

static int each_in_a_run(int (*fn)(void *arg), int n)
{
    for (int k = 0; k < n; k++)
        MUST(fen_run(fn, &k, &(fen_config){.procs = 1, .max_blocking = 2}) == 0);
    return 0;
}

static int deadlines(void *arg) { return arg ? -EINVAL : each_in_a_run(first_deadlines, 6); }
static int waiting(void *arg) { return arg ? -EINVAL : each_in_a_run(first_waits, 7); }
static int others(void *arg) { return arg ? -EINVAL : each_in_a_run(first_of_others, 6); }
static int crowded(void *arg) { return arg ? -EINVAL : each_in_a_run(crowds, 3); }

/* ---- the runtime ---- */

static void put_nothing(void *arg, const char *text, size_t n)
{
    (void)text;
    *(size_t *)arg += n;
}

static int running(void *arg)
{
    (void)arg;
    fen_stats st;
    size_t bytes = 0;
    TRY(0, fen_debug_fibers, (put_nothing, &bytes));
    MUST(bytes > 0);
    DO(fen_outsider_begin, ());
    DO(fen_outsider_end, ());
    DO(fen_meter_switch, (false));
    DO(fen_meter_switch, (true));
    DO(fen_stats_get, (&st));
    TRY(0, fen_procs_set, (4));
    MUST(SEE(fen_procs, ()) == 4);
    MUST(fen_procs_set(2) == 0);
    return 0;
}

static int starting(void *arg)
{
    (void)arg;
    TRY(0, fen_run, (zero, NULL, &(fen_config){.procs = 2}));
    return 0;
}

/* In a child: what it makes of it is the parent's to see. */
static int quits_at_a_call(const char *call)
{
    (void)call;
    if (atomic_load(&every.on))
        _exit(9);
    return 0;
}

static int aborts(void *arg)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_defer_record r;
    fen_defer(s, &r, counts_item, arg);
    fen__sys_fault = quits_at_a_call;
    atomic_store(&every.on, true);
    fen_abort("it is meant to be", __FILE__, __LINE__);
}

static int ending(void *arg)
{
    int status, n = 0;
    (void)arg;
    every_begin("fen_abort"); /* its calls are the child's */
    every_end();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        alarm(20);
        if (freopen("/dev/null", "w", stderr))
            (void)fen_run(aborts, &n, &(fen_config){.procs = 1});
        _exit(1);
    }
    MUST(waitpid(pid, &status, 0) == pid);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    return 0;
}

static fen_context *context;

static void inside(void *arg)
{
    (void)arg;
    DO(fen_context_suspend, (context));
    fen_context_suspend(context);
}

static int contexts(void *arg)
{
    (void)arg;
    TRY(0, fen_context_new, (0, inside, NULL, &context));
    MUST(fen_context_resume(context)); /* to the first suspend, and back from it */
    MUST(fen_context_resume(context));
    MUST(!SEE(fen_context_resume, (context)));
    DO(fen_context_free, (context));
    return 0;
}

static void test_sync(void **state)
{
    static struct every_row rows[] = {EVERY_SYNC(EVERY_ROW)};
    static const struct every_scenario scenarios[] = {
        {"channels", channels, INSIDE},    {"mutexes", mutexes, INSIDE},
        {"rwlocks", rwlocks, INSIDE},      {"counters", counters, INSIDE},
        {"meetings", meetings, INSIDE},    {"timers", timers, INSIDE},
        {"spawning", spawning, INSIDE},    {"groups", groups, INSIDE},
        {"scopes", scopes, INSIDE},        {"deferring", deferring, INSIDE},
        {"values", values, INSIDE},        {"pools", pools, INSIDE},
        {"deadlines", deadlines, OUTSIDE}, {"waiting", waiting, OUTSIDE},
        {"others", others, OUTSIDE},       {"crowded", crowded, OUTSIDE},
        {"running", running, INSIDE},      {"starting", starting, OUTSIDE},
        {"ending", ending, OUTSIDE},       {"contexts", contexts, OUTSIDE},
    };
    (void)state;
#ifdef FEN__TSAN
    skip(); /* crowds of fibers, again and again, take minutes there */
#endif
    every_test(rows, sizeof rows / sizeof rows[0], scenarios,
               sizeof scenarios / sizeof scenarios[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sync)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
