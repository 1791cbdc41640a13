/* timer.c - timers for users: to a channel, or a function.
 *
 * The scheduler takes a due timer out of its heap, lets the heap's lock go and then calls fire with
 * the sequence number that it was armed with. In between anything may happen to the timer:
 *
 *              start                    heap            fire, same seq
 *   STOPPED ----------> ARMED ----------------> POPPED ---------------> delivered, STOPPED
 *      ^                  | stop, start: out of    | stop, start: seq + 1, late + 1    (a ticker:
 *      '------------------' the heap               '--> fire, other seq: late - 1       ARMED)
 *
 * armed says ARMED or POPPED; active that stop has something to prevent (a ticker stays active
 * while its function runs). Who stops an armed timer and does not find it in the heap knows that
 * one firing is on its way: late counts those, and free waits for them.
 *
 * Delivery is a try_send to a channel of one, under the timer's lock; stop and start take back what
 * was not received under the same lock. So a value received after stop cannot be of before.
 *
 * Locks: the timer's, then the heap's, the channel's. fn runs under none. test/model/timer_test.c
 * explores fire, stop and free. Rejected: a fiber for each timer (a stack for a heap entry);
 * running fn in a fiber of the scheduler's choice (out of memory at the wrong moment, and no scope
 * to belong to). */
#include "sync/chan_int.h"

#include "mem/mem.h"

#include <fen/timer.h>

struct fen_timer {
    uint32_t lock;
    uint32_t late; /* firings on their way with an old seq */
    bool armed, active;
    uint64_t seq;
    int64_t when_ns, period_ns; /* period 0: once */
    struct fen__m *running;     /* the worker inside fn */
    fen_chan *c;
    void (*fn)(void *arg);
    void *arg;
    struct fen__timer timer;
};

static void fire(void *timer, uint64_t seq);

static void pause_unlocked(fen_timer *t)
{
    fen__unlock(&t->lock);
    fen__sys_nap(FEN_US);
    fen__lock(&t->lock);
}

/* ---- transitions; lock held ---- */

/* True: nobody has got the firing, and nobody will. */
static bool disarm(fen_timer *t)
{
    bool was = t->active;
    if (t->armed && !fen__timer_del(&t->timer))
        t->late++;
    t->armed = t->active = false;
    t->seq++;
    while (t->c && fen_chan_try_recv(t->c, NULL) == 0)
        was = true;
    return was;
}

static int arm(fen_timer *t, int64_t when_ns)
{
    int rc = fen__timer_add(&t->timer, when_ns, fire, t, t->seq);
    t->when_ns = when_ns;
    t->armed = t->active = rc == 0;
    return rc;
}

/* The next tick after now, in step with the first. */
static void arm_next(fen_timer *t)
{
    int64_t now = fen__sys_now(), behind = now - t->when_ns;
    int64_t ahead = t->period_ns - (behind > 0 ? behind % t->period_ns : 0);
    int64_t from = fen__max_i64(now, t->when_ns);
    if (arm(t, from > FEN_NEVER - ahead ? FEN_NEVER : from + ahead) && t->c)
        (void)fen_chan_close(t->c);
}

/* A firing may go on: it is the one that was armed. */
static bool is_true(fen_timer *t, uint64_t seq)
{
    if (seq == t->seq)
        return true;
    t->late--;
    return false;
}

/* ---- firing, on a worker's own stack ---- */

static void deliver(fen_timer *t)
{
    int64_t now = fen__sys_now();
    t->armed = t->active = false;
    (void)fen_chan_try_send(t->c, &now); /* full: the tick is dropped */
    if (t->period_ns)
        arm_next(t);
}

static void call(fen_timer *t, uint64_t seq)
{
    while (t->running) { /* an earlier firing, on another worker */
        pause_unlocked(t);
        if (!is_true(t, seq))
            return;
    }
    t->armed = false;
    t->active = t->period_ns != 0;
    t->running = fen__self();
    fen__unlock(&t->lock);
    struct fen__m *m = fen__aside_begin();
    t->fn(t->arg);
    fen__aside_end(m);
    fen__lock(&t->lock);
    t->running = NULL;
    if (seq == t->seq && t->period_ns)
        arm_next(t);
}

static void fire(void *timer, uint64_t seq)
{
    fen_timer *t = timer;
    fen__lock(&t->lock);
    if (is_true(t, seq)) {
        if (t->c)
            deliver(t);
        else
            call(t, seq);
    }
    fen__unlock(&t->lock);
}

/* ---- the calls ---- */

static int start(fen_timer *t, int64_t when_ns, int64_t period_ns)
{
    struct fen__m *m = fen__enter(), *aside = m ? NULL : fen__aside();
    if (!m && !aside)
        return FEN_ENOTFIBER;
    if (aside)
        fen__set_self(aside); /* in fn: inside the guarded section */
    fen__lock(&t->lock);
    bool was = disarm(t);
    t->period_ns = period_ns;
    int rc = arm(t, fen__max_i64(when_ns, 0)); /* a difference to now does not overflow */
    fen__unlock(&t->lock);
    if (aside)
        fen__set_self(NULL);
    else
        fen__leave(fen__self());
    return rc ? rc : was;
}

int fen_timer_start(fen_timer *t, int64_t when_ns) { return start(t, when_ns, 0); }

int fen_timer_every(fen_timer *t, int64_t first_ns, int64_t period_ns)
{
    return period_ns < 1 ? -EINVAL : start(t, first_ns, period_ns);
}

int fen_timer_stop(fen_timer *t)
{
    struct fen__m *m = fen__enter_any();
    fen__lock(&t->lock);
    bool was = disarm(t);
    while (t->running && t->running != fen__aside())
        pause_unlocked(t);
    fen__unlock(&t->lock);
    fen__leave_any(m);
    return was;
}

fen_chan *fen_timer_chan(fen_timer *t) { return t->c; }

static fen_timer *make(void)
{
    fen_timer *t = fen__mem_calloc(sizeof *t);
    if (t)
        t->timer.at = -1;
    return t;
}

/* Not inlined, as fen_chan_new. */
FEN__NOINLINE fen_timer *fen_timer_new(void)
{
    fen_timer *t = make();
    if (t && !(t->c = fen__chan_make(sizeof(int64_t), 1, __builtin_return_address(0)))) {
        fen__mem_free(t, sizeof *t);
        return NULL;
    }
    return t;
}

fen_timer *fen_timer_new_func(void (*fn)(void *arg), void *arg)
{
    fen_timer *t = make();
    if (t) {
        t->fn = fn;
        t->arg = arg;
    }
    return t;
}

void fen_timer_free(fen_timer *t)
{
    if (!t)
        return;
    struct fen__m *m = fen__aside(); /* on a worker's own stack what is late may be behind it */
    fen_promise(!m || fen__cur(m),
                "fen_timer_free in a timer's function, or in a hook that a deadline calls");
    m = fen__enter_any();
    fen__lock(&t->lock);
    (void)disarm(t);
    while (t->late || t->running)
        pause_unlocked(t);
    fen__unlock(&t->lock);
    fen__leave_any(m);
    fen_chan_free(t->c);
    fen__mem_free(t, sizeof *t);
}
