/* serve.c - fen serve orders: flags, then the runtime, the store, the routes, the server. */
#include "cmd.h"
#include "serve/orders.h"

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/meter.h>
#include <fen/pace.h>
#include <fen/profile.h>
#include <fen/run.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *addr, *admin_addr, *db, *backend, *price_file;
    const char *mem_limit, *mem_percent, *mem_profile, *heap_rate;
    fen_config run;
    int64_t procs, deadline_ns, delay_ns, max_body_bytes, backend_conns;
    bool fill_only, quiet;
    _Atomic bool told, damaged; /* one line has been written; by check_main */
    fen_server *server;
    fen_price_book prices;
    struct orders orders;
};

/* Beside the first requests, so that a start does not wait for a read of the whole file. */
static void check_main(void *arg)
{
    struct options *o = arg;
    char text[512];
    if (store_check(o->orders.store, text, sizeof text) != FEN_ECORRUPT)
        return;
    fprintf(stderr, "fen serve: --db: %s\n", text);
    o->told = o->damaged = true;
    fen_server_stop(o->server);
}

static int run(fen_server *s, struct options *o)
{
    int rc = fen_go_named("store check", 256 << 10, check_main, o);
    struct upstream *backend = o->orders.backend;
    if (rc == 0 && backend)
        rc = upstream_start(backend, o->backend_conns < 0 ? fen_procs() : (int)o->backend_conns);
    if (rc < 0)
        return rc;
    const fen_service_config service = {
        .addr = o->addr, .admin_addr = o->admin_addr, .quiet = o->quiet, .prices = &o->prices};
    rc = fen_server_run(s, &service);
    o->told |= rc < 0; /* it has said what was wrong */
    upstream_stop(backend);
    return rc;
}

static int serve(fen_server *s, struct options *o)
{
    int rc = orders_routes(s, &o->orders);
    if (rc < 0)
        return rc;
    o->server = s;
    rc = store_start(o->orders.store);
    fen_scope *check = rc < 0 ? NULL : fen_scope_open(FEN_NEVER);
    if (rc == 0)
        rc = check ? run(s, o) : -ENOMEM;
    if (check)
        (void)fen_scope_close(check); /* it stops the server, which must be there still */
    store_stop(o->orders.store);      /* what waits is written, the writer ends */
    return o->damaged ? FEN_ECORRUPT : rc;
}

static int run_main(void *arg)
{
    struct options *o = arg;
    const fen_server_config cfg = {.max_body_bytes = (size_t)o->max_body_bytes};
    fen_server *s = fen_server_new(&cfg);
    if (!s)
        return -ENOMEM;
    int rc = serve(s, o);
    fen_server_free(s);
    upstream_close(o->orders.backend);
    return rc;
}

static int parse(int argc, char **argv, struct options *o)
{
    const struct arg tab[] = {
        {"http-addr", ARG_STR, &o->addr, 0, 0, "where to listen (:8080)"},
        {"admin-addr", ARG_STR, &o->admin_addr, 0, 0,
         "where /metrics and /healthz listen (127.0.0.1:6060; empty: nowhere)"},
        {"db", ARG_STR, &o->db, 0, 0, "the order book, made and filled if missing (orders.db)"},
        {"backend", ARG_STR, &o->backend, 0, 0, "host:port that answers /quote/{id}: adds /quotes"},
        {"backend-conns", ARG_INT, &o->backend_conns, 0, UPSTREAM_CONNS_MAX,
         "pipelined connections to it (one a proc); 0: one for each request under way"},
        {"deadline", ARG_DUR, &o->deadline_ns, FEN_MS, 3600 * FEN_S, "of each request (100ms)"},
        {"store-delay", ARG_DUR, &o->delay_ns, 0, 0, "rehearsal: the store is that slow (0ms)"},
        {"max-body", ARG_INT, &o->max_body_bytes, 1, 1 << 30, "bytes of a request body (65536)"},
        {"procs", ARG_INT, &o->procs, 0, 256, "fibers that run at once (0: the cores allowed)"},
        {"mem-limit", ARG_STR, &o->mem_limit, 0, 0, "memory it may hold: 512MiB, auto, off"},
        {"mem-percent", ARG_STR, &o->mem_percent, 0, 0, "heap growth between reclaims: 100, off"},
        {"mem-profile", ARG_STR, &o->mem_profile, 0, 0, "balanced, latency or container"},
        {"heap-profile-rate", ARG_STR, &o->heap_rate, 0, 0, "bytes between samples: 512KiB, off"},
        {"price-file", ARG_STR, &o->price_file, 0, 0, "prices for the bill"},
        {"fill-only", ARG_BOOL, &o->fill_only, 0, 0, "make the order book and leave"},
        {"quiet", ARG_BOOL, &o->quiet, 0, 0, "do not print the closing bill"},
    };
    const char *word = NULL;
    int rc = args_parse(argc, argv, tab, sizeof tab / sizeof tab[0], &word, 1);
    if (rc < 0)
        printf("usage: fen serve orders [--flag=value ...]\n");
    if (rc)
        return rc;
    if (!word)
        fprintf(stderr, "fen serve: say which service: fen serve orders is the only one\n");
    else if (strcmp(word, "orders"))
        fprintf(stderr, "fen serve: unknown service '%s': fen serve orders is the only one\n",
                word);
    else
        return 0;
    return 2;
}

