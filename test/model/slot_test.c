/* slot_test.c - one direction of a descriptor's slot (src/poll/slot.c) with its reader.
 *
 * A reader clears the slot, reads, and waits when there is nothing; it does not read again before
 * the slot says so. Its first wait has a deadline. Data arrives once at any moment and makes one
 * edge; a collector takes the edge and fires the slot; in the second scenario another fiber closes
 * the slot and opens it for another descriptor. */
#include "explore.h"

enum {
    NONE,
    FIRE_NOT_READY,
    ARM_IGNORES_READY,
    DISARM_STORES,
    CLEAR_LATE,
    CLOSE_WAKES_NOBODY,
    COMMIT_BLIND,
    ARM_STORES,
    NO_GENERATION,
    STILL_DRAINED,
    MUTANTS
};

enum { S_NONE, S_READY, S_CLOSED, S_WAITS }; /* slot: S_WAITS + epoch */

struct state {
    uint8_t slot, gen, word, queued;
    uint8_t data, edge, sent; /* in the kernel */
    uint8_t pc, seen, epoch, got, timed_out, closed, drained;
    uint8_t e_pc, e_seen, e_gen, e_word; /* the collector */
    uint8_t t_pc, t_seen;                /* the timer of wait 1 */
    uint8_t c_pc, c_seen, c_word, reopened;
};

static bool with_close;

static void init(void *v)
{
    struct state *s = v;
    s->gen = 1;
    if (!with_close)
        s->c_pc = 9;
}

static uint8_t with(uint8_t word, int state) { return (uint8_t)((word & 0xf0) | state); }

enum { LOOK, CLEAR, READ, ARM, ARM_SLOT, ARM_SWAP, STILL_OURS, COMMIT, OFF, DISARM, FINISHED };

static void look_again(struct state *s) { s->pc = ex_mutant == CLEAR_LATE ? READ : LOOK; }

static bool reader_waits(struct state *s)
{
    switch (s->pc) {
    case ARM:
        s->epoch++;
        s->word = (uint8_t)(s->epoch << 4 | EX_ARMED);
        s->pc = ARM_SLOT;
        return true;
    case ARM_SLOT:
        s->seen = s->slot;
        s->pc = ARM_SWAP;
        if (s->seen == S_CLOSED) {
            s->closed = 1;
            s->pc = FINISHED;
        }
        return true;
    case ARM_SWAP:
        if (s->seen == S_READY && ex_mutant != ARM_IGNORES_READY) {
            s->pc = ARM_SLOT;
            if (ex_cas(&s->slot, S_READY, S_NONE)) {
                s->drained = ex_mutant == STILL_DRAINED && s->drained;
                look_again(s);
            }
            return true;
        }
        if (ex_mutant == ARM_STORES)
            s->slot = (uint8_t)(S_WAITS + s->epoch);
        s->pc = ex_mutant == ARM_STORES || ex_cas(&s->slot, s->seen, (uint8_t)(S_WAITS + s->epoch))
                    ? STILL_OURS
                    : ARM_SLOT;
        return true;
    case STILL_OURS: /* closed and opened again since the read? */
        s->pc = COMMIT;
        if (s->gen != 1 && ex_mutant != NO_GENERATION) {
            ex_cas(&s->slot, (uint8_t)(S_WAITS + s->epoch), S_NONE);
            s->closed = 1;
            s->pc = FINISHED;
        }
        return true;
    case COMMIT:
        if (EX_STATE(s->word) == EX_ARMED || ex_mutant == COMMIT_BLIND)
            s->word = with(s->word, EX_PARKED);
        else
            s->queued++;
        s->pc = OFF;
        return true;
    default: return false;
    }
}

