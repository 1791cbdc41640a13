/* router.h - "METHOD /a/{id}/b" patterns: filled before serving, then read-only and shared. */
#ifndef FEN_HTTP_ROUTER_H
#define FEN_HTTP_ROUTER_H

#include "base/base.h"

#include <fen/arena.h>
#include <fen/http.h>

#define FEN__ROUTE_VALUES 8    /* parameters of a pattern */
#define FEN__ROUTE_SEGMENTS 32 /* segments of a pattern; a longer path can only match a tail */
#define FEN__ROUTE_METHODS 16  /* different methods in one router */

struct fen__route {
    const char *pattern; /* as given, borrowed: also the name of the operation in the bill */
    fen_handler fn;
    void *arg;
    struct fen__route *next; /* same path, other method */
    int index;               /* 0, 1, ... in the order of adding */
    int values_n;
    uint16_t method;  /* index into methods */
    fen_slice *names; /* [values_n] of the parameters, inside pattern */
};

struct fen__route_match {
    const struct fen__route *route;
    fen_slice values[FEN__ROUTE_VALUES]; /* inside the path, still percent-encoded */
    uint32_t allowed;                    /* on 405: methods, for fen__router_allow */
};

struct fen__router {
    fen_arena *arena; /* everything but this head lies there */
    struct fen__route_node *root;
    struct fen__route_edge *edges; /* hash table of (node, segment) */
    size_t edges_cap, edges_n;
    fen_slice methods[FEN__ROUTE_METHODS];
    int methods_n;
    int routes_n;
};

/* An empty router over an arena that outlives it: 0 or -ENOMEM. */
int fen__router_init(struct fen__router *r, fen_arena *arena) FEN_MUST_CHECK;

/* pattern: a method, one space, a path from '/'. A segment is literal text, {name} (one non-empty
 * segment) or, at the end, {name...} (the rest, slashes included, perhaps empty). pattern is
 * borrowed. 0; -EINVAL malformed or over a limit above; -EEXIST another route with that method
 * matches exactly the same paths; -ENOMEM. A failure changes no later match. */
int fen__router_add(struct fen__router *r, const char *pattern, fen_handler fn,
                    void *arg) FEN_MUST_CHECK;

/* Finds the route for a method and an encoded path without query. Segment by segment a literal
 * beats a parameter beats a tail, among the routes that have the method; GET answers HEAD.
 *   200  ret->route and the first route->values_n of ret->values are set
 *   404  no pattern has this path
 *   405  some have, with other methods: ret->allowed
 * Paths are compared as sent: ".", ".." and "//" mean nothing here. No memory; any thread. */
int fen__router_match(const struct fen__router *r, fen_slice method, fen_slice path,
                      struct fen__route_match *ret) FEN_MUST_CHECK;

/* Writes the Allow list ("GET, HEAD, POST") of a 405: its length, or -ERANGE if cap is short. */
int fen__router_allow(const struct fen__router *r, uint32_t allowed, char *out,
                      size_t cap) FEN_MUST_CHECK;

/* The captured value of {name}; {NULL,0} if the pattern has none. */
fen_slice fen__route_value(const struct fen__route_match *m, const char *name);

#endif
