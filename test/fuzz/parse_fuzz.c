/* parse_fuzz.c - a head is judged alike however it is cut, and its slices lie inside it.
 * Byte 0 of the input chooses the cut. */
#include "http/parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELDS 100

static void inside(fen_slice s, const char *p, size_t n)
{
    if (s.n && s.p != NULL)
        fen_assert((s.p >= p && s.p + s.n <= p + n) || (s.n == 1 && *s.p == '/'));
}

static int parse(const char *p, size_t n, struct fen__http_scan *scan)
{
    static const struct fen__http_limits limits = {8192, FIELDS};
    struct fen__http_field fields[FIELDS];
    struct fen__http_request r = {.fields = fields, .fields_cap = FIELDS};
    char *block = malloc(n ? n : 1);
    if (!block)
        return 0;
    memcpy(block, p, n);
    int rc = fen__http_parse_head(block, n, &limits, scan, &r);
    if (rc > 0) {
        fen_assert((size_t)rc <= n && !(r.chunked && r.content_length >= 0));
        inside(r.method, block, n);
        inside(r.path, block, n);
        inside(r.query, block, n);
        inside(r.host, block, n);
        for (int i = 0; i < r.fields_n; i++) {
            inside(fields[i].name, block, n);
            inside(fields[i].value, block, n);
        }
    }
    free(block);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const char *p = (const char *)data + 1;
    size_t n = size - 1, step = 1 + data[0] % 64;
    struct fen__http_scan scan = {0};
    int whole = parse(p, n, NULL), rc = 0;
    for (size_t have = 0; !rc && have < n;) {
        have = have + step < n ? have + step : n;
        rc = parse(p, have, &scan);
    }
    fen_assert(rc == whole);
    return 0;
}
