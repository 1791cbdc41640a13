/* admin.c - the admin listener's pages and the closing bill. */
#include "svc/svc_int.h"

#include "mem/mem.h"

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

static int healthz(fen_exchange *x, void *arg)
{
    (void)arg;
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

fen_server *fen__admin_new(struct fen__service *v)
{
    fen_server *s = fen_server_new(&(fen_server_config){.max_connections = 64});
    if (s &&
        (fen_route(s, "GET /metrics", metrics, v) || fen_route(s, "GET /debug/vars", vars, v) ||
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
