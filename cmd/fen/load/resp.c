/* resp.c - incremental reader of HTTP/1 responses.
 *
 * Lines are looked at in place when a read holds them whole, which is nearly always; only a line
 * that a read cuts is copied, and only its first bytes, because no line of interest is longer.
 * Body bytes are skipped by count, never copied.
 *
 *   STATUS -> HEADER -> BODY (length) | CHUNK -> DATA -> DATA_END -> CHUNK ... -> TRAILER
 *                     | UNTIL_CLOSE | done (no body);  a 1xx answer goes back to STATUS
 *
 * Strict where laxness could hide a broken server: two different lengths, a length that is not a
 * number, a chunk without its line end are all RESP_BAD. */
#include "resp.h"

#include <string.h>
#include <strings.h>

void resp_init(struct resp *r, bool to_head)
{
    r->step = RESP_STATUS;
    r->to_head = to_head;
    r->keep_alive = r->chunked = r->has_length = false;
    r->status = 0;
    r->head_bytes = r->line_n = 0;
    r->left = 0;
}

bool resp_begun(const struct resp *r) { return r->step != RESP_STATUS || r->head_bytes; }

static bool digit(char c) { return c >= '0' && c <= '9'; }

static enum resp_result status_line(struct resp *r, const char *p, size_t n)
{
    if (n < 12 || memcmp(p, "HTTP/1.", 7) || !digit(p[7]) || p[8] != ' ' || !digit(p[9]) ||
        !digit(p[10]) || !digit(p[11]) || (n > 12 && p[12] != ' '))
        return RESP_BAD;
    r->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    if (r->status < 100 || r->status > 599 || r->status == 101)
        return RESP_BAD;
    r->keep_alive = p[7] != '0';
    r->step = RESP_HEADER;
    return RESP_MORE;
}

static bool number(const char *p, size_t n, int base, int64_t *ret)
{
    int64_t v = 0;
    if (!n || n > 15)
        return false;
    for (size_t i = 0; i < n; i++) {
        int d = digit(p[i])                                ? p[i] - '0'
                : (p[i] | 32) >= 'a' && (p[i] | 32) <= 'f' ? (p[i] | 32) - 'a' + 10
                                                           : 99;
        if (d >= base)
            return false;
        v = v * base + d;
    }
    *ret = v;
    return true;
}

static bool has_word(const char *p, size_t n, const char *word)
{
    size_t len = strlen(word);
    while (n) {
        size_t item = 0;
        while (item < n && p[item] != ',')
            item++;
        const char *a = p, *z = p + item;
        while (a < z && (*a == ' ' || *a == '\t'))
            a++;
        while (z > a && (z[-1] == ' ' || z[-1] == '\t'))
            z--;
        if ((size_t)(z - a) == len && !strncasecmp(a, word, len))
            return true;
        item += item < n;
        p += item;
        n -= item;
    }
    return false;
}

static enum resp_result length_value(struct resp *r, const char *v, size_t n)
{
    int64_t length;
    if (!number(v, n, 10, &length) || (r->has_length && length != r->left))
        return RESP_BAD;
    r->has_length = true;
    r->left = length;
    return RESP_MORE;
}

static enum resp_result header_line(struct resp *r, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    if (!colon || colon == p)
        return RESP_BAD;
    size_t name = (size_t)(colon - p);
    if (name != 10 && name != 14 && name != 17)
        return RESP_MORE;
    const char *v = colon + 1, *end = p + n;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    n = (size_t)(end - v);
    if (name == 14 && !strncasecmp(p, "content-length", 14))
        return length_value(r, v, n);
    if (name == 17 && !strncasecmp(p, "transfer-encoding", 17)) {
        if (!has_word(v, n, "chunked"))
            return RESP_BAD;
        r->chunked = true;
    } else if (name == 10 && !strncasecmp(p, "connection", 10)) {
        if (has_word(v, n, "close"))
            r->keep_alive = false;
        else if (has_word(v, n, "keep-alive"))
            r->keep_alive = true;
    }
    return RESP_MORE;
}

