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

/* Called once when the scope is cancelled or its deadline passes, on any thread, holding no lock;
 * must not block. rc is -ECANCELED or -ETIMEDOUT. */
typedef struct fen_cancel_hook {
    void (*fn)(struct fen_cancel_hook *h, int rc);
    void *arg;
    struct fen_cancel_hook *next, **pprev; /* this and the rest: fen's */
    fen_scope *scope, *home;
} fen_cancel_hook;

/* Opens a scope inside the current one; it becomes the fiber's current scope. deadline_ns is
 * absolute (FEN_NEVER: only the parent's). NULL when out of memory. Fibers only. */
FEN_API fen_scope *fen_scope_open(int64_t deadline_ns) FEN_MUST_CHECK;

/* Waits for the scope's fibers, runs its deferred clean-ups last-in first-out with cancellation
 * masked, and makes the parent current. Must be the fiber's current scope. Returns 0, or the
 * reason the scope ended early: -ECANCELED, -ETIMEDOUT. */
FEN_API int fen_scope_close(fen_scope *s);

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

/* The effective absolute deadline (FEN_NEVER if none). NULL: the current scope. */
FEN_API int64_t fen_scope_deadline(const fen_scope *s);

/* Moves the scope's own deadline to an earlier absolute time; a later one is ignored. */
FEN_API void fen_scope_set_deadline(fen_scope *s, int64_t deadline_ns);

/* Runs fn(arg) when the scope closes, last in first out, whatever the reason. The record is the
 * caller's and must live until then. */
FEN_API void fen_defer(fen_scope *s, fen_defer_record *r, void (*fn)(void *), void *arg);

/* Registers and removes a hook. s is a scope that the calling fiber opened, and its current one
 * when the hook is removed. fen_cancel_hook_add calls the hook at once when the scope has ended
 * already; it returns 0, or -ENOMEM, and then the hook runs on a cancel but not at the deadline.
 * After fen_cancel_hook_del returns the hook is not running and will not run. */
FEN_API int fen_cancel_hook_add(fen_scope *s, fen_cancel_hook *h);
FEN_API void fen_cancel_hook_del(fen_cancel_hook *h);

#ifdef __cplusplus
}
#endif
#endif
