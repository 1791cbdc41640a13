/* wait_test.c - park, commit, wake, claim and nudge on one wait word (src/sched/park.c).
 *
 * A fiber waits twice. Its wakers, each of which may be late: a timer for each wait (in the second
 * scenario none for the second, so that only the cancel ends it), a channel that claims and hands
 * over whatever wait it finds, a canceller. */
#include "explore.h"

enum {
    NONE,
    COMMIT_BLIND,
    WAKE_QUEUES_ARMED,
    NO_EPOCH,
    WAKE_STORES,
    LOOK_THEN_ARM,
    NUDGE_THEN_END,
    COMMIT_TAKES_CLAIM,
    PUBLISH_FIRST,
    ARM_AS_PARKED,
    MUTANTS
};

struct waker {
    uint8_t pc, epoch, seen;
};

struct state {
    uint8_t word, published, ended, handed, claimed; /* handed, claimed: in which epoch */
    uint8_t queued, live;                            /* times in a run queue; stack in use */
    uint8_t pc, seen, saw_end, round;                /* the fiber, and its M after it */
    struct waker timer[2], chan, cancel;
};

static enum { ALL, ONLY_CANCEL, NO_CANCEL, SCENARIOS } scenario; /* what ends the second wait */

static uint8_t with(uint8_t word, int state) { return (uint8_t)((word & 0xf0) | state); }

static void ready(struct state *s)
{
    s->queued++;
    ex_fail(s->queued > 1, "a fiber twice in a run queue");
}

enum { ARM, LOOK, COMMIT_LOAD, COMMIT, OFF, RUN, UNARM, PUBLISH, FINISHED };

static uint8_t first_step(void)
{
    return ex_mutant == PUBLISH_FIRST ? PUBLISH : ex_mutant == LOOK_THEN_ARM ? LOOK : ARM;
}

static void next_round(struct state *s) { s->pc = ++s->round == 2 ? FINISHED : first_step(); }

static void init(void *v)
{
    struct state *s = v;
    s->live = 1;
    s->pc = first_step();
    s->timer[1].pc = scenario == ONLY_CANCEL ? 9 : 0;
    s->cancel.pc = scenario == NO_CANCEL ? 10 : 0;
}

static void arm(struct state *s)
{
    s->word = (uint8_t)((s->round + 1) << 4 | (ex_mutant == ARM_AS_PARKED ? EX_PARKED : EX_ARMED));
    s->pc = ex_mutant == PUBLISH_FIRST ? LOOK : PUBLISH;
}

static void after_wait(struct state *s)
{
    int how = EX_STATE(s->word);
    ex_fail(how < EX_TIMER, "went on without a wake");
    ex_fail(how == EX_SYNC && s->handed != s->round + 1, "woken before the hand-over");
    ex_fail(s->claimed == s->round + 1 && how != EX_SYNC, "what was handed over is lost");
    next_round(s);
}

static bool fiber(struct state *s)
{
    switch (s->pc) {
    case ARM: arm(s); return true;
    case PUBLISH:
        s->published = (uint8_t)(s->round + 1);
        s->pc = ex_mutant == PUBLISH_FIRST ? ARM : ex_mutant == LOOK_THEN_ARM ? COMMIT_LOAD : LOOK;
        return true;
    case LOOK:
        s->pc = ex_mutant == LOOK_THEN_ARM ? ARM : COMMIT_LOAD;
        if (s->ended)
            s->pc = ex_mutant == LOOK_THEN_ARM ? (next_round(s), s->pc) : UNARM;
        return true;
    case UNARM:
        if (EX_STATE(s->word) == EX_CLAIMED)
            return false;
        if (EX_STATE(s->word) == EX_ARMED) {
            s->word = with(s->word, EX_IDLE);
            next_round(s);
        } else {
            after_wait(s);
        }
        return true;
    case COMMIT_LOAD: /* the registers are saved, the M is on its own stack */
        s->live = 0;
        s->seen = s->word;
        s->pc = COMMIT;
        return true;
    case COMMIT:
        s->pc = OFF;
        if (ex_mutant == COMMIT_BLIND)
            s->word = with(s->word, EX_PARKED);
        else if (EX_STATE(s->seen) == EX_ARMED)
            s->pc = ex_cas(&s->word, s->seen, with(s->seen, EX_PARKED)) ? OFF : COMMIT_LOAD;
        else if (EX_STATE(s->seen) == EX_CLAIMED && ex_mutant != COMMIT_TAKES_CLAIM)
            s->pc = COMMIT_LOAD;
        else if (ex_mutant != ARM_AS_PARKED)
            ready(s);
        return true;
    case OFF: /* some M takes it from a queue */
        if (!s->queued)
            return false;
        s->queued--;
        s->live = 1;
        s->pc = RUN;
        return true;
    case RUN: after_wait(s); return true;
    default: return false;
    }
}

