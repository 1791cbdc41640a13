/* sim_test.c - simulated runs: the same seed is the same run, other seeds are other runs, time does
 * not pass by itself, and seeds find what a real run hides: two planted bugs, and none elsewhere.
 *
 * Each scenario runs over SEEDS seeds; a seed at which it fails is printed, and FEN_SIM_SEED=N in
 * the environment makes this program run with that one alone. FEN_SIM_SEEDS=N and
 * FEN_SIM_FROM=N: over so many seeds, from that one on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fen/fen.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SEEDS 40
#else
#define SEEDS 150
#endif

static uint64_t seed_now; /* for on_abort */
static uint64_t only;     /* FEN_SIM_SEED */
static uint64_t from = 1, seeds = SEEDS;
static char report[65536];
static size_t reported;

static void on_abort(int sig)
{
    char text[64];
    int n =
        snprintf(text, sizeof text, "sim_test: FEN_SIM_SEED=%llu\n", (unsigned long long)seed_now);
    ssize_t put = write(2, text, (size_t)n);
    (void)put;
    signal(sig, SIG_DFL);
    raise(sig);
}

static void keep(void *arg, const char *text, size_t n)
{
    (void)arg;
    if (n > sizeof report - 1 - reported)
        n = sizeof report - 1 - reported;
    memcpy(report + reported, text, n);
    reported += n;
    report[reported] = 0;
}

/* A run's value; *ret_hash: what it did. */
static int run(int (*fn)(void *arg), void *arg, uint64_t seed, uint32_t faults, uint64_t *ret_hash)
{
    fen_config cfg = {
        .sim_seed = seed, .sim_faults = faults, .on_deadlock = FEN_DEADLOCK_CANCEL, .report = keep};
    seed_now = seed;
    reported = 0;
    report[0] = 0;
    int rc = fen_run(fn, arg, &cfg);
    *ret_hash = fen_sim_hash();
    return rc;
}

/* ---- scenarios that must hold under every seed; 0, or the line that failed ---- */

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            return __LINE__;                                                                       \
    } while (0)
#define NOTE(x) ((x) ? (void)0 : (void)(bad = bad ? bad : __LINE__))

static int bad; /* the first NOTE that did not hold; one run at a time, one thread */

/* -- channels, select, time-outs -- */

struct pipeline {
    fen_chan *work, *done;
    fen_wg producers;
    int sent, timed_out;
    int64_t sum;
};

static void produce(void *arg)
{
    struct pipeline *p = arg;
    for (int i = 1; i <= 20; i++) {
        int rc = fen_chan_send_until(p->work, &i, fen_now() + 200 * FEN_US);
        NOTE(rc == 0 || rc == -ETIMEDOUT);
        if (rc == 0) {
            p->sent += i;
        } else {
            p->timed_out++;
            NOTE(fen_sleep(FEN_MS) == 0);
        }
    }
    fen_wg_done(&p->producers);
}

static void consume(void *arg)
{
    struct pipeline *p = arg;
    for (;;) {
        int v = 0;
        fen_case c[] = {FEN_RECV(p->work, &v), FEN_RECV(p->done, NULL), FEN_AFTER(300 * FEN_US)};
        int k = fen_select(c, 3, FEN_NEVER);
        if (k == 0)
            p->sum += v;
        else if (k == 1)
            break;
        else
            NOTE(k == 2 && fen_sleep(100 * FEN_US) == 0);
    }
}

static int pipeline(void *arg)
{
    struct pipeline p = {fen_chan_new(sizeof(int), 1), fen_chan_new(1, 0), {0}, 0, 0, 0};
    (void)arg;
    fen_wg_add(&p.producers, 3);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 3; i++)
        CHECK(fen_go(produce, &p) == 0 && fen_go(consume, &p) == 0);
    CHECK(fen_wg_wait(&p.producers) == 0);
    while (fen_chan_len(p.work))
        CHECK(fen_sleep(FEN_MS) == 0);
    CHECK(fen_chan_close(p.done) == 0);
    CHECK(fen_scope_close(s) == 0);
    CHECK(p.sum == p.sent && p.sum + 0 <= 3 * 210);
    fen_wg_fini(&p.producers);
    fen_chan_free(p.work);
    fen_chan_free(p.done);
    return bad;
}

