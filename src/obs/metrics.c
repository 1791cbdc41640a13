/* metrics.c - Prometheus text format 0.0.4.
 *
 * The rules that are easy to break, and what keeps them: each family is written by one loop with
 * its HELP and TYPE in front, so it is contiguous and announced once; names of the runtime's own
 * families are reserved in the registry; a histogram's +Inf and _count come from the same reading
 * of its buckets; label values are escaped; every line, the last too, ends in '\n'.
 *
 * The money of an account is priced alone, not with the carried remainders of the bill in
 * /debug/vars: a carry may take 1e-15 yuan back between two readings, and a counter that falls
 * reads as a restart. The books are gauges since they are signed. */
#include "obs/obs_int.h"

#include "mem/mem.h"

#include <assert.h>
#include <string.h>

#define GROUPS_BYTES (FEN__OPERATIONS_MAX * sizeof(struct fen__bill_line))
static_assert(FEN__TENANTS_MAX + FEN__TENANT_FIRST <= FEN__OPERATIONS_MAX, "groups fit");

static void family(fen_buf *b, const char *name, const char *type, const char *help)
{
    if (help[0]) {
        fen_buf_put_str(b, "# HELP ");
        fen_buf_put_str(b, name);
        fen_buf_put_char(b, ' ');
        for (; *help; help++) {
            if (*help == '\n' || *help == '\\')
                fen_buf_put_str(b, *help == '\n' ? "\\n" : "\\\\");
            else
                fen_buf_put_char(b, *help);
        }
        fen_buf_put_char(b, '\n');
    }
    fen_buf_put_str(b, "# TYPE ");
    fen_buf_put_str(b, name);
    fen_buf_put_char(b, ' ');
    fen_buf_put_str(b, type);
    fen_buf_put_char(b, '\n');
}

static void label(fen_buf *b, const char *name, const char *value)
{
    fen_buf_put_str(b, name);
    fen_buf_put_str(b, "=\"");
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            fen_buf_put_char(b, '\\');
        if (*value == '\n')
            fen_buf_put_str(b, "\\n");
        else
            fen_buf_put_char(b, *value);
    }
    fen_buf_put_char(b, '"');
}

static void end_scaled(fen_buf *b, __int128 v, int scale)
{
    fen_buf_put_char(b, ' ');
    fen__put_scaled(b, v, scale);
    fen_buf_put_char(b, '\n');
}

/* ---- one value ---- */

static void single(fen_buf *b, const char *name, const char *type, const char *help, __int128 v,
                   int scale)
{
    family(b, name, type, help);
    fen_buf_put_str(b, name);
    end_scaled(b, v, scale);
}

/* Left out when the kernel did not say. */
static void known(fen_buf *b, const char *name, const char *type, const char *help, int64_t v,
                  int scale)
{
    if (v >= 0)
        single(b, name, type, help, v, scale);
}

static void process(fen_buf *b, const struct fen__sys_proc *p)
{
    known(b, "process_cpu_seconds_total", "counter", "User and system CPU time.", p->cpu_ns, 9);
    known(b, "process_resident_memory_bytes", "gauge", "Resident memory.", p->resident_bytes, 0);
    known(b, "process_virtual_memory_bytes", "gauge", "Virtual memory.", p->virtual_bytes, 0);
    known(b, "process_open_fds", "gauge", "Open descriptors.", p->open_fds, 0);
    known(b, "process_max_fds", "gauge", "Limit of open descriptors.", p->max_fds, 0);
    known(b, "process_start_time_seconds", "gauge", "Start of the process, Unix time.",
          p->start_unix_ms, 3);
    known(b, "process_threads", "gauge", "Threads of the process.", p->threads, 0);
}

