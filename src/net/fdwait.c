/* fdwait.c - waiting for a descriptor that another library owns.
 *
 * The owner closes it when it likes and tells nobody, so nothing here may outlive one wait except
 * the kernel's own registration, which the kernel drops with the last close:
 *
 *   fen_fd_wait   1 poll(fd): what holds already is returned at once
 *                 2 under the bucket's lock: join the watch of that fd, or begin one; arm the slot
 *                   with the watch's hook; register for the union of what all wait for, one event
 *                   (fen__poll_watch: MOD, else ADD), which reports at once what holds already
 *                 3 park; an event fires the hook, which wakes everybody in the watch; again from
 *                   1, or from 2 after a false alarm
 *                 4 at the end leave the watch, the last one frees it and its slot
 *
 * A fiber stays in its watch from the first wait to the end of the call, so one that was woken and
 * has not yet looked again is told too that the descriptor is forgotten (gone): it looks at that
 * after step 1, since the number may be another's by then.
 *
 * A descriptor that fen itself opens is registered for good (fen__poll_open), and step 2 of who
 * waits for an older one of that number would take that registration over. So whoever opens one
 * forgets the number first (fen__fd_new).
 *
 * Step 2 comes after the fiber is in the list and asks the kernel anew each time, so no event is
 * lost; and it makes the kernel say whether this number still is the descriptor that was
 * registered. When it is not (MOD finds nothing), the fibers in an older watch of that number wait
 * for a descriptor that is gone: they get -EBADF, and the watch is unhooked from the table.
 * Registrations are never deleted: a DEL by number could hit a new descriptor that somebody else
 * registered. One whose slot is gone reports once, is dropped by its generation, and is silent from
 * then on (EPOLLONESHOT).
 *
 * A descriptor always uses the same shard, or MOD would not find it. Watches are slab memory that
 * is never unmapped: an event may hand the same hook out for both directions, and the second may
 * come when the watch is another's already; it then wakes fibers that look and wait again. It holds
 * the lock of the watch's bucket (home) meanwhile, so a watch moves to another bucket under the
 * lock of the old one (begin). */
#include "mem/pool.h"
#include "net/net_int.h"

#include <fen/io.h>

#include <poll.h>

#define BUCKETS 64
#define EVENTS (FEN_FD_READ | FEN_FD_WRITE)

struct watch;

struct bucket {
    uint32_t lock FEN__ALIGN(FEN__LINE);
    struct watch *list; /* of descriptors that are waited for */
};

struct watch {
    struct fen__hook hook; /* first: its address is the waiter's word */
    struct watch *next;    /* in its bucket, or free */
    struct fen__slot *slot;
    struct fen__node *waiters;
    int fd, users;       /* fibers between join and leave */
    bool gone;           /* not in its bucket: the descriptor was forgotten or replaced */
    struct bucket *home; /* atomic: changes with fd, in a new use, under the old one's lock */
} FEN__ALIGN(8);

static struct bucket table[BUCKETS];

static struct bucket *bucket_of(int fd) { return &table[(unsigned)fd % BUCKETS]; }

/* ---- memory ---- */

static void fire(struct fen__hook *h);

/* Once: a late event reads them in any later use too. */
static void made(void *record)
{
    struct watch *w = record;
    w->hook.fire = fire;
    w->home = table;
}

static struct fen__pool pool = FEN__POOL(struct watch, next, 32, made);

/* ---- a watch; its bucket's lock is held ---- */

static void list_remove(struct watch *w, struct fen__node *n)
{
    if (n->queue != w)
        return;
    if (n->prev)
        n->prev->next = n->next;
    else
        w->waiters = n->next;
    if (n->next)
        n->next->prev = n->prev;
    n->queue = NULL;
}

static void list_add(struct watch *w, struct fen__node *n)
{
    n->queue = w;
    n->prev = NULL;
    n->next = w->waiters;
    if (n->next)
        n->next->prev = n;
    w->waiters = n;
}

/* A wake is a compare-and-swap and a place in a run queue: short enough for the lock. */
static void wake_all(struct watch *w, int code)
{
    struct fen__node *n;
    while ((n = w->waiters)) {
        list_remove(w, n);
        fen__wake(n->g, n->epoch, code);
    }
}

