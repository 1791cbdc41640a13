/* store_test.c - the order book of `fen serve orders`: what it stores, what it refuses, and that
 * deadlines and crashes do to it what its headers say. */
#include "serve/store_int.h"

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/run.h>
#include <fen/scope.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>
#include <cmocka.h>

#define FILL 2000

static char dir[64], path[96], text[512];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fen-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/orders.db", dir);
    text[0] = 0;
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    char cmd[96];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static struct store *open_store(int readers, int fill)
{
    struct store_config cfg = {.path = path, .readers = readers, .fill = fill};
    struct store *s = NULL;
    int rc = store_open(&cfg, &s, text, sizeof text);
    if (rc < 0)
        print_error("%s\n", text);
    assert_int_equal(rc, 0);
    return s;
}

static int refused(const char *at)
{
    struct store_config cfg = {.path = at, .fill = FILL};
    struct store *s = NULL;
    int rc = store_open(&cfg, &s, text, sizeof text);
    assert_null(s);
    assert_non_null(strstr(text, at));
    assert_null(strchr(text, '\n'));
    return rc;
}

static sqlite3 *raw_open(const char *at)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(at, &db), SQLITE_OK);
    return db;
}

static void raw(sqlite3 *db, const char *sql)
{
    char *err = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK)
        fail_msg("%s: %s", sql, err);
}

static int64_t raw_i64(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return v;
}

static void write_file(const char *at, const char *bytes, size_t n, long offset)
{
    FILE *f = fopen(at, offset ? "r+b" : "wb");
    assert_non_null(f);
    fseek(f, offset, SEEK_SET);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* Runs a body in the runtime with a store whose writer is started, and stops it after. */
struct bout {
    struct store *s;
    void (*body)(struct store *s);
};

static int bout_main(void *arg)
{
    struct bout *b = arg;
    int rc = store_start(b->s);
    if (rc == 0)
        b->body(b->s);
    store_stop(b->s);
    return rc;
}

static void with_store(int readers, void (*body)(struct store *s))
{
    struct bout b = {open_store(readers, FILL), body};
    assert_int_equal(fen_run(bout_main, &b, NULL), 0);
    store_close(b.s);
}

static struct order an_order(int64_t customer, const char *item)
{
    struct order o = {.customer = customer, .quantity = 3, .price_cents = 1999, .created_at = 77};
    snprintf(o.item, sizeof o.item, "%s", item);
    snprintf(o.status, sizeof o.status, "new");
    return o;
}

static void assert_same(const struct order *a, const struct order *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->customer, b->customer);
    assert_string_equal(a->item, b->item);
    assert_int_equal(a->quantity, b->quantity);
    assert_int_equal(a->price_cents, b->price_cents);
    assert_string_equal(a->status, b->status);
    assert_int_equal(a->created_at, b->created_at);
}

/* ---- the file ---- */

static void fill_is_deterministic(void **state)
{
    (void)state;
    static const char sum_sql[] =
        "SELECT sum((id*31 + customer*17 + quantity*7 + price_cents*3 + created_at"
        " + length(item) + length(status)) % 1000003) FROM orders";
    store_close(open_store(1, FILL));
    sqlite3 *db = raw_open(path);
    assert_int_equal(raw_i64(db, "SELECT count(*) FROM orders"), FILL);
    assert_int_equal(raw_i64(db, "SELECT max(n) FROM (SELECT count(*) n FROM orders GROUP BY "
                                 "customer)"),
                     10);
    assert_int_equal(raw_i64(db, "SELECT min(n) FROM (SELECT count(*) n FROM orders GROUP BY "
                                 "customer)"),
                     10);
    assert_int_equal(raw_i64(db, "PRAGMA user_version"), 1);
    assert_int_equal(raw_i64(db, sum_sql), INT64_C(0x1c775d17));
    sqlite3_close(db);
}

static void a_dead_fill_is_repeated(void **state)
{
    (void)state;
    char name[128];
    snprintf(name, sizeof name, "%s.filling", path);
    write_file(name, "half a database", 15, 0);
    store_close(open_store(1, FILL));
    assert_int_equal(access(name, F_OK), -1);
    store_close(open_store(1, FILL));
}

