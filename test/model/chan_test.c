/* chan_test.c - handing an element over between a sender and a receiver that may time out
 * (src/sync/chan.c over src/sched/park.c).
 *
 * One rendezvous channel under one lock. Both sides first wait with a deadline that may come at any
 * moment. In the first scenario a side that timed out tries again without one, and both must
 * succeed; in the second it gives up, and then the element was handed over either for both or for
 * neither. */
#include "explore.h"

enum {
    NONE,
    COPY_WITHOUT_CLAIM,
    COMMIT_TAKES_CLAIM,
    TIMER_OVER_CLAIM,
    NODE_STAYS,
    DONE_BEFORE_COPY,
    QUEUE_AFTER_UNLOCK,
    MUTANTS
};

struct side {
    uint8_t pc, word, epoch, queued, runq; /* queued: its node waits, with node_epoch */
    uint8_t node_epoch, has, result, seen, claim;
    uint8_t t_pc, t_seen;
};

struct state {
    struct side side[2]; /* 0 sends, 1 receives */
    uint8_t lock;        /* holder + 1 */
};

static bool gives_up;

enum {
    LOCK,
    LOOK,
    CLAIM,
    COPY,
    UNLOCK_HAND,
    HAND,
    HAND_QUEUE,
    WAIT,
    UNLOCK,
    COMMIT,
    OFF,
    RUN,
    LEAVE,
    QUEUE_LATE,
    FINISHED
};
enum { R_NONE, R_OK, R_TIMEOUT };

static uint8_t with(uint8_t word, int state) { return (uint8_t)((word & 0xf0) | state); }

static void init(void *v)
{
    struct state *s = v;
    s->side[0].has = 1;
}

static bool waits(const struct side *o)
{
    int st = EX_STATE(o->word);
    return EX_EPOCH(o->word) == o->node_epoch && (st == EX_ARMED || st == EX_PARKED);
}

static void finish(struct side *a, int result)
{
    a->result = (uint8_t)result;
    a->pc = FINISHED;
}

static void copy(struct side *to, struct side *from)
{
    to->has |= from->has;
    from->has = 0;
}

/* Finds the other side waiting, claims it and hands over. */
static bool hand_over(struct state *s, int i)
{
    struct side *a = &s->side[i], *o = &s->side[!i];
    switch (a->pc) {
    case LOCK:
        if (s->lock)
            return false;
        s->lock = (uint8_t)(i + 1);
        a->pc = LOOK;
        return true;
    case LOOK:
        a->pc = o->queued ? CLAIM : WAIT;
        o->queued = 0;
        return true;
    case CLAIM:
        a->seen = o->word;
        a->claim = waits(o) ? (uint8_t)EX_STATE(a->seen) : 0;
        if (ex_mutant == COPY_WITHOUT_CLAIM)
            a->pc = COPY;
        else if (a->claim)
            o->word = with(a->seen, EX_CLAIMED);
        a->pc = a->claim || ex_mutant == COPY_WITHOUT_CLAIM ? COPY : WAIT;
        if (a->pc == COPY && ex_mutant == DONE_BEFORE_COPY)
            a->pc = HAND;
        return true;
    case COPY:
        copy(&s->side[1], &s->side[0]);
        a->pc = UNLOCK_HAND;
        return true;
    case UNLOCK_HAND:
        s->lock = 0;
        a->pc = HAND;
        if (ex_mutant == DONE_BEFORE_COPY)
            finish(a, R_OK);
        return true;
    case HAND:
        if (ex_mutant == COPY_WITHOUT_CLAIM && !waits(o)) {
            finish(a, R_OK);
            return true;
        }
        if (ex_mutant == COPY_WITHOUT_CLAIM)
            a->claim = (uint8_t)EX_STATE(o->word);
        o->word = with(o->word, EX_SYNC);
        a->pc = HAND_QUEUE;
        return true;
    case HAND_QUEUE:
        o->runq = (uint8_t)(o->runq + (a->claim == EX_PARKED));
        ex_fail(o->runq > 1, "a fiber twice in a run queue");
        if (ex_mutant == DONE_BEFORE_COPY)
            a->pc = COPY;
        else
            finish(a, R_OK);
        return true;
    default: return false;
    }
}

