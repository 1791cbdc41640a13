/* chunk.h - the chunked transfer coding (RFC 9112, 7.1), any number of bytes at a time. */
#ifndef FEN_HTTP_CHUNK_H
#define FEN_HTTP_CHUNK_H

#include "base/base.h"

#define FEN__HTTP_CHUNK_LINE 256     /* bytes of a chunk-size line with its extensions */
#define FEN__HTTP_CHUNK_TRAILER 4096 /* bytes of all trailer lines */
#define FEN__HTTP_CHUNK_TRAILERS 32  /* trailer lines */
#define FEN__HTTP_CHUNK_SLACK 16384  /* bytes that are not data may be this + twice the data */

struct fen__http_chunk {
    uint64_t left;       /* data bytes missing in the current chunk */
    uint64_t body_bytes; /* data decoded so far */
    uint64_t max_body_bytes;
    uint64_t overhead_bytes; /* everything that is not data */
    uint32_t line_bytes;     /* of the current size line, or of all trailers */
    uint16_t trailers;
    uint8_t digits;
    uint8_t state;
};

void fen__http_chunk_init(struct fen__http_chunk *c, uint64_t max_body_bytes);

/* Decodes in[0, n). The data goes to out, which needs room for n bytes and may be in itself (then
 * the bytes behind *ret_used are still where they were, and the data lies at the front).
 *   1    the body is complete: in[*ret_used, n) belongs to the next request
 *   0    more is needed; all of in has been used
 *   < 0  minus the status to answer before closing: 400; 413 as soon as a chunk's announced size
 *        would take the body over the limit; 431 too many trailers
 * Trailers are checked and dropped. Any thread, does not block. */
int fen__http_chunk_feed(struct fen__http_chunk *c, const char *in, size_t n, char *out,
                         size_t *ret_used, size_t *ret_data) FEN_MUST_CHECK;

#endif
