/* crawler.c - waves of fetches, at most four at once, against a site of its own. Chapter 9. */
#include <fen/fen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX 64
#define LINKS_MAX 8
#define AT_ONCE 4

/* ---- a site to crawl: page n links to 2n and 2n+1; some are missing, one never answers ---- */

static int page(fen_exchange *x, void *arg)
{
    char body[64];
    int64_t n;
    (void)arg;
    int rc = fen_path_i64(x, "n", &n);
    if (rc < 0)
        return rc;
    if (n == 5)
        return fen_sleep(60 * FEN_S); /* ends when the client hangs up */
    if (n > 9)
        return -ENOENT; /* becomes 404 */
    int bytes =
        snprintf(body, sizeof body, "/page/%d /page/%d /page/1\n", (int)(2 * n), (int)(2 * n + 1));
    return fen_reply(x, 200, "text/plain", (fen_slice){body, (size_t)bytes});
}

static void serve(void *arg)
{
    int rc = fen_server_serve(arg, "127.0.0.1:0");
    if (rc < 0)
        fprintf(stderr, "crawler: the site: %s\n", fen_strerror(rc));
}

/* ---- fetching ---- */

struct fetch {
    int port;
    char path[32];
    int status; /* of HTTP, or a negative error */
    int n_links;
    char links[LINKS_MAX][32];
};

/* Sends the request, reads until the server closes. The length, or -errno. */
static ssize_t exchange(fen_sock *s, const char *path, char *buf, size_t bytes)
{
    int n = snprintf(buf, bytes, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path);
    ssize_t got = fen_sock_write(s, buf, (size_t)n, FEN_NEVER);
    size_t have = 0;
    while (got > 0 && have < bytes - 1) {
        got = fen_sock_read(s, buf + have, bytes - 1 - have, FEN_NEVER);
        have += got > 0 ? (size_t)got : 0;
    }
    buf[have] = 0;
    return got < 0 ? got : (ssize_t)have;
}

static void take_links(struct fetch *f, char *reply)
{
    char *save, *body = strstr(reply, "\r\n\r\n");
    for (char *p = body ? strtok_r(body, " \r\n", &save) : NULL; p && f->n_links < LINKS_MAX;
         p = strtok_r(NULL, " \r\n", &save))
        snprintf(f->links[f->n_links++], sizeof f->links[0], "%s", p);
}

/* 0 or -errno; what the page is like is in f->status. */
static int get(struct fetch *f)
{
    char addr[FEN_ADDR_TEXT], reply[2048];
    fen_sock *s;
    snprintf(addr, sizeof addr, "127.0.0.1:%d", f->port);
    int rc = fen_tcp_dial(addr, FEN_NEVER, &s);
    if (rc < 0)
        return rc;
    ssize_t n = exchange(s, f->path, reply, sizeof reply);
    fen_sock_close(s);
    if (n < 0)
        return (int)n;
    if (n < 12 || strncmp(reply, "HTTP/1.1 ", 9) != 0)
        return FEN_EPARSE;
    f->status = (int)strtol(reply + 9, NULL, 10);
    if (f->status == 200)
        take_links(f, reply);
    return 0;
}

/* A fiber of the group. A bad page is a result; only what ends the crawl is an error. */
static int fetch_main(void *arg)
{
    struct fetch *f = arg;
    fen_scope *s = fen_scope_open(fen_now() + 2 * FEN_S); /* for one page */
    if (!s)
        return -ENOMEM;
    int rc = get(f);
    fen_scope_close(s);
    if (rc == 0)
        return 0;
    f->status = rc;
    return rc == -ETIMEDOUT || rc == -ECONNREFUSED ? 0 : rc;
}

/* ---- crawling ---- */

struct crawl {
    int n, done;
    struct fetch all[PAGES_MAX]; /* each path once; those from done on are to be fetched */
};

static void add(struct crawl *c, int port, const char *path)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->all[i].path, path))
            return;
    if (c->n == PAGES_MAX)
        return;
    struct fetch *f = &c->all[c->n++];
    f->port = port;
    snprintf(f->path, sizeof f->path, "%s", path);
}

/* Fetches everything that is known and not fetched. Each fiber writes to its own record only, so
 * there is nothing to lock; what they found is gathered when all have ended. */
static int wave(struct crawl *c, int64_t deadline_ns)
{
    int first = c->done, last = c->n, rc = 0;
    fen_group *g = fen_group_open(AT_ONCE, deadline_ns);
    if (!g)
        return -ENOMEM;
    for (int i = first; i < last && !rc; i++)
        rc = fen_group_go(g, fetch_main, &c->all[i]); /* waits while four are under way */
    int failed = fen_group_wait(g);
    if (failed || rc)
        return failed ? failed : rc;
    c->done = last;
    for (int i = first; i < last; i++)
        for (int k = 0; k < c->all[i].n_links; k++)
            add(c, c->all[i].port, c->all[i].links[k]);
    return 0;
}

static int crawl(int port)
{
    struct crawl *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    int rc = 0, waves = 0;
    int64_t deadline = fen_now() + 20 * FEN_S; /* for everything */
    add(c, port, "/page/1");
    for (; c->done < c->n && !rc; waves++)
        rc = wave(c, deadline);
    for (int i = 0; i < c->done; i++) {
        int status = c->all[i].status;
        if (status < 0)
            printf("%-9s %s\n", c->all[i].path, fen_strerror(status));
        else
            printf("%-9s %d, %d links\n", c->all[i].path, status, c->all[i].n_links);
    }
    printf("%d pages in %d waves: %s\n", c->done, waves, fen_strerror(rc));
    free(c);
    return rc;
}

static int with_site(fen_server *site)
{
    int rc = fen_route(site, "GET /page/{n}", page, NULL);
    fen_scope *s = rc ? NULL : fen_scope_open(FEN_NEVER);
    if (!s)
        return rc ? rc : -ENOMEM;
    rc = fen_go(serve, site);
    for (int i = 0; i < 1000 && !rc && !fen_server_port(site); i++)
        rc = fen_sleep(5 * FEN_MS);
    if (!rc)
        rc = crawl(fen_server_port(site));
    fen_server_stop(site);
    fen_scope_close(s);
    return rc;
}

static int app(void *arg)
{
    (void)arg;
    fen_server *site = fen_server_new(NULL);
    int rc = site ? with_site(site) : -ENOMEM;
    fen_server_free(site);
    return rc;
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
