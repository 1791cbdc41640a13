/* stall_test.c - a fiber that stalls others is named, with the place where it loops; the others go
 * on; and a process that has nothing to do does not wake up. */
#include "sched/sched.h"
#include "sys/proc.h"

#include <fen/fen.h>

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the log ---- */

static struct {
    pthread_mutex_t lock;
    fen_event last[3];
    char name[3][64];
    const void *frame[3][FEN_FRAMES_MAX];
    int told[3];
} heard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void listen(const fen_event *e, void *arg)
{
    assert_ptr_equal(arg, &heard);
    pthread_mutex_lock(&heard.lock);
    heard.last[e->kind] = *e;
    snprintf(heard.name[e->kind], sizeof heard.name[e->kind], "%s", e->name);
    memcpy(heard.frame[e->kind], e->frames, (size_t)e->n_frames * sizeof *e->frames);
    heard.told[e->kind]++;
    pthread_mutex_unlock(&heard.lock);
}

static int told(enum fen_event_kind kind)
{
    pthread_mutex_lock(&heard.lock);
    int n = heard.told[kind];
    pthread_mutex_unlock(&heard.lock);
    return n;
}

static int with_log(int (*fn)(void *arg), int procs, int threads)
{
    memset(heard.told, 0, sizeof heard.told);
    return fen_run(
        fn, NULL,
        &(fen_config){.procs = procs, .max_threads = threads, .log = listen, .log_arg = &heard});
}

static _Atomic bool stop;

/* A leaf may have no frame of its own: what is looked for is above one. */
__attribute__((noinline)) static uint64_t count(uint64_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n + 1;
}

__attribute__((noinline)) static uint64_t loop_without_end(void)
{
    uint64_t n = 0;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        n = count(n);
    return n + 1;
}

static _Atomic uint64_t turns, hog_id;

static void hog_main(void *arg)
{
    (void)arg;
    atomic_store(&hog_id, fen_fiber_id());
    atomic_fetch_add(&turns, loop_without_end());
}

/* Until the event came, at most 8 s. */
static void wait_told(enum fen_event_kind kind)
{
    for (int i = 0; i < 8000 && !told(kind); i++)
        fen_sleep(FEN_MS);
}

static int beside_a_hog(void *arg)
{
    (void)arg;
    atomic_store(&stop, false);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go_named("the hog", 0, hog_main, NULL), 0);
    wait_told(FEN_EVENT_HOG);
    atomic_store(&stop, true);
    return fen_scope_close(s);
}

#ifndef FEN__TSAN
static bool among_frames(const char *fn)
{
    for (int i = 0; i < heard.last[FEN_EVENT_HOG].n_frames; i++) {
        const char *at = heard.frame[FEN_EVENT_HOG][i];
        if (at > fn && at < fn + 512)
            return true;
    }
    return false;
}
#endif

static void a_hog_is_named_with_the_place_where_it_loops(void **state)
{
    (void)state;
    struct sigaction sa;
    assert_int_equal(with_log(beside_a_hog, 1, 0), 0);
    const fen_event *e = &heard.last[FEN_EVENT_HOG];
    assert_true(heard.told[FEN_EVENT_HOG] >= 1);
    assert_string_equal(heard.name[FEN_EVENT_HOG], "the hog");
    assert_int_equal(e->fiber, atomic_load(&hog_id));
    assert_ptr_equal(e->entry, (void *)(uintptr_t)hog_main);
    assert_true(e->stuck_ns >= FEN_MS / 2);
#ifndef FEN__TSAN /* it keeps signals back from a thread that makes no call */
    assert_true(e->n_frames >= 3);
    assert_true(among_frames((const char *)(uintptr_t)hog_main));
#endif
    assert_int_equal(sigaction(SIGURG, NULL, &sa), 0);
    assert_true(sa.sa_handler == SIG_DFL);
}

static void own_urg(int n) { (void)n; }

static void the_programs_own_handler_stays(void **state)
{
    (void)state;
    struct sigaction sa;
    signal(SIGURG, own_urg);
    assert_int_equal(with_log(beside_a_hog, 1, 0), 0);
    assert_true(heard.told[FEN_EVENT_HOG] >= 1);
    assert_string_equal(heard.name[FEN_EVENT_HOG], "the hog");
    assert_int_equal(heard.last[FEN_EVENT_HOG].n_frames, 0);
    assert_int_equal(sigaction(SIGURG, NULL, &sa), 0);
    assert_true(sa.sa_handler == own_urg);
    signal(SIGURG, SIG_DFL);
}