static void runtime(fen_buf *b, const fen_stats *s)
{
    const struct {
        const char *name, *type, *help;
        int64_t v;
    } list[] = {
        {"fen_fibers_live", "gauge", "Fibers that live now.", s->fibers_live},
        {"fen_fibers_spawned_total", "counter", "Fibers ever started.", s->fibers_spawned},
        {"fen_timers_live", "gauge", "Timers armed now.", s->timers_live},
        {"fen_fds_live", "gauge", "Descriptors registered with the poller.", s->fds_live},
        {"fen_stacks_mapped_bytes", "gauge", "Address space of stacks.", s->stacks_mapped_bytes},
        {"fen_heap_live_bytes", "gauge", "Slabs, arena chunks and buffers in use.",
         s->heap_live_bytes},
        {"fen_steals_total", "counter", "Fibers taken from another run queue.", s->steals},
        {"fen_overflows_total", "counter", "Run queues spilled to the global one.", s->overflows},
        {"fen_handoffs_total", "counter", "Ps taken from blocked or computing threads.",
         s->handoffs},
        {"fen_handoffs_refused_total", "counter", "Hand-offs refused for want of a thread.",
         s->handoffs_refused},
        {"fen_switches_total", "counter", "Context switches between fibers.", s->switches},
        {"fen_parks_total", "counter", "Times a fiber waited.", s->parks},
        {"fen_polls_total", "counter", "Calls of the poller.", s->polls},
        {"fen_poll_events_total", "counter", "Events that the poller returned.", s->poll_events},
        {"fen_wakeups_total", "counter", "Sleeping threads woken.", s->wakeups},
        {"fen_files_direct_total", "counter", "Calls on files answered at once.", s->files_direct},
        {"fen_files_ring_total", "counter", "Calls on files by io_uring.", s->files_ring},
        {"fen_files_pool_total", "counter", "Calls on files on the pool of threads.",
         s->files_pool},
        {"fen_file_ring", "gauge", "1 while a ring for files is open.", s->file_ring},
        {"fen_threads", "gauge", "Worker threads alive.", s->threads},
        {"fen_run_queue_fibers", "gauge", "Fibers that wait for a P.", s->run_queue},
    };
    for (size_t i = 0; i < FEN__COUNT(list); i++)
        single(b, list[i].name, list[i].type, list[i].help, list[i].v, 0);
}

/* ---- the bill ---- */

struct column {
    const char *name, *help;
    int scale;
    __int128 (*of)(const struct fen__bill_line *l, const fen_price_book *book);
    bool money;
};

#define COLUMN(fn, expr)                                                                           \
    static __int128 fn(const struct fen__bill_line *l, const fen_price_book *book)                 \
    {                                                                                              \
        (void)book;                                                                                \
        return expr;                                                                               \
    }
COLUMN(requests_of, l->requests)
COLUMN(errors_of, l->errors)
COLUMN(cpu_of, l->usage.cpu_ns)
COLUMN(wait_of, l->usage.wait_ns)
COLUMN(arena_of, l->usage.arena_bytes)
COLUMN(held_of, l->usage.arena_byte_ns)
COLUMN(in_of, l->usage.in_bytes)
COLUMN(out_of, l->usage.out_bytes)
COLUMN(cost_of, fen_price_of(book, &l->usage, l->requests))

static const struct column columns[] = {
    {"fen_requests_total", "Requests finished.", 0, requests_of, false},
    {"fen_request_errors_total", "Requests that failed on the server's side.", 0, errors_of, false},
    {"fen_request_cpu_seconds_total", "CPU time of requests.", 9, cpu_of, false},
    {"fen_request_wait_seconds_total", "Time that requests waited.", 9, wait_of, false},
    {"fen_request_arena_bytes_total", "Bytes that requests asked of arenas.", 0, arena_of, false},
    {"fen_request_arena_byte_seconds_total", "Arena bytes x time held.", 9, held_of, false},
    {"fen_request_in_bytes_total", "Bytes read for requests.", 0, in_of, false},
    {"fen_request_out_bytes_total", "Bytes written for requests.", 0, out_of, false},
    {"fen_request_cost_yuan_total", "Cost of requests by the price book, in the unit of currency.",
     15, cost_of, true},
};