/* The log of a file that somebody removed must not be replayed into the new one. */
static void a_stale_log_is_not_replayed(void **state)
{
    (void)state;
    char old[96], cmd[256];
    snprintf(old, sizeof old, "%s/old.db", dir);
    sqlite3 *db = raw_open(old);
    raw(db, "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    snprintf(cmd, sizeof cmd, "cp %s-wal %s-wal", old, path);
    assert_int_equal(system(cmd), 0);
    sqlite3_close(db);
    store_close(open_store(1, FILL));
    db = raw_open(path);
    assert_int_equal(raw_i64(db, "SELECT count(*) FROM sqlite_schema"), 2);
    assert_int_equal(raw_i64(db, "SELECT count(*) FROM orders"), FILL);
    sqlite3_close(db);
}

static void bad_paths_are_named(void **state)
{
    (void)state;
    char at[160];
    snprintf(at, sizeof at, "%s/none/orders.db", dir);
    assert_int_equal(refused(at), -ENOENT);
    assert_int_equal(refused(dir), -EISDIR);
    write_file(path, "x", 1, 0);
    snprintf(at, sizeof at, "%s/orders.db", path);
    assert_int_equal(refused(at), -ENOTDIR);
}

static void bad_files_are_named(void **state)
{
    (void)state;
    write_file(path, "this is a letter to my aunt, and she does not speak SQLite.............", 70,
               0);
    assert_int_equal(refused(path), FEN_ECORRUPT);
    assert_non_null(strstr(text, "not an SQLite database"));

    remove(path);
    sqlite3 *db = raw_open(path);
    raw(db, "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer); PRAGMA user_version=1");
    assert_int_equal(refused(path), -EINVAL);
    assert_non_null(strstr(text, "schema"));
    raw(db, "PRAGMA user_version=9");
    assert_int_equal(refused(path), -EINVAL);
    assert_non_null(strstr(text, "version 9"));
    sqlite3_close(db);
}

static void a_damaged_file_is_named(void **state)
{
    (void)state;
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    store_close(open_store(1, FILL));
    write_file(path, junk, sizeof junk, 4096 * 9);
    assert_int_equal(refused(path), FEN_ECORRUPT);
    assert_non_null(strstr(text, "damaged"));
}

/* In a child, as nobody, when the test is run by root: root may write everywhere. */
static void unwritable_is_named(void **state)
{
    (void)state;
    store_close(open_store(1, FILL));
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(9);
        struct store_config cfg = {.path = path};
        struct store *s = NULL;
        int rc = store_open(&cfg, &s, text, sizeof text);
        if (rc != -EROFS || !strstr(text, "not writable"))
            _exit(1);
        snprintf(path, sizeof path, "%s/new.db", dir);
        rc = store_open(&cfg, &s, text, sizeof text);
        _exit(rc == -EACCES && strstr(text, path) ? 0 : 2);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    chmod(dir, 0755);
    assert_int_equal(status, 0);
}

/* ---- reading and writing ---- */

static void get_list_add(struct store *s)
{
    struct order o, list[STORE_LIST_MAX];
    assert_int_equal(store_get(s, 1, &o), 0);
    assert_int_equal(o.id, 1);
    assert_int_equal(o.customer, 7919 % (FILL / 10) + 1);
    assert_int_equal(strncmp(o.item, "widget-", 7), 0);
    assert_int_equal(store_get(s, FILL + 1, &o), -ENOENT);
    assert_int_equal(store_get(s, INT64_MIN, &o), -ENOENT);

    struct order fresh = an_order(42, "naïve “widget”");
    assert_int_equal(store_add(s, &fresh), 0);
    assert_int_equal(fresh.id, FILL + 1);
    assert_int_equal(store_get(s, fresh.id, &o), 0);
    assert_same(&o, &fresh);

    assert_int_equal(store_list(s, 42, STORE_LIST_MAX, list), 11);
    assert_same(&list[0], &fresh);
    for (int i = 1; i < 11; i++) {
        assert_int_equal(list[i].customer, 42);
        assert_true(list[i].id < list[i - 1].id);
    }
    assert_int_equal(store_list(s, 42, 3, list), 3);
    assert_int_equal(store_list(s, 1 << 30, 3, list), 0);
    assert_int_equal(store_list(s, 42, 0, list), -EINVAL);
    assert_int_equal(store_list(s, 42, STORE_LIST_MAX + 1, list), -EINVAL);
}

static void test_get_list_add(void **state)
{
    (void)state;
    with_store(2, get_list_add);
}

static int wrong_rows;

static void read_many(void *arg)
{
    struct store *s = arg;
    uint64_t r = (uintptr_t)&r | 1;
    for (int i = 0; i < 200; i++) {
        struct order o, list[10];
        r = r * UINT64_C(6364136223846793005) + 1;
        int64_t id = (int64_t)((r >> 33) % FILL) + 1;
        bool good = store_get(s, id, &o) == 0 && o.id == id &&
                    store_list(s, o.customer, 10, list) == 10 && list[9].customer == o.customer;
        if (!good)
            __atomic_fetch_add(&wrong_rows, 1, __ATOMIC_RELAXED);
    }
}

static void concurrent_readers(struct store *s)
{
    wrong_rows = 0;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 50; i++)
        assert_int_equal(fen_go(read_many, s), 0);
    assert_int_equal(fen_scope_close(scope), 0);
    assert_int_equal(wrong_rows, 0);
}

