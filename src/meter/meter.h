/* meter.h - accounts, the bill and the books, for the rooms above. */
#ifndef FEN_METER_ROOM_H
#define FEN_METER_ROOM_H

#include "base/hist.h"
#include "probe/tally.h"

#include <fen/buf.h>
#include <fen/mem.h>
#include <fen/meter.h>

/* ---- accounts (account.c): who pays ---- */

#define FEN__OPERATIONS_MAX 256  /* route patterns told apart, "_other" included */
#define FEN__OPERATION_BYTES 192 /* of a name, its NUL included */
#define FEN__TENANTS_MAX 250     /* largest max_tenants */
#define FEN__TENANTS_DEFAULT 64
#define FEN__TENANT_BYTES 64 /* of a name */

/* Names that fen gives itself; clients cannot send them. */
enum { FEN__TENANT_OTHER, FEN__TENANT_NONE, FEN__TENANT_INVALID, FEN__TENANT_FIRST };

/* The id of an operation (a route pattern), the same for the same name. At set-up, any thread.
 * Bytes outside printable ASCII become '?'; a name longer than FEN__OPERATION_BYTES - 1 is cut.
 * 0, which is "_other", when FEN__OPERATIONS_MAX are known or memory is short. */
uint32_t fen__meter_operation(const char *name);

/* How many tenants are kept apart, 1 to FEN__TENANTS_MAX: 0 or -EINVAL. Never forgets one that is
 * known: lowering stops new ones only. Any thread. */
int fen__meter_max_tenants(int n) FEN_MUST_CHECK;

/* The account of operation x tenant, for one request. A NULL or empty tenant is "_none"; a name
 * that is not 1 to 64 bytes of [A-Za-z0-9._-], or starts with '_', is "_invalid"; a new name past
 * the bound is "_other". Always < FEN__ROWS_MAX. Any thread; no lock but for the first request of
 * a pair, constant time and no memory for a flood of unknown names. */
uint32_t fen__meter_account(uint32_t op, fen_slice tenant);

/* Adds finished work to an account; the caller runs on the worker of t. */
void fen__meter_settle(struct fen__tally *t, uint32_t account, const struct fen__usage_ticks *u,
                       bool error);

/* Records how long a request of that operation took, first byte in to last byte out. */
void fen__meter_latency(uint32_t op, int64_t ns);

uint32_t fen__meter_accounts(void);   /* known accounts; ids below are valid */
uint32_t fen__meter_operations(void); /* known operations */
uint32_t fen__meter_tenants(void);    /* known tenants, fen's own three included */
uint32_t fen__meter_account_operation(uint32_t account);
uint32_t fen__meter_account_tenant(uint32_t account);
const char *fen__meter_operation_name(uint32_t op);
const char *fen__meter_tenant_name(uint32_t tenant);

/* The live histogram of an operation, NULL if it has none for want of memory. */
const struct fen__hist *fen__meter_latency_of(uint32_t op);

/* ---- the bill (bill.c): what they used ---- */

struct fen__bill_line {
    uint32_t account, operation, tenant; /* UINT32_MAX: all of them */
    int64_t requests, errors;
    fen_usage usage;
};

/* Blocks of the heap that an account has taken. Account 0, _other x _other, has the runtime's own
 * and all that no request pays for as well. */
struct fen__bill_memory {
    uint32_t account, operation, tenant; /* UINT32_MAX: no pair has that account, or all of them */
    fen_mem_usage usage;
};

/* One reading of all accounts. total is the sum of the lines to the last unit; memory_total that of
 * the memory, and its live_bytes are the heap's. Its peak and cap are 0: these do not add up. */
struct fen__bill {
    struct fen__bill_line *lines; /* accounts with work, by id */
    uint32_t n, cap;
    struct fen__bill_line total;
    struct fen__bill_memory *memory; /* accounts that ever had a block, by id */
    uint32_t memory_n, memory_cap;
    struct fen__bill_memory memory_total;
    int64_t handlers; /* that run now */
};

