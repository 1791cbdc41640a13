/* router.c - a trie of path segments.
 *
 * A node is a prefix of whole segments. Its literal children are in one hash table for the whole
 * router, keyed by (node, segment): a root with a thousand children costs one probe, and a node
 * with one child costs no table of its own. A node has at most one parameter child (names belong
 * to the route, so "/a/{x}" and "/a/{y}/b" share it) and at most one tail.
 *
 * Matching walks down, literal first, and remembers on a small stack where a parameter or a tail
 * was passed over; on a dead end it goes on from the latest of those. Every node has one path from
 * the root, so a match visits no node twice. A route whose method differs is a dead end too, noted
 * in allowed: "POST /a/b" does not hide "GET /a/{x}".
 *
 * Rejected: a byte-wise radix tree, shorter on long common prefixes but with a branch per byte of
 * the path; one table per node. */
#include "http/router.h"
#include "http/parse.h"

#include <string.h>

/* All that the table's check needs is in the node, so a step of a match is one line of cache beside
 * the table's. */
struct fen__route_node {
    const struct fen__route_node *from;
    fen_slice segment; /* the literal that leads here from there */
    uint64_t last;     /* its last segment.n % 8 bytes */
    uint64_t seed;     /* what makes the hashes of this node's children its own */
    struct fen__route_node *param;
    struct fen__route *routes; /* that end here */
    struct fen__route *tails;  /* that end in {name...} here */
} FEN__ALIGN(FEN__LINE);

struct fen__route_edge {
    uint64_t hash;
    struct fen__route_node *to; /* NULL: free */
};

#define NO_METHOD (-1)
#define FIRST_EDGES 64 /* a power of two; the table is at most half full */

