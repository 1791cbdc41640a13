/* cond_test.c - every interleaving of two waiters and a signal on src/sync/cond.c: the signal of
 * the one token is not lost, whatever wakes the first waiter meanwhile. */
#include "fiber.h"

/* in place of sys */
static int naps;
static void fen__sys_nap(int64_t ns) { naps += ns > 0; }

#include "../../src/sync/cond.c"
#include "../../src/sync/waitq.c"

/* cond.c's own calls of the mutex; the model has its own */
int fen_mutex_lock_until(fen_mutex *m, int64_t deadline_ns)
{
    (void)m;
    (void)deadline_ns;
    abort();
}
static const int *lock_says; /* what the next calls return, to the first 0 */
int fen_mutex_lock(fen_mutex *m)
{
    (void)m;
    return lock_says ? *lock_says++ : 1;
}
void fen_mutex_unlock(fen_mutex *m) { (void)m; }

enum { WAITERS = 2, SIGNALLER = WAITERS };

enum {
    NONE,
    UNLOCK_BEFORE_QUEUE,
    SIGNAL_WITHOUT_CLAIM,
    DEADLINE_OVER_SIGNAL,
    FALSE_ALARM_WAITS_ON,
    NODE_STAYS,
    SIGNAL_BEFORE_TOKEN,
    MUTANTS
};

enum {
    LOCK,
    LOOK,
    QUEUE,
    UNLOCK,
    COMMIT,
    OFF,
    RUN,
    WITHDRAW,
    RELOCK,
    LEAVE,
    GIVE,
    WAKE,
    HAND,
    FINISHED
};

struct actor {
    uint8_t pc, disturbed, timed_out, took;
};

struct state {
    fen_cond c;
    struct fen__g g[WAITERS];
    struct actor a[WAITERS + 1];
    struct fen__woken w;
    uint8_t mutex; /* holder + 1 */
    uint8_t tokens;
};

/* The first waiter's alarm is a deadline (it leaves without a look) or a false alarm; the signal is
 * sent under the mutex or after it; one token and a signal, or two and a broadcast. */
static struct {
    bool deadline, inside, all;
} plan;

static void init(void *v)
{
    struct state *s = v;
    for (uint32_t i = 0; i < WAITERS; i++)
        s->g[i].id = i;
}

static bool lock_mutex(struct state *s, int i)
{
    if (s->mutex)
        return false;
    s->mutex = (uint8_t)(i + 1);
    return true;
}

static void queue_node(struct state *s, int i)
{
    ex_fail(s->g[i].node.queue != NULL, "a node twice in a wait queue");
    wait_begin(&s->c, &s->g[i]);
}

/* fen_cond_wait up to the park: queue, unlock; the mutant the other way round. */
static void before_park(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool late = ex_mutant == UNLOCK_BEFORE_QUEUE;
    bool first = a->pc == QUEUE;
    if (first != late)
        queue_node(s, i);
    else
        s->mutex = 0;
    a->pc = first ? UNLOCK : COMMIT;
}

static void run(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    bool signalled = s->g[i].state >= FEN__BY_SYNC;
    bool over = ex_mutant == DEADLINE_OVER_SIGNAL && a->disturbed && plan.deadline;
    a->timed_out = over || (!signalled && plan.deadline);
    a->pc = signalled ? RELOCK : WITHDRAW;
}

static bool wait_step(struct state *s, int i)
{
    struct actor *a = &s->a[i];
    int how;
    switch (a->pc) {
    case LOCK:
    case RELOCK:
        if (!lock_mutex(s, i))
            return false;
        a->pc = a->timed_out ? LEAVE : LOOK;
        if (a->pc == LOOK && s->g[i].epoch && ex_mutant == FALSE_ALARM_WAITS_ON &&
            s->g[i].state < FEN__BY_SYNC)
            a->pc = QUEUE;
        return true;
    case LOOK:
        a->pc = s->tokens ? LEAVE : QUEUE;
        a->took = s->tokens > 0;
        s->tokens -= a->took;
        return true;
    case QUEUE:
    case UNLOCK: before_park(s, i); return true;
    case COMMIT:
        how = fiber_commit(&s->g[i]);
        if (!how)
            return false;
        a->pc = how == 1 ? OFF : RUN;
        return true;
    case OFF:
        if (!s->g[i].runq)
            return false;
        s->g[i].runq--;
        a->pc = RUN;
        return true;
    case RUN: run(s, i); return true;
    case WITHDRAW:
        if (ex_mutant != NODE_STAYS)
            wait_end(&s->c, &s->g[i].node);
        a->pc = RELOCK;
        return true;
    case LEAVE:
        s->mutex = 0;
        a->pc = FINISHED;
        return true;
    default: return false;
    }
}

