/* server_int.h - the server's structures, shared by server.c, conn.c and exchange.c.
 *
 * A connection is a record. A fiber exists only while a request is being read or answered:
 *
 *   IDLE    no fiber, no buffer; the record's hook waits in the poll slot
 *   ACTIVE  one fiber owns the record and has a struct fen__work (buffers, exchange)
 *   FREE    in the free list
 *
 * IDLE -> ACTIVE: whoever takes the hook out of the slot (an event, the sweeper or the drain).
 * ACTIVE -> IDLE: the fiber's last act is to put the hook back; after that it must not touch the
 * record. Records are never unmapped within the process, so the sweeper may look at any of them. */
#ifndef FEN_HTTP_SERVER_INT_H
#define FEN_HTTP_SERVER_INT_H

#include "http/chunk.h"
#include "http/parse.h"
#include "http/router.h"
#include "net/net.h"
#include "probe/tally.h"
#include "sched/sched.h"
#include "sync/sync.h"

#include <fen/buf.h>
#include <fen/http.h>
#include <fen/sync.h>

#include <stdatomic.h>

#define FEN__IN_BYTES 2048    /* request buffer that every work record has */
#define FEN__OUT_BYTES 1024   /* reply buffer, likewise */
#define FEN__FIELDS_SMALL 32  /* header fields, likewise; more are taken from the heap */
#define FEN__CARRY_BYTES 2048 /* read at a time of a chunked body */
#define FEN__FIELDS_MAX 100
#define FEN__BATCH_MAX 16 /* pipelined requests answered by one write */
#define FEN__FLUSH_BYTES 65536
#define FEN__EXTRA_MAX 16  /* fields that a handler adds to a reply */
#define FEN__TICK_NS FEN_S /* how often the date and the idle connections are looked at */

enum fen__conn_state { FEN__CONN_FREE, FEN__CONN_IDLE, FEN__CONN_ACTIVE };

struct fen__conn {
    struct fen__hook hook;   /* in the slot while IDLE */
    struct fen__start start; /* waits for a fiber after an event */
    struct fen__limit limit; /* above all that its requests do; ends when the drain cuts it */
    struct fen__hook watch;  /* in the slot while a handler runs: notices the client's leaving */
    struct fen__slot *slot;
    fen_server *srv;
    struct fen__work *work; /* NULL while IDLE */
    int fd;
    _Atomic int state;
    _Atomic int64_t since_ns; /* when it became IDLE, by the server's tick */
    bool lingering;           /* our side is shut: bytes are discarded until the peer closes */
    struct fen__conn *next_free;
};

/* What one answered request used, until the write that carries its reply is done. */
struct fen__pending {
    uint32_t operation, account;
    bool billed, error; /* not billed: operation and began are all that is filled */
    uint64_t began;     /* TSC */
    struct fen__usage_ticks used;
};

struct fen_exchange {
    struct fen__conn *conn;
    struct fen__http_request req;
    struct fen__route_match match;
    int status;     /* of the reply; 0: none yet */
    bool head_only; /* HEAD: no body is sent */
    bool close;     /* Connection: close after this reply */
    fen_slice body;
    int nextra;
    struct {
        const char *name, *value;
    } extra[FEN__EXTRA_MAX];
    struct fen_scope scope;
    struct fen__child_bill children;
    uint32_t account; /* who pays; FEN__NO_ACCOUNT: not known yet */
    _Atomic bool watch_done;
};

#define FEN__NO_ACCOUNT UINT32_MAX

/* Where a fiber's counters stood. */
struct fen__mark {
    int64_t cpu_ticks, wait_ticks, in_bytes, out_bytes;
};