static void test_concurrent_readers(void **state)
{
    (void)state;
    with_store(3, concurrent_readers);
}

/* ---- deadlines ---- */

/* From now on every query of a customer computes for hours; the store prepares its statements anew
 * because the schema changed under it. */
static void make_queries_endless(void)
{
    sqlite3 *db = raw_open(path);
    raw(db, "ALTER TABLE orders RENAME TO real_orders;"
            "CREATE VIEW orders AS WITH RECURSIVE n(x) AS (SELECT min(id) FROM real_orders"
            " UNION ALL SELECT x+1 FROM n)"
            " SELECT x AS id, -x AS customer, 'i' AS item, 1 AS quantity, 1 AS price_cents,"
            " 's' AS status, 1 AS created_at FROM n");
    sqlite3_close(db);
}

static void make_queries_short(void)
{
    sqlite3 *db = raw_open(path);
    raw(db, "DROP VIEW orders; ALTER TABLE real_orders RENAME TO orders");
    sqlite3_close(db);
}

static fen_pool_stats readers_of(struct store *s)
{
    fen_pool_stats st;
    fen_pool_stats_get(s->readers, &st);
    assert_int_equal(st.forgotten, 0);
    return st;
}

static void long_query_meets_deadline(struct store *s)
{
    struct order o, list[10];
    make_queries_endless();
    int64_t deadline_ns = fen_now() + 50 * FEN_MS;
    fen_scope *scope = fen_scope_open(deadline_ns);
    assert_int_equal(store_list(s, 5, 10, list), -ETIMEDOUT);
    int64_t late_ns = fen_now() - deadline_ns;
    assert_int_equal(fen_scope_close(scope), -ETIMEDOUT);
    print_message("interrupted %.2f ms after the deadline\n", (double)late_ns / 1e6);
    assert_in_range(late_ns, 0, 2 * FEN_S); /* without the deadline: never */

    scope = fen_scope_open(fen_now() + 50 * FEN_MS); /* the call without a hook */
    assert_int_equal(store_get(s, -5, &o), -ETIMEDOUT);
    fen_scope_close(scope);

    make_queries_short();
    assert_int_equal(store_list(s, 5, 10, list), 10); /* the connection is clean */
    assert_int_equal(store_get(s, 5, &o), 0);
    assert_int_equal(store_get(s, FILL + 1, &o), -ENOENT); /* no fault of the connection's */
    assert_int_equal(store_get(s, 6, &o), 0);
    fen_pool_stats st = readers_of(s);
    assert_int_equal(st.discarded, 2); /* one for each call that was cut off */
    assert_int_equal(st.made, 3);
    assert_int_equal(st.free, 1);
    assert_int_equal(st.lent, 0);
}

static void test_long_query_meets_deadline(void **state)
{
    (void)state;
    with_store(1, long_query_meets_deadline);
}

struct endless {
    struct store *s;
    int rc;
};

static void ask_endless(void *arg)
{
    struct endless *e = arg;
    struct order list[10];
    e->rc = store_list(e->s, 5, 10, list);
}

