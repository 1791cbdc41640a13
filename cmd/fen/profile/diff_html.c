/* diff_html.c - the page of fen diff: for both runs heap in use over time and how long the slices
 * of reclaims took, side by side at the same scales, and who held the memory. One file without
 * scripts; opens without a network. */
#include "profile/profile.h"

#include "prove/prove.h"

#include <math.h>
#include <string.h>

enum { W = 560, H = 260, LEFT = 64, RIGHT = 16, TOP = 14, BOTTOM = 40 };

static const char style[] =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\"><title>fen: two captures</title><style>\n"
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1d2430;--dim:#5d6675;--rule:#dfe3e8;"
    "--a:#2471a3;--b:#0b6e4f;--card:#f6f8fa}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e4e8ed;--dim:#98a2ae;"
    "--rule:#323a44;--a:#7fb8e6;--b:#3ecf9b;--card:#1c2229}}\n"
    "body{background:var(--bg);color:var(--fg);font:15px/1.55 system-ui,sans-serif;"
    "max-width:1200px;margin:0 auto;padding:24px 20px 60px}\n"
    "h1{font-size:25px;margin:.2em 0 .6em}h2{font-size:19px;margin:1.6em 0 .3em;"
    "border-bottom:1px solid var(--rule);padding-bottom:.2em}\n"
    ".two{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:4px 28px}"
    "figure{margin:0}figcaption{font-weight:600;font-size:14px;margin:.5em 0 .2em}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px}th,td{padding:4px 12px;"
    "text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}"
    "th{color:var(--dim);font-weight:600}td:first-child,th:first-child{text-align:left}\n"
    "svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--dim)}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:var(--rule);fill:none}"
    ".line{fill:none;stroke-width:2}.thin{fill:none;stroke-width:1.3;stroke-dasharray:4 3}\n"
    ".sa{stroke:var(--a)}.sb{stroke:var(--b)}.fa{fill:var(--a)}.fb{fill:var(--b)}"
    ".ca{color:var(--a)}.cb{color:var(--b)}p,.dim{color:var(--dim)}\n"
    "</style></head><body>\n";

/* ---- scales that both runs share ---- */

struct range {
    double seconds, mib, share;
    int from, to; /* buckets that either has slices in */
};

static double share(const struct capture *c, int i)
{
    double all = capture_slices(c);
    return all > 0 && i < c->buckets ? c->slices[i] / all : 0;
}

static void widen(struct range *r, const struct capture *c)
{
    r->seconds = fmax(r->seconds, c->at_s[c->n - 1]);
    r->mib = fmax(r->mib, fmax(capture_peak(c->live, c->n), capture_peak(c->held, c->n)) / 0x1p20);
    for (int i = 0; i < c->buckets; i++) {
        r->share = fmax(r->share, share(c, i));
        if (c->slices[i] > 0) {
            r->from = i < r->from ? i : r->from;
            r->to = i + 1 > r->to ? i + 1 : r->to;
        }
    }
}

/* A round number not below v: 1, 2, 2.5 or 5 times a power of ten, four equal parts of it apart. */
static double round_up(double v)
{
    static const double steps[] = {1, 2, 4, 5, 8, 10};
    double power = pow(10, floor(log10(fmax(v, 1e-6))));
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (v <= steps[i] * power * 1.0001)
            return steps[i] * power;
    return 10 * power;
}

static double x_of(double part) { return LEFT + part * (W - LEFT - RIGHT); }
static double y_of(double part) { return H - BOTTOM - part * (H - TOP - BOTTOM); }

static void begin(FILE *f, double top, const char *unit, const char *x_title)
{
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\">", W, H);
    for (int i = 0; i <= 4; i++)
        fprintf(f,
                "<path d=\"M%d %.1fH%d\" class=\"grid\"/><text x=\"%d\" y=\"%.1f\" class=\"end\">"
                "%g%s</text>",
                LEFT, y_of(i / 4.0), W - RIGHT, LEFT - 8, y_of(i / 4.0) + 4, top * i / 4, unit);
    fprintf(f, "<text x=\"%.0f\" y=\"%d\" class=\"mid\">%s</text>", x_of(0.5), H - 4, x_title);
}

/* ---- the plots ---- */

static void curve(FILE *f, const struct capture *c, const double *bytes, const struct range *r,
                  const char *class)
{
    fprintf(f, "<path class=\"%s\" d=\"", class);
    for (int i = 0; i < c->n; i++)
        fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', x_of(c->at_s[i] / r->seconds),
                y_of(bytes[i] / 0x1p20 / r->mib));
    fprintf(f, "\"/>");
}

static void heap_plot(FILE *f, const struct capture *c, const struct range *r, char run)
{
    char class[16];
    begin(f, r->mib, "", "seconds");
    for (int i = 0; i <= 4; i++)
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"mid\">%.3g</text>", x_of(i / 4.0),
                H - BOTTOM + 16, r->seconds * i / 4);
    snprintf(class, sizeof class, "thin s%c", run);
    curve(f, c, c->held, r, class);
    snprintf(class, sizeof class, "line s%c", run);
    curve(f, c, c->live, r, class);
    fprintf(f, "</svg>");
}

static void put_bound(FILE *f, double s)
{
    if (isinf(s))
        fprintf(f, "more");
    else if (s < 1e-3)
        fprintf(f, "%.3g&#8201;&#181;s", s * 1e6);
    else
        fprintf(f, "%.3g&#8201;ms", s * 1e3);
}

