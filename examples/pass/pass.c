/* pass.c - bytes that are passed on without being looked at never come to user space.
 *
 *     build/release/example_pass file README.md 127.0.0.1:8080 &
 *     curl http://127.0.0.1:8080/
 *     build/release/example_pass to 127.0.0.1:8080 127.0.0.1:8081 &
 *     curl http://127.0.0.1:8081/
 *
 * The first one answers each request with a file: the head is written, the file is sent by the
 * kernel (sendfile). The second one passes connections on, both ways at once (splice). */
#include <fen/fen.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REQUEST_BYTES 8192
#define PATIENCE (30 * FEN_S)

static int file = -1;
static const char *upstream;

/* ---- a file ---- */

/* Reads to the end of the request's head; what it asks for does not matter here. */
static int read_head(fen_sock *s)
{
    char head[REQUEST_BYTES + 1];
    size_t n = 0;
    while (n < REQUEST_BYTES) {
        ssize_t got = fen_sock_read(s, head + n, REQUEST_BYTES - n, fen_now() + PATIENCE);
        if (got <= 0)
            return got < 0 ? (int)got : -ECONNRESET;
        n += (size_t)got;
        head[n] = 0;
        if (strstr(head, "\r\n\r\n"))
            return 0;
    }
    return -E2BIG;
}

static void answer(void *arg)
{
    fen_sock *s = arg;
    char head[160];
    int64_t bytes = lseek(file, 0, SEEK_END), deadline = fen_now() + PATIENCE;
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nConnection: close\r\n\r\n",
                     (long long)bytes);
    int rc = read_head(s);
    ssize_t put = rc ? rc : fen_sock_write(s, head, (size_t)n, deadline);
    if (put > 0)
        put = fen_sock_send_file(s, file, 0, (size_t)bytes, deadline);
    if (put != bytes)
        fprintf(stderr, "file: %s\n", put < 0 ? fen_strerror((int)put) : "it has become shorter");
    fen_sock_close(s);
}

/* ---- a connection ---- */

struct way {
    fen_sock *from, *to;
};

static void one_way(void *arg)
{
    struct way *w = arg;
    ssize_t n = fen_sock_splice(w->from, w->to, SIZE_MAX, FEN_NEVER);
    if (n < 0) { /* what was on its way is lost: neither side may take it for the end */
        fen_sock_shutdown(w->from, FEN_SHUT_BOTH);
        fen_sock_shutdown(w->to, FEN_SHUT_BOTH);
    } else
        fen_sock_shutdown(w->to, FEN_SHUT_WRITE);
}

static void pass_on(void *arg)
{
    fen_sock *client = arg, *server;
    int rc = fen_tcp_dial(upstream, fen_now() + PATIENCE, &server);
    if (rc) {
        fprintf(stderr, "%s: %s\n", upstream, fen_strerror(rc));
        fen_sock_close(client);
        return;
    }
    struct way there = {client, server}, back = {server, client};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    if (scope && fen_go(one_way, &there) == 0)
        one_way(&back);
    if (scope)
        fen_scope_close(scope);
    fen_sock_close(server);
    fen_sock_close(client);
}

/* ---- both ---- */

static int serve(void *arg)
{
    fen_sock *l, *s;
    int rc = fen_tcp_listen(arg, 0, &l);
    if (rc)
        return rc;
    printf("listening on 127.0.0.1:%d\n", fen_sock_port(l));
    fflush(stdout);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    while (scope) {
        rc = fen_tcp_accept(l, FEN_NEVER, &s);
        if (rc == 0 && fen_go(file >= 0 ? answer : pass_on, s) != 0)
            fen_sock_close(s);
    }
    fen_sock_close(l);
    return -ENOMEM;
}

int main(int argc, char **argv)
{
    bool is_file = argc > 2 && !strcmp(argv[1], "file");
    if (argc < 3 || argc > 4 || (!is_file && strcmp(argv[1], "to") != 0)) {
        fprintf(stderr, "usage: %s file PATH [ADDRESS] | %s to HOST:PORT [ADDRESS]\n", argv[0],
                argv[0]);
        return 2;
    }
    upstream = argv[2];
    file = is_file ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
    if (is_file && file < 0) {
        perror(argv[2]);
        return 1;
    }
    char *at = argc > 3 ? argv[3] : "127.0.0.1:8080";
    int rc = fen_run(serve, at, NULL);
    if (rc)
        fprintf(stderr, "%s: %s\n", at, fen_strerror(rc));
    return rc ? 1 : 0;
}
