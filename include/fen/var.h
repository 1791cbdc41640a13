/* var.h - named variables of the process, shown as JSON at /debug/vars and as Prometheus text at
 * /metrics.
 *
 *     static fen_var *orders;
 *     rc = fen_var_new(&(fen_var_def){.name = "orders_total", .help = "Orders taken.",
 *                                     .kind = FEN_VAR_COUNTER}, &orders);
 *     ...
 *     fen_var_add(orders, 1);
 *
 * A variable lives until the process ends: there is no removal, so whoever holds the pointer may
 * use it from any thread, without a lock. At most FEN_VARS_MAX. */
#ifndef FEN_VAR_H
#define FEN_VAR_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_VARS_MAX 4096

typedef struct fen_var fen_var;

enum fen_var_kind {
    FEN_VAR_COUNTER,   /* only grows; by convention the name ends in _total */
    FEN_VAR_GAUGE,     /* goes up and down */
    FEN_VAR_HISTOGRAM, /* distribution with quantiles, 6.25 % wide buckets */
};

/* What a variable is. Strings are copied. */
typedef struct fen_var_def {
    const char *name;   /* [a-zA-Z_:][a-zA-Z0-9_:]*, at most 127 bytes */
    const char *labels; /* NULL or: route="a",code="200"; backslash, quote and newline in a value
                           are written \\ \" \n; at most 511 bytes */
    const char *help;   /* one sentence, at most 1023 bytes; NULL: none */
    enum fen_var_kind kind;
    /* Values are stored as integers and shown divided by 10^scale, exactly: nanoseconds shown as
     * seconds have scale 9. 0 to 18. */
    int scale;
    /* A value computed when read, instead of a stored one (at most one of the two; not for
     * histograms). Called from any thread, for as long as the process lives; must not block,
     * park or register variables. The integer is divided by 10^scale, the double is not. */
    int64_t (*read_i64)(void *arg);
    double (*read_f64)(void *arg);
    void *arg;
} fen_var_def;

/* Registers. ret_var may be NULL. 0; -EEXIST when that name with those labels exists already, or
 * belongs to fen itself (then fen_var_find may help); -EINVAL for a malformed definition, or one
 * whose kind or scale differs from that of the same name with other labels; FEN_ELIMIT; -ENOMEM.
 * Any thread, does not block. */
FEN_API int fen_var_new(const fen_var_def *def, fen_var **ret_var) FEN_MUST_CHECK;

/* The variable of that name and those labels (NULL: none), or NULL. Any thread. */
FEN_API fen_var *fen_var_find(const char *name, const char *labels);

/* Adds to a counter (n >= 0, else nothing happens) or gauge; never loses an addition. Any thread.
 * Without effect on histograms and on variables that are read by callback. */
FEN_API void fen_var_add(fen_var *v, int64_t n);

/* Sets a gauge; without effect on other kinds. Any thread. */
FEN_API void fen_var_set(fen_var *v, int64_t value);

/* Records one value, 0 to 2^42, in a histogram; without effect on other kinds. Any thread. */
FEN_API void fen_var_record(fen_var *v, int64_t value);

/* The value (of a histogram: how many were recorded; of a double callback: rounded down). */
FEN_API int64_t fen_var_get(const fen_var *v);

/* The q-quantile (0 to 1) of a histogram, 0 without values or for other kinds. */
FEN_API int64_t fen_var_quantile(const fen_var *v, double q);

#ifdef __cplusplus
}
#endif
#endif
