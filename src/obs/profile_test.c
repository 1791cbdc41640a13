/* profile_test.c - the heap profile as pprof's readers see it: unpacked and parsed here, and opened
 * by `go tool pprof` where Go is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "mem/mem.h"
#include "meter/meter.h"
#include "obs/obs_int.h"
#include "sys/sys.h"

#include <fen/arena.h>
#include <fen/fiber.h>
#include <fen/profile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- gzip ---- */

static uint32_t crc_by_bits(const unsigned char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return ~crc;
}

static uint32_t little(const unsigned char *p, int bytes)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * i;
    return v;
}

/* What the stored blocks hold, checked by the frame; free() it. */
static unsigned char *unpacked(const fen_buf *b, size_t *ret_n)
{
    const unsigned char *p = (const unsigned char *)b->p;
    unsigned char *out = malloc(b->n + 1);
    size_t at = 10, n = 0;
    bool last = false;
    assert_non_null(out);
    assert_true(b->n >= 18 && p[0] == 0x1f && p[1] == 0x8b && p[2] == 8 && p[3] == 0);
    while (!last) {
        assert_true(at + 5 <= b->n && p[at] <= 1);
        uint32_t len = little(p + at + 1, 2);
        assert_int_equal(len ^ 0xffff, little(p + at + 3, 2));
        last = p[at];
        assert_true(at + 5 + len + 8 <= b->n);
        memcpy(out + n, p + at + 5, len);
        n += len;
        at += 5 + len;
    }
    assert_int_equal(at + 8, b->n);
    assert_int_equal(little(p + at, 4), crc_by_bits(out, n));
    assert_int_equal(little(p + at + 4, 4), n);
    *ret_n = n;
    return out;
}

static void gzip_of_any_length_is_whole(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 65534, 65535, 65536, 131070, 200001};
    char *bytes = malloc(200001);
    assert_non_null(bytes);
    for (size_t i = 0; i < 200001; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    for (size_t i = 0; i < FEN__COUNT(lengths); i++) {
        fen_buf b = fen_buf_heap();
        size_t n;
        fen__gzip_stored(&b, bytes, lengths[i]);
        unsigned char *got = unpacked(&b, &n);
        assert_int_equal(n, lengths[i]);
        assert_memory_equal(got, bytes, n);
        free(got);
        fen_buf_free(&b);
    }
    free(bytes);
}

/* ---- the messages ---- */

enum { MANY = 100000 };

struct field {
    uint32_t number;
    uint64_t v;             /* of a number */
    const unsigned char *p; /* of bytes; NULL: a number */
    size_t n;
};

static uint64_t varint(const unsigned char **at, const unsigned char *end)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        assert_true(*at < end);
        unsigned char c = *(*at)++;
        v |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return v;
    }
    fail_msg("a number of more than ten bytes");
    return 0;
}

/* The next field of a message; false at its end. */
static bool next(const unsigned char **at, const unsigned char *end, struct field *ret)
{
    if (*at == end)
        return false;
    uint64_t key = varint(at, end);
    *ret = (struct field){.number = (uint32_t)(key >> 3)};
    assert_true((key & 7) == 0 || (key & 7) == 2);
    ret->v = varint(at, end);
    if ((key & 7) == 2) {
        assert_true(ret->v <= (uint64_t)(end - *at));
        ret->p = *at;
        ret->n = ret->v;
        *at += ret->n;
    }
    return true;
}

struct profile {
    unsigned char *bytes;
    size_t n;
    struct field *string;
    size_t strings;
    size_t samples, locations;
    uint32_t function_of[MANY]; /* of each location */
    bool function[MANY], mapping[MANY];
};

static uint64_t number_in(const struct field *m, uint32_t number)
{
    const unsigned char *at = m->p;
    struct field f;
    while (next(&at, m->p + m->n, &f))
        if (f.number == number && !f.p)
            return f.v;
    return 0;
}

static void see_location(struct profile *k, const struct field *m)
{
    const unsigned char *at = m->p;
    uint64_t id = number_in(m, 1), mapping = number_in(m, 2);
    struct field f;
    assert_true(id && id < MANY && !k->function_of[id]);
    assert_true(!mapping || k->mapping[mapping]);
    while (next(&at, m->p + m->n, &f))
        if (f.number == 4)
            k->function_of[id] = (uint32_t)number_in(&f, 1);
    assert_true(k->function_of[id] && k->function[k->function_of[id]]);
    k->locations++;
}

