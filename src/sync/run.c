/* run.c - fen_run: the scheduler's run with a root scope around the first fiber. */
#include "sync/sync_int.h"

#include "mem/mem.h"

struct first {
    int (*fn)(void *arg);
    void *arg;
    int rc;
    int64_t heap_bytes; /* in use before the run */
};

static void first_main(void *arg)
{
    struct first *f = arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s) {
        f->rc = -ENOMEM;
        return;
    }
    f->rc = f->fn(f->arg);
    int ended = fen_scope_close(s);
    (void)ended; /* fn's own value is the run's */
}

/* The last of the run, before another can begin. */
static void last(void *arg)
{
    const struct first *f = arg;
    fen__scope_pool_fini();
    fen__defer_pool_fini();
    if (fen__leaks_wanted())
        fen__leaks_report(f->heap_bytes);
}

int fen_run(int (*fn)(void *arg), void *arg, const fen_config *cfg)
{
    struct first f = {fn, arg, 0, fen__mem_live_bytes()};
    __atomic_store_n(&fen__attached_end, fen__locals_end, __ATOMIC_RELAXED); /* as ever */
    fen__describe_init();
    fen__hibernate_init();
    int rc = fen__sched_run(first_main, &f, cfg, last);
    return rc ? rc : f.rc;
}
