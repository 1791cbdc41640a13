/* svg.c - two kinds of plots as inline SVG: bars with their spread, and lines. Colours come from
 * the page's CSS classes, so that both its light and its dark scheme fit. */
#include "prove.h"

#include <math.h>
#include <string.h>

#define W 640
#define H 300
#define LEFT 72
#define RIGHT 150
#define TOP 16
#define BOTTOM 44

void html_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            fputs("&lt;", f);
        else if (*s == '>')
            fputs("&gt;", f);
        else if (*s == '&')
            fputs("&amp;", f);
        else if (*s == '"')
            fputs("&quot;", f);
        else
            putc(*s, f);
    }
}

/* A figure with three significant digits and thousands separated by a thin space. */
static void figure(FILE *f, double v, int digits)
{
    char text[64], *p = text;
    snprintf(text, sizeof text, "%.*f", v >= 1000 ? 0 : digits, v);
    size_t whole = strspn(text, "0123456789");
    for (size_t i = 0; text[i]; i++) {
        putc(*p++, f);
        if (whole > i + 1 && (whole - i - 1) % 3 == 0)
            fputs("&#8201;", f);
    }
}

void svg_bars(FILE *f, const char *unit, int digits, const struct svg_bar *b, int n)
{
    enum { ROW = 30, NAME = 96, FULL = 300 };
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, b[i].high);
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\">", NAME + FULL + 120, n * ROW + 6);
    for (int i = 0; i < n && most > 0; i++) {
        double scale = FULL / most, y = i * ROW + 6;
        fprintf(f, "<text x=\"%d\" y=\"%.0f\" class=\"name\">", NAME - 8, y + 15);
        html_text(f, b[i].label);
        fprintf(f,
                "</text><rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"20\" rx=\"2\" "
                "class=\"%s\"/>",
                NAME, y, fmax(1, b[i].value * scale), b[i].product ? "fen" : "other");
        if (b[i].high > b[i].low)
            fprintf(f, "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\" class=\"spread\"/>",
                    NAME + b[i].low * scale, y + 10, NAME + b[i].high * scale,
                    NAME + b[i].low * scale, y + 6, NAME + b[i].high * scale, y + 6);
        fprintf(f, "<text x=\"%.1f\" y=\"%.0f\">", NAME + b[i].high * scale + 8, y + 15);
        figure(f, b[i].value, digits);
        fprintf(f, " %s</text>", unit);
    }
    fprintf(f, "</svg>\n");
}

struct scale {
    double low, high;
    bool log;
    double from, to;
};

static double place(const struct scale *s, double v)
{
    double a = s->low, b = s->high;
    if (s->log) {
        a = log10(a);
        b = log10(b);
        v = log10(fmax(v, s->low));
    }
    return s->from + (b > a ? (v - a) / (b - a) : 0) * (s->to - s->from);
}

static void extent(const struct svg_line *l, int n, bool of_y, struct scale *s)
{
    s->low = INFINITY;
    s->high = -INFINITY;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < l[i].n; k++) {
            double v = of_y ? l[i].y[k] : l[i].x[k];
            if (s->log && v <= 0)
                continue;
            s->low = fmin(s->low, v);
            s->high = fmax(s->high, v);
        }
    if (s->high < s->low)
        s->low = s->high = 1;
    if (s->log && of_y) {
        s->low = pow(10, floor(log10(s->low)));
        s->high = pow(10, ceil(log10(s->high)));
    }
    if (!s->log && of_y) {
        s->low = 0;
        double step = pow(10, floor(log10(fmax(s->high, 1e-9))));
        s->high = ceil(s->high * 1.02 / (step / 2)) * (step / 2);
    }
    if (s->high <= s->low)
        s->high = s->low * 10 + 1;
}

