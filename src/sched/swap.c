/* swap.c - from one fiber to the next: what is done before and after each switch, a fiber's first
 * function and its end.
 *
 * Who leaves a stack picks the next fiber and switches; what it asked for (to be queued, to be
 * parked, to be freed) is done on the stack that was switched to, when its context has been saved.
 *
 *   m->prev    who was left; NULL: the M's own stack
 *   m->act     what it asked for
 *
 * All of this is one function for each way to leave a stack. That is not only for the calls' sake:
 * the processor predicts returns by a stack of its own, and a fiber that begins on a jump and ends
 * with one leaves that as it was, so its spawner's returns are predicted (fiber/switch_*.S). */
#include "sched/see.h"

#include "mem/mem.h"

#define PATIENCE_NS (10 * FEN_MS)
#define CONVICT_RUNS 16 /* slices with a short patience after a take for computing */
#define INLINE static inline __attribute__((always_inline))

void (*fen__attached_end)(struct fen__g *g);

/* ---- after ---- */

/* Large frames may step over a canary, into a stack below. Elsewhere below its own the fiber is on
 * the stack of a context (fen_context), of which nothing is known here. */
FEN__NOINLINE static void deep_stack(struct fen__g *g)
{
    bool below = (char *)g->sp < (char *)fen__stack_low(&g->stack);
    if (below && g->stack.canary && fen__stack_of_some(g->sp))
        fen__crash_overflow(g);
    if (!below && !g->deep)
        fen__see_deep(g, (size_t)((char *)fen__stack_top(&g->stack) - (char *)g->sp));
}

INLINE void check_stack(struct fen__g *g)
{
    if (FEN__UNLIKELY((char *)g->sp < g->stack.warn))
        deep_stack(g);
    if (FEN__UNLIKELY(g->stack.canary && !fen__stack_intact(&g->stack)))
        fen__crash_overflow(g);
}

/* Waits for what another fiber holds? Then one more fiber would most likely do the same. */
INLINE void note_jam(struct fen__p *p, const struct fen__g *g)
{
    bool held = g->reason == FEN__R_MUTEX || g->reason == FEN__R_SEM || g->reason == FEN__R_POOL ||
                g->reason == FEN__R_RWLOCK;
    p->jam = held ? p->jam + 1 : 0;
}

/* Apart: they are rare, and the switch below stays small. */
FEN__NOINLINE static void after_rare(struct fen__m *m, struct fen__g *g)
{
    if (m->act == FEN__ACT_SECTION) {
        fen__section_give(m, g);
        return;
    }
    if (atomic_load_explicit(&m->hog, memory_order_relaxed)) /* FEN__ACT_LOST */
        g->convicted = CONVICT_RUNS;
    fen__global_push(g, g, 1);
    fen__wake_p();
}

/* Does what the fiber that switched out asked for; on the stack that was switched to. */
INLINE void after(struct fen__m *m, struct fen__g *g)
{
    switch (m->act) {
    case FEN__ACT_YIELD:
#ifdef FEN_HARD
        fen__global_push(g, g, 1);
        fen__wake_p();
#else
        fen__queue_yielded(m, g);
#endif
        break;
    case FEN__ACT_PARK:
        fen__count_add(&m->tally.parks, 1);
        note_jam(m->p, g);
        if (!fen__commit(g))
            fen__queue_next(m, g);
        break;
    case FEN__ACT_EXIT:
        m->p->jam = 0;
        fen__g_free(m, g);
        if (FEN__UNLIKELY(m->mem && m->mem->far))
            fen__mem_send_home();
        break;
    default: after_rare(m, g);
    }
}

/* First thing on the stack of a fiber that begins or goes on. */
INLINE struct fen__m *arrive(struct fen__annot *self)
{
    struct fen__m *m = fen__self();
    struct fen__g *prev = m->prev;
    fen__annot_arrive(self, prev ? &prev->annot : &m->annot);
    if (prev) {
        check_stack(prev);
        after(m, prev);
    }
    return m;
}

/* ---- before ---- */

FEN__NOINLINE static void set_patience(struct fen__m *m, struct fen__g *g)
{
    m->impatient = g->convicted > 0;
    g->convicted -= m->impatient;
    atomic_store_explicit(&m->patience_ns, m->impatient ? FEN_MS / 2 : PATIENCE_NS,
                          memory_order_relaxed);
}

/* g is the next to run on m. True: it has not been on its stack yet. */
INLINE bool run_begin(struct fen__m *m, struct fen__g *g)
{
    bool begins = !fen__g_begun(g);
    if (m->meter)
        g->wait_ticks += (int64_t)(m->bill.last - g->parked_at);
    if (FEN__UNLIKELY(g->convicted || m->impatient))
        set_patience(m, g);
    if (begins)
        fen__g_bind(m, g);
    else
        fen__hibernate_end(g);
    __atomic_store_n(&m->cur, g, __ATOMIC_RELEASE); /* pairs with the load in stall.c */
    m->who = g->id + 1;
    fen__count_add(&m->tally.switches, 1);
    fen__mem_begin(m->mem, &g->account, m->bill.last);
    return begins;
}

