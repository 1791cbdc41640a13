/* main.c - flags, the listener, signals; then one of the servers.
 *
 * Signals are blocked in every thread and taken by the main thread with sigwait, so no handler
 * runs and no system call of a server is interrupted. Exit status: 0 after SIGTERM or SIGINT, 1
 * when the machine refuses something, 2 for bad flags or an address that cannot be had.
 */
#include "baseline.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: fen-baseline --mode=pool|pthread|epoll|backend [--addr=127.0.0.1:0]\n"
    "    [--db=PATH] [--backend=127.0.0.1:PORT] [--backend-conns=N] [--threads=N] [--db-conns=N]\n"
    "    [--delay=20ms]\n"
    "  --threads   pool: workers (200); epoll: loops (one per CPU); backend: loops (1)\n"
    "  --backend-conns  pipelined connections to the back end, shared by the threads (epoll: by\n"
    "              the clients of a loop); 0: one for each thread (epoll: client) (0)\n"
    "  --db-conns  SQLite connections shared by the threads (two per CPU); 0: one per thread\n"
    "  --delay     backend: least time before a reply; ns, us, ms or s\n";

static const struct {
    const char *name;
    int (*serve)(const struct options *);
    bool blocking;
} modes[] = {
    {"pool", serve_pool, true},
    {"pthread", serve_pthread, true},
    {"epoll", serve_epoll, false},
    {"backend", serve_backend, false},
};

static bool read_addr(const char *text, struct sockaddr_in *ret_addr)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port > 65535)
        return false;
    memset(ret_addr, 0, sizeof *ret_addr);
    ret_addr->sin_family = AF_INET;
    ret_addr->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, *host ? host : "0.0.0.0", &ret_addr->sin_addr) == 1;
}

static bool read_int(const char *text, int low, int high, int *ret_value)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < low || v > high)
        return false;
    *ret_value = (int)v;
    return true;
}

static bool read_duration(const char *text, int64_t *ret_ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    char *end;
    double v = strtod(text, &end);
    if (end == text || !(v >= 0))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strcmp(end, units[i].unit) && v * units[i].ns <= 60e9) {
            *ret_ns = (int64_t)ceil(v * units[i].ns);
            return true;
        }
    return false;
}

static bool read_mode(const char *text, struct options *opt)
{
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (!strcmp(text, modes[i].name)) {
            opt->serve = modes[i].serve;
            opt->blocking = modes[i].blocking;
        }
    return opt->serve;
}

static const char *value_of(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return !strncmp(arg, name, n) ? arg + n : NULL;
}

static bool read_flag(const char *arg, struct options *opt)
{
    const char *v;
    if ((v = value_of(arg, "--mode=")))
        return read_mode(v, opt);
    if ((v = value_of(arg, "--addr=")))
        return read_addr(v, &opt->addr);
    if ((v = value_of(arg, "--backend=")))
        return opt->has_backend = read_addr(v, &opt->backend);
    if ((v = value_of(arg, "--threads=")))
        return read_int(v, 1, THREADS_MAX, &opt->threads);
    if ((v = value_of(arg, "--db-conns=")))
        return read_int(v, 0, DB_CONNS_MAX, &opt->db_conns);
    if ((v = value_of(arg, "--backend-conns=")))
        return read_int(v, 0, BACKEND_CONNS_MAX, &opt->backend_conns);
    if ((v = value_of(arg, "--delay=")))
        return read_duration(v, &opt->delay_ns);
    if ((v = value_of(arg, "--db="))) {
        opt->db = v;
        return *v;
    }
    return false;
}

/* What is set here, accepted sockets inherit: no setsockopt per connection. */
static int listen_on(struct sockaddr_in *addr)
{
    const int on = 1;
    const struct timeval stuck = {.tv_sec = 10}; /* how long a peer may not read */
    socklen_t len = sizeof *addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stuck, sizeof stuck);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)addr, len) || listen(fd, 16384) ||
        getsockname(fd, (struct sockaddr *)addr, &len)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int accept_peer(int listen_fd, int flags, bool *ret_stop)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int fd = accept4(listen_fd, NULL, NULL, flags);
    if (fd >= 0)
        return fd;
    if (errno == EINVAL || errno == EBADF) {
        *ret_stop = true;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        nanosleep(&pause, NULL); /* the connection stays queued; let others end */
    }
    return -1;
}

static void stop_signals(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
}

void wait_for_stop(const struct options *opt)
{
    char host[INET_ADDRSTRLEN];
    sigset_t set;
    int sig;
    inet_ntop(AF_INET, &opt->addr.sin_addr, host, sizeof host);
    printf("listening on %s:%u\n", host, ntohs(opt->addr.sin_port));
    fflush(stdout);
    stop_signals(&set);
    while (sigwait(&set, &sig))
        ;
}

static void raise_file_limit(void)
{
    struct rlimit rl;
    if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < rl.rlim_max) {
        rl.rlim_cur = rl.rlim_max;
        setrlimit(RLIMIT_NOFILE, &rl);
    }
}

int main(int argc, char **argv)
{
    struct options opt = {.delay_ns = 20000000};
    opt.db_conns = 2 * (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (opt.db_conns > DB_CONNS_MAX)
        opt.db_conns = DB_CONNS_MAX;
    read_addr("127.0.0.1:0", &opt.addr);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) {
            fputs(usage, stdout);
            return 0;
        }
        if (!read_flag(argv[i], &opt)) {
            fprintf(stderr, "fen-baseline: bad flag %s (--help lists them)\n", argv[i]);
            return 2;
        }
    }
    if (!opt.serve) {
        fprintf(stderr, "fen-baseline: --mode=pool|pthread|epoll|backend is needed\n");
        return 2;
    }
    sigset_t set;
    stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    raise_file_limit();
    opt.listen_fd = listen_on(&opt.addr);
    if (opt.listen_fd < 0) {
        fprintf(stderr, "fen-baseline: cannot listen: %s\n", strerror(-opt.listen_fd));
        return 2;
    }
    if (peers_init() || orders_open(&opt) || quotes_init(&opt))
        return 1;
    int status = opt.serve(&opt);
    orders_close();
    close(opt.listen_fd);
    return status;
}
