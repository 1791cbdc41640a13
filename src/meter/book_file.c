/* book_file.c - the price book and its file.
 *
 * Amounts are read as decimals digit by digit into femto-yuan; no floating point is involved, so
 * 0.12 is 120,000,000,000,000 and not a neighbour of it. */
#include "meter/meter.h"

#include "mem/mem.h"
#include "sys/proc.h"

#include <stdio.h>
#include <string.h>

#define FILE_BYTES_MAX 65536
#define FYUAN_DIGITS 15
#define YUAN_MAX 9000 /* 9.0e18 femto-yuan is the last full thousand in 63 bits */
#define ACCEPTED_AMOUNT "accepted: 0 to 9000 yuan, digits with one '.', at most 15 digits behind it"

enum key { CURRENCY, CPU, MEM, REQUEST, REQUEST_PRICE, KEYS };
static const char *const key_names[KEYS] = {"currency", "cpu_core_hour", "mem_gb_hour",
                                            "request_1000", "request_price"};

void fen_price_book_default(fen_price_book *ret_book)
{
    *ret_book = (fen_price_book){
        .currency = "CNY",
        .cpu_core_hour_fyuan = INT64_C(120000000000000),
        .mem_gb_hour_fyuan = INT64_C(15000000000000),
        .request_1000_fyuan = INT64_C(850000000000000),
        .request_on = false,
    };
}

struct parse {
    const char *path;
    int line;
    fen_price_book book;
    int seen[KEYS]; /* the line of each key, 0: not yet */
    char *text;
    size_t text_bytes;
};

/* What the file said, made fit for one line of output. */
static const char *shown(fen_slice s, char room[static 40])
{
    size_t n = s.n < 32 ? s.n : 32;
    for (size_t i = 0; i < n; i++)
        room[i] = s.p[i] < ' ' || s.p[i] > '~' ? '?' : s.p[i];
    memcpy(room + n, "...", 4);
    if (s.n <= n)
        room[n] = 0;
    return room;
}

static int complain(struct parse *p, const char *what, fen_slice found, const char *accepted)
{
    char room[40];
    snprintf(p->text, p->text_bytes, "%s:%d: %s \"%s\"; %s", p->path, p->line, what,
             shown(found, room), accepted);
    return -EINVAL;
}

static fen_slice trimmed(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        end--;
    return (fen_slice){p, (size_t)(end - p)};
}

static bool equals(fen_slice s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* NULL, or what is wrong. */
static const char *amount(fen_slice s, int64_t *ret_fyuan)
{
    int64_t v = 0;
    int digits = 0, behind = -1; /* behind: digits behind the point, -1 before it */
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' && behind < 0) {
            behind = 0;
        } else if (s.p[i] < '0' || s.p[i] > '9') {
            return i == 0 && s.p[i] == '-' ? "negative amount" : "not a decimal number:";
        } else if (behind == FYUAN_DIGITS) {
            return "too many digits behind the point:";
        } else {
            v = 10 * v + (s.p[i] - '0');
            digits++;
            behind += behind >= 0;
            /* bounds v before the next digit can pass 63 bits */
            if (behind < 0 && v > YUAN_MAX)
                return "amount too large:";
        }
    }
    if (digits == 0 || behind == 0)
        return "not a decimal number:";
    for (int i = behind < 0 ? 0 : behind; i < FYUAN_DIGITS; i++)
        v *= 10;
    if (v > YUAN_MAX * INT64_C(1000000000000000))
        return "amount too large:";
    *ret_fyuan = v;
    return NULL;
}

static int set_amount(struct parse *p, fen_slice value, int64_t *ret_fyuan)
{
    const char *wrong = amount(value, ret_fyuan);
    return wrong ? complain(p, wrong, value, ACCEPTED_AMOUNT) : 0;
}

static int set_currency(struct parse *p, fen_slice value)
{
    bool ok = value.n >= 1 && value.n < sizeof p->book.currency;
    for (size_t i = 0; ok && i < value.n; i++)
        ok = value.p[i] >= 'A' && value.p[i] <= 'Z';
    if (!ok)
        return complain(p, "not a currency:", value, "accepted: 1 to 7 letters A-Z");
    memset(p->book.currency, 0, sizeof p->book.currency);
    memcpy(p->book.currency, value.p, value.n);
    return 0;
}

static int set_switch(struct parse *p, fen_slice value)
{
    if (!equals(value, "on") && !equals(value, "off"))
        return complain(p, "not a switch:", value, "accepted: on, off");
    p->book.request_on = equals(value, "on");
    return 0;
}

static int set(struct parse *p, enum key key, fen_slice value)
{
    switch (key) {
    case CURRENCY: return set_currency(p, value);
    case CPU: return set_amount(p, value, &p->book.cpu_core_hour_fyuan);
    case MEM: return set_amount(p, value, &p->book.mem_gb_hour_fyuan);
    case REQUEST: return set_amount(p, value, &p->book.request_1000_fyuan);
    default: return set_switch(p, value);
    }
}

static int parse_line(struct parse *p, const char *at, const char *end)
{
    const char *hash = memchr(at, '#', (size_t)(end - at));
    fen_slice whole = trimmed(at, hash ? hash : end);
    if (whole.n == 0)
        return 0;
    const char *stop = whole.p + whole.n, *eq = memchr(whole.p, '=', whole.n);
    if (!eq)
        return complain(p, "no '=' in", whole, "accepted: key = value, or # comment");
    fen_slice name = trimmed(whole.p, eq);
    int key = 0;
    while (key < KEYS && !equals(name, key_names[key]))
        key++;
    if (key == KEYS)
        return complain(p, "unknown key", name,
                        "accepted: currency, cpu_core_hour, mem_gb_hour, request_1000, "
                        "request_price");
    if (p->seen[key]) {
        char accepted[64];
        snprintf(accepted, sizeof accepted, "accepted: once; first on line %d", p->seen[key]);
        return complain(p, "duplicate key", name, accepted);
    }
    p->seen[key] = p->line;
    return set(p, (enum key)key, trimmed(eq + 1, stop));
}

static int parse_file(struct parse *p, const char *at, const char *end)
{
    while (at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        const char *stop = nl ? nl : end;
        p->line++;
        int rc = parse_line(p, at, stop);
        if (rc < 0)
            return rc;
        at = nl ? nl + 1 : end;
    }
    return 0;
}

int fen_price_book_load(const char *path, fen_price_book *ret_book, char *ret_text,
                        size_t text_bytes)
{
    struct parse p = {.path = path, .text = ret_text, .text_bytes = text_bytes};
    fen_price_book_default(&p.book);
    char *room = fen__mem_alloc(FILE_BYTES_MAX + 1);
    ssize_t n = room ? fen__sys_file_read(path, room, FILE_BYTES_MAX + 1) : -ENOMEM;
    if (n > FILE_BYTES_MAX)
        n = -EFBIG;
    int rc = n < 0 ? (int)n : parse_file(&p, room, room + n);
    if (n < 0)
        snprintf(ret_text, text_bytes,
                 "%s: cannot be read: %s; accepted: a text file of at most "
                 "64 KiB",
                 path, fen_strerror(rc));
    if (rc == 0)
        *ret_book = p.book;
    fen__mem_free(room, room ? FILE_BYTES_MAX + 1 : 0);
    return rc;
}
