/* text.c - numbers and words into a buffer, without the C library's formatting. */
#include "base/text.h"

#include <string.h>

void fen__text_bytes(struct fen__text *t, const char *s, size_t n)
{
    if (n > t->cap - t->n)
        n = t->cap - t->n;
    memcpy(t->p + t->n, s, n);
    t->n += n;
}

void fen__text_put(struct fen__text *t, const char *s) { fen__text_bytes(t, s, strlen(s)); }

void fen__text_word(struct fen__text *t, const char *s, size_t n)
{
    for (; n; s++, n--)
        fen__text_bytes(t, (unsigned char)*s > ' ' && *s != 127 ? s : "?", 1);
}

static void number(struct fen__text *t, uint64_t v, unsigned base, int width)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[v % base];
    while ((v /= base) || (int)(sizeof digits - at) < width);
    fen__text_bytes(t, digits + at, sizeof digits - at);
}

void fen__text_dec(struct fen__text *t, int64_t v)
{
    if (v < 0)
        fen__text_put(t, "-");
    number(t, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, 1);
}

void fen__text_hex(struct fen__text *t, uint64_t v)
{
    fen__text_put(t, "0x");
    number(t, v, 16, 1);
}

void fen__text_ns(struct fen__text *t, int64_t ns)
{
    uint64_t v = ns < 0 ? 0 : (uint64_t)ns;
    if (v >= (uint64_t)FEN_S) {
        number(t, v / (uint64_t)FEN_S, 10, 1);
        fen__text_put(t, ".");
        number(t, v / (uint64_t)FEN_MS % 1000, 10, 3);
        fen__text_put(t, "s");
    } else if (v >= (uint64_t)FEN_MS) {
        number(t, v / (uint64_t)FEN_MS, 10, 1);
        fen__text_put(t, ".");
        number(t, v / ((uint64_t)FEN_MS / 10) % 10, 10, 1);
        fen__text_put(t, "ms");
    } else {
        number(t, v / (uint64_t)FEN_US, 10, 1);
        fen__text_put(t, "us");
    }
}

void fen__text_size(struct fen__text *t, size_t bytes)
{
    bool mega = bytes >= (1u << 20) && bytes % (1u << 20) == 0;
    number(t, mega ? bytes >> 20 : bytes >= 1024 ? bytes >> 10 : bytes, 10, 1);
    if (bytes >= 1024)
        fen__text_put(t, mega ? "M" : "K");
}
