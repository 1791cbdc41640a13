/* reclaim.c - one reclaim: what is free all over the heap goes back to the system, in slices.
 *
 * Its order, from the rooms above down to the pages:
 *   hooks      what pools keep becomes free blocks
 *   caches     the calling thread's own at once; the epoch asks every other thread to flush when it
 *              has nothing to do (fen__mem_idle), and near the limit when it next needs a span;
 *              other threads' that have not come for theirs since the last reclaim, or all of them
 *              near the limit and when somebody has asked: what is not in magazines, a few spans at
 *              a time
 *   sets       spans that have become empty, a few at a time
 *   pages      runs of dirty pages, by madvise
 *
 * A slice is what runs without a rest: half the budget of time, then the step under way is ended.
 * No lock is held from one slice to the next, and within one only for a few spans or one run. The
 * steps are sized so that the last one fits the other half: STEP_SPANS, and runs that the kernel
 * takes a quarter of the budget for. A hook's call is a slice of its own, whatever it takes. After
 * a slice the reclaimer rests REST times the processor time it took, so that it takes a quarter of
 * one core at most, and is not set back again by what it had to wait for a processor; near the
 * limit, and when somebody has asked and waits, it does not rest. */
#include "mem/reclaim.h"

#include <string.h>

#define REST 3
#define STEP_SPANS 64
#define VISIT_SPANS 16 /* their blocks may come back one by one, from another core */
#define PAGE_NS 1000   /* about what the kernel takes to give back 8 KiB */

uint32_t fen__flush_epoch;
static struct fen__hist slices;

const struct fen__hist *fen__reclaim_slices(void) { return &slices; }

struct work {
    struct fen__reclaim_cycle *c;
    int64_t budget_ns, from_ns, from_cpu_ns;
    size_t keep_bytes;
    bool rests;
};

static void begin_slice(struct work *w)
{
    w->from_cpu_ns = fen__sys_thread_cpu();
    w->from_ns = fen__sys_now();
}

static void end_slice(void *arg)
{
    struct work *w = arg;
    int64_t ns = fen__sys_now() - w->from_ns;
    fen__hist_record(&slices, ns);
    w->c->slices++;
    w->c->slice_max_ns = fen__max_i64(w->c->slice_max_ns, ns);
    if (w->rests)
        fen__sys_nap(REST * (fen__sys_thread_cpu() - w->from_cpu_ns));
    begin_slice(w);
}

/* What is in use now, and as much of what is free as may stay, is where the next goal starts from:
 * what others take while the rest of this reclaim goes on counts towards it, from any pages. */
static void note(struct work *w)
{
    struct fen__page_stats s;
    fen__pages_stats(&s);
    int64_t kept = (size_t)s.dirty_bytes < w->keep_bytes ? s.dirty_bytes : (int64_t)w->keep_bytes;
    w->c->live_after = fen__ledger_live();
    w->c->held_after = s.used_bytes + kept;
}

static void end_hook(void *arg)
{
    note(arg);
    end_slice(arg);
}

static int64_t until(const struct work *w) { return w->from_ns + w->budget_ns / 2; }

static void sweep_sets(struct work *w)
{
    for (uint32_t set = 0; set < fen__central_sets(); set++)
        for (uint32_t n = fen__central_spans(set); n;) {
            uint32_t step = n < STEP_SPANS ? n : STEP_SPANS;
            w->c->held_after -= (int64_t)fen__central_sweep(set, step);
            n -= step;
            if (fen__sys_now() >= until(w))
                end_slice(w);
        }
}

static void visit(struct fen__cache *c, void *arg)
{
    struct work *w = arg;
    if (c == fen__cache_self())
        return;
    bool busy = !w->rests, more;
    do {
        more = fen__cache_visit(c, VISIT_SPANS, busy);
        busy = false;
        if (fen__sys_now() >= until(w))
            end_slice(w);
    } while (more);
}

static void empty_depot(struct work *w)
{
    struct fen__cache *c = fen__cache_get(false);
    uint32_t shelves = FEN__CLASSES * __atomic_load_n(&fen__nodes, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < shelves; i++)
        while (fen__mag_drain(c, i / FEN__CLASSES, i % FEN__CLASSES))
            if (fen__sys_now() >= until(w))
                end_slice(w);
}

static void give_back(struct work *w)
{
    int64_t pages = w->budget_ns / 4 / PAGE_NS;
    bool more;
    do {
        size_t got =
            fen__pages_release(w->keep_bytes, pages ? (uint32_t)pages : 1, until(w), &more);
        w->c->returned += (int64_t)got;
        end_slice(w);
    } while (more);
}

void fen__reclaim_run(struct fen__reclaim_cycle *c, int64_t budget_ns, size_t keep_bytes)
{
    bool hurry = c->why == FEN__RECLAIM_LIMIT || c->why == FEN__RECLAIM_ASKED;
    struct work w = {.c = c, .budget_ns = budget_ns, .keep_bytes = keep_bytes, .rests = !hurry};
    begin_slice(&w);
    note(&w);
    (void)fen__hooks_call(hurry ? FEN__HOOKS_ALL : FEN__HOOKS_AGED, end_hook, &w);
    __atomic_fetch_add(&fen__flush_epoch, 1, __ATOMIC_RELAXED);
    empty_depot(&w);
    fen__mem_flush();
    fen__cache_each(visit, &w);
    note(&w); /* that may have been most of it */
    sweep_sets(&w);
    give_back(&w);
    if (c->why == FEN__RECLAIM_ASKED) /* a round of another reclaim may have been under way */
        give_back(&w);
}

void fen__reclaim_kept(struct fen__reclaim_cycle *c)
{
    struct work w = {.c = c, .rests = true};
    begin_slice(&w);
    (void)fen__hooks_call(FEN__HOOKS_TIMED, end_slice, &w);
}
