/* admin.c - the admin listener's pages and the closing bill. */
#include "svc/svc_int.h"

#include "mem/mem.h"

#include <fen/fiber.h>
#include <fen/profile.h>

#include <stdio.h>

/* Fills a heap view (it is too large for a fiber's stack) and writes a page from it. */
static int page(fen_exchange *x, struct fen__service *v, const char *type,
                void (*put)(fen_buf *b, const struct fen__view *view))
{
    struct fen__view *view = fen__mem_alloc(sizeof *view);
    int rc = view ? fen__view_read(view, &v->mark, 0, v->cfg.prices) : -ENOMEM;
    if (!rc) {
        fen_buf b = fen_buf_heap();
        put(&b, view);
        rc = b.err ? b.err : fen_reply(x, 200, type, fen_buf_slice(&b));
        fen_buf_free(&b);
        fen__view_free(view);
    }
    fen__mem_free(view, sizeof *view);
    return rc;
}

static int metrics(fen_exchange *x, void *v)
{
    return page(x, v, FEN__METRICS_TYPE, fen__metrics_write);
}

static int vars(fen_exchange *x, void *v) { return page(x, v, FEN__VARS_TYPE, fen__vars_write); }

/* ---- memory ---- */

static void put_i64(fen_buf *b, const char *name, int64_t v)
{
    fen_buf_put_str(b, b->n > 1 ? ",\"" : "\"");
    fen_buf_put_str(b, name);
    fen_buf_put_str(b, "\":");
    fen_buf_put_i64(b, v);
}

/* The state after what was asked for; freed below 0: nothing was to be freed. */
static int memory_reply(fen_exchange *x, int64_t freed, int64_t took_ns)
{
    static const char *const levels[] = {"easy", "tight", "short"};
    fen_mem_stats s;
    fen_mem_pace p;
    fen_mem_stats_get(&s);
    fen_mem_pace_get(&p);
    fen_buf b = fen_buf_arena(fen_exchange_arena(x));
    fen_buf_put_char(&b, '{');
    if (freed >= 0) {
        put_i64(&b, "returned_bytes", freed);
        put_i64(&b, "took_ns", took_ns);
    }
    put_i64(&b, "live_bytes", s.live_bytes);
    put_i64(&b, "held_bytes", s.held_bytes);
    put_i64(&b, "retained_bytes", s.retained_bytes);
    if (p.percent == FEN_MEM_OFF)
        fen_buf_put_str(&b, ",\"percent\":\"off\"");
    else
        put_i64(&b, "percent", p.percent);
    put_i64(&b, "goal_bytes", p.goal_bytes);
    put_i64(&b, "limit_bytes", p.limit_bytes);
    put_i64(&b, "slice_ns", p.slice_ns);
    fen_buf_put_str(&b, ",\"level\":\"");
    fen_buf_put_str(&b, levels[p.level]);
    fen_buf_put_str(&b, "\"}\n");
    return b.err ? b.err : fen_reply(x, 200, "application/json", fen_buf_slice(&b));
}

static int not_local(fen_exchange *x) { return fen_reply_error(x, 403, "only from this machine"); }

static int reclaim(fen_exchange *x, void *arg)
{
    (void)arg;
    if (!fen_exchange_local(x))
        return not_local(x);
    int64_t began = fen_now();
    fen_blocking_begin();
    int64_t freed = fen_mem_reclaim();
    fen_blocking_end();
    return memory_reply(x, freed, fen_now() - began);
}

/* A parameter as a string in the request's memory; NULL: it is not there. 0 or -errno. */
static int parameter(fen_exchange *x, const char *name, const char **ret)
{
    fen_slice v;
    int rc = fen_query_value(x, name, &v);
    *ret = NULL;
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    *ret = fen_arena_dup(fen_exchange_arena(x), v.p, v.n);
    return *ret ? 0 : -ENOMEM;
}

struct wanted {
    const char *profile, *percent_text, *limit_text;
    int percent;
    int64_t limit;
};

static const char *parse_wanted(struct wanted *w)
{
    if (!w->profile && !w->percent_text && !w->limit_text)
        return "expected ?profile=P, percent=N or limit=B, in the query";
    if (w->percent_text && fen_mem_percent_parse(w->percent_text, &w->percent))
        return "percent: 1 to 10000, or off";
    if (w->limit_text && fen_mem_limit_parse(w->limit_text, &w->limit))
        return "limit: a whole number with B, KiB, MiB, GiB or TiB, at least 1MiB, or auto or off";
    if (w->profile && fen_mem_profile_set(w->profile)) /* the rest is known to be good */
        return "profile: balanced, latency or container";
    return NULL;
}