static void bill(fen_buf *b, const struct fen__view *v)
{
    for (size_t c = 0; c < FEN__COUNT(columns); c++) {
        const struct column *col = &columns[c];
        family(b, col->name, "counter", col->help);
        for (uint32_t i = 0; i < v->bill.n; i++) {
            const struct fen__bill_line *l = &v->bill.lines[i];
            fen_buf_put_str(b, col->name);
            fen_buf_put_char(b, '{');
            label(b, "tenant", fen__meter_tenant_name(l->tenant));
            fen_buf_put_char(b, ',');
            label(b, "operation", fen__meter_operation_name(l->operation));
            if (col->money) {
                fen_buf_put_char(b, ',');
                label(b, "currency", v->book.currency);
            }
            fen_buf_put_char(b, '}');
            end_scaled(b, col->of(l, &v->book), col->scale);
        }
    }
}

/* What accounts hold of the heap; those that the program numbered itself are one, _program. */
static const struct {
    const char *name, *type, *help;
    size_t at;
} holdings[] = {
    {"fen_account_mem_allocated_bytes_total", "counter", "Bytes of blocks taken from the heap.",
     offsetof(fen_mem_usage, allocated_bytes)},
    {"fen_account_mem_freed_bytes_total", "counter", "Bytes of blocks given back.",
     offsetof(fen_mem_usage, freed_bytes)},
    {"fen_account_mem_live_bytes", "gauge", "Bytes of blocks in use.",
     offsetof(fen_mem_usage, live_bytes)},
    {"fen_account_mem_peak_bytes", "gauge", "The most bytes that were in use.",
     offsetof(fen_mem_usage, peak_bytes)},
    {"fen_account_mem_byte_seconds", "gauge", "Bytes of blocks x time held.",
     offsetof(fen_mem_usage, byte_seconds)},
};

static void holding(fen_buf *b, size_t family, const char *tenant, const char *operation, int64_t n)
{
    fen_buf_put_str(b, holdings[family].name);
    fen_buf_put_char(b, '{');
    label(b, "tenant", tenant);
    fen_buf_put_char(b, ',');
    label(b, "operation", operation);
    fen_buf_put_char(b, '}');
    end_scaled(b, n, 0);
}

static void memory_bill(fen_buf *b, const struct fen__bill *bill)
{
    for (size_t f = 0; f < FEN__COUNT(holdings); f++) {
        int64_t rest = 0;
        bool any = false;
        family(b, holdings[f].name, holdings[f].type, holdings[f].help);
        for (uint32_t i = 0; i < bill->memory_n; i++) {
            const struct fen__bill_memory *m = &bill->memory[i];
            int64_t n = *(const int64_t *)(const void *)((const char *)&m->usage + holdings[f].at);
            if (m->tenant == UINT32_MAX) {
                rest += n; /* of peaks: at least the peak of the sum */
                any = true;
                continue;
            }
            holding(b, f, fen__meter_tenant_name(m->tenant),
                    fen__meter_operation_name(m->operation), n);
        }
        if (any)
            holding(b, f, "_program", "_program", rest);
    }
}

/* One sample with the labels key="value" and currency. */
static void money(fen_buf *b, const char *name, const char *key, const char *value,
                  const char *currency, __int128 fyuan)
{
    fen_buf_put_str(b, name);
    fen_buf_put_char(b, '{');
    label(b, key, value);
    fen_buf_put_char(b, ',');
    label(b, "currency", currency);
    fen_buf_put_char(b, '}');
    end_scaled(b, fyuan, 15);
}

