/* texts.c - router, json, vars: what turns bytes into work and work into bytes. */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <fen/var.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- router ---- */

#define PATTERNS 1000
#define MATCHES 2000000

static int nothing(fen_exchange *x, void *arg)
{
    (void)x, (void)arg;
    return 0;
}

/* A service's routes: three shapes, half of them with a parameter. */
static char patterns[PATTERNS][64], paths[PATTERNS][64];

static int add_routes(fen_server *s)
{
    int rc = 0;
    for (int i = 0; i < PATTERNS && !rc; i++) {
        int k = i / 4;
        static const char *const shapes[] = {"/api/v1/thing%d", "/api/v1/thing%d/{id}",
                                             "/api/v1/thing%d/{id}/part", "/old/page%d/show"};
        static const char *const sent[] = {"/api/v1/thing%d", "/api/v1/thing%d/%d",
                                           "/api/v1/thing%d/%d/part", "/old/page%d/show"};
        char shape[64];
        snprintf(shape, sizeof shape, "GET %s", shapes[i % 4]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(patterns[i], sizeof patterns[i], shape, k);
        snprintf(paths[i], sizeof paths[i], sent[i % 4], k, i * 37);
#pragma GCC diagnostic pop
        rc = fen_route(s, patterns[i], nothing, NULL);
    }
    return rc;
}

/* out: ns a match, bytes that the heap grew by in all matches, wrong answers. */
static void router_main(void *arg, double *out)
{
    (void)arg;
    fen_server *s = fen_server_new(NULL);
    if (!s || add_routes(s))
        return;
    int64_t wrong = 0;
    fen_slice path[PATTERNS];
    for (int i = 0; i < PATTERNS; i++)
        path[i] = (fen_slice){paths[i], strlen(paths[i])};
    fen_stats before, after;
    fen_stats_get(&before);
    double from = now_s();
    for (int i = 0, k = 0; i < MATCHES; i++, k = (k + 389) % PATTERNS) {
        const char *pattern = NULL;
        wrong +=
            fen_route_find(s, FEN_SLICE("GET"), path[k], &pattern) != 200 || pattern != patterns[k];
    }
    out[0] = (now_s() - from) * 1e9 / MATCHES;
    fen_stats_get(&after);
    out[1] = (double)(after.heap_live_bytes - before.heap_live_bytes);
    out[2] = (double)wrong;
    fen_server_free(s);
}

void bench_router(void)
{
    double v[BENCH_RUNS_MAX], heap = 0, wrong = 0;
    int runs = runs_or(7);
    for (int i = 0; i < runs; i++) {
        double out[3];
        in_child(router_main, NULL, out, 3);
        v[i] = out[0], heap += out[1], wrong += out[2];
    }
    emit(FIGURE(.name = "match_of_1000", .unit = "ns", .value = median(v, runs), .bar = true,
                .at_least = 100, .runs = runs));
    emit(FIGURE(.name = "heap_growth", .unit = "bytes", .value = heap, .bar = true, .at_least = 0,
                .exact = true, .runs = runs));
    emit(FIGURE(.name = "wrong_matches", .unit = "", .value = wrong, .bar = true, .at_least = 0,
                .exact = true, .runs = runs));
}

/* ---- json ---- */

#define DOCUMENTS 500000

struct order {
    int64_t id, customer, quantity, price_cents, created_at;
    fen_slice item, status;
};
#define ORDER_FIELDS(F)                                                                            \
    F(i64, id, required)                                                                           \
    F(i64, customer, required)                                                                     \
    F(slice, item, required)                                                                       \
    F(i64, quantity, required)                                                                     \
    F(i64, price_cents, required)                                                                  \
    F(slice, status, required)                                                                     \
    F(i64, created_at, required)
FEN_JSON_STRUCT(order, ORDER_FIELDS)

/* out: ns to write, ns to read, bytes. */
static void json_main(void *arg, double *out)
{
    (void)arg;
    char text[512], err[128];
    struct order o = {5, 9596, 1, 70453, 1700000300, FEN_SLICE("widget-747"), FEN_SLICE("paid")};
    struct order back;
    fen_arena *a = fen_arena_new();
    fen_buf b = fen_buf_fixed(text, sizeof text);
    double from = now_s();
    for (int i = 0; i < DOCUMENTS; i++) {
        b = fen_buf_fixed(text, sizeof text);
        o.id = i;
        order_json_encode(&b, &o);
    }
    double mid = now_s();
    int bad = 0;
    for (int i = 0; i < DOCUMENTS; i++)
        bad += order_json_decode(fen_buf_slice(&b), a, &back, err, sizeof err) != 0;
    double end = now_s();
    fen_arena_free(a);
    if (bad || back.id != o.id || b.err)
        return;
    out[0] = (mid - from) * 1e9 / DOCUMENTS;
    out[1] = (end - mid) * 1e9 / DOCUMENTS;
    out[2] = (double)b.n;
}

void bench_json(void)
{
    double write[BENCH_RUNS_MAX], read[BENCH_RUNS_MAX], out[3] = {0};
    int runs = runs_or(7);
    for (int i = 0; i < runs; i++) {
        in_child(json_main, NULL, out, 3);
        write[i] = out[0], read[i] = out[1];
    }
    emit(FIGURE(.name = "write_order", .unit = "ns", .value = median(write, runs), .runs = runs));
    emit(FIGURE(.name = "read_order", .unit = "ns", .value = median(read, runs), .runs = runs));
    emit(FIGURE(.name = "order_bytes", .unit = "bytes", .value = out[2]));
}

/* ---- vars ---- */

#define VARS 1000

static int vars_serve(void *arg)
{
    for (int i = 0; i < VARS; i++) {
        char name[32];
        snprintf(name, sizeof name, "bench_value_%d", i);
        fen_var *v;
        if (fen_var_new(&(fen_var_def){.name = name, .kind = FEN_VAR_COUNTER}, &v))
            return -ENOMEM;
        fen_var_add(v, i);
    }
    fen_server *s = fen_server_new(NULL);
    int rc =
        s ? fen_server_run(
                s, &(fen_service_config){.addr = "127.0.0.1:0", .admin_addr = arg, .quiet = true})
          : -ENOMEM;
    fen_server_free(s);
    return rc;
}

static int vars_main(void *arg) { return fen_run(vars_serve, arg, NULL); }

void bench_vars(void)
{
    struct child c = {.admin_port = free_port()};
    char admin[40];
    double v[BENCH_RUNS_MAX];
    int runs = runs_or(21);
    snprintf(admin, sizeof admin, "127.0.0.1:%d", c.admin_port);
    bool good = child_start(&c, NULL, vars_main, admin, NULL);
    for (int i = 0; i < runs && good; i++) {
        double from = now_s();
        char *page = admin_page(&c, "/debug/vars");
        v[i] = (now_s() - from) * 1e3;
        good = page && number_in(page, "", "bench_value_999") == 999;
        free(page);
    }
    child_stop(&c);
    emit(
        FIGURE(.name = "read_1000", .unit = "ms", .value = good ? median(v, runs) : NAN,
               .bar = true, .at_least = 1, .runs = runs,
               .note = good ? "over HTTP, connection included" : "no page, or without the values"));
}
