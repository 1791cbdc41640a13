/* depot_test.c - do full stacks change hands, whoever pays, and does a reclaim get them back? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/heap_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 4096
#define BYTES 128

static void *blocks[BLOCKS];
static uint32_t payer;
static fen_mem_class after;

static fen_mem_class class_now(void)
{
    fen_mem_class c;
    assert_int_equal(fen_mem_class_get(fen__class_of(BYTES), &c), 0);
    return c;
}

static void take_all(uint32_t account)
{
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = fen__heap_alloc_for(account, BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], i, BYTES);
    }
}

static void *free_all(void *arg)
{
    for (int i = 0; i < BLOCKS; i++)
        fen__heap_free(blocks[i]);
    after = class_now();
    return arg;
}

static void elsewhere(void *(*fn)(void *))
{
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, fn, NULL), 0);
    pthread_join(t, NULL);
}

static int64_t live_of(uint32_t account)
{
    fen_mem_usage u;
    assert_int_equal(fen_mem_usage_get(account, &u), 0);
    return u.live_bytes;
}

static int count_chain(const struct fen__block *b)
{
    int n = 0;
    for (; b; b = b->next)
        n++;
    return n;
}

static void full_stacks_change_hands(void **state)
{
    (void)state;
    fen_mem_reclaim();
    take_all(0);
    fen_mem_class full = class_now();
    assert_true(full.out_blocks >= BLOCKS && full.blocks >= full.out_blocks);
    int64_t before = fen__depot_bytes();
    elsewhere(free_all);
    int64_t shelved = fen__depot_bytes() - before;
    assert_true(shelved >= BLOCKS * BYTES / 2);
    for (int i = 0; i < 3; i++) { /* from here on the same blocks go round */
        take_all(0);
        elsewhere(free_all);
    }
    assert_true(after.spans <= full.spans + 2);
    assert_true(after.refills > full.refills);
}

static void a_stack_keeps_its_account(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 6; round++) {
        payer = round % 3 * 7; /* 0 among them, whose blocks need no note */
        int64_t base = live_of(payer);
        take_all(payer);
        assert_int_equal(live_of(payer) - base, BLOCKS * BYTES);
        for (int i = 0; i < BLOCKS; i += 99)
            assert_int_equal(fen__heap_account(blocks[i]), payer);
        elsewhere(free_all);
        assert_int_equal(live_of(payer), base);
    }
}

/* The stack at hand was another account's, and empty, when one from the depot took its place. */
static void a_stack_brings_its_account(void **state)
{
    (void)state;
    const uint32_t was = 21, pays = 28;
    static void *rest[BLOCKS];
    const struct fen__mag *m;
    int n = 0;
    fen_mem_reclaim();
    take_all(was);
    elsewhere(free_all);
    int64_t base = live_of(pays);
    m = &fen__cache_self()->mag[fen__class_of(BYTES)];
    do { /* until nothing is at hand */
        assert_true(n < BLOCKS);
        rest[n++] = fen__heap_alloc_for(pays, BYTES);
    } while (m->head || m->alt);
    fen__heap_free(rest[--n]); /* and the stack is the payer's */
    assert_int_equal(m->owner, pays);
    rest[n++] = fen__heap_alloc_for(pays, BYTES);
    assert_null(m->head);
    int64_t shelved = fen__depot_bytes();
    assert_true(shelved > 0);
    assert_int_equal(fen_mem_account_set(pays), 0); /* so that the fast path gives them out */
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = fen__heap_alloc(BYTES);
        assert_int_equal(fen__heap_account(blocks[i]), pays);
    }
    assert_int_equal(fen_mem_account_set(0), 0);
    assert_true(fen__depot_bytes() < shelved);
    assert_int_equal(live_of(pays) - base, (n + BLOCKS) * BYTES);
    while (n)
        fen__heap_free(rest[--n]);
    elsewhere(free_all);
    assert_int_equal(live_of(pays), base);
    assert_int_equal(live_of(was), 0);
}

static void inuse(const struct fen__profile_entry *e, void *arg)
{
    if (e->account == 35)
        *(int64_t *)arg += e->inuse_objects;
}

static int64_t inuse_of_35(void)
{
    int64_t n = 0;
    fen__profile_each(inuse, &n);
    return n;
}

/* What the heap profile has noted is forgotten before it is shelved, and noted anew when it comes
 * back from there. */
static void what_is_noted_is_not_shelved(void **state)
{
    (void)state;
    uint16_t owner;
    uint32_t bin = fen__class_of(BYTES);
    fen_mem_reclaim();
    for (int round = 0; round < 3; round++) {
        assert_int_equal(fen_profile_heap_rate_set(1), 0); /* each block */
        int64_t before = fen__depot_bytes();
        take_all(35);
        assert_true(round == 0 || fen__depot_bytes() < before); /* shelved ones are among them */
        assert_int_equal(inuse_of_35(), BLOCKS);
        assert_int_equal(fen__page_bin(blocks[0]), FEN__BIN_SLOW);
        elsewhere(free_all);
        assert_int_equal(inuse_of_35(), 0);
        assert_true(fen__depot_bytes() >= BLOCKS * BYTES / 2);
        struct fen__block *top = fen__depot_get(0, bin, &owner, 0);
        assert_non_null(top);
        for (const struct fen__block *b = top; b; b = b->next) {
            assert_false(fen__profile_has(fen__span_in_region(b), b));
            assert_int_equal(fen__page_bin(b), bin);
        }
        assert_true(fen__depot_put(0, bin, top, owner, 0));
    }
    assert_int_equal(fen_profile_heap_rate_set(FEN_PROFILE_OFF), 0);
}

static void a_reclaim_empties_it(void **state)
{
    (void)state;
    take_all(0);
    elsewhere(free_all);
    assert_true(fen__depot_bytes() > 0);
    fen_mem_reclaim();
    assert_int_equal(fen__depot_bytes(), 0);
    fen_mem_class c = class_now();
    assert_true(c.out_blocks < 600); /* what this thread may have at hand at most */
    assert_true(c.spans * 256 < BLOCKS);
}

static void stacks_are_whole_and_bounded(void **state)
{
    (void)state;
    uint16_t owner;
    uint32_t bin = fen__class_of(BYTES);
    int taken = 0;
    fen_mem_reclaim();
    for (int i = 0; i < 20; i++) {
        take_all(0);
        elsewhere(free_all);
    }
    int64_t bytes = fen__depot_bytes();
    assert_true(bytes <= 4 << 20);
    struct fen__block *b = fen__depot_get(0, bin, &owner, 0);
    assert_non_null(b);
    int n = count_chain(b);
    assert_int_equal(n, 257); /* 32 KiB of them, and the one that was too many */
    while (taken < 100 && fen__depot_put(0, bin, b, owner, 0)) /* its shelf ends somewhere */
        taken++;
    assert_true(taken >= 1 && taken < 100);
    while (taken-- > 1) /* the same one each time */
        assert_ptr_equal(fen__depot_get(0, bin, &owner, 0), b);
    assert_false(fen__depot_put(0, bin, b, owner, 5 << 20)); /* all shelves together */
    fen_mem_reclaim();
    assert_int_equal(fen__depot_bytes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_stacks_change_hands),
        cmocka_unit_test(a_stack_keeps_its_account),
        cmocka_unit_test(a_stack_brings_its_account),
        cmocka_unit_test(what_is_noted_is_not_shelved),
        cmocka_unit_test(a_reclaim_empties_it),
        cmocka_unit_test(stacks_are_whole_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
