/* timer_test.c - every interleaving of start, stop, receive and free with firings on two workers,
 * on src/sync/timer.c as it is: the heap and the channel are the model's.
 *
 * A worker takes a due timer out of the heap and later calls fire with the seq that it had then.
 * The value that a firing sends is its seq, so a stale one shows. */
#include "fiber.h"

struct fen__timer {
    int64_t when_ns;
    int32_t at, home;
    void (*fn)(void *arg, uint64_t seq);
    void *arg;
    uint64_t seq;
};
static int fen__timer_add(struct fen__timer *t, int64_t when_ns,
                          void (*fn)(void *arg, uint64_t seq), void *arg, uint64_t seq);
static bool fen__timer_del(struct fen__timer *t);

#define fen__mem_calloc model_calloc
#define fen__mem_free model_free
static int64_t fen__sys_now(void);
static void fen__sys_nap(int64_t ns);
#define fen__chan_make model_chan_make
#define fen_chan_free model_chan_free
#define fen_chan_try_send model_try_send
#define fen_chan_try_recv model_try_recv
#define fen_chan_close model_close
#include "../../src/sync/timer.c"

enum { WORKERS = 2, OWNER = WORKERS, RECEIVER, ACTORS };

enum {
    NONE,
    FIRE_LOOKS_AT_NO_SEQ,
    STOP_TAKES_NOTHING_BACK,
    STOP_KEEPS_THE_SEQ,
    STOP_COUNTS_NONE_LATE,
    FREE_WAITS_FOR_NOBODY,
    STOP_SAYS_ONLY_ACTIVE,
    MUTANTS
};

struct worker {
    uint8_t popped; /* has one to fire */
    uint64_t seq;
};

struct state {
    struct fen_timer t;
    struct worker x[WORKERS];
    uint64_t value, boundary; /* in the channel; older ones are stale to the owner */
    uint8_t full, freed, pc, stopped, got, tries;
    struct fen_chan c; /* ends in an array: no member may follow */
};

static struct state *cur;
static uint64_t firing; /* seq of the firing whose step this is */
static bool ticker;

/* ---- the model's heap, channel and clock ---- */

static int fen__timer_add(struct fen__timer *t, int64_t when_ns, void (*fn)(void *, uint64_t),
                          void *arg, uint64_t seq)
{
    ex_fail(t->at >= 0, "a timer twice in the heap");
    *t = (struct fen__timer){.when_ns = when_ns, .at = 0, .fn = fn, .arg = arg, .seq = seq};
    return 0;
}

static bool fen__timer_del(struct fen__timer *t)
{
    bool was = t->at >= 0;
    t->at = -1;
    return was;
}

void *model_calloc(size_t bytes) { return calloc(1, bytes); }
void model_free(void *p, size_t bytes)
{
    (void)bytes;
    free(p);
}
static int64_t fen__sys_now(void) { return (int64_t)firing; }
static void fen__sys_nap(int64_t ns)
{
    (void)ns;
    abort();
}
fen_chan *model_chan_make(size_t elem_bytes, size_t capacity, const void *site)
{
    (void)elem_bytes;
    (void)capacity;
    (void)site;
    return NULL;
}
void model_chan_free(fen_chan *c) { (void)c; }
int model_close(fen_chan *c)
{
    (void)c;
    return 0;
}
int model_try_send(fen_chan *c, const void *elem)
{
    (void)c;
    ex_fail(cur->freed, "a firing after free");
    if (cur->full)
        return -EAGAIN;
    cur->full = 1;
    cur->value = (uint64_t) * (const int64_t *)elem;
    return 0;
}
int model_try_recv(fen_chan *c, void *ret_elem)
{
    (void)c;
    if (!cur->full)
        return -EAGAIN;
    if (ret_elem)
        *(uint64_t *)ret_elem = cur->value;
    cur->full = 0;
    return 0;
}

/* ---- steps ---- */

static bool worker_step(struct state *s, struct worker *x)
{
    if (!x->popped) {
        if (s->t.timer.at < 0)
            return false;
        s->t.timer.at = -1;
        x->popped = 1;
        x->seq = s->t.timer.seq;
        return true;
    }
    ex_fail(s->freed, "a firing after free");
    firing = x->seq;
    fire(&s->t, ex_mutant == FIRE_LOOKS_AT_NO_SEQ ? s->t.seq : x->seq);
    s->t.when_ns = 1; /* the states shall not differ by time */
    *x = (struct worker){0};
    return true;
}

static bool stop(struct state *s)
{
    fen_timer *t = &s->t;
    uint64_t seq = t->seq;
    uint32_t late = t->late;
    bool active = t->active, full = s->full;
    bool was = disarm(t);
    if (ex_mutant == STOP_TAKES_NOTHING_BACK) {
        s->full = full;
        was = active;
    }
    if (ex_mutant == STOP_KEEPS_THE_SEQ)
        t->seq = seq;
    if (ex_mutant == STOP_COUNTS_NONE_LATE)
        t->late = late;
    return ex_mutant == STOP_SAYS_ONLY_ACTIVE ? active : was;
}

static void start_it(struct state *s)
{
    (void)stop(s);
    s->boundary = s->t.seq;
    s->t.period_ns = ticker;
    (void)arm(&s->t, 1);
}

/* start; stop; nothing can be received; start; receive; free. */
static bool owner_step(struct state *s)
{
    uint64_t v = 0;
    switch (s->pc) {
    case 0:
    case 3: start_it(s); break;
    case 1:
        s->stopped = stop(s);
        s->boundary = s->t.seq;
        ex_fail(!ticker && s->stopped == s->got, "stop and the receiver disagree");
        break;
    case 2: ex_fail(model_try_recv(s->t.c, &v) == 0, "a value after stop"); break;
    case 4:
        if (model_try_recv(s->t.c, &v))
            return false;
        ex_fail(v < s->boundary, "a stale value");
        break;
    case 5: (void)stop(s); break;
    case 6:
        if (s->t.late && ex_mutant != FREE_WAITS_FOR_NOBODY)
            return false;
        s->freed = 1;
        break;
    default: return false;
    }
    s->pc++;
    return true;
}

/* Another fiber, which tries twice while the timer runs for the first time. */
static bool receiver_step(struct state *s)
{
    uint64_t v;
    if (s->tries == 2 || s->pc > 1)
        return false;
    s->tries++;
    s->got |= model_try_recv(s->t.c, &v) == 0;
    return true;
}

static bool step(void *v, int actor)
{
    cur = v;
    firing = 0;
    if (actor < WORKERS)
        return worker_step(cur, &cur->x[actor]);
    return actor == OWNER ? owner_step(cur) : receiver_step(cur);
}

static void init(void *v)
{
    struct state *s = v;
    s->t.timer.at = -1;
    s->t.c = &s->c;
    s->t.seq = 1;
}

static bool done(const void *v)
{
    const struct state *s = v;
    return s->freed && !s->x[0].popped && !s->x[1].popped && !s->t.late;
}

static const struct ex_model model = {sizeof(struct state), ACTORS, init, step, done};

static void plan(int k) { ticker = k; }
static const char *name(void) { return ticker ? "ticker" : "once"; }

int main(void) { return ex_main(&(struct ex_suite){&model, MUTANTS, 2, plan, name, 100}); }
