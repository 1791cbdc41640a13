/* parse.c - the request head, strictly.
 *
 * Two readers of the same grammar. The quick one (whole) takes the lines of a buffer one after the
 * other and keeps slices; nearly every head arrives in one piece and never meets the other. The
 * patient one (feed) is a byte automaton that keeps no slices: when the quick one runs out of
 * bytes, it takes over, so that a peer that sends a byte at a time costs each byte once and not
 * once per packet; when it has seen the empty line, the quick one reads the whole head.
 *
 *   START -CR-> START_LF -LF-> METHOD -SP-> TARGET -SP-> VERSION -LF-> NAME -:-> VALUE -CR->
 *   VALUE_LF -LF-> NAME ... NAME (at the start of a line) -CR-> END_LF -LF-> done
 *
 * Both find an error at the same byte: what a line alone can tell is judged at its end or before,
 * what needs the whole head (Host, framing) after the empty line only, from the facts collected.
 * So the verdict is independent of how the bytes were cut; the tests try every cut.
 *
 * Stricter than RFC 9112 where a choice is left: bare LF, obs-fold and white space before the
 * request line are refused, Content-Length must occur once, Transfer-Encoding is "chunked" and
 * nothing else, an empty Host is malformed (RFC 9110, 4.2.1). Not checked: percent-encoding in the
 * target, which is looked at when somebody decodes it. */
#include "http/parse.h"

#include <string.h>

#define YES_ALNUM ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1

const uint8_t fen__http_token[256] = {
    YES_ALNUM, ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1,
    ['+'] = 1, ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1,  ['~'] = 1,
};

/* Visible ASCII but '#': a fragment is never sent. */
static const uint8_t target_byte[256] = {[0x21 ... 0x22] = 1, [0x24 ... 0x7e] = 1};

