/* pool_test.c - every interleaving of two fibers and up to two threads on src/sync/offload.c: jobs
 * that are queued, taken, run, withdrawn at a deadline or refused, threads that fall asleep on the
 * futex, and the end of the run. Each job that was accepted runs once, unless its fiber took it out
 * before; no thread touches a job whose fiber has gone on; nobody sleeps for ever. */
#define FEN__JOB_BYTES 96
#define FEN__BLOCKING_MAX 2
#define FEN_MEM_H /* who pays is no matter here */
#include "fiber.h"

#include <pthread.h>
#include <stdatomic.h>

/* in place of what offload.c needs of sys and sched; the model's own steps stand for those that
 * sleep */
struct fen__at_end {
    void (*fn)(void);
};
static int start_thread(void);
static int fen__sys_thread(pthread_t *ret, size_t bytes, void *(*fn)(void *), void *arg)
{
    (void)ret, (void)bytes, (void)fn, (void)arg;
    return start_thread();
}
static void fen__sys_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
    (void)word, (void)seen, (void)deadline_ns;
    abort();
}
static void fen__sys_futex_wake(_Atomic uint32_t *word, int n) { (void)word, (void)n, abort(); }
static void fen__mem_pay_as(uint32_t account) { (void)account; }
static int64_t fen__sys_thread_cpu(void) { return 0; }
static void fen__sys_nap(int64_t ns) { (void)ns, abort(); }
static bool fen__sys_past(int64_t deadline_ns) { return (void)deadline_ns, false; }
static void fen__run_at_end(struct fen__at_end *e) { (void)e; }
static int fen__max_blocking(void) { return FEN__BLOCKING_MAX; }
static bool fen__sim_here(void) { return false; }
static void fen__charge_extra(struct fen__m *m, int64_t ns) { (void)m, (void)ns; }
static uint64_t fen__arm(struct fen__g *g) { return fen__arm_locked(g); }

#include "../../src/sync/offload.c"

enum { FIBERS = 2, THREADS = 2, STOPPER = FIBERS + THREADS, ALARM = STOPPER + 1 };

enum {
    NONE,
    NO_SIGNAL,
    NO_COUNT,
    WAKE_BEFORE_DONE,
    LEAVES_RUNNING_JOB,
    JOB_STAYS,
    ARM_AFTER_LOCK,
    OLD_EPOCH,
    STOP_IN_SILENCE,
    REFUSED_JOB_STAYS,
    MUTANTS
};

enum { SUBMIT, SIGNAL, WAIT, ARM, COMMIT, OFF, RUN, WITHDRAW, FINISHED };
enum { UNBORN, LOOK, ENTER, ASLEEP, BACK, WORK, END_JOB, WAKE, LATE_END, ENDED };

struct fiber {
    uint8_t pc, times, ran, masked, alarmed;
};

struct thread {
    uint8_t pc;
    uint32_t seen;
    struct job *job;
    struct fen__g *g;
    uint64_t epoch;
};

struct state {
    __typeof__(pool) pool;
    struct fen__g g[FIBERS];
    struct fiber f[FIBERS];
    struct thread t[THREADS];
    uint8_t stopped;
};

static struct {
    int max, can_start;
    uint8_t times[FIBERS];
    bool alarm[FIBERS], at_once;
} plan;

static int start_thread(void) { return pool.threads < plan.can_start ? 0 : -EAGAIN; }

static struct job *job_of(struct state *s, int i) { return (struct job *)(void *)s->g[i].job; }

static void init(void *v)
{
    struct state *s = v;
    s->pool.max = plan.max;
    for (uint32_t i = 0; i < FIBERS; i++) {
        s->g[i].id = i;
        s->f[i].pc = plan.times[i] ? SUBMIT : FINISHED;
    }
}

static void wake_threads(struct state *s, int n)
{
    for (int t = 0; t < THREADS && n; t++)
        if (s->t[t].pc == ASLEEP) {
            s->t[t].pc = BACK;
            n--;
        }
}

/* ---- a fiber ---- */

static void returns(struct state *s, int i, int ran)
{
    struct fiber *f = &s->f[i];
    ex_fail(f->ran != ran,
            ran ? "it returns and its job has not run" : "a job that was taken back");
    f->ran = 0;
    f->masked = 0;
    f->times++;
    f->pc = f->times < plan.times[i] ? SUBMIT : FINISHED;
}

static void submits(struct state *s, int i)
{
    struct job *j = job_of(s, i);
    uint32_t wake = pool.wake;
    *j = (struct job){.g = &s->g[i], .state = QUEUED};
    int rc = enqueue(j, plan.at_once && i == 1);
    if (ex_mutant == NO_COUNT)
        pool.wake = wake;
    if (rc && ex_mutant == REFUSED_JOB_STAYS)
        push(j);
    s->f[i].pc = pool.idle && ex_mutant != NO_SIGNAL ? SIGNAL : WAIT;
    if (rc)
        returns(s, i, 0);
}

static void waits(struct state *s, int i)
{
    struct fiber *f = &s->f[i];
    if (ex_mutant == ARM_AFTER_LOCK && job_of(s, i)->state != DONE)
        f->pc = ARM;
    else if (look(job_of(s, i), &s->g[i]) != DONE)
        f->pc = COMMIT;
    else
        returns(s, i, 1);
}

