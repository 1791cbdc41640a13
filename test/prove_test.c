/* prove_test.c - the judgements of fen prove against values computed by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../cmd/fen/prove/bill.c"
#include "../cmd/fen/prove/money.c"
#include "../cmd/fen/prove/summary.c"

static struct proof f;
static struct run runs[4][RUNS_MAX];

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-9 * fabs(want) + 1e-15)
        fail_msg("%.12g instead of %.12g", got, want);
}

static void test_bill_rows(void **state)
{
    (void)state;
    static struct bill_row rows[4];
    const char *json = "{\"uptime\":3,\"nested\":{\"x\":[1,2]}, \"bill\" : [\n"
                       "{\"tenant\":\"a\\\"c\",\"operation\":\"GET /orders/{id}\",\"requests\":12,"
                       "\"cpu_ns\":34000,\"odd\":null,\"wait_ns\":5,\"flag\":true,"
                       "\"yuan_per_million\":2.3e-4},"
                       " {\"tenant\":\"\",\"operation\":\"x\",\"requests\":\"7\"} ],\"z\":1}";
    assert_int_equal(bill_parse(json, rows, 4), 2);
    assert_string_equal(rows[0].tenant, "a\"c");
    assert_string_equal(rows[0].operation, "GET /orders/{id}");
    near(rows[0].requests, 12);
    near(rows[0].cpu_ns, 34000);
    near(rows[0].yuan_per_million, 2.3e-4);
    near(rows[1].requests, 7);
    assert_int_equal(bill_parse(json, rows, 1), 1);
}

static void test_bill_cut_anywhere(void **state)
{
    (void)state;
    static struct bill_row rows[4];
    const char *json = "{\"bill\":[{\"tenant\":\"a\\u00e9\",\"operation\":\"b\",\"requests\":1},"
                       "{\"tenant\":\"c\",\"operation\":\"d\",\"cpu_ns\":-1.5e3}]}";
    for (size_t n = 0; n <= strlen(json); n++) {
        char *cut = strndup(json, n);
        assert_in_range(bill_parse(cut, rows, 4), 0, 2);
        free(cut);
    }
    assert_int_equal(bill_parse("{}", rows, 4), 0);
    assert_int_equal(bill_parse("{\"bill\":{}}", rows, 4), 0);
}

static void test_money_by_hand(void **state)
{
    (void)state;
    fen_price_book b = {.cpu_core_hour_fyuan = 120000000000000,
                        .mem_gb_hour_fyuan = 15000000000000,
                        .request_1000_fyuan = 850000000000000};
    /* 7.2 us x 1e6 = 7.2 s = 0.002 h x 0.12 yuan; 1 GB for 1e6 / 1e5 = 10 s = 1/360 h x 0.015. */
    near(money_use(&b, 7.2, 1000, 1e5), 0.00024 + 0.015 / 360);
    b.request_on = true;
    near(money_use(&b, 7.2, 0, 1e5), 0.00024 + 850);
    f.plan.prices = b;
    f.plan.server_cores = 4;
    f.plan.node_gb = 8;
    near(money_node_hour(&f.plan), 0.6); /* 4 x 0.12 + 8 x 0.015 */
    near(money_node(&f.plan, 1000), 0.6 / 3.6);
}

static void set(struct cell *c, struct run *r, const struct rival *rival, const double *qps, int n)
{
    *c = (struct cell){.rival = rival, .run = r, .runs = n};
    memset(r, 0, sizeof runs[0]);
    for (int i = 0; i < n; i++) {
        r[i].v[M_QPS] = qps[i];
        r[i].v[M_P99] = 1000 / qps[i];
        r[i].v[M_NODE] = money_node(&f.plan, qps[i]);
        r[i].v[M_CPU] = r[i].v[M_RSS] = r[i].v[M_USE] = r[i].v[M_P999] = 1;
    }
    summarise(c);
}

static void test_medians_skip_failed_runs(void **state)
{
    (void)state;
    static const struct rival fen = {.name = "fen"};
    struct cell c;
    set(&c, runs[0], &fen, (const double[]){30, 10, 999, 20}, 4);
    snprintf(runs[0][2].why, sizeof runs[0][2].why, "%s", "broken");
    summarise(&c);
    assert_int_equal(c.good, 3);
    near(c.median[M_QPS], 20);
    near(c.low[M_QPS], 10);
    near(c.high[M_QPS], 30);
    assert_int_equal(c.typical, 3);
    snprintf(runs[0][0].why, sizeof runs[0][0].why, "%s", "broken");
    summarise(&c);
    near(c.median[M_QPS], 10); /* of two, the lower: a value that was measured */
}

