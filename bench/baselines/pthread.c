/* pthread.c - --mode=pthread: a thread for each connection.
 *
 * The accept loop blocks in accept4 and starts one detached thread per connection with a small
 * stack; glibc keeps the stacks of finished threads and hands them out again. A thread blocks in
 * recv, answers what came in one send, and blocks again: two system calls a request and no epoll.
 * No idle timeout: a timer per recv would cost this server time that the others do not pay.
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

static void *connection(void *arg)
{
    struct session s;
    s.fd = (int)(intptr_t)arg;
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
    return NULL;
}

static void *accept_loop(void *arg)
{
    const struct options *opt = arg;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    bool stop = false;
    while (!stop) {
        pthread_t t;
        int fd = accept_peer(opt->listen_fd, SOCK_CLOEXEC, &stop);
        if (fd < 0)
            continue;
        peers_add(fd);
        int rc = pthread_create(&t, &attr, connection, (void *)(intptr_t)fd);
        if (rc) {
            fprintf(stderr, "fen-baseline: thread refused: %s\n", strerror(rc));
            peers_close(fd);
        }
    }
    pthread_attr_destroy(&attr);
    return NULL;
}

int serve_pthread(const struct options *opt)
{
    pthread_t t;
    if (pthread_create(&t, NULL, accept_loop, (void *)opt)) {
        fprintf(stderr, "fen-baseline: cannot start the accept loop\n");
        return 1;
    }
    wait_for_stop(opt);
    shutdown(opt->listen_fd, SHUT_RD); /* ends accept4 with EINVAL */
    pthread_join(t, NULL);
    peers_hang_up();
    peers_drain();
    return 0;
}
