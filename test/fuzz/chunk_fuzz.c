/* chunk_fuzz.c - the decoded body, the bytes used and the verdict do not depend on the cuts.
 * Byte 0 of the input chooses the cut. */
#include "http/chunk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BODY 65536

static int feed(const char *in, size_t n, size_t step, char *out, size_t *ret_used, size_t *ret_n)
{
    struct fen__http_chunk c;
    int rc = 0;
    size_t at = 0, total = 0;
    fen__http_chunk_init(&c, MAX_BODY);
    while (!rc && at < n) {
        size_t have = step < n - at ? step : n - at, used = 0, got = 0;
        rc = fen__http_chunk_feed(&c, in + at, have, out + total, &used, &got);
        fen_assert(used <= have && got <= used);
        at += used;
        total += got;
    }
    *ret_used = at;
    *ret_n = total;
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const char *in = (const char *)data + 1;
    size_t n = size - 1, used[2], got[2];
    char *out[2] = {malloc(n + 1), malloc(n + 1)};
    if (out[0] && out[1]) {
        int whole = feed(in, n, n + 1, out[0], &used[0], &got[0]);
        int pieces = feed(in, n, 1 + data[0] % 64, out[1], &used[1], &got[1]);
        fen_assert(whole == pieces);
        if (whole >= 0) {
            fen_assert(used[0] == used[1] && got[0] == got[1] && got[0] <= MAX_BODY);
            fen_assert(memcmp(out[0], out[1], got[0]) == 0);
        }
    }
    free(out[0]);
    free(out[1]);
    return 0;
}
