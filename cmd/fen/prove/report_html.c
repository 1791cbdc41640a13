/* report_html.c - report.html: one file with its own style and plots; opens without a network.
 *
 * Order: the answer, what was compared, each workload, the pool sizes, money, wins and losses side
 * by side, how to do it again. A reader who stops after the first screen has the headline and the
 * bars that were missed as well as those that were met. */
#include "prove.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char style[] =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\"><title>fen: the proof</title><style>\n"
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1d2430;--dim:#5d6675;--rule:#dfe3e8;"
    "--fen:#0b6e4f;--other:#9aa7b5;--good:#0b6e4f;--bad:#b3261e;--card:#f6f8fa;"
    "--s1:#c0392b;--s2:#2471a3;--s3:#b9770e;--s4:#7d3c98;--s5:#566573}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e4e8ed;--dim:#98a2ae;"
    "--rule:#323a44;--fen:#3ecf9b;--other:#5f6b78;--good:#3ecf9b;--bad:#ff8a80;--card:#1c2229;"
    "--s1:#ff8a80;--s2:#7fb8e6;--s3:#f0b455;--s4:#c89bdf;--s5:#aab4be}}\n"
    "body{background:var(--bg);color:var(--fg);font:15px/1.55 system-ui,sans-serif;"
    "max-width:1160px;margin:0 auto;padding:28px 20px 80px}\n"
    "h1{font-size:27px;line-height:1.3;margin:.2em 0 .5em}h2{margin:2.2em 0 .4em;font-size:21px;"
    "border-bottom:1px solid var(--rule);padding-bottom:.25em}h3{font-size:15px;margin:1em 0 "
    ".3em}\n"
    "p,li{max-width:76ch}.dim,figcaption{color:var(--dim)}code,pre{font:13px ui-monospace,"
    "monospace}pre{background:var(--card);padding:12px;overflow:auto}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;margin:.6em 0;font-size:14px}"
    "th,td{text-align:right;padding:4px 10px;border-bottom:1px solid var(--rule);"
    "white-space:nowrap}th{color:var(--dim);font-weight:600}"
    "th:first-child,td:first-child,td.l,th.l{text-align:left}tr.fen td{font-weight:700}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:8px 28px}"
    "figure{margin:0}figcaption{font-size:13px;margin:.6em 0 .2em;font-weight:600}\n"
    ".good{color:var(--good)}.bad{color:var(--bad)}.mark{font-weight:700}"
    "svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--fg)}"
    ".name{text-anchor:end;fill:var(--dim)}.tick,.title{text-anchor:middle;fill:var(--dim)}"
    ".grid{stroke:var(--rule);fill:none}.fen{fill:var(--fen)}.other{fill:var(--other)}"
    ".spread{stroke:var(--fg);fill:none;opacity:.65}.line{fill:none;stroke-width:1.6}"
    ".thick{stroke-width:3}.lead{fill:none;opacity:.5}\n"
    ".s0{stroke:var(--fen)}.t0{fill:var(--fen)!important;font-weight:700}.d0{fill:var(--fen)}"
    ".s1{stroke:var(--s1)}.t1{fill:var(--s1)!important}.d1{fill:var(--s1)}"
    ".s2{stroke:var(--s2)}.t2{fill:var(--s2)!important}.d2{fill:var(--s2)}"
    ".s3{stroke:var(--s3)}.t3{fill:var(--s3)!important}.d3{fill:var(--s3)}"
    ".s4{stroke:var(--s4)}.t4{fill:var(--s4)!important}.d4{fill:var(--s4)}"
    ".s5{stroke:var(--s5)}.t5{fill:var(--s5)!important}.d5{fill:var(--s5)}\n"
    "</style></head><body>\n";

static void bars_table(FILE *f, const struct proof *p)
{
    struct bar b[16];
    char note[120];
    int n = bars(p, b, 16);
    fprintf(f, "<div class=\"wide\"><table><tr><th class=\"l\">bar</th><th>wanted</th><th>measured"
               "</th><th></th><th class=\"l\"></th></tr>\n");
    for (int i = 0; i < n; i++) {
        bar_note(&b[i], note, sizeof note);
        fprintf(f,
                "<tr><td class=\"l\">%s</td><td>%s %.2f</td><td>%.2f</td>"
                "<td class=\"%s mark\">%s</td><td class=\"l dim\">%s</td></tr>\n",
                b[i].text, b[i].at_least ? "&ge;" : "&le;", b[i].want, b[i].got,
                b[i].verdict == BAR_MET ? "good" : "bad", bar_word(&b[i]), note);
    }
    fprintf(f, "</table></div>\n");
}

