/* http.c - HTTP/1.1 requests out of bytes, replies into bytes.
 *
 * Strict where leniency lets two parsers disagree about where a request ends (RFC 9112 sections 2,
 * 5, 6): only CRLF ends a line, no folding, no space before a colon, no conflicting lengths, no
 * transfer codings. A request with a body is read whole and its body ignored. Limits: the whole
 * request fits REQUEST_MAX_BYTES.
 */
#include "baseline.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

enum { ID_DIGITS_MAX = 18 }; /* every such number fits int64_t */

struct head {
    int64_t content_length; /* -1: none seen */
    int hosts;
    bool keep_alive;
    bool close;
    bool coded;
};

static bool is_token(unsigned char c)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c && strchr(marks, c);
}

static bool is_name(const char *at, size_t len, const char *name)
{
    return strlen(name) == len && !strncasecmp(at, name, len);
}

/* Does the comma-separated list hold `word`? */
static bool has_word(const char *at, const char *end, const char *word)
{
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
        const char *last = stop;
        while (last > at && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        if (is_name(at, (size_t)(last - at), word))
            return true;
        at = stop + 1;
    }
    return false;
}

static bool read_length(const char *at, const char *end, struct head *h)
{
    int64_t v = 0;
    if (at == end || end - at > ID_DIGITS_MAX)
        return false;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        v = v * 10 + (*at - '0');
    }
    if (h->content_length >= 0 && h->content_length != v)
        return false;
    h->content_length = v;
    return true;
}

/* One header line, without its CRLF. */
static bool read_field(const char *at, const char *end, struct head *h)
{
    const char *name = at;
    while (at < end && is_token((unsigned char)*at))
        at++;
    size_t len = (size_t)(at - name);
    if (len == 0 || at == end || *at != ':')
        return false;
    at++;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t rest = (size_t)(end - at);
    if (memchr(at, '\0', rest) || memchr(at, '\r', rest) || memchr(at, '\n', rest))
        return false;
    if (is_name(name, len, "host")) {
        h->hosts++;
    } else if (is_name(name, len, "content-length")) {
        return read_length(at, end, h);
    } else if (is_name(name, len, "transfer-encoding")) {
        h->coded = true;
    } else if (is_name(name, len, "connection")) {
        h->close |= has_word(at, end, "close");
        h->keep_alive |= has_word(at, end, "keep-alive");
    }
    return true;
}

/* "GET /x HTTP/1.1" without its CRLF. Returns the minor version, or -1. */
static int read_request_line(const char *at, const char *end, struct request *rq)
{
    const char *method = at;
    while (at < end && is_token((unsigned char)*at))
        at++;
    size_t len = (size_t)(at - method);
    if (len == 0 || at == end || *at != ' ')
        return -1;
    rq->is_head = len == 4 && !memcmp(method, "HEAD", 4);
    rq->is_get = rq->is_head || (len == 3 && !memcmp(method, "GET", 3));
    const char *target = ++at;
    const char *query = NULL;
    while (at<end && * at> ' ' && *at != 0x7f) {
        if (*at == '?' && !query)
            query = at;
        at++;
    }
    if (at == target || (*target != '/' && *target != '*'))
        return -1;
    rq->path = target;
    rq->path_len = (size_t)((query ? query : at) - target);
    if (end - at != 9 || memcmp(at, " HTTP/1.", 8) || (at[8] != '0' && at[8] != '1'))
        return -1;
    return at[8] - '0';
}

int http_parse(const char *buf, size_t len, struct request *ret_request)
{
    size_t skip = 0;
    while (skip + 1 < len && skip < 4 && buf[skip] == '\r' && buf[skip + 1] == '\n')
        skip += 2;
    const char *at = buf + skip;
    const char *blank = memmem(at, len - skip, "\r\n\r\n", 4);
    if (!blank)
        return len >= REQUEST_MAX_BYTES ? -431 : 0;

    struct head h = {.content_length = -1};
    const char *end = blank + 2; /* every line before it ends in CRLF */
    const char *eol = memmem(at, (size_t)(end - at), "\r\n", 2);
    int minor = read_request_line(at, eol, ret_request);
    if (minor < 0)
        return -400;
    for (at = eol + 2; at < end; at = eol + 2) {
        eol = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (!read_field(at, eol, &h))
            return -400;
    }
    if (h.coded)
        return -501;
    if (h.hosts > 1 || (minor == 1 && h.hosts == 0))
        return -400;
    ret_request->close = h.close || (minor == 0 && !h.keep_alive);

    size_t head_len = (size_t)(blank + 4 - buf);
    if (h.content_length > (int64_t)(REQUEST_MAX_BYTES - head_len))
        return -413;
    size_t whole = head_len + (h.content_length > 0 ? (size_t)h.content_length : 0);
    return whole <= len ? (int)whole : 0;
}

