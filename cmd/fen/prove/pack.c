/* pack.c - the data pack: plan.json, machine.txt, commit.txt, summary.json. tools/pack_check.py
 * recomputes what stands in summary.json from the files under raw/. */
#include "prove.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static FILE *create(const struct plan *p, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", p->out, name);
    return fopen(path, "we");
}

static int finish(FILE *f)
{
    int rc = ferror(f) ? -EIO : 0;
    return fclose(f) && !rc ? -errno : rc;
}

static int plan_json(const struct plan *p)
{
    FILE *f = create(p, "plan.json");
    if (!f)
        return -errno;
    fprintf(f,
            "{\"service\":\"%s\",\"quick\":%s,\"runs\":%" PRId64 ",\"duration_ns\":%" PRId64
            ",\"warmup_ns\":%" PRId64 ",\"orders\":%" PRId64 ",\n \"pinned\":%s"
            ",\"server_cores\":%d,\"helper_cores\":%d,\"node_gb\":%.3f,\n",
            p->service, p->quick ? "true" : "false", p->runs, p->duration_ns, p->warmup_ns,
            p->orders, p->pin ? "true" : "false", p->server_cores, p->helper_cores, p->node_gb);
    fprintf(f, " \"prices\":{\"currency\":");
    load_json_string(f, p->prices.currency);
    fprintf(f,
            ",\"cpu_core_hour_fyuan\":%" PRId64 ",\"mem_gb_hour_fyuan\":%" PRId64
            ",\"request_1000_fyuan\":%" PRId64 ",\"request_on\":%s},\n",
            p->prices.cpu_core_hour_fyuan, p->prices.mem_gb_hour_fyuan,
            p->prices.request_1000_fyuan, p->prices.request_on ? "true" : "false");
    fprintf(f, " \"load_average_before\":%.2f,\n", p->busy);
    fprintf(f, " \"target_qps\":%" PRId64 ",\"sla_ns\":%" PRId64 ",\"go\":", p->target_qps,
            p->sla_ns);
    load_json_string(f, p->go ? "measured" : p->go_note);
    fprintf(f, ",\n \"rivals\":[");
    for (int i = 0; i < p->rivals; i++)
        fprintf(f, "%s\"%s\"", i ? "," : "", p->rival[i].name);
    fprintf(f, "],\n \"workloads\":[");
    for (int w = 0; w < WORKLOADS; w++)
        fprintf(f,
                "%s\n  {\"key\":\"%s\",\"what\":\"%s\",\"connections\":%" PRId64
                ",\"backend_delay\":\"%s\"}",
                w ? "," : "", p->workload[w].key, p->workload[w].what, p->workload[w].connections,
                p->workload[w].backend ? SLOW_DELAY : "0");
    fprintf(f, "]}\n");
    return finish(f);
}

/* The first line of path that starts with key, without the key. */
static void line_of(FILE *to, const char *path, const char *key, const char *name)
{
    char line[512];
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) {
            const char *v = *key ? strchr(line, ':') : line;
            fprintf(to, "%s: %s", name, v && *key ? v + 2 : line);
            break;
        }
    if (f)
        fclose(f);
}

static int machine_txt(const struct plan *p)
{
    struct utsname u;
    FILE *f = create(p, "machine.txt");
    if (!f)
        return -errno;
    line_of(f, "/proc/cpuinfo", "model name", "cpu");
    fprintf(f, "cores: %d (server %d, load %d%s)\n", CPU_COUNT(&p->all), p->server_cores,
            p->helper_cores, p->pin ? "" : ", shared");
    line_of(f, "/proc/meminfo", "MemTotal", "memory");
    if (!uname(&u))
        fprintf(f, "kernel: %s %s %s\n", u.sysname, u.release, u.machine);
    fprintf(f, "compiler: %s\n", __VERSION__);
    line_of(f, "/proc/loadavg", "", "load average at the start");
    return finish(f);
}

static int commit_txt(const struct plan *p)
{
    char command[PATH_MAX + 64], line[128] = "";
    FILE *f = create(p, "commit.txt");
    if (!f)
        return -errno;
    snprintf(command, sizeof command, "%s", p->fen_path);
    *strrchr(command, '/') = 0;
    if (!strchr(command, '\'')) {
        char quoted[PATH_MAX + 128];
        snprintf(quoted, sizeof quoted, "git -C '%s' rev-parse HEAD 2>/dev/null", command);
        FILE *git = popen(quoted, "re");
        if (git && !fgets(line, sizeof line, git))
            *line = 0;
        if (git)
            pclose(git);
    }
    fprintf(f, "%s", *line ? line : "not built in a git checkout\n");
    return finish(f);
}

int pack_begin(const struct proof *f)
{
    int rc = plan_json(&f->plan);
    if (!rc)
        rc = machine_txt(&f->plan);
    return rc ? rc : commit_txt(&f->plan);
}

