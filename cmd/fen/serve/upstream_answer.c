/* upstream_answer.c - what is said to a back end, and what it says: bytes only, no I/O.
 *
 * Strict where leniency would let the next answer begin at the wrong byte: an answer without a
 * Content-Length that is a number, with two of them, or with a transfer coding, is refused. */
#include "serve/upstream_int.h"

#include <fen/err.h>

#include <string.h>
#include <strings.h>

static char *put(char *at, const char *s, size_t n)
{
    memcpy(at, s, n);
    return at + n;
}

size_t upstream__request(const char *addr, const char *path, char *to)
{
    char *at = put(to, "GET ", 4);
    at = put(at, path, strlen(path));
    at = put(at, " HTTP/1.1\r\nHost: ", 17);
    at = put(at, addr, strlen(addr));
    return (size_t)(put(at, "\r\n\r\n", 4) - to);
}

/* The value of a field in the lines between the status line and the blank line. */
static fen_slice field(fen_slice head, const char *name)
{
    size_t len = strlen(name);
    const char *end = head.p + head.n;
    for (const char *at = head.p; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        if ((size_t)(stop - at) > len && at[len] == ':' && !strncasecmp(at, name, len)) {
            at += len + 1;
            while (at < stop && (*at == ' ' || *at == '\t'))
                at++;
            while (stop > at && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t'))
                stop--;
            return (fen_slice){at, (size_t)(stop - at)};
        }
        at = stop + 1;
    }
    return (fen_slice){NULL, 0};
}

/* The body's length, or FEN_EPARSE, or FEN_ELIMIT. */
static int length_of(fen_slice head)
{
    static const char name[] = "content-length";
    fen_slice v = field(head, name);
    if (field(head, "transfer-encoding").p || v.n == 0)
        return FEN_EPARSE;
    const char *behind = v.p + v.n;
    if (field((fen_slice){behind, (size_t)(head.p + head.n - behind)}, name).p)
        return FEN_EPARSE; /* which of the two? */
    int n = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return FEN_EPARSE;
        n = n * 10 + (v.p[i] - '0');
        if (n > UPSTREAM_ANSWER_MAX)
            return FEN_ELIMIT;
    }
    return n;
}

static bool is(fen_slice v, const char *word)
{
    return v.n == strlen(word) && !strncasecmp(v.p, word, v.n);
}

int upstream__parse(const char *p, size_t have, struct upstream_head *ret)
{
    const char *blank = memmem(p, have, "\r\n\r\n", 4);
    if (!blank)
        return have >= UPSTREAM_ANSWER_MAX ? FEN_ELIMIT : 0;
    if (blank - p < 12 || memcmp(p, "HTTP/1.", 7) || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
        return FEN_EPARSE;
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return FEN_EPARSE;
        status = status * 10 + (p[i] - '0');
    }
    if (status < 200) /* an interim answer: nobody asked for one */
        return FEN_EPARSE;
    const char *fields = memchr(p, '\n', have);
    fen_slice head = {fields + 1, fields < blank ? (size_t)(blank + 2 - fields - 1) : 0};
    int n = status == 204 || status == 304 ? 0 : length_of(head);
    if (n < 0)
        return n;
    fen_slice connection = field(head, "connection");
    size_t body_at = (size_t)(blank + 4 - p), whole = body_at + (size_t)n;
    if (whole > UPSTREAM_ANSWER_MAX)
        return FEN_ELIMIT;
    *ret = (struct upstream_head){
        .status = status,
        .body_at = (int)body_at,
        .body_n = n,
        .keep = p[7] == '1' ? !is(connection, "close") : is(connection, "keep-alive"),
    };
    return have < whole ? 0 : (int)whole;
}
