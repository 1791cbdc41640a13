/* heap_profile.c - the heap profile as a file for pprof.
 *
 * A profile (profile.proto of google/pprof) is a message of samples, locations, functions, mappings
 * and strings that name each other by number; it is written in one pass, each thing when it is
 * first needed, strings collected on the side, and put into gzip as stored blocks: a reader needs
 * the frame, nobody needs it smaller (some 100 KiB), and a compressor would be the library's only
 * dependency.
 *
 * Numbers. A location is a code address: its number is its place among all addresses, ascending,
 * plus one. A function is a name: its number is the string's. A mapping is an object of the loader.
 * Addresses are return addresses less one, so that they lie in the call.
 *
 * The heap's own frames are left out: a profile says who asked. They are told by their names, for
 * only names survive inlining and link-time optimisation: everything up to the last function of
 * `entries` among the first FRAMES_OWN. */
#include "obs/obs_int.h"

#include "mem/mem.h"
#include "meter/meter.h"
#include "sys/look.h"

#include <fen/profile.h>

#include <stdlib.h>
#include <string.h>

#define FRAMES_OWN 8
#define NAME_MAX_BYTES 1024
#define UNKNOWN "unknown" /* a block of which not even the caller is known */

/* ---- protobuf ---- */

/* A message that is built before its length is known. */
struct message {
    size_t n;
    char p[640]; /* a sample has at most FEN__PROFILE_FRAMES numbers, 4 values, 4 labels */
};

static void put_varint(struct message *m, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        m->p[m->n++] = (char)(v | 128);
    m->p[m->n++] = (char)v;
}

static void put_number(struct message *m, uint32_t field, uint64_t v)
{
    put_varint(m, field << 3);
    put_varint(m, v);
}

static void put_bytes(fen_buf *b, uint32_t field, const char *p, size_t n)
{
    struct message head = {.n = 0};
    put_varint(&head, field << 3 | 2);
    put_varint(&head, n);
    fen_buf_put(b, head.p, head.n);
    fen_buf_put(b, p, n);
}

/* A message inside another. */
static void put_inner(struct message *m, uint32_t field, const struct message *inner)
{
    put_varint(m, field << 3 | 2);
    put_varint(m, inner->n);
    memcpy(m->p + m->n, inner->p, inner->n);
    m->n += inner->n;
}

static void put_message(fen_buf *b, uint32_t field, const struct message *m)
{
    put_bytes(b, field, m->p, m->n);
}

/* Fields of the messages, by their names in profile.proto. */
enum {
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE,
    PROFILE_MAPPING,
    PROFILE_LOCATION,
    PROFILE_FUNCTION,
    PROFILE_STRING_TABLE,
    PROFILE_TIME_NANOS = 9,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD,
    PROFILE_COMMENT,
    PROFILE_DEFAULT_SAMPLE_TYPE
};
enum { VALUE_TYPE = 1, VALUE_UNIT };
enum { SAMPLE_LOCATION = 1, SAMPLE_VALUE, SAMPLE_LABEL };
enum { LABEL_KEY = 1, LABEL_STR, LABEL_NUM, LABEL_NUM_UNIT };
enum {
    MAPPING_ID = 1,
    MAPPING_START,
    MAPPING_LIMIT,
    MAPPING_FILENAME = 5,
    MAPPING_BUILD_ID,
    MAPPING_HAS_FUNCTIONS
};
enum { LOCATION_ID = 1, LOCATION_MAPPING, LOCATION_ADDRESS, LOCATION_LINE };
enum { LINE_FUNCTION = 1 };
enum { FUNCTION_ID = 1, FUNCTION_NAME, FUNCTION_SYSTEM_NAME };

/* ---- what is being written ---- */

struct string {
    uint32_t hash, len;
    size_t at;     /* in the bytes of `text` */
    bool function; /* the function of that name is written */
};

struct address {
    uint32_t name;   /* of its function; 0: not known */
    uint32_t object; /* from 1; 0: in none */
    bool written, entry;
};

struct writer {
    fen_buf *out;
    fen_buf text;          /* the string table, as fields */
    struct string *string; /* that of number n at n - 1: 0 is "" */
    size_t nstrings, strings_cap;
    uint32_t *slot; /* numbers by hash; 0: free */
    size_t slots;
    struct fen__profile_entry *entry;
    size_t n, cap;
    uintptr_t *pc; /* ascending, each once */
    struct address *address;
    size_t npc, pc_cap;
    int rc; /* the first failure */
};

/* An array with room for one more, or as it was when there is no memory: rc says so. */
static void *grown(struct writer *w, void *p, size_t n, size_t *cap, size_t each)
{
    if (n < *cap || w->rc)
        return p;
    size_t more = *cap ? 2 * *cap : 64;
    void *q = fen__mem_resize(p, *cap * each, more * each);
    if (!q) {
        w->rc = -ENOMEM;
        return p;
    }
    *cap = more;
    return q;
}

