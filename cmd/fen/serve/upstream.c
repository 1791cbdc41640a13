/* upstream.c - calls to a back end over kept-alive connections.
 *
 * A connection is in the stack or belongs to one call. It goes back only after a whole answer with
 * nothing behind it, from a peer that keeps it open; a call that was cancelled, late or answered
 * with nonsense closes it, because the rest of its answer would become the next caller's.
 *
 * The peer may close an idle connection at any moment. A call that finds out before the first byte
 * of an answer asks once more, on a new connection: GET may be repeated.
 *
 * The stack: last in, first out keeps few connections warm and lets the others be closed by the
 * peer. It is two linked lists through one array (idle and spare nodes); each head is one word, the
 * low half the first node's number plus 1 (0: none), the high half a count that every change
 * raises, so that a node which left and came back between a reader's load and its CAS is noticed.
 * A lock would do, but its holder may lose its thread.
 * Equation: idle nodes + spare nodes + nodes in a push or a pop = UPSTREAM_IDLE_MAX. */
#include "serve/upstream.h"

#include <fen/buf.h>
#include <fen/err.h>
#include <fen/net.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct node {
    fen_sock *sock;
    uint32_t next; /* atomic: a loser of a race may read it while the winner writes */
};

struct upstream {
    const char *addr;
    uint64_t idle, spare; /* atomic heads */
    int idle_count;       /* atomic */
    int64_t dialed;       /* atomic */
    struct node nodes[UPSTREAM_IDLE_MAX];
};

