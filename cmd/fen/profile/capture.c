/* capture.c - fen capture: what the memory of a service does for a while, in one file for fen diff.
 *
 * The file is lines of words:
 *   fen-capture 1
 *   name TEXT
 *   point SECONDS LIVE HELD RESIDENT       bytes
 *   reclaims CYCLES RETURNED               of the span
 *   slice UPPER COUNT                      of the span: slices not above so many seconds
 *   site INUSE ALLOCATED NAME              bytes by function, from the heap profile at the end */
#include "profile/profile.h"

#include <fen/types.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_BYTES 63 /* of a capture's name, that are kept */

static int refuse(const char *cmd, const char *what, const char *why)
{
    fprintf(stderr, "fen %s: %s: %s\n", cmd, what, why);
    return 2;
}

/* ---- a page of metrics ---- */

/* The value of a line that begins with the name, NAN: there is none. */
static double metric(const char *page, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = page; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (!strncmp(at, name, n) && at[n] == ' ')
            return atof(at + n);
    }
    return NAN;
}

/* The sum over all labels. */
static double metric_sum(const char *page, const char *name)
{
    size_t n = strlen(name);
    double sum = 0;
    for (const char *at = page; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        const char *close = strncmp(at, name, n) || at[n] != '{' ? NULL : strpbrk(at, "}\n");
        if (close && *close == '}')
            sum += atof(close + 1);
    }
    return sum;
}

struct reading {
    double live, held, resident, cycles, returned;
    int buckets;
    double upper_s[CAPTURE_BUCKETS], below[CAPTURE_BUCKETS]; /* below: cumulative */
};

static void read_buckets(const char *page, struct reading *r)
{
    static const char name[] = "fen_mem_slice_seconds_bucket{le=\"";
    r->buckets = 0;
    for (const char *at = page; (at = strstr(at, name)) && r->buckets < CAPTURE_BUCKETS;) {
        at += sizeof name - 1;
        const char *value = strpbrk(at, "}\n");
        if (!value || *value != '}')
            continue;
        r->upper_s[r->buckets] = strtod(at, NULL); /* "+Inf" is infinite */
        r->below[r->buckets++] = atof(value + 1);
    }
}

/* 0; 2 after a line. */
static int read_metrics(const char *url, struct reading *r)
{
    char *page;
    size_t n;
    int rc = fetch("capture", url, &page, &n);
    if (rc)
        return rc;
    r->live = metric(page, "fen_mem_live_bytes");
    r->held = metric(page, "fen_mem_held_bytes") + metric(page, "fen_mem_retained_bytes");
    r->resident = metric(page, "process_resident_memory_bytes");
    r->returned = metric(page, "fen_mem_returned_bytes_total");
    r->cycles = metric_sum(page, "fen_mem_cycles_total");
    read_buckets(page, r);
    free(page);
    return isnan(r->live + r->held) ? refuse("capture", url, "has no figures of fen's heap") : 0;
}

