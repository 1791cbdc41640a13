/* vars.c - /debug/vars: one JSON object in the manner of expvar, one variable a line.
 *
 * memstats has the names that expvar readers look for. What fen does not have (a collector) is 0,
 * which is the truth; what could not be read is null. */
#include "obs/obs_int.h"

#include "mem/mem.h"
#include "sys/look.h"

#include <fen/fiber.h>

#include <string.h>

/* ---- JSON ---- */

/* Length of the UTF-8 sequence at p, 0 if there is none (overlong and surrogates count as none). */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xC2 ? 0
                 : p[0] < 0xE0 ? 2
                 : p[0] < 0xF0 ? 3
                 : p[0] < 0xF5 ? 4
                               : 0;
    if (len <= 1 || len > n)
        return len <= 1 ? len : 0;
    uint32_t code = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3F);
    }
    bool good = code >= least[len] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    return good ? len : 0;
}

void fen__put_json_string(fen_buf *b, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    fen_buf_put_char(b, '"');
    while (n > 0) {
        unsigned char c = (unsigned char)*p;
        size_t len = utf8_length((const unsigned char *)p, n);
        if (len == 0) {
            fen_buf_put_str(b, "\xEF\xBF\xBD");
        } else if (c == '"' || c == '\\') {
            fen_buf_put_char(b, '\\');
            fen_buf_put_char(b, (char)c);
        } else if (c < 0x20) {
            char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            fen_buf_put(b, text, sizeof text);
        } else {
            fen_buf_put(b, p, len);
        }
        size_t step = len ? len : 1;
        p += step;
        n -= step;
    }
    fen_buf_put_char(b, '"');
}

static void text(fen_buf *b, const char *s) { fen__put_json_string(b, s, strlen(s)); }

/* first: nothing before it in this object. */
static void key(fen_buf *b, const char *name, bool first)
{
    if (!first)
        fen_buf_put_char(b, ',');
    text(b, name);
    fen_buf_put_char(b, ':');
}

static void number(fen_buf *b, const char *name, __int128 v, int scale, bool first)
{
    key(b, name, first);
    fen__put_scaled(b, v, scale);
}

/* A variable of the outer object: a line of its own. */
static void line(fen_buf *b, const char *name, bool first)
{
    fen_buf_put_str(b, first ? "" : ",\n");
    text(b, name);
    fen_buf_put_str(b, ": ");
}

static void known(fen_buf *b, const char *name, int64_t v, int scale, bool first)
{
    key(b, name, first);
    if (v < 0)
        fen_buf_put_str(b, "null");
    else
        fen__put_scaled(b, v, scale);
}

/* ---- what every process has ---- */

static void cmdline(fen_buf *b, const struct fen__view *v)
{
    line(b, "cmdline", true);
    fen_buf_put_char(b, '[');
    for (size_t at = 0; at < v->cmdline_n;) {
        size_t n = strnlen(v->cmdline + at, v->cmdline_n - at);
        if (at)
            fen_buf_put_char(b, ',');
        fen__put_json_string(b, v->cmdline + at, n);
        at += n + 1;
    }
    fen_buf_put_char(b, ']');
}

static void memstats(fen_buf *b, const struct fen__view *v)
{
    int64_t heap = v->stats.heap_live_bytes;
    line(b, "memstats", false);
    fen_buf_put_char(b, '{');
    number(b, "Alloc", heap, 0, true);
    number(b, "HeapAlloc", heap, 0, false);
    number(b, "HeapInuse", heap, 0, false);
    number(b, "StackSys", v->stats.stacks_mapped_bytes, 0, false);
    known(b, "Sys", v->proc.resident_bytes, 0, false);
    number(b, "NumGC", 0, 0, false);
    number(b, "PauseTotalNs", 0, 0, false);
    fen_buf_put_char(b, '}');
}

/* Those classes of the heap that were ever used. */
static void mem_classes(fen_buf *b, const struct fen__view *v)
{
    bool first = true;
    key(b, "classes", false);
    fen_buf_put_char(b, '[');
    for (uint32_t i = 0; i < FEN_MEM_CLASSES; i++) {
        const fen_mem_class *c = &v->mem_class[i];
        if (!c->refills && !c->spans)
            continue;
        if (!first)
            fen_buf_put_char(b, ',');
        first = false;
        fen_buf_put_char(b, '{');
        number(b, "block_bytes", c->block_bytes, 0, true);
        number(b, "spans", c->spans, 0, false);
        number(b, "partial_spans", c->partial_spans, 0, false);
        number(b, "blocks", c->blocks, 0, false);
        number(b, "out_blocks", c->out_blocks, 0, false);
        number(b, "refills", c->refills, 0, false);
        number(b, "wait_ns", c->wait_ns, 0, false);
        fen_buf_put_char(b, '}');
    }
    fen_buf_put_char(b, ']');
}

