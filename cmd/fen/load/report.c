/* report.c - what a load run found: a JSON object, a table, the raw file. */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define SHARE_WARN 0.7
#define LITTLE_WARN 5 /* percent */

const char *const load_error_names[ERR_KINDS] = {"connect", "reset", "timeout", "malformed",
                                                 "short"};

static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5},  {"p75", 0.75},    {"p90", 0.9},
                 {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}};
#define QUANTILES (sizeof quantiles / sizeof quantiles[0])

double load_qps(const struct load_result *r)
{
    return r->span_ns ? (double)r->requests * 1e9 / (double)r->span_ns : 0;
}

int64_t load_errors(const struct load_result *r)
{
    int64_t n = 0;
    for (int i = 0; i < ERR_KINDS; i++)
        n += r->errors[i];
    return n;
}

double load_server_us(const struct load_result *r)
{
    if (!r->has_server || !r->server_span_ns || !r->requests)
        return -1;
    double cores = (double)r->server_cpu_ns / (double)r->server_span_ns;
    return cores * 1e6 / load_qps(r);
}

/* A closed loop must hold its connections full: N is what was asked for. In an open loop N is the
 * measured mean of requests in flight. Either way X*R comes from counts and times alone. */
struct load_little load_little(const struct load_conf *c, const struct load_result *r)
{
    struct load_little l = {c->rate ? r->in_flight_mean : (double)(c->connections * c->pipeline), 0,
                            0};
    l.x_times_r = r->span_ns ? (double)r->service_sum_ns / (double)r->span_ns : 0;
    l.deviation_percent = l.n > 0 ? (l.x_times_r / l.n - 1) * 100 : 0;
    return l;
}

void load_json_string(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 32)
            fprintf(f, "\\u%04x", *s);
        else
            putc(*s, f);
    }
    putc('"', f);
}

static void json_counts(FILE *f, const struct load_result *r)
{
    fprintf(f, ",\"requests\":%" PRId64 ",\"qps\":%.2f,\"statuses\":{", r->requests, load_qps(r));
    const char *comma = "";
    for (int i = 0; i < LOAD_STATUS_MAX; i++)
        if (r->status[i]) {
            fprintf(f, "%s\"%d\":%" PRId64, comma, i, r->status[i]);
            comma = ",";
        }
    fprintf(f, "},\"unexpected\":%" PRId64 ",\"errors\":{", r->unexpected);
    for (int i = 0; i < ERR_KINDS; i++)
        fprintf(f, "%s\"%s\":%" PRId64, i ? "," : "", load_error_names[i], r->errors[i]);
    fprintf(f, "},\"errors_total\":%" PRId64 ",\"warmup_errors\":%" PRId64, load_errors(r),
            r->warmup_errors);
}

static void json_server(FILE *f, const struct load_conf *c, const struct load_result *r)
{
    if (!r->has_server) {
        fprintf(f, ",\"server\":null");
        return;
    }
    long hz = sysconf(_SC_CLK_TCK);
    fprintf(f,
            ",\"server\":{\"pid\":%" PRId64 ",\"cpu_us_per_request\":%.3f,\"cpu_ns\":%" PRId64
            ",\"span_ns\":%" PRId64 ",\"user_ms\":%" PRId64 ",\"sys_ms\":%" PRId64 "}",
            c->server_pid, load_server_us(r), r->server_cpu_ns, r->server_span_ns,
            r->server_user_ticks * 1000 / hz, r->server_sys_ticks * 1000 / hz);
}

void load_print_json(FILE *f, const struct load_conf *c, const struct load_result *r)
{
    struct load_little l = load_little(c, r);
    fprintf(f, "{\"tool\":\"fen load\",\"url\":");
    load_json_string(f, c->url);
    fprintf(f, ",\"method\":");
    load_json_string(f, c->method);
    fprintf(f,
            ",\"mode\":\"%s\",\"rate\":%" PRId64 ",\"arrival\":\"%s\",\"connections\":%" PRId64
            ",\"pipeline\":%" PRId64 ",\"threads\":%" PRId64 ",\"seed\":%" PRId64
            ",\"warmup_ns\":%" PRId64 ",\"duration_ns\":%" PRId64,
            c->rate ? "open" : "closed", c->rate, c->poisson ? "poisson" : "fixed", c->connections,
            c->pipeline, c->threads, c->seed, c->warmup_ns, r->span_ns);
    json_counts(f, r);
    fprintf(f, ",\"latency_ns\":{\"mean\":%.0f,\"min\":%" PRId64, fen_hist_mean(&r->latency),
            r->latency.count ? r->latency.min : 0);
    for (size_t i = 0; i < QUANTILES; i++)
        fprintf(f, ",\"%s\":%" PRId64, quantiles[i].name,
                fen_hist_quantile(&r->latency, quantiles[i].q));
    fprintf(f, ",\"max\":%" PRId64 "},\"late\":%" PRId64 ",\"unsent\":%" PRId64, r->latency.max,
            r->late, r->unsent);
    fprintf(f, ",\"bytes_in\":%" PRId64 ",\"bytes_out\":%" PRId64, r->bytes_in, r->bytes_out);
    fprintf(f,
            ",\"littles_law\":{\"n\":%.3f,\"x_times_r\":%.3f,\"deviation_percent\":%.2f}"
            ",\"generator\":{\"core_share\":%.4f,\"cpu_us_per_request\":%.3f,\"saturated\":%s}",
            l.n, l.x_times_r, l.deviation_percent, r->generator_share,
            r->requests ? (double)r->generator_cpu_ns / 1e3 / (double)r->requests : 0,
            r->generator_share > SHARE_WARN ? "true" : "false");
    json_server(f, c, r);
    fprintf(f, "}\n");
}

