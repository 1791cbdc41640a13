/* var.c - the registry of variables.
 *
 * Families (one name) form a list, and the variables of a family (label sets) another; both only
 * grow at the end. A variable is complete before the release store that links it and nothing but
 * its value changes afterwards, so readers walk without a lock; `lock` orders registrations.
 *
 * Additions are one atomic instruction on a line of its own. Rejected: a shard per worker, which
 * costs a line per variable and worker; the hot counters of the runtime itself are in the tallies
 * and do not pass here. */
#include "obs/obs_int.h"

#include "base/tas.h"
#include "mem/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 127
#define LABELS_MAX_BYTES 511
#define HELP_MAX_BYTES 1023
#define SCALE_MAX 18

static fen__tas lock; /* registration */
static struct fen_var *first_family;
static uint32_t vars_n;

/* ---- what may be registered ---- */

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

/* Length of a name at the start of s, 0 if there is none. */
static size_t name_length(const char *s, bool colon)
{
    size_t n = 0;
    while (letter(s[n]) || (colon && s[n] == ':') || (n > 0 && s[n] >= '0' && s[n] <= '9'))
        n++;
    return n;
}

/* Behind the closing quote of a value that starts behind its opening quote, or NULL. */
static const char *behind_value(const char *s)
{
    for (; *s != '"'; s++) {
        if (*s == 0 || *s == '\n')
            return NULL;
        if (*s == '\\' && *++s != '\\' && *s != '"' && *s != 'n')
            return NULL;
    }
    return s + 1;
}

/* Does a label of that name stand in [labels, end)? Values may hold anything, so they are skipped
 * by the grammar; the text up to end has been checked. */
static bool label_before(const char *labels, const char *end, const char *name, size_t n)
{
    while (labels < end) {
        size_t have = name_length(labels, false);
        if (have == n && memcmp(labels, name, n) == 0)
            return true;
        labels = behind_value(labels + have + 2) + 1;
    }
    return false;
}

static bool labels_ok(const char *labels, enum fen_var_kind kind)
{
    if (strlen(labels) > LABELS_MAX_BYTES)
        return false;
    for (const char *s = labels; *s;) {
        size_t n = name_length(s, false);
        if (n == 0 || s[n] != '=' || s[n + 1] != '"' || (n >= 2 && s[0] == '_' && s[1] == '_'))
            return false;
        if (kind == FEN_VAR_HISTOGRAM && n == 2 && memcmp(s, "le", 2) == 0)
            return false;
        if (label_before(labels, s, s, n))
            return false;
        s = behind_value(s + n + 2);
        if (!s || (*s && (*s != ',' || !s[1])))
            return false;
        s += *s == ',';
    }
    return true;
}

static bool def_ok(const fen_var_def *d)
{
    if (!d->name || d->name[0] == 0 || strlen(d->name) > NAME_MAX_BYTES ||
        name_length(d->name, true) != strlen(d->name))
        return false;
    if (d->labels && !labels_ok(d->labels, d->kind))
        return false;
    if (d->help && strlen(d->help) > HELP_MAX_BYTES)
        return false;
    if (d->kind != FEN_VAR_COUNTER && d->kind != FEN_VAR_GAUGE && d->kind != FEN_VAR_HISTOGRAM)
        return false;
    if (d->scale < 0 || d->scale > SCALE_MAX || (d->read_i64 && d->read_f64))
        return false;
    return d->kind != FEN_VAR_HISTOGRAM || (!d->read_i64 && !d->read_f64);
}