/* The characters of a registered name, without '%' and ','. */
static const uint8_t host_byte[256] = {
    YES_ALNUM,  ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1, ['!'] = 1, ['$'] = 1, ['&'] = 1,
    ['\''] = 1, ['('] = 1, [')'] = 1, ['*'] = 1, ['+'] = 1, [';'] = 1, ['='] = 1,
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static char fold(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

bool fen__http_same(fen_slice s, const char *lower, size_t n)
{
    if (s.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (fold(s.p[i]) != lower[i])
            return false;
    }
    return true;
}

#define SAME(s, lit) fen__http_same(s, lit, sizeof(lit) - 1)

static fen_slice trim(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (fen_slice){p, (size_t)(end - p)};
}

/* Takes the next element of a comma-separated list off *rest; false at the end. */
static bool next_item(fen_slice *rest, fen_slice *ret_item)
{
    if (!rest->p)
        return false;
    const char *end = rest->p + rest->n;
    const char *comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
    *ret_item = trim(rest->p, comma ? comma : end);
    rest->p = comma ? comma + 1 : NULL;
    rest->n = comma ? (size_t)(end - comma - 1) : 0;
    return true;
}

/* ---- the parts of a line ---- */

/* ":" and at most five digits that make a port. The digits may be missing (RFC 3986). */
static bool valid_port(const char *p, const char *end)
{
    int port = 0;
    if (p == end)
        return true;
    if (*p++ != ':' || end - p > 5)
        return false;
    for (; p < end; p++) {
        if (!is_digit(*p))
            return false;
        port = port * 10 + (*p - '0');
    }
    return port <= 65535;
}

/* An IPv6 literal or a registered name, then a port. */
static bool valid_host(fen_slice s)
{
    const char *p = s.p, *end = s.p + s.n;
    if (p < end && *p == '[') {
        int colons = 0;
        for (p++; p < end && (is_hex(*p) || *p == ':' || *p == '.'); p++)
            colons += *p == ':';
        return p < end && *p == ']' && colons >= 2 && valid_port(p + 1, end);
    }
    for (; p < end; p++) {
        if (host_byte[(uint8_t)*p])
            continue;
        if (*p != '%' || end - p < 3 || !is_hex(p[1]) || !is_hex(p[2]))
            break;
        p += 2;
    }
    return p > s.p && valid_port(p, end);
}

static void split_query(struct fen__http_request *r, const char *p, const char *end)
{
    const char *mark = memchr(p, '?', (size_t)(end - p));
    r->query = mark ? (fen_slice){mark + 1, (size_t)(end - mark - 1)} : (fen_slice){NULL, 0};
    r->path = (fen_slice){p, (size_t)((mark ? mark : end) - p)};
}

static int absolute_form(struct fen__http_request *r)
{
    const char *p = r->target.p, *end = p + r->target.n;
    if (r->target.n > 7 && SAME(((fen_slice){p, 7}), "http://"))
        p += 7;
    else if (r->target.n > 8 && SAME(((fen_slice){p, 8}), "https://"))
        p += 8;
    else
        return -400;
    const char *path = p;
    while (path < end && *path != '/' && *path != '?')
        path++;
    r->host = (fen_slice){p, (size_t)(path - p)};
    if (!valid_host(r->host))
        return -400;
    if (path < end)
        split_query(r, path, end);
    if (!r->path.n)
        r->path = FEN_SLICE("/");
    return 0;
}

static int target_form(struct fen__http_request *r)
{
    const char *p = r->target.p;
    r->query = r->host = r->path = (fen_slice){NULL, 0};
    if (FEN__UNLIKELY(r->method.n == 7)) {
        if (!memcmp(r->method.p, "CONNECT", 7))
            return -501;
        if (!memcmp(r->method.p, "OPTIONS", 7) && r->target.n == 1 && *p == '*') {
            r->path = r->target;
            return 0;
        }
    }
    if (FEN__UNLIKELY(*p != '/'))
        return absolute_form(r);
    split_query(r, p, p + r->target.n);
    return 0;
}

/* "HTTP/1.1" CRLF: its length, 0 when cut, -400, -505. */
static int version(const char *p, const char *end, int *ret_minor)
{
    static const char shape[] = "HTTP/1.1\r\n";
    size_t n = (size_t)(end - p);
    *ret_minor = 1;
    if (FEN__LIKELY(n >= 10 && !memcmp(p, shape, 10)))
        return 10;
    for (size_t i = 0; i < 10; i++) {
        if (i == n)
            return 0;
        if (i == 5 || i == 7 ? !is_digit(p[i]) : p[i] != shape[i])
            return -400;
    }
    *ret_minor = p[7] != '0';
    return p[5] == '1' ? 10 : -505;
}

/* The request line: its length, 0 when cut, or an error. Sets method last of all that it sets. */
static int request_line(const char *p, const char *end, struct fen__http_request *r)
{
    const char *c = p;
    while (c < end && fen__http_token[(uint8_t)*c])
        c++;
    if (c == end)
        return 0;
    if (*c != ' ' || c == p)
        return -400;
    const char *target = ++c;
    while (c < end && target_byte[(uint8_t)*c])
        c++;
    if (c == end)
        return 0;
    if (*c != ' ' || c == target)
        return -400;
    int n = version(c + 1, end, &r->minor);
    if (n <= 0)
        return n;
    r->method = (fen_slice){p, (size_t)(target - 1 - p)};
    r->target = (fen_slice){target, (size_t)(c - target)};
    int rc = target_form(r);
    return rc < 0 ? rc : (int)(c + 1 - p) + n;
}

/* The first byte of [c, end) below 0x20 or equal to 0x7f, or end: eight at a time. */
static const char *skip_text(const char *c, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
    while (end - c >= 8) {
        uint64_t w, del;
        memcpy(&w, c, 8);
        del = w ^ (ones * 0x7f);
        uint64_t hit = ((w - ones * 0x20) & ~w & tops) | ((del - ones) & ~del & tops);
        if (hit)
            return c + (__builtin_ctzll(hit) >> 3);
        c += 8;
    }
    while (c < end && (uint8_t)*c >= 0x20 && *c != 0x7f)
        c++;
    return c;
}

/* One field line: its length, 0 when cut, -400. */
static int field_line(const char *p, const char *end, struct fen__http_field *f)
{
    const char *c = p;
    while (c < end && fen__http_token[(uint8_t)*c])
        c++;
    if (c == end)
        return 0;
    if (*c != ':' || c == p)
        return -400;
    f->name = (fen_slice){p, (size_t)(c - p)};
    const char *value = ++c;
    for (;;) {
        c = skip_text(c, end);
        if (c == end)
            return 0;
        if (FEN__LIKELY(*c != '\t'))
            break;
        c++;
    }
    if (*c != '\r')
        return -400;
    if (c + 1 == end)
        return 0;
    if (c[1] != '\n')
        return -400;
    f->value = trim(value, c);
    return (int)(c + 2 - p);
}

/* ---- what the fields say ---- */

struct facts {
    int hosts, lengths, codings; /* lines */
    fen_slice host, length;
    bool close, keep_alive, expect, unknown_expect;
    bool chunked, unknown_coding, bad_coding;
};

static void note_connection(struct facts *f, fen_slice value)
{
    fen_slice item;
    while (next_item(&value, &item)) {
        if (SAME(item, "close"))
            f->close = true;
        else if (SAME(item, "keep-alive"))
            f->keep_alive = true;
    }
}

/* Several lines are one list: nothing may follow chunked, and chunked may not come twice. */
static void note_coding(struct facts *f, fen_slice value)
{
    fen_slice item;
    f->codings++;
    while (next_item(&value, &item)) {
        bool token = item.n > 0;
        for (size_t i = 0; i < item.n; i++)
            token = token && fen__http_token[(uint8_t)item.p[i]];
        if (!token || f->chunked)
            f->bad_coding = true;
        else if (SAME(item, "chunked"))
            f->chunked = true;
        else
            f->unknown_coding = true;
    }
}

static void note_field(struct facts *f, struct fen__http_request *r,
                       const struct fen__http_field *field)
{
    fen_slice name = field->name, value = field->value;
    switch (name.n) {
    case 4:
        if (SAME(name, "host")) {
            f->hosts++;
            f->host = value;
        }
        break;
    case 6:
        if (SAME(name, "expect")) {
            f->expect = true;
            f->unknown_expect |= !SAME(value, "100-continue");
        }
        break;
    case 8:
        if (!r->tenant.p && SAME(name, "x-tenant"))
            r->tenant = value;
        break;
    case 10:
        if (SAME(name, "connection"))
            note_connection(f, value);
        break;
    case 14:
        if (SAME(name, "content-length")) {
            f->lengths++;
            f->length = value;
        }
        break;
    case 17:
        if (SAME(name, "transfer-encoding"))
            note_coding(f, value);
        break;
    default: break;
    }
}

/* Digits only; no sign, no list, no overflow. */
static int content_length(fen_slice s, int64_t *ret_length)
{
    int64_t v = 0;
    if (!s.n)
        return -400;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, s.p[i] - '0', &v))
            return -400;
    }
    *ret_length = v;
    return 0;
}