static void text_problems(FILE *f, const struct load_conf *c, const struct load_result *r)
{
    if (load_errors(r) || r->warmup_errors) {
        fprintf(f, "errors      ");
        for (int i = 0; i < ERR_KINDS; i++)
            fprintf(f, "%s %" PRId64 ", ", load_error_names[i], r->errors[i]);
        fprintf(f, "in the warm-up %" PRId64 "\n", r->warmup_errors);
    }
    if (c->expect && r->unexpected)
        fprintf(f, "unexpected  %" PRId64 " answers without status %" PRId64 "\n", r->unexpected,
                c->expect);
    if (c->rate)
        fprintf(f, "schedule    %" PRId64 " sent more than 1 ms late, %" PRId64 " never sent\n",
                r->late, r->unsent);
    double off = load_little(c, r).deviation_percent;
    if (off > LITTLE_WARN || off < -LITTLE_WARN)
        fprintf(f,
                "warning     Little's law is off by more than %d %%: the run was too short, some "
                "connections were not served, or much time went into connecting\n",
                LITTLE_WARN);
    if (r->generator_share > SHARE_WARN)
        fprintf(f,
                "warning     the generator used %.0f %% of a core: it may be what limits this "
                "figure; raise --threads or lower the load\n",
                r->generator_share * 100);
}

void load_print_text(FILE *f, const struct load_conf *c, const struct load_result *r)
{
    struct load_little l = load_little(c, r);
    fprintf(f, "%s %s\n", c->method, c->url);
    if (c->rate)
        fprintf(f, "open loop   %" PRId64 " requests/s %s, %" PRId64 " connections", c->rate,
                c->poisson ? "at random times" : "evenly spaced", c->connections);
    else
        fprintf(f, "closed loop %" PRId64 " connections, %" PRId64 " in flight on each",
                c->connections, c->pipeline);
    fprintf(f, ", %.2f s measured\n", (double)r->span_ns / 1e9);
    fprintf(f, "requests    %" PRId64 "   qps %.1f   in %.2f MB/s   out %.2f MB/s\n", r->requests,
            load_qps(r), r->span_ns ? (double)r->bytes_in * 1e3 / (double)r->span_ns : 0,
            r->span_ns ? (double)r->bytes_out * 1e3 / (double)r->span_ns : 0);
    fprintf(f, "statuses   ");
    for (int i = 0; i < LOAD_STATUS_MAX; i++)
        if (r->status[i])
            fprintf(f, " %d: %" PRId64, i, r->status[i]);
    fprintf(f, "\nlatency ms  mean %.3f", fen_hist_mean(&r->latency) / 1e6);
    for (size_t i = 0; i < QUANTILES; i++)
        fprintf(f, "  %s %.3f", quantiles[i].name,
                (double)fen_hist_quantile(&r->latency, quantiles[i].q) / 1e6);
    fprintf(f, "  max %.3f\n", (double)r->latency.max / 1e6);
    fprintf(f, "Little      N = %.1f, X*R = %.1f, off by %+.2f %%\n", l.n, l.x_times_r,
            l.deviation_percent);
    fprintf(f, "generator   %.0f %% of a core, %.2f us a request\n", r->generator_share * 100,
            r->requests ? (double)r->generator_cpu_ns / 1e3 / (double)r->requests : 0);
    if (r->has_server)
        fprintf(f, "server      %.2f us CPU a request, %.2f cores\n", load_server_us(r),
                (double)r->server_cpu_ns / (double)r->server_span_ns);
    text_problems(f, c, r);
}

int load_write_samples(FILE *f, const struct load_conf *c, const struct load_result *r)
{
    fprintf(f, "# fen load: interval <end_ns since the start> <completed> <errors>;"
               " bucket <low_ns> <high_ns> <count>\n");
    fprintf(f, "url %s\nspan_ns %" PRId64 "\nrequests %" PRId64 "\n", c->url, r->span_ns,
            r->requests);
    fprintf(f, "latency_min_ns %" PRId64 "\nlatency_max_ns %" PRId64 "\nlatency_mean_ns %.3f\n",
            r->latency.count ? r->latency.min : 0, r->latency.max, fen_hist_mean(&r->latency));
    fprintf(f, "service_sum_ns %" PRId64 "\nin_flight_mean %.4f\n", r->service_sum_ns,
            r->in_flight_mean);
    if (r->has_server)
        fprintf(f, "server_cpu_ns %" PRId64 "\nserver_span_ns %" PRId64 "\n", r->server_cpu_ns,
                r->server_span_ns);
    for (int64_t i = 0; i < r->intervals_n; i++)
        fprintf(f, "interval %" PRId64 " %" PRId64 " %" PRId64 "\n", r->intervals[i].at_ns,
                r->intervals[i].completed, r->intervals[i].errors);
    int cursor = 0;
    int64_t low, high, n;
    while (fen_hist_next(&r->latency, &cursor, &low, &high, &n))
        fprintf(f, "bucket %" PRId64 " %" PRId64 " %" PRId64 "\n", low, high, n);
    int rc = ferror(f) ? -EIO : 0;
    if (fclose(f) && !rc)
        rc = -errno;
    return rc;
}
