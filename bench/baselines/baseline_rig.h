/* baseline_rig.h - starts the comparison servers and talks to them; for baseline_test.c.
 *
 * The program's path, FEN_BASELINE, comes from the build. */
#ifndef BASELINE_RIG_H
#define BASELINE_RIG_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

enum { DELAY_MS = 30 };

struct server {
    pid_t pid;
    int port;
    int out, err;
};

static char dir[] = "/tmp/fen-baseline-XXXXXX";
static char db_flag[64];

static const char row[] = "{\"id\":1,\"customer\":17,\"item\":\"widget-42\",\"quantity\":3,"
                          "\"price_cents\":1999,\"status\":\"paid\",\"created_at\":1700000000}";
static const char odd_row[] =
    "{\"id\":2,\"customer\":-5,\"item\":\"a\\\"b\\\\c\\n\\u0001\",\"quantity\":0,"
    "\"price_cents\":0,\"status\":\"\",\"created_at\":-1}";

/* ---- processes ----------------------------------------------------------------------------- */

static struct server spawn(const char *const *flags)
{
    struct server s;
    int out[2], err[2];
    const char *argv[12] = {FEN_BASELINE};
    for (int i = 0; flags[i]; i++)
        argv[i + 1] = flags[i];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(err), 0);
    s.pid = fork();
    assert_true(s.pid >= 0);
    if (s.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a failed test leaves no server behind */
        dup2(out[1], 1);
        dup2(err[1], 2);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(out[1]);
    close(err[1]);
    s.out = out[0];
    s.err = err[0];
    s.port = 0;
    return s;
}

static void read_all(int fd, char *buf, size_t size)
{
    size_t len = 0;
    ssize_t n;
    while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
        len += (size_t)n;
    buf[len] = '\0';
}

static int wait_exit(struct server *s)
{
    int status;
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    close(s->out);
    close(s->err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What the server had to say, for whoever reads a failed run. Waits until it has ended. */
static void show_errors(const struct server *s)
{
    char text[8192];
    read_all(s->err, text, sizeof text);
    if (*text)
        print_error("%s", text);
}

static struct server start(const char *const *flags)
{
    struct server s = spawn(flags);
    char line[128] = "";
    for (size_t len = 0; len < sizeof line - 1 && !strchr(line, '\n'); len++)
        if (read(s.out, line + len, 1) != 1)
            break;
    if (sscanf(line, "listening on 127.0.0.1:%d\n", &s.port) != 1) {
        show_errors(&s);
        fail_msg("no port in \"%s\"", line);
    }
    return s;
}

static void stop(struct server *s)
{
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    show_errors(s);
    assert_int_equal(wait_exit(s), 0);
}

static struct server start_backend(int port)
{
    char addr[40], delay[40];
    snprintf(addr, sizeof addr, "--addr=127.0.0.1:%d", port);
    snprintf(delay, sizeof delay, "--delay=%dms", DELAY_MS);
    const char *flags[] = {"--mode=backend", addr, delay, NULL};
    return start(flags);
}

static struct server start_front(const char *mode, const struct server *backend, const char *more)
{
    char mode_flag[32], addr[40];
    snprintf(mode_flag, sizeof mode_flag, "--mode=%s", mode);
    snprintf(addr, sizeof addr, "--backend=127.0.0.1:%d", backend ? backend->port : 1);
    const char *flags[] = {mode_flag, addr, db_flag, more, NULL};
    return start(flags);
}

/* The same over two pipelined connections to whatever listens on the port. */
static struct server start_sharing(const char *mode, int port)
{
    char mode_flag[32], addr[40];
    snprintf(mode_flag, sizeof mode_flag, "--mode=%s", mode);
    snprintf(addr, sizeof addr, "--backend=127.0.0.1:%d", port);
    const char *flags[] = {mode_flag, addr, db_flag, "--backend-conns=2", NULL};
    return start(flags);
}

static int open_fds(pid_t pid)
{
    char path[40];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- a small client ------------------------------------------------------------------------ */

static int dial(const struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    const struct timeval patience = {.tv_sec = 5};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void ask(int fd, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: t\r\n\r\n", path);
    say(fd, text);
}

/* Reads exactly one reply: its status, and its body in `body`. -1 at the end of input. */
static int hear(int fd, char *body, size_t size, bool has_body)
{
    char head[1024];
    size_t len = 0;
    do {
        if (len == sizeof head - 1 || recv(fd, head + len, 1, 0) != 1)
            return -1;
        head[++len] = '\0';
    } while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4));
    int status = 0;
    assert_int_equal(sscanf(head, "HTTP/1.1 %d ", &status), 1);
    assert_non_null(strstr(head, "\r\nDate: "));
    assert_non_null(strstr(head, " GMT\r\n"));
    assert_non_null(strstr(head, "\r\nContent-Type: "));
    const char *length = strstr(head, "\r\nContent-Length: ");
    assert_non_null(length);
    size_t want = has_body ? strtoul(length + 18, NULL, 10) : 0;
    assert_true(want < size);
    for (len = 0; len < want;) {
        ssize_t n = recv(fd, body + len, want - len, 0);
        assert_true(n > 0);
        len += (size_t)n;
    }
    body[len] = '\0';
    return status;
}

static void expect(int fd, int status, const char *body)
{
    char got[4096];
    assert_int_equal(hear(fd, got, sizeof got, true), status);
    assert_string_equal(got, body);
}

static void expect_end(int fd)
{
    char c;
    assert_int_equal(recv(fd, &c, 1, 0), 0);
    close(fd);
}

static void expect_refusal(const struct server *s, const char *text, int status)
{
    char body[256];
    int fd = dial(s);
    say(fd, text);
    assert_int_equal(hear(fd, body, sizeof body, true), status);
    expect_end(fd);
}

#endif
