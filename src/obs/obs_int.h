/* obs_int.h - the registry as the writers see it, and pieces of text that both pages use. */
#ifndef FEN_OBS_INT_H
#define FEN_OBS_INT_H

#include "obs/obs.h"

struct fen_var {
    /* set before publication, then constant */
    const char *name, *labels, *help; /* labels: "" without */
    enum fen_var_kind kind;
    int scale;
    int64_t (*read_i64)(void *arg);
    double (*read_f64)(void *arg);
    void *arg;
    struct fen__hist *hist; /* histograms only */
    void *block;            /* what was allocated, for one that is refused */
    size_t block_bytes;
    struct fen_var *next_family; /* at the head of a family */
    struct fen_var *next_label;  /* the same name, other labels */
    /* alone in its line: written by any thread */
    FEN__ALIGN(FEN__LINE) int64_t value;
};

/* The first family, in order of registration; then next_family, and next_label inside. Loads are
 * acquire; lists only grow at their ends. */
const struct fen_var *fen__var_first(void);
const struct fen_var *fen__var_next_family(const struct fen_var *v);
const struct fen_var *fen__var_next_label(const struct fen_var *v);

/* Appends the variable's value (not a histogram's); null_text stands for NaN and infinities, NULL:
 * "NaN", "+Inf", "-Inf". */
void fen__var_put_value(fen_buf *b, const struct fen_var *v, const char *null_text);

/* Appends the shortest of %.15g and %.17g that reads back as the same double, with '.' whatever the
 * locale. */
void fen__put_double(fen_buf *b, double d, const char *null_text);

/* Appends n bytes as a gzip file, not compressed (gzip.c). */
void fen__gzip_stored(fen_buf *b, const char *p, size_t n);

/* Appends a JSON string in quotes; bytes that are not UTF-8 become U+FFFD. */
void fen__put_json_string(fen_buf *b, const char *p, size_t n);

#endif