static void costs(fen_buf *b, const struct fen__view *v)
{
    static const char per_second[] = "cost_per_second", by_tenant[] = "cost_by_tenant";
    static const char per_request[] = "cost_per_request", by_service[] = "cost_by_service";
    const char *cur = v->book.currency;
    if (v->window_ns > 0) {
        family(b, per_second, "gauge",
               "Cost of the process per second: CPU and requests over the last minute, resident "
               "memory now. req is 0 unless the book prices requests.");
        money(b, per_second, "component", "cpu", cur, v->rate.cpu_fyuan);
        money(b, per_second, "component", "mem", cur, v->rate.mem_fyuan);
        money(b, per_second, "component", "req", cur, v->rate.req_fyuan);
    }
    /* groups need 28 KiB, too much for a fiber's stack */
    struct fen__bill_line *lines = fen__mem_alloc(GROUPS_BYTES);
    if (!lines) {
        b->err = b->err ? b->err : -ENOMEM;
        return;
    }
    uint32_t n = fen__bill_by_operation(&v->bill, lines, FEN__OPERATIONS_MAX);
    family(b, per_request, "gauge", "Mean cost of a request since the process started.");
    for (uint32_t i = 0; i < n; i++)
        if (lines[i].requests > 0)
            money(b, per_request, "operation", fen__meter_operation_name(lines[i].operation), cur,
                  cost_of(&lines[i], &v->book) / lines[i].requests);
    n = fen__bill_by_tenant(&v->bill, lines, FEN__OPERATIONS_MAX);
    family(b, by_tenant, "counter", "Cost of a tenant's requests.");
    for (uint32_t i = 0; i < n; i++)
        money(b, by_tenant, "tenant", fen__meter_tenant_name(lines[i].tenant), cur,
              cost_of(&lines[i], &v->book));
    fen__mem_free(lines, GROUPS_BYTES);
    family(b, by_service, "counter", "Cost of all requests of the service.");
    money(b, by_service, "service", v->service ? v->service : "fen", cur,
          cost_of(&v->bill.total, &v->book));
}

static void books(fen_buf *b, const struct fen__books *k)
{
    single(b, "fen_books_requests_seconds", "gauge", "CPU time settled to requests.",
           k->requests_ns, 9);
    single(b, "fen_books_fibers_seconds", "gauge", "CPU time of fibers, not settled to requests.",
           k->fibers_ns, 9);
    single(b, "fen_books_runtime_seconds", "gauge", "CPU time of scheduler, poller and timers.",
           k->runtime_ns, 9);
    single(b, "fen_books_unattributed_seconds", "gauge", "CPU time that could not be placed.",
           k->unattributed_ns, 9);
    single(b, "fen_books_thread_cpu_seconds", "gauge", "CPU time of the workers, by the kernel.",
           k->thread_cpu_ns, 9);
    single(b, "fen_books_residual_seconds", "gauge",
           "The kernel's figure less the sum of the other four.", k->residual_ns, 9);
}

/* ---- histograms ---- */

/* Buckets of 2^first to 2^last and +Inf; powers of two are edges, so the counts are exact. */
static void buckets(fen_buf *b, const char *name, const char *labels, int scale, int first,
                    int last, const struct fen__hist *h)
{
    for (int bit = first; bit <= last + 1; bit++) {
        fen_buf_put_str(b, name);
        fen_buf_put_str(b, "_bucket{");
        fen_buf_put_str(b, labels);
        fen_buf_put_str(b, labels[0] ? ",le=\"" : "le=\"");
        if (bit > last)
            fen_buf_put_str(b, "+Inf");
        else
            fen__put_scaled(b, (__int128)1 << bit, scale);
        fen_buf_put_char(b, '"');
        fen_buf_put_char(b, '}');
        end_scaled(b, bit > last ? fen__hist_count(h) : fen__hist_count_le(h, INT64_C(1) << bit),
                   0);
    }
    const char *const ends[] = {"_sum", "_count"};
    for (int i = 0; i < 2; i++) {
        fen_buf_put_str(b, name);
        fen_buf_put_str(b, ends[i]);
        if (labels[0]) {
            fen_buf_put_char(b, '{');
            fen_buf_put_str(b, labels);
            fen_buf_put_char(b, '}');
        }
        end_scaled(b, i ? fen__hist_count(h) : h->sum, i ? 0 : scale);
    }
}

static void latencies(fen_buf *b)
{
    static const char name[] = "fen_request_duration_seconds";
    family(b, name, "histogram", "From the first byte of a request to the last of its reply.");
    for (uint32_t op = 0; op < fen__meter_operations(); op++) {
        const struct fen__hist *live = fen__meter_latency_of(op);
        if (!live)
            continue;
        struct fen__hist h = {0};
        fen__hist_merge(&h, live);
        char text[2 * FEN__OPERATION_BYTES + 16]; /* every byte may need an escape */
        fen_buf labels = fen_buf_fixed(text, sizeof text - 1);
        label(&labels, "operation", fen__meter_operation_name(op));
        text[labels.n] = 0;
        buckets(b, name, text, 9, 14, 35, &h); /* 16.4 us to 34.4 s */
    }
}

