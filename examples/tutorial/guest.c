/* guest.c - fen inside a program that has threads of its own. Chapter 11.
 *
 * The host is plain threads. One of them runs fen; the others hand it work over a channel and get
 * results over another, by the calls that fibers use.
 */
#include <fen/fen.h>
#include <pthread.h>
#include <stdio.h>

struct office {
    fen_chan *in, *out; /* of int64_t; made by the host, without a runtime */
};

static void clerk(void *arg)
{
    struct office *o = arg;
    int64_t n;
    while (fen_chan_recv(o->in, &n) == 0) {
        n = fen_sleep(10 * FEN_MS) < 0 ? -1 : n * n; /* as if it asked somebody */
        if (fen_chan_send(o->out, &n) < 0)
            return;
    }
}

static int app(void *arg)
{
    for (int i = 0; i < 8; i++) { /* in the run's own scope: fen_run waits for them */
        int rc = fen_go(clerk, arg);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void *runtime_main(void *arg)
{
    int rc = fen_run(app, arg, &(fen_config){.procs = 1});
    if (rc < 0)
        fprintf(stderr, "guest: %s\n", fen_strerror(rc));
    return NULL;
}

static void *asker_main(void *arg)
{
    struct office *o = arg;
    for (int64_t i = 1; i <= 100; i++)
        if (fen_chan_send(o->in, &i) < 0) /* blocks this thread while the office is busy */
            break;
    fen_chan_close(o->in); /* the clerks end, and with them the run */
    return NULL;
}

int main(void)
{
    struct office o = {fen_chan_new(sizeof(int64_t), 0), fen_chan_new(sizeof(int64_t), 100)};
    pthread_t runtime, asker;
    int64_t sum = 0, n;
    fen_outsider_begin(); /* a run in which all fibers wait is no deadlock: we may wake them */
    if (!o.in || !o.out || pthread_create(&runtime, NULL, runtime_main, &o))
        return 1;
    if (pthread_create(&asker, NULL, asker_main, &o))
        return 1;
    for (int i = 0; i < 100; i++)
        if (fen_chan_recv(o.out, &n) == 0)
            sum += n;
    pthread_join(asker, NULL);
    pthread_join(runtime, NULL);
    fen_outsider_end();
    fen_chan_free(o.in);
    fen_chan_free(o.out);
    printf("the sum of 100 squares is %lld\n", (long long)sum);
    return sum != 338350;
}
