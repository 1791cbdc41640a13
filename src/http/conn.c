/* conn.c - a connection's life: record, fiber, buffers, idleness. States in server_int.h.
 *
 * A read that returned less than it asked for has emptied the socket, so the next bytes bring an
 * edge of their own and no second read is needed (net/sock.c): one recv and one send a request. */
#include "http/server_int.h"

#include "mem/mem.h"
#include "sys/sys.h"

#define CHUNK_CONNS 256
#define CHUNKS_MAX 4096 /* 1,048,576 connections */
#define LINGER_NS FEN_S
#define LINGER_BYTES (1u << 20)

static struct {
    uint32_t lock;
    struct fen__conn *_Atomic chunk[CHUNKS_MAX];
    _Atomic uint32_t chunks;
    struct fen__conn *free;
} slab;

static struct fen__conn *slab_get(void)
{
    fen__lock(&slab.lock);
    void *map;
    if (!slab.free && slab.chunks < CHUNKS_MAX &&
        fen__sys_map(CHUNK_CONNS * sizeof(struct fen__conn), &map) == 0) {
        struct fen__conn *c = map;
        for (int i = CHUNK_CONNS; i-- > 0;) {
            c[i].next_free = slab.free;
            slab.free = &c[i];
        }
        atomic_store(&slab.chunk[slab.chunks], c); /* pairs with the load in fen__conn_each */
        slab.chunks++;
    }
    struct fen__conn *c = slab.free;
    if (c)
        slab.free = c->next_free;
    fen__unlock(&slab.lock);
    return c;
}

static void slab_put(struct fen__conn *c)
{
    fen__lock(&slab.lock);
    c->next_free = slab.free;
    slab.free = c;
    fen__unlock(&slab.lock);
}

void fen__conn_each(fen_server *s, void (*fn)(struct fen__conn *c))
{
    for (uint32_t k = 0; k < slab.chunks; k++) {
        struct fen__conn *c = atomic_load(&slab.chunk[k]);
        for (int i = 0; i < CHUNK_CONNS; i++) /* srv is set before the state leaves FREE */
            if (atomic_load(&c[i].state) != FEN__CONN_FREE &&
                __atomic_load_n(&c[i].srv, __ATOMIC_RELAXED) == s)
                fn(&c[i]);
    }
}

/* The owner's last act. Any phase, on any stack. */
static void close_conn(struct fen__conn *c)
{
    fen_server *s = c->srv;
    int fd = c->fd;
    fen__close_slot(c->slot);
    fen__lock(&slab.lock); /* fen__conn_cut must not meet a descriptor that is another's by now */
    atomic_store(&c->state, FEN__CONN_FREE);
    fen__unlock(&slab.lock);
    fen__sys_close(fd);
    slab_put(c);
    atomic_fetch_sub(&s->conns, 1);
}

/* ---- going idle ---- */

