/* waits.c - a program whose fibers wait for what lies outside: a descriptor of another library, a
 * process, a call on the pool of threads; one that runs, one that hibernates. gdb_test.sh looks at
 * it; it goes on until it is killed. Prints the descriptor and the process's number when all are on
 * their way. */
#include <fen/fen.h>

#include <stdio.h>
#include <unistd.h>

static int ends[2];
static fen_process *child;

static void watcher(void *arg)
{
    (void)arg;
    (void)!fen_fd_wait(ends[0], FEN_FD_READ, FEN_NEVER);
}

static void parent(void *arg)
{
    (void)arg;
    (void)!fen_process_wait(child, FEN_NEVER, NULL);
}

static int rest(void *arg)
{
    (void)arg;
    return pause();
}

static void caller(void *arg)
{
    (void)arg;
    (void)!fen_blocking(rest, NULL);
}

static void hog(void *arg)
{
    (void)arg;
    for (;;)
        __asm__ volatile("");
}

static void sleeper(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s || fen_scope_hibernate(s, 5 * FEN_MS))
        return;
    (void)fen_sleep(60 * FEN_S);
    (void)fen_scope_close(s);
}

static int app(void *arg)
{
    const char *const argv[] = {"sleep", "60", NULL};
    (void)arg;
    int rc = pipe(ends);
    if (!rc)
        rc = fen_process_open(&(fen_process_config){.argv = argv}, &child);
    fen_scope *s = rc ? NULL : fen_scope_open(FEN_NEVER);
    if (!s || fen_go_named("watcher", 0, watcher, NULL) ||
        fen_go_named("parent", 0, parent, NULL) || fen_go_named("caller", 0, caller, NULL) ||
        fen_go_named("hog", 0, hog, NULL) || fen_go_named("sleeper", 0, sleeper, NULL))
        return -ENOMEM;
    printf("fd=%d pid=%d\n", ends[0], fen_process_pid(child));
    fflush(stdout);
    return fen_scope_close(s);
}

int main(void) { return fen_run(app, NULL, &(fen_config){.procs = 3}) < 0; }
