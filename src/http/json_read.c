/* json_read.c - a pull reader: RFC 8259 and nothing more (no comments, trailing commas, leading
 * zeros, raw control characters, lone surrogates or bytes that are not UTF-8).
 *
 * The caller walks; the reader keeps one bit per level for "object or array" and one for "has a
 * member already", so depth costs no memory and nothing recurses. p stands at the next byte to be
 * looked at; the first error sets err, at and text and freezes the reader.
 *
 * Rejected: a tree of values. A request is decoded into a struct once; a tree would be built to be
 * thrown away. */
#include "http/json_int.h"

#include <fen/json.h>
#include <stdlib.h>

#define DIGITS_MAX 800 /* more than decide any double (767); the rest counts as one sticky digit */

fen_json_reader fen_json_reader_on(fen_slice in, fen_arena *a)
{
    const char *p = in.p ? in.p : "";
    return (fen_json_reader){.p = p, .end = p + in.n, .start = p, .arena = a};
}

static int fail(fen_json_reader *r, int err, const char *text, const char *where)
{
    if (!r->err) {
        r->err = err;
        r->text = text;
        r->at = (size_t)(where - r->start);
    }
    fen_assert(r->err < 0); /* callers go on at 0 and above */
    return r->err;
}

static uint64_t level(int depth) { return UINT64_C(1) << (depth - 1); }

static void skip_white(fen_json_reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
        r->p++;
}

static bool is_digit(const char *p, const char *end) { return p < end && *p >= '0' && *p <= '9'; }

enum fen_json_type fen_json_peek(fen_json_reader *r)
{
    skip_white(r);
    if (r->err || r->p == r->end)
        return FEN_JSON_NONE;
    switch (*r->p) {
    case 'n': return FEN_JSON_NULL;
    case 't':
    case 'f': return FEN_JSON_BOOL;
    case '"': return FEN_JSON_STRING;
    case '[': return FEN_JSON_ARRAY;
    case '{': return FEN_JSON_OBJECT;
    default: return *r->p == '-' || is_digit(r->p, r->end) ? FEN_JSON_NUMBER : FEN_JSON_NONE;
    }
}

static int no_value(fen_json_reader *r)
{
    bool early = r->p == r->end;
    return fail(r, FEN_EPARSE, early ? "the text ends early" : "expected a value", r->p);
}

/* Stands before a value of that type, or fails with text. */
static int want(fen_json_reader *r, enum fen_json_type type, const char *text)
{
    enum fen_json_type have = fen_json_peek(r);
    if (r->err)
        return r->err;
    if (!r->depth && r->top)
        return fail(r, -EINVAL, "the value has been read already", r->p);
    if (have == FEN_JSON_NONE)
        return no_value(r);
    if (have != type)
        return fail(r, -EINVAL, text, r->p);
    r->top = true;
    return 0;
}

/* ---- literals ---- */

static int literal(fen_json_reader *r, const char *word, size_t n)
{
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
        return fail(r, FEN_EPARSE, "expected true, false or null", r->p);
    r->p += n;
    return 0;
}

int fen_json_get_null(fen_json_reader *r)
{
    int rc = want(r, FEN_JSON_NULL, "expected null");
    return rc < 0 ? rc : literal(r, "null", 4);
}

int fen_json_get_bool(fen_json_reader *r, bool *ret_v)
{
    int rc = want(r, FEN_JSON_BOOL, "expected true or false");
    if (rc < 0)
        return rc;
    bool v = *r->p == 't';
    rc = v ? literal(r, "true", 4) : literal(r, "false", 5);
    if (rc == 0)
        *ret_v = v;
    return rc;
}

/* ---- numbers ---- */

struct number {
    const char *digits, *point, *end; /* point: NULL if none */
    int64_t exponent;
    bool minus, whole; /* whole: neither fraction nor exponent */
};

static const char *skip_digits(const char *p, const char *end)
{
    while (is_digit(p, end))
        p++;
    return p;
}

/* Behind 'e': the exponent, held within what a double can tell apart. */
static const char *scan_exponent(const char *p, const char *end, struct number *ret)
{
    bool minus = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    if (!is_digit(p, end))
        return NULL;
    int64_t e = 0;
    for (; is_digit(p, end); p++)
        e = e < 100000000 ? e * 10 + (*p - '0') : e;
    ret->exponent = minus ? -e : e;
    return p;
}