/* Names that the pages use themselves. */
static bool reserved(const char *name)
{
    static const char *const prefixes[] = {"fen_", "process_", "cost_per_", "cost_by_"};
    static const char *const names[] = {"cmdline",         "memstats",     "memory",
                                        "memory_bill",     "memory_total", "pools",
                                        "pools_in_all",    "bill",         "books",
                                        "runtime",         "process",      "currency",
                                        "active_handlers", "coroutines",   "request_latency_p95"};
    for (size_t i = 0; i < FEN__COUNT(prefixes); i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    for (size_t i = 0; i < FEN__COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* A family "x" of histograms also writes x_bucket, x_sum and x_count: nobody else may. */
static bool hides(const struct fen_var *hist, const char *name)
{
    size_t n = strlen(hist->name);
    return hist->kind == FEN_VAR_HISTOGRAM && strncmp(name, hist->name, n) == 0 &&
           (strcmp(name + n, "_bucket") == 0 || strcmp(name + n, "_sum") == 0 ||
            strcmp(name + n, "_count") == 0);
}

/* ---- making and linking ---- */

static char *copy(char **at, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = memcpy(*at, s, n);
    *at += n;
    return p;
}

static void drop(struct fen_var *v)
{
    fen__mem_free(v->hist, v->hist ? sizeof *v->hist : 0);
    fen__mem_free(v->block, v->block_bytes);
}

/* One block for the variable and its strings, so that it starts at a line of its own. */
static struct fen_var *make(const fen_var_def *d)
{
    const char *labels = d->labels ? d->labels : "", *help = d->help ? d->help : "";
    size_t bytes =
        sizeof(struct fen_var) + FEN__LINE + strlen(d->name) + strlen(labels) + strlen(help) + 3;
    char *block = fen__mem_calloc(bytes);
    if (!block)
        return NULL;
    struct fen_var *v =
        (struct fen_var *)(((uintptr_t)block + FEN__LINE - 1) & ~(uintptr_t)(FEN__LINE - 1));
    char *at = (char *)(v + 1);
    v->block = block;
    v->block_bytes = bytes;
    v->name = copy(&at, d->name);
    v->labels = copy(&at, labels);
    v->help = copy(&at, help);
    v->kind = d->kind;
    v->scale = d->scale;
    v->read_i64 = d->read_i64;
    v->read_f64 = d->read_f64;
    v->arg = d->arg;
    if (d->kind != FEN_VAR_HISTOGRAM)
        return v;
    v->hist = fen__mem_calloc(sizeof *v->hist);
    if (v->hist)
        return v;
    drop(v);
    return NULL;
}

static void link_behind(struct fen_var **slot, struct fen_var *v)
{
    vars_n++;
    __atomic_store_n(slot, v, __ATOMIC_RELEASE); /* pairs with the fen__var_* walkers below */
}

/* Called with the lock held. */
static int add(struct fen_var *v)
{
    struct fen_var **slot = &first_family;
    for (; *slot; slot = &(*slot)->next_family) {
        struct fen_var *f = *slot;
        if (hides(f, v->name) || hides(v, f->name))
            return -EINVAL;
        if (strcmp(f->name, v->name) != 0)
            continue;
        if (f->kind != v->kind || f->scale != v->scale)
            return strcmp(f->labels, v->labels) == 0 ? -EEXIST : -EINVAL;
        for (;; slot = &(*slot)->next_label) {
            if (strcmp((*slot)->labels, v->labels) == 0)
                return -EEXIST;
            if (!(*slot)->next_label)
                break;
        }
        slot = &(*slot)->next_label;
        break;
    }
    if (vars_n == FEN_VARS_MAX)
        return FEN_ELIMIT;
    link_behind(slot, v);
    return 0;
}

int fen_var_new(const fen_var_def *def, fen_var **ret_var)
{
    if (!def_ok(def))
        return -EINVAL;
    if (reserved(def->name))
        return -EEXIST;
    struct fen_var *v = make(def);
    if (!v)
        return -ENOMEM;
    fen__tas_lock(&lock);
    int rc = add(v);
    fen__tas_unlock(&lock);
    if (rc < 0)
        drop(v);
    else if (ret_var)
        *ret_var = v;
    return rc;
}

/* ---- reading ---- */

const struct fen_var *fen__var_first(void)
{
    return __atomic_load_n(&first_family, __ATOMIC_ACQUIRE);
}

const struct fen_var *fen__var_next_family(const struct fen_var *v)
{
    return __atomic_load_n(&v->next_family, __ATOMIC_ACQUIRE);
}

const struct fen_var *fen__var_next_label(const struct fen_var *v)
{
    return __atomic_load_n(&v->next_label, __ATOMIC_ACQUIRE);
}

fen_var *fen_var_find(const char *name, const char *labels)
{
    const struct fen_var *f = fen__var_first();
    while (f && strcmp(f->name, name) != 0)
        f = fen__var_next_family(f);
    while (f && strcmp(f->labels, labels ? labels : "") != 0)
        f = fen__var_next_label(f);
    return (fen_var *)f;
}

static bool stored(const fen_var *v)
{
    return v->kind != FEN_VAR_HISTOGRAM && !v->read_i64 && !v->read_f64;
}

void fen_var_add(fen_var *v, int64_t n)
{
    if (stored(v) && (n >= 0 || v->kind == FEN_VAR_GAUGE))
        __atomic_fetch_add(&v->value, n, __ATOMIC_RELAXED);
}

void fen_var_set(fen_var *v, int64_t value)
{
    if (stored(v) && v->kind == FEN_VAR_GAUGE)
        __atomic_store_n(&v->value, value, __ATOMIC_RELAXED);
}

void fen_var_record(fen_var *v, int64_t value)
{
    if (v->hist)
        fen__hist_record(v->hist, value < 0 ? 0 : value);
}

int64_t fen_var_get(const fen_var *v)
{
    if (v->hist) {
        struct fen__hist h = {0};
        fen__hist_merge(&h, v->hist);
        return fen__hist_count(&h);
    }
    if (v->read_f64) {
        double d = v->read_f64(v->arg);
        if (!(d >= -0x1p63 && d < 0x1p63))
            return d < 0 ? INT64_MIN : d > 0 ? INT64_MAX : 0;
        int64_t whole = (int64_t)d; /* floor() would make every program need libm */
        return whole - ((double)whole > d);
    }
    return v->read_i64 ? v->read_i64(v->arg) : __atomic_load_n(&v->value, __ATOMIC_RELAXED);
}

int64_t fen_var_quantile(const fen_var *v, double q)
{
    if (!v->hist)
        return 0;
    struct fen__hist h = {0};
    fen__hist_merge(&h, v->hist);
    return fen__hist_quantile(&h, q);
}

/* ---- pieces of text ---- */

void fen__put_double(fen_buf *b, double d, const char *null_text)
{
    if (!isfinite(d)) {
        fen_buf_put_str(b, null_text ? null_text : isnan(d) ? "NaN" : d > 0 ? "+Inf" : "-Inf");
        return;
    }
    char text[40];
    snprintf(text, sizeof text, "%.15g", d);
    if (strtod(text, NULL) != d)
        snprintf(text, sizeof text, "%.17g", d);
    for (char *p = text; *p; p++)
        if (*p == ',')
            *p = '.';
    fen_buf_put_str(b, text);
}

void fen__var_put_value(fen_buf *b, const struct fen_var *v, const char *null_text)
{
    if (v->read_f64)
        fen__put_double(b, v->read_f64(v->arg), null_text);
    else
        fen__put_scaled(b, fen_var_get(v), v->scale);
}
