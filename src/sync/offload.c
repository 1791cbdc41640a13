/* offload.c - fen_blocking: a call on a thread of a bounded pool, the fiber parks meanwhile.
 *
 * A job lies in its fiber (fen__g.job), so the pool never points into a stack of its own accord:
 *
 *   QUEUED --- a thread takes it ---> RUNNING --- fn returned ---> DONE, the fiber is woken
 *     '------- the fiber takes it out: deadline or cancellation
 *
 * All three under the pool's lock. Whether the call is to begin at all is asked before its job is
 * queued: from then on a thread may take it at any moment. A fiber whose job runs waits masked: the
 * job may be using what arg points to, so the only sound way to leave early would be to own it.
 * After DONE the thread touches nothing of the job; the wake carries the epoch, so a late one is
 * harmless.
 *
 * Threads are made when jobs wait and nobody is idle, up to the limit, and live until the run ends;
 * an idle one sleeps on a futex. They are joined when the last fiber has ended and before the
 * workers stop, because a wake needs the workers' pollers.
 *
 * Against fen_blocking_begin/end: there the call runs on the fiber's own stack and up to a thousand
 * threads may be blocked; here their number is bounded, and the P is never without a worker. */
#include "sync/sync_int.h"

#include "mem/mem.h"

#include <fen/io.h>

#include <assert.h>
#include <pthread.h>

#define STACK_BYTES (1u << 20)

enum { QUEUED, RUNNING, DONE };

struct job {
    struct job *next, *prev;
    struct fen__g *g;
    uint64_t epoch;
    int (*fn)(void *arg);
    void *arg;
    int64_t cpu_ns; /* what the thread used for it */
    int32_t rc;
    int32_t state;
};
static_assert(sizeof(struct job) <= FEN__JOB_BYTES, "a job fits into the fiber");

static struct {
    uint32_t lock;
    bool stop;
    int threads, idle, queued, max;
    int running; /* jobs; a thread that runs none is idle, or will soon look for one */
    struct job *head, *tail;
    _Atomic uint32_t wake;
    pthread_t thread[FEN__BLOCKING_MAX];
} pool;

/* ---- the queue; lock held ---- */

static void push(struct job *j)
{
    j->next = NULL;
    j->prev = pool.tail;
    if (pool.tail)
        pool.tail->next = j;
    else
        pool.head = j;
    pool.tail = j;
    pool.queued++;
}

static void take_out(struct job *j)
{
    if (j->prev)
        j->prev->next = j->next;
    else
        pool.head = j->next;
    if (j->next)
        j->next->prev = j->prev;
    else
        pool.tail = j->prev;
    pool.queued--;
}

/* ---- a thread ---- */

/* Lock held. The first job, which runs from now on; NULL: there is none. */
static struct job *take_first(void)
{
    struct job *j = pool.head;
    if (j) {
        take_out(j);
        j->state = RUNNING;
        pool.running++;
    }
    return j;
}

/* Lock held. From now on the job is its fiber's again. */
static void end_job(struct job *j, int rc, int64_t cpu_ns)
{
    j->rc = rc;
    j->cpu_ns = cpu_ns;
    j->state = DONE;
    pool.running--;
}

/* Lock held; the next job, or NULL when the run ends. */
static struct job *next_job(void)
{
    while (!pool.head && !pool.stop) {
        uint32_t seen = atomic_load(&pool.wake);
        pool.idle++;
        fen__unlock(&pool.lock);
        fen__sys_futex_wait(&pool.wake, seen, FEN_NEVER);
        fen__lock(&pool.lock);
        pool.idle--;
    }
    return take_first();
}

static void *thread_main(void *arg)
{
    (void)arg;
    int64_t cpu = 0; /* all that the thread has used is some job's, its own start and waits too */
    struct job *j;
    fen__lock(&pool.lock);
    while ((j = next_job())) {
        uint32_t account = j->g->account; /* the fiber waits: nobody changes it */
        fen__unlock(&pool.lock);
        fen__mem_pay_as(account);
        int rc = j->fn(j->arg);
        fen__mem_pay_as(0);
        int64_t now = fen__sys_thread_cpu();
        fen__lock(&pool.lock);
        struct fen__g *g = j->g;
        uint64_t epoch = j->epoch;
        end_job(j, rc, now - cpu);
        cpu = now;
        fen__unlock(&pool.lock);
        fen__wake(g, epoch, FEN__BY_SYNC);
        fen__lock(&pool.lock);
    }
    fen__unlock(&pool.lock);
    return NULL;
}

static void pool_stop(void)
{
    fen__lock(&pool.lock);
    pool.stop = true;
    atomic_fetch_add(&pool.wake, 1);
    int n = pool.threads;
    fen__unlock(&pool.lock);
    fen__sys_futex_wake(&pool.wake, n);
    for (int i = 0; i < n; i++)
        pthread_join(pool.thread[i], NULL);
    pool.threads = 0;
    pool.stop = false;
}

