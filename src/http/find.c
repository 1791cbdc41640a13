/* find.c - asking a server's router without a request. */
#include "http/server_int.h"

int fen_route_find(const fen_server *s, fen_slice method, fen_slice path, const char **ret_pattern)
{
    struct fen__route_match m;
    int status = fen__router_match(&s->router, method, path, &m);
    if (status == 200)
        *ret_pattern = m.route->pattern;
    return status;
}
