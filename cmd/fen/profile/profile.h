/* profile.h - what heap, capture and diff share: reading profiles, and what a service says. */
#ifndef FEN_CMD_PROFILE_H
#define FEN_CMD_PROFILE_H

#include "cmd.h"

#include <stddef.h>
#include <stdio.h>

/* ---- fetch.c ---- */
#define FETCH_MAX ((size_t)64 << 20)
/* The bytes of a file or of http://HOST:PORT/PATH, NUL behind them, to be freed. 0; or 2 after a
 * line on stderr that says what was wrong. */
int fetch(const char *cmd, const char *from, char **ret_p, size_t *ret_n);

/* ---- pprof.c ---- */
enum { VALUES_MAX = 4, LABELS_MAX = 8, PPROF_KEYS_MAX = 64 };

struct pprof_label {
    uint32_t key, text; /* strings; text 0: a number */
    int64_t number;
};

struct pprof_sample {
    uint32_t first, frames; /* in frame[] */
    int64_t value[VALUES_MAX];
    struct pprof_label label[LABELS_MAX];
    int labels;
};

struct pprof {
    const char **string; /* NUL-terminated copies */
    size_t strings;
    uint32_t type[VALUES_MAX], unit[VALUES_MAX]; /* strings */
    int types;
    struct pprof_sample *sample;
    size_t samples;
    uint32_t *frame; /* names of functions, as strings; innermost first */
    size_t frames;
    int64_t time_ns, period;
    char *text; /* what the strings lie in */
};

/* Reads a profile: plain, or in gzip with stored blocks, which is what fen writes. NULL, or what is
 * wrong with it. */
const char *pprof_read(struct pprof *p, const char *bytes, size_t n);
void pprof_free(struct pprof *p);
/* Which of the values; -1: the profile has none of that name. */
int pprof_value(const struct pprof *p, const char *type);
/* How many labels with a text the samples have, at most PPROF_KEYS_MAX, and their names. */
int pprof_keys(const struct pprof *p, const char **ret_names);

struct pprof_row {
    const char *name;
    int64_t flat, cum;
};
/* Sums by function, or by the value of a label if one is given, by flat, largest first; rows to be
 * freed. NULL: no memory. *ret_total: over all. */
struct pprof_row *pprof_top(const struct pprof *p, int value, const char *label, size_t *ret_n,
                            int64_t *ret_total);

/* ---- capture.c ---- */
#define CAPTURE_POINTS 2000
#define CAPTURE_BUCKETS 64
#define CAPTURE_SITES 40

struct capture {
    char name[64]; /* of what was captured, for people */
    int n;
    double at_s[CAPTURE_POINTS], live[CAPTURE_POINTS], held[CAPTURE_POINTS],
        resident[CAPTURE_POINTS]; /* bytes */
    double cycles, returned;      /* reclaims and bytes given back meanwhile */
    int buckets;
    double upper_s[CAPTURE_BUCKETS]; /* ascending; the last is infinite */
    double slices[CAPTURE_BUCKETS];  /* not above the bound and above the one before */
    int sites;
    struct {
        char name[128];
        double inuse, allocated; /* bytes */
    } site[CAPTURE_SITES];
};

int capture_read(const char *cmd, const char *path, struct capture *c); /* 0, or 2 after a line */
double capture_slices(const struct capture *c);
/* Seconds that a share q of the slices did not exceed, by the bounds of the buckets; 0: none. */
double capture_quantile(const struct capture *c, double q);
double capture_mean(const double *v, int n);
double capture_peak(const double *v, int n);

/* ---- diff_html.c ---- */
int diff_html(FILE *f, const struct capture *a, const struct capture *b);

#endif
