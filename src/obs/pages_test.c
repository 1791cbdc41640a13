/* pages_test.c - /metrics is checked against the rules of the text format, /debug/vars against the
 * grammar of JSON, both with names made to break them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "obs/obs_int.h"
#include "sys/sys.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a view written by hand ---- */

#define YUAN INT64_C(1000000000000000)

static struct fen__tally block, *tally = &block;

static void view(struct fen__view *v)
{
    memset(v, 0, sizeof *v);
    v->stats = (fen_stats){.fibers_live = 12,
                           .steals = 34,
                           .overflows = 5,
                           .handoffs = 6,
                           .files_ring = 21,
                           .heap_live_bytes = 7777,
                           .fibers_spawned = 99};
    v->mem_class[5] = (fen_mem_class){64, 2, 1, 1024, 700, 31, 5};
    fen__sys_proc_get(&v->proc);
    fen_price_book_default(&v->book);
    assert_int_equal(fen__bill_read(&v->bill), 0);
    v->books = (struct fen__books){3 * FEN_S, 1, -2, -FEN_S, 2 * FEN_S, 0};
    fen__books_close(&v->books);
    v->window_ns = FEN_S;
    v->rate = fen__price_rate(&v->book, FEN_S, FEN_S, 1000000000, 1000);
    static const char args[] = "fen\0serve\0a \"quoted\\ one\"\n\0\xff\xc3\xa9\0";
    memcpy(v->cmdline, args, sizeof args - 1);
    v->cmdline_n = sizeof args - 1;
}

static double read_nan(void *arg) { return arg ? 0 : NAN; }

static int register_all(void **state)
{
    (void)state;
    fen__tsc_init();
    assert_int_equal(fen__tally_register(tally), 0);
    uint32_t odd = fen__meter_operation("GET /\"quoted\"\\{id}\n");
    uint32_t plain = fen__meter_operation("GET /plain");
    struct fen__usage_ticks u = {.cpu_ticks = fen__tsc_from_ns(7000),
                                 .wait_ticks = 100,
                                 .arena_bytes = 8192,
                                 .arena_byte_ticks = (__int128)1 << 75,
                                 .in_bytes = 10,
                                 .out_bytes = 20};
    fen__meter_settle(tally, fen__meter_account(odd, FEN_SLICE("acme")), &u, true);
    for (int i = 0; i < 4; i++)
        fen__meter_settle(tally, fen__meter_account(plain, FEN_SLICE("a b")), &u, false);
    fen__meter_settle(tally, fen__meter_account(plain, FEN_SLICE("")), &u, false);
    for (int i = 1; i <= 100; i++)
        fen__meter_latency(plain, i * FEN_MS);
    fen__count_add(&tally->handlers, 2);
    fen_var *v[4];
    const fen_var_def defs[] = {
        {.name = "t_a", .labels = "x=\"1\"", .kind = FEN_VAR_GAUGE, .help = "Back\\slash\nline"},
        {.name = "t_hist", .kind = FEN_VAR_HISTOGRAM, .scale = 9},
        {.name = "t_a", .labels = "x=\"a\\\"b\\\\c\\n\"", .kind = FEN_VAR_GAUGE},
        {.name = "t_nan", .kind = FEN_VAR_GAUGE, .read_f64 = read_nan},
    };
    for (size_t i = 0; i < FEN__COUNT(defs); i++)
        assert_int_equal(fen_var_new(&defs[i], &v[i]), 0);
    fen_var_set(v[0], -41);
    fen_var_record(v[1], 1500);
    fen_var_record(v[1], 0);
    fen_var_record(v[1], INT64_C(1) << 60);
    return 0;
}

/* ---- the rules of text format 0.0.4 ---- */

#define FAMILIES 512
static struct {
    char name[160], type[16];
} families[FAMILIES];
static int families_n;
static char samples[20000][256]; /* name and labels of every sample, to find duplicates */
static int samples_n;