static void writer_fini(struct writer *w)
{
    fen_buf_free(&w->text);
    fen__mem_free(w->string, w->strings_cap * sizeof *w->string);
    fen__mem_free(w->slot, w->slots * sizeof *w->slot);
    fen__mem_free(w->entry, w->cap * sizeof *w->entry);
    fen__mem_free(w->pc, w->pc_cap * sizeof *w->pc);
    fen__mem_free(w->address, w->pc_cap * sizeof *w->address);
}

/* ---- strings ---- */

static uint32_t hash_of(const char *p, size_t n)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 16777619u;
    return h;
}

/* Where the string is, or a free slot for it. */
static uint32_t *slot_of(const struct writer *w, const char *p, size_t n, uint32_t hash)
{
    size_t i = hash & (w->slots - 1);
    for (; w->slot[i]; i = (i + 1) & (w->slots - 1)) {
        const struct string *s = &w->string[w->slot[i] - 1];
        if (s->hash == hash && s->len == n && !memcmp(w->text.p + s->at, p, n))
            break;
    }
    return &w->slot[i];
}

static void more_slots(struct writer *w)
{
    size_t n = w->slots ? 2 * w->slots : 256;
    uint32_t *slot = fen__mem_calloc(n * sizeof *slot);
    if (!slot) {
        w->rc = -ENOMEM;
        return;
    }
    fen__mem_free(w->slot, w->slots * sizeof *w->slot);
    w->slot = slot;
    w->slots = n;
    for (size_t k = 0; k < w->nstrings; k++) {
        const struct string *s = &w->string[k];
        *slot_of(w, w->text.p + s->at, s->len, s->hash) = (uint32_t)k + 1;
    }
}

/* Its number in the table, into which it is put if need be; 0: it is empty, or no memory. */
static uint32_t string(struct writer *w, const char *p, size_t n)
{
    uint32_t hash = hash_of(p, n);
    if (2 * (w->nstrings + 1) > w->slots)
        more_slots(w);
    w->string = grown(w, w->string, w->nstrings, &w->strings_cap, sizeof *w->string);
    if (!n || w->rc)
        return 0;
    uint32_t *slot = slot_of(w, p, n, hash);
    if (!*slot) {
        put_bytes(&w->text, PROFILE_STRING_TABLE, p, n);
        w->rc = w->text.err;
        if (w->rc)
            return 0;
        w->string[w->nstrings++] = (struct string){hash, (uint32_t)n, w->text.n - n, false};
        *slot = (uint32_t)w->nstrings;
    }
    return *slot;
}

static uint32_t text(struct writer *w, const char *s) { return string(w, s, strlen(s)); }

/* ---- entries and addresses ---- */

static void collect(const struct fen__profile_entry *e, void *arg)
{
    struct writer *w = arg;
    w->entry = grown(w, w->entry, w->n, &w->cap, sizeof *w->entry);
    if (!w->rc)
        w->entry[w->n++] = *e;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static void take_addresses(struct writer *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++)
        n += w->entry[i].n;
    w->pc_cap = n + 1;
    w->pc = fen__mem_alloc(w->pc_cap * sizeof *w->pc);
    w->address = fen__mem_calloc(w->pc_cap * sizeof *w->address);
    if (!w->pc || !w->address) {
        w->rc = -ENOMEM;
        return;
    }
    n = 0;
    for (size_t i = 0; i < w->n; i++)
        for (uint32_t k = 0; k < w->entry[i].n; k++)
            w->pc[n++] = (uintptr_t)w->entry[i].pc[k] - 1;
    qsort(w->pc, n, sizeof *w->pc, by_address);
    for (size_t i = 0; i < n; i++)
        if (!w->npc || w->pc[i] != w->pc[w->npc - 1])
            w->pc[w->npc++] = w->pc[i];
}

static size_t place_of(const struct writer *w, const void *pc)
{
    uintptr_t want = (uintptr_t)pc - 1;
    const uintptr_t *at = bsearch(&want, w->pc, w->npc, sizeof want, by_address);
    return (size_t)(at - w->pc);
}

