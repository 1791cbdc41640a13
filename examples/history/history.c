/* history.c - a handler that holds too much memory while it waits, and the same handler mended:
 * docs/heap-profile.md finds the difference with the heap profile.
 *
 * GET /before/{id} and GET /after/{id} answer with the last ROWS movements of an account. The rows
 * come from one back end, the rate of exchange from another, which takes WAIT_NS; both are played
 * here, so that the program runs alone.
 *
 *     build/release/example_history [HTTP-ADDRESS [ADMIN-ADDRESS]] */
#include <fen/fen.h>

#include <stdio.h>
#include <string.h>

#define ROWS 40
#define WAIT_NS (50 * FEN_MS)

/* ---- the back ends ---- */

/* A row as it comes over the wire. */
static void fetch_row(int64_t id, int i, char *to, size_t bytes)
{
    snprintf(to, bytes, "%d;payee %d of %d;invoice %d, thank you;%d", i, i, (int)id, 1000 + i,
             (int)(id * 31 + i * 977) % 100000);
}

static int fetch_rate(void) { return fen_sleep(WAIT_NS); }

/* The n-th field, from 0; rows are known to have four. */
static fen_slice field(const char *row, int n)
{
    for (; n; n--)
        row = strchr(row, ';') + 1;
    return (fen_slice){row, strcspn(row, ";")};
}

/* ---- before: a record has room for the longest of everything ---- */

struct wide_row {
    char number[32], payee[512], note[1024], cents[32];
};

static void copy_field(char *to, size_t bytes, fen_slice f)
{
    size_t n = f.n < bytes - 1 ? f.n : bytes - 1;
    memcpy(to, f.p, n);
    memset(to + n, 0, bytes - n); /* as strncpy does */
}

/* Not inlined, so that the profile can name it. */
__attribute__((noinline)) static struct wide_row *new_row(int64_t id, int i)
{
    char wire[256];
    struct wide_row *r = fen_alloc(sizeof *r);
    if (!r)
        return NULL;
    fetch_row(id, i, wire, sizeof wire);
    copy_field(r->number, sizeof r->number, field(wire, 0));
    copy_field(r->payee, sizeof r->payee, field(wire, 1));
    copy_field(r->note, sizeof r->note, field(wire, 2));
    copy_field(r->cents, sizeof r->cents, field(wire, 3));
    return r;
}

static int put_wide(fen_buf *b, struct wide_row *const *rows, int n)
{
    for (int i = 0; i < n; i++) {
        fen_buf_put_str(b, rows[i]->payee);
        fen_buf_put_str(b, ": ");
        fen_buf_put_str(b, rows[i]->cents);
        fen_buf_put_str(b, "\n");
    }
    return b->err;
}

static int before(fen_exchange *x, void *arg)
{
    struct wide_row *rows[ROWS];
    int64_t id = 0;
    int n = 0, rc = fen_path_i64(x, "id", &id);
    (void)arg;
    while (!rc && n < ROWS) {
        rows[n] = new_row(id, n);
        rc = rows[n] ? 0 : -ENOMEM;
        n += !rc;
    }
    rc = rc ? rc : fetch_rate();
    fen_buf b = fen_buf_arena(fen_exchange_arena(x));
    rc = rc ? rc : put_wide(&b, rows, n);
    rc = rc ? rc : fen_reply(x, 200, "text/plain", fen_buf_slice(&b));
    while (n)
        fen_free(rows[--n]);
    return rc;
}

/* ---- after: as many bytes as there are, in the request's arena ---- */

struct row {
    fen_slice payee, cents;
};

static int take_row(fen_arena *a, int64_t id, int i, struct row *ret_row)
{
    char wire[256];
    fetch_row(id, i, wire, sizeof wire);
    fen_slice payee = field(wire, 1), cents = field(wire, 3);
    char *p = fen_arena_alloc(a, payee.n + cents.n);
    if (!p)
        return -ENOMEM;
    memcpy(p, payee.p, payee.n);
    memcpy(p + payee.n, cents.p, cents.n);
    *ret_row = (struct row){{p, payee.n}, {p + payee.n, cents.n}};
    return 0;
}

static int put_rows(fen_buf *b, const struct row *rows, int n)
{
    for (int i = 0; i < n; i++) {
        fen_buf_put(b, rows[i].payee.p, rows[i].payee.n);
        fen_buf_put_str(b, ": ");
        fen_buf_put(b, rows[i].cents.p, rows[i].cents.n);
        fen_buf_put_str(b, "\n");
    }
    return b->err;
}

static int after(fen_exchange *x, void *arg)
{
    struct row rows[ROWS];
    int64_t id = 0;
    int n = 0, rc = fen_path_i64(x, "id", &id);
    (void)arg;
    for (; !rc && n < ROWS; n++)
        rc = take_row(fen_exchange_arena(x), id, n, &rows[n]);
    rc = rc ? rc : fetch_rate();
    fen_buf b = fen_buf_arena(fen_exchange_arena(x));
    rc = rc ? rc : put_rows(&b, rows, n);
    return rc ? rc : fen_reply(x, 200, "text/plain", fen_buf_slice(&b));
}

/* ---- the service ---- */

static int app(void *arg)
{
    const char *const *addr = arg;
    fen_server *s = fen_server_new(NULL);
    if (!s)
        return -ENOMEM;
    int rc = fen_route(s, "GET /before/{id}", before, NULL);
    rc = rc ? rc : fen_route(s, "GET /after/{id}", after, NULL);
    rc = rc ? rc
            : fen_server_run(
                  s, &(fen_service_config){.addr = addr[0], .admin_addr = addr[1], .quiet = true});
    fen_server_free(s);
    return rc;
}

int main(int argc, char **argv)
{
    const char *addr[] = {argc > 1 ? argv[1] : ":8080", argc > 2 ? argv[2] : NULL};
    int rc = fen_run(app, addr, NULL);
    if (rc < 0)
        fprintf(stderr, "history: %s\n", fen_strerror(rc));
    return rc ? 1 : 0;
}