/* -- locks: a mutex, a read-write lock, a condition -- */

struct locks {
    fen_mutex m;
    fen_rwlock rw;
    fen_cond c;
    int inside, readers, writers, tokens, taken;
};

static void use_locks(void *arg)
{
    struct locks *l = arg;
    for (int i = 0; i < 5; i++) {
        NOTE(fen_mutex_lock(&l->m) == 0);
        NOTE(l->inside++ == 0);
        fen_yield();
        NOTE(--l->inside == 0);
        fen_mutex_unlock(&l->m);

        NOTE(fen_rwlock_read_lock(&l->rw) == 0);
        l->readers++;
        NOTE(l->writers == 0);
        fen_yield();
        l->readers--;
        fen_rwlock_read_unlock(&l->rw);

        NOTE(fen_rwlock_write_lock(&l->rw) == 0);
        NOTE(l->writers++ == 0 && l->readers == 0);
        fen_yield();
        NOTE(l->readers == 0 && --l->writers == 0);
        fen_rwlock_write_unlock(&l->rw);
    }
}

static void take_tokens(void *arg)
{
    struct locks *l = arg;
    for (int i = 0; i < 10; i++) {
        NOTE(fen_mutex_lock(&l->m) == 0);
        while (l->tokens == 0)
            NOTE(fen_cond_wait(&l->c, &l->m) == 0);
        l->tokens--;
        l->taken++;
        fen_mutex_unlock(&l->m);
    }
}

static void give_tokens(void *arg)
{
    struct locks *l = arg;
    for (int i = 0; i < 30; i++) {
        NOTE(fen_mutex_lock(&l->m) == 0);
        l->tokens++;
        fen_cond_signal(&l->c);
        fen_mutex_unlock(&l->m);
    }
}

static int locks(void *arg)
{
    static struct locks l;
    (void)arg;
    l = (struct locks){.inside = 0};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 3; i++)
        CHECK(fen_go(use_locks, &l) == 0 && fen_go(take_tokens, &l) == 0);
    CHECK(fen_go(give_tokens, &l) == 0);
    CHECK(fen_scope_close(s) == 0);
    CHECK(l.taken == 30 && l.tokens == 0);
    fen_mutex_fini(&l.m);
    fen_rwlock_fini(&l.rw);
    fen_cond_fini(&l.c);
    return bad;
}

/* -- cancelling: a group whose first error ends the rest, a scope's deadline -- */

struct job {
    int n;
    int64_t until_ns;
};

static int group_job(void *arg)
{
    struct job *j = arg;
    if (j->n == 3)
        return fen_sleep(2 * FEN_MS) ? -EINTR : -EPROTO;
    return fen_sleep_until(j->until_ns);
}

static int cancels(void *arg)
{
    struct job jobs[6];
    (void)arg;
    fen_group *g = fen_group_open(4, FEN_NEVER);
    for (int i = 0; i < 6; i++) {
        jobs[i] = (struct job){i, fen_now() + (i < 2 ? FEN_MS : 3600 * FEN_S)};
        int rc = fen_group_go(g, group_job, &jobs[i]);
        CHECK(rc == 0 || rc == -EPROTO);
    }
    CHECK(fen_group_wait(g) == -EPROTO);

    int64_t deadline = fen_now() + FEN_S;
    fen_scope *s = fen_scope_open(deadline);
    CHECK(fen_sleep(FEN_S * 60) == -ETIMEDOUT);
    CHECK(fen_now() >= deadline && fen_now() < deadline + 10 * FEN_MS);
    CHECK(fen_scope_close(s) == -ETIMEDOUT);
    return bad;
}

/* -- descriptors within the process -- */

static void echo(void *arg)
{
    fen_sock *s = arg;
    char buf[64];
    ssize_t n;
    while ((n = fen_sock_read(s, buf, sizeof buf, FEN_NEVER)) > 0)
        NOTE(fen_sock_write(s, buf, (size_t)n, FEN_NEVER) == n);
    NOTE(n == 0);
    fen_sock_close(s);
}