/* Takes a number by the grammar; no value yet. */
static int scan_number(fen_json_reader *r, struct number *ret)
{
    const char *p = r->p, *end = r->end;
    *ret = (struct number){.minus = *p == '-', .whole = true};
    p += ret->minus;
    ret->digits = p;
    if (!is_digit(p, end))
        return fail(r, FEN_EPARSE, "expected a digit", p);
    if (*p == '0' && is_digit(p + 1, end))
        return fail(r, FEN_EPARSE, "a number begins with a needless 0", p);
    p = skip_digits(p, end);
    if (p < end && *p == '.') {
        ret->point = p++;
        ret->whole = false;
        if (!is_digit(p, end))
            return fail(r, FEN_EPARSE, "expected a digit behind the point", p);
        p = skip_digits(p, end);
    }
    ret->end = p;
    if (p < end && (*p | 0x20) == 'e') {
        ret->whole = false;
        p = scan_exponent(p + 1, end, ret);
        if (!p)
            return fail(r, FEN_EPARSE, "expected an exponent", ret->end);
    }
    r->p = p;
    return 0;
}

int fen_json_get_i64(fen_json_reader *r, int64_t *ret_v)
{
    struct number num;
    int rc = want(r, FEN_JSON_NUMBER, "expected a whole number");
    if (rc < 0)
        return rc;
    const char *from = r->p;
    if ((rc = scan_number(r, &num)) < 0)
        return rc;
    if (!num.whole)
        return fail(r, -EINVAL, "expected a whole number", from);
    int64_t v = 0;
    for (const char *p = num.digits; p < num.end; p++) {
        int d = *p - '0';
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, num.minus ? -d : d, &v))
            return fail(r, -ERANGE, "the number does not fit 64 bits", from);
    }
    *ret_v = v;
    return 0;
}

/* Digits without the point and an exponent that makes up for it: no locale can misread that. */
static double slow_double(const struct number *num)
{
    char text[DIGITS_MAX + 24];
    size_t n = 0;
    int64_t e = num->exponent;
    bool sticky = false;
    const char *point = num->point ? num->point : num->end;
    for (const char *p = num->digits; p < num->end; p++) {
        if (p == point)
            continue;
        bool fraction = p > point;
        if (n < DIGITS_MAX) {
            if (n || *p != '0')
                text[n++] = *p;
            e -= fraction;
        } else {
            sticky |= *p != '0';
            e += !fraction;
        }
    }
    if (!n)
        return 0;
    if (sticky) {
        text[n++] = '1';
        e--;
    }
    text[n++] = 'e';
    if (e < 0)
        text[n++] = '-';
    char digits[24];
    int k = 0;
    for (uint64_t u = e < 0 ? (uint64_t)-e : (uint64_t)e; u || !k; u /= 10)
        digits[k++] = (char)('0' + u % 10);
    while (k)
        text[n++] = digits[--k];
    text[n] = 0;
    return strtod(text, NULL);
}

/* Up to 2^53 times or by a power of ten that is itself exact: one rounding, hence the right one. */
static bool quick_double(const struct number *num, double *ret_v)
{
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t m = 0;
    int64_t e = num->exponent;
    if (num->end - num->digits > 19)
        return false;
    for (const char *p = num->digits; p < num->end; p++) {
        if (p == num->point)
            continue;
        m = m * 10 + (uint64_t)(*p - '0');
        e -= num->point && p > num->point;
    }
    if (m > UINT64_C(1) << 53 || e < -22 || e > 22)
        return false;
    *ret_v = e < 0 ? (double)m / tens[-e] : (double)m * tens[e];
    return true;
}

int fen_json_get_f64(fen_json_reader *r, double *ret_v)
{
    struct number num;
    double v;
    int rc = want(r, FEN_JSON_NUMBER, "expected a number");
    if (rc < 0)
        return rc;
    const char *from = r->p;
    if ((rc = scan_number(r, &num)) < 0)
        return rc;
    if (!quick_double(&num, &v))
        v = slow_double(&num);
    if (v > __DBL_MAX__)
        return fail(r, -ERANGE, "the number is beyond the doubles", from);
    *ret_v = num.minus ? -v : v;
    return 0;
}

/* ---- strings ---- */

/* Four hex digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i], low = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            v = v << 4 | (c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v << 4 | (low - 'a' + 10);
        else
            return -1;
    }
    return v;
}

/* Behind a backslash: the bytes that the escape takes, 0 if it is none; its code point. A surrogate
 * counts only as half of a pair. */
static int escape(const char *p, const char *end, uint32_t *ret_code)
{
    static const char names[] = "\"\\/bfnrt", codes[] = "\"\\/\b\f\n\r\t";
    if (p == end || !*p)
        return 0;
    if (*p != 'u') {
        const char *at = strchr(names, *p);
        *ret_code = at ? (uint8_t)codes[at - names] : 0;
        return at != NULL;
    }
    int high = hex4(p + 1, end);
    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff))
        return 0;
    *ret_code = (uint32_t)high;
    if (high < 0xd800 || high > 0xdbff)
        return 5;
    if (end - p < 11 || p[5] != '\\' || p[6] != 'u')
        return 0;
    int low = hex4(p + 7, end);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *ret_code = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    return 11;
}

