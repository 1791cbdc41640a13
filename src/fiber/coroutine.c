/* coroutine.c - fen/context.h: the switch of the fibers, for code outside the scheduler.
 *
 * States: ready (never ran) -> running <-> suspended -> ended. Resume and suspend are each one
 * fen__jump; the context's record lies in the heap, not on its stack, so that a stack which runs
 * over meets the guard page and nothing else. The stacks are not those of the pool: that one lives
 * as long as a run does. */
#include "fiber/cxx.h"
#include "fiber/fiber.h"

#include "mem/mem.h"
#include "sys/sys.h"

#include <fen/context.h>

struct fen_context {
    void *sp, *caller_sp;
    void (*fn)(void *arg);
    void *arg;
    bool ended;
    char *map;
    size_t map_bytes;
    struct fen__annot annot, caller_annot;
};

static void entry(void *arg)
{
    fen_context *c = arg;
    fen__annot_arrive(&c->annot, &c->caller_annot);
    c->fn(c->arg);
    c->ended = true;
    fen__annot_leave(&c->annot, &c->caller_annot, 1);
    fen__jump(&c->sp, c->caller_sp, false);
    __builtin_unreachable(); /* resume refuses an ended context */
}

int fen_context_new(size_t stack_bytes, void (*fn)(void *arg), void *arg, fen_context **ret_context)
{
    size_t page = fen__sys_page_bytes();
    if (stack_bytes > FEN__STACK_MAX)
        return -EINVAL;
    if (!stack_bytes)
        stack_bytes = FEN__STACK_DEFAULT;
    fen_context *c = fen__mem_calloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    c->fn = fn;
    c->arg = arg;
    c->map_bytes = ((stack_bytes + page - 1) & ~(page - 1)) + page;
    void *map;
    int rc = fen__sys_map(c->map_bytes, &map);
    if (!rc) {
        c->map = map;
        rc = fen__sys_guard_mprotect(map, page);
    }
    if (rc) {
        if (c->map)
            fen__sys_unmap(c->map, c->map_bytes);
        fen__mem_free(c, sizeof *c);
        return -ENOMEM;
    }
    fen__annot_new(&c->annot, c->map + page, c->map_bytes - page);
    c->sp = fen__context_init(c->map + c->map_bytes, entry, c, fen__control());
    *ret_context = c;
    return 0;
}

void fen_context_free(fen_context *c)
{
    if (!c)
        return;
    fen__annot_end(&c->annot);
    fen__sys_unmap(c->map, c->map_bytes);
    fen__mem_free(c, sizeof *c);
}

/* Does it go on after this? The switch is the last thing in here and in who calls it, except where
 * a sanitizer is told. */
static inline bool into(fen_context *c)
{
    fen__annot_thread(&c->caller_annot); /* whoever it is this time */
    fen__annot_leave(&c->caller_annot, &c->annot, 0);
    bool goes_on = fen__jump(&c->caller_sp, c->sp, true);
    fen__annot_arrive(&c->caller_annot, NULL);
    return goes_on;
}

static inline bool out_of(fen_context *c)
{
    fen__annot_leave(&c->annot, &c->caller_annot, 0);
    bool value = fen__jump(&c->sp, c->caller_sp, true);
    fen__annot_arrive(&c->annot, &c->caller_annot);
    return value;
}

/* The same while exceptions are being handled. */
FEN__NOINLINE static bool with_caught(bool (*go)(fen_context *c), fen_context *c)
{
    struct fen__cxx caught = fen__cxx_take(fen__cxx_now());
    bool value = go(c);
    *fen__cxx_now() = caught; /* perhaps another thread's */
    return value;
}

static inline bool caught_any(void)
{
    struct fen__cxx *now = fen__cxx_now();
    return FEN__UNLIKELY(now != NULL) && fen__cxx_busy(now);
}

bool fen_context_resume(fen_context *c)
{
    if (FEN__UNLIKELY(c->ended))
        return false;
    if (FEN__UNLIKELY(caught_any()))
        return with_caught(into, c);
    return into(c);
}

void fen_context_suspend(fen_context *c)
{
    if (FEN__UNLIKELY(caught_any()))
        with_caught(out_of, c);
    else
        out_of(c);
}
