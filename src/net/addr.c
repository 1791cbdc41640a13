/* addr.c - "host:port" with numeric hosts; names are resolved elsewhere, or not at all. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <string.h>

static int parse_port(const char *s, in_port_t *ret)
{
    unsigned v = 0;
    int n = 0;
    for (; s[n]; n++) {
        if (s[n] < '0' || s[n] > '9' || n == 5)
            return -EINVAL;
        v = v * 10 + (unsigned)(s[n] - '0');
    }
    if (!n || v > 65535)
        return -EINVAL;
    *ret = htons((in_port_t)v);
    return 0;
}

int fen__addr_parse(const char *text, struct fen__addr *ret_addr)
{
    struct fen__addr a;
    char host[64];
    in_port_t port;
    const char *colon = strrchr(text, ':');
    if (!colon || parse_port(colon + 1, &port))
        return -EINVAL;
    size_t n = (size_t)(colon - text);
    if (n >= sizeof host)
        return -EINVAL;
    memcpy(host, text, n);
    host[n] = 0;
    memset(&a, 0, sizeof a);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = port;
        a.len = sizeof a.v6;
        if (inet_pton(AF_INET6, host + 1, &a.v6.sin6_addr) != 1)
            return -EINVAL;
    } else if (n == 0) {
        a.any = true;
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = port;
        a.len = sizeof a.v6;
    } else {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = port;
        a.len = sizeof a.v4;
        const char *name = strcmp(host, "localhost") ? host : "127.0.0.1";
        if (inet_pton(AF_INET, name, &a.v4.sin_addr) != 1)
            return -EINVAL;
    }
    *ret_addr = a;
    return 0;
}
