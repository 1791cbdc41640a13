/* every_mem_test.c - every n-th failing call in each public function of memory, text and figures:
 * EVERY_MEM of every.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"

#include "every_rig.h"

#include <fen/arena.h>
#include <fen/hist.h>
#include <fen/json.h>
#include <fen/mem.h>
#include <fen/meter.h>
#include <fen/objpool.h>
#include <fen/pace.h>
#include <fen/profile.h>
#include <fen/var.h>

/* ---- arenas and buffers ---- */

static int arenas(void *arg)
{
    (void)arg;
    fen_arena *a = GET(fen_arena_new, ());
    MUST(GET(fen_arena_alloc, (a, 100)) != NULL);
    MUST(GET(fen_arena_alloc, (a, 100000)) != NULL);
    MUST(GET(fen_arena_grow, (a, 100000)) != NULL);
    static const char text[10000] = "text";
    MUST(!strcmp(GET(fen_arena_dup, (a, text, sizeof text)), "text"));
    MUST(SEE(fen_arena_used_bytes, (a)) >= 110100);
    MUST(SEE(fen_arena_held_bytes, (a)) >= 110100);
    DO(fen_arena_reset, (a));
    DO(fen_arena_free, (a));
    return 0;
}

/* Grows by no more than is asked for, so that every append needs memory. */
static int grow_tight(fen_buf *b, size_t need)
{
    char *p = fen__mem_resize(b->p, b->cap, b->n + need);
    if (!p)
        return -ENOMEM;
    b->p = p;
    b->cap = b->n + need;
    return 0;
}

static fen_buf tight(void) { return (fen_buf){.grow = grow_tight}; }
static void tight_free(fen_buf *b) { fen__mem_free(b->p, b->cap); }

/* An append; a failure is the buffer's, and once it is cleared the same works. */
#define PUT(b, fn, args)                                                                           \
    do {                                                                                           \
        (b)->err = 0;                                                                              \
        DO(fn, args);                                                                              \
    } while (every_failed((b)->err, 0))

static int buffers(void *arg)
{
    (void)arg;
    char bytes[64];
    fen_buf fixed = SEE(fen_buf_fixed, (bytes, sizeof bytes));
    fen_buf_put_str(&fixed, "abc");
    MUST(SEE(fen_buf_slice, (&fixed)).n == 3);
    fen_buf heap = SEE(fen_buf_heap, ());
    PUT(&heap, fen_buf_reserve, (&heap, 1000));
    heap.err = 0;
    MUST(heap.cap >= 1000);
    DO(fen_buf_free, (&heap));
    fen_arena *a = fen_arena_new();
    fen_buf in_arena = SEE(fen_buf_arena, (a));
    fen_buf_put_str(&in_arena, "abc");
    MUST(in_arena.err == 0);
    fen_arena_free(a);
    fen_buf b = tight();
    PUT(&b, fen_buf_put, (&b, "ab", 2));
    PUT(&b, fen_buf_put_char, (&b, 'c'));
    PUT(&b, fen_buf_put_str, (&b, "def"));
    PUT(&b, fen_buf_put_i64, (&b, -12));
    PUT(&b, fen_buf_put_u64, (&b, 34));
    MUST(b.n == 11 && !memcmp(b.p, "abcdef-1234", 11));
    tight_free(&b);
    return 0;
}

/* ---- JSON ---- */

static int values(void *arg)
{
    (void)arg;
    fen_buf b = tight();
    PUT(&b, fen_json_value_i64, (&b, 7));
    PUT(&b, fen_json_value_f64, (&b, 0.5));
    PUT(&b, fen_json_value_bool, (&b, true));
    PUT(&b, fen_json_value_null, (&b));
    tight_free(&b);
    b = tight();
    do { /* a text that was cut off stays cut off */
        b.n = 0;
        b.err = 0;
        DO(fen_json_value_string, (&b, FEN_SLICE("a\n\"b\"")));
    } while (every_failed(b.err, 0));
    MUST(b.n == 10 && !memcmp(b.p, "\"a\\n\\\"b\\\"\"", 10));
    tight_free(&b);
    return 0;
}

