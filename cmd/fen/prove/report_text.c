/* report_text.c - the report for a terminal. */
#include "prove.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void head(FILE *f, const struct proof *p, enum workload_id w)
{
    const struct workload *l = &p->plan.workload[w];
    fprintf(f, "\n%s\n%s; closed loop, %" PRId64 " clients\n", l->title, l->what, l->connections);
    fprintf(f, "%-10s %11s %17s %8s %8s %8s %8s %6s %8s %7s %7s %7s\n", "", "requests/s",
            "lowest-highest", "P50 ms", "P99 ms", "P99.9", "CPU us", "cores", "RSS MB", "threads",
            "switch", "Little");
}

static void row(FILE *f, const struct cell *c)
{
    const double *v = c->median;
    fprintf(f,
            "%-10s %11.0f %8.0f-%8.0f %8.2f %8.2f %8.2f %8.2f %6.2f %8.1f %7.0f %7.2f %+6.1f%%%s\n",
            c->rival->name, v[M_QPS], c->low[M_QPS], c->high[M_QPS], v[M_P50], v[M_P99], v[M_P999],
            v[M_CPU], v[M_CORES], v[M_RSS], v[M_THREADS], v[M_SWITCHES], v[M_LITTLE],
            helpers_full(c) ? "  load side full" : "");
    int64_t errors = 0;
    for (int i = 0; i < c->runs; i++)
        errors += c->run[i].errors + c->run[i].unexpected;
    if (errors)
        fprintf(f, "%-10s %" PRId64 " errors or unexpected statuses in %d runs\n", "", errors,
                c->runs);
}

static void failures(FILE *f, const struct cell *c)
{
    for (int i = 0; i < c->runs; i++)
        if (*c->run[i].why)
            fprintf(f, "%-10s FAILED: %s\n", c->rival->name, c->run[i].why);
}

static void money(FILE *f, const struct proof *p, enum workload_id w)
{
    const struct cell *fen = cell_of(p, w, "fen");
    fprintf(f, "%-10s %13s %13s %10s %10s %10s %12s %12s %10s\n", "", "yuan/M by use",
            "yuan/M by node", "fen: QPS x", "P99 x", "CPU x", "/s per core", "/s per GB",
            "instances");
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &p->cell[w][i];
        if (!c->good)
            continue;
        const double *v = c->median;
        fprintf(f, "%-10s %13.6f %14.6f", c->rival->name, v[M_USE], v[M_NODE]);
        if (fen && c != fen)
            fprintf(f, " %10.2f %10.2f %10.2f", ratio(fen, c, M_QPS), ratio(fen, c, M_P99),
                    ratio(fen, c, M_CPU));
        else
            fprintf(f, " %10s %10s %10s", "-", "-", "-");
        fprintf(f, " %12.0f %12.0f %10" PRId64 "%s\n", v[M_QPS] / p->plan.server_cores,
                v[M_RSS] > 0 ? v[M_QPS] / (v[M_RSS] / 1e3) : 0, instances(&p->plan, c),
                v[M_P99] * 1e6 > (double)p->plan.sla_ns ? " (P99 over the limit: at least)" : "");
    }
}

static void table(FILE *f, const struct proof *p, enum workload_id w)
{
    head(f, p, w);
    for (int i = 0; i < RIVALS_MAX; i++) {
        if (p->cell[w][i].good)
            row(f, &p->cell[w][i]);
        if (p->cell[w][i].runs)
            failures(f, &p->cell[w][i]);
    }
    if (w != W_SWEEP)
        money(f, p, w);
}

static void bill(FILE *f, const struct proof *p)
{
    if (!p->bill_n) {
        fprintf(f, "\nfen's books were not served (no \"bill\" in /debug/vars)\n");
        return;
    }
    fprintf(f, "\nfen's own books of its last run, by tenant and operation\n");
    fprintf(f, "%-12s %-24s %10s %12s %12s %12s\n", "tenant", "operation", "requests", "CPU us",
            "wait ms", "yuan/M");
    for (int i = 0; i < p->bill_n; i++) {
        const struct bill_row *r = &p->bill[i];
        double n = r->requests > 0 ? r->requests : 1;
        fprintf(f, "%-12s %-24s %10.0f %12.2f %12.3f %12.6f\n", r->tenant, r->operation,
                r->requests, r->cpu_ns / 1e3 / n, r->wait_ns / 1e6 / n, r->yuan_per_million);
    }
}

struct list {
    FILE *f;
    bool wins;
    int n;
};

static void verdict(void *arg, enum workload_id w, const struct cell *fen, const struct cell *other,
                    enum metric m, bool win, double times)
{
    static const char *const names[] = {"orders", "slow back end", "slow back end, few clients"};
    struct list *l = arg;
    if (win != l->wins)
        return;
    l->n++;
    fprintf(l->f, "  %-28s %-10s %-14s fen %.*f, %s %.*f %s: %.2f times\n", names[w],
            other->rival->name, metric_info[m].title, metric_info[m].digits, fen->median[m],
            other->rival->name, metric_info[m].digits, other->median[m], metric_info[m].unit,
            times);
}

static void bar_line(FILE *f, const struct bar *b)
{
    char note[120];
    bar_note(b, note, sizeof note);
    fprintf(f, "  %-12s %s: %.2f, wanted %s %.2f%s%s\n", bar_word(b), b->text, b->got,
            b->at_least ? ">=" : "<=", b->want, *note ? "; " : "", note);
}

void report_text(const struct proof *p, FILE *f)
{
    char text[400];
    struct bar b[16];
    for (int w = 0; w < WORKLOADS; w++)
        table(f, p, (enum workload_id)w);
    bill(f, p);
    fprintf(f, "\nthe way to the back end, for each server the one in which it serves more\n");
    for (int i = 0; i < p->plan.rivals; i++)
        if (p->plan.rival[i].kind != RIVAL_GO)
            fprintf(f, "  %-10s %s\n", p->plan.rival[i].name, way_to_backend(&p->plan.rival[i]));
    fprintf(f,
            "\nnode: %d cores and %.1f GB at %.4f yuan an hour; instances for %" PRId64
            " requests/s = that / requests/s of one node, rounded up\n",
            p->plan.server_cores, p->plan.node_gb, money_node_hour(&p->plan), p->plan.target_qps);
    struct list wins = {f, true, 0}, losses = {f, false, 0};
    fprintf(f, "\nfen is better or equal\n");
    verdicts(p, verdict, &wins);
    fprintf(f, "fen is WORSE\n");
    verdicts(p, verdict, &losses);
    if (!losses.n)
        fprintf(f, "  in nothing that was measured\n");
    if (*p->plan.go_note)
        fprintf(f, "Go server %s\n", p->plan.go_note);
    fprintf(f, "\nbars\n");
    int n = bars(p, b, 16);
    for (int i = 0; i < n; i++)
        bar_line(f, &b[i]);
    headline(p, text, sizeof text);
    fprintf(f, "\n%s\n", text);
    if (machine_busy(&p->plan))
        fprintf(f,
                "WARNING: other work was running (load average %.1f before the first run): these "
                "figures are noise, not evidence\n",
                p->plan.busy);
}