static uint64_t mix(uint64_t h, uint64_t w)
{
    __uint128_t m = (__uint128_t)(h ^ w) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* The 8 bytes at p as a little-endian word, zeroes from end on. [begin, end) is all that may be
 * read. */
static inline uint64_t word_at(const char *begin, const char *p, const char *end)
{
    uint64_t w = 0;
    if (FEN__LIKELY(end - p >= 8)) {
        memcpy(&w, p, 8);
    } else if (FEN__LIKELY(end - begin >= 8 && p < end)) {
        memcpy(&w, end - 8, 8);
        w >>= 8 * (8 - (end - p));
    } else {
        for (int i = 0; p + i < end; i++)
            w |= (uint64_t)(uint8_t)p[i] << 8 * i;
    }
    return w;
}

/* Where the first '/' is in the word; 8: nowhere. A byte of x is zero where w has a slash, and the
 * lowest top bit of the usual test for zero bytes is exact. */
static inline size_t slash_in(uint64_t w)
{
    uint64_t x = w ^ UINT64_C(0x2f2f2f2f2f2f2f2f);
    uint64_t zero = (x - UINT64_C(0x0101010101010101)) & ~x & UINT64_C(0x8080808080808080);
    return zero ? (size_t)__builtin_ctzll(zero) / 8 : 8;
}

struct segment {
    fen_slice text;
    uint64_t last; /* its last text.n % 8 bytes, as word_at reads them */
    uint64_t hash; /* not against chosen collisions: only patterns are stored, they are ours */
};

/* Takes the segment behind the '/' at **p; *p moves to the next '/' or the end. One pass finds the
 * end and the hash, 8 bytes at a time. */
static inline __attribute__((always_inline)) struct segment
next_segment(const char *begin, const char **p, const char *end)
{
    const char *from = *p + 1, *at = from;
    uint64_t h = 0, w = word_at(begin, at, end);
    size_t n;
    while ((n = slash_in(w)) == 8 && end - at >= 8) {
        h = mix(h, w);
        at += 8;
        w = word_at(begin, at, end);
    }
    if (n == 8)
        n = (size_t)(end - at); /* zeroes follow */
    else
        w &= (UINT64_C(1) << 8 * n) - 1;
    *p = at + n;
    return (struct segment){{from, (size_t)(*p - from)}, w, mix(h, w + n + 1)};
}

static inline bool leads_to(const struct fen__route_node *node, const struct segment *s)
{
    return node->segment.n == s->text.n && node->last == s->last &&
           (s->text.n < 8 || !memcmp(node->segment.p, s->text.p, s->text.n));
}

/* The slot of that child, or the free one where it would be. hash: with the node's seed. */
static inline struct fen__route_edge *edge_slot(struct fen__route_edge *edges, size_t cap,
                                                const struct fen__route_node *from,
                                                const struct segment *s, uint64_t hash)
{
    for (size_t i = hash & (cap - 1);; i = (i + 1) & (cap - 1)) {
        struct fen__route_edge *e = &edges[i];
        if (!e->to || (e->hash == hash && e->to->from == from && leads_to(e->to, s)))
            return e;
    }
}

/* ---- adding ---- */

/* align: a power of two; the arena's own is 16. */
static void *zeroed(fen_arena *a, size_t bytes, size_t align)
{
    char *p = fen_arena_alloc(a, bytes + align - 16);
    return p ? memset(p + (-(uintptr_t)p % align), 0, bytes) : NULL;
}

static struct fen__route_node *node_new(fen_arena *a, uint64_t seed)
{
    struct fen__route_node *node = zeroed(a, sizeof *node, FEN__LINE);
    if (node)
        node->seed = seed;
    return node;
}

int fen__router_init(struct fen__router *r, fen_arena *arena)
{
    *r = (struct fen__router){.arena = arena, .edges_cap = FIRST_EDGES};
    r->root = node_new(arena, 1);
    r->edges = zeroed(arena, FIRST_EDGES * sizeof *r->edges, FEN__LINE);
    return r->root && r->edges ? 0 : -ENOMEM;
}

static int grow_edges(struct fen__router *r)
{
    size_t cap = r->edges_cap * 2;
    struct fen__route_edge *edges = zeroed(r->arena, cap * sizeof *edges, FEN__LINE);
    if (!edges)
        return -ENOMEM;
    for (size_t i = 0; i < r->edges_cap; i++) {
        const struct fen__route_edge *e = &r->edges[i];
        if (!e->to)
            continue;
        size_t k = e->hash & (cap - 1);
        while (edges[k].to)
            k = (k + 1) & (cap - 1);
        edges[k] = *e;
    }
    r->edges = edges; /* the old table stays in the arena: patterns are added once */
    r->edges_cap = cap;
    return 0;
}

static int child_literal(struct fen__router *r, struct fen__route_node *node,
                         const struct segment *s, struct fen__route_node **ret_child)
{
    if (r->edges_n * 2 >= r->edges_cap && grow_edges(r) < 0)
        return -ENOMEM;
    uint64_t hash = mix(s->hash, node->seed);
    struct fen__route_edge *e = edge_slot(r->edges, r->edges_cap, node, s, hash);
    if (!e->to) {
        struct fen__route_node *child = node_new(r->arena, mix(hash, r->edges_n + 2));
        if (!child)
            return -ENOMEM;
        child->from = node;
        child->segment = s->text;
        child->last = s->last;
        *e = (struct fen__route_edge){hash, child};
        r->edges_n++;
    }
    *ret_child = e->to;
    return 0;
}

static int child_param(struct fen__router *r, struct fen__route_node *node,
                       struct fen__route_node **ret_child)
{
    if (!node->param)
        node->param = node_new(r->arena, mix(node->seed, 0x7b7d));
    *ret_child = node->param;
    return node->param ? 0 : -ENOMEM;
}

static int method_id(const struct fen__router *r, fen_slice method)
{
    for (int i = 0; i < r->methods_n; i++) {
        if (r->methods[i].n == method.n && !memcmp(r->methods[i].p, method.p, method.n))
            return i;
    }
    return NO_METHOD;
}

static bool valid_name(fen_slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!alpha && !(i && c >= '0' && c <= '9'))
            return false;
    }
    return s.n > 0;
}

