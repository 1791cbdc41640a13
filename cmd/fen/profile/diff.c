/* diff.c - fen diff: two captures side by side, as a table and as a page. */
#include "profile/profile.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void change(double a, double b)
{
    if (a > 0)
        printf(" %+8.1f %%\n", 100 * (b - a) / a);
    else
        printf(" %10s\n", "-");
}

static void line(const char *what, double a, double b, const char *unit)
{
    int digits = *unit ? 2 : 0; /* a count has none */
    printf("%-30s %12.*f %12.*f %-4s", what, digits, a, digits, b, unit);
    change(a, b);
}

static void sites(const struct capture *a, const struct capture *b)
{
    printf("\n%-30s %12s %12s\n", "in use at the end, MiB", "", "");
    for (int i = 0; i < a->sites && i < 10; i++) {
        int k = 0;
        while (k < b->sites && strcmp(b->site[k].name, a->site[i].name))
            k++;
        line(a->site[i].name, a->site[i].inuse / 0x1p20,
             k < b->sites ? b->site[k].inuse / 0x1p20 : 0, "MiB");
    }
    for (int k = 0; k < b->sites && k < 10; k++) {
        int i = 0;
        while (i < a->sites && strcmp(a->site[i].name, b->site[k].name))
            i++;
        if (i == a->sites)
            line(b->site[k].name, 0, b->site[k].inuse / 0x1p20, "MiB");
    }
}

static void text(const struct capture *a, const struct capture *b)
{
    printf("%-30s %12.12s %12.12s\n", "", a->name, b->name);
    line("heap in use, mean", capture_mean(a->live, a->n) / 0x1p20,
         capture_mean(b->live, b->n) / 0x1p20, "MiB");
    line("heap in use, peak", capture_peak(a->live, a->n) / 0x1p20,
         capture_peak(b->live, b->n) / 0x1p20, "MiB");
    line("pages held, mean", capture_mean(a->held, a->n) / 0x1p20,
         capture_mean(b->held, b->n) / 0x1p20, "MiB");
    line("resident, mean", capture_mean(a->resident, a->n) / 0x1p20,
         capture_mean(b->resident, b->n) / 0x1p20, "MiB");
    line("reclaims", a->cycles, b->cycles, "");
    line("given back", a->returned / 0x1p20, b->returned / 0x1p20, "MiB");
    line("slices", capture_slices(a), capture_slices(b), "");
    line("slice P50, not above", capture_quantile(a, 0.5) * 1e6, capture_quantile(b, 0.5) * 1e6,
         "us");
    line("slice P95, not above", capture_quantile(a, 0.95) * 1e6, capture_quantile(b, 0.95) * 1e6,
         "us");
    line("slice P99, not above", capture_quantile(a, 0.99) * 1e6, capture_quantile(b, 0.99) * 1e6,
         "us");
    sites(a, b);
}

static int page(const char *out, const struct capture *a, const struct capture *b)
{
    FILE *f = fopen(out, "we");
    int rc = f ? diff_html(f, a, b) : -1, err = errno;
    if (f && fclose(f))
        rc = -1;
    if (rc)
        fprintf(stderr, "fen diff: %s: %s\n", out, f ? "could not be written" : strerror(err));
    return rc ? 1 : 0;
}

static int usage(FILE *to)
{
    fprintf(to, "usage: fen diff [--out=PAGE.html] CAPTURE CAPTURE\n"
                "  two files that fen capture wrote\n");
    return to == stderr ? 2 : 0;
}

int cmd_diff(int argc, char **argv)
{
    const char *words[2] = {NULL, NULL}, *out = NULL;
    const struct arg tab[] = {{"out", ARG_STR, &out, 0, 0, "a page, too: FILE.html"}};
    int rc = args_parse(argc, argv, tab, 1, words, 2);
    if (rc)
        return rc < 0 ? usage(stdout) : rc;
    if (!words[1])
        return usage(stderr);
    struct capture *c = calloc(2, sizeof *c);
    if (!c) {
        fprintf(stderr, "fen diff: out of memory\n");
        return 1;
    }
    rc = capture_read("diff", words[0], &c[0]);
    rc = rc ? rc : capture_read("diff", words[1], &c[1]);
    if (!rc) {
        text(&c[0], &c[1]);
        rc = out ? page(out, &c[0], &c[1]) : 0;
    }
    free(c);
    return rc;
}