static void explain(FILE *f, const struct plan *p)
{
    fprintf(f,
            "<h2>What was compared, and why it is fair</h2>\n<ul>"
            "<li><b>fen</b>: <code>fen serve orders</code>, the product, with a deadline of 10 s "
            "instead of 100 ms, because the baselines have none.</li>");
    for (int i = 1; i < p->rivals; i++) {
        const struct rival *r = &p->rival[i];
        fprintf(f, "<li><b>%s</b>: ", r->name);
        if (r->kind == RIVAL_POOL)
            fprintf(f,
                    "plain C, a pool of %d threads that each serve a request from start to end, "
                    "as most Java and C++ servers do%s.</li>",
                    r->threads, r->threads == 200 ? "; 200 is the usual default" : "");
        else if (r->kind == RIVAL_PTHREAD)
            fprintf(f, "plain C, one thread for each connection, as many as there are.</li>");
        else if (r->kind == RIVAL_EPOLL)
            fprintf(f,
                    "no rival but the measure of this machine. Plain C, an event loop on each core "
                    "that answers orders from memory without any store and passes quotes on with "
                    "a receive, a send and a share of a pipelined connection, without routes, "
                    "limits, deadlines or bills. "
                    "What it misses is out of reach here; it is in no list of wins.</li>");
        else
            fprintf(f, "Go's net/http with the same routes and store.</li>");
    }
    fprintf(f,
            "<li>All read the same SQLite file with %" PRId64 " orders and answer the same JSON. "
            "Each run starts a fresh server%s. Runs are interleaved; tables show the median of "
            "%" PRId64 ", bars mark the lowest and highest.</li>",
            p->orders,
            p->pin ? " on the same cores; the load generator and the back end have the others" : "",
            p->runs);
    fprintf(f, "<li>The back end is asked over pipelined connections or over one for each thread; "
               "each server uses the way in which it serves more: ");
    for (int i = 0; i < p->rivals; i++)
        if (p->rival[i].kind != RIVAL_GO)
            fprintf(f, "%s%s %s", i ? "; " : "", p->rival[i].name, way_to_backend(&p->rival[i]));
    fprintf(f, ".</li>");
    fprintf(f, "<li>Closed loop: each client sends its next request when the answer is in. CPU is "
               "the server's process clock, kernel part included. The column <i>Little</i> shows "
               "how far clients = throughput &times; mean latency is off: near 0 means that the "
               "figures fit together. <i>CPU</i> and <i>switches</i> (between threads) are for one "
               "request.</li>");
    if (*p->go_note)
        fprintf(f, "<li>Go server %s.</li>", p->go_note);
    if (p->quick)
        fprintf(f,
                "<li class=\"bad\"><b>Quick mode</b>: runs of %.0f s. A demonstration; for "
                "evidence run without --quick.</li>",
                (double)p->duration_ns / 1e9);
    fprintf(f, "</ul>\n");
}

static void table(FILE *f, const struct proof *p, enum workload_id w)
{
    static const enum metric columns[] = {M_QPS,   M_P50, M_P99,     M_P999,     M_CPU,
                                          M_CORES, M_RSS, M_THREADS, M_SWITCHES, M_LITTLE};
    static const char *const heads[] = {"requests/s", "P50 ms", "P99 ms",  "P99.9 ms", "CPU us",
                                        "cores",      "RSS MB", "threads", "switches", "Little %"};
    enum { N = sizeof columns / sizeof columns[0] };
    fprintf(f, "<div class=\"wide\"><table><tr><th>server</th>");
    for (int i = 0; i < N; i++)
        fprintf(f, "<th>%s</th>", heads[i]);
    fprintf(f, "<th>fen's requests/s</th></tr>\n");
    const struct cell *fen = cell_of(p, w, "fen");
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &p->cell[w][i];
        if (!c->good)
            continue;
        fprintf(f, "<tr%s><td>%s</td>", c == fen ? " class=\"fen\"" : "", c->rival->name);
        for (int k = 0; k < N; k++)
            fprintf(f, "<td>%.*f</td>", metric_info[columns[k]].digits, c->median[columns[k]]);
        double x = ratio(fen, c, M_QPS);
        if (c == fen || x <= 0)
            fprintf(f, "<td></td></tr>\n");
        else
            fprintf(f, "<td class=\"%s\">%.2f&times; this</td></tr>\n",
                    c->rival->kind == RIVAL_EPOLL ? "dim"
                    : x >= 1                      ? "good"
                                                  : "bad",
                    x);
    }
    fprintf(f, "</table></div>\n");
}

