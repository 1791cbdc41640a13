/* buf.h - a byte buffer to append to: fixed, on the heap, or in an arena.
 *
 * Append without looking, check err once at the end. The bytes are not NUL-terminated. One owner
 * at a time; not thread-safe; nothing here blocks. */
#ifndef FEN_BUF_H
#define FEN_BUF_H

#include <fen/arena.h>
#include <fen/types.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Invariant: n <= cap; p may be NULL while cap is 0. The bytes belong to whoever provides grow. */
typedef struct fen_buf {
    char *p;
    size_t n, cap;
    int err; /* 0, or the first failure: -ENOMEM, or -ENOBUFS where nothing may grow */
    /* Makes room for at least `need` more bytes (may move p, raises cap): 0 or -ENOMEM.
     * NULL: the buffer never grows. */
    int (*grow)(struct fen_buf *b, size_t need);
    void *grow_arg;
} fen_buf;

/* A buffer over caller's memory that never grows: what does not fit sets err to -ENOBUFS. */
FEN_API fen_buf fen_buf_fixed(char *p, size_t bytes);

/* An empty buffer on the heap, which doubles as it grows; ends with fen_buf_free. No memory is
 * taken before the first append. */
FEN_API fen_buf fen_buf_heap(void);

/* Gives the memory of a heap buffer back and leaves it empty and usable, err cleared. Only for
 * buffers from fen_buf_heap. */
FEN_API void fen_buf_free(fen_buf *b);

/* An empty buffer in an arena; growing leaves the old bytes behind until the arena is reset. */
FEN_API fen_buf fen_buf_arena(fen_arena *a);

/* Makes room for n more bytes at p + n: 0, or the failure, which err keeps. */
FEN_API int fen_buf_reserve(fen_buf *b, size_t n);

/* Appends n bytes (none if that fails; p may be NULL when n is 0). */
static inline void fen_buf_put(fen_buf *b, const void *p, size_t n)
{
    if (__builtin_expect(b->err || n > b->cap - b->n, 0) && fen_buf_reserve(b, n) < 0)
        return;
    if (n) {
        memcpy(b->p + b->n, p, n);
        b->n += n;
    }
}

/* Appends one byte. */
static inline void fen_buf_put_char(fen_buf *b, char c) { fen_buf_put(b, &c, 1); }

/* Appends a NUL-terminated string without its NUL. */
static inline void fen_buf_put_str(fen_buf *b, const char *s) { fen_buf_put(b, s, strlen(s)); }

/* Append a number in decimal. */
FEN_API void fen_buf_put_i64(fen_buf *b, int64_t v);
FEN_API void fen_buf_put_u64(fen_buf *b, uint64_t v);

/* What has been written, borrowed until the next append. */
static inline fen_slice fen_buf_slice(const fen_buf *b)
{
    fen_slice s = {b->p, b->n};
    return s;
}

#ifdef __cplusplus
}
#endif
#endif
