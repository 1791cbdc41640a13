/* serve.c - fen serve orders: flags, then the runtime, the store, the routes, the server. */
#include "cmd.h"
#include "serve/orders.h"

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/meter.h>
#include <fen/run.h>

#include <stdio.h>
#include <string.h>

struct options {
    const char *addr, *admin_addr, *db, *backend, *price_file;
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

static int serve(fen_server *s, struct options *o)
{
    int rc = orders_routes(s, &o->orders);
    if (rc == 0)
        rc = store_start(o->orders.store);
    o->server = s;
    if (rc == 0)
        rc = fen_go_named("store check", 256 << 10, check_main, o);
    if (rc < 0)
        return rc;
    const fen_service_config service = {
        .addr = o->addr, .admin_addr = o->admin_addr, .quiet = o->quiet, .prices = &o->prices};
    struct upstream *backend = o->orders.backend;
    if (backend) {
        rc = upstream_start(backend, o->backend_conns < 0 ? fen_procs() : (int)o->backend_conns);
        if (rc < 0)
            return rc;
    }
    rc = fen_server_run(s, &service);
    o->told |= rc < 0; /* it has said what was wrong */
    upstream_stop(backend);
    store_stop(o->orders.store); /* the drain is over: what waits is written, the writer ends */
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
        {"price-file", ARG_STR, &o->price_file, 0, 0, "prices for the bill"},
        {"fill-only", ARG_BOOL, &o->fill_only, 0, 0, "make the order book and leave"},
        {"quiet", ARG_BOOL, &o->quiet, 0, 0, "do not print the closing bill"},
    };
    const char *word = NULL;
    int rc = args_parse(argc, argv, tab, sizeof tab / sizeof tab[0], &word, 1);
    if (rc)
        return rc;
    if (word && !strcmp(word, "orders"))
        return 0;
    fprintf(stderr, "fen serve: %s%s%s; the one service is: fen serve orders\n",
            word ? "unknown service '" : "which service?", word ? word : "", word ? "'" : "");
    return 2;
}

static int refuse(const char *flag, const char *why)
{
    fprintf(stderr, "fen serve: --%s: %s\n", flag, why);
    return 2;
}

/* Everything that can be wrong with the flags is found before a thread is started. */
static int open_all(struct options *o)
{
    char text[512];
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
        return refuse("backend", rc == -EINVAL ? "expected host:port" : fen_strerror(rc));
    }
    return 0;
}

static int report(int rc, const struct options *o)
{
    if (rc == -EINVAL && !o->told) /* fen_run's: the flags have been checked */
        fprintf(stderr, "fen serve: invalid FEN_PROCS (1 to 256) or FEN_STACK_GUARD (auto, "
                        "madvise, mprotect or canary)\n");
    else if (rc < 0 && !o->told)
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
        const fen_config cfg = {.procs = (int)o.procs};
        o.orders.deadline_ns = o.deadline_ns;
        rc = report(fen_run(run_main, &o, &cfg), &o);
    }
    store_close(o.orders.store);
    return rc;
}
