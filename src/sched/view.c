/* view.c - a snapshot of one fiber, taken while it may wake, end, and be another one.
 *
 *   1 copy the fiber's object        2 its wait word says PARKED: copy its frames
 *   3 read the wait word again       the same: nothing moved in between
 * A parked fiber's object and stack change only after its wait word has, and its epoch never comes
 * back. Else it is on a thread (an M's `cur`), or it is ready. Everything is copied by the kernel
 * (sys/look.c): a stack with a map of its own may go away at any time.
 *
 * Frames are found by frame pointers: fen keeps them (-fno-omit-frame-pointer); a program that does
 * not gets fen's own frames and perhaps one more. gdb needs none. */
#include "sched/see.h"

#include "mem/mem.h"

#include <string.h>

#define WINDOW_WORDS 256

void (*fen__on_describe)(const struct fen__g *g, struct fen__on *ret_on);
void (*fen__labels_put)(struct fen__g *g, struct fen__text *t);

const char *const fen__reason_names[FEN__R_COUNT] = {
    [FEN__R_NONE] = "none",         [FEN__R_READ] = "read",
    [FEN__R_WRITE] = "write",       [FEN__R_SLEEP] = "sleep",
    [FEN__R_CHAN_SEND] = "send",    [FEN__R_CHAN_RECV] = "recv",
    [FEN__R_SELECT] = "select",     [FEN__R_MUTEX] = "mutex",
    [FEN__R_SEM] = "sem",           [FEN__R_WG] = "wg",
    [FEN__R_SCOPE] = "scope",       [FEN__R_FD] = "fd",
    [FEN__R_BLOCKING] = "blocking", [FEN__R_RWLOCK] = "rwlock",
    [FEN__R_COND] = "cond",         [FEN__R_ONCE] = "once",
    [FEN__R_BARRIER] = "barrier",   [FEN__R_POOL] = "pool",
    [FEN__R_PROCESS] = "process"};

const char *fen__reason_name(enum fen__reason why)
{
    return why < FEN__R_COUNT ? fen__reason_names[why] : "?";
}

/* ---- who runs ---- */

struct fen__running *fen__running_take(void)
{
    fen__lock(&fen__sched.lock);
    int cap = fen__sched.n_ms + 16; /* retired Ms stay in the list: they run nothing */
    for (struct fen__m *m = fen__sched.ms; m; m = m->next)
        cap++;
    struct fen__running *r = fen__mem_alloc(sizeof *r + (size_t)cap * sizeof r->at[0]);
    struct fen__m *m = r ? fen__sched.ms : NULL;
    if (r)
        *r = (struct fen__running){.cap = cap};
    for (; m && r->n < cap; m = m->next) {
        const struct fen__g *cur = __atomic_load_n(&m->cur, __ATOMIC_RELAXED);
        const struct fen__g *guest = atomic_load(&m->guest); /* perhaps it has yet to wake up */
        if (!cur && !guest)
            continue;
        r->at[r->n].g = cur ? cur : guest;
        r->at[r->n].tid = atomic_load(&m->tid);
        r->at[r->n++].blocking = guest || atomic_load(&m->phase) == FEN__BLOCK;
    }
    fen__unlock(&fen__sched.lock);
    return r;
}

void fen__running_free(struct fen__running *r)
{
    if (r)
        fen__mem_free(r, sizeof *r + (size_t)r->cap * sizeof r->at[0]);
}

/* ---- frames ---- */

struct window {
    uintptr_t at, end;
    ptrdiff_t off; /* the bytes lie so much further on: a stack that was copied out */
    uint64_t word[WINDOW_WORDS];
};

static bool load(struct window *w, uintptr_t at, uintptr_t top, uint64_t *ret)
{
    if (at < w->at || at + 8 > w->end) {
        size_t n = top - at < sizeof w->word ? top - at : sizeof w->word;
        w->at = w->end = at;
        if (!fen__sys_copy_all(w->word, (const char *)at + w->off, n))
            return false;
        w->end = at + n;
    }
    *ret = w->word[(at - w->at) / 8];
    return (at - w->at) % 8 == 0;
}

static int walk_from(ptrdiff_t off, uintptr_t pc, uintptr_t fp, uintptr_t low, uintptr_t top,
                     const void **ret, int max)
{
    struct window w = {.off = off};
    int n = 0;
    while (pc && n < max) {
        uint64_t next_fp, next_pc;
        ret[n++] = (const void *)pc;
        if (fp < low || fp % 8 || fp + 16 > top || !load(&w, fp, top, &next_fp) ||
            !load(&w, fp + 8, top, &next_pc))
            break;
        low = fp + 16;
        pc = next_pc;
        fp = next_fp;
    }
    return n;
}

int fen__walk(uintptr_t pc, uintptr_t fp, uintptr_t low, uintptr_t top, const void **ret, int max)
{
    return walk_from(0, pc, fp, low, top, ret, max);
}

/* What fen__switch left at sp: see src/fiber/switch_*.S. */
bool fen__saved_frame(const void *sp, uintptr_t *ret_pc, uintptr_t *ret_fp)
{
#if defined(__x86_64__)
    enum { FP = 6 };
#else
    enum { FP = 10 };
#endif
    uint64_t saved[2]; /* on both the program counter comes next */
    if (!fen__sys_copy_all(saved, (const char *)sp + FP * sizeof(uint64_t), sizeof saved))
        return false;
    *ret_fp = saved[0];
    *ret_pc = saved[1];
    return true;
}

