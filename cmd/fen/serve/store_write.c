/* store_write.c - the writer: one fiber, one connection, many orders in a transaction.
 *
 * A poster puts a record into the queue and waits on the record's semaphore. The writer takes the
 * first record, gets the write lock, takes up to 127 more that wait by then, inserts, commits, and
 * answers each. It never waits for company: while one commit syncs, the next batch gathers.
 *
 * A record belongs to both sides (refs = 2: poster and queue or writer); the last one frees it. So
 * the writer may touch a record whose poster has left. Its state is one word:
 *
 *   QUEUED --writer, with the lock in hand, deadline not passed--> TAKEN --after commit--> DONE
 *   QUEUED --writer, deadline passed or no lock---------------------------> DONE (nothing stored)
 *   QUEUED --poster, its scope ended--> GIVEN_UP (nothing stored; the writer only drops it)
 *
 * Each step out of QUEUED is a CAS, so exactly one side decides. `result` and the order's id are
 * written before the release store of DONE and read by the poster after the semaphore or after an
 * acquire load that saw DONE. A poster that leaves while TAKEN does not know what became of its
 * order; between TAKEN and DONE lie only the inserts and one sync.
 *
 * Records are taken after the lock is held, not before: while another process keeps the file
 * locked, orders whose time passes are answered "late" and are surely not stored.
 *
 * The batch itself has no deadline and no cancel hook: interrupting it for one order's sake would
 * fail 127 others. The wait for the lock has the first record's deadline, at most five seconds.
 *
 * Rejected: a transaction for each order (one sync each), and a dedicated
 * thread (its CPU time would be nobody's in the bill). */
#include "serve/store_int.h"

#include <fen/fiber.h>
#include <fen/run.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum state { QUEUED, TAKEN, DONE, GIVEN_UP };

struct pending {
    struct order o;
    int64_t deadline_ns;
    fen_sem done;
    int result;
    int state; /* atomic, enum state */
    int refs;  /* atomic */
};

