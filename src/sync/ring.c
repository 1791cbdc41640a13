/* ring.c - a call on a file by io_uring, the fiber parks meanwhile.
 *
 * One thread owns the ring. A call lies in its fiber (fen__g.job):
 *
 *   QUEUED --- the thread pushes it ---> GIVEN --- its answer came ---> DONE, the fiber is woken
 *     '------- the fiber takes it out       '- the scope ends: the thread asks for a cancel
 *
 * All under one lock. A call that was given is waited for, cancelled or not: the kernel may be
 * using the buffer until the answer is there, and the answer to a cancel says nothing about that.
 * After DONE the thread touches nothing of the call; the wake carries the epoch.
 *
 * The thread sleeps in one system call that gives the kernel all that has gathered and waits for
 * an answer. To be woken for new calls it has a read of an eventfd under way; `asleep` is set and
 * the queue looked at under the lock, so of a fiber that queues and a thread that goes to sleep one
 * sees the other, and only the first call after that costs a write. While it works calls gather.
 *
 * Answers never overflow: `owed` counts those that may come (the eventfd's, the calls', the
 * cancels') and stays within the ring's places; what finds none waits in the queue (has_place).
 *
 * Where io_uring is absent, forbidden or too old, the thread says so to whoever waits and ends; the
 * calls go to the pool (offload.c), for the rest of the run.
 *
 * Why not submit from the workers, which saves a switch of threads: the kernel finishes a call on
 * the thread that submitted it. That one may be computing for ever at the lowest class, or sleep in
 * the kernel, and then it would stall the fibers whose calls it submitted; when it ends, its calls
 * are cancelled; and the work would be on the bill of whoever runs there. Kernel-side polling of
 * the queue (SQPOLL) has none of that, but burns a core for milliseconds after each call. */
#include "sync/sync_int.h"
#include "sys/uring.h"

#include <assert.h>
#include <pthread.h>

#define STACK_BYTES (128u << 10)
#define QUESTIONS 256
#define ANSWERS 1024
#define BATCH 64
#define PAUSE (FEN_MS / 4) /* after an error that the kernel may get over */

enum { QUEUED, GIVEN, DONE };
/* Tags that are no call's address. */
enum { TAG_KICK = 1, TAG_CANCEL };

struct op {
    struct op *next, *prev; /* in the queue or, given, in the list of those to be cancelled */
    struct fen__g *g;
    uint64_t epoch;
    const struct fen__uring_call *call;
    int64_t cpu_ns;
    int32_t result;
    int8_t state;
    bool refused; /* not done; the pool shall */
    bool cancel;  /* is, or was, in that list */
};
static_assert(sizeof(struct op) <= FEN__JOB_BYTES, "a call fits into the fiber");

struct list {
    struct op *head, *tail;
};

static struct {
    uint32_t lock;
    bool running, absent, asleep, stop;
    int kick; /* eventfd; the thread's until asleep is first set */
    struct list queue, cancels;
    pthread_t thread;
} ring;

/* The thread's alone. */
static struct {
    struct fen__uring u;
    uint32_t owed;      /* answers that may come */
    bool listening;     /* the eventfd is being read */
    uint64_t kick_word; /* where to */
    int64_t cpu_ns;     /* billed so far */
} own;

/* ---- lists; lock held ---- */

static void append(struct list *l, struct op *o)
{
    o->next = NULL;
    o->prev = l->tail;
    if (l->tail)
        l->tail->next = o;
    else
        l->head = o;
    l->tail = o;
}

static void take_out(struct list *l, struct op *o)
{
    if (o->prev)
        o->prev->next = o->next;
    else
        l->head = o->next;
    if (o->next)
        o->next->prev = o->prev;
    else
        l->tail = o->prev;
}

static bool listed(const struct list *l, const struct op *o) { return o->prev || l->head == o; }

/* ---- the thread ---- */

struct woken {
    struct fen__g *g;
    uint64_t epoch;
};

/* Lock held. The fiber may go on, and the record be another's, as soon as the lock is free. */
static struct woken finish(struct op *o, int result, bool refused)
{
    if (o->cancel && listed(&ring.cancels, o))
        take_out(&ring.cancels, o);
    o->result = result;
    o->refused = refused;
    o->state = DONE;
    return (struct woken){o->g, o->epoch};
}

static void refuse_queued(void)
{
    for (;;) {
        struct woken w;
        fen__lock(&ring.lock);
        struct op *o = ring.queue.head;
        if (o) {
            take_out(&ring.queue, o);
            w = finish(o, 0, true);
        }
        fen__unlock(&ring.lock);
        if (!o)
            return;
        fen__wake(w.g, w.epoch, FEN__BY_SYNC);
    }
}