/* The only reader is busy for ever: others wait no longer than they may, and a cancellation ends
 * the busy one. */
static void cancel_ends_query(struct store *s)
{
    struct endless e = {s, 1};
    struct order o;
    make_queries_endless();
    fen_scope *busy = fen_scope_open(FEN_NEVER);
    assert_int_equal(fen_go(ask_endless, &e), 0);
    fen_sleep(30 * FEN_MS);
    fen_scope *scope = fen_scope_open(fen_now() + 30 * FEN_MS);
    assert_int_equal(store_get(s, 1, &o), -ETIMEDOUT);
    fen_scope_close(scope);
    assert_int_equal(e.rc, 1);
    fen_scope_cancel(busy);
    assert_int_equal(fen_scope_close(busy), -ECANCELED);
    assert_int_equal(e.rc, -ECANCELED);
    make_queries_short();
    assert_int_equal(store_get(s, 5, &o), 0);
    fen_pool_stats st = readers_of(s);
    assert_int_equal(st.max, 1);
    assert_int_equal(st.refused, 2); /* who waited in vain, and a fiber without a scope at first */
    assert_int_equal(st.discarded, 1);
    assert_int_equal(st.made, 2);
    assert_int_equal(st.free, 1);
    assert_int_equal(st.waiting, 0);
}

static void test_cancel_ends_query(void **state)
{
    (void)state;
    with_store(1, cancel_ends_query);
}

static void slow_body(struct store *s)
{
    struct order o = an_order(1, "late"), got;
    fen_scope *scope = fen_scope_open(fen_now() + 20 * FEN_MS);
    assert_int_equal(store_get(s, 1, &got), -ETIMEDOUT);
    assert_int_equal(store_add(s, &o), -ETIMEDOUT);
    fen_scope_close(scope);
    assert_int_equal(store_get(s, FILL + 1, &got), -ENOENT);
}

static void rehearsed_delay_meets_deadline(void **state)
{
    (void)state;
    struct store_config cfg = {.path = path, .readers = 1, .fill = FILL, .delay_ns = 40 * FEN_MS};
    struct bout b = {NULL, slow_body};
    assert_int_equal(store_open(&cfg, &b.s, text, sizeof text), 0);
    assert_int_equal(fen_run(bout_main, &b, NULL), 0);
    store_close(b.s);
}

/* ---- the writer ---- */

static int added, turned_away, others;

