/* net.h - sockets, for the rooms above. */
#ifndef FEN_NET_ROOM_H
#define FEN_NET_ROOM_H

#include "poll/poll.h"

#include <fen/net.h>

struct fen_sock {
    int fd;
    struct fen__slot *slot;
    struct fen_sock *next_free;
};

/* The next connection's descriptor, non-blocking, TCP_NODELAY set; not registered. Errors as
 * fen_tcp_accept. deadline 0: -EAGAIN instead of waiting. */
int fen__net_accept_fd(fen_sock *l, int64_t deadline_ns);
/* Wraps a non-blocking descriptor; on failure it stays the caller's. */
int fen__sock_wrap(int fd, fen_sock **ret_sock) FEN_MUST_CHECK;
/* One read or write attempt loop on a slot, as fen_sock_read and fen_sock_write. */
ssize_t fen__net_read(struct fen__slot *s, void *buf, size_t n, int64_t deadline_ns);
ssize_t fen__net_write(struct fen__slot *s, const void *buf, size_t n, int64_t deadline_ns);
/* The same with a time-out that starts, and costs a look at the clock, only if it has to wait. */
ssize_t fen__net_write_within(struct fen__slot *s, const void *buf, size_t n, int64_t timeout_ns);

#endif