/* Half of the places are for calls, one for the eventfd and the others for cancels, which must
 * find one when no call is going to be answered. */
static bool has_place(uint64_t tag)
{
    uint32_t all = own.u.cq_entries;
    return own.owed < (tag == TAG_KICK ? all : tag == TAG_CANCEL ? all - 1 : all / 2);
}

static bool push(const struct fen__uring_call *c, uint64_t tag)
{
    if (!has_place(tag) || !fen__uring_push(&own.u, c, tag))
        return false;
    own.owed++;
    return true;
}

static void listen_again(void)
{
    const struct fen__uring_call c = {
        .op = FEN__URING_READ, .fd = ring.kick, .buf = &own.kick_word, .n = sizeof own.kick_word};
    own.listening = own.listening || push(&c, TAG_KICK);
}

/* Lock held. May the thread wait? Not while something is left that could be given as soon as the
 * kernel has taken what is pushed. */
static bool push_all(void)
{
    struct op *o;
    listen_again();
    while ((o = ring.cancels.head)) {
        const struct fen__uring_call c = {.op = FEN__URING_CANCEL, .target = (uintptr_t)o};
        if (!push(&c, TAG_CANCEL))
            break;
        take_out(&ring.cancels, o);
        o->prev = NULL; /* see listed */
    }
    while ((o = ring.queue.head) && push(o->call, (uintptr_t)o)) {
        take_out(&ring.queue, o);
        o->prev = NULL;
        o->state = GIVEN;
    }
    return own.listening && !(ring.cancels.head && has_place(TAG_CANCEL)) &&
           !(ring.queue.head && has_place((uintptr_t)ring.queue.head));
}

/* What the kernel did not take: calls go to the pool, a cancel is left out (its call is waited for
 * all the same). */
static void take_back(void)
{
    uint64_t tag;
    while (fen__uring_unpush(&own.u, &tag)) {
        own.owed--;
        if (tag == TAG_KICK)
            own.listening = false;
        if (tag <= TAG_CANCEL)
            continue;
        fen__lock(&ring.lock);
        struct woken w = finish((struct op *)(uintptr_t)tag, 0, true);
        fen__unlock(&ring.lock);
        fen__wake(w.g, w.epoch, FEN__BY_SYNC);
    }
}

/* Up to BATCH answers that are calls'. */
static int reap(struct op *ret[BATCH], int ret_result[BATCH])
{
    uint64_t tag;
    int result, n = 0;
    while (n < BATCH && fen__uring_reap(&own.u, &tag, &result)) {
        own.owed--;
        if (tag == TAG_KICK)
            own.listening = false;
        if (tag <= TAG_CANCEL)
            continue;
        ret[n] = (struct op *)(uintptr_t)tag;
        ret_result[n++] = result;
    }
    return n;
}

/* All that the thread has used since the last time is shared by the calls that are done now. */
static void answer(struct op *const *o, const int *result, int n)
{
    struct woken w[BATCH];
    int64_t share = (fen__sys_thread_cpu() - own.cpu_ns) / n;
    own.cpu_ns += share * n;
    fen__lock(&ring.lock);
    for (int i = 0; i < n; i++) {
        o[i]->cpu_ns = share;
        w[i] = finish(o[i], result[i], false);
    }
    fen__unlock(&ring.lock);
    for (int i = 0; i < n; i++)
        fen__wake(w[i].g, w[i].epoch, FEN__BY_SYNC);
}

/* False: the run ends; no fiber is left that could have a call. */
static bool turn(void)
{
    struct op *o[BATCH];
    int result[BATCH], n;
    fen__lock(&ring.lock);
    bool wait = push_all(), stop = ring.stop;
    ring.asleep = wait && !stop;
    fen__unlock(&ring.lock);
    if (stop)
        return false;
    int rc = fen__uring_enter(&own.u, wait);
    fen__lock(&ring.lock);
    ring.asleep = false;
    fen__unlock(&ring.lock);
    if (rc)
        take_back();
    while ((n = reap(o, result)) > 0)
        answer(o, result, n);
    if (rc && rc != -EINTR)
        fen__sys_nap(PAUSE);
    return true;
}

static int open_ring(void)
{
    ring.kick = -1;
#ifdef FEN_VALGRIND
    return -ENOSYS; /* memcheck would not know that the kernel has written the buffers */
#endif
    own.cpu_ns = 0;
    own.owed = 0;
    own.listening = false;
    ring.kick = fen__sys_eventfd();
    if (ring.kick < 0)
        return ring.kick;
    uint32_t workers = (uint32_t)fen__max_blocking();
    return fen__uring_open(&own.u, QUESTIONS, ANSWERS, workers);
}

