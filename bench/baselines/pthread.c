/* pthread.c - --mode=pthread: a thread for each connection.
 *
 * Leader and followers: the one thread that blocks in accept4 starts the next leader and then
 * serves what it accepted, with a small stack; glibc keeps the stacks of finished threads and hands
 * them out again. A single accepting thread would get one share of a busy core like any other: with
 * 1,000 runnable threads it is some 50 accepts a second, and half of 2,000 clients wait for ever.
 * A thread blocks in recv, answers what came in one send, and blocks again: two system calls a
 * request and no epoll. No idle timeout: a timer per recv would cost this server time that the
 * others do not pay.
 *
 * Rejected: SO_REUSEPORT with several acceptors (accepting is no bottleneck with keep-alive), and
 * one SQLite connection per thread (see orders.c).
 */
#include "baseline.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK_BYTES = 96 * 1024 }; /* SQLite's deepest frame here stays under 20 KiB */

static struct {
    const struct options *opt;
    pthread_attr_t attr;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over; /* the listener is shut; no leader is left */
} front = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void serve_peer(int fd)
{
    struct session s;
    s.fd = fd;
    s.in_len = 0;
    s.out.len = 0;
    s.up.fd = -1;
    for (;;) {
        ssize_t n = recv(s.fd, s.in + s.in_len, sizeof s.in - s.in_len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        s.in_len += (size_t)n;
        if (!session_feed(&s))
            break;
    }
    upstream_close(&s.up);
    peers_close(s.fd);
}

static int accept_one(void)
{
    bool stop = false;
    while (!stop) {
        int fd = accept_peer(front.opt->listen_fd, SOCK_CLOEXEC, &stop);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

static void resign(void)
{
    pthread_mutex_lock(&front.lock);
    front.over = true;
    pthread_cond_signal(&front.changed);
    pthread_mutex_unlock(&front.lock);
}

static void *lead(void *arg)
{
    pthread_t t;
    int fd, rc;
    (void)arg;
    while ((fd = accept_one()) >= 0) {
        peers_add(fd);
        rc = pthread_create(&t, &front.attr, lead, NULL);
        if (!rc) {
            serve_peer(fd);
            return NULL;
        }
        fprintf(stderr, "fen-baseline: thread refused: %s\n", strerror(rc));
        peers_close(fd); /* no successor: this thread goes on leading */
    }
    resign();
    return NULL;
}

int serve_pthread(const struct options *opt)
{
    pthread_t t;
    front.opt = opt;
    pthread_attr_init(&front.attr);
    pthread_attr_setstacksize(&front.attr, STACK_BYTES);
    pthread_attr_setdetachstate(&front.attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&t, &front.attr, lead, NULL)) {
        fprintf(stderr, "fen-baseline: cannot start the accept loop\n");
        return 1;
    }
    wait_for_stop(opt);
    shutdown(opt->listen_fd, SHUT_RD); /* ends accept4 with EINVAL */
    pthread_mutex_lock(&front.lock);
    while (!front.over)
        pthread_cond_wait(&front.changed, &front.lock);
    pthread_mutex_unlock(&front.lock);
    peers_hang_up();
    peers_drain();
    return 0;
}