static char *put_code(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* Takes a string with its quotes, checked whole: what lies between them, still escaped. */
static int scan_string(fen_json_reader *r, fen_slice *ret_raw, bool *ret_escaped)
{
    const char *p = r->p + 1;
    uint32_t code;
    *ret_escaped = false;
    for (;;) {
        p = fen__json_plain(p, r->end);
        if (p == r->end)
            return fail(r, FEN_EPARSE, "the string has no end", r->p);
        if (*p == '"')
            break;
        int n = 0;
        if (*p == '\\') {
            *ret_escaped = true;
            n = escape(p + 1, r->end, &code);
            if (!n)
                return fail(r, FEN_EPARSE, "bad escape in a string", p);
            n++;
        } else if ((uint8_t)*p >= 0x80) {
            n = fen__utf8_length(p, r->end);
            if (n < 0)
                return fail(r, FEN_EPARSE, "a string is not UTF-8", p);
        } else {
            return fail(r, FEN_EPARSE, "control character in a string", p);
        }
        p += n;
    }
    *ret_raw = (fen_slice){r->p + 1, (size_t)(p - r->p - 1)};
    r->p = p + 1;
    return 0;
}

/* A scanned string without its escapes; never longer than with them. */
static int unescape(fen_json_reader *r, fen_slice raw, fen_slice *ret_v)
{
    char *out = fen_arena_alloc(r->arena, raw.n);
    if (!out)
        return fail(r, -ENOMEM, "out of memory", raw.p);
    char *to = out;
    const char *p = raw.p, *end = raw.p + raw.n;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((slash ? slash : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        if (slash) {
            uint32_t code = 0;
            p += 1 + escape(p + 1, end, &code);
            to = put_code(to, code);
        }
    }
    *ret_v = (fen_slice){out, (size_t)(to - out)};
    return 0;
}

static int string_text(fen_json_reader *r, fen_slice *ret_v)
{
    fen_slice raw;
    bool escaped;
    int rc = scan_string(r, &raw, &escaped);
    if (rc < 0)
        return rc;
    if (escaped)
        return unescape(r, raw, ret_v);
    *ret_v = raw;
    return 0;
}

int fen_json_get_string(fen_json_reader *r, fen_slice *ret_v)
{
    int rc = want(r, FEN_JSON_STRING, "expected a string");
    return rc < 0 ? rc : string_text(r, ret_v);
}

int fen_json_get_chars(fen_json_reader *r, char *ret, size_t cap)
{
    fen_slice v;
    int rc = want(r, FEN_JSON_STRING, "expected a string");
    const char *from = r->p;
    if (rc < 0 || (rc = string_text(r, &v)) < 0)
        return rc;
    if (v.n >= cap)
        return fail(r, -ERANGE, "the string is too long", from);
    if (v.n && memchr(v.p, 0, v.n))
        return fail(r, -EINVAL, "the string contains a NUL", from);
    if (v.n)
        memcpy(ret, v.p, v.n);
    ret[v.n] = 0;
    return 0;
}

/* ---- containers ---- */

static int enter(fen_json_reader *r, bool object)
{
    int rc = object ? want(r, FEN_JSON_OBJECT, "expected an object")
                    : want(r, FEN_JSON_ARRAY, "expected an array");
    if (rc < 0)
        return rc;
    if (r->depth == FEN_JSON_DEPTH)
        return fail(r, FEN_ELIMIT, "nested too deep", r->p);
    uint64_t bit = level(++r->depth);
    r->objects = object ? r->objects | bit : r->objects & ~bit;
    r->filled &= ~bit;
    r->p++;
    return 0;
}

int fen_json_get_object(fen_json_reader *r) { return enter(r, true); }
int fen_json_get_array(fen_json_reader *r) { return enter(r, false); }

/* 1: p stands at a member; 0: the container is left. */
static int next_member(fen_json_reader *r, bool object)
{
    if (r->err)
        return r->err;
    if (!r->depth || !!(r->objects & level(r->depth)) != object)
        return fail(r, -EINVAL, "the reader is not in such a container", r->p);
    skip_white(r);
    if (r->p == r->end)
        return fail(r, FEN_EPARSE, "the text ends early", r->p);
    if (*r->p == (object ? '}' : ']')) {
        r->p++;
        r->depth--;
        return 0;
    }
    if (r->filled & level(r->depth)) {
        if (*r->p != ',')
            return fail(r, FEN_EPARSE, "expected a comma or the end of the container", r->p);
        r->p++;
        skip_white(r);
    }
    r->filled |= level(r->depth);
    return 1;
}

int fen_json_next_item(fen_json_reader *r)
{
    int rc = next_member(r, false);
    if (rc == 1 && fen_json_peek(r) == FEN_JSON_NONE)
        return no_value(r);
    return rc;
}

/* A key that is only checked, or taken when ret_key is not NULL. */
static int member_key(fen_json_reader *r, fen_slice *ret_key)
{
    fen_slice raw;
    bool escaped;
    int rc = next_member(r, true);
    if (rc != 1)
        return rc;
    if (r->p == r->end || *r->p != '"')
        return fail(r, FEN_EPARSE, "expected a key", r->p);
    rc = ret_key ? string_text(r, ret_key) : scan_string(r, &raw, &escaped);
    if (rc < 0)
        return rc;
    skip_white(r);
    if (r->p == r->end || *r->p != ':')
        return fail(r, FEN_EPARSE, "expected a colon", r->p);
    r->p++;
    return 1;
}

int fen_json_next_key(fen_json_reader *r, fen_slice *ret_key) { return member_key(r, ret_key); }

static int skip_one(fen_json_reader *r)
{
    struct number num;
    fen_slice raw;
    bool flag;
    enum fen_json_type type = fen_json_peek(r);
    int rc;
    switch (type) {
    case FEN_JSON_NUMBER: rc = want(r, type, ""); return rc < 0 ? rc : scan_number(r, &num);
    case FEN_JSON_STRING: rc = want(r, type, ""); return rc < 0 ? rc : scan_string(r, &raw, &flag);
    case FEN_JSON_BOOL: return fen_json_get_bool(r, &flag);
    case FEN_JSON_OBJECT: return enter(r, true);
    case FEN_JSON_ARRAY: return enter(r, false);
    default: return fen_json_get_null(r); /* null, or the error */
    }
}

int fen_json_skip(fen_json_reader *r)
{
    int base = r->depth;
    int rc = skip_one(r);
    while (rc >= 0 && r->depth > base) {
        bool object = r->objects & level(r->depth);
        rc = object ? member_key(r, NULL) : next_member(r, false);
        if (rc == 1)
            rc = skip_one(r);
    }
    return rc;
}

int fen_json_reader_end(fen_json_reader *r)
{
    if (r->err)
        return r->err;
    skip_white(r);
    if (!r->top || r->depth)
        return fail(r, FEN_EPARSE, "the text ends early", r->p);
    return r->p == r->end ? 0 : fail(r, FEN_EPARSE, "something follows the value", r->p);
}

/* ---- what FEN_JSON_STRUCT leaves to a function ---- */

/* True when the field's value is to be read; false after an error or an optional null. */
bool fen_json_field_begin(fen_json_reader *r, uint64_t *seen, int at, bool required)
{
    uint64_t bit = UINT64_C(1) << at;
    if (*seen & bit) {
        fail(r, -EINVAL, "the field comes twice", r->p);
        return false;
    }
    *seen |= bit;
    if (required || fen_json_peek(r) != FEN_JSON_NULL)
        return true;
    return (void)!fen_json_get_null(r), false;
}

static void put_text(fen_buf *b, const char *text)
{
    size_t n = strlen(text), room = b->cap - b->n;
    fen_buf_put(b, text, n < room ? n : room); /* a message may be cut */
}

int fen_json_struct_end(fen_json_reader *r, const struct fen_json_field *fields, int n,
                        uint64_t seen, int at, char *err, size_t err_bytes)
{
    if (!r->err)
        (void)!fen_json_reader_end(r);
    for (int i = 0; !r->err && i < n; i++) {
        if (fields[i].required && !(seen >> i & 1)) {
            at = i;
            fail(r, -EINVAL, "is missing", r->p);
        }
    }
    if (!err_bytes)
        return r->err;
    fen_buf b = fen_buf_fixed(err, err_bytes - 1);
    if (r->err && at >= 0) {
        put_text(&b, "field \"");
        put_text(&b, fields[at].name);
        put_text(&b, "\": ");
    }
    if (r->err) {
        char digits[24];
        fen_buf number = fen_buf_fixed(digits, sizeof digits - 1);
        fen_json_value_i64(&number, (int64_t)r->at);
        digits[number.n] = 0;
        put_text(&b, r->text);
        put_text(&b, " at byte ");
        put_text(&b, digits);
    }
    err[b.n] = 0;
    return r->err;
}
