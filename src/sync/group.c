/* group.c - error group: a scope, the first error, and places for a limited number of fibers.
 *
 * `first` is set once, by the fiber that failed first, before it cancels the scope; so who finds
 * the scope cancelled by the group finds the error too. A fiber gives its place back as the last
 * thing it does with the group; the group ends after its scope has seen every fiber end. */
#include "sync/sync_int.h"

#include "mem/mem.h"

#include <fen/group.h>

struct fen_group {
    fen_scope *scope;
    fen_sem places;
    bool limited;
    _Atomic int first;
};

struct job {
    fen_group *group;
    int (*fn)(void *arg);
    void *arg;
};

fen_group *fen_group_open(uint32_t limit, int64_t deadline_ns)
{
    fen_group *g = fen__mem_calloc(sizeof *g);
    if (!g)
        return NULL;
    g->scope = fen_scope_open(deadline_ns);
    if (!g->scope) {
        fen__mem_free(g, sizeof *g);
        return NULL;
    }
    g->limited = limit > 0;
    fen_sem_init(&g->places, limit);
    return g;
}

static void leave(fen_group *g)
{
    if (g->limited)
        fen_sem_release(&g->places);
}

static void job_main(void *arg)
{
    struct job j = *(struct job *)arg;
    fen__mem_free(arg, sizeof j);
    int rc = j.fn(j.arg), none = 0;
    if (rc < 0 && atomic_compare_exchange_strong(&j.group->first, &none, rc))
        fen_scope_cancel_with(j.group->scope, rc);
    leave(j.group);
}

/* 0, or why the group takes no more. */
static int ended(fen_group *g)
{
    int first = atomic_load(&g->first);
    return first ? first : fen_scope_check(g->scope);
}

static int start(const struct job *what, const void *site)
{
    struct job *j = fen__mem_alloc(sizeof *j);
    if (!j)
        return -ENOMEM;
    *j = *what;
    int rc = fen__scope_go(j->group->scope, job_main, j, site);
    if (rc)
        fen__mem_free(j, sizeof *j);
    return rc;
}

static int go(const struct job *j, bool wait, int64_t deadline_ns, const void *site)
{
    fen_group *g = j->group;
    int rc = ended(g);
    if (rc)
        return rc;
    if (g->limited) {
        rc =
            wait ? fen_sem_acquire_until(&g->places, deadline_ns) : fen_sem_try_acquire(&g->places);
        int now = ended(g);
        if (now && !rc)
            leave(g);
        if (now || rc)
            return now ? now : rc;
    }
    rc = start(j, site);
    if (rc)
        leave(g);
    return rc;
}

/* Not inlined into the program by its link-time optimisation: the return address is the place. */
FEN__NOINLINE int fen_group_go(fen_group *g, int (*fn)(void *), void *arg)
{
    return go(&(struct job){g, fn, arg}, true, FEN_NEVER, __builtin_return_address(0));
}

FEN__NOINLINE int fen_group_go_until(fen_group *g, int (*fn)(void *), void *arg,
                                     int64_t deadline_ns)
{
    return go(&(struct job){g, fn, arg}, true, deadline_ns, __builtin_return_address(0));
}

FEN__NOINLINE int fen_group_try_go(fen_group *g, int (*fn)(void *), void *arg)
{
    return go(&(struct job){g, fn, arg}, false, FEN_NEVER, __builtin_return_address(0));
}

fen_scope *fen_group_scope(fen_group *g) { return g->scope; }

/* Its scope is closed, with that result. */
static int end(fen_group *g, int rc)
{
    int first = atomic_load(&g->first);
    fen_sem_fini(&g->places);
    fen__mem_free(g, sizeof *g);
    return first ? first : rc;
}

int fen_group_wait(fen_group *g) { return end(g, fen_scope_close(g->scope)); }

static int end_if(fen_group *g, int failed, int rc, int *ret_rc)
{
    if (failed)
        return failed;
    rc = end(g, rc);
    if (ret_rc)
        *ret_rc = rc;
    return 0;
}

int fen_group_wait_until(fen_group *g, int64_t deadline_ns, int *ret_rc)
{
    int why = 0, failed = fen_scope_close_until(g->scope, deadline_ns, &why);
    return end_if(g, failed, why, ret_rc);
}

int fen_group_try_wait(fen_group *g, int *ret_rc)
{
    int why = 0, failed = fen_scope_try_close(g->scope, &why);
    return end_if(g, failed, why, ret_rc);
}
