/* store_conn.c - connections to the order book: opening with clear errors, and the deadline.
 *
 * How a deadline reaches SQLite: a progress handler looks at the scope and the clock every 1,000
 * steps of SQLite's machine, and a busy handler every half millisecond while another process holds
 * the lock; for lists the scope's end also runs a hook that interrupts. Point reads register no
 * hook: they take some twenty steps.
 *
 * Durability: WAL with synchronous=FULL. NORMAL, the usual companion of WAL, syncs only at
 * checkpoints and may lose acknowledged orders when the machine loses power; the group commit in
 * store_write.c pays for the sync once for many orders. */
#include "serve/store_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SCHEMA_VERSION 1
#define STEPS_PER_CHECK 1000         /* about 50 us of SQLite's machine */
#define LOCK_PATIENCE_NS (5 * FEN_S) /* of a call without a deadline */
#define LOCK_RETRY_NS (500 * FEN_US)
#define CHECK_MAX_BYTES (64 << 20) /* larger files are not read through at the start */

#define COLUMNS "customer, item, quantity, price_cents, status, created_at"
static const char insert_sql[] = "INSERT INTO orders(" COLUMNS ") VALUES(?,?,?,?,?,?)";
static const char get_sql[] = "SELECT id, " COLUMNS " FROM orders WHERE id=?";
static const char list_sql[] =
    "SELECT id, " COLUMNS " FROM orders WHERE customer=? ORDER BY id DESC LIMIT ?";

int store__errno(const struct conn *c, int code)
{
    int stop = __atomic_load_n(&c->stop, __ATOMIC_RELAXED);
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return 0;
    case SQLITE_INTERRUPT: return stop ? stop : -ETIMEDOUT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return stop ? stop : fen_now() >= c->deadline_ns ? -ETIMEDOUT : -EBUSY;
    case SQLITE_NOMEM: return -ENOMEM;
    case SQLITE_FULL: return -ENOSPC;
    case SQLITE_READONLY: return -EROFS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN: return -EACCES;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return FEN_ECORRUPT;
    case SQLITE_TOOBIG: return FEN_ELIMIT;
    default: return -EIO;
    }
}

int store__say(char *text, size_t n, const char *path, const char *why, int rc)
{
    if (text && n)
        snprintf(text, n, "%s: %s", path, why);
    return rc;
}

/* Inside a blocking section: of fen it calls only what any thread may. */
static bool ended(struct conn *c)
{
    int rc = __atomic_load_n(&c->stop, __ATOMIC_RELAXED);
    if (!rc && c->scope)
        rc = fen_scope_check(c->scope);
    if (!rc && fen_now() >= c->deadline_ns)
        rc = -ETIMEDOUT;
    if (rc)
        __atomic_store_n(&c->stop, rc, __ATOMIC_RELAXED);
    return rc != 0;
}

static int on_progress(void *arg) { return ended(arg); }

/* Another process holds the lock. Short naps, because a waiter in SQLite cannot be woken. */
static int on_busy(void *arg, int times)
{
    struct conn *c = arg;
    (void)times;
    if (!c->lock_until_ns) /* few calls ever wait: the clock is read by those alone */
        c->lock_until_ns = fen_now() + LOCK_PATIENCE_NS;
    int64_t left =
        (c->lock_until_ns < c->deadline_ns ? c->lock_until_ns : c->deadline_ns) - fen_now();
    if (left <= 0 || ended(c))
        return 0;
    struct timespec nap = {0, left < LOCK_RETRY_NS ? left : LOCK_RETRY_NS};
    nanosleep(&nap, NULL);
    return 1;
}

/* The scope has ended. Any thread; the connection stays open as long as the hook is registered.
 * sqlite3_interrupt alone would be lost between two statements: hence the flag as well. */
static void on_scope_end(fen_cancel_hook *h, int rc)
{
    struct conn *c = h->arg;
    __atomic_store_n(&c->stop, rc, __ATOMIC_RELAXED);
    sqlite3_interrupt(c->db);
}

void store__work_begin(struct conn *c, fen_scope *scope, int64_t deadline_ns)
{
    __atomic_store_n(&c->stop, 0, __ATOMIC_RELAXED);
    c->scope = scope;
    c->deadline_ns = deadline_ns;
    c->lock_until_ns = 0;
}

void store__long_begin(struct conn *c, int64_t deadline_ns)
{
    fen_scope *scope = fen_scope_current();
    store__work_begin(c, scope, deadline_ns);
    c->hook = (fen_cancel_hook){.fn = on_scope_end, .arg = c};
    fen_cancel_hook_add(scope, &c->hook);
}

void store__long_end(struct conn *c) { fen_cancel_hook_del(&c->hook); }

static int scalar(sqlite3 *db, const char *sql, char *ret_text, size_t n)
{
    sqlite3_stmt *s;
    int code = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(s) == SQLITE_ROW)
        snprintf(ret_text, n, "%s", (const char *)sqlite3_column_text(s, 0));
    return sqlite3_finalize(s);
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret)
{
    return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
}

