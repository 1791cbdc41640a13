/* session.c - one connection's bytes through parser, routes and replies.
 *
 * Shared by the two blocking servers. Replies to pipelined requests leave in one send, but never
 * wait behind a call to the back end.
 */
#include "baseline.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define TYPE_JSON "application/json"
#define TYPE_TEXT "text/plain"
#define ORDERS "/orders/"
#define QUOTES "/quotes/"

struct answer {
    int status;
    const char *type;
    size_t len;
    char body[BODY_MAX_BYTES];
};

static void answer_text(struct answer *a, int status, const char *type, const char *text)
{
    a->status = status;
    a->type = type;
    a->len = strlen(text);
    memcpy(a->body, text, a->len);
}

static void answer_error(struct answer *a, int status)
{
    const char *text = "{\"error\":\"internal error\"}";
    if (status == 413 || status == 431)
        text = "{\"error\":\"request too large\"}";
    else if (status == 501)
        text = "{\"error\":\"transfer coding not supported\"}";
    else if (status == 400)
        text = "{\"error\":\"bad request\"}";
    else if (status == 404)
        text = "{\"error\":\"not found\"}";
    else if (status == 502)
        text = "{\"error\":\"backend unavailable\"}";
    else if (status == 504)
        text = "{\"error\":\"backend timed out\"}";
    answer_text(a, status, TYPE_JSON, text);
}

static void answer_json(struct answer *a, int len_or_status)
{
    if (len_or_status < 0) {
        answer_error(a, -len_or_status);
        return;
    }
    a->status = 200;
    a->type = TYPE_JSON;
    a->len = (size_t)len_or_status;
}

static void route(struct session *s, const struct request *rq, struct answer *a)
{
    int64_t id;
    if (!rq->is_get) {
        answer_error(a, 404);
        return;
    }
    if (rq->path_len == 1 && rq->path[0] == '/') {
        answer_text(a, 200, TYPE_TEXT, "ok\n");
        return;
    }
    int rc = http_path_id(rq, ORDERS, sizeof ORDERS - 1, &id);
    if (rc == 0) {
        answer_json(a, orders_json(id, a->body));
        return;
    }
    if (rc == -ENOENT)
        rc = http_path_id(rq, QUOTES, sizeof QUOTES - 1, &id);
    if (rc == 0) {
        if (s->out.len && !http_flush(s->fd, &s->out))
            shutdown(s->fd, SHUT_RDWR); /* the next receive ends the session */
        answer_json(a, quotes_json(&s->up, id, a->body));
        return;
    }
    answer_error(a, rc == -EINVAL ? 400 : 404);
}

static bool append(struct session *s, const struct answer *a, const struct request *rq)
{
    if (http_reply(&s->out, a->status, a->type, a->body, a->len, rq))
        return true;
    return http_flush(s->fd, &s->out) &&
           http_reply(&s->out, a->status, a->type, a->body, a->len, rq);
}

static void refuse(struct session *s, int status)
{
    struct answer a;
    struct request rq = {.close = true};
    answer_error(&a, status);
    append(s, &a, &rq);
    http_flush(s->fd, &s->out);
    http_last_word(s->fd);
}

bool session_feed(struct session *s)
{
    struct answer a;
    size_t used = 0;
    while (used < s->in_len) {
        struct request rq;
        int n = http_parse(s->in + used, s->in_len - used, &rq);
        if (n == 0)
            break;
        if (n < 0) {
            refuse(s, -n);
            return false;
        }
        route(s, &rq, &a);
        if (!append(s, &a, &rq))
            return false;
        used += (size_t)n;
        if (rq.close) {
            http_flush(s->fd, &s->out);
            return false;
        }
    }
    if (used && used < s->in_len)
        memmove(s->in, s->in + used, s->in_len - used);
    s->in_len -= used;
    return !s->out.len || http_flush(s->fd, &s->out);
}