static void *thread_main(void *arg)
{
    (void)arg;
    if (open_ring()) {
        fen__lock(&ring.lock);
        ring.absent = true;
        fen__unlock(&ring.lock);
        refuse_queued(); /* nobody comes after absent */
        return NULL;
    }
    atomic_store(&fen__file_ring, 1);
    while (turn())
        ;
    atomic_store(&fen__file_ring, 0);
    fen__uring_close(&own.u);
    return NULL;
}

static void ring_stop(void)
{
    fen__lock(&ring.lock);
    bool running = ring.running, kick = ring.asleep;
    ring.stop = true;
    fen__unlock(&ring.lock);
    if (kick)
        fen__sys_eventfd_signal(ring.kick);
    if (running) {
        pthread_join(ring.thread, NULL);
        if (ring.kick >= 0) /* not by the thread: it may end before the signal above */
            fen__sys_close(ring.kick);
    }
    ring.running = ring.absent = ring.stop = ring.asleep = false;
}

/* ---- a fiber ---- */

/* RT. False: by the pool. */
static bool submit(struct op *o)
{
    static struct fen__at_end at_end = {.fn = ring_stop};
    fen__run_at_end(&at_end);
    fen__lock(&ring.lock);
    if (!ring.running && !ring.absent)
        ring.running = !fen__sys_thread(&ring.thread, STACK_BYTES, thread_main, NULL);
    bool ok = ring.running && !ring.absent, kick = ok && ring.asleep;
    if (ok)
        append(&ring.queue, o);
    if (kick)
        ring.asleep = false;
    fen__unlock(&ring.lock);
    if (kick)
        fen__sys_eventfd_signal(ring.kick);
    return ok;
}

/* RT. The scope has ended. True: the kernel has not seen it and will not. */
static bool withdraw(struct op *o)
{
    fen__lock(&ring.lock);
    bool mine = o->state == QUEUED, kick = false;
    if (mine)
        take_out(&ring.queue, o);
    if (o->state == GIVEN) {
        o->cancel = true;
        append(&ring.cancels, o);
        kick = ring.asleep;
        ring.asleep = false;
    }
    fen__unlock(&ring.lock);
    if (kick)
        fen__sys_eventfd_signal(ring.kick);
    return mine;
}

/* RT. True: it is done. */
static bool wait_once(struct op *o, struct fen__g *g, int *ret_code)
{
    fen__lock(&ring.lock);
    bool done = o->state == DONE;
    if (!done)
        o->epoch = fen__arm(g);
    fen__unlock(&ring.lock);
    if (!done)
        *ret_code = fen__park(FEN_NEVER, FEN__R_BLOCKING);
    return done;
}

/* RT. 0: it is done; or why the scope has ended, *ret_done: it is done all the same. */
static int wait_for(struct op *o, struct fen__g *g, bool *ret_done)
{
    int code = 0, rc = 0;
    *ret_done = true;
    while (!rc) {
        if (wait_once(o, g, &code))
            return 0;
        rc = fen__code_rc(g, code);
    }
    *ret_done = !withdraw(o);
    g->mask++; /* the kernel has it: nothing but its answer ends the wait */
    while (*ret_done && !wait_once(o, g, &code))
        ;
    g->mask--;
    return rc;
}

static int outcome(const struct op *o, int ended, int *ret_result)
{
    if (o->refused)
        return ended ? ended : FEN__RING_NONE;
    if (o->result == -ECANCELED || o->result == -EINTR)
        return ended ? ended : FEN__RING_NONE; /* not by our wish: once more, on the pool */
    *ret_result = o->result;
    return 0;
}

int fen__ring_call(const struct fen__uring_call *c, int *ret_result)
{
    struct fen__m *m = fen__enter();
    if (!m)
        return FEN__RING_NONE;
    struct fen__g *g = fen__cur(m);
    struct op *o = (struct op *)(void *)g->job;
    *o = (struct op){.g = g, .call = c};
    int rc = fen__limit_rc(g);
    if (!rc && (fen__sim_here() || !submit(o)))
        rc = FEN__RING_NONE;
    if (!rc) {
        bool done;
        rc = wait_for(o, g, &done);
        if (done) {
            fen__charge_extra(fen__self(), o->cpu_ns);
            rc = outcome(o, rc, ret_result);
        }
    }
    fen__leave(fen__self());
    return rc;
}
