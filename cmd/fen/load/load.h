/* load.h - the load generator as a library: a configuration in, one result out.
 *
 * The generator is a plain epoll client in its own threads; it does not run on fen's runtime, so
 * that it stays independent of what it measures. */
#ifndef FEN_LOAD_H
#define FEN_LOAD_H

#include <fen/hist.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#define LOAD_HEADERS_MAX 8
#define LOAD_TENANTS_MAX 16
#define LOAD_THREADS_MAX 64
#define LOAD_PARTS_MAX 17         /* literal pieces of a template: at most 16 ranges */
#define LOAD_TEXT_MAX (16 * 1024) /* bytes of a path or body template */
#define LOAD_STATUS_MAX 600
#define LOAD_TICK_NS (100 * FEN_MS)

enum load_error { ERR_CONNECT, ERR_RESET, ERR_TIMEOUT, ERR_MALFORMED, ERR_SHORT, ERR_KINDS };
extern const char *const load_error_names[ERR_KINDS];

/* Text with numbers drawn per request: literal[0] range[0] literal[1] ... */
struct load_template {
    struct {
        const char *text;
        size_t n;
        uint64_t low, span; /* the number after the literal: low + random % span; span 0: none */
    } part[LOAD_PARTS_MAX];
    int parts;
    size_t max_bytes;
};

struct load_conf {
    char url[512];
    char host[256]; /* as in the Host header */
    struct sockaddr_storage addr;
    socklen_t addr_bytes;
    const char *method;
    struct load_template path, body;
    bool has_body;
    const char *headers[LOAD_HEADERS_MAX];
    int headers_n;
    char tenants_text[512];
    const char *tenants[LOAD_TENANTS_MAX];
    int tenants_n;
    int64_t connections, threads, pipeline;
    int64_t duration_ns, warmup_ns, timeout_ns;
    int64_t rate; /* requests a second, open loop; 0: closed loop */
    bool poisson; /* open loop: exponential gaps instead of equal ones */
    bool reconnect;
    int64_t seed, expect, server_pid;
    const cpu_set_t *cpus;                           /* NULL: anywhere */
    const volatile bool *stop;                       /* NULL or: end early when it turns true */
    void (*tick)(void *arg, int64_t since_start_ns); /* NULL or: about every LOAD_TICK_NS */
    void *tick_arg;
    /* NULL or: called for each answer of the measured span, by the thread that got it. */
    void (*answered)(void *arg, int64_t intended_ns, int64_t now_ns);
    void *answered_arg;
};

struct load_interval {
    int64_t at_ns; /* end of the interval, since the start of the measurement */
    int64_t completed, errors;
};

/* All counts are of the measured span only, warm-up excluded. */
struct load_result {
    int64_t span_ns;
    int64_t requests, unexpected;
    int64_t status[LOAD_STATUS_MAX];
    int64_t errors[ERR_KINDS];
    int64_t warmup_requests, warmup_errors;
    int64_t late;   /* open loop: sent more than 1 ms after the intended time */
    int64_t unsent; /* open loop: due but never sent */
    int64_t bytes_in, bytes_out;
    int64_t service_sum_ns; /* sum of (last byte in - sent) */
    double in_flight_mean;  /* integral of requests in flight / span */
    fen_hist latency;       /* from the intended send time */
    int64_t generator_cpu_ns;
    double generator_share; /* of one core, the busiest thread */
    bool has_server;
    int64_t server_cpu_ns, server_span_ns, server_user_ticks, server_sys_ticks;
    struct load_interval *intervals; /* heap; load_result_fini frees */
    int64_t intervals_n;
};

/* Runs the load. 0; or 1 after one line on stderr (nothing listens, no memory). Blocks for
 * warmup + duration. */
int load_run(const struct load_conf *c, struct load_result *ret_result);
void load_result_fini(struct load_result *r);

/* Defaults, then the flags' texts. 0; or 2 after one line on stderr. */
void load_conf_init(struct load_conf *c);
int load_conf_url(struct load_conf *c, const char *cmd, const char *url);
int load_conf_tenants(struct load_conf *c, const char *cmd, const char *list);
/* Text with {a..b}: 0, or -1 when a range is malformed or there are too many. Borrows text. */
int load_template_parse(struct load_template *t, const char *text);
/* Writes the template at p (max_bytes is enough); returns the end. */
char *load_template_put(const struct load_template *t, char *p, uint64_t *rng);

/* Little's law: requests in flight against throughput times mean time in flight. */
struct load_little {
    double n, x_times_r, deviation_percent;
};
struct load_little load_little(const struct load_conf *c, const struct load_result *r);
double load_qps(const struct load_result *r);
int64_t load_errors(const struct load_result *r);
/* CPU of the server for each request, us; -1 when unknown. */
double load_server_us(const struct load_result *r);

void load_print_json(FILE *f, const struct load_conf *c, const struct load_result *r);
void load_print_text(FILE *f, const struct load_conf *c, const struct load_result *r);
/* The raw file: intervals and buckets, one a line. Closes it. 0 or -errno. */
int load_write_samples(FILE *f, const struct load_conf *c, const struct load_result *r);
/* A JSON string with its quotes. */
void load_json_string(FILE *f, const char *s);

#endif