/* copy: where the bytes from sp to top are; sp itself unless the fiber hibernates. A copy that is
 * freed meanwhile is garbage that the caller's second look at the wait word throws away. */
static int walk_parked(const char *sp, const char *top, const char *copy, const void **ret)
{
    uintptr_t pc, fp;
    if (!fen__saved_frame(copy, &pc, &fp))
        return 0;
    ptrdiff_t off = (ptrdiff_t)((uintptr_t)copy - (uintptr_t)sp);
    return walk_from(off, pc, fp, (uintptr_t)sp, (uintptr_t)top, ret, FEN__FRAMES);
}

size_t fen__stack_peak(const struct fen__view *v)
{
    /* the canary is not use: it lies in the lowest page */
    size_t skip = !v->canary ? 0 : v->painted ? FEN__CANARY_BYTES : fen__sys_page_bytes();
    const char *low = v->low + skip;
    size_t bytes = (size_t)(v->top - low), free = 0;
    if (!v->painted)
        return bytes - fen__sys_untouched(low, bytes);
    unsigned char part[1024];
    while (free < bytes) {
        size_t n = bytes - free < sizeof part ? bytes - free : sizeof part, i = 0;
        if (!fen__sys_copy_all(part, low + free, n))
            break;
        while (i < n && part[i] == FEN__PAINT)
            i++;
        free += i;
        if (i < n)
            break;
    }
    return bytes - free;
}

/* ---- one fiber ---- */

static bool find_running(const struct fen__running *r, struct fen__view *v)
{
    for (int i = 0; i < r->n; i++)
        if (r->at[i].g == v->g) {
            v->state = r->at[i].blocking ? FEN__S_BLOCKING : FEN__S_RUNNING;
            v->tid = r->at[i].tid;
            return true;
        }
    return false;
}

/* A slot is the poller's: memory that stays mapped until the run ends. */
static void describe_slot(const void *slot, struct fen__on *on)
{
    int fd;
    on->object = slot;
    if (fen__sys_copy_all(&fd, (const char *)slot + offsetof(struct fen__slot, fd), sizeof fd))
        on->have = fd;
}

static void describe(const struct fen__g *c, struct fen__on *on)
{
    switch (c->reason) {
    case FEN__R_SLEEP: return;
    case FEN__R_PROCESS: on->have = c->node.index; return;
    case FEN__R_FD: on->events = c->node.index; /* fall through */
    case FEN__R_READ:
    case FEN__R_WRITE: describe_slot(c->on, on); return;
    default:
        if (fen__on_describe)
            fen__on_describe(c, on);
    }
}

static void look_parked(struct fen__view *v, const struct fen__g *c)
{
    v->state = FEN__S_PARKED;
    v->reason = c->reason;
    v->sp = c->sp;
    describe(c, &v->on);
    v->cold = atomic_load_explicit(&c->cold, memory_order_relaxed) == FEN__COLD;
    v->nframes = walk_parked(c->sp, v->top, v->cold ? c->copy : c->sp, v->frame);
}

bool fen__view_take(struct fen__g *g, const struct fen__running *r, struct fen__view *ret_view)
{
    struct fen__view *v = ret_view;
    union {
        struct fen__g g;
        char bytes[sizeof(struct fen__g)];
    } copy;
    const struct fen__g *c = &copy.g;
    if (!fen__sys_copy_all(copy.bytes, g, sizeof copy) || !c->live)
        return false;
    *v = (struct fen__view){.g = g,
                            .number = c->number,
                            .state = FEN__S_READY,
                            .on = {.have = -1, .of = -1},
                            .entry = *(const void *const *)&c->fn,
                            .site = c->site,
                            .ending = c->live == FEN__ENDING,
                            .painted = c->painted,
                            .canary = c->stack.canary};
    if (c->stack.low) { /* else it has not begun */
        v->low = fen__stack_low(&c->stack);
        v->top = fen__stack_top(&c->stack);
    }
    v->for_ns = fen__max_i64(0, fen__tsc_to_ns((int64_t)(fen__tsc() - c->parked_at)));
    v->cpu_ns = fen__tsc_to_ns(c->cpu_ticks);
    fen__sys_copy_string(v->name, c->name, sizeof v->name);
    if (fen__labels_put && c->labels) {
        struct fen__text t = {v->labels, 0, sizeof v->labels};
        fen__labels_put(g, &t);
        v->nlabels = t.n;
    }
    uint64_t wait = atomic_load_explicit(&c->wait, memory_order_relaxed);
    if (find_running(r, v))
        return true;
    v->sp = c->sp;
    if ((wait & 0xffff) != FEN__PARKED)
        return true;
    look_parked(v, c);
    /* seq_cst, after the kernel's copies: a waker changes the word before the fiber runs */
    if (atomic_load(&g->wait) == wait)
        return true;
    v->state = FEN__S_READY;
    v->nframes = 0;
    v->reason = FEN__R_NONE;
    v->on = (struct fen__on){.have = -1, .of = -1};
    return true;
}
