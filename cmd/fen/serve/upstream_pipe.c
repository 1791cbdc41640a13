/* upstream_pipe.c - calls to a back end over a few pipelined connections.
 *
 * A system call towards the back end costs as much as one towards the client, so a connection for
 * each call doubles the price of a request. Here a call is a record in the queue of a line and some
 * bytes in its buffer; one write takes the questions of all calls that have gathered, one read
 * brings many answers, in the order of the questions (RFC 9112, 9.3.2).
 *
 * A line has two fibers. line_main waits until somebody asks, dials, reads, deals out the answers
 * and, when the connection is gone, sorts out who still waits. writer_main lives as long as one
 * connection, in a scope of its own: it sleeps while the buffer is empty, and writes at most once
 * every GATHER_NS under load; the first question after a pause of that length leaves at once.
 *
 *   CLOSED --a call--> DIALING --connected--> OPEN --broken--> DIALING (somebody waits) or CLOSED
 *                      DIALING --refused, all told--> CLOSED
 *
 * A call belongs to its caller and to the queue (refs = 2); the last one frees it. Its state:
 *
 *   WAITING --reader, result in place--> DONE      WAITING --caller, scope ended--> LEFT
 *
 * each by a CAS, so one side decides. The answer to a call that was left is read and dropped. If it
 * does not come within STUCK_NS, everybody behind it waits for nothing: the connection is replaced.
 *
 * A connection that breaks is not the fault of all who wait. Blamed is the first in the queue, and
 * all if the connection brought no answer; who is blamed twice gets the error. None after an answer
 * that announced the close. Each connection answers or blames at least one, so this ends.
 *
 * Lock: line.lock guards what struct line says. It is a thread's mutex, held for a few
 * instructions, in which no fen call is made (it might change threads).
 * Equations: waiting = length of the queue = ROOM - permits of room - callers between acquire and
 * append; unsent <= waiting.
 *
 * Rejected: one fiber that reads and writes (it would need select over a socket and a buffer); a
 * connection for each P (a fiber may change its P between question and answer); priorities
 * (pipelining has none). What pipelining costs: an answer that is slow holds up those behind it. */
#include "serve/upstream_int.h"

#include <fen/err.h>
#include <fen/fiber.h>
#include <fen/net.h>
#include <fen/scope.h>
#include <fen/sync.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define GATHER_NS (200 * FEN_US)
#define STUCK_NS FEN_S
#define DIAL_NS (5 * FEN_S)

enum { ROOM = 4096, INPUT_BYTES = 8 << 10, OUTPUT_BYTES = 4 << 10, SMALL = 384 };

enum call_state { WAITING, DONE, LEFT };

struct call {
    struct call *next; /* in the queue */
    fen_wg done;       /* not a semaphore: that would look like a jam (docs/adr/0007-starts.md) */
    int refs, state;   /* atomic */
    bool blamed;
    int64_t left_ns; /* written before LEFT */
    int result;      /* this and the rest: before DONE */
    int bytes_n;
    struct upstream_head head;
    char *bytes; /* the answer: small, or on the heap */
    char small[SMALL];
    char path[]; /* terminated */
};

enum line_state { CLOSED, DIALING, OPEN };

struct text {
    char *p;
    size_t n, cap;
};

struct line {
    const char *addr;
    fen_sem room, wanted, unwritten; /* places in the queue; kicks for line_main, writer_main */
    fen_sock *sock;                  /* of line_main and its writer */
    char *in;                        /* line_main's */
    struct text leaving;             /* writer_main's */
    pthread_mutex_t lock;            /* of all below */
    enum line_state state;
    bool writing; /* a kick is on its way to the writer, or it is at work (or dead: open_line) */
    int waiting, unsent;
    struct text out;
    struct call *first, **end;
};

struct pipe {
    fen_scope *scope;
    int n;
    struct line lines[];
};

/* ---- calls ---- */

static void unref(struct call *c)
{
    /* Acquire-release: pairs with the other side's unref; its last use comes before the free. */
    if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    if (c->bytes != c->small)
        free(c->bytes);
    free(c);
}

