/* dump.c - every fiber as text: a line each, fibers of one kind together, with their frames.
 *
 * One kind: same state, reason, entry and frames. So a hundred thousand handlers that wait for the
 * same answer are eight lines and a count, as they are one finding. The examples are the first of
 * their kind; the group says how long the others have waited.
 *
 * Bounds: GROUPS kinds (more are counted together), KEEP lines a kind once there are more than
 * FULL fibers, one pass over all fibers, about 1 MiB of heap while it runs. */
#include "sched/see.h"

#include "mem/mem.h"

#include <fen/io.h>

#include <string.h>

#define GROUPS 256
#define SLOTS 1024 /* of the hash table; a power of two above GROUPS */
#define FULL 256
#define KEEP 8
#define VIEWS 2048
#define OUT_BYTES 4096

struct group {
    uint64_t hash;
    int64_t count, least_ns, most_ns;
    int first, last; /* of its views, chained by next */
    int kept;
};

struct dump {
    struct fen__running *running;
    void (*put)(void *arg, const char *text, size_t n);
    void *arg;
    int64_t count, others;
    int keep, nviews, ngroups;
    int16_t slot[SLOTS]; /* index of a group + 1 */
    struct group group[GROUPS];
    struct fen__view view[VIEWS];
    int next[VIEWS];
    struct fen__text out;
    char bytes[OUT_BYTES];
};

void (*fen__on_dump)(void (*put)(void *arg, const char *text, size_t n), void *arg);

/* ---- collecting ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    return (h ^ v) * UINT64_C(0x9E3779B97F4A7C15) ^ h >> 29;
}

static uint64_t kind_of(const struct fen__view *v)
{
    uint64_t h = mix(v->state, v->reason);
    h = mix(h, (uintptr_t)v->entry);
    for (int i = 1; i < v->nframes; i++) /* 0: by which of two ways it was switched out */
        h = mix(h, (uintptr_t)v->frame[i]);
    return h;
}

static struct group *group_of(struct dump *d, uint64_t hash)
{
    uint32_t at = (uint32_t)(hash >> 40) % SLOTS;
    for (; d->slot[at]; at = (at + 1) % SLOTS)
        if (d->group[d->slot[at] - 1].hash == hash)
            return &d->group[d->slot[at] - 1];
    if (d->ngroups == GROUPS)
        return NULL;
    struct group *g = &d->group[d->ngroups++];
    d->slot[at] = (int16_t)d->ngroups;
    *g = (struct group){.hash = hash, .least_ns = INT64_MAX, .first = -1, .last = -1};
    return g;
}

static void collect(struct fen__g *g, void *arg)
{
    struct dump *d = arg;
    bool room = d->nviews < VIEWS;
    struct fen__view spare = {0}, *v = room ? &d->view[d->nviews] : &spare;
    if (!fen__view_take(g, d->running, v))
        return;
    d->count++;
    struct group *k = group_of(d, kind_of(v));
    if (!k) {
        d->others++;
        return;
    }
    k->count++;
    k->least_ns = fen__min_i64(k->least_ns, v->for_ns);
    k->most_ns = fen__max_i64(k->most_ns, v->for_ns);
    if (!room || k->kept == d->keep)
        return;
    int at = d->nviews++;
    d->next[at] = -1;
    if (k->last >= 0)
        d->next[k->last] = at;
    else
        k->first = at;
    k->last = at;
    k->kept++;
}

/* ---- printing ---- */

static void field(struct fen__text *t, const char *name) { fen__text_put(t, name); }

static void put_state(struct fen__text *t, const struct fen__view *v)
{
    static const char *const names[] = {"parked", "ready", "running", "blocking"};
    field(t, " state=");
    fen__text_put(t, names[v->state]);
    if (v->tid) {
        field(t, " thread=");
        fen__text_dec(t, v->tid);
    }
    if (v->state == FEN__S_PARKED) {
        field(t, " wait=");
        fen__text_put(t, fen__reason_name(v->reason));
    }
    if (v->state == FEN__S_PARKED || v->state == FEN__S_READY) {
        field(t, " for=");
        fen__text_ns(t, v->for_ns);
    }
}

static const char *name_of_have(enum fen__reason why)
{
    switch (why) {
    case FEN__R_READ:
    case FEN__R_WRITE:
    case FEN__R_FD: return " fd=";
    case FEN__R_PROCESS: return " pid=";
    default: return " has=";
    }
}

static void put_events(struct fen__text *t, int events)
{
    field(t, " events=");
    if (events & FEN_FD_READ)
        fen__text_put(t, events & FEN_FD_WRITE ? "read," : "read");
    if (events & FEN_FD_WRITE)
        fen__text_put(t, "write");
}

static void put_on(struct fen__text *t, const struct fen__view *v)
{
    const struct fen__on *on = &v->on;
    if (on->object) {
        field(t, " on=");
        fen__text_hex(t, (uintptr_t)on->object);
    }
    if (on->have >= 0) {
        field(t, name_of_have(v->reason));
        fen__text_dec(t, on->have);
    }
    if (on->of >= 0) {
        fen__text_put(t, "/");
        fen__text_dec(t, on->of);
    }
    if (on->events)
        put_events(t, on->events);
    if (on->holder) {
        field(t, " holder=");
        fen__text_dec(t, (int64_t)on->holder);
    }
}

