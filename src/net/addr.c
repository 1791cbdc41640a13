/* addr.c - addresses and their texts: numeric hosts and Unix names. Names of hosts are resolved
 * elsewhere, or not at all. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define UN_PATH offsetof(struct sockaddr_un, sun_path)

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

/* A path ends with a NUL that counts; an abstract name starts with one and has none. */
static int parse_unix(const char *name, fen_addr *a)
{
    union fen__sa *u = fen__addr_sa(a);
    size_t n = strlen(name);
    bool abstract = name[0] == '@';
    if (n < 1u + abstract || n >= sizeof u->un.sun_path)
        return -EINVAL;
    u->un.sun_family = AF_UNIX;
    memcpy(u->un.sun_path, name, n);
    if (abstract)
        u->un.sun_path[0] = 0;
    a->bytes = (uint32_t)(UN_PATH + n + !abstract);
    return 0;
}

static int parse_host(const char *host, size_t n, in_port_t port, fen_addr *a)
{
    char text[64];
    union fen__sa *u = fen__addr_sa(a);
    if (n >= sizeof text)
        return -EINVAL;
    memcpy(text, host, n);
    text[n] = 0;
    bool v6 = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    a->any = n == 0;
    if (v6 || a->any) {
        u->v6.sin6_family = AF_INET6;
        u->v6.sin6_port = port;
        a->bytes = sizeof u->v6;
        if (a->any)
            return 0;
        text[n - 1] = 0;
        return inet_pton(AF_INET6, text + 1, &u->v6.sin6_addr) == 1 ? 0 : -EINVAL;
    }
    u->v4.sin_family = AF_INET;
    u->v4.sin_port = port;
    a->bytes = sizeof u->v4;
    const char *name = strcmp(text, "localhost") ? text : "127.0.0.1";
    return inet_pton(AF_INET, name, &u->v4.sin_addr) == 1 ? 0 : -EINVAL;
}

int fen_addr_parse(const char *text, fen_addr *ret_addr)
{
    fen_addr a = {0};
    in_port_t port;
    int rc;
    if (!strncmp(text, "unix:", 5)) {
        rc = parse_unix(text + 5, &a);
    } else {
        const char *colon = strrchr(text, ':');
        if (!colon || parse_port(colon + 1, &port))
            return -EINVAL;
        rc = parse_host(text, (size_t)(colon - text), port, &a);
    }
    if (!rc)
        *ret_addr = a;
    return rc;
}

static int text_of_unix(const fen_addr *a, char *buf, size_t bytes)
{
    const union fen__sa *u = fen__addr_csa(a);
    int n = a->bytes > UN_PATH ? (int)(a->bytes - UN_PATH) : 0;
    if (n && u->un.sun_path[0]) /* a path: up to its NUL */
        return snprintf(buf, bytes, "unix:%.*s", n, u->un.sun_path);
    return n ? snprintf(buf, bytes, "unix:@%.*s", n - 1, u->un.sun_path + 1)
             : snprintf(buf, bytes, "unix:");
}

int fen_addr_text(const fen_addr *a, char *buf, size_t bytes)
{
    char host[INET6_ADDRSTRLEN] = "";
    const union fen__sa *u = fen__addr_csa(a);
    int port = fen_addr_port(a), n;
    switch (fen__addr_family(a)) {
    case AF_INET:
        inet_ntop(AF_INET, &u->v4.sin_addr, host, sizeof host);
        n = snprintf(buf, bytes, "%s:%d", host, port);
        break;
    case AF_INET6:
        if (a->any) {
            n = snprintf(buf, bytes, ":%d", port);
        } else if (IN6_IS_ADDR_V4MAPPED(&u->v6.sin6_addr)) {
            inet_ntop(AF_INET, &u->v6.sin6_addr.s6_addr[12], host, sizeof host);
            n = snprintf(buf, bytes, "%s:%d", host, port);
        } else {
            inet_ntop(AF_INET6, &u->v6.sin6_addr, host, sizeof host);
            n = snprintf(buf, bytes, "[%s]:%d", host, port);
        }
        break;
    default: n = text_of_unix(a, buf, bytes);
    }
    return n < 0 || (size_t)n >= bytes ? -ENOSPC : n;
}

int fen_addr_port(const fen_addr *a)
{
    const union fen__sa *u = fen__addr_csa(a);
    switch (fen__addr_family(a)) {
    case AF_INET: return ntohs(u->v4.sin_port);
    case AF_INET6: return ntohs(u->v6.sin6_port);
    default: return 0;
    }
}

void fen__addr_any_v4(fen_addr *a)
{
    in_port_t port = fen__addr_csa(a)->v6.sin6_port;
    *a = (fen_addr){.bytes = sizeof(struct sockaddr_in), .any = 1};
    fen__addr_sa(a)->v4.sin_family = AF_INET;
    fen__addr_sa(a)->v4.sin_port = port;
}

void fen__addr_map(fen_addr *a)
{
    struct sockaddr_in v4 = fen__addr_csa(a)->v4;
    *a = (fen_addr){.bytes = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 *v6 = &fen__addr_sa(a)->v6;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = v4.sin_port;
    v6->sin6_addr.s6_addr[10] = v6->sin6_addr.s6_addr[11] = 0xff;
    memcpy(&v6->sin6_addr.s6_addr[12], &v4.sin_addr, 4);
}
