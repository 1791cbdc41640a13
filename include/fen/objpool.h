/* objpool.h - pools of objects of one type, kept ready for the next user: an object that is costly
 * to build is built once and used many times. For resources with a bound and waiters (connections)
 * see pool.h.
 *
 * Each thread has a few objects at hand, without a lock; what it has too many of, others may take.
 * Any thread, in a fiber or not, inside fen_run or without it. Nothing here parks. Not
 * signal-safe. */
#ifndef FEN_OBJPOOL_H
#define FEN_OBJPOOL_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_OBJPOOLS_MAX 256            /* pools at a time */
#define FEN_OBJPOOL_BYTES_MAX (1 << 20) /* of an object */
#define FEN_OBJPOOL_IDLE 4096           /* fen_objpool_config.idle_max unless set */

typedef struct fen_objpool fen_objpool;

/* The callbacks run on the thread of the call that needs them, without a lock; they must not park,
 * and must not free the pool. */
typedef struct fen_objpool_config {
    const char *name;  /* for people; borrowed for as long as the pool lives; NULL: none */
    size_t size_bytes; /* of an object, 1 to FEN_OBJPOOL_BYTES_MAX */
    /* Called once for each object, when its memory has been taken, which is all zeros. A negative
     * error: there is no object. NULL: nothing to do. */
    int (*init)(void *object, void *arg);
    /* Called before the memory is given back to the heap. NULL: nothing to do. */
    void (*fini)(void *object, void *arg);
    /* Called by each put: brings the object back to what init made of it. NULL: it stays as its
     * user left it. */
    void (*clear)(void *object, void *arg);
    void *arg;
    bool zero;         /* put fills it with zeros: nothing of a user is left for the next one */
    uint32_t idle_max; /* free objects a thread keeps, beyond those at hand; 0: FEN_OBJPOOL_IDLE */
} fen_objpool_config;

/* A new pool; *config is copied. NULL: a malformed config, FEN_OBJPOOLS_MAX pools, or no memory.
 * Any thread. */
FEN_API fen_objpool *fen_objpool_new(const fen_objpool_config *config) FEN_MUST_CHECK;

/* Frees the pool and its objects. Each must have been put back (asserted), and nobody may use it
 * meanwhile. NULL is accepted. Any thread. */
FEN_API void fen_objpool_free(fen_objpool *p);

/* An object, aligned to 16: the one that this thread put back last, else another free one, else a
 * new one. A pool without init, clear and zero hands it out with whatever bytes it has (debug
 * builds fill it with 0xdb). NULL: no memory, or init failed. Its memory is billed to account 0,
 * since it outlives who asked first. */
FEN_API void *fen_objpool_get(fen_objpool *p) FEN_MUST_CHECK;

/* Puts it back, on any thread, once: an object of another pool, or one that is in the pool already,
 * is asserted. Under AddressSanitizer a use after this is found. NULL is accepted. */
FEN_API void fen_objpool_put(fen_objpool *p, void *object);

/* Exact when no other thread uses the pool. */
typedef struct fen_objpool_stats {
    int64_t gets, puts; /* so far */
    int64_t made;       /* objects built so far: gets - made were reused */
    int64_t freed;      /* objects given back to the heap so far */
    int64_t stolen;     /* objects that a thread took from another's free ones */
    int64_t idle;       /* free objects, now */
} fen_objpool_stats;

/* Any thread. */
FEN_API void fen_objpool_stats_get(const fen_objpool *p, fen_objpool_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
