/* conf.c - the load's configuration: URL, tenants and templates with {a..b}. */
#include "load.h"

#include <ctype.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

void load_conf_init(struct load_conf *c)
{
    memset(c, 0, sizeof *c);
    c->method = "GET";
    c->connections = 100;
    c->threads = c->pipeline = 1;
    c->duration_ns = 10 * FEN_S;
    c->warmup_ns = FEN_S / 2;
    c->timeout_ns = 5 * FEN_S;
    c->reconnect = true;
    c->seed = 1;
}

/* "{12..99}" at p: the end, or NULL. */
static const char *range(const char *p, uint64_t *ret_low, uint64_t *ret_span)
{
    char *end;
    if (!isdigit((unsigned char)p[1]))
        return NULL;
    uint64_t a = strtoull(p + 1, &end, 10);
    if (strncmp(end, "..", 2) || !isdigit((unsigned char)end[2]))
        return NULL;
    uint64_t b = strtoull(end + 2, &end, 10);
    if (*end != '}' || b < a || b > INT64_MAX)
        return NULL;
    *ret_low = a;
    *ret_span = b - a + 1;
    return end + 1;
}

/* A '{' that no "digit..digit}" follows is an ordinary character: JSON bodies are full of them;
 * but one that starts like a range and is none is refused. */
int load_template_parse(struct load_template *t, const char *text)
{
    memset(t, 0, sizeof *t);
    if (strlen(text) > LOAD_TEXT_MAX)
        return -1;
    const char *from = text;
    for (const char *p = text; *p; p++) {
        if (*p != '{' || !isdigit((unsigned char)p[1]))
            continue;
        uint64_t low, span;
        const char *end = range(p, &low, &span);
        if (!end || t->parts == LOAD_PARTS_MAX - 1)
            return -1;
        t->part[t->parts].text = from;
        t->part[t->parts].n = (size_t)(p - from);
        t->part[t->parts].low = low;
        t->part[t->parts++].span = span;
        t->max_bytes += (size_t)(p - from) + 20;
        from = end;
        p = end - 1;
    }
    t->part[t->parts].text = from;
    t->part[t->parts].n = strlen(from);
    t->max_bytes += t->part[t->parts++].n;
    return 0;
}

static uint64_t mix(uint64_t *state) /* splitmix64: any seed is good, consecutive ones too */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

char *load_template_put(const struct load_template *t, char *p, uint64_t *rng)
{
    for (int i = 0; i < t->parts; i++) {
        memcpy(p, t->part[i].text, t->part[i].n);
        p += t->part[i].n;
        if (!t->part[i].span)
            continue;
        uint64_t v = t->part[i].low + mix(rng) % t->part[i].span;
        char digits[20];
        int n = 0;
        do
            digits[n++] = (char)('0' + v % 10);
        while (v /= 10);
        while (n)
            *p++ = digits[--n];
    }
    return p;
}

static int bad_url(const char *cmd, const char *url, const char *why)
{
    fprintf(stderr, "fen %s: --url=%s: %s; expected http://HOST:PORT/PATH\n", cmd, url, why);
    return 2;
}

/* Splits HOST[:PORT] or [V6]:PORT. 0 or -1. */
static int split_host(const char *p, size_t n, char *host, size_t host_max, char *port)
{
    const char *colon = NULL, *name = p;
    size_t name_n = n;
    if (n && *p == '[') {
        const char *close = memchr(p, ']', n);
        if (!close)
            return -1;
        name = p + 1;
        name_n = (size_t)(close - name);
        colon = close + 1 < p + n ? close + 1 : NULL;
        if (colon && *colon != ':')
            return -1;
    } else if ((colon = memchr(p, ':', n))) {
        name_n = (size_t)(colon - p);
    }
    if (!name_n || name_n >= host_max)
        return -1;
    memcpy(host, name, name_n);
    host[name_n] = 0;
    size_t digits = colon ? n - (size_t)(colon + 1 - p) : 0;
    if (colon && (!digits || digits > 5 || strspn(colon + 1, "0123456789") < digits))
        return -1;
    memcpy(port, colon ? colon + 1 : "80", colon ? digits : 2);
    port[colon ? digits : 2] = 0;
    int number = atoi(port);
    return number >= 1 && number <= 65535 ? 0 : -1;
}

int load_conf_url(struct load_conf *c, const char *cmd, const char *url)
{
    if (strncmp(url, "http://", 7))
        return bad_url(cmd, url, "only http:// is spoken");
    if (strlen(url) >= sizeof c->url)
        return bad_url(cmd, url, "longer than 511 bytes");
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 127)
            return bad_url(cmd, url, "holds a space or control character");
    snprintf(c->url, sizeof c->url, "%s", url);
    const char *host = c->url + 7;
    size_t n = strcspn(host, "/?#");
    char name[256], port[8];
    if (split_host(host, n, name, sizeof name, port) || n >= sizeof c->host)
        return bad_url(cmd, url, "no usable host and port");
    memcpy(c->host, host, n);
    c->host[n] = 0;
    if (host[n] && host[n] != '/')
        return bad_url(cmd, url, "the path must begin with /");
    if (load_template_parse(&c->path, host[n] ? host + n : "/"))
        return bad_url(cmd, url, "a range must look like {1..100}, at most 16 of them");
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int rc = getaddrinfo(name, port, &hints, &list);
    if (rc)
        return bad_url(cmd, url, gai_strerror(rc));
    memcpy(&c->addr, list->ai_addr, list->ai_addrlen);
    c->addr_bytes = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

int load_conf_tenants(struct load_conf *c, const char *cmd, const char *list)
{
    if (strlen(list) >= sizeof c->tenants_text)
        goto bad;
    snprintf(c->tenants_text, sizeof c->tenants_text, "%s", list);
    for (char *save, *word = strtok_r(c->tenants_text, ",", &save); word;
         word = strtok_r(NULL, ",", &save)) {
        if (c->tenants_n == LOAD_TENANTS_MAX)
            goto bad;
        for (const char *p = word; *p; p++)
            if ((unsigned char)*p <= ' ' || *p == 127)
                goto bad;
        c->tenants[c->tenants_n++] = word;
    }
    if (c->tenants_n)
        return 0;
bad:
    fprintf(stderr, "fen %s: --tenants=%s: expected up to %d names such as acme,globex\n", cmd,
            list, LOAD_TENANTS_MAX);
    return 2;
}
