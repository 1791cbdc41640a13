/* exchange.c - what a handler may ask of its request. */
#include "http/server_int.h"
#include "http/uri.h"

#include "sys/sys.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

fen_slice fen_method(const fen_exchange *x) { return x->req.method; }
fen_slice fen_path(const fen_exchange *x) { return x->req.path; }
fen_slice fen_body(const fen_exchange *x) { return x->body; }
fen_arena *fen_exchange_arena(fen_exchange *x) { return x->conn->work->arena; }

bool fen_exchange_local(const fen_exchange *x)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage any;
    } a = {0};
    socklen_t n = sizeof a;
    if (fen__sys_peername(x->conn->fd, &a.sa, &n))
        return false;
    if (a.sa.sa_family == AF_INET)
        return ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    if (a.sa.sa_family != AF_INET6)
        return a.sa.sa_family == AF_UNIX;
    return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr) && a.v6.sin6_addr.s6_addr[12] == 127);
}

fen_slice fen_header(const fen_exchange *x, const char *name)
{
    return fen__http_field(&x->req, name, strlen(name));
}

/* 0, -ENOENT, or what decoding says. */
static int path_text(fen_exchange *x, const char *name, fen_slice *ret)
{
    fen_slice raw = fen__route_value(&x->match, name);
    if (!raw.p)
        return -ENOENT;
    return fen__uri_decode(raw, false, fen_exchange_arena(x), ret);
}

fen_slice fen_path_value(fen_exchange *x, const char *name)
{
    const fen_slice none = {0};
    fen_slice v;
    return path_text(x, name, &v) ? none : v;
}

int fen_path_i64(fen_exchange *x, const char *name, int64_t *ret_value)
{
    fen_slice v;
    int rc = path_text(x, name, &v);
    return rc ? rc : fen__uri_i64(v, ret_value);
}

int fen_query_value(fen_exchange *x, const char *name, fen_slice *ret_value)
{
    return fen__uri_query(x->req.query, name, strlen(name), fen_exchange_arena(x), ret_value);
}

int fen_query_i64(fen_exchange *x, const char *name, int64_t *ret_value)
{
    fen_slice v;
    int rc = fen_query_value(x, name, &v);
    return rc ? rc : fen__uri_i64(v, ret_value);
}

void fen_exchange_timeout(fen_exchange *x, int64_t timeout_ns)
{
    fen_scope_set_deadline(&x->scope, fen__time_after(fen_now(), timeout_ns));
}