static void numbers(FILE *f, const char *key, const double *v)
{
    fprintf(f, "\"%s\":{", key);
    for (int m = 0; m < METRICS; m++)
        fprintf(f, "%s\"%s\":%.9g", m ? "," : "", metric_info[m].key, isfinite(v[m]) ? v[m] : 0);
    fprintf(f, "}");
}

static void cell_json(FILE *f, const struct proof *p, enum workload_id w, const struct cell *c)
{
    const struct cell *fen = cell_of(p, w == W_SWEEP ? W_SLOW : w, "fen");
    fprintf(f, "  {\"workload\":\"%s\",\"rival\":\"%s\",\"runs\":[", p->plan.workload[w].key,
            c->rival->name);
    for (int i = 0; i < c->runs; i++) {
        fprintf(f, "%s\n   {\"name\":\"%s\",\"failed\":", i ? "," : "", c->run[i].name);
        load_json_string(f, c->run[i].why);
        fprintf(f, ",\"errors\":%" PRId64 ",\"unexpected\":%" PRId64 ",\"helper_share\":%.4f,",
                c->run[i].errors, c->run[i].unexpected, c->run[i].helper_share);
        numbers(f, "figures", c->run[i].v);
        fprintf(f, "}");
    }
    fprintf(f, "],\n   \"good_runs\":%d", c->good);
    if (c->good) {
        const char *names[] = {"median", "low", "high"};
        const double *sets[] = {c->median, c->low, c->high};
        for (int i = 0; i < 3; i++) {
            fprintf(f, ",\n   ");
            numbers(f, names[i], sets[i]);
        }
        fprintf(f, ",\n   \"instances\":%" PRId64 ",\"load_side_full\":%s", instances(&p->plan, c),
                helpers_full(c) ? "true" : "false");
        if (fen && fen != c)
            fprintf(f,
                    ",\n   \"fen_to_this\":{\"qps\":%.6g,\"p99\":%.6g,\"cpu\":%.6g,"
                    "\"yuan_use\":%.6g,\"yuan_node\":%.6g}",
                    ratio(fen, c, M_QPS), ratio(fen, c, M_P99), ratio(fen, c, M_CPU),
                    ratio(fen, c, M_USE), ratio(fen, c, M_NODE));
    }
    fprintf(f, "}");
}

static void bill_json(FILE *f, const struct proof *p)
{
    fprintf(f, "],\n \"bill\":[");
    for (int i = 0; i < p->bill_n; i++) {
        const struct bill_row *r = &p->bill[i];
        fprintf(f, "%s\n  {\"tenant\":", i ? "," : "");
        load_json_string(f, r->tenant);
        fprintf(f, ",\"operation\":");
        load_json_string(f, r->operation);
        fprintf(f, ",\"requests\":%.0f,\"cpu_ns\":%.0f,\"yuan_per_million\":%.9g}", r->requests,
                r->cpu_ns, r->yuan_per_million);
    }
}

int pack_summary(const struct proof *p)
{
    char text[400];
    struct bar b[16];
    FILE *f = create(&p->plan, "summary.json");
    if (!f)
        return -errno;
    headline(p, text, sizeof text);
    fprintf(f, "{\"headline\":");
    load_json_string(f, text);
    fprintf(f, ",\"seconds\":%.1f,\"node_yuan_hour\":%.9g,\n \"bars\":[", p->seconds,
            money_node_hour(&p->plan));
    int n = bars(p, b, 16);
    for (int i = 0; i < n; i++)
        fprintf(f,
                "%s\n  {\"bar\":\"%s\",\"workload\":\"%s\",\"rival\":\"%s\",\"figure\":\"%s\","
                "\"wanted\":\"%s %g\",\"got\":%.6g,\"floor\":%.6g,\"floor_load_side_full\":%s,"
                "\"known\":%s,\"met\":%s,\"verdict\":\"%s\"}",
                i ? "," : "", b[i].text, p->plan.workload[b[i].workload].key, b[i].rival,
                metric_info[b[i].metric].key, b[i].at_least ? ">=" : "<=", b[i].want, b[i].got,
                b[i].floor, b[i].floor_load_full ? "true" : "false",
                b[i].verdict != BAR_ABSENT ? "true" : "false",
                b[i].verdict == BAR_MET ? "true" : "false", bar_word(&b[i]));
    fprintf(f, "],\n \"cells\":[");
    const char *comma = "\n";
    for (int w = 0; w < WORKLOADS; w++)
        for (int i = 0; i < RIVALS_MAX; i++)
            if (p->cell[w][i].runs) {
                fputs(comma, f);
                cell_json(f, p, (enum workload_id)w, &p->cell[w][i]);
                comma = ",\n";
            }
    bill_json(f, p);
    fprintf(f, "]}\n");
    return finish(f);
}
