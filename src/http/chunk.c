/* chunk.c - a byte automaton for everything but the data, which is moved in runs.
 *
 *   SIZE -> [extensions] -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE
 *   last chunk: SIZE_LF -> TRAILER -> [NAME -> VALUE -> VALUE_LF -> TRAILER] -> END_LF -> DONE
 *
 * Extensions (";" name [ "=" token or quoted string ]) are read with their whole grammar and then
 * forgotten: a reader that skips "to the end of the line" disagrees with its neighbours about
 * where the line ends, and that is a smuggled request.
 *
 * Cost: overhead_bytes <= SLACK + 2 * body_bytes at the end of every line, so that neither one-byte
 * chunks nor long extensions buy CPU time for nothing.
 * In DATA: body_bytes + left <= max_body_bytes. */
#include "http/chunk.h"
#include "http/parse.h"

#include <string.h>

enum {
    SIZE,
    EXT_GAP,      /* white space where ';' must follow */
    EXT_NAME_GAP, /* behind ';' */
    EXT_NAME,
    EXT_EQUAL_GAP, /* behind a name: '=' or ';' must follow */
    EXT_VALUE_GAP, /* behind '=' */
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_ESCAPE, /* behind a backslash in a quoted string */
    EXT_QUOTED_END,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    DONE
};

void fen__http_chunk_init(struct fen__http_chunk *c, uint64_t max_body_bytes)
{
    *c = (struct fen__http_chunk){.max_body_bytes = max_body_bytes};
}

static bool is_gap(uint8_t b) { return b == ' ' || b == '\t'; }

static int hex_value(uint8_t b)
{
    if (b >= '0' && b <= '9')
        return b - '0';
    b |= 0x20;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

/* Behind a size or a value: ';', CR or white space before ';'. */
static int ext_next(uint8_t b)
{
    if (b == ';')
        return EXT_NAME_GAP;
    if (b == '\r')
        return SIZE_LF;
    return is_gap(b) ? EXT_GAP : -400;
}

static int size_byte(struct fen__http_chunk *c, uint8_t b)
{
    int v = hex_value(b);
    if (v < 0)
        return c->digits ? ext_next(b) : -400;
    if (++c->digits > 16 || c->left >> 60)
        return -400;
    c->left = c->left << 4 | (uint64_t)v;
    return SIZE;
}

static int quoted_byte(uint8_t b)
{
    if (b == '"')
        return EXT_QUOTED_END;
    if (b == '\\')
        return EXT_ESCAPE;
    return (b >= 0x20 && b != 0x7f) || b == '\t' ? EXT_QUOTED : -400;
}

static int ext_byte(uint8_t state, uint8_t b)
{
    bool token = fen__http_token[b];
    switch (state) {
    case EXT_GAP: return b == ';' ? EXT_NAME_GAP : is_gap(b) ? EXT_GAP : -400;
    case EXT_NAME_GAP: return token ? EXT_NAME : is_gap(b) ? EXT_NAME_GAP : -400;
    case EXT_NAME:
        if (token)
            return EXT_NAME;
        if (b == '=')
            return EXT_VALUE_GAP;
        return is_gap(b) ? EXT_EQUAL_GAP : ext_next(b);
    case EXT_EQUAL_GAP:
        if (b == '=')
            return EXT_VALUE_GAP;
        return b == ';' ? EXT_NAME_GAP : is_gap(b) ? EXT_EQUAL_GAP : -400;
    case EXT_VALUE_GAP:
        if (b == '"')
            return EXT_QUOTED;
        return token ? EXT_TOKEN : is_gap(b) ? EXT_VALUE_GAP : -400;
    case EXT_TOKEN: return token ? EXT_TOKEN : ext_next(b);
    case EXT_QUOTED: return quoted_byte(b);
    case EXT_ESCAPE: return (b >= 0x20 && b != 0x7f) || b == '\t' ? EXT_QUOTED : -400;
    default: /* EXT_QUOTED_END */ return ext_next(b);
    }
}

/* The end of a size line: room for the data, or the last chunk. */
static int size_done(struct fen__http_chunk *c, uint8_t b)
{
    if (b != '\n' || c->overhead_bytes > FEN__HTTP_CHUNK_SLACK + 2 * c->body_bytes)
        return -400;
    c->line_bytes = 0;
    c->digits = 0;
    if (c->left > c->max_body_bytes - c->body_bytes)
        return -413;
    return c->left ? DATA : TRAILER;
}

static int trailer_byte(struct fen__http_chunk *c, uint8_t b)
{
    switch (c->state) {
    case TRAILER:
        if (b == '\r')
            return END_LF;
        if (++c->trailers > FEN__HTTP_CHUNK_TRAILERS)
            return -431;
        return fen__http_token[b] ? TRAILER_NAME : -400;
    case TRAILER_NAME: return b == ':' ? TRAILER_VALUE : fen__http_token[b] ? TRAILER_NAME : -400;
    case TRAILER_VALUE:
        if (b == '\r')
            return TRAILER_LF;
        return (b >= 0x20 && b != 0x7f) || b == '\t' ? TRAILER_VALUE : -400;
    case TRAILER_LF: return b == '\n' ? TRAILER : -400;
    default: /* END_LF */ return b == '\n' ? DONE : -400;
    }
}

/* One byte that is not data: the next state or an error. */
static int step(struct fen__http_chunk *c, uint8_t b)
{
    c->overhead_bytes++;
    if (c->state >= TRAILER)
        return ++c->line_bytes > FEN__HTTP_CHUNK_TRAILER ? -431 : trailer_byte(c, b);
    if (c->state == DATA_CR)
        return b == '\r' ? DATA_LF : -400;
    if (c->state == DATA_LF)
        return b == '\n' ? SIZE : -400;
    if (++c->line_bytes > FEN__HTTP_CHUNK_LINE)
        return -400;
    if (c->state == SIZE)
        return size_byte(c, b);
    return c->state == SIZE_LF ? size_done(c, b) : ext_byte(c->state, b);
}

int fen__http_chunk_feed(struct fen__http_chunk *c, const char *in, size_t n, char *out,
                         size_t *ret_used, size_t *ret_data)
{
    size_t i = 0, data = 0;
    while (i < n && c->state != DONE) {
        if (c->state == DATA) {
            size_t run = c->left < n - i ? (size_t)c->left : n - i;
            memmove(out + data, in + i, run);
            data += run;
            i += run;
            c->body_bytes += run;
            c->left -= run;
            if (!c->left)
                c->state = DATA_CR;
            continue;
        }
        int next = step(c, (uint8_t)in[i++]);
        if (next < 0)
            return next;
        c->state = (uint8_t)next;
    }
    *ret_used = i;
    *ret_data = data;
    return c->state == DONE;
}
