/* mem_fault_test.c - the n-th allocation or map fails, for every n, in pools of resources and of
 * objects, arenas, blocks, clean-ups, groups and the pacer's knobs: each call returns -ENOMEM or
 * NULL, or works; every clean-up that was registered runs once; nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault.h"
#include "fiber_check.h"
#include "mem/mem.h"

#include <fen/mem.h>
#include <fen/objpool.h>
#include <fen/pace.h>
#include <fen/pool.h>

#include <errno.h>
#include <string.h>

#define MOST 2000 /* faults of one kind; each must have come before */

static bool ok_or_nomem(int rc) { return rc == 0 || rc == -ENOMEM; }

/* ---- pools of resources ---- */

static _Atomic int made;

static int make(void *arg, void **ret)
{
    (void)arg;
    *ret = fen__mem_alloc(500);
    made += *ret != NULL;
    return *ret ? 0 : -ENOMEM;
}

static void destroy(void *arg, void *resource)
{
    (void)arg;
    made--;
    fen__mem_free(resource, 500);
}

static void borrow(void *pool)
{
    fen_lease l;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return;
    int rc = fen_pool_get_until(pool, fen_now() + 50 * FEN_MS, &l);
    if (rc == 0)
        fen_pool_put(&l, fen_sleep(10 * FEN_US) == -ENOMEM ? -EIO : 0);
    else
        must(rc == -ENOMEM || rc == -ETIMEDOUT);
    must_equal(fen_scope_close(s), 0);
}

static void resources(void)
{
    fen_pool_config cfg = {.max = 2, .make = make, .destroy = destroy};
    fen_pool *p = fen_pool_new(&cfg);
    fen_scope *s = p ? fen_scope_open(FEN_NEVER) : NULL;
    for (int i = 0; s && i < 5; i++) /* more than there are, so that some wait */
        must(ok_or_nomem(fen_go(borrow, p)));
    if (s)
        must_equal(fen_scope_close(s), 0);
    if (p) {
        fen_pool_stats st;
        fen_pool_stats_get(p, &st);
        must_equal(st.lent + st.waiting, 0);
        must_equal(st.made - st.destroyed, made);
    }
    fen_pool_free(p);
    must_equal(made, 0);
}

/* ---- pools of objects ---- */

static int living;

static int object_init(void *object, void *arg)
{
    (void)arg;
    *(void **)object = fen__mem_alloc(100);
    living += *(void **)object != NULL;
    return *(void **)object ? 0 : -ENOMEM;
}

static void object_fini(void *object, void *arg)
{
    (void)arg;
    living--;
    fen__mem_free(*(void **)object, 100);
}

static void objects(void)
{
    fen_objpool_config cfg = {.size_bytes = 300, .init = object_init, .fini = object_fini};
    fen_objpool *p = fen_objpool_new(&cfg);
    void *got[40] = {0};
    for (int round = 0; p && round < 2; round++) {
        for (int i = 0; i < 40; i++)
            got[i] = fen_objpool_get(p);
        for (int i = 0; i < 40; i++)
            if (got[i])
                fen_objpool_put(p, got[i]);
    }
    fen_objpool_free(p);
    must_equal(living, 0);
}

/* ---- arenas, blocks ---- */

static void blocks(void)
{
    fen_arena *a = fen_arena_new();
    for (size_t n = 1; a && n < 100000; n *= 3) {
        char *p = fen_arena_alloc(a, n), *q = fen_arena_dup(a, "text", 4);
        if (p)
            memset(p, 1, n);
        must(!q || !strcmp(q, "text"));
    }
    if (a)
        fen_arena_reset(a);
    fen_arena_free(a);
    void *p = fen_alloc(3 << 20), *q = NULL;
    int rc = fen_aligned_alloc(1 << 16, 1 << 16, &q);
    must(ok_or_nomem(rc));
    void *r = fen_realloc(p, 5 << 20);
    fen_free(r ? r : p);
    fen_free(q);
    fen_free(fen_calloc(300000, 7));
    fen_free(fen_alloc_for(9, 200000));
}

/* ---- clean-ups ---- */

static int ran;

