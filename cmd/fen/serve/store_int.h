/* store_int.h - what the four files of the store share: the connection and the store itself.
 *
 * store_fill.c  the file: create, fill
 * store_conn.c  a connection's life, deadlines, errors in words
 * store.c       the pool of readers and the reading calls
 * store_write.c the writer's fiber and its queue */
#ifndef SERVE_STORE_INT_H
#define SERVE_STORE_INT_H

#include "store.h"

#include <fen/chan.h>
#include <fen/err.h>
#include <fen/pool.h>
#include <fen/scope.h>
#include <fen/sync.h>
#include <sqlite3.h>

/* A connection has one borrower at a time (SQLite runs without its mutexes). The exception is
 * sqlite3_interrupt and `stop`, which a cancel hook may use from any thread while the hook is
 * registered; the hook lives here because a parked fiber's stack is nobody else's to touch. */
struct conn {
    sqlite3 *db;                                      /* NULL: not open */
    sqlite3_stmt *get, *list;                         /* readers */
    sqlite3_stmt *begin, *insert, *commit, *rollback; /* the writer */
    fen_scope *scope;      /* of the call that runs now; NULL: it is not to be cancelled */
    int64_t deadline_ns;   /* of that call */
    int64_t lock_until_ns; /* when the wait for a lock is given up; 0: it has not begun */
    int stop;              /* atomic; the scope's end code once it has ended, else 0 */
    fen_cancel_hook hook;
};

struct store {
    struct store_config cfg;
    fen_pool *readers;  /* of struct conn; made by store_start */
    struct conn *first; /* atomic; open, and not in the pool yet */
    struct conn writer;
    fen_chan *queue;   /* of struct pending * */
    int64_t commits;   /* atomic */
    int64_t logged_ns; /* the writer's: when it last printed an error */
};

/* Makes the pool of readers: 0 or -ENOMEM. */
int store__readers_open(struct store *s, int n);

/* Makes sure that a filled file lies at the path. Blocks the thread. */
int store__file_prepare(const char *path, int fill, char *ret_text, size_t text_bytes);

/* Opens a connection and prepares its statements; closes it again on error. ret_text may be NULL.
 * Blocks the thread; no fen call that needs a fiber. */
int store__conn_open(struct conn *c, const char *path, bool writer, int64_t deadline_ns,
                     char *ret_text, size_t text_bytes);
void store__conn_close(struct conn *c);

/* Reads the whole file for damage: 0, FEN_ECORRUPT. Blocks the thread. */
int store__conn_check(struct conn *c, const char *path, char *ret_text, size_t text_bytes);

/* Puts the SQLite work that follows on this connection under a scope (NULL: none) and a deadline:
 * handlers look at both every 1,000 steps of SQLite's machine and while a lock is awaited. Any
 * thread. */
void store__work_begin(struct conn *c, fen_scope *scope, int64_t deadline_ns);

/* The same under the current scope, which this fiber opened, for work that may take long: its end
 * interrupts the work from outside as well. A fen call: the blocking section lies between the
 * two. */
void store__long_begin(struct conn *c, int64_t deadline_ns);
void store__long_end(struct conn *c);

/* Writes the line "PATH: why" and returns rc. */
int store__say(char *text, size_t n, const char *path, const char *why, int rc);

/* A code of SQLite's as one of ours; `c` tells -ETIMEDOUT, -ECANCELED and -EBUSY apart. */
int store__errno(const struct conn *c, int code);

#endif
