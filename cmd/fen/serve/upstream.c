/* upstream.c - calls to a back end over kept-alive connections, one for each call under way; or
 * over a few pipelined ones (upstream_pipe.c).
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
#include "serve/upstream_int.h"

#include <fen/err.h>
#include <fen/net.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    fen_sock *sock;
    uint32_t next; /* atomic: a loser of a race may read it while the winner writes */
};

struct upstream {
    const char *addr;
    struct pipe *pipe;    /* NULL: a connection for each call */
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
        struct upstream_head head;
        int whole = upstream__parse(a->buf, have, &head);
        if (whole < 0)
            return whole;
        if (whole > 0 && have > (size_t)whole)
            return FEN_EPARSE; /* more than was asked for: whose answer is it? */
        if (whole == 0)
            continue;
        upstream__take_head(&head, a);
        *ret_keep = head.keep;
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
    char request[UPSTREAM_REQUEST_MAX];
    if (strlen(path) > UPSTREAM_PATH_MAX)
        return FEN_ELIMIT;
    if (u->pipe)
        return pipe_get(u->pipe, path, a);
    size_t n = upstream__request(u->addr, path, request);
    for (bool may_reuse = true;; may_reuse = false) {
        fen_sock *s;
        bool used, silent, keep_it = false;
        int rc = connection(u, may_reuse, &used, &s);
        if (rc < 0)
            return rc;
        rc = ask(s, request, n, a, &silent, &keep_it);
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
    if (!colon || colon == addr || strlen(addr) > UPSTREAM_ADDR_MAX)
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

int upstream_start(struct upstream *u, int conns)
{
    return conns ? pipe_start(u->addr, conns, &u->pipe) : 0;
}

void upstream_stop(struct upstream *u)
{
    if (!u || !u->pipe)
        return;
    pipe_stop(u->pipe);
    u->pipe = NULL;
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