static void document(fen_json_writer *w)
{
    DO(fen_json_put_object, (w));
    DO(fen_json_put_key, (w, FEN_SLICE("a")));
    DO(fen_json_put_array, (w));
    DO(fen_json_put_i64, (w, 1));
    DO(fen_json_put_f64, (w, 1.5));
    DO(fen_json_put_bool, (w, false));
    DO(fen_json_put_null, (w));
    DO(fen_json_put_string, (w, FEN_SLICE("x")));
    DO(fen_json_put_array_end, (w));
    DO(fen_json_put_object_end, (w));
}

/* Whatever the first failure was, it shows at the end of the document. */
static int writer(void *arg)
{
    static const char want[] = "{\"a\":[1,1.5,false,null,\"x\"]}";
    (void)arg;
    for (int go = 0; go < 2; go++) {
        fen_buf b = tight();
        fen_json_writer w = SEE(fen_json_writer_on, (&b));
        bool before = every.met;
        document(&w);
        int rc = SEE(fen_json_writer_end, (&w));
        MUST(rc == (every.met && !before ? -ENOMEM : 0));
        MUST(rc || (b.n == sizeof want - 1 && !memcmp(b.p, want, b.n)));
        tight_free(&b);
    }
    return 0;
}

static char long_json[40000]; /* a key and a string that have an escape and fill a chunk each */

static void make_long_json(void)
{
    size_t n = 0;
    long_json[n++] = '{';
    for (int i = 0; i < 2; i++) {
        long_json[n++] = '"';
        memset(long_json + n, 'k', 9000);
        memcpy(long_json + n, "\\n", 2);
        n += 9000;
        long_json[n++] = '"';
        long_json[n++] = i ? ',' : ':';
    }
    n += (size_t)snprintf(long_json + n, sizeof long_json - n,
                          "\"b\":[1,2.5,true,null,\"s\",{\"skip\":[]}]}");
    long_json[n] = '\0';
}

static int read_rest(fen_json_reader *r)
{
    int64_t i = 0;
    double d = 0;
    bool t = false;
    char text[4];
    MUST(SEE(fen_json_next_item, (r)) == 1 && SEE(fen_json_get_i64, (r, &i)) == 0 && i == 1);
    MUST(fen_json_next_item(r) == 1 && SEE(fen_json_get_f64, (r, &d)) == 0 && d > 2);
    MUST(fen_json_next_item(r) == 1 && SEE(fen_json_get_bool, (r, &t)) == 0 && t);
    MUST(fen_json_next_item(r) == 1 && SEE(fen_json_get_null, (r)) == 0);
    MUST(fen_json_next_item(r) == 1);
    MUST(SEE(fen_json_get_chars, (r, text, sizeof text)) == 0);
    MUST(fen_json_next_item(r) == 1 && SEE(fen_json_skip, (r)) == 0);
    MUST(fen_json_next_item(r) == 0);
    return 0;
}

static bool read_document(fen_arena *a)
{
    fen_slice key, value;
    fen_json_reader r = SEE(fen_json_reader_on, (((fen_slice){long_json, strlen(long_json)}), a));
    MUST(SEE(fen_json_peek, (&r)) == FEN_JSON_OBJECT);
    MUST(SEE(fen_json_get_object, (&r)) == 0);
    if (SPOILT(1, fen_json_next_key, (&r, &key)) || SPOILT(0, fen_json_get_string, (&r, &value)))
        return false;
    MUST(key.n == 8999 && value.n == 8999);
    MUST(fen_json_next_key(&r, &key) == 1);
    MUST(SEE(fen_json_get_array, (&r)) == 0);
    read_rest(&r);
    MUST(fen_json_next_key(&r, &key) == 0);
    MUST(SEE(fen_json_reader_end, (&r)) == 0);
    return true;
}

