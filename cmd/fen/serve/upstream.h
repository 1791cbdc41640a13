/* upstream.h - a small HTTP/1.1 client for one back end: over a few pipelined connections, or over
 * one for each call, with a stack of idle ones. */
#ifndef SERVE_UPSTREAM_H
#define SERVE_UPSTREAM_H

#include <fen/types.h>

enum {
    UPSTREAM_ANSWER_MAX = 2048, /* bytes of an answer, head and body; over it FEN_ELIMIT */
    UPSTREAM_PATH_MAX = 128,    /* bytes of a path */
    UPSTREAM_IDLE_MAX = 4096,   /* connections kept; more are closed when their call is over */
    UPSTREAM_CONNS_MAX = 64,    /* pipelined */
};

struct upstream;

struct upstream_answer {
    int status;
    fen_slice body; /* inside buf */
    char buf[UPSTREAM_ANSWER_MAX];
};

/* addr ("host:port", see fen_tcp_dial) is borrowed. 0, -EINVAL for a text that cannot be an
 * address, -ENOMEM. Connects to nobody yet. Any thread. */
int upstream_open(const char *addr, struct upstream **ret) FEN_MUST_CHECK;

/* Calls from now on go over conns (up to UPSTREAM_CONNS_MAX) pipelined connections; with 0 nothing
 * changes. Opens a scope for their fibers, which becomes the caller's current one until
 * upstream_stop. 0, -ENOMEM, FEN_ELIMIT. Fibers only; before the first call. */
int upstream_start(struct upstream *u, int conns) FEN_MUST_CHECK;

/* Ends them: waits for their fibers and closes their scope. By the fiber that started them; nobody
 * may be inside a call. Does nothing unless upstream_start did. */
void upstream_stop(struct upstream *u);

/* Closes the idle connections. Nobody may be inside a call. Fibers only; NULL is accepted. */
void upstream_close(struct upstream *u);

/* GET path. The scope's deadline and cancellation cover connecting, sending and waiting. A question
 * whose connection broke is asked once more. 0 and a whole answer of any status; -ETIMEDOUT and
 * -ECANCELED by the scope (-ETIMEDOUT also when connecting takes 5 s); -ECONNREFUSED, -ECONNRESET
 * and what else the network says; FEN_EPARSE for an answer that is not HTTP/1.x with a
 * Content-Length; FEN_ELIMIT; -ENOMEM. */
int upstream_get(struct upstream *u, const char *path, struct upstream_answer *ret) FEN_MUST_CHECK;

/* Idle connections now; connections made since the start. Any thread. */
int upstream_idle(const struct upstream *u);
int64_t upstream_dialed(const struct upstream *u);

#endif