static int sockets(void *arg)
{
    (void)arg;
    fen_sock *pair[4][2];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 4; i++) {
        CHECK(fen_sock_pair(false, pair[i]) == 0);
        CHECK(fen_go(echo, pair[i][1]) == 0);
    }
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < 4; i++)
            CHECK(fen_sock_write(pair[i][0], "abcdefgh", 8, FEN_NEVER) == 8);
    for (int i = 0; i < 4; i++) {
        size_t got = 0;
        char buf[64];
        while (got < 64) {
            ssize_t n = fen_sock_read(pair[i][0], buf, sizeof buf, FEN_NEVER);
            CHECK(n > 0);
            got += (size_t)n;
        }
        fen_sock_close(pair[i][0]);
    }
    CHECK(fen_scope_close(s) == 0);
    return bad;
}

/* A pipe that fen_fd_wait watches, as for another library. */
static void fill_pipe(void *arg)
{
    const int *fd = arg;
    for (int i = 0; i < 5; i++) {
        NOTE(fen_sleep(FEN_MS) == 0);
        NOTE(write(fd[1], "x", 1) == 1);
    }
    fen_fd_forget(fd[1]);
    close(fd[1]);
}

static int pipes(void *arg)
{
    (void)arg;
    int fd[2];
    char c;
    ssize_t n;
    CHECK(pipe(fd) == 0);
    CHECK(fen_go(fill_pipe, fd) == 0);
    int64_t begin = fen_now();
    do {
        CHECK(fen_fd_wait(fd[0], POLLIN, FEN_NEVER) > 0);
        n = read(fd[0], &c, 1);
    } while (n == 1);
    CHECK(n == 0 && fen_now() - begin >= 5 * FEN_MS);
    fen_fd_forget(fd[0]);
    close(fd[0]);
    return bad;
}

/* -- calls on the pool of threads -- */

static int add_up(void *arg)
{
    struct timespec ms = {0, 200000};
    nanosleep(&ms, NULL); /* real time, which the run does not see */
    return ++*(int *)arg;
}

static void call(void *arg)
{
    for (int i = 0; i < 3; i++)
        NOTE(fen_blocking(add_up, arg) > 0);
}

static int blocking(void *arg)
{
    int n = 0;
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 3; i++)
        CHECK(fen_go(call, &n) == 0);
    CHECK(fen_scope_close(s) == 0);
    CHECK(n == 9);
    return bad;
}

/* -- timers, and a fiber that outlives the first one -- */

static void linger(void *arg)
{
    (void)arg;
    while (fen_sleep(FEN_MS) == 0)
        ;
}

static int timers(void *arg)
{
    (void)arg;
    int64_t start = fen_now();
    fen_timer *t = fen_timer_new(), *every = fen_timer_new();
    CHECK(fen_timer_start(t, start + FEN_S) == 0);
    CHECK(fen_timer_every(every, start + 100 * FEN_MS, 100 * FEN_MS) == 0);
    int64_t begun = fen_now() - start;
    CHECK(fen_go_detached("linger", linger, NULL) == 0);
    int ticks = 0, k;
    do {
        fen_case c[] = {FEN_RECV(fen_timer_chan(t), NULL), FEN_RECV(fen_timer_chan(every), NULL)};
        k = fen_select(c, 2, FEN_NEVER);
        ticks += k == 1;
    } while (k == 1);
    /* time may pass while this fiber is kept waiting; who comes late finds both ready and may take
     * either */
    int64_t passed = fen_now() - start;
    bool pending = fen_chan_try_recv(fen_timer_chan(every), NULL) == 0;
    CHECK(k == 0 && passed >= FEN_S && ticks <= passed / (100 * FEN_MS));
    CHECK(ticks + pending >= 1 || begun >= FEN_S); /* the ticker began after the timer's end */
    fen_timer_free(t);
    fen_timer_free(every);
    return bad;
}

/* ---- planted bugs: 0, or -EDEADLK when the seed brings them out ---- */

#define PHILOSOPHERS 3

struct table {
    fen_mutex fork[PHILOSOPHERS];
    bool in_order; /* the remedy */
};

struct seat {
    struct table *t;
    int at;
};

static void dine(void *arg)
{
    struct seat *s = arg;
    int a = s->at, b = (s->at + 1) % PHILOSOPHERS;
    if (s->t->in_order && a > b) {
        int swap = a;
        a = b;
        b = swap;
    }
    for (int i = 0; i < 3; i++) {
        if (fen_mutex_lock(&s->t->fork[a]))
            return;
        if (fen_mutex_lock(&s->t->fork[b]) == 0)
            fen_mutex_unlock(&s->t->fork[b]);
        fen_mutex_unlock(&s->t->fork[a]);
    }
}

