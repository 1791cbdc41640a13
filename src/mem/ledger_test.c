/* ledger_test.c - is every byte on the right account? Threads allocate for random accounts and free
 * each other's blocks; at each stop the books equal a walk over all live blocks, to the byte. No
 * block overlaps another, and each is aligned. With FEN_LEDGER_SECONDS it goes on for so long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/heap_int.h"

#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define SLOTS 4096
#define ACCOUNTS 300
#ifdef FEN__TSAN
#define ROUNDS 6
#define STEPS 8000
#else
#define ROUNDS 20
#define STEPS 60000
#endif

struct slot_block {
    uint32_t account, thread;
};

static struct slot_block *_Atomic slots[SLOTS];
static pthread_barrier_t barrier;
static _Atomic int64_t across; /* blocks freed by another thread */

static int64_t live_of(uint32_t account)
{
    fen_mem_usage u;
    assert_int_equal(fen_mem_usage_get(account, &u), 0);
    assert_int_equal(u.live_bytes, u.allocated_bytes - u.freed_bytes);
    assert_true(u.peak_bytes >= u.live_bytes);
    return u.live_bytes;
}

static void count_free(struct fen__block *b, int64_t *n)
{
    for (; b; b = b->next)
        ++*n;
}

/* What a span has out: used, less what is on its way back. */
static void walk_span(struct fen__span *s, void *arg)
{
    int64_t back = 0;
    if (s->special & FEN__SPAN_LARGE) {
        *(int64_t *)arg += (int64_t)s->bytes;
        return;
    }
    count_free((struct fen__block *)(atomic_load(&s->remote) & ~(uintptr_t)FEN__REMOTE_TAGS),
               &back);
    *(int64_t *)arg += ((int64_t)s->used - back) * (int64_t)s->bytes;
}

static void walk_cache(struct fen__cache *c, void *arg)
{
    for (int i = 0; i < FEN__BINS; i++) {
        int64_t n = 0;
        count_free(c->mag[i].head, &n);
        count_free(c->mag[i].alt, &n);
        *(int64_t *)arg -= n * fen__classes[i % FEN__CLASSES].bytes;
    }
    for (int i = 0; i < FEN__OUT_SLOTS; i++)
        if (c->out[i].span)
            *(int64_t *)arg -= (int64_t)(c->out[i].n * c->out[i].span->bytes);
}

static int64_t most_shelved;

/* One reading of all is the reading of each. */
static void check_each(uint32_t account, const fen_mem_usage *u, void *arg)
{
    fen_mem_usage one;
    int64_t *live = arg;
    assert_int_equal(fen_mem_usage_get(account, &one), 0);
    if (account) /* what reads is account 0's */
        assert_memory_equal(&one, u, offsetof(fen_mem_usage, byte_seconds));
    *live += u->live_bytes;
}

static void check_books(const int64_t *base)
{
    static int64_t want[ACCOUNTS];
    int64_t walked = 0, all = 0;
    memset(want, 0, sizeof want);
    for (int i = 0; i < SLOTS; i++) {
        struct slot_block *b = slots[i];
        if (b)
            want[b->account] += (int64_t)fen__heap_usable(b);
    }
    for (uint32_t a = 0; a < ACCOUNTS; a++) {
        assert_int_equal(live_of(a) - base[a], want[a]);
        all += live_of(a);
    }
    assert_int_equal(all, fen__ledger_live());
    int64_t each = 0;
    assert_int_equal(fen__mem_usage_each(check_each, &each), 0);
#ifndef FEN__ASAN
    each -= (int64_t)(FEN_MEM_ACCOUNTS * 32); /* the reading's own table */
#endif
    assert_int_equal(each, all);
    fen__regions_each(walk_span, &walked);
    fen__cache_each(walk_cache, &walked);
    walked -= fen__depot_bytes();
    most_shelved = fen__max_i64(most_shelved, fen__depot_bytes());
    assert_int_equal(walked, all); /* no block above RUN_PAGES_MAX here */
}

static int64_t base[ACCOUNTS];
static int64_t until_ns; /* a long run */
static bool more;

/* The first and the last bytes of a block say whose it is. */
static void write_block(struct slot_block *b, uint32_t account, uint32_t thread)
{
    uintptr_t mark = (uintptr_t)b ^ account;
    size_t n = fen__heap_usable(b);
    *b = (struct slot_block){account, thread};
    memcpy((char *)b + n - sizeof mark, &mark, sizeof mark);
    if (n == sizeof mark) /* room for one of the two */
        *b = (struct slot_block){account, thread};
}