static void sleeper_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop))
        usleep(20000);
}

static int beside_a_sleeper(void *arg)
{
    (void)arg;
    atomic_store(&stop, false);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go_named("the sleeper", 0, sleeper_main, NULL), 0);
    wait_told(FEN_EVENT_BLOCKED);
    atomic_store(&stop, true);
    return fen_scope_close(s);
}

static void an_undeclared_blocking_call_is_named(void **state)
{
    (void)state;
    assert_int_equal(with_log(beside_a_sleeper, 1, 0), 0);
    assert_true(heard.told[FEN_EVENT_BLOCKED] >= 1);
    assert_string_equal(heard.name[FEN_EVENT_BLOCKED], "the sleeper");
    assert_true(heard.last[FEN_EVENT_BLOCKED].n_frames <= 1);
}

static int too_many_hogs(void *arg)
{
    (void)arg;
    atomic_store(&stop, false);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fen_go_named("one of four", 0, hog_main, NULL), 0);
    /* Three threads: two lose their P, the third keeps it: nobody else runs until it stops. */
    return fen_scope_close(s);
}

static void *end_it(void *arg)
{
    for (int i = 0; i < 8000 && !told(FEN_EVENT_NO_THREAD); i++)
        usleep(1000);
    atomic_store(&stop, true);
    return arg;
}

static void a_hand_over_that_is_refused_is_told_and_counted(void **state)
{
    (void)state;
    pthread_t t;
    heard.told[FEN_EVENT_NO_THREAD] = 0;
    assert_int_equal(pthread_create(&t, NULL, end_it, NULL), 0);
    assert_int_equal(with_log(too_many_hogs, 1, 3), 0);
    pthread_join(t, NULL);
    fen_stats st;
    fen_stats_get(&st);
    assert_true(st.handoffs_refused >= 1);
    assert_int_equal(heard.told[FEN_EVENT_NO_THREAD], 1); /* at most one a second */
}

#ifndef FEN__TSAN /* it has a thread of its own, which wakes up */
/* ---- rest ---- */

/* Context switches of all threads but the calling one. */
static int64_t switches_elsewhere(void)
{
    char path[300], text[4096];
    int64_t sum = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || atoi(e->d_name) == (int)gettid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        ssize_t n = fen__sys_file_read(path, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        const char *at = strstr(text, "\nvoluntary_ctxt_switches:");
        sum += at ? strtoll(at + 25, NULL, 10) : 0;
    }
    closedir(d);
    return sum;
}

enum { PARKED = 100000 };

static fen_chan *never;
static _Atomic int parked;
static int64_t quiet_switches;

static void park_main(void *arg)
{
    (void)arg;
    atomic_fetch_add(&parked, 1);
    (void)fen_chan_recv(never, NULL);
}

static void *observe(void *arg)
{
    (void)arg;
    while (atomic_load(&parked) < PARKED)
        usleep(1000);
    int64_t before, after = switches_elsewhere();
    /* The books of what went before are closed within some rounds of the monitor; then a second
     * must pass without one wake-up. */
    for (int i = 0; i < 6; i++) {
        usleep(300000);
        before = after;
        after = switches_elsewhere();
        if (after == before)
            break;
    }
    usleep(1000000);
    quiet_switches = switches_elsewhere() - after;
    fen_chan_close(never);
    return NULL;
}

static int park_many(void *arg)
{
    pthread_t t;
    never = fen_chan_new(0, 0);
    fen_outsider_begin(); /* or the report of a deadlock falls into the quiet second */
    assert_int_equal(pthread_create(&t, NULL, observe, NULL), 0);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < PARKED; i++)
        assert_int_equal(fen_go(park_main, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    fen_blocking_begin();
    pthread_join(t, NULL);
    fen_blocking_end();
    fen_outsider_end();
    fen_chan_free(never);
    (void)arg;
    return 0;
}

static void a_process_at_rest_does_not_wake_up(void **state)
{
    (void)state;
    assert_int_equal(fen_run(park_many, NULL, &(fen_config){.procs = 2}), 0);
    assert_int_equal(quiet_switches, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hog_is_named_with_the_place_where_it_loops),
        cmocka_unit_test(the_programs_own_handler_stays),
        cmocka_unit_test(an_undeclared_blocking_call_is_named),
        cmocka_unit_test(a_hand_over_that_is_refused_is_told_and_counted),
#ifndef FEN__TSAN
        cmocka_unit_test(a_process_at_rest_does_not_wake_up),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
