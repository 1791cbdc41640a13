/* child.c - processes that the benches measure: started, awaited, asked, ended by their id. Each
 * dies with this program (PR_SET_PDEATHSIG). */
#include "bench/bench.h"

#include "prove/prove.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_NS (15 * FEN_S)
#define STOP_NS (12 * FEN_S) /* a drain takes at most 10 s */

const char *self_path(void)
{
    static char path[PATH_MAX];
    if (!*path && readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        snprintf(path, sizeof path, "./fen");
    return path;
}

static const char *in_dir(char *to, size_t bytes, const char *below, const char *name)
{
    int n = (int)(strrchr(self_path(), '/') - self_path());
    snprintf(to, bytes, "%.*s/%s%s", n, self_path(), below, name);
    return access(to, X_OK) ? NULL : to;
}

const char *beside(const char *name)
{
    static char path[PATH_MAX + 64];
    return in_dir(path, sizeof path, "", name);
}

const char *rival_path(const char *name)
{
    static char path[PATH_MAX + 64];
    return in_dir(path, sizeof path, "../rivals/", name);
}

void raise_files(void)
{
    struct rlimit r;
    if (!getrlimit(RLIMIT_NOFILE, &r)) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static pid_t start(const char *const *argv, int (*fn)(void *), void *arg, const cpu_set_t *cpus,
                   int out)
{
    pid_t parent = getpid();
    fflush(stdout);
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    if (cpus)
        sched_setaffinity(0, sizeof *cpus, cpus);
    dup2(out, 1);
    if (fn)
        _exit(fn(arg) < 0 ? 1 : 0);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC); /* a server's complaints at its end */
    if (null >= 0)
        dup2(null, 2);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

/* Reads until a line that contains `word` is whole; returns where the word stands in text. */
static const char *await_line(int fd, const char *word, char *text, size_t bytes)
{
    size_t n = 0;
    int64_t end = fen_now() + START_NS;
    while (n < bytes - 1 && fen_now() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) <= 0)
            continue;
        ssize_t got = read(fd, text + n, bytes - 1 - n);
        if (got <= 0)
            return NULL;
        n += (size_t)got;
        text[n] = 0;
        const char *at = strstr(text, word);
        if (at && strchr(at, '\n'))
            return at;
    }
    return NULL;
}

static int await_port(int fd)
{
    char text[2048];
    const char *at = await_line(fd, "listening on ", text, sizeof text);
    if (!at)
        return 0;
    const char *colon = memrchr(at, ':', (size_t)(strchr(at, '\n') - at));
    return colon ? atoi(colon + 1) : 0;
}

static bool child_run(struct child *c, const char *const *argv, int (*fn)(void *), void *arg,
                      const cpu_set_t *cpus)
{
    int fds[2];
    c->pid = 0;
    c->out = -1;
    if (pipe2(fds, O_CLOEXEC))
        return false;
    c->pid = start(argv, fn, arg, cpus, fds[1]);
    close(fds[1]);
    c->out = fds[0];
    return c->pid > 0;
}

bool child_ready(struct child *c, const char *const *argv, int (*fn)(void *), void *arg)
{
    char text[256];
    if (child_run(c, argv, fn, arg, NULL) && await_line(c->out, "ready", text, sizeof text))
        return true;
    child_stop(c);
    return false;
}

bool child_start(struct child *c, const char *const *argv, int (*fn)(void *), void *arg,
                 const cpu_set_t *cpus)
{
    c->port = child_run(c, argv, fn, arg, cpus) ? await_port(c->out) : 0;
    if (c->port)
        return true;
    child_stop(c);
    return false;
}

void child_stop(struct child *c)
{
    int64_t end = fen_now() + STOP_NS;
    if (c->pid > 0) {
        kill(c->pid, SIGTERM);
        while (waitpid(c->pid, NULL, WNOHANG) == 0) {
            if (fen_now() > end)
                kill(c->pid, SIGKILL);
            usleep(2000);
        }
    }
    if (c->out >= 0)
        close(c->out);
    c->pid = 0;
    c->out = -1;
}

struct call {
    void (*fn)(void *arg, double *out);
    void *arg;
    double *out;
    int n;
};

static int call(void *arg)
{
    struct call *c = arg;
    c->fn(c->arg, c->out);
    size_t bytes = (size_t)c->n * sizeof *c->out;
    return write(1, c->out, bytes) == (ssize_t)bytes ? 0 : -1;
}

