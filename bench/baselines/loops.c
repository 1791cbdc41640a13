/* loops.c - event loops, one thread each, and the thread that deals them connections.
 *
 * One listener and one acceptor, which hands out connections in turn: with SO_REUSEPORT the kernel
 * would hash them, and a hundred connections over two loops come out as uneven as 40 to 60.
 */
#include "baseline.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOPS_MAX = 64 };

struct deal {
    const struct options *opt;
    struct loop loops[LOOPS_MAX];
    int n;
};

static void *accept_loop(void *arg)
{
    struct deal *d = arg;
    bool stop = false;
    for (unsigned turn = 0; !stop;) {
        int fd = accept_peer(d->opt->listen_fd, SOCK_CLOEXEC | SOCK_NONBLOCK, &stop);
        struct conn *c = fd < 0 ? NULL : conn_new(fd);
        if (!c)
            continue;
        struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        conn_hand_over(c);
        if (epoll_ctl(d->loops[turn++ % (unsigned)d->n].epfd, EPOLL_CTL_ADD, fd, &ev))
            conn_free(c);
    }
    return NULL;
}

static int loop_open(struct loop *l, const struct options *opt, int stop_fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    l->opt = opt;
    l->stop_fd = stop_fd;
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    return l->epfd < 0 ? -1 : epoll_ctl(l->epfd, EPOLL_CTL_ADD, stop_fd, &ev);
}

int loops_run(const struct options *opt, int n, void *(*run)(void *loop))
{
    static struct deal d;
    pthread_t acceptor, threads[LOOPS_MAX];
    int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d.opt = opt;
    d.n = n < LOOPS_MAX ? n : LOOPS_MAX;
    for (int i = 0; i < d.n; i++)
        if (loop_open(&d.loops[i], opt, stop_fd) ||
            pthread_create(&threads[i], NULL, run, &d.loops[i])) {
            perror("fen-baseline: cannot start a loop");
            return 1;
        }
    if (pthread_create(&acceptor, NULL, accept_loop, &d)) {
        fprintf(stderr, "fen-baseline: cannot start the accept loop\n");
        return 1;
    }
    wait_for_stop(opt);
    shutdown(opt->listen_fd, SHUT_RD); /* ends accept4 with EINVAL */
    pthread_join(acceptor, NULL);
    peers_hang_up();
    if (!peers_drain())
        return 0; /* the rest ends with the process */
    eventfd_write(stop_fd, 1);
    for (int i = 0; i < d.n; i++) {
        pthread_join(threads[i], NULL);
        close(d.loops[i].epfd);
    }
    close(stop_fd);
    return 0;
}
