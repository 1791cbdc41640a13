/* context.h - coroutines without a scheduler: a stack of its own and the switch to it and back. For
 * generators, interpreters and schedulers of one's own; what wants to wait for input, a channel or
 * a time uses fibers (fen/fiber.h).
 *
 * A context runs on the thread, or inside the fiber, that resumes it, always the same one. In it no
 * call of fen may be made that can park: the scheduler knows nothing of its stack. */
#ifndef FEN_CONTEXT_H
#define FEN_CONTEXT_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_context fen_context;

/* A context that will run fn(arg) on a stack of stack_bytes (0: 64 KiB; rounded up to pages; a
 * guard page lies below it). 0, -EINVAL above 8 MiB, -ENOMEM. Any thread, also without a runtime.
 * The caller frees it with fen_context_free. */
FEN_API int fen_context_new(size_t stack_bytes, void (*fn)(void *arg), void *arg,
                            fen_context **ret_context) FEN_MUST_CHECK;

/* Unmaps the stack. The context must not be running; one that is suspended is dropped as it stands:
 * nothing is unwound. NULL is accepted. */
FEN_API void fen_context_free(fen_context *c);

/* Switches to the context and comes back when it suspends itself or fn returns. True: it is
 * suspended and can be resumed; false: fn has returned (resuming again returns false at once).
 * No system call. */
FEN_API bool fen_context_resume(fen_context *c);

/* Inside the context: switches back to whoever resumed it. */
FEN_API void fen_context_suspend(fen_context *c);

#ifdef __cplusplus
}
#endif
#endif
