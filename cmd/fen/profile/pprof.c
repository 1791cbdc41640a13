/* pprof.c - reads profiles in pprof's format (profile.proto of google/pprof), as far as a list of
 * functions needs them. Every number that the file gives is checked before it is used. */
#include "profile/profile.h"

#include <stdlib.h>
#include <string.h>

#define STRINGS_MAX ((size_t)1 << 22)

struct bytes {
    const unsigned char *at, *end;
};

struct field {
    uint32_t number;
    uint64_t v;     /* of a number */
    struct bytes p; /* of bytes; at NULL: a number */
};

/* ---- protobuf ---- */

static bool varint(struct bytes *b, uint64_t *ret)
{
    *ret = 0;
    for (int shift = 0; shift < 64 && b->at < b->end; shift += 7) {
        unsigned char c = *b->at++;
        *ret |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return true;
    }
    return false;
}

/* 1: there is one; 0: the message ends; -1: it is malformed. */
static int next(struct bytes *b, struct field *f)
{
    uint64_t key;
    if (b->at == b->end)
        return 0;
    if (!varint(b, &key))
        return -1;
    *f = (struct field){.number = (uint32_t)(key >> 3)};
    if ((key & 7) == 0)
        return varint(b, &f->v) ? 1 : -1;
    if ((key & 7) == 1 || (key & 7) == 5) /* fixed, of which profiles have none: skipped */
        f->v = (key & 7) == 1 ? 8 : 4;
    else if ((key & 7) != 2 || !varint(b, &f->v))
        return -1;
    if (f->v > (uint64_t)(b->end - b->at))
        return -1;
    f->p = (struct bytes){b->at, b->at + f->v};
    b->at += f->v;
    return 1;
}

/* A repeated number comes packed or one by one: calls fn for each. False: malformed. */
static bool numbers(const struct field *f, void (*fn)(void *arg, uint64_t v), void *arg)
{
    struct bytes b = f->p;
    uint64_t v;
    if (!b.at) {
        fn(arg, f->v);
        return true;
    }
    while (b.at < b.end) {
        if (!varint(&b, &v))
            return false;
        fn(arg, v);
    }
    return true;
}

/* The first number of that field in a message; 0: none. */
static uint64_t number_in(struct bytes b, uint32_t number)
{
    struct field f;
    while (next(&b, &f) > 0)
        if (f.number == number && !f.p.at)
            return f.v;
    return 0;
}

/* ---- gzip ---- */

static const char *unpack(const unsigned char *p, size_t n, char **ret, size_t *ret_n)
{
    size_t at = 10, out = 0;
    bool last = false;
    static const char packed[] = "compressed: gunzip it first (fen's own are not)";
    if (n < 18)
        return "cut short";
    if (p[2] != 8 || p[3]) /* a name and the like: others' files */
        return packed;
    char *to = malloc(n);
    while (to && !last) {
        size_t len = at + 5 <= n ? p[at + 1] | (size_t)p[at + 2] << 8 : n;
        if (at + 5 + len + 8 > n || p[at] & 6) {
            bool stored = at + 5 > n || !(p[at] & 6);
            free(to);
            return stored ? "cut short" : packed;
        }
        last = p[at] & 1;
        memcpy(to + out, p + at + 5, len);
        out += len;
        at += 5 + len;
    }
    *ret = to;
    *ret_n = out;
    return to ? NULL : "out of memory";
}

/* ---- the parts ---- */

/* While reading: ids and what they stand for. */
struct pair {
    uint64_t id;
    struct bytes message;
};

struct table {
    struct pair *pair;
    size_t n;
};

struct reader {
    struct pprof *p;
    struct table functions, locations;
    size_t frames_cap;
    struct pprof_sample *sample; /* that is being read */
    int values;
    bool bad;
};

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct pair *)a)->id, y = ((const struct pair *)b)->id;
    return x < y ? -1 : x > y;
}

static const struct pair *find(const struct table *t, uint64_t id)
{
    struct pair want = {.id = id};
    return t->n ? bsearch(&want, t->pair, t->n, sizeof want, by_id) : NULL;
}

static void add_frame(struct reader *r, uint32_t name)
{
    struct pprof *p = r->p;
    if (p->frames == r->frames_cap) {
        size_t cap = r->frames_cap ? 2 * r->frames_cap : 1024;
        uint32_t *more = realloc(p->frame, cap * sizeof *more);
        if (!more) {
            r->bad = true;
            return;
        }
        p->frame = more;
        r->frames_cap = cap;
    }
    p->frame[p->frames++] = name;
    r->sample->frames++;
}