/* ---- memory ---- */

static void memory(fen_buf *b, const struct fen__view *v)
{
    static const char slices[] = "fen_mem_slice_seconds", cycles[] = "fen_mem_cycles_total";
    const struct {
        const char *name, *type, *help;
        int64_t v;
    } list[] = {
        {"fen_mem_live_bytes", "gauge", "Blocks in use.", v->mem.live_bytes},
        {"fen_mem_held_bytes", "gauge", "Pages in use.", v->mem.held_bytes},
        {"fen_mem_retained_bytes", "gauge", "Free pages not given back yet.",
         v->mem.retained_bytes},
        {"fen_mem_goal_bytes", "gauge",
         "Pages, free ones too, at which the next reclaim is due; 0: off.", v->pace.goal_bytes},
        {"fen_mem_limit_bytes", "gauge", "Limit of the process's memory; 0: none.",
         v->pace.limit_bytes},
        {"fen_mem_pressure", "gauge", "0 easy, 1 tight, 2 short: requests are refused.",
         v->pace.level},
        {"fen_mem_returned_bytes_total", "counter", "Bytes given back to the system.",
         v->mem.returned_bytes},
        {"fen_mem_refused_total", "counter", "Allocations that the limit forbade.",
         v->pace.refused},
    };
    const struct {
        const char *why;
        int64_t n;
    } by[] = {{"goal", v->pace.goal_cycles},
              {"idle", v->pace.idle_cycles},
              {"limit", v->pace.limit_cycles},
              {"asked", v->pace.asked_cycles}};
    for (size_t i = 0; i < FEN__COUNT(list); i++)
        single(b, list[i].name, list[i].type, list[i].help, list[i].v, 0);
    family(b, cycles, "counter", "Reclaims, by their cause.");
    for (size_t i = 0; i < FEN__COUNT(by); i++) {
        fen_buf_put_str(b, cycles);
        fen_buf_put_char(b, '{');
        label(b, "why", by[i].why);
        fen_buf_put_char(b, '}');
        end_scaled(b, by[i].n, 0);
    }
    family(b, slices, "histogram", "How long the slices of reclaims took.");
    buckets(b, slices, "", 9, 12, 24, &v->slices); /* 4.1 us to 16.8 ms */
}

/* ---- registered variables ---- */

static void variable(fen_buf *b, const struct fen_var *v)
{
    if (v->hist) {
        struct fen__hist h = {0};
        fen__hist_merge(&h, v->hist);
        buckets(b, v->name, v->labels, v->scale, 0, FEN__HIST_MAX_BITS - 1, &h);
        return;
    }
    fen_buf_put_str(b, v->name);
    if (v->labels[0]) {
        fen_buf_put_char(b, '{');
        fen_buf_put_str(b, v->labels);
        fen_buf_put_char(b, '}');
    }
    fen_buf_put_char(b, ' ');
    fen__var_put_value(b, v, NULL);
    fen_buf_put_char(b, '\n');
}

static void variables(fen_buf *b)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (const struct fen_var *f = fen__var_first(); f; f = fen__var_next_family(f)) {
        family(b, f->name, types[f->kind], f->help);
        for (const struct fen_var *v = f; v; v = fen__var_next_label(v))
            variable(b, v);
    }
}

void fen__metrics_write(fen_buf *b, const struct fen__view *v)
{
    process(b, &v->proc);
    runtime(b, &v->stats);
    single(b, "active_handlers", "gauge", "Handlers that run now.", v->bill.handlers, 0);
    bill(b, v);
    memory_bill(b, &v->bill);
    costs(b, v);
    books(b, &v->books);
    memory(b, v);
    latencies(b);
    variables(b);
}
