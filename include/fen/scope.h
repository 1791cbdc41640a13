/* scope.h - structured lifetime: deadline, cancellation, clean-ups, children. A fiber always runs
 * in a scope; what it spawns belongs to that scope, and closing it waits for them. */
#ifndef FEN_SCOPE_H
#define FEN_SCOPE_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_scope fen_scope;

/* 24 bytes of the caller's memory, linked into the scope until it runs. */
typedef struct fen_defer_record {
    void (*fn)(void *arg);
    void *arg;
    struct fen_defer_record *next;
} fen_defer_record;

/* Called once when the scope is cancelled or its deadline passes, on any thread, holding no lock.
 * To the calls it makes it is no fiber; it must be short, and a call that has to wait is an
 * assertion. rc is -ECANCELED or -ETIMEDOUT. */
typedef struct fen_cancel_hook {
    void (*fn)(struct fen_cancel_hook *h, int rc);
    void *arg;
    struct fen_cancel_hook *next, **pprev; /* this and the rest: fen's */
    fen_scope *scope, *home;
} fen_cancel_hook;

/* Opens a scope inside the current one; it becomes the fiber's current scope. deadline_ns is
 * absolute (FEN_NEVER: only the parent's). NULL when out of memory or outside a fiber. */
FEN_API fen_scope *fen_scope_open(int64_t deadline_ns) FEN_MUST_CHECK;

/* Waits for the scope's fibers, runs its deferred clean-ups last-in first-out, which no cancel and
 * no deadline but their own reaches (fen_scope_set_cleanup in defer.h), and makes the parent
 * current. Must be the fiber's current scope. Returns 0, or the
 * reason the scope ended early: -ECANCELED, -ETIMEDOUT. */
FEN_API int fen_scope_close(fen_scope *s);

/* The same, but waits for the scope's fibers until the absolute deadline_ns only (one in the past:
 * does not wait). 0: it is closed, and *ret_rc (ret_rc may be NULL) is what fen_scope_close would
 * have returned. -ETIMEDOUT: fibers are left. Then the scope stays open and current and they run
 * on, cancelled by nobody: go on, cancel them (fen_scope_cancel), and close again in any form, for
 * it must be closed in the end. -ENOMEM: the same, the deadline could not be set. try_: -EAGAIN
 * instead of waiting. Nothing else ends the wait, also no cancel and no deadline of the scope: they
 * end its fibers. The clean-ups run when the fibers have ended, with their own bound, not this one;
 * for fibers that a clean-up spawned it holds again. The fiber's current scope (asserted). */
FEN_API int fen_scope_close_until(fen_scope *s, int64_t deadline_ns, int *ret_rc) FEN_MUST_CHECK;
FEN_API int fen_scope_try_close(fen_scope *s, int *ret_rc) FEN_MUST_CHECK;

/* The fiber's current scope; NULL outside a fiber. */
FEN_API fen_scope *fen_scope_current(void);

/* Cancels the scope and everything below it: each blocking call returns -ECANCELED. Idempotent.
 * Any thread. Does not block. */
FEN_API void fen_scope_cancel(fen_scope *s);

/* The same with a cause, a negative error value (asserted): blocking calls still return -ECANCELED,
 * fen_scope_cause says why. The first cancel of a scope sets its cause, later ones are ignored. Any
 * thread. Does not block. */
FEN_API void fen_scope_cancel_with(fen_scope *s, int rc);

/* Why the scope may not go on: 0 while it may; the cause of the cancel, of the nearest scope
 * upwards that was cancelled (-ECANCELED when none was given); -ETIMEDOUT when only a deadline has
 * passed. NULL: the current scope. Any thread, for a scope that is open. Does not block. */
FEN_API int fen_scope_cause(fen_scope *s);

/* 0 while the scope may go on, else -ECANCELED or -ETIMEDOUT. NULL: the current scope; a scope that
 * is open: any thread, also inside a blocking section. */
FEN_API int fen_scope_check(fen_scope *s);

/* The effective absolute deadline (FEN_NEVER if none). NULL: the current scope. Any thread, for a
 * scope that is open. */
FEN_API int64_t fen_scope_deadline(const fen_scope *s);

/* Moves the scope's own deadline to an earlier absolute time; a later one is ignored. It holds at
 * once for those who wait already. Hooks of the scope and of those inside it are called by then
 * too; for a caller that is no fiber, or in a blocking section, a fiber sees to that, and if none
 * can be had (fen_go_detached says when) they are called at the deadline they had. Any thread, for
 * a scope that is open. Does not block. */
FEN_API void fen_scope_set_deadline(fen_scope *s, int64_t deadline_ns);

/* How a scope begins, so that fen_defer needs no call. All of it is fen's. */
typedef struct fen_scope_face {
    fen_defer_record *defers;
    uintptr_t stack_low; /* of the owner's stack, with its size */
    size_t stack_bytes;
} fen_scope_face;

/* Asserts that the caller is the scope's owner: what fen_defer does when it is not called on the
 * owner's stack, as from a context of the owner's (fen/context.h). */
FEN_API void fen_defer_check(const fen_scope *s);

/* Runs fn(arg) when the scope closes, last in first out, whatever the reason. The record is the
 * caller's and must live until then. The scope's owner only (asserted). Does not block. */
static inline void fen_defer(fen_scope *s, fen_defer_record *r, void (*fn)(void *), void *arg)
{
    fen_scope_face *f = (fen_scope_face *)(void *)s;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (__builtin_expect(here - f->stack_low >= f->stack_bytes, 0))
        fen_defer_check(s);
    r->fn = fn;
    r->arg = arg;
    r->next = f->defers;
    f->defers = r;
}

/* Registers and removes a hook. s is a scope that the calling fiber opened, and its current one
 * when the hook is removed. fen_cancel_hook_add calls the hook at once when the scope has ended
 * already; it returns 0, or -ENOMEM, and then the hook runs on a cancel but not at the deadline.
 * After fen_cancel_hook_del returns the hook is not running and will not run; so not in the hook
 * itself. */
FEN_API int fen_cancel_hook_add(fen_scope *s, fen_cancel_hook *h);
FEN_API void fen_cancel_hook_del(fen_cancel_hook *h);

/* Fibers of s that wait for longer than after_ns give their stack's pages back: the bytes in use
 * are kept in a block of the heap and put back before the fiber goes on, which costs it some
 * microseconds. A fiber that waits so takes about 1 KB instead of 4.4. Holds for the fiber that
 * opened s while s is its current scope, for the fibers of s, present and future, and for scopes
 * opened and fibers spawned inside it from then on. after_ns at least FEN_MS; 0: no longer.
 *
 * It is a promise: while one of these fibers waits, nobody but itself uses memory on its stack.
 * Who does reads zeroes and loses what it writes. fen does not do it and leaves alone a fiber of
 * which it can see that others might: one with live fibers in a scope it opened, with a cancel
 * hook, that has spawned a fiber into another's scope, that waits for an object on its own stack,
 * or in a call on the pool of threads. What it cannot see: the address of a variable given to
 * another fiber, thread or library by other ways (through a channel, into a global list, to
 * io_uring). FEN_DEBUG=hibernate=1 finds it (docs/hibernation.md).
 *
 * s is a scope that the calling fiber opened, NULL: its current one. 0; -EINVAL for a time below
 * FEN_MS, or when the current scope is that of the fiber's parent; FEN_ENOTFIBER. Does not
 * block. */
FEN_API int fen_scope_hibernate(fen_scope *s, int64_t after_ns) FEN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
