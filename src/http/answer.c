/* answer.c - one request: body, handler, reply. */
#include "http/server_int.h"

#include "mem/mem.h"
#include "sys/sys.h"

#include <string.h>

/* ---- the client leaves while the handler runs ---- */

/* On a worker's stack, while the handler's fiber may be running elsewhere; it waits for watch_done
 * before it lets go of the exchange. */
void fen__watch_fire(struct fen__hook *h)
{
    struct fen__conn *c = FEN__CONTAINER(h, struct fen__conn, watch);
    fen_exchange *x = &c->work->x;
    char byte;
    ssize_t got = fen__sys_peek(c->fd, &byte, 1);
    if (got == 0 || (got < 0 && got != -EAGAIN && got != -EINTR))
        fen_scope_cancel(&x->scope);
    atomic_store(&x->watch_done, true);
}

/* True: armed. A peer that had closed its side before the handler began has only finished
 * sending. */
static bool watch(struct fen__conn *c, struct fen__work *w)
{
    if (c->slot->hup || w->to > w->from)
        return false;
    atomic_store_explicit(&w->x.watch_done, false, memory_order_relaxed);
    int rc = fen__slot_arm(c->slot, FEN__READ, fen__w_hook(&c->watch));
    return rc == 0;
}

static void unwatch(struct fen__conn *c, struct fen__work *w)
{
    if (fen__slot_disarm(c->slot, FEN__READ, fen__w_hook(&c->watch)))
        return;
    while (!atomic_load(&w->x.watch_done)) /* another worker is inside fen__watch_fire */
        fen_yield();
}

/* ---- bodies ---- */

static int body_room(struct fen__work *w, size_t bytes)
{
    if (bytes <= w->body_cap)
        return 0;
    size_t cap = w->body_cap ? w->body_cap : FEN__CARRY_BYTES;
    while (cap < bytes)
        cap *= 2;
    char *p = w->body ? fen__mem_resize(w->body, w->body_cap, cap) : fen__mem_alloc(cap);
    if (!p)
        return -503;
    w->body = p;
    w->body_cap = cap;
    return 0;
}

/* Before waiting for the client: what it is owed goes out. 0 or a negative status. */
static int before_wait(struct fen__conn *c, struct fen__work *w)
{
    if (fen__conn_flush(c, w))
        return -EPIPE;
    if (!w->x.req.expect_continue)
        return 0;
    w->x.req.expect_continue = false;
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    ssize_t put =
        fen__net_write_within(c->slot, go_on, sizeof go_on - 1, c->srv->cfg.write_timeout_ns);
    return put < 0 ? (int)put : 0;
}

static int read_failed(ssize_t got)
{
    return got == -ETIMEDOUT ? -408 : got == 0 ? -400 : (int)got;
}

/* The rest of a body follows what came with the head, or all of it goes to a block of its own. */
static int read_sized(struct fen__conn *c, struct fen__work *w)
{
    size_t want = (size_t)w->x.req.content_length, have = w->to - w->from;
    bool in_place = want <= w->in_cap - w->from;
    if ((uint64_t)w->x.req.content_length > c->srv->cfg.max_body_bytes)
        return -413;
    if (have >= want) { /* in place */
        w->x.body = (fen_slice){w->in + w->from, want};
        w->from += want;
        return 0;
    }
    int rc = in_place ? 0 : body_room(w, want);
    if (!rc)
        rc = before_wait(c, w);
    if (rc)
        return rc;
    char *body = in_place ? w->in + w->from : w->body;
    if (in_place)
        w->to += want - have;
    else
        memcpy(body, w->in + w->from, have);
    w->from = w->to;
    int64_t deadline = fen__time_after(fen_now(), c->srv->cfg.body_timeout_ns);
    while (have < want) {
        ssize_t got = fen__net_read(c->slot, body + have, want - have, deadline);
        if (got <= 0)
            return read_failed(got);
        have += (size_t)got;
    }
    w->x.body = (fen_slice){body, want};
    return 0;
}

/* Decodes n bytes at in behind what is in the body already. 1 complete, 0 more, < 0 status. */
static int feed(struct fen__work *w, struct fen__http_chunk *k, const char *in, size_t n,
                size_t *ret_used)
{
    size_t data = 0, have = w->x.body.n;
    int rc = body_room(w, have + n);
    if (rc)
        return rc;
    rc = fen__http_chunk_feed(k, in, n, w->body + have, ret_used, &data);
    w->x.body = (fen_slice){w->body, have + data};
    return rc;
}

static int read_chunked(struct fen__conn *c, struct fen__work *w)
{
    struct fen__http_chunk k;
    size_t used = 0;
    fen__http_chunk_init(&k, c->srv->cfg.max_body_bytes);
    int rc = feed(w, &k, w->in + w->from, w->to - w->from, &used);
    w->from += rc < 0 ? 0 : used;
    int64_t deadline = 0;
    if (rc == 0 && fen__work_carry(w))
        return -503;
    while (rc == 0) {
        if (!deadline) {
            deadline = fen__time_after(fen_now(), c->srv->cfg.body_timeout_ns);
            rc = before_wait(c, w);
            if (rc)
                return rc;
        }
        ssize_t got = fen__net_read(c->slot, w->carry, FEN__CARRY_BYTES, deadline);
        if (got <= 0)
            return read_failed(got);
        rc = feed(w, &k, w->carry, (size_t)got, &used);
        if (rc == 1 && used < (size_t)got) {
            w->carry_n = (int)((size_t)got - used);
            memmove(w->carry, w->carry + used, (size_t)w->carry_n);
        }
    }
    return rc < 0 ? rc : 0;
}