/* The file is mapped, as the comparison servers do: a tenth off a read. Each connection maps it
 * again and the kernel counts the pages again, which is why readers are few and the lowest free
 * one is taken first. 256 KiB of page cache hold what the map does not serve. */
static const char both_sql[] =
    "PRAGMA cache_size=-256; PRAGMA mmap_size=268435456; PRAGMA temp_store=MEMORY";
static const char writer_sql[] = "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000;"
                                 "PRAGMA journal_size_limit=8388608";

static int set_up(struct conn *c, bool writer)
{
    sqlite3 *db = c->db;
    char mode[16] = "";
    int code = sqlite3_exec(db, both_sql, NULL, NULL, NULL);
    if (code == SQLITE_OK && writer)
        code = scalar(db, "PRAGMA journal_mode=WAL", mode, sizeof mode);
    if (code == SQLITE_OK && writer)
        code =
            strcmp(mode, "wal") ? SQLITE_READONLY : sqlite3_exec(db, writer_sql, NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return code;
    if (!writer) {
        code = prepare(db, get_sql, &c->get);
        return code == SQLITE_OK ? prepare(db, list_sql, &c->list) : code;
    }
    code = prepare(db, "BEGIN IMMEDIATE", &c->begin);
    if (code == SQLITE_OK)
        code = prepare(db, insert_sql, &c->insert);
    if (code == SQLITE_OK)
        code = prepare(db, "COMMIT", &c->commit);
    return code == SQLITE_OK ? prepare(db, "ROLLBACK", &c->rollback) : code;
}

/* What went wrong, for the operator, in words rather than in SQLite's. */
static int explain(struct conn *c, const char *path, int code, char *text, size_t n)
{
    char why[300];
    int rc = store__errno(c, code);
    const char *sqlite = c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(code);
    if (code == SQLITE_NOTADB)
        snprintf(why, sizeof why, "is not an SQLite database");
    else if ((code & 0xff) == SQLITE_CORRUPT)
        snprintf(why, sizeof why, "is damaged: %s", sqlite);
    else if ((code & 0xff) == SQLITE_BUSY)
        snprintf(why, sizeof why, "is locked by another process");
    else if ((code & 0xff) == SQLITE_READONLY)
        snprintf(why, sizeof why, "is not writable");
    else if ((code & 0xff) == SQLITE_CANTOPEN)
        snprintf(why, sizeof why, "cannot be opened: %s",
                 strerror(c->db ? sqlite3_system_errno(c->db) : EIO));
    else if (code == SQLITE_ERROR) {
        snprintf(why, sizeof why, "has another schema: %s", sqlite);
        rc = -EINVAL;
    } else
        snprintf(why, sizeof why, "%s", sqlite);
    return store__say(text, n, path, why, rc);
}

static int check_version(struct conn *c, const char *path, char *text, size_t n)
{
    char version[24] = "", why[80];
    int code = scalar(c->db, "PRAGMA user_version", version, sizeof version);
    if (code != SQLITE_OK)
        return explain(c, path, code, text, n);
    if (!strcmp(version, "1"))
        return 0;
    snprintf(why, sizeof why, "has schema version %s, this program needs %d", version,
             SCHEMA_VERSION);
    return store__say(text, n, path, why, -EINVAL);
}

int store__conn_open(struct conn *c, const char *path, bool writer, int64_t deadline_ns, char *text,
                     size_t n)
{
    *c = (struct conn){.deadline_ns = deadline_ns};
    int flags = (writer ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX;
    int code = sqlite3_open_v2(path, &c->db, flags, NULL), rc;
    if (code == SQLITE_OK && writer && sqlite3_db_readonly(c->db, "main") == 1)
        code = SQLITE_READONLY;
    if (code != SQLITE_OK)
        goto fail;
    sqlite3_extended_result_codes(c->db, 0);
    sqlite3_busy_handler(c->db, on_busy, c);
    rc = check_version(c, path, text, n);
    if (rc < 0)
        goto fail_said;
    code = set_up(c, writer);
    if (code != SQLITE_OK)
        goto fail;
    sqlite3_progress_handler(c->db, STEPS_PER_CHECK, on_progress, c);
    return 0;
fail:
    rc = explain(c, path, code, text, n);
fail_said:
    store__conn_close(c);
    return rc;
}

void store__conn_close(struct conn *c)
{
    sqlite3_stmt *all[] = {c->get, c->list, c->begin, c->insert, c->commit, c->rollback};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sqlite3_finalize(all[i]);
    c->get = c->list = c->begin = c->insert = c->commit = c->rollback = NULL;
    sqlite3_close(c->db);
    c->db = NULL;
}

int store__conn_check(struct conn *c, const char *path, char *text, size_t n)
{
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size > CHECK_MAX_BYTES)
        return 0;
    char found[200] = "", why[240];
    int code = scalar(c->db, "PRAGMA quick_check(1)", found, sizeof found);
    if (code != SQLITE_OK)
        return explain(c, path, code, text, n);
    if (!strcmp(found, "ok"))
        return 0;
    found[strcspn(found, "\n")] = ' ';
    snprintf(why, sizeof why, "is damaged: %s", found);
    return store__say(text, n, path, why, FEN_ECORRUPT);
}
