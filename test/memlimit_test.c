/* memlimit_test.c - a server whose load needs more memory than there is: it refuses, and lives.
 *
 * A memory cgroup of 64 MiB (v1 or v2, whichever this machine lets us make; skipped without). The
 * server is a child process in it, the clients are here, outside. Without a limit of its own the
 * kernel kills it; with FEN_MEMLIMIT=auto it answers 503 to what does not fit. FEN_MEMLIMIT_SECONDS
 * (4) is how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/sanitize.h"
#include "rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CGROUP_BYTES (64 << 20)
#define CLIENTS 96
#define HOG_BYTES ((size_t)1 << 20)
#define SMALL_BYTES ((size_t)8 << 10)

/* ---- the cgroup ---- */

static char dir[128], procs[160];

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool make_at(const char *mount, const char *limit_file)
{
    char path[160], text[32];
    snprintf(dir, sizeof dir, "%s/fen-memlimit-%d", mount, (int)getpid());
    if (mkdir(dir, 0755))
        return false;
    snprintf(path, sizeof path, "%s/%s", dir, limit_file);
    snprintf(text, sizeof text, "%d", CGROUP_BYTES);
    snprintf(procs, sizeof procs, "%s/cgroup.procs", dir);
    if (write_file(path, text))
        return true;
    rmdir(dir);
    return false;
}

static bool make_cgroup(void)
{
    return make_at("/sys/fs/cgroup/memory", "memory.limit_in_bytes") ||
           make_at("/sys/fs/cgroup", "memory.max");
}

static void drop_cgroup(void)
{
    for (int i = 0; rmdir(dir) && i < 500; i++) /* the dead may take a moment to leave */
        rig_nap(10 * FEN_MS);
}

/* ---- the server ---- */

static fen_server *server;

/* Holds a MiB for a while, in blocks. */
static int hog(fen_exchange *x, void *arg)
{
    (void)arg;
    for (size_t at = 0; at < HOG_BYTES; at += SMALL_BYTES) {
        char *p = fen_arena_alloc(fen_exchange_arena(x), SMALL_BYTES);
        if (!p)
            return -ENOMEM;
        memset(p, 1, SMALL_BYTES);
    }
    int rc = fen_sleep(200 * FEN_MS);
    return rc ? rc : fen_reply(x, 200, "text/plain", FEN_SLICE("held"));
}

static void tell_port(void *arg)
{
    while (!fen_server_port(server))
        if (fen_sleep(FEN_MS))
            return;
    int port = fen_server_port(server);
    if (write(*(int *)arg, &port, sizeof port) != sizeof port)
        fen_server_stop(server);
}

static int serve(void *arg)
{
    server = fen_server_new(NULL);
    if (!server || fen_route(server, "GET /hog", hog, NULL) || fen_go(tell_port, arg))
        return -ENOMEM;
    int rc = fen_server_serve(server, "127.0.0.1:0");
    fen_server_free(server);
    return rc;
}

static void child(int to)
{
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (!write_file(procs, pid))
        _exit(3);
    _exit(fen_run(serve, &to, NULL) ? 1 : 0);
}

static pid_t start(int *ret_port)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(fds[1]);
    close(fds[1]);
    assert_true(pid > 0);
    assert_int_equal(read(fds[0], ret_port, sizeof *ret_port), sizeof *ret_port);
    close(fds[0]);
    return pid;
}

/* ---- the load ---- */

static struct {
    int port;
    _Atomic bool stop;
    _Atomic int served, refused, others;
} load;

static int connect_to(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {.tv_sec = 2};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A status, or 0 when there is none to be had; replies are smaller than the buffer. */
static int ask(int fd)
{
    static const char question[] = "GET /hog HTTP/1.1\r\nHost: x\r\n\r\n";
    char text[1024];
    if (!rig_send(fd, question, sizeof question - 1))
        return 0;
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return n > 12 && !strncmp(text, "HTTP/1.1 ", 9) ? atoi(text + 9) : 0;
}

static void count(int status)
{
    _Atomic int *n = status == 200 ? &load.served : status == 503 ? &load.refused : &load.others;
    atomic_fetch_add(n, 1);
    if (status == 503)
        rig_nap(20 * FEN_MS);
}

static void *client(void *arg)
{
    (void)arg;
    int fd = -1;
    while (!atomic_load(&load.stop)) {
        if (fd < 0)
            fd = connect_to(load.port);
        int status = fd < 0 ? 0 : ask(fd);
        if (status) {
            count(status);
            continue;
        }
        if (fd >= 0)
            close(fd);
        fd = -1;
        rig_nap(20 * FEN_MS);
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static long resident_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmRSS:", 6))
            kib = atol(line + 6);
    if (f)
        fclose(f);
    return kib;
}

struct outcome {
    int status; /* of waitpid; -1: it had to be stopped */
    long most_kib;
};

static struct outcome run(double seconds)
{
    pthread_t t[CLIENTS];
    struct outcome o = {.status = -1};
    memset(&load, 0, sizeof load);
    pid_t pid = start(&load.port);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, client, NULL), 0);
    bool gone = false;
    for (int64_t end = fen_now() + (int64_t)(seconds * 1e9); fen_now() < end && !gone;) {
        long kib = resident_kib(pid);
        o.most_kib = kib > o.most_kib ? kib : o.most_kib;
        gone = waitpid(pid, &o.status, WNOHANG) == pid;
        rig_nap(FEN_MS);
    }
    atomic_store(&load.stop, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(t[i], NULL);
    if (!gone) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        o.status = -1;
    }
    return o;
}

static void it_refuses_and_lives(void **state)
{
    (void)state;
#if defined(FEN__ASAN) || defined(FEN__TSAN)
    print_message("skipped: a sanitizer's own memory would count\n");
    skip();
#endif
    if (!make_cgroup()) {
        print_message("skipped: no memory cgroup can be made here\n");
        skip();
    }
    const char *text = getenv("FEN_MEMLIMIT_SECONDS");
    double seconds = text ? atof(text) : 4;
    unsetenv("FEN_MEMLIMIT");
    struct outcome without = run(seconds);
    setenv("FEN_MEMLIMIT", "auto", 1);
    struct outcome with = run(seconds);
    int served = load.served, refused = load.refused, others = load.others;
    unsetenv("FEN_MEMLIMIT");
    drop_cgroup();
    print_message("%g s: %d served, %d refused, %d others, at most %ld KiB\n", seconds, served,
                  refused, others, with.most_kib);
    assert_true(without.status != -1 && WIFSIGNALED(without.status) &&
                WTERMSIG(without.status) == SIGKILL);
    assert_int_equal(with.status, -1);
    assert_true(with.most_kib <= (CGROUP_BYTES >> 10) / 10 * 9);
    assert_true(served > 0);
    assert_true(refused > 0);
    assert_int_equal(others, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_refuses_and_lives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