static int philosophers(void *in_order)
{
    struct table t = {.in_order = in_order != NULL};
    struct seat seats[PHILOSOPHERS];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < PHILOSOPHERS; i++) {
        seats[i] = (struct seat){&t, i};
        CHECK(fen_go(dine, &seats[i]) == 0);
    }
    (void)fen_scope_close(s);
    return 0;
}

struct gate {
    fen_mutex m;
    fen_sem opened;
    int open, waiting;
    bool looks_inside; /* the remedy */
};

/* The bug: between the look and the registration the gate may open, and nobody wakes us. */
static void pass_gate(void *arg)
{
    struct gate *g = arg;
    if (!g->looks_inside && g->open)
        return;
    if (fen_mutex_lock(&g->m))
        return;
    bool wait = !g->looks_inside || !g->open;
    g->waiting += wait;
    fen_mutex_unlock(&g->m);
    if (wait)
        (void)!fen_sem_acquire(&g->opened);
}

static void open_gate(void *arg)
{
    struct gate *g = arg;
    if (fen_mutex_lock(&g->m))
        return;
    g->open = 1;
    for (; g->waiting; g->waiting--)
        fen_sem_release(&g->opened);
    fen_mutex_unlock(&g->m);
}

static int gate(void *looks_inside)
{
    struct gate g = {.looks_inside = looks_inside != NULL};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    CHECK(fen_go(pass_gate, &g) == 0 && fen_go(open_gate, &g) == 0 && fen_go(pass_gate, &g) == 0);
    (void)fen_scope_close(s);
    return 0;
}

/* ---- tests ---- */

static const struct {
    const char *name;
    int (*fn)(void *arg);
    void *arg;
} sound[] = {
    {"pipeline", pipeline, NULL}, {"locks", locks, NULL},
    {"cancels", cancels, NULL},   {"sockets", sockets, NULL},
    {"timers", timers, NULL},     {"philosophers in order", philosophers, "in order"},
    {"gate", gate, "inside"},     {"blocking", blocking, NULL},
    {"pipes", pipes, NULL},
};

static void holds(size_t i, uint64_t seed)
{
    uint64_t hash;
    bad = 0;
    int rc = run(sound[i].fn, sound[i].arg, seed, 0, &hash);
    if (rc)
        fail_msg("%s: %d, FEN_SIM_SEED=%llu\n%s", sound[i].name, rc, (unsigned long long)seed,
                 report);
}

static void test_what_is_sound_holds_under_every_seed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        uint64_t n = sound[i].fn == blocking ? seeds / 20 : seeds; /* it takes real time */
        for (uint64_t k = 0; k < (only ? 1 : n); k++)
            holds(i, only ? only : from + k);
    }
}

static void test_the_same_seed_is_the_same_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++)
        for (uint64_t seed = 1; seed <= 10; seed++) {
            uint64_t one, two;
            bad = 0;
            assert_int_equal(run(sound[i].fn, sound[i].arg, seed, 0, &one), 0);
            assert_int_equal(run(sound[i].fn, sound[i].arg, seed, 0, &two), 0);
            if (one != two)
                fail_msg("%s, seed %d: another run", sound[i].name, (int)seed);
        }
}

static void test_other_seeds_are_other_runs(void **state)
{
    (void)state;
    uint64_t seen[100];
    for (uint64_t seed = 1; seed <= 100; seed++) {
        assert_int_equal(run(locks, NULL, seed, 0, &seen[seed - 1]), 0);
        for (uint64_t i = 0; i + 1 < seed; i++)
            assert_true(seen[i] != seen[seed - 1]);
    }
}

/* The first seed that brings the bug out, which must do so again and again in the same way. */
static uint64_t find_bug(int (*fn)(void *arg))
{
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        uint64_t hash, again;
        int rc = run(fn, NULL, seed, 0, &hash);
        if (rc == 0)
            continue;
        assert_int_equal(rc, -EDEADLK);
        assert_int_equal(run(fn, NULL, seed, 0, &again), -EDEADLK);
        assert_true(hash == again);
        char line[64];
        snprintf(line, sizeof line, "FEN_SIM_SEED=%llu\n", (unsigned long long)seed);
        assert_non_null(strstr(report, line));
        return seed;
    }
    fail_msg("no seed brings the bug out");
    return 0;
}

