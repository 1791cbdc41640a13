/* pool.c - --mode=pool: connections multiplexed, requests handed to a fixed pool of threads.
 *
 * The classical shape of a servlet container with a non-blocking connector: one dispatcher waits
 * for readable connections and queues them; N workers (200 by default) take one each, read it,
 * do its blocking work, reply, and arm it again. An idle connection costs no thread; a request that
 * waits for the back end does.
 *
 * A connection is armed (EPOLLONESHOT, level-triggered), queued, or held by one worker, never two
 * of these. Hence: nobody but the holder touches it, it is in the queue at most once, and a queue
 * with one place per descriptor is never full.
 *
 * Waking. Idle workers form a stack, so that the one with the warmest cache goes first. At most one
 * worker is on its way from sleep to the queue ("waking"); it, and every worker that takes a
 * connection and leaves others behind, wakes the next. So workers appear one after another as long
 * as there is something to take, a burst of short requests is served by few of them, and nobody is
 * woken to find nothing. Queue, stack and flag are under one mutex, held for a few instructions.
 *
 * Rejected: a condition variable (it wakes the longest sleeper, whose cache is coldest), and a wake
 * for each queued connection (measured: bench/README.md).
 */
#include "baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EVENTS = 256, ACCEPTS = 64, STACK_BYTES = 128 * 1024 };

struct worker {
    struct worker *below; /* in the stack of idle workers */
    _Atomic int woken;    /* futex; 0 while asleep */
    pthread_t thread;
} __attribute__((aligned(64)));

static struct {
    int epfd;
    int stop_fd;
    int listen_fd;

    pthread_mutex_t lock; /* of all below */
    struct conn **ring;   /* [mask + 1] */
    unsigned head, tail, mask;
    struct worker *idle;
    bool waking;
    bool stopping;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const unsigned interest = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT;

static void futex(_Atomic int *word, int op, int value)
{
    syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* Whom to wake, with the lock held; wake() him after letting go of it. */
static struct worker *next_to_wake(void)
{
    struct worker *w = pool.idle;
    if (!w || pool.waking || pool.head == pool.tail)
        return NULL;
    pool.idle = w->below;
    pool.waking = true;
    return w;
}

static void wake(struct worker *w)
{
    if (!w)
        return;
    atomic_store_explicit(&w->woken, 1, memory_order_release); /* pairs with the load in nap */
    futex(&w->woken, FUTEX_WAKE, 1);
}

/* Sleeps, with the lock held at entry and at return. */
static void nap(struct worker *me)
{
    atomic_store_explicit(&me->woken, 0, memory_order_relaxed); /* published by the mutex */
    me->below = pool.idle;
    pool.idle = me;
    pthread_mutex_unlock(&pool.lock);
    while (!atomic_load_explicit(&me->woken, memory_order_acquire)) /* pairs with wake */
        futex(&me->woken, FUTEX_WAIT, 0);
    pthread_mutex_lock(&pool.lock);
    pool.waking = false;
}

/* The next readable connection; NULL when the pool stops. */
static struct conn *queue_take(struct worker *me)
{
    struct conn *c = NULL;
    pthread_mutex_lock(&pool.lock);
    while (pool.head == pool.tail && !pool.stopping)
        nap(me);
    if (pool.head != pool.tail)
        c = pool.ring[pool.tail++ & pool.mask];
    struct worker *next = next_to_wake();
    pthread_mutex_unlock(&pool.lock);
    wake(next);
    return c;
}

static void queue_put(struct conn **batch, unsigned n)
{
    pthread_mutex_lock(&pool.lock);
    for (unsigned i = 0; i < n; i++)
        pool.ring[pool.head++ & pool.mask] = batch[i];
    struct worker *next = next_to_wake();
    pthread_mutex_unlock(&pool.lock);
    wake(next);
}

/* One turn of one connection. Returns false when it is to be closed. */
static bool serve_conn(struct session *s, struct conn *c)
{
    bool more;
    conn_take_over(c);
    int n = conn_receive(c, s->in, sizeof s->in, &more);
    if (n != -EAGAIN) {
        if (n <= 0)
            return false;
        s->fd = c->fd;
        s->in_len = (size_t)n;
        s->out.len = 0;
        if (!session_feed(s) || !conn_keep(c, s->in, s->in_len))
            return false;
    }
    struct epoll_event ev = {.events = interest, .data.ptr = c};
    int fd = c->fd;
    conn_hand_over(c); /* and from the next line on it may be another worker's, or gone */
    return epoll_ctl(pool.epfd, EPOLL_CTL_MOD, fd, &ev) == 0;
}

static void *work(void *arg)
{
    struct session s;
    struct conn *c;
    s.up.fd = -1;
    while ((c = queue_take(arg)))
        if (!serve_conn(&s, c))
            conn_free(c);
    upstream_close(&s.up);
    return NULL;
}

static void accept_some(void)
{
    bool stop = false;
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = accept_peer(pool.listen_fd, SOCK_CLOEXEC, &stop);
        struct conn *c = fd < 0 ? NULL : conn_new(fd);
        if (!c)
            return;
        struct epoll_event ev = {.events = interest, .data.ptr = c};
        conn_hand_over(c);
        if (epoll_ctl(pool.epfd, EPOLL_CTL_ADD, fd, &ev))
            conn_free(c);
    }
}

static void *dispatch(void *arg)
{
    struct epoll_event ev[EVENTS];
    struct conn *batch[EVENTS];
    (void)arg;
    for (;;) {
        unsigned ready = 0;
        int n = epoll_wait(pool.epfd, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr == &pool.stop_fd)
                return NULL;
            if (ev[i].data.ptr == &pool.listen_fd)
                accept_some();
            else
                batch[ready++] = ev[i].data.ptr;
        }
        if (ready)
            queue_put(batch, ready);
    }
}