/* Sorts a segment out: 'l'iteral, 'p'arameter, 't'ail or -EINVAL. A name is noted in the route. */
static int classify(struct fen__route *route, fen_slice s)
{
    if (!s.n || s.p[0] != '{') {
        for (size_t i = 0; i < s.n; i++) {
            uint8_t c = (uint8_t)s.p[i];
            if (c <= ' ' || c >= 0x7f || strchr("{}?#", c))
                return -EINVAL;
        }
        return 'l';
    }
    if (s.n < 3 || s.p[s.n - 1] != '}')
        return -EINVAL;
    bool tail = s.n > 5 && !memcmp(s.p + s.n - 4, "...", 3);
    fen_slice name = {s.p + 1, s.n - 2 - (tail ? 3 : 0)};
    if (!valid_name(name) || route->values_n == FEN__ROUTE_VALUES)
        return -EINVAL;
    for (int i = 0; i < route->values_n; i++) {
        if (route->names[i].n == name.n && !memcmp(route->names[i].p, name.p, name.n))
            return -EINVAL;
    }
    route->names[route->values_n++] = name;
    return tail ? 't' : 'p';
}

/* Walks the path into the trie: the list that the route belongs to. */
static int place(struct fen__router *r, struct fen__route *route, const char *path,
                 struct fen__route ***ret_list)
{
    struct fen__route_node *node = r->root;
    const char *begin = path, *end = path + strlen(path);
    int rc = 0;
    for (int depth = 0; path < end; depth++) {
        struct segment s = next_segment(begin, &path, end);
        int kind = depth < FEN__ROUTE_SEGMENTS ? classify(route, s.text) : -EINVAL;
        if (kind < 0)
            return kind;
        if (kind == 't') {
            *ret_list = &node->tails;
            return path == end ? 0 : -EINVAL;
        }
        rc = kind == 'p' ? child_param(r, node, &node) : child_literal(r, node, &s, &node);
        if (rc < 0)
            return rc;
    }
    *ret_list = &node->routes;
    return 0;
}

static int add_method(struct fen__router *r, fen_slice method)
{
    int id = method_id(r, method);
    if (id != NO_METHOD)
        return id;
    if (r->methods_n == FEN__ROUTE_METHODS)
        return -EINVAL;
    r->methods[r->methods_n] = method;
    return r->methods_n++;
}

int fen__router_add(struct fen__router *r, const char *pattern, fen_handler fn, void *arg)
{
    size_t n = 0;
    while (fen__http_token[(uint8_t)pattern[n]])
        n++;
    if (!n || pattern[n] != ' ' || pattern[n + 1] != '/')
        return -EINVAL;
    fen_slice names[FEN__ROUTE_VALUES];
    struct fen__route *route = zeroed(r->arena, sizeof *route, FEN__LINE), **list;
    if (!route)
        return -ENOMEM;
    route->names = names;
    int rc = place(r, route, pattern + n + 1, &list);
    if (rc < 0)
        return rc;
    if ((rc = add_method(r, (fen_slice){pattern, n})) < 0)
        return rc;
    for (; *list; list = &(*list)->next) {
        if ((*list)->method == rc)
            return -EEXIST;
    }
    size_t bytes = (size_t)route->values_n * sizeof *names;
    if (!(route->names = fen_arena_alloc(r->arena, bytes)))
        return -ENOMEM;
    memcpy(route->names, names, bytes);
    route->pattern = pattern;
    route->fn = fn;
    route->arg = arg;
    route->index = r->routes_n++;
    route->method = (uint16_t)rc;
    *list = route;
    return 0;
}

/* ---- matching ---- */

/* A branch passed over: the parameter child of node, or its tail when !param. */
struct branch {
    const struct fen__route_node *node;
    const char *at; /* the '/' before the segment */
    uint8_t values_n;
    bool param;
};

struct walk {
    int method, get; /* get: the fall-back for HEAD, else NO_METHOD */
    const char *begin, *end;
    struct fen__route_match *ret;
    int stack_n;
    struct branch stack[2 * FEN__ROUTE_SEGMENTS + 2];
};

