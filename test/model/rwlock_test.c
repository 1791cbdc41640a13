/* rwlock_test.c - every interleaving of two writers and two readers on src/sync/rwlock.c, one or
 * two of which are woken by something else while they wait (a deadline: they give up; a false
 * alarm: they try again). */
#include "fiber.h"

#include "../../src/sync/rwlock.c"
#include "../../src/sync/waitq.c"

enum { FIBERS = 4 };

enum {
    NONE,
    WITHDRAW_LETS_NOBODY_IN,
    READER_PASSES_A_WRITER,
    HAND_OVER_WITHOUT_CLAIM,
    WRITER_LETS_NOBODY_IN,
    LAST_READER_LETS_NOBODY_IN,
    NODE_STAYS,
    WAKE_INSTEAD_OF_HAND_OVER,
    WRITER_FIRST_AFTER_WRITER,
    FOLDS_THOUGH_ONE_WAITS,
    NEVER_UNFOLDS,
    LEAVES_WITHOUT_LOOK,
    FREES_UNDER_LOCK,
    MUTANTS
};

enum { BRIEF, TRY, COMMIT, OFF, RUN, WITHDRAW, HAND, HOLD, LEAVE, FINISHED };

struct actor {
    uint8_t pc, then;    /* then: after the hand-over */
    uint8_t disturbed;   /* its alarm has come */
    uint8_t got, passed; /* has the lock; writers let in while this reader waited */
    struct fen__woken w;
};

struct state {
    fen_rwlock l;
    struct fen__g g[FIBERS];
    struct actor a[FIBERS];
};

/* Which fibers write, which are disturbed, and whether they give up then. */
static struct {
    bool write[FIBERS], alarm[FIBERS], gives_up;
} plan;

static void init(void *v)
{
    struct state *s = v;
    for (uint32_t i = 0; i < FIBERS; i++)
        s->g[i].id = i;
}

static bool waits(const struct state *s, int i)
{
    const struct fen__g *g = &s->g[i];
    return g->node.queue && fiber_waits(g, g->node.epoch);
}

static void got_it(struct state *s, int i)
{
    s->a[i].got = 1;
    s->a[i].pc = HOLD;
    for (int k = 0; k < FIBERS; k++) {
        bool clash = k != i && s->a[k].got && (plan.write[i] || plan.write[k]);
        ex_fail(clash, "a writer and another inside");
    }
}

/* As the fields would say it. */
static fen_rwlock seen(const struct state *s)
{
    fen_rwlock l = s->l;
    unfold(&l);
    return l;
}

static void fold_now(fen_rwlock *l)
{
    if (ex_mutant == FOLDS_THOUGH_ONE_WAITS) {
        struct fen_waitq of[] = {l->read_waiters, l->write_waiters};
        l->read_waiters = l->write_waiters = (struct fen_waitq){0};
        fold(l);
        l->read_waiters = of[0];
        l->write_waiters = of[1];
    } else {
        fold(l);
    }
}

static void unfold_now(fen_rwlock *l)
{
    if (ex_mutant == NEVER_UNFOLDS)
        l->word = WRITES;
    else
        unfold(l);
}

/* A writer is let in: who of the readers still waits has waited for one more. */
static void count_passed(struct state *s, uint32_t writer_before)
{
    uint32_t writer = seen(s).writer;
    if (!writer || writer == writer_before)
        return;
    for (int k = 0; k < FIBERS; k++)
        if (!plan.write[k] && waits(s, k))
            ex_fail(++s->a[k].passed > 1, "a reader waits for two writers");
}

static bool writer_waits(const struct state *s)
{
    for (int k = 0; k < FIBERS; k++)
        if (plan.write[k] && waits(s, k))
            return true;
    return false;
}

static void try_briefly(struct state *s, int i)
{
    bool passes = !plan.write[i] && writer_waits(s);
    bool in = brief_enter(&s->l, plan.write[i], s->g[i].id + 1);
    ex_fail(in && passes, "a reader passes a writer that waits");
    if (in)
        got_it(s, i);
    else
        s->a[i].pc = TRY;
}

static void try_it(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool write = plan.write[i], in, passes = !write && writer_waits(s);
    unfold_now(&s->l);
    if (ex_mutant == READER_PASSES_A_WRITER && !write && !s->l.writer) {
        s->l.readers++;
        in = true;
    } else {
        in = enter(&s->l, write, s->g[i].id + 1);
    }
    ex_fail(in && passes, "a reader passes a writer that waits");
    if (in) {
        fold_now(&s->l);
        got_it(s, i);
        return;
    }
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    a->passed = 0;
    fen__waitq_wait(write ? &s->l.write_waiters : &s->l.read_waiters, &s->g[i], &s->l);
    fold_now(&s->l);
    a->pc = COMMIT;
}

static void withdraw_it(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool write = plan.write[i];
    unfold_now(&s->l);
    if (ex_mutant == WITHDRAW_LETS_NOBODY_IN)
        fen__waitq_remove(write ? &s->l.write_waiters : &s->l.read_waiters, &s->g[i].node);
    else if (ex_mutant != NODE_STAYS)
        withdraw(&s->l, write, &s->g[i].node, &a->w);
    fold_now(&s->l);
    a->pc = HAND;
    a->then = plan.gives_up ? FINISHED : TRY;
}

