/* store.c - the pool of readers and the reading calls.
 *
 * A reader is borrowed, used inside one blocking section, and given back. The semaphore holds as
 * many permits as bits are set in `idle`; a permit entitles to one bit, so the search for a bit
 * always ends. The lowest bit is taken first: a quiet service keeps using the same warm connection,
 * and connections are opened when first needed.
 *
 * A borrowed connection comes back clean: statements reset, no transaction open. One that is not
 * (SQLite rolled back badly, or the file is damaged) is closed; its next borrower opens another. */
#include "serve/store_int.h"

#include <fen/fiber.h>

#include <stdlib.h>
#include <string.h>

static struct conn *take_idle(struct store *s)
{
    uint32_t idle = __atomic_load_n(&s->idle, __ATOMIC_RELAXED);
    for (;;) {
        if (!idle) { /* an old value: bits are set before permits are given */
            idle = __atomic_load_n(&s->idle, __ATOMIC_RELAXED);
            continue;
        }
        uint32_t rest = idle & (idle - 1);
        /* Acquire pairs with the release in give_back: the last borrower's work is visible. */
        if (__atomic_compare_exchange_n(&s->idle, &idle, rest, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return &s->readers[__builtin_ctz(idle ^ rest)];
    }
}

static void give_back(struct store *s, struct conn *c)
{
    __atomic_fetch_or(&s->idle, 1u << (c - s->readers), __ATOMIC_RELEASE);
    fen_sem_release(&s->free_readers);
}

/* Inside the blocking section. */
static int make_ready(struct store *s, struct conn *c, int64_t deadline_ns)
{
    return c->db ? 0 : store__conn_open(c, s->cfg.path, false, deadline_ns, NULL, 0);
}

static void make_clean(struct conn *c, sqlite3_stmt *stmt, int rc)
{
    if (!c->db)
        return;
    sqlite3_reset(stmt);
    if (rc == FEN_ECORRUPT || !sqlite3_get_autocommit(c->db) || sqlite3_stmt_busy(stmt))
        store__conn_close(c);
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

/* Waits out the rehearsed slowness, then for a reader. 0, or the scope's end code. */
static int borrow(struct store *s, struct conn **ret)
{
    int rc = s->cfg.delay_ns > 0 ? fen_sleep(s->cfg.delay_ns) : fen_scope_check(NULL);
    if (rc == 0)
        rc = fen_sem_acquire(&s->free_readers);
    if (rc == 0)
        *ret = take_idle(s);
    return rc;
}

int store_get(struct store *s, int64_t id, struct order *ret_order)
{
    struct conn *c;
    int rc = borrow(s, &c);
    if (rc)
        return rc;
    int64_t deadline_ns = fen_scope_deadline(NULL);
    fen_scope *scope = fen_scope_current();
    fen_blocking_begin();
    rc = make_ready(s, c, deadline_ns);
    if (rc == 0) {
        store__work_begin(c, scope, deadline_ns);
        sqlite3_bind_int64(c->get, 1, id);
        rc = read_rows(c, c->get, ret_order, 1);
        make_clean(c, c->get, rc);
    }
    fen_blocking_end();
    give_back(s, c);
    return rc < 0 ? rc : rc == 1 ? 0 : -ENOENT;
}

/* A list may take long (a cold file, a customer with a million orders), so it has the hook; the
 * hook's registration is a fen call and stays outside the blocking section. */
int store_list(struct store *s, int64_t customer, int limit, struct order *ret_orders)
{
    if (limit < 1 || limit > STORE_LIST_MAX)
        return -EINVAL;
    struct conn *c;
    int rc = borrow(s, &c);
    if (rc)
        return rc;
    int64_t deadline_ns = fen_scope_deadline(NULL);
    fen_blocking_begin();
    rc = make_ready(s, c, deadline_ns);
    fen_blocking_end();
    if (rc == 0) {
        store__long_begin(c, deadline_ns);
        fen_blocking_begin();
        sqlite3_bind_int64(c->list, 1, customer);
        sqlite3_bind_int64(c->list, 2, limit);
        rc = read_rows(c, c->list, ret_orders, limit);
        sqlite3_reset(c->list);
        fen_blocking_end();
        store__long_end(c); /* from here nobody else touches c: it may be closed */
        make_clean(c, c->list, rc);
    }
    give_back(s, c);
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
        rc = store__conn_open(&s->readers[0], cfg->path, false, FEN_NEVER, text, n);
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
    for (int i = 0; i < STORE_READERS_MAX; i++)
        store__conn_close(&s->readers[i]);
    store__conn_close(&s->writer);
    fen_chan_free(s->queue);
    free(s);
}
