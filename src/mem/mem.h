/* mem.h - memory for the rooms above: blocks from fen's heap, arenas, and the seam through which
 * the scheduler says who pays. */
#ifndef FEN_MEM_H
#define FEN_MEM_H

#include "base/base.h"

#include <fen/arena.h>
#include <fen/mem.h>
#include <fen/pace.h>
#include <fen/profile.h>

/* Blocks. bytes in free and old_bytes in resize must be what was asked for. NULL when out of
 * memory. */
void *fen__mem_alloc(size_t bytes) FEN_MUST_CHECK;
void *fen__mem_calloc(size_t bytes) FEN_MUST_CHECK;
void *fen__mem_resize(void *p, size_t old_bytes, size_t bytes) FEN_MUST_CHECK;
void fen__mem_free(void *p, size_t bytes);
/* For that account rather than for the one that runs: 0 for what outlives the request that happens
 * to need it first. */
void *fen__mem_alloc_for(uint32_t account, size_t bytes) FEN_MUST_CHECK;
void *fen__mem_calloc_for(uint32_t account, size_t bytes) FEN_MUST_CHECK;
/* Calls fn for each account that ever had a block, by number, from one reading of all of them; the
 * sum of their live bytes is the heap's, behind by what is under way. fn may allocate. 0 or
 * -ENOMEM. */
int fen__mem_usage_each(void (*fn)(uint32_t account, const fen_mem_usage *u, void *arg),
                        void *arg) FEN_MUST_CHECK;
/* Bytes of all live blocks of the process, whoever asked for them, as their classes are. */
int64_t fen__mem_live_bytes(void);

/* ---- who pays: for the scheduler ----
 * The allocator copies an id, no more: blocks are charged to `account`. An M has one of these and
 * begins a fiber's slice with the fiber's own id and the TSC, from which byte-seconds are counted.
 * Only the M's thread may touch it. */
struct fen__mem_row;
struct fen__mem_now {
    struct fen__mem_row *row; /* the counters of account on this thread, or zeros that lead to them;
                                 never NULL */
    int64_t gate, fgate;      /* copies of the row's; INT64_MIN: it must be settled first */
    uint64_t now;             /* TSC */
    uint32_t account;
    uint32_t *carrier; /* the fiber's id, kept up to date; NULL: none runs */
    int64_t from;      /* of the row: bytes allocated when the slice began */
    int64_t taken;     /* bytes the slice allocated on other rows */
    uint32_t far;      /* blocks gathered for other nodes; not 0: fen__mem_send_home */
    int64_t sample_at; /* when the row's alloc is above it, the profile notes a block */
};

/* Of the calling thread, which is an M's; NULL: no memory, then its fibers' blocks are charged to
 * account 0. It goes back when the thread ends. */
struct fen__mem_now *fen__mem_attach(void);
void fen__mem_account_use(struct fen__mem_now *n, uint32_t account);

static inline void fen__mem_begin(struct fen__mem_now *n, uint32_t *account, uint64_t tsc)
{
    if (FEN__UNLIKELY(!n))
        return;
    n->now = tsc;
    n->gate = n->fgate = INT64_MIN;
    n->carrier = account;
    if (FEN__UNLIKELY(n->account != *account))
        fen__mem_account_use(n, *account);
    n->from = *(const int64_t *)n->row; /* alloc comes first */
    n->taken = 0;
}

/* Ends the slice: the bytes that it allocated. What follows is account 0's. */
static inline int64_t fen__mem_end(struct fen__mem_now *n)
{
    if (FEN__UNLIKELY(!n))
        return 0;
    int64_t bytes = n->taken + *(const int64_t *)n->row - n->from;
    n->carrier = NULL;
    if (FEN__UNLIKELY(n->account != 0))
        fen__mem_account_use(n, 0);
    return bytes;
}

/* A thread that may sleep for long gives what it keeps to the others. */
void fen__mem_flush(void);
/* The same for one that has nothing to do just now: if there was a reclaim since. */
void fen__mem_idle(void);

/* The calling fiber or thread pays as that account from now on. Without memory to note it, nobody
 * pays: what it allocates is account 0's. */
static inline void fen__mem_pay_as(uint32_t account)
{
    if (fen_mem_account() != account)
        (void)!fen_mem_account_set(account);
}

/* ---- NUMA nodes: for the scheduler (node.c) ---- */
/* There are so many, by fen__sys_nodes_open; before the workers start. */
void fen__mem_nodes(int n);
/* The calling M works for a P of that node from now on: it runs there, and so does its memory.
 * In place of fen__mem_attach, and again whenever the node is another; no fiber may run. */