static void push(struct side *a)
{
    ex_fail(a->queued, "a node twice in a wait queue");
    a->queued = 1;
    a->node_epoch = a->epoch;
}

static bool wait_side(struct state *s, int i)
{
    struct side *a = &s->side[i];
    switch (a->pc) {
    case WAIT:
        a->epoch++;
        a->word = (uint8_t)(a->epoch << 4 | EX_ARMED);
        if (ex_mutant != QUEUE_AFTER_UNLOCK)
            push(a);
        a->pc = UNLOCK;
        return true;
    case UNLOCK:
        s->lock = 0;
        a->pc = ex_mutant == QUEUE_AFTER_UNLOCK ? QUEUE_LATE : COMMIT;
        return true;
    case QUEUE_LATE:
        push(a);
        a->pc = COMMIT;
        return true;
    case COMMIT:
        if (EX_STATE(a->word) == EX_CLAIMED && ex_mutant != COMMIT_TAKES_CLAIM)
            return false;
        if (EX_STATE(a->word) == EX_ARMED)
            a->word = with(a->word, EX_PARKED);
        else
            a->runq++;
        a->pc = OFF;
        return true;
    case OFF:
        if (!a->runq)
            return false;
        a->runq--;
        a->pc = RUN;
        return true;
    case RUN:
        if (EX_STATE(a->word) == EX_TIMER) {
            a->pc = LEAVE;
            return true;
        }
        ex_fail(a->has != i, "woken without the element");
        finish(a, R_OK);
        return true;
    case LEAVE: /* under the lock; then again, or not */
        if (s->lock)
            return false;
        if (ex_mutant != NODE_STAYS)
            a->queued = 0;
        a->pc = LOCK;
        if (gives_up)
            finish(a, R_TIMEOUT);
        return true;
    default: return hand_over(s, i);
    }
}

/* The deadline of the first wait. */
static bool timer(struct side *a)
{
    if (a->t_pc == 9 || a->epoch < 1)
        return false;
    int st = EX_STATE(a->t_pc ? a->t_seen : a->word);
    bool may =
        EX_EPOCH(a->t_pc ? a->t_seen : a->word) == 1 &&
        (st == EX_ARMED || st == EX_PARKED || (st == EX_CLAIMED && ex_mutant == TIMER_OVER_CLAIM));
    if (!a->t_pc) {
        a->t_seen = a->word;
        a->t_pc = may ? 1 : 9;
        return true;
    }
    bool won = ex_cas(&a->word, a->t_seen, with(a->t_seen, EX_TIMER));
    a->t_pc = won ? 9 : 0;
    if (won && st != EX_ARMED)
        a->runq++;
    ex_fail(a->runq > 1, "a fiber twice in a run queue");
    return true;
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor < 2 ? wait_side(s, actor) : timer(&s->side[actor - 2]);
    const struct side *a = &s->side[0], *b = &s->side[1];
    if (a->pc == FINISHED && b->pc == FINISHED) {
        ex_fail(a->result != b->result, "the two sides disagree");
        ex_fail((b->result == R_OK) != b->has || a->has == b->has, "the element is lost");
    }
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return (s->side[0].pc == FINISHED && s->side[1].pc == FINISHED) ||
           (gives_up && (s->side[0].result == R_TIMEOUT || s->side[1].result == R_TIMEOUT));
}

static const struct ex_model model = {sizeof(struct state), 4, init, step, done};

static void plan(int k) { gives_up = k; }
static const char *name(void) { return gives_up ? "gives up" : "tries again"; }

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 2, plan, name, 200}); }
