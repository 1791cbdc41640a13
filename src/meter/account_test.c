/* account_test.c - accounts are bounded, fast to find, and add up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "meter/meter.h"
#include "sys/sys.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fen_slice slice(const char *s) { return (fen_slice){s, strlen(s)}; }

static const char *tenant_of(uint32_t op, const char *name)
{
    return fen__meter_tenant_name(fen__meter_account_tenant(fen__meter_account(op, slice(name))));
}

static void names_are_checked(void **state)
{
    (void)state;
    uint32_t op = fen__meter_operation("GET /a");
    assert_int_not_equal(op, 0);
    assert_int_equal(fen__meter_operation("GET /a"), op);
    assert_string_equal(fen__meter_operation_name(op), "GET /a");
    assert_string_equal(tenant_of(op, "acme"), "acme");
    assert_string_equal(tenant_of(op, "a.B-c_9"), "a.B-c_9");
    assert_string_equal(tenant_of(op, ""), "_none");
    assert_int_equal(fen__meter_account_tenant(fen__meter_account(op, (fen_slice){NULL, 0})),
                     FEN__TENANT_NONE);
    static const char *const bad[] = {"a b", "_other", "_none", "a\"b", "a\nb", "\xc3\xa9", "a/b"};
    for (size_t i = 0; i < FEN__COUNT(bad); i++)
        assert_string_equal(tenant_of(op, bad[i]), "_invalid");
    char name[66];
    memset(name, 'x', sizeof name);
    name[65] = 0;
    assert_string_equal(tenant_of(op, name), "_invalid");
    name[64] = 0;
    assert_string_equal(tenant_of(op, name), name);
    assert_int_equal(fen__meter_account(9999, slice("_bad")), fen__meter_account(0, slice("_bad")));
    char odd[300];
    memset(odd, 'y', sizeof odd);
    odd[1] = '\n';
    odd[2] = '\xe9';
    odd[299] = 0;
    const char *kept = fen__meter_operation_name(fen__meter_operation(odd));
    assert_int_equal(strlen(kept), FEN__OPERATION_BYTES - 1);
    assert_memory_equal(kept, "y??y", 4);
}

static void same_pair_same_account(void **state)
{
    (void)state;
    uint32_t a = fen__meter_operation("GET /one"), b = fen__meter_operation("GET /two");
    uint32_t id = fen__meter_account(a, slice("acme"));
    assert_int_equal(fen__meter_account(a, slice("acme")), id);
    assert_int_not_equal(fen__meter_account(b, slice("acme")), id);
    assert_int_equal(fen__meter_account_operation(id), a);
    assert_true(id < FEN__ROWS_MAX);
}

struct totals {
    int64_t requests, errors, cpu_ticks, mib, rest, in;
};

static void add_totals(const struct fen__tally *t, void *arg)
{
    struct totals *s = arg;
    for (uint32_t c = 0; c < FEN__ROWS_MAX / FEN__ROW_CHUNK; c++) {
        const struct fen__row *rows = fen__tally_chunk(t, c);
        for (uint32_t r = 0; rows && r < FEN__ROW_CHUNK; r++) {
            s->requests += fen__count_read(&rows[r].requests);
            s->errors += fen__count_read(&rows[r].errors);
            s->cpu_ticks += fen__count_read(&rows[r].cpu_ticks);
            s->mib += fen__count_read(&rows[r].arena_mib_ticks);
            s->rest += fen__count_read(&rows[r].arena_rest);
            s->in += fen__count_read(&rows[r].in_bytes);
        }
    }
}

static void byte_ticks_are_exact_and_wide(void **state)
{
    (void)state;
    static struct fen__tally block, *t = &block;
    assert_int_equal(fen__tally_register(t), 0);
    uint32_t id = fen__meter_account(fen__meter_operation("GET /wide"), slice("acme"));
    struct fen__usage_ticks u = {.arena_byte_ticks = (__int128)1 << 80};
    struct fen__usage_ticks small = {.arena_byte_ticks = 1048575};
    fen__meter_settle(t, id, &u, false);
    for (int i = 0; i < 3; i++)
        fen__meter_settle(t, id, &small, true);
    const struct fen__row *r = fen__tally_row(t, id);
    assert_int_equal(r->requests, 4);
    assert_int_equal(r->errors, 3);
    assert_true(((__int128)r->arena_mib_ticks << 20) + r->arena_rest ==
                ((__int128)1 << 80) + 3 * 1048575);
    assert_true(r->arena_rest >= 0 && r->arena_rest < 1 << 20);
    fen__tally_unregister(t);
}

#define THREADS 4
#define ROUNDS 20000

/* Each thread floods with names of its own and settles what it is given. */
static void *flood(void *arg)
{
    struct fen__tally *t = calloc(1, sizeof *t);
    fen_assert(t && fen__tally_register(t) == 0);
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1;
    uint32_t ops[8];
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "GET /flood/%d", i);
        ops[i] = fen__meter_operation(name);
    }
    for (int i = 0; i < ROUNDS; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%llu", (unsigned long long)(fen__rand(&seed) % 5000));
        uint32_t id = fen__meter_account(ops[i % 8], slice(name));
        fen_assert(id < fen__meter_accounts());
        uint32_t tenant = fen__meter_account_tenant(id);
        fen_assert(tenant == FEN__TENANT_OTHER ||
                   strcmp(fen__meter_tenant_name(tenant), name) == 0);
        struct fen__usage_ticks u = {.cpu_ticks = 3, .arena_byte_ticks = 700000, .in_bytes = 2};
        fen__meter_settle(t, id, &u, i % 10 == 0);
    }
    fen__tally_unregister(t);
    free(t);
    return NULL;
}

