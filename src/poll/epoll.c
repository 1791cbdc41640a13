/* epoll.c - one epoll instance a shard; a shard belongs to a P but any thread may add to it.
 *
 * Descriptors are registered once, for both directions, edge-triggered, and never re-armed: the
 * cost per request is the read, the write and a share of one epoll_wait. A shard is woken by an
 * eventfd registered edge-triggered, so nobody has to read it.
 *
 * A shard whose P has left is adopted by another: its epoll descriptor is registered with that one,
 * level-triggered, and whoever waits there collects from it too. Registrations stay where they
 * are. */
#include "poll/poll_int.h"

#include "sys/sys.h"

#define KICK UINT64_MAX                       /* epoll data of the eventfd */
#define ADOPTED(i) (KICK - 1 - (uint64_t)(i)) /* of the epoll descriptor of shard i */
#define SHARDS_MAX 256

struct shard {
    int ep, kick;
    int by;              /* adopted by that shard; -1 */
    _Atomic int adopted; /* how many it has adopted */
};

static struct shard shards[SHARDS_MAX];
static int nopen;           /* shards that exist */
static _Atomic int nshards; /* the first so many get new descriptors */

static int open_shard(struct shard *h)
{
    h->kick = h->by = -1;
    h->adopted = 0;
    h->ep = fen__sys_epoll_create();
    if (h->ep < 0)
        return h->ep;
    h->kick = fen__sys_eventfd();
    if (h->kick < 0)
        return h->kick;
    return fen__sys_epoll_add(h->ep, h->kick, EPOLLIN | EPOLLET, KICK);
}

static void close_shard(struct shard *h)
{
    if (h->kick >= 0)
        fen__sys_close(h->kick);
    if (h->ep >= 0)
        fen__sys_close(h->ep);
}

int fen__poll_add_shard(int i)
{
    fen_assert(i == nopen && i < SHARDS_MAX);
    int rc = open_shard(&shards[i]);
    if (rc)
        close_shard(&shards[i]);
    else
        nopen++;
    return rc;
}

void fen__poll_use_shards(int n) { nshards = n; }

int fen__poll_init(int n)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = fen__poll_add_shard(i);
    fen__poll_use_shards(n);
    if (rc)
        fen__poll_fini();
    return rc;
}

void fen__poll_fini(void)
{
    fen__poll_use_shards(0);
    while (nopen > 0)
        close_shard(&shards[--nopen]);
    fen__slots_fini();
}

int fen__poll_adopt(int i, int by)
{
    if (shards[i].by >= 0)
        return 0;
    int rc = fen__sys_epoll_add(shards[by].ep, shards[i].ep, EPOLLIN, ADOPTED(i));
    if (!rc) {
        shards[i].by = by;
        shards[by].adopted++;
    }
    return rc;
}

void fen__poll_release(int i)
{
    int by = shards[i].by;
    if (by < 0)
        return;
    fen__sys_epoll_del(shards[by].ep, shards[i].ep);
    shards[i].by = -1;
    shards[by].adopted--;
}

int fen__poll_slot(int fd, uint32_t shard, struct fen__slot **ret_slot)
{
    struct fen__slot *s;
    uint32_t n = (uint32_t)nshards; /* pairs with fen__poll_use_shards: they exist */
    int rc = n ? fen__slot_new(&s) : FEN_ENOTFIBER;
    if (rc)
        return rc;
    s->fd = fd;
    s->shard = shard % n;
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

/* Of an adopted shard: what is ready there now. */
static int collect_adopted(int i, fen__waiter *ret, int n)
{
    struct epoll_event ev[FEN__POLL_BATCH];
    int want = n / 2 < FEN__POLL_BATCH ? n / 2 : FEN__POLL_BATCH;
    int got = want > 0 ? fen__sys_epoll_wait(shards[i].ep, ev, want, 0) : 0, out = 0;
    for (int k = 0; k < got; k++)
        out += ev[k].data.u64 == KICK ? 0 : collect(&ev[k], ret + out);
    return out; /* what had no room is reported again */
}

int fen__poll_wait(uint32_t shard, fen__waiter *ret, int n, int64_t deadline_ns, bool *ret_kicked)
{
    struct epoll_event ev[FEN__POLL_BATCH];
    int want = n / 2 < FEN__POLL_BATCH ? n / 2 : FEN__POLL_BATCH;
    if (shards[shard].adopted)
        want = (want + 1) / 2; /* room for what the adopted have */
    int got = fen__sys_epoll_wait(shards[shard].ep, ev, want, deadline_ns);
    if (got < 0)
        return got;
    int out = 0;
    *ret_kicked = false;
    for (int i = 0; i < got; i++) {
        if (ev[i].data.u64 == KICK)
            *ret_kicked = true;
        else if (FEN__UNLIKELY(ev[i].data.u64 >= ADOPTED(SHARDS_MAX)))
            out += collect_adopted((int)(ADOPTED(0) - ev[i].data.u64), ret + out,
                                   n - out - 2 * (got - i - 1));
        else
            out += collect(&ev[i], ret + out);
    }
    return out;
}

void fen__poll_kick(uint32_t shard) { fen__sys_eventfd_signal(shards[shard].kick); }
bool fen__poll_pending(uint32_t shard) { return fen__sys_readable(shards[shard].ep); }