/* Puts the record back into its slot. True: done, the record is no longer ours. */
static bool go_idle(struct fen__conn *c)
{
    atomic_store_explicit(&c->since_ns, atomic_load_explicit(&c->srv->now_ns, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store(&c->state, FEN__CONN_IDLE);
    if (fen__slot_arm(c->slot, FEN__READ, fen__w_hook(&c->hook)) == 0)
        return true;
    atomic_store(&c->state, FEN__CONN_ACTIVE);
    return false;
}

/* Takes an idle record out of its slot. True: ours now. */
static bool take_idle(struct fen__conn *c)
{
    if (atomic_load(&c->state) != FEN__CONN_IDLE ||
        !fen__slot_disarm(c->slot, FEN__READ, fen__w_hook(&c->hook)))
        return false;
    atomic_store(&c->state, FEN__CONN_ACTIVE);
    return true;
}

/* Our side is shut: throws away what still comes until the peer closes too, or sends so much that
 * it would keep the worker. On a worker's stack. */
static void discard(struct fen__conn *c)
{
    char waste[4096];
    size_t total = 0;
    do {
        fen__slot_clear(c->slot, FEN__READ);
        ssize_t got;
        while ((got = fen__sys_recv(c->fd, waste, sizeof waste)) > 0 && total < LINGER_BYTES)
            total += (size_t)got;
        if (got != -EAGAIN) {
            close_conn(c);
            return;
        }
    } while (!go_idle(c));
}

static void conn_main(void *start);

/* An event on an idle connection. On a worker's stack (RT). */
static void conn_fire(struct fen__hook *h)
{
    struct fen__conn *c = FEN__CONTAINER(h, struct fen__conn, hook);
    atomic_store(&c->state, FEN__CONN_ACTIVE);
    if (c->lingering)
        discard(c);
    else
        fen__start_later(&c->start);
}

/* No fiber to be had: refuse rather than let it hang. */
static void conn_refused(struct fen__start *s)
{
    close_conn(FEN__CONTAINER(s, struct fen__conn, start));
}

void fen__conn_accept(fen_server *s, int fd)
{
    struct fen__conn *c = slab_get();
    if (!c) {
        fen__sys_close(fd);
        return;
    }
    struct fen__slot *slot;
    fen__fd_new(fd);
    if (fen__poll_open(fd, atomic_fetch_add(&s->shard, 1), &slot)) {
        fen__sys_close(fd);
        slab_put(c);
        return;
    }
    c->hook.fire = conn_fire;
    c->start = (struct fen__start){
        .name = "http", .limit = &c->limit, .fn = conn_main, .refused = conn_refused};
    __atomic_store_n(&c->limit.parent, fen__run_limit(), __ATOMIC_RELAXED);
    __atomic_store_n(&c->limit.depth, 1, __ATOMIC_RELAXED);
    atomic_store_explicit(&c->limit.deadline_ns, FEN_NEVER, memory_order_relaxed);
    atomic_store_explicit(&c->limit.ended, 0, memory_order_relaxed);
    c->watch.fire = fen__watch_fire;
    c->slot = slot;
    __atomic_store_n(&c->srv, s, __ATOMIC_RELAXED);
    c->work = NULL;
    c->fd = fd;
    c->lingering = false;
    atomic_fetch_add(&s->conns, 1);
    struct fen__m *m = fen__enter();
    if (!go_idle(c))
        conn_fire(&c->hook);
    fen__leave(m);
}

/* ---- sweeping (RT) ---- */

void fen__conn_sweep_idle(struct fen__conn *c)
{
    /* since_ns is by the tick too: the connection may have been in use until just now */
    int64_t idle =
        c->srv->now_ns - atomic_load_explicit(&c->since_ns, memory_order_relaxed) - FEN__TICK_NS;
    if (idle > (c->lingering ? LINGER_NS : c->srv->cfg.idle_timeout_ns) && take_idle(c))
        close_conn(c);
}

void fen__conn_drain_idle(struct fen__conn *c)
{
    if (!take_idle(c))
        return;
    if (!c->lingering)
        fen__sys_shutdown(c->fd, SHUT_WR);
    c->lingering = true;
    discard(c);
}

void fen__conn_cut(struct fen__conn *c)
{
    if (take_idle(c)) {
        close_conn(c);
        return;
    }
    fen__lock(&slab.lock);
    if (atomic_load(&c->state) == FEN__CONN_ACTIVE) {
        fen__limit_end(&c->limit, -ECANCELED);
        fen__sys_shutdown(c->fd, SHUT_RDWR); /* its fiber sees the end of the stream */
    }
    fen__unlock(&slab.lock);
}

static void wake_ended(struct fen__g *g, void *arg)
{
    (void)arg;
    const struct fen__limit *l = __atomic_load_n(&g->limit, __ATOMIC_ACQUIRE);
    for (int depth = 0; l && depth < 1024; depth++) {
        if (atomic_load(&l->ended)) {
            fen__nudge(g);
            return;
        }
        l = __atomic_load_n(&l->parent, __ATOMIC_RELAXED);
    }
}

/* Not by a watch on the descriptor: a peer that sent more than one request, or has finished
 * sending, leaves none. */
void fen__conn_wake_cut(void) { fen__each_g(wake_ended, NULL); }

/* ---- serving ---- */

int fen__conn_flush(struct fen__conn *c, struct fen__work *w)
{
    if (!w->npending)
        return 0;
    ssize_t put = w->out.err;
    fen__batch_sends(w);
    if (!put)
        put = fen__net_write_within(c->slot, w->out.p, w->out.n, c->srv->cfg.write_timeout_ns);
    fen__work_out_reset(w);
    fen__batch_settle(w);
    return put < 0 ? (int)put : 0;
}

/* More bytes behind in[to). deadline 0: do not wait. The count, 0 at the end, or -errno. */
static ssize_t read_more(struct fen__conn *c, struct fen__work *w, int64_t deadline_ns)
{
    int rc = fen__work_room(w, w->to - w->from + 1);
    if (rc)
        return rc;
    size_t room = w->in_cap - w->to;
    ssize_t got = fen__net_read(c->slot, w->in + w->to, room, deadline_ns);
    if (got > 0)
        w->to += (size_t)got;
    return got;
}

/* 1: w->x.req is the next request and in[from) is behind its head. 0: none is under way.
 * -4xx, -5xx: answer that and close. Other negative: close. */
static int next_request(struct fen__conn *c, struct fen__work *w)
{
    struct fen__http_scan scan = {0};
    int64_t deadline = 0;
    if (w->to > w->from) /* came with the one before */
        fen__request_begin(w);
    for (;;) {
        if (w->to > w->from) {
            w->x.req.fields = w->fields;
            w->x.req.fields_cap = fen__work_fields_cap(w);
            int n = fen__http_parse_head(w->in + w->from, w->to - w->from, &c->srv->limits, &scan,
                                         &w->x.req);
            if (n == -431) {
                fen__server_pays(c->srv); /* and not the request before */
                if (fen__work_more_fields(w) == 0) {
                    scan = (struct fen__http_scan){0};
                    continue;
                }
            }
            if (n < 0)
                return n;
            w->from += (size_t)n;
            if (n > 0)
                return 1;
        }
        if (fen__conn_flush(c, w))
            return -EPIPE;
        fen__server_pays(c->srv);
        bool empty = w->to == w->from;
        if (empty) {
            w->from = w->to = 0;
            if (!fen__slot_maybe_readable(c->slot))
                return 0;
        }
        if (!empty && !deadline)
            deadline = fen__time_after(fen_now(), c->srv->cfg.header_timeout_ns);
        ssize_t got = read_more(c, w, empty ? 0 : deadline);
        if (got == -EAGAIN && empty)
            return 0;
        if (got == -ETIMEDOUT)
            return -408;
        if (got == 0 && !empty)
            return -400; /* half a head; the peer may have shut its side only */
        if (got <= 0)
            return got ? (int)got : -ECONNRESET;
        if (empty)
            fen__request_begin(w);
    }
}

/* Says what was wrong, then lets the peer read it before the connection goes. */
static void linger(struct fen__conn *c, struct fen__work *w)
{
    char waste[4096];
    size_t total = 0;
    (void)w;
    fen__sys_shutdown(c->fd, SHUT_WR);
    int64_t deadline = fen_now() + LINGER_NS;
    while (total < LINGER_BYTES) {
        ssize_t got = fen__net_read(c->slot, waste, sizeof waste, deadline);
        if (got <= 0)
            break;
        total += (size_t)got;
    }
}

/* Answers what has come. True: the connection stays. */
static bool serve(struct fen__conn *c, struct fen__work *w)
{
    for (;;) {
        int rc = next_request(c, w);
        if (rc == 0)
            return true;
        if (rc <= -400) {
            fen__answer_error(c, w, -rc);
            if (fen__conn_flush(c, w) == 0)
                linger(c, w);
            return false;
        }
        if (rc < 0)
            return false;
        fen__answer(c, w);
        bool last = w->x.close;
        if ((last || w->npending == FEN__BATCH_MAX || w->out.n >= FEN__FLUSH_BYTES) &&
            fen__conn_flush(c, w))
            return false;
        if (last) {
            /* a peer that did not ask for the end may be sending: closing would reset the reply */
            if (w->x.req.keep_alive || w->to > w->from || fen__slot_maybe_readable(c->slot))
                linger(c, w);
            return false;
        }
    }
}

static void conn_main(void *start)
{
    struct fen__conn *c = FEN__CONTAINER(start, struct fen__conn, start);
    fen__server_pays(c->srv); /* whoever happened to start this fiber */
    for (;;) {
        struct fen__work *w = fen__work_get();
        if (!w)
            break;
        c->work = w;
        fen__cur(fen__self())->local = w;
        w->mark = fen__mark_now();
        bool stays = serve(c, w);
        fen__server_pays(c->srv);
        c->work = NULL;
        fen__work_put(w);
        if (!stays)
            break;
        if (go_idle(c))
            return;
    }
    close_conn(c);
}
