/* addr_fuzz.c - what is accepted as an address has a text that means the same address. */
#include "base/base.h"

#include <fen/net.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char in[256], out[FEN_ADDR_TEXT], again[FEN_ADDR_TEXT];
    fen_addr a, b;
    if (size >= sizeof in)
        return 0;
    memcpy(in, data, size);
    in[size] = 0;
    if (fen_addr_parse(in, &a))
        return 0;
    int n = fen_addr_text(&a, out, sizeof out);
    fen_assert(n > 0 && n == (int)strlen(out));
    fen_assert(fen_addr_parse(out, &b) == 0);
    fen_assert(fen_addr_text(&b, again, sizeof again) == n && !memcmp(out, again, (size_t)n));
    fen_assert(fen_addr_port(&a) == fen_addr_port(&b));
    return 0;
}
