/* net.h - sockets, for the rooms above. */
#ifndef FEN_NET_ROOM_H
#define FEN_NET_ROOM_H

#include "poll/poll.h"

#include <fen/net.h>

/* A slab record, never unmapped within the process; sock.c has its protocol. */
struct fen_sock {
    uint32_t users; /* atomic: FEN__SOCK_SHUT | calls under way */
    int fd;
    struct fen__slot *slot;
    struct fen_sock *next_free;
    uint8_t family, type;
    uint8_t zc; /* the writer's: enum in zc.c */
    uint8_t zc_copies;
    bool shut;                    /* atomic: fen_sock_shutdown ended its reading */
    bool tcp;                     /* a short read has taken all (stream.c) */
    uint32_t pause_ns;            /* the acceptor's: its last pause for want of descriptors */
    uint64_t zc_sends, zc_copied; /* the writer's, as is what follows */
    uint64_t zc_done;
};

/* The next connection's descriptor, non-blocking, TCP_NODELAY set; not registered. Errors as
 * fen_tcp_accept, without a pause. deadline 0: -EAGAIN instead of waiting. */
int fen__net_accept_fd(fen_sock *l, int64_t deadline_ns);
/* Wraps a non-blocking descriptor; on failure it stays the caller's. */
int fen__sock_wrap(int fd, fen_sock **ret_sock) FEN_MUST_CHECK;
/* One read or write attempt loop on a slot that only the caller closes, as fen_sock_read and
 * fen_sock_write. Reads are of TCP only: a short one is taken for all there was. */
ssize_t fen__net_read(struct fen__slot *s, void *buf, size_t n, int64_t deadline_ns);
ssize_t fen__net_write(struct fen__slot *s, const void *buf, size_t n, int64_t deadline_ns);
/* The same with a time-out that starts, and costs a look at the clock, only if it has to wait. */
ssize_t fen__net_write_within(struct fen__slot *s, const void *buf, size_t n, int64_t timeout_ns);

/* Before a descriptor that fen has opened is registered (fdwait.c). Any thread. */
void fen__fd_new(int fd);

#endif