/* Takes the lock of the watch's bucket, which may be another by the time it is held. */
static struct bucket *lock_home(struct watch *w)
{
    for (;;) {
        struct bucket *b = __atomic_load_n(&w->home, __ATOMIC_ACQUIRE); /* pairs with begin */
        fen__lock(&b->lock);
        if (b == __atomic_load_n(&w->home, __ATOMIC_RELAXED))
            return b;
        fen__unlock(&b->lock);
    }
}

/* On a worker's own stack (RT). */
static void fire(struct fen__hook *h)
{
    struct watch *w = FEN__CONTAINER(h, struct watch, hook);
    struct bucket *b = lock_home(w);
    wake_all(w, FEN__BY_IO);
    fen__unlock(&b->lock);
}

static void unhook(struct bucket *b, struct watch *w)
{
    struct watch **at = &b->list;
    while (*at != w)
        at = &(*at)->next;
    __atomic_store_n(at, w->next, __ATOMIC_RELAXED);
    w->gone = true;
}

static struct watch *find(struct bucket *b, int fd)
{
    struct watch *w = b->list;
    while (w && w->fd != fd)
        w = w->next;
    return w;
}

/* A watch for fd, in no list yet. Called without a lock: it takes that of the bucket which the
 * record's last use was in, for an event of then may be at work in it. */
static struct watch *begin(int fd)
{
    struct watch *w = fen__pool_get(&pool);
    if (!w)
        return NULL;
    struct bucket *old = lock_home(w);
    w->slot = NULL;
    w->waiters = NULL;
    w->fd = fd;
    w->users = 0;
    w->gone = false;
    __atomic_store_n(&w->home, bucket_of(fd), __ATOMIC_RELEASE); /* pairs with lock_home */
    fen__unlock(&old->lock);
    return w;
}

static void hook_in(struct bucket *b, struct watch *w)
{
    w->next = b->list;
    __atomic_store_n(&b->list, w, __ATOMIC_RELEASE);
}

static void arm(struct watch *w)
{
    for (int d = FEN__READ; d <= FEN__WRITE; d++)
        while (fen__slot_arm(w->slot, d, fen__w_hook(&w->hook)) > 0)
            ; /* 1: an old readiness was consumed; -EBUSY: armed already */
}

/* The hook is in the slot before the kernel is asked, so an event always finds it. */
static int registered(struct watch *w, bool *ret_fresh)
{
    uint32_t events = 0;
    for (const struct fen__node *n = w->waiters; n; n = n->next)
        events |= (uint32_t)n->index;
    int rc = w->slot ? 0 : fen__poll_slot(w->fd, (uint32_t)w->fd, &w->slot);
    if (rc)
        return rc;
    arm(w);
    return fen__poll_watch(w->slot, events, ret_fresh);
}

/* ---- one fiber's wait (RT) ---- */

static void forsake(struct watch *w)
{
    if (w->slot)
        fen__poll_free(w->slot);
    fen__pool_put(&pool, w);
}

static void leave(struct watch *w, struct fen__g *g)
{
    struct bucket *b = bucket_of(w->fd);
    fen__lock(&b->lock);
    list_remove(w, &g->node);
    bool last = --w->users == 0;
    if (last && !w->gone)
        unhook(b, w);
    fen__unlock(&b->lock);
    if (last)
        forsake(w);
}

/* Takes the lock of fd's bucket and readies g's node, which a wait that ended for nothing may have
 * left in the watch. */
static struct bucket *lock_for(int fd, struct fen__g *g, int events, struct watch *mine)
{
    struct bucket *b = bucket_of(fd);
    fen__lock(&b->lock);
    if (mine)
        list_remove(mine, &g->node);
    g->node.g = g;
    g->node.index = events;
    g->node.epoch = atomic_load_explicit(&g->wait, memory_order_relaxed) >> 16;
    return b;
}

/* Again, in the watch that g is in already. -EBADF: it waits for a descriptor that is gone. */
static int rejoin(struct watch *w, struct fen__g *g, int events)
{
    bool fresh = false;
    struct bucket *b = lock_for(w->fd, g, events, w);
    int rc = w->gone ? -EBADF : 0;
    if (!rc) {
        list_add(w, &g->node);
        rc = registered(w, &fresh);
        if (fresh || rc == -EPERM) /* a file is never registered */
            rc = -EBADF;
        if (rc == -EBADF) {
            list_remove(w, &g->node);
            unhook(b, w);
            wake_all(w, FEN__BY_CLOSE);
        }
    }
    fen__unlock(&b->lock);
    return rc;
}

