/* real_wait.c - src/sched/park.c as it is: a fiber waits twice; a timer for each wait, late or not;
 * a waker that claims, hands something over and completes; a canceller. And src/poll/slot.c: a
 * reader, the collector of its events, and who closes the slot.
 *
 * Where the fiber's worker would come to another stack, the model commits the wait and lets the
 * actor sleep until the fiber is in the global list, where fen__ready puts it for whoever is no
 * worker. */
#include "real_rig.h"

#include "poll/poll_int.h"

enum { FIBER, TIMER, CHANNEL, CANCELLER };

static struct {
    bool cancels, waits_long; /* the plan: the second wait has no deadline */
    int round, timers;
    uint64_t seq[2], published; /* of each wait's timer; what the channel sees */
    uint32_t door;              /* the timer is set under it */
    uint32_t handed;            /* plain: what the channel hands over */
    int code[2];
    struct fen__limit limit;
} w;

static void *tls(int self) { return self == FIBER ? &rig_m[0] : NULL; }

static bool is_ready(void *arg)
{
    (void)arg;
    return fen__sched.n_global > 0;
}

static void sleep_until_ready(struct fen__m *m, enum fen__act act)
{
    il_fail(act != FEN__ACT_PARK, "it parks");
    if (!fen__commit(m->cur))
        return;
    il_wait(is_ready, NULL);
    il_fail(fen__sched.n_global != 1, "a fiber twice in a run queue");
    il_fail(fen__global_pop(m, 1) != m->cur, "another fiber");
}

static int timer_add(struct fen__timer *t)
{
    w.seq[w.round] = t->seq;
    (void)il_swap(&w.door, 1);
    w.timers++;
    return 0;
}

static void fiber(struct fen__g *g)
{
    for (w.round = 0; w.round < 2; w.round++) {
        uint64_t epoch = fen__arm(g);
        w.published = epoch; /* no barrier of the model's: the files have what is needed */
        int64_t deadline = w.round && w.waits_long ? FEN_NEVER : 5;
        int code = fen__park(deadline, FEN__R_SLEEP);
        w.code[w.round] = code;
        if (code == FEN__BY_SYNC) {
            il_read(&w.handed, sizeof w.handed);
            il_fail(w.handed != (uint32_t)epoch, "woken, and nothing was handed over");
        }
        il_fail(code < FEN__FIRED, "it goes on, and nobody has woken it");
    }
}

static bool timer_is_set(void *n) { return w.timers > *(int *)n; }
static bool is_published(void *arg)
{
    (void)arg;
    return w.published != 0;
}

static void fire(void)
{
    int n = w.waits_long ? 1 : 2;
    for (int i = 0; i < n; i++) {
        il_wait(timer_is_set, &i);
        (void)il_swap(&w.door, 1);
        rig_g[0].timer.fn(&rig_g[0], w.seq[i]);
    }
}

static void hand_over(void)
{
    il_wait(is_published, NULL);
    uint64_t epoch = w.published;
    int claim = fen__claim(&rig_g[0], epoch);
    if (!claim)
        return;
    il_write(&w.handed, sizeof w.handed);
    w.handed = (uint32_t)epoch;
    fen__claim_done(&rig_g[0], epoch, claim, FEN__BY_SYNC);
}

static void cancel(void)
{
    fen__limit_end(&w.limit, -ECANCELED);
    fen__nudge(&rig_g[0]);
}

static void actor(int self)
{
    if (self == FIBER)
        fiber(&rig_g[0]);
    else if (self == TIMER)
        fire();
    else if (self == CHANNEL && !w.cancels)
        hand_over();
    else
        cancel();
}

static void set(bool cancels)
{
    rig_init(1);
    memset(&w, 0, sizeof w);
    rig.swap = sleep_until_ready;
    rig.timer_add = timer_add;
    w.cancels = w.waits_long = cancels;
    w.limit.deadline_ns = FEN_NEVER;
    rig_g[0].limit = &w.limit;
    rig_m[0].cur = &rig_g[0];
    fen__limits_epoch = 1;
}
static void set_wake(void) { set(false); }
static void set_cancel(void) { set(true); }

static void end(void)
{
    il_fail(!il_done(FIBER), "a lost wake-up");
    il_fail(fen__sched.n_global != 0, "woken once more than it waited");
}

const struct il_scenario real_wait = {
    "a wait, its timer and a hand-over", 3, 2, set_wake, actor, end, tls, 1000};
const struct il_scenario real_cancel = {
    "a wait and a cancel", 3, 3, set_cancel, actor, end, tls, 1000};

/* ---- a slot ---- */

static struct {
    struct fen__slot slot;
    uint32_t data; /* in the kernel: bytes to read */
    uint32_t edge; /* and not yet told */
    bool closes;
    int rc;
} s;

static bool slot_edge(void *arg)
{
    (void)arg;
    return s.edge != 0;
}

/* Reads until there is something: clears the slot first, as the socket's reader does. */
static void reader(struct fen__g *g)
{
    (void)g;
    for (;;) {
        uint32_t gen = real_slot_gen(&s.slot);
        real_slot_clear(&s.slot);
        if (il_swap(&s.data, 0))
            return;
        s.rc = fen__wait_slot(&s.slot, gen, FEN__READ, FEN_NEVER);
        if (s.rc)
            return;
    }
}

static void collect(void)
{
    for (int i = 0; i < 2; i++) {
        il_wait(slot_edge, NULL);
        (void)il_swap(&s.edge, 0);
        fen__waiter woken = fen__slot_fire(&s.slot, FEN__READ, FEN__W_READY);
        if (fen__w_is_fiber(woken))
            (void)fen__wake(fen__g_at((uint32_t)(woken >> 32)), woken >> 2 & FEN__W_EPOCH_MASK,
                            FEN__BY_IO);
    }
}

/* An edge without bytes, and then bytes; or the slot is closed. */
static void peer(void)
{
    (void)il_swap(&s.edge, 1);
    if (s.closes) {
        fen__close_slot(&s.slot);
        return;
    }
    (void)il_swap(&s.data, 1);
    (void)il_swap(&s.edge, 1);
}

static void slot_actor(int self)
{
    if (self == 0)
        reader(&rig_g[0]);
    else if (self == 1)
        collect();
    else
        peer();
}

static void slot_set(bool closes)
{
    set(false);
    memset(&s, 0, sizeof s);
    s.closes = closes;
    s.slot.gen = 1;
}
static void slot_set_data(void) { slot_set(false); }
static void slot_set_closed(void) { slot_set(true); }

void fen__poll_shut(struct fen__slot *slot, fen__waiter ret_woken[2])
{
    ret_woken[0] = fen__slot_fire(slot, FEN__READ, FEN__W_CLOSED);
    ret_woken[1] = fen__slot_fire(slot, FEN__WRITE, FEN__W_CLOSED);
}
void fen__poll_close(struct fen__slot *slot, fen__waiter ret_woken[2])
{
    fen__poll_shut(slot, ret_woken);
    slot->gen++;
}

static void slot_end(void)
{
    il_fail(!il_done(0), "a lost event");
    il_fail(!s.closes && s.rc, "closed, and nobody did it");
}

const struct il_scenario real_slot = {
    "a slot and its events", 3, 2, slot_set_data, slot_actor, slot_end, tls, 500};
const struct il_scenario real_slot_closed = {
    "a slot that is closed", 3, 2, slot_set_closed, slot_actor, slot_end, tls, 500};