/* Another M that finds the fiber queued while its stack is in use. */
static void resume_live(struct state *s)
{
    ex_fail(s->queued && s->live, "a live stack was resumed");
}

static bool waits(uint8_t seen, uint8_t epoch)
{
    int st = EX_STATE(seen);
    return (ex_mutant == NO_EPOCH || EX_EPOCH(seen) == epoch) &&
           (st == EX_ARMED || st == EX_PARKED);
}

/* pc 0: learn the epoch; 1: load; 2: swap; 9: finished. epoch 0: any. */
static bool wake(struct state *s, struct waker *w, int epoch, int code)
{
    switch (w->pc) {
    case 0:
        if (s->published == 0 || (epoch && s->published < epoch))
            return false;
        w->epoch = (uint8_t)(epoch ? epoch : s->published);
        w->pc = 1;
        return true;
    case 1:
        w->seen = s->word;
        w->pc = waits(w->seen, w->epoch) ? 2 : 9;
        return true;
    case 2:
        if (ex_mutant == WAKE_STORES && code != EX_CLAIMED)
            s->word = with(w->seen, code);
        else if (!ex_cas(&s->word, w->seen, with(w->seen, code))) {
            w->pc = 1;
            return true;
        }
        w->pc = 9;
        if (code == EX_CLAIMED) {
            w->pc = 3;
            s->claimed = w->epoch;
        } else if (EX_STATE(w->seen) == EX_PARKED || ex_mutant == WAKE_QUEUES_ARMED) {
            ready(s);
        }
        return true;
    case 3:
        s->handed = w->epoch;
        w->pc = 4;
        return true;
    case 4: /* claim_done: a store, then ready */
        s->word = with(w->seen, EX_SYNC);
        w->pc = EX_STATE(w->seen) == EX_PARKED ? 5 : 9;
        return true;
    case 5:
        ready(s);
        w->pc = 9;
        return true;
    default: return false;
    }
}

/* Ends the limit, then wakes whatever wait there is; the mutant does it in the wrong order. */
static bool cancel(struct state *s)
{
    struct waker *w = &s->cancel;
    bool nudge_first = ex_mutant == NUDGE_THEN_END;
    if (w->pc == 0) {
        if (!nudge_first)
            s->ended = 1;
        w->pc = 1;
        return true;
    }
    if (w->pc == 9 && nudge_first && !s->ended) {
        s->ended = 1;
        return true;
    }
    if (w->pc > 8)
        return false;
    w->epoch = EX_EPOCH(s->word); /* whatever its epoch */
    return wake(s, w, 0, EX_CANCEL);
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor == 0   ? fiber(s)
                 : actor == 1 ? wake(s, &s->timer[0], 1, EX_TIMER)
                 : actor == 2 ? wake(s, &s->timer[1], 2, EX_TIMER)
                 : actor == 3 ? wake(s, &s->chan, 0, EX_CLAIMED)
                              : cancel(s);
    resume_live(s);
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->pc == FINISHED && !s->queued;
}

static const struct ex_model model = {sizeof(struct state), 5, init, step, done};

static void plan(int k) { scenario = k; }

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, SCENARIOS, plan, NULL, 1000}); }
