/* plan.c - flags of fen prove, what is measured, and which cores do what. */
#include "prove.h"

#include "cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE_GB_PER_CORE 2.0 /* the common small shape: 4 cores, 8 GB */

struct texts {
    const char *baseline, *load, *go, *fen, *other;
};

static int bad(const char *flag, const char *value, const char *accepted)
{
    fprintf(stderr, "fen prove: --%s=%s: %s\n", flag, value, accepted);
    return 2;
}

/* "pool200", "pthread". Each asks the back end in the way in which it serves more requests
 * (bench/README.md has both): pools are as fast with a connection for each thread. */
static bool rival_parse(struct rival *r, const char *name)
{
    memset(r, 0, sizeof *r);
    if (strlen(name) >= sizeof r->name)
        return false;
    snprintf(r->name, sizeof r->name, "%s", name);
    char *end = NULL;
    if (!strncmp(name, "pool", 4)) {
        long n = strtol(name + 4, &end, 10);
        r->kind = RIVAL_POOL;
        r->threads = (int)n;
        return name[4] >= '1' && name[4] <= '9' && !*end && n <= 20000;
    }
    r->kind = RIVAL_PTHREAD;
    r->backend_conns = 1;
    return !strcmp(name, "pthread");
}

static int take_baselines(struct plan *p, const char *list)
{
    static const char accepted[] =
        "expected a list of poolN (N threads, up to 20000), pthread, at most 10 of them";
    char text[512], *save;
    if (strlen(list) >= sizeof text)
        return bad("baseline", list, accepted);
    snprintf(text, sizeof text, "%s", list);
    p->rivals = 1;
    snprintf(p->rival[0].name, sizeof p->rival[0].name, "%s", "fen");
    for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (!strcmp(word, "epoll") || !strcmp(word, FLOOR))
            continue; /* it always runs, as the floor */
        if (p->rivals > 10 || !rival_parse(&p->rival[p->rivals], word))
            return bad("baseline", list, accepted);
        for (int i = 0; i < p->rivals; i++)
            if (!strcmp(p->rival[i].name, word))
                return bad("baseline", list, "a baseline is named twice");
        p->rivals++;
    }
    return p->rivals > 1 ? 0 : bad("baseline", list, accepted);
}

/* "c100,4s" in either order. */
static int take_load(struct plan *p, const char *list)
{
    static const char accepted[] = "expected connections and time such as c100,4s";
    char text[64], *save;
    if (strlen(list) >= sizeof text)
        return bad("load", list, accepted);
    snprintf(text, sizeof text, "%s", list);
    for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *end = word;
        if (*word == 'c') {
            p->connections = strtol(word + 1, &end, 10);
            if (end == word + 1 || *end || p->connections < 1 || p->connections > 20000)
                return bad("load", list, accepted);
        } else {
            p->duration_ns = parse_duration(word);
            if (p->duration_ns < 200 * FEN_MS || p->duration_ns > 600 * FEN_S)
                return bad("load", list, accepted);
        }
    }
    return *list ? 0 : bad("load", list, accepted);
}

static int take_prices(struct plan *p)
{
    char why[256];
    fen_price_book_default(&p->prices);
    if (!p->price_file)
        return 0;
    if (!fen_price_book_load(p->price_file, &p->prices, why, sizeof why))
        return 0;
    fprintf(stderr, "fen prove: --price-file: %s\n", why);
    return 2;
}

/* Half of the cores for the server, the rest for the generator and the back end, so that neither
 * eats the other's time and every server gets the same. */
static void take_cores(struct plan *p)
{
    sched_getaffinity(0, sizeof p->all, &p->all);
    int n = CPU_COUNT(&p->all), given = 0;
    p->pin &= n > 1;
    CPU_ZERO(&p->server_cpus);
    CPU_ZERO(&p->helper_cpus);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &p->all))
            CPU_SET(i, given++ < n / 2 ? &p->server_cpus : &p->helper_cpus);
    if (!p->pin)
        p->server_cpus = p->helper_cpus = p->all;
    p->server_cores = CPU_COUNT(&p->server_cpus);
    p->helper_cores = CPU_COUNT(&p->helper_cpus);
    if (getloadavg(&p->busy, 1) != 1)
        p->busy = 0;
    if (p->node_gb <= 0)
        p->node_gb = NODE_GB_PER_CORE * p->server_cores;
}

/* The programs stand beside this one unless told otherwise. */
static int find_programs(struct plan *p, const struct texts *t)
{
    char dir[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 1);
    if (n <= 0)
        return bad("service", p->service, "cannot find this program's own path");
    dir[n] = 0;
    snprintf(p->fen_path, sizeof p->fen_path, "%s", dir);
    *strrchr(dir, '/') = 0;
    if (t->fen)
        snprintf(p->fen_path, sizeof p->fen_path, "%s", t->fen);
    if (t->other)
        snprintf(p->baseline_path, sizeof p->baseline_path, "%s", t->other);
    else
        snprintf(p->baseline_path, sizeof p->baseline_path, "%s/fen-baseline", dir);
    snprintf(p->go_path, sizeof p->go_path, "%s/../rivals/go-orders", dir);
    if (!access(p->baseline_path, X_OK))
        return 0;
    fprintf(stderr,
            "fen prove: %s: no such program; build the baseline servers first (target "
            "fen-baseline)\n",
            p->baseline_path);
    return 2;
}

static void add_go(struct plan *p, bool want)
{
    if (!want) {
        snprintf(p->go_note, sizeof p->go_note, "%s", "skipped: --go=off");
        return;
    }
    p->go = !access(p->go_path, X_OK);
    if (p->go) {
        struct rival *r = &p->rival[p->rivals++];
        snprintf(r->name, sizeof r->name, "%s", "go");
        r->kind = RIVAL_GO;
        return;
    }
    bool installed = !system("command -v go >/dev/null 2>&1");
    snprintf(p->go_note, sizeof p->go_note, "%s",
             installed ? "skipped: not built (bench/rivals/go/build.sh builds it)"
                       : "skipped: go not installed");
}

