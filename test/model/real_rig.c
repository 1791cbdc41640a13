/* real_rig.c - see real_rig.h. */
#include "real_rig.h"

struct fen__p rig_p[RIG_PS];
struct fen__m rig_m[RIG_PS];
struct fen__g rig_g[RIG_GS];
struct rig_hooks rig;

_Thread_local struct fen__m *fen__self_tls;
struct fen__m *fen__aside(void) { return NULL; }
uint64_t fen__long_ticks, fen__window_ticks;
struct fen__see fen__see;

void rig_init(int n)
{
    memset(rig_p, 0, sizeof rig_p);
    memset(rig_m, 0, sizeof rig_m);
    memset(rig_g, 0, sizeof rig_g);
    memset(&rig, 0, sizeof rig);
    memset(&fen__sched, 0, sizeof fen__sched);
    fen__sched.global_tail = &fen__sched.global_head;
    fen__sched.ps = rig_p;
    fen__sched.nps = fen__sched.nprocs = fen__sched.n_live = n;
    for (int i = 0; i < n; i++) {
        struct fen__p *p = &rig_p[i];
        fen__queue_init(p);
        p->number = (uint32_t)i;
        p->rand = (uint64_t)i + 1;
        p->timers.next_ns = FEN_NEVER;
        p->timers.next_tsc = UINT64_MAX;
        p->m = &rig_m[i];
        rig_m[i].p = p;
        il_own(&rig_m[i].tally, sizeof rig_m[i].tally);
    }
    for (uint32_t i = 0; i < RIG_GS; i++) {
        rig_g[i].id = i;
        rig_g[i].sp = &rig_g[i];
    }
}

/* ---- what the files call ---- */

static bool is_free(void *word) { return !*(uint32_t *)word; }
void fen__lock_slow(uint32_t *word)
{
    do
        il_wait(is_free, word);
    while (!real_trylock(word));
}
void fen__unlock_slow(uint32_t *word)
{
    (void)word;
    abort();
}
void fen__panic(const char *what, const char *file, int line)
{
    (void)file, (void)line;
    il_fail(true, what);
    abort();
}

void fen__swap(struct fen__m *m, enum fen__act act) { rig.swap(m, act); }
int fen__poll_wait(uint32_t shard, fen__waiter *ret, int n, int64_t deadline_ns, bool *ret_kicked)
{
    (void)ret, (void)n;
    if (!deadline_ns)
        return 0;
    rig.sleep(shard);
    *ret_kicked = true;
    return 0;
}
void fen__poll_kick(uint32_t shard) { rig.kick(shard); }
int fen__timer_add(struct fen__timer *t, int64_t when_ns, void (*fn)(void *arg, uint64_t seq),
                   void *arg, uint64_t seq)
{
    (void)when_ns;
    t->fn = fn;
    t->arg = arg;
    t->seq = seq;
    return rig.timer_add(t);
}
bool fen__timer_del(struct fen__timer *t)
{
    (void)t;
    return true; /* one that is under way fires all the same, late */
}
void fen__sys_membarrier(void) { il_membarrier(); }
void fen__m_give(struct fen__m *m, struct fen__p *p)
{
    m->p = p;
    p->m = m;
    rig.give(m);
}
struct fen__m *fen__m_new(struct fen__p *p)
{
    (void)p;
    return NULL;
}
struct fen__g *fen__g_at(uint32_t id) { return &rig_g[id]; }

/* Nothing of it is looked at here. */
int64_t fen__sys_now(void) { return 1; }
bool fen__poll_pending(uint32_t shard)
{
    (void)shard;
    return false;
}
void fen__mem_idle(void) {}
void fen__stall_note(struct fen__m *m, enum fen_event_kind kind, int64_t now)
{
    (void)m, (void)kind, (void)now;
}
void fen__stall_begin(void) {}
void fen__stall_refused(int64_t stuck_ns, int64_t now) { (void)stuck_ns, (void)now; }
void fen__section_taken(uintptr_t site) { (void)site; }
int64_t fen__sys_cpu_of(int tid)
{
    (void)tid;
    return 0;
}
void fen__sys_futex_wake(_Atomic uint32_t *word, int n) { (void)word, (void)n; }
void fen__timers_run(struct fen__p *p)
{
    (void)p;
    abort();
}
struct fen__g *fen__start_pop(struct fen__m *m, struct fen__p *p) /* no starts */
{
    (void)m, (void)p;
    return NULL;
}
struct fen__g *fen__sim_find(struct fen__m *m)
{
    (void)m;
    abort();
}
struct fen__m *fen__sim_enter(struct fen__m *m)
{
    (void)m;
    abort();
}
void fen__outside_ready(struct fen__g *g)
{
    (void)g;
    abort();
}
int fen__outside_park(struct fen__g *g, int64_t deadline_ns)
{
    (void)g, (void)deadline_ns;
    abort();
}
uint64_t fen__tsc_at(struct fen__p *p, int64_t when_ns)
{
    (void)p, (void)when_ns;
    abort();
}
void fen__anchor(struct fen__p *p)
{
    (void)p;
    abort();
}
void fen__bill_turn(struct fen__m *m)
{
    (void)m;
    abort();
}
void fen__bill_reconcile(struct fen__m *m, struct fen__g *g, uint64_t now, uint64_t d,
                         bool disturbed)
{
    (void)m, (void)g, (void)now, (void)d, (void)disturbed;
    abort();
}

