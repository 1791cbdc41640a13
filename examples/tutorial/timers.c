/* timers.c - a ticker beside other work, and a watchdog that is started over. Chapter 6. */
#include <fen/fen.h>
#include <stdatomic.h>
#include <stdio.h>

struct feeder {
    fen_chan *lines;
    int rc;
};

static void feed(void *arg)
{
    struct feeder *f = arg;
    for (int i = 1; i <= 3 && !f->rc; i++) {
        f->rc = fen_sleep(20 * FEN_MS);
        if (!f->rc)
            f->rc = fen_chan_send(f->lines, &i);
    }
} /* and then says nothing any more */

/* Reads lines until none has come for a second, and counts ticks meanwhile. */
static int listen_to(fen_chan *lines, fen_timer *watchdog, fen_timer *ticker)
{
    int64_t when;
    int ticks = 0, line;
    int rc = fen_timer_every(ticker, fen_now() + 10 * FEN_MS, 10 * FEN_MS);
    if (rc >= 0)
        rc = fen_timer_start(watchdog, fen_now() + FEN_S);
    while (rc >= 0) {
        fen_case cases[] = {FEN_RECV(lines, &line), FEN_RECV(fen_timer_chan(ticker), &when),
                            FEN_RECV(fen_timer_chan(watchdog), &when)};
        rc = fen_select(cases, 3, FEN_NEVER);
        if (rc == 0) {
            printf("line %d\n", line);
            rc = fen_timer_start(watchdog, fen_now() + FEN_S); /* moves it */
        } else if (rc == 1) {
            ticks++;
        } else if (rc == 2) {
            printf("silence; ticks were %s\n", ticks > 3 ? "many" : "few");
            break;
        }
    }
    fen_timer_stop(ticker);
    fen_timer_stop(watchdog);
    return rc < 0 ? rc : 0;
}

static void count_up(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

/* A timer with a function. Stop says whether it was in time. */
static int stopped_in_time(void)
{
    static _Atomic int calls;
    fen_timer *t = fen_timer_new_func(count_up, &calls);
    if (!t)
        return -ENOMEM;
    int rc = fen_timer_start(t, fen_now() + 60 * FEN_S);
    int stopped = fen_timer_stop(t);
    printf("stopped in time: %d, calls: %d\n", stopped, atomic_load(&calls));
    fen_timer_free(t);
    return rc < 0 ? rc : 0;
}

static int app(void *arg)
{
    struct feeder f = {fen_chan_new(sizeof(int), 0), 0};
    fen_timer *watchdog = fen_timer_new(), *ticker = fen_timer_new();
    (void)arg;
    int rc = -ENOMEM;
    fen_scope *s = f.lines && watchdog && ticker ? fen_scope_open(FEN_NEVER) : NULL;
    if (s) {
        rc = fen_go(feed, &f);
        if (!rc)
            rc = listen_to(f.lines, watchdog, ticker);
        fen_scope_cancel(s);
        fen_scope_close(s);
    }
    fen_timer_free(watchdog);
    fen_timer_free(ticker);
    fen_chan_free(f.lines);
    return rc ? rc : stopped_in_time();
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
