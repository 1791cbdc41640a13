/* json_int.h - what the JSON writer and reader share. */
#ifndef FEN_HTTP_JSON_INT_H
#define FEN_HTTP_JSON_INT_H

#include "base/base.h"

#include <string.h>

/* The first byte of [c, end) that a JSON string cannot hold as it is or that is not ASCII: below
 * 0x20, '"', '\\', 0x80 and up; or end. Eight at a time: the lowest flagged byte is exact, those
 * above it may be flagged by a borrow. */
static inline const char *fen__json_plain(const char *c, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
    while (end - c >= 8) {
        uint64_t w, quote, slash;
        memcpy(&w, c, 8);
        quote = w ^ (ones * '"');
        slash = w ^ (ones * '\\');
        uint64_t hit = ((w - ones * 0x20) | (quote - ones) | (slash - ones) | w) & tops;
        if (hit) /* "& ~x" is not needed: w itself flags what it would take out */
            return c + (__builtin_ctzll(hit) >> 3);
        c += 8;
    }
    while (c < end && (uint8_t)*c >= 0x20 && (uint8_t)*c < 0x80 && *c != '"' && *c != '\\')
        c++;
    return c;
}

/* The UTF-8 sequence at p < end, whose first byte is not ASCII: its length, or minus the length of
 * the maximal part that could have begun one (Unicode, 3.9, table 3-7). */
static inline int fen__utf8_length(const char *p, const char *end)
{
    const uint8_t *u = (const uint8_t *)p;
    long have = end - p;
    uint8_t lo = 0x80, hi = 0xbf;
    int n;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return -1;
    if (u[0] < 0xe0) {
        n = 2;
    } else if (u[0] < 0xf0) {
        n = 3;
        lo = u[0] == 0xe0 ? 0xa0 : lo;
        hi = u[0] == 0xed ? 0x9f : hi; /* no surrogates */
    } else {
        n = 4;
        lo = u[0] == 0xf0 ? 0x90 : lo;
        hi = u[0] == 0xf4 ? 0x8f : hi;
    }
    for (int i = 1; i < n; i++) {
        if (i == have || u[i] < lo || u[i] > hi)
            return -i;
        lo = 0x80;
        hi = 0xbf;
    }
    return n;
}

#endif
