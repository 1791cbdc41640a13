/* spawner.c - a scope held open for threads: the handle counts as one of the scope's children, so
 * the scope cannot close under a thread that is about to add another; and as somebody outside who
 * may still come, so a run in which all wait for that thread is no deadlock. */
#include "sync/sync_int.h"

#include "mem/mem.h"

#include <fen/debug.h>
#include <fen/spawner.h>

struct fen_spawner {
    struct fen_scope *scope;
};

int fen_spawner_open(fen_spawner **ret_spawner)
{
    struct fen_scope *scope = fen_scope_current();
    if (!scope)
        return FEN_ENOTFIBER;
    fen_spawner *s = fen__mem_alloc(sizeof *s);
    if (!s)
        return -ENOMEM;
    s->scope = scope;
    fen__scope_hold(scope);
    fen_outsider_begin();
    *ret_spawner = s;
    return 0;
}

int fen_spawner_go(fen_spawner *s, const char *name, void (*fn)(void *arg), void *arg)
{
    struct fen__spawn how = {.fn = fn,
                             .arg = arg,
                             .name = name,
                             .limit = &s->scope->limit,
                             .scope = s->scope,
                             .end = fen__scope_child_end};
    int rc = fen__forked ? FEN_EFORKED : fen_scope_check(s->scope);
    if (rc)
        return rc;
    fen__scope_hold(s->scope);
    struct fen__m *m = fen__enter();
    if (m)
        fen__cur(m)->lent |= s->scope->owner != fen__cur(m);
    how.labels = m ? fen__labels_share(fen__cur(m)->labels) : NULL;
    rc = m ? fen__spawn(&how, NULL) : fen__spawn_outside(&how);
    if (m)
        fen__leave(m);
    if (rc) {
        fen__labels_drop(how.labels);
        fen__scope_let_go(s->scope);
    }
    return rc;
}

void fen_spawner_close(fen_spawner *s)
{
    if (!s)
        return;
    struct fen_scope *scope = s->scope;
    fen__mem_free(s, sizeof *s);
    fen__scope_let_go(scope);
    fen_outsider_end(); /* last: until then the scope's owner waits for this thread */
}
