/* see_test.c - what people look at: the dump, SIGQUIT under load, the deadlock report and what must
 * not cause one, what is left at the end, stacks that are nearly full. */
#include "base/sanitize.h"

#include <fen/fen.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef FEN__TSAN
enum { CROWD = 1000, LOADS = 20 };
#else
enum { CROWD = 10000, LOADS = 50 };
#endif
#ifdef FEN__ASAN /* its frames are larger */
enum { DEPTH = 88 };
#else
enum { DEPTH = 110 };
#endif
#define STALL_NS (700 * FEN_MS) /* longer than the patience of the deadlock report */

/* In a fiber: cmocka's own assertions jump across stacks. */
#define must(cond) ((cond) ? (void)0 : broken(#cond, __LINE__))
static void broken(const char *what, int line)
{
    fprintf(stderr, "line %d: %s\n", line, what);
    abort();
}

/* ---- what was reported ---- */

static struct {
    pthread_mutex_t lock;
    char text[1 << 20];
    size_t n;
    _Atomic int calls;
} got = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void take(void *arg, const char *text, size_t n)
{
    (void)arg;
    pthread_mutex_lock(&got.lock);
    if (n > sizeof got.text - 1 - got.n)
        n = sizeof got.text - 1 - got.n;
    memcpy(got.text + got.n, text, n);
    got.n += n;
    got.text[got.n] = 0;
    atomic_fetch_add(&got.calls, 1);
    pthread_mutex_unlock(&got.lock);
}

static void forget(void)
{
    pthread_mutex_lock(&got.lock);
    got.n = 0;
    got.text[0] = 0;
    pthread_mutex_unlock(&got.lock);
}

static bool has(const char *what)
{
    pthread_mutex_lock(&got.lock);
    bool yes = strstr(got.text, what) != NULL;
    pthread_mutex_unlock(&got.lock);
    return yes;
}

static int times(const char *what)
{
    int n = 0;
    pthread_mutex_lock(&got.lock);
    for (const char *at = got.text; (at = strstr(at, what)); at++)
        n++;
    pthread_mutex_unlock(&got.lock);
    return n;
}

static void must_have(const char *what)
{
    if (!has(what))
        fail_msg("no '%s' in:\n%s", what, got.text);
}

static void must_not_have(const char *what)
{
    if (has(what))
        fail_msg("'%s' in:\n%s", what, got.text);
}

static int run(int (*fn)(void *arg), void *arg, fen_config cfg)
{
    forget();
    cfg.report = take;
    cfg.procs = cfg.procs ? cfg.procs : 2;
    return fen_run(fn, arg, &cfg);
}

/* The dump, until everybody is where they will stay; how soon is the machine's affair. */
#define dump_until(cond)                                                                           \
    do {                                                                                           \
        int64_t end_ = fen_now() + 20 * FEN_S;                                                     \
        do {                                                                                       \
            must(fen_now() < end_ && fen_sleep(5 * FEN_MS) == 0);                                  \
            forget();                                                                              \
            fen_blocking_begin();                                                                  \
            must(fen_debug_fibers(take, NULL) == 0);                                               \
            fen_blocking_end();                                                                    \
        } while (!(cond));                                                                         \
    } while (0)

static void nap(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / FEN_S, .tv_nsec = ns % FEN_S};
    nanosleep(&ts, NULL);
}

/* ---- the dump ---- */

struct things {
    fen_chan *full, *empty;
    fen_mutex mutex;
    fen_rwlock rwlock;
    fen_sem sem;
    fen_wg wg;
    int sock[2];
};
static struct things t;

