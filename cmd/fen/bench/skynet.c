/* skynet.c - a tree of fibers: each starts ten below it and adds up what they send over a channel,
 * down to a million leaves (github.com/atemerev/skynet). 1,111,111 fibers and as many messages on
 * two Ps. The first round maps the stacks; the second finds them.
 *
 * A node's memory comes from malloc, as Go's closure comes from its heap. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <stdlib.h>

#define LEAVES INT64_C(1000000)
#define FAN 10
#define FEW INT64_C(1000) /* what threads can do */
#define SKYNET_ROUNDS 2
#define PROCS 2

struct node {
    fen_chan *to;
    int64_t from, leaves;
};

static void grow(void *arg);

/* The sum of what the children send, or -1. */
static int64_t sum_below(int64_t from, int64_t leaves)
{
    struct node *child = malloc(FAN * sizeof *child);
    fen_chan *c = fen_chan_new(sizeof(int64_t), 0);
    int64_t v, sum = 0;
    int n = 0;
    for (; child && c && n < FAN; n++) {
        child[n] = (struct node){c, from + n * (leaves / FAN), leaves / FAN};
        if (fen_go(grow, &child[n]))
            break;
    }
    bool good = n == FAN;
    for (; n > 0 && fen_chan_recv(c, &v) == 0; n--) {
        good = good && v >= 0;
        sum += v;
    }
    if (n == 0) { /* else somebody still looks at it; the run has failed, and the process ends */
        fen_chan_free(c);
        free(child);
    }
    return good ? sum : -1;
}

static void grow(void *arg)
{
    const struct node *n = arg;
    int64_t v = n->leaves == 1 ? n->from : sum_below(n->from, n->leaves);
    (void)!fen_chan_send(n->to, &v);
}

static double *skynet_out; /* in the child only */

static int skynet_run(void *arg)
{
    double *out = skynet_out;
    int64_t leaves = *(const int64_t *)arg;
    for (int i = 0; i < SKYNET_ROUNDS; i++) {
        double from = now_s();
        fen_scope *s = fen_scope_open(FEN_NEVER);
        int64_t sum = s ? sum_below(0, leaves) : -1;
        if (s && fen_scope_close(s))
            sum = -1;
        out[i] = sum == leaves * (leaves - 1) / 2 ? (now_s() - from) * 1e3 : NAN;
    }
    return 0;
}

static void skynet_main(void *arg, double *out)
{
    skynet_out = out;
    fen_run(skynet_run, arg, &(fen_config){.procs = PROCS});
}

void bench_skynet(void)
{
    struct pairs p;
    int64_t leaves = LEAVES, few = FEW;
    pairs_with_go(&p, skynet_main, &leaves, SKYNET_ROUNDS, "skynet", PROCS, runs_or(5));
    pairs_emit(&p, 1, 1,
               (struct figure){.name = "skynet_1000000_second",
                               .unit = "ms",
                               .bar = true,
                               .at_least = 0.6,
                               .aim = 0.4,
                               .bar_on_ratio = true});
    pairs_emit(&p, 0, 1, (struct figure){.name = "skynet_1000000_first", .unit = "ms"});
    pairs_with(&p, skynet_main, "pthread", threads_skynet, &few, SKYNET_ROUNDS, runs_or(5));
    pairs_emit(&p, 1, 1, (struct figure){.name = "skynet_1000_pthread", .unit = "ms"});
}