static void test_a_seed_finds_the_wrong_order_of_locks(void **state)
{
    (void)state;
    find_bug(philosophers);
    assert_non_null(strstr(report, "each holds what the one before it waits for"));
}

static void test_a_seed_finds_the_lost_wake_up(void **state)
{
    (void)state;
    find_bug(gate);
}

static int clocks(void *arg)
{
    (void)arg;
    int64_t begin = fen_now(), end = begin + FEN_MS;
    while (fen_now() < end) /* nobody else can run, and yet it ends */
        ;
    CHECK(fen_sleep(3600 * FEN_S) == 0);
    CHECK(fen_now() - begin >= 3600 * FEN_S && fen_now() - begin < 3601 * FEN_S);
    CHECK(fen_procs() == 1 && fen_procs_set(2) == FEN_ECLOSED);
    return 0;
}

static void test_time_is_made_of_numbers(void **state)
{
    (void)state;
    uint64_t hash;
    int64_t begin = fen_now();
    assert_int_equal(run(clocks, NULL, 3, 0, &hash), 0);
    assert_true(fen_now() >= begin && fen_now() - begin < 60 * FEN_S);
}

/* ---- faults ---- */

static int refusals;

#define MAY_FAIL(call, rc_wanted)                                                                  \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        NOTE(rc_ == (rc_wanted) || rc_ == -ENOMEM);                                                \
        refusals += rc_ == -ENOMEM;                                                                \
    } while (0)

static void fail_some(void *arg)
{
    fen_chan *c = arg, *own = fen_chan_new(100, 3);
    refusals += own == NULL;
    for (int i = 0; i < 5; i++) {
        MAY_FAIL(fen_sleep(FEN_US * 10), 0);
        MAY_FAIL(fen_chan_recv_until(c, NULL, fen_now() + FEN_US), -ETIMEDOUT);
        fen_case k[] = {FEN_RECV(c, NULL), FEN_RECV(own, NULL), FEN_AFTER(FEN_US)};
        MAY_FAIL(fen_select(k, 3, FEN_NEVER), 2);
    }
    fen_chan_free(own);
}

static int faults(void *arg)
{
    (void)arg;
    fen_chan *c = fen_chan_new(8, 1);
    if (!c)
        return -ENOMEM;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; s && i < 5; i++)
        MAY_FAIL(fen_go(fail_some, c), 0);
    if (s)
        NOTE(fen_scope_close(s) == 0);
    fen_chan_free(c);
    return s ? bad : -ENOMEM;
}

static void test_faults_come_from_the_seed_and_leave_nothing_behind(void **state)
{
    (void)state;
    fen_stats before, after;
    refusals = 0;
    for (uint64_t seed = from; seed < from + seeds / 2; seed++) {
        uint64_t one, two;
        bad = 0;
        fen_stats_get(&before);
        int rc = run(faults, NULL, seed, 10, &one);
        int rc2 = run(faults, NULL, seed, 10, &two);
        fen_stats_get(&after);
        if ((rc && rc != -ENOMEM) || rc != rc2 || one != two ||
            before.heap_live_bytes != after.heap_live_bytes)
            fail_msg("%d and %d, hashes %s, bytes %lld; FEN_SIM_SEED=%llu FEN_SIM_FAULTS=10", rc,
                     rc2, one == two ? "equal" : "differ",
                     (long long)(after.heap_live_bytes - before.heap_live_bytes),
                     (unsigned long long)seed);
    }
    assert_true(refusals > 10);
}

/* A caught signal arrives whatever else fails. */
static int signalled(void *arg)
{
    (void)arg;
    fen_signal *h;
    int signal = SIGUSR1, got = 0, rc;
    if (fen_signal_open(&signal, 1, &h))
        return 0;
    raise(SIGUSR1);
    do
        rc = fen_chan_recv(fen_signal_chan(h), &got);
    while (rc == -ENOMEM);
    fen_signal_close(h);
    return rc ? rc : got == SIGUSR1 ? 0 : -EINVAL;
}

