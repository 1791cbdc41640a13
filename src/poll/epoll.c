/* epoll.c - one epoll instance a shard; a shard belongs to a P but any thread may add to it.
 *
 * Descriptors are registered once, for both directions, edge-triggered, and never re-armed: the
 * cost per request is the read, the write and a share of one epoll_wait. A shard is woken by an
 * eventfd registered edge-triggered, so nobody has to read it. */
#include "poll/poll_int.h"

#include "mem/mem.h"
#include "sys/sys.h"

#define KICK UINT64_MAX /* epoll data of the eventfd */

struct shard {
    int ep, kick;
};

static struct shard *shards;
static int nshards;

static int open_shard(struct shard *h)
{
    h->ep = fen__sys_epoll_create();
    if (h->ep < 0)
        return h->ep;
    h->kick = fen__sys_eventfd();
    if (h->kick < 0)
        return h->kick;
    return fen__sys_epoll_add(h->ep, h->kick, EPOLLIN | EPOLLET, KICK);
}

int fen__poll_init(int n)
{
    shards = fen__mem_calloc((size_t)n * sizeof *shards);
    if (!shards)
        return -ENOMEM;
    nshards = n;
    for (int i = 0; i < n; i++)
        shards[i].ep = shards[i].kick = -1;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = open_shard(&shards[i]);
    if (rc)
        fen__poll_fini();
    return rc;
}

void fen__poll_fini(void)
{
    size_t bytes = (size_t)nshards * sizeof *shards;
    while (nshards > 0) {
        struct shard *h = &shards[--nshards];
        if (h->kick >= 0)
            fen__sys_close(h->kick);
        if (h->ep >= 0)
            fen__sys_close(h->ep);
    }
    fen__mem_free(shards, bytes);
    shards = NULL;
    fen__slots_fini();
}

int fen__poll_slot(int fd, uint32_t shard, struct fen__slot **ret_slot)
{
    struct fen__slot *s;
    int rc = fen__slot_new(&s);
    if (rc)
        return rc;
    s->fd = fd;
    s->shard = shard % (uint32_t)nshards;
    *ret_slot = s;
    return 0;
}

int fen__poll_open(int fd, uint32_t shard, struct fen__slot **ret_slot)
{
    struct fen__slot *s;
    int rc = fen__poll_slot(fd, shard, &s);
    if (rc)
        return rc;
    uint64_t data = (uint64_t)s->gen << 32 | s->index;
    uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    rc = fen__sys_epoll_add(shards[s->shard].ep, fd, events, data);
    if (rc == -EEXIST) /* it was watched before it came here */
        rc = fen__sys_epoll_mod(shards[s->shard].ep, fd, events, data);
    if (rc) {
        fen__slot_free(s);
        return rc;
    }
    *ret_slot = s;
    return 0;
}

int fen__poll_watch(struct fen__slot *s, uint32_t events, bool *ret_fresh)
{
    uint64_t data = (uint64_t)s->gen << 32 | s->index;
    int ep = shards[s->shard].ep;
    int rc = fen__sys_epoll_mod(ep, s->fd, events | EPOLLONESHOT | EPOLLET, data);
    *ret_fresh = rc == -ENOENT;
    return *ret_fresh ? fen__sys_epoll_add(ep, s->fd, events | EPOLLONESHOT | EPOLLET, data) : rc;
}

void fen__poll_shut(struct fen__slot *s, fen__waiter ret_woken[2])
{
    ret_woken[FEN__READ] = fen__slot_fire(s, FEN__READ, FEN__W_CLOSED);
    ret_woken[FEN__WRITE] = fen__slot_fire(s, FEN__WRITE, FEN__W_CLOSED);
    fen__sys_epoll_del(shards[s->shard].ep, s->fd);
}

void fen__poll_free(struct fen__slot *s) { fen__slot_free(s); }

void fen__poll_close(struct fen__slot *s, fen__waiter ret_woken[2])
{
    fen__poll_shut(s, ret_woken);
    fen__slot_free(s);
}

static int collect(const struct epoll_event *ev, fen__waiter *ret)
{
    struct fen__slot *s = fen__slot_at((uint32_t)ev->data.u64);
    if (s->gen != (uint32_t)(ev->data.u64 >> 32))
        return 0; /* stale: the descriptor was closed meanwhile */
    int n = 0;
    if (ev->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->hup = true; /* before READY: who consumes that sees this */
    if (ev->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        ret[n] = fen__slot_fire(s, FEN__READ, FEN__W_READY);
        n += ret[n] != FEN__W_NONE;
    }
    if (ev->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        ret[n] = fen__slot_fire(s, FEN__WRITE, FEN__W_READY);
        n += ret[n] != FEN__W_NONE;
    }
    return n;
}

int fen__poll_wait(uint32_t shard, fen__waiter *ret, int n, int64_t deadline_ns, bool *ret_kicked)
{
    struct epoll_event ev[FEN__POLL_BATCH];
    int want = n / 2 < FEN__POLL_BATCH ? n / 2 : FEN__POLL_BATCH;
    int got = fen__sys_epoll_wait(shards[shard].ep, ev, want, deadline_ns);
    if (got < 0)
        return got;
    int out = 0;
    *ret_kicked = false;
    for (int i = 0; i < got; i++) {
        if (ev[i].data.u64 == KICK)
            *ret_kicked = true;
        else
            out += collect(&ev[i], ret + out);
    }
    return out;
}

void fen__poll_kick(uint32_t shard) { fen__sys_eventfd_signal(shards[shard].kick); }
bool fen__poll_pending(uint32_t shard) { return fen__sys_readable(shards[shard].ep); }
