/* var_test.c - registration is checked and additions are never lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mem/mem.h"
#include "obs/obs_int.h"
#include "sys/sys.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static int new_var(const char *name, const char *labels, enum fen_var_kind kind, fen_var **ret)
{
    return fen_var_new(&(fen_var_def){.name = name, .labels = labels, .kind = kind}, ret);
}

static void a_name_can_be_taken_once(void **state)
{
    (void)state;
    fen_var *a = NULL, *b = NULL;
    assert_int_equal(new_var("orders_total", NULL, FEN_VAR_COUNTER, &a), 0);
    int64_t live = fen__mem_live_bytes();
    assert_int_equal(new_var("orders_total", NULL, FEN_VAR_COUNTER, &b), -EEXIST);
    assert_int_equal(new_var("orders_total", NULL, FEN_VAR_GAUGE, &b), -EEXIST);
    assert_int_equal(new_var("orders_total", "a=\"1\"", FEN_VAR_GAUGE, &b), -EINVAL);
    assert_null(b);
    assert_int_equal(fen__mem_live_bytes(), live);
    assert_int_equal(new_var("orders_total", "a=\"1\"", FEN_VAR_COUNTER, &b), 0);
    assert_ptr_equal(fen_var_find("orders_total", NULL), a);
    assert_ptr_equal(fen_var_find("orders_total", "a=\"1\""), b);
    assert_null(fen_var_find("orders_total", "a=\"2\""));
    assert_null(fen_var_find("order", NULL));
    static const char *const own[] = {"active_handlers",    "coroutines", "fen_x",
                                      "process_x",          "bill",       "cost_per_second",
                                      "request_latency_p95"};
    for (size_t i = 0; i < FEN__COUNT(own); i++)
        assert_int_equal(new_var(own[i], NULL, FEN_VAR_GAUGE, NULL), -EEXIST);
}

static int64_t read_7(void *arg) { return arg ? 7 : 0; }
static double read_half(void *arg) { return arg ? 0.5 : -0.5; }

static void malformed_definitions_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"", "1a", "a-b", "a b", "\xc3\xa9", "a\n"};
    for (size_t i = 0; i < FEN__COUNT(names); i++)
        assert_int_equal(new_var(names[i], NULL, FEN_VAR_GAUGE, NULL), -EINVAL);
    static const char *const labels[] = {"a",         "a=",        "a=1",
                                         "a=\"1",     "a=\"1\",",  "a=\"1\" b=\"2\"",
                                         "a=\"\\x\"", "a=\"1\n\"", "a=\"1\",a=\"2\"",
                                         "__a=\"1\"", ",",         "a:b=\"1\"",
                                         "1=\"1\"",   "a=\"\\"};
    for (size_t i = 0; i < FEN__COUNT(labels); i++)
        assert_int_equal(new_var("v_labels", labels[i], FEN_VAR_GAUGE, NULL), -EINVAL);
    assert_int_equal(new_var("v_labels", "a=\"b=\\\"c\\\",\",c=\"\\\\\"", FEN_VAR_GAUGE, NULL), 0);
    assert_int_equal(new_var("v_h", "le=\"1\"", FEN_VAR_HISTOGRAM, NULL), -EINVAL);
    char big[2000];
    memset(big, 'a', sizeof big);
    big[sizeof big - 1] = 0;
    assert_int_equal(new_var(big, NULL, FEN_VAR_GAUGE, NULL), -EINVAL);
    fen_var_def d = {.name = "v_d", .help = big, .kind = FEN_VAR_GAUGE};
    assert_int_equal(fen_var_new(&d, NULL), -EINVAL);
    d = (fen_var_def){.name = "v_d", .kind = FEN_VAR_GAUGE, .scale = 19};
    assert_int_equal(fen_var_new(&d, NULL), -EINVAL);
    d = (fen_var_def){.name = "v_d", .kind = FEN_VAR_HISTOGRAM, .read_i64 = read_7};
    assert_int_equal(fen_var_new(&d, NULL), -EINVAL);
    d = (fen_var_def){.name = "v_d", .read_f64 = read_half, .read_i64 = read_7};
    assert_int_equal(fen_var_new(&d, NULL), -EINVAL);
    d = (fen_var_def){.name = "v_d", .kind = (enum fen_var_kind)9};
    assert_int_equal(fen_var_new(&d, NULL), -EINVAL);
}

static void histograms_keep_their_series_names(void **state)
{
    (void)state;
    assert_int_equal(new_var("taken_count", NULL, FEN_VAR_GAUGE, NULL), 0);
    assert_int_equal(new_var("taken", NULL, FEN_VAR_HISTOGRAM, NULL), -EINVAL);
    assert_int_equal(new_var("free", NULL, FEN_VAR_HISTOGRAM, NULL), 0);
    assert_int_equal(new_var("free_sum", NULL, FEN_VAR_GAUGE, NULL), -EINVAL);
}

static void kinds_do_what_they_say(void **state)
{
    (void)state;
    fen_var *c, *g, *h, *f;
    assert_int_equal(new_var("k_c", NULL, FEN_VAR_COUNTER, &c), 0);
    assert_int_equal(new_var("k_g", NULL, FEN_VAR_GAUGE, &g), 0);
    assert_int_equal(new_var("k_h", NULL, FEN_VAR_HISTOGRAM, &h), 0);
    fen_var_add(c, 5);
    fen_var_add(c, -1); /* a counter never falls */
    fen_var_set(c, 99);
    assert_int_equal(fen_var_get(c), 5);
    fen_var_set(g, 10);
    fen_var_add(g, -3);
    fen_var_record(g, 1);
    assert_int_equal(fen_var_get(g), 7);
    for (int i = 1; i <= 100; i++)
        fen_var_record(h, i * 1000);
    fen_var_add(h, 1);
    assert_int_equal(fen_var_get(h), 100);
    int64_t p95 = fen_var_quantile(h, 0.95);
    assert_true(p95 > 92000 && p95 < 101000);
    assert_int_equal(fen_var_quantile(g, 0.5), 0);
    fen_var_def d = {.name = "k_f", .kind = FEN_VAR_GAUGE, .read_f64 = read_half};
    assert_int_equal(fen_var_new(&d, &f), 0);
    assert_int_equal(fen_var_get(f), -1);
    d = (fen_var_def){.name = "k_i", .kind = FEN_VAR_GAUGE, .read_i64 = read_7, .arg = &d};
    assert_int_equal(fen_var_new(&d, &f), 0);
    fen_var_set(f, 1);
    assert_int_equal(fen_var_get(f), 7);
}

