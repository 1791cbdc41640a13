/* guard_test.c - taking a P from an M (src/sched/guard.c) on a machine with store buffers.
 *
 * The M enters and leaves the guarded section; the monitor tries to take the P twice. Stores to
 * phase go through the M's store buffer, which drains in order at any time, by the M's own locked
 * operations and by the monitor's membarrier. Between a successful enter and leave the M touches
 * the P; after a successful take the monitor's new M does: never both. */
#include "explore.h"

enum {
    NONE,
    NO_MEMBARRIER,
    NO_PHASE_LOOK,
    NO_CAS_ON_ASKED,
    TAKE_WITHOUT_CAS,
    LOOK_BEFORE_BARRIER,
    WORD_BEFORE_PHASE, /* no compiler barrier in enter: step 3 before step 1 */
    LEAVE_TOO_EARLY,   /* leave is not a release: its store before the last one to the P */
    MUTANTS
};
enum { RT, USER };
enum { OWNED, ASKED, TAKEN };

struct state {
    uint8_t phase, word;
    struct ex_buffer late;                 /* stores to phase */
    uint8_t pc, seen, times, inside, gone; /* the M */
    uint8_t m_pc, tries, saw, took;        /* the monitor */
};

static void init(void *v)
{
    struct state *s = v;
    s->phase = USER;
}

static void drain(struct state *s) { ex_drain(&s->late, &s->phase); }

static void enter(struct state *s)
{
    s->pc = 3;
    s->inside = 1;
}

static bool owner(struct state *s)
{
    switch (s->pc) {
    case 0:
        if (s->times == 3)
            return false;
        if (ex_mutant == WORD_BEFORE_PHASE)
            s->seen = s->word;
        else if (!ex_store(&s->late, RT))
            return false;
        s->times++;
        s->pc = 1;
        return true;
    case 1:
        if (ex_mutant != WORD_BEFORE_PHASE)
            s->seen = s->word;
        else if (!ex_store(&s->late, RT))
            return false;
        s->pc = 2;
        if (s->seen == OWNED)
            enter(s);
        else if (s->seen == TAKEN)
            s->gone = 1, s->pc = 9;
        return true;
    case 2: /* asked: one CAS decides */
        if (ex_mutant == NO_CAS_ON_ASKED) {
            enter(s);
            return true;
        }
        drain(s);
        if (ex_cas(&s->word, ASKED, OWNED))
            enter(s);
        else
            s->pc = 1;
        return true;
    case 3: /* leave; what was done to the P is in the buffer before it */
        if (!ex_store(&s->late, USER))
            return false;
        s->inside = ex_mutant == LEAVE_TOO_EARLY;
        s->pc = s->inside ? 4 : 0;
        return true;
    case 4:
        s->inside = 0;
        s->pc = 0;
        return true;
    default: return false;
    }
}

static bool monitor(struct state *s)
{
    switch (s->m_pc) {
    case 0:
        if (s->tries == 2)
            return false;
        s->tries++;
        if (ex_cas(&s->word, OWNED, ASKED))
            s->m_pc = ex_mutant == LOOK_BEFORE_BARRIER ? 2 : 1;
        return true;
    case 1:
        if (ex_mutant != NO_MEMBARRIER)
            drain(s);
        s->m_pc = ex_mutant == LOOK_BEFORE_BARRIER ? 3 : 2;
        return true;
    case 2:
        s->saw = s->phase;
        s->m_pc = ex_mutant == LOOK_BEFORE_BARRIER ? 1 : 3;
        return true;
    case 3:
        if (s->saw == RT && ex_mutant != NO_PHASE_LOOK) {
            ex_cas(&s->word, ASKED, OWNED);
            s->m_pc = 0;
            return true;
        }
        s->took = ex_mutant == TAKE_WITHOUT_CAS || s->word == ASKED;
        if (s->took)
            s->word = TAKEN;
        s->m_pc = s->took ? 9 : 0;
        return true;
    default: return false;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor == 0   ? owner(s)
                 : actor == 1 ? monitor(s)
                              : ex_drain_one(&s->late, &s->phase);
    ex_fail(s->took && s->inside, "two at one P");
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->times == 3 || s->gone;
}

static const struct ex_model model = {sizeof(struct state), 3, init, step, done};

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 1, NULL, NULL, 200}); }
