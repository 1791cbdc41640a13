/* store.c - the pool of readers and the reading calls.
 *
 * A reader is lent by a fen_pool to one call at a time, as a record of the caller's scope: first
 * come, first served, within that scope's deadline. The one used last is lent first: a quiet
 * service keeps using the same warm connection, and others are opened when first needed.
 *
 * A borrowed connection goes back clean: statements reset, no transaction open, the call at its
 * end. After a call that was cancelled or ran out of time, or where SQLite rolled back badly or
 * found damage, it is closed; the next borrower opens another. */
#include "serve/store_int.h"

#include <fen/fiber.h>

#include <stdlib.h>
#include <string.h>

struct loan {
    fen_scope *scope; /* of the call's own; NULL: the caller's serves */
    fen_lease lease;
    struct conn *conn;
};

/* text: of n bytes, what is wrong; NULL: nobody asks. */
static int new_reader(struct store *s, int64_t deadline_ns, char *text, size_t n,
                      struct conn **ret_conn)
{
    struct conn *c = calloc(1, sizeof *c);
    int rc = c ? store__conn_open(c, s->cfg.path, false, deadline_ns, text, n)
               : store__say(text, n, s->cfg.path, "out of memory", -ENOMEM);
    if (rc == 0)
        *ret_conn = c;
    else
        free(c);
    return rc;
}

/* The pool's: opens a reader. The first one was opened with the file. */
static int make_reader(void *arg, void **ret_conn)
{
    struct store *s = arg;
    struct conn *c = __atomic_exchange_n(&s->first, NULL, __ATOMIC_ACQUIRE);
    int rc = 0;
    if (!c) {
        int64_t deadline_ns = fen_scope_deadline(NULL);
        fen_blocking_begin();
        rc = new_reader(s, deadline_ns, NULL, 0, &c);
        fen_blocking_end();
    }
    if (rc == 0)
        *ret_conn = c;
    return rc;
}

static void close_reader(void *arg, void *conn)
{
    (void)arg;
    fen_blocking_begin();
    store__conn_close(conn);
    fen_blocking_end();
    free(conn);
}

int store__readers_open(struct store *s, int n)
{
    s->readers = fen_pool_new(&(fen_pool_config){
        .name = "order-readers", .max = n, .make = make_reader, .destroy = close_reader, .arg = s});
    return s->readers ? 0 : -ENOMEM;
}

/* Waits out the rehearsed slowness, then for a reader. 0, or the scope's end code, or why none
 * could be opened. */
static int borrow(struct store *s, struct loan *l)
{
    int rc = s->cfg.delay_ns > 0 ? fen_sleep(s->cfg.delay_ns) : 0;
    if (rc)
        return rc;
    l->scope = NULL;
    rc = fen_pool_get(s->readers, &l->lease);
    if (rc == -EINVAL) { /* the current scope is the parent fiber's */
        l->scope = fen_scope_open(FEN_NEVER);
        rc = l->scope ? fen_pool_get(s->readers, &l->lease) : -ENOMEM;
    }
    if (rc == 0)
        l->conn = l->lease.resource;
    else if (l->scope)
        (void)fen_scope_close(l->scope);
    return rc;
}

/* state: of the connection, 0 or a negative error. */
static void give_back(struct loan *l, int state)
{
    fen_pool_put(&l->lease, state);
    if (l->scope)
        (void)fen_scope_close(l->scope);
}

/* Of a connection after a call that returned rc: 0, it may be lent again. */
static int make_clean(struct conn *c, sqlite3_stmt *stmt, int rc)
{
    sqlite3_reset(stmt);
    if (rc == -ETIMEDOUT || rc == -ECANCELED || rc == FEN_ECORRUPT)
        return rc;
    return sqlite3_get_autocommit(c->db) && !sqlite3_stmt_busy(stmt) ? 0 : -EIO;
}

static int copy_text(char *to, size_t max, sqlite3_stmt *s, int column)
{
    const unsigned char *p = sqlite3_column_text(s, column);
    size_t n = (size_t)sqlite3_column_bytes(s, column);
    if (!p)
        return n || sqlite3_column_type(s, column) != SQLITE_NULL ? -ENOMEM : FEN_ECORRUPT;
    if (n > max)
        return FEN_ELIMIT;
    memcpy(to, p, n);
    to[n] = 0;
    return 0;
}

static int read_row(sqlite3_stmt *s, struct order *o)
{
    o->id = sqlite3_column_int64(s, 0);
    o->customer = sqlite3_column_int64(s, 1);
    o->quantity = sqlite3_column_int64(s, 3);
    o->price_cents = sqlite3_column_int64(s, 4);
    o->created_at = sqlite3_column_int64(s, 6);
    int rc = copy_text(o->item, ORDER_ITEM_MAX, s, 2);
    return rc < 0 ? rc : copy_text(o->status, ORDER_STATUS_MAX, s, 5);
}

