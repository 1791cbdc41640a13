/* json_write.c - values as text, and the writer that sets the commas. */
#include "http/json_int.h"

#include <fen/json.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- values ---- */

/* Writes v backwards before end: where it begins. */
static char *digits_before(char *end, uint64_t v)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    while (v >= 100) {
        end -= 2;
        memcpy(end, pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        end -= 2;
        memcpy(end, pairs + v * 2, 2);
    } else {
        *--end = (char)('0' + v);
    }
    return end;
}

void fen_json_value_i64(fen_buf *b, int64_t v)
{
    char text[24], *end = text + sizeof text;
    char *p = digits_before(end, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
    if (v < 0)
        *--p = '-';
    fen_buf_put(b, p, (size_t)(end - p));
}

/* Few decimals: v = m / 10^k with m below 10^15. Both are exact doubles, so the one division
 * rounds once and equality means that m, k reads back as v; the smallest k is the shortest. */
static bool short_decimal(fen_buf *b, double v)
{
    static const double tens[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
    char text[32], *end = text + sizeof text;
    double size = v < 0 ? -v : v;
    for (size_t k = 1; k < FEN__COUNT(tens) && size * tens[k] < 1e15; k++) {
        uint64_t m = (uint64_t)(size * tens[k] + 0.5);
        if (!m || (double)m / tens[k] != size)
            continue;
        char *p = digits_before(end, m);
        while ((size_t)(end - p) <= k)
            *--p = '0';
        size_t whole = (size_t)(end - p) - k;
        fen_buf_put(b, "-", v < 0);
        fen_buf_put(b, p, whole);
        fen_buf_put_char(b, '.');
        fen_buf_put(b, p + whole, k);
        return true;
    }
    return false;
}

/* The shortest of the three precisions that can be needed. The C library writes the locale's point,
 * one or more bytes that are neither digit, sign nor 'e'. */
static void long_decimal(fen_buf *b, double v)
{
    char text[48];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    for (const char *p = text; *p;) {
        size_t n = strspn(p, "0123456789e+-");
        fen_buf_put(b, p, n);
        p += n;
        if (*p) {
            fen_buf_put_char(b, '.');
            p += strcspn(p, "0123456789");
        }
    }
}

void fen_json_value_f64(fen_buf *b, double v)
{
    double size = v < 0 ? -v : v;
    if (!(size <= __DBL_MAX__)) {
        fen_json_value_null(b);
    } else if (size < 9007199254740992.0 && (double)(int64_t)v == v) {
        if (v == 0 && __builtin_signbit(v))
            fen_buf_put_char(b, '-');
        fen_json_value_i64(b, (int64_t)v);
    } else if (!short_decimal(b, v)) {
        long_decimal(b, v);
    }
}

void fen_json_value_bool(fen_buf *b, bool v) { fen_buf_put(b, v ? "true" : "false", v ? 4 : 5); }

void fen_json_value_null(fen_buf *b) { fen_buf_put(b, "null", 4); }

static void put_escape(fen_buf *b, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n',  ['\f'] = 'f',
        ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\',
    };
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    if (letters[c]) {
        text[1] = letters[c];
        fen_buf_put(b, text, 2);
    } else {
        fen_buf_put(b, text, 6);
    }
}

/* A run of characters beyond ASCII: where it ends. */
static const char *put_utf8(fen_buf *b, const char *p, const char *end)
{
    const char *from = p;
    while (p < end && (uint8_t)*p >= 0x80) {
        int n = fen__utf8_length(p, end);
        if (n < 0) {
            fen_buf_put(b, from, (size_t)(p - from));
            fen_buf_put(b, "\xef\xbf\xbd", 3);
            p -= n;
            from = p;
        } else {
            p += n;
        }
    }
    fen_buf_put(b, from, (size_t)(p - from));
    return p;
}

void fen_json_value_string(fen_buf *b, fen_slice v)
{
    if (v.n > SIZE_MAX / 8)
        b->err = b->err ? b->err : -ENOMEM;
    if (fen_buf_reserve(b, v.n + 2) < 0) /* the least that it takes: one growth for most */
        return;
    b->p[b->n++] = '"';
    const char *p = v.p, *end = v.n ? v.p + v.n : v.p;
    while (p != end) {
        const char *stop = fen__json_plain(p, end);
        fen_buf_put(b, p, (size_t)(stop - p));
        p = stop;
        if (p != end && (uint8_t)*p >= 0x80)
            p = put_utf8(b, p, end);
        else if (p != end)
            put_escape(b, (uint8_t)*p++);
    }
    fen_buf_put_char(b, '"');
}

/* ---- the writer ---- */

fen_json_writer fen_json_writer_on(fen_buf *b) { return (fen_json_writer){.b = b}; }

static bool fail(fen_json_writer *w, int err)
{
    if (!w->err)
        w->err = err;
    return false;
}

static uint64_t level(int depth) { return UINT64_C(1) << (depth - 1); }

/* Before a value: its comma, or the proof that it has a key. */
static bool begin_value(fen_json_writer *w)
{
    if (w->err)
        return false;
    if (!w->depth) {
        if (w->done)
            return fail(w, -EINVAL);
        w->done = true;
    } else if (w->objects & level(w->depth)) {
        if (!w->keyed)
            return fail(w, -EINVAL);
        w->keyed = false;
    } else {
        if (w->filled & level(w->depth))
            fen_buf_put_char(w->b, ',');
        w->filled |= level(w->depth);
    }
    return true;
}

static void begin(fen_json_writer *w, bool object)
{
    if (!begin_value(w))
        return;
    if (w->depth == FEN_JSON_DEPTH) {
        fail(w, FEN_ELIMIT);
        return;
    }
    uint64_t bit = level(++w->depth);
    w->objects = object ? w->objects | bit : w->objects & ~bit;
    w->filled &= ~bit;
    fen_buf_put_char(w->b, object ? '{' : '[');
}

static void end(fen_json_writer *w, bool object)
{
    if (w->err)
        return;
    if (!w->depth || w->keyed || !!(w->objects & level(w->depth)) != object) {
        fail(w, -EINVAL);
        return;
    }
    w->depth--;
    fen_buf_put_char(w->b, object ? '}' : ']');
}

void fen_json_put_object(fen_json_writer *w) { begin(w, true); }
void fen_json_put_object_end(fen_json_writer *w) { end(w, true); }
void fen_json_put_array(fen_json_writer *w) { begin(w, false); }
void fen_json_put_array_end(fen_json_writer *w) { end(w, false); }

void fen_json_put_key(fen_json_writer *w, fen_slice key)
{
    if (w->err)
        return;
    if (!w->depth || w->keyed || !(w->objects & level(w->depth))) {
        fail(w, -EINVAL);
        return;
    }
    if (w->filled & level(w->depth))
        fen_buf_put_char(w->b, ',');
    w->filled |= level(w->depth);
    w->keyed = true;
    fen_json_value_string(w->b, key);
    fen_buf_put_char(w->b, ':');
}

void fen_json_put_i64(fen_json_writer *w, int64_t v)
{
    if (begin_value(w))
        fen_json_value_i64(w->b, v);
}

void fen_json_put_f64(fen_json_writer *w, double v)
{
    if (begin_value(w))
        fen_json_value_f64(w->b, v);
}

void fen_json_put_bool(fen_json_writer *w, bool v)
{
    if (begin_value(w))
        fen_json_value_bool(w->b, v);
}

void fen_json_put_null(fen_json_writer *w)
{
    if (begin_value(w))
        fen_json_value_null(w->b);
}

void fen_json_put_string(fen_json_writer *w, fen_slice v)
{
    if (begin_value(w))
        fen_json_value_string(w->b, v);
}

int fen_json_writer_end(const fen_json_writer *w)
{
    if (w->err)
        return w->err;
    if (w->b->err)
        return w->b->err;
    return w->done && !w->depth ? 0 : -EINVAL;
}
