/* addr.h - numeric addresses as text. */
#ifndef FEN_NET_ADDR_H
#define FEN_NET_ADDR_H

#include "base/base.h"

#include <netinet/in.h>

struct fen__addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t len;
    bool any; /* ":port": every address, both families */
};

/* 0 or -EINVAL; see fen_tcp_listen. */
int fen__addr_parse(const char *text, struct fen__addr *ret_addr) FEN_MUST_CHECK;

#endif
