/* orders.h - the order service's routes. */
#ifndef SERVE_ORDERS_H
#define SERVE_ORDERS_H

#include "serve/store.h"
#include "serve/upstream.h"

#include <fen/http.h>

/* What the handlers share; set up before serving, then only read. */
struct orders {
    struct store *store;
    struct upstream *backend; /* NULL: no /quotes */
    int64_t deadline_ns;      /* of each request */
};

/* Adds the routes. 0 or fen_route's error. */
int orders_routes(fen_server *s, struct orders *o) FEN_MUST_CHECK;

#endif
