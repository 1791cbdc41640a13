/* addr.h - addresses as the kernel wants them. */
#ifndef FEN_NET_ADDR_H
#define FEN_NET_ADDR_H

#include "base/base.h"

#include <assert.h>
#include <fen/net.h>
#include <netinet/in.h>
#include <sys/un.h>

/* raw is aligned and large enough for each of these. */
union fen__sa {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
};
static_assert(sizeof(union fen__sa) <= sizeof(((fen_addr *)0)->raw), "an address fits");

static inline union fen__sa *fen__addr_sa(fen_addr *a) { return (union fen__sa *)(void *)a->raw; }
static inline const union fen__sa *fen__addr_csa(const fen_addr *a)
{
    return (const union fen__sa *)(const void *)a->raw;
}
static inline int fen__addr_family(const fen_addr *a)
{
    return a->bytes ? fen__addr_csa(a)->sa.sa_family : AF_UNSPEC;
}
/* ":port" for a kernel without IPv6. */
void fen__addr_any_v4(fen_addr *a);
/* An IPv4 address for an IPv6 socket. */
void fen__addr_map(fen_addr *a);

#endif