static void count_losses(void *arg, enum workload_id w, const struct cell *fen,
                         const struct cell *other, enum metric m, bool win, double times)
{
    (void)w, (void)fen, (void)other, (void)m, (void)times;
    *(int *)arg += !win;
}

static void test_bars_and_losses(void **state)
{
    (void)state;
    static const struct rival fen = {.name = "fen"}, pool = {"pool200", RIVAL_POOL, 200, 0},
                              threads = {"pthread", RIVAL_PTHREAD, 0, 1};
    struct bar b[16];
    int losses = 0;
    f.plan.target_qps = 100000;
    f.plan.rival[1] = pool;
    set(&f.cell[W_SLOW][0], runs[0], &fen, (const double[]){50000}, 1);
    set(&f.cell[W_SLOW][1], runs[1], &pool, (const double[]){9999}, 1);
    set(&f.cell[W_SLOW][2], runs[2], &threads, (const double[]){40000}, 1);
    assert_int_equal(bars(&f, b, 16), 4); /* orders and go were not measured: no bars */
    assert_true(b[0].verdict == BAR_MET && b[0].got > 5); /* 5 x the pool */
    assert_int_equal(b[1].verdict, BAR_MISSED);           /* 1.25 x the threads, 1.5 wanted */
    assert_true(b[2].verdict == BAR_MET && b[2].got < 0.2);
    assert_int_equal(instances(&f.plan, &f.cell[W_SLOW][1]), 11);
    assert_int_equal(instances(&f.plan, &f.cell[W_SLOW][0]), 2);
    verdicts(&f, count_losses, &losses);
    assert_int_equal(losses, 0);
    f.cell[W_SLOW][0].median[M_RSS] = 2; /* twice the memory of both others */
    verdicts(&f, count_losses, &losses);
    assert_int_equal(losses, 2);
}

static void test_the_floor_judges_missed_bars(void **state)
{
    (void)state;
    static const struct rival fen = {.name = "fen"}, pool = {"pool200", RIVAL_POOL, 200, 0},
                              least = {FLOOR, RIVAL_EPOLL, 0, 1};
    struct bar b[16];
    char note[120];
    int losses = 0;
    memset(f.cell, 0, sizeof f.cell);
    set(&f.cell[W_SLOW][0], runs[0], &fen, (const double[]){28000}, 1);
    set(&f.cell[W_SLOW][1], runs[1], &pool, (const double[]){10000}, 1);
    assert_int_equal(bars(&f, b, 16), 3);
    assert_int_equal(b[0].verdict, BAR_MISSED); /* no floor, no excuse */
    bar_note(&b[0], note, sizeof note);
    assert_string_equal(note, "");
    set(&f.cell[W_SLOW][2], runs[2], &least, (const double[]){39000}, 1);
    assert_int_equal(bars(&f, b, 16), 3);
    assert_string_equal(bar_word(&b[0]), "out of reach"); /* 2.8 and 3.9 of 5 */
    near(b[0].floor, 3.9);
    bar_note(&b[0], note, sizeof note);
    assert_string_equal(note, "the floor reaches 3.90 on this machine");
    assert_int_equal(b[1].verdict, BAR_MET); /* by node: 1 / 2.8 of 0.58 */
    bar_note(&b[1], note, sizeof note);
    assert_string_equal(note, "");
    assert_int_equal(b[2].verdict,
                     BAR_MISSED); /* P99: 0.36 of 0.33, which the floor cannot judge */
    near(b[2].floor, 0);
    verdicts(&f, count_losses, &losses);
    assert_int_equal(losses, 0); /* fen is behind the floor, and that is no loss */
    set(&f.cell[W_SLOW][2], runs[2], &least, (const double[]){27000}, 1);
    assert_int_equal(bars(&f, b, 16), 3);
    assert_string_equal(bar_word(&b[0]), "MISSED"); /* a floor behind fen is no excuse */
    bar_note(&b[0], note, sizeof note);
    assert_non_null(strstr(note, "less than fen"));
    set(&f.cell[W_SLOW][2], runs[2], &least, (const double[]){51000}, 1);
    runs[2][0].helper_share = 0.9;
    assert_int_equal(bars(&f, b, 16), 3);
    assert_string_equal(bar_word(&b[0]), "MISSED"); /* the floor gets there */
    bar_note(&b[0], note, sizeof note);
    assert_non_null(strstr(note, "5.10 on this machine (there the load side"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bill_rows),       cmocka_unit_test(test_bill_cut_anywhere),
        cmocka_unit_test(test_money_by_hand),   cmocka_unit_test(test_medians_skip_failed_runs),
        cmocka_unit_test(test_bars_and_losses), cmocka_unit_test(test_the_floor_judges_missed_bars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
