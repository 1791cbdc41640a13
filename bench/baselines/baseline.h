/* baseline.h - what the files of fen-baseline share.
 *
 * fen-baseline is the set of servers that fen is measured against. It is plain C on purpose and
 * links nothing of fen. bench/README.md says why each one is written the way it is.
 *
 * The layers, lowest first: http (bytes -> requests, replies -> bytes), orders and quotes (the two
 * stores that a reply can need), session (one connection's bytes through all of these), then one
 * file per server: pthread, pool (with trunk, their shared way to the back end), epoll (with link
 * and lane, its two ways), backend. main owns flags, signals and the listener.
 */
#ifndef BASELINE_H
#define BASELINE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    REQUEST_MAX_BYTES = 8192, /* head and body together; 431 or 413 above it */
    REPLY_MAX_BYTES = 4096,   /* one reply, or a batch of pipelined ones */
    BODY_MAX_BYTES = 3072,    /* one reply's body; leaves room for the head */
    THREADS_MAX = 30000,
    DB_CONNS_MAX = 256,
    QUESTION_MAX_BYTES = 64, /* to the back end */
    ANSWER_MAX_BYTES = 1024, /* from it, with its head */
    DRAIN_MAX_S = 5,         /* after SIGTERM, how long open requests may take */
    WAIT_MAX_S = 5,          /* the blocking servers: for the back end */
    BACKEND_CONNS_MAX = 64,
};

struct options {
    int (*serve)(const struct options *opt); /* the chosen --mode */
    const char *db;                          /* path, or NULL: every order is unknown */
    struct sockaddr_in addr;
    struct sockaddr_in backend;
    bool has_backend;
    int threads;       /* pool: workers; epoll and backend: loops (0 = one per CPU, 1) */
    int backend_conns; /* pipelined ones to the back end (epoll: of each loop); 0: see quotes.c */
    bool blocking;     /* the mode has a thread for each request under way */
    int db_conns;      /* SQLite connections shared by all threads; 0 = one per thread */
    int64_t delay_ns;  /* backend: least time between a request and its reply */
    int listen_fd;
};

/* ---- http.c ------------------------------------------------------------------------------- */

struct request {
    const char *path; /* without the query; points into the caller's buffer, not terminated */
    size_t path_len;
    bool is_get; /* GET or HEAD */
    bool is_head;
    bool close; /* the peer wants the connection closed after this reply */
};

/* Replies wait here until the input is used up, so that a batch costs one send. */
struct reply {
    size_t len;
    char data[REPLY_MAX_BYTES];
};

/* Reads one request from the start of `buf`. Returns its length in bytes (head and body), 0 when
 * more bytes are needed, or the negative HTTP status to refuse it with (the connection is lost). */
int http_parse(const char *buf, size_t len, struct request *ret_request);

/* Appends one reply. Returns false, with nothing appended, when there is no room for it. */
bool http_reply(struct reply *out, int status, const char *type, const char *body, size_t body_len,
                const struct request *rq);

/* Sends all of `out` on a blocking socket and empties it. False when the peer is gone. */
bool http_flush(int fd, struct reply *out);

/* To be called between a refusal and close: closing with unread input would send a reset that
 * overtakes the reply. Throws away what has arrived, without waiting for more. */
void http_last_word(int fd);

/* The number after `prefix` when the whole path is prefix + one decimal id: 0 and *ret_id.
 * -EINVAL for another segment in its place, -ENOENT when the path has another shape. */
int http_path_id(const struct request *rq, const char *prefix, size_t prefix_len, int64_t *ret_id);

/* Decimal digits of v at `at`; returns the end. Room for 20 bytes is the caller's business. */
char *put_u64(char *at, uint64_t v);
char *put_i64(char *at, int64_t v);

/* ---- orders.c ----------------------------------------------------------------------------- */

