/* parse.h - the HTTP/1.1 request head, in place: slices into the caller's buffer, no memory.
 * Strict (RFC 9110, 9112): whatever two servers could read in two ways is refused. */
#ifndef FEN_HTTP_PARSE_H
#define FEN_HTTP_PARSE_H

#include "base/base.h"

struct fen__http_limits {
    size_t max_head_bytes; /* request line, fields and the empty line, at most 1 GiB */
    int max_fields;
};

struct fen__http_field {
    fen_slice name, value; /* value without the white space around it */
};

/* How far an incomplete head has been looked at, so that a slow peer costs each byte once. All
 * zero before the first byte of each request; offsets only, so the buffer may move in between. */
struct fen__http_scan {
    uint32_t scanned; /* bytes seen */
    uint16_t fields;  /* complete field lines among them */
    uint8_t state;    /* where in a line (parse.c) */
    uint8_t at;       /* bytes of the version, or 0 at the start of a field line */
};

/* The caller sets fields and fields_cap; the rest is set by fen__http_parse_head. */
struct fen__http_request {
    struct fen__http_field *fields;
    int fields_cap;

    int fields_n;
    int minor; /* 0 or 1; a later minor counts as 1 */
    bool keep_alive;
    bool chunked;
    bool expect_continue;
    int64_t content_length; /* -1: none */
    fen_slice method;
    fen_slice target; /* as sent */
    fen_slice path;   /* begins with '/', still percent-encoded; or "*" */
    fen_slice query;  /* behind '?', encoded; p is NULL when there is no '?' */
    fen_slice host;   /* with port; from an absolute target if there is one; {NULL,0}: none */
    fen_slice tenant; /* X-Tenant, the first; {NULL,0}: none */
};

/* Parses the head that begins at p.
 *   > 0  its length, final empty line (and one leading CRLF) included: the body begins there
 *   0    incomplete: call again with more bytes and the same scan; nothing in ret_req is valid
 *   < 0  minus the status to answer before closing: 400, 414, 417, 431, 501, 505
 * scan may be NULL for one call on a whole buffer. The verdict does not depend on how the bytes
 * were cut. The slices live as long as the buffer. Any thread, does not block. */
int fen__http_parse_head(const char *p, size_t n, const struct fen__http_limits *lim,
                         struct fen__http_scan *scan,
                         struct fen__http_request *ret_req) FEN_MUST_CHECK;

/* The first field of that name (any case); {NULL,0} if absent. */
fen_slice fen__http_field(const struct fen__http_request *req, const char *name, size_t name_n);

/* ASCII case-insensitive comparison; lower must be lower case. */
bool fen__http_same(fen_slice s, const char *lower, size_t n);

/* RFC 9110 token characters. */
extern const uint8_t fen__http_token[256];

#endif