/* Reads all of it; whatever is named must be there, once. */
static void parse(struct profile *k, const fen_buf *b)
{
    memset(k, 0, sizeof *k);
    k->bytes = unpacked(b, &k->n);
    k->string = calloc(MANY, sizeof *k->string);
    assert_non_null(k->string);
    const unsigned char *at = k->bytes, *end = at + k->n;
    struct field f;
    while (next(&at, end, &f)) {
        uint64_t id = f.number == 3 || f.number == 5 ? number_in(&f, 1) : 0;
        assert_true(f.number <= 14);
        if (f.number == 6) {
            assert_true(k->strings < MANY);
            k->string[k->strings++] = f;
        } else if (f.number == 3 || f.number == 5) {
            bool *seen = f.number == 3 ? k->mapping : k->function;
            assert_true(id && id < MANY && !seen[id]);
            seen[id] = true;
        } else if (f.number == 4) {
            see_location(k, &f);
        } else if (f.number == 2) {
            k->samples++;
        }
    }
    assert_int_equal(k->string[0].n, 0);
}

static void profile_free(struct profile *k)
{
    free(k->bytes);
    free(k->string);
}

static bool is(const struct profile *k, uint64_t string, const char *text)
{
    assert_true(string < k->strings);
    return k->string[string].n == strlen(text) && !memcmp(k->string[string].p, text, strlen(text));
}

/* ---- a sample ---- */

struct sample {
    uint32_t function[64];
    int64_t value[4], bytes;
    uint64_t tenant, operation, fiber;
    int frames, values;
};

static void label(const struct profile *k, const struct field *m, struct sample *s)
{
    uint64_t key = number_in(m, 1), str = number_in(m, 2);
    if (is(k, key, "tenant"))
        s->tenant = str;
    else if (is(k, key, "operation"))
        s->operation = str;
    else if (is(k, key, "fiber"))
        s->fiber = str;
    else if (is(k, key, "bytes"))
        s->bytes = (int64_t)number_in(m, 3);
    else
        fail_msg("a label of another name");
}

static void read_sample(const struct profile *k, const struct field *m, struct sample *s)
{
    const unsigned char *at = m->p;
    struct field f;
    *s = (struct sample){.frames = 0};
    while (next(&at, m->p + m->n, &f)) {
        if (f.number == 1) {
            assert_true(s->frames < 64 && f.v < MANY && k->function_of[f.v]);
            s->function[s->frames++] = k->function_of[f.v];
        } else if (f.number == 2) {
            assert_true(s->values < 4);
            s->value[s->values++] = (int64_t)f.v;
        } else {
            label(k, &f, s);
        }
    }
    assert_true(s->frames > 0);
    assert_int_equal(s->values, 4);
}

/* The samples whose innermost frame is the function, added up; the last one in full. */
static struct sample of_function(const struct profile *k, const char *name)
{
    const unsigned char *at = k->bytes, *end = at + k->n;
    struct sample sum = {.frames = 0}, s;
    struct field f;
    while (next(&at, end, &f)) {
        if (f.number != 2)
            continue;
        read_sample(k, &f, &s);
        if (!is(k, s.function[0], name))
            continue;
        for (int i = 0; i < 4; i++)
            s.value[i] += sum.value[i];
        sum = s;
    }
    return sum;
}

/* ---- the tests ---- */

FEN__NOINLINE static void *planted_leak(size_t n)
{
    void *volatile p = fen__mem_alloc(n);
    return p;
}

FEN__NOINLINE static void *caller_of_leak(size_t n)
{
    void *volatile p = planted_leak(n);
    return p;
}

FEN__NOINLINE static void *in_an_arena(fen_arena *a)
{
    void *volatile p = fen_arena_alloc(a, 100);
    return p;
}

static struct profile parsed;

static void write_and_parse(fen_buf *b)
{
    *b = fen_buf_heap();
    assert_int_equal(fen_profile_heap_write(b), 0);
    parse(&parsed, b);
}

static void an_empty_profile_is_one(void **state)
{
    (void)state;
    fen_buf b;
    write_and_parse(&b);
    assert_true(parsed.mapping[1]);
    profile_free(&parsed);
    fen_buf_free(&b);
}