static int reader(void *arg)
{
    static const struct fen_json_field fields[] = {{"a", true}};
    (void)arg;
    make_long_json();
    fen_arena *a = fen_arena_new();
    while (!read_document(a))
        fen_arena_reset(a);
    fen_json_reader r = fen_json_reader_on(FEN_SLICE("{\"a\":1}"), a);
    fen_slice key;
    char why[64];
    int64_t v;
    uint64_t seen = 0;
    MUST(fen_json_get_object(&r) == 0 && fen_json_next_key(&r, &key) == 1);
    MUST(SEE(fen_json_field_begin, (&r, &seen, 0, true)));
    MUST(fen_json_get_i64(&r, &v) == 0 && fen_json_next_key(&r, &key) == 0);
    MUST(SEE(fen_json_struct_end, (&r, fields, 1, seen, -1, why, sizeof why)) == 0);
    fen_arena_free(a);
    return 0;
}

/* ---- the heap ---- */

#define BIG ((size_t)64 << 20) /* more than the heap has lying about */

static int heap(void *arg)
{
    (void)arg;
    fen_mem_usage usage;
    fen_mem_class class;
    fen_mem_stats stats;
    (void)fen_mem_reclaim();
    void *a = GET(fen_alloc, (BIG)), *b = GET(fen_calloc, (2, BIG)), *d = NULL;
    void *c = GET(fen_alloc_for, (1, BIG));
    TRY(0, fen_aligned_alloc, (1 << 16, BIG, &d));
    a = GET(fen_realloc, (a, 3 * BIG));
    MUST(SEE(fen_usable_size, (a)) >= 3 * BIG);
    static uint32_t account = 10; /* each time one that has no records yet */
    account += 2;
    TRY(0, fen_mem_account_set, (account));
    MUST(SEE(fen_mem_account, ()) == account);
    MUST(fen_mem_account_set(0) == 0);
    MUST(SEE(fen_mem_usage_get, (1, &usage)) == 0);
    MUST(SEE(fen_mem_class_get, (FEN_MEM_CLASSES - 1, &class)) == 0);
    MUST(usage.live_bytes >= (int64_t)BIG && class.block_bytes > 0);
    TRY(0, fen_mem_cap_set, (account + 1, 1 << 20));
    MUST(fen_mem_cap_set(account + 1, 0) == 0);
    DO(fen_mem_stats_get, (&stats));
    DO(fen_free, (a));
    fen_free(b);
    fen_free(c);
    fen_free(d);
    MUST(SEE(fen_mem_reclaim, ()) >= 0);
    MUST(SEE(fen_mem_options_set, (&(fen_mem_options){10, false})) == 0);
    DO(fen_mem_check, (false));
    return 0;
}

static int pacing(void *arg)
{
    (void)arg;
    int percent;
    int64_t bytes;
    fen_mem_pace pace;
    MUST(SEE(fen_mem_percent_parse, ("50", &percent)) == 0 && percent == 50);
    MUST(SEE(fen_mem_limit_parse, ("64MiB", &bytes)) == 0 && bytes == 64 << 20);
    TRY(0, fen_mem_percent_set, (100));
    TRY(0, fen_mem_slice_set, (100 * FEN_US));
    TRY(0, fen_mem_limit_set, (FEN_MEM_AUTO));
    TRY(0, fen_mem_limit_set, (0));
    TRY(0, fen_mem_profile_set, ("container"));
    TRY(0, fen_mem_profile_set, ("balanced"));
    MUST(SEE(fen_mem_pressure, ()) == FEN_MEM_EASY);
    DO(fen_mem_pace_get, (&pace));
    return 0;
}

static int objects(void *arg)
{
    (void)arg;
    fen_objpool_stats st;
    fen_objpool *p = GET(fen_objpool_new, (&(fen_objpool_config){.size_bytes = 100}));
    void *o = GET(fen_objpool_get, (p));
    DO(fen_objpool_put, (p, o));
    DO(fen_objpool_stats_get, (p, &st));
    MUST(st.gets == 1 && st.puts == 1 && st.idle == 1);
    DO(fen_objpool_free, (p));
    return 0;
}

/* ---- figures ---- */