static bool watch(int *fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = fd};
    return epoll_ctl(pool.epfd, EPOLL_CTL_ADD, *fd, &ev) == 0;
}

static bool pool_open(const struct options *opt)
{
    struct rlimit rl;
    unsigned places = 1024;
    getrlimit(RLIMIT_NOFILE, &rl);
    while (places < rl.rlim_cur && places < 1u << 24)
        places *= 2;
    pool.mask = places - 1;
    pool.ring = calloc(places, sizeof *pool.ring);
    pool.listen_fd = opt->listen_fd;
    pool.epfd = epoll_create1(EPOLL_CLOEXEC);
    pool.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fcntl(pool.listen_fd, F_SETFL, O_NONBLOCK); /* connections do not inherit this one */
    return pool.ring && pool.epfd >= 0 && pool.stop_fd >= 0 && watch(&pool.stop_fd) &&
           watch(&pool.listen_fd);
}

static void stop_workers(struct worker *workers, int n)
{
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    struct worker *w = pool.idle;
    pool.idle = NULL;
    pthread_mutex_unlock(&pool.lock);
    while (w) {
        struct worker *below = w->below;
        wake(w);
        w = below;
    }
    for (int i = 0; i < n; i++)
        pthread_join(workers[i].thread, NULL);
}

int serve_pool(const struct options *opt)
{
    int n = opt->threads ? opt->threads : 200;
    pthread_t dispatcher;
    pthread_attr_t attr;
    struct worker *workers = aligned_alloc(_Alignof(struct worker), (size_t)n * sizeof *workers);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (!workers || !pool_open(opt) || pthread_create(&dispatcher, NULL, dispatch, NULL)) {
        perror("fen-baseline: cannot start the pool");
        return 1;
    }
    for (int i = 0; i < n; i++)
        if (pthread_create(&workers[i].thread, &attr, work, &workers[i])) {
            fprintf(stderr, "fen-baseline: cannot start worker %d\n", i);
            return 1;
        }
    pthread_attr_destroy(&attr);
    wait_for_stop(opt);
    epoll_ctl(pool.epfd, EPOLL_CTL_DEL, pool.listen_fd, NULL);
    peers_hang_up();
    if (!peers_drain())
        return 0; /* the rest ends with the process */
    eventfd_write(pool.stop_fd, 1);
    pthread_join(dispatcher, NULL);
    stop_workers(workers, n);
    free(workers);
    free(pool.ring);
    close(pool.epfd);
    close(pool.stop_fd);
    return 0;
}