static void check_block(const struct slot_block *b)
{
    uintptr_t mark, align = (uintptr_t)b;
    size_t n = fen__heap_usable(b);
    memcpy(&mark, (const char *)b + n - sizeof mark, sizeof mark);
    assert_true(n == sizeof mark || mark == ((uintptr_t)b ^ b->account));
    assert_int_equal(align % (n == 8 || n == 24 ? 8 : 16), 0);
    assert_int_equal(fen__heap_account(b), b->account);
}

static void *mixer(void *arg)
{
    uint32_t me = *(uint32_t *)arg;
    uint64_t seed = 99 + me;
    for (int round = 0; round < ROUNDS || more; round++) {
        for (int i = 0; i < STEPS; i++) {
            uint64_t r = fen__rand(&seed);
            uint32_t account = (uint32_t)(r >> 8) % ACCOUNTS;
            size_t n = r % 64 == 0 ? r >> 40 & 0x1FFFF : 8 + (r >> 32) % 1000;
            n = n < sizeof(struct slot_block) ? sizeof(struct slot_block) : n;
            struct slot_block *b = r & 1 ? fen__heap_alloc_for(account, n) : NULL;
            if (b)
                write_block(b, account, me);
            struct slot_block *old = atomic_exchange(&slots[(r >> 20) % SLOTS], b);
            if (old) {
                check_block(old);
                across += old->thread != me;
                fen__heap_free(old);
            }
        }
        pthread_barrier_wait(&barrier);
        if (me == 0) {
            check_books(base);
            bool seen = most_shelved > 0 || round >= 50 * ROUNDS;
            more = !seen || until_ns > fen__sys_now();
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void every_byte_is_on_its_account(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    uint32_t id[THREADS];
    for (uint32_t a = 0; a < ACCOUNTS; a++)
        base[a] = live_of(a);
    const char *seconds = getenv("FEN_LEDGER_SECONDS");
    until_ns = fen__sys_now() + (seconds ? atoi(seconds) : 0) * FEN_S;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (uint32_t i = 0; i < THREADS; i++) {
        id[i] = i;
        assert_int_equal(pthread_create(&t[i], NULL, mixer, &id[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    pthread_barrier_destroy(&barrier);
    assert_true(across > 1000);
    assert_true(most_shelved > 0); /* else the depot was never part of it */
    for (int i = 0; i < SLOTS; i++)
        fen__heap_free(atomic_exchange(&slots[i], NULL));
    for (uint32_t a = 0; a < ACCOUNTS; a++)
        assert_int_equal(live_of(a), base[a]);
    check_books(base);
}

static void a_cap_holds(void **state)
{
    (void)state;
    enum { A = 500, CAP = 1 << 20 };
    static void *p[CAP / 64 + 1];
    int n = 0;
    assert_int_equal(fen_mem_cap_set(FEN__ACCOUNTS_MAX, 1), -EINVAL);
    assert_int_equal(fen_mem_cap_set(A, -1), -EINVAL);
    assert_int_equal(fen_mem_cap_set(A, CAP), 0);
    while ((p[n] = fen__heap_alloc_for(A, 64)))
        n++;
    assert_int_equal(live_of(A), CAP); /* alone on it, a thread gets all of it */
    assert_null(fen__heap_alloc_for(A, 100000));
    void *other = fen__heap_alloc_for(A + 1, 100000);
    assert_non_null(other);
    fen__heap_free(p[--n]);
    p[n] = fen__heap_alloc_for(A, 64);
    assert_non_null(p[n++]);
    char *q = fen__heap_realloc(p[0], 60);
    assert_non_null(q);
    assert_null(fen__heap_realloc(q, 200));
    p[0] = q;
    assert_int_equal(fen_mem_cap_set(A, 0), 0);
    fen__heap_free(fen__heap_alloc_for(A, 100000));
    while (n)
        fen__heap_free(p[--n]);
    fen__heap_free(other);
    assert_int_equal(live_of(A), 0);
    fen_mem_usage u;
    assert_int_equal(fen_mem_usage_get(A, &u), 0);
    assert_true(u.peak_bytes >= CAP + 100000 && u.peak_bytes <= CAP + 100000 + (192 << 10));
}

static void realloc_keeps_the_account(void **state)
{
    (void)state;
    char *p = fen__heap_alloc_for(501, 100);
    for (size_t n = 1; n < 3000000; n = n * 2 + 1) {
        p = fen__heap_realloc(p, n);
        assert_int_equal(fen__heap_account(p), 501);
        assert_int_equal(live_of(501), (int64_t)fen__heap_usable(p));
    }
    fen__heap_free(p);
    assert_int_equal(live_of(501), 0);
}

static void bytes_are_held_for_a_time(void **state)
{
    (void)state;
    fen_mem_usage u;
    char *p = fen__heap_alloc_for(502, 20000000);
    int64_t from = fen_now(), bytes = (int64_t)fen__heap_usable(p);
    fen__sys_nap(300 * FEN_MS);
    assert_int_equal(fen_mem_usage_get(502, &u), 0);
    double held = (double)bytes * (double)(fen_now() - from) / 1e9;
    assert_true((double)u.byte_seconds > held * 0.95 && (double)u.byte_seconds < held * 1.05);
    fen__heap_free(p);
    held = (double)bytes * (double)(fen_now() - from) / 1e9;
    fen__sys_nap(300 * FEN_MS); /* costs nothing any more */
    assert_int_equal(fen_mem_usage_get(502, &u), 0);
    assert_true((double)u.byte_seconds > held * 0.95 && (double)u.byte_seconds < held * 1.05);
}

/* ---- in fibers ---- */

static _Atomic int wrong;

static void child(void *arg)
{
    (void)arg;
    wrong += fen_mem_account() != 510; /* its spawner's */
    assert_int_equal(fen_mem_account_set(511), 0);
    void *p = fen_alloc(1000);
    for (int i = 0; i < 50; i++) {
        fen_yield();
        wrong += fen_mem_account() != 511;
    }
    *(void **)arg = p;
}

static int parent(void *arg)
{
    static void *left[100];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    (void)arg;
    wrong += fen_mem_account() != 0;
    assert_int_equal(fen_mem_account_set(510), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(fen_go(child, &left[i]), 0);
    for (int i = 0; i < 100; i++) {
        fen_free(fen_alloc(5000));
        fen_yield();
        wrong += fen_mem_account() != 510;
    }
    fen_scope_close(s);
#ifndef FEN__ASAN /* where blocks are the C library's */
    wrong += live_of(511) != 100 * (int64_t)fen_usable_size(left[0]);
#endif
    for (int i = 0; i < 100; i++)
        fen_free(left[i]);
    return 0;
}

static void a_fiber_takes_its_account_along(void **state)
{
    (void)state;
    assert_int_equal(fen_mem_account_set(FEN__ACCOUNTS_MAX), -EINVAL);
    int64_t before = live_of(510);
    assert_int_equal(fen_run(parent, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(live_of(511), 0);
    assert_int_equal(live_of(510), before);
    assert_int_equal(fen_mem_account(), 0);
}

static struct fen__cache *_Atomic writer;

/* A row that is being written when the process forks, by a thread that the child does not have. */
static void *hold_a_row(void *arg)
{
    void *p = fen__heap_alloc_for(299, 100);
    writer = fen__cache_self();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    fen__heap_free(p);
    return arg;
}

static void a_child_reads_rows_without_writers(void **state)
{
    (void)state;
    pthread_t t;
    int status;
    int64_t held = live_of(299);
    pthread_barrier_init(&barrier, NULL, 2);
    assert_int_equal(pthread_create(&t, NULL, hold_a_row, NULL), 0);
    pthread_barrier_wait(&barrier);
    struct fen__mem_row *r =
        atomic_load(&writer->rows[299 / FEN__ROW_GROUP]) + 299 % FEN__ROW_GROUP;
    uint64_t stamp = __atomic_exchange_n(&r->stamp, UINT64_MAX, __ATOMIC_RELAXED);
    pid_t pid = fork();
    if (!pid) {
        alarm(10);
        _exit(live_of(299) == held + 112 ? 5 : 6);
    }
    __atomic_store_n(&r->stamp, stamp, __ATOMIC_RELAXED);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 5);
    pthread_barrier_wait(&barrier);
    pthread_join(t, NULL);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(live_of(299), held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cap_holds),
        cmocka_unit_test(realloc_keeps_the_account),
        cmocka_unit_test(bytes_are_held_for_a_time),
        cmocka_unit_test(every_byte_is_on_its_account),
        cmocka_unit_test(a_fiber_takes_its_account_along),
        cmocka_unit_test(a_child_reads_rows_without_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
