/* bill.c - asks fen for its own books: the "bill" array of /debug/vars. */
#include "prove.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define REPLY_MAX (4 * 1024 * 1024)

/* The answer's bytes into text; how many. */
static size_t talk(int fd, int port, const char *path, char *text)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {2, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        return 0;
    /* HTTP/1.0: the body ends with the connection and is never chunked. */
    dprintf(fd, "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
    size_t n = 0;
    for (ssize_t got; n < REPLY_MAX && (got = read(fd, text + n, REPLY_MAX - n)) > 0;)
        n += (size_t)got;
    return n;
}

char *http_get(int port, const char *path)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char *text = calloc(1, REPLY_MAX + 1), *body = NULL;
    if (fd >= 0 && text && talk(fd, port, path, text))
        body = strstr(text, "\r\n\r\n");
    if (body && (strncmp(text, "HTTP/1.", 7) || strncmp(text + 8, " 200", 4)))
        body = NULL;
    char *ret = body ? strdup(body + 4) : NULL;
    free(text);
    if (fd >= 0)
        close(fd);
    return ret;
}

static const char *blank(const char *p)
{
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
        p++;
    return p;
}

/* A JSON string at p into to (cut to fit; \uXXXX becomes '?'): its end, or NULL. */
static const char *text(const char *p, char *to, size_t bytes)
{
    size_t n = 0;
    if (*p++ != '"')
        return NULL;
    for (; *p && *p != '"'; p++) {
        char c = *p;
        if (c == '\\') {
            c = *++p;
            if (!c)
                return NULL;
            if (c == 'u') {
                for (int i = 0; i < 4 && p[1]; i++)
                    p++;
                c = '?';
            }
        }
        if (n + 1 < bytes)
            to[n++] = c;
    }
    to[n] = 0;
    return *p ? p + 1 : NULL;
}

/* Past any value that is not an object or array: rows are flat. */
static const char *scalar(const char *p, char *to, size_t bytes, double *ret)
{
    char *end;
    *to = 0;
    *ret = 0;
    if (*p == '"')
        return text(p, to, bytes);
    if (!strncmp(p, "null", 4) || !strncmp(p, "true", 4))
        return p + 4;
    if (!strncmp(p, "false", 5))
        return p + 5;
    *ret = strtod(p, &end);
    return end > p ? end : NULL;
}

static const char *row(const char *p, struct bill_row *r)
{
    char key[64], word[96];
    double v;
    const struct {
        const char *key;
        double *to;
    } numbers[] = {{"requests", &r->requests},
                   {"cpu_ns", &r->cpu_ns},
                   {"wait_ns", &r->wait_ns},
                   {"arena_bytes", &r->arena_bytes},
                   {"in_bytes", &r->in_bytes},
                   {"out_bytes", &r->out_bytes},
                   {"yuan_per_million", &r->yuan_per_million}};
    memset(r, 0, sizeof *r);
    for (p = blank(p + 1); p && *p != '}';) {
        p = text(p, key, sizeof key);
        p = p ? blank(p) : NULL;
        if (!p || *p != ':')
            return NULL;
        p = scalar(blank(p + 1), word, sizeof word, &v);
        if (!p)
            return NULL;
        if (!strcmp(key, "tenant"))
            snprintf(r->tenant, sizeof r->tenant, "%.63s", word);
        else if (!strcmp(key, "operation"))
            snprintf(r->operation, sizeof r->operation, "%s", word);
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
            if (!strcmp(key, numbers[i].key))
                *numbers[i].to = *word ? strtod(word, NULL) : v;
        p = blank(p);
        if (*p == ',')
            p = blank(p + 1);
    }
    return p ? p + 1 : NULL;
}

int bill_parse(const char *json, struct bill_row *rows, int max)
{
    int n = 0;
    const char *p = strstr(json, "\"bill\"");
    p = p ? blank(p + 6) : NULL;
    p = p && *p == ':' ? blank(p + 1) : NULL;
    if (!p || *p != '[')
        return 0;
    for (p = blank(p + 1); *p == '{' && n < max;) {
        p = row(p, &rows[n]);
        if (!p)
            return n;
        n++;
        p = blank(p);
        if (*p == ',')
            p = blank(p + 1);
    }
    return n;
}