static bool move(struct call *c, enum call_state to)
{
    int from =
        WAITING; /* release: result or left_ns; pairs with the acquire here and in has_left */
    return __atomic_compare_exchange_n(&c->state, &from, (int)to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static bool has_left(const struct call *c)
{
    return __atomic_load_n(&c->state, __ATOMIC_ACQUIRE) == LEFT; /* pairs with move */
}

/* The queue's last touch of a call that has been taken off it. */
static void finish(struct line *l, struct call *c, int result)
{
    c->result = result;
    if (move(c, DONE))
        fen_wg_done(&c->done);
    unref(c);
    fen_sem_release(&l->room);
}

static void finish_with(struct line *l, struct call *c, const char *p, int n,
                        const struct upstream_head *h)
{
    if (n > SMALL) {
        char *bytes = malloc((size_t)n);
        if (!bytes) {
            finish(l, c, -ENOMEM);
            return;
        }
        c->bytes = bytes;
    }
    memcpy(c->bytes, p, (size_t)n);
    c->bytes_n = n;
    c->head = *h;
    finish(l, c, 0);
}

static struct call *call_new(const char *path)
{
    size_t n = strlen(path) + 1;
    struct call *c = malloc(sizeof *c + n);
    if (!c)
        return NULL;
    memset(c, 0, offsetof(struct call, small));
    fen_wg_add(&c->done, 1);
    c->bytes = c->small;
    c->refs = 2;
    memcpy(c->path, path, n);
    return c;
}

/* ---- the queue, with the lock ---- */

static bool put_question(struct line *l, const struct call *c)
{
    struct text *t = &l->out;
    if (t->cap - t->n < UPSTREAM_REQUEST_MAX) {
        size_t cap = t->cap ? t->cap * 2 : OUTPUT_BYTES;
        char *p = realloc(t->p, cap);
        if (!p)
            return false;
        t->p = p;
        t->cap = cap;
    }
    t->n += upstream__request(l->addr, c->path, t->p + t->n);
    l->unsent++;
    return true;
}

static void append(struct line *l, struct call *c)
{
    c->next = NULL;
    *l->end = c;
    l->end = &c->next;
    l->waiting++;
}

static struct call *take_first(struct line *l)
{
    struct call *c = l->first;
    l->first = c->next;
    if (!l->first)
        l->end = &l->first;
    l->waiting--;
    return c;
}

/* ---- the caller ---- */

static int ask(struct line *l, struct call *c)
{
    bool dial = false, write = false, ok = true;
    pthread_mutex_lock(&l->lock);
    if (l->state == OPEN) {
        ok = put_question(l, c);
        write = ok && !l->writing;
        l->writing |= write;
    } else if (l->state == CLOSED) {
        dial = true;
        l->state = DIALING;
    }
    if (ok)
        append(l, c);
    pthread_mutex_unlock(&l->lock);
    if (dial)
        fen_sem_release(&l->wanted);
    if (write)
        fen_sem_release(&l->unwritten);
    return ok ? 0 : -ENOMEM;
}

static int wait_for(struct call *c)
{
    int rc = fen_wg_wait(&c->done);
    if (rc < 0) {
        c->left_ns = fen_now();
        if (move(c, LEFT))
            return rc;
    }
    return c->result; /* DONE: ordered by the wait group, or by the CAS that failed */
}

int pipe_get(struct pipe *p, const char *path, struct upstream_answer *a)
{
    struct line *l = &p->lines[fen_fiber_id() % (unsigned)p->n];
    int rc = fen_sem_acquire(&l->room);
    if (rc < 0)
        return rc;
    struct call *c = call_new(path);
    rc = c ? ask(l, c) : -ENOMEM;
    if (rc < 0) {
        free(c); /* the queue never saw it */
        fen_sem_release(&l->room);
        return rc;
    }
    rc = wait_for(c);
    if (rc == 0) {
        memcpy(a->buf, c->bytes, (size_t)c->bytes_n);
        upstream__take_head(&c->head, a);
    }
    unref(c);
    return rc;
}

/* ---- the writer: as long as one connection ---- */

/* Is the first answer overdue, for a call that nobody waits for? */
static bool stuck(struct line *l, int64_t now)
{
    pthread_mutex_lock(&l->lock);
    const struct call *c = l->first;
    bool yes = c && has_left(c) && now - c->left_ns > STUCK_NS;
    pthread_mutex_unlock(&l->lock);
    return yes;
}

/* Takes what has gathered; false, and `writing` off, when there is nothing. */
static bool take_out(struct line *l, bool *ret_waiting)
{
    pthread_mutex_lock(&l->lock);
    struct text full = l->out;
    l->out = l->leaving;
    l->out.n = 0;
    l->leaving = full;
    l->unsent = 0;
    l->writing = full.n > 0;
    *ret_waiting = l->first != NULL;
    pthread_mutex_unlock(&l->lock);
    return full.n > 0;
}

/* Writes until nothing has gathered. */
static int write_out(struct line *l, int64_t *last_ns, bool *ret_waiting)
{
    int64_t now = fen_now();
    for (;;) {
        int rc = now - *last_ns < GATHER_NS ? fen_sleep_until(*last_ns + GATHER_NS) : 0;
        if (rc < 0)
            return rc;
        if (!take_out(l, ret_waiting))
            return 0;
        now = *last_ns = fen_now();
        ssize_t put = fen_sock_write(l->sock, l->leaving.p, l->leaving.n, now + STUCK_NS);
        if (put < 0)
            return (int)put;
    }
}

static void writer_main(void *arg)
{
    struct line *l = arg;
    int64_t last_ns = 0;
    bool waiting = true;
    int rc;
    do {
        int64_t look = waiting ? fen_now() + STUCK_NS / 2 : FEN_NEVER;
        rc = fen_sem_acquire_until(&l->unwritten, look);
        if (rc == 0)
            rc = write_out(l, &last_ns, &waiting);
        else if (rc == -ETIMEDOUT && fen_scope_check(NULL) == 0)
            rc = stuck(l, fen_now()) ? rc : 0;
    } while (rc == 0);
    fen_scope_cancel(fen_scope_current()); /* ends the reader's wait */
}

/* ---- the reader ---- */

struct harvest {
    bool any;    /* an answer has come over this connection */
    bool polite; /* the last one announced the close */
    int head_rc; /* what the first in the queue gets if it is not asked again; 0: unknown */
};

/* The first answer of `have` bytes: its length, 0 when it is not whole, or an error. */
static int deal_one(struct line *l, const char *p, size_t have, struct harvest *h)
{
    struct upstream_head head;
    int n = upstream__parse(p, have, &head);
    if (n <= 0)
        return n;
    pthread_mutex_lock(&l->lock);
    struct call *c = l->waiting > l->unsent ? take_first(l) : NULL;
    pthread_mutex_unlock(&l->lock);
    if (!c)
        return FEN_EPARSE; /* nobody has asked */
    h->any = true;
    h->polite = !head.keep;
    finish_with(l, c, p, n, &head);
    return n;
}

/* Until the connection is of no more use. */
static void read_answers(struct line *l, struct harvest *h)
{
    size_t have = 0;
    for (;;) {
        ssize_t got = fen_sock_read(l->sock, l->in + have, INPUT_BYTES - have, FEN_NEVER);
        if (got <= 0)
            return;
        have += (size_t)got;
        size_t at = 0;
        int n;
        while (at < have && (n = deal_one(l, l->in + at, have - at, h)) != 0) {
            h->head_rc = n < 0 ? n : 0;
            if (n < 0 || h->polite)
                return;
            at += (size_t)n;
        }
        memmove(l->in, l->in + at, have - at);
        have -= at;
        fen_yield(); /* they first: thousands made ready at once would wait for each other */
    }
}

/* Who still waits when a connection is gone: rc 0, blamed as the head of the file says, or told rc.
 * True: somebody waits for the next one. */
static bool sort_out(struct line *l, int rc, const struct harvest *h)
{
    struct call *keep = NULL, **keep_end = &keep;
    int kept = 0;
    pthread_mutex_lock(&l->lock);
    struct call *c = l->first, *next;
    l->first = NULL;
    l->end = &l->first;
    l->waiting = 0;
    l->state = DIALING;
    pthread_mutex_unlock(&l->lock);
    for (bool first = true; c; c = next, first = false) {
        next = c->next;
        bool blame = rc == 0 && !h->polite && (first || !h->any);
        int why = rc ? rc : first && h->head_rc ? h->head_rc : blame && c->blamed ? -ECONNRESET : 0;
        if (why || has_left(c)) {
            finish(l, c, why);
            continue;
        }
        c->blamed |= blame;
        *keep_end = c;
        keep_end = &c->next;
        kept++;
    }
    pthread_mutex_lock(&l->lock);
    if (keep) {
        *keep_end = l->first;
        if (!l->first)
            l->end = keep_end;
        l->first = keep;
        l->waiting += kept;
    }
    bool more = l->first != NULL;
    if (!more)
        l->state = CLOSED;
    pthread_mutex_unlock(&l->lock);
    return more;
}

/* Asks for all who wait. */
static int open_line(struct line *l)
{
    bool ok = true;
    pthread_mutex_lock(&l->lock);
    l->out.n = 0;
    l->unsent = 0;
    for (struct call *c = l->first; c && ok; c = c->next)
        ok = put_question(l, c);
    if (ok) {
        l->state = OPEN;
        l->writing = true;
    }
    pthread_mutex_unlock(&l->lock);
    if (ok)
        fen_sem_release(&l->unwritten);
    return ok ? 0 : -ENOMEM;
}

/* One connection, from the first question to its end. 0, or why there was none. */
static int converse(struct line *l, struct harvest *h)
{
    int rc = fen_tcp_dial(l->addr, fen_now() + DIAL_NS, &l->sock);
    if (rc < 0)
        return rc;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    rc = s ? open_line(l) : -ENOMEM;
    if (rc == 0)
        rc = fen_go_named("upstream writer", 0, writer_main, l);
    if (rc == 0)
        read_answers(l, h);
    if (s) {
        fen_scope_cancel(s);
        (void)fen_scope_close(s);
    }
    fen_sock_close(l->sock);
    return rc;
}

static void line_main(void *arg)
{
    struct line *l = arg;
    bool more = false;
    while (more || fen_sem_acquire(&l->wanted) == 0) {
        struct harvest h = {0};
        int rc = converse(l, &h);
        if (fen_scope_check(NULL) < 0)
            rc = -ECANCELED;
        more = sort_out(l, rc, &h);
    }
}

/* ---- life ---- */

static void free_all(struct pipe *p)
{
    for (int i = 0; i < p->n; i++) {
        struct line *l = &p->lines[i];
        pthread_mutex_destroy(&l->lock);
        free(l->in);
        free(l->out.p);
        free(l->leaving.p);
    }
    free(p);
}

static int line_start(struct line *l, const char *addr)
{
    l->addr = addr;
    l->end = &l->first;
    fen_sem_init(&l->room, ROOM);
    fen_sem_init(&l->wanted, 0);
    fen_sem_init(&l->unwritten, 0);
    l->in = malloc(INPUT_BYTES);
    return l->in ? fen_go_named("upstream line", 0, line_main, l) : -ENOMEM;
}

int pipe_start(const char *addr, int conns, struct pipe **ret)
{
    struct pipe *p = calloc(1, sizeof *p + (size_t)conns * sizeof p->lines[0]);
    if (!p)
        return -ENOMEM;
    p->scope = fen_scope_open(FEN_NEVER);
    if (!p->scope) {
        free(p);
        return -ENOMEM;
    }
    p->n = conns;
    int rc = 0;
    for (int i = 0; i < conns; i++)
        pthread_mutex_init(&p->lines[i].lock, NULL);
    for (int i = 0; i < conns && rc == 0; i++)
        rc = line_start(&p->lines[i], addr);
    if (rc < 0)
        pipe_stop(p);
    else
        *ret = p;
    return rc;
}

void pipe_stop(struct pipe *p)
{
    fen_scope_cancel(p->scope);
    (void)fen_scope_close(p->scope);
    free_all(p);
}