static void on_send(void *arg)
{
    (void)arg;
    (void)fen_chan_send(t.full, &(int){1});
}
static void on_recv(void *arg)
{
    int v;
    (void)arg;
    (void)fen_chan_recv(t.empty, &v);
}
static void on_select(void *arg)
{
    int v = 0;
    (void)arg;
    fen_case c[] = {{.op = FEN_OP_RECV, .c = t.empty, .elem = &v},
                    {.op = FEN_OP_SEND, .c = t.full, .elem = &v}};
    (void)fen_select(c, 2, FEN_NEVER);
}
static void on_mutex(void *arg)
{
    (void)arg;
    if (!fen_mutex_lock(&t.mutex))
        fen_mutex_unlock(&t.mutex);
}
static void on_sem(void *arg)
{
    (void)arg;
    (void)!fen_sem_acquire(&t.sem);
}
static void on_wg(void *arg)
{
    (void)arg;
    (void)fen_wg_wait(&t.wg);
}
static void on_rwlock(void *arg)
{
    (void)arg;
    if (!fen_rwlock_read_lock(&t.rwlock))
        fen_rwlock_read_unlock(&t.rwlock);
}
static void on_sleep(void *arg)
{
    (void)arg;
    must(fen_label_set("tenant", FEN_SLICE("a b")) == 0);
    must(fen_label_set("op", FEN_SLICE("nap")) == 0);
    (void)fen_sleep(60 * FEN_S);
}
static void on_cpu(void *arg)
{
    while (!atomic_load((_Atomic bool *)arg))
        ;
}
static void on_block(void *arg)
{
    fen_blocking_begin();
    while (!atomic_load((_Atomic bool *)arg))
        nap(FEN_MS);
    fen_blocking_end();
}

static int one_of_each(void *arg)
{
    (void)arg;
    _Atomic bool stop = false;
    t = (struct things){.full = fen_chan_new(sizeof(int), 1),
                        .empty = fen_chan_new(sizeof(int), 3)};
    must(t.full && t.empty && !fen_chan_try_send(t.full, &(int){7}));
    must(fen_mutex_lock(&t.mutex) == 0);
    must(fen_rwlock_write_lock(&t.rwlock) == 0);
    fen_wg_add(&t.wg, 5);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    must(s);
    struct {
        const char *name;
        void (*fn)(void *arg);
    } all[] = {{"a sender", on_send}, {"receiver", on_recv}, {"chooser", on_select},
               {"locker", on_mutex},  {"taker", on_sem},     {"waiter", on_wg},
               {"sleeper", on_sleep}, {"hog", on_cpu},       {"blocker", on_block},
               {"shelf", on_rwlock}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        must(fen_go_named(all[i].name, 0, all[i].fn, &stop) == 0);
    must(fen_go(on_recv, NULL) == 0);
    dump_until(times(" state=parked wait=") == 9 && has("name=hog state=running") &&
               has("name=blocker state=blocking"));
    atomic_store(&stop, true);
    fen_scope_cancel(s);
    must(fen_scope_close(s) == -ECANCELED);
    fen_mutex_unlock(&t.mutex);
    fen_rwlock_write_unlock(&t.rwlock);
    fen_chan_free(t.full);
    fen_chan_free(t.empty);
    return 0;
}

static void test_dump_says_who_waits_for_what(void **state)
{
    (void)state;
    char text[160];
    assert_int_equal(run(one_of_each, NULL, (fen_config){.procs = 3}), 0);
    must_have("fen: 12 fibers of ");
    must_have("name=shelf state=parked wait=rwlock for=");
    snprintf(text, sizeof text, " on=%p holder=1 ", (void *)&t.rwlock);
    must_have(text);
    must_have(" labels=tenant=a?b,op=nap");
    must_have(" name=main state=blocking thread=");
    snprintf(text, sizeof text, " on=%p has=1/1 ", (void *)t.full);
    must_have("name=a?sender state=parked wait=send for=");
    must_have(text);
    must_have("name=receiver state=parked wait=recv for=");
    snprintf(text, sizeof text, " on=%p has=0/3 ", (void *)t.empty);
    must_have(text);
    must_have("name=chooser state=parked wait=select for=");
    must_have(" has=2 ");
    must_have("name=locker state=parked wait=mutex for=");
    snprintf(text, sizeof text, " on=%p holder=1 ", (void *)&t.mutex);
    must_have(text);
    must_have("name=taker state=parked wait=sem for=");
    must_have("name=waiter state=parked wait=wg for=");
    must_have(" has=5 ");
    must_have("name=sleeper state=parked wait=sleep for=");
    must_have("name=hog state=running thread=");
    must_have("name=blocker state=blocking thread=");
    must_have("name=- state=parked wait=recv");
    must_have(" spawn=one_of_each+0x");
    must_have(" fn=on_recv+0x0");
    must_have(" < on_recv+0x"); /* frames */
}

static void reader(void *arg)
{
    fen_sock *s = NULL;
    (void)!fen_tcp_accept(arg, FEN_NEVER, &s);
    fen_sock_close(s);
}

static int with_reader(void *arg)
{
    (void)arg;
    fen_sock *l = NULL;
    must(fen_tcp_listen("127.0.0.1:0", 0, &l) == 0);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must(scope && fen_go_named("reader", 0, reader, l) == 0);
    dump_until(has("name=reader state=parked"));
    fen_scope_cancel(scope);
    (void)fen_scope_close(scope);
    fen_sock_close(l);
    return 0;
}

static void test_dump_names_the_descriptor(void **state)
{
    (void)state;
    assert_int_equal(run(with_reader, NULL, (fen_config){0}), 0);
    must_have("name=reader state=parked wait=read for=");
    must_have(" fd=");
    must_not_have("deadlock");
}

static void test_dump_without_a_runtime(void **state)
{
    (void)state;
    assert_int_equal(fen_debug_fibers(take, NULL), -ESRCH);
}

static void on_gate(void *arg) { (void)fen_wg_wait(arg); }

static int crowd(void *arg)
{
    fen_wg gate = {0};
    (void)arg;
    fen_wg_add(&gate, 1);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < CROWD; i++)
        must(fen_go(on_gate, &gate) == 0);
    char text[64];
    snprintf(text, sizeof text, "    and %d more of this kind", CROWD - 8);
    dump_until(has(text));
    fen_wg_done(&gate);
    return fen_scope_close(s);
}

