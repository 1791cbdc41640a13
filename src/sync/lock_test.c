/* lock_test.c - mutex, semaphore, wait group and read-write lock where nobody needs to wait: the
 * steps without the lock against those under it, from fibers and threads; where such a step must
 * not be made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fen/fen.h>
#include <fen/sim.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define FIBERS 8
#define THREADS 2
#define ROUNDS 1200

static struct {
    fen_mutex m;
    fen_sem sem;
    fen_wg wg;
    fen_rwlock rw;
    int64_t count; /* under the mutex, or the one permit */
    _Atomic int64_t got;
    _Atomic bool stop;
} t;

static void start(int64_t permits)
{
    t.m = (fen_mutex){0};
    t.wg = (fen_wg){0};
    t.rw = (fen_rwlock){0};
    fen_sem_init(&t.sem, permits);
    t.count = 0;
    atomic_store(&t.got, 0);
    atomic_store(&t.stop, false);
}

static int in_fibers(void (*fn)(void *), int n)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    for (int i = 0; i < n; i++)
        assert_int_equal(fen_go(fn, NULL), 0);
    return fen_scope_close(s);
}

/* ---- one inside, whoever comes and however ---- */

static int lock_somehow(int how)
{
    switch (how % 4) {
    case 0: return fen_mutex_try_lock(&t.m);
    case 1: return fen_mutex_lock_until(&t.m, fen_now() + 5 * FEN_US);
    default: return fen_mutex_lock(&t.m);
    }
}

static void lock_many(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (lock_somehow(i))
            continue;
        t.count++;
        fen_mutex_unlock(&t.m);
        atomic_fetch_add(&t.got, 1);
        if (i % 64 == 0 && !arg)
            fen_yield();
    }
}

static int acquire_somehow(int how)
{
    switch (how % 4) {
    case 0: return fen_sem_try_acquire(&t.sem);
    case 1: return fen_sem_acquire_until(&t.sem, fen_now() + 5 * FEN_US);
    default: return fen_sem_acquire(&t.sem);
    }
}

static void acquire_many(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (acquire_somehow(i))
            continue;
        t.count++;
        fen_sem_release(&t.sem);
        atomic_fetch_add(&t.got, 1);
        if (i % 64 == 0 && !arg)
            fen_yield();
    }
}

static int rw_somehow(int how)
{
    bool write = how & 1;
    switch (how / 2 % 4) {
    case 0: return write ? fen_rwlock_try_write_lock(&t.rw) : fen_rwlock_try_read_lock(&t.rw);
    case 1:
        return write ? fen_rwlock_write_lock_until(&t.rw, fen_now() + 5 * FEN_US)
                     : fen_rwlock_read_lock_until(&t.rw, fen_now() + 5 * FEN_US);
    default: return write ? fen_rwlock_write_lock(&t.rw) : fen_rwlock_read_lock(&t.rw);
    }
}

static void read_and_write(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (rw_somehow(i))
            continue;
        int64_t seen = t.count;
        if (i & 1) {
            t.count++;
            atomic_fetch_add(&t.got, 1);
            fen_rwlock_write_unlock(&t.rw);
        } else {
            if (i % 64 == 0 && !arg)
                fen_yield();
            if (t.count != seen)
                atomic_store(&t.stop, true); /* a writer beside a reader */
            fen_rwlock_read_unlock(&t.rw);
        }
    }
}

static void (*many)(void *);

static void *thread(void *arg)
{
    many(arg);
    return NULL;
}

static int fibers_and_threads(void *arg)
{
    pthread_t threads[THREADS];
    (void)arg;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread, &t), 0);
    int rc = in_fibers(many, FIBERS);
    fen_blocking_begin();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    fen_blocking_end();
    return rc;
}

static void one_holds_the_mutex(void **state)
{
    (void)state;
    start(0);
    many = lock_many;
    assert_int_equal(fen_run(fibers_and_threads, NULL, &(fen_config){.procs = 2}), 0);
    fen_mutex_fini(&t.m);
    assert_int_equal(t.count, atomic_load(&t.got));
    assert_true(t.count > ROUNDS / 2);
}

