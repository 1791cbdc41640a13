/* start.c - starts: work that waits for a fiber.
 *
 * A P's starts are a list under a short lock; n_starts says without the lock whether it is worth
 * taking. The owner appends and takes, thieves take. Submission follows the idle protocol of
 * find.c: the count is raised (seq_cst) before the submitter looks at n_idle. */
#include "sched/sched_int.h"

void fen__start_later(struct fen__start *s)
{
    struct fen__p *p = fen__self()->p;
    s->next = NULL;
    fen__lock(&p->starts_lock);
    *p->starts_tail = s;
    p->starts_tail = &s->next;
    atomic_fetch_add(&p->n_starts, 1);
    fen__unlock(&p->starts_lock);
}

static struct fen__start *take(struct fen__p *p)
{
    if (!atomic_load(&p->n_starts))
        return NULL;
    fen__lock(&p->starts_lock);
    struct fen__start *s = p->starts;
    if (s) {
        p->starts = s->next;
        fen__prefetch(s->next, 3 * FEN__LINE);
        if (!s->next)
            p->starts_tail = &p->starts;
        atomic_fetch_sub(&p->n_starts, 1);
    }
    fen__unlock(&p->starts_lock);
    return s;
}

void fen__start_move(struct fen__p *from, struct fen__p *to)
{
    fen__lock(&from->starts_lock);
    struct fen__start *all = from->starts, **tail = from->starts_tail;
    uint32_t n = atomic_exchange(&from->n_starts, 0);
    from->starts = NULL;
    from->starts_tail = &from->starts;
    fen__unlock(&from->starts_lock);
    if (!all)
        return;
    fen__lock(&to->starts_lock);
    *to->starts_tail = all;
    to->starts_tail = tail;
    atomic_fetch_add(&to->n_starts, n);
    fen__unlock(&to->starts_lock);
}

struct fen__g *fen__start_pop(struct fen__m *m, struct fen__p *p)
{
    struct fen__start *s;
    while ((s = take(p))) {
        struct fen__spawn how = {.fn = s->fn,
                                 .arg = s,
                                 .name = s->name,
                                 .limit = s->limit ? s->limit : fen__run_limit()};
        struct fen__g *g;
        if (fen__spawn_make(m, &how, &g) == 0)
            return g;
        s->refused(s);
    }
    return NULL;
}