static void add_one(void *arg)
{
    struct order o = an_order(7, "crowd");
    int rc = store_add(arg, &o);
    int *count = rc == 0 ? &added : rc == -EBUSY ? &turned_away : &others;
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

static void add_crowd(struct store *s, int n, sqlite3 *lock)
{
    added = turned_away = others = 0;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    raw(lock, "BEGIN IMMEDIATE");
    assert_int_equal(fen_go(add_one, s), 0);
    fen_sleep(50 * FEN_MS); /* the writer holds the first one and wants the lock */
    for (int i = 1; i < n; i++)
        assert_int_equal(fen_go(add_one, s), 0);
    fen_stats st;
    do /* all have begun, and wait or were turned away */
        fen_sleep(150 * FEN_MS);
    while (fen_stats_get(&st), st.run_queue > 0);
    raw(lock, "ROLLBACK");
    assert_int_equal(fen_scope_close(scope), 0);
}

static void group_commit(struct store *s)
{
    sqlite3 *db = raw_open(path);
    add_crowd(s, 200, db);
    assert_int_equal(added, 200);
    assert_in_range(store_commits(s), 2, 4);
    assert_int_equal(raw_i64(db, "SELECT count(*) FROM orders"), FILL + 200);
    sqlite3_close(db);
}

static void test_group_commit(void **state)
{
    (void)state;
    with_store(1, group_commit);
}

static void full_queue(struct store *s)
{
    sqlite3 *db = raw_open(path);
    add_crowd(s, STORE_QUEUE_MAX + 100, db);
    assert_int_equal(added, STORE_QUEUE_MAX + 1);
    assert_int_equal(turned_away, 99);
    assert_int_equal(others, 0);
    assert_int_equal(raw_i64(db, "SELECT count(*) FROM orders"), FILL + STORE_QUEUE_MAX + 1);
    sqlite3_close(db);
}

static void test_full_queue(void **state)
{
    (void)state;
    with_store(1, full_queue);
}

static void locked_file(struct store *s)
{
    struct order o = an_order(7, "late");
    sqlite3 *db = raw_open(path);
    raw(db, "BEGIN IMMEDIATE");
    for (int i = 0; i < 3; i++) {
        fen_scope *scope = fen_scope_open(fen_now() + 30 * FEN_MS);
        assert_int_equal(store_add(s, &o), -ETIMEDOUT);
        fen_scope_close(scope);
    }
    raw(db, "ROLLBACK");
    assert_int_equal(store_add(s, &o), 0);
    assert_int_equal(raw_i64(db, "SELECT count(*) FROM orders"), FILL + 1); /* no late one */
    sqlite3_close(db);
}

static void test_locked_file(void **state)
{
    (void)state;
    with_store(1, locked_file);
}

/* Orders that wait when the store stops are written; later ones are refused. */
static void stop_drains(struct store *s)
{
    struct order o = an_order(7, "after");
    sqlite3 *db = raw_open(path);
    added = turned_away = others = 0;
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    raw(db, "BEGIN IMMEDIATE");
    for (int i = 0; i < 20; i++)
        assert_int_equal(fen_go(add_one, s), 0);
    fen_sleep(100 * FEN_MS);
    store_stop(s);
    assert_int_equal(store_add(s, &o), -ECANCELED);
    raw(db, "ROLLBACK");
    assert_int_equal(fen_scope_close(scope), 0);
    assert_int_equal(added, 20);
    sqlite3_close(db);
}

static void test_stop_drains(void **state)
{
    (void)state;
    with_store(1, stop_drains);
}

/* ---- the crash ---- */

static int ack_fd;

static void post_for_ever(void *arg)
{
    for (;;) {
        struct order o = an_order(99, "acknowledged");
        if (store_add(arg, &o) == 0 && write(ack_fd, &o.id, sizeof o.id) != sizeof o.id)
            return;
    }
}

static void crash_body(struct store *s)
{
    for (int i = 0; i < 8; i++)
        if (fen_go(post_for_ever, s) < 0)
            _exit(1);
    fen_sleep(30 * FEN_S);
}

static void kill_loses_nothing(void **state)
{
    (void)state;
    int pipe_fds[2];
    store_close(open_store(1, FILL));
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipe_fds[0]);
        ack_fd = pipe_fds[1];
        with_store(1, crash_body);
        _exit(0);
    }
    close(pipe_fds[1]);
    static char seen[1 << 20];
    int64_t id;
    int n = 0;
    while (n < 300 && read(pipe_fds[0], &id, sizeof id) == sizeof id) {
        assert_in_range(id, FILL + 1, (int)sizeof seen - 1);
        n += !seen[id];
        seen[id] = 1;
    }
    kill(pid, SIGKILL);
    while (read(pipe_fds[0], &id, sizeof id) == sizeof id) /* acknowledged before it died */
        n += !seen[id]++;
    waitpid(pid, NULL, 0);
    close(pipe_fds[0]);
    assert_true(n >= 300);

    store_close(open_store(1, FILL));
    sqlite3 *db = raw_open(path);
    for (int64_t i = 0; i < (int64_t)sizeof seen; i++) {
        char sql[120];
        if (!seen[i])
            continue;
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM orders WHERE id=%lld AND item='acknowledged'", (long long)i);
        assert_int_equal(raw_i64(db, sql), 1);
    }
    sqlite3_close(db);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_dir, drop_dir)
    const struct CMUnitTest tests[] = {
        T(kill_loses_nothing),
        T(fill_is_deterministic),
        T(a_dead_fill_is_repeated),
        T(a_stale_log_is_not_replayed),
        T(bad_paths_are_named),
        T(bad_files_are_named),
        T(a_damaged_file_is_named),
        T(unwritable_is_named),
        T(test_get_list_add),
        T(test_concurrent_readers),
        T(test_long_query_meets_deadline),
        T(test_cancel_ends_query),
        T(rehearsed_delay_meets_deadline),
        T(test_group_commit),
        T(test_full_queue),
        T(test_locked_file),
        T(test_stop_drains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
