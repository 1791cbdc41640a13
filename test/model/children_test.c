/* children_test.c - every interleaving on src/sync/children.c: the owner of a scope that waits for
 * its fibers, gives up at its deadline, waits or tries again and at last closes, two or three
 * fibers that end, and one waking for no reason.
 *
 * A step is one access of `children` outside the lock, or all that is done under it; taking the
 * lock and letting it go are steps. "In the scope" is a fiber until its last touch of it. */
#include "fiber.h"

#include <stdatomic.h>

struct fen_scope {
    uint32_t lock;
    _Atomic int64_t children;
    uint64_t join_epoch;
    struct fen__g *owner;
};

#include "../../src/sync/children.c"

enum { CHILDREN = 3, ALARM = CHILDREN + 1, ACTORS };

enum {
    NONE,
    HOLDS_NOT_AGAIN,
    GIVES_UP_AT_ZERO,
    GIVES_UP_WITHOUT_LOCK,
    LETS_GO_TWICE,
    TRIES_WITHOUT_LOCK,
    LAST_WITHOUT_LOCK,
    ARMS_AFTER_UNLOCK,
    MUTANTS
};

enum {
    NEXT, /* the owner */
    AWAIT_LOCK,
    AWAIT,
    AWAIT_UNLOCK,
    LATE_ARM, /* of a mutant */
    COMMIT,
    OFF,
    RUN,
    GIVE_LOCK,
    GIVE,
    LATE_HOLD, /* of a mutant */
    GIVE_UNLOCK,
    TRY_LOCK,
    TRY,
    TRY_UNLOCK,
    CLOSED
};
enum { UNBORN, LIVE, EARLY, LOCK, DROP, LATE_EPOCH, UNLOCK, WAKE, DEAD }; /* its fibers */

struct state {
    struct fen_scope s;
    struct fen__g g;
    uint8_t pc, own, none, gave, at, disturbed;
    uint8_t child[CHILDREN];
    uint64_t epoch[CHILDREN];
};

#define TRIES 3
static struct {
    char form[TRIES + 1]; /* of the closes: t tries, u until a time, w waits; the last one waits */
    bool by_child;        /* the third is spawned by the second; else by the owner, between two */
    bool false_alarm;     /* the alarm means nothing; else it is the deadline */
} plan;

static void init(void *v)
{
    struct state *s = v;
    s->s.children = CHILDREN; /* two of them, and the owner's hold */
    s->s.owner = &s->g;
    s->child[0] = s->child[1] = LIVE;
}

static bool in_the_scope(const struct state *s)
{
    for (int i = 0; i < CHILDREN; i++)
        if (s->child[i] > UNBORN && s->child[i] < WAKE)
            return true;
    return false;
}

static bool may_spawn(const struct state *s, bool child)
{
    return s->child[2] == UNBORN && plan.by_child == child;
}

static void spawn(struct state *s)
{
    atomic_fetch_add(&s->s.children, 1); /* fen__scope_hold */
    s->child[2] = LIVE;
}

static void closes(struct state *s)
{
    ex_fail(in_the_scope(s), "closed, and a fiber is in it");
    s->pc = CLOSED;
}

static bool take_lock(struct state *s, uint8_t *pc)
{
    if (s->s.lock)
        return false;
    s->s.lock = 1;
    ++*pc;
    return true;
}

/* ---- the owner ---- */

static char form_of(const struct state *s) { return plan.form[s->at]; }

static void next(struct state *s)
{
    ex_fail(s->s.children < 1, "the owner holds nothing");
    if (s->at && may_spawn(s, false))
        spawn(s);
    s->own = 1;
    s->pc = form_of(s) == 't' ? TRY_LOCK : AWAIT_LOCK;
    if (s->pc == TRY_LOCK && ex_mutant == TRIES_WITHOUT_LOCK)
        s->pc = TRY;
}

static void await(struct state *s)
{
    if (ex_mutant == ARMS_AFTER_UNLOCK) {
        s->none = atomic_fetch_sub(&s->s.children, s->own) == s->own;
        return;
    }
    s->none = children_await(&s->s, &s->g, s->own);
}

static void awaited(struct state *s)
{
    s->s.lock = 0;
    s->pc = ex_mutant == ARMS_AFTER_UNLOCK ? LATE_ARM : COMMIT;
    if (s->none)
        closes(s);
}

static void runs(struct state *s)
{
    bool ended = s->g.state >= FEN__BY_SYNC;
    ex_fail(ended && s->s.children != 0, "woken, and fibers are left");
    s->own = ex_mutant == LETS_GO_TWICE;
    s->pc = ended || plan.false_alarm ? AWAIT_LOCK : GIVE_LOCK;
    if (s->pc == GIVE_LOCK && ex_mutant == GIVES_UP_WITHOUT_LOCK)
        s->pc = GIVE;
}

