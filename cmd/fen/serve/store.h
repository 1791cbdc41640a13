/* store.h - the order book: one SQLite file, many readers, one writer.
 *
 * Each call parks the fiber while it waits for a connection or for a commit, and keeps the thread
 * (inside a blocking section, so the P moves on) while SQLite works. Each honours the deadline and
 * the cancellation of the current scope. */
#ifndef SERVE_STORE_H
#define SERVE_STORE_H

#include <fen/types.h>

enum {
    ORDER_ITEM_MAX = 128,   /* bytes of UTF-8 in an item */
    ORDER_STATUS_MAX = 15,  /* bytes of a status */
    ORDERS_FILLED = 100000, /* orders in a new file; ten for each customer */
    STORE_LIST_MAX = 100,   /* orders that one list call returns at most */
    STORE_READERS_MAX = 16, /* reading connections */
    STORE_BATCH_MAX = 128,  /* orders in one transaction */
    STORE_QUEUE_MAX = 1024, /* orders waiting for the writer; over it -EBUSY */
};

struct order {
    int64_t id, customer;
    char item[ORDER_ITEM_MAX + 1];
    int64_t quantity, price_cents;
    char status[ORDER_STATUS_MAX + 1];
    int64_t created_at; /* unix time, seconds */
};

struct store_config {
    const char *path; /* borrowed until store_close */
    int readers;      /* 0: one more than the Ps; at most STORE_READERS_MAX */
    int64_t delay_ns; /* rehearsal: each call first sleeps that long */
    int fill;         /* orders in a new file; 0: ORDERS_FILLED */
    bool check_later; /* the caller runs store_check itself: opening reads a few pages only */
};

struct store;

/* Opens the file; creates and fills it when it is missing or empty. Blocks the thread (about 0.2 s
 * when it fills); any thread that is not a worker. 0, or -errno and one line in ret_text
 * that names the path and what was wrong: -ENOENT no such directory, -EACCES and -EROFS not
 * writable, -EISDIR, -EINVAL another schema, FEN_ECORRUPT damaged or not a database, ... */
int store_open(const struct store_config *cfg, struct store **ret_store, char *ret_text,
               size_t text_bytes) FEN_MUST_CHECK;

/* Reads the whole file (up to 64 MiB; a larger one is taken as it is) and checks its structure over
 * a connection of its own. Blocks the thread or, in a fiber, a blocking section: some 5 ms a MiB.
 * 0, or FEN_ECORRUPT and one line as above. */
int store_check(const struct store *s, char *ret_text, size_t text_bytes) FEN_MUST_CHECK;

/* Makes the pool of readers and starts the writer in a fiber of the current scope. Before any of
 * the calls below. Fibers only. 0, -ENOMEM, FEN_ELIMIT. */
int store_start(struct store *s) FEN_MUST_CHECK;

/* No more orders are accepted; those that wait are written, then the writer's fiber ends.
 * Idempotent, any thread. */
void store_stop(struct store *s);

/* Closes the file. Nobody may be inside a call and the writer's fiber must have ended. NULL is
 * accepted. */
void store_close(struct store *s);

/* The order of that id. 0, -ENOENT, -ETIMEDOUT and -ECANCELED by the scope, -EBUSY when the file
 * stayed locked for five seconds, FEN_ECORRUPT, FEN_ELIMIT for a row over the sizes above, -EIO. */
int store_get(struct store *s, int64_t id, struct order *ret_order) FEN_MUST_CHECK;

/* The newest orders of a customer, at most limit (1 to STORE_LIST_MAX): their number, or an error
 * as above. */
int store_list(struct store *s, int64_t customer, int limit,
               struct order *ret_orders) FEN_MUST_CHECK;

/* Stores *o and sets o->id. 0: the order is on the disk and survives a crash. -EBUSY: the queue is
 * full. -ETIMEDOUT and -ECANCELED: not stored if the writer had not begun with it; otherwise
 * unknown, as after any lost answer. -ECANCELED after store_stop. -ENOSPC, -EIO and others: not
 * stored. */
int store_add(struct store *s, struct order *o) FEN_MUST_CHECK;

/* Transactions committed by the writer since the start. Any thread. */
int64_t store_commits(const struct store *s);

#endif
