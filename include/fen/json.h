/* json.h - JSON without reflection: a writer that appends to a buffer, a strict reader, and an
 * X-macro that turns a field list into an encoder and a decoder at compile time. */
#ifndef FEN_JSON_H
#define FEN_JSON_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A growing output buffer. The bytes belong to whoever provides grow. */
typedef struct fen_buf {
    char *p;
    size_t n, cap;
    int err; /* 0, or the first -ENOMEM; later appends are ignored */
    /* Makes room for at least `need` more bytes (moves p, raises cap): 0 or -ENOMEM. */
    int (*grow)(struct fen_buf *b, size_t need);
    void *grow_arg;
} fen_buf;

/* Appends; on failure err is set and the call does nothing. */
FEN_API void fen_buf_put(fen_buf *b, const void *p, size_t n);

#ifdef __cplusplus
}
#endif
#endif
