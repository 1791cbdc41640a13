/* upstream_int.h - between the files of the upstream client. */
#ifndef SERVE_UPSTREAM_INT_H
#define SERVE_UPSTREAM_INT_H

#include "serve/upstream.h"

enum {
    UPSTREAM_ADDR_MAX = 64,
    UPSTREAM_REQUEST_MAX = UPSTREAM_PATH_MAX + UPSTREAM_ADDR_MAX + 32,
};

struct upstream_head {
    int status;
    int body_at, body_n; /* bytes from the start of the answer */
    bool keep;           /* the peer keeps the connection */
};

/* upstream_answer.c: a request into `to` (UPSTREAM_REQUEST_MAX): its length. */
size_t upstream__request(const char *addr, const char *path, char *to);

/* Looks at the first answer of `have` bytes: its length once it is whole, with *ret filled, 0 while
 * it is not, FEN_EPARSE, or FEN_ELIMIT over UPSTREAM_ANSWER_MAX. */
int upstream__parse(const char *p, size_t have, struct upstream_head *ret);

/* The answer lies at the start of a->buf. */
static inline void upstream__take_head(const struct upstream_head *h, struct upstream_answer *a)
{
    a->status = h->status;
    a->body = (fen_slice){a->buf + h->body_at, (size_t)h->body_n};
}

/* upstream_pipe.c */
struct pipe;
int pipe_start(const char *addr, int conns, struct pipe **ret) FEN_MUST_CHECK;
void pipe_stop(struct pipe *p);
int pipe_get(struct pipe *p, const char *path, struct upstream_answer *ret) FEN_MUST_CHECK;

#endif