static int framing(const struct facts *f, struct fen__http_request *r)
{
    r->content_length = -1;
    r->chunked = false;
    if (f->codings) {
        bool last = f->chunked || f->unknown_coding;
        if (f->lengths || !r->minor || f->bad_coding || !last)
            return -400;
        if (f->unknown_coding)
            return -501;
        r->chunked = true;
        return 0;
    }
    if (!f->lengths)
        return 0;
    return f->lengths == 1 ? content_length(f->length, &r->content_length) : -400;
}

static int judge(const struct facts *f, struct fen__http_request *r)
{
    if (f->hosts > 1 || (f->hosts && !valid_host(f->host)) || (!f->hosts && r->minor))
        return -400;
    if (!r->host.p)
        r->host = f->host;
    int rc = framing(f, r);
    if (rc < 0)
        return rc;
    bool body = r->chunked || r->content_length > 0;
    r->keep_alive = !f->close && (r->minor || f->keep_alive);
    if (r->minor && f->unknown_expect)
        return -417;
    r->expect_continue = r->minor && f->expect && body;
    return 0;
}

/* ---- the quick reader ---- */

/* The head at p: its length, 0 when cut (method.p then tells whether the first line was whole). */
static int whole(const char *p, size_t n, int max_fields, struct fen__http_request *r)
{
    const char *c = p, *end = p + n;
    struct facts facts = {0};
    int len, rc;

    r->fields_n = 0;
    r->method = r->tenant = (fen_slice){NULL, 0};
    if (n && FEN__UNLIKELY(*c == '\r')) {
        if (n == 1)
            return 0;
        if (c[1] != '\n')
            return -400;
        c += 2;
    }
    if ((len = request_line(c, end, r)) <= 0)
        return len;
    for (c += len; c < end && *c != '\r'; c += len) {
        struct fen__http_field field;
        if ((len = field_line(c, end, &field)) <= 0)
            return len;
        if (r->fields_n == max_fields)
            return -431;
        r->fields[r->fields_n++] = field;
        note_field(&facts, r, &field);
    }
    if (end - c < 2)
        return 0;
    if (c[1] != '\n')
        return -400;
    rc = judge(&facts, r);
    return rc < 0 ? rc : (int)(c + 2 - p);
}

