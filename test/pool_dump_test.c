/* pool_dump_test.c - who holds a pool's resources: a service in which one fiber keeps its lease and
 * requests wait in vain. SIGQUIT's dump and /debug/vars name the pool, how many wait, and the one
 * who has it: number, name, how long, and the line that took it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rig.h"

#include "obs/obs.h"

enum { WAITERS = 3 };

static struct {
    pthread_mutex_t lock;
    char text[1 << 18];
    size_t n;
} got = {.lock = PTHREAD_MUTEX_INITIALIZER};

static fen_server *server;
static fen_pool *pool, *quiet_pool;
static fen_chan *let_go;
static _Atomic uint64_t leaker_id;
static _Atomic int rc_of_run = 1;

static void take_report(void *arg, const char *text, size_t n)
{
    (void)arg;
    pthread_mutex_lock(&got.lock);
    if (n > sizeof got.text - 1 - got.n)
        n = sizeof got.text - 1 - got.n;
    memcpy(got.text + got.n, text, n);
    got.n += n;
    got.text[got.n] = 0;
    pthread_mutex_unlock(&got.lock);
}

/* ---- the service ---- */

static int make(void *arg, void **ret)
{
    *ret = arg;
    return 0;
}

static void destroy(void *arg, void *resource)
{
    (void)arg;
    (void)resource;
}

/* What it does between get and put is a wait for what never comes. */
__attribute__((noinline)) static void leak_here(fen_lease *l)
{
    char none;
    int rc = fen_pool_get(pool, l);
    if (!rc) {
        atomic_store(&leaker_id, fen_fiber_id());
        (void)!fen_chan_recv(let_go, &none);
        fen_pool_put(l, 0);
    }
}

static void leaker(void *arg)
{
    (void)arg;
    fen_lease l;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (s) {
        leak_here(&l);
        (void)fen_scope_close(s);
    }
}

static int leak(fen_exchange *x, void *arg)
{
    (void)arg;
    int rc = fen_go_detached("order-leaker", leaker, NULL);
    return rc ? rc : fen_reply(x, 200, NULL, FEN_SLICE(""));
}

static int use(fen_exchange *x, void *arg)
{
    (void)arg;
    fen_lease l;
    int rc = fen_pool_get(pool, &l);
    if (rc)
        return rc;
    fen_pool_put(&l, 0);
    return fen_reply(x, 200, NULL, FEN_SLICE(""));
}

static int vars(fen_exchange *x, void *mark)
{
    static struct fen__view v;
    int rc = fen__view_read(&v, mark, 0, NULL);
    if (rc)
        return rc;
    fen_buf b = fen_buf_heap();
    fen__vars_write(&b, &v);
    rc = b.err ? b.err : fen_reply(x, 200, FEN__VARS_TYPE, fen_buf_slice(&b));
    fen_buf_free(&b);
    fen__view_free(&v);
    return rc;
}

static int run_main(void *arg)
{
    static struct fen__books_mark mark;
    (void)arg;
    const fen_pool_config cfg = {.name = "orders db", .max = 1, .make = make, .destroy = destroy};
    int rc = fen__books_begin(&mark);
    pool = fen_pool_new(&cfg);
    quiet_pool = fen_pool_new(
        &(fen_pool_config){.name = "quiet-pool", .max = 4, .make = make, .destroy = destroy});
    let_go = fen_chan_new(1, 0);
    if (!rc)
        rc = fen_route(server, "GET /leak", leak, NULL);
    if (!rc)
        rc = fen_route(server, "GET /use", use, NULL);
    if (!rc)
        rc = fen_route(server, "GET /debug/vars", vars, &mark);
    return rc ? rc : fen_server_serve(server, "127.0.0.1:0");
}

static void *run_thread(void *arg)
{
    const fen_config cfg = {.procs = 2, .report = take_report};
    (void)arg;
    atomic_store(&rc_of_run, fen_run(run_main, NULL, &cfg));
    return NULL;
}

/* ---- the client ---- */

static char *page(int fd, const char *path)
{
    static char text[1 << 18];
    char head[2048];
    size_t n = 0;
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    rig_say(fd, head);
    assert_int_equal(rig_head(fd, head, sizeof head), 1);
    const char *length = strstr(head, "Content-Length: ");
    assert_non_null(length);
    size_t want = (size_t)atol(length + 16);
    assert_true(want < sizeof text);
    while (n < want) {
        ssize_t more = recv(fd, text + n, want - n, 0);
        assert_true(more > 0);
        n += (size_t)more;
    }
    text[n] = 0;
    return text;
}

/* The text from `what` to the end of its line; "" if it is not there. */
static void line_with(const char *text, const char *what, char *ret, size_t cap)
{
    const char *at = strstr(text, what);
    int n = at ? (int)strcspn(at, "\n") : 0;
    snprintf(ret, cap, "%.*s", n, at ? at : "");
}