bool in_child(void (*fn)(void *arg, double *out), void *arg, double *out, int n)
{
    int fds[2];
    size_t want = (size_t)n * sizeof *out, have = 0;
    for (int i = 0; i < n; i++)
        out[i] = NAN;
    if (pipe2(fds, O_CLOEXEC))
        return false;
    struct call c = {fn, arg, out, n};
    pid_t pid = start(NULL, call, &c, NULL, fds[1]);
    close(fds[1]);
    for (ssize_t got; have < want && (got = read(fds[0], (char *)out + have, want - have)) > 0;)
        have += (size_t)got;
    close(fds[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    for (int i = 0; i < n && have < want; i++)
        out[i] = NAN;
    return have == want;
}

/* Without the pages of files: the store is mapped, and they come and go with the kernel. */
int64_t child_anon_bytes(const struct child *c) { return proc_status(c->pid, "RssAnon") * 1024; }
int64_t child_peak_bytes(const struct child *c) { return proc_status(c->pid, "VmHWM") * 1024; }
int64_t child_cpu_ns(const struct child *c) { return proc_cpu_ns(c->pid); }
char *admin_page(const struct child *c, const char *path) { return http_get(c->admin_port, path); }

int free_port(void)
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

/* ---- the order book ---- */

static char dir[64], db[128];

const char *orders_db(void)
{
    if (*db)
        return db;
    snprintf(dir, sizeof dir, "/tmp/fen-bench-XXXXXX");
    if (!mkdtemp(dir))
        return NULL;
    snprintf(db, sizeof db, "%s/orders.db", dir);
    char flag[160], command[PATH_MAX + 256];
    snprintf(flag, sizeof flag, "--db=%s", db);
    snprintf(command, sizeof command, "'%s' serve orders '%s' --fill-only >&2", self_path(), flag);
    if (system(command)) {
        remove_orders_db();
        return NULL;
    }
    return db;
}

void remove_orders_db(void)
{
    static const char *tails[] = {"", "-wal", "-shm", "-journal"};
    char path[160];
    if (!*db)
        return;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        snprintf(path, sizeof path, "%s%s", db, tails[i]);
        unlink(path);
    }
    rmdir(dir);
    *db = 0;
}

bool start_orders(struct child *c, const cpu_set_t *cpus)
{
    char flag[160], admin[64];
    if (!orders_db())
        return false;
    c->admin_port = free_port();
    snprintf(flag, sizeof flag, "--db=%s", orders_db());
    snprintf(admin, sizeof admin, "--admin-addr=127.0.0.1:%d", c->admin_port);
    const char *argv[] = {self_path(), "serve", "orders",  "--http-addr=127.0.0.1:0",
                          flag,        admin,   "--quiet", NULL};
    return child_start(c, argv, NULL, NULL, cpus);
}

/* ---- load ---- */

double number_in(const char *page, const char *from, const char *key)
{
    char quoted[96];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = page ? strstr(page, from) : NULL;
    at = at ? strstr(at, quoted) : NULL;
    if (!at)
        return NAN;
    char *end;
    double v = strtod(at + strlen(quoted), &end);
    return end == at + strlen(quoted) ? NAN : v;
}

void split_cpus(cpu_set_t *ret_server, cpu_set_t *ret_load)
{
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    int n = CPU_COUNT(&all), seen = 0;
    *ret_server = *ret_load = all;
    if (n < 2)
        return;
    CPU_ZERO(ret_server);
    CPU_ZERO(ret_load);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, seen++ < n / 2 ? ret_server : ret_load);
}

void on_core(int n)
{
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    for (int i = 0, seen = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && seen++ == n)
            CPU_SET(i, &one);
    if (CPU_COUNT(&one))
        sched_setaffinity(0, sizeof one, &one);
}

static int load_main(void *arg)
{
    const char *const *argv = arg;
    execv(argv[0], (char *const *)argv);
    return -1;
}

bool run_load_open(const struct child *server, const char *path, int rate, int connections,
                   double seconds, const cpu_set_t *cpus, struct load_figures *ret)
{
    char url[256], count[48], time[48], pid[48], open[48], page[8192] = "";
    int fds[2];
    snprintf(url, sizeof url, "--url=http://127.0.0.1:%d%s", server->port, path);
    snprintf(count, sizeof count, "--connections=%d", connections);
    snprintf(time, sizeof time, "--duration=%.0fms", seconds * 1000);
    snprintf(pid, sizeof pid, "--server-pid=%d", (int)server->pid);
    const char *warmup = seconds < 1 ? "--warmup=100ms" : "--warmup=500ms";
    snprintf(open, sizeof open, "--rate=%d", rate);
    const char *last = rate ? open : NULL;
    const char *argv[] = {self_path(), "load", url, count, time, warmup, pid, "--json", last, NULL};
    if (pipe2(fds, O_CLOEXEC))
        return false;
    pid_t child = start(NULL, load_main, argv, cpus, fds[1]);
    close(fds[1]);
    size_t n = 0;
    for (ssize_t got;
         n < sizeof page - 1 && (got = read(fds[0], page + n, sizeof page - 1 - n)) > 0;)
        n += (size_t)got;
    close(fds[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    ret->qps = number_in(page, "", "qps");
    ret->requests = number_in(page, "", "requests");
    ret->errors = number_in(page, "", "errors_total");
    ret->p50_ms = number_in(page, "\"latency_ns\":", "p50") / 1e6;
    ret->p99_ms = number_in(page, "\"latency_ns\":", "p99") / 1e6;
    ret->p999_ms = number_in(page, "\"latency_ns\":", "p99.9") / 1e6;
    ret->little_off = number_in(page, "\"littles_law\":", "deviation_percent");
    ret->cpu_us = number_in(page, "\"server\":", "cpu_us_per_request");
    return !isnan(ret->cpu_us);
}

bool run_load(const struct child *server, const char *path, int connections, double seconds,
              const cpu_set_t *cpus, struct load_figures *ret)
{
    return run_load_open(server, path, 0, connections, seconds, cpus, ret);
}