static void one_permit_is_one(void **state)
{
    (void)state;
    start(1);
    many = acquire_many;
    assert_int_equal(fen_run(fibers_and_threads, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(fen_sem_try_acquire(&t.sem), 0);
    assert_int_equal(fen_sem_try_acquire(&t.sem), -EAGAIN);
    fen_sem_fini(&t.sem);
    assert_int_equal(t.count, atomic_load(&t.got));
    assert_true(t.count > ROUNDS / 2);
}

static void many_read_or_one_writes(void **state)
{
    (void)state;
    start(0);
    many = read_and_write;
    assert_int_equal(fen_run(fibers_and_threads, NULL, &(fen_config){.procs = 2}), 0);
    fen_rwlock_fini(&t.rw);
    assert_int_equal(t.count, atomic_load(&t.got));
    assert_true(t.count > ROUNDS / 2);
    assert_false(atomic_load(&t.stop));
}

/* ---- who waited may end the object's life ---- */

static void done_once(void *wg)
{
    fen_wg_add(wg, 1);
    fen_wg_done(wg);
    fen_wg_done(wg);
}

static int groups_on_the_heap(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS / 3; i++) {
        fen_wg *wg = calloc(1, sizeof *wg);
        assert_non_null(wg);
        fen_scope *s = fen_scope_open(FEN_NEVER);
        assert_non_null(s);
        fen_wg_add(wg, 3);
        for (int k = 0; k < 3; k++)
            assert_int_equal(fen_go(done_once, wg), 0);
        if (i % 2)
            while (fen_wg_try_wait(wg))
                fen_yield();
        assert_int_equal(fen_wg_wait(wg), 0);
        free(wg);
        assert_int_equal(fen_scope_close(s), 0);
    }
    return 0;
}

static void a_group_may_go_when_its_wait_returns(void **state)
{
    (void)state;
    assert_int_equal(fen_run(groups_on_the_heap, NULL, &(fen_config){.procs = 2}), 0);
}

struct shared {
    fen_mutex m;
    int users;
};

/* The last one out frees it, mutex and all. */
static void leave_last(void *arg)
{
    struct shared *s = arg;
    if (fen_mutex_lock(&s->m))
        return;
    int left = --s->users;
    fen_mutex_unlock(&s->m);
    if (!left)
        free(s);
}

static int mutexes_on_the_heap(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS / 3; i++) {
        struct shared *s = calloc(1, sizeof *s);
        assert_non_null(s);
        s->users = 4;
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        assert_non_null(scope);
        for (int k = 0; k < 4; k++)
            assert_int_equal(fen_go(leave_last, s), 0);
        assert_int_equal(fen_scope_close(scope), 0);
    }
    return 0;
}

static void a_mutex_may_go_with_who_unlocks_it_last(void **state)
{
    (void)state;
    assert_int_equal(fen_run(mutexes_on_the_heap, NULL, &(fen_config){.procs = 2}), 0);
}

/* ---- where the short way is not to be taken ---- */

static void tick(void *arg)
{
    (void)arg;
    while (!atomic_load(&t.stop)) {
        atomic_fetch_add(&t.got, 1);
        fen_yield();
    }
}

/* Computes until the one P has been taken away: another fiber has run. One turn may be the end of
 * that in which it lost the P itself; for a second it needs the P. */
static void lose_the_p(void)
{
    int64_t from = atomic_load(&t.got);
    while (atomic_load(&t.got) < from + 2)
        ;
}

static int call(int which)
{
    switch (which) {
    case 0: return fen_mutex_lock(&t.m);
    case 1: fen_mutex_unlock(&t.m); return 0;
    case 2: return fen_mutex_try_lock(&t.m);
    case 3: return fen_sem_acquire(&t.sem);
    case 4: return fen_sem_try_acquire(&t.sem);
    case 5: fen_sem_release(&t.sem); return 0;
    case 6: fen_wg_add(&t.wg, 1); return 0;
    case 7: fen_wg_done(&t.wg); return 0;
    case 8: return fen_wg_wait(&t.wg);
    case 9: return fen_wg_try_wait(&t.wg);
    case 10: return fen_rwlock_read_lock(&t.rw);
    case 11: fen_rwlock_read_unlock(&t.rw); return 0;
    case 12: return fen_rwlock_write_lock(&t.rw);
    default: fen_rwlock_write_unlock(&t.rw); return 0;
    }
}

/* Its thread never gets a P again, so a fiber that goes on in a P does so on another thread. */
static int calls_without_a_p(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    assert_int_equal(fen_go(tick, NULL), 0);
    for (int i = 0; i < 14; i++) {
        lose_the_p();
        pid_t before = gettid();
        assert_int_equal(call(i), 0);
        assert_int_not_equal(gettid(), before);
    }
    fen_mutex_unlock(&t.m);
    atomic_store(&t.stop, true);
    return fen_scope_close(s);
}

static void who_lost_its_p_moves_on_at_any_call(void **state)
{
    (void)state;
    start(2);
    assert_int_equal(fen_run(calls_without_a_p, NULL, &(fen_config){.procs = 1}), 0);
}

/* An update that a fiber tears by calling in the middle of it. */
static void torn(void *arg)
{
    (void)arg;
    int64_t seen = t.count;
    if (fen_sem_try_acquire(&t.sem) == 0)
        fen_sem_release(&t.sem);
    t.count = seen + 1;
}

static int tear(void *arg)
{
    (void)arg;
    return in_fibers(torn, 4);
}

static void a_simulated_run_is_interrupted_at_a_free_lock_too(void **state)
{
    (void)state;
    int lost = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        start(4);
        assert_int_equal(fen_run(tear, NULL, &(fen_config){.sim_seed = seed}), 0);
        lost += t.count < 4;
    }
    assert_true(lost > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_holds_the_mutex),
        cmocka_unit_test(one_permit_is_one),
        cmocka_unit_test(many_read_or_one_writes),
        cmocka_unit_test(a_group_may_go_when_its_wait_returns),
        cmocka_unit_test(a_mutex_may_go_with_who_unlocks_it_last),
        cmocka_unit_test(who_lost_its_p_moves_on_at_any_call),
        cmocka_unit_test(a_simulated_run_is_interrupted_at_a_free_lock_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