static void needs(const char *line, const char *what)
{
    if (!strstr(line, what))
        fail_msg("\"%s\" is not in: %s", what, line);
}

static bool all_wait(void)
{
    fen_pool_stats s;
    fen_pool_stats_get(pool, &s);
    return s.waiting == WAITERS && s.lent == 1;
}

static void wait_for_dump(void)
{
    for (int i = 0; i < RIG_WAIT_S * 100; i++) {
        pthread_mutex_lock(&got.lock);
        bool there = strstr(got.text, "lent_to=") && strstr(strstr(got.text, "lent_to="), "\n");
        pthread_mutex_unlock(&got.lock);
        if (there)
            return;
        rig_nap(10 * FEN_MS);
    }
    fail_msg("no dump with a holder: %s", got.text);
}

static void the_dump_and_the_page_name_who_holds_it(void **state)
{
    (void)state;
    struct rig r = {.server = server, .rc = 1};
    int fd = rig_dial(&r), waiter[WAITERS];
    char want[64], line[2048];
    assert_int_equal(rig_get(fd, "/leak").status, 200);
    for (int i = 0; i < RIG_WAIT_S * 1000 && !atomic_load(&leaker_id); i++)
        rig_nap(FEN_MS);
    assert_true(atomic_load(&leaker_id) > 0);
    for (int i = 0; i < WAITERS; i++) {
        waiter[i] = rig_dial(&r);
        rig_say(waiter[i], "GET /use HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for (int i = 0; i < RIG_WAIT_S * 1000 && !all_wait(); i++)
        rig_nap(FEN_MS);
    assert_true(all_wait());
    rig_nap(50 * FEN_MS);

    kill(getpid(), SIGQUIT);
    wait_for_dump();
    line_with(got.text, "pool=orders?db", line, sizeof line);
    needs(line, " lent=1/1 ");
    needs(line, " free=0 ");
    needs(line, " waiting=3 ");
    needs(line, " made=run_main+");
    snprintf(want, sizeof want, "lent_to=%llu ", (unsigned long long)atomic_load(&leaker_id));
    line_with(got.text, "lent_to=", line, sizeof line);
    print_message("%s\n", line);
    needs(line, want);
    needs(line, " name=order-leaker ");
    needs(line, " by=leak_here+");
    assert_null(strstr(got.text, "pool=quiet-pool")); /* nobody has anything of it */
    snprintf(want, sizeof want, "fiber=%llu name=order-leaker state=parked",
             (unsigned long long)atomic_load(&leaker_id));
    needs(got.text, want); /* the same number as in the list of fibers */

    const char *json = page(fd, "/debug/vars");
    line_with(json, "{\"name\":\"orders db\"", line, sizeof line);
    print_message("%s\n", line);
    needs(line, "\"max\":1,\"lent\":1,\"idle\":0,\"waiting\":3");
    snprintf(want, sizeof want, "\"holders\":[{\"fiber\":%llu,\"name\":\"order-leaker\"",
             (unsigned long long)atomic_load(&leaker_id));
    needs(line, want);
    needs(line, "\"taken_at\":\"leak_here+");
    const char *held = strstr(line, "\"held_seconds\":");
    assert_non_null(held);
    double seconds = atof(held + 15);
    assert_true(seconds >= 0.05 && seconds < RIG_WAIT_S);
    needs(json, "\"name\":\"quiet-pool\",\"max\":4,\"lent\":0,\"idle\":0,\"waiting\":0");

    (void)fen_chan_close(let_go); /* it lets go: each waiter has its turn, and nobody holds it */
    for (int i = 0; i < WAITERS; i++) {
        assert_int_equal(rig_read(waiter[i], true).status, 200);
        close(waiter[i]);
    }
    line_with(page(fd, "/debug/vars"), "{\"name\":\"orders db\"", line, sizeof line);
    needs(line, "\"lent\":0,\"idle\":1,\"waiting\":0");
    needs(line, "\"holders\":[]");
    close(fd);
}

static pthread_t thread;

static int start(void **state)
{
    (void)state;
    server = fen_server_new(&(fen_server_config){0});
    assert_non_null(server);
    assert_int_equal(pthread_create(&thread, NULL, run_thread, NULL), 0);
    for (int i = 0; i < RIG_WAIT_S * 1000 && !fen_server_port(server); i++)
        rig_nap(FEN_MS);
    assert_true(fen_server_port(server) > 0);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fen_server_stop(server);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&rc_of_run), 0);
    fen_server_free(server);
    fen_pool_free(pool);
    fen_pool_free(quiet_pool);
    fen_chan_free(let_go);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dump_and_the_page_name_who_holds_it),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
