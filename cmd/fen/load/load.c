/* load.c - fen load: flags in, a run, a report out. */
#include "load.h"

#include "cmd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile bool interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = true;
}

struct texts {
    const char *url, *method, *body, *tenants, *samples, *arrival, *headers[LOAD_HEADERS_MAX];
};

static int bad(const char *what)
{
    fprintf(stderr, "fen load: %s\n", what);
    return 2;
}

static int bad_value(const char *flag, const char *value, const char *expected)
{
    fprintf(stderr, "fen load: --%s=%s: expected %s\n", flag, value, expected);
    return 2;
}

static int bad_word(const char *word)
{
    fprintf(stderr, "fen load: unexpected word '%s'; a URL is given with --url=\n", word);
    return 2;
}

/* --header may be given up to 8 times; the flag parser keeps only the last value of a flag, so the
 * headers are taken out of the arguments first. */
static int take_headers(struct load_conf *c, int *argc, char **argv)
{
    int kept = 1, urls = 0;
    for (int i = 1; i < *argc; i++) {
        if (*argv[i] != '-')
            return bad_word(argv[i]);
        urls += !strncmp(argv[i], "--url=", 6);
        if (urls > 1) /* a shell has expanded {1..9}: the last number alone would be asked for */
            return bad("--url was given more than once; put quotes around a URL with {a..b}");
        if (strncmp(argv[i], "--header=", 9)) {
            argv[kept++] = argv[i];
            continue;
        }
        const char *h = argv[i] + 9, *colon = strchr(h, ':');
        if (!colon || colon == h || strpbrk(h, "\r\n"))
            return bad_value("header", h, "'Name: value'");
        if (c->headers_n == LOAD_HEADERS_MAX)
            return bad("--header: at most 8 of them");
        c->headers[c->headers_n++] = h;
    }
    *argc = kept;
    return 0;
}

static int check_pid(const struct load_conf *c)
{
    clockid_t id;
    struct timespec t;
    if (!c->server_pid ||
        (!clock_getcpuclockid((pid_t)c->server_pid, &id) && !clock_gettime(id, &t)))
        return 0;
    fprintf(stderr, "fen load: --server-pid=%lld: no such process\n", (long long)c->server_pid);
    return 2;
}

static int take_texts(struct load_conf *c, const struct texts *t)
{
    if (!t->url)
        return bad("--url=http://HOST:PORT/PATH is needed");
    if (t->method)
        c->method = t->method;
    if (!*c->method || strlen(c->method) > 16 ||
        strspn(c->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(c->method))
        return bad_value("method", c->method, "capital letters such as GET or POST");
    c->has_body = t->body;
    if (t->body && load_template_parse(&c->body, t->body))
        return bad("--body: a range must look like {1..100}, at most 16 of them, 16 KiB in all");
    if (t->arrival && strcmp(t->arrival, "fixed") && strcmp(t->arrival, "poisson"))
        return bad_value("arrival", t->arrival, "fixed or poisson");
    c->poisson = t->arrival && !strcmp(t->arrival, "poisson");
    if (c->rate && c->pipeline > 1)
        return bad("--pipeline is for the closed loop, without --rate");
    if (c->threads > c->connections)
        return bad("--threads: more threads than connections");
    int rc = load_conf_url(c, "load", t->url);
    if (!rc && t->tenants)
        rc = load_conf_tenants(c, "load", t->tenants);
    return rc ? rc : check_pid(c);
}

static int parse(struct load_conf *c, struct texts *t, bool *ret_json, int argc, char **argv)
{
    const struct arg tab[] = {
        {"url", ARG_STR, &t->url, 0, 0, "http://HOST:PORT/PATH; {1..100} draws a number"},
        {"connections", ARG_INT, &c->connections, 1, 60000, "open at once (100)"},
        {"duration", ARG_DUR, &c->duration_ns, 10 * FEN_MS, 24 * 3600 * FEN_S, "measured (10s)"},
        {"warmup", ARG_DUR, &c->warmup_ns, 0, 600 * FEN_S, "before, not counted (0.5s)"},
        {"rate", ARG_INT, &c->rate, 1, 10000000, "open loop: requests/s in all (off: closed loop)"},
        {"arrival", ARG_STR, &t->arrival, 0, 0, "open loop: fixed or poisson (fixed)"},
        {"pipeline", ARG_INT, &c->pipeline, 1, 64, "in flight on each connection (1)"},
        {"threads", ARG_INT, &c->threads, 1, LOAD_THREADS_MAX, "of the generator (1)"},
        {"timeout", ARG_DUR, &c->timeout_ns, FEN_MS, 600 * FEN_S, "of one request (5s)"},
        {"method", ARG_STR, &t->method, 0, 0, "GET"},
        {"body", ARG_STR, &t->body, 0, 0, "sent with each request; {1..100} draws a number"},
        {"header", ARG_STR, &t->headers[0], 0, 0, "'Name: value', up to 8 times"},
        {"tenants", ARG_STR, &t->tenants, 0, 0, "a,b,c: X-Tenant in turn"},
        {"seed", ARG_INT, &c->seed, 0, INT64_MAX, "of the numbers drawn (1)"},
        {"expect", ARG_INT, &c->expect, 100, 599, "status; others are counted as unexpected"},
        {"reconnect", ARG_BOOL, &c->reconnect, 0, 0, "open a lost connection again (on)"},
        {"server-pid", ARG_INT, &c->server_pid, 1, INT32_MAX, "measure this process's CPU"},
        {"samples", ARG_STR, &t->samples, 0, 0, "raw file: 100 ms intervals and buckets"},
        {"json", ARG_BOOL, ret_json, 0, 0, "one JSON object instead of a table"},
    };
    int rc = take_headers(c, &argc, argv);
    if (!rc)
        rc = args_parse(argc, argv, tab, sizeof tab / sizeof tab[0], NULL, 0);
    return rc ? rc : take_texts(c, t);
}

static int bad_samples(const char *path, int rc)
{
    fprintf(stderr, "fen load: --samples=%s: %s\n", path, strerror(-rc));
    return 2;
}

static int report(const struct load_conf *c, const struct load_result *r, FILE *samples,
                  const char *path, bool json)
{
    (json ? load_print_json : load_print_text)(stdout, c, r);
    int rc = samples ? load_write_samples(samples, c, r) : 0;
    if (rc)
        bad_samples(path, rc);
    if (!r->requests)
        fprintf(stderr, "fen load: no request was answered\n");
    return rc || !r->requests;
}

int cmd_load(int argc, char **argv)
{
    static struct load_conf c;
    static struct load_result r;
    struct texts t = {0};
    bool json = false;
    load_conf_init(&c);
    int rc = parse(&c, &t, &json, argc, argv);
    if (rc < 0)
        printf("exit status 1: no request was answered; errors and unexpected answers are counted "
               "in the report\n");
    if (rc)
        return rc < 0 ? 0 : rc;
    FILE *samples = t.samples ? fopen(t.samples, "we") : NULL;
    if (t.samples && !samples) /* found before the load, which may take hours */
        return bad_samples(t.samples, -errno);
    signal(SIGINT, on_interrupt); /* ends the run early and still reports */
    c.stop = &interrupted;
    rc = load_run(&c, &r);
    if (!rc)
        rc = report(&c, &r, samples, t.samples, json);
    load_result_fini(&r);
    return rc;
}