static const char *name_end(const char *p, bool colon)
{
    if (!isalpha((unsigned char)*p) && *p != '_' && !(colon && *p == ':'))
        fail_msg("no name at \"%.40s\"", p);
    while (isalnum((unsigned char)*p) || *p == '_' || (colon && *p == ':'))
        p++;
    return p;
}

static const char *labels_end(const char *p, char le[static 40])
{
    while (*p != '}') {
        const char *end = name_end(p, false);
        bool is_le = end - p == 2 && memcmp(p, "le", 2) == 0;
        assert_memory_equal(end, "=\"", 2);
        const char *q = end + 2;
        for (; *q != '"'; q++) {
            assert_true(*q && *q != '\n');
            if (*q == '\\') {
                q++;
                assert_true(*q == '\\' || *q == '"' || *q == 'n');
            }
        }
        if (is_le)
            snprintf(le, 40, "%.*s", (int)(q - end - 2), end + 2);
        p = q + 1;
        if (*p == ',')
            p++;
        else
            assert_int_equal(*p, '}');
    }
    return p + 1;
}

/* Histograms: le ascends, counts do not fall, +Inf is there and equals _count. */
static struct {
    double le;
    double count;
    bool open;
} hist;

static void check_bucket(const char *le, double value)
{
    double bound = strcmp(le, "+Inf") == 0 ? INFINITY : strtod(le, NULL);
    if (!hist.open) {
        hist.le = -INFINITY;
        hist.count = 0;
        hist.open = true;
    }
    assert_true(bound > hist.le && value >= hist.count);
    hist.le = bound;
    hist.count = value;
}

static void check_sample(const char *at)
{
    const char *end = name_end(at, true);
    char name[160], le[40] = "";
    snprintf(name, sizeof name, "%.*s", (int)(end - at), at);
    assert_true(families_n > 0);
    const char *family = families[families_n - 1].name, *type = families[families_n - 1].type;
    const char *tail = name + strlen(family);
    assert_memory_equal(name, family, strlen(family)); /* contiguous: the family announced last */
    bool is_hist = strcmp(type, "histogram") == 0;
    if (*tail && !(is_hist &&
                   (!strcmp(tail, "_bucket") || !strcmp(tail, "_sum") || !strcmp(tail, "_count"))))
        fail_msg("sample %s in family %s", name, family);
    if (*end == '{')
        end = labels_end(end + 1, le);
    assert_true(samples_n < 20000 && end - at < 256);
    snprintf(samples[samples_n++], 256, "%.*s", (int)(end - at), at);
    assert_int_equal(*end, ' ');
    char *rest;
    double value = strtod(end + 1, &rest);
    assert_true(rest > end + 1);
    assert_int_equal(*rest, 0);
    if (strcmp(type, "counter") == 0)
        assert_true(value >= 0);
    if (!is_hist)
        return;
    assert_true(*tail != 0);
    if (strcmp(tail, "_bucket") == 0) {
        assert_true(le[0] != 0);
        check_bucket(le, value);
    } else if (strcmp(tail, "_count") == 0) {
        assert_true(hist.open && isinf(hist.le) && hist.count == value);
        hist.open = false;
    }
}