static void ran_dyn(void *copy) { ran += *(int *)copy; }
static int ran_item(void *arg)
{
    ++*(int *)arg;
    return 0;
}

static void clean_ups(void)
{
    int expected = 0, one = 1, rc = 0, of_group = 0, added = 0;
    char big[FEN_DEFER_BYTES_MAX] = {1};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return;
    ran = 0;
    memcpy(big, &one, sizeof one);
    for (int i = 0; i < 300; i++) {
        int got =
            fen_defer_dyn(s, ran_dyn, i % 2 ? big : (void *)&one, i % 2 ? sizeof big : sizeof one);
        must(ok_or_nomem(got));
        expected += got == 0;
    }
    fen_defer_group g;
    fen_defer_group_init(&g, s, &rc);
    for (int i = 0; i < 40; i++) { /* beyond those inline */
        int got = fen_defer_group_add(&g, ran_item, &of_group);
        must(ok_or_nomem(got));
        added += got == 0;
    }
    must_equal(fen_scope_close(s), 0);
    must_equal(ran, expected);
    must_equal(of_group, added);
}

/* ---- groups ---- */

static int member(void *arg)
{
    (void)arg;
    int rc = fen_sleep(10 * FEN_US);
    return rc == -ECANCELED ? 0 : rc;
}

static void groups(void)
{
    fen_group *g = fen_group_open(3, FEN_NEVER);
    int refused = 0;
    if (!g)
        return;
    for (int i = 0; i < 8; i++) {
        int rc = fen_group_go(g, member, NULL);
        must(ok_or_nomem(rc) || rc == -ECANCELED);
        refused += rc != 0;
    }
    must(ok_or_nomem(fen_group_wait(g)) || refused);
}

/* ---- knobs ---- */

static void knobs(void)
{
    fen_mem_pace p;
    must_equal(fen_mem_percent_set(50), 0);
    must_equal(fen_mem_slice_set(50 * FEN_US), 0);
    must_equal(fen_mem_limit_set(FEN_MEM_AUTO), 0);
    must_equal(fen_mem_profile_set("container"), 0);
    must_equal(fen_mem_profile_set("balanced"), 0);
    (void)fen_mem_reclaim();
    fen_mem_pace_get(&p);
    must_equal(p.percent, 100);
    must_equal(p.slice_ns, 100 * FEN_US);
    must(ok_or_nomem(fen_mem_cap_set(9, 1 << 20)));
    must(ok_or_nomem(fen_mem_account_set(9)));
    must(ok_or_nomem(fen_mem_account_set(0)));
}

static int everything(void *arg)
{
    (void)arg;
    resources();
    objects();
    blocks();
    clean_ups();
    groups();
    knobs();
    return 0;
}

static void each_fails(const char *call, int want)
{
    const fen_config cfg = {.procs = 2};
    assert_int_equal(fen_run(everything, NULL, &cfg), 0);
    int64_t idle = fen__mem_live_bytes();
    bool hit = true;
    int nth = 1;
    for (; hit && nth < MOST; nth++) {
        fault_arm(call, want, nth);
        int rc = fen_run(everything, NULL, &cfg);
        hit = fault_disarm();
        if (rc && !hit)
            fail_msg("%s %d: %d without a fault", call, nth, rc);
        if (fen__mem_live_bytes() != idle)
            fail_msg("%s %d: %ld bytes left behind", call, nth,
                     (long)(fen__mem_live_bytes() - idle));
        fen_stats st;
        fen_stats_get(&st);
        assert_int_equal(st.fibers_live, 0);
    }
    print_message("%s: each of %d failed once\n", call, nth - 2);
    assert_in_range(nth, 4, MOST - 1);
}

static void each_allocation_fails(void **state)
{
    (void)state;
    each_fails("malloc", -ENOMEM);
}

static void each_map_fails(void **state)
{
    (void)state;
    each_fails("mmap", -ENOMEM);
}

static void each_file_fails(void **state)
{
    (void)state;
    each_fails("open", -EMFILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails),
        cmocka_unit_test(each_map_fails),
        cmocka_unit_test(each_file_fails),
    };
    fault_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