static int refuse(const char *flag, const char *why)
{
    fprintf(stderr, "fen serve: --%s: %s\n", flag, why);
    return 2;
}

static int refuse_value(const char *name, const char *value, const char *expected)
{
    fprintf(stderr, "fen serve: %s=%s: expected %s\n", name, value, expected);
    return 2;
}

/* The flag's value, or the variable's, and which of them it is; NULL: neither is set. */
static const char *flag_or(const char *flag_value, const char *flag, const char *variable,
                           const char **ret_name)
{
    *ret_name = flag_value ? flag : variable;
    const char *text = flag_value ? flag_value : getenv(variable);
    return text && *text ? text : NULL;
}

/* How memory is paced. fen_run would refuse a bad variable too, but could not say why. */
static int memory(struct options *o)
{
    static const char *const profiles[] = {"balanced", "latency", "container"};
    const char *name;
    const char *text = flag_or(o->mem_limit, "--mem-limit", "FEN_MEMLIMIT", &name);
    int64_t limit = 0;
    if (text && fen_mem_limit_parse(text, &limit))
        return refuse_value(name, text,
                            "a whole number with B, KiB, MiB, GiB or TiB, at least 1MiB, such as "
                            "512MiB; or auto, or off");
    if (text)
        o->run.mem_limit_bytes = limit ? limit : FEN_MEM_OFF;
    text = flag_or(o->mem_percent, "--mem-percent", "FEN_MEM_PERCENT", &name);
    if (text && fen_mem_percent_parse(text, &o->run.mem_percent))
        return refuse_value(name, text, "a whole number from 1 to 10000, or off");
    text = flag_or(o->mem_profile, "--mem-profile", "FEN_MEM_PROFILE", &name);
    size_t i = 0;
    while (text && i < 3 && strcmp(text, profiles[i]))
        i++;
    if (i == 3)
        return refuse_value(name, text, "balanced, latency or container");
    o->run.mem_profile = text;
    text = flag_or(o->heap_rate, "--heap-profile-rate", "FEN_HEAP_PROFILE_RATE", &name);
    if (text && fen_profile_heap_rate_parse(text, &o->run.heap_profile_rate))
        return refuse_value(name, text, "a whole number, or one with B, KiB or MiB; or off");
    return 0;
}

/* Everything that can be wrong with the flags is found before a thread is started. */
static int open_all(struct options *o)
{
    char text[512];
    if (memory(o))
        return 2;
    fen_price_book_default(&o->prices);
    if (o->price_file && fen_price_book_load(o->price_file, &o->prices, text, sizeof text) < 0)
        return refuse("price-file", text);
    const struct store_config cfg = {
        .path = o->db, .delay_ns = o->delay_ns, .check_later = !o->fill_only};
    if (store_open(&cfg, &o->orders.store, text, sizeof text) < 0)
        return refuse("db", text);
    if (!o->backend || o->fill_only)
        return 0;
    int rc = upstream_open(o->backend, &o->orders.backend);
    if (rc < 0) {
        store_close(o->orders.store);
        fprintf(stderr, "fen serve: --backend=%s: %s\n", o->backend,
                rc == -EINVAL ? "expected host:port" : fen_strerror(rc));
        return 2;
    }
    return 0;
}

static int report(int rc, const struct options *o)
{
    bool variable = rc == -EINVAL && !o->server; /* of the environment: fen_run has named it */
    if (rc < 0 && !o->told && !variable)
        fprintf(stderr, "fen serve: %s\n", fen_strerror(rc));
    return rc < 0 ? 2 : 0;
}

int cmd_serve(int argc, char **argv)
{
    struct options o = {.addr = ":8080",
                        .db = "orders.db",
                        .deadline_ns = 100 * FEN_MS,
                        .max_body_bytes = 65536,
                        .backend_conns = -1};
    int rc = parse(argc, argv, &o);
    if (rc)
        return rc < 0 ? 0 : rc;
    rc = open_all(&o);
    if (rc)
        return rc;
    if (!o.fill_only) {
        o.run.procs = (int)o.procs;
        o.orders.deadline_ns = o.deadline_ns;
        rc = report(fen_run(run_main, &o, &o.run), &o);
    }
    store_close(o.orders.store);
    return rc;
}
