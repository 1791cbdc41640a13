/* hibernate_test.c - taking a waiting fiber's stack away and putting it back, against its wakers
 * (src/sched/hibernate.c).
 *
 * A fiber waits three times; a waker wakes each wait at any moment. The fiber's stack holds the
 * number of its present wait, and it must find that when it goes on. The hibernator looks at it
 * again and again. Its store of COOLING has a store buffer, which its locked operations drain. */
#include "explore.h"

enum { NONE, PLAIN_STORE, NO_SECOND_LOOK, NO_WAIT, COLD_FIRST, NO_COPY_BACK, MUTANTS };

enum { WARM, COOLING, COLD };
enum { GIVEN_BACK = 99, WAITS = 3 };

struct state {
    uint8_t wait, cold, lock;
    struct ex_buffer late; /* stores to cold */
    uint8_t stack, copy;
    uint8_t round, queued;
    uint8_t fiber, waker, hib; /* places */
    uint8_t seen;              /* the hibernator's first look */
};

/* The fiber, and the M that runs it. */
enum { RUNS, COMMIT, OFF, LOOK, BLOCKED, RESTORE, GOES_ON, FINISHED };
/* The hibernator. */
enum { FIRST_LOOK, TAKE, SECOND_LOOK, COPY, DROP, SET_COLD, SET_WARM, LET_GO };

static void init(void *v) { (void)v; }

static uint8_t word(const struct state *s, int st) { return (uint8_t)((s->round + 1) << 4 | st); }

static bool fiber(struct state *s)
{
    switch (s->fiber) {
    case RUNS: /* arms, its stack as it will be while it waits */
        s->wait = word(s, EX_ARMED);
        s->stack = s->round;
        s->fiber = COMMIT;
        return true;
    case COMMIT:
        if (ex_cas(&s->wait, word(s, EX_ARMED), word(s, EX_PARKED)))
            s->fiber = OFF;
        else
            s->fiber = GOES_ON;
        return true;
    case OFF:
        if (!s->queued)
            return false;
        s->queued = 0;
        s->fiber = LOOK;
        return true;
    case LOOK:
        s->fiber = s->cold == COOLING ? BLOCKED : s->cold == COLD ? RESTORE : GOES_ON;
        if (s->fiber == BLOCKED && ex_mutant == NO_WAIT)
            s->fiber = GOES_ON;
        return true;
    case BLOCKED:
        if (s->lock)
            return false;
        s->fiber = LOOK;
        return true;
    case RESTORE:
        if (ex_mutant != NO_COPY_BACK)
            s->stack = s->copy;
        s->cold = WARM;
        s->fiber = GOES_ON;
        return true;
    case GOES_ON:
        ex_fail(s->stack != s->round, "the stack is not what it was");
        s->fiber = ++s->round == WAITS ? FINISHED : RUNS;
        return true;
    default: return false;
    }
}

static bool waker(struct state *s)
{
    if (s->waker >= WAITS || EX_EPOCH(s->wait) != s->waker + 1)
        return false;
    int st = EX_STATE(s->wait);
    if (st != EX_ARMED && st != EX_PARKED)
        return false;
    s->wait = (uint8_t)((s->wait & 0xf0) | EX_IO);
    s->queued = st == EX_PARKED;
    s->waker++;
    return true;
}

static void drain(struct state *s) { ex_drain(&s->late, &s->cold); }

static bool hibernator(struct state *s)
{
    switch (s->hib) {
    case FIRST_LOOK:
        if (s->fiber == FINISHED || s->cold != WARM || EX_STATE(s->wait) != EX_PARKED)
            return false;
        s->seen = s->wait;
        s->hib = TAKE;
        return true;
    case TAKE:
        s->lock = 1;
        (void)ex_store(&s->late, COOLING);
        if (ex_mutant != PLAIN_STORE)
            drain(s);
        s->hib = SECOND_LOOK;
        return true;
    case SECOND_LOOK:
        s->hib = s->wait == s->seen || ex_mutant == NO_SECOND_LOOK ? COPY : SET_WARM;
        return true;
    case COPY:
        s->copy = s->stack;
        s->hib = ex_mutant == COLD_FIRST ? SET_COLD : DROP;
        return true;
    case DROP: /* a system call: the buffer is empty after it */
        s->stack = GIVEN_BACK;
        drain(s);
        s->hib = ex_mutant == COLD_FIRST ? LET_GO : SET_COLD;
        return true;
    case SET_COLD:
        drain(s);
        s->cold = COLD;
        s->hib = ex_mutant == COLD_FIRST ? DROP : LET_GO;
        return true;
    case SET_WARM:
        drain(s);
        s->cold = WARM;
        s->hib = LET_GO;
        return true;
    default:
        s->lock = 0;
        s->hib = FIRST_LOOK;
        return true;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    if (actor < 3)
        return actor == 0 ? fiber(s) : actor == 1 ? waker(s) : hibernator(s);
    return ex_drain_one(&s->late, &s->cold);
}

static bool done(const void *v) { return ((const struct state *)v)->fiber == FINISHED; }

static const struct ex_model model = {sizeof(struct state), 4, init, step, done};

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 1, NULL, NULL, 100}); }
