/* spawner.h - a scope held open for threads that are not fibers, so that they can start fibers in
 * it. What belongs to no scope is started by fen_go_detached, from any thread. */
#ifndef FEN_SPAWNER_H
#define FEN_SPAWNER_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_spawner fen_spawner;

/* Holds the calling fiber's current scope open: its close waits for fen_spawner_close as it waits
 * for a fiber of the scope. Until then no deadlock is reported, as after fen_outsider_begin: who
 * has the handle may still come. 0, -ENOMEM, FEN_ENOTFIBER. Fibers only. The handle may be given to
 * any number of threads. */
FEN_API int fen_spawner_open(fen_spawner **ret_spawner) FEN_MUST_CHECK;

/* Starts fn(arg) in a new fiber of that scope. name as in fen_go_named. 0, -ENOMEM, FEN_ELIMIT;
 * -ECANCELED or -ETIMEDOUT: the scope has ended; FEN_EFORKED. Any thread. Does not block. */
FEN_API int fen_spawner_go(fen_spawner *s, const char *name, void (*fn)(void *arg),
                           void *arg) FEN_MUST_CHECK;

/* Lets the scope go and frees the handle; no other call on it may be under way. NULL is accepted.
 * Any thread. */
FEN_API void fen_spawner_close(fen_spawner *s);

#ifdef __cplusplus
}
#endif
#endif