static void give(struct state *s)
{
    s->pc = GIVE_UNLOCK;
    if (ex_mutant == GIVES_UP_WITHOUT_LOCK) {
        s->gave = s->s.children != 0;
        s->pc = LATE_HOLD;
    } else if (ex_mutant == GIVES_UP_AT_ZERO) {
        s->gave = true;
        s->s.children++;
    } else {
        s->gave = children_give_up(&s->s);
        if (s->gave && ex_mutant == HOLDS_NOT_AGAIN)
            s->s.children--;
    }
    ex_fail(s->gave && !in_the_scope(s), "gives up, and nobody is left");
}

static void gave(struct state *s)
{
    if (ex_mutant != GIVES_UP_WITHOUT_LOCK)
        s->s.lock = 0;
    if (!s->gave) {
        closes(s);
        return;
    }
    s->at++;
    s->pc = NEXT;
}

static void tried(struct state *s)
{
    if (ex_mutant != TRIES_WITHOUT_LOCK)
        s->s.lock = 0;
    if (s->none) {
        closes(s);
        return;
    }
    s->at++;
    s->pc = NEXT;
}

static bool owner_parks(struct state *s)
{
    int how;
    switch (s->pc) {
    case LATE_ARM:
        s->s.join_epoch = fen__arm_locked(&s->g);
        s->pc = COMMIT;
        return true;
    case COMMIT:
        how = fiber_commit(&s->g);
        s->pc = how == 1 ? OFF : how ? RUN : COMMIT;
        return how != 0;
    case OFF:
        if (!s->g.runq)
            return false;
        s->g.runq--;
        s->pc = RUN;
        return true;
    case RUN: runs(s); return true;
    default: return false;
    }
}

static bool owner(struct state *s)
{
    switch (s->pc) {
    case NEXT: next(s); return true;
    case AWAIT_LOCK:
    case GIVE_LOCK:
    case TRY_LOCK: return take_lock(s, &s->pc);
    case AWAIT:
        await(s);
        s->pc = AWAIT_UNLOCK;
        return true;
    case AWAIT_UNLOCK: awaited(s); return true;
    case GIVE: give(s); return true;
    case LATE_HOLD:
        s->s.children += s->gave;
        s->pc = GIVE_UNLOCK;
        ex_fail(s->gave && !in_the_scope(s), "gives up, and nobody is left");
        return true;
    case GIVE_UNLOCK: gave(s); return true;
    case TRY:
        s->none = s->s.children == 1;
        s->pc = TRY_UNLOCK;
        return true;
    case TRY_UNLOCK: tried(s); return true;
    default: return owner_parks(s);
    }
}

/* ---- its fibers ---- */

static bool child(struct state *s, int i)
{
    uint8_t *pc = &s->child[i];
    ex_fail(*pc > UNBORN && *pc < WAKE && s->pc == CLOSED, "a fiber in a closed scope");
    switch (*pc) {
    case LIVE:
        if (i == 1 && may_spawn(s, true))
            spawn(s);
        *pc = EARLY;
        return true;
    case EARLY:
        *pc = children_drop_early(&s->s) ? DEAD : ex_mutant == LAST_WITHOUT_LOCK ? DROP : LOCK;
        return true;
    case LOCK: return take_lock(s, pc);
    case DROP:
        if (ex_mutant == LAST_WITHOUT_LOCK) {
            *pc = --s->s.children == 0 ? LATE_EPOCH : DEAD;
            return true;
        }
        s->epoch[i] = children_drop(&s->s);
        *pc = UNLOCK;
        return true;
    case LATE_EPOCH:
        s->epoch[i] = s->s.join_epoch;
        *pc = WAKE;
        return true;
    case UNLOCK:
        s->s.lock = 0;
        *pc = WAKE;
        return true;
    case WAKE:
        if (s->epoch[i])
            (void)fen__wake(&s->g, s->epoch[i], FEN__BY_SYNC);
        *pc = DEAD;
        return true;
    default: return false;
    }
}

/* The deadline of a wait that has one, or one false alarm. */
static bool alarm_comes(struct state *s)
{
    bool waits = s->pc == COMMIT || s->pc == OFF;
    if (!waits || (plan.false_alarm ? s->disturbed : form_of(s) != 'u') ||
        !fiber_wake(&s->g, FEN__BY_TIMER))
        return false;
    s->disturbed = 1;
    return true;
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    return actor == 0 ? owner(s) : actor == ALARM ? alarm_comes(s) : child(s, actor - 1);
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int i = 0; i < CHILDREN; i++)
        if (s->child[i] != UNBORN && s->child[i] != DEAD)
            return false;
    return s->pc == CLOSED && !s->s.lock;
}

static const struct ex_model model = {sizeof(struct state), ACTORS, init, step, done};

static void set_plan(int k)
{
    static const char *const forms[] = {"w", "uw", "uuw", "tw", "utw", "tuw"};
    memset(&plan, 0, sizeof plan);
    snprintf(plan.form, sizeof plan.form, "%s", forms[k / 4]);
    plan.by_child = k & 1;
    plan.false_alarm = k & 2;
}

static const char *name(void)
{
    static char text[40];
    snprintf(text, sizeof text, "%s, %s, %s", plan.form,
             plan.by_child ? "a fiber's" : "the owner's",
             plan.false_alarm ? "false alarm" : "deadline");
    return text;
}

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 6 * 4, set_plan, name, 60}); }