/* How the heap is paced; docs/memory.md. */
static void memory(fen_buf *b, const struct fen__view *v)
{
    const fen_mem_pace *p = &v->pace;
    line(b, "memory", false);
    fen_buf_put_char(b, '{');
    number(b, "live_bytes", v->mem.live_bytes, 0, true);
    number(b, "held_bytes", v->mem.held_bytes, 0, false);
    number(b, "retained_bytes", v->mem.retained_bytes, 0, false);
    number(b, "mapped_bytes", v->mem.mapped_bytes, 0, false);
    number(b, "returned_bytes", v->mem.returned_bytes, 0, false);
    known(b, "percent", p->percent, 0, false); /* off: null */
    number(b, "goal_bytes", p->goal_bytes, 0, false);
    number(b, "limit_bytes", p->limit_bytes, 0, false);
    number(b, "pressure", p->level, 0, false);
    number(b, "refused", p->refused, 0, false);
    number(b, "cycles", p->cycles, 0, false);
    number(b, "slices", p->slices, 0, false);
    number(b, "slice_p50_ns", p->slice_p50_ns, 0, false);
    number(b, "slice_p95_ns", p->slice_p95_ns, 0, false);
    number(b, "slice_p99_ns", p->slice_p99_ns, 0, false);
    number(b, "slice_max_ns", p->slice_max_ns, 0, false);
    number(b, "reclaim_cpu_ns", p->cpu_ns, 0, false);
    mem_classes(b, v);
    fen_buf_put_char(b, '}');
}

static void process_and_runtime(fen_buf *b, const struct fen__view *v)
{
    const struct fen__sys_proc *p = &v->proc;
    line(b, "process", false);
    fen_buf_put_char(b, '{');
    known(b, "cpu_seconds", p->cpu_ns, 9, true);
    known(b, "resident_bytes", p->resident_bytes, 0, false);
    known(b, "virtual_bytes", p->virtual_bytes, 0, false);
    known(b, "open_fds", p->open_fds, 0, false);
    known(b, "max_fds", p->max_fds, 0, false);
    known(b, "threads", p->threads, 0, false);
    known(b, "start_unix_seconds", p->start_unix_ms, 3, false);
    fen_buf_put_char(b, '}');
    const fen_stats *s = &v->stats;
    line(b, "runtime", false);
    fen_buf_put_char(b, '{');
    number(b, "fibers_live", s->fibers_live, 0, true);
    number(b, "fibers_spawned", s->fibers_spawned, 0, false);
    number(b, "timers_live", s->timers_live, 0, false);
    number(b, "fds_live", s->fds_live, 0, false);
    number(b, "stacks_mapped_bytes", s->stacks_mapped_bytes, 0, false);
    number(b, "heap_live_bytes", s->heap_live_bytes, 0, false);
    number(b, "steals", s->steals, 0, false);
    number(b, "overflows", s->overflows, 0, false);
    number(b, "handoffs", s->handoffs, 0, false);
    number(b, "handoffs_refused", s->handoffs_refused, 0, false);
    number(b, "switches", s->switches, 0, false);
    number(b, "parks", s->parks, 0, false);
    number(b, "polls", s->polls, 0, false);
    number(b, "poll_events", s->poll_events, 0, false);
    number(b, "wakeups", s->wakeups, 0, false);
    number(b, "threads", s->threads, 0, false);
    number(b, "run_queue", s->run_queue, 0, false);
    number(b, "files_direct", s->files_direct, 0, false);
    number(b, "files_ring", s->files_ring, 0, false);
    number(b, "files_pool", s->files_pool, 0, false);
    number(b, "file_ring", s->file_ring, 0, false);
    fen_buf_put_char(b, '}');
}

/* Seconds below which 95 % of all requests since the start stayed. */
static void latency(fen_buf *b)
{
    struct fen__hist all = {0};
    for (uint32_t op = 0; op < fen__meter_operations(); op++) {
        const struct fen__hist *h = fen__meter_latency_of(op);
        if (h)
            fen__hist_merge(&all, h);
    }
    line(b, "request_latency_p95", false);
    fen__put_scaled(b, fen__hist_quantile(&all, 0.95), 9);
}

/* ---- the bill and the books ---- */