static void a_flood_of_tenants_is_bounded_and_loses_nothing(void **state)
{
    (void)state;
    struct totals before = {0}, after = {0};
    fen__tally_each(add_totals, &before);
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, flood, (void *)i), 0);
    for (int i = 0; i < 50; i++) {
        struct fen__bill b;
        assert_int_equal(fen__bill_read(&b), 0);
        fen__bill_free(&b);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    fen__tally_each(add_totals, &after);
    int64_t n = THREADS * ROUNDS;
    assert_int_equal(after.requests - before.requests, n);
    assert_int_equal(after.errors - before.errors, n / 10);
    assert_int_equal(after.cpu_ticks - before.cpu_ticks, 3 * n);
    assert_int_equal(after.in - before.in, 2 * n);
    assert_true(((__int128)(after.mib - before.mib) << 20) + after.rest - before.rest ==
                (__int128)700000 * n);
    assert_int_equal(fen__meter_tenants(), FEN__TENANT_FIRST + FEN__TENANTS_DEFAULT);
    assert_string_equal(tenant_of(0, "never-seen"), "_other");
}

static void more_tenants_can_be_allowed(void **state)
{
    (void)state;
    assert_int_equal(fen__meter_max_tenants(0), -EINVAL);
    assert_int_equal(fen__meter_max_tenants(FEN__TENANTS_MAX + 1), -EINVAL);
    assert_int_equal(fen__meter_max_tenants(FEN__TENANTS_MAX), 0);
    assert_string_equal(tenant_of(0, "late"), "late");
}

/* Last: fills every table of the process. */
static void the_product_is_bounded(void **state)
{
    (void)state;
    uint32_t last = 0;
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "PUT /many/%d", i);
        uint32_t op = fen__meter_operation(name);
        last = op ? op : last;
        for (int k = 0; k < 300 && op < 100; k++) {
            snprintf(name, sizeof name, "x%d", k);
            uint32_t id = fen__meter_account(op, slice(name));
            assert_true(id < FEN__ROWS_MAX);
            assert_int_equal(fen__meter_account_operation(id), op);
        }
    }
    assert_int_equal(fen__meter_accounts(), FEN__ROWS_MAX);
    assert_true(fen__meter_operations() <= FEN__OPERATIONS_MAX);
    assert_int_equal(fen__meter_operation("PUT /too/many"), 0);
    assert_string_equal(tenant_of(last, "brand-new"), "_other");
    assert_int_equal(fen__meter_account_operation(fen__meter_account(last, slice("x1"))), last);
}

static void latency_is_recorded(void **state)
{
    (void)state;
    uint32_t op = fen__meter_operation("GET /slow");
    for (int i = 1; i <= 100; i++)
        fen__meter_latency(op, i * FEN_MS);
    struct fen__hist h = {0};
    fen__hist_merge(&h, fen__meter_latency_of(op));
    assert_int_equal(fen__hist_count(&h), 100);
    int64_t p95 = fen__hist_quantile(&h, 0.95);
    assert_true(p95 > 90 * FEN_MS && p95 < 101 * FEN_MS);
    fen__meter_latency(UINT32_MAX, 1); /* no histogram: nothing happens */
}

int main(void)
{
    fen__tsc_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(same_pair_same_account),
        cmocka_unit_test(byte_ticks_are_exact_and_wide),
        cmocka_unit_test(latency_is_recorded),
        cmocka_unit_test(a_flood_of_tenants_is_bounded_and_loses_nothing),
        cmocka_unit_test(more_tenants_can_be_allowed),
        cmocka_unit_test(the_product_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
