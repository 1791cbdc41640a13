/* section_test.c - sections that last (src/sched/section.c): the fiber moves to a spare, or its P
 * is taken from it, and never is one fiber, or a P, in two places.
 *
 * One P or two, two fibers, a spare, and an M that is born when the monitor restocks. Fiber 0
 * leaves its section only when fiber 1 has ended, so a P must come free meanwhile; fiber 1 has two
 * sections, or one beside two Ps. The monitor's naps have no end of their own: whoever finds no
 * spare has to wake it. How the word decides who has the P is guard_test.c's; here a take is one
 * step, and the P is there or gone. Of a futex's word it matters only whether it has moved since
 * its sleeper looked. */
#include "explore.h"

enum {
    NONE,
    GIVE_BEFORE_SAVE,   /* the spare gets the fiber before its registers are saved */
    WAKE_NOT_COUNTED,   /* the spare's word does not move when it gets a guest */
    SEEN_AFTER_UNLOCK,  /* the spare reads its word when it has let go of the lock */
    STAYS_LISTED,       /* what got a guest is still in the list */
    GUEST_NOT_CLEARED,  /* after its section */
    NO_FALLBACK,        /* the last spare went meanwhile: the fiber is nowhere */
    POP_WITHOUT_LOCK,   /* the head is read, and then taken */
    NO_HURRY,           /* nobody wakes the monitor */
    HURRY_BEFORE_BLOCK, /* it is woken before there is anything to see */
    MONITOR_SEES_LATE,  /* it reads its word after it has looked */
    RUNS_ON_WITHOUT_P,  /* the end of a moved section does not look for a P */
    MUTANTS
};
enum { MS = 4, FIBERS = 2, NOBODY = 9 };
enum { RT, BLOCK };

enum {
    UNBORN,
    WAIT,
    UNLOCKED, /* a mutant's: between the lock and the look at its word */
    SLEEP,
    ASLEEP,
    FIND,
    RUN,
    BEGIN,
    SAVE,
    POP,
    GIVE,
    WAKE,
    MISSED,
    ENTER,
    HURRY,
    SECTION,
    GUEST,
    CLEAR
};

struct m {
    uint8_t pc, fiber, guest, has_p, spare, phase, moved, asleep, to;
};

struct fiber {
    uint8_t left, saved, ready, inside, ended; /* inside: it is beginning its section */
};

struct state {
    struct m m[MS];
    struct fiber f[FIBERS];
    uint8_t m_pc, m_moved, m_asleep, m_victim, missed;
};

static int nps;

static void init(void *v)
{
    struct state *s = v;
    for (int i = 0; i < MS; i++)
        s->m[i] = (struct m){
            .pc = i <= nps ? WAIT : UNBORN, .has_p = i < nps, .fiber = NOBODY, .guest = NOBODY};
    s->f[0] = (struct fiber){.left = 1, .saved = 1, .ready = 1};
    s->f[1] = (struct fiber){.left = nps == 1 ? 2 : 1, .saved = 1, .ready = 1};
}

static uint8_t first_spare(const struct state *s)
{
    for (uint8_t i = 0; i < MS; i++)
        if (s->m[i].spare)
            return i;
    return NOBODY;
}

static void resume(struct state *s, struct m *m, uint8_t fiber)
{
    ex_fail(!s->f[fiber].saved, "resumed before its registers were saved, or twice");
    s->f[fiber].saved = 0;
    m->fiber = fiber;
}

static void queue(struct state *s, struct m *m)
{
    ex_fail(s->f[m->fiber].ready, "queued twice");
    s->f[m->fiber].saved = s->f[m->fiber].ready = 1;
    m->fiber = NOBODY;
}

static void futex_wake(struct state *s, uint8_t to) { s->m[to].asleep = 0; }

/* ---- a spare ---- */

static bool wait_for_work(struct m *m)
{
    switch (m->pc) {
    case WAIT: /* under the lock */
        if (m->has_p || m->guest != NOBODY) {
            ex_fail(m->has_p && m->guest != NOBODY, "a P and a guest");
            m->pc = m->has_p ? FIND : GUEST;
            return true;
        }
        m->spare = 1;
        m->moved = 0;
        m->pc = ex_mutant == SEEN_AFTER_UNLOCK ? UNLOCKED : SLEEP;
        return true;
    case UNLOCKED:
        m->moved = 0;
        m->pc = SLEEP;
        return true;
    case SLEEP:
        m->asleep = !m->moved;
        m->pc = m->asleep ? ASLEEP : WAIT;
        return true;
    default: /* ASLEEP */
        if (m->asleep)
            return false;
        m->pc = WAIT;
        return true;
    }
}

/* ---- the M that has the P ---- */

static bool find(struct state *s, struct m *m)
{
    for (uint8_t i = 0; i < FIBERS; i++)
        if (s->f[i].ready) {
            s->f[i].ready = 0;
            resume(s, m, i);
            m->pc = s->f[i].inside ? ENTER : RUN;
            return true;
        }
    return false;
}

static void give(struct state *s, struct m *m)
{
    uint8_t to = m->to;
    s->m[to].spare = ex_mutant == STAYS_LISTED;
    s->m[to].guest = m->fiber;
    s->m[to].moved |= ex_mutant != WAKE_NOT_COUNTED;
    m->fiber = NOBODY;
    m->pc = WAKE;
}

