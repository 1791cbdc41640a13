/* defer_test.c - clean-ups in every form: order, what ends them, what they may wait, what they
 * cost in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/run_rig.h"

#include "sys/sys.h"

#include <fen/context.h>
#include <fen/defer.h>
#include <fen/fiber.h>
#if defined(__GNUC__) && !defined(__clang__)
#include <fen/stddefer.h>
#endif

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char order[256];
static void note(void *text) { strncat(order, text, sizeof order - strlen(order) - 1); }
static void note_int(void *n)
{
    char digit[16];
    snprintf(digit, sizeof digit, "%d,", *(int *)n);
    note(digit);
}

/* ---- block ---- */

static int leave_by(int way)
{
    FEN_DEFER(note, "a");
    for (int i = 0; i < 2; i++) {
        FEN_DEFER(note, "b");
        if (way == 1 && i == 1)
            break;
        if (way == 2)
            continue;
        if (way == 3)
            goto out;
        if (way == 4)
            return 4;
    }
    note("-");
out:
#ifdef __clang__ /* it wants a statement there */
    ;
#endif
    FEN_DEFER(note, "c");
    return 0;
}

static void test_block_runs_on_every_way_out(void **state)
{
    (void)state;
    static const char *const want[] = {"bb-ca", "bb-ca", "bb-ca", "bca", "ba"};
    for (int way = 0; way < 5; way++) {
        order[0] = 0;
        leave_by(way);
        assert_string_equal(order, want[way]);
    }
}

static void test_block_takes_the_value_of_its_place(void **state)
{
    (void)state;
    order[0] = 0;
    {
        int n = 1;
        char *text = "x";
        FEN_DEFER_COPY(note_int, n);
        FEN_DEFER(note, text);
        n = 2;
        text = "y";
        FEN_DEFER_COPY(note_int, n);
        n = 3;
        (void)n, (void)text;
    }
    assert_string_equal(order, "2,x1,");
}

#ifdef defer
static int keyword(int way)
{
    int n = 1;
    defer { note_int(&n); };
    defer
    {
        n++;
        note("k");
    };
    for (int i = 0; i < 2; i++) {
        defer { note("l"); };
        if (way)
            return n;
    }
    n = 5;
    return n;
}

/* By reference, at exit; and a number that is returned is taken before the blocks run. */
static void test_keyword_sees_variables_as_they_are_at_exit(void **state)
{
    (void)state;
    order[0] = 0;
    assert_int_equal(keyword(0), 5);
    assert_int_equal(keyword(1), 1);
    assert_string_equal(order, "llk6,lk2,");
}
#endif

static jmp_buf escape;
static void jump_out(void)
{
    FEN_DEFER(note, "never");
    longjmp(escape, 1);
}

static void test_longjmp_skips_the_block_form(void **state)
{
    (void)state;
    order[0] = 0;
    if (!setjmp(escape))
        jump_out();
    assert_string_equal(order, "");
}

/* ---- scopes ---- */

static fen_scope *again_scope;
static void note_and_defer(void *text)
{
    static fen_defer_record inner;
    note(text);
    fen_defer(again_scope, &inner, note, "i");
}

static int of_scope(void *arg)
{
    (void)arg;
    static fen_defer_record r[4];
    order[0] = 0;
    fen_scope *s = again_scope = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    for (int i = 1; i <= 3; i++)
        assert_int_equal(fen_defer_dyn(s, note_int, &i, sizeof i), 0);
    fen_defer(s, &r[0], note, "r");
    fen_defer(s, &r[1], note, "gone");
    fen_defer(s, &r[2], note_and_defer, "s");
    assert_true(fen_undefer(s, &r[1]));
    assert_false(fen_undefer(s, &r[1]));
    assert_int_equal(fen_scope_close(s), 0);
    assert_string_equal(order, "sir3,2,1,");
    return 0;
}

static void test_scope_forms_are_one_list(void **state)
{
    (void)state;
    assert_int_equal(sizeof(fen_defer_record), 24);
    run_on_all(of_scope, NULL);
}

static int wait_rc[2], cause;
static void waits(void *arg)
{
    (void)arg;
    cause = fen_scope_cause(NULL);
    wait_rc[0] = fen_scope_check(NULL);
    wait_rc[1] = fen_sleep(FEN_MS);
}

static int ended_scope(void *arg)
{
    bool by_cancel = arg != NULL;
    static fen_defer_record r;
    fen_scope *s = fen_scope_open(by_cancel ? FEN_NEVER : -7);
    fen_defer(s, &r, waits, NULL);
    if (by_cancel)
        fen_scope_cancel(s);
    int rc = by_cancel ? -ECANCELED : -ETIMEDOUT;
    assert_int_equal(fen_sleep(FEN_S), rc);
    assert_int_equal(fen_scope_close(s), rc);
    assert_int_equal(cause, rc);
    assert_int_equal(wait_rc[0], 0);
    assert_int_equal(wait_rc[1], 0);
    return 0;
}