/* What a program calls to have memory, and what stands between that and the heap. */
static bool is_entry(const char *name, size_t n)
{
    static const char *const entries[] = {
        "malloc",        "calloc",         "realloc",     "reallocarray",
        "aligned_alloc", "posix_memalign", "memalign",    "valloc",
        "pvalloc",       "strdup",         "strndup",     "fen_alloc",
        "fen_alloc_for", "fen_calloc",     "fen_realloc", "fen_aligned_alloc"};
    static const char *const prefixes[] = {"fen__heap_", "fen__mem_", "fen_arena_"};
    for (size_t i = 0; i < FEN__COUNT(prefixes); i++)
        if (n > strlen(prefixes[i]) && !memcmp(name, prefixes[i], strlen(prefixes[i])))
            return true;
    for (size_t i = 0; i < FEN__COUNT(entries); i++)
        if (n == strlen(entries[i]) && !memcmp(name, entries[i], n))
            return true;
    return false;
}

static void name_address(void *arg, size_t k, const char *name, size_t n)
{
    struct writer *w = arg;
    const char *dot =
        n ? memchr(name + 1, '.', n - 1) : NULL; /* .part.0, .lto_priv.3: compilers' */
    n = dot ? (size_t)(dot - name) : n;
    n = n < NAME_MAX_BYTES ? n : NAME_MAX_BYTES;
    if (w->address[k].name)
        return;
    w->address[k].name = string(w, name, n);
    w->address[k].entry = is_entry(name, n);
}

static void place_addresses(struct writer *w)
{
    struct fen__sys_object o;
    for (int i = 0; fen__sys_object(i, &o); i++)
        for (size_t k = 0; k < w->npc; k++)
            if (w->pc[k] >= o.start && w->pc[k] < o.end)
                w->address[k].object = (uint32_t)i + 1;
}

/* ---- the parts ---- */

static void put_mappings(struct writer *w)
{
    struct fen__sys_object o;
    for (int i = 0; fen__sys_object(i, &o); i++) {
        struct message m = {.n = 0};
        char id[2 * FEN__BUILD_ID_BYTES], exe[256] = "";
        for (uint32_t k = 0; k < o.build_id_n; k++) {
            id[2 * k] = "0123456789abcdef"[o.build_id[k] >> 4];
            id[2 * k + 1] = "0123456789abcdef"[o.build_id[k] & 15];
        }
        if (!o.path[0])
            fen__sys_program(exe, sizeof exe);
        put_number(&m, MAPPING_ID, (uint64_t)i + 1);
        put_number(&m, MAPPING_START, o.start);
        put_number(&m, MAPPING_LIMIT, o.end);
        put_number(&m, MAPPING_FILENAME, text(w, o.path[0] ? o.path : exe));
        put_number(&m, MAPPING_BUILD_ID, string(w, id, 2 * (size_t)o.build_id_n));
        put_number(&m, MAPPING_HAS_FUNCTIONS, 1);
        put_message(w->out, PROFILE_MAPPING, &m);
    }
}

/* Its number: that of its name, under which it is written once. */
static uint32_t function(struct writer *w, uint32_t name)
{
    struct message m = {.n = 0};
    if (!name || w->string[name - 1].function)
        return name;
    w->string[name - 1].function = true;
    put_number(&m, FUNCTION_ID, name);
    put_number(&m, FUNCTION_NAME, name);
    put_number(&m, FUNCTION_SYSTEM_NAME, name);
    put_message(w->out, PROFILE_FUNCTION, &m);
    return name;
}

/* What has no name is called by where it is. */
static uint32_t name_of_place(struct writer *w, size_t k)
{
    char bytes[256];
    struct fen__text t = {bytes, 0, sizeof bytes};
    fen__sys_symbol(&t, (const void *)w->pc[k]);
    return string(w, bytes, t.n);
}

/* Its number; k is npc for what is not known at all. */
static uint64_t location(struct writer *w, size_t k)
{
    struct message m = {.n = 0}, line = {.n = 0};
    struct address *a = &w->address[k]; /* has one more than pc */
    if (a->written)
        return k + 1;
    a->written = true;
    uint32_t name = k == w->npc ? text(w, UNKNOWN) : a->name ? a->name : name_of_place(w, k);
    put_number(&line, LINE_FUNCTION, function(w, name));
    put_number(&m, LOCATION_ID, k + 1);
    if (k < w->npc) {
        put_number(&m, LOCATION_MAPPING, a->object);
        put_number(&m, LOCATION_ADDRESS, w->pc[k]);
    }
    put_inner(&m, LOCATION_LINE, &line);
    put_message(w->out, PROFILE_LOCATION, &m);
    return k + 1;
}

static void put_label(struct writer *w, struct message *m, const char *key, const char *value)
{
    struct message label = {.n = 0};
    put_number(&label, LABEL_KEY, text(w, key));
    put_number(&label, LABEL_STR, text(w, value));
    put_inner(m, SAMPLE_LABEL, &label);
}