/* Opens the store; prints the reason and returns -1 when it cannot be read. */
int orders_open(const struct options *opt);
void orders_close(void);
/* One order as JSON in `body` (BODY_MAX_BYTES): its length, or a negative HTTP status. */
int orders_json(int64_t id, char *body);

/* ---- quotes.c ----------------------------------------------------------------------------- */

/* One keep-alive connection to the back end, owned by one thread. fd is -1 while there is none. */
struct upstream {
    int fd;
};

int quotes_init(const struct options *opt); /* 0 or -1 */
/* Asks the back end, blocking, and writes the answer's JSON: its length or a negative status. */
int quotes_json(struct upstream *up, int64_t id, char *body);
void upstream_close(struct upstream *up);

/* The same for whoever does not block. The request's length in buf (QUESTION_MAX_BYTES). */
size_t quotes_question(int64_t id, char *buf);
/* The JSON's length, a negative status, or 0 when the answer is not whole yet. */
int quotes_answer(int64_t id, const char *buf, size_t len, char *body);
/* The same of the first of several answers: *ret_used is its length, or 0 when it is not whole or
 * its end cannot be told. */
int quotes_answer_first(int64_t id, const char *buf, size_t len, char *body, size_t *ret_used);
/* A non-blocking socket that is connected or on its way, or -1. */
int quotes_dial(void);
/* A blocking socket with WAIT_MAX_S on each call, connected, or -1. */
int quotes_connect(void);

/* ---- trunk.c ------------------------------------------------------------------------------ */

/* The pipelined connections that the threads of a blocking server share. 0 or -1. */
int trunks_open(int n);
/* Like quotes_json. */
int trunk_ask(int64_t id, char *body);

/* ---- session.c ---------------------------------------------------------------------------- */

/* One connection's bytes while a thread works on it. `out` comes first and is filled from its
 * start, as `in` is, so that a small exchange touches two pages of a thread's stack. */
struct session {
    int fd;
    size_t in_len;
    struct upstream up;
    struct reply out;
    char in[REQUEST_MAX_BYTES];
};

/* Answers every whole request in `in`, keeps the rest at its start, and sends the replies.
 * Returns false when the connection is to be closed. May block on SQLite and the back end. */
bool session_feed(struct session *s);

/* ---- peers.c ------------------------------------------------------------------------------ */

/* The accepted connections, so that a shutdown can reach those that sit idle. */
int peers_init(void);
void peers_add(int fd);
void peers_close(int fd); /* removes it and closes it */
/* No more input from anybody: requests that have arrived are answered, then each ends. */
void peers_hang_up(void);
/* Waits until none is left, at most DRAIN_MAX_S; true when none is. */
bool peers_drain(void);

/* ---- conn.c ------------------------------------------------------------------------------- */

/* One connection between two events; buffers belong to whoever works on it. */
struct conn {
    int fd;
    unsigned rest_len;     /* bytes of an unfinished request */
    char *rest;            /* those bytes, or NULL */
    unsigned waiting;      /* backend: replies that are not due yet */
    bool ended;            /* backend: the peer sends no more; close after the last reply */
    bool last_word;        /* backend: unread input must not reset the last reply */
    struct outbox *outbox; /* backend: replies not sent yet, or NULL */
    bool news;             /* epoll: an event came while a quote was awaited; look after it */
    bool dead;             /* epoll: to be freed when the batch of events is done */
    struct conn *below;    /* epoll: in the list of those */
    struct link *link;     /* epoll: its connection to the back end, or NULL */
    _Atomic bool handed;   /* see conn_hand_over */
};

struct conn *conn_new(int fd);  /* marks fd as a peer; closes it and returns NULL without memory */
void conn_free(struct conn *c); /* closes it too */
/* Receives into buf (at least REQUEST_MAX_BYTES) behind what conn_keep put away, without blocking.
 * Returns all the bytes there now, 0 at the end of input or on an error, -EAGAIN when there is no
 * news. */