static void test_cleanups_may_wait_after_a_cancel_and_a_deadline(void **state)
{
    (void)state;
    run_on_all(ended_scope, NULL);
    run_on_all(ended_scope, "cancel");
}

static void sleep_long(void *ret_rc)
{
    fen_scope *inner = fen_scope_open(FEN_NEVER); /* no way around the bound */
    *(int *)ret_rc = fen_sleep(100 * FEN_S);
    (void)fen_scope_close(inner);
}

static int bounded(void *arg)
{
    (void)arg;
    static fen_defer_record r[2];
    static int rc[2];
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_scope_set_cleanup(s, 20 * FEN_MS);
    fen_defer(s, &r[0], sleep_long, &rc[0]);
    fen_defer(s, &r[1], sleep_long, &rc[1]);
    int64_t t = fen_now();
    assert_int_equal(fen_sleep(30 * FEN_MS), 0); /* does not count */
    assert_int_equal(fen_scope_close(s), 0);
    assert_true(fen_now() - t < 50 * FEN_S);
    assert_int_equal(rc[0], -ETIMEDOUT);
    assert_int_equal(rc[1], -ETIMEDOUT);
    return 0;
}

static void test_cleanups_have_a_deadline_of_their_own(void **state)
{
    (void)state;
    run_on_all(bounded, NULL);
}

/* ---- loop ---- */

struct sized {
    unsigned char bytes[FEN_DEFER_BYTES_MAX];
};
static _Atomic int64_t sum;
static void add(void *n) { atomic_fetch_add_explicit(&sum, *(int64_t *)n, memory_order_relaxed); }

static size_t expected;
static const unsigned char *kept;
static void check_bytes(void *copy)
{
    assert_int_equal((uintptr_t)copy % 16, 0);
    for (size_t i = 0; i < expected; i++)
        assert_int_equal(((unsigned char *)copy)[i], (unsigned char)(i + expected));
    kept = copy;
}
static void nothing(void *copy) { (void)copy; }