/* ---- the patient reader ---- */

enum { START, START_LF, METHOD, TARGET, VERSION, NAME, VALUE, VALUE_LF, END_LF };

/* One byte in the middle of the request line: the next state or -400. */
static int first_line_byte(struct fen__http_scan *s, uint8_t c)
{
    static const char shape[] = "HTTP/1.1\r\n";
    switch (s->state) {
    case METHOD:
        if (fen__http_token[c])
            s->at = 1;
        else if (c == ' ' && s->at)
            return s->at = 0, TARGET;
        else
            return -400;
        return METHOD;
    case TARGET:
        if (target_byte[c])
            s->at = 1;
        else if (c == ' ' && s->at)
            return s->at = 0, VERSION;
        else
            return -400;
        return TARGET;
    default: /* VERSION */
        if (s->at == 5 || s->at == 7 ? !is_digit((char)c) : (char)c != shape[s->at])
            return -400;
        return ++s->at < 10 ? VERSION : (s->at = 0, NAME);
    }
}

/* One byte of the fields. */
static int field_byte(struct fen__http_scan *s, uint8_t c)
{
    switch (s->state) {
    case NAME:
        if (fen__http_token[c])
            return s->at = 1, NAME;
        if (c == ':' && s->at)
            return VALUE;
        return c == '\r' && !s->at ? END_LF : -400;
    case VALUE:
        if (c == '\r')
            return VALUE_LF;
        return (c >= 0x20 && c != 0x7f) || c == '\t' ? VALUE : -400;
    default: /* VALUE_LF */ return c == '\n' ? (s->at = 0, NAME) : -400;
    }
}

/* Takes the bytes not yet seen: 1 when the empty line is among them, 0, or an error. */
static int feed(struct fen__http_scan *s, const char *p, size_t n, int max_fields)
{
    for (size_t i = s->scanned; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        int next;
        if (s->state == START && c != '\r')
            s->state = METHOD;
        if (s->state == START) {
            next = START_LF;
        } else if (s->state == START_LF) {
            next = c == '\n' ? METHOD : -400;
        } else if (s->state == END_LF) {
            return c == '\n' ? 1 : -400;
        } else if (s->state <= VERSION) {
            next = first_line_byte(s, c);
            if (next == NAME) { /* a whole line: its meaning */
                struct fen__http_request r;
                size_t skip = p[0] == '\r' ? 2 : 0;
                int rc = request_line(p + skip, p + i + 1, &r);
                if (rc < 0)
                    return rc;
            }
        } else {
            next = field_byte(s, c);
            if (s->state == VALUE_LF && next == NAME && s->fields++ == max_fields)
                return -431;
        }
        if (next < 0)
            return next;
        s->state = (uint8_t)next;
    }
    s->scanned = (uint32_t)n;
    return 0;
}

int fen__http_parse_head(const char *p, size_t n, const struct fen__http_limits *lim,
                         struct fen__http_scan *scan, struct fen__http_request *ret_req)
{
    size_t max = lim->max_head_bytes;
    int fields = lim->max_fields < ret_req->fields_cap ? lim->max_fields : ret_req->fields_cap;
    if (n > max)
        n = max;
    if (FEN__UNLIKELY(scan && scan->scanned)) {
        int rc = feed(scan, p, n, fields);
        if (rc < 0)
            return rc;
        if (!rc && n < max)
            return 0;
    }
    int len = whole(p, n, fields, ret_req);
    if (FEN__LIKELY(len != 0))
        return len;
    if (n == max)
        return ret_req->method.p ? -431 : -414;
    return scan && !scan->scanned ? feed(scan, p, n, fields) : 0;
}

fen_slice fen__http_field(const struct fen__http_request *req, const char *name, size_t name_n)
{
    for (int i = 0; i < req->fields_n; i++) {
        fen_slice have = req->fields[i].name;
        if (have.n != name_n)
            continue;
        size_t k = 0;
        while (k < name_n && fold(have.p[k]) == fold(name[k]))
            k++;
        if (k == name_n)
            return req->fields[i].value;
    }
    return (fen_slice){NULL, 0};
}
