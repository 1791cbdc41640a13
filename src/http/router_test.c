/* router_test.c - which pattern wins, what it captures, what is refused; and a slow matcher that
 * must agree. */
#include "http/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static fen_slice text(const char *s) { return (fen_slice){s, strlen(s)}; }

static int nothing(fen_exchange *x, void *arg)
{
    (void)x;
    (void)arg;
    return 0;
}

struct fixture {
    fen_arena *arena;
    struct fen__router r;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->arena = fen_arena_new();
    *state = f;
    return fen__router_init(&f->r, f->arena);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    fen_arena_free(f->arena);
    free(f);
    return 0;
}

static void add(struct fixture *f, const char *pattern)
{
    assert_int_equal(fen__router_add(&f->r, pattern, nothing, f), 0);
}

/* Finds, and says what: the pattern, "404" or "405 " and the list. */
static const char *find(struct fixture *f, const char *method, const char *path,
                        struct fen__route_match *m)
{
    static char out[200];
    int status = fen__router_match(&f->r, text(method), text(path), m);
    if (status == 200)
        return m->route->pattern;
    int n = snprintf(out, sizeof out, status == 404 ? "404" : "405 ");
    if (status == 405) {
        int k = fen__router_allow(&f->r, m->allowed, out + n, sizeof out - 1 - (size_t)n);
        assert_true(k > 0);
        out[n + k] = 0;
    }
    return out;
}

static void is(fen_slice s, const char *want)
{
    assert_non_null(s.p);
    assert_int_equal(s.n, strlen(want));
    assert_memory_equal(s.p, want, s.n);
}

/* long: the table is the test */
static void test_choice(void **state)
{
    struct fixture *f = *state;
    static const char *patterns[] = {
        "GET /",
        "GET /orders",
        "POST /orders",
        "GET /orders/{id}",
        "GET /orders/new",
        "DELETE /orders/{n}",
        "GET /orders/{id}/items/{item}",
        "GET /a/b/c",
        "GET /a/{x}/d",
        "GET /{any}/{y}/e",
        "POST /a/b",
        "GET /files/{path...}",
        "GET /files/top/x",
        "GET /slash/",
        "PUT /orders/new",
        "HEAD /own",
        "GET /own",
        "X-CUSTOM /c",
    };
    for (size_t i = 0; i < FEN__COUNT(patterns); i++)
        add(f, patterns[i]);
    static const struct {
        const char *method, *path, *want;
    } cases[] = {
        {"GET", "/", "GET /"},
        {"GET", "//", "404"},
        {"GET", "/orders", "GET /orders"},
        {"POST", "/orders", "POST /orders"},
        {"HEAD", "/orders", "GET /orders"},
        {"HEAD", "/own", "HEAD /own"},
        {"GET", "/orders/", "404"},
        {"GET", "/orders/17", "GET /orders/{id}"},
        {"GET", "/orders/new", "GET /orders/new"},
        {"DELETE", "/orders/17", "DELETE /orders/{n}"},
        {"DELETE", "/orders/new", "DELETE /orders/{n}"}, /* the literal has no DELETE */
        {"PATCH", "/orders/new", "405 GET, HEAD, DELETE, PUT"},
        {"PATCH", "/orders/1", "405 GET, HEAD, DELETE"},
        {"PUT", "/orders", "405 GET, HEAD, POST"},
        {"get", "/orders", "405 GET, HEAD, POST"},
        {"GET", "/Orders", "404"},
        {"GET", "/order", "404"},
        {"GET", "/ordersx", "404"},
        {"GET", "/orders/1/items/2", "GET /orders/{id}/items/{item}"},
        {"GET", "/orders/1/items/", "404"},
        {"GET", "/orders/1/items", "404"},
        {"GET", "/a/b/c", "GET /a/b/c"},
        {"GET", "/a/b/d", "GET /a/{x}/d"},     /* back from the literal b */
        {"GET", "/a/b/e", "GET /{any}/{y}/e"}, /* back from a */
        {"GET", "/a/b/f", "404"},
        {"GET", "/a/b", "405 POST"},
        {"GET", "/files", "404"},
        {"GET", "/files/", "GET /files/{path...}"},
        {"GET", "/files/x/y/", "GET /files/{path...}"},
        {"GET", "/files/top/x", "GET /files/top/x"},
        {"GET", "/files/top/y", "GET /files/{path...}"},
        {"PUT", "/files/top/x", "405 GET, HEAD"},
        {"GET", "/slash/", "GET /slash/"},
        {"GET", "/slash", "404"},
        {"GET", "/own", "GET /own"},
        {"PUT", "/own", "405 GET, HEAD"},
        {"X-CUSTOM", "/c", "X-CUSTOM /c"},
        {"OPTIONS", "*", "404"},
        {"GET", "", "404"},
    };
    for (size_t i = 0; i < FEN__COUNT(cases); i++) {
        struct fen__route_match m;
        const char *got = find(f, cases[i].method, cases[i].path, &m);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s %s: %s instead of %s", cases[i].method, cases[i].path, got, cases[i].want);
    }
}

