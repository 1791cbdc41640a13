/* bill.c - reads all tallies into one bill.
 *
 * Ticks are added up first and converted once a line, so a line never steps back between readings
 * (a sum of converted parts could). The total is the sum of the converted lines: what is shown adds
 * up. Lines are read before the workers' own totals are (books.c), since work is settled after it
 * has been charged. The heap's ledger has accounts by the same numbers; those that no pair has were
 * set by the program itself (fen_mem_account_set) and are shown without names. */
#include "meter/meter.h"

#include "mem/mem.h"
#include "sys/sys.h"

#include <string.h>

struct sums { /* of one account over all workers, in ticks */
    int64_t requests, errors, cpu, wait, arena, mib, rest, in, out;
};

struct reading {
    struct sums *sums;
    uint32_t n;
    int64_t handlers;
};

static void add_row(struct sums *s, const struct fen__row *r)
{
    s->requests += fen__count_read(&r->requests);
    s->errors += fen__count_read(&r->errors);
    s->cpu += fen__count_read(&r->cpu_ticks);
    s->wait += fen__count_read(&r->wait_ticks);
    s->arena += fen__count_read(&r->arena_bytes);
    s->mib += fen__count_read(&r->arena_mib_ticks);
    s->rest += fen__count_read(&r->arena_rest);
    s->in += fen__count_read(&r->in_bytes);
    s->out += fen__count_read(&r->out_bytes);
}

static void add_tally(const struct fen__tally *t, void *arg)
{
    struct reading *rd = arg;
    rd->handlers += fen__count_read(&t->handlers);
    for (uint32_t at = 0; at < rd->n; at += FEN__ROW_CHUNK) {
        const struct fen__row *rows = fen__tally_chunk(t, at / FEN__ROW_CHUNK);
        for (uint32_t i = 0; rows && i < FEN__ROW_CHUNK && at + i < rd->n; i++)
            add_row(&rd->sums[at + i], &rows[i]);
    }
}

static void add_line(struct fen__bill_line *into, const struct fen__bill_line *l)
{
    into->requests += l->requests;
    into->errors += l->errors;
    into->usage.cpu_ns += l->usage.cpu_ns;
    into->usage.wait_ns += l->usage.wait_ns;
    into->usage.arena_bytes += l->usage.arena_bytes;
    into->usage.arena_byte_ns += l->usage.arena_byte_ns;
    into->usage.in_bytes += l->usage.in_bytes;
    into->usage.out_bytes += l->usage.out_bytes;
}

static bool idle(const struct sums *s)
{
    static const struct sums none;
    return memcmp(s, &none, sizeof none) == 0;
}

static void put_line(struct fen__bill *b, uint32_t account, const struct sums *s)
{
    struct fen__bill_line *l = &b->lines[b->n++];
    *l = (struct fen__bill_line){
        .account = account,
        .operation = fen__meter_account_operation(account),
        .tenant = fen__meter_account_tenant(account),
        .requests = s->requests,
        .errors = s->errors,
        .usage = {.cpu_ns = fen__tsc_to_ns(s->cpu),
                  .wait_ns = fen__tsc_to_ns(s->wait),
                  .arena_bytes = s->arena,
                  .arena_byte_ns =
                      fen__tsc_to_ns_wide(((__int128)s->mib << FEN__MIB_SHIFT) + s->rest),
                  .in_bytes = s->in,
                  .out_bytes = s->out},
    };
    add_line(&b->total, l);
}

/* ---- memory ---- */

struct memory_reading {
    struct fen__bill *b;
    uint32_t known;
};

static void add_memory(uint32_t account, const fen_mem_usage *u, void *arg)
{
    struct memory_reading *rd = arg;
    struct fen__bill *b = rd->b;
    fen_mem_usage *all = &b->memory_total.usage;
    bool pair = account < rd->known;
    b->memory[b->memory_n++] = (struct fen__bill_memory){
        .account = account,
        .operation = pair ? fen__meter_account_operation(account) : UINT32_MAX,
        .tenant = pair ? fen__meter_account_tenant(account) : UINT32_MAX,
        .usage = *u};
    all->allocated_bytes += u->allocated_bytes;
    all->freed_bytes += u->freed_bytes;
    all->live_bytes += u->live_bytes;
    all->byte_seconds += u->byte_seconds;
}

/* The list has room for every account there can be: what is never written to is no memory. */
static int read_memory(struct fen__bill *b)
{
    struct memory_reading rd = {b, fen__meter_accounts()};
    b->memory_total.account = b->memory_total.operation = b->memory_total.tenant = UINT32_MAX;
    b->memory_cap = FEN_MEM_ACCOUNTS;
    b->memory = fen__mem_alloc(b->memory_cap * sizeof *b->memory);
    return b->memory ? fen__mem_usage_each(add_memory, &rd) : -ENOMEM;
}

/* ---- all of it ---- */

int fen__bill_read(struct fen__bill *ret_bill)
{
    struct reading rd = {.n = fen__meter_accounts()};
    struct fen__bill b = {.cap = rd.n};
    b.total.account = b.total.operation = b.total.tenant = UINT32_MAX;
    rd.sums = fen__mem_calloc(rd.n * sizeof *rd.sums);
    b.lines = rd.sums ? fen__mem_alloc(b.cap * sizeof *b.lines) : NULL;
    if (!b.lines || read_memory(&b) < 0) {
        fen__mem_free(rd.sums, rd.sums ? rd.n * sizeof *rd.sums : 0);
        fen__bill_free(&b);
        return -ENOMEM;
    }
    fen__tally_each(add_tally, &rd);
    for (uint32_t i = 0; i < rd.n; i++)
        if (!idle(&rd.sums[i]))
            put_line(&b, i, &rd.sums[i]);
    b.handlers = rd.handlers;
    fen__mem_free(rd.sums, rd.n * sizeof *rd.sums);
    *ret_bill = b;
    return 0;
}

void fen__bill_free(struct fen__bill *b)
{
    fen__mem_free(b->lines, b->lines ? b->cap * sizeof *b->lines : 0);
    fen__mem_free(b->memory, b->memory ? b->memory_cap * sizeof *b->memory : 0);
    *b = (struct fen__bill){0};
}

static uint32_t group(const struct fen__bill *b, bool tenant, struct fen__bill_line *ret_lines,
                      uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct fen__bill_line *l = &b->lines[i];
        struct fen__bill_line key = {.account = UINT32_MAX,
                                     .operation = tenant ? UINT32_MAX : l->operation,
                                     .tenant = tenant ? l->tenant : UINT32_MAX};
        uint32_t at = 0;
        while (at < n &&
               (ret_lines[at].operation != key.operation || ret_lines[at].tenant != key.tenant))
            at++;
        if (at == n) {
            if (n == max)
                continue;
            ret_lines[n++] = key;
        }
        add_line(&ret_lines[at], l);
    }
    return n;
}

uint32_t fen__bill_by_tenant(const struct fen__bill *b, struct fen__bill_line *ret_lines,
                             uint32_t max)
{
    return group(b, true, ret_lines, max);
}

uint32_t fen__bill_by_operation(const struct fen__bill *b, struct fen__bill_line *ret_lines,
                                uint32_t max)
{
    return group(b, false, ret_lines, max);
}
