/* hibernate.c - which fibers may lose their stack while they wait: see sched/hibernate.c for how.
 *
 * Who may point into a waiting fiber's stack, as far as can be seen from here: its children, who
 * were given an argument (scopes that it opened; `lent` for those it spawned elsewhere), and its
 * cancel hooks. A scope's hooks are added by its owner only, so a list seen empty stays empty while
 * the owner waits; hook_busy is looked at with it, because a hook that was taken out may still be
 * running. Children are counted before they exist, by the owner or by who is a child already, so
 * none comes either. Deferred clean-ups lie there too, but only the owner goes through them. */
#include "sync/sync_int.h"

#include <fen/err.h>

#include <errno.h>

static bool hooked(struct fen_scope *s)
{
    if (!s->hooked)
        return false;
    fen__lock(&s->lock);
    bool yes = s->hooks || s->hook_busy;
    fen__unlock(&s->lock);
    return yes;
}

static int64_t cold_after(const struct fen__g *g)
{
    struct fen_scope *s = g->scope;
    int64_t after = s ? atomic_load_explicit(&s->cold_after_ns, memory_order_relaxed) : 0;
    if (!after || g->lent)
        return FEN_NEVER;
    for (; s && s->owner == g; s = s->parent_of_owner)
        if (atomic_load(&s->children) > 1 || hooked(s))
            return FEN_NEVER;
    return after;
}

void fen__hibernate_init(void)
{
    __atomic_store_n(&fen__cold_after, cold_after, __ATOMIC_RELAXED); /* as ever */
}

int fen_scope_hibernate(fen_scope *s, int64_t after_ns)
{
    struct fen__m *m = fen__self();
    if (after_ns && after_ns < FEN_MS)
        return -EINVAL;
    if (!m)
        return FEN_ENOTFIBER;
    fen_promise(!s || s->owner == fen__cur(m),
                "fen_scope_hibernate by another than the scope's owner");
    s = s ? s : fen__cur(m)->scope;
    if (!s || s->owner != fen__cur(m)) /* its parent's: not its own fibers to promise for */
        return -EINVAL;
    atomic_store_explicit(&s->cold_after_ns, after_ns, memory_order_relaxed);
    if (after_ns)
        fen__hibernate_want(after_ns);
    return 0;
}