static void check_comment(char *line)
{
    static char helped[160];
    char kind[8], name[160], type[160] = "";
    assert_int_equal(sscanf(line, "# %7s %159s %159s", kind, name, type), 3);
    if (strcmp(kind, "HELP") == 0) {
        snprintf(helped, sizeof helped, "%s", name);
        for (char *p = strchr(line, '\\'); p; p = strchr(p + 2, '\\'))
            assert_true(p[1] == '\\' || p[1] == 'n');
        return;
    }
    assert_string_equal(kind, "TYPE");
    assert_true(!strcmp(type, "counter") || !strcmp(type, "gauge") || !strcmp(type, "histogram"));
    assert_true(!helped[0] || strcmp(helped, name) == 0);
    helped[0] = 0;
    assert_false(hist.open);
    for (int i = 0; i < families_n; i++)
        assert_string_not_equal(families[i].name, name);
    assert_true(families_n < FAMILIES);
    snprintf(families[families_n].name, sizeof families[0].name, "%s", name);
    snprintf(families[families_n++].type, sizeof families[0].type, "%.15s", type);
}

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void check_page(char *page)
{
    families_n = samples_n = 0;
    hist.open = false;
    assert_int_equal(page[strlen(page) - 1], '\n');
    for (char *line = page, *nl; *line; line = nl + 1) {
        nl = strchr(line, '\n');
        *nl = 0;
        assert_true(line[0] != 0);
        if (line[0] == '#')
            check_comment(line);
        else
            check_sample(line);
        *nl = '\n';
    }
    qsort(samples, (size_t)samples_n, sizeof samples[0], by_text);
    for (int i = 1; i < samples_n; i++)
        assert_string_not_equal(samples[i - 1], samples[i]);
}

static void has(const char *page, const char *text)
{
    if (!strstr(page, text))
        fail_msg("not on the page: %s", text);
}

static void metrics_follow_the_format(void **state)
{
    (void)state;
    struct fen__view v;
    view(&v);
    fen_buf b = fen_buf_heap();
    fen__metrics_write(&b, &v);
    fen_buf_put_char(&b, 0);
    assert_int_equal(b.err, 0);
    check_page(b.p);
    has(b.p, "fen_requests_total{tenant=\"_invalid\",operation=\"GET /plain\"} 4\n");
    has(b.p, "fen_requests_total{tenant=\"acme\",operation=\"GET /\\\"quoted\\\"\\\\{id}?\"} 1\n");
    has(b.p, "\ncost_per_second{component=\"cpu\",currency=\"CNY\"} 0.000033333333333\n");
    has(b.p, "\ncost_per_second{component=\"mem\",currency=\"CNY\"} 0.000004166666667\n");
    has(b.p, "\ncost_per_second{component=\"req\",currency=\"CNY\"} 0\n");
    has(b.p, "\nfen_books_residual_seconds 0.000000001\n");
    has(b.p, "\nfen_books_unattributed_seconds -1\n");
    has(b.p, "\nfen_steals_total 34\n");
    has(b.p, "\nactive_handlers 2\n");
    has(b.p, "# HELP t_a Back\\\\slash\\nline\n# TYPE t_a gauge\nt_a{x=\"1\"} -41\n"
             "t_a{x=\"a\\\"b\\\\c\\n\"} 0\n");
    has(b.p, "\nt_hist_bucket{le=\"0.000001024\"} 1\nt_hist_bucket{le=\"0.000002048\"} 2\n");
    has(b.p, "\nt_hist_bucket{le=\"+Inf\"} 3\n");
    has(b.p, "\nt_nan NaN\n");
    has(b.p,
        "\nfen_request_duration_seconds_bucket{operation=\"GET /plain\",le=\"0.067108864\"} 67\n");
    has(b.p, "\nprocess_resident_memory_bytes ");
    has(b.p, "\nprocess_start_time_seconds ");
    fen_buf_free(&b);
    fen__view_free(&v);
}

/* ---- the grammar of JSON ---- */

static const char *json_value(const char *p, int depth);

static const char *spaces(const char *p) { return p + strspn(p, " \t\r\n"); }

static const char *json_string(const char *p)
{
    assert_int_equal(*p++, '"');
    for (; *p != '"'; p++) {
        assert_true((unsigned char)*p >= 0x20);
        if (*p != '\\')
            continue;
        p++;
        if (*p == 'u')
            for (int i = 0; i < 4; i++)
                assert_true(isxdigit((unsigned char)*++p));
        else
            assert_non_null(strchr("\"\\/bfnrt", *p));
    }
    return p + 1;
}