#define WRITERS 8
#define ADDS 1000000

static fen_var *shared, *shared_hist;

static void *writer(void *arg)
{
    (void)arg;
    for (int i = 0; i < ADDS; i++)
        fen_var_add(shared, 1);
    for (int i = 0; i < ADDS / 20; i++)
        fen_var_record(shared_hist, i);
    for (int i = 0; i < 20; i++) { /* all threads fight for the same names; one wins each */
        char name[32];
        snprintf(name, sizeof name, "race_%d", i);
        fen_var *v = NULL;
        int rc = new_var(name, NULL, FEN_VAR_COUNTER, &v);
        fen_assert(rc == 0 || rc == -EEXIST);
        fen_var_add(fen_var_find(name, NULL), 1);
    }
    return NULL;
}

static void no_increment_is_lost(void **state)
{
    (void)state;
    assert_int_equal(new_var("shared_total", NULL, FEN_VAR_COUNTER, &shared), 0);
    assert_int_equal(new_var("shared_hist", NULL, FEN_VAR_HISTOGRAM, &shared_hist), 0);
    pthread_t thread[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, writer, NULL), 0);
    int64_t last = 0;
    for (int i = 0; i < 100; i++) {
        int64_t now = fen_var_get(shared);
        assert_true(now >= last);
        last = now;
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(fen_var_get(shared), (int64_t)WRITERS * ADDS);
    assert_int_equal(fen_var_get(shared_hist), (int64_t)WRITERS * (ADDS / 20));
    assert_int_equal(fen_var_get(fen_var_find("race_0", NULL)), WRITERS);
    assert_int_equal(fen_var_get(fen_var_find("race_19", NULL)), WRITERS);
}

static int nth;
static int fail_nth(const char *call) { return call[0] == 'm' && nth-- == 0 ? -ENOMEM : 0; }

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    int64_t live = fen__mem_live_bytes();
    fen__sys_fault = fail_nth;
    for (int n = 0; n < 2; n++) {
        nth = n;
        assert_int_equal(new_var("oom", NULL, FEN_VAR_HISTOGRAM, NULL), -ENOMEM);
    }
    fen__sys_fault = NULL;
    assert_int_equal(fen__mem_live_bytes(), live);
    assert_int_equal(new_var("oom", NULL, FEN_VAR_HISTOGRAM, NULL), 0);
}

static void doubles(void **state)
{
    (void)state;
    static const struct {
        double d;
        const char *want;
    } cases[] = {
        {0.1, "0.1"}, {1e300, "1e+300"},  {-2, "-2"},         {1.0 / 3, "0.33333333333333331"},
        {NAN, "NaN"}, {INFINITY, "+Inf"}, {-INFINITY, "-Inf"}};
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        char room[64] = {0};
        fen_buf b = fen_buf_fixed(room, sizeof room);
        fen__put_double(&b, cases[i].d, NULL);
        assert_string_equal(room, cases[i].want);
    }
}

/* Last: fills the registry. */
static void the_number_is_bounded(void **state)
{
    (void)state;
    int rc = 0;
    for (int i = 0; i < FEN_VARS_MAX && rc == 0; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "i=\"%d\"", i);
        rc = new_var("many", labels, FEN_VAR_GAUGE, NULL);
    }
    assert_int_equal(rc, FEN_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_can_be_taken_once),
        cmocka_unit_test(malformed_definitions_are_refused),
        cmocka_unit_test(histograms_keep_their_series_names),
        cmocka_unit_test(kinds_do_what_they_say),
        cmocka_unit_test(no_increment_is_lost),
        cmocka_unit_test(out_of_memory_leaks_nothing),
        cmocka_unit_test(doubles),
        cmocka_unit_test(the_number_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