static void warnings(FILE *f, const struct proof *p, enum workload_id w)
{
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &p->cell[w][i];
        int64_t errors = 0;
        for (int k = 0; k < c->runs; k++) {
            errors += c->run[k].errors + c->run[k].unexpected;
            if (*c->run[k].why) {
                fprintf(f, "<p class=\"bad\">%s, run %d failed: ", c->rival->name, k + 1);
                html_text(f, c->run[k].why);
                fprintf(f, "</p>\n");
            }
        }
        if (errors)
            fprintf(f, "<p class=\"bad\">%s: %" PRId64 " errors or unexpected statuses.</p>\n",
                    c->rival->name, errors);
        if (c->good && helpers_full(c))
            fprintf(f,
                    "<p class=\"dim\">%s: the load generator and the back end had no time left "
                    "on their cores; the server may be able to do more than this figure.</p>\n",
                    c->rival->name);
    }
}

static void chart(FILE *f, const struct proof *p, enum workload_id w, enum metric m,
                  const char *title)
{
    struct svg_bar b[RIVALS_MAX];
    int n = 0;
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &p->cell[w][i];
        if (c->good)
            b[n++] = (struct svg_bar){c->rival->name, c->median[m], c->low[m], c->high[m],
                                      c->rival->kind == RIVAL_FEN};
    }
    fprintf(f, "<figure><figcaption>%s</figcaption>", title);
    svg_bars(f, metric_info[m].unit, metric_info[m].digits, b, n);
    fprintf(f, "</figure>\n");
}

static double xs[RIVALS_MAX][SERIES_MAX], ys[RIVALS_MAX][SERIES_MAX];

static void curves(FILE *f, const struct proof *p, enum workload_id w, bool over_time)
{
    struct svg_line l[RIVALS_MAX];
    int n = 0;
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &p->cell[w][i];
        if (!c->good)
            continue;
        const struct run *r = &c->run[c->typical];
        int points = over_time ? r->series_n : CURVE_POINTS;
        for (int k = 0; k < points; k++) {
            xs[n][k] = over_time ? (double)r->series[k].at_s : k;
            ys[n][k] = over_time ? (double)r->series[k].qps : r->curve_ms[k];
        }
        l[n] = (struct svg_line){c->rival->name, xs[n], ys[n], points, c->rival->kind == RIVAL_FEN,
                                 false};
        n++;
    }
    struct svg_axis latency = {"share of requests that were answered sooner", "latency, ms", true,
                               false, true};
    struct svg_axis time = {"seconds", "requests/s", false, false, false};
    fprintf(f, "<figure><figcaption>%s</figcaption>",
            over_time ? "Requests a second over time (the run with the median)"
                      : "Latency by percentile (the run with the median; lower is better)");
    svg_lines(f, over_time ? &time : &latency, l, n);
    fprintf(f, "</figure>\n");
}

static void section(FILE *f, const struct proof *p, enum workload_id w)
{
    const struct workload *l = &p->plan.workload[w];
    fprintf(f, "<h2>%s</h2><p class=\"dim\">%s; %" PRId64 " clients.</p>\n", l->title, l->what,
            l->connections);
    table(f, p, w);
    warnings(f, p, w);
    fprintf(f, "<div class=\"charts\">\n");
    chart(f, p, w, M_QPS, "Requests a second (more is better)");
    chart(f, p, w, M_P99, "P99 latency (less is better)");
    chart(f, p, w, M_CPU, "Server CPU for each request (less is better)");
    chart(f, p, w, M_RSS, "Memory under load (less is better)");
    curves(f, p, w, false);
    curves(f, p, w, true);
    fprintf(f, "</div>\n");
}

static void sweep(FILE *f, const struct proof *p)
{
    const struct cell *fen = cell_of(p, W_SLOW, "fen");
    struct svg_line l[2] = {{"fen", xs[0], ys[0], 0, true, true},
                            {"pool of this size", xs[1], ys[1], 0, false, true}};
    for (int i = 0; i < p->sweep_n; i++) {
        const struct cell *c = &p->cell[W_SWEEP][i];
        if (!c->good)
            continue;
        int k = l[1].n++;
        xs[0][k] = xs[1][k] = c->rival->threads;
        ys[1][k] = c->median[M_QPS];
        ys[0][k] = fen ? fen->median[M_QPS] : 0;
        l[0].n = fen ? l[1].n : 0;
    }
    fprintf(f, "<h2>How large a pool would it take?</h2><p>A pool of N threads behind a 20 ms back "
               "end can never pass N / 0.02 s; more threads buy throughput with memory and context "
               "switches until the CPU is the limit.</p>\n");
    table(f, p, W_SWEEP);
    warnings(f, p, W_SWEEP);
    struct svg_axis a = {"threads in the pool", "requests/s", false, true, false};
    fprintf(f, "<figure style=\"max-width:760px\">");
    svg_lines(f, &a, l, 2);
    fprintf(f, "</figure>\n");
}

