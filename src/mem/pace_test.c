/* pace_test.c - the pacer on the heap itself, without a scheduler: the test is the monitor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/heap_int.h"
#include "sys/cgroup.h"
#include "sys/proc.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((int64_t)1 << 20)
#define PIECE ((size_t)16 << 10)
#define WAIT_NS (20 * FEN_S) /* never, if it hangs */

static struct fen__reclaim_cycle last, first_goal;
static _Atomic int told_n, goals;

/* What a pool keeps for later: blocks that only a reclaim lets go. The load's own thread frees
 * them, in pool_step, and the reclaim waits for that: freed by another thread they would be in use
 * until their home's next look at them, and how much is live after a reclaim a matter of luck. */
static struct {
    struct fen__reclaim_hook hook;
    void *list;          /* the load's */
    _Atomic bool open;   /* there is a load */
    _Atomic bool asked;  /* to let go */
    _Atomic bool cycles; /* a reclaim that has asked goes on */
} victims;

static void told(const struct fen__reclaim_cycle *c)
{
    last = *c;
    if (c->why == FEN__RECLAIM_GOAL && atomic_fetch_add(&goals, 1) == 0)
        first_goal = *c;
    atomic_fetch_add(&told_n, 1);
    atomic_store(&victims.cycles, false);
}

static void begin(int percent, int64_t limit)
{
    const struct fen__pace_config c = {
        .percent = percent, .slice_ns = 100 * FEN_US, .limit_bytes = limit, .told = told};
    fen__mem_flush();
    (void)fen_mem_reclaim();
    fen__pace_open(&c);
    fen__pace_due(FEN__DUE_LOOK); /* so that the thread is there */
    fen__pace_tick(fen__sys_now());
    (void)fen_mem_reclaim();
    atomic_store(&told_n, 0);
    atomic_store(&goals, 0);
}

static int64_t held(void)
{
    fen_mem_stats s;
    fen_mem_stats_get(&s);
    return s.held_bytes + s.retained_bytes;
}

static fen_mem_pace now_is(void)
{
    fen_mem_pace p;
    fen_mem_pace_get(&p);
    return p;
}

/* A list through the blocks' first words. */
static void *push(void *list, size_t n)
{
    void **p = fen__heap_alloc(n);
    if (!p)
        return NULL;
    memset(p, 1, n);
    *p = list;
    return p;
}

static void *grow(void *list, int64_t bytes)
{
    for (int64_t at = 0; at < bytes; at += (int64_t)PIECE) {
        list = push(list, PIECE);
        assert_non_null(list);
    }
    return list;
}

static void drop(void *list)
{
    while (list) {
        void *next = *(void **)list;
        fen__heap_free(list);
        list = next;
    }
}

static void texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {
        {"1048576B", MIB},           {"1024KiB", MIB}, {"64MiB", 64 * MIB},   {"2GiB", 2048 * MIB},
        {"1TiB", 1024 * 1024 * MIB}, {"off", 0},       {"auto", FEN_MEM_AUTO}};
    static const char *const bad[] = {"1G",
                                      "1g",
                                      "64MB",
                                      "64M",
                                      "64",
                                      "",
                                      "MiB",
                                      "-1MiB",
                                      "1.5GiB",
                                      " 1GiB",
                                      "1GiB ",
                                      "1gib",
                                      "Auto",
                                      "1023KiB",
                                      "0MiB",
                                      "9000000TiB",
                                      "99999999999999999999B",
                                      "+1GiB",
                                      "0x1GiB"};
    int64_t v = 7;
    for (size_t i = 0; i < FEN__COUNT(good); i++) {
        assert_int_equal(fen_mem_limit_parse(good[i].text, &v), 0);
        assert_int_equal(v, good[i].bytes);
    }
    v = 7;
    for (size_t i = 0; i < FEN__COUNT(bad); i++)
        if (fen_mem_limit_parse(bad[i], &v) != -EINVAL || v != 7)
            fail_msg("'%s' is taken for a limit", bad[i]);
    static const char *const bad_percent[] = {"",    "0",  "-1",  "10001", "50%",
                                              "1e2", " 5", "OFF", "x"};
    int p = 7;
    for (size_t i = 0; i < FEN__COUNT(bad_percent); i++)
        if (fen_mem_percent_parse(bad_percent[i], &p) != -EINVAL || p != 7)
            fail_msg("'%s' is taken for a percentage", bad_percent[i]);
    assert_int_equal(fen_mem_percent_parse("50", &p), 0);
    assert_int_equal(p, 50);
    assert_int_equal(fen_mem_percent_parse("off", &p), 0);
    assert_int_equal(p, FEN_MEM_OFF);
    assert_int_equal(fen_mem_percent_set(0), -EINVAL);
    assert_int_equal(fen_mem_percent_set(10001), -EINVAL);
    assert_int_equal(fen_mem_limit_set(MIB - 1), -EINVAL);
    assert_int_equal(fen_mem_limit_set(-3), -EINVAL);
    assert_int_equal(fen_mem_slice_set(FEN_US), -EINVAL);
    assert_int_equal(fen_mem_profile_set("fast"), -EINVAL);
    assert_int_equal(fen_mem_profile_set("latency"), 0);
    assert_int_equal(now_is().percent, 200);
    assert_int_equal(now_is().slice_ns, 40 * FEN_US);
    assert_int_equal(fen_mem_profile_set("balanced"), 0);
}

