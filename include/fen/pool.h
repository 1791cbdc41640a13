/* pool.h - a bounded pool of resources that are costly to make and must not be shared: connections,
 * database handles. A resource is lent to one fiber at a time, as a record of its current scope:
 * however that scope ends, the resource is settled exactly once. It goes back into the pool only
 * when its user says that all went well; otherwise it is destroyed, so nobody gets a connection
 * with somebody else's reply on its way. For objects without a bound and waiters see objpool.h. */
#ifndef FEN_POOL_H
#define FEN_POOL_H

#include <fen/scope.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_POOL_MAX 65536

typedef struct fen_pool fen_pool;

/* The callbacks run on the fiber whose call needs them, without a lock; they may block, under that
 * fiber's scope, and must not use the pool. */
typedef struct fen_pool_config {
    const char *name; /* for people; borrowed for as long as the pool lives; NULL: none */
    int max;          /* resources at a time, 1 to FEN_POOL_MAX */
    /* Makes a resource: 0 and *ret_resource, or a negative error, which the call returns. */
    int (*make)(void *arg, void **ret_resource);
    void (*destroy)(void *arg, void *resource);
    /* Is a resource that lay in the pool for check_after_ns or longer still of use? A negative
     * error: it is destroyed, and another one is made. NULL: it is. */
    int (*check)(void *arg, void *resource);
    int64_t check_after_ns;
    void *arg;
} fen_pool_config;

/* A resource on loan. Caller's memory, until the scope has closed or it was put back. */
typedef struct fen_lease {
    void *resource; /* read it; all else is fen's */
    fen_defer_record record;
    fen_scope *scope;
    fen_pool *pool; /* NULL: settled */
    int slot;
} fen_lease;

/* A new pool; *config is copied, no resource is made yet. NULL: a malformed config, or no memory.
 * Any thread, does not block. */
FEN_API fen_pool *fen_pool_new(const fen_pool_config *config) FEN_MUST_CHECK;

/* Lends a resource: a free one (the one used last), or a new one while there are fewer than max;
 * else the fiber waits, first come, first served, and gets the resource or the place of whoever is
 * done. One that is woken before its turn, as by a nearer deadline that its scope gets meanwhile,
 * and may wait on comes last again. deadline_ns (absolute) bounds waiting, checking and making
 * together, as the scope does.
 * *ret_lease is settled when it is put back or when the current scope closes, which the calling
 * fiber must have opened itself.
 * 0, or: -EINVAL, the current scope is that of the fiber's parent; -ETIMEDOUT; -ECANCELED;
 * FEN_ECLOSED; FEN_ENOTFIBER; what make has returned. Fibers only. */
FEN_API int fen_pool_get(fen_pool *p, fen_lease *ret_lease) FEN_MUST_CHECK;
FEN_API int fen_pool_get_until(fen_pool *p, int64_t deadline_ns,
                               fen_lease *ret_lease) FEN_MUST_CHECK;
/* Does not wait for another's resource: -EAGAIN. It may block in make. */
FEN_API int fen_pool_try_get(fen_pool *p, fen_lease *ret_lease) FEN_MUST_CHECK;

/* Settles a lease. rc is how its use went: 0 or more, well, and the resource goes back into the
 * pool if the lease's scope may still go on; an error, or a scope that was cancelled or is past its
 * deadline: it is destroyed. A lease that is never put is destroyed when its scope closes, and
 * counted as forgotten. NULL and a settled lease are accepted. The fiber that has it; blocks only
 * in destroy. */
FEN_API void fen_pool_put(fen_lease *lease, int rc);

/* No resource is lent any more, those that wait for one get FEN_ECLOSED, free ones are destroyed;
 * then waits until all that are on loan have come back and those that waited have gone. 0: none of
 * them touches the pool any more; -ETIMEDOUT or -ECANCELED by the scope: some are left, the call
 * may be repeated. Any thread or fiber; blocks. */
FEN_API int fen_pool_close(fen_pool *p);

/* Destroys the free resources and frees the pool. Nobody may use it, and none may be on loan
 * (asserted). NULL is accepted. Any thread; blocks only in destroy. */
FEN_API void fen_pool_free(fen_pool *p);

/* free, lent, waiting: now. The rest: so far. */
typedef struct fen_pool_stats {
    int max, free, lent, waiting; /* lent: also those being made or destroyed */
    int64_t gets;                 /* leases given */
    int64_t waited;               /* of them after a wait */
    int64_t made, destroyed;
    int64_t refused;   /* gets that ended with an error */
    int64_t discarded; /* leases put with an error, or in a scope that had ended */
    int64_t forgotten; /* leases that were never put */
} fen_pool_stats;

/* Any thread, does not block. */
FEN_API void fen_pool_stats_get(fen_pool *p, fen_pool_stats *ret_stats);

/* Who has a resource. */
typedef struct fen_pool_holder {
    void *resource;
    uint64_t fiber;   /* its number, as in dumps */
    char name[40];    /* its name, cut to fit; "": none */
    int64_t since_ns; /* when it got it */
    const void *site; /* return address of the call that did */
} fen_pool_holder;

/* Calls fn for each lease that is out, in no order; fn must not use the pool. Any thread. */
FEN_API void fen_pool_each_holder(fen_pool *p, void (*fn)(void *arg, const fen_pool_holder *h),
                                  void *arg);

#ifdef __cplusplus
}
#endif
#endif