/* A location has a line for each function that was inlined there, innermost first. */
static void take_location(void *arg, uint64_t id)
{
    struct reader *r = arg;
    const struct pair *l = find(&r->locations, id);
    struct bytes b = l ? l->message : (struct bytes){0};
    struct field f;
    r->bad |= !l;
    while (!r->bad && next(&b, &f) > 0) {
        if (f.number != 4 || !f.p.at)
            continue;
        const struct pair *fn = find(&r->functions, number_in(f.p, 1));
        uint64_t name = fn ? number_in(fn->message, 2) : 0;
        r->bad |= name >= r->p->strings;
        if (!r->bad)
            add_frame(r, (uint32_t)name);
    }
}

static void take_value(void *arg, uint64_t v)
{
    struct reader *r = arg;
    if (r->values < VALUES_MAX)
        r->sample->value[r->values++] = (int64_t)v;
}

static void take_label(struct reader *r, struct bytes m)
{
    uint64_t key = number_in(m, 1), text = number_in(m, 2);
    r->bad |= key >= r->p->strings || text >= r->p->strings;
    if (!r->bad && r->sample->labels < LABELS_MAX)
        r->sample->label[r->sample->labels++] =
            (struct pprof_label){(uint32_t)key, (uint32_t)text, (int64_t)number_in(m, 3)};
}

static void take_sample(struct reader *r, struct bytes m)
{
    struct field f;
    int rc;
    r->sample = &r->p->sample[r->p->samples++];
    *r->sample = (struct pprof_sample){.first = (uint32_t)r->p->frames};
    r->values = 0;
    while (!r->bad && (rc = next(&m, &f))) {
        if (rc < 0)
            r->bad = true;
        else if (f.number == 1)
            r->bad |= !numbers(&f, take_location, r);
        else if (f.number == 2)
            r->bad |= !numbers(&f, take_value, r);
        else if (f.number == 3 && f.p.at)
            take_label(r, f.p);
    }
}

/* ---- the whole ---- */

struct counts {
    size_t samples, locations, functions, strings, text;
};

/* Of text only what first_pass copies: a number in its place has no bytes. The sums stay below the
 * file's size: each string lies in it behind two bytes of its own or more. */
static const char *count(struct bytes b, struct counts *c)
{
    struct field f;
    int rc;
    *c = (struct counts){0};
    while ((rc = next(&b, &f)) > 0) {
        c->samples += f.number == 2;
        c->locations += f.number == 4;
        c->functions += f.number == 5;
        if (f.number == 6 && f.p.at) {
            c->strings++;
            c->text += f.v + 1;
        }
    }
    return rc < 0 || !c->strings || c->strings > STRINGS_MAX ? "not a profile" : NULL;
}

static void take_type(struct pprof *p, struct bytes m)
{
    uint64_t type = number_in(m, 1), unit = number_in(m, 2);
    if (p->types == VALUES_MAX)
        return;
    p->type[p->types] = type < p->strings ? (uint32_t)type : 0;
    p->unit[p->types++] = unit < p->strings ? (uint32_t)unit : 0;
}

/* Strings, and where the messages are that others name. */
static void first_pass(struct reader *r, struct bytes b)
{
    struct field f;
    char *to = r->p->text;
    while (next(&b, &f) > 0) {
        if (!f.p.at)
            continue;
        if (f.number == 6) {
            if (f.v)
                memcpy(to, f.p.at, f.v);
            to[f.v] = 0;
            r->p->string[r->p->strings++] = to;
            to += f.v + 1;
        } else if (f.number == 4) {
            r->locations.pair[r->locations.n++] = (struct pair){number_in(f.p, 1), f.p};
        } else if (f.number == 5) {
            r->functions.pair[r->functions.n++] = (struct pair){number_in(f.p, 1), f.p};
        }
    }
    qsort(r->locations.pair, r->locations.n, sizeof(struct pair), by_id);
    qsort(r->functions.pair, r->functions.n, sizeof(struct pair), by_id);
}

static void second_pass(struct reader *r, struct bytes b)
{
    struct field f;
    while (!r->bad && next(&b, &f) > 0) {
        if (f.number == 1 && f.p.at)
            take_type(r->p, f.p);
        else if (f.number == 2 && f.p.at)
            take_sample(r, f.p);
        else if (f.number == 9)
            r->p->time_ns = (int64_t)f.v;
        else if (f.number == 12)
            r->p->period = (int64_t)f.v;
    }
}