static void test_many_of_a_kind_are_counted(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(run(crowd, NULL, (fen_config){0}), 0);
    snprintf(text, sizeof text, "fen: %d fibers of ", CROWD + 1);
    must_have(text);
    snprintf(text, sizeof text, "    and %d more of this kind", CROWD - 8);
    must_have(text);
    assert_true(got.n < 16384);
}

/* ---- SIGQUIT ---- */

static void short_life(void *arg)
{
    fen_yield();
    if (fen_chan_send(arg, NULL))
        return;
    (void)fen_sleep(FEN_MS / 10);
}

static int coming_and_going(void *arg)
{
    (void)arg;
    fen_chan *c = fen_chan_new(0, 16);
    must(c);
    for (int load = 0; load < 5; load++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        for (int i = 0; i < CROWD; i++) {
            if (i % 2)
                must(fen_go(short_life, c) == 0);
            else
                must(fen_go_named("large", 100 << 10, short_life, c) == 0);
            if (i % (CROWD / 10) == 0)
                kill(getpid(), SIGQUIT);
            if (i % 64 == 0)
                fen_yield();
            while (i >= 512 && fen_chan_try_recv(c, NULL) == 0)
                ;
        }
        for (int i = 0; i < LOADS; i++) {
            while (fen_chan_try_recv(c, NULL) == 0)
                ;
            kill(getpid(), SIGQUIT);
            must(fen_sleep(FEN_MS) == 0);
        }
        fen_scope_cancel(s);
        (void)fen_scope_close(s);
    }
    fen_chan_free(c);
    return 0;
}

static void test_sigquit_under_load(void **state)
{
    (void)state;
    assert_int_equal(run(coming_and_going, NULL, (fen_config){0}), 0);
    assert_true(times(" fibers of ") > 3);
    must_not_have("deadlock");
}

static int quit_once(void *arg)
{
    (void)arg;
    kill(getpid(), SIGQUIT);
    for (int i = 0; i < 2000 && !has("name=main"); i++)
        if (fen_sleep(FEN_MS))
            break;
    return 0;
}

static _Atomic int own_calls;
static void own_handler(int sig)
{
    (void)sig;
    atomic_fetch_add(&own_calls, 1);
}

static int quit_own(void *arg)
{
    (void)arg;
    kill(getpid(), SIGQUIT);
    for (int i = 0; i < 2000 && !atomic_load(&own_calls); i++)
        if (fen_sleep(FEN_MS))
            break;
    return 0;
}

