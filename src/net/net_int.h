/* net_int.h - what the files of this room share: holding a socket, waiting for it. */
#ifndef FEN_NET_INT_H
#define FEN_NET_INT_H

#include "net/net.h"
#include "sched/sched.h"
#include "sys/sys.h"

#define FEN__SOCK_SHUT UINT32_C(0x80000000)

/* A call begins: true, and the descriptor and the slot stay this socket's until fen__sock_drop;
 * false: closed. Any thread. */
static inline bool fen__sock_hold(fen_sock *s)
{
    uint32_t u = __atomic_load_n(&s->users, __ATOMIC_RELAXED);
    do
        if (u & FEN__SOCK_SHUT)
            return false;
    while (!__atomic_compare_exchange_n(&s->users, &u, u + 1, true, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)); /* pairs with fen__sock_drop */
    return true;
}

/* Shut down for reading. A Unix listener and an unconnected UDP socket go on saying EAGAIN after
 * that, once woken by its event. Pairs with the store in fen_sock_shutdown. */
static inline bool fen__sock_is_shut(const fen_sock *s)
{
    return __atomic_load_n(&s->shut, __ATOMIC_ACQUIRE);
}

void fen__sock_release(fen_sock *s);

/* The call ends; the last one of a closed socket gives the descriptor back. */
static inline void fen__sock_drop(fen_sock *s)
{
    /* release: what this call did to fd and slot comes before their release by the last one */
    if (__atomic_sub_fetch(&s->users, 1, __ATOMIC_ACQ_REL) == FEN__SOCK_SHUT)
        fen__sock_release(s);
}

/* Waits unless the fiber's limits say otherwise. RT. */
int fen__net_wait(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns);

/* Calls try(s, arg) until it gives something else than -EAGAIN or -EINTR, and waits for d in
 * between: the result or why the waiting ended. Holds the socket; any phase. */
ssize_t fen__sock_try(fen_sock *s, enum fen__dir d, int64_t deadline_ns,
                      ssize_t (*try)(fen_sock *s, void *arg), void *arg);

/* A fiber's short sleep inside a call, RT: 0, or why it has to stop waiting. */
int fen__net_pause(int64_t until_ns);

/* As fen__sock_wrap, with what the socket is; a stream of an internet family is taken for TCP. */
int fen__sock_wrap_new(int fd, int family, int type, fen_sock **ret_sock) FEN_MUST_CHECK;

/* All options of a socket just made; 0 or the first failure. */
int fen__sock_options(int fd, int family, int type, const fen_sock_config *cfg);

#endif