static void add_floor(struct plan *p)
{
    struct rival *r = &p->rival[p->rivals++];
    snprintf(r->name, sizeof r->name, "%s", FLOOR);
    r->kind = RIVAL_EPOLL;
    r->backend_conns = 1;
}

static void take_workloads(struct plan *p)
{
    p->workload[W_ORDERS] = (struct workload){"orders",
                                              "Orders: one row from SQLite",
                                              "GET /orders/{1..100000}, no artificial wait",
                                              "/orders/",
                                              p->connections,
                                              false,
                                              1};
    p->workload[W_SLOW] = (struct workload){
        "backend",
        "Quotes: a back end that takes 20 ms, many clients",
        "GET /quotes/{1..100000}, each asks another process that answers after 20 ms",
        "/quotes/",
        p->slow_connections,
        true,
        1};
    p->workload[W_SLOW_FEW] = (struct workload){"backend-few",
                                                "Quotes: the same back end, few clients",
                                                "as above with few clients, half the time: by "
                                                "Little's law nobody can beat connections / 20 ms",
                                                "/quotes/",
                                                p->connections,
                                                true,
                                                2};
    p->workload[W_SWEEP] =
        (struct workload){"sweep",
                          "Quotes: how large a pool would it take?",
                          "the same load, half the time, against pools of different sizes",
                          "/quotes/",
                          p->slow_connections,
                          true,
                          2};
}

static int check_out(const struct plan *p)
{
    if ((mkdir(p->out, 0777) && errno != EEXIST) || access(p->out, W_OK | X_OK)) {
        fprintf(stderr, "fen prove: --out=%s: %s\n", p->out, strerror(errno));
        return 2;
    }
    char raw[PATH_MAX];
    snprintf(raw, sizeof raw, "%s/raw", p->out);
    if (mkdir(raw, 0777) && errno != EEXIST) {
        fprintf(stderr, "fen prove: --out=%s: %s\n", p->out, strerror(errno));
        return 2;
    }
    return 0;
}

static int settle(struct plan *p, const struct texts *t)
{
    if (strcmp(p->service, "orders"))
        return bad("service", p->service, "expected orders");
    if (strcmp(t->go, "auto") && strcmp(t->go, "off"))
        return bad("go", t->go, "expected auto or off");
    if (p->quick)
        p->duration_ns = 2 * FEN_S;
    int rc = take_baselines(p, t->baseline);
    if (!rc && t->load)
        rc = take_load(p, t->load);
    if (!rc)
        rc = take_prices(p);
    if (!rc)
        rc = find_programs(p, t);
    if (!rc)
        rc = check_out(p);
    if (rc)
        return rc;
    add_go(p, !strcmp(t->go, "auto"));
    add_floor(p);
    take_cores(p);
    take_workloads(p);
    return 0;
}

int plan_parse(struct plan *p, int argc, char **argv)
{
    struct texts t = {"pool200,pool2000,pthread", NULL, "auto", NULL, NULL};
    int64_t node_mb = 0;
    *p = (struct plan){.service = "orders",
                       .out = "pack",
                       .connections = 100,
                       .slow_connections = 2000,
                       .duration_ns = 4 * FEN_S,
                       .warmup_ns = 700 * FEN_MS,
                       .runs = 3,
                       .orders = 100000,
                       .target_qps = 100000,
                       .sla_ns = 250 * FEN_MS,
                       .pin = true};
    const struct arg tab[] = {
        {"service", ARG_STR, &p->service, 0, 0, "what fen serves (orders)"},
        {"baseline", ARG_STR, &t.baseline, 0, 0,
         "poolN,pthread (pool200,pool2000,pthread); a floor runs always"},
        {"load", ARG_STR, &t.load, 0, 0, "clients and time of a run (c100,4s)"},
        {"slow-connections", ARG_INT, &p->slow_connections, 1, 20000,
         "clients of the slow back end (2000)"},
        {"runs", ARG_INT, &p->runs, 1, RUNS_MAX, "of each server, interleaved; medians (3)"},
        {"out", ARG_STR, &p->out, 0, 0, "folder of the data pack (pack)"},
        {"go", ARG_STR, &t.go, 0, 0, "auto: also a Go server when it is built; off"},
        {"price-file", ARG_STR, &p->price_file, 0, 0, "prices other than the defaults"},
        {"target-qps", ARG_INT, &p->target_qps, 1, INT64_C(1000000000), "for instances (100000)"},
        {"sla", ARG_DUR, &p->sla_ns, FEN_MS, 60 * FEN_S, "P99 that counts as capacity (250ms)"},
        {"node-mb", ARG_INT, &node_mb, 1, 1 << 24, "memory of one machine (2000 a server core)"},
        {"fen-program", ARG_STR, &t.fen, 0, 0, "the product under test (this program)"},
        {"baseline-program", ARG_STR, &t.other, 0, 0, "(fen-baseline beside this program)"},
        {"pin", ARG_BOOL, &p->pin, 0, 0, "half the cores for the server, half for the load (on)"},
        {"json", ARG_BOOL, &p->json, 0, 0, "the judged figures as JSON lines instead of tables"},
        {"quick", ARG_BOOL, &p->quick, 0, 0, "runs of 2 s: a demonstration, not evidence"},
    };
    int rc = args_parse(argc, argv, tab, sizeof tab / sizeof tab[0], NULL, 0);
    if (rc)
        return rc;
    p->node_gb = (double)node_mb / 1000;
    return settle(p, &t);
}
