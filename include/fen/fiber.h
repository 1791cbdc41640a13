/* fiber.h - spawning and steering fibers. */
#ifndef FEN_FIBER_H
#define FEN_FIBER_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts fn(arg) in a new fiber of the caller's scope; the scope's close waits for it. The child
 * inherits deadline, cancellation and account. Does not block, does not switch. Fibers only.
 * Returns 0, -ENOMEM, or FEN_ELIMIT at fen_config.max_fibers. */
FEN_API int fen_go(void (*fn)(void *arg), void *arg) FEN_MUST_CHECK;

/* The same with a name (borrowed for the fiber's life; a string literal is meant) and a stack of
 * at least so many bytes (up to the default, that; above, rounded up to a page; -EINVAL above
 * 8 MiB). Does not block. */
FEN_API int fen_go_named(const char *name, size_t stack_bytes, void (*fn)(void *arg),
                         void *arg) FEN_MUST_CHECK;

/* Starts a fiber that no scope waits for; it is cancelled when the run ends. The name is required.
 * 0, -EINVAL (no name, or an empty one), -ENOMEM, FEN_ELIMIT. Any thread: outside a fiber
 * FEN_ECLOSED when no runtime runs or it is about to end, FEN_EFORKED in a forked child. A thread
 * starts fibers in a scope by fen/spawner.h. */
FEN_API int fen_go_detached(const char *name, void (*fn)(void *arg), void *arg) FEN_MUST_CHECK;

/* Lets the other ready fibers of this P run first. Fibers only; elsewhere sched_yield. */
FEN_API void fen_yield(void);

/* Sleeps. 0, -ECANCELED when the scope is cancelled, -ETIMEDOUT when the scope's deadline comes
 * before t; -ENOMEM at once, and then the scope may go on: there is no memory for one timer more.
 * until: an absolute time; one that has passed returns at once. Outside a fiber the thread
 * sleeps. */
FEN_API int fen_sleep(int64_t duration_ns);
FEN_API int fen_sleep_until(int64_t t_ns);

/* True inside a fiber; not in a timer's function or a cancel hook. Any thread. */
FEN_API bool fen_in_fiber(void);

/* The fiber's number (from 1, not reused within a run) and name; 0 and "" outside a fiber. */
FEN_API uint64_t fen_fiber_id(void);
FEN_API const char *fen_fiber_name(void);

/* Gives the running fiber another name: borrowed until the fiber ends or is renamed again (a string
 * literal is meant); NULL: none. 0, or FEN_ENOTFIBER. */
FEN_API int fen_fiber_rename(const char *name);

/* A section that may block the thread (a file, SQLite, getaddrinfo). When it lasts, other fibers go
 * on meanwhile on another thread. Costs about 3 ns when it does not. Where sections begun at the
 * same place in the program lately slept 0.1 ms and longer, the fiber is moved to a spare thread
 * first (5 to 50 us), so that nobody waits for it. The thread is the same from the return of the
 * one call to the other; either may return on another thread than it was called on. Between the two
 * no other fen call may be made, except those marked "any thread". Does nothing outside a fiber. */
FEN_API void fen_blocking_begin(void);
FEN_API void fen_blocking_end(void);

#ifdef __cplusplus
}
#endif
#endif
