/* guard.c - the guarded section: how an M keeps its P while it is inside the runtime, and how the
 * monitor takes it when it is not.
 *
 *   enter  1 calls++, phase = RT        plain stores
 *          2 compiler barrier
 *          3 load word                  OWNED: go on
 *                                       ASKED: CAS ASKED -> OWNED; won: go on
 *                                       else : the P is gone, find another (fen__reacquire)
 *   leave  4 phase = USER or BLOCK      release: whoever sees us gone sees what we did to the P
 *   take   5 CAS OWNED -> ASKED         (monitor.c)
 *          6 membarrier
 *          7 load phase (acquire)       RT: CAS ASKED -> OWNED, give up
 *          8 CAS ASKED -> TAKEN, take m->p
 *
 * Why it is sound: step 6 orders every other thread. An M whose step 3 came before it has made its
 * step 1 visible to step 7, and is left alone; an M whose step 3 comes after it sees ASKED, and one
 * CAS decides. Without membarrier (old kernel, seccomp) step 1 is an exchange and does the same
 * job. test/handoff_test.c holds the litmus that fails when either barrier is removed.
 *
 * A simulated run has no monitor; its M's word stays SIMULATED, so that step 3 fails and each call
 * of a fiber comes to fen__sim_enter.
 *
 * Rejected: a CAS on entry (6 ns against 0.3); signals (interrupting C inside malloc is
 * unsound). */
#include "sched/sched_int.h"

struct fen__sched fen__sched = {.global_tail = &fen__sched.global_head};

FEN__NOINLINE struct fen__m *fen__reacquire(struct fen__m *m)
{
    if (fen__sched.sim)
        return fen__sim_enter(m);
    fen__swap(m, FEN__ACT_LOST);
    return fen__self();
}

inline struct fen__m *fen__enter(void)
{
    struct fen__m *m = fen__self();
    if (FEN__UNLIKELY(!m))
        return NULL;
    atomic_store_explicit(&m->calls, atomic_load_explicit(&m->calls, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (FEN__UNLIKELY(fen__sched.no_membarrier))
        atomic_exchange(&m->phase, FEN__RT);
    else
        atomic_store_explicit(&m->phase, FEN__RT, memory_order_relaxed);
    /* Step 2; the processor's half is the monitor's membarrier. */
    __asm__ volatile("" ::: "memory");
    uint32_t w = atomic_load_explicit(&m->word, memory_order_acquire);
    if (FEN__LIKELY(w == FEN__OWNED))
        return m;
    if (w == FEN__ASKED && atomic_compare_exchange_strong(&m->word, &w, FEN__OWNED))
        return m;
    return fen__reacquire(m);
}

/* Release: pairs with the acquire load of phase in monitor.c take(). */
inline void fen__leave(struct fen__m *m)
{
    atomic_store_explicit(&m->phase, FEN__USER, memory_order_release);
}

inline struct fen__m *fen__enter_wait(void)
{
    return FEN__LIKELY(fen__self() != NULL) ? fen__enter() : fen__outside_enter();
}

inline void fen__leave_wait(struct fen__m *m)
{
    if (FEN__UNLIKELY(m->cur->id & FEN__G_THREAD))
        fen__outside_leave(m);
    else
        fen__leave(m);
}

struct fen__m *fen__enter_any(void)
{
    struct fen__m *m = fen__self();
    if (!m || atomic_load_explicit(&m->phase, memory_order_relaxed) != FEN__USER)
        return NULL;
    return fen__enter();
}

void fen__leave_any(struct fen__m *m)
{
    if (m)
        fen__leave(m);
}

struct fen__m *fen__aside_begin(void)
{
    struct fen__m *m = fen__self();
    if (!m)
        return NULL;
    fen__set_aside(m);
    fen__set_self(NULL);
    return m;
}

void fen__aside_end(struct fen__m *begun)
{
    if (!begun)
        return;
    if (fen__forked)
        fen__panic("a forked child may only exec", __FILE__, __LINE__);
    fen__set_self(begun);
    fen__set_aside(NULL);
}

void fen__aside_waits(void)
{
    fen_promise(!fen__aside(), "a timer's function or a cancel hook waits");
}

/* Outside the guarded section, so what it reads of word may be old the next moment: that costs the
 * caller nothing, since it touches no P. It looks so that a fiber which lost its P moves on at its
 * next call, whatever that is, and a simulated one can be interrupted there. calls does not move: a
 * fiber that only ever takes free locks is a computation to the monitor. */
struct fen__g *fen__brief(void)
{
    struct fen__m *m = fen__self();
    if (FEN__UNLIKELY(!m || atomic_load_explicit(&m->word, memory_order_relaxed) != FEN__OWNED))
        return NULL;
    return m->cur; /* NULL on the M's own stack */
}

uint32_t fen__brief_who(void)
{
    const struct fen__m *m = fen__self();
    if (FEN__UNLIKELY(!m || atomic_load_explicit(&m->word, memory_order_relaxed) != FEN__OWNED))
        return 0;
    return m->who;
}

inline struct fen__g *fen__cur(struct fen__m *m) { return m->cur; }
struct fen__tally *fen__tally_of(struct fen__m *m) { return &m->tally; }
struct fen__spares *fen__spares_of(struct fen__m *m) { return &m->spares; }

/* The fiber moves, or its P is taken soon. */
FEN__NOINLINE static void begin_long(struct fen__m *m, uintptr_t site)
{
    m = fen__section_move(m);
    bool missed = m->p != NULL;
    atomic_store_explicit(&m->site, site, memory_order_relaxed);
    atomic_store_explicit(&m->phase, FEN__BLOCK, memory_order_release);
    if (FEN__UNLIKELY(missed))
        fen__section_missed();
}

/* Not inlined: the return address names the section. */
FEN__NOINLINE void fen_blocking_begin(void)
{
    struct fen__m *m = fen__enter();
    if (!m)
        return;
    uintptr_t site = (uintptr_t)__builtin_return_address(0);
    if (FEN__UNLIKELY(fen__section_lasts(site))) {
        begin_long(m, site);
        return;
    }
    atomic_store_explicit(&m->site, site, memory_order_relaxed);
    /* release: as in fen__leave */
    atomic_store_explicit(&m->phase, FEN__BLOCK, memory_order_release);
}

void fen_blocking_end(void)
{
    struct fen__m *m = fen__enter();
    if (m)
        fen__leave(m);
}

bool fen_in_fiber(void) { return fen__self() != NULL; }

/* The M is stable while these look: only this fiber runs on it, and it does not park here. */
uint64_t fen_fiber_id(void)
{
    struct fen__m *m = fen__self();
    return m && m->cur ? m->cur->number : 0;
}

const char *fen_fiber_name(void)
{
    struct fen__m *m = fen__self();
    return m && m->cur && m->cur->name ? m->cur->name : "";
}

int fen_fiber_rename(const char *name)
{
    struct fen__m *m = fen__self();
    if (!m || !m->cur)
        return FEN_ENOTFIBER;
    __atomic_store_n(&m->cur->name, name, __ATOMIC_RELAXED); /* dumps read it meanwhile */
    return 0;
}
