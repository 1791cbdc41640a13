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
    MUTANTS
};
enum { RT, USER };
enum { OWNED, ASKED, TAKEN };

struct state {
    uint8_t phase, word, buffer[2], buffered;
    uint8_t pc, seen, times, inside, gone; /* the M */
    uint8_t m_pc, tries, saw, took;        /* the monitor */
};

static void init(void *v)
{
    struct state *s = v;
    s->phase = USER;
}

static void drain_one(struct state *s)
{
    s->phase = s->buffer[0];
    s->buffer[0] = s->buffer[1];
    s->buffer[1] = 0;
    s->buffered--;
}

static void drain(struct state *s)
{
    while (s->buffered)
        drain_one(s);
}

static bool store_phase(struct state *s, uint8_t phase)
{
    if (s->buffered == 2)
        return false;
    s->buffer[s->buffered++] = phase;
    return true;
}

static void enter(struct state *s)
{
    s->pc = 3;
    s->inside = 1;
}

static bool owner(struct state *s)
{
    switch (s->pc) {
    case 0:
        if (s->times == 3 || !store_phase(s, RT))
            return false;
        s->times++;
        s->pc = 1;
        return true;
    case 1:
        s->seen = s->word;
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
        if (s->buffered == 2)
            return false;
        s->inside = 0;
        store_phase(s, USER);
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
    bool moved = actor == 0 ? owner(s) : actor == 1 ? monitor(s) : s->buffered > 0;
    if (actor == 2 && moved)
        drain_one(s);
    ex_fail(s->took && s->inside, "two at one P");
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->times == 3 || s->gone;
}

static const struct ex_model model = {sizeof(struct state), 3, init, step, done};

static void test_one_at_a_time(void **state)
{
    (void)state;
    ex_mutant = NONE;
    struct ex_result r = explore(&model);
    print_message("%u states\n", r.states);
    assert_null(r.wrong);
    assert_true(r.states > 200);
}

static void test_every_mutant_is_noticed(void **state)
{
    (void)state;
    for (ex_mutant = 1; ex_mutant < MUTANTS; ex_mutant++) {
        const char *wrong = explore(&model).wrong;
        print_message("mutant %d: %s\n", ex_mutant, wrong ? wrong : "-");
        assert_non_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_every_mutant_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
