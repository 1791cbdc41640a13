/* text.h - building a line in a buffer of fixed size. Signal-safe: no heap, no locale, no state.
 * What does not fit is left out. */
#ifndef FEN_BASE_TEXT_H
#define FEN_BASE_TEXT_H

#include "base/base.h"

struct fen__text {
    char *p;
    size_t n, cap;
};

void fen__text_bytes(struct fen__text *t, const char *s, size_t n);
void fen__text_put(struct fen__text *t, const char *s);
/* The same, but what would break a line or a field becomes a question mark. */
void fen__text_word(struct fen__text *t, const char *s, size_t n);
void fen__text_dec(struct fen__text *t, int64_t v);
void fen__text_hex(struct fen__text *t, uint64_t v); /* with 0x */
/* A length of time in the unit that keeps it short: 12us, 3.4ms, 1.250s. */
void fen__text_ns(struct fen__text *t, int64_t ns);
/* Bytes: 512, 4K, 64K, 2M; rounded down. */
void fen__text_size(struct fen__text *t, size_t bytes);

#endif