static bool goal_is_reached(void) { return held() >= now_is().goal_bytes; }

/* live x 1.5, five percent up or down. At the goal the load waits: how soon the reclaimer has a
 * processor is the machine's affair. */
static void the_goal_is_half_as_much_again(void **state)
{
    (void)state;
    const int64_t live = 64 * MIB;
    begin(FEN_MEM_OFF, 0); /* so that none goes on that began on the way there */
    void *list = grow(NULL, live);
    (void)fen_mem_reclaim();
    assert_int_equal(fen_mem_percent_set(50), 0);
    for (int64_t more = 0; more < live && !atomic_load(&goals) && !goal_is_reached();
         more += 256 << 10)
        list = grow(list, 256 << 10);
    for (int64_t end = fen__sys_now() + WAIT_NS; !atomic_load(&goals) && fen__sys_now() < end;)
        fen__sys_nap(FEN_MS);
    assert_true(atomic_load(&goals) > 0);
    fen__pace_close(); /* the record is ours */
    int64_t at = first_goal.held_before;
    if (at < live / 100 * 143 || at > live / 100 * 158)
        fail_msg("reclaim at %lld, live was %lld", (long long)at, (long long)live);
    at = first_goal.live_before;
    if (at < live / 100 * 143 || at > live / 100 * 158)
        fail_msg("reclaim at %lld live, it was %lld", (long long)at, (long long)live);
    drop(list);
}

static size_t let_go(struct fen__reclaim_hook *h, bool all)
{
    (void)h;
    (void)all;
    if (!atomic_load(&victims.open))
        return 0;
    atomic_store(&victims.cycles, true);
    atomic_store(&victims.asked, true);
    while (atomic_load(&victims.asked) && atomic_load(&victims.open))
        fen__sys_nap(FEN_MS / 20);
    return PIECE; /* something; nobody adds it up */
}

/* True: a reclaim is due or goes on, and the load has to wait for it. */
static bool pool_step(void)
{
    if (atomic_load(&victims.asked)) {
        drop(victims.list);
        victims.list = NULL;
        fen__mem_flush();
        atomic_store(&victims.asked, false);
    }
    return atomic_load(&victims.cycles) || goal_is_reached();
}

struct run {
    int64_t cycles, peak;
};

/* 256 MiB go through the pool beside 32 MiB that stay. At the goal, and while a reclaim
 * goes on, the load waits, so that the machine's load does not matter. */
static struct run churn(int percent)
{
    begin(FEN_MEM_OFF, 0);
    void *live = grow(NULL, 32 * MIB);
    fen__reclaim_register(&victims.hook);
    (void)fen_mem_reclaim();
    assert_int_equal(fen_mem_percent_set(percent), 0);
    int64_t before = now_is().goal_cycles;
    struct run r = {0};
    atomic_store(&victims.open, true);
    for (int64_t at = 0; at < 256 * MIB; at += 256 << 10) {
        victims.list = grow(victims.list, 256 << 10);
        r.peak = fen__max_i64(r.peak, held());
        for (int64_t end = fen__sys_now() + WAIT_NS; pool_step();) {
            assert_true(fen__sys_now() < end);
            fen__sys_nap(FEN_MS / 20);
        }
    }
    r.cycles = now_is().goal_cycles - before;
    atomic_store(&victims.open, false);
    fen__pace_close();
    fen__reclaim_unregister(&victims.hook);
    atomic_store(&victims.asked, true);
    (void)pool_step();
    drop(live);
    return r;
}

static void less_often_with_more_memory(void **state)
{
    (void)state;
    static const int percents[] = {20, 50, 100, 200};
    struct run r[4];
    victims.hook.fn = let_go;
    for (int i = 0; i < 4; i++)
        r[i] = churn(percents[i]);
    for (int i = 1; i < 4; i++)
        if (r[i].cycles >= r[i - 1].cycles || r[i].peak <= r[i - 1].peak)
            fail_msg("%d %%: %lld cycles, peak %lld; %d %%: %lld, %lld", percents[i - 1],
                     (long long)r[i - 1].cycles, (long long)r[i - 1].peak, percents[i],
                     (long long)r[i].cycles, (long long)r[i].peak);
    assert_true(r[3].cycles > 0);
}