static void put_stack(struct fen__text *t, const struct fen__view *v)
{
    field(t, " stack=");
    if (!v->top) {
        fen__text_put(t, "none"); /* it has not begun */
        return;
    }
    if (v->sp && v->sp >= v->low && v->sp < v->top)
        fen__text_size(t, (size_t)(v->top - v->sp));
    else
        fen__text_put(t, "?");
    if (v->cold)
        field(t, " hibernates");
    field(t, v->painted ? " peak=" : " peak<=");
    fen__text_size(t, fen__stack_peak(v));
    field(t, " of=");
    fen__text_size(t, (size_t)(v->top - v->low));
}

void fen__view_put(struct fen__text *t, const struct fen__view *v)
{
    field(t, "fiber=");
    fen__text_dec(t, (int64_t)v->number);
    field(t, " name=");
    fen__text_word(t, v->name[0] ? v->name : "-", v->name[0] ? strlen(v->name) : 1);
    put_state(t, v);
    put_on(t, v);
    field(t, " cpu=");
    fen__text_ns(t, v->cpu_ns);
    put_stack(t, v);
    if (!v->name[0]) {
        field(t, " fn=");
        fen__sys_symbol(t, v->entry);
    }
    if (v->nlabels) {
        field(t, " labels=");
        fen__text_bytes(t, v->labels, v->nlabels);
    }
    if (v->site) { /* - 1: the call, not what follows it */
        field(t, " spawn=");
        fen__sys_symbol(t, (const char *)v->site - 1);
    }
    fen__text_put(t, "\n");
}

/* fen's own way into a park, and out of a fiber's last frame, is the same for all: left out. */
void fen__frames_put(struct fen__text *t, const void *const *frame, int n)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        char name[256];
        struct fen__text s = {name, 0, sizeof name};
        fen__sys_symbol(&s, (const char *)frame[i] - 1);
        if (s.n > 5 && !memcmp(name, "fen__", 5))
            continue;
        if (t->cap - t->n < 320) { /* a symbol of C++ may be long */
            fen__text_put(t, " < ...");
            break;
        }
        fen__text_put(t, any ? " < " : "    at ");
        fen__text_bytes(t, name, s.n);
        any = true;
    }
    if (any)
        fen__text_put(t, "\n");
}

/* Room for a line more, or what there is goes out. */
static void flush(struct dump *d, size_t room)
{
    if (d->out.cap - d->out.n >= room)
        return;
    d->put(d->arg, d->bytes, d->out.n);
    d->out.n = 0;
}

static void put_group(struct dump *d, const struct group *k)
{
    for (int i = k->first; i >= 0; i = d->next[i]) {
        flush(d, 1024);
        fen__view_put(&d->out, &d->view[i]);
    }
    flush(d, 3072);
    if (k->first >= 0)
        fen__frames_put(&d->out, d->view[k->first].frame, d->view[k->first].nframes);
    if (k->count == k->kept)
        return;
    fen__text_put(&d->out, "    and ");
    fen__text_dec(&d->out, k->count - k->kept);
    fen__text_put(&d->out, " more of this kind; all of it: for=");
    fen__text_ns(&d->out, k->least_ns);
    fen__text_put(&d->out, "..");
    fen__text_ns(&d->out, k->most_ns);
    fen__text_put(&d->out, "\n");
}

static void put_head(struct dump *d)
{
    struct fen__text *t = &d->out;
    fen__text_put(t, "fen: ");
    fen__text_dec(t, d->count);
    fen__text_put(t, d->count == 1 ? " fiber of " : " fibers of ");
    fen__text_dec(t, d->ngroups);
    fen__text_put(t, d->ngroups == 1 ? " kind, " : " kinds, ");
    fen__text_dec(t, fen__sched.nprocs);
    fen__text_put(t, " procs, up ");
    fen__text_ns(t, fen__sys_now() - fen__see.start_ns);
    fen__text_put(t, "\n");
}

static void put_all(struct dump *d)
{
    put_head(d);
    for (int i = 0; i < d->ngroups; i++)
        put_group(d, &d->group[i]);
    flush(d, 256);
    if (d->others) {
        fen__text_put(&d->out, "    and ");
        fen__text_dec(&d->out, d->others);
        fen__text_put(&d->out, " fibers of other kinds\n");
    }
    flush(d, OUT_BYTES);
}

/* fen__see.lock held, run open. */
static int dump(void (*put)(void *arg, const char *text, size_t n), void *arg)
{
    struct dump *d = fen__mem_calloc(sizeof *d);
    struct fen__running *r = d ? fen__running_take() : NULL;
    if (r) {
        d->running = r;
        d->put = put;
        d->arg = arg;
        d->keep = fen__fibers_live() <= FULL ? FULL : KEEP;
        d->out = (struct fen__text){d->bytes, 0, OUT_BYTES};
        fen__sys_objects_note();
        fen__each_g(collect, d);
        put_all(d);
        if (fen__on_dump)
            fen__on_dump(put, arg);
    }
    fen__running_free(r);
    fen__mem_free(d, sizeof *d);
    return r ? 0 : -ENOMEM;
}

int fen__dump(void (*put)(void *arg, const char *text, size_t n), void *arg)
{
    fen__lock(&fen__see.lock);
    int rc = fen__see.open ? dump(put, arg) : -ESRCH;
    fen__unlock(&fen__see.lock);
    return rc;
}

int fen_debug_fibers(void (*put)(void *arg, const char *text, size_t n), void *arg)
{
    return fen__dump(put, arg);
}
