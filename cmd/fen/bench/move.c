/* move.c - move: CPU of a gigabyte that a process passes on without looking at it.
 *
 * A file (in the page cache) to a TCP connection by fen_sock_send_file, beside pread and
 * fen_sock_write through a buffer of 64 KiB; and one TCP connection to another by fen_sock_splice,
 * beside read and write. The same by hand: a program of plain blocking calls, which is the floor,
 * the least that the kernel asks for here. The processes at the ends drop what they get (MSG_TRUNC:
 * the kernel does not even copy it to them), and what counts is the CPU of the process in the
 * middle, all its threads.
 *
 * Over loopback the kernel does the peer's receiving in the sender's context, and the peer's next
 * send in that of whoever acknowledges; both ways share it. It makes where the peers run matter.
 * With a network card, who sends also frees what he has sent. So it is when all run on one core:
 * there the bar is. On another core the peer takes each page and each buffer away through the
 * caches, and that costs more than the copies do and differs from run to run; it is measured too
 * (_apart). _whole is the CPU of the ends as well: what is left when nothing can be shifted from
 * one process to another. */
#include "bench/bench.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fen/fen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (512l << 20)
#define FILE_BYTES (64l << 20)
#define BUFFER (64 << 10)
#define WIDE (1 << 20) /* a sendfile, a pipe and a buffer by hand */

/* SEND_FILE, RELAY ... each have their plain form behind them. */
enum way {
    SEND_FILE,
    PLAIN_SEND_FILE,
    READ_WRITE,
    PLAIN_READ_WRITE,
    SPLICE, /* from here on there is a connection that it comes from */
    PLAIN_SPLICE,
    RELAY,
    PLAIN_RELAY,
    WAYS
};

enum { MIDDLE, WHOLE, NUMBERS }; /* ms of CPU a GB */

static char *buffer;
static size_t buffer_bytes = BUFFER;
static int source = -1; /* the file */

/* ---- the ends: plain sockets, a process each ---- */

static struct sockaddr_in at(int host, int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + (uint32_t)host)};
}

/* 127.0.0.HOST, as soon as somebody listens there. */
static int dial(int host, int port)
{
    struct sockaddr_in a = at(host, port);
    for (int i = 0; i < 500; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof a))
            return fd;
        if (fd >= 0)
            close(fd);
        usleep(10000);
    }
    _exit(1);
}

static void drop_all(int fd)
{
    /* cppcheck-suppress nullPointer; nothing is written: TCP throws the bytes away */
    while (recv(fd, NULL, WIDE, MSG_TRUNC) > 0)
        ;
}

static bool send_whole(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

static void send_all(int fd)
{
    for (long left = BYTES; left > 0; left -= BUFFER)
        if (!send_whole(fd, buffer, BUFFER))
            _exit(1);
}

static pid_t end_at(int host, int port, void (*fn)(int fd), int core)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    on_core(core);
    fn(dial(host, port));
    _exit(0);
}

