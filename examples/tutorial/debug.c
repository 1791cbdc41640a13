/* debug.c - a program that gets stuck, sees it itself and ends. Chapter 10. */
#include <fen/fen.h>
#include <stdio.h>

struct pair {
    fen_chan *a, *b;
    int ping_rc, pong_rc;
};

/* Each wants to send first. Nobody receives. */
static void ping(void *arg)
{
    struct pair *p = arg;
    int ball = 0;
    int rc = fen_label_set("side", FEN_SLICE("left"));
    if (!rc)
        rc = fen_chan_send(p->a, &ball);
    if (!rc)
        rc = fen_chan_recv(p->b, &ball);
    p->ping_rc = rc;
}

static void pong(void *arg)
{
    struct pair *p = arg;
    int ball = 0;
    int rc = fen_label_set("side", FEN_SLICE("right"));
    if (!rc)
        rc = fen_chan_send(p->b, &ball);
    if (!rc)
        rc = fen_chan_recv(p->a, &ball);
    p->pong_rc = rc;
}

static int app(void *arg)
{
    struct pair p = {fen_chan_new(sizeof(int), 0), fen_chan_new(sizeof(int), 0), 0, 0};
    (void)arg;
    fen_scope *s = p.a && p.b ? fen_scope_open(FEN_NEVER) : NULL;
    if (!s)
        return -ENOMEM;
    int rc = fen_go_named("ping", 0, ping, &p);
    if (!rc)
        rc = fen_go_named("pong", 0, pong, &p);
    if (rc)
        fen_scope_cancel(s);
    int ended = fen_scope_close(s);
    printf("ping: %s\npong: %s\n", fen_strerror(p.ping_rc), fen_strerror(p.pong_rc));
    fen_chan_free(p.a);
    fen_chan_free(p.b);
    return rc ? rc : ended;
}

/* What fen reports goes to the program's own log. */
static void report(void *arg, const char *text, size_t n)
{
    (void)arg;
    fwrite(text, 1, n, stderr);
}

int main(void)
{
    fen_config cfg = {.on_deadlock = FEN_DEADLOCK_CANCEL, .report = report};
    int rc = fen_run(app, NULL, &cfg);
    printf("the run: %s\n", rc == -EDEADLK ? "deadlock" : fen_strerror(rc));
    return rc != -EDEADLK;
}