static void test_sigquit_prints_and_leaves_the_program_its_own(void **state)
{
    (void)state;
    struct sigaction sa;
    assert_int_equal(run(quit_once, NULL, (fen_config){0}), 0);
    must_have("name=main state=");
    assert_int_equal(sigaction(SIGQUIT, NULL, &sa), 0);
    assert_true(sa.sa_handler == SIG_DFL); /* put back */
    signal(SIGQUIT, own_handler);
    assert_int_equal(run(quit_own, NULL, (fen_config){0}), 0);
    assert_int_equal(own_calls, 1);
    must_not_have("fiber");
    assert_int_equal(sigaction(SIGQUIT, NULL, &sa), 0);
    assert_true(sa.sa_handler == own_handler);
    signal(SIGQUIT, SIG_DFL);
}

static int see_default(void *arg)
{
    struct sigaction sa;
    (void)arg;
    must(sigaction(SIGQUIT, NULL, &sa) == 0);
    return sa.sa_handler == SIG_DFL;
}

static void test_sigquit_can_be_left_alone(void **state)
{
    (void)state;
    assert_int_equal(run(see_default, NULL, (fen_config){0}), 0);
    assert_int_equal(run(see_default, NULL, (fen_config){.sigquit_off = true}), 1);
    setenv("FEN_DEBUG", "sigquit=0,stacks=0", 1);
    assert_int_equal(run(see_default, NULL, (fen_config){0}), 1);
    unsetenv("FEN_DEBUG");
}

static void test_wrong_words_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"x",          "leaks", "leaks=2",          "leeks=1",
                                      "deadlock=1", "=1",    "leaks=1,,stacks=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("FEN_DEBUG", bad[i], 1);
        assert_int_equal(run(see_default, NULL, (fen_config){0}), -EINVAL);
    }
    unsetenv("FEN_DEBUG");
    assert_int_equal(run(see_default, NULL, (fen_config){.on_deadlock = 4}), -EINVAL);
}

/* ---- deadlocks ---- */

static fen_mutex one, two;

static void first_then_second(void *arg)
{
    fen_mutex *a = arg ? &one : &two, *b = arg ? &two : &one;
    if (fen_mutex_lock(a))
        return;
    fen_yield();
    (void)!fen_sleep(5 * FEN_MS);
    if (!fen_mutex_lock(b))
        fen_mutex_unlock(b);
    fen_mutex_unlock(a);
}

static int crossed(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    must(fen_go_named("left", 0, first_then_second, &one) == 0);
    must(fen_go_named("right", 0, first_then_second, NULL) == 0);
    return fen_scope_close(s);
}

static void test_a_deadlock_is_reported_and_cancelled(void **state)
{
    (void)state;
    int rc = run(crossed, NULL, (fen_config){.on_deadlock = FEN_DEADLOCK_CANCEL});
    assert_int_equal(rc, -EDEADLK);
    assert_int_equal(times("fen: deadlock: "), 1);
    must_have("name=left state=parked wait=mutex");
    must_have("fen: each holds what the one before it waits for: fiber 2 -> 3 -> 2");
    one = two = (fen_mutex){0};
}

/* Reported, and then it goes on: a thread outside, which nobody declared, sends after all. */
static void *late_sender(void *arg)
{
    for (int i = 0; i < 3000 && !has("fen: deadlock: "); i++)
        nap(5 * FEN_MS);
    nap(20 * FEN_MS);
    while (fen_chan_try_send(arg, NULL))
        nap(FEN_MS);
    return NULL;
}

static int nobody_is_known_to_send(void *arg)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, late_sender, arg) == 0);
    int rc = fen_chan_recv(arg, NULL);
    pthread_join(thread, NULL); /* a thread must not be in fen when the run ends */
    return rc;
}

static void test_the_default_reports_and_waits(void **state)
{
    (void)state;
    fen_chan *c = fen_chan_new(0, 0);
    assert_int_equal(run(nobody_is_known_to_send, c, (fen_config){0}), 0);
    assert_int_equal(times("fen: deadlock: "), 1);
    fen_chan_free(c);
}

