/* cold.c - what a stack needs so that its fiber can wait without it: see sched/hibernate.c. */
#include "fiber/fiber.h"
#include "sys/sys.h"

#include <string.h>

size_t fen__stack_used(const struct fen__stack *s, const void *sp)
{
    return (size_t)((const char *)fen__stack_top(s) - (const char *)sp);
}

#if defined(FEN__ASAN) || defined(FEN__TSAN)
/* By words through volatile: else the compiler makes it a memcpy, which the tools intercept. */
__attribute__((no_sanitize("address", "thread"))) void fen__stack_copy(void *to, const void *from,
                                                                       size_t n)
{
    volatile uint64_t *t = to;
    const volatile uint64_t *f = from;
    for (size_t i = 0; i < n / sizeof *t; i++)
        t[i] = f[i];
}
#else
void fen__stack_copy(void *to, const void *from, size_t n) { memcpy(to, from, n); }
#endif

void fen__stack_pages(const struct fen__stack *s, char **ret_at, size_t *ret_bytes)
{
    size_t kept = (s->canary ? 2 : 1) * fen__sys_page_bytes();
    *ret_at = s->low + kept;
    *ret_bytes = s->bytes - kept;
}
