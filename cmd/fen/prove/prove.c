/* prove.c - fen prove: runs every rival under every workload, in turn, and writes the data pack.
 *
 * Runs are interleaved (fen, pool200, ..., fen, pool200, ...): a slow drift of the machine hits all
 * alike, and the medians compare what was measured side by side. */
#include "prove.h"

#include "cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILL_NS (120 * FEN_S)

volatile bool prove_stop;

static void on_signal(int sig)
{
    (void)sig;
    prove_stop = true;
}

static int fail(const char *what, int rc)
{
    fprintf(stderr, "fen prove: %s: %s\n", what, strerror(rc < 0 ? -rc : rc));
    return 1;
}

static int fill(struct plan *p)
{
    char db[160], log[PATH_MAX];
    snprintf(db, sizeof db, "--db=%s", p->db);
    snprintf(log, sizeof log, "%s/raw/fill.log", p->out);
    const char *argv[] = {p->fen_path, "serve", p->service, db, "--fill-only", NULL};
    fprintf(stderr, "filling %" PRId64 " orders\n", p->orders);
    int rc = server_run_once(p, argv, log, FILL_NS);
    if (!rc)
        return 0;
    fprintf(stderr, "fen prove: '%s serve orders --fill-only' ended with %d; see %s\n", p->fen_path,
            rc, log);
    return 1;
}

static int add_cell(struct cell *c, const struct rival *r)
{
    c->rival = r;
    c->run = calloc(RUNS_MAX, sizeof *c->run);
    return c->run ? 0 : -ENOMEM;
}

static void one(struct proof *f, enum workload_id w, struct cell *c, int run)
{
    if (prove_stop)
        return;
    fprintf(stderr, "%-12s %-9s run %d: ", f->plan.workload[w].key, c->rival->name, run + 1);
    measure(f, w, c, run);
    const struct run *r = &c->run[run];
    if (*r->why)
        fprintf(stderr, "FAILED: %s\n", r->why);
    else
        fprintf(stderr, "%.0f/s, P99 %.2f ms, %.2f us CPU\n", r->v[M_QPS], r->v[M_P99],
                r->v[M_CPU]);
}

static int run_workload(struct proof *f, enum workload_id w)
{
    for (int i = 0; i < f->plan.rivals; i++) {
        const struct rival *r = &f->plan.rival[i];
        if ((r->kind == RIVAL_GO && w != W_ORDERS) || (r->kind == RIVAL_EPOLL && w == W_SLOW_FEW))
            continue; /* Go has orders only; of few clients the floor has nothing to say */
        if (add_cell(&f->cell[w][i], r))
            return -ENOMEM;
    }
    for (int run = 0; run < f->plan.runs; run++)
        for (int i = 0; i < f->plan.rivals; i++)
            if (f->cell[w][i].run)
                one(f, w, &f->cell[w][i], run);
    return 0;
}

static int run_sweep(struct proof *f)
{
    static const int sizes[] = {50, 100, 200, 400, 1000, 2000};
    for (f->sweep_n = 0; f->sweep_n < 6; f->sweep_n++) {
        struct rival *r = &f->sweep[f->sweep_n];
        r->kind = RIVAL_POOL;
        r->threads = sizes[f->sweep_n];
        snprintf(r->name, sizeof r->name, "pool%d", r->threads);
        struct cell *c = &f->cell[W_SWEEP][f->sweep_n];
        if (add_cell(c, r))
            return -ENOMEM;
        one(f, W_SWEEP, c, 0);
    }
    return 0;
}

static int run_all(struct proof *f)
{
    int rc = fill(&f->plan);
    if (rc)
        return rc;
    for (int w = W_ORDERS; w <= W_SLOW_FEW; w++)
        if (run_workload(f, (enum workload_id)w))
            return fail("measuring", ENOMEM);
    if (run_sweep(f))
        return fail("measuring", ENOMEM);
    for (int w = 0; w < WORKLOADS; w++)
        for (int i = 0; i < RIVALS_MAX; i++)
            if (f->cell[w][i].runs)
                summarise(&f->cell[w][i]);
    return 0;
}

static int report(const struct proof *f)
{
    char path[PATH_MAX];
    int rc = pack_summary(f);
    if (!rc)
        rc = report_html(f);
    if (rc)
        return fail(f->plan.out, rc);
    snprintf(path, sizeof path, "%s/report.txt", f->plan.out);
    FILE *t = fopen(path, "we");
    if (!t)
        return fail(path, errno);
    report_text(f, t);
    fclose(t);
    if (f->plan.json)
        report_json(f, stdout);
    else
        report_text(f, stdout);
    fprintf(f->plan.json ? stderr : stdout,
            "\n%s/report.html, %s/summary.json; check: tools/pack_check.py %s\n", f->plan.out,
            f->plan.out, f->plan.out);
    for (int w = 0; w < WORKLOADS; w++)
        for (int i = 0; i < RIVALS_MAX; i++)
            if (f->cell[w][i].runs && !f->cell[w][i].good)
                return 1;
    return 0;
}

static void clean(struct proof *f)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char path[192];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", f->plan.db, suffixes[i]);
        unlink(path);
    }
    rmdir(f->plan.dir);
    for (int w = 0; w < WORKLOADS; w++)
        for (int i = 0; i < RIVALS_MAX; i++)
            free(f->cell[w][i].run);
}

int cmd_prove(int argc, char **argv)
{
    static struct proof f;
    int rc = plan_parse(&f.plan, argc, argv);
    if (rc)
        return rc < 0 ? 0 : rc;
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    snprintf(f.plan.dir, sizeof f.plan.dir, "%s", "/tmp/fen-prove-XXXXXX");
    if (!mkdtemp(f.plan.dir))
        return fail("/tmp", errno);
    snprintf(f.plan.db, sizeof f.plan.db, "%s/orders.db", f.plan.dir);
    int64_t start = fen_now();
    rc = pack_begin(&f);
    if (rc)
        rc = fail(f.plan.out, rc);
    else
        rc = run_all(&f);
    f.seconds = (double)(fen_now() - start) / 1e9;
    if (!rc && !prove_stop)
        rc = report(&f);
    clean(&f);
    if (prove_stop)
        fprintf(stderr, "fen prove: stopped; no report\n");
    return prove_stop ? 130 : rc;
}