/* Rows read (at most max), or an error. */
static int read_rows(struct conn *c, sqlite3_stmt *s, struct order *ret, int max)
{
    int n = 0, code;
    while ((code = sqlite3_step(s)) == SQLITE_ROW && n < max) {
        int rc = read_row(s, &ret[n]);
        if (rc < 0)
            return rc;
        n++;
    }
    int rc = store__errno(c, code);
    return rc < 0 ? rc : n;
}

int store_get(struct store *s, int64_t id, struct order *ret_order)
{
    struct loan l;
    int rc = borrow(s, &l);
    if (rc)
        return rc;
    struct conn *c = l.conn;
    int64_t deadline_ns = fen_scope_deadline(NULL);
    fen_blocking_begin();
    store__work_begin(c, fen_scope_current(), deadline_ns);
    sqlite3_bind_int64(c->get, 1, id);
    rc = read_rows(c, c->get, ret_order, 1);
    int state = make_clean(c, c->get, rc);
    fen_blocking_end();
    give_back(&l, state);
    return rc < 0 ? rc : rc == 1 ? 0 : -ENOENT;
}

/* A list may take long (a cold file, a customer with a million orders), so it has the hook; the
 * hook's registration is a fen call and stays outside the blocking section. */
int store_list(struct store *s, int64_t customer, int limit, struct order *ret_orders)
{
    if (limit < 1 || limit > STORE_LIST_MAX)
        return -EINVAL;
    struct loan l;
    int rc = borrow(s, &l);
    if (rc)
        return rc;
    struct conn *c = l.conn;
    store__long_begin(c, fen_scope_deadline(NULL));
    fen_blocking_begin();
    sqlite3_bind_int64(c->list, 1, customer);
    sqlite3_bind_int64(c->list, 2, limit);
    rc = read_rows(c, c->list, ret_orders, limit);
    int state = make_clean(c, c->list, rc);
    fen_blocking_end();
    store__long_end(c); /* from here nobody else touches c: it may be closed */
    give_back(&l, state);
    return rc;
}

/* ---- opening and closing ---- */

/* Before the first connection of the process. The statistics of its allocator cost a process-wide
 * lock at each allocation. */
static int set_up_sqlite(void)
{
    static bool done;
    if (done)
        return 0;
    if (!sqlite3_threadsafe() || sqlite3_config(SQLITE_CONFIG_MULTITHREAD) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) != SQLITE_OK ||
        sqlite3_initialize() != SQLITE_OK)
        return -ENOTSUP;
    done = true;
    return 0;
}

int store_open(const struct store_config *cfg, struct store **ret_store, char *text, size_t n)
{
    int rc = set_up_sqlite();
    if (rc < 0)
        return store__say(text, n, cfg->path, "this SQLite has no multi-thread mode", rc);
    rc = store__file_prepare(cfg->path, cfg->fill, text, n);
    if (rc < 0)
        return rc;
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return store__say(text, n, cfg->path, "out of memory", -ENOMEM);
    s->cfg = *cfg;
    s->queue = fen_chan_new(sizeof(void *), STORE_QUEUE_MAX);
    rc = s->queue ? store__conn_open(&s->writer, cfg->path, true, FEN_NEVER, text, n)
                  : store__say(text, n, cfg->path, "out of memory", -ENOMEM);
    if (rc == 0 && !cfg->check_later)
        rc = store__conn_check(&s->writer, cfg->path, text, n);
    if (rc == 0)
        rc = new_reader(s, FEN_NEVER, text, n, &s->first); /* before a call needs one */
    if (rc < 0)
        store_close(s);
    else
        *ret_store = s;
    return rc;
}

int store_check(const struct store *s, char *ret_text, size_t text_bytes)
{
    struct conn c;
    fen_blocking_begin();
    int rc = store__conn_open(&c, s->cfg.path, false, FEN_NEVER, ret_text, text_bytes);
    if (rc == 0) {
        rc = store__conn_check(&c, s->cfg.path, ret_text, text_bytes);
        store__conn_close(&c);
    }
    fen_blocking_end();
    return rc;
}

/* The writer last: the last connection to leave moves the log into the file and removes it, and a
 * reading one could not. */
void store_close(struct store *s)
{
    if (!s)
        return;
    fen_pool_free(s->readers);
    if (s->first)
        close_reader(s, s->first);
    store__conn_close(&s->writer);
    fen_chan_free(s->queue);
    free(s);
}