static const char *json_number(const char *p)
{
    p += *p == '-';
    assert_true(isdigit((unsigned char)*p));
    p += *p == '0' ? 1 : strspn(p, "0123456789");
    if (*p == '.') {
        size_t n = strspn(++p, "0123456789");
        assert_true(n > 0);
        p += n;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        size_t n = strspn(p, "0123456789");
        assert_true(n > 0);
        p += n;
    }
    return p;
}

static const char *json_list(const char *p, char close, bool keys, int depth)
{
    p = spaces(p + 1);
    if (*p == close)
        return p + 1;
    for (;;) {
        if (keys) {
            p = spaces(json_string(spaces(p)));
            assert_int_equal(*p++, ':');
        }
        p = spaces(json_value(spaces(p), depth + 1));
        if (*p == close)
            return p + 1;
        assert_int_equal(*p++, ',');
    }
}

static const char *json_value(const char *p, int depth)
{
    assert_true(depth < 20);
    if (*p == '{')
        return json_list(p, '}', true, depth);
    if (*p == '[')
        return json_list(p, ']', false, depth);
    if (*p == '"')
        return json_string(p);
    if (strncmp(p, "null", 4) == 0)
        return p + 4;
    return json_number(p);
}

/* "0.000000000233333" -> femto-yuan */
static __int128 fyuan(const char *p)
{
    __int128 v = 0;
    int behind = -1;
    for (; isdigit((unsigned char)*p) || *p == '.'; p++) {
        if (*p == '.') {
            behind = 0;
        } else {
            v = 10 * v + (*p - '0');
            behind += behind >= 0;
        }
    }
    for (int i = behind < 0 ? 0 : behind; i < 15; i++)
        v *= 10;
    return v;
}

static void vars_are_json(void **state)
{
    (void)state;
    struct fen__view v;
    view(&v);
    fen_buf b = fen_buf_heap();
    fen__vars_write(&b, &v);
    fen_buf_put_char(&b, 0);
    assert_int_equal(b.err, 0);
    assert_string_equal(json_value(b.p, 0), "\n");
    assert_memory_equal(b.p, "{\n\"cmdline\": [\"fen\",\"serve\",", 28);
    has(b.p, "\"a \\\"quoted\\\\ one\\\"\\u000a\",\"\xEF\xBF\xBD\xc3\xa9\"]");
    has(b.p, "\n\"memstats\": {\"Alloc\":7777,");
    has(b.p, "\n\"active_handlers\": 2,");
    has(b.p, "\n\"coroutines\": 12,");
    has(b.p, "\"classes\":[{\"block_bytes\":64,\"spans\":2,\"partial_spans\":1,\"blocks\":1024,"
             "\"out_blocks\":700,\"refills\":31,\"wait_ns\":5}]}");
    has(b.p, "\n\"request_latency_p95\": 0.09");
    has(b.p, "\"steals\":34,\"overflows\":5,\"handoffs\":6,");
    has(b.p, "\"files_direct\":0,\"files_ring\":21,\"files_pool\":0,\"file_ring\":0");
    has(b.p, "\"residual_ns\":1,");
    has(b.p, "\n\"t_a{x=\\\"1\\\"}\": -41,");
    has(b.p, "\n\"t_nan\": null");
    has(b.p, "\n\"t_hist\": {\"count\":3,");
    has(b.p, "{\"tenant\":\"_invalid\",\"operation\":\"GET /plain\",\"requests\":4,\"errors\":0,");
    __int128 sum = 0;
    for (const char *p = strstr(b.p, "\"yuan\":"); p; p = strstr(p + 1, "\"yuan\":"))
        sum += fyuan(p + 7);
    assert_true(sum > 0);
    assert_true(sum == fen_price_of(&v.book, &v.bill.total.usage, v.bill.total.requests));
    fen_buf_free(&b);
    fen__view_free(&v);
}