static void bill_line(fen_buf *b, const struct fen__bill_line *l, __int128 fyuan)
{
    fen_buf_put_char(b, '{');
    key(b, "tenant", true);
    text(b, fen__meter_tenant_name(l->tenant));
    key(b, "operation", false);
    text(b, fen__meter_operation_name(l->operation));
    number(b, "requests", l->requests, 0, false);
    number(b, "errors", l->errors, 0, false);
    number(b, "cpu_ns", l->usage.cpu_ns, 0, false);
    number(b, "wait_ns", l->usage.wait_ns, 0, false);
    number(b, "arena_bytes", l->usage.arena_bytes, 0, false);
    number(b, "arena_byte_ns", l->usage.arena_byte_ns, 0, false);
    number(b, "in_bytes", l->usage.in_bytes, 0, false);
    number(b, "out_bytes", l->usage.out_bytes, 0, false);
    number(b, "yuan", fyuan, 15, false);
    /* fyuan x 1e6 stays far inside 128 bits for any sum of money below 1e17 yuan */
    number(b, "yuan_per_million", l->requests > 0 ? fyuan * 1000000 / l->requests : 0, 15, false);
    fen_buf_put_char(b, '}');
}

static void bill(fen_buf *b, const struct fen__view *v)
{
    uint32_t n = v->bill.n;
    __int128 *fyuan = fen__mem_alloc((n + 1) * sizeof *fyuan);
    line(b, "currency", false);
    text(b, v->book.currency);
    line(b, "bill", false);
    if (!fyuan) {
        fen_buf_put_str(b, "null");
        return;
    }
    fen__price_lines(&v->book, v->bill.lines, n, fyuan); /* the lines add up to the total */
    fen_buf_put_char(b, '[');
    for (uint32_t i = 0; i < n; i++) {
        fen_buf_put_str(b, i ? ",\n  " : "\n  ");
        bill_line(b, &v->bill.lines[i], fyuan[i]);
    }
    fen_buf_put_char(b, ']');
    fen__mem_free(fyuan, (n + 1) * sizeof *fyuan);
}

static void name_or_null(fen_buf *b, const char *name, const char *value, bool first)
{
    key(b, name, first);
    if (value)
        text(b, value);
    else
        fen_buf_put_str(b, "null");
}

static void memory_usage(fen_buf *b, const fen_mem_usage *u, bool first)
{
    number(b, "allocated_bytes", u->allocated_bytes, 0, first);
    number(b, "freed_bytes", u->freed_bytes, 0, false);
    number(b, "live_bytes", u->live_bytes, 0, false);
    number(b, "byte_seconds", u->byte_seconds, 0, false);
}

/* Who holds the heap, to the byte: the lines add up to memory_total. */
static void memory_bill(fen_buf *b, const struct fen__view *v)
{
    line(b, "memory_bill", false);
    fen_buf_put_char(b, '[');
    for (uint32_t i = 0; i < v->bill.memory_n; i++) {
        const struct fen__bill_memory *m = &v->bill.memory[i];
        bool pair = m->tenant != UINT32_MAX;
        fen_buf_put_str(b, i ? ",\n  {" : "\n  {");
        name_or_null(b, "tenant", pair ? fen__meter_tenant_name(m->tenant) : NULL, true);
        name_or_null(b, "operation", pair ? fen__meter_operation_name(m->operation) : NULL, false);
        number(b, "account", m->account, 0, false);
        memory_usage(b, &m->usage, false);
        number(b, "peak_bytes", m->usage.peak_bytes, 0, false);
        number(b, "cap_bytes", m->usage.cap_bytes, 0, false);
        fen_buf_put_char(b, '}');
    }
    fen_buf_put_char(b, ']');
    line(b, "memory_total", false);
    fen_buf_put_char(b, '{');
    memory_usage(b, &v->bill.memory_total.usage, true);
    fen_buf_put_char(b, '}');
}

static void books(fen_buf *b, const struct fen__view *v)
{
    const struct fen__books *k = &v->books;
    line(b, "books", false);
    fen_buf_put_char(b, '{');
    number(b, "requests_ns", k->requests_ns, 0, true);
    number(b, "fibers_ns", k->fibers_ns, 0, false);
    number(b, "runtime_ns", k->runtime_ns, 0, false);
    number(b, "unattributed_ns", k->unattributed_ns, 0, false);
    number(b, "thread_cpu_ns", k->thread_cpu_ns, 0, false);
    number(b, "residual_ns", k->residual_ns, 0, false);
    number(b, "residual_share", fen__books_share_ppm(k), 6, false);
    fen_buf_put_char(b, '}');
    line(b, "cost_per_second", false);
    fen_buf_put_char(b, '{');
    number(b, "cpu", v->rate.cpu_fyuan, 15, true);
    number(b, "mem", v->rate.mem_fyuan, 15, false);
    number(b, "req", v->rate.req_fyuan, 15, false);
    number(b, "window_seconds", v->window_ns, 9, false);
    fen_buf_put_char(b, '}');
}

