/* buf.c - the parts of the byte buffer that need no memory of their own. */
#include "base/base.h"

#include <fen/buf.h>

fen_buf fen_buf_fixed(char *p, size_t bytes) { return (fen_buf){.p = p, .cap = bytes}; }

int fen_buf_reserve(fen_buf *b, size_t n)
{
    if (b->err)
        return b->err;
    if (n <= b->cap - b->n)
        return 0;
    b->err = b->grow ? b->grow(b, n) : -ENOBUFS;
    fen_dassert(b->err || n <= b->cap - b->n);
    return b->err;
}

void fen_buf_put_u64(fen_buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    fen_buf_put(b, digits + at, sizeof digits - at);
}

void fen_buf_put_i64(fen_buf *b, int64_t v)
{
    char text[20]; /* the sign in the same append: a full buffer must not keep a lone '-' */
    size_t at = sizeof text;
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        text[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (v < 0)
        text[--at] = '-';
    fen_buf_put(b, text + at, sizeof text - at);
}
