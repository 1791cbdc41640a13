/* rig.h - what the tests of faults share: a server in this process, raw clients, and a count of
 * everything that a server could leave behind.
 *
 * The runtime runs in a thread of its own; the test's thread is an ordinary blocking client of it.
 * Included after cmocka.h. */
#ifndef FEN_TEST_RIG_H
#define FEN_TEST_RIG_H

#include <fen/fen.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RIG_WAIT_S 20 /* a busy machine under a sanitizer is slow; a hang is for ever */

/* ---- the server ---- */

struct rig {
    fen_server_config cfg;
    int (*routes)(fen_server *s);
    int procs;
    fen_server *server;
    pthread_t thread;
    _Atomic int rc; /* 1 while it runs */
};

static inline void rig_nap(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / FEN_S, .tv_nsec = ns % FEN_S};
    nanosleep(&ts, NULL);
}

static inline int rig_fiber(void *arg)
{
    struct rig *r = arg;
    return fen_server_serve(r->server, "127.0.0.1:0");
}

static inline void *rig_thread(void *arg)
{
    struct rig *r = arg;
    const fen_config cfg = {.procs = r->procs ? r->procs : 2};
    int rc = fen_run(rig_fiber, r, &cfg);
    atomic_store(&r->rc, rc);
    return NULL;
}

static inline int rig_port(struct rig *r)
{
    for (int i = 0; i < RIG_WAIT_S * 1000 && atomic_load(&r->rc) == 1; i++) {
        if (fen_server_port(r->server))
            return fen_server_port(r->server);
        rig_nap(FEN_MS);
    }
    return 0;
}

static inline void rig_start(struct rig *r)
{
    r->server = fen_server_new(&r->cfg);
    assert_non_null(r->server);
    assert_int_equal(r->routes(r->server), 0);
    atomic_store(&r->rc, 1);
    assert_int_equal(pthread_create(&r->thread, NULL, rig_thread, r), 0);
    assert_true(rig_port(r) > 0);
}

static inline void rig_stop(struct rig *r)
{
    fen_server_stop(r->server);
    pthread_join(r->thread, NULL);
    assert_int_equal(atomic_load(&r->rc), 0);
    fen_server_free(r->server);
}

/* ---- a client ---- */

static inline int rig_dial(struct rig *r)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)rig_port(r)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {.tv_sec = RIG_WAIT_S};
    int one = 1;
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

/* False: the server has closed meanwhile. */
static inline bool rig_send(int fd, const char *p, size_t n)
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

static inline bool rig_say(int fd, const char *text) { return rig_send(fd, text, strlen(text)); }

/* Closes with a reset instead of an end. */
static inline void rig_reset(int fd)
{
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

struct rig_reply {
    int status; /* 0: the stream ended; -errno: it broke */
    bool close; /* Connection: close */
    bool whole; /* the body is as long as was said */
    long length;
    char head[2048];
    char body[2048]; /* what of it fits */
};

/* Looks before it takes, so nothing of the next reply is taken. */
static inline int rig_head(int fd, char *head, size_t cap)
{
    size_t n = 0;
    while (n + 1 < cap) {
        ssize_t got = recv(fd, head + n, cap - 1 - n, MSG_PEEK);
        if (got <= 0)
            return got < 0 ? -errno : n ? -EPIPE : 0;
        size_t had = n > 3 ? n - 3 : 0; /* the end may straddle two pieces */
        const char *end = memmem(head + had, n + (size_t)got - had, "\r\n\r\n", 4);
        size_t take = end ? (size_t)(end + 4 - (head + n)) : (size_t)got;
        got = recv(fd, head + n, take, 0);
        if (got <= 0)
            return -errno;
        head[n += (size_t)got] = 0;
        if (end)
            return 1;
    }
    return -E2BIG;
}

static inline void rig_body(int fd, struct rig_reply *r)
{
    char waste[16384];
    long left = r->length;
    while (left > 0) {
        ssize_t got = recv(fd, waste, left < (long)sizeof waste ? (size_t)left : sizeof waste, 0);
        if (got <= 0)
            return;
        long at = r->length - left;
        for (long i = 0; i < got && at + i + 1 < (long)sizeof r->body; i++)
            r->body[at + i] = waste[i];
        left -= got;
    }
    r->whole = true;
}

static inline struct rig_reply rig_read(int fd, bool has_body)
{
    struct rig_reply r = {0};
    int rc = rig_head(fd, r.head, sizeof r.head);
    r.status = rc;
    if (rc <= 0)
        return r;
    r.status = atoi(r.head + 9);
    r.close = strstr(r.head, "Connection: close\r\n") != NULL;
    const char *length = strstr(r.head, "Content-Length: ");
    r.length = length && has_body ? atol(length + 16) : 0;
    rig_body(fd, &r);
    return r;
}

/* The rest of the stream is its orderly end: no byte, no reset. */
static inline void rig_ended(int fd, const char *what)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, 0);
    if (got)
        fail_msg("%s: expected the end of the stream, got %zd (%s)", what, got,
                 got < 0 ? strerror(errno) : "a byte");
}

