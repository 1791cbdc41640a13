/* uri.c - see uri.h. */
#include "http/uri.h"

#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes one character, decoded, off [*p, end): 0..255 or -EINVAL. */
static int next_char(const char **p, const char *end, bool plus)
{
    char c = *(*p)++;
    if (c == '+' && plus)
        return ' ';
    if (c != '%')
        return (uint8_t)c;
    if (end - *p < 2)
        return -EINVAL;
    int hi = hex_value((*p)[0]), lo = hex_value((*p)[1]);
    if (hi < 0 || lo < 0 || (hi | lo) == 0)
        return -EINVAL;
    *p += 2;
    return hi << 4 | lo;
}

static bool is_plain(fen_slice s, bool plus)
{
    if (!s.n)
        return true;
    return !memchr(s.p, '%', s.n) && !(plus && memchr(s.p, '+', s.n));
}

int fen__uri_decode(fen_slice in, bool plus, fen_arena *a, fen_slice *ret_text)
{
    if (is_plain(in, plus)) {
        *ret_text = in;
        return 0;
    }
    char *out = fen_arena_alloc(a, in.n);
    if (!out)
        return -ENOMEM;
    const char *p = in.p, *end = in.p + in.n;
    size_t n = 0;
    while (p < end) {
        int c = next_char(&p, end, plus);
        if (c < 0)
            return c;
        out[n++] = (char)c;
    }
    *ret_text = (fen_slice){out, n};
    return 0;
}

static bool same_name(fen_slice encoded, const char *name, size_t name_n)
{
    const char *p = encoded.p, *end = encoded.p + encoded.n;
    for (size_t i = 0; i < name_n; i++) {
        if (p == end || next_char(&p, end, true) != (uint8_t)name[i])
            return false;
    }
    return p == end;
}

int fen__uri_query(fen_slice query, const char *name, size_t name_n, fen_arena *a,
                   fen_slice *ret_value)
{
    if (!query.n)
        return -ENOENT;
    const char *p = query.p, *end = query.p + query.n;
    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        const char *equal = memchr(p, '=', (size_t)(stop - p));
        const char *key_end = equal ? equal : stop;
        if (stop > p && same_name((fen_slice){p, (size_t)(key_end - p)}, name, name_n)) {
            const char *value = equal ? equal + 1 : stop;
            return fen__uri_decode((fen_slice){value, (size_t)(stop - value)}, true, a, ret_value);
        }
        p = amp ? amp + 1 : end;
    }
    return -ENOENT;
}

int fen__uri_i64(fen_slice text, int64_t *ret_value)
{
    if (!text.n)
        return -EINVAL;
    const char *p = text.p, *end = text.p + text.n;
    bool minus = p < end && *p == '-';
    bool over = false;
    int64_t v = 0;
    p += minus;
    if (p == end)
        return -EINVAL;
    for (; p < end; p++) { /* downwards: INT64_MIN has no positive twin */
        if (*p < '0' || *p > '9')
            return -EINVAL;
        over |= __builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *p - '0', &v);
    }
    if (over || (!minus && v == INT64_MIN))
        return -ERANGE;
    *ret_value = minus ? v : -v;
    return 0;
}
