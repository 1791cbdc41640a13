/* store_fill.c - the file of the order book: made, filled, put in its place.
 *
 * A new file is filled under another name (PATH.filling) with no journal, synced, then renamed: a
 * file at PATH is complete or absent, however the process died, and what a dead one left under the
 * other name is overwritten. flock on that name keeps two first starts apart. A left-over PATH-wal
 * is removed before the rename: SQLite would replay it into the new file.
 *
 * Rejected: filling in place in one WAL transaction (a 9 MB log, twice the time), and a "complete"
 * marker row (a second thing to check, and a half-filled file that other tools would open). */
#include "serve/store_int.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char create_sql[] =
    "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;"
    "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, item TEXT NOT NULL,"
    " quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL, status TEXT NOT NULL,"
    " created_at INTEGER NOT NULL)";
static const char finish_sql[] = "CREATE INDEX orders_customer ON orders(customer);"
                                 "PRAGMA user_version=1; COMMIT";

static const char insert_sql[] = "INSERT INTO orders VALUES(?,?,?,?,?,?,?)";

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void bind_order(sqlite3_stmt *s, int64_t id, int customers)
{
    static const char *states[] = {"new", "paid", "shipped", "cancelled"};
    uint64_t r = mix((uint64_t)id * UINT64_C(0x9e3779b97f4a7c15));
    char item[24];
    int n = snprintf(item, sizeof item, "widget-%d", (int)(r % 1000));
    sqlite3_bind_int64(s, 1, id);
    /* 7,919 is prime to any count that ends in zeros only: each customer comes up equally often,
     * and the orders of one lie far apart in the file, as they would in life. */
    sqlite3_bind_int64(s, 2, (id * 7919) % customers + 1);
    sqlite3_bind_text(s, 3, item, n, SQLITE_TRANSIENT);
    sqlite3_bind_int64(s, 4, (int64_t)(r >> 16 & 7) + 1);
    sqlite3_bind_int64(s, 5, (int64_t)((r >> 24) % 99900) + 100);
    sqlite3_bind_text(s, 6, states[r >> 48 & 3], -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 7, INT64_C(1700000000) + id * 60);
}

static int fill_rows(sqlite3 *db, int orders)
{
    int customers = orders >= 10 ? orders / 10 : 1;
    sqlite3_stmt *s = NULL;
    int code = sqlite3_exec(db, create_sql, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(db, insert_sql, -1, &s, NULL);
    for (int id = 1; code == SQLITE_OK && id <= orders; id++) {
        bind_order(s, id, customers);
        sqlite3_step(s);
        code = sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code == SQLITE_OK ? sqlite3_exec(db, finish_sql, NULL, NULL, NULL) : code;
}

static int fill_file(const char *name, int orders, char *text, size_t n)
{
    sqlite3 *db;
    int code = sqlite3_open_v2(name, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK)
        code = fill_rows(db, orders);
    struct conn none = {.deadline_ns = FEN_NEVER};
    int rc = store__errno(&none, code);
    if (rc < 0)
        store__say(text, n, name, db ? sqlite3_errmsg(db) : "out of memory", rc);
    sqlite3_close(db);
    return rc;
}

static bool filled_already(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_size > 0;
}

static int sync_dir(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static void drop_leftovers(const char *path)
{
    static const char *tails[] = {"-wal", "-shm", "-journal"};
    char name[PATH_MAX];
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (snprintf(name, sizeof name, "%s%s", path, tails[i]) < (int)sizeof name)
            unlink(name);
}

/* The lock on `name` is held through fd; PATH does not exist or is empty. */
static int fill_and_rename(int fd, const char *name, const char *path, int orders, char *text,
                           size_t n)
{
    drop_leftovers(name);
    int rc = ftruncate(fd, 0) < 0 ? -errno : 0;
    if (rc < 0)
        return store__say(text, n, name, strerror(-rc), rc);
    rc = fill_file(name, orders, text, n);
    if (rc < 0)
        return rc;
    drop_leftovers(path);
    if (fsync(fd) < 0 || rename(name, path) < 0) {
        rc = -errno;
        return store__say(text, n, path, strerror(-rc), rc);
    }
    rc = sync_dir(path);
    return rc < 0 ? store__say(text, n, path, strerror(-rc), rc) : 0;
}

/* Opens and locks `name`. Another process may have renamed it while this one waited for the lock:
 * then the lock is on PATH's file and proves nothing about the name, so it is tried again. */
static int lock_name(const char *name)
{
    for (;;) {
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return -errno;
        struct stat mine, named;
        if (flock(fd, LOCK_EX) < 0 || fstat(fd, &mine) < 0) {
            int rc = -errno;
            close(fd);
            return rc;
        }
        if (stat(name, &named) == 0 && named.st_ino == mine.st_ino && named.st_dev == mine.st_dev)
            return fd;
        close(fd);
    }
}

static int check_dir(const char *path, char *text, size_t n)
{
    char copy[PATH_MAX], why[PATH_MAX + 40];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy - 16)
        return store__say(text, n, path, "the path is too long", -ENAMETOOLONG);
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return store__say(text, n, path, "is a directory", -EISDIR);
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) /* filling would rename over it */
        return store__say(text, n, path, "is not a regular file", -EINVAL);
    const char *dir = dirname(copy);
    if (stat(dir, &st) < 0) {
        int rc = -errno;
        snprintf(why, sizeof why, "directory %s: %s", dir, strerror(-rc));
        return store__say(text, n, path, why, rc);
    }
    if (!S_ISDIR(st.st_mode)) {
        snprintf(why, sizeof why, "%s is not a directory", dir);
        return store__say(text, n, path, why, -ENOTDIR);
    }
    return 0;
}

int store__file_prepare(const char *path, int fill, char *text, size_t n)
{
    int rc = check_dir(path, text, n);
    if (rc < 0 || filled_already(path))
        return rc;
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.filling", path);
    int fd = lock_name(name);
    if (fd < 0)
        return store__say(
            text, n, path,
            fd == -EACCES || fd == -EROFS ? "cannot be created: not writable" : strerror(-fd), fd);
    if (filled_already(path))
        unlink(name); /* by the process that held the lock before */
    else
        rc = fill_and_rename(fd, name, path, fill > 0 ? fill : ORDERS_FILLED, text, n);
    if (rc < 0)
        unlink(name);
    close(fd);
    return rc;
}