static inline struct rig_reply rig_get(int fd, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    rig_say(fd, text);
    return rig_read(fd, true);
}

/* ---- what is left ---- */

struct rig_count {
    int64_t fibers, timers, fds, heap_bytes;
    int open_fds;
};

/* Descriptors of this process without the scheduler's view of its threads (/proc/.../stat). */
static inline int rig_open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    struct dirent *e;
    while ((e = readdir(d))) {
        char to[128];
        ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof to);
        n += len > 0 && !(len > 6 && !memcmp(to, "/proc/", 6));
    }
    closedir(d);
    return n;
}

static inline struct rig_count rig_counts(void)
{
    fen_stats s;
    fen_stats_get(&s);
    return (struct rig_count){s.fibers_live, s.timers_live, s.fds_live, s.heap_live_bytes,
                              rig_open_fds()};
}

/* Fewer descriptors are open when one of an earlier test was still about to be closed at `idle`. */
static inline bool rig_same_but_heap(struct rig_count now, struct rig_count idle)
{
    return now.fibers == idle.fibers && now.timers == idle.timers && now.fds == idle.fds &&
           now.open_fds <= idle.open_fds;
}

/* idle, with the descriptors that are open now: a test that failed may have left its own. */
static inline struct rig_count rig_quiet(struct rig_count idle, const char *what)
{
    fen_stats s;
    for (int i = 0; i < RIG_WAIT_S * 200; i++) {
        fen_stats_get(&s);
        if (s.fds_live == idle.fds && s.fibers_live == idle.fibers) {
            rig_nap(5 * FEN_MS); /* the descriptor closes after its slot */
            idle.open_fds = rig_open_fds();
            return idle;
        }
        rig_nap(5 * FEN_MS);
    }
    fail_msg("%s: not quiet before it began", what);
    return idle;
}

/* Waits until nothing lives but what lived at `idle`; fails when that does not come. */
static inline struct rig_count rig_settled(struct rig_count idle, const char *what)
{
    struct rig_count now = {0};
    for (int i = 0; i < RIG_WAIT_S * 200; i++) {
        now = rig_counts();
        if (rig_same_but_heap(now, idle))
            return rig_counts();
        rig_nap(5 * FEN_MS);
    }
    fail_msg("%s: fibers %ld, timers %ld, fds %ld, open %d; before: %ld, %ld, %ld, %d", what,
             (long)now.fibers, (long)now.timers, (long)now.fds, now.open_fds, (long)idle.fibers,
             (long)idle.timers, (long)idle.fds, idle.open_fds);
    return now;
}

/* Runs a group of cases until two rounds leave the same bytes (caches are warm then); a leak makes
 * every round end higher. */
static inline void rig_rounds(struct rig *r, struct rig_count idle, void (*group)(struct rig *r),
                              const char *what)
{
    int64_t heap[8];
    idle = rig_quiet(idle, what);
    for (int i = 0; i < 8; i++) {
        group(r);
        heap[i] = rig_settled(idle, what).heap_bytes;
        if (i >= 2 && heap[i] == heap[i - 1])
            return;
    }
    fail_msg("%s: heap bytes grow: %ld %ld %ld %ld %ld %ld %ld %ld", what, (long)heap[0],
             (long)heap[1], (long)heap[2], (long)heap[3], (long)heap[4], (long)heap[5],
             (long)heap[6], (long)heap[7]);
}

#endif