static void test_values(void **state)
{
    struct fixture *f = *state;
    struct fen__route_match m;
    add(f, "GET /orders/{id}/items/{item}");
    add(f, "GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}");
    add(f, "GET /{x}/{rest...}");
    assert_string_equal(find(f, "GET", "/orders/1%20/items/abc", &m),
                        "GET /orders/{id}/items/{item}");
    is(fen__route_value(&m, "id"), "1%20");
    is(fen__route_value(&m, "item"), "abc");
    assert_null(fen__route_value(&m, "x").p);
    assert_ptr_equal(m.route->arg, f);
    assert_int_equal(m.route->index, 0);
    find(f, "GET", "/1/2/3/4/5/6/7/8", &m);
    is(fen__route_value(&m, "a"), "1");
    is(fen__route_value(&m, "h"), "8");
    find(f, "GET", "/orders/2/items", &m); /* values of the dead end are overwritten */
    is(fen__route_value(&m, "x"), "orders");
    is(fen__route_value(&m, "rest"), "2/items");
    find(f, "GET", "/q/", &m);
    is(fen__route_value(&m, "rest"), "");
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    static const char *bad[] = {
        "",
        "GET",
        "GET ",
        "GET  /x",
        " GET /x",
        "/x",
        "GET x",
        "GET\t/x",
        "G(T /x",
        "GET /{",
        "GET /{}",
        "GET /{a",
        "GET /a}",
        "GET /x{a}",
        "GET /{a}x",
        "GET /{a b}",
        "GET /{1a}",
        "GET /{...}",
        "GET /{a..}",
        "GET /{a...}/b",
        "GET /{a}/{a}",
        "GET /a?b",
        "GET /a#b",
        "GET /a b",
        "GET /\x7f",
        "GET /\xc3\xa9",
        "GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}",
        "GET "
        "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29/30/31/32/"
        "33",
    };
    for (size_t i = 0; i < FEN__COUNT(bad); i++) {
        int rc = fen__router_add(&f->r, bad[i], nothing, NULL);
        if (rc != -EINVAL)
            fail_msg("%s: %d", bad[i], rc);
    }
    add(f, "GET /a/{x}");
    add(f, "POST /a/{x}");
    add(f, "GET /a/{x...}");
    add(f, "GET /a/x");
    assert_int_equal(fen__router_add(&f->r, "GET /a/{y}", nothing, NULL), -EEXIST);
    assert_int_equal(fen__router_add(&f->r, "GET /a/{y...}", nothing, NULL), -EEXIST);
    assert_int_equal(fen__router_add(&f->r, "GET /a/x", nothing, NULL), -EEXIST);
    struct fen__route_match m;
    assert_string_equal(find(f, "GET", "/a/1", &m), "GET /a/{x}");
    assert_string_equal(find(f, "GET", "/{", &m), "404");
}

static void test_allow_needs_room(void **state)
{
    struct fixture *f = *state;
    struct fen__route_match m;
    char out[16];
    add(f, "GET /x");
    add(f, "POST /x");
    assert_int_equal(fen__router_match(&f->r, text("PUT"), text("/x"), &m), 405);
    assert_int_equal(fen__router_allow(&f->r, m.allowed, out, 15), 15);
    assert_memory_equal(out, "GET, HEAD, POST", 15);
    assert_int_equal(fen__router_allow(&f->r, m.allowed, out, 14), -ERANGE);
    assert_int_equal(fen__router_allow(&f->r, m.allowed, out, 0), -ERANGE);
}

