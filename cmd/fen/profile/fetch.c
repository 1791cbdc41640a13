/* fetch.c - a file, or what a service answers to one GET. */
#include "profile/profile.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int refuse(const char *cmd, const char *from, const char *why)
{
    fprintf(stderr, "fen %s: %s: %s\n", cmd, from, why);
    return 2;
}

/* All that can be read; NULL: no memory, too much, or an error, which errno names. */
static char *read_all(int fd, size_t *ret_n)
{
    size_t cap = 64 << 10, n = 0;
    char *p = malloc(cap);
    while (p) {
        ssize_t got = read(fd, p + n, cap - n - 1);
        if (got == 0) {
            p[n] = 0;
            *ret_n = n;
            return p;
        }
        if (got < 0 && errno == EINTR)
            continue;
        n += got > 0 ? (size_t)got : 0;
        char *more = got < 0 || n > FETCH_MAX ? NULL : n + 1 < cap ? p : realloc(p, cap *= 2);
        if (!more) {
            errno = n > FETCH_MAX ? EFBIG : errno;
            free(p);
        }
        p = more;
    }
    return NULL;
}

static int read_file(const char *cmd, const char *path, char **ret_p, size_t *ret_n)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return refuse(cmd, path, strerror(errno));
    *ret_p = read_all(fileno(f), ret_n);
    int err = errno;
    fclose(f);
    return *ret_p ? 0 : refuse(cmd, path, strerror(err));
}

/* ---- http ---- */

struct url {
    char host[256], port[16];
    const char *path;
};

static bool parse_url(const char *text, struct url *u)
{
    const char *at = text + strlen("http://"), *slash = at + strcspn(at, "/");
    const char *end = *at == '[' ? memchr(at, ']', (size_t)(slash - at)) : NULL;
    const char *colon = memchr(end ? end : at, ':', (size_t)(slash - (end ? end : at)));
    const char *host = end ? at + 1 : at, *host_end = end ? end : colon ? colon : slash;
    size_t n = (size_t)(host_end - host), m = colon ? (size_t)(slash - colon - 1) : 0;
    if (!n || n >= sizeof u->host || m >= sizeof u->port || (colon && !m) ||
        strpbrk(text, " \t\r\n"))
        return false;
    memcpy(u->host, host, n);
    u->host[n] = 0;
    memcpy(u->port, m ? colon + 1 : "80", m ? m : 2);
    u->port[m ? m : 2] = 0;
    u->path = *slash ? slash : "/";
    return true;
}

/* A connected socket, or -1 and *ret_why. */
static int dial(const struct url *u, const char **ret_why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    struct timeval limit = {.tv_sec = 30};
    /* a static program resolves nothing */
    const char *host = strcmp(u->host, "localhost") ? u->host : "127.0.0.1";
    int rc = getaddrinfo(host, u->port, &hints, &list), fd = -1;
    *ret_why = rc ? gai_strerror(rc) : NULL;
    for (struct addrinfo *a = rc ? NULL : list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            *ret_why = strerror(errno);
        } else {
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        }
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
            *ret_why = strerror(errno);
            close(fd);
            fd = -1;
        }
    }
    if (!rc)
        freeaddrinfo(list);
    return fd;
}

static int get(const char *cmd, const char *from, char **ret_p, size_t *ret_n)
{
    struct url u;
    const char *why;
    char request[1024];
    if (!parse_url(from, &u))
        return refuse(cmd, from, "expected http://HOST:PORT/PATH");
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", u.path, u.host);
    if (n >= (int)sizeof request)
        return refuse(cmd, from, "the path is too long");
    int fd = dial(&u, &why);
    if (fd < 0)
        return refuse(cmd, from, why);
    char *p = send(fd, request, (size_t)n, MSG_NOSIGNAL) == n ? read_all(fd, ret_n) : NULL;
    int err = errno;
    close(fd);
    if (!p)
        return refuse(cmd, from, err == EAGAIN ? "no answer within 30 s" : strerror(err));
    char *body = memmem(p, *ret_n, "\r\n\r\n", 4);
    int status = 0;
    if (!body || sscanf(p, "HTTP/1.%*d %d", &status) != 1 || status != 200) {
        snprintf(request, sizeof request, "answered %d, not 200", status);
        free(p);
        return refuse(cmd, from, status ? request : "no HTTP answer");
    }
    body += 4;
    *ret_n -= (size_t)(body - p);
    memmove(p, body, *ret_n + 1);
    *ret_p = p;
    return 0;
}

int fetch(const char *cmd, const char *from, char **ret_p, size_t *ret_n)
{
    bool url = !strncmp(from, "http://", 7);
    return url ? get(cmd, from, ret_p, ret_n) : read_file(cmd, from, ret_p, ret_n);
}