static const struct fen__route *choose(struct walk *w, const struct fen__route *list)
{
    const struct fen__route *fallback = NULL;
    for (; list; list = list->next) {
        if (list->method == w->method)
            return list;
        if (list->method == w->get)
            fallback = list;
        w->ret->allowed |= UINT32_C(1) << list->method;
    }
    return fallback;
}

static void remember(struct walk *w, const struct fen__route_node *node, const char *at,
                     int values_n, bool param)
{
    w->stack[w->stack_n++] = (struct branch){node, at, (uint8_t)values_n, param};
}

/* From node down by the most literal way; branches go to the stack. */
static const struct fen__route *descend(const struct fen__router *r, struct walk *w,
                                        const struct fen__route_node *node, const char *at,
                                        int values_n)
{
    while (node && at < w->end) {
        const char *next = at;
        struct segment s = next_segment(w->begin, &next, w->end);
        const struct fen__route_node *child =
            edge_slot(r->edges, r->edges_cap, node, &s, mix(s.hash, node->seed))->to;
        if (node->tails)
            remember(w, node, at, values_n, false);
        if (node->param && s.text.n) {
            if (child) {
                remember(w, node, at, values_n, true);
            } else {
                w->ret->values[values_n++] = s.text;
                child = node->param;
            }
        }
        node = child;
        at = next;
    }
    return node ? choose(w, node->routes) : NULL;
}

static const struct fen__route *resume(const struct fen__router *r, struct walk *w)
{
    struct branch b = w->stack[--w->stack_n];
    const char *next = b.at;
    if (!b.param) {
        w->ret->values[b.values_n] = (fen_slice){b.at + 1, (size_t)(w->end - b.at - 1)};
        return choose(w, b.node->tails);
    }
    w->ret->values[b.values_n] = next_segment(w->begin, &next, w->end).text;
    return descend(r, w, b.node->param, next, b.values_n + 1);
}

int fen__router_match(const struct fen__router *r, fen_slice method, fen_slice path,
                      struct fen__route_match *ret)
{
    struct walk w;
    if (!path.n || path.p[0] != '/')
        return 404; /* "*" */
    w.method = method_id(r, method);
    w.get = method.n == 4 && !memcmp(method.p, "HEAD", 4) ? method_id(r, FEN_SLICE("GET"))
                                                          : NO_METHOD - 1;
    w.begin = path.p;
    w.end = path.p + path.n;
    w.ret = ret;
    w.stack_n = 0;
    ret->allowed = 0;
    const struct fen__route *route = descend(r, &w, r->root, path.p, 0);
    while (!route && w.stack_n)
        route = resume(r, &w);
    ret->route = route;
    return route ? 200 : ret->allowed ? 405 : 404;
}

int fen__router_allow(const struct fen__router *r, uint32_t allowed, char *out, size_t cap)
{
    size_t n = 0;
    bool head = method_id(r, FEN_SLICE("HEAD")) != NO_METHOD &&
                allowed >> method_id(r, FEN_SLICE("HEAD")) & 1;
    for (int i = 0; i < r->methods_n; i++) {
        if (!(allowed >> i & 1))
            continue;
        fen_slice m = r->methods[i];
        bool get = m.n == 3 && !memcmp(m.p, "GET", 3) && !head;
        size_t need = m.n + (n ? 2 : 0) + (get ? 6 : 0);
        if (cap - n < need)
            return -ERANGE;
        if (n) {
            memcpy(out + n, ", ", 2);
            n += 2;
        }
        memcpy(out + n, m.p, m.n);
        n += m.n;
        if (get) {
            memcpy(out + n, ", HEAD", 6);
            n += 6;
        }
    }
    return (int)n;
}

fen_slice fen__route_value(const struct fen__route_match *m, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; m->route && i < m->route->values_n; i++) {
        fen_slice have = m->route->names[i];
        if (have.n == n && !memcmp(have.p, name, n))
            return m->values[i];
    }
    return (fen_slice){NULL, 0};
}