static void a_leak_is_found(void **state)
{
    (void)state;
#ifdef FEN__ASAN
    skip();
#endif
    enum { N = 40 };
    static void *p[N];
    uint32_t op = fen__meter_operation("GET /leak/{id}");
    uint32_t account = fen__meter_account(op, FEN_SLICE("acme"));
    assert_int_equal(fen_profile_heap_rate_set(1), 0);
    assert_int_equal(fen_mem_account_set(account), 0);
    for (int i = 0; i < N; i++)
        p[i] = caller_of_leak(5000);
    for (int i = 0; i < N; i += 2)
        fen__mem_free(p[i], 5000);
    fen_arena *a = fen_arena_new();
    (void)in_an_arena(a);
    assert_int_equal(fen_mem_account_set(0), 0);
    assert_int_equal(fen_profile_heap_rate_set(FEN_PROFILE_OFF), 0);

    fen_buf b;
    write_and_parse(&b);
    struct sample s = of_function(&parsed, "planted_leak");
    const int64_t each = (int64_t)fen_usable_size(p[1]);
    const int64_t expected[4] = {N, N * each, N / 2, N / 2 * each};
    assert_memory_equal(s.value, expected, sizeof expected);
    assert_int_equal(s.bytes, each);
    assert_true(is(&parsed, s.tenant, "acme"));
    assert_true(is(&parsed, s.operation, "GET /leak/{id}"));
    assert_int_equal(s.fiber, 0);
    assert_true(s.frames > 3);
    assert_true(is(&parsed, s.function[1], "caller_of_leak"));
    assert_true(is(&parsed, s.function[2], "a_leak_is_found"));
    s = of_function(&parsed, "in_an_arena"); /* not the arena's own functions */
    assert_int_equal(s.value[2], 1);
    assert_int_equal(s.value[3], 8192);
    profile_free(&parsed);
    fen_buf_free(&b);
    for (int i = 1; i < N; i += 2)
        fen__mem_free(p[i], 5000);
    fen_arena_free(a);
}

/* Every allocation on the way may fail: then it says so and nothing is lost. */
static int64_t countdown;

static int fails_at(const char *call)
{
    return !strcmp(call, "malloc") && --countdown == 0 ? -ENOMEM : 0;
}

static void without_memory_it_says_so(void **state)
{
    (void)state;
    int64_t live = fen__mem_live_bytes(), n = 0;
    for (int rc = -ENOMEM; rc; n++) {
        fen_buf b = fen_buf_heap();
        countdown = n + 1;
        fen__sys_fault = fails_at;
        rc = fen_profile_heap_write(&b);
        fen__sys_fault = NULL;
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(b.err, rc);
        fen_buf_free(&b);
        assert_true(n < 1000);
        assert_int_equal(fen__mem_live_bytes(), live);
    }
    assert_true(n > 3);
}

static void go_opens_it(void **state)
{
    (void)state;
#ifdef FEN__ASAN
    skip();
#endif
    char path[] = "/tmp/fen-profile-XXXXXX", command[256], line[512];
    if (system("command -v go >/dev/null 2>&1")) {
        print_message("skipped: go not installed\n");
        skip();
    }
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(fen_profile_heap_rate_set(1), 0);
    void *p = caller_of_leak(3 << 20);
    assert_int_equal(fen_profile_heap_rate_set(FEN_PROFILE_OFF), 0);
    fen_buf b = fen_buf_heap();
    assert_int_equal(fen_profile_heap_write(&b), 0);
    assert_int_equal(write(fd, b.p, b.n), (ssize_t)b.n);
    close(fd);
    fen_buf_free(&b);
    snprintf(command, sizeof command, "go tool pprof -top -sample_index=inuse_space %s 2>&1", path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    bool type = false, leak = false;
    while (fgets(line, sizeof line, f)) {
        type |= strstr(line, "Type: inuse_space") != NULL;
        leak |= strstr(line, "planted_leak") && (strstr(line, " 3MB ") || strstr(line, " 3072kB "));
    }
    assert_int_equal(pclose(f), 0);
    unlink(path);
    assert_true(type && leak);
    fen__mem_free(p, 3 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gzip_of_any_length_is_whole),
        cmocka_unit_test(an_empty_profile_is_one),
        cmocka_unit_test(a_leak_is_found),
        cmocka_unit_test(without_memory_it_says_so),
        cmocka_unit_test(go_opens_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
