/* price.c - from resources to money, in integers.
 *
 * An amount is a whole number of femto-yuan plus a remainder over DEN; the three components are
 * brought to that denominator, so a sum is exact and is rounded once. DEN = 1e9 bytes per GB x
 * 3.6e12 nanoseconds per hour.
 *
 *   cpu:  ns x price / 3.6e12                  remainder x 1e9 over DEN
 *   mem:  byte_ns x price / (1e9 x 3.6e12)     remainder over DEN
 *   req:  n x price / 1000                     remainder x 3.6e18 over DEN
 *
 * Rows that must add up to their total carry the remainder: a row is the difference between two
 * rounded running totals. Rejected: rounding rows alone (thousands of rows drift apart from the
 * total), and largest remainder (needs a sort and moves amounts between distant rows). */
#include "meter/meter.h"

#define NS_PER_HOUR INT64_C(3600000000000)
#define BYTES_PER_GB INT64_C(1000000000)
#define DEN ((__int128)NS_PER_HOUR * BYTES_PER_GB)
#define I128_MAX ((__int128)(((unsigned __int128)1 << 127) - 1))
#define I128_MIN (-I128_MAX - 1)

/* whole + part / DEN, 0 <= part < DEN. */
struct exact {
    __int128 whole, part;
};

static __int128 add_saturated(__int128 a, __int128 b)
{
    __int128 sum;
    if (!__builtin_add_overflow(a, b, &sum))
        return sum;
    return b > 0 ? I128_MAX : I128_MIN;
}

/* a / b rounded down, and what is left; b > 0. */
static __int128 div_down(__int128 a, __int128 b, __int128 *ret_rest)
{
    __int128 q = a / b, r = a % b;
    if (r < 0) {
        r += b;
        q--;
    }
    *ret_rest = r;
    return q;
}

static void add_exact(struct exact *e, __int128 whole, __int128 part)
{
    e->whole = add_saturated(e->whole, whole);
    e->part += part;
    if (e->part >= DEN) {
        e->part -= DEN;
        e->whole = add_saturated(e->whole, 1);
    }
}

static void add_cpu(struct exact *e, int64_t ns, int64_t price)
{
    __int128 rest, q = div_down((__int128)ns * price, NS_PER_HOUR, &rest);
    add_exact(e, q, rest * BYTES_PER_GB);
}

/* In two steps, for byte_ns x price does not fit: (g + s / 1e9) x price / 3.6e12. */
static void add_mem(struct exact *e, __int128 byte_ns, int64_t price)
{
    __int128 s, low, rest, product;
    __int128 g = div_down(byte_ns, BYTES_PER_GB, &s);
    if (__builtin_mul_overflow(g, (__int128)price, &product))
        product = g > 0 ? I128_MAX : I128_MIN;
    product = add_saturated(product, div_down(s * price, BYTES_PER_GB, &low));
    __int128 q = div_down(product, NS_PER_HOUR, &rest);
    add_exact(e, q, rest * BYTES_PER_GB + low);
}

static void add_requests(struct exact *e, int64_t n, int64_t price)
{
    __int128 rest, q = div_down((__int128)n * price, 1000, &rest);
    add_exact(e, q, rest * (DEN / 1000));
}

static void add_usage(struct exact *e, const fen_price_book *b, const fen_usage *u,
                      int64_t requests)
{
    add_cpu(e, u->cpu_ns, b->cpu_core_hour_fyuan);
    add_mem(e, u->arena_byte_ns, b->mem_gb_hour_fyuan);
    if (b->request_on)
        add_requests(e, requests, b->request_1000_fyuan);
}

static __int128 rounded(const struct exact *e)
{
    return add_saturated(e->whole, 2 * e->part >= DEN);
}

__int128 fen_price_of(const fen_price_book *b, const fen_usage *u, int64_t requests)
{
    struct exact e = {0};
    add_usage(&e, b, u, requests);
    return rounded(&e);
}

void fen__price_lines(const fen_price_book *b, const struct fen__bill_line *lines, uint32_t n,
                      __int128 *ret_fyuan)
{
    struct exact e = {0};
    __int128 before = 0;
    for (uint32_t i = 0; i < n; i++) {
        add_usage(&e, b, &lines[i].usage, lines[i].requests);
        __int128 now = rounded(&e);
        ret_fyuan[i] = now - before;
        before = now;
    }
}

/* v per window -> per second, nearest, halves up. */
static __int128 per_second(const struct exact *e, int64_t window_ns)
{
    /* whole x 1e9 fits: a window's cost is far below 1e29 femto-yuan */
    __int128 v;
    if (__builtin_mul_overflow(e->whole, (__int128)FEN_S, &v))
        return I128_MAX;
    v = add_saturated(v, e->part / (DEN / FEN_S));
    __int128 rest, q = div_down(v, window_ns, &rest);
    return q + (2 * rest >= window_ns);
}

struct fen__cost_rate fen__price_rate(const fen_price_book *b, int64_t window_ns, int64_t cpu_ns,
                                      int64_t mem_bytes, int64_t requests)
{
    struct fen__cost_rate r = {0};
    if (window_ns <= 0)
        return r;
    struct exact cpu = {0}, mem = {0}, req = {0};
    add_cpu(&cpu, cpu_ns, b->cpu_core_hour_fyuan);
    r.cpu_fyuan = per_second(&cpu, window_ns);
    add_mem(&mem, (__int128)mem_bytes * FEN_S, b->mem_gb_hour_fyuan); /* held for one second */
    r.mem_fyuan = rounded(&mem);
    if (b->request_on) {
        add_requests(&req, requests, b->request_1000_fyuan);
        r.req_fyuan = per_second(&req, window_ns);
    }
    return r;
}

void fen__put_scaled(fen_buf *b, __int128 v, int digits)
{
    char text[64];
    size_t at = sizeof text;
    unsigned __int128 left = v < 0 ? 0 - (unsigned __int128)v : (unsigned __int128)v;
    bool significant = false;
    for (int i = 0; i < digits; i++, left /= 10) {
        significant |= left % 10 != 0;
        if (significant)
            text[--at] = (char)('0' + (int)(left % 10));
    }
    if (significant)
        text[--at] = '.';
    do
        text[--at] = (char)('0' + (int)(left % 10));
    while (left /= 10);
    if (v < 0)
        text[--at] = '-';
    fen_buf_put(b, text + at, sizeof text - at);
}
