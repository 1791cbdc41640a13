/* chat.c - a chat server: two fibers a member, a queue of lines between them. Chapter 7.
 *
 *     build/release/tutorial_chat                   three people talk, in this process
 *     build/release/tutorial_chat 127.0.0.1:7000    serves until SIGINT; talk to it with nc
 */
#include <fen/fen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 200
#define OUT_LINES 32 /* a member that is further behind is thrown out */

struct line {
    int n;
    char text[LINE_MAX_BYTES + 50];
};

/* A socket and what was read of the next line. */
struct wire {
    fen_sock *sock;
    size_t n;
    char buf[LINE_MAX_BYTES];
};

struct member {
    struct room *room;
    struct member *next; /* under the room's lock */
    fen_chan *out;       /* of struct line: to be written to it */
    struct wire wire;
    char name[20];
};

struct room {
    fen_mutex lock;
    struct member *members; /* under lock */
};

/* The next line without its end, NUL-terminated. 0, FEN_ECLOSED at the end, FEN_ELIMIT, -errno. */
static int read_line(struct wire *w, char *ret_line)
{
    for (;;) {
        char *end = memchr(w->buf, '\n', w->n);
        if (end) {
            size_t used = (size_t)(end - w->buf) + 1;
            size_t n = used > 1 && end[-1] == '\r' ? used - 2 : used - 1;
            memcpy(ret_line, w->buf, n);
            ret_line[n] = 0;
            memmove(w->buf, w->buf + used, w->n -= used);
            return 0;
        }
        if (w->n == sizeof w->buf)
            return FEN_ELIMIT;
        ssize_t n = fen_sock_read(w->sock, w->buf + w->n, sizeof w->buf - w->n, FEN_NEVER);
        if (n <= 0)
            return n ? (int)n : FEN_ECLOSED;
        w->n += (size_t)n;
    }
}

/* Room's lock held. Never waits for a member: who does not read is thrown out. */
static void tell_all(struct room *r, const struct line *l)
{
    for (struct member *m = r->members; m; m = m->next)
        if (fen_chan_try_send(m->out, l) == -EAGAIN)
            fen_sock_shutdown(m->wire.sock, FEN_SHUT_BOTH); /* both its fibers see that */
}

static int say(struct room *r, const char *who, const char *what)
{
    struct line l;
    l.n = snprintf(l.text, sizeof l.text, "%s%s\n", who, what);
    int rc = fen_mutex_lock(&r->lock);
    if (rc < 0)
        return rc;
    tell_all(r, &l);
    fen_mutex_unlock(&r->lock);
    return 0;
}

static int enter(struct member *m)
{
    int rc = fen_mutex_lock(&m->room->lock);
    if (rc < 0)
        return rc;
    m->next = m->room->members;
    m->room->members = m;
    fen_mutex_unlock(&m->room->lock);
    return say(m->room, m->name, " is here");
}

/* A clean-up of the member's scope: there a lock cannot be refused by a cancel. */
static void leave(void *arg)
{
    struct member *m = arg;
    if (fen_mutex_lock(&m->room->lock) < 0)
        abort(); /* cannot be: clean-ups run with cancellation masked, and there is no deadline */
    struct member **at = &m->room->members;
    while (*at && *at != m)
        at = &(*at)->next;
    bool was_there = *at;
    if (was_there)
        *at = m->next;
    fen_mutex_unlock(&m->room->lock);
    if (was_there)
        (void)!say(m->room, m->name, " left");
}

/* Writes what the others say, until the queue is closed or the peer does not take it. */
static void write_lines(void *arg)
{
    struct member *m = arg;
    struct line l;
    while (fen_chan_recv(m->out, &l) == 0)
        if (fen_sock_write(m->wire.sock, l.text, (size_t)l.n, fen_now() + 5 * FEN_S) < 0)
            break;
    fen_sock_shutdown(m->wire.sock, FEN_SHUT_BOTH); /* the reader ends too */
}

static int read_lines(struct member *m)
{
    char line[LINE_MAX_BYTES], who[sizeof m->name + 2];
    int rc = read_line(&m->wire, line);
    if (rc < 0)
        return rc;
    snprintf(m->name, sizeof m->name, "%.19s", line);
    snprintf(who, sizeof who, "%s: ", m->name);
    rc = enter(m);
    while (rc == 0) {
        rc = read_line(&m->wire, line);
        if (rc == 0)
            rc = say(m->room, who, line);
    }
    return rc;
}

static void member_free(struct member *m)
{
    fen_chan_free(m->out);
    fen_sock_close(m->wire.sock);
    free(m);
}