static void put_labels(struct writer *w, struct message *m, const struct fen__profile_entry *e)
{
    struct message size = {.n = 0};
    if (e->account && e->account < fen__meter_accounts()) {
        uint32_t tenant = fen__meter_account_tenant(e->account);
        uint32_t operation = fen__meter_account_operation(e->account);
        put_label(w, m, "tenant", fen__meter_tenant_name(tenant));
        put_label(w, m, "operation", fen__meter_operation_name(operation));
    }
    if (e->name[0])
        put_label(w, m, "fiber", e->name);
    put_number(&size, LABEL_KEY, text(w, "bytes"));
    put_number(&size, LABEL_NUM, (uint64_t)e->bytes);
    put_number(&size, LABEL_NUM_UNIT, text(w, "bytes"));
    put_inner(m, SAMPLE_LABEL, &size);
}

/* The frames of who asked: behind the heap's own, up to the first that is no code. */
static void callers(const struct writer *w, const struct fen__profile_entry *e, uint32_t *ret_from,
                    uint32_t *ret_to)
{
    uint32_t from = 0, to = 0;
    while (to < e->n && w->address[place_of(w, e->pc[to])].object)
        to++;
    for (uint32_t i = 0; i < to && i < FRAMES_OWN; i++)
        if (w->address[place_of(w, e->pc[i])].entry)
            from = i + 1;
    *ret_from = from;
    *ret_to = to;
}

static void put_sample(struct writer *w, const struct fen__profile_entry *e)
{
    struct message m = {.n = 0};
    uint32_t from, to;
    callers(w, e, &from, &to);
    if (from == to)
        put_number(&m, SAMPLE_LOCATION, location(w, w->npc));
    for (uint32_t i = from; i < to; i++)
        put_number(&m, SAMPLE_LOCATION, location(w, place_of(w, e->pc[i])));
    put_number(&m, SAMPLE_VALUE, (uint64_t)e->alloc_objects);
    put_number(&m, SAMPLE_VALUE, (uint64_t)e->alloc_bytes);
    put_number(&m, SAMPLE_VALUE, (uint64_t)e->inuse_objects);
    put_number(&m, SAMPLE_VALUE, (uint64_t)e->inuse_bytes);
    put_labels(w, &m, e);
    put_message(w->out, PROFILE_SAMPLE, &m);
}

static void put_type(struct writer *w, uint32_t field, const char *type, const char *unit)
{
    struct message m = {.n = 0};
    put_number(&m, VALUE_TYPE, text(w, type));
    put_number(&m, VALUE_UNIT, text(w, unit));
    put_message(w->out, field, &m);
}

static void put_head(struct writer *w)
{
    struct message m = {.n = 0};
    int64_t rate = fen_profile_heap_rate(), lost = fen__profile_lost();
    put_type(w, PROFILE_SAMPLE_TYPE, "alloc_objects", "count");
    put_type(w, PROFILE_SAMPLE_TYPE, "alloc_space", "bytes");
    put_type(w, PROFILE_SAMPLE_TYPE, "inuse_objects", "count");
    put_type(w, PROFILE_SAMPLE_TYPE, "inuse_space", "bytes");
    put_type(w, PROFILE_PERIOD_TYPE, "space", "bytes");
    put_number(&m, PROFILE_PERIOD, (uint64_t)(rate == FEN_PROFILE_OFF ? FEN_PROFILE_RATE : rate));
    put_number(&m, PROFILE_TIME_NANOS, (uint64_t)fen__sys_wall_ns());
    put_number(&m, PROFILE_DEFAULT_SAMPLE_TYPE, text(w, "inuse_space"));
    if (lost)
        put_number(&m, PROFILE_COMMENT, text(w, "samples were lost for want of memory"));
    fen_buf_put(w->out, m.p, m.n);
}

static void put_profile(struct writer *w)
{
    fen__profile_each(collect, w);
    if (!w->rc)
        take_addresses(w);
    if (w->rc)
        return;
    fen__sys_objects_note();
    fen__sys_functions(w->pc, w->npc, name_address, w);
    place_addresses(w);
    put_head(w);
    put_mappings(w);
    for (size_t i = 0; i < w->n && !w->rc; i++)
        put_sample(w, &w->entry[i]);
    put_bytes(w->out, PROFILE_STRING_TABLE, NULL, 0); /* number 0 */
    fen_buf_put(w->out, w->text.p, w->text.n);
}

int fen_profile_heap_write(fen_buf *b)
{
    fen_buf plain = fen_buf_heap();
    struct writer w = {.out = &plain, .text = fen_buf_heap()};
    put_profile(&w);
    int rc = w.rc ? w.rc : plain.err;
    if (!rc)
        fen__gzip_stored(b, plain.p, plain.n);
    else if (!b->err)
        b->err = rc;
    writer_fini(&w);
    fen_buf_free(&plain);
    return rc ? rc : b->err;
}