static void grid(FILE *f, const struct svg_axis *a, const struct scale *y)
{
    if (y->log) {
        int steps = (int)floor(log10(y->high * 1.001 / y->low));
        for (int i = 0; i <= steps; i++) {
            double v = y->low * pow(10, i);
            fprintf(f, "<path d=\"M%d %.1fH%d\" class=\"grid\"/>", LEFT, place(y, v), W - RIGHT);
            fprintf(f, "<text x=\"%d\" y=\"%.1f\" class=\"name\">%g</text>", LEFT - 8,
                    place(y, v) + 4, v);
        }
    } else {
        for (int i = 0; i <= 4; i++) {
            double v = y->high * i / 4;
            fprintf(f, "<path d=\"M%d %.1fH%d\" class=\"grid\"/>", LEFT, place(y, v), W - RIGHT);
            fprintf(f, "<text x=\"%d\" y=\"%.1f\" class=\"name\">", LEFT - 8, place(y, v) + 4);
            figure(f, v, y->high < 10 ? 1 : 0);
            fprintf(f, "</text>");
        }
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" class=\"title\">%s</text>", LEFT + (W - LEFT - RIGHT) / 2,
            H - 6, a->x_title);
    fprintf(f, "<text transform=\"translate(14,%d) rotate(-90)\" class=\"title\">%s</text>",
            TOP + (H - TOP - BOTTOM) / 2, a->y_title);
}

static void x_ticks(FILE *f, const struct svg_axis *a, const struct scale *x,
                    const struct svg_line *l)
{
    static const char *const nines[] = {"0 %", "90 %", "99 %", "99.9 %", "99.99 %"};
    int y = H - BOTTOM + 16;
    if (a->x_nines) {
        for (int i = 0; i < 5; i++)
            fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"tick\">%s</text>", place(x, i * 10), y,
                    nines[i]);
        return;
    }
    if (l->points) { /* few, given values: label each */
        for (int i = 0; i < l->n; i++)
            fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"tick\">%g</text>", place(x, l->x[i]), y,
                    l->x[i]);
        return;
    }
    for (int i = 0; i <= 4; i++) {
        double v = x->low + (x->high - x->low) * i / 4;
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"tick\">%.1f</text>", place(x, v), y, v);
    }
}

/* Names at the lines' right ends, pushed apart so that none covers another. */
static void names(FILE *f, const struct svg_line *l, int n, const struct scale *y)
{
    double at[RIVALS_MAX];
    int order[RIVALS_MAX];
    for (int i = 0; i < n; i++) {
        at[i] = l[i].n ? place(y, l[i].y[l[i].n - 1]) : TOP;
        int k = i;
        for (; k > 0 && at[order[k - 1]] > at[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    double bottom = H - BOTTOM + 4 - 15.0 * n, last = TOP - 15;
    for (int k = 0; k < n; k++) {
        bottom += 15;
        int i = order[k];
        double want = fmax(fmin(at[i], bottom), last + 15);
        fprintf(f, "<path d=\"M%d %.1fL%d %.1f\" class=\"lead s%d\"/>", W - RIGHT + 2, at[i],
                W - RIGHT + 14, want, i);
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" class=\"label t%d\">", W - RIGHT + 18, want + 4, i);
        html_text(f, l[i].label);
        fprintf(f, "</text>");
        last = want;
    }
}

void svg_lines(FILE *f, const struct svg_axis *a, const struct svg_line *l, int n)
{
    struct scale x = {.log = a->x_log, .from = LEFT, .to = W - RIGHT};
    struct scale y = {.log = a->y_log, .from = H - BOTTOM, .to = TOP};
    extent(l, n, false, &x);
    extent(l, n, true, &y);
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\">", W, H);
    grid(f, a, &y);
    x_ticks(f, a, &x, l);
    for (int i = 0; i < n; i++) {
        fprintf(f, "<path class=\"line s%d%s\" d=\"", i, l[i].product ? " thick" : "");
        for (int k = 0; k < l[i].n; k++)
            fprintf(f, "%c%.1f %.1f", k ? 'L' : 'M', place(&x, l[i].x[k]), place(&y, l[i].y[k]));
        fprintf(f, "\"/>");
        for (int k = 0; l[i].points && k < l[i].n; k++)
            fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" class=\"dot d%d\"/>",
                    place(&x, l[i].x[k]), place(&y, l[i].y[k]), i);
    }
    names(f, l, n, &y);
    fprintf(f, "</svg>\n");
}