struct fen__mem_now *fen__mem_enter(int node);
/* The calling thread sends off what it has gathered for other nodes. */
void fen__mem_send_home(void);

/* ---- who holds how much: the heap profile (profile.c) ---- */

#define FEN__PROFILE_FRAMES 32
#define FEN__PROFILE_NAME 32

/* What is known of a running fiber by its account word (fen__mem_now.carrier): its name, NULL if it
 * has none, and the bounds of the stack that it should be on. */
struct fen__mem_fiber {
    const char *name, *low, *top;
};
/* Who tells; NULL: nobody, fibers then have neither name nor more than one frame. */
void fen__profile_fibers(void (*fn)(const uint32_t *carrier, struct fen__mem_fiber *ret));
/* The rate of a run, in bytes; FEN_PROFILE_OFF; 0: the usual one, unless one was set before. */
void fen__profile_begin(int64_t rate);

/* Blocks of one size from one call site for one payer, with what the samples stand for. */
struct fen__profile_entry {
    const void *const *pc; /* return addresses, innermost first; valid for good */
    uint32_t n, account;
    const char *name; /* of the fiber; "" */
    int64_t bytes;    /* of a block */
    int64_t alloc_objects, alloc_bytes, inuse_objects, inuse_bytes;
};
/* Calls fn for each; others may allocate meanwhile, and so may fn. */
void fen__profile_each(void (*fn)(const struct fen__profile_entry *e, void *arg), void *arg);
int64_t fen__profile_lost(void); /* samples there was no memory for */

/* ---- when free memory goes back: for the scheduler (pace.c) ---- */

enum fen__reclaim_why {
    FEN__RECLAIM_GOAL,
    FEN__RECLAIM_IDLE,
    FEN__RECLAIM_LIMIT,
    FEN__RECLAIM_ASKED
};

/* One reclaim, whole. Sizes in bytes; held: the heap's pages, used and free ones that are kept.
 * What others allocated while it ran is not in live_after and held_after. */
struct fen__reclaim_cycle {
    enum fen__reclaim_why why;
    int64_t number, at_ns; /* at: the monotonic clock when it began */
    int64_t live_before, live_after, held_before, held_after;
    int64_t goal; /* of the footprint, for the next one; 0: off */
    int64_t returned;
    int64_t slices, slice_max_ns, took_ns;
};

struct fen__pace_config {
    int percent; /* FEN_MEM_OFF: off */
    int64_t slice_ns, limit_bytes;
    void (*told)(const struct fen__reclaim_cycle *c); /* of each one; NULL: nobody */
};
/* Fills percent, slice_ns and limit_bytes; -EINVAL for another name. */
int fen__pace_profile(const char *name, struct fen__pace_config *ret);
/* How long slices were, in ns. */
struct fen__hist;
const struct fen__hist *fen__reclaim_slices(void);
/* A run begins and ends. In between the heap is paced, by a thread that the first need starts. */
void fen__pace_open(const struct fen__pace_config *cfg);
void fen__pace_close(void);
/* Now and then, by a thread that is awake while anybody works: starts the thread, watches the
 * limit. */
void fen__pace_tick(int64_t now_ns);
int64_t fen__pace_cpu_ns(void); /* of that thread, in this run */

/* ---- what a room keeps for later use, and can let go: hooks.c ----
 * fn is called by each reclaim, one hook after the other and never two calls at a time, on a thread
 * that may be no M's. It lets go of what it kept: of what was not used since the call before, or
 * of all of it, and returns the bytes. It must not park, nor register or unregister. */
struct fen__reclaim_hook {
    struct fen__reclaim_hook *next; /* the list's */
    size_t (*fn)(struct fen__reclaim_hook *h, bool all);
    bool more;  /* set by fn: that was a slice, call at once for the next one */
    bool timed; /* call fn also by time, see fen__reclaim_later */
};
void fen__reclaim_register(struct fen__reclaim_hook *h);
/* For a timed hook that has begun to keep something: while the heap is paced, fn is called (all:
 * false) about FEN__KEPT_NS from now, whatever the heap does. Once for each call of this: fn calls
 * it again while there is anything left. Any thread, also in fn; cheap when it has been asked. */
#define FEN__KEPT_NS (2 * FEN_S)
void fen__reclaim_later(void);
/* When it returns, fn does not run and will not; waits for it, a thread's wait. */
void fen__reclaim_unregister(struct fen__reclaim_hook *h);

/* Frees objects of pools that have been of no use since the last call, all: every free one that is
 * not at another thread's hand. The bytes. Any thread; calls the pools' fini. */
size_t fen__objpool_reclaim(bool all);

#endif
