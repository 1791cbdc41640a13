/* hooks.c - the rooms that keep something for later use, and are asked to let it go.
 *
 * A list under a lock. A hook's fn runs without the lock, for it may free blocks, and rooms
 * register when they please; `busy` is held instead, so that no two calls run at a time and that
 * who takes a hook out can wait for the end of the call. Who finds it held by another reclaim
 * leaves the hooks to that one: nobody waits for a whole reclaim.
 *
 * Rejected: the lock held across fn (its rank would be below every lock that fn may take). */
#include "mem/heap_int.h"

#define WAIT_NS (50 * FEN_US)

static struct {
    uint32_t lock;
    struct fen__reclaim_hook *first;
    _Atomic uint32_t busy;
} hooks;

void fen__reclaim_register(struct fen__reclaim_hook *h)
{
    fen__lock(&hooks.lock);
    h->next = hooks.first;
    hooks.first = h;
    fen__unlock(&hooks.lock);
}

static bool enter(void)
{
    uint32_t free_word = 0;
    return atomic_compare_exchange_strong(&hooks.busy, &free_word, 1);
}

void fen__reclaim_unregister(struct fen__reclaim_hook *h)
{
    while (!enter())
        fen__sys_nap(WAIT_NS);
    fen__lock(&hooks.lock);
    struct fen__reclaim_hook **at = &hooks.first;
    while (*at && *at != h)
        at = &(*at)->next;
    if (*at)
        *at = h->next;
    fen__unlock(&hooks.lock);
    atomic_store(&hooks.busy, 0);
}

static struct fen__reclaim_hook *after(const struct fen__reclaim_hook *h)
{
    fen__lock(&hooks.lock); /* new ones come in front, and none goes while we are busy */
    struct fen__reclaim_hook *next = h ? h->next : hooks.first;
    fen__unlock(&hooks.lock);
    return next;
}

size_t fen__hooks_call(enum fen__hooks which, void (*each)(void *arg), void *arg)
{
    size_t bytes = 0;
    if (!enter())
        return 0;
    for (struct fen__reclaim_hook *h = after(NULL); h; h = after(h))
        for (h->more = which != FEN__HOOKS_TIMED || h->timed; h->more;) {
            h->more = false;
            bytes += h->fn(h, which == FEN__HOOKS_ALL);
            if (each)
                each(arg);
        }
    atomic_store(&hooks.busy, 0);
    return bytes;
}

void fen__hooks_lock(void) { fen__lock(&hooks.lock); }

void fen__hooks_unlock(bool child)
{
    if (child) /* whoever was asking is not here */
        atomic_store(&hooks.busy, 0);
    fen__unlock(&hooks.lock);
}