static void test_a_deadlock_can_abort(void **state)
{
    (void)state;
    int p[2], status;
    char text[4096];
    size_t n = 0;
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(p[1], 2);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        _exit(fen_run(crossed, NULL, &(fen_config){.on_deadlock = FEN_DEADLOCK_ABORT}) ? 9 : 0);
    }
    close(p[1]);
    for (ssize_t k; n < sizeof text - 1 && (k = read(p[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)k;
    text[n] = 0;
    close(p[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "fen: deadlock: "));
    assert_non_null(strstr(text, "name=right"));
}

/* What waits for something that will come is no deadlock. */
static int sleeps(void *arg)
{
    (void)arg;
    return fen_sleep(STALL_NS);
}

static int has_a_deadline(void *arg)
{
    return fen_chan_recv_until(arg, NULL, fen_now() + STALL_NS) == -ETIMEDOUT ? 0 : 1;
}

static int blocks(void *arg)
{
    (void)arg;
    fen_blocking_begin();
    nap(STALL_NS);
    fen_blocking_end();
    return 0;
}

static void *connect_later(void *arg)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)(intptr_t)arg),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    nap(STALL_NS);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&in, sizeof in))
        perror("connect");
    close(fd);
    return NULL;
}

static int waits_for_a_client(void *arg)
{
    (void)arg;
    fen_sock *l = NULL, *s = NULL;
    pthread_t thread;
    must(fen_tcp_listen("127.0.0.1:0", 0, &l) == 0);
    must(pthread_create(&thread, NULL, connect_later, (void *)(intptr_t)fen_sock_port(l)) == 0);
    int rc = fen_tcp_accept(l, FEN_NEVER, &s);
    pthread_join(thread, NULL);
    fen_sock_close(s);
    fen_sock_close(l);
    return rc;
}

static void *send_later(void *arg)
{
    nap(STALL_NS);
    while (fen_chan_try_send(arg, NULL))
        nap(FEN_MS);
    return NULL;
}

static int a_declared_thread_sends(void *arg)
{
    pthread_t thread;
    fen_outsider_begin();
    must(pthread_create(&thread, NULL, send_later, arg) == 0);
    int rc = fen_chan_recv(arg, NULL);
    fen_outsider_end();
    pthread_join(thread, NULL);
    return rc;
}

static bool sender_waits; /* in its call, as a fiber would */

/* A thread that has sent before may send again. */
static void *send_twice(void *arg)
{
    nap(50 * FEN_MS);
    while (sender_waits ? fen_chan_send(arg, NULL) : fen_chan_try_send(arg, NULL))
        nap(FEN_MS);
    return send_later(arg);
}

static int a_known_thread_sends(void *arg)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, send_twice, arg) == 0);
    int rc = fen_chan_recv(arg, NULL);
    if (!rc)
        rc = fen_chan_recv(arg, NULL);
    pthread_join(thread, NULL);
    return rc;
}

static int a_waiting_thread_sends(void *arg)
{
    sender_waits = true;
    return a_known_thread_sends(arg);
}

static void test_no_deadlock_where_something_will_come(void **state)
{
    (void)state;
    int (*const cases[])(void *arg) = {sleeps,
                                       has_a_deadline,
                                       blocks,
                                       waits_for_a_client,
                                       a_declared_thread_sends,
                                       a_known_thread_sends,
                                       a_waiting_thread_sends};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fen_chan *c = fen_chan_new(0, 0);
        assert_int_equal(run(cases[i], c, (fen_config){.on_deadlock = FEN_DEADLOCK_CANCEL}), 0);
        must_not_have("fen: deadlock");
        fen_chan_free(c);
    }
}

/* ---- what is left ---- */

static fen_timer *left;
static void stays(void *arg) { (void)fen_wg_wait(arg); }

static int leaves_things(void *arg)
{
    static fen_wg never;
    never = (fen_wg){0};
    fen_wg_add(&never, 1);
    must(fen_go_detached("keeper", stays, &never) == 0);
    *(fen_chan **)arg = fen_chan_new(sizeof(int), 8);
    left = fen_timer_new();
    fen_chan_free(fen_chan_new(sizeof(int), 8));
    dump_until(has("name=keeper state=parked"));
    forget();
    return 0;
}