static void withdraws(struct state *s, int i)
{
    struct job *j = job_of(s, i);
    bool stays = ex_mutant == JOB_STAYS && j->state == QUEUED;
    if (stays || withdraw(j) || ex_mutant == LEAVES_RUNNING_JOB) {
        returns(s, i, 0);
    } else {
        s->f[i].masked = 1;
        s->f[i].pc = WAIT;
    }
}

static bool fiber_step(struct state *s, int i)
{
    struct fiber *f = &s->f[i];
    int how;
    switch (f->pc) {
    case SUBMIT: submits(s, i); return true;
    case SIGNAL:
        wake_threads(s, 1);
        f->pc = WAIT;
        return true;
    case WAIT: waits(s, i); return true;
    case ARM:
        job_of(s, i)->epoch = fen__arm(&s->g[i]);
        f->pc = COMMIT;
        return true;
    case COMMIT:
        how = fiber_commit(&s->g[i]);
        f->pc = how == 1 ? OFF : how ? RUN : COMMIT;
        return how != 0;
    case OFF:
        if (!s->g[i].runq)
            return false;
        s->g[i].runq--;
        f->pc = RUN;
        return true;
    case RUN: f->pc = s->g[i].state < FEN__BY_SYNC && !f->masked ? WITHDRAW : WAIT; return true;
    case WITHDRAW: withdraws(s, i); return true;
    default: return false;
    }
}

/* ---- a thread ---- */

static void works(struct state *s, struct thread *t)
{
    int i = t->job == job_of(s, 0) ? 0 : 1;
    ex_fail(t->job->state != RUNNING || s->f[i].pc == FINISHED || s->f[i].pc == SUBMIT,
            "a thread runs a job that its fiber has left");
    s->f[i].ran++;
    t->epoch = t->job->epoch;
    t->pc = END_JOB;
}

static void ends_job(struct thread *t)
{
    t->g = t->job->g;
    if (ex_mutant != OLD_EPOCH)
        t->epoch = t->job->epoch;
    t->pc = WAKE;
    if (ex_mutant != WAKE_BEFORE_DONE) {
        end_job(t->job, 7, 0);
        t->job = NULL;
    }
}

static bool thread_step(struct state *s, int n)
{
    struct thread *t = &s->t[n];
    switch (t->pc) {
    case UNBORN: t->pc = pool.threads > n ? LOOK : UNBORN; return pool.threads > n;
    case BACK: pool.idle--; /* the lock is held on */ /* fall through */
    case LOOK:
        if (pool.head || pool.stop) {
            t->job = take_first();
            t->pc = t->job ? WORK : ENDED;
        } else {
            t->seen = pool.wake;
            pool.idle++;
            t->pc = ENTER;
        }
        return true;
    case ENTER: t->pc = pool.wake == t->seen ? ASLEEP : BACK; return true;
    case WORK: works(s, t); return true;
    case END_JOB: ends_job(t); return true;
    case WAKE:
        (void)fen__wake(t->g, t->epoch, FEN__BY_SYNC);
        t->g = NULL;
        t->epoch = 0;
        t->pc = t->job ? LATE_END : LOOK;
        return true;
    case LATE_END:
        end_job(t->job, 7, 0);
        t->job = NULL;
        t->pc = LOOK;
        return true;
    default: return false; /* ASLEEP: until it is woken */
    }
}

/* ---- all ---- */

static bool finished(const struct state *s)
{
    return s->f[0].pc == FINISHED && s->f[1].pc == FINISHED;
}

static bool others_step(struct state *s, int actor)
{
    if (actor == STOPPER) {
        if (s->stopped || !finished(s))
            return false;
        s->stopped = 1;
        pool.stop = true;
        if (ex_mutant != STOP_IN_SILENCE) {
            pool.wake++;
            wake_threads(s, THREADS);
        }
        return true;
    }
    int i = actor - ALARM;
    if (!plan.alarm[i] || s->f[i].alarmed || s->f[i].masked || !fiber_wake(&s->g[i], FEN__BY_TIMER))
        return false;
    s->f[i].alarmed = 1;
    return true;
}

static bool step(void *v, int actor)
{
    struct state *s = v;
    memcpy(&pool, &s->pool, sizeof pool);
    bool moved = actor < FIBERS    ? fiber_step(s, actor)
                 : actor < STOPPER ? thread_step(s, actor - FIBERS)
                                   : others_step(s, actor);
    memcpy(&s->pool, &pool, sizeof pool);
    return moved;
}

static bool done(const void *v)
{
    const struct state *s = v;
    for (int t = 0; t < s->pool.threads; t++)
        if (s->t[t].pc != ENDED)
            return false;
    return finished(s) && s->stopped && !s->pool.head && !s->pool.queued && !s->pool.running &&
           !s->pool.idle;
}

static const struct ex_model model = {sizeof(struct state), ALARM + FIBERS, init, step, done};

static void set_plan(int k)
{
    plan.max = k & 1 ? 2 : 1;
    plan.can_start = k & 2 ? 1 : plan.max; /* the second cannot be had */
    plan.alarm[0] = true;
    plan.alarm[1] = k & 4;
    plan.at_once = k & 8;
    plan.times[0] = k & 16 && (!(k & 1) || k == 17) ? 2 : 1; /* with two threads one plan will do */
    plan.times[1] = 1;
    if (k == 32)
        plan.can_start = 0; /* no thread at all */
}

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 33, set_plan, NULL, 3}); }