/* Reads every tally and the heap's ledger. 0 or -ENOMEM; free with fen__bill_free. Any thread,
 * does not block. */
int fen__bill_read(struct fen__bill *ret_bill) FEN_MUST_CHECK;
void fen__bill_free(struct fen__bill *b);

/* Adds the lines up by tenant or by operation into ret_lines (UINT32_MAX in the other id): how many
 * lines, at most max. max FEN__TENANTS_MAX + FEN__TENANT_FIRST resp. FEN__OPERATIONS_MAX is
 * enough. */
uint32_t fen__bill_by_tenant(const struct fen__bill *b, struct fen__bill_line *ret_lines,
                             uint32_t max);
uint32_t fen__bill_by_operation(const struct fen__bill *b, struct fen__bill_line *ret_lines,
                                uint32_t max);

/* ---- money (price.c) ---- */

/* Prices lines so that the sum of ret_fyuan is exactly fen_price_of the summed usage: each line is
 * the difference of the rounded running totals, i.e. carries the remainder of those before it.
 * A line so priced may differ by 1 femto-yuan from fen_price_of of it alone. */
void fen__price_lines(const fen_price_book *b, const struct fen__bill_line *lines, uint32_t n,
                      __int128 *ret_fyuan);

/* Appends v / 10^digits exactly: "-0.05", "12", no exponent, no trailing zeros. */
void fen__put_scaled(fen_buf *b, __int128 v, int digits);

/* Yuan per second of a resource held at a constant level, in femto-yuan: cores in CPU nanoseconds
 * per second, memory in bytes, requests per 1,000 seconds. */
struct fen__cost_rate {
    __int128 cpu_fyuan, mem_fyuan, req_fyuan;
};

/* What the process used over a window (cpu_ns and requests) and holds now (mem_bytes): its cost per
 * second, rounded to the nearest femto-yuan. All zero when window_ns <= 0. */
struct fen__cost_rate fen__price_rate(const fen_price_book *b, int64_t window_ns, int64_t cpu_ns,
                                      int64_t mem_bytes, int64_t requests);

/* ---- the books (books.c): does it add up? ---- */

/* requests + fibers + runtime + unattributed = the accounted sum, each signed;
 * residual = thread_cpu (an independent clock) - that sum. */
struct fen__books {
    int64_t requests_ns;     /* settled to accounts */
    int64_t fibers_ns;       /* fibers outside any request, and requests not settled yet */
    int64_t runtime_ns;      /* scheduler, poller, timers */
    int64_t unattributed_ns; /* reconciliation could not place it */
    int64_t thread_cpu_ns;   /* the kernel's figure for the same threads */
    int64_t residual_ns;
};

/* Where an account period begins. */
struct fen__books_mark {
    int64_t process_cpu_ns;
    int64_t requests_ns, fiber_ns, runtime_ns, unattributed_ns;
};

/* Begins a period inside a run. Work that is under way is split at the mark, to the length of the
 * slices that run just then. 0 or -errno of the clock. */
int fen__books_begin(struct fen__books_mark *ret_mark) FEN_MUST_CHECK;

/* Closes the period as of now, in the same run. others_ns is what threads that hold no tally burnt
 * since the mark, as far as known. 0 or -errno of the clock. */
int fen__books_read(const struct fen__books_mark *m, int64_t others_ns,
                    struct fen__books *ret_books) FEN_MUST_CHECK;

/* Fills the residual from the other five fields. */
void fen__books_close(struct fen__books *b);

/* Residual in parts per million of thread CPU, signed; 0 without CPU time. */
int64_t fen__books_share_ppm(const struct fen__books *b);

/* The closing line, without a line end, NUL-terminated and cut to text_bytes (192 is enough):
 * "books: requests 3.201 s + fibers 0.010 s + runtime 0.802 s + unattributed 0.001 s = 4.014 s;
 * thread CPU 4.016 s; residual +0.002 s (+0.05 %)". */
void fen__books_text(const struct fen__books *b, char *ret_text, size_t text_bytes);

#endif
