/* move.c - move: CPU of a gigabyte that a process passes on without looking at it.
 *
 * A file (in the page cache) to a TCP connection by fen_sock_send_file, beside pread and
 * fen_sock_write through a buffer of 64 KiB; and one TCP connection to another by fen_sock_splice,
 * beside read and write. The processes at the ends drop what they get (MSG_TRUNC: the kernel does
 * not even copy it to them) and are not counted: CPU is that of the process in the middle, all its
 * threads. On loopback that includes the kernel's work for the receiver, which both ways share. */
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (1l << 30)
#define FILE_BYTES (64l << 20)
#define BUFFER (64 << 10)

enum way { SEND_FILE, READ_WRITE, SPLICE, RELAY };

/* In the child only. */
static char buffer[BUFFER];
static int source = -1; /* the file */

/* ---- the ends: plain sockets, a process each ---- */

/* 127.0.0.HOST, as soon as somebody listens there. */
static int dial(int host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + (uint32_t)host)};
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
    while (recv(fd, NULL, 1 << 20, MSG_TRUNC) > 0)
        ;
}

static void send_all(int fd)
{
    for (long left = BYTES; left > 0;) {
        ssize_t n = send(fd, buffer, left < BUFFER ? (size_t)left : BUFFER, MSG_NOSIGNAL);
        if (n <= 0)
            _exit(1);
        left -= n;
    }
}

static pid_t end_at(int host, int port, void (*fn)(int fd))
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fn(dial(host, port));
    _exit(0);
}

/* ---- the middle ---- */

static ssize_t by_buffer(fen_sock *to)
{
    ssize_t all = 0, n;
    for (int64_t at = 0; at < FILE_BYTES; at += n, all += n) {
        n = pread(source, buffer, BUFFER, at);
        if (n <= 0 || fen_sock_write(to, buffer, (size_t)n, FEN_NEVER) != n)
            return -1;
    }
    return all;
}

static ssize_t relay(fen_sock *from, fen_sock *to)
{
    ssize_t all = 0, n;
    while ((n = fen_sock_read(from, buffer, BUFFER, FEN_NEVER)) > 0) {
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

static int64_t own_cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * FEN_S +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * FEN_US;
}

struct middle {
    enum way way;
    int port;
    double *out;
};

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
    int64_t before = own_cpu_ns();
    if (pass(m->way, from, to) == BYTES)
        m->out[0] = (double)(own_cpu_ns() - before) / 1e6 / ((double)BYTES / 1e9);
    fen_sock_close(to);
    if (from)
        fen_sock_close(from);
    return 0;
}

static void middle_main(void *way, double *out)
{
    struct middle m = {*(const enum way *)way, free_port(), out};
    char path[] = "/tmp/fen-bench-move-XXXXXX";
    bool good = true;
    source = mkstemp(path);
    unlink(path);
    memset(buffer, 'x', sizeof buffer);
    for (long at = 0; at < FILE_BYTES; at += BUFFER)
        good = good && write(source, buffer, BUFFER) == BUFFER;
    pid_t sink = end_at(2, m.port, drop_all), tap = -1;
    if (m.way >= SPLICE)
        tap = end_at(3, m.port, send_all);
    if (!good || fen_run(middle_run, &m, &(fen_config){.procs = 1}))
        *out = NAN;
    if (sink > 0)
        waitpid(sink, NULL, 0);
    if (tap > 0)
        waitpid(tap, NULL, 0);
}

static void beside_copying(const char *name, enum way way, enum way copying)
{
    static struct pairs p;
    p = (struct pairs){.runs = runs_or(3), .n = 1, .rival = "copying"};
    for (int i = 0; i < p.runs; i++) {
        in_child(middle_main, &way, p.fen[0] + i, 1);
        in_child(middle_main, &copying, p.other[0] + i, 1);
    }
    pairs_emit(
        &p, 0, 1,
        (struct figure){
            .name = name, .unit = "ms/GB", .bar = true, .at_least = 0.6, .bar_on_ratio = true});
}

void bench_move(void)
{
    beside_copying("send_file", SEND_FILE, READ_WRITE);
    beside_copying("splice", SPLICE, RELAY);
}