static void pop(struct state *s, struct m *m)
{
    m->to = first_spare(s);
    if (m->to != NOBODY && ex_mutant == POP_WITHOUT_LOCK) {
        m->pc = GIVE;
    } else if (m->to != NOBODY) {
        give(s, m);
    } else {
        if (ex_mutant != NO_FALLBACK)
            queue(s, m);
        m->fiber = NOBODY;
        m->pc = FIND;
    }
}

static void hurry(struct state *s)
{
    if (ex_mutant == NO_HURRY)
        return;
    s->missed = 1;
    s->m_moved = 1;
    s->m_asleep = 0;
}

static bool begin(struct state *s, struct m *m)
{
    switch (m->pc) {
    case BEGIN:
        s->f[m->fiber].inside = 1;
        m->pc = first_spare(s) == NOBODY ? ENTER : ex_mutant == GIVE_BEFORE_SAVE ? POP : SAVE;
        return true;
    case SAVE:
        s->f[m->fiber].saved = 1;
        m->pc = POP;
        return true;
    case POP: pop(s, m); return true;
    case GIVE: give(s, m); return true;
    case WAKE:
        futex_wake(s, m->to);
        m->pc = FIND;
        return true;
    case ENTER:
        if (ex_mutant == HURRY_BEFORE_BLOCK) {
            hurry(s);
            m->pc = MISSED;
            return true;
        }
        m->phase = BLOCK;
        m->pc = HURRY;
        return true;
    case MISSED:
        m->phase = BLOCK;
        m->pc = SECTION;
        return true;
    default: /* HURRY */
        hurry(s);
        m->pc = SECTION;
        return true;
    }
}

/* The end of a section, with a P or without. */
static bool leave(struct state *s, struct m *m)
{
    if (m->fiber == 0 && !s->f[1].ended)
        return false;
    s->f[m->fiber].inside = 0;
    m->phase = RT;
    if (m->has_p || ex_mutant == RUNS_ON_WITHOUT_P) {
        m->pc = RUN;
    } else {
        queue(s, m);
        m->pc = CLEAR;
    }
    return true;
}

static bool worker(struct state *s, struct m *m)
{
    switch (m->pc) {
    case UNBORN: return false;
    case WAIT:
    case UNLOCKED:
    case SLEEP:
    case ASLEEP: return wait_for_work(m);
    case FIND: return find(s, m);
    case RUN:
        ex_fail(!m->has_p, "a fiber runs without a P");
        if (!s->f[m->fiber].left) {
            s->f[m->fiber].ended = 1;
            m->fiber = NOBODY;
            m->pc = FIND;
            return true;
        }
        s->f[m->fiber].left--;
        m->pc = BEGIN;
        return true;
    case GUEST:
        resume(s, m, m->guest);
        m->phase = BLOCK;
        m->pc = SECTION;
        return true;
    case SECTION: return leave(s, m);
    case CLEAR:
        if (ex_mutant != GUEST_NOT_CLEARED)
            m->guest = NOBODY;
        m->pc = WAIT;
        return true;
    default: return begin(s, m);
    }
}

/* ---- the monitor ---- */

enum { M_SEES, M_RESTOCKS, M_LOOKS, M_TAKES, M_WAKES, M_SLEEPS, M_ASLEEP };

static void look(struct state *s)
{
    s->m_victim = NOBODY;
    for (uint8_t i = 0; i < MS; i++)
        if (s->m[i].has_p && s->m[i].phase == BLOCK)
            s->m_victim = i;
    s->m_pc = s->m_victim == NOBODY ? M_SLEEPS : M_TAKES;
}

static bool take(struct state *s)
{
    struct m *from = &s->m[s->m_victim];
    if (!from->has_p || from->phase == RT) {
        s->m_pc = M_LOOKS;
        return true;
    }
    uint8_t to = first_spare(s);
    if (to == NOBODY)
        return false; /* it comes again */
    s->m[to].spare = 0;
    s->m[to].has_p = 1;
    s->m[to].moved = 1;
    from->has_p = 0;
    s->m_victim = to;
    s->m_pc = M_WAKES;
    return true;
}

static bool monitor(struct state *s)
{
    switch (s->m_pc) {
    case M_SEES:
        if (ex_mutant != MONITOR_SEES_LATE)
            s->m_moved = 0;
        s->m_pc = M_RESTOCKS;
        return true;
    case M_RESTOCKS:
        if (s->missed && s->m[nps + 1].pc == UNBORN)
            s->m[nps + 1].pc = WAIT;
        s->missed = 0;
        s->m_pc = M_LOOKS;
        return true;
    case M_LOOKS: look(s); return true;
    case M_TAKES: return take(s);
    case M_WAKES:
        futex_wake(s, s->m_victim);
        s->m_pc = M_LOOKS;
        return true;
    case M_SLEEPS:
        if (ex_mutant == MONITOR_SEES_LATE)
            s->m_moved = 0;
        s->m_asleep = !s->m_moved;
        s->m_pc = s->m_asleep ? M_ASLEEP : M_SEES;
        return true;
    default:
        if (s->m_asleep)
            return false;
        s->m_pc = M_SEES;
        return true;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    bool moved = actor < MS ? worker(s, &s->m[actor]) : monitor(s);
    int ps = 0;
    for (int i = 0; i < MS; i++)
        ps += s->m[i].has_p;
    ex_fail(ps != nps, "a P is lost, or twice there");
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->f[0].ended && s->f[1].ended;
}

static const struct ex_model model = {sizeof(struct state), MS + 1, init, step, done};

static void plan(int k) { nps = k + 1; }

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 2, plan, NULL, 500}); }