static struct node *pop(struct upstream *u, uint64_t *head)
{
    /* Acquire pairs with the release in push: the node's fields are those of its last push. */
    uint64_t h = __atomic_load_n(head, __ATOMIC_ACQUIRE), to;
    struct node *n;
    do {
        if (!(uint32_t)h)
            return NULL;
        n = &u->nodes[(uint32_t)h - 1];
        to = ((h >> 32) + 1) << 32 | __atomic_load_n(&n->next, __ATOMIC_RELAXED);
    } while (!__atomic_compare_exchange_n(head, &h, to, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
    return n;
}

static void push(struct upstream *u, uint64_t *head, struct node *n)
{
    uint64_t h = __atomic_load_n(head, __ATOMIC_RELAXED), to;
    do {
        __atomic_store_n(&n->next, (uint32_t)h, __ATOMIC_RELAXED);
        to = ((h >> 32) + 1) << 32 | (uint32_t)(n - u->nodes + 1);
    } while (!__atomic_compare_exchange_n(head, &h, to, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

static fen_sock *take(struct upstream *u)
{
    struct node *n = pop(u, &u->idle);
    if (!n)
        return NULL;
    fen_sock *s = n->sock;
    push(u, &u->spare, n);
    __atomic_fetch_sub(&u->idle_count, 1, __ATOMIC_RELAXED);
    return s;
}

static void keep(struct upstream *u, fen_sock *s)
{
    struct node *n = pop(u, &u->spare);
    if (!n) {
        fen_sock_close(s);
        return;
    }
    n->sock = s;
    push(u, &u->idle, n);
    __atomic_fetch_add(&u->idle_count, 1, __ATOMIC_RELAXED);
}

/* ---- the answer ---- */

/* The value of a field in the lines between the status line and the blank line. */
static fen_slice field(fen_slice head, const char *name)
{
    size_t len = strlen(name);
    const char *end = head.p + head.n;
    for (const char *at = head.p; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        if ((size_t)(stop - at) > len && at[len] == ':' && !strncasecmp(at, name, len)) {
            at += len + 1;
            while (at < stop && (*at == ' ' || *at == '\t'))
                at++;
            while (stop > at && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t'))
                stop--;
            return (fen_slice){at, (size_t)(stop - at)};
        }
        at = stop + 1;
    }
    return (fen_slice){NULL, 0};
}

/* The body's length, or FEN_EPARSE, or FEN_ELIMIT. */
static int length_of(fen_slice head)
{
    fen_slice v = field(head, "content-length");
    if (field(head, "transfer-encoding").p || v.n == 0)
        return FEN_EPARSE;
    int n = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return FEN_EPARSE;
        n = n * 10 + (v.p[i] - '0');
        if (n > UPSTREAM_ANSWER_MAX)
            return FEN_ELIMIT;
    }
    return n;
}

static bool is(fen_slice v, const char *word)
{
    return v.n == strlen(word) && !strncasecmp(v.p, word, v.n);
}

/* Looks at the first `have` bytes: the whole answer's length once its head is in (fields of *a set,
 * *ret_keep whether the peer keeps the connection), 0 while it is not, or an error. */
static int parse(struct upstream_answer *a, size_t have, bool *ret_keep)
{
    const char *blank = memmem(a->buf, have, "\r\n\r\n", 4);
    if (!blank)
        return have == sizeof a->buf ? FEN_ELIMIT : 0;
    const char *p = a->buf;
    if (blank - p < 12 || memcmp(p, "HTTP/1.", 7) || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
        return FEN_EPARSE;
    a->status = 0;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return FEN_EPARSE;
        a->status = a->status * 10 + (p[i] - '0');
    }
    if (a->status < 200) /* an interim answer: nobody asked for one */
        return FEN_EPARSE;
    const char *fields = memchr(p, '\n', have);
    fen_slice head = {fields + 1, fields < blank ? (size_t)(blank + 2 - fields - 1) : 0};
    int n = a->status == 204 || a->status == 304 ? 0 : length_of(head);
    if (n < 0)
        return n;
    fen_slice connection = field(head, "connection");
    *ret_keep = p[7] == '1' ? !is(connection, "close") : is(connection, "keep-alive");
    a->body = (fen_slice){blank + 4, (size_t)n};
    size_t whole = (size_t)(blank + 4 - p) + (size_t)n;
    return whole > sizeof a->buf ? FEN_ELIMIT : (int)whole;
}

/* ---- the call ---- */

/* One question on one connection. *ret_silent: the connection failed before any byte came. */
static int ask(fen_sock *s, const char *request, size_t n, struct upstream_answer *a,
               bool *ret_silent, bool *ret_keep)
{
    size_t have = 0;
    *ret_silent = true;
    ssize_t rc = fen_sock_write(s, request, n, FEN_NEVER);
    if (rc < 0)
        return (int)rc;
    for (;;) {
        rc = fen_sock_read(s, a->buf + have, sizeof a->buf - have, FEN_NEVER);
        if (rc <= 0)
            return rc < 0 ? (int)rc : have ? FEN_EPARSE : -ECONNRESET;
        *ret_silent = false;
        have += (size_t)rc;
        int whole = parse(a, have, ret_keep);
        if (whole < 0)
            return whole;
        if (whole > 0 && have > (size_t)whole)
            return FEN_EPARSE; /* more than was asked for: whose answer is it? */
        if (whole > 0 && have == (size_t)whole)
            return 0;
    }
}

static int connection(struct upstream *u, bool may_reuse, bool *ret_used, fen_sock **ret)
{
    *ret = may_reuse ? take(u) : NULL;
    *ret_used = *ret != NULL;
    if (*ret)
        return 0;
    int rc = fen_tcp_dial(u->addr, FEN_NEVER, ret);
    if (rc == 0)
        __atomic_fetch_add(&u->dialed, 1, __ATOMIC_RELAXED);
    return rc;
}

static bool peer_gone(int rc) { return rc == -ECONNRESET || rc == -EPIPE || rc == -ENOTCONN; }

int upstream_get(struct upstream *u, const char *path, struct upstream_answer *a)
{
    char request[UPSTREAM_PATH_MAX + 128];
    fen_buf b = fen_buf_fixed(request, sizeof request);
    fen_buf_put(&b, "GET ", 4);
    fen_buf_put_str(&b, path);
    fen_buf_put(&b, " HTTP/1.1\r\nHost: ", 17);
    fen_buf_put_str(&b, u->addr);
    fen_buf_put(&b, "\r\n\r\n", 4);
    if (b.err || strlen(path) > UPSTREAM_PATH_MAX)
        return FEN_ELIMIT;
    for (bool may_reuse = true;; may_reuse = false) {
        fen_sock *s;
        bool used, silent, keep_it = false;
        int rc = connection(u, may_reuse, &used, &s);
        if (rc < 0)
            return rc;
        rc = ask(s, request, b.n, a, &silent, &keep_it);
        if (rc == 0 && keep_it)
            keep(u, s);
        else
            fen_sock_close(s);
        if (!(used && silent && peer_gone(rc)))
            return rc;
    }
}

/* ---- life ---- */

static bool could_be_address(const char *addr)
{
    const char *colon = strrchr(addr, ':');
    if (!colon || colon == addr || strlen(addr) > 64)
        return false;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    return colon[1] >= '0' && colon[1] <= '9' && *end == 0 && port > 0 && port < 65536;
}

int upstream_open(const char *addr, struct upstream **ret)
{
    if (!could_be_address(addr))
        return -EINVAL;
    struct upstream *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->addr = addr;
    for (int i = 0; i < UPSTREAM_IDLE_MAX; i++)
        u->nodes[i].next = i + 1 < UPSTREAM_IDLE_MAX ? (uint32_t)i + 2 : 0;
    u->spare = 1;
    *ret = u;
    return 0;
}

void upstream_close(struct upstream *u)
{
    if (!u)
        return;
    for (fen_sock *s; (s = take(u));)
        fen_sock_close(s);
    free(u);
}

int upstream_idle(const struct upstream *u)
{
    return __atomic_load_n(&u->idle_count, __ATOMIC_RELAXED);
}

int64_t upstream_dialed(const struct upstream *u)
{
    return __atomic_load_n(&u->dialed, __ATOMIC_RELAXED);
}
