/* collect.c - reads everything a page shows, once. Apart from the writers, so that they can be
 * tested with views written by hand. */
#include "obs/obs.h"

#include "base/tas.h"
#include "mem/mem.h"
#include "sys/sys.h"

static fen__tas lock; /* of the window */
static struct fen__window window;

static struct fen__window_point look(struct fen__window_point now)
{
    fen__tas_lock(&lock);
    struct fen__window_point diff = fen__window_add(&window, now);
    fen__tas_unlock(&lock);
    return diff;
}

int fen__view_read(struct fen__view *ret_view, const struct fen__books_mark *mark,
                   int64_t others_ns, const fen_price_book *book)
{
    struct fen__view *v = ret_view;
    int rc = fen__bill_read(&v->bill);
    if (rc < 0)
        return rc;
    v->pools = fen__pools_view(&v->pools_n, &v->pools_all);
    v->now_ns = fen_now();
    rc = v->pools ? fen__books_read(mark, others_ns, &v->books) : -ENOMEM;
    if (rc < 0) {
        fen__view_free(v);
        return rc;
    }
    fen_stats_get(&v->stats);
    fen_mem_stats_get(&v->mem);
    for (uint32_t i = 0; i < FEN_MEM_CLASSES; i++)
        (void)!fen_mem_class_get(i, &v->mem_class[i]);
    fen_mem_pace_get(&v->pace);
    v->slices = (struct fen__hist){0};
    fen__hist_merge(&v->slices, fen__reclaim_slices());
    fen__sys_proc_get(&v->proc);
    if (book)
        v->book = *book;
    else
        fen_price_book_default(&v->book);
    struct fen__window_point diff =
        look((struct fen__window_point){fen_now(), v->proc.cpu_ns, v->bill.total.requests});
    v->window_ns = diff.at_ns;
    v->rate = fen__price_rate(&v->book, diff.at_ns, diff.cpu_ns,
                              fen__max_i64(v->proc.resident_bytes, 0), diff.requests);
    v->service = NULL;
    ssize_t n = fen__sys_file_read("/proc/self/cmdline", v->cmdline, sizeof v->cmdline);
    v->cmdline_n = n > 0 ? (size_t)n : 0;
    return 0;
}

void fen__view_free(struct fen__view *v)
{
    fen__bill_free(&v->bill);
    fen__pools_view_free(v->pools);
    v->pools = NULL;
}
