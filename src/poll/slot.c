/* slot.c - the state of one direction of one descriptor, and the slab of slots.
 *
 *            arm(w)                     event
 *   NONE ------------> w (waiting) ---------------> READY, w handed out for waking
 *    ^  ^                |                            |
 *    |  '--- disarm(w) --'                            | arm / clear consumes
 *    '------------------------------------------------'
 *   NONE --- event ---> READY          anything --- close ---> CLOSED, w handed out
 *
 * Every transition is one CAS on the word. Whoever takes a waiter out of the word is the only one
 * that may wake it: event, deadline (through disarm) and close race for it there. An event sets
 * READY even while it hands out a waiter, as Go's netpoll does: the woken reader consumes it, and a
 * reader whose deadline came first finds it next time.
 *
 * The fiber word carries the fiber's wait epoch, so a waiter taken out late cannot wake a later
 * wait of the same fiber (sched/park.c).
 *
 * Generation: odd while open, bumped at open and close, and part of the epoll data. An event that
 * was in flight when the descriptor was closed and its number reused is dropped. */
#include "poll/poll_int.h"

#include "sys/sys.h"

#define CHUNK_SLOTS 256
#define CHUNKS_MAX 4096 /* 1,048,576 slots */

static struct {
    uint32_t lock;
    struct fen__slot *_Atomic chunk[CHUNKS_MAX];
    uint32_t chunks;
    struct fen__slot *free;
    int64_t open;
} slab;

int64_t fen__poll_open_count(void) { return __atomic_load_n(&slab.open, __ATOMIC_RELAXED); }

struct fen__slot *fen__slot_at(uint32_t index)
{
    struct fen__slot *c = slab.chunk[index / CHUNK_SLOTS]; /* pairs with the store in grow */
    return c + index % CHUNK_SLOTS;
}

/* Lock held. */
static int grow(void)
{
    if (slab.chunks == CHUNKS_MAX)
        return FEN_ELIMIT;
    void *map; /* zeros, on a page: each slot is a line */
    int rc = fen__sys_map(CHUNK_SLOTS * sizeof(struct fen__slot), &map);
    if (rc)
        return rc;
    struct fen__slot *c = map;
    for (uint32_t i = CHUNK_SLOTS; i-- > 0;) {
        c[i].index = slab.chunks * CHUNK_SLOTS + i;
        c[i].next_free = slab.free;
        slab.free = &c[i];
    }
    slab.chunk[slab.chunks++] = c; /* pairs with the load in fen__slot_at */
    return 0;
}

int fen__slot_new(struct fen__slot **ret_slot)
{
    fen__lock(&slab.lock);
    int rc = slab.free ? 0 : grow();
    struct fen__slot *s = slab.free;
    if (!rc) {
        slab.free = s->next_free;
        __atomic_fetch_add(&slab.open, 1, __ATOMIC_RELAXED); /* read without the lock */
    }
    fen__unlock(&slab.lock);
    if (rc)
        return rc;
    s->dir[FEN__READ] = s->dir[FEN__WRITE] = FEN__W_NONE;
    s->hup = false;
    s->drained = false;
    s->gen++;
    *ret_slot = s;
    return 0;
}

void fen__slot_free(struct fen__slot *s)
{
    s->gen++;
    fen__lock(&slab.lock);
    s->next_free = slab.free;
    slab.free = s;
    __atomic_fetch_sub(&slab.open, 1, __ATOMIC_RELAXED);
    fen__unlock(&slab.lock);
}

void fen__slots_fini(void)
{
    for (uint32_t i = 0; i < slab.chunks; i++) {
        fen__sys_unmap(slab.chunk[i], CHUNK_SLOTS * sizeof(struct fen__slot));
        slab.chunk[i] = NULL;
    }
    slab.chunks = 0;
    slab.free = NULL;
    __atomic_store_n(&slab.open, 0, __ATOMIC_RELAXED);
}

int fen__slot_arm(struct fen__slot *s, enum fen__dir d, fen__waiter w)
{
    for (;;) {
        uint64_t old = s->dir[d];
        if (old == FEN__W_CLOSED)
            return -EBADF;
        if (old != FEN__W_NONE && old != FEN__W_READY)
            return -EBUSY;
        uint64_t want = old == FEN__W_READY ? FEN__W_NONE : w;
        if (!atomic_compare_exchange_weak(&s->dir[d], &old, want))
            continue;
        if (want == FEN__W_NONE && d == FEN__READ)
            s->drained = false; /* what the event told must not be forgotten with it */
        return want == FEN__W_NONE;
    }
}

bool fen__slot_disarm(struct fen__slot *s, enum fen__dir d, fen__waiter w)
{
    return atomic_compare_exchange_strong(&s->dir[d], &w, FEN__W_NONE);
}

/* The waiter taken out, or NONE. next is READY or CLOSED. */
fen__waiter fen__slot_fire(struct fen__slot *s, enum fen__dir d, fen__waiter next)
{
    for (;;) {
        uint64_t old = s->dir[d];
        if (old == next || old == FEN__W_CLOSED)
            return FEN__W_NONE;
        if (atomic_compare_exchange_weak(&s->dir[d], &old, next))
            return (old & 3) >= 2 ? old : FEN__W_NONE;
    }
}

bool fen__poll_waiting(void)
{
    fen__lock(&slab.lock);
    uint32_t n = slab.chunks * CHUNK_SLOTS;
    fen__unlock(&slab.lock);
    for (uint32_t i = 0; i < n; i++) {
        struct fen__slot *s = fen__slot_at(i);
        if ((s->dir[FEN__READ] & 3) >= 2 || (s->dir[FEN__WRITE] & 3) >= 2)
            return true;
    }
    return false;
}
