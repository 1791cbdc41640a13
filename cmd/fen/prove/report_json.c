/* report_json.c - the figures that bars are set on, one JSON object a line, for machines. All are
 * on the deciding workload (many clients, slow back end) unless the name says orders, and against
 * the baseline that was named first. floor_ratio is what the floor of the same run gets against
 * that baseline, 0 where it bounds nothing. */
#include "prove.h"

static void line(FILE *to, const struct cell *fen, const struct cell *other, const char *figure,
                 double value, double mine, double theirs, const char *unit, const char *better,
                 double floor)
{
    fprintf(to,
            "{\"bench\":\"prove\",\"figure\":\"%s\",\"value\":%.6g,\"unit\":\"%s\","
            "\"better\":\"%s\",\"fen_value\":%.6g,\"rival\":\"%s\",\"rival_value\":%.6g,"
            "\"ratio\":%.6g,\"floor_ratio\":%.6g,\"runs\":%d,\"load_side_full\":%s}\n",
            figure, value, unit, better, mine, other->rival->name, theirs,
            theirs > 0 ? mine / theirs : 0, floor, fen->good,
            helpers_full(fen) || helpers_full(other) ? "true" : "false");
}

/* What the floor of the same run gets; 0 when it bounds nothing here. */
static double floor_of(const struct cell *floor, const struct cell *other, enum metric m)
{
    return m == M_QPS || m == M_NODE ? ratio(floor, other, m) : 0;
}

static void ratios(FILE *to, const struct cell *fen, const struct cell *other,
                   const struct cell *floor, const char *prefix)
{
    static const struct {
        const char *name, *better;
        enum metric m;
    } table[] = {{"qps_ratio", "higher", M_QPS},        {"cost_ratio", "lower", M_NODE},
                 {"cost_by_use_ratio", "lower", M_USE}, {"p99_ratio", "lower", M_P99},
                 {"cpu_ratio", "lower", M_CPU},         {"rss_ratio", "lower", M_RSS}};
    char name[64];
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        enum metric m = table[i].m;
        snprintf(name, sizeof name, "%s%s", prefix, table[i].name);
        line(to, fen, other, name, ratio(fen, other, m), fen->median[m], other->median[m], "x",
             table[i].better, floor_of(floor, other, m));
    }
}

static double per_gb(const struct cell *c)
{
    return c->median[M_RSS] > 0 ? c->median[M_QPS] / (c->median[M_RSS] / 1e3) : 0;
}

void report_json(const struct proof *f, FILE *to)
{
    const char *rival = f->plan.rival[1].name;
    const struct cell *fen = cell_of(f, W_ORDERS, "fen"), *other = cell_of(f, W_ORDERS, rival);
    if (fen && other)
        ratios(to, fen, other, cell_of(f, W_ORDERS, FLOOR), "orders_");
    fen = cell_of(f, W_SLOW, "fen");
    other = cell_of(f, W_SLOW, rival);
    if (!fen || !other)
        return;
    const struct cell *floor = cell_of(f, W_SLOW, FLOOR);
    ratios(to, fen, other, floor, "");
    double cores = f->plan.server_cores, a = fen->median[M_QPS] / cores,
           b = other->median[M_QPS] / cores;
    line(to, fen, other, "requests_per_core", a, a, b, "/s", "higher",
         floor_of(floor, other, M_QPS));
    a = per_gb(fen);
    b = per_gb(other);
    line(to, fen, other, "requests_per_gb", a, a, b, "/s", "higher", 0);
    a = (double)instances(&f->plan, fen);
    b = (double)instances(&f->plan, other);
    line(to, fen, other, "instances", a, a, b, "", "lower", 0);
}