/* ---- one capture ---- */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_until(double at_s)
{
    struct timespec t = {(time_t)at_s, (long)((at_s - floor(at_s)) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void put_head(FILE *f, const struct reading *first, const struct reading *last)
{
    fprintf(f, "reclaims %.0f %.0f\n", last->cycles - first->cycles,
            last->returned - first->returned);
    double before = 0;
    for (int i = 0; i < last->buckets; i++) {
        double below = last->below[i] - (i < first->buckets ? first->below[i] : 0);
        fprintf(f, "slice %.9g %.0f\n", last->upper_s[i], below - before);
        before = below;
    }
}

/* The functions that hold most, with what they and all below them allocated. */
static int put_sites(FILE *f, const char *url)
{
    char *bytes;
    size_t n, rows = 0;
    int64_t total;
    struct pprof p;
    int rc = fetch("capture", url, &bytes, &n);
    if (rc)
        return rc;
    const char *wrong = pprof_read(&p, bytes, n);
    free(bytes);
    if (wrong)
        return refuse("capture", url, wrong);
    int inuse = pprof_value(&p, "inuse_space"), alloc = pprof_value(&p, "alloc_space");
    struct pprof_row *by = NULL, *all = NULL;
    if (inuse >= 0 && alloc >= 0) {
        by = pprof_top(&p, inuse, NULL, &rows, &total);
        size_t more = 0;
        all = pprof_top(&p, alloc, NULL, &more, &total);
        for (size_t i = 0; by && all && i < rows && i < CAPTURE_SITES && by[i].flat; i++) {
            size_t k = 0;
            while (k < more && strcmp(all[k].name, by[i].name))
                k++;
            fprintf(f, "site %" PRId64 " %" PRId64 " %s\n", by[i].flat, k < more ? all[k].flat : 0,
                    by[i].name);
        }
    }
    free(by);
    free(all);
    pprof_free(&p);
    return inuse < 0 || alloc < 0 ? refuse("capture", url, "is no heap profile") : 0;
}

struct options {
    const char *out, *name;
    int64_t for_ns, every_ns;
};

static int capture(const char *at, const struct options *o, FILE *f)
{
    char url[600];
    struct reading first = {0}, r = {0};
    double began = now_s(), every = (double)o->every_ns / 1e9, span = (double)o->for_ns / 1e9;
    fprintf(f, "fen-capture 1\nname %.*s\n", NAME_BYTES, o->name ? o->name : at);
    snprintf(url, sizeof url, "%s/metrics", at);
    int rc = 0;
    for (int i = 0; !rc && i * every <= span + 1e-9; i++) {
        wait_until(began + i * every);
        rc = read_metrics(url, &r);
        if (!rc)
            fprintf(f, "point %.3f %.0f %.0f %.0f\n", now_s() - began, r.live, r.held,
                    isnan(r.resident) ? 0 : r.resident);
        if (!i)
            first = r;
    }
    if (rc)
        return rc;
    put_head(f, &first, &r);
    snprintf(url, sizeof url, "%s/debug/pprof/heap", at);
    return put_sites(f, url);
}

/* Would take_line read it back? It skips the blanks in front of a name. */
static bool name_ok(const char *name)
{
    size_t blank = strspn(name, " \t\v\f\r");
    return blank < NAME_BYTES && name[blank] && !strchr(name, '\n');
}

static int usage(FILE *to)
{
    fprintf(to, "usage: fen capture [--for=10s] [--every=100ms] [--name=TEXT] [--out=FILE] "
                "http://ADMIN-HOST:PORT\n");
    return to == stderr ? 2 : 0;
}

int cmd_capture(int argc, char **argv)
{
    struct options o = {.for_ns = 10 * FEN_S, .every_ns = 100 * FEN_MS};
    const char *words[1] = {NULL};
    const struct arg tab[] = {
        {"for", ARG_DUR, &o.for_ns, FEN_MS, 3600 * FEN_S, "how long"},
        {"every", ARG_DUR, &o.every_ns, 10 * FEN_MS, 60 * FEN_S, "time between two points"},
        {"name", ARG_STR, &o.name, 0, 0, "what to call it; else the address"},
        {"out", ARG_STR, &o.out, 0, 0, "the file to write, else standard output"},
    };
    int rc = args_parse(argc, argv, tab, 4, words, 1);
    if (rc)
        return rc < 0 ? usage(stdout) : rc;
    if (!words[0])
        return usage(stderr);
    if (strncmp(words[0], "http://", 7) || strlen(words[0]) > 500)
        return refuse("capture", words[0], "expected http://ADMIN-HOST:PORT, at most 500 bytes");
    if (o.name && !name_ok(o.name))
        return refuse("capture", "--name", "expected one line, not blank in its first 63 bytes");
    if (o.for_ns / o.every_ns >= CAPTURE_POINTS)
        return refuse("capture", "--every", "more than 2,000 points: take fewer, or less time");
    FILE *f = o.out ? fopen(o.out, "we") : stdout;
    if (!f)
        return refuse("capture", o.out, strerror(errno));
    rc = capture(words[0], &o, f);
    bool bad = ferror(f) || fflush(f);
    if ((o.out && fclose(f)) || bad)
        return refuse("capture", o.out ? o.out : "standard output", "could not be written");
    return rc;
}

/* ---- reading one ---- */

static bool take_line(struct capture *c, char *line)
{
    int at = 0;
    double v[2];
    if (sscanf(line, "name %63[^\n]", c->name) == 1)
        return true;
    if (c->n < CAPTURE_POINTS && sscanf(line, "point %lf %lf %lf %lf", &c->at_s[c->n],
                                        &c->live[c->n], &c->held[c->n], &c->resident[c->n]) == 4) {
        c->n++;
        return true;
    }
    if (sscanf(line, "reclaims %lf %lf", &c->cycles, &c->returned) == 2)
        return true;
    if (c->buckets < CAPTURE_BUCKETS && sscanf(line, "slice %lf %lf", &v[0], &v[1]) == 2) {
        bool ascends = !c->buckets || v[0] > c->upper_s[c->buckets - 1];
        c->upper_s[c->buckets] = v[0];
        c->slices[c->buckets++] = v[1];
        return ascends && v[1] >= 0;
    }
    if (c->sites < CAPTURE_SITES && sscanf(line, "site %lf %lf %n", &v[0], &v[1], &at) == 2 && at) {
        snprintf(c->site[c->sites].name, sizeof c->site[0].name, "%s", line + at);
        c->site[c->sites].inuse = v[0];
        c->site[c->sites++].allocated = v[1];
        return true;
    }
    return false;
}

int capture_read(const char *cmd, const char *path, struct capture *c)
{
    char *text, *rest;
    size_t n;
    int rc = fetch(cmd, path, &text, &n);
    if (rc)
        return rc;
    *c = (struct capture){.n = 0};
    char *line = strtok_r(text, "\n", &rest);
    bool good = line && !strcmp(line, "fen-capture 1");
    while (good && (line = strtok_r(NULL, "\n", &rest)))
        good = take_line(c, line);
    good = good && c->n && c->buckets;
    if (!good)
        refuse(cmd, path, line && c->name[0] ? line : "not a capture: fen capture writes them");
    free(text);
    return good ? 0 : 2;
}

double capture_slices(const struct capture *c)
{
    double n = 0;
    for (int i = 0; i < c->buckets; i++)
        n += c->slices[i];
    return n;
}

double capture_quantile(const struct capture *c, double q)
{
    double all = capture_slices(c), n = 0;
    for (int i = 0; all > 0 && i < c->buckets; i++) {
        n += c->slices[i];
        if (n >= q * all)
            return c->upper_s[i];
    }
    return 0;
}

double capture_mean(const double *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += v[i];
    return n ? sum / n : 0;
}

double capture_peak(const double *v, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, v[i]);
    return most;
}
