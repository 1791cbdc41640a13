/* see_outside_test.c - the dump on fibers that wait for what lies outside fen: another library's
 * descriptor, a process, a call on the pool of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "fiber_check.h"

static struct {
    char text[1 << 16];
    size_t n;
} got;

static void take(void *arg, const char *text, size_t n)
{
    (void)arg;
    must(n < sizeof got.text - got.n);
    memcpy(got.text + got.n, text, n);
    got.n += n;
    got.text[got.n] = 0;
}

static bool has(const char *what) { return strstr(got.text, what); }

/* The line of the fiber must have this too. */
static void must_say(const char *name, const char *what)
{
    char head[64], line[1024];
    snprintf(head, sizeof head, " name=%s state=parked ", name);
    const char *at = strstr(got.text, head);
    if (at)
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    if (!at || !strstr(line, what))
        fail_msg("%s: no '%s' in:\n%s", name, what, got.text);
}

static struct {
    int empty[2], full[2], pid;
    fen_process *child;
    _Atomic bool stop;
} o;

static void watcher(void *arg)
{
    (void)arg;
    (void)!fen_fd_wait(o.empty[0], FEN_FD_READ, FEN_NEVER);
}

static void pusher(void *arg)
{
    (void)arg;
    (void)!fen_fd_wait(o.full[0], FEN_FD_READ | FEN_FD_WRITE, FEN_NEVER);
}

static void parent(void *arg)
{
    (void)arg;
    (void)!fen_process_wait(o.child, FEN_NEVER, NULL);
}

static int rest(void *arg)
{
    (void)arg;
    while (!atomic_load(&o.stop))
        usleep(1000);
    return 0;
}

static void caller(void *arg)
{
    (void)arg;
    (void)!fen_blocking(rest, NULL);
}

static int app(void *arg)
{
    const char *const argv[] = {"sleep", "60", NULL};
    const char chunk[4096] = {0};
    (void)arg;
    must(pipe(o.empty) == 0);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, o.full) == 0);
    while (send(o.full[0], chunk, sizeof chunk, 0) > 0)
        ;
    must(fen_process_open(&(fen_process_config){.argv = argv}, &o.child) == 0);
    o.pid = fen_process_pid(o.child);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    must(s && fen_go_named("watcher", 0, watcher, NULL) == 0);
    must(fen_go_named("pusher", 0, pusher, NULL) == 0);
    must(fen_go_named("parent", 0, parent, NULL) == 0);
    must(fen_go_named("caller", 0, caller, NULL) == 0);
    for (int64_t end = fen_now() + 20 * FEN_S;;) { /* until all four are where they stay */
        must(fen_now() < end && fen_sleep(5 * FEN_MS) == 0);
        got.n = 0;
        must(fen_debug_fibers(take, NULL) == 0);
        if (has("name=watcher state=parked") && has("name=pusher state=parked") &&
            has("name=parent state=parked") && has("name=caller state=parked"))
            break;
    }
    atomic_store(&o.stop, true);
    fen_scope_cancel(s);
    (void)fen_scope_close(s);
    fen_process_close(o.child);
    for (int i = 0; i < 2; i++)
        must(close(o.empty[i]) == 0 && close(o.full[i]) == 0);
    return 0;
}

static void test_dump_names_descriptor_events_and_process(void **state)
{
    (void)state;
    char text[96];
    assert_int_equal(fen_run(app, NULL, &(fen_config){.procs = 2}), 0);
    must_say("watcher", " wait=fd for=");
    snprintf(text, sizeof text, " fd=%d events=read cpu=", o.empty[0]);
    must_say("watcher", text);
    must_say("pusher", " wait=fd for=");
    snprintf(text, sizeof text, " fd=%d events=read,write cpu=", o.full[0]);
    must_say("pusher", text);
    must_say("parent", " wait=process for=");
    snprintf(text, sizeof text, " pid=%d cpu=", o.pid);
    must_say("parent", text);
    must_say("caller", " wait=blocking for=");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dump_names_descriptor_events_and_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