static double cpu_ms(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1e3 +
           (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e3;
}

/* An end has ended: its CPU; NAN when it failed. */
static double end_ms(pid_t pid)
{
    struct rusage u;
    int status;
    return pid > 0 && wait4(pid, &status, 0, &u) == pid && status == 0 ? cpu_ms(&u) : NAN;
}

/* ---- the middle, by fen ---- */

static ssize_t by_buffer(fen_sock *to)
{
    ssize_t all = 0, n;
    for (int64_t from = 0; from < FILE_BYTES; from += n, all += n) {
        n = pread(source, buffer, buffer_bytes, from);
        if (n <= 0 || fen_sock_write(to, buffer, (size_t)n, FEN_NEVER) != n)
            return -1;
    }
    return all;
}

static ssize_t relay(fen_sock *from, fen_sock *to)
{
    ssize_t all = 0, n;
    while ((n = fen_sock_read(from, buffer, buffer_bytes, FEN_NEVER)) > 0) {
        if (fen_sock_write(to, buffer, (size_t)n, FEN_NEVER) != n)
            return -1;
        all += n;
    }
    return n < 0 ? n : all;
}

static ssize_t pass(enum way way, fen_sock *from, fen_sock *to)
{
    ssize_t all = 0, n;
    if (way == RELAY)
        return relay(from, to);
    if (way == SPLICE)
        return fen_sock_splice(from, to, SIZE_MAX, FEN_NEVER);
    for (; all < BYTES; all += n) {
        n = way == SEND_FILE ? fen_sock_send_file(to, source, 0, FILE_BYTES, FEN_NEVER)
                             : by_buffer(to);
        if (n <= 0)
            return -1;
    }
    return all;
}

struct middle {
    enum way way;
    int port;
    double *out;
};

static double own_ms(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return cpu_ms(&u);
}

static fen_sock *accept_one(int host, int port)
{
    char addr[40];
    fen_sock *l, *s = NULL;
    snprintf(addr, sizeof addr, "127.0.0.%d:%d", host, port);
    if (fen_tcp_listen(addr, 0, &l))
        return NULL;
    if (fen_tcp_accept(l, fen_now() + 5 * FEN_S, &s))
        s = NULL;
    fen_sock_close(l);
    return s;
}

static int middle_run(void *arg)
{
    struct middle *m = arg;
    fen_sock *to = accept_one(2, m->port), *from = m->way >= SPLICE ? accept_one(3, m->port) : NULL;
    if (!to || (m->way >= SPLICE && !from))
        return -1;
    double before = own_ms();
    if (pass(m->way, from, to) == BYTES)
        m->out[MIDDLE] = own_ms() - before;
    fen_sock_close(to);
    if (from)
        fen_sock_close(from);
    return 0;
}

/* ---- the middle, by hand ---- */

static int plain_accept(int host, int port)
{
    struct sockaddr_in a = at(host, port);
    int on = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), s = -1;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!bind(l, (struct sockaddr *)&a, sizeof a) && !listen(l, 1))
        s = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    close(l);
    return s;
}

static long plain_file(int to, bool copying)
{
    for (off_t from = 0; from < FILE_BYTES;) {
        ssize_t n =
            copying ? pread(source, buffer, buffer_bytes, from) : sendfile(to, source, &from, WIDE);
        if (n <= 0 || (copying && !send_whole(to, buffer, (size_t)n)))
            return -1;
        from += copying ? n : 0;
    }
    return FILE_BYTES;
}

static long plain_relay(int from, int to)
{
    long all = 0;
    ssize_t n;
    while ((n = recv(from, buffer, buffer_bytes, 0)) > 0) {
        if (!send_whole(to, buffer, (size_t)n))
            return -1;
        all += n;
    }
    return all;
}

static long plain_splice(int from, int to)
{
    int p[2];
    long all = 0;
    ssize_t n, put;
    if (pipe2(p, O_CLOEXEC))
        return -1;
    fcntl(p[1], F_SETPIPE_SZ, WIDE);
    while ((n = splice(from, NULL, p[1], NULL, WIDE, SPLICE_F_MOVE)) > 0)
        for (; n > 0; n -= put, all += put)
            if ((put = splice(p[0], NULL, to, NULL, (size_t)n, SPLICE_F_MOVE)) <= 0)
                return -1;
    close(p[0]);
    close(p[1]);
    return all;
}

static void plain_run(const struct middle *m)
{
    long all = 0, n = 1;
    int to = plain_accept(2, m->port), from = m->way >= SPLICE ? plain_accept(3, m->port) : -1;
    double before = own_ms();
    if (m->way >= SPLICE)
        all = m->way == PLAIN_SPLICE ? plain_splice(from, to) : plain_relay(from, to);
    else
        for (; all < BYTES && n > 0; all += n)
            n = plain_file(to, m->way == PLAIN_READ_WRITE);
    if (all == BYTES)
        m->out[MIDDLE] = own_ms() - before;
    close(to);
    if (from >= 0)
        close(from);
}

/* ---- a measurement ---- */

struct how {
    enum way way;
    size_t buffer_bytes;
    int core; /* of the ends; the middle has core 0 */
};

static void middle_main(void *arg, double *out)
{
    const struct how *how = arg;
    struct middle m = {how->way, free_port(), out};
    buffer_bytes = how->buffer_bytes;
    buffer = calloc(1, buffer_bytes);
    out[MIDDLE] = NAN;
    if (!buffer)
        return;
    pid_t sink = end_at(2, m.port, drop_all, how->core), tap = -1;
    if (m.way >= SPLICE)
        tap = end_at(3, m.port, send_all, how->core);
    on_core(0); /* after the forks: on_core chooses among what is allowed */
    if (m.way % 2)
        plain_run(&m);
    else if (fen_run(middle_run, &m, &(fen_config){.procs = 1}))
        out[MIDDLE] = NAN;
    out[WHOLE] = out[MIDDLE] + end_ms(sink) + (tap > 0 ? end_ms(tap) : 0);
    for (int i = 0; i < NUMBERS; i++)
        out[i] /= (double)BYTES / 1e9;
}