static void signal_it(struct state *s)
{
    struct fen__node *n = s->c.waiters.head;
    if (ex_mutant != SIGNAL_WITHOUT_CLAIM) {
        wake(&s->c, plan.all, &s->w);
    } else if (n) {
        fen__waitq_remove(&s->c.waiters, n);
        (void)fiber_wake(n->g, FEN__BY_SYNC);
    }
}

/* Takes the mutex, gives the tokens, wakes inside it or after. */
static bool signal_step(struct state *s)
{
    struct actor *a = &s->a[SIGNALLER];
    struct fen__node *n = s->w.head;
    bool early = ex_mutant == SIGNAL_BEFORE_TOKEN;
    switch (a->pc) {
    case LOCK:
        if (early) {
            signal_it(s);
            a->pc = HAND;
            return true;
        }
        if (!lock_mutex(s, SIGNALLER))
            return false;
        a->pc = GIVE;
        return true;
    case GIVE:
        s->tokens = plan.all ? WAITERS : 1;
        a->pc = plan.inside ? WAKE : LEAVE;
        return true;
    case WAKE:
        signal_it(s);
        a->pc = HAND;
        return true;
    case HAND:
        if (n) {
            s->w.head = n->next;
            fen__waitq_done(n, n->rc, 0);
            return true;
        }
        s->w.last = NULL;
        if (early && !s->tokens && !a->took) {
            if (!lock_mutex(s, SIGNALLER))
                return false;
            s->tokens = plan.all ? WAITERS : 1;
            a->took = 1;
            s->mutex = 0;
            a->pc = FINISHED;
            return true;
        }
        a->pc = plan.inside ? LEAVE : FINISHED;
        return true;
    case LEAVE:
        s->mutex = 0;
        a->pc = plan.inside ? FINISHED : WAKE;
        return true;
    default: return false;
    }
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    if (actor < WAITERS)
        return wait_step(s, actor);
    if (actor == SIGNALLER)
        return signal_step(s);
    if (s->a[0].disturbed || !s->g[0].epoch)
        return false;
    s->a[0].disturbed = 1;
    (void)fiber_wake(&s->g[0], FEN__BY_TIMER);
    return true;
}

/* The tokens went to those who could take them. A waiter sleeps on only when there is none. */
static bool done(const void *v)
{
    const struct state *s = v;
    if (s->a[SIGNALLER].pc != FINISHED || s->mutex)
        return false;
    for (int i = 0; i < WAITERS; i++)
        if (s->a[i].pc != FINISHED && (s->tokens || plan.all || s->a[i].pc != OFF || s->g[i].runq))
            return false;
    return true;
}

static const struct ex_model model = {sizeof(struct state), WAITERS + 2, init, step, done};

static void set_plan(int k)
{
    plan.deadline = k & 1;
    plan.inside = k & 2;
    plan.all = k & 4;
}

/* Whatever stands in the way, the mutex is held in the end. */
static void test_locks_again(void **state)
{
    static const int says[] = {FEN_ELIMIT, -ECANCELED, FEN_ELIMIT, 0};
    fen_mutex m = {0};
    (void)state;
    lock_says = says;
    lock_again(&m);
    assert_ptr_equal(lock_says, says + 4);
    assert_int_equal(naps, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_locks_again)};
    return cmocka_run_group_tests(tests, NULL, NULL) ||
           ex_main(&(struct ex_suite){&model, MUTANTS, 8, set_plan, NULL, 200});
}