static void off_is_off(void **state)
{
    (void)state;
    begin(FEN_MEM_OFF, 0);
    int64_t before = now_is().cycles;
    int64_t span = getenv("FEN_TIMED") ? 10 * FEN_S : FEN_S;
    for (int64_t end = fen__sys_now() + span; fen__sys_now() < end;) {
        drop(grow(NULL, 48 * MIB));
        fen__pace_tick(fen__sys_now());
    }
    assert_int_equal(now_is().cycles, before);
    assert_int_equal(now_is().goal_bytes, 0);
    assert_int_equal(atomic_load(&told_n), 0);
    assert_true(held() >= 40 * MIB); /* nothing has gone back */
#ifndef FEN__TSAN                    /* its shadow stays */
    void *list = grow(NULL, 128 * MIB);
    int64_t full = fen__sys_own_bytes(), pages = held();
    drop(list);
    int64_t got = fen_mem_reclaim();
    int64_t after = fen__sys_own_bytes();
    assert_true(got >= (pages - held()) / 10 * 9);
    assert_true(full - after >= 128 * MIB / 10 * 9);
    assert_int_equal(now_is().cycles, before + 1);
    assert_int_equal(last.why, FEN__RECLAIM_ASKED);
#endif
    fen__pace_close();
}

/* At 10,000 % no goal is reached, but what nobody wants for a second goes back. */
static void what_waits_goes_back(void **state)
{
    (void)state;
    begin(FEN_MEM_PERCENT_MAX, 0);
    void *live = grow(NULL, 8 * MIB);
    drop(grow(NULL, 64 * MIB));
    assert_true(held() >= 60 * MIB);
    for (int64_t end = fen__sys_now() + WAIT_NS;
         (held() > 20 * MIB || !now_is().idle_cycles) && fen__sys_now() < end;)
        fen__sys_nap(10 * FEN_MS);
    assert_true(held() <= 20 * MIB);
    assert_true(now_is().idle_cycles > 0);
    assert_int_equal(atomic_load(&goals), 0);
    fen__pace_close();
    drop(live);
}

static void the_limit_holds(void **state)
{
    (void)state;
#ifdef FEN__TSAN /* its shadow would count too */
    skip();
#endif
    begin(100, 0);
    int64_t limit = fen__sys_own_bytes() + 48 * MIB;
    assert_int_equal(fen_mem_limit_set(limit), 0);
    assert_int_equal(now_is().limit_bytes, limit);
    void *list = NULL, *next;
    int64_t got = 0;
    for (; (next = push(list, PIECE)); got += (int64_t)PIECE) {
        list = next;
        assert_true(got < 64 * MIB);
        if (got % MIB == 0) {
            fen__pace_tick(fen__sys_now());
            fen__sys_nap(FEN_MS);
        }
    }
    assert_true(got > 16 * MIB);
    assert_true(fen__sys_own_bytes() <= limit);
    assert_int_equal(fen_mem_pressure(), FEN_MEM_SHORT);
    assert_true(now_is().refused > 0);
    assert_null(fen__heap_alloc((size_t)(32 * MIB))); /* a map of its own likewise */
    drop(list);
    for (int64_t end = fen__sys_now() + WAIT_NS;
         fen_mem_pressure() != FEN_MEM_EASY && fen__sys_now() < end;)
        fen__sys_nap(FEN_MS);
    assert_int_equal(fen_mem_pressure(), FEN_MEM_EASY);
    assert_true(now_is().limit_cycles > 0);
    list = push(NULL, PIECE);
    assert_non_null(list);
    drop(list);
    fen__pace_close();
    assert_int_equal(now_is().limit_bytes, 0);
}

/* The thread is made by the first need and ends with the run. */
static void again_and_again(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        begin(20, 0);
        drop(grow(NULL, 8 * MIB));
        fen__pace_tick(fen__sys_now());
        fen__pace_close();
    }
    fen_mem_pace p = now_is();
    assert_true(p.slices > 0);
    assert_true(p.slice_p50_ns <= p.slice_p95_ns && p.slice_p95_ns <= p.slice_p99_ns);
    assert_true(p.slice_max_ns > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(the_goal_is_half_as_much_again),
        cmocka_unit_test(less_often_with_more_memory),
        cmocka_unit_test(off_is_off),
        cmocka_unit_test(what_waits_goes_back),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
