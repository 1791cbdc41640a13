/* context.c - the first frame of a fiber, as the assembly's restore path expects it. */
#include "fiber/fiber.h"

#include <string.h>

void fen__context_entry(void);

#if defined(__x86_64__)
/* From the low end: mxcsr+x87cw, r15, r14, r13, r12, rbx, rbp, return address. */
void *fen__context_init(void *top, void (*fn)(void *), void *arg, uint64_t control)
{
    uint64_t *sp = (uint64_t *)top - 10; /* entry runs with rsp % 16 == 0 before its call */
    memset(sp, 0, 10 * sizeof *sp);
    sp[0] = control;
    sp[3] = (uint64_t)(uintptr_t)arg;                /* r13 */
    sp[4] = (uint64_t)(uintptr_t)fn;                 /* r12 */
    sp[7] = (uint64_t)(uintptr_t)fen__context_entry; /* return address */
    return sp;
}
#elif defined(__aarch64__)
void *fen__context_init(void *top, void (*fn)(void *), void *arg, uint64_t control)
{
    uint64_t *sp = (uint64_t *)top - 24;
    memset(sp, 0, 24 * sizeof *sp);
    sp[0] = (uint64_t)(uintptr_t)fn;                  /* x19 */
    sp[1] = (uint64_t)(uintptr_t)arg;                 /* x20 */
    sp[11] = (uint64_t)(uintptr_t)fen__context_entry; /* x30 */
    sp[20] = control;
    return sp;
}
#endif
