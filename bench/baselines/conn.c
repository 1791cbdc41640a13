/* conn.c - a connection of the event-driven servers, between two events.
 *
 * An idle connection holds no buffer: the bytes of an unfinished request, if any, are put away in
 * a block of their size and fetched back before the next receive.
 */
#include "baseline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifdef __SANITIZE_THREAD__
/* Arming a descriptor orders that call before the close by whoever gets the event; the sanitizer
 * models this for EPOLL_CTL_ADD only and takes the close after EPOLL_CTL_MOD for a race. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
    return "race:^peers_close$\n";
}
#endif

struct conn *conn_new(int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    peers_add(fd);
    if (!c) {
        peers_close(fd);
        return NULL;
    }
    c->fd = fd;
    return c;
}

void conn_free(struct conn *c)
{
    link_free(c->link);
    peers_close(c->fd);
    free(c->rest);
    free(c);
}

int conn_receive(struct conn *c, char *buf, size_t size, bool *ret_more)
{
    size_t have = c->rest_len;
    size_t room = size - have;
    ssize_t n;
    do
        n = recv(c->fd, buf + have, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    if (n <= 0)
        return 0;
    if (have) {
        memcpy(buf, c->rest, have);
        free(c->rest);
        c->rest = NULL;
        c->rest_len = 0;
    }
    *ret_more = (size_t)n == room; /* a short read has emptied the socket */
    return (int)(have + (size_t)n);
}

bool conn_keep(struct conn *c, const char *rest, size_t len)
{
    if (len == 0)
        return true;
    c->rest = malloc(len);
    if (!c->rest)
        return false;
    memcpy(c->rest, rest, len);
    c->rest_len = (unsigned)len;
    return true;
}