static void money_table(FILE *f, const struct proof *p, enum workload_id w)
{
    const struct cell *fen = cell_of(p, w, "fen");
    fprintf(f,
            "<h3>%s</h3><div class=\"wide\"><table><tr><th>server</th><th>yuan/M by use</th>"
            "<th>fen's share</th><th>yuan/M by node</th><th>fen's share</th>"
            "<th>/s per core given</th><th>/s per GB</th><th>nodes for %" PRId64 "/s</th></tr>\n",
            p->plan.workload[w].title, p->plan.target_qps);
    for (int i = 0; i < RIVALS_MAX; i++) {
        const struct cell *c = &p->cell[w][i];
        if (!c->good)
            continue;
        const double *v = c->median;
        double use = ratio(fen, c, M_USE), node = ratio(fen, c, M_NODE);
        bool over = v[M_P99] * 1e6 > (double)p->plan.sla_ns;
        fprintf(f,
                "<tr%s><td>%s</td><td>%.6f</td><td class=\"%s\">%.2f</td><td>%.6f</td>"
                "<td class=\"%s\">%.2f</td><td>%.0f</td><td>%.0f</td><td>%s%" PRId64 "</td></tr>\n",
                c == fen ? " class=\"fen\"" : "", c->rival->name, v[M_USE],
                use <= 1 ? "good" : "bad", use, v[M_NODE], node <= 1 ? "good" : "bad", node,
                v[M_QPS] / p->plan.server_cores, v[M_RSS] > 0 ? v[M_QPS] / (v[M_RSS] / 1e3) : 0,
                over ? "&ge; " : "", instances(&p->plan, c));
    }
    fprintf(f, "</table></div>\n");
}

static void money(FILE *f, const struct proof *p)
{
    const fen_price_book *b = &p->plan.prices;
    fprintf(f,
            "<h2>Money</h2><p>Prices: %.4g yuan per core-hour, %.4g yuan per GB-hour. "
            "<b>By use</b> is what a million requests consumed in CPU time and memory held. "
            "<b>By node</b> is the price of a whole machine (%d cores, %.1f GB: %.4f yuan an "
            "hour) divided by what it serves: what a bill shows when the service has machines of "
            "its own. Nodes = wanted requests a second / requests a second of one node, rounded "
            "up; &ge; where P99 was above %.0f ms, so the true capacity is lower.</p>\n",
            (double)b->cpu_core_hour_fyuan / 1e15, (double)b->mem_gb_hour_fyuan / 1e15,
            p->plan.server_cores, p->plan.node_gb, money_node_hour(&p->plan),
            (double)p->plan.sla_ns / 1e6);
    for (int w = W_ORDERS; w <= W_SLOW; w++)
        money_table(f, p, (enum workload_id)w);
}

static void bill(FILE *f, const struct proof *p)
{
    fprintf(f, "<h2>fen's own books: cost by tenant and operation</h2>\n");
    if (!p->bill_n) {
        fprintf(f, "<p class=\"bad\">fen served no books (no \"bill\" in /debug/vars).</p>\n");
        return;
    }
    fprintf(f,
            "<p class=\"dim\">From /debug/vars at the end of fen's last run; CPU and waiting are "
            "per request.</p><div class=\"wide\"><table><tr><th>tenant</th><th class=\"l\">"
            "operation</th><th>requests</th><th>CPU, us</th><th>waiting, ms</th><th>arena bytes"
            "</th><th>bytes in</th><th>bytes out</th><th>yuan/M</th></tr>\n");
    for (int i = 0; i < p->bill_n; i++) {
        const struct bill_row *r = &p->bill[i];
        double n = r->requests > 0 ? r->requests : 1;
        fprintf(f, "<tr><td>");
        html_text(f, r->tenant);
        fprintf(f, "</td><td class=\"l\">");
        html_text(f, r->operation);
        fprintf(f,
                "</td><td>%.0f</td><td>%.2f</td><td>%.3f</td><td>%.0f</td><td>%.0f</td>"
                "<td>%.0f</td><td>%.6f</td></tr>\n",
                r->requests, r->cpu_ns / 1e3 / n, r->wait_ns / 1e6 / n, r->arena_bytes / n,
                r->in_bytes / n, r->out_bytes / n, r->yuan_per_million);
    }
    fprintf(f, "</table></div>\n");
}

