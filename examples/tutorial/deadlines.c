/* deadlines.c - how waiting ends: a deadline, a cancel, a cause. Chapter 3. */
#include <fen/fen.h>
#include <stdio.h>

/* A piece of work that knows nothing of deadlines: it looks at what its calls return. */
static int work(int64_t how_long_ns)
{
    int rc = fen_sleep(how_long_ns);
    if (rc < 0)
        return rc; /* nothing to clean up: just leave */
    return 42;
}

static int with_deadline(int64_t how_long_ns)
{
    fen_scope *s = fen_scope_open(fen_now() + 500 * FEN_MS);
    if (!s)
        return -ENOMEM;
    int rc = work(how_long_ns);
    fen_scope_close(s);
    return rc;
}

static void wait_for_ever(void *arg) { *(int *)arg = fen_sleep_until(FEN_NEVER); }

/* Three fibers wait; one call ends them all, and says why. */
static int with_cancel(void)
{
    int rc[3], failed = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    for (int i = 0; i < 3 && !failed; i++)
        failed = fen_go(wait_for_ever, &rc[i]);
    fen_scope_cancel_with(s, failed ? failed : -EPIPE);
    int cause = fen_scope_cause(s);
    int ended = fen_scope_close(s);
    if (failed)
        return failed;
    for (int i = 0; i < 3; i++)
        printf("waiter %d: %s\n", i, fen_strerror(rc[i]));
    printf("the scope: %s, because: %s\n", fen_strerror(ended), fen_strerror(cause));
    return 0;
}

static int app(void *arg)
{
    (void)arg;
    printf("quick work: %d\n", with_deadline(FEN_MS));
    printf("slow work: %s\n", fen_strerror(with_deadline(60 * FEN_S)));
    return with_cancel();
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
