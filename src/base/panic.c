/* panic.c - the last line a broken promise prints. The one place in this room that writes. */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t put(char *at, size_t left, const char *s)
{
    size_t n = strlen(s);
    if (n > left)
        n = left;
    memcpy(at, s, n);
    return n;
}

void (*_Atomic fen__panic_more)(void);

void fen__panic(const char *what, const char *file, int line)
{
    char text[512], digits[12];
    size_t n = 0, d = sizeof digits;
    digits[--d] = 0;
    do
        digits[--d] = (char)('0' + line % 10);
    while ((line /= 10) && d);
    const char *parts[] = {"fen: assertion failed: ", what, " (", file, ":", digits + d, ")\n"};
    for (size_t i = 0; i < FEN__COUNT(parts); i++)
        n += put(text + n, sizeof text - n, parts[i]);
    if (write(2, text, n) < 0)
        abort();
    void (*more)(void) = atomic_exchange(&fen__panic_more, NULL); /* it may break a promise too */
    if (more)
        more();
    abort();
}
