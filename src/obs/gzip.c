/* gzip.c - a gzip member (RFC 1952) of stored blocks (RFC 1951, 3.2.4): framed, not compressed. */
#include "obs/obs_int.h"

#define BLOCK_MAX 65535

static uint32_t crc_of(const char *p, size_t n)
{
    uint32_t table[256], crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
    for (size_t i = 0; i < n; i++)
        crc = table[(crc ^ (unsigned char)p[i]) & 255] ^ crc >> 8;
    return ~crc;
}

static void put_little(fen_buf *b, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fen_buf_put_char(b, (char)(v >> 8 * i));
}

void fen__gzip_stored(fen_buf *b, const char *p, size_t n)
{
    static const char head[10] = {0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, (char)0xff};
    size_t at = 0;
    fen_buf_put(b, head, sizeof head);
    do {
        size_t len = n - at < BLOCK_MAX ? n - at : BLOCK_MAX;
        fen_buf_put_char(b, at + len == n); /* the last; type 0 */
        put_little(b, (uint32_t)len, 2);
        put_little(b, (uint32_t)len ^ 0xffff, 2);
        fen_buf_put(b, p + at, len);
        at += len;
    } while (at < n);
    put_little(b, crc_of(p, n), 4);
    put_little(b, (uint32_t)n, 4);
}