/* 0, a negative status to answer, or -errno to close. */
static int read_body(struct fen__conn *c, struct fen__work *w)
{
    if (w->x.req.chunked)
        return read_chunked(c, w);
    return w->x.req.content_length > 0 ? read_sized(c, w) : 0;
}

/* The bytes behind a chunked body become the input; the head's slices are no longer used. */
static void restore_carry(struct fen__work *w)
{
    if (!w->carry_n)
        return;
    memcpy(w->in, w->carry, (size_t)w->carry_n); /* in_cap >= FEN__IN_BYTES = FEN__CARRY_BYTES */
    w->from = 0;
    w->to = (size_t)w->carry_n;
    w->carry_n = 0;
}

/* ---- the exchange ---- */

static void reset(struct fen__conn *c, fen_exchange *x)
{
    x->conn = c;
    x->match.route = NULL;
    x->match.allowed = 0;
    x->status = 0;
    x->head_only = false;
    x->close = false;
    x->body = (fen_slice){0};
    x->nextra = 0;
    x->scope.spawned = false;
    x->account = FEN__NO_ACCOUNT;
}

static void reply_for(fen_exchange *x, int rc)
{
    switch (rc) {
    case -ENOENT: fen_reply_error(x, 404, "not found"); break;
    case -EINVAL:
    case -ERANGE:
    case FEN_EPARSE: fen_reply_error(x, 400, "bad request"); break;
    case -ETIMEDOUT: fen_reply_error(x, 504, "timed out"); break;
    case -ECANCELED:
    case -EAGAIN:
    case FEN_ELIMIT:
    case -EBUSY: fen_reply_error(x, 503, "unavailable"); break;
    default: fen_reply_error(x, 500, "internal error"); break;
    }
}

static void reply_for_failed(fen_exchange *x, int rc)
{
    if (rc == -ENOMEM && fen_mem_pressure() != FEN_MEM_EASY)
        fen_reply_error(x, 503, "memory is short");
    else
        reply_for(x, rc);
}

static void count_handler(int64_t n)
{
    struct fen__m *m = fen__enter();
    fen__count_add(&fen__tally_of(m)->handlers, n);
    fen__leave(m);
}

static void call_handler(struct fen__conn *c, struct fen__work *w)
{
    fen_exchange *x = &w->x;
    count_handler(1);
    fen__scope_init(&x->scope, FEN_NEVER);
    x->scope.bill = &x->children;
    bool watched = watch(c, w);
    int rc = x->match.route->fn(x, x->match.route->arg);
    int ended = fen__scope_fini(&x->scope);
    if (watched)
        unwatch(c, w);
    count_handler(-1);
    if (!x->status)
        reply_for_failed(x, rc < 0 ? rc : ended ? ended : -EIO);
}

/* Is the request to be refused for want of memory? A body that has come with it is thrown away with
 * the connection. */
static bool shed(struct fen__conn *c, fen_exchange *x)
{
    if (FEN__LIKELY(fen_mem_pressure() != FEN_MEM_SHORT) || c->srv->cfg.shed_off)
        return false;
    x->close |= x->req.chunked || x->req.content_length > 0;
    return true;
}

void fen__answer(struct fen__conn *c, struct fen__work *w)
{
    fen_exchange *x = &w->x;
    reset(c, x);
    x->close = !x->req.keep_alive;
    x->head_only = x->req.method.n == 4 && !memcmp(x->req.method.p, "HEAD", 4);
    int status = fen__router_match(&c->srv->router, x->req.method, x->req.path, &x->match);
    fen__request_pays(w, c->srv);
    bool refuse = shed(c, x);
    int rc = refuse ? 0 : read_body(c, w);
    if (refuse) {
        fen_reply_error(x, 503, "memory is short");
    } else if (rc <= -400) {
        x->close = true;
        fen_reply_error(x, -rc, fen__status_text(-rc));
    } else if (rc < 0) { /* the client is gone: no reply, but the work is booked */
        x->close = true;
        x->status = 499;
    } else if (status != 200) {
        fen_reply_error(x, status, status == 404 ? "not found" : "method not allowed");
    } else {
        call_handler(c, w);
    }
    if (FEN__UNLIKELY(!x->status)) { /* not even memory to say so */
        x->close = true;
        x->status = 500;
    }
    fen__request_end(w, c->srv);
    fen_arena_reset(w->arena);
    restore_carry(w);
    if (w->body) {
        fen__mem_free(w->body, w->body_cap);
        w->body = NULL;
        w->body_cap = 0;
    }
}

void fen__answer_error(struct fen__conn *c, struct fen__work *w, int status)
{
    fen_exchange *x = &w->x;
    struct fen__http_field *fields = x->req.fields;
    memset(&x->req, 0, sizeof x->req);
    x->req.fields = fields;
    x->req.minor = 1;
    reset(c, x);
    x->close = true;
    fen_reply_error(x, status, fen__status_text(status));
    fen__request_end(w, c->srv);
    fen_arena_reset(w->arena);
}