/* Lock held. One more thread, unless as many as there are jobs are waiting already. */
static int add_thread(void)
{
    if (pool.idle >= pool.queued || pool.threads >= pool.max)
        return 0;
    int rc = fen__sys_thread(&pool.thread[pool.threads], STACK_BYTES, thread_main, NULL);
    if (rc)
        return pool.threads ? 0 : -EAGAIN; /* one that is there will come round to it */
    pool.threads++;
    return 0;
}

/* ---- a fiber ---- */

/* Lock held. 0, or it is not in the queue. at_once: only if no other job has to end first. */
static int enqueue(struct job *j, bool at_once)
{
    push(j);
    int rc = add_thread();
    if (at_once && pool.running + pool.queued > pool.threads)
        rc = -EAGAIN;
    if (rc)
        take_out(j);
    atomic_fetch_add(&pool.wake, 1);
    return rc;
}

/* RT. */
static int submit(struct job *j, bool at_once)
{
    static struct fen__at_end at_end = {.fn = pool_stop};
    fen__run_at_end(&at_end);
    fen__lock(&pool.lock);
    pool.max = fen__max_blocking();
    int rc = enqueue(j, at_once);
    bool idle = pool.idle > 0;
    fen__unlock(&pool.lock);
    if (idle)
        fen__sys_futex_wake(&pool.wake, 1);
    return rc;
}

/* The state, which the fiber will be told of if it is not DONE yet. */
static int look(struct job *j, struct fen__g *g)
{
    fen__lock(&pool.lock);
    int state = j->state;
    if (state != DONE)
        j->epoch = fen__arm(g);
    fen__unlock(&pool.lock);
    return state;
}

/* RT. The state after one round: it has not changed, or the job is DONE. */
static int wait_once(struct job *j, struct fen__g *g, int64_t deadline_ns, int *ret_code)
{
    int state = look(j, g);
    if (state != DONE)
        *ret_code = fen__park(deadline_ns, FEN__R_BLOCKING);
    return state;
}

/* RT. True: it had not begun and will not. */
static bool withdraw(struct job *j)
{
    fen__lock(&pool.lock);
    bool mine = j->state == QUEUED;
    if (mine)
        take_out(j);
    fen__unlock(&pool.lock);
    return mine;
}

/* In a simulated run the one worker waits itself: nothing else happens meanwhile, so the thread has
 * no say in the order of things. */
static void wait_here(struct job *j)
{
    for (int state = QUEUED; state != DONE;) {
        fen__sys_nap(20 * FEN_US);
        fen__lock(&pool.lock);
        state = j->state;
        fen__unlock(&pool.lock);
    }
}

static int wait_for(struct job *j, struct fen__g *g, int64_t deadline_ns)
{
    int code = 0, rc = 0;
    while (!rc && wait_once(j, g, deadline_ns, &code) != DONE)
        rc = fen__code_rc(g, code);
    if (!rc)
        return 0;
    if (withdraw(j))
        return rc;
    g->mask++; /* it runs: nothing but its end ends the wait */
    while (wait_once(j, g, FEN_NEVER, &code) != DONE)
        ;
    g->mask--;
    return 0;
}

static int blocking(int (*fn)(void *arg), void *arg, bool at_once, int64_t deadline_ns)
{
    struct fen__m *m = fen__enter();
    int rc = m ? fen__limit_rc(fen__cur(m)) : 0;
    if (!rc && fen__sys_past(deadline_ns))
        rc = -ETIMEDOUT;
    if (!m)
        return rc ? rc : fn(arg);
    struct fen__g *g = fen__cur(m);
    struct job *j = (struct job *)(void *)g->job;
    *j = (struct job){.g = g, .fn = fn, .arg = arg, .state = QUEUED};
    if (!rc)
        rc = submit(j, at_once);
    if (!rc && FEN__UNLIKELY(fen__sim_here()))
        wait_here(j);
    if (!rc) {
        rc = wait_for(j, g, deadline_ns);
        if (!rc) {
            fen__charge_extra(fen__self(), j->cpu_ns);
            rc = j->rc;
        }
    }
    fen__leave(fen__self());
    return rc;
}

int fen_blocking_until(int (*fn)(void *arg), void *arg, int64_t deadline_ns)
{
    return blocking(fn, arg, false, deadline_ns);
}
int fen_blocking(int (*fn)(void *arg), void *arg) { return blocking(fn, arg, false, FEN_NEVER); }
int fen_try_blocking(int (*fn)(void *arg), void *arg) { return blocking(fn, arg, true, FEN_NEVER); }
