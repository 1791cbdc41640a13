/* pprof_test.c - the reader of profiles: what it sums, and that no file can lead it astray. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "profile/profile.h"

#include <fen/fen.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    unsigned char p[512];
    size_t n;
};

static void put(struct bytes *b, const void *p, size_t n)
{
    assert_true(b->n + n <= sizeof b->p);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_byte(struct bytes *b, unsigned v) { put(b, &(unsigned char){(unsigned char)v}, 1); }

/* A field of bytes; all lengths here are below 128. */
static void put_field(struct bytes *b, unsigned number, const void *p, size_t n)
{
    assert_true(n < 128);
    put_byte(b, number << 3 | 2);
    put_byte(b, (unsigned)n);
    put(b, p, n);
}

static void put_string(struct bytes *b, const char *s) { put_field(b, 6, s, strlen(s)); }

/* main calls twice, which calls itself; a location of it has leaf inlined. Two samples: leaf in
 * twice in twice in main, 10 and 300; main alone, 1 and 5. Numbers packed in the first sample, one
 * by one in the second. */
static void build(struct bytes *b)
{
    static const unsigned char type_a[] = {0x08, 1, 0x10, 2}, type_b[] = {0x08, 3, 0x10, 4};
    static const unsigned char location_1[] = {0x08, 7, 0x22, 2, 0x08, 9, 0x22, 2, 0x08, 8};
    static const unsigned char location_2[] = {0x08, 1, 0x22, 2, 0x08, 8};
    static const unsigned char location_3[] = {0x08, 2, 0x22, 2, 0x08, 3};
    static const unsigned char leaf[] = {0x08, 9, 0x10, 5}, twice[] = {0x08, 8, 0x10, 6};
    static const unsigned char main_[] = {0x08, 3, 0x10, 7};
    static const unsigned char sample_1[] = {0x0a, 3, 7,    1, 2,    0x12, 3,    10,
                                             0xac, 2, 0x1a, 4, 0x08, 8,    0x10, 9};
    static const unsigned char sample_2[] = {0x08, 2, 0x10, 1, 0x10, 5};
    *b = (struct bytes){.n = 0};
    put_field(b, 1, type_a, sizeof type_a);
    put_field(b, 1, type_b, sizeof type_b);
    put_field(b, 2, sample_1, sizeof sample_1);
    put_field(b, 2, sample_2, sizeof sample_2);
    put_field(b, 4, location_1, sizeof location_1);
    put_field(b, 4, location_2, sizeof location_2);
    put_field(b, 4, location_3, sizeof location_3);
    put_field(b, 5, leaf, sizeof leaf);
    put_field(b, 5, twice, sizeof twice);
    put_field(b, 5, main_, sizeof main_);
    static const char *const strings[] = {"",     "inuse_objects", "count", "inuse_space", "bytes",
                                          "leaf", "twice",         "main",  "tenant",      "acme"};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        put_string(b, strings[i]);
    put(b, "\x60\x80\x80\x20", 4); /* period 524288 */
}

static void expect(const struct pprof_row *r, const char *name, int64_t flat, int64_t cum)
{
    assert_string_equal(r->name, name);
    assert_int_equal(r->flat, flat);
    assert_int_equal(r->cum, cum);
}

static void sums_are_right(void **state)
{
    (void)state;
    struct bytes b;
    struct pprof p;
    size_t n;
    int64_t total;
    build(&b);
    assert_null(pprof_read(&p, (const char *)b.p, b.n));
    assert_int_equal(p.period, 524288);
    assert_int_equal(pprof_value(&p, "inuse_space"), 1);
    assert_int_equal(pprof_value(&p, "bytes"), -1);
    struct pprof_row *r = pprof_top(&p, 1, NULL, &n, &total);
    assert_int_equal(n, 3);
    assert_int_equal(total, 305);
    expect(&r[0], "leaf", 300, 300);
    expect(&r[1], "main", 5, 305);
    expect(&r[2], "twice", 0, 300); /* once, although it is there twice */
    free(r);
    r = pprof_top(&p, 0, "tenant", &n, &total);
    assert_int_equal(n, 2);
    expect(&r[0], "acme", 10, 10);
    expect(&r[1], "(none)", 1, 1);
    free(r);
    const char *key[PPROF_KEYS_MAX];
    assert_int_equal(pprof_keys(&p, key), 1);
    assert_string_equal(key[0], "tenant");
    pprof_free(&p);
}

/* Whatever comes: it is read or refused. The sanitizers watch. */
static bool survives(const unsigned char *p, size_t n)
{
    struct pprof k;
    size_t rows;
    int64_t total;
    char *exact = malloc(n ? n : 1); /* so that a byte too far is seen */
    assert_non_null(exact);
    memcpy(exact, p, n);
    bool read = !pprof_read(&k, exact, n);
    free(exact);
    if (read) {
        for (int i = 0; i < k.types; i++)
            free(pprof_top(&k, i, i ? "tenant" : NULL, &rows, &total));
        pprof_free(&k);
    }
    return read;
}

static void no_file_leads_astray(void **state)
{
    (void)state;
    struct bytes good, bad;
    int refused = 0;
    build(&good);
    assert_true(survives(good.p, good.n));
    for (size_t n = 0; n < good.n; n++)
        refused += !survives(good.p, n);
    assert_true(refused > 50);
    for (size_t i = 0; i < good.n; i++)
        for (unsigned v = 0; v < 256; v++) {
            bad = good;
            bad.p[i] = (unsigned char)v;
            refused += !survives(bad.p, bad.n);
        }
    assert_true(refused > 1000);
}

static void gzip_is_checked(void **state)
{
    (void)state;
    fen_buf b = fen_buf_heap();
    assert_int_equal(fen_profile_heap_write(&b), 0);
    assert_true(survives((const unsigned char *)b.p, b.n));
    for (size_t n = 0; n < b.n; n++)
        assert_false(survives((const unsigned char *)b.p, n));
    for (size_t i = 0; i < 15; i++) { /* head and the first block's */
        b.p[i] ^= 0x55;
        (void)survives((const unsigned char *)b.p, b.n);
        b.p[i] ^= 0x55;
    }
    fen_buf_free(&b);
}

/* A string has bytes. Numbers in their place once counted: towards 2^64 as less text than there is,
 * and alone as strings that then were not there. */
static void numbers_are_no_strings(void **state)
{
    (void)state;
    static const char negative[] = "\x30\xe0\xff\xff\xff\xff\xff\xff\xff\xff\x01"; /* -32 */
    static const unsigned char type[] = {0x08, 1, 0x10, 2};
    struct bytes b;
    build(&b);
    put(&b, negative, sizeof negative - 1);
    assert_true(survives(b.p, b.n));
    b.n = 0;
    put_field(&b, 1, type, sizeof type);
    for (int i = 0; i < 3; i++)
        put(&b, negative, sizeof negative - 1);
    assert_false(survives(b.p, b.n));
    struct pprof p;
    assert_string_equal(pprof_read(&p, (const char *)b.p, b.n), "not a profile");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_right),
        cmocka_unit_test(no_file_leads_astray),
        cmocka_unit_test(gzip_is_checked),
        cmocka_unit_test(numbers_are_no_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