/* ---- resource pools ---- */

static void pool_holder(fen_buf *b, const fen_pool_holder *h, int64_t now_ns)
{
    char bytes[512];
    struct fen__text at = {bytes, 0, sizeof bytes};
    fen_blocking_begin();                            /* it reads the program's file */
    fen__sys_symbol(&at, (const char *)h->site - 1); /* the call, not what follows it */
    fen_blocking_end();
    fen_buf_put_char(b, '{');
    number(b, "fiber", (__int128)h->fiber, 0, true);
    key(b, "name", false);
    text(b, h->name);
    number(b, "held_seconds", now_ns - h->since_ns, 9, false);
    key(b, "taken_at", false);
    fen__put_json_string(b, bytes, at.n);
    fen_buf_put_char(b, '}');
}

static void pool(fen_buf *b, const struct fen__pool_view *p, int64_t now_ns)
{
    const fen_pool_stats *s = &p->stats;
    fen_buf_put_char(b, '{');
    key(b, "name", true);
    text(b, p->name);
    number(b, "max", s->max, 0, false);
    number(b, "lent", s->lent, 0, false);
    number(b, "idle", s->free, 0, false);
    number(b, "waiting", s->waiting, 0, false);
    number(b, "gets", s->gets, 0, false);
    number(b, "waited", s->waited, 0, false);
    number(b, "made", s->made, 0, false);
    number(b, "destroyed", s->destroyed, 0, false);
    number(b, "refused", s->refused, 0, false);
    number(b, "discarded", s->discarded, 0, false);
    number(b, "forgotten", s->forgotten, 0, false);
    number(b, "holders_in_all", p->holders, 0, false);
    key(b, "holders", false);
    fen_buf_put_char(b, '[');
    for (int i = 0; i < p->shown; i++) {
        if (i)
            fen_buf_put_char(b, ',');
        pool_holder(b, &p->holder[i], now_ns);
    }
    fen_buf_put_str(b, "]}");
}

static void pools(fen_buf *b, const struct fen__view *v)
{
    line(b, "pools_in_all", false);
    fen_buf_put_i64(b, v->pools_all);
    line(b, "pools", false);
    fen_buf_put_char(b, '[');
    for (int i = 0; i < v->pools_n; i++) {
        fen_buf_put_str(b, i ? ",\n  " : "\n  ");
        pool(b, &v->pools[i], v->now_ns);
    }
    fen_buf_put_char(b, ']');
}

/* ---- registered variables ---- */

static void variable(fen_buf *b, const struct fen_var *v)
{
    if (!v->hist) {
        fen__var_put_value(b, v, "null");
        return;
    }
    struct fen__hist h = {0};
    fen__hist_merge(&h, v->hist);
    fen_buf_put_char(b, '{');
    number(b, "count", fen__hist_count(&h), 0, true);
    number(b, "sum", h.sum, v->scale, false);
    number(b, "p50", fen__hist_quantile(&h, 0.50), v->scale, false);
    number(b, "p95", fen__hist_quantile(&h, 0.95), v->scale, false);
    number(b, "p99", fen__hist_quantile(&h, 0.99), v->scale, false);
    fen_buf_put_char(b, '}');
}

static void variables(fen_buf *b)
{
    char name[1024]; /* name, braces and labels fit: 127 + 2 + 511 */
    for (const struct fen_var *f = fen__var_first(); f; f = fen__var_next_family(f)) {
        for (const struct fen_var *v = f; v; v = fen__var_next_label(v)) {
            fen_buf full = fen_buf_fixed(name, sizeof name - 1);
            fen_buf_put_str(&full, v->name);
            if (v->labels[0]) {
                fen_buf_put_char(&full, '{');
                fen_buf_put_str(&full, v->labels);
                fen_buf_put_char(&full, '}');
            }
            name[full.n] = 0;
            line(b, name, false);
            variable(b, v);
        }
    }
}

void fen__vars_write(fen_buf *b, const struct fen__view *v)
{
    fen_buf_put_str(b, "{\n");
    cmdline(b, v);
    memstats(b, v);
    memory(b, v);
    line(b, "active_handlers", false);
    fen_buf_put_i64(b, v->bill.handlers);
    line(b, "coroutines", false);
    fen_buf_put_i64(b, v->stats.fibers_live);
    latency(b);
    process_and_runtime(b, v);
    bill(b, v);
    memory_bill(b, v);
    books(b, v);
    pools(b, v);
    variables(b);
    fen_buf_put_str(b, "\n}\n");
}
