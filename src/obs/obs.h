/* obs.h - what can be seen from outside, as bytes. No sockets: svc serves what is written here. */
#ifndef FEN_OBS_H
#define FEN_OBS_H

#include "base/hist.h"
#include "meter/meter.h"
#include "sync/sync.h"
#include "sys/proc.h"

#include <fen/buf.h>
#include <fen/mem.h>
#include <fen/pace.h>
#include <fen/run.h>
#include <fen/var.h>

#define FEN__METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define FEN__VARS_TYPE "application/json; charset=utf-8"

/* Everything that a page shows besides the variables, read once so that a page agrees with
 * itself. */
struct fen__view {
    fen_stats stats;
    fen_mem_stats mem;
    fen_mem_class mem_class[FEN_MEM_CLASSES];
    fen_mem_pace pace;
    struct fen__hist slices; /* of reclaims, ns */
    struct fen__sys_proc proc;
    fen_price_book book;
    struct fen__bill bill;
    struct fen__books books;
    struct fen__cost_rate rate;   /* cost per second over the last window */
    int64_t window_ns;            /* length of that window, 0: none yet */
    struct fen__pool_view *pools; /* NULL: none */
    int pools_n, pools_all;
    int64_t now_ns;      /* when they were looked at */
    const char *service; /* label of cost_by_service; NULL: "fen" */
    char cmdline[4096];  /* arguments, each NUL-terminated */
    size_t cmdline_n;
};

/* Fills a view (collect.c). mark is where the run began; others_ns as in fen__books_read; book NULL
 * means the default prices. 0, -ENOMEM or -errno of a clock; free with fen__view_free. */
int fen__view_read(struct fen__view *ret_view, const struct fen__books_mark *mark,
                   int64_t others_ns, const fen_price_book *book) FEN_MUST_CHECK;
void fen__view_free(struct fen__view *v);

/* Prometheus text format 0.0.4, and a JSON object in the manner of expvar. Failure is in b->err. */
void fen__metrics_write(fen_buf *b, const struct fen__view *v);
void fen__vars_write(fen_buf *b, const struct fen__view *v);

/* ---- the window behind cost_per_second (window.c) ---- */

struct fen__window_point {
    int64_t at_ns, cpu_ns, requests;
};

#define FEN__WINDOW_POINTS 64
#define FEN__WINDOW_NS (60 * FEN_S)

struct fen__window {
    struct fen__window_point point[FEN__WINDOW_POINTS];
    uint32_t n; /* points ever kept; the newest is at (n - 1) % FEN__WINDOW_POINTS */
};

/* Takes a point, keeps it if the newest is a second old, and returns the difference to the oldest
 * kept point that is at most FEN__WINDOW_NS old (or the newest, if all are older). at_ns 0: no
 * window yet. The caller serializes. */
struct fen__window_point fen__window_add(struct fen__window *w, struct fen__window_point now);

#endif
