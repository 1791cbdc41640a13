/* resp.h - reads HTTP/1 responses piece by piece. Pure: no sockets, no heap. */
#ifndef FEN_LOAD_RESP_H
#define FEN_LOAD_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESP_HEAD_MAX (64 * 1024) /* status line and headers, or trailers */
#define RESP_LINE_KEEP 128        /* of a header line cut by a read, this much is looked at */

enum resp_step {
    RESP_STATUS,
    RESP_HEADER,
    RESP_BODY,
    RESP_CHUNK,
    RESP_DATA,
    RESP_DATA_END,
    RESP_TRAILER,
    RESP_UNTIL_CLOSE
};
enum resp_result { RESP_MORE, RESP_DONE, RESP_BAD };

struct resp {
    uint8_t step;
    bool to_head;    /* answers a HEAD request: no body follows */
    bool keep_alive; /* valid when done */
    bool chunked, has_length;
    int status;
    uint32_t head_bytes, line_n;
    int64_t left; /* bytes of the body or chunk still to come */
    char line[RESP_LINE_KEEP];
};

/* Ready for the next response. */
void resp_init(struct resp *r, bool to_head);

/* Eats bytes; *ret_used tells how many. RESP_DONE: one response is complete, call resp_init and
 * feed the rest. RESP_BAD: not HTTP/1, or over a limit. */
enum resp_result resp_feed(struct resp *r, const char *p, size_t n, size_t *ret_used);

/* The peer has closed: RESP_DONE when that ends the body, else RESP_MORE (it is short). */
enum resp_result resp_eof(const struct resp *r);

/* Has any byte of this response been seen? */
bool resp_begun(const struct resp *r);

#endif