/* The watch of fd with g in its list. When the registration turns out to be new although the watch
 * is not, the others in it wait for a descriptor that is gone: g begins a watch of its own. */
static int join(int fd, struct fen__g *g, int events, struct watch **ret_watch)
{
    struct watch *mine = begin(fd);
    struct bucket *b = lock_for(fd, g, events, NULL);
    struct watch *w = find(b, fd);
    for (int rc;;) {
        bool old = w != NULL, fresh = false;
        if (!old && !mine) {
            fen__unlock(&b->lock);
            return -ENOMEM;
        }
        if (!old) {
            w = mine;
            mine = NULL; /* used once at most: only an old watch is replaced */
            hook_in(b, w);
        }
        list_add(w, &g->node);
        rc = registered(w, &fresh);
        if (rc == -EBADF || (old && fresh)) {
            list_remove(w, &g->node);
            unhook(b, w);
            wake_all(w, FEN__BY_CLOSE);
            if (!old)
                forsake(w);
            w = NULL;
            if (!rc)
                continue;
        }
        if (w)
            w->users++;
        fen__unlock(&b->lock);
        if (mine)
            fen__pool_put(&pool, mine);
        *ret_watch = w;
        return rc;
    }
}

static bool is_gone(struct watch *w)
{
    struct bucket *b = bucket_of(w->fd);
    fen__lock(&b->lock);
    bool gone = w->gone;
    fen__unlock(&b->lock);
    return gone;
}

/* *at: the watch that the fiber is in, NULL at first. *ret_told: an event has come. */
static int wait_once(int fd, int events, int64_t deadline_ns, struct watch **at, bool *ret_told)
{
    struct fen__g *g = fen__cur(fen__self());
    fen__arm(g);
    int rc = *at ? rejoin(*at, g, events) : join(fd, g, events, at);
    if (rc) {
        fen__unarm(g);
        return rc == -EPERM ? 0 : rc;
    }
    g->on = (*at)->slot; /* which is theirs as long as one of them is parked */
    int code = fen__park(deadline_ns, FEN__R_FD);
    *ret_told = code == FEN__BY_IO;
    return fen__code_rc(g, code);
}

static int fd_wait(int fd, int events, int64_t deadline_ns)
{
    struct watch *w = NULL;
    bool look = true; /* not after a false alarm: the number may be another's, which step 2 tells */
    int rc;
    do {
        rc = look ? fen__sys_poll(fd, events, 0) : 0;
        if (w && is_gone(w)) /* after the look, which may have been at another descriptor */
            rc = -EBADF;
        if (!rc)
            rc = fen__limit_rc(fen__cur(fen__self()));
        if (!rc)
            rc = deadline_ns == 0 ? -EAGAIN : wait_once(fd, events, deadline_ns, &w, &look);
    } while (!rc);
    if (w)
        leave(w, fen__cur(fen__self()));
    return rc;
}

int fen_fd_wait(int fd, int events, int64_t deadline_ns)
{
    if (fd < 0)
        return -EBADF;
    if (!(events & EVENTS) || events & ~EVENTS)
        return -EINVAL;
    if (!fen__enter()) {
        int got = fen__sys_poll(fd, events, 0);
        if (!got && !fen__sys_past(deadline_ns)) {
            fen__aside_waits();
            got = fen__sys_poll(fd, events, deadline_ns);
        }
        return got ? got : deadline_ns ? -ETIMEDOUT : -EAGAIN;
    }
    int rc = fd_wait(fd, events, deadline_ns);
    fen__leave(fen__self());
    return rc;
}

static void forget(int fd)
{
    struct fen__m *m = fen__enter_any();
    struct bucket *b = bucket_of(fd);
    fen__lock(&b->lock);
    struct watch *w = find(b, fd);
    if (w) {
        unhook(b, w);
        wake_all(w, FEN__BY_CLOSE);
    }
    fen__unlock(&b->lock);
    fen__leave_any(m);
}

void fen_fd_forget(int fd)
{
    if (fd >= 0)
        forget(fd);
}

/* Without the lock: who waits for the old descriptor came before its number was free again. */
void fen__fd_new(int fd)
{
    if (FEN__UNLIKELY(__atomic_load_n(&bucket_of(fd)->list, __ATOMIC_ACQUIRE) != NULL))
        forget(fd);
}
