/* poller.c - what a ready descriptor costs beside 100, 1,000 and 10,000 idle ones.
 *
 * One P. Half as many loopback connections as idle descriptors, a fiber in a read on either end;
 * and 64 more that bounce a byte, on which each read is one wait for one event. An operation is a
 * byte sent, its event, and the read of it, so the system calls of sending and reading are in it.
 *
 * Beside it poll(2) as one would write it by hand, without fibers: an array of the idle and of 64
 * active descriptors; write to all active ones, poll, read those that are ready. It grows with the
 * number of idle ones; what has to be flat is fen's. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAIRS 64
#define TRIPS 400 /* of each pair, a round */
#define IDLE_MAX 10000
#define SOCKS_MAX (IDLE_MAX + 2 * PAIRS)

struct setting {
    int idle, run;
};

static fen_sock *socks[SOCKS_MAX]; /* in the child only; ends of a pair lie side by side */
static fen_wg rounds_done;

static void idle_reader(void *arg)
{
    char b;
    (void)!fen_sock_read(arg, &b, 1, FEN_NEVER);
}

static void echo(void *arg)
{
    char b;
    while (fen_sock_read(arg, &b, 1, FEN_NEVER) == 1)
        if (fen_sock_write(arg, &b, 1, FEN_NEVER) != 1)
            return;
}

static void bouncer(void *arg)
{
    char b = 'x';
    for (int i = 0; i < TRIPS; i++)
        if (fen_sock_write(arg, &b, 1, FEN_NEVER) != 1 || fen_sock_read(arg, &b, 1, FEN_NEVER) != 1)
            _exit(1);
    fen_wg_done(&rounds_done);
}

/* An address of its own a run: ports of the last one wait for their time to pass. */
static int connect_all(const struct setting *s)
{
    char addr[32];
    fen_sock *l;
    snprintf(addr, sizeof addr, "127.0.0.%d:0", 2 + s->run % 200);
    if (fen_tcp_listen(addr, 0, &l))
        return -1;
    snprintf(addr, sizeof addr, "127.0.0.%d:%d", 2 + s->run % 200, fen_sock_port(l));
    for (int i = 0; i < s->idle + 2 * PAIRS; i += 2)
        if (fen_tcp_dial(addr, FEN_NEVER, &socks[i]) || fen_tcp_accept(l, FEN_NEVER, &socks[i + 1]))
            return -1;
    fen_sock_close(l);
    return 0;
}

static double bounce_round(fen_sock **active)
{
    double from = now_s();
    fen_wg_add(&rounds_done, PAIRS);
    for (int i = 0; i < PAIRS; i++)
        if (fen_go(bouncer, active[2 * i]))
            return NAN;
    if (fen_wg_wait(&rounds_done))
        return NAN;
    return (now_s() - from) * 1e9 / (2.0 * PAIRS * TRIPS);
}

static const struct setting *now_set;

static int poller_run(void *arg)
{
    double *out = arg, v[5];
    fen_sock **active = socks + now_set->idle;
    if (connect_all(now_set))
        _exit(1);
    for (int i = 0; i < now_set->idle; i++)
        if (fen_go(idle_reader, socks[i]))
            _exit(1);
    for (int i = 0; i < PAIRS; i++)
        if (fen_go(echo, active[2 * i + 1]))
            _exit(1);
    bounce_round(active); /* warm-up */
    for (int i = 0; i < 5; i++)
        v[i] = bounce_round(active);
    *out = median(v, 5);
    for (int i = 0; i < now_set->idle + 2 * PAIRS; i++)
        fen_sock_close(socks[i]);
    return 0;
}

static void poller_main(void *arg, double *out)
{
    now_set = arg;
    if (fen_run(poller_run, out, &(fen_config){.procs = 1}))
        *out = NAN;
}

/* ns an event of poll(2). */
static void poll_main(void *arg, double *out)
{
    const struct setting *s = arg;
    int n = s->idle + PAIRS, rounds = 20000000 / (n * 64) + 20;
    static struct pollfd p[IDLE_MAX + PAIRS];
    uint64_t v = 1;
    for (int i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = eventfd(0, EFD_NONBLOCK), .events = POLLIN};
    if (p[n - 1].fd < 0)
        return;
    int bad = 0;
    double from = now_s();
    for (int k = 0; k < rounds; k++) {
        for (int i = s->idle; i < n; i++)
            bad += write(p[i].fd, &v, sizeof v) != sizeof v;
        bad += poll(p, (nfds_t)n, -1) != PAIRS;
        for (int i = 0; i < n; i++)
            if (p[i].revents)
                bad += read(p[i].fd, &v, sizeof v) != sizeof v;
    }
    if (!bad)
        *out = (now_s() - from) * 1e9 / ((double)rounds * PAIRS);
}

void bench_poller(void)
{
    static struct pairs p[3];
    static const int idle[] = {100, 1000, IDLE_MAX};
    double spread[BENCH_RUNS_MAX];
    int runs = runs_or(3);
    for (int i = 0; i < runs;
         i++) { /* sizes in turn, for what they have in common is the machine */
        double v[3], max = 0, min = INFINITY;
        for (int k = 0; k < 3; k++) {
            struct setting s = {idle[k], i};
            p[k].runs = runs;
            p[k].rival = "poll(2)";
            in_child(poller_main, &s, &v[k], 1);
            p[k].fen[0][i] = v[k];
            in_child(poll_main, &s, &p[k].other[0][i], 1);
            max = fmax(max, v[k]);
            min = fmin(min, v[k]);
        }
        spread[i] = isnan(v[0] + v[1] + v[2]) ? NAN : (max / min - 1) * 100;
    }
    pairs_emit(&p[0], 0, 1, (struct figure){.name = "event_100_idle", .unit = "ns"});
    pairs_emit(&p[1], 0, 1, (struct figure){.name = "event_1000_idle", .unit = "ns"});
    pairs_emit(&p[2], 0, 1, (struct figure){.name = "event_10000_idle", .unit = "ns"});
    emit(FIGURE(.name = "event_spread", .unit = "%", .value = median(spread, runs), .bar = true,
                .at_least = 20, .runs = runs, .note = "dearest against cheapest of the three"));
}
