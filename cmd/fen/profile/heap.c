/* heap.c - fen heap top: who holds the memory, from a heap profile. */
#include "profile/profile.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *by, *label;
    int64_t rows;
};

static int usage(FILE *to)
{
    fputs("usage: fen heap top [--by=inuse_space] [--label=operation] [--rows=20] FILE|URL\n"
          "  a heap profile: a file, or http://127.0.0.1:6060/debug/pprof/heap\n",
          to);
    return to == stderr ? 2 : 0;
}

/* A count or bytes, short: 1.5MiB. */
static void put_value(int64_t v, bool bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    char text[32];
    int i = 0;
    double d = (double)v;
    for (; bytes && fabs(d) >= 1024 && i < 4; i++)
        d /= 1024;
    snprintf(text, sizeof text, bytes && i ? "%.2f%s" : "%.0f%s", d, bytes ? units[i] : "");
    printf("%10s", text);
}

static double percent(int64_t v, int64_t of) { return of ? 100.0 * (double)v / (double)of : 0; }

static int print_top(const struct pprof *p, int value, const struct options *o)
{
    size_t n;
    int64_t total, sum = 0;
    bool bytes = !strcmp(p->string[p->unit[value]], "bytes");
    struct pprof_row *rows = pprof_top(p, value, o->label, &n, &total);
    if (!rows) {
        fprintf(stderr, "fen heap: out of memory\n");
        return 1;
    }
    printf("%s, in all", o->by);
    put_value(total, bytes);
    printf("\n%10s %6s %6s %10s %6s  %s\n", "flat", "flat%", "sum%", "cum", "cum%",
           o->label ? o->label : "function");
    for (size_t i = 0; i < n && i < (size_t)o->rows; i++) {
        sum += rows[i].flat;
        put_value(rows[i].flat, bytes);
        printf(" %5.1f%% %5.1f%% ", percent(rows[i].flat, total), percent(sum, total));
        put_value(rows[i].cum, bytes);
        printf(" %5.1f%%  %s\n", percent(rows[i].cum, total), rows[i].name);
    }
    free(rows);
    return 0;
}

static int refuse(const char *what, const char *why)
{
    fprintf(stderr, "fen heap: %s: %s\n", what, why);
    return 2;
}

/* 2 after a line with what may be asked for, if the profile has no label of that name. */
static int refuse_label(const struct pprof *p, const char *label)
{
    const char *name[PPROF_KEYS_MAX];
    int n = pprof_keys(p, name);
    for (int i = 0; i < n; i++)
        if (!strcmp(name[i], label))
            return 0;
    fprintf(stderr, "fen heap: --label=%s: the profile has%s", label, n ? "" : " no labels");
    for (int i = 0; i < n; i++)
        fprintf(stderr, " %s", name[i]);
    fprintf(stderr, "\n");
    return 2;
}

static int top(const char *from, const struct options *o)
{
    char *bytes;
    size_t n;
    struct pprof p;
    int rc = fetch("heap", from, &bytes, &n);
    if (rc)
        return rc;
    const char *wrong = pprof_read(&p, bytes, n);
    free(bytes);
    if (wrong)
        return refuse(from, wrong);
    int value = pprof_value(&p, o->by);
    if (value < 0)
        fprintf(stderr, "fen heap: --by=%s: the profile has", o->by);
    for (int i = 0; value < 0 && i < p.types; i++)
        fprintf(stderr, " %s%s", p.string[p.type[i]], i + 1 == p.types ? "\n" : "");
    rc = value < 0 ? 2 : o->label ? refuse_label(&p, o->label) : 0;
    rc = rc ? rc : print_top(&p, value, o);
    pprof_free(&p);
    return rc;
}

int cmd_heap(int argc, char **argv)
{
    struct options o = {.by = "inuse_space", .rows = 20};
    const char *words[2] = {NULL, NULL};
    const struct arg tab[] = {
        {"by", ARG_STR, &o.by, 0, 0, "inuse_space, inuse_objects, alloc_space, alloc_objects"},
        {"label", ARG_STR, &o.label, 0, 0, "sum by tenant, operation or fiber, not by function"},
        {"rows", ARG_INT, &o.rows, 1, 100000, "how many lines"},
    };
    int rc = args_parse(argc, argv, tab, 3, words, 2);
    if (rc)
        return rc < 0 ? usage(stdout) : rc;
    if (words[0] && strcmp(words[0], "top"))
        return refuse(words[0], "unknown word; accepted: top");
    if (!words[1])
        return usage(stderr);
    return top(words[1], &o);
}
