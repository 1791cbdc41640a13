/* crash.c - names the fiber whose stack ran over.
 *
 * Guarded stacks fault in their lowest page; a stack with a canary faults only when it has run
 * through everything below it, so the stack pointer is looked at too, and the canary whenever the
 * fiber is switched out. Signal-safe: it reads the M and its fiber, which are this thread's own. */
#include "sched/sched_int.h"

#include <string.h>

static size_t put_text(char *at, size_t left, const char *s)
{
    size_t n = strlen(s);
    n = n < left ? n : left;
    memcpy(at, s, n);
    return n;
}

static size_t put_number(char *at, size_t left, uint64_t v)
{
    char digits[21];
    size_t d = sizeof digits;
    digits[--d] = 0;
    do
        digits[--d] = (char)('0' + v % 10);
    while (v /= 10);
    return put_text(at, left, digits + d);
}

static size_t describe(const struct fen__g *g, char *ret, size_t n)
{
    const char *top = fen__stack_top(&g->stack), *low = fen__stack_low(&g->stack);
    size_t at = put_text(ret, n, "fen: stack overflow in fiber ");
    at += put_text(ret + at, n - at, g->name ? g->name : "(no name)");
    at += put_text(ret + at, n - at, " (id ");
    at += put_number(ret + at, n - at, g->number);
    at += put_text(ret + at, n - at, ", ");
    at += put_number(ret + at, n - at, (uint64_t)(top - low));
    return at + put_text(ret + at, n - at, " bytes)\n");
}

static size_t explain(const void *addr, const void *sp, char *ret, size_t n)
{
    struct fen__m *m = fen__self();
    const struct fen__g *g = m ? m->cur : NULL;
    if (!g || !g->stack.low) /* a waiting thread has none */
        return 0;
    const char *low = fen__stack_low(&g->stack), *guard = g->stack.low;
    bool in_guard = (const char *)addr >= guard && (const char *)addr < low;
    bool below = (const char *)sp < low && (const char *)addr < low;
    return in_guard || below ? describe(g, ret, n) : 0;
}

void fen__crash_init(void) { fen__sys_fault_install(explain); }

void fen__crash_overflow(const struct fen__g *g)
{
    char text[256];
    fen__sys_die(text, describe(g, text, sizeof text));
}
