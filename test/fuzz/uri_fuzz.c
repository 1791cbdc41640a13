/* uri_fuzz.c - decoding stays inside, never grows, and agrees with the query lookup. */
#include "http/uri.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fen_arena *a = fen_arena_new();
    if (!a)
        return 0;
    fen_slice in = {(const char *)data, size}, out, again;
    if (fen__uri_decode(in, false, a, &out) == 0)
        fen_assert(out.n <= in.n);
    if (fen__uri_query(in, "a", 1, a, &out) == 0)
        fen_assert(out.n <= in.n);

    /* "k=" and the input up to '&' must give what decoding that part gives. */
    const char *amp = size ? memchr(in.p, '&', size) : NULL;
    fen_slice part = {in.p, amp ? (size_t)(amp - in.p) : size};
    char *query = fen_arena_alloc(a, part.n + 2);
    if (query) {
        memcpy(query, "k=", 2);
        if (part.n)
            memcpy(query + 2, part.p, part.n);
        int rc = fen__uri_query((fen_slice){query, part.n + 2}, "k", 1, a, &out);
        fen_assert(rc == fen__uri_decode(part, true, a, &again));
        fen_assert(rc < 0 || (out.n == again.n && (!out.n || !memcmp(out.p, again.p, out.n))));
    }
    int64_t v;
    (void)!fen__uri_i64(in, &v);
    fen_arena_free(a);
    return 0;
}
