/* again_test.c - fen_run again and again, from one thread and from many: each run leaves nothing:
 * descriptors, maps, threads and bytes are what they were. */
#include "entries.h"
#include "sched/sched.h"
#include "sys/proc.h"

#include <fen/fen.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef FEN__TSAN
enum { RUNS = 60, WARM = 10, THREADS = 4, EACH = 15 };
#else
enum { RUNS = 1000, WARM = 50, THREADS = 4, EACH = 100 };
#endif

struct holdings {
    int fds, threads, maps;
    int64_t heap_bytes, stack_bytes, mapped_bytes;
};

static void count_maps(struct holdings *h)
{
    char *text = malloc(1 << 20);
    ssize_t n = fen__sys_file_read("/proc/self/maps", text, (1 << 20) - 1);
    text[n > 0 ? n : 0] = 0;
    h->maps = 0;
    h->mapped_bytes = 0;
    for (char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
        char *dash;
        uint64_t low = strtoull(at, &dash, 16), high = strtoull(dash + 1, NULL, 16);
        h->maps++;
        h->mapped_bytes += (int64_t)(high - low);
    }
    free(text);
}

static struct holdings look(void)
{
    struct holdings h = {.fds = entries("/proc/self/fd"), .threads = entries("/proc/self/task")};
    fen_stats st;
    fen_stats_get(&st);
    h.heap_bytes = st.heap_live_bytes;
    h.stack_bytes = st.stacks_mapped_bytes;
    count_maps(&h);
    return h;
}

static void work_main(void *arg)
{
    int64_t v;
    assert_int_equal(fen_sleep(20 * FEN_US), 0);
    assert_int_equal(fen_chan_recv(arg, &v), 0);
}

static void block_main(void *arg)
{
    (void)arg;
    fen_blocking_begin();
    usleep(60);
    fen_blocking_end();
}

/* A little of everything that a run holds. */
static int some_work(void *arg)
{
    fen_sock *l;
    fen_chan *c = fen_chan_new(sizeof(int64_t), 0);
    assert_int_equal(fen_tcp_listen("127.0.0.1:0", 0, &l), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fen_go(work_main, c), 0);
    assert_int_equal(fen_go(block_main, NULL), 0);
    assert_int_equal(fen_go_named("wide", 256 << 10, block_main, NULL), 0);
    for (int64_t i = 0; i < 10; i++)
        assert_int_equal(fen_chan_send(c, &i), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_sock_close(l);
    fen_chan_free(c);
    return *(int *)arg;
}

static void a_thousand_runs_leave_nothing(void **state)
{
    (void)state;
    struct holdings first = {0}, last;
    for (int i = 0; i < RUNS; i++) {
        if (i == WARM)
            first = look();
        int want = i;
        assert_int_equal(fen_run(some_work, &want, &(fen_config){.procs = 1 + i % 4}), i);
    }
    last = look();
    for (int i = 0; i < 1000 && last.threads > first.threads; i++) {
        usleep(1000); /* a joined thread may still be listed for a moment */
        last = look();
    }
    assert_int_equal(last.fds, first.fds);
    assert_int_equal(last.threads, first.threads);
    assert_int_equal(last.heap_bytes, first.heap_bytes);
    assert_int_equal(last.stack_bytes, first.stack_bytes);
#if !defined(FEN__TSAN) && !defined(FEN__ASAN) /* they map as they like */
    /* The C library keeps up to 40 MB of stacks of ended threads and an arena or two. */
    print_message("maps %d, then %d; %lld bytes more\n", first.maps, last.maps,
                  (long long)(last.mapped_bytes - first.mapped_bytes));
    assert_true(last.maps <= first.maps + 8);
    assert_true(last.mapped_bytes <= first.mapped_bytes + (200 << 20));
#endif
}

static _Atomic int inside, ran, busy;

static int alone(void *arg)
{
    (void)arg;
    assert_int_equal(atomic_fetch_add(&inside, 1), 0); /* never two at once */
    (void)fen_sleep(30 * FEN_US);
    atomic_fetch_sub(&inside, 1);
    return 42;
}

static void *run_often(void *arg)
{
    for (int done = 0; done < EACH;) {
        int rc = fen_run(alone, NULL, &(fen_config){.procs = 2});
        if (rc == 42) {
            done++;
            atomic_fetch_add(&ran, 1);
        } else if (rc == -EBUSY) {
            atomic_fetch_add(&busy, 1);
            sched_yield();
        } else {
            abort();
        }
    }
    return arg;
}

static void threads_take_turns_and_the_others_are_refused(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    int fds = entries("/proc/self/fd");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, run_often, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&ran), THREADS * EACH);
    assert_true(atomic_load(&busy) > 0);
    assert_int_equal(entries("/proc/self/fd"), fds);
}

static _Atomic bool enough;

static void *reads_stats(void *arg)
{
    while (!atomic_load(&enough)) {
        fen_stats st;
        fen_stats_get(&st);
        assert_true(st.fibers_spawned >= 0 && st.run_queue >= 0);
    }
    return arg;
}

static void *spawns(void *arg)
{
    while (!atomic_load(&enough)) {
        (void)!fen_go(block_main, NULL); /* refused between the runs */
        usleep(20);
    }
    return arg;
}

static int little(void *arg)
{
    (void)arg;
    fen_yield();
    return 0;
}

/* What is read belongs to the run, which may begin or end at any moment. */
static void statistics_are_read_at_any_time(void **state)
{
    (void)state;
    pthread_t t[2];
    atomic_store(&enough, false);
    assert_int_equal(pthread_create(&t[0], NULL, reads_stats, NULL), 0);
    assert_int_equal(pthread_create(&t[1], NULL, spawns, NULL), 0);
    for (int i = 0; i < RUNS; i++)
        assert_int_equal(fen_run(little, NULL, &(fen_config){.procs = 1 + i % 3}), 0);
    atomic_store(&enough, true);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_runs_leave_nothing),
        cmocka_unit_test(statistics_are_read_at_any_time),
        cmocka_unit_test(threads_take_turns_and_the_others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
