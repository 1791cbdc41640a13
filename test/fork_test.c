/* fork_test.c - children of a process whose heap is at work in every corner: they may allocate,
 * free and ask, as with the C library's heap; the parent's reclaimer and limit are not theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/sanitize.h"

#include <fen/fen.h>
#include <fen/objpool.h>
#include <fen/pace.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef FEN__TSAN /* a fork is slow there */
#define FORKS 40
#else
#define FORKS 300
#endif
#define ALL_WELL 7

static _Atomic bool stop;
static fen_objpool *pool;

static void churn(uint64_t seed, int n)
{
    void *p[32] = {0};
    for (int i = 0; i < n; i++) {
        uint64_t r = fen__rand(&seed);
        size_t bytes = r % 16 ? r >> 8 & 0x3FFF : r >> 8 & 0x3FFFFF;
        fen_free(p[r >> 40 & 31]);
        p[r >> 40 & 31] = fen_alloc(bytes);
    }
    for (int i = 0; i < 32; i++)
        fen_free(p[i]);
}

static void objects(void)
{
    void *o[100];
    for (int i = 0; i < 100; i++)
        o[i] = fen_objpool_get(pool);
    for (int i = 0; i < 100; i++)
        if (o[i])
            fen_objpool_put(pool, o[i]);
}

static void worker(void *arg)
{
    for (uint64_t i = (uintptr_t)arg; !stop; i++) {
        churn(i, 500);
        objects();
        fen_yield();
    }
}

/* Everything that takes a lock of the pacer's, over and over. */
static void *turn_knobs(void *arg)
{
    (void)arg;
    while (!stop) {
        fen_mem_pace p;
        fen_mem_pace_get(&p);
        (void)!fen_mem_percent_set(50);
        (void)!fen_mem_limit_set((int64_t)1 << 40);
        (void)fen_mem_reclaim();
    }
    return NULL;
}

static int child(void)
{
    fen_mem_pace p;
    alarm(20); /* a lock that nobody will let go */
    churn(3, 300);
    objects();
    (void)fen_mem_reclaim();
    fen_mem_pace_get(&p);
    if (p.limit_bytes || fen_mem_pressure() != FEN_MEM_EASY)
        return 1;
    void *large = fen_alloc(16 << 20);
    fen_free(large);
    int rc = fen_mem_percent_set(100);
    return large && !rc ? ALL_WELL : 2;
}

static void *fork_often(void *arg)
{
    int *bad = arg;
    for (int i = 0; i < FORKS && !*bad; i++) {
        pid_t pid = fork();
        int status = -1;
        if (!pid)
            _exit(child());
        if (pid > 0)
            (void)waitpid(pid, &status, 0);
        if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != ALL_WELL)
            *bad = status ? status : -1;
    }
    stop = true;
    return NULL;
}

static int busy(void *arg)
{
    pthread_t t[2];
    assert_int_equal(pthread_create(&t[0], NULL, turn_knobs, NULL), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    for (intptr_t i = 1; i <= 4; i++)
        assert_int_equal(fen_go(worker, (void *)(i * 1000)), 0);
    assert_int_equal(pthread_create(&t[1], NULL, fork_often, arg), 0);
    assert_int_equal(fen_scope_close(s), 0);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    return 0;
}

static void children_of_a_busy_process_may_allocate(void **state)
{
    (void)state;
    int bad = 0;
    pool = fen_objpool_new(&(fen_objpool_config){.size_bytes = 200, .zero = true});
    assert_non_null(pool);
    const fen_config cfg = {.procs = 2, .mem_limit_bytes = (int64_t)1 << 40, .mem_percent = 20};
    assert_int_equal(fen_run(busy, &bad, &cfg), 0);
    fen_objpool_free(pool);
    if (bad)
        fail_msg("a child ended with status 0x%x", (unsigned)bad);
}

/* ---- a child whose thread has not had a block before ---- */

static void *one_block(void *arg)
{
    fen_free(fen_alloc(100));
    return arg;
}

static void *reclaim(void *arg)
{
    while (!stop)
        (void)fen_mem_reclaim();
    return arg;
}

static void *fork_once(void *ret_status)
{
    pid_t pid = fork();
    if (!pid) {
        alarm(5);
        fen_free(fen_alloc(100));
        _exit(ALL_WELL);
    }
    *(int *)ret_status = -1;
    if (pid > 0)
        (void)waitpid(pid, ret_status, 0);
    return NULL;
}

/* What a thread that has ended left is for the next one, and others may be at it, so many that some
 * have no processor just then. */
static void the_first_block_of_a_child_is_had(void **state)
{
    (void)state;
    enum { OTHERS = 6 };
    pthread_t t, r[OTHERS];
    int status;
    stop = false;
    assert_int_equal(pthread_create(&t, NULL, one_block, NULL), 0);
    pthread_join(t, NULL);
    for (int i = 0; i < OTHERS; i++)
        assert_int_equal(pthread_create(&r[i], NULL, reclaim, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        assert_int_equal(pthread_create(&t, NULL, fork_once, &status), 0);
        pthread_join(t, NULL);
        assert_int_equal(status, ALL_WELL << 8);
    }
    stop = true;
    for (int i = 0; i < OTHERS; i++)
        pthread_join(r[i], NULL);
}

int main(void)
{
#ifdef FEN__ASAN /* its allocator, which blocks come from there, holds no lock across a fork */
    print_message("skipped: AddressSanitizer's heap does not survive such a fork\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_of_a_busy_process_may_allocate),
        cmocka_unit_test(the_first_block_of_a_child_is_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