int conn_receive(struct conn *c, char *buf, size_t size, bool *ret_more);
/* Before an epoll_ctl that lets another thread have the connection, and at that thread's first
 * touch. The kernel orders the two anyway; this says it to the language and the sanitizers. */
static inline void conn_hand_over(struct conn *c)
{
    atomic_store_explicit(&c->handed, true, memory_order_release); /* pairs with conn_take_over */
}

static inline void conn_take_over(struct conn *c)
{
    (void)atomic_load_explicit(&c->handed, memory_order_acquire); /* pairs with conn_hand_over */
}

/* Puts away the unfinished request. False without memory. */
bool conn_keep(struct conn *c, const char *rest, size_t len);

/* ---- loops.c ------------------------------------------------------------------------------ */

/* One thread with its own epoll and the connections that were dealt to it. */
struct loop {
    int epfd;
    int stop_fd; /* readable, with a NULL data pointer, when the loop is to return */
    const struct options *opt;
    struct lane *lanes; /* [opt->backend_conns], or NULL */
    unsigned turn;      /* of the lanes */
};

/* Runs n loops and an acceptor that deals connections out in turn, until the signal. Each event's
 * data pointer is a conn, registered once: edge-triggered input and hang-up. */
int loops_run(const struct options *opt, int n, void *(*run)(void *loop));

/* ---- link.c ------------------------------------------------------------------------------- */

/* Added to the conn's address in the data pointer of events of its link. */
enum { LINK_TAG = 1 };

struct link {
    int fd;                    /* -1: closed */
    bool waiting;              /* a question has no answer yet */
    bool sent;                 /* the question has left; else the connection is still being made */
    bool proved;               /* an answer has come over this connection */
    bool is_head, close;       /* of the client's request */
    int64_t id;                /* the quote asked for */
    struct conn *behind;       /* in a lane: who asked next */
    bool repeated;             /* in a lane: asked again on a new connection */
    unsigned len;              /* bytes in `in` */
    char in[ANSWER_MAX_BYTES]; /* an answer in pieces; one that comes whole never touches it */
};

/* Asks for a quote; false when the back end cannot be reached. */
bool link_ask(struct loop *l, struct conn *c, int64_t id, const struct request *rq);
/* An event of the link. The JSON's length or a negative status when the question is answered, 0
 * otherwise. */
int link_hear(struct loop *l, struct conn *c, unsigned events, char *body);
void link_free(struct link *k); /* NULL is fine */

/* ---- lane.c ------------------------------------------------------------------------------- */

/* Added to a lane's address in the data pointer of its events. */
enum { LANE_TAG = 2 };

struct lane;

/* The pipelined connections of one loop: NULL without memory. */
struct lane *lanes_new(struct loop *l, int n);
void lanes_free(struct loop *l);
/* Asks for a quote over one of them; c->link keeps the question. False when it cannot be asked. */
bool lane_ask(struct loop *l, struct conn *c, int64_t id, const struct request *rq);
/* Sends what has gathered: at the end of each batch of events. */
void lanes_flush(struct loop *l);
/* An event of a lane: calls `answered` with the JSON's length or a negative status for each
 * question that has its answer. */
typedef void lane_answered(struct loop *l, struct conn *c, int n, const char *body, void *arg);
void lane_hear(struct loop *l, struct lane *k, unsigned events, lane_answered *answered, void *arg);

/* ---- main.c ------------------------------------------------------------------------------- */

/* Says "listening on", then returns when SIGTERM or SIGINT arrives. Call it when ready to serve. */
void wait_for_stop(const struct options *opt);
/* The next connection, or -1; then *ret_stop says whether the listener has been shut down. */
int accept_peer(int listen_fd, int flags, bool *ret_stop);

/* ---- the servers: each returns the program's exit status ----------------------------------- */

int serve_pthread(const struct options *opt);
int serve_pool(const struct options *opt);
int serve_epoll(const struct options *opt);
int serve_backend(const struct options *opt);

#endif
