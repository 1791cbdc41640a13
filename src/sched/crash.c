/* crash.c - names the fiber whose stack ran over, with where it was spawned and what it was doing;
 * and the one that broke a promise.
 *
 * Guarded stacks fault in their lowest page; a stack with a canary faults only when it has run
 * through everything below it, so the stack pointer is looked at too, and the canary whenever the
 * fiber is switched out: then its frames are those of its last park, not of the deepest call.
 * Below the stack there is also what else the fiber runs on, a context or a signal's stack: a fault
 * there is an overflow only where it can be of a frame, however large, or of a push below it.
 * Signal-safe: it reads the M and its fiber, which are this thread's own, and symbol tables.
 *
 * A recursion is long and all alike: the deepest frames and the first ones are shown. */
#include "sched/see.h"

#include <string.h>

#define DEEPEST 8
#define FIRST 8
#define WALK_MAX 100000
#define BELOW_SP                                                                                   \
    (64u << 10) /* a push, the red zone, a probe: less than the lowest address mapped */

/* Frames up to the first one of the fiber; the last FIRST of them in a ring. */
struct frames {
    int n;
    const void *deepest[DEEPEST], *first[FIRST];
};

static void walk(struct frames *f, uintptr_t pc, uintptr_t fp, uintptr_t low, uintptr_t top)
{
    for (f->n = 0; pc && f->n < WALK_MAX;) {
        if (f->n < DEEPEST)
            f->deepest[f->n] = (const void *)pc;
        f->first[f->n++ % FIRST] = (const void *)pc;
        uintptr_t next[2]; /* the stack is mapped there, or the copy says that it is not */
        if (fp < low || fp % 8 || fp + 16 > top ||
            !fen__sys_copy_all(next, (const void *)fp, sizeof next))
            return;
        low = fp + 16;
        fp = next[0];
        pc = next[1];
    }
}

static void put_frames(struct fen__text *t, struct frames *f)
{
    fen__frames_put(t, f->deepest, f->n < DEEPEST ? f->n : DEEPEST);
    int more = f->n - DEEPEST, shown = more < FIRST ? more : FIRST;
    if (more > FIRST) {
        fen__text_put(t, "    ... ");
        fen__text_dec(t, more - FIRST);
        fen__text_put(t, " frames ...\n");
    }
    const void *in_order[FIRST];
    for (int i = 0; i < shown; i++)
        in_order[i] = f->first[(f->n - shown + i) % FIRST];
    fen__frames_put(t, in_order, shown > 0 ? shown : 0);
}

/* bytes: of its stack; 0: not to be told. */
static void put_fiber(struct fen__text *t, const struct fen__g *g, int64_t bytes)
{
    fen__text_put(t, g->name ? g->name : "(no name)");
    fen__text_put(t, " (id ");
    fen__text_dec(t, (int64_t)g->number);
    if (bytes) {
        fen__text_put(t, ", ");
        fen__text_dec(t, bytes);
        fen__text_put(t, " bytes");
    }
    if (g->site) {
        fen__text_put(t, ", spawned at ");
        fen__sys_symbol(t, (const char *)g->site - 1);
    }
    fen__text_put(t, ")");
}

/* sp: how far down it got, which may be far below its stack. */
static size_t describe(const struct fen__g *g, uintptr_t sp, uintptr_t pc, uintptr_t fp, char *ret,
                       size_t n)
{
    const char *top = fen__stack_top(&g->stack), *low = fen__stack_low(&g->stack);
    struct fen__text t = {ret, 0, n};
    struct frames f = {0};
    fen__text_put(&t, "fen: stack overflow in fiber ");
    put_fiber(&t, g, top - low);
    fen__text_put(&t, "\n");
    walk(&f, pc, fp, sp, (uintptr_t)top);
    put_frames(&t, &f);
    return t.n;
}

/* Of a fiber that hibernates, by another one or a thread (hibernate.c). */
static size_t touched(const struct fen__g *g, const struct fen__g *by,
                      const struct fen__sys_fault_at *at, char *ret, size_t n)
{
    struct fen__text t = {ret, 0, n};
    fen__text_put(&t, "fen: the stack of a hibernating fiber was touched: ");
    put_fiber(&t, g, 0);
    fen__text_put(&t, " by ");
    if (by)
        put_fiber(&t, by, 0);
    else
        fen__text_put(&t, "a thread");
    fen__text_put(&t, ", address ");
    fen__text_hex(&t, at->addr);
    fen__text_put(&t, "; its scope promises that nobody does (fen_scope_hibernate)\n");
    const void *pc = (const void *)at->pc;
    fen__frames_put(&t, &pc, 1);
    return t.n;
}

/* The fiber on whose stack this is, in a cancel hook too, which may be in a thread's wait. */
static const struct fen__g *on_fiber(void)
{
    struct fen__m *m = fen__aside() ? fen__aside() : fen__self();
    return m ? m->cur : NULL;
}

static size_t explain(const struct fen__sys_fault_at *at, char *ret, size_t n)
{
    const struct fen__g *g = on_fiber(), *victim = fen__hibernate_victim(at->addr);
    if (victim)
        return touched(victim, g, at, ret, n);
    if (!g || !g->stack.low) /* a waiting thread has none */
        return 0;
    uintptr_t low = (uintptr_t)fen__stack_low(&g->stack), guard = (uintptr_t)g->stack.low;
    bool in_guard = at->addr >= guard && at->addr < low;
    bool below = at->sp < low && at->addr < low && at->addr + BELOW_SP >= at->sp;
    return in_guard || below ? describe(g, at->sp, at->pc, at->fp, ret, n) : 0;
}

/* After the line of a broken promise: the fiber that broke it, and its frames. */
static void who_broke_it(void)
{
    const struct fen__g *g = on_fiber();
    if (!g || !g->stack.low)
        return;
    static char text[FEN__FAULT_TEXT]; /* its stack may be nearly full; one thread comes here */
    struct fen__text t = {text, 0, sizeof text};
    uintptr_t fp = (uintptr_t)__builtin_frame_address(0), at[2];
    struct frames f = {0};
    fen__text_put(&t, "    in fiber ");
    put_fiber(&t, g, 0);
    fen__text_put(&t, "\n");
    if (fen__sys_copy_all(at, (const void *)fp, sizeof at)) /* fen__panic's own frame left out */
        walk(&f, at[1], at[0], fp, (uintptr_t)fen__stack_top(&g->stack));
    put_frames(&t, &f);
    fen__sys_die(text, t.n);
}

void fen__crash_init(void)
{
    fen__sys_fault_install(explain);
    atomic_store(&fen__panic_more, who_broke_it);
}

void fen__crash_overflow(const struct fen__g *g)
{
    char text[FEN__FAULT_TEXT];
    uintptr_t pc, fp;
    if (!fen__saved_frame(g->sp, &pc, &fp))
        pc = fp = 0;
    fen__sys_die(text, describe(g, (uintptr_t)g->sp, pc, fp, text, sizeof text));
}