static void test_what_is_left_is_told(void **state)
{
    (void)state;
    fen_chan *c = NULL;
    char text[80];
    assert_int_equal(run(leaves_things, &c, (fen_config){.report_leaks = true}), 0);
    must_have("fen: left: fiber=2 name=keeper state=parked wait=wg");
    must_have(" spawn=leaves_things+0x");
    must_have("fen: left at the end of the first fiber: fibers=1 fds=0");
    snprintf(text, sizeof text, "fen: left: channel=%p has=0/8 made=leaves_things+0x", (void *)c);
    must_have(text);
    must_have(" has=0/1 made=leaves_things+0x"); /* the timer's */
    must_have("fen: left at the end of the run: channels=2 heap_bytes=");
    fen_timer_free(left);
    fen_chan_free(c);
    /* without the wish, and with nothing left, nothing is said */
    assert_int_equal(run(leaves_things, &c, (fen_config){0}), 0);
    fen_timer_free(left);
    fen_chan_free(c);
    assert_int_equal(got.n, 0);
    assert_int_equal(run(see_default, NULL, (fen_config){.report_leaks = true}), 0);
    assert_int_equal(got.n, 0);
}

/* ---- stacks ---- */

static __attribute__((noinline)) int dig(size_t depth)
{
    volatile char frame[1024];
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = (char)depth;
    if (depth == 0)
        return fen_yield(), frame[7];
    return dig(depth - 1) + frame[9];
}

static _Atomic int sink;
static void digger(void *arg) { sink = dig((size_t)(intptr_t)arg); }

static int two_diggers(void *arg)
{
    int rc = 0;
    for (volatile int i = 0; i < 2 && !rc; i++) /* volatile: one place in the code, not unrolled */
        rc = fen_go_named("digger", 128 << 10, digger, arg);
    return rc;
}

static void test_a_stack_that_is_nearly_full_is_told_once(void **state)
{
    (void)state;
    assert_int_equal(run(two_diggers, (void *)20, (fen_config){0}), 0);
    must_not_have("stack");
    assert_int_equal(run(two_diggers, (void *)DEPTH, (fen_config){0}), 0);
    assert_int_equal(times("fen: stack nearly full: fiber="), 1);
    must_have(" name=digger used=");
    must_have(" of=130112 spawn=two_diggers+0x");
}

static __attribute__((noinline)) void dig_and_return(void)
{
    volatile char frame[56 << 10];
    frame[0] = 1;
    __asm__ volatile("" : : "r"(frame) : "memory"); /* all of it is there */
    sink = frame[0];
}

/* Deep between two switches: only a painted stack tells. */
static void diver(void *arg)
{
    dig_and_return();
    (void)fen_wg_wait(arg);
}

static int dive(void *arg)
{
    fen_wg seen = {0};
    (void)arg;
    fen_wg_add(&seen, 1);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    must(s && fen_go_named("diver", 0, diver, &seen) == 0);
    dump_until(has("name=diver state=parked"));
    fen_wg_done(&seen);
    return fen_scope_close(s);
}

static void test_painted_stacks_know_the_deepest_use(void **state)
{
    (void)state;
    assert_int_equal(run(dive, NULL, (fen_config){.paint_stacks = true}), 0);
    must_have(" peak=5");
    must_have("fen: stack nearly full: fiber=2 name=diver used=5");
    assert_int_equal(run(dive, NULL, (fen_config){0}), 0);
    must_have(" peak<=");
    must_not_have("nearly full");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dump_says_who_waits_for_what),
        cmocka_unit_test(test_dump_names_the_descriptor),
        cmocka_unit_test(test_dump_without_a_runtime),
        cmocka_unit_test(test_many_of_a_kind_are_counted),
        cmocka_unit_test(test_sigquit_under_load),
        cmocka_unit_test(test_sigquit_prints_and_leaves_the_program_its_own),
        cmocka_unit_test(test_sigquit_can_be_left_alone),
        cmocka_unit_test(test_wrong_words_are_refused),
        cmocka_unit_test(test_a_deadlock_is_reported_and_cancelled),
        cmocka_unit_test(test_the_default_reports_and_waits),
        cmocka_unit_test(test_a_deadlock_can_abort),
        cmocka_unit_test(test_no_deadlock_where_something_will_come),
        cmocka_unit_test(test_what_is_left_is_told),
        cmocka_unit_test(test_a_stack_that_is_nearly_full_is_told_once),
        cmocka_unit_test(test_painted_stacks_know_the_deepest_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