static int histograms(void *arg)
{
    (void)arg;
    static fen_hist h, other;
    int cursor = 0;
    int64_t low, high, n;
    DO(fen_hist_init, (&h));
    fen_hist_init(&other);
    DO(fen_hist_record, (&h, 5));
    DO(fen_hist_record_many, (&other, 5, 3));
    DO(fen_hist_merge, (&h, &other));
    MUST(SEE(fen_hist_quantile, (&h, 0.5)) == 5);
    MUST(SEE(fen_hist_mean, (&h)) > 4);
    MUST(SEE(fen_hist_next, (&h, &cursor, &low, &high, &n)) && n == 4);
    return 0;
}

static int money(void *arg)
{
    (void)arg;
    static const char path[] = "/tmp/fen-every-prices";
    FILE *f = fopen(path, "w");
    fen_price_book book;
    char text[256];
    MUST(f && fputs("cpu_core_hour = 1\n", f) >= 0 && !fclose(f));
    DO(fen_price_book_default, (&book));
    TRY(0, fen_price_book_load, (path, &book, text, sizeof text));
    unlink(path);
    fen_usage u = {.cpu_ns = 3600 * FEN_S};
    MUST(SEE(fen_price_of, (&book, &u, 0)) > 0);
    return 0;
}

/* Variables stay, so each go has a name of its own, the few bytes of which are not a leak; a failed
 * one may leave none. */
static int variables(void *arg)
{
    (void)arg;
    static int runs;
    char name[32];
    snprintf(name, sizeof name, "every_%d", runs++);
    fen_var_def def = {.name = name, .kind = FEN_VAR_GAUGE};
    fen_var *v;
    int64_t before = fen__mem_live_bytes();
    while (SPOILT(0, fen_var_new, (&def, &v)))
        MUST(fen__mem_live_bytes() == before);
    MUST(SEE(fen_var_find, (name, NULL)) == v);
    DO(fen_var_set, (v, 5));
    DO(fen_var_add, (v, 1));
    DO(fen_var_record, (v, 1));
    MUST(SEE(fen_var_get, (v)) == 6);
    MUST(SEE(fen_var_quantile, (v, 0.5)) == 0);
    return 0;
}

static int profiles(void *arg)
{
    (void)arg;
    int64_t bytes, rc, rate = SEE(fen_profile_heap_rate, ());
    MUST(SEE(fen_profile_heap_rate_parse, ("64KiB", &bytes)) == 0 && bytes == 64 << 10);
    TRY(0, fen_profile_heap_rate_set, (bytes));
    MUST(fen_profile_heap_rate_set(rate) == 0);
    do {
        fen_buf b = fen_buf_heap();
        rc = SEE(fen_profile_heap_write, (&b));
        MUST(rc || b.n > 0);
        fen_buf_free(&b);
    } while (every_failed(rc, 0));
    return 0;
}

static int odds(void *arg)
{
    (void)arg;
    MUST(SEE(fen_strerror, (-ENOMEM)) != NULL);
    MUST(SEE(fen_now, ()) > 0);
    (void)SEE(fen_sim_hash, ());
    return 0;
}

static void test_mem(void **state)
{
    static struct every_row rows[] = {EVERY_MEM(EVERY_ROW)};
    static const struct every_scenario scenarios[] = {
        {"arenas", arenas, OUTSIDE},         {"buffers", buffers, OUTSIDE},
        {"values", values, OUTSIDE},         {"writer", writer, OUTSIDE},
        {"reader", reader, OUTSIDE},         {"heap", heap, OUTSIDE},
        {"pacing", pacing, OUTSIDE},         {"objects", objects, OUTSIDE},
        {"histograms", histograms, OUTSIDE}, {"money", money, OUTSIDE},
        {"variables", variables, KEEPS},     {"odds", odds, OUTSIDE},
        {"profiles", profiles, OUTSIDE},
    };
    (void)state;
#ifdef FEN__ASAN
    skip(); /* there blocks are the C library's, whose calls are not seen */
#endif
    every_test(rows, sizeof rows / sizeof rows[0], scenarios,
               sizeof scenarios / sizeof scenarios[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mem)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