static void slice_plot(FILE *f, const struct capture *c, const struct range *r, char run)
{
    int n = r->to - r->from;
    begin(f, 100 * r->share, "&#8201;%", "slices not above, each bar from the bound before");
    for (int i = 0; i < n; i++) {
        double part = share(c, r->from + i) / r->share, at = x_of((i + 0.1) / n);
        if (part > 0)
            fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"f%c\"/>",
                    at, y_of(part), x_of((i + 0.9) / n) - at, y_of(0) - y_of(part), run);
        if (n > 8 && i % 2)
            continue;
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"mid\">", x_of((i + 0.5) / n),
                H - BOTTOM + 16);
        put_bound(f, c->upper_s[r->from + i]);
        fprintf(f, "</text>");
    }
    fprintf(f, "</svg>");
}

static void both(FILE *f, const struct capture *a, const struct capture *b, const struct range *r,
                 void (*plot)(FILE *f, const struct capture *c, const struct range *r, char run))
{
    fprintf(f, "<div class=\"two\">");
    for (int i = 0; i < 2; i++) {
        char run = i ? 'b' : 'a';
        fprintf(f, "<figure><figcaption class=\"c%c\">", run);
        html_text(f, i ? b->name : a->name);
        fprintf(f, "</figcaption>");
        plot(f, i ? b : a, r, run);
        fprintf(f, "</figure>\n");
    }
    fprintf(f, "</div>\n");
}

/* ---- the tables ---- */

static void row(FILE *f, const char *what, double a, double b, const char *unit)
{
    fprintf(f, "<tr><td>");
    html_text(f, what);
    int digits = *unit ? 2 : 0; /* a count has none */
    fprintf(f, "</td><td>%.*f%s</td><td>%.*f%s</td><td>", digits, a, unit, digits, b, unit);
    if (a > 0)
        fprintf(f, "%+.1f&#8201;%%", 100 * (b - a) / a);
    fprintf(f, "</td></tr>\n");
}

static void head(FILE *f, const char *what, const struct capture *a, const struct capture *b)
{
    fprintf(f, "<div class=\"wide\"><table><tr><th>%s</th><th class=\"ca\">", what);
    html_text(f, a->name);
    fprintf(f, "</th><th class=\"cb\">");
    html_text(f, b->name);
    fprintf(f, "</th><th>change</th></tr>\n");
}

static void figures(FILE *f, const struct capture *a, const struct capture *b)
{
    static const char mib[] = "&#8201;MiB", us[] = "&#8201;&#181;s";
    head(f, "", a, b);
    row(f, "heap in use, mean", capture_mean(a->live, a->n) / 0x1p20,
        capture_mean(b->live, b->n) / 0x1p20, mib);
    row(f, "heap in use, peak", capture_peak(a->live, a->n) / 0x1p20,
        capture_peak(b->live, b->n) / 0x1p20, mib);
    row(f, "pages held, mean", capture_mean(a->held, a->n) / 0x1p20,
        capture_mean(b->held, b->n) / 0x1p20, mib);
    row(f, "resident, mean", capture_mean(a->resident, a->n) / 0x1p20,
        capture_mean(b->resident, b->n) / 0x1p20, mib);
    row(f, "reclaims", a->cycles, b->cycles, "");
    row(f, "slices", capture_slices(a), capture_slices(b), "");
    row(f, "slice P95, not above", capture_quantile(a, 0.95) * 1e6, capture_quantile(b, 0.95) * 1e6,
        us);
    row(f, "slice P99, not above", capture_quantile(a, 0.99) * 1e6, capture_quantile(b, 0.99) * 1e6,
        us);
    fprintf(f, "</table></div>\n");
}

static void site_rows(FILE *f, const struct capture *a, const struct capture *b)
{
    head(f, "function", a, b);
    for (int i = 0; i < a->sites && i < 15; i++) {
        int k = 0;
        while (k < b->sites && strcmp(b->site[k].name, a->site[i].name))
            k++;
        row(f, a->site[i].name, a->site[i].inuse / 0x1p20,
            k < b->sites ? b->site[k].inuse / 0x1p20 : 0, "&#8201;MiB");
    }
    for (int k = 0; k < b->sites && k < 15; k++) {
        int i = 0;
        while (i < a->sites && strcmp(a->site[i].name, b->site[k].name))
            i++;
        if (i == a->sites)
            row(f, b->site[k].name, 0, b->site[k].inuse / 0x1p20, "&#8201;MiB");
    }
    fprintf(f, "</table></div>\n");
}

int diff_html(FILE *f, const struct capture *a, const struct capture *b)
{
    struct range r = {.from = CAPTURE_BUCKETS};
    widen(&r, a);
    widen(&r, b);
    r.mib = round_up(r.mib);
    r.share = fmin(round_up(100 * fmax(r.share, 0.01)), 100) / 100;
    r.seconds = fmax(r.seconds, 1e-3);
    fputs(style, f);
    fprintf(f, "<h1><span class=\"ca\">");
    html_text(f, a->name);
    fprintf(f, "</span> and <span class=\"cb\">");
    html_text(f, b->name);
    fprintf(f, "</span></h1>\n");
    figures(f, a, b);
    fprintf(f,
            "<h2>Heap in use, MiB</h2><p>Thick: blocks in use. Dashed: pages that the heap holds "
            "for them, free ones too.</p>\n");
    both(f, a, b, &r, heap_plot);
    fprintf(f, "<h2>How long the slices of reclaims took</h2>\n");
    if (r.to > r.from)
        both(f, a, b, &r, slice_plot);
    else
        fprintf(f, "<p>There was no reclaim in either.</p>\n");
    fprintf(f, "<h2>Who held it at the end</h2><p>By function, estimated from the heap profile.</p>"
               "\n");
    site_rows(f, a, b);
    fprintf(f, "</body></html>\n");
    return ferror(f) ? -1 : 0;
}
