/* server.c - child processes: started on their cores, awaited, stopped, never left behind.
 *
 * Each child is in its own process group (Ctrl-C reaches only this program, which then stops them
 * in order) and dies with this program (PR_SET_PDEATHSIG), even when it is killed. The wait for
 * "listening on" and the wait for the exit both have an end. */
#include "prove.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_NS (15 * FEN_S)
#define STOP_NS (5 * FEN_S)
#define NAP_NS (5 * FEN_MS)

static void nap(void) { nanosleep(&(struct timespec){0, NAP_NS}, NULL); }

static _Noreturn void child(const char *const *argv, const cpu_set_t *cpus, int out,
                            const char *log, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setpgid(0, 0);
    sched_setaffinity(0, sizeof *cpus, cpus);
    struct rlimit r;
    if (!getrlimit(RLIMIT_NOFILE, &r)) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    int err = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    dup2(out >= 0 ? out : err, 1);
    dup2(err, 2);
    execv(argv[0], (char *const *)argv);
    dprintf(2, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static pid_t spawn(const char *const *argv, const cpu_set_t *cpus, int out, const char *log)
{
    pid_t self = getpid(), pid = fork();
    if (!pid)
        child(argv, cpus, out, log, self);
    return pid;
}

/* Reads lines until "listening on HOST:PORT": the port, 0 on end of file or time-out. */
static int await_port(int fd)
{
    char text[4096];
    size_t n = 0;
    int64_t end = fen_now() + START_NS;
    while (n < sizeof text - 1 && fen_now() < end && !prove_stop) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 50) <= 0)
            continue;
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got <= 0)
            return 0;
        n += (size_t)got;
        text[n] = 0;
        char *at = strstr(text, "listening on "), *nl = at ? strchr(at, '\n') : NULL;
        if (!nl)
            continue;
        *nl = 0;
        char *colon = strrchr(at, ':');
        return colon ? atoi(colon + 1) : 0;
    }
    return 0;
}

static void join(char *to, size_t bytes, const char *const *argv)
{
    size_t n = 0;
    *to = 0;
    for (int i = 0; argv[i] && n < bytes; i++)
        n += (size_t)snprintf(to + n, bytes - n, "%s%s", i ? " " : "", argv[i]);
}

static void why_not(const char *log, const char *name, char *why, size_t bytes)
{
    char last[120] = "";
    FILE *f = fopen(log, "re");
    while (f && fgets(last, sizeof last, f))
        continue;
    if (f)
        fclose(f);
    last[strcspn(last, "\n")] = 0;
    snprintf(why, bytes, "%s did not start listening: %s", name, *last ? last : "it said nothing");
}

static int start(struct server *s, const char *name, const char *const *argv, const cpu_set_t *cpus,
                 const char *log, char *why, size_t why_bytes)
{
    int fds[2];
    join(s->argv_text, sizeof s->argv_text, argv);
    if (pipe2(fds, O_CLOEXEC)) {
        snprintf(why, why_bytes, "no pipe: %s", strerror(errno));
        return -1;
    }
    s->pid = spawn(argv, cpus, fds[1], log);
    close(fds[1]);
    s->out = fds[0];
    s->port = s->pid > 0 ? await_port(s->out) : 0;
    if (s->port > 0)
        return 0;
    server_stop(s, NULL);
    why_not(log, name, why, why_bytes);
    return -1;
}

/* A port nobody has now; the admin address is not in what a server prints. */
static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || getsockname(fd, (struct sockaddr *)&a, &n))
        a.sin_port = 0;
    close(fd);
    return ntohs(a.sin_port);
}

int server_start(struct server *s, const struct plan *p, const struct rival *r, int backend_port,
                 const char *log, char *why, size_t why_bytes)
{
    static const char *const modes[] = {
        [RIVAL_POOL] = "pool", [RIVAL_PTHREAD] = "pthread", [RIVAL_EPOLL] = "epoll"};
    char db[160], backend[64] = "", conns[32], admin[64], threads[32], mode[32];
    const char *argv[12] = {0};
    int n = 0;
    *s = (struct server){.out = -1};
    snprintf(db, sizeof db, "--db=%s", p->db);
    if (backend_port)
        snprintf(backend, sizeof backend, "--backend=127.0.0.1:%d", backend_port);
    if (r->kind == RIVAL_FEN) {
        s->admin_port = free_port();
        snprintf(admin, sizeof admin, "--admin-addr=127.0.0.1:%d", s->admin_port);
        argv[n++] = p->fen_path;
        argv[n++] = "serve";
        argv[n++] = p->service;
        argv[n++] = "--http-addr=127.0.0.1:0";
        argv[n++] = admin;
        argv[n++] = "--deadline=10s"; /* the baselines have none: a late answer is late, not 504 */
        argv[n++] = "--quiet";
    } else if (r->kind == RIVAL_GO) {
        argv[n++] = p->go_path;
        argv[n++] = "--addr=127.0.0.1:0";
    } else {
        snprintf(mode, sizeof mode, "--mode=%s", modes[r->kind]);
        argv[n++] = p->baseline_path;
        argv[n++] = mode;
        argv[n++] = "--addr=127.0.0.1:0";
        snprintf(threads, sizeof threads, "--threads=%d", r->threads);
        if (r->kind == RIVAL_POOL)
            argv[n++] = threads;
    }
    argv[n++] = db;
    if (backend_port && r->kind != RIVAL_GO)
        argv[n++] = backend;
    if (backend_port && r->backend_conns) {
        snprintf(conns, sizeof conns, "--backend-conns=%d", r->backend_conns);
        argv[n++] = conns;
    }
    return start(s, r->name, argv, &p->server_cpus, log, why, why_bytes);
}

int server_start_backend(struct server *s, const struct plan *p, const char *log, char *why,
                         size_t why_bytes)
{
    const char *argv[] = {p->baseline_path, "--mode=backend", "--addr=127.0.0.1:0",
                          ("--delay=" SLOW_DELAY), NULL};
    *s = (struct server){.out = -1};
    return start(s, "the back end", argv, &p->helper_cpus, log, why, why_bytes);
}

/* Waits until a time; true when it has exited. */
static bool reap(pid_t pid, int64_t until, int *ret_status, struct rusage *ret_usage)
{
    for (;;) {
        pid_t got = wait4(pid, ret_status, WNOHANG, ret_usage);
        if (got == pid || (got < 0 && errno == ECHILD))
            return true;
        if (fen_now() >= until)
            return false;
        nap();
    }
}

void server_stop(struct server *s, struct usage *ret_usage)
{
    struct rusage u = {0};
    int status;
    if (s->pid > 0) {
        kill(s->pid, SIGTERM);
        if (!reap(s->pid, fen_now() + STOP_NS, &status, &u)) {
            kill(s->pid, SIGKILL);
            reap(s->pid, FEN_NEVER, &status, &u);
        }
    }
    if (s->out >= 0)
        close(s->out);
    if (ret_usage)
        *ret_usage = (struct usage){u.ru_nvcsw, u.ru_nivcsw};
    s->pid = 0;
    s->out = -1;
}

int server_run_once(const struct plan *p, const char *const *argv, const char *log,
                    int64_t limit_ns)
{
    int status = 0;
    struct rusage u;
    pid_t pid = spawn(argv, &p->all, -1, log);
    if (pid < 0)
        return -1;
    int64_t end = fen_now() + limit_ns;
    while (!reap(pid, fen_now() + 50 * FEN_MS, &status, &u)) {
        if (fen_now() < end && !prove_stop)
            continue;
        kill(pid, SIGKILL);
        reap(pid, FEN_NEVER, &status, &u);
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
