/* section.c - declared sections that last: the fiber moves, and the P stays where it is.
 *
 * A section that does not last costs a few plain stores (guard.c); whether it lasts is known when
 * it is too late. So the place in the program where it begins is remembered. If sections begun
 * there lately lasted, fen_blocking_begin gives the fiber to a spare M, which runs it without a P
 * until fen_blocking_end, and its own M goes on with the next fiber at once: the P never stands
 * still and waits for nobody's patience.
 *
 *   begin  1 the site is known, there is a spare: switch away (FEN__ACT_SECTION)
 *          2 on the stack that was switched to, under sched.lock: a spare leaves the list and gets
 *            the fiber as its guest; it is woken. No spare any more: the fiber is queued, and its
 *            section begins with a P like any other
 *   spare  3 it finds the guest under the lock and switches to it: its word stays TAKEN, its phase
 *            becomes BLOCK, as if its P had been taken within the section
 *   end    4 the word is not OWNED: the fiber goes to the global queue, the M is a spare again
 *
 * The spares are those that the monitor made for sections before: no thread is born here, where it
 * would inherit from the fiber's, and never are there more Ms than fibers blocked at once, Ps and
 * what hogs hold. What a site is known for:
 *   a P was taken there (monitor.c)            TRIAL more are moved
 *   one that was moved slept LASTS or longer   KNOWN more are moved
 *   one that was moved slept less              one less
 * A site of which one section in KNOWN lasts is moved always: some 10 us for those that do not last
 * against a P that stands still for 50 to 100 us.
 *
 * Rejected: the P moves and the fiber stays. The P then waits for a thread to wake up; here only
 * the fiber does, which is about to wait anyway. A memory of each fiber: a fiber for each request
 * would never know. Clocks around each section: 14 ns. */
#include "sched/sched_int.h"

#define LASTS (100 * FEN_US)
#define TRIAL 2
#define KNOWN 8

/* Relaxed throughout: each word is a hint, and a lost update costs a section moved or not. */
static void remember(uintptr_t site, uint64_t credit)
{
    atomic_store_explicit(&fen__sched.sites[fen__site_at(site)],
                          credit ? (uint64_t)site << 8 | credit : 0, memory_order_relaxed);
}

void fen__section_taken(uintptr_t site)
{
    if (!fen__section_lasts(site))
        remember(site, TRIAL);
}

void fen__section_ended(uintptr_t site, int64_t slept_ns)
{
    uint64_t e = atomic_load_explicit(&fen__sched.sites[fen__site_at(site)], memory_order_relaxed);
    if (slept_ns >= LASTS)
        remember(site, KNOWN);
    else if (e >> 8 == site)
        remember(site, (e & 255) - 1);
}

void fen__section_missed(void)
{
    atomic_fetch_add(&fen__sched.missed, 1);
    fen__monitor_hurry();
}

struct fen__m *fen__section_move(struct fen__m *m)
{
    if (!atomic_load_explicit(&fen__sched.spares, memory_order_relaxed))
        return m;
    fen__swap(m, FEN__ACT_SECTION);
    return fen__self();
}

/* RT, not on g's stack, its context saved. */
void fen__section_give(struct fen__m *m, struct fen__g *g)
{
    struct fen__sched *s = &fen__sched;
    fen__lock(&s->lock);
    struct fen__m *n = s->spares;
    if (n) {
        s->spares = n->next_spare;
        n->spare = false;
        n->guest = g;
        atomic_fetch_add(&n->wake, 1);
    }
    fen__unlock(&s->lock);
    if (!n) {
        fen__queue_next(m, g);
        return;
    }
    fen__sys_futex_wake(&n->wake, 1);
    atomic_fetch_add(&s->handoffs, 1);
}