static bool reader(struct state *s)
{
    switch (s->pc) {
    case LOOK: /* fen__slot_maybe_readable */
        s->pc = s->drained && s->slot == S_NONE ? ARM : CLEAR;
        return true;
    case CLEAR:
        ex_cas(&s->slot, S_READY, S_NONE);
        s->pc = ex_mutant == CLEAR_LATE ? ARM : READ;
        return true;
    case READ:
        s->got = s->gen == 1 && s->data;
        s->drained = !s->got;
        s->pc = s->got || s->gen != 1 ? FINISHED : ex_mutant == CLEAR_LATE ? CLEAR : ARM;
        s->closed = s->gen != 1;
        return true;
    case OFF:
        if (!s->queued)
            return false;
        s->queued--;
        if (EX_STATE(s->word) == EX_TIMER) {
            s->timed_out = 1;
            s->pc = DISARM;
        } else if (EX_STATE(s->word) == EX_CLOSE) {
            s->closed = 1;
            s->pc = FINISHED;
        } else {
            look_again(s);
        }
        return true;
    case DISARM: { /* then a second wait, without a read before it */
        uint8_t mine = (uint8_t)(S_WAITS + s->epoch);
        ex_fail(s->gen != 1 && s->slot == mine, "an old waiter in a new slot");
        if (ex_mutant == DISARM_STORES)
            s->slot = S_NONE;
        else
            ex_cas(&s->slot, mine, S_NONE);
        s->pc = ARM;
        return true;
    }
    default: return reader_waits(s);
    }
}

/* Whoever took the waiter out wakes it, by its epoch. False: another step is needed. */
static bool wake(struct state *s, uint8_t waiter, uint8_t *seen, int code)
{
    uint8_t epoch = (uint8_t)(waiter - S_WAITS);
    if (!*seen) {
        *seen = s->word;
        return EX_EPOCH(*seen) != epoch ||
               (EX_STATE(*seen) != EX_ARMED && EX_STATE(*seen) != EX_PARKED);
    }
    bool won = ex_cas(&s->word, *seen, with(*seen, code));
    if (won && EX_STATE(*seen) == EX_PARKED)
        s->queued++;
    ex_fail(s->queued > 1, "a fiber twice in a run queue");
    *seen = 0;
    return won;
}

/* pc 0: epoll_wait; 1: look at the generation; 2, 3: fire; 4: wake. */
static bool collector(struct state *s)
{
    switch (s->e_pc) {
    case 0:
        if (!s->edge)
            return false;
        s->edge = 0;
        s->e_gen = 1;
        s->e_pc = 1;
        return true;
    case 1: s->e_pc = s->gen == s->e_gen ? 2 : 9; return true;
    case 2:
        s->e_seen = s->slot;
        s->e_pc = s->e_seen == S_READY || s->e_seen == S_CLOSED ? 9 : 3;
        return true;
    case 3: {
        uint8_t next = ex_mutant == FIRE_NOT_READY && s->e_seen > S_WAITS ? S_NONE : S_READY;
        if (!ex_cas(&s->slot, s->e_seen, next))
            s->e_pc = 2;
        else
            s->e_pc = s->e_seen > S_WAITS ? 4 : 9;
        return true;
    }
    case 4:
        if (wake(s, s->e_seen, &s->e_word, EX_IO))
            s->e_pc = 9;
        return true;
    default: return false;
    }
}

static bool timer(struct state *s)
{
    if (s->t_pc == 9 || s->epoch < 1)
        return false;
    if (wake(s, S_WAITS + 1, &s->t_seen, EX_TIMER))
        s->t_pc = 9;
    return true;
}

/* Closes, gives the slot back, and opens it for another descriptor. */
static bool closer(struct state *s)
{
    switch (s->c_pc) {
    case 0:
        s->c_seen = s->slot;
        s->c_pc = 1;
        return true;
    case 1: s->c_pc = ex_cas(&s->slot, s->c_seen, S_CLOSED) ? 2 : 0; return true;
    case 2:
        if (s->c_seen <= S_WAITS || ex_mutant == CLOSE_WAKES_NOBODY ||
            wake(s, s->c_seen, &s->c_word, EX_CLOSE))
            s->c_pc = 3;
        return true;
    case 3: /* epoll_del: no edge comes from here; one taken already may still be on its way */
        s->edge = 0;
        s->gen = 2;
        s->c_pc = 4;
        return true;
    case 4:
        s->slot = S_NONE;
        s->gen = 3;
        s->reopened = 1;
        s->c_pc = 9;
        return true;
    default: return false;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    switch (actor) {
    case 0: return reader(s);
    case 1: return collector(s);
    case 2: return timer(s);
    case 3: return closer(s);
    default: /* the kernel */
        if (s->sent || s->gen != 1)
            return false;
        s->sent = s->data = s->edge = 1;
        return true;
    }
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->pc == FINISHED && (s->got || s->closed) && (!with_close || s->reopened);
}

static const struct ex_model model = {sizeof(struct state), 5, init, step, done};

static void plan(int k) { with_close = k; }
static const char *name(void) { return with_close ? "with close" : "event and deadline"; }

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 2, plan, name, 200}); }
