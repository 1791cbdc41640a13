/* books.c - does the bill add up to what the kernel charged?
 *
 * Left side: the charge protocol's three buckets, summed over all workers; the part of the fibers'
 * bucket that has been settled to accounts is "requests", the rest "fibers". Right side: the
 * process CPU clock since the mark, less threads that are not workers. The residual is the
 * difference of two independent figures and keeps its sign. Rejected: a fifth bucket "other" that
 * makes the sum come out, which would prove nothing.
 *
 * Order of reading: accounts, then buckets, then the clock. Each later one may include a little
 * more time, so a busy process shows a small positive residual, never work that nobody did. */
#include "meter/meter.h"

#include "sched/sched.h"
#include "sys/sys.h"

#include <stdio.h>

struct buckets {
    int64_t requests, fiber, runtime, unattributed; /* ticks */
};

static void add_requests(const struct fen__tally *t, void *arg)
{
    struct buckets *s = arg;
    for (uint32_t c = 0; c < FEN__ROWS_MAX / FEN__ROW_CHUNK; c++) {
        const struct fen__row *rows = fen__tally_chunk(t, c);
        for (uint32_t r = 0; rows && r < FEN__ROW_CHUNK; r++)
            s->requests += fen__count_read(&rows[r].cpu_ticks);
    }
}

static void add_buckets(const struct fen__tally *t, void *arg)
{
    struct buckets *s = arg;
    s->fiber += fen__count_read(&t->fiber_ticks);
    s->runtime += fen__count_read(&t->runtime_ticks);
    s->unattributed += fen__count_read(&t->unattributed_ticks);
}

int fen__books_begin(struct fen__books_mark *ret_mark)
{
    struct buckets s = {0};
    fen__tally_each(add_requests, &s);
    fen__tally_each(add_buckets, &s);
    int64_t cpu = fen__sys_process_cpu();
    if (cpu < 0)
        return (int)cpu;
    *ret_mark = (struct fen__books_mark){
        .process_cpu_ns = cpu,
        .requests_ns = fen__tsc_to_ns(s.requests),
        .fiber_ns = fen__tsc_to_ns(s.fiber),
        .runtime_ns = fen__tsc_to_ns(s.runtime) + fen__monitor_cpu_ns(),
        .unattributed_ns = fen__tsc_to_ns(s.unattributed),
    };
    return 0;
}

int fen__books_read(const struct fen__books_mark *m, int64_t others_ns,
                    struct fen__books *ret_books)
{
    struct fen__books_mark now;
    int rc = fen__books_begin(&now);
    if (rc < 0)
        return rc;
    struct fen__books b = {
        .requests_ns = now.requests_ns - m->requests_ns,
        .runtime_ns = now.runtime_ns - m->runtime_ns,
        .unattributed_ns = now.unattributed_ns - m->unattributed_ns,
        .thread_cpu_ns = now.process_cpu_ns - m->process_cpu_ns - others_ns,
    };
    b.fibers_ns = now.fiber_ns - m->fiber_ns - b.requests_ns;
    fen__books_close(&b);
    *ret_books = b;
    return 0;
}

void fen__books_close(struct fen__books *b)
{
    b->residual_ns =
        b->thread_cpu_ns - b->requests_ns - b->fibers_ns - b->runtime_ns - b->unattributed_ns;
}

int64_t fen__books_share_ppm(const struct fen__books *b)
{
    return b->thread_cpu_ns > 0 ? (int64_t)((__int128)b->residual_ns * 1000000 / b->thread_cpu_ns)
                                : 0;
}

/* Nanoseconds as whole milliseconds, to the nearest, halves away from zero. */
static int64_t to_ms(int64_t ns)
{
    return ns < 0 ? -((-ns + FEN_MS / 2) / FEN_MS) : (ns + FEN_MS / 2) / FEN_MS;
}

/* "-0.004": a milli value with three places, or "-0.05" from hundredths. */
static const char *fixed(int64_t v, int places, bool plus, char room[static 32])
{
    int64_t unit = places == 3 ? 1000 : 100, size = v < 0 ? -v : v;
    snprintf(room, 32, "%s%lld.%0*lld",
             v < 0  ? "-"
             : plus ? "+"
                    : "",
             (long long)(size / unit), places, (long long)(size % unit));
    return room;
}

void fen__books_text(const struct fen__books *b, char *ret_text, size_t text_bytes)
{
    char r[7][32];
    int64_t ppm = fen__books_share_ppm(b);
    int64_t hundredths = ppm < 0 ? -((-ppm + 50) / 100) : (ppm + 50) / 100; /* of a per cent */
    int64_t sum = b->thread_cpu_ns - b->residual_ns;
    snprintf(ret_text, text_bytes,
             "books: requests %s s + fibers %s s + runtime %s s + unattributed %s s = %s s; "
             "thread CPU %s s; residual %s s",
             fixed(to_ms(b->requests_ns), 3, false, r[0]),
             fixed(to_ms(b->fibers_ns), 3, false, r[1]),
             fixed(to_ms(b->runtime_ns), 3, false, r[2]),
             fixed(to_ms(b->unattributed_ns), 3, false, r[3]), fixed(to_ms(sum), 3, false, r[4]),
             fixed(to_ms(b->thread_cpu_ns), 3, false, r[5]),
             fixed(to_ms(b->residual_ns), 3, true, r[6]));
    size_t n = 0;
    while (n < text_bytes && ret_text[n])
        n++;
    if (n < text_bytes)
        snprintf(ret_text + n, text_bytes - n, " (%s %%)", fixed(hundredths, 2, true, r[0]));
}