struct list {
    FILE *f;
    const struct plan *plan;
    bool wins;
    int n;
};

static void verdict(void *arg, enum workload_id w, const struct cell *fen, const struct cell *other,
                    enum metric m, bool win, double times)
{
    struct list *l = arg;
    if (win != l->wins)
        return;
    const struct metric_info *i = &metric_info[m];
    l->n++;
    fprintf(l->f,
            "<tr><td>%s</td><td class=\"l\">%s</td><td class=\"l\">%s</td><td>%.*f</td>"
            "<td>%.*f</td><td class=\"%s\">%.2f&times;</td></tr>\n",
            l->plan->workload[w].key, other->rival->name, i->title, i->digits, fen->median[m],
            i->digits, other->median[m], win ? "good" : "bad", times);
}

static void verdict_table(FILE *f, const struct proof *p, bool wins)
{
    struct list l = {f, &p->plan, wins, 0};
    fprintf(f, "<div class=\"wide\"><table><tr><th>workload</th><th class=\"l\">against</th>"
               "<th class=\"l\">figure</th><th>fen</th><th>other</th><th>fen / other</th></tr>\n");
    verdicts(p, verdict, &l);
    if (!l.n)
        fprintf(f, "<tr><td colspan=\"6\">nothing</td></tr>");
    fprintf(f, "</table></div>\n");
}

static void again(FILE *f, const struct plan *p)
{
    char path[PATH_MAX], line[300];
    fprintf(f, "<h2>Do it again</h2><pre>fen prove --service=%s --baseline=", p->service);
    for (int i = 1, n = 0; i < p->rivals; i++)
        if (p->rival[i].kind != RIVAL_GO && p->rival[i].kind != RIVAL_EPOLL)
            fprintf(f, "%s%s", n++ ? "," : "", p->rival[i].name);
    fprintf(f,
            " --load=c%" PRId64 ",%gs --runs=%" PRId64 "%s --out=pack\n"
            "tools/pack_check.py pack   # recomputes the figures from the raw files</pre>\n",
            p->connections, (double)p->duration_ns / 1e9, p->runs, p->quick ? " --quick" : "");
    fprintf(f, "<p>Beside this file: <code>plan.json</code>, <code>machine.txt</code>, "
               "<code>commit.txt</code>, <code>summary.json</code> (every figure above), and under "
               "<code>raw/</code> for each run the load's report, its 100 ms intervals and latency "
               "buckets, the server's command line and memory, and fen's books.</p><pre>");
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", p->out, i ? "commit.txt" : "machine.txt");
        FILE *from = fopen(path, "re");
        while (from && fgets(line, sizeof line, from)) {
            fputs(i ? "commit: " : "", f);
            html_text(f, line);
        }
        if (from)
            fclose(from);
    }
    fprintf(f, "</pre></body></html>\n");
}

int report_html(const struct proof *p)
{
    char path[PATH_MAX], text[400];
    snprintf(path, sizeof path, "%s/report.html", p->plan.out);
    FILE *f = fopen(path, "we");
    if (!f)
        return -errno;
    headline(p, text, sizeof text);
    fputs(style, f);
    fprintf(f, "<p class=\"dim\">fen: the proof</p><h1>");
    html_text(f, text);
    fprintf(f, "</h1>\n");
    if (machine_busy(&p->plan))
        fprintf(f,
                "<p class=\"bad\"><b>Other work was running on this machine</b> (load average "
                "%.1f before the first run): these figures are noise, not evidence.</p>\n",
                p->plan.busy);
    bars_table(f, p);
    explain(f, &p->plan);
    section(f, p, W_SLOW);
    sweep(f, p);
    section(f, p, W_SLOW_FEW);
    section(f, p, W_ORDERS);
    money(f, p);
    bill(f, p);
    fprintf(f, "<h2>Where fen loses</h2>\n");
    verdict_table(f, p, false);
    fprintf(f, "<h2>Where fen is better or equal</h2>\n");
    verdict_table(f, p, true);
    again(f, &p->plan);
    int rc = ferror(f) ? -EIO : 0;
    return fclose(f) && !rc ? -errno : rc;
}