static void fiber_main(void *arg);

/* To a fiber that begins. control: the caller's, with which it goes on. */
INLINE void run_first(struct fen__m *m, struct fen__g *g, void **save_sp, uint64_t control)
{
    if (FEN__UNLIKELY(control != m->control))
        fen__control_set(m->control);
    fen__begin(save_sp, fen__stack_top(&g->stack), control, g, fiber_main);
}

/* From the stack that `self` describes to g's. */
INLINE void run_to(struct fen__m *m, struct fen__g *g, void **save_sp, struct fen__annot *self,
                   uint64_t control)
{
    bool begins = run_begin(m, g);
    fen__annot_leave(self, &g->annot, 0);
    if (begins)
        run_first(m, g, save_sp, control);
    else
        fen__switch(save_sp, g->sp, control);
}

/* From the M's own stack. Fibers switch to each other as long as they find one another quickly;
 * whoever comes back here last is m->prev. */
void fen__run_one(struct fen__m *m, struct fen__g *g)
{
    m->prev = NULL;
    run_to(m, g, &m->g0_sp, &m->annot, fen__control());
    g = m->prev;
    fen__annot_arrive(&m->annot, &g->annot);
    __atomic_store_n(&m->cur, NULL, __ATOMIC_RELAXED);
    m->who = 0;
    check_stack(g);
    after(m, g);
}

/* The fiber's slice ends. Who runs next; NULL: the M's own stack has to look. */
INLINE struct fen__g *leave(struct fen__m *m, struct fen__g *g, enum fen__act act)
{
    fen__charge(m, g);
    __atomic_store_n(&g->parked_at, m->bill.last, __ATOMIC_RELAXED); /* hibernate.c reads it */
    g->alloc_bytes += fen__mem_end(m->mem);
    m->act = act;
    m->prev = g;
    return act == FEN__ACT_LOST ? NULL : fen__find_quick(m);
}

/* ---- a fiber ---- */

/* While the fiber handles exceptions of C++. */
FEN__NOINLINE static void swap_with_caught(struct fen__m *m, enum fen__act act)
{
    struct fen__cxx caught = fen__cxx_take(m->cxx);
    fen__swap(m, act);
    *fen__self()->cxx = caught;
}

/* Leaves the fiber's stack, for that of the next fiber when one is at hand, else for the M's own.
 * Returns when the fiber runs again, perhaps on another M. */
void fen__swap(struct fen__m *m, enum fen__act act)
{
    if (FEN__UNLIKELY(fen__cxx_busy(m->cxx))) {
        swap_with_caught(m, act);
        return;
    }
    struct fen__g *g = m->cur;
    uint64_t control = fen__control(); /* beside the charge's rdtsc it costs nothing */
    struct fen__g *next = leave(m, g, act);
    if (FEN__LIKELY(next != NULL)) {
        run_to(m, next, &g->sp, &g->annot, control);
    } else {
        fen__annot_leave(&g->annot, &m->annot, 0);
        fen__switch(&g->sp, m->g0_sp, control);
    }
    arrive(&g->annot);
}

/* The same for good. */
INLINE void swap_exit(struct fen__m *m, struct fen__g *g)
{
    uint64_t control = fen__control();
    struct fen__g *next = leave(m, g, FEN__ACT_EXIT);
    if (FEN__UNLIKELY(!next)) {
        fen__annot_leave(&g->annot, &m->annot, 1);
        fen__resume(m->g0_sp, control);
    }
    bool begins = run_begin(m, next);
    fen__annot_leave(&g->annot, &next->annot, 1);
    if (!begins)
        fen__resume(next->sp, control);
    run_first(m, next, &g->sp, control); /* saves what nobody will load */
    __builtin_unreachable();
}

/* First function of every fiber. */
static void fiber_main(void *arg)
{
    struct fen__g *g = arg;
    fen__leave(arrive(&g->annot));
    g->fn(g->arg);
    fen_assert(fen__self()); /* NULL: a forked child, which may only exec */
    if (FEN__UNLIKELY(g->locals || g->labels))
        __atomic_load_n(&fen__attached_end, __ATOMIC_RELAXED)(g);
    g->live = FEN__ENDING;
    fen__count_add(&fen__self()->tally.ended, 1); /* before a joiner can look */
    if (g->end)
        g->end(g);
    struct fen__m *m = fen__enter();
    fen_assert(m && g->timer.at < 0);
    swap_exit(m, g);
}
