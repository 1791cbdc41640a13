/* channels.c - work handed out and collected over channels; a select that gives up. Chapter 2. */
#include <fen/fen.h>
#include <stdio.h>

struct desk {
    fen_chan *jobs;    /* of int; closed when there are no more */
    fen_chan *results; /* of int */
};

static void worker(void *arg)
{
    struct desk *d = arg;
    int job;
    while (fen_chan_recv(d->jobs, &job) == 0) { /* FEN_ECLOSED: no more jobs */
        int result = job * job;
        if (fen_chan_send(d->results, &result) < 0)
            return;
    }
}

static void hand_out(void *arg)
{
    struct desk *d = arg;
    for (int i = 1; i <= 100; i++)
        if (fen_chan_send(d->jobs, &i) < 0)
            return;
    fen_chan_close(d->jobs);
}

/* Takes results until none has come for a second. */
static int collect(struct desk *d)
{
    for (int n = 0, sum = 0, result;;) {
        fen_case cases[] = {FEN_RECV(d->results, &result), FEN_AFTER(FEN_S)};
        int chosen = fen_select(cases, 2, FEN_NEVER);
        if (chosen < 0)
            return chosen; /* the scope has ended */
        if (chosen == 1) {
            printf("%d results, their sum is %d; then silence\n", n, sum);
            return 0;
        }
        n++;
        sum += result;
    }
}

static int run_desk(struct desk *d)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    int rc = fen_go(hand_out, d);
    for (int i = 0; i < 4 && !rc; i++)
        rc = fen_go(worker, d);
    if (!rc)
        rc = collect(d);
    if (rc)
        fen_scope_cancel(s); /* else the close would wait for fibers that wait for us */
    int ended = fen_scope_close(s);
    return rc ? rc : ended;
}

static int app(void *arg)
{
    struct desk d = {fen_chan_new(sizeof(int), 0), fen_chan_new(sizeof(int), 16)};
    (void)arg;
    int rc = d.jobs && d.results ? run_desk(&d) : -ENOMEM;
    fen_chan_free(d.jobs);
    fen_chan_free(d.results);
    return rc;
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
