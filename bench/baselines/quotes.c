/* quotes.c - what is said to the back end, and a blocking client of it.
 *
 * In the blocking servers the threads share a few pipelined connections (trunk.c), or, with
 * --backend-conns=0, each owns one keep-alive connection, opened at its first quote. A
 * connection that the back end has closed while it was idle shows as an error or as end of input
 * before the first byte: the request is then made once more on a new one. It is safe to repeat
 * because it is a GET.
 */
#include "baseline.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct {
    struct sockaddr_in addr;
    bool known, shared;
} backend;

int quotes_init(const struct options *opt)
{
    backend.addr = opt->backend;
    backend.known = opt->has_backend;
    backend.shared = opt->has_backend && opt->backend_conns > 0 && opt->blocking;
    return backend.shared ? trunks_open(opt->backend_conns) : 0;
}

void upstream_close(struct upstream *up)
{
    if (up->fd >= 0)
        close(up->fd);
    up->fd = -1;
}

int quotes_connect(void)
{
    const int on = 1;
    const struct timeval wait = {.tv_sec = WAIT_MAX_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, (const struct sockaddr *)&backend.addr, sizeof backend.addr)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int upstream_open(struct upstream *up)
{
    up->fd = quotes_connect();
    return up->fd < 0 ? -1 : 0;
}

/* Has the whole answer arrived? Then its status, and ret_body and ret_end hold its body. 0: not
 * yet. -1: nobody can say where it ends. */
static int answer_whole(const char *buf, size_t len, const char **ret_body, const char **ret_end)
{
    static const char length[] = "\r\nContent-Length:";
    const char *blank = memmem(buf, len, "\r\n\r\n", 4);
    if (!blank)
        return 0;
    if (blank - buf < 12 || memcmp(buf, "HTTP/1.1 ", 9))
        return -1;
    int status = (buf[9] - '0') * 100 + (buf[10] - '0') * 10 + (buf[11] - '0');
    if (status < 200 || status > 599)
        return -1;
    const char *at = buf;
    while (at < blank && strncasecmp(at, length, sizeof length - 1))
        at = memchr(at + 1, '\r', (size_t)(blank - at));
    if (at >= blank)
        return -1;
    at += sizeof length - 1;
    while (*at == ' ')
        at++;
    size_t n = 0;
    for (; *at >= '0' && *at <= '9' && n < ANSWER_MAX_BYTES; at++)
        n = n * 10 + (size_t)(*at - '0');
    *ret_body = blank + 4;
    if (n > ANSWER_MAX_BYTES)
        return -1;
    *ret_end = *ret_body + n;
    return *ret_end <= buf + len ? status : 0;
}

/* {"id":N,"price":P} from the back end's own words, so that a wrong answer does not pass. */
static int quote_json(int64_t id, const char *at, const char *end, char *body)
{
    static const char price[] = "\"price\":";
    at = memmem(at, (size_t)(end - at), price, sizeof price - 1);
    if (!at)
        return -502;
    at += sizeof price - 1;
    const char *digits = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    size_t n = (size_t)(at - digits);
    if (n == 0 || n > 18)
        return -502;
    memcpy(body, "{\"id\":", 6);
    char *to = put_i64(body + 6, id);
    memcpy(to, ",\"price\":", 9);
    memcpy(to + 9, digits, n);
    to[9 + n] = '}';
    return (int)(to + 9 + n + 1 - body);
}

size_t quotes_question(int64_t id, char *buf)
{
    memcpy(buf, "GET /quote/", 11);
    char *at = put_i64(buf + 11, id);
    memcpy(at, " HTTP/1.1\r\nHost: backend\r\n\r\n", 28);
    return (size_t)(at + 28 - buf);
}

int quotes_answer_first(int64_t id, const char *buf, size_t len, char *body, size_t *ret_used)
{
    const char *from, *end;
    int status = answer_whole(buf, len, &from, &end);
    *ret_used = status > 0 ? (size_t)(end - buf) : 0;
    if (status <= 0)
        return status < 0 ? -502 : 0;
    return status == 200 ? quote_json(id, from, end, body) : -502;
}

int quotes_answer(int64_t id, const char *buf, size_t len, char *body)
{
    size_t used;
    return quotes_answer_first(id, buf, len, body, &used);
}

int quotes_dial(void)
{
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!connect(fd, (const struct sockaddr *)&backend.addr, sizeof backend.addr) ||
        errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

/* One exchange. Returns the JSON's length, a negative status, or 0 when the connection was dead
 * before a byte came. */
static int ask(struct upstream *up, int64_t id, char *body)
{
    char buf[ANSWER_MAX_BYTES];
    size_t want = quotes_question(id, buf);
    if (send(up->fd, buf, want, MSG_NOSIGNAL) != (ssize_t)want)
        return 0;
    size_t len = 0;
    while (len < sizeof buf) {
        ssize_t n = recv(up->fd, buf + len, sizeof buf - len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return -504;
        if (n <= 0)
            return len ? -502 : 0;
        len += (size_t)n;
        int rc = quotes_answer(id, buf, len, body);
        if (rc)
            return rc;
    }
    return -502;
}

int quotes_json(struct upstream *up, int64_t id, char *body)
{
    if (!backend.known)
        return -502;
    if (backend.shared)
        return trunk_ask(id, body);
    for (int tries = 0; tries < 2; tries++) {
        bool fresh = up->fd < 0;
        if (fresh && upstream_open(up))
            return -502;
        int len = ask(up, id, body);
        if (len > 0)
            return len;
        upstream_close(up);
        if (len < 0)
            return len;
        if (fresh)
            break;
    }
    return -502;
}