static double ran[WAYS][NUMBERS][BENCH_RUNS_MAX];

/* Each way in turn, runs times. */
static void all_ways(int runs, enum way first, enum way last, size_t bytes, int core)
{
    double out[NUMBERS];
    for (int i = 0; i < runs; i++)
        for (int w = (int)first; w <= (int)last; w++) {
            struct how how = {(enum way)w, bytes, core};
            in_child(middle_main, &how, out, NUMBERS);
            for (int k = 0; k < NUMBERS; k++)
                ran[w][k][i] = out[k];
        }
}

static void beside_copying(enum way moving, enum way copying, int number, int runs, struct figure f)
{
    static struct pairs p;
    p = (struct pairs){.runs = runs, .n = 1, .rival = "copying"};
    memcpy(p.fen[0], ran[moving][number], sizeof p.fen[0]);
    memcpy(p.other[0], ran[copying][number], sizeof p.other[0]);
    f.unit = "ms/GB";
    pairs_emit(&p, 0, 1, f);
}

static void file_figures(int runs, bool together)
{
    const char *note = together ? "sendfile by a plain program" : NULL;
    beside_copying(SEND_FILE, READ_WRITE, MIDDLE, runs,
                   (struct figure){.name = together ? "send_file" : "send_file_apart",
                                   .bar = true,
                                   .at_least = 0.6,
                                   .bar_on_ratio = true});
    beside_copying(PLAIN_SEND_FILE, PLAIN_READ_WRITE, MIDDLE, runs,
                   (struct figure){.name = together ? "send_file_floor" : "send_file_apart_floor",
                                   .note = note});
    if (together)
        beside_copying(SEND_FILE, READ_WRITE, WHOLE, runs,
                       (struct figure){.name = "send_file_whole", .note = "the ends too"});
}

static void splice_figures(int runs, bool together)
{
    beside_copying(SPLICE, RELAY, MIDDLE, runs,
                   (struct figure){.name = together ? "splice" : "splice_apart",
                                   .bar = true,
                                   .at_least = 0.6,
                                   .bar_on_ratio = true});
    beside_copying(PLAIN_SPLICE, PLAIN_RELAY, MIDDLE, runs,
                   (struct figure){.name = together ? "splice_floor" : "splice_apart_floor",
                                   .note = together ? "splice by a plain program" : NULL});
    if (together)
        beside_copying(SPLICE, RELAY, WHOLE, runs,
                       (struct figure){.name = "splice_whole", .note = "the ends too"});
}

/* Copying reads and writes as much at a time as splice then; it takes a MiB a connection. */
static void wide_figures(int runs)
{
    all_ways(runs, SPLICE, PLAIN_RELAY, WIDE, 0);
    beside_copying(
        SPLICE, RELAY, MIDDLE, runs,
        (struct figure){.name = "splice_beside_wide", .note = "copying through a buffer of 1 MiB"});
    beside_copying(PLAIN_SPLICE, PLAIN_RELAY, MIDDLE, runs,
                   (struct figure){.name = "splice_beside_wide_floor"});
}

/* False: no room for the file. */
static bool make_source(void)
{
    static const char block[BUFFER] = {'x'};
    char path[] = "/tmp/fen-bench-move-XXXXXX";
    bool good = true;
    source = mkostemp(path, O_CLOEXEC);
    unlink(path);
    for (long n = 0; n < FILE_BYTES; n += BUFFER)
        good = good && write(source, block, BUFFER) == BUFFER;
    return source >= 0 && good;
}

void bench_move(void)
{
    int runs = runs_or(5);
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    if (!make_source())
        emit(FIGURE(.name = "send_file", .value = NAN, .note = "no room for a file in /tmp"));
    else
        for (int core = 0; core < 2 && core < CPU_COUNT(&all); core++) {
            all_ways(runs, SEND_FILE, PLAIN_RELAY, BUFFER, core);
            file_figures(runs, core == 0);
            splice_figures(runs, core == 0);
        }
    if (source >= 0) {
        wide_figures(runs);
        close(source);
    }
}
