/* fiber.h - stacks and the context switch. No scheduling. */
#ifndef FEN_FIBER_ROOM_H
#define FEN_FIBER_ROOM_H

#include "base/base.h"
#include "fiber/annotate.h"

#include <fen/run.h>

/* ---- context ---- */
void fen__switch(void **save_sp, void *to_sp, uint64_t control);
/* For stacks that call each other by different functions, so that returns cannot be predicted:
 * reads the control words itself, and returns `value` on the other stack. */
bool fen__jump(void **save_sp, void *to_sp, bool value);
/* To a stack that nobody has been on, where fn(arg) begins; fn must not return. top: 16-byte
 * aligned. Where the caller goes on is as after fen__switch. */
void fen__begin(void **save_sp, void *top, uint64_t control, void *arg, void (*fn)(void *arg));
/* Away from a stack for good. Belongs into the outermost function there, behind nothing that was
 * called and has not returned: switch_x86_64.S. */
static inline __attribute__((noreturn)) void fen__resume(void *to_sp, uint64_t control)
{
#if defined(__x86_64__)
    __asm__ volatile("jmp fen__resume" : : "D"(to_sp), "S"(control) : "memory");
#else
    register void *sp __asm__("x0") = to_sp;
    register uint64_t words __asm__("x1") = control;
    __asm__ volatile("b fen__resume" : : "r"(sp), "r"(words) : "memory");
#endif
    __builtin_unreachable();
}
/* The floating-point control words of the caller, for fen__switch: MXCSR, the x87 word above it. */
static inline uint64_t fen__control(void)
{
#if defined(__x86_64__)
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return mxcsr | (uint64_t)x87 << 32;
#else
    uint64_t fpcr; /* for a first frame; the switch reads it itself */
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
#endif
}
static inline void fen__control_set(uint64_t control)
{
#if defined(__x86_64__)
    uint32_t mxcsr = (uint32_t)control;
    uint16_t x87 = (uint16_t)(control >> 32);
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(x87));
#else
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
#endif
}
/* Prepares a stack so that the first switch to the returned pointer calls fn(arg) with these
 * control words. fn must not return. top is 16-byte aligned. */
void *fen__context_init(void *top, void (*fn)(void *arg), void *arg, uint64_t control);

/* ---- stacks ---- */
struct fen__stack {
    char *low;     /* lowest byte of the slot, guard included */
    size_t bytes;  /* of the slot */
    uint32_t slot; /* number in the pool, or UINT32_MAX for a map of its own */
    bool canary;   /* guarded by a pattern, not by a fault */
    char *warn;    /* a stack pointer below this leaves less than a fifth */
};

#define FEN__STACK_COLOURS 16 /* tops start at so many different lines */
#define FEN__CANARY_BYTES 128
#define FEN__PAINT 0xA7 /* byte of a stack that was never used, when painted */

#define FEN__STACK_DEFAULT (64u << 10)
#define FEN__STACK_MAX (8u << 20)

/* Chooses the guard once per run and sets the default size (rounded up to pages, at least 16 KiB).
 * 0, -EINVAL for a size above FEN__STACK_MAX, or -errno when the guard asked for does not work. */
int fen__stack_init(enum fen_guard want, size_t default_bytes);
/* Unmaps every slab. No stack may be in use. */
void fen__stack_fini(void);

/* Is a slot, of the default size, enough for that many bytes? */
bool fen__stack_is_slot(size_t bytes);
/* n more slots exist than have been reserved so far; -ENOMEM. Any thread, as all below. */
int fen__stack_reserve(uint32_t n);
void fen__stack_unreserve(uint32_t n);
/* Up to n slots, at least one for who reserved one; how many. What the caller holds must have been
 * reserved. */
uint32_t fen__stack_take(struct fen__stack *ret, uint32_t n);
void fen__stack_give(const struct fen__stack *s, uint32_t n);
/* A stack of at least bytes in a map of its own. 0, -ENOMEM, -EINVAL. */
int fen__stack_map(size_t bytes, struct fen__stack *ret_stack);
void fen__stack_unmap(struct fen__stack *s);

/* First byte above the usable part, coloured against cache aliasing; lowest usable byte. */
void *fen__stack_top(const struct fen__stack *s);
void *fen__stack_low(const struct fen__stack *s);
/* False when the canary at the low end was overwritten (FEN_GUARD_CANARY; else always true). */
bool fen__stack_intact(const struct fen__stack *s);
/* Is it within the stacks of the default size? */
bool fen__stack_of_some(const void *at);
/* Gives the pages of a dead fiber's stack back to the kernel. */
void fen__stack_release(const struct fen__stack *s);
/* ---- a stack that is copied out while its fiber waits (cold.c) ---- */
/* Bytes in use from the saved stack pointer to the top. */
size_t fen__stack_used(const struct fen__stack *s, const void *sp);
/* Copies n bytes of a stack that nobody runs on, unseen by the sanitizers: they hold redzones. */
void fen__stack_copy(void *to, const void *from, size_t n);
/* The pages that can go once the bytes in use are elsewhere; a canary's page stays. */
void fen__stack_pages(const struct fen__stack *s, char **ret_at, size_t *ret_bytes);

/* Fills a stack that is not in use, so that its deepest use can be seen. */
void fen__stack_paint(const struct fen__stack *s);
int64_t fen__stack_mapped_bytes(void);

#endif