static void member_main(void *arg)
{
    struct member *m = arg;
    fen_defer_record leaving;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (s) {
        fen_defer(s, &leaving, leave, m);
        if (fen_go(write_lines, m) == 0)
            (void)!read_lines(m);
        fen_chan_close(m->out); /* the writer writes what is left, and ends */
        fen_scope_close(s);     /* waits for it, then leaves the room */
    }
    member_free(m);
}

static int welcome(struct room *r, fen_sock *sock)
{
    struct member *m = calloc(1, sizeof *m);
    if (!m) {
        fen_sock_close(sock);
        return -ENOMEM;
    }
    *m = (struct member){.room = r, .wire.sock = sock};
    m->out = fen_chan_new(sizeof(struct line), OUT_LINES);
    int rc = m->out ? fen_go(member_main, m) : -ENOMEM;
    if (rc < 0)
        member_free(m);
    return rc;
}

struct chat {
    fen_sock *listener;
    struct room room;
};

static void accept_all(void *arg)
{
    struct chat *c = arg;
    fen_sock *sock;
    while (fen_sock_accept(c->listener, FEN_NEVER, &sock) == 0)
        if (welcome(&c->room, sock) < 0)
            fprintf(stderr, "chat: no room for another\n");
}

static int until_signal(const char *addr)
{
    fen_signal *sig;
    int rc = fen_signal_open((int[]){SIGINT, SIGTERM}, 2, &sig);
    if (rc < 0)
        return rc;
    printf("listening on %s\n", addr);
    rc = fflush(stdout) ? -EIO : fen_chan_recv(fen_signal_chan(sig), NULL);
    fen_signal_close(sig);
    return rc;
}

/* ---- three people, for a demonstration ---- */

struct person {
    const char *name;
    struct wire wire;
};

static int hears(struct person *p)
{
    char line[LINE_MAX_BYTES];
    int rc = read_line(&p->wire, line);
    printf("%s reads: %s\n", p->name, rc < 0 ? fen_strerror(rc) : line);
    return rc;
}

static int types(struct person *p, const char *text)
{
    ssize_t n = fen_sock_write(p->wire.sock, text, strlen(text), FEN_NEVER);
    return n < 0 ? (int)n : 0;
}

static int comes(struct person *p, const char *addr, const char *hello)
{
    int rc = fen_tcp_dial(addr, FEN_NEVER, &p->wire.sock);
    if (!rc)
        rc = types(p, hello);
    return rc ? rc : hears(p);
}

static int talk(const char *addr)
{
    struct person p[3] = {{.name = "ann"}, {.name = "bob"}, {.name = "eve"}};
    int rc = comes(&p[0], addr, "ann\n");
    if (!rc)
        rc = comes(&p[1], addr, "bob\n");
    if (!rc)
        rc = hears(&p[0]);
    if (!rc)
        rc = types(&p[0], "good morning\n");
    for (int i = 0; i < 2 && !rc; i++)
        rc = hears(&p[i]);
    if (!rc)
        rc = comes(&p[2], addr, "eve\r\n");
    fen_sock_close(p[1].wire.sock);
    for (int i = 0; i < 2 && !rc; i++) /* that eve is here; that bob left */
        rc = hears(&p[0]);
    if (!rc)
        rc = hears(&p[2]);
    fen_sock_close(p[0].wire.sock);
    fen_sock_close(p[2].wire.sock);
    return rc;
}

static int run_chat(struct chat *c, const char *addr)
{
    char self[FEN_ADDR_TEXT];
    fen_scope *s = fen_scope_open(addr ? FEN_NEVER : fen_now() + 20 * FEN_S);
    if (!s)
        return -ENOMEM;
    int rc = fen_go(accept_all, c);
    snprintf(self, sizeof self, "127.0.0.1:%d", fen_sock_port(c->listener));
    if (!rc)
        rc = addr ? until_signal(self) : talk(self);
    fen_scope_cancel(s); /* accept and every read of a member return */
    fen_scope_close(s);
    return rc;
}

static int app(void *arg)
{
    struct chat c = {0};
    const char *addr = arg, *at = addr ? addr : "127.0.0.1:0";
    int rc = fen_tcp_listen(at, 0, &c.listener);
    if (rc == 0)
        rc = run_chat(&c, addr);
    if (rc < 0)
        fprintf(stderr, "chat: %s: %s\n", at, fen_strerror(rc));
    fen_sock_close(c.listener);
    return rc;
}

int main(int argc, char **argv) { return fen_run(app, argc > 1 ? argv[1] : NULL, NULL) < 0; }
