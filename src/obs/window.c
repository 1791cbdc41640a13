/* window.c - the window over which cost per second is taken.
 *
 * Points are taken when somebody looks, at most one a second, so it needs no timer and works with
 * any scrape interval: with one look every 15 s the window is the last 60 s in four steps, with
 * looks further apart than a minute it is the time since the last one. */
#include "obs/obs.h"

struct fen__window_point fen__window_add(struct fen__window *w, struct fen__window_point now)
{
    const struct fen__window_point *base = NULL;
    uint32_t kept = w->n < FEN__WINDOW_POINTS ? w->n : FEN__WINDOW_POINTS;
    for (uint32_t i = 1; i <= kept; i++) { /* from the newest back */
        const struct fen__window_point *p = &w->point[(w->n - i) % FEN__WINDOW_POINTS];
        if (base && now.at_ns - p->at_ns > FEN__WINDOW_NS)
            break;
        base = p;
    }
    struct fen__window_point diff = {0};
    if (base && now.at_ns > base->at_ns) {
        diff.at_ns = now.at_ns - base->at_ns;
        diff.cpu_ns = now.cpu_ns - base->cpu_ns;
        diff.requests = now.requests - base->requests;
    }
    bool due = kept == 0 || now.at_ns - w->point[(w->n - 1) % FEN__WINDOW_POINTS].at_ns >= FEN_S;
    if (due)
        w->point[w->n++ % FEN__WINDOW_POINTS] = now;
    return diff;
}