static int all_sizes(void *arg)
{
    (void)arg;
    for (size_t n = 0; n <= FEN_DEFER_BYTES_MAX; n++) {
        struct sized v;
        for (size_t i = 0; i < n; i++)
            v.bytes[i] = (unsigned char)(i + n);
        expected = n;
        fen_scope *s = fen_scope_open(FEN_NEVER);
        assert_int_equal(fen_defer_dyn(s, check_bytes, n ? &v : NULL, n), 0);
        memset(&v, 0xee, sizeof v); /* the value of then counts */
        assert_int_equal(fen_scope_close(s), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(kept[i], 0); /* a pointer that was kept finds nothing */
    }
    fen_scope *s = fen_scope_open(FEN_NEVER);
    struct sized big[2] = {0};
    assert_int_equal(fen_defer_dyn(s, nothing, big, FEN_DEFER_BYTES_MAX + 1), FEN_ELIMIT);
    assert_int_equal(fen_scope_close(s), 0);
    return 0;
}

static void test_copies_of_every_size_are_true_and_cleared(void **state)
{
    (void)state;
    run_on(1, all_sizes, NULL);
}

#define MANY 200000
static int many(void *arg)
{
    (void)arg;
    sum = 0;
    for (int round = 0; round < 5; round++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        for (int64_t i = 0; i < MANY; i++)
            assert_int_equal(fen_defer_dyn(s, add, &i, sizeof i), 0);
        assert_int_equal(fen_scope_close(s), 0);
    }
    assert_int_equal(atomic_load(&sum), (int64_t)5 * MANY * (MANY - 1) / 2);
    assert_true(fen_defer_blocks() <= 3200 / 5 + 1); /* of 1,000,000; all of a round live at once */
    return 0;
}

static void test_a_million_take_few_blocks(void **state)
{
    (void)state;
    run_on(1, many, NULL);
}

/* A node is taken on one M and given back on another. */
static void wander(void *arg)
{
    (void)arg;
    for (int round = 0; round < 20; round++) {
        fen_scope *s = fen_scope_open(FEN_NEVER);
        for (int64_t i = 1; i <= 300; i++) {
            int64_t v[13] = {i};
            if (fen_defer_dyn(s, add, v, i % 2 ? sizeof i : sizeof v))
                abort();
            if (i % 50 == 0)
                fen_yield();
        }
        if (fen_sleep(FEN_US * 50) || fen_scope_close(s))
            abort();
    }
}

static int wanderers(void *arg)
{
    (void)arg;
    sum = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 16; i++)
        assert_int_equal(fen_go(wander, NULL), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(atomic_load(&sum), 16 * 20 * 300 * 301 / 2);
    return 0;
}

static int refuse_after;
static int refuse(const char *call) { return !strcmp(call, "malloc") && refuse_after-- <= 0; }

static int fails(void *n);
static int refused(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    static fen_defer_group d;
    static int numbers = 1;
    int64_t n = 1;
    sum = 0;
    fen_defer_group_init(&d, s, NULL);
    fen__sys_fault = refuse;
    refuse_after = 0;
    assert_int_equal(fen_defer_dyn(s, add, &n, sizeof n), -ENOMEM);
    for (int i = 0; i < FEN_DEFER_GROUP_INLINE; i++)
        assert_int_equal(fen_defer_group_add(&d, fails, &numbers), 0);
    assert_int_equal(fen_defer_group_add(&d, fails, &numbers), -ENOMEM);
    fen__sys_fault = NULL;
    assert_int_equal(fen_defer_dyn(s, add, &n, sizeof n), 0);
    assert_int_equal(fen_scope_close(s), 0);
    assert_int_equal(atomic_load(&sum), 1);
    return 0;
}

static void test_without_memory_nothing_is_deferred(void **state)
{
    (void)state;
    run_on(1, refused, NULL);
}

static void test_nodes_wander_between_workers(void **state)
{
    (void)state;
    run_on_all(wanderers, NULL);
}

/* ---- group and batch ---- */

static int fails(void *n)
{
    note_int(n);
    return *(int *)n % 3 ? 0 : -*(int *)n;
}

static int group(void *arg)
{
    (void)arg;
    static int numbers[40], rc;
    static fen_defer_group d;
    char want[256] = "";
    order[0] = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_defer_group_init(&d, s, &rc);
    for (int i = 0; i < 40; i++) {
        numbers[i] = i + 1;
        assert_int_equal(fen_defer_group_add(&d, fails, &numbers[i]), 0);
    }
    for (int i = 40; i > 0; i--)
        snprintf(want + strlen(want), sizeof want - strlen(want), "%d,", i);
    assert_int_equal(fen_defer_group_run(&d), -39);
    assert_string_equal(order, want);
    assert_int_equal(fen_defer_group_run(&d), 0); /* once each */
    order[0] = 0;
    assert_int_equal(fen_defer_group_add(&d, fails, &numbers[5]), 0);
    assert_int_equal(fen_defer_group_add(&d, fails, &numbers[0]), 0);
    assert_string_equal(order, ""); /* not before the caller's scope ends */
    fen_scope_cancel(s);
    assert_int_equal(fen_scope_close(s), -ECANCELED);
    assert_string_equal(order, "1,6,");
    assert_int_equal(rc, -6);
    return 0;
}

static void test_group_runs_all_and_tells_the_first_error(void **state)
{
    (void)state;
    run_on_all(group, NULL);
}

static int batch(void *arg)
{
    (void)arg;
    static int numbers[] = {1, 2, 3};
    static void *items[] = {&numbers[0], &numbers[1], &numbers[2]};
    static fen_defer_batch b, none;
    static fen_defer_record r[2];
    order[0] = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_defer(s, &r[0], note, "first");
    fen_defer_many(s, &b, note_int, items, 3);
    fen_defer_many(s, &none, note_int, NULL, 0);
    fen_defer(s, &r[1], note, "last,");
    assert_int_equal(fen_scope_close(s), 0);
    assert_string_equal(order, "last,3,2,1,first");
    return 0;
}

static void test_batch_keeps_the_order(void **state)
{
    (void)state;
    run_on_all(batch, NULL);
}

/* ---- ending the process ---- */

static void say(void *text) { (void)!write(2, text, strlen(text)); }
static void say_and_abort(void *text)
{
    say(text);
    FEN_ASSERT(!"again");
}
static int say_rc(void *text)
{
    say(text);
    return -EIO;
}

static int dies(void *arg)
{
    (void)arg;
    fen_defer_record r[4];
    fen_defer_group d;
    fen_scope *outer = fen_scope_open(FEN_NEVER);
    fen_defer(outer, &r[0], say, "4");
    fen_defer_group_init(&d, outer, NULL);
    if (fen_defer_group_add(&d, say_rc, "3"))
        return 1;
    fen_scope *inner = fen_scope_open(FEN_NEVER);
    fen_defer(inner, &r[1], say_and_abort, "2");
    fen_defer(inner, &r[2], say, "1");
    FEN_ASSERT(fen_now() < 0);
    return 0;
}

static int say_and_abort_in_ended_scope(void *text)
{
    say(text);
    fen_scope *s = fen_scope_open(fen_now() - 1);
    FEN_ASSERT(!"in an item");
    return fen_scope_close(s);
}

static int say_if_it_may_wait(void *text)
{
    say(fen_sleep(FEN_MS) ? "x" : text);
    return 0;
}

static void say_if_error(void *rc) { say(*(int *)rc == -EIO ? "4" : "y"); }

static void say_and_abort_at_5(void *text)
{
    say(text);
    FEN_ASSERT(*(char *)text != '5');
}

/* In the middle of a group, and then of a batch, that the scope's close runs. */
static int dies_in_many(void *arg)
{
    (void)arg;
    int rc;
    fen_defer_record r[2];
    fen_defer_group d;
    fen_defer_batch b;
    void *items[] = {"7", "6", "5"};
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_defer(s, &r[0], say, "8");
    fen_defer_many(s, &b, say_and_abort_at_5, items, 3);
    fen_defer(s, &r[1], say_if_error, &rc);
    fen_defer_group_init(&d, s, &rc);
    if (fen_defer_group_add(&d, say_if_it_may_wait, "3") ||
        fen_defer_group_add(&d, say_and_abort_in_ended_scope, "2") ||
        fen_defer_group_add(&d, say_rc, "1"))
        return 1;
    return fen_scope_close(s);
}

/* ---- whose scope it is ---- */

static fen_defer_record strange;

static void defers_into(void *scope) { fen_defer(scope, &strange, say, "never"); }

static int another_fiber(void *arg)
{
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    return fen_go(defers_into, s) ? 1 : fen_scope_close(s);
}

static void *a_thread(void *scope)
{
    defers_into(scope);
    return NULL;
}

static int another_thread(void *arg)
{
    (void)arg;
    pthread_t t;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (pthread_create(&t, NULL, a_thread, s))
        return 1;
    pthread_join(t, NULL);
    return fen_scope_close(s);
}

static void notes_deferred(void *scope) { fen_defer(scope, &strange, note, "context,"); }

/* The owner on another stack. */
static int a_context(void *arg)
{
    (void)arg;
    fen_context *c;
    fen_defer_record r;
    order[0] = 0;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    fen_defer(s, &r, note, "own");
    assert_int_equal(fen_context_new(0, notes_deferred, s, &c), 0);
    assert_false(fen_context_resume(c));
    fen_context_free(c);
    assert_int_equal(fen_scope_close(s), 0);
    assert_string_equal(order, "context,own");
    return 0;
}

/* fn aborts, and what standard error has begins so. */
static void aborts_saying(int (*fn)(void *), const char *said)
{
    int fd[2], status;
    char text[256] = "";
    size_t n = 0;
    ssize_t got;
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(fd[1], 2);
        alarm(20);
        (void)!fen_run(fn, NULL, &(fen_config){.procs = 1});
        _exit(0);
    }
    close(fd[1]);
    while (n < sizeof text - 1 && (got = read(fd[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_int_equal(strncmp(text, said, strlen(said)), 0);
}

static void test_an_abort_runs_the_scopes_cleanups_first(void **state)
{
    (void)state;
    aborts_saying(dies, "1234fen: ");
    aborts_saying(dies_in_many, "12345678fen: ");
}

static void test_only_the_owner_defers(void **state)
{
    (void)state;
    aborts_saying(another_fiber, "fen: assertion failed: fen_defer by another");
    aborts_saying(another_thread, "fen: assertion failed: fen_defer by another");
    run_on_all(a_context, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_runs_on_every_way_out),
        cmocka_unit_test(test_block_takes_the_value_of_its_place),
#ifdef defer
        cmocka_unit_test(test_keyword_sees_variables_as_they_are_at_exit),
#endif
        cmocka_unit_test(test_longjmp_skips_the_block_form),
        cmocka_unit_test(test_scope_forms_are_one_list),
        cmocka_unit_test(test_cleanups_may_wait_after_a_cancel_and_a_deadline),
        cmocka_unit_test(test_cleanups_have_a_deadline_of_their_own),
        cmocka_unit_test(test_copies_of_every_size_are_true_and_cleared),
        cmocka_unit_test(test_a_million_take_few_blocks),
        cmocka_unit_test(test_without_memory_nothing_is_deferred),
        cmocka_unit_test(test_nodes_wander_between_workers),
        cmocka_unit_test(test_group_runs_all_and_tells_the_first_error),
        cmocka_unit_test(test_batch_keeps_the_order),
        cmocka_unit_test(test_an_abort_runs_the_scopes_cleanups_first),
        cmocka_unit_test(test_only_the_owner_defers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