/* POST /debug/memory?profile=P&percent=N&limit=B */
static int memory_set(fen_exchange *x, void *arg)
{
    struct wanted w = {0};
    (void)arg;
    if (!fen_exchange_local(x))
        return not_local(x);
    int rc = parameter(x, "profile", &w.profile);
    rc = rc ? rc : parameter(x, "percent", &w.percent_text);
    rc = rc ? rc : parameter(x, "limit", &w.limit_text);
    if (rc)
        return rc;
    const char *wrong = parse_wanted(&w);
    if (wrong)
        return fen_reply_error(x, 400, wrong);
    rc = w.percent_text ? fen_mem_percent_set(w.percent) : 0;
    rc = rc || !w.limit_text ? rc : fen_mem_limit_set(w.limit);
    return rc ? rc : memory_reply(x, -1, 0);
}

static int memory_get(fen_exchange *x, void *arg)
{
    (void)arg;
    return memory_reply(x, -1, 0);
}

/* GET /debug/pprof/heap: what go tool pprof reads. */
static int heap_profile(fen_exchange *x, void *arg)
{
    (void)arg;
    fen_buf b = fen_buf_heap();
    fen_blocking_begin(); /* it reads symbol tables */
    int rc = fen_profile_heap_write(&b);
    fen_blocking_end();
    rc = rc ? rc : fen_reply(x, 200, "application/octet-stream", fen_buf_slice(&b));
    fen_buf_free(&b);
    return rc;
}

static int healthz(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

fen_server *fen__admin_new(struct fen__service *v)
{
    fen_server *s = fen_server_new(&(fen_server_config){.max_connections = 64, .shed_off = true});
    if (s &&
        (fen_route(s, "GET /metrics", metrics, v) || fen_route(s, "GET /debug/vars", vars, v) ||
         fen_route(s, "POST /debug/reclaim", reclaim, v) ||
         fen_route(s, "GET /debug/memory", memory_get, v) ||
         fen_route(s, "POST /debug/memory", memory_set, v) ||
         fen_route(s, "GET /debug/pprof/heap", heap_profile, v) ||
         fen_route(s, "GET /healthz", healthz, v))) {
        fen_server_free(s);
        return NULL;
    }
    return s;
}

static void put_line(fen_buf *b, const struct fen__bill_line *l, __int128 fyuan)
{
    int64_t n = l->requests > 0 ? l->requests : 1;
    char head[160];
    int len = snprintf(head, sizeof head, "  %-16.16s %-28.28s %10lld %9.2f %9.2f  ",
                       fen__meter_tenant_name(l->tenant), fen__meter_operation_name(l->operation),
                       (long long)l->requests, (double)l->usage.cpu_ns / (double)n / 1e3,
                       (double)l->usage.wait_ns / (double)n / 1e3);
    fen_buf_put(b, head, (size_t)len);
    /* per million: fyuan * 1e6 / n, six decimals of a yuan */
    fen__put_scaled(b, fyuan * 1000000 / n / 1000000000, 6);
    fen_buf_put_char(b, '\n');
}

void fen__print_closing(struct fen__service *v)
{
    struct fen__view *view = fen__mem_alloc(sizeof *view);
    if (!view || fen__view_read(view, &v->mark, 0, v->cfg.prices)) {
        fen__mem_free(view, sizeof *view);
        return;
    }
    fen_buf b = fen_buf_heap();
    fen_buf_put_str(&b, "tenant             operation                      requests    cpu us   "
                        "wait us  yuan per million\n");
    for (uint32_t i = 0; i < view->bill.n; i++)
        put_line(
            &b, &view->bill.lines[i],
            fen_price_of(&view->book, &view->bill.lines[i].usage, view->bill.lines[i].requests));
    char text[192];
    fen__books_text(&view->books, text, sizeof text);
    fen_buf_put_str(&b, text);
    fen_buf_put_char(&b, '\n');
    if (!b.err) {
        fwrite(b.p, 1, b.n, stdout);
        fflush(stdout);
    }
    fen_buf_free(&b);
    fen__view_free(view);
    fen__mem_free(view, sizeof *view);
}
