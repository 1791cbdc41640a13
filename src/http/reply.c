/* reply.c - replies are appended to the connection's output; the connection writes it. */
#include "http/server_int.h"

#include <stdio.h>
#include <string.h>

const char *fen__status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < FEN__COUNT(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Status";
}

static fen_slice date(fen_server *s)
{
    const char *d = s->date[atomic_load_explicit(&s->date_turn, memory_order_acquire) % FEN__DATES];
    return (fen_slice){d, strlen(d)};
}

static void status_line(fen_buf *b, int status)
{
    if (status == 200) {
        fen_buf_put(b, "HTTP/1.1 200 OK\r\n", 17);
        return;
    }
    char line[64];
    int n = snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", status, fen__status_text(status));
    fen_buf_put(b, line, (size_t)n);
}

static void field(fen_buf *b, const char *name, const char *value)
{
    fen_buf_put_str(b, name);
    fen_buf_put(b, ": ", 2);
    fen_buf_put_str(b, value);
    fen_buf_put(b, "\r\n", 2);
}

int fen__reply_head(fen_exchange *x, int status, const char *content_type, size_t body_bytes)
{
    if (x->status)
        return -EALREADY;
    if (status < 200 || status > 599)
        return -EINVAL;
    fen_server *s = x->conn->srv;
    fen_buf *b = &x->conn->work->out;
    x->status = status;
    if (atomic_load_explicit(&s->stopping, memory_order_relaxed) ||
        (s->cfg.errors_close && status >= 400))
        x->close = true;
    status_line(b, status);
    if (content_type)
        field(b, "Content-Type", content_type);
    if (status != 204 && status != 304) {
        fen_buf_put(b, "Content-Length: ", 16);
        fen_buf_put_u64(b, body_bytes);
        fen_buf_put(b, "\r\n", 2);
    }
    fen_buf_put(b, "Date: ", 6);
    fen_slice d = date(s);
    fen_buf_put(b, d.p, d.n);
    fen_buf_put(b, "\r\n", 2);
    if (x->close)
        fen_buf_put(b, "Connection: close\r\n", 19);
    else if (x->req.minor == 0)
        fen_buf_put(b, "Connection: keep-alive\r\n", 24);
    if (status == 405) {
        char allow[256];
        int n = fen__router_allow(&s->router, x->match.allowed, allow, sizeof allow - 1);
        allow[n > 0 ? n : 0] = 0;
        field(b, "Allow", allow);
    }
    if (status == 503)
        field(b, "Retry-After", "1");
    for (int i = 0; i < x->nextra; i++)
        field(b, x->extra[i].name, x->extra[i].value);
    fen_buf_put(b, "\r\n", 2);
    return b->err;
}

/* What did not find memory leaves nothing behind: another reply may be tried. */
int fen_reply(fen_exchange *x, int status, const char *content_type, fen_slice body)
{
    fen_buf *b = &x->conn->work->out;
    size_t before = b->n;
    bool close = x->close;
    int rc = fen__reply_head(x, status, content_type, body.n);
    if (!rc && !x->head_only && status != 204 && status != 304)
        fen_buf_put(b, body.p, body.n);
    if (FEN__UNLIKELY(b->err)) {
        rc = b->err;
        b->n = before;
        b->err = 0;
        x->status = 0;
        x->close = close;
    }
    return rc;
}

int fen_reply_error(fen_exchange *x, int status, const char *msg)
{
    fen_buf b = fen_buf_arena(x->conn->work->arena);
    fen_buf_put(&b, "{\"error\":", 9);
    fen_json_value_string(&b, (fen_slice){msg, strlen(msg)});
    fen_buf_put(&b, "}", 1);
    if (b.err)
        return fen_reply(x, status, NULL, (fen_slice){0});
    return fen_reply(x, status, "application/json", fen_buf_slice(&b));
}

int fen_reply_json(fen_exchange *x, int status, void (*encode)(fen_buf *b, const void *obj),
                   const void *obj)
{
    if (x->status)
        return -EALREADY;
    fen_buf b = fen_buf_arena(x->conn->work->arena);
    encode(&b, obj);
    if (b.err)
        return fen_reply_error(x, 500, "out of memory");
    return fen_reply(x, status, "application/json", fen_buf_slice(&b));
}

int fen_reply_header(fen_exchange *x, const char *name, const char *value)
{
    if (x->status)
        return -EALREADY;
    if (x->nextra == FEN__EXTRA_MAX)
        return FEN_ELIMIT;
    for (const char *p = name; !*name || *p; p++)
        if (!*name || !fen__http_token[(uint8_t)*p])
            return -EINVAL;
    if (strpbrk(value, "\r\n"))
        return -EINVAL;
    x->extra[x->nextra].name = name;
    x->extra[x->nextra++].value = fen_arena_dup(x->conn->work->arena, value, strlen(value));
    if (!x->extra[x->nextra - 1].value) {
        x->nextra--;
        return -ENOMEM;
    }
    return 0;
}