/* Buffers of one ACTIVE connection, from a pool. */
struct fen__work {
    struct fen__work *next_free;
    char *in;                /* in_small, or a heap block of in_cap bytes */
    size_t in_cap, from, to; /* unread bytes: in[from, to) */
    fen_arena *arena;
    fen_buf out; /* begins in out_small, goes on in the heap */
    int npending;
    bool billed; /* one of them at least is */
    bool open;   /* the last one's use is not closed yet: what is used now is its */
    struct fen__mark mark;
    uint64_t arena_from; /* TSC when the request began to hold memory */
    int carry_n;         /* bytes behind a chunked body, of the next request */
    fen_exchange x;
    struct fen__pending pending[FEN__BATCH_MAX];
    char *body; /* heap block for a body that does not fit in `in` */
    size_t body_cap;
    struct fen__http_field *fields; /* fields_small, or a heap block of FEN__FIELDS_MAX */
    char *carry;                    /* heap block of FEN__CARRY_BYTES, for a chunked body */
    struct fen__http_field fields_small[FEN__FIELDS_SMALL];
    char in_small[FEN__IN_BYTES];
    char out_small[FEN__OUT_BYTES];
};

#define FEN__DATES 16 /* lines of the Date header kept */

struct fen_server {
    fen_server_config cfg;
    struct fen__http_limits limits;
    fen_arena *arena; /* routes */
    struct fen__router router;
    uint32_t *operations; /* route index -> operation id of the bill */
    int operations_cap;
    fen_sock *listener;
    fen_sock *stop_sock;
    _Atomic int stop_fd;  /* -1: not listening */
    _Atomic int stoppers; /* calls of fen_server_stop that may hold stop_fd */
    uint32_t account;     /* of whoever serves: it pays for what is no request's */
    _Atomic bool stopping, cutting, ready;
    _Atomic int port;
    _Atomic int64_t conns;
    _Atomic uint32_t shard;
    _Atomic int64_t now_ns; /* the tick: monotonic time, at most a second old */
    _Atomic uint32_t date_turn;
    char date[FEN__DATES][48]; /* by turns: a reader may be this many ticks late */
    _Atomic bool serving;
};

/* conn.c */
void fen__conn_accept(fen_server *s, int fd);
/* Calls fn for each connection of s that is not FREE. RT for the three that follow. */
void fen__conn_each(fen_server *s, void (*fn)(struct fen__conn *c));
void fen__conn_sweep_idle(struct fen__conn *c); /* closes it if it was idle too long */
void fen__conn_drain_idle(struct fen__conn *c); /* shuts our side of an idle one */
void fen__conn_cut(struct fen__conn *c);        /* closes an idle one, ends an active one's limit */
/* After a round of cuts: everybody under an ended limit looks at it. */
void fen__conn_wake_cut(void);

/* reply.c */
int fen__reply_head(fen_exchange *x, int status, const char *content_type, size_t body_bytes);
const char *fen__status_text(int status);

/* answer.c */
/* Reads the body if any, calls the handler and makes sure that there is a reply. */
void fen__answer(struct fen__conn *c, struct fen__work *w);
/* A reply with close for what could not be parsed. */
void fen__answer_error(struct fen__conn *c, struct fen__work *w, int status);
int fen__conn_flush(struct fen__conn *c, struct fen__work *w); /* 0 or -errno */
void fen__watch_fire(struct fen__hook *h);

/* work.c */
struct fen__work *fen__work_get(void);
void fen__work_out_reset(struct fen__work *w); /* empty; a block that grew is given back */
void fen__work_pool_fini(void);
void fen__work_put(struct fen__work *w);
/* Makes room for at least `need` unread bytes in total behind from, moving what is there.
 * 0 or -ENOMEM. */
int fen__work_room(struct fen__work *w, size_t need);
/* More header fields than there was room for: 0 (parse again), or -ENOMEM or FEN_ELIMIT. */
int fen__work_more_fields(struct fen__work *w);
int fen__work_fields_cap(const struct fen__work *w);
int fen__work_carry(struct fen__work *w); /* sets w->carry: 0 or -ENOMEM */

/* settle.c */
struct fen__mark fen__mark_now(void);
void fen__request_begin(struct fen__work *w);
/* Route and tenant are known: from now on the fiber's blocks are charged to their account. */
void fen__request_pays(struct fen__work *w, fen_server *s);
/* To the server's again. Before bytes are read that may be another request's. */
void fen__server_pays(const fen_server *s);
/* The request is answered; it pays on until the next one begins, or the batch is sent. */
void fen__request_end(struct fen__work *w, fen_server *s);
void fen__batch_sends(struct fen__work *w); /* before the write */
/* After the write: shares its cost among the replies it carried and settles them. */
void fen__batch_settle(struct fen__work *w);

#endif
