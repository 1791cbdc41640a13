/* poll.h - descriptors and readiness. Returns what became ready; wakes nobody. */
#ifndef FEN_POLL_H
#define FEN_POLL_H

#include "base/base.h"

#include <assert.h>

/* What waits in a slot's direction, one 64-bit word:
 *   ..00 NONE | ..01 READY or CLOSED | ..10 a fiber (id, epoch) | ..11 a hook (pointer)
 * The poller treats the last two as opaque and hands them back. */
typedef uint64_t fen__waiter;
#define FEN__W_NONE UINT64_C(0)
#define FEN__W_READY UINT64_C(1)
#define FEN__W_CLOSED UINT64_C(5)
#define FEN__W_EPOCH_MASK UINT64_C(0x3fffffff)

static inline fen__waiter fen__w_fiber(uint32_t id, uint64_t epoch)
{
    return (uint64_t)id << 32 | (epoch & FEN__W_EPOCH_MASK) << 2 | 2;
}
static inline fen__waiter fen__w_hook(void *hook) { return (uint64_t)(uintptr_t)hook | 3; }
static inline bool fen__w_is_fiber(fen__waiter w) { return (w & 3) == 2; }
static inline bool fen__w_is_hook(fen__waiter w) { return (w & 3) == 3; }

enum fen__dir { FEN__READ, FEN__WRITE };

/* A registered descriptor, a cache line: an event of one does not take its neighbour's line from
 * another core. Slots are never unmapped within a run, so a stale event may look. */
struct fen__slot {
    _Atomic fen__waiter dir[2] FEN__ALIGN(FEN__LINE);
    _Atomic uint32_t gen; /* odd while open; part of the epoll data, so a stale event is dropped */
    int fd;
    bool drained;     /* reader's: the last read took all there was; new bytes bring a new edge */
    _Atomic bool hup; /* the peer has closed its side, or both: read until the end */
    uint32_t index, shard;
    struct fen__slot *next_free;
};
static_assert(sizeof(struct fen__slot) == FEN__LINE, "a slot is a line");

/* Which opening of the slot this is. */
static inline uint32_t fen__slot_gen(const struct fen__slot *s)
{
    return __atomic_load_n((const uint32_t *)&s->gen, __ATOMIC_ACQUIRE);
}

int fen__poll_init(int shards);
void fen__poll_fini(void);
/* One shard more, number i, the next one. 0 or -errno. Not by two threads at once. */
int fen__poll_add_shard(int i) FEN_MUST_CHECK;
/* New descriptors go to the first n shards. */
void fen__poll_use_shards(int n);
/* Who waits on shard `by` collects from shard i too, until released. 0 or -errno; of the callers
 * for one i there is one at a time. */
int fen__poll_adopt(int i, int by);
void fen__poll_release(int i);

/* Registers a non-blocking fd, edge-triggered, with a shard. 0, -ENOMEM, FEN_ENOTFIBER (no run is
 * on), or what epoll says. */
int fen__poll_open(int fd, uint32_t shard, struct fen__slot **ret_slot);

/* A slot for any descriptor, not registered yet: who waits is put into it first. 0, -ENOMEM,
 * FEN_ELIMIT. Given back by fen__poll_free. */
int fen__poll_slot(int fd, uint32_t shard, struct fen__slot **ret_slot);

/* Registers such a slot for the next one of the EPOLL* events only; what holds already is reported
 * at once. May be repeated. The registration stays in the kernel until the descriptor is closed by
 * its owner; when its slot is gone its event is stale and dropped. *ret_fresh: the kernel had none
 * for this descriptor; if there was one under this number, that descriptor has been closed.
 * 0, -EPERM (a file: always ready), -EBADF, or what epoll says. */
int fen__poll_watch(struct fen__slot *s, uint32_t events, bool *ret_fresh);

/* Unregisters; the descriptor itself stays the caller's. Waiters found are returned for waking. In
 * two steps for a slot that others may still be looking at: shut ends every wait in it (-EBADF from
 * then on) while the descriptor is open; free gives the slot back when nobody looks any more. */
void fen__poll_shut(struct fen__slot *s, fen__waiter ret_woken[2]);
void fen__poll_free(struct fen__slot *s);
void fen__poll_close(struct fen__slot *s, fen__waiter ret_woken[2]);

/* Puts w in the direction. 0: it waits. 1: the direction was ready (now consumed).
 * -EBADF: closed. -EBUSY: somebody waits already. */
int fen__slot_arm(struct fen__slot *s, enum fen__dir d, fen__waiter w);

/* Takes w out again. True if it was still there; false if an event or close has taken it. */
bool fen__slot_disarm(struct fen__slot *s, enum fen__dir d, fen__waiter w);

/* Forgets a readiness seen so far; call it before the read whose EAGAIN would lead to a wait. */
static inline void fen__slot_clear(struct fen__slot *s, enum fen__dir d)
{
    if (__atomic_load_n((uint64_t *)&s->dir[d], __ATOMIC_RELAXED) == FEN__W_READY) {
        uint64_t ready = FEN__W_READY;
        __atomic_compare_exchange_n((uint64_t *)&s->dir[d], &ready, FEN__W_NONE, false,
                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    }
}

/* False: a read now would only say EAGAIN. The reader keeps `drained`; an event or the peer's end
 * makes it readable again. */
static inline bool fen__slot_maybe_readable(struct fen__slot *s)
{
    return !s->drained || s->dir[FEN__READ] != FEN__W_NONE || s->hup;
}

#define FEN__POLL_BATCH 128

/* Collects waiters whose descriptor became ready: at most n (two per event). Waits until the
 * deadline (0: not at all). *ret_kicked: fen__poll_kick was called. The count or -errno. */
int fen__poll_wait(uint32_t shard, fen__waiter *ret, int n, int64_t deadline_ns, bool *ret_kicked);

/* Ends a wait on that shard, now or the next one. Any thread. */
void fen__poll_kick(uint32_t shard);

/* Has the shard events that nobody collected? */
bool fen__poll_pending(uint32_t shard);

int64_t fen__poll_open_count(void);
/* Does anything wait in any slot? A look at all of them until one is found. Any thread. */
bool fen__poll_waiting(void);

#endif