/* A thousand patterns of four shapes; every one found by its own path, and by no other's. */
static void test_thousand(void **state)
{
    struct fixture *f = *state;
    static char patterns[1000][64];
    static const char *shapes[] = {"GET /svc%d/items", "GET /svc%d/items/{id}",
                                   "POST /api/v%d/{user}/orders", "GET /api/v%d/files/{path...}"};
    static const char *paths[] = {"/svc%d/items", "/svc%d/items/42", "/api/v%d/bob/orders",
                                  "/api/v%d/files/a/b"};
    for (int i = 0; i < 1000; i++) {
        snprintf(patterns[i], sizeof patterns[i], shapes[i % 4], i / 4);
        add(f, patterns[i]);
    }
    size_t held = fen_arena_used_bytes(f->arena);
    for (int i = 0; i < 1000; i++) {
        struct fen__route_match m;
        char path[64];
        snprintf(path, sizeof path, paths[i % 4], i / 4);
        assert_string_equal(find(f, i % 4 == 2 ? "POST" : "GET", path, &m), patterns[i]);
        assert_int_equal(m.route->index, i);
        snprintf(path, sizeof path, paths[i % 4], i / 4 + 250);
        assert_string_equal(find(f, "GET", path, &m), "404");
    }
    assert_int_equal(fen_arena_used_bytes(f->arena), held);
}

/* Against the obvious: every pattern tried in turn, by a recursive matcher of ten lines. */
static bool slow_match(const char *pattern, const char *path)
{
    if (!*pattern || !*path)
        return !*pattern && !*path;
    size_t a = strcspn(pattern + 1, "/"), b = strcspn(path + 1, "/");
    if (pattern[1] == '{') {
        if (pattern[a - 1] == '.')
            return true;
        return b > 0 && slow_match(pattern + 1 + a, path + 1 + b);
    }
    return a == b && !memcmp(pattern, path, a + 1) && slow_match(pattern + 1 + a, path + 1 + b);
}

static void test_random_against_slow(void **state)
{
    static const char *segments[] = {"a", "b", "", "{p}", "{t...}"};
    uint64_t seed = 99;
    for (int round = 0; round < 300; round++) {
        struct fixture *f = *state;
        char patterns[20][64];
        int n = 0;
        fen_arena_reset(f->arena);
        assert_int_equal(fen__router_init(&f->r, f->arena), 0);
        for (int k = 0; k < 20; k++) {
            size_t len = (size_t)snprintf(patterns[n], sizeof patterns[n], "GET ");
            int depth = 1 + (int)(fen__rand(&seed) % 4), params = 0;
            for (int d = 0; d < depth; d++) {
                const char *s = segments[fen__rand(&seed) % (d == depth - 1 ? 5 : 4)];
                char *to = patterns[n] + len;
                size_t room = sizeof patterns[n] - len;
                len += (size_t)(*s == '{' ? snprintf(to, room, "/{%c%s", 'a' + params++, s + 2)
                                          : snprintf(to, room, "/%s", s));
            }
            int rc = fen__router_add(&f->r, patterns[n], nothing, NULL);
            assert_true(rc == 0 || rc == -EEXIST);
            n += rc == 0;
        }
        for (int k = 0; k < 100; k++) {
            char path[64];
            size_t len = 0;
            for (uint64_t d = 1 + fen__rand(&seed) % 5; d; d--)
                len += (size_t)snprintf(path + len, sizeof path - len, "/%.*s",
                                        (int)(fen__rand(&seed) % 2), &"ab"[fen__rand(&seed) % 2]);
            bool any = false;
            for (int i = 0; i < n; i++)
                any |= slow_match(patterns[i] + 4, path);
            struct fen__route_match m;
            int rc = fen__router_match(&f->r, text("GET"), text(path), &m);
            if (rc != (any ? 200 : 404))
                fail_msg("%s: %d, expected any=%d", path, rc, any);
            if (any)
                assert_true(slow_match(m.route->pattern + 4, path));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_allow_needs_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thousand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_against_slow, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