static void test_faults_lose_no_signal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 1500; seed++) {
        fen_config cfg = {.sim_seed = seed, .sim_faults = seed % 2 ? 8 : 15};
        int rc = fen_run(signalled, NULL, &cfg);
        if (rc && rc != -ENOMEM && rc != -EAGAIN && rc != -EMFILE && rc != -ENFILE && rc != -ENOSPC)
            fail_msg("%d with seed %llu", rc, (unsigned long long)seed);
    }
}

/* ---- around it ---- */

static void test_the_environment_says_it_too(void **state)
{
    (void)state;
    uint64_t want;
    assert_int_equal(run(locks, NULL, 7, 0, &want), 0);
    setenv("FEN_SIM_SEED", "7", 1);
    assert_int_equal(fen_run(locks, NULL, NULL), 0);
    assert_true(fen_sim_hash() == want);
    static const char *const wrong[] = {"0", "-1", "x", "7x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("FEN_SIM_SEED", wrong[i], 1);
        assert_int_equal(fen_run(locks, NULL, NULL), -EINVAL);
    }
    setenv("FEN_SIM_SEED", "7", 1);
    setenv("FEN_SIM_FAULTS", "many", 1);
    assert_int_equal(fen_run(locks, NULL, NULL), -EINVAL);
    unsetenv("FEN_SIM_FAULTS");
    unsetenv("FEN_SIM_SEED");
}

static int real_clock(void *arg)
{
    struct timespec ts;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t off = fen_now() - (ts.tv_sec * FEN_S + ts.tv_nsec);
    return off >= 0 && off < 10 * FEN_S && fen_procs() == 2 ? 0 : -1;
}

static void test_the_next_run_is_a_real_one(void **state)
{
    (void)state;
    uint64_t hash;
    assert_int_equal(run(locks, NULL, 1, 0, &hash), 0);
    assert_int_equal(fen_run(real_clock, NULL, &(fen_config){.procs = 2}), 0);
    assert_true(fen_sim_hash() == hash);
}

static void *send_from_outside(void *c)
{
    struct timespec ms = {0, 2000000};
    nanosleep(&ms, NULL);
    int v = 5, rc = fen_chan_send(c, &v);
    return (void *)(intptr_t)rc;
}

static int hear_from_outside(void *arg)
{
    (void)arg;
    pthread_t t;
    void *rc;
    int v = 0;
    fen_chan *c = fen_chan_new(sizeof v, 0);
    fen_outsider_begin();
    CHECK(pthread_create(&t, NULL, send_from_outside, c) == 0);
    CHECK(fen_chan_recv(c, &v) == 0 && v == 5);
    fen_blocking_begin();
    pthread_join(t, &rc);
    fen_blocking_end();
    fen_outsider_end();
    CHECK(rc == NULL);
    fen_chan_free(c);
    return 0;
}

static void test_a_thread_outside_is_waited_for(void **state)
{
    (void)state;
    uint64_t hash;
    assert_int_equal(run(hear_from_outside, NULL, 11, 0, &hash), 0);
}

/* A number from the environment, which is then cleared: the tests say what each run is. */
static uint64_t take_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t v = text ? strtoull(text, NULL, 0) : 0;
    unsetenv(name);
    return v ? v : otherwise;
}

int main(void)
{
    only = take_env("FEN_SIM_SEED", 0);
    seeds = take_env("FEN_SIM_SEEDS", SEEDS);
    from = take_env("FEN_SIM_FROM", 1);
    signal(SIGABRT, on_abort);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_sound_holds_under_every_seed),
        cmocka_unit_test(test_the_same_seed_is_the_same_run),
        cmocka_unit_test(test_other_seeds_are_other_runs),
        cmocka_unit_test(test_a_seed_finds_the_wrong_order_of_locks),
        cmocka_unit_test(test_a_seed_finds_the_lost_wake_up),
        cmocka_unit_test(test_time_is_made_of_numbers),
        cmocka_unit_test(test_faults_come_from_the_seed_and_leave_nothing_behind),
        cmocka_unit_test(test_faults_lose_no_signal),
        cmocka_unit_test(test_the_environment_says_it_too),
        cmocka_unit_test(test_the_next_run_is_a_real_one),
        cmocka_unit_test(test_a_thread_outside_is_waited_for),
    };
    return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