static const char *read_plain(struct pprof *p, struct bytes b)
{
    struct counts c;
    struct reader r = {.p = p};
    const char *wrong = count(b, &c);
    if (wrong)
        return wrong;
    p->string = calloc(c.strings, sizeof *p->string);
    p->text = malloc(c.text + 1);
    p->sample = calloc(c.samples + 1, sizeof *p->sample);
    r.locations.pair = calloc(c.locations + 1, sizeof *r.locations.pair);
    r.functions.pair = calloc(c.functions + 1, sizeof *r.functions.pair);
    if (!p->string || !p->text || !p->sample || !r.locations.pair || !r.functions.pair) {
        wrong = "out of memory";
    } else {
        first_pass(&r, b);
        second_pass(&r, b);
        wrong = r.bad ? "names what it does not have" : p->types ? NULL : "not a profile";
    }
    free(r.locations.pair);
    free(r.functions.pair);
    return wrong;
}

const char *pprof_read(struct pprof *p, const char *bytes, size_t n)
{
    const unsigned char *u = (const unsigned char *)bytes;
    char *plain = NULL;
    *p = (struct pprof){0};
    if (n > 2 && u[0] == 0x1f && u[1] == 0x8b) {
        const char *wrong = unpack(u, n, &plain, &n);
        if (wrong)
            return wrong;
        u = (const unsigned char *)plain;
    }
    const char *wrong = read_plain(p, (struct bytes){u, u + n});
    free(plain);
    if (wrong)
        pprof_free(p);
    return wrong;
}

void pprof_free(struct pprof *p)
{
    free(p->string);
    free(p->text);
    free(p->sample);
    free(p->frame);
    *p = (struct pprof){0};
}

int pprof_value(const struct pprof *p, const char *type)
{
    for (int i = 0; i < p->types; i++)
        if (!strcmp(p->string[p->type[i]], type))
            return i;
    return -1;
}

int pprof_keys(const struct pprof *p, const char **ret_names)
{
    int n = 0;
    for (size_t i = 0; i < p->samples; i++)
        for (int k = 0; k < p->sample[i].labels; k++) {
            const char *key = p->string[p->sample[i].label[k].key];
            int at = 0;
            while (at < n && strcmp(ret_names[at], key))
                at++;
            if (at == n && n < PPROF_KEYS_MAX && p->sample[i].label[k].text)
                ret_names[n++] = key;
        }
    return n;
}

/* ---- sums ---- */

static int by_flat(const void *a, const void *b)
{
    const struct pprof_row *x = a, *y = b;
    if (x->flat != y->flat)
        return x->flat > y->flat ? -1 : 1;
    if (x->cum != y->cum)
        return x->cum > y->cum ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The string that a sample has for a label; 0: it has none. */
static uint32_t label_of(const struct pprof *p, const struct pprof_sample *s, const char *label)
{
    for (int i = 0; i < s->labels; i++)
        if (!strcmp(p->string[s->label[i].key], label))
            return s->label[i].text;
    return 0;
}

static void add_stack(const struct pprof *p, const struct pprof_sample *s, int value,
                      struct pprof_row *rows, uint32_t *seen, uint32_t mark)
{
    for (uint32_t i = 0; i < s->frames; i++) {
        uint32_t name = p->frame[s->first + i];
        rows[name].flat += i ? 0 : s->value[value];
        if (seen[name] != mark) /* once, however deep a recursion */
            rows[name].cum += s->value[value];
        seen[name] = mark;
    }
}

struct pprof_row *pprof_top(const struct pprof *p, int value, const char *label, size_t *ret_n,
                            int64_t *ret_total)
{
    struct pprof_row *rows = calloc(p->strings, sizeof *rows);
    uint32_t *seen = calloc(p->strings, sizeof *seen);
    size_t n = 0;
    *ret_total = 0;
    for (size_t i = 0; rows && seen && i < p->samples; i++) {
        const struct pprof_sample *s = &p->sample[i];
        *ret_total += s->value[value];
        if (!label) {
            add_stack(p, s, value, rows, seen, (uint32_t)i + 1);
            continue;
        }
        struct pprof_row *row = &rows[label_of(p, s, label)];
        row->flat += s->value[value];
        row->cum += s->value[value];
    }
    free(seen);
    for (size_t i = 0; rows && i < p->strings; i++) {
        rows[i].name = label && !i ? "(none)" : p->string[i];
        if (rows[i].flat || rows[i].cum)
            rows[n++] = rows[i];
    }
    if (rows)
        qsort(rows, n, sizeof *rows, by_flat);
    *ret_n = n;
    return rows;
}