static void unref(struct pending *p)
{
    /* Acquire-release: pairs with the other side's unref; its last use comes before the free. */
    if (__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(p);
}

static bool move(struct pending *p, enum state to)
{
    int from = QUEUED;
    return __atomic_compare_exchange_n(&p->state, &from, (int)to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* The writer's last touch: tells the poster, if it is still there, and lets go. */
static void answer(struct pending *p, int result)
{
    p->result = result;
    __atomic_store_n(&p->state, DONE, __ATOMIC_RELEASE); /* pairs with the load in wait_for */
    fen_sem_release(&p->done);
    unref(p);
}

/* An order that is not to be stored: late, or the lock was not to be had. */
static void refuse(struct pending *p, int result)
{
    if (move(p, TAKEN))
        answer(p, result);
    else
        unref(p);
}

/* ---- the poster ---- */

static int wait_for(struct pending *p)
{
    int rc = fen_sem_acquire(&p->done);
    if (rc < 0 && move(p, GIVEN_UP))
        return rc;
    if (rc == 0 || __atomic_load_n(&p->state, __ATOMIC_ACQUIRE) == DONE)
        return p->result;
    return rc; /* TAKEN: the outcome is not known yet, and the time is up */
}

int store_add(struct store *s, struct order *o)
{
    int rc = s->cfg.delay_ns > 0 ? fen_sleep(s->cfg.delay_ns) : fen_scope_check(NULL);
    if (rc < 0)
        return rc;
    struct pending *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->o = *o;
    p->deadline_ns = fen_scope_deadline(NULL);
    p->state = QUEUED;
    p->refs = 2;
    fen_sem_init(&p->done, 0);
    rc = fen_chan_try_send(s->queue, &p);
    if (rc < 0) {
        free(p); /* the queue never saw it */
        return rc == -EAGAIN ? -EBUSY : rc == FEN_ECLOSED ? -ECANCELED : rc;
    }
    rc = wait_for(p);
    if (rc == 0)
        o->id = p->o.id;
    unref(p);
    return rc;
}

/* ---- the writer ---- */

static int run(sqlite3_stmt *s)
{
    sqlite3_step(s);
    return sqlite3_reset(s);
}

static int insert(struct conn *c, struct order *o)
{
    sqlite3_bind_int64(c->insert, 1, o->customer);
    sqlite3_bind_text(c->insert, 2, o->item, -1, SQLITE_STATIC);
    sqlite3_bind_int64(c->insert, 3, o->quantity);
    sqlite3_bind_int64(c->insert, 4, o->price_cents);
    sqlite3_bind_text(c->insert, 5, o->status, -1, SQLITE_STATIC);
    sqlite3_bind_int64(c->insert, 6, o->created_at);
    int code = run(c->insert);
    o->id = sqlite3_last_insert_rowid(c->db);
    return code;
}

/* Takes what waits, behind the first; late and given-up orders drop out. The write lock is held. */
static int gather(struct store *s, struct pending *first, struct pending **batch)
{
    int n = 0;
    struct pending *p = first;
    do {
        if (fen_now() >= p->deadline_ns)
            refuse(p, -ETIMEDOUT);
        else if (move(p, TAKEN))
            batch[n++] = p;
        else
            unref(p);
    } while (n < STORE_BATCH_MAX && fen_chan_try_recv(s->queue, &p) == 0);
    return n;
}

/* Once a second at most: a full disk would fill the log as well. */
static void log_error(struct store *s, const char *line)
{
    int64_t now = fen_now();
    if (s->logged_ns && now - s->logged_ns < FEN_S)
        return;
    s->logged_ns = now;
    fprintf(stderr, "fen serve: orders not stored: %s\n", line);
}

/* Inside the blocking section, lock held: all of the batch, or nothing. */
static int write_batch(struct store *s, struct pending **batch, int n)
{
    struct conn *c = &s->writer;
    int code = SQLITE_OK;
    for (int i = 0; i < n && code == SQLITE_OK; i++)
        code = insert(c, &batch[i]->o);
    if (code == SQLITE_OK)
        code = run(n ? c->commit : c->rollback);
    int rc = store__errno(c, code);
    if (rc < 0)
        log_error(s, sqlite3_errmsg(c->db));
    if (!sqlite3_get_autocommit(c->db))
        run(c->rollback);
    if (rc == 0 && n)
        __atomic_fetch_add(&s->commits, 1, __ATOMIC_RELAXED);
    return rc;
}

static int lock(struct store *s, int64_t deadline_ns)
{
    struct conn *c = &s->writer;
    char text[300];
    int rc = 0;
    fen_blocking_begin();
    if (!c->db)
        rc = store__conn_open(c, s->cfg.path, true, deadline_ns, text, sizeof text);
    if (rc == 0) {
        store__work_begin(c, NULL, deadline_ns);
        rc = store__errno(c, run(c->begin));
        snprintf(text, sizeof text, "%s", sqlite3_errmsg(c->db));
    }
    if (rc < 0 && rc != -ETIMEDOUT)
        log_error(s, text);
    fen_blocking_end();
    return rc;
}

static void write_from(struct store *s, struct pending *first)
{
    struct pending *batch[STORE_BATCH_MAX];
    if (fen_now() >= first->deadline_ns ||
        __atomic_load_n(&first->state, __ATOMIC_ACQUIRE) != QUEUED) {
        refuse(first, -ETIMEDOUT);
        return;
    }
    int rc = lock(s, first->deadline_ns);
    if (rc < 0) {
        refuse(first, rc);
        return;
    }
    store__work_begin(&s->writer, NULL, FEN_NEVER);
    int n = gather(s, first, batch);
    fen_blocking_begin();
    rc = write_batch(s, batch, n);
    if (rc == FEN_ECORRUPT || !sqlite3_get_autocommit(s->writer.db))
        store__conn_close(&s->writer); /* the next batch opens a new one */
    fen_blocking_end();
    for (int i = 0; i < n; i++)
        answer(batch[i], rc);
}

/* Until the queue is closed and empty. If the writer's own scope is cancelled it closes the queue
 * itself and still writes what waits: those posters have their own deadlines. */
static void writer(void *arg)
{
    struct store *s = arg;
    struct pending *p;
    while (fen_chan_recv(s->queue, &p) == 0)
        write_from(s, p);
    store_stop(s);
    while (fen_chan_try_recv(s->queue, &p) == 0)
        write_from(s, p);
}

static int reader_count(const struct store_config *cfg)
{
    int n = cfg->readers > 0 ? cfg->readers : fen_procs() + 1;
    return n < 1 ? 4 : n > STORE_READERS_MAX ? STORE_READERS_MAX : n;
}

int store_start(struct store *s)
{
    int rc = store__readers_open(s, reader_count(&s->cfg));
    return rc ? rc : fen_go_named("store writer", 0, writer, s);
}

void store_stop(struct store *s) { (void)fen_chan_close(s->queue); }

int64_t store_commits(const struct store *s)
{
    return __atomic_load_n(&s->commits, __ATOMIC_RELAXED);
}