static enum resp_result head_end(struct resp *r)
{
    if (r->status < 200) {
        resp_init(r, r->to_head);
        return RESP_MORE;
    }
    if (r->to_head || r->status == 204 || r->status == 304)
        return RESP_DONE;
    r->head_bytes = 0;
    if (r->chunked)
        r->step = RESP_CHUNK;
    else if (r->has_length && !r->left)
        return RESP_DONE;
    else if (r->has_length)
        r->step = RESP_BODY;
    else {
        r->keep_alive = false;
        r->step = RESP_UNTIL_CLOSE;
    }
    return RESP_MORE;
}

static enum resp_result chunk_line(struct resp *r, const char *p, size_t n)
{
    const char *end = memchr(p, ';', n);
    size_t len = end ? (size_t)(end - p) : n;
    while (len && (p[len - 1] == ' ' || p[len - 1] == '\t'))
        len--;
    if (!number(p, len, 16, &r->left))
        return RESP_BAD;
    r->head_bytes = 0; /* the limit is on each head or chunk line, not on a long body */
    r->step = r->left ? RESP_DATA : RESP_TRAILER;
    return RESP_MORE;
}

static enum resp_result line(struct resp *r, const char *p, size_t n)
{
    if (n && p[n - 1] == '\r')
        n--;
    switch (r->step) {
    case RESP_STATUS: return status_line(r, p, n);
    case RESP_HEADER: return n ? header_line(r, p, n) : head_end(r);
    case RESP_CHUNK: return chunk_line(r, p, n);
    case RESP_DATA_END:
        r->head_bytes = 0;
        r->step = RESP_CHUNK;
        return n ? RESP_BAD : RESP_MORE;
    default: return n ? RESP_MORE : RESP_DONE; /* trailers */
    }
}

static void keep(struct resp *r, const char *p, size_t n)
{
    size_t room = RESP_LINE_KEEP - r->line_n;
    memcpy(r->line + r->line_n, p, n < room ? n : room);
    r->line_n += (uint32_t)(n < room ? n : room);
}

/* One line or a part of one. */
static enum resp_result feed_line(struct resp *r, const char *p, size_t n, size_t *ret_used)
{
    const char *nl = memchr(p, '\n', n);
    size_t take = nl ? (size_t)(nl - p) + 1 : n;
    *ret_used = take;
    if (r->head_bytes + take > RESP_HEAD_MAX)
        return RESP_BAD;
    r->head_bytes += (uint32_t)take;
    if (!nl) {
        keep(r, p, n);
        return RESP_MORE;
    }
    if (!r->line_n)
        return line(r, p, take - 1);
    keep(r, p, take - 1);
    size_t kept = r->line_n;
    r->line_n = 0;
    return line(r, r->line, kept);
}

enum resp_result resp_feed(struct resp *r, const char *p, size_t n, size_t *ret_used)
{
    size_t used = 0;
    enum resp_result rc = RESP_MORE;
    while (rc == RESP_MORE && used < n) {
        size_t step = n - used;
        if (r->step == RESP_UNTIL_CLOSE) {
            used = n;
            break;
        }
        if (r->step == RESP_BODY || r->step == RESP_DATA) {
            if ((int64_t)step > r->left)
                step = (size_t)r->left;
            r->left -= (int64_t)step;
            if (!r->left && r->step == RESP_BODY)
                rc = RESP_DONE;
            else if (!r->left)
                r->step = RESP_DATA_END;
        } else {
            rc = feed_line(r, p + used, step, &step);
        }
        used += step;
    }
    *ret_used = used;
    return rc;
}

enum resp_result resp_eof(const struct resp *r)
{
    return r->step == RESP_UNTIL_CLOSE ? RESP_DONE : RESP_MORE;
}
