/* annotate.h - telling ASan, TSan and Valgrind about stacks that are not a thread's. One place, so
 * that a tool that cannot see a fiber is a bug here and nowhere else. */
#ifndef FEN_FIBER_ANNOTATE_H
#define FEN_FIBER_ANNOTATE_H

#include "base/sanitize.h"

#include <stddef.h>

#ifdef FEN__ASAN
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size);
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#endif
#ifdef FEN__TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

#ifdef FEN_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* What the tools need of one stack. Empty in a plain build. */
struct fen__annot {
#ifdef FEN__ASAN
    void *fake; /* ASan's fake-stack handle while switched out */
    const void *bottom;
    size_t size;
#endif
#ifdef FEN__TSAN
    void *tsan;
#endif
#ifdef FEN_VALGRIND
    unsigned valgrind; /* its number for the stack */
#endif
#if !defined(FEN__ASAN) && !defined(FEN__TSAN) && !defined(FEN_VALGRIND)
    char none[0];
#endif
};

/* A thread's own stack; ASan learns its bounds at the first switch away from it. */
static inline void fen__annot_thread(struct fen__annot *a)
{
    (void)a;
#ifdef FEN__ASAN
    a->fake = NULL;
    a->bottom = NULL;
    a->size = 0;
#endif
#ifdef FEN__TSAN
    a->tsan = __tsan_get_current_fiber();
#endif
}

static inline void fen__annot_new(struct fen__annot *a, void *bottom, size_t size)
{
    (void)a, (void)bottom, (void)size;
#ifdef FEN__ASAN
    a->fake = NULL;
    a->bottom = bottom;
    a->size = size;
    __asan_unpoison_memory_region(bottom, size);
#endif
#ifdef FEN__TSAN
    a->tsan = __tsan_create_fiber(0);
#endif
#ifdef FEN_VALGRIND
    a->valgrind = VALGRIND_STACK_REGISTER(bottom, (char *)bottom + size - 1);
#endif
}

/* The stack will not run again; must not be called on it. */
static inline void fen__annot_end(struct fen__annot *a)
{
    (void)a;
#ifdef FEN__TSAN
    __tsan_destroy_fiber(a->tsan);
    a->tsan = NULL;
#endif
#ifdef FEN_VALGRIND
    VALGRIND_STACK_DEREGISTER(a->valgrind);
#endif
}

/* Just before the switch; dying: `from` never comes back. */
static inline void fen__annot_leave(struct fen__annot *from, struct fen__annot *to, int dying)
{
    (void)from, (void)to, (void)dying;
#ifdef FEN__ASAN
    __sanitizer_start_switch_fiber(dying ? NULL : &from->fake, to->bottom, to->size);
#endif
#ifdef FEN__TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
}

/* First thing after the switch, on the new stack; `from` learns its bounds (a thread's stack). */
static inline void fen__annot_arrive(struct fen__annot *self, struct fen__annot *from)
{
    (void)self, (void)from;
#ifdef FEN__ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self->fake, &bottom, &size);
    if (from && !from->bottom) {
        from->bottom = bottom;
        from->size = size;
    }
#endif
}

#endif