/* No variable may have the name of a line that is the page's own: var.c's list is complete. */
static void own_lines_are_reserved(void **state)
{
    (void)state;
    struct fen__view v;
    int own = 0;
    view(&v);
    fen_buf b = fen_buf_heap();
    fen__vars_write(&b, &v);
    fen_buf_put_char(&b, 0);
    assert_int_equal(b.err, 0);
    for (const char *p = strstr(b.p, "\n\""); p; p = strstr(p + 1, "\n\"")) {
        char name[128];
        assert_int_equal(sscanf(p, "\n\"%127[^\"{]", name), 1);
        if (fen_var_find(name, NULL) || p[2 + strlen(name)] == '{')
            continue; /* a registered one */
        own++;
        if (fen_var_new(&(fen_var_def){.name = name, .kind = FEN_VAR_GAUGE}, NULL) != -EEXIST)
            fail_msg("%s is not reserved", name);
    }
    assert_true(own >= 15);
    fen_buf_free(&b);
    fen__view_free(&v);
}

static void too_little_room_is_an_error(void **state)
{
    (void)state;
    struct fen__view v;
    view(&v);
    static char room[1000];
    fen_buf b = fen_buf_fixed(room, sizeof room);
    fen__metrics_write(&b, &v);
    assert_int_equal(b.err, -ENOBUFS);
    b = fen_buf_fixed(room, sizeof room);
    fen__vars_write(&b, &v);
    assert_int_equal(b.err, -ENOBUFS);
    fen__view_free(&v);
}

static void money_counters_never_fall(void **state)
{
    (void)state;
    uint32_t op = fen__meter_operation("GET /falls");
    uint32_t a = fen__meter_account(op, FEN_SLICE("f1")),
             c = fen__meter_account(op, FEN_SLICE("f2"));
    __int128 last = 0;
    for (int i = 0; i < 300; i++) {
        struct fen__usage_ticks u = {.cpu_ticks = 1 + i * 37};
        fen__meter_settle(tally, i % 3 ? a : c, &u, false);
        struct fen__view v;
        view(&v);
        fen_buf b = fen_buf_heap();
        fen__metrics_write(&b, &v);
        fen_buf_put_char(&b, 0);
        const char *at = strstr(b.p, "fen_request_cost_yuan_total{tenant=\"f2\"");
        assert_non_null(at);
        __int128 now = fyuan(strstr(at, "} ") + 2);
        assert_true(now >= last);
        last = now;
        fen_buf_free(&b);
        fen__view_free(&v);
    }
}

static void window(void **state)
{
    (void)state;
    static struct fen__window w;
    struct fen__window_point d = fen__window_add(&w, (struct fen__window_point){FEN_S, 0, 0});
    assert_int_equal(d.at_ns, 0);
    d = fen__window_add(&w, (struct fen__window_point){FEN_S + FEN_MS, 5, 1});
    assert_int_equal(d.at_ns, FEN_MS);
    assert_int_equal(d.cpu_ns, 5);
    assert_int_equal(w.n, 1); /* too soon to keep */
    for (int64_t t = 2; t <= 200; t++)
        d = fen__window_add(&w, (struct fen__window_point){t * FEN_S, t * 7, t * 3});
    assert_int_equal(d.at_ns, 60 * FEN_S);
    assert_int_equal(d.cpu_ns, 420);
    assert_int_equal(d.requests, 180);
    d = fen__window_add(&w, (struct fen__window_point){1000 * FEN_S, 7000, 3000});
    assert_int_equal(d.at_ns, 800 * FEN_S); /* nobody looked: since the last look */
    d = fen__window_add(&w, (struct fen__window_point){1015 * FEN_S, 7105, 3045});
    assert_int_equal(d.at_ns, 15 * FEN_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_follow_the_format),
        cmocka_unit_test(vars_are_json),
        cmocka_unit_test(own_lines_are_reserved),
        cmocka_unit_test(too_little_room_is_an_error),
        cmocka_unit_test(window),
        cmocka_unit_test(money_counters_never_fall),
    };
    return cmocka_run_group_tests(tests, register_all, NULL);
}