static void tls_set(void *tls) { fen__self_tls = tls; }

/* ---- the suite ---- */

static const struct il_scenario *const scenarios[] = {
    &real_next,       &real_overflow,    &real_wrap,       &real_newborn,
    &real_thieves,    &real_global,      &real_wait,       &real_cancel,
    &real_slot,       &real_slot_closed, &real_idle_two,   &real_idle_outside,
    &real_idle_three, &real_take_one,    &real_take_plain, NULL};

/* Where the protocols' own texts say what stands against what. */
static const struct il_barrier barriers[] = {
    /* queue.c */
    {"queue.c", "atomic_store_explicit(&p->tail, t + 1, order)", "o"},
    {"queue.c", "push(m, g, memory_order_seq_cst)", "r"},
    {"queue.c", "atomic_load_explicit(&from->tail, memory_order_acquire)", "o"},
    {"queue.c", "compare_exchange_strong(&p->head, &h, h + n)", "h"},
    {"queue.c", "compare_exchange_weak_explicit(&p->head, &h, h + 1", "h"},
    {"queue.c", "compare_exchange_strong(&from->head, &h, h + n)", "h"},
    {"queue.c", "atomic_store_explicit(&m->p->runnext, g, memory_order_release)", "o"},
    {"queue.c", "atomic_exchange(&m->p->runnext, g)", "oh"},
    {"queue.c", "atomic_exchange(&p->runnext, NULL)", "h"},
    {"queue.c", "atomic_exchange(&from->runnext, NULL)", "oh"},
    {"sys.h", "fen__lock(&fen__sched.lock)", "oh"},
    {"sys.h", "fen__unlock(&fen__sched.lock)", "o"},
    {"sys.h", "fen__lock(&b->lock)", "oh"},
    {"sys.h", "fen__unlock(&b->lock)", "o"},
    /* park.c */
    {"park.c", "atomic_exchange(&g->wait, epoch << 16 | FEN__ARMED)", "h"},
    {"park.c", "(w & ~UINT64_C(0xffff)) | FEN__PARKED)", "h"},
    {"park.c", "(w & ~UINT64_C(0xffff)) | (uint64_t)code)", "h"},
    {"park.c", "(w & ~UINT64_C(0xffff)) | FEN__CLAIMED)", "h"},
    {"park.c",
     "atomic_store_explicit(&g->wait, epoch << 16 | (uint64_t)code, memory_order_release)", "o"},
    {"park.c", "atomic_fetch_add(&g->wait, 0)", "h"},
    {"park.c", "(w & ~UINT64_C(0xffff)) | FEN__BY_CANCEL)", "h"},
    /* slot.c */
    {"slot.c", "compare_exchange_weak(&s->dir[d], &old, want)", "h"},
    {"slot.c", "compare_exchange_weak(&s->dir[d], &old, next)", "h"},
    /* find.c */
    {"find.c", "atomic_load(&s->n_idle)", "or"},
    /* guard.c and monitor.c */
    {"monitor.c", "fen__sys_membarrier()", "o"},
    {"guard.c", "atomic_exchange(&m->phase, FEN__RT)", "h"},
    {"guard.c", "compare_exchange_strong(&m->word, &w, FEN__OWNED)", "h"},
    {"guard.c", "atomic_store_explicit(&m->phase, FEN__USER, memory_order_release)", "o"},
    {"monitor.c", "atomic_load_explicit(&m->phase, memory_order_acquire)", "o"},
    {"monitor.c", "compare_exchange_strong(&m->word, &e, FEN__ASKED)", "h"},
    {"monitor.c", "compare_exchange_strong(&m->word, &e, FEN__TAKEN)", "h"},
    {0}};

int main(void)
{
    il_tls_set = tls_set;
    return il_main(&(struct il_suite){scenarios, barriers});
}