int http_path_id(const struct request *rq, const char *prefix, size_t prefix_len, int64_t *ret_id)
{
    if (rq->path_len <= prefix_len || memcmp(rq->path, prefix, prefix_len))
        return -ENOENT;
    const char *at = rq->path + prefix_len;
    size_t digits = rq->path_len - prefix_len;
    if (memchr(at, '/', digits))
        return -ENOENT;
    int64_t v = 0;
    for (size_t i = 0; i < digits; i++) {
        if (digits > ID_DIGITS_MAX || at[i] < '0' || at[i] > '9')
            return -EINVAL;
        v = v * 10 + (at[i] - '0');
    }
    *ret_id = v;
    return 0;
}

char *put_u64(char *at, uint64_t v)
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *at++ = digits[--n];
    return at;
}

char *put_i64(char *at, int64_t v)
{
    if (v >= 0)
        return put_u64(at, (uint64_t)v);
    *at++ = '-';
    return put_u64(at, -(uint64_t)v);
}

static char *put_str(char *at, const char *s)
{
    size_t n = strlen(s);
    memcpy(at, s, n);
    return at + n;
}

static const char *reason(int status)
{
    switch (status) {
    case 200: return "200 OK";
    case 400: return "400 Bad Request";
    case 404: return "404 Not Found";
    case 413: return "413 Content Too Large";
    case 431: return "431 Request Header Fields Too Large";
    case 501: return "501 Not Implemented";
    case 502: return "502 Bad Gateway";
    case 504: return "504 Gateway Timeout";
    default: return "500 Internal Server Error";
    }
}

/* The Date line, made anew once a second in each thread: cheaper than sharing it under a lock. */
static const char *date_line(void)
{
    static _Thread_local time_t made_s = -1;
    static _Thread_local char line[48];
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec == made_s)
        return line;
    made_s = now.tv_sec;
    struct tm tm;
    gmtime_r(&made_s, &tm);
    strftime(line, sizeof line, "Date: Day, %d Mon %Y %H:%M:%S GMT\r\n", &tm);
    memcpy(line + 6, days + 3 * tm.tm_wday, 3); /* by hand: %a and %b depend on the locale */
    memcpy(line + 14, months + 3 * tm.tm_mon, 3);
    return line;
}

bool http_reply(struct reply *out, int status, const char *type, const char *body, size_t body_len,
                const struct request *rq)
{
    enum { HEAD_ROOM = 256 }; /* the longest head is under 200 bytes */
    if (sizeof out->data - out->len < body_len + HEAD_ROOM)
        return false;
    char *at = out->data + out->len;
    at = put_str(at, "HTTP/1.1 ");
    at = put_str(at, reason(status));
    at = put_str(at, "\r\nContent-Type: ");
    at = put_str(at, type);
    at = put_str(at, "\r\nContent-Length: ");
    at = put_u64(at, body_len);
    at = put_str(at, "\r\n");
    at = put_str(at, date_line());
    at = put_str(at, rq->close ? "Connection: close\r\n\r\n" : "\r\n");
    if (!rq->is_head) {
        memcpy(at, body, body_len);
        at += body_len;
    }
    out->len = (size_t)(at - out->data);
    return true;
}

bool http_flush(int fd, struct reply *out)
{
    size_t done = 0;
    while (done < out->len) {
        ssize_t n = send(fd, out->data + done, out->len - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        done += (size_t)n;
    }
    bool ok = done == out->len;
    out->len = 0;
    return ok;
}

void http_last_word(int fd)
{
    char scrap[1024];
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 64; i++)
        if (recv(fd, scrap, sizeof scrap, MSG_DONTWAIT) <= 0)
            break;
}
