/* cleanups.c - what has to happen on every way out: of a block, of a scope. Chapter 4. */
#include <fen/fen.h>
#include <stdio.h>
#include <stdlib.h>

static void say(void *text) { printf("  clean-up: %s\n", (const char *)text); }

/* FEN_DEFER belongs to the block: it runs wherever the block is left. */
static int in_a_block(int fail_at)
{
    char *a = malloc(100);
    FEN_DEFER(free, a);
    FEN_DEFER(say, "first opened, last closed");
    if (!a || fail_at == 1)
        return -ENOMEM;
    FEN_DEFER(say, "second");
    if (fail_at == 2)
        return -EIO;
    return 0;
}

/* A clean-up that has to wait itself: it may, although the scope was cancelled. */
static void say_goodbye(void *arg)
{
    int rc = fen_sleep(10 * FEN_MS);
    printf("  clean-up: %s took its time: %s\n", (const char *)arg, fen_strerror(rc));
}

/* fen_defer belongs to the scope: functions below may register what must outlive their own block,
 * and it runs after all fibers of the scope have ended. */
static int in_a_scope(void)
{
    fen_defer_record one, two; /* ours until the scope has closed */
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    fen_defer(s, &one, say_goodbye, "the connection");
    fen_defer(s, &two, say, "the request");
    fen_scope_cancel(s);
    int rc = fen_sleep(FEN_S); /* does not sleep */
    fen_scope_close(s);
    return rc;
}

static int app(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        printf("fails at %d: %s\n", i, fen_strerror(in_a_block(i)));
    printf("cancelled: %s\n", fen_strerror(in_a_scope()));
    return 0;
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
