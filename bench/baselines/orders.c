/* orders.c - the order book: one point query in SQLite, and its row as JSON.
 *
 * Each SQLite connection carries one prepared statement and is used by one thread at a time, so
 * SQLite's own mutexes are off. Two ways to share them:
 *
 *   db_conns = n   n connections, opened at first use. A thread tries the slot of the CPU that it
 *                  runs on and goes round the others when that one is taken; only when all are
 *                  taken does it wait. In practice as many stay warm as there are CPUs.
 *   db_conns = 0   one per thread, opened at first use. Kept for comparison: three descriptors and
 *                  some 50 KB each rule it out at thousands of threads.
 *
 * Locking: a slot's fields belong to whoever holds its mutex. Nobody holds two.
 */
#include "baseline.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ORDER_SQL                                                                                  \
    "SELECT customer,item,quantity,price_cents,status,created_at FROM orders WHERE id=?1"

struct slot {
    pthread_mutex_t lock;
    sqlite3 *db;
    sqlite3_stmt *find;
} __attribute__((aligned(64)));

static struct {
    const char *path;
    unsigned conns;
    pthread_key_t own; /* db_conns = 0: the thread's slot */
    struct slot slots[DB_CONNS_MAX];
} orders;

static void slot_close(struct slot *s)
{
    sqlite3_finalize(s->find);
    sqlite3_close(s->db);
    s->find = NULL;
    s->db = NULL;
}

static int slot_open(struct slot *s)
{
    const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(orders.path, &s->db, flags, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(s->db, 1000);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, "PRAGMA mmap_size=268435456", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v3(s->db, ORDER_SQL, -1, SQLITE_PREPARE_PERSISTENT, &s->find, NULL);
    if (rc == SQLITE_OK)
        return 0;
    fprintf(stderr, "fen-baseline: %s: %s\n", orders.path, sqlite3_errmsg(s->db));
    slot_close(s);
    return -1;
}

static void own_free(void *slot)
{
    slot_close(slot);
    free(slot);
}

int orders_open(const struct options *opt)
{
    orders.path = opt->db;
    if (!orders.path)
        return 0;
    /* No statistics: they cost a global mutex on every allocation. */
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_initialize();
    orders.conns = (unsigned)opt->db_conns;
    for (size_t i = 0; i < DB_CONNS_MAX; i++)
        pthread_mutex_init(&orders.slots[i].lock, NULL);
    if (pthread_key_create(&orders.own, own_free))
        return -1;
    return slot_open(&orders.slots[0]); /* a bad file is found now, not at the first request */
}

void orders_close(void)
{
    /* A slot in use belongs to a request that outlived the drain: the exit takes care of it. */
    for (size_t i = 0; i < DB_CONNS_MAX; i++)
        if (orders.path && !pthread_mutex_trylock(&orders.slots[i].lock)) {
            slot_close(&orders.slots[i]);
            pthread_mutex_unlock(&orders.slots[i].lock);
        }
}

static struct slot *own_get(void)
{
    struct slot *s = pthread_getspecific(orders.own);
    if (s)
        return s;
    s = aligned_alloc(_Alignof(struct slot), sizeof *s);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    if (pthread_setspecific(orders.own, s)) {
        free(s);
        return NULL;
    }
    return s;
}

static struct slot *slot_get(void)
{
    if (orders.conns == 0)
        return own_get();
    unsigned first = (unsigned)sched_getcpu() % orders.conns;
    for (unsigned i = 0; i < orders.conns; i++) {
        struct slot *s = &orders.slots[(first + i) % orders.conns];
        if (!pthread_mutex_trylock(&s->lock))
            return s;
    }
    pthread_mutex_lock(&orders.slots[first].lock);
    return &orders.slots[first];
}

static void slot_put(struct slot *s)
{
    if (orders.conns)
        pthread_mutex_unlock(&s->lock);
}

static char *put_lit(char *at, const char *s)
{
    size_t n = strlen(s);
    memcpy(at, s, n);
    return at + n;
}

/* `text` as a JSON string, or NULL when it does not fit before `end`. */
static char *put_json_text(char *at, const char *end, const unsigned char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    static const char special[] = "\b\f\n\r\t\"\\";
    static const char short_form[] = "bfnrt\"\\";
    if (len > (size_t)(end - at) / 6) /* the longest form of one byte: \u00xx */
        return NULL;
    *at++ = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = text[i];
        const char *sp = c && (c < 0x20 || c == '"' || c == '\\') ? strchr(special, c) : NULL;
        if (sp) {
            *at++ = '\\';
            *at++ = short_form[sp - special];
        } else if (c < 0x20) {
            at = put_lit(at, "\\u00");
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        } else {
            *at++ = (char)c;
        }
    }
    *at++ = '"';
    return at;
}

static char *put_int(char *at, const char *name, sqlite3_stmt *row, int column)
{
    at = put_lit(at, name);
    return put_i64(at, sqlite3_column_int64(row, column));
}

static char *put_text(char *at, const char *end, const char *name, sqlite3_stmt *row, int column)
{
    const unsigned char *text = sqlite3_column_text(row, column);
    if (!text)
        return NULL;
    at = put_lit(at, name);
    return put_json_text(at, end, text, (size_t)sqlite3_column_bytes(row, column));
}

/* The row under the statement; -500 when its texts are too long for one reply. */
static int row_json(sqlite3_stmt *row, int64_t id, char *body)
{
    const char *end = body + BODY_MAX_BYTES - 256; /* room for names and numbers after each text */
    char *at = put_i64(put_lit(body, "{\"id\":"), id);
    at = put_int(at, ",\"customer\":", row, 0);
    at = put_text(at, end, ",\"item\":", row, 1);
    if (!at)
        return -500;
    at = put_int(at, ",\"quantity\":", row, 2);
    at = put_int(at, ",\"price_cents\":", row, 3);
    if (at >= end)
        return -500;
    at = put_text(at, end, ",\"status\":", row, 4);
    if (!at)
        return -500;
    at = put_int(at, ",\"created_at\":", row, 5);
    *at++ = '}';
    return (int)(at - body);
}

int orders_json(int64_t id, char *body)
{
    if (!orders.path)
        return -404;
    struct slot *s = slot_get();
    if (!s)
        return -500;
    int len = -500;
    if (s->db || slot_open(s) == 0) {
        sqlite3_bind_int64(s->find, 1, id);
        int rc = sqlite3_step(s->find);
        if (rc == SQLITE_ROW)
            len = row_json(s->find, id, body);
        else if (rc == SQLITE_DONE)
            len = -404;
        sqlite3_reset(s->find);
    }
    slot_put(s);
    return len;
}
