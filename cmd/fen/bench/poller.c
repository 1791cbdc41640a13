/* poller.c - poller, pollers: what a ready descriptor costs beside 100, 1,000 and 10,000 idle ones.
 *
 * One P. Half as many loopback connections as idle descriptors, a fiber in a read on either end;
 * and 64 more that bounce a byte, on which each read is one wait for one event. An operation is a
 * byte sent, its event, and the read of it, so the system calls of sending and reading are in it.
 *
 * Beside it poll(2) as one would write it by hand, without fibers: an array of the idle and of 64
 * active descriptors; write to all active ones, poll, read those that are ready. It grows with the
 * number of idle ones; what has to be flat is fen's.
 *
 * pollers: the three calls by hand, on the same eventfds: select(2) (with sets larger than libc's
 * 1,024, which the kernel takes), poll(2), epoll_wait(2) with each descriptor registered once. What
 * each copies is counted call by call: the bytes of what is handed in and of what comes back, the
 * events of epoll included; the data itself is still read, by whichever. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
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
    int runs = runs_or(5);
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

/* ---- pollers ---- */

enum by { BY_SELECT, BY_POLL, BY_EPOLL, WAYS };
enum { NS, COPIED, POLLER_NUMBERS };

struct hand {
    enum by by;
    int idle;
};

/* In the child only. */
static int fds[IDLE_MAX + PAIRS], n_fds, top, epoll = -1;
static double copied; /* bytes */

#define SET_WORDS 1024 /* of 64 descriptors */

static int by_select(void)
{
    static unsigned long set[SET_WORDS];
    int words = top / 64 + 1, ready = 0;
    memset(set, 0, (size_t)words * 8);
    for (int i = 0; i < n_fds; i++)
        set[fds[i] / 64] |= 1ul << fds[i] % 64;
    ready = (int)syscall(SYS_pselect6, top + 1, set, NULL, NULL, NULL, NULL);
    copied += 2 * words * 8; /* one set of three, in and out */
    int found = 0;
    for (int i = 0; i < n_fds && found < ready; i++) {
        uint64_t v;
        if (set[fds[i] / 64] >> fds[i] % 64 & 1)
            found += read(fds[i], &v, sizeof v) == sizeof v;
    }
    return found;
}

static int by_poll(void)
{
    static struct pollfd p[IDLE_MAX + PAIRS];
    for (int i = 0; i < n_fds; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    int ready = poll(p, (nfds_t)n_fds, -1), found = 0;
    copied += n_fds * (double)(sizeof *p + sizeof p->revents); /* in whole, revents out */
    for (int i = 0; i < n_fds && found < ready; i++) {
        uint64_t v;
        if (p[i].revents)
            found += read(fds[i], &v, sizeof v) == sizeof v;
    }
    return found;
}

static int by_epoll(void)
{
    struct epoll_event e[PAIRS];
    int ready = epoll_wait(epoll, e, PAIRS, -1), found = 0;
    copied += ready * (double)sizeof *e;
    for (int i = 0; i < ready; i++) {
        uint64_t v;
        found += read(e[i].data.fd, &v, sizeof v) == sizeof v;
    }
    return found;
}

static void open_all(const struct hand *h)
{
    n_fds = h->idle + PAIRS;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < n_fds; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fds[i]};
        if (fds[i] < 0 || fds[i] >= SET_WORDS * 64 || epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &e))
            _exit(1);
        top = fds[i] > top ? fds[i] : top;
    }
}

/* The active ones are the last, and the ends of their rounds: all must be read. */
static void by_hand(void *arg, double *out)
{
    static int (*const wait[WAYS])(void) = {by_select, by_poll, by_epoll};
    const struct hand *h = arg;
    uint64_t one = 1;
    int64_t events = 0;
    open_all(h);
    int rounds = h->by == BY_EPOLL ? 3000 : 20000000 / (n_fds * 64) + 20;
    double from = now_s();
    for (int k = 0; k < rounds; k++) {
        int sent = 0;
        for (int i = h->idle; i < n_fds; i++)
            sent += write(fds[i], &one, sizeof one) == sizeof one;
        events += wait[h->by]();
        if (sent != PAIRS || events != (int64_t)PAIRS * (k + 1))
            return;
    }
    out[NS] = (now_s() - from) * 1e9 / (double)events;
    out[COPIED] = copied / (double)events;
}

/* The dearest of 100, 1,000 and 10,000 against the cheapest, or the last against the second. */
static void growth(const char *spread, const char *ten_times, double v[3])
{
    double max = fmax(v[0], fmax(v[1], v[2])), min = fmin(v[0], fmin(v[1], v[2]));
    if (spread)
        emit(FIGURE(.name = spread, .unit = "%", .value = (max / min - 1) * 100, .bar = true,
                    .at_least = 20));
    else
        emit(FIGURE(.name = ten_times, .unit = "x", .more_is_better = true, .value = v[2] / v[1],
                    .bar = true, .at_least = 4,
                    .note = "10,000 idle against 1,000; 10 would be a straight line from nothing"));
}

void bench_pollers(void)
{
    static const int idle[3] = {100, 1000, IDLE_MAX};
    static const char *const names[WAYS] = {"select", "poll", "epoll"};
    static double v[WAYS][3][POLLER_NUMBERS][BENCH_RUNS_MAX];
    double out[POLLER_NUMBERS], ns[WAYS][3];
    int runs = runs_or(3);
    for (int i = 0; i < runs; i++)
        for (int k = 0; k < 3; k++)
            for (int w = 0; w < WAYS; w++) {
                struct hand h = {(enum by)w, idle[k]};
                in_child(by_hand, &h, out, POLLER_NUMBERS);
                v[w][k][NS][i] = out[NS];
                v[w][k][COPIED][i] = out[COPIED];
            }
    for (int w = 0; w < WAYS; w++)
        for (int k = 0; k < 3; k++) {
            char name[40];
            snprintf(name, sizeof name, "%s_%d_idle", names[w], idle[k]);
            ns[w][k] = median(v[w][k][NS], runs);
            emit(FIGURE(.name = name, .unit = "ns", .value = ns[w][k], .runs = runs));
            snprintf(name, sizeof name, "%s_%d_idle_copied", names[w], idle[k]);
            emit(FIGURE(.name = name, .unit = "bytes", .value = median(v[w][k][COPIED], runs)));
        }
    growth(NULL, "select_ten_times", ns[BY_SELECT]);
    growth(NULL, "poll_ten_times", ns[BY_POLL]);
    growth("epoll_spread", NULL, ns[BY_EPOLL]);
}