/* Hands the lock to the first writer, whether it still waits or not. */
static void leave_blindly(struct state *s, struct actor *a, bool write)
{
    if (write)
        s->l.writer = 0;
    else if (--s->l.readers)
        return;
    struct fen__node *n = s->l.write_waiters.head;
    if (!n) {
        settle(&s->l, false, &a->w);
        return;
    }
    fen__waitq_remove(&s->l.write_waiters, n);
    s->l.writer = n->g->id + 1;
    (void)fiber_wake(n->g, FEN__BY_SYNC);
}

static void leave_briefly(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool left = true;
    if (ex_mutant == LEAVES_WITHOUT_LOOK && !plan.write[i])
        s->l.word--;
    else
        left = brief_leave(&s->l, plan.write[i], s->g[i].id + 1);
    a->got = !left;
    a->pc = left ? FINISHED : LEAVE;
}

/* False: nobody waits, so it is left without the lock, in another step. */
static bool leave_somehow(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool write = plan.write[i];
    if (nobody_queued(&s->l) && ex_mutant != FREES_UNDER_LOCK)
        return hand_on(&s->l, write, s->g[i].id + 1, &a->w);
    if (ex_mutant == HAND_OVER_WITHOUT_CLAIM) {
        leave_blindly(s, a, write);
    } else if (ex_mutant == WRITER_LETS_NOBODY_IN && write) {
        s->l.writer = 0;
    } else if (ex_mutant == LAST_READER_LETS_NOBODY_IN && !write) {
        s->l.readers--;
    } else if (ex_mutant == WRITER_FIRST_AFTER_WRITER && write) {
        s->l.writer = 0;
        settle(&s->l, false, &a->w);
    } else if (nobody_queued(&s->l)) { /* of a mutant */
        s->l.writer = s->l.readers = 0;
    } else {
        return hand_on(&s->l, write, s->g[i].id + 1, &a->w);
    }
    return true;
}

static void leave(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    unfold_now(&s->l);
    bool alone = nobody_queued(&s->l);
    bool left = leave_somehow(s, i);
    if (ex_mutant == WAKE_INSTEAD_OF_HAND_OVER)
        s->l.writer = 0;
    fold_now(&s->l);
    ex_fail(alone && !s->l.word, "free while who leaves has the lock");
    a->got = !left;
    a->pc = left ? HAND : HOLD;
    a->then = left ? FINISHED : 0;
}

static bool hand(struct actor *a)
{
    struct fen__node *n = a->w.head;
    if (!n) {
        a->w.last = NULL;
        a->pc = a->then;
        return true;
    }
    a->w.head = n->next;
    fen__waitq_done(n, n->rc, 0);
    return true;
}

/* Nobody waits who could go in. */
static void check_needless(const struct state *s)
{
    fen_rwlock l = seen(s);
    for (int k = 0; k < FIBERS; k++) {
        bool may = !l.writer && (plan.write[k] ? !l.readers : !l.write_waiters.head);
        ex_fail(may && waits(s, k), "a fiber waits for nobody");
    }
}

static bool fiber_step(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    struct fen__g *g = &s->g[i];
    uint32_t writer = seen(s).writer;
    int how;
    switch (a->pc) {
    case BRIEF: try_briefly(s, i); break;
    case TRY: try_it(s, i); break;
    case COMMIT:
        how = fiber_commit(g);
        if (!how)
            return false;
        a->pc = how == 1 ? OFF : RUN;
        break;
    case OFF:
        if (!g->runq)
            return false;
        g->runq--;
        a->pc = RUN;
        break;
    case RUN:
        if (g->state >= FEN__BY_SYNC)
            got_it(s, i);
        else
            a->pc = WITHDRAW;
        break;
    case WITHDRAW: withdraw_it(s, i); break;
    case HAND: return hand(a);
    case HOLD: leave_briefly(s, i); break;
    case LEAVE: leave(s, i); break;
    default: return false;
    }
    count_passed(s, writer);
    check_needless(s);
    return true;
}

static bool alarm_step(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    if (!plan.alarm[i] || a->disturbed || !s->g[i].epoch)
        return false;
    a->disturbed = 1;
    (void)fiber_wake(&s->g[i], FEN__BY_TIMER);
    return true;
}

static bool step(void *v, int actor)
{
    return actor < FIBERS ? fiber_step(v, actor) : alarm_step(v, actor - FIBERS);
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int i = 0; i < FIBERS; i++)
        if (s->a[i].pc != FINISHED)
            return false;
    return !s->l.word && !s->l.writer && !s->l.readers && !s->l.read_waiters.head &&
           !s->l.write_waiters.head;
}

static const struct ex_model model = {sizeof(struct state), 2 * FIBERS, init, step, done};

/* Each scenario: w or r for a fiber, in capitals if its alarm comes; then what it does at it. */
static const char *const scenarios[] = {"Wrwr-", "Wrwr+", "WWrr-", "wrRw-", "wrwr+"};
static const char *scenario;

static void set_plan(int k)
{
    const char *text = scenario = scenarios[k];
    memset(&plan, 0, sizeof plan);
    for (int i = 0; i < FIBERS; i++) {
        plan.write[i] = text[i] == 'w' || text[i] == 'W';
        plan.alarm[i] = text[i] == 'W' || text[i] == 'R';
    }
    plan.gives_up = text[FIBERS] == '-';
}
static const char *name(void) { return scenario; }

int main(void)
{
    int n = (int)FEN__COUNT(scenarios);
    return ex_main(&(struct ex_suite){&model, MUTANTS, n, set_plan, name, 200});
}
