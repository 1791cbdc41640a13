/* debug.h - looking at a program made of fibers: who waits for what, since when. See
 * docs/debugging.md for the rest: SIGQUIT, the deadlock report, gdb. */
#ifndef FEN_DEBUG_H
#define FEN_DEBUG_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Describes every fiber of the running runtime in text, as SIGQUIT does: put gets a few whole
 * lines at a time. Up to 256 fibers have a line each; of more, eight of each kind, and a count.
 * The fibers run on meanwhile, so the text is a snapshot of each, not of all at one moment. 0;
 * -ESRCH: no runtime runs; -ENOMEM. Any thread; blocks it (100,000 fibers: 0.7 s): inside
 * a fiber call it between fen_blocking_begin and fen_blocking_end. put must not park and not
 * call this again. */
FEN_API int fen_debug_fibers(void (*put)(void *arg, const char *text, size_t n), void *arg);

/* Says that something outside fen (a thread, a signal handler, a callback of another library) may
 * wake fibers of this process until fen_outsider_end: meanwhile no deadlock is reported. Not needed
 * once such a thread has woken a fiber of this run (fen notices), nor while a spawner is open
 * (fen/spawner.h). Counted; any thread; does not block. */
FEN_API void fen_outsider_begin(void);
FEN_API void fen_outsider_end(void);

#ifdef __cplusplus
}
#endif
#endif
