/* tenant_memory_test.c - whose memory is it? A service with two tenants and several operations,
 * many connections at once: blocks that stay, blocks that others free on other threads, blocks of
 * children and of the pool of threads, requests that fail, that grow their reply, and whose client
 * leaves. When all is quiet each account holds exactly what its requests have not given back, and
 * the accounts together hold what the heap says it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "rig.h"

#include "base/sanitize.h"
#include "meter/meter.h"

#ifdef FEN__ASAN /* blocks are the C library's there, and no row counts them */
static const bool counted = false;
#else
static const bool counted = true;
#endif

enum {
    TENANTS = 2,
    OPERATIONS = 2,
    STASH = 4096,
    CLIENTS = 4,
    ROUNDS = 150,
    TENANTS_MAX = 4,
    OWN_ACCOUNT = 4000, /* no pair has it */
    MANY = 300
};

static const char *const tenant_names[TENANTS] = {"red", "blue"};
static const char *const hold_patterns[OPERATIONS] = {"GET /hold/{n}", "GET /keep/{n}"};

static struct rig rig;
static struct rig_count idle;

/* ---- what the service should be holding ---- */

static struct {
    pthread_mutex_t lock;
    struct {
        void *p;
        int tenant, operation;
    } block[STASH];
    int n;
    int64_t held[TENANTS][OPERATIONS];
} stash = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int stash_add(void *p, int tenant, int operation)
{
    pthread_mutex_lock(&stash.lock);
    bool room = p && stash.n < STASH;
    if (room) {
        stash.block[stash.n].p = p;
        stash.block[stash.n].tenant = tenant;
        stash.block[stash.n++].operation = operation;
        stash.held[tenant][operation] += (int64_t)fen_usable_size(p);
    }
    pthread_mutex_unlock(&stash.lock);
    if (!room)
        fen_free(p);
    return room ? 0 : -ENOMEM;
}

/* The oldest, so that it is another's as a rule. NULL: there is none. */
static void *stash_take(void)
{
    pthread_mutex_lock(&stash.lock);
    void *p = stash.n ? stash.block[0].p : NULL;
    if (p) {
        stash.held[stash.block[0].tenant][stash.block[0].operation] -= (int64_t)fen_usable_size(p);
        memmove(stash.block, stash.block + 1, (size_t)--stash.n * sizeof stash.block[0]);
    }
    pthread_mutex_unlock(&stash.lock);
    return p;
}

/* ---- the service ---- */

static int tenant_of(fen_exchange *x)
{
    fen_slice name = fen_header(x, "X-Tenant");
    return name.n == 3 && !memcmp(name.p, "red", 3) ? 0 : 1;
}

static int done(fen_exchange *x) { return fen_reply(x, 200, "text/plain", FEN_SLICE("ok")); }

struct child {
    int64_t bytes;
    int tenant, operation, rc;
};

static void child_main(void *arg)
{
    struct child *c = arg;
    void *waste = fen_alloc((size_t)c->bytes);
    fen_yield();
    c->rc = stash_add(fen_alloc((size_t)c->bytes), c->tenant, c->operation);
    fen_free(waste);
}

static int on_the_pool(void *arg)
{
    const struct child *c = arg;
    return stash_add(fen_alloc((size_t)c->bytes), c->tenant, c->operation);
}

/* n bytes by the handler, by a child of its own and on a thread of the pool. */
static int hold(fen_exchange *x, void *arg)
{
    int64_t n;
    int rc = fen_path_i64(x, "n", &n);
    struct child c = {n, tenant_of(x), (int)(intptr_t)arg, 0};
    if (!rc)
        rc = stash_add(fen_alloc((size_t)n), c.tenant, c.operation);
    if (!rc)
        rc = fen_blocking(on_the_pool, &c);
    fen_scope *s = rc ? NULL : fen_scope_open(FEN_NEVER);
    if (s) {
        rc = fen_go(child_main, &c);
        int ended = fen_scope_close(s);
        rc = rc ? rc : ended ? ended : c.rc;
    }
    return rc ? rc : done(x);
}

static int give_back(fen_exchange *x, void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) /* a third fewer than a hold adds */
        fen_free(stash_take());
    return done(x);
}

static void nothing(void *arg) { (void)arg; }

/* An arena that outgrows its first block, more scopes and clean-ups than ever before (which are
 * kept for others), then an error. */
static int fail_late(fen_exchange *x, void *arg)
{
    fen_scope *open[MANY];
    int n = 0;
    char *p = fen_arena_alloc(fen_exchange_arena(x), 100000);
    (void)arg;
    for (int i = 0; p && i < 100; i++)
        p = fen_arena_alloc(fen_exchange_arena(x), 1000);
    while (n < MANY && (open[n] = fen_scope_open(FEN_NEVER)))
        n++;
    for (int i = 0; i < n; i++)
        if (fen_defer_dyn(open[n - 1], nothing, &i, sizeof i))
            p = NULL;
    while (n)
        (void)fen_scope_close(open[--n]);
    return p ? -EIO : -ENOMEM;
}

static int large(fen_exchange *x, void *arg)
{
    (void)arg;
    size_t n = 60000;
    char *p = fen_arena_alloc(fen_exchange_arena(x), n);
    if (!p)
        return -ENOMEM;
    memset(p, 'x', n);
    return fen_reply(x, 200, "text/plain", (fen_slice){p, n});
}

static _Atomic int sleeping;

static int slow(fen_exchange *x, void *arg)
{
    (void)arg;
    void *p = fen_alloc(5000);
    atomic_fetch_add(&sleeping, 1);
    int rc = p ? fen_sleep(RIG_WAIT_S * FEN_S) : -ENOMEM;
    fen_free(p);
    atomic_fetch_sub(&sleeping, 1);
    return rc ? rc : done(x);
}

static int who(fen_exchange *x, void *arg)
{
    (void)arg;
    char text[16];
    int n = snprintf(text, sizeof text, "%u", fen_mem_account());
    int rc = fen_reply(x, 200, "text/plain", (fen_slice){text, (size_t)n});
    return rc ? rc : fen_mem_account_set(OWN_ACCOUNT); /* it ends with the request */
}

static int routes(fen_server *s)
{
    int rc = 0;
    for (intptr_t i = 0; !rc && i < OPERATIONS; i++)
        rc = fen_route(s, hold_patterns[i], hold, (void *)i);
    const struct {
        const char *pattern;
        fen_handler fn;
    } rest[] = {{"GET /free", give_back},
                {"GET /fail", fail_late},
                {"GET /large", large},
                {"GET /slow", slow},
                {"GET /who", who}};
    for (size_t i = 0; !rc && i < sizeof rest / sizeof rest[0]; i++)
        rc = fen_route(s, rest[i].pattern, rest[i].fn, NULL);
    return rc;
}

/* ---- the client ---- */

static int request(char *to, size_t cap, const char *path, const char *tenant)
{
    return snprintf(to, cap, "GET %s HTTP/1.1\r\nHost: x\r\nX-Tenant: %s\r\n\r\n", path, tenant);
}

static struct rig_reply ask(int fd, const char *path, const char *tenant)
{
    char text[256];
    rig_send(fd, text, (size_t)request(text, sizeof text, path, tenant));
    return rig_read(fd, true);
}

static uint32_t account_of(const char *operation, const char *tenant)
{
    return fen__meter_account(fen__meter_operation(operation), (fen_slice){tenant, strlen(tenant)});
}

static fen_mem_usage usage(const char *operation, const char *tenant)
{
    fen_mem_usage u;
    assert_int_equal(fen_mem_usage_get(account_of(operation, tenant), &u), 0);
    assert_int_equal(u.allocated_bytes - u.freed_bytes, u.live_bytes);
    return u;
}

static int64_t live(const char *operation, const char *tenant)
{
    return usage(operation, tenant).live_bytes;
}

/* Three requests in one segment, of both tenants and of several operations. */
static void pipelined(int fd, int round)
{
    char text[1024];
    char path[40];
    int n = 0;
    snprintf(path, sizeof path, "/%s/%d", round % 2 ? "hold" : "keep", 100 + round * 37 % 9000);
    n += request(text + n, sizeof text - (size_t)n, path, tenant_names[round % 2]);
    n += request(text + n, sizeof text - (size_t)n, "/large", tenant_names[(round + 1) % 2]);
    n += request(text + n, sizeof text - (size_t)n, "/free", tenant_names[round / 2 % 2]);
    rig_send(fd, text, (size_t)n);
    for (int i = 0; i < 3; i++) {
        int status = rig_read(fd, true).status;
        if (status != 200)
            fail_msg("round %d, reply %d: status %d", round, i, status);
    }
}

static void leave(int round)
{
    char text[256];
    int fd = rig_dial(&rig), was = atomic_load(&sleeping);
    rig_send(fd, text, (size_t)request(text, sizeof text, "/slow", tenant_names[round % 2]));
    for (int i = 0; i < 100 && atomic_load(&sleeping) <= was; i++)
        rig_nap(FEN_MS / 5);
    if (round % 3)
        close(fd);
    else
        rig_reset(fd);
}

static void *client(void *arg)
{
    int first = (int)(intptr_t)arg;
    int fd = rig_dial(&rig);
    for (int i = 0; i < ROUNDS; i++) {
        int round = first + i;
        pipelined(fd, round);
        if (round % 5 == 0 && ask(fd, "/fail", tenant_names[round % 2]).status != 500)
            fail_msg("round %d: it did not fail", round);
        if (round % 7 == 0)
            leave(round);
        if (round % 11 == 0) {
            close(fd);
            fd = rig_dial(&rig);
        }
    }
    close(fd);
    return NULL;
}

/* ---- the tests ---- */

static void all_equals_the_heap(void)
{
    int64_t sum = 0, lines = 0;
    fen_mem_usage u;
    fen_mem_stats s;
    struct fen__bill b;
    fen_mem_stats_get(&s);
    for (uint32_t i = 0; i < FEN_MEM_ACCOUNTS; i++) {
        assert_int_equal(fen_mem_usage_get(i, &u), 0);
        sum += u.live_bytes;
    }
    assert_int_equal(fen__bill_read(&b), 0);
    for (uint32_t i = 0; i < b.memory_n; i++) {
        const struct fen__bill_memory *m = &b.memory[i];
        assert_int_equal(fen_mem_usage_get(m->account, &u), 0);
        if (m->account) /* the bill's own tables are this thread's: account 0's */
            assert_int_equal(m->usage.live_bytes, u.live_bytes);
        lines += m->usage.live_bytes;
    }
    int64_t total = b.memory_total.usage.live_bytes;
    fen__bill_free(&b);
    assert_int_equal(lines, total);
    if (!counted)
        return;
    assert_int_equal(sum, s.live_bytes);
    assert_in_range(total - s.live_bytes, 1, 1 << 20); /* those tables */
}

static void check_held(void)
{
    for (int t = 0; counted && t < TENANTS; t++)
        for (int o = 0; o < OPERATIONS; o++) {
            int64_t have = live(hold_patterns[o], tenant_names[t]);
            if (have != stash.held[t][o])
                fail_msg("%s of %s holds %ld bytes, its blocks are %ld", hold_patterns[o],
                         tenant_names[t], (long)have, (long)stash.held[t][o]);
        }
}

static void check_nothing_else(void)
{
    static const char *const others[] = {"GET /free", "GET /fail", "GET /large", "GET /slow"};
    for (int t = 0; counted && t < TENANTS; t++)
        for (size_t o = 0; o < sizeof others / sizeof others[0]; o++)
            if (live(others[o], tenant_names[t]))
                fail_msg("%s of %s still holds %ld bytes", others[o], tenant_names[t],
                         (long)live(others[o], tenant_names[t]));
}

static void each_account_holds_what_its_requests_left(void **state)
{
    (void)state;
    pthread_t thread[CLIENTS];
    idle = rig_quiet(idle, "before");
    for (intptr_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, client, (void *)(i * 1000)), 0);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(thread[i], NULL);
    (void)rig_settled(idle, "after the clients");
    assert_int_equal(atomic_load(&sleeping), 0); /* all that were left have been cancelled */
    check_held();
    check_nothing_else();
    all_equals_the_heap();
    for (void *p; (p = stash_take());) /* by a thread that is no worker */
        fen_free(p);
    check_held();
    all_equals_the_heap();
    if (counted) {
        assert_true(usage("GET /large", "red").allocated_bytes >= 60000 * ROUNDS);
        assert_true(usage("GET /fail", "blue").peak_bytes >= 200000);
    }
}

static void held_memory_is_charged_by_time(void **state)
{
    (void)state;
    const int64_t bytes = 8000000, three = 3 * bytes;
    int fd = rig_dial(&rig);
    fen_mem_usage was = usage("GET /hold/{n}", "red"), other = usage("GET /hold/{n}", "blue");
    int64_t from = fen_now();
    assert_int_equal(ask(fd, "/hold/8000000", "red").status, 200);
    int64_t at_least = fen_now();
    rig_nap(300 * FEN_MS);
    at_least = fen_now() - at_least;
    for (int i = 0; i < 3; i++)
        fen_free(stash_take());
    int64_t at_most = fen_now() - from;
    close(fd);
    if (!counted)
        return;
    fen_mem_usage now = usage("GET /hold/{n}", "red");
    int64_t took = now.byte_seconds - was.byte_seconds;
    assert_in_range(took, three / 1000 * (at_least / FEN_MS) * 99 / 100,
                    three / 1000 * (at_most / FEN_MS + 1) * 102 / 100);
    assert_true(now.peak_bytes >= three);
    assert_int_equal(now.live_bytes, was.live_bytes);
    assert_int_equal(usage("GET /hold/{n}", "blue").allocated_bytes, other.allocated_bytes);
}

static void a_connection_between_requests_is_the_servers(void **state)
{
    (void)state;
    static char head[12000];
    int fd = rig_dial(&rig);
    for (int i = 0; i < 6; i++) {
        const char *tenant = tenant_names[i % 2];
        struct rig_reply r = ask(fd, "/who", tenant);
        assert_int_equal(r.status, 200);
        assert_int_equal(atol(r.body), account_of("GET /who", tenant));
    }
    fen_mem_usage own, before, stray;
    assert_int_equal(fen_mem_usage_get(0, &before), 0);
    /* a request, and behind it the beginning of a long one */
    int n = request(head, sizeof head, "/who", "red");
    n += snprintf(head + n, sizeof head - (size_t)n, "GET /who HTTP/1.1\r\nHost: x\r\nX-Long: ");
    memset(head + n, 'a', sizeof head - (size_t)n);
    assert_true(rig_send(fd, head, sizeof head));
    assert_int_equal(rig_read(fd, true).status, 200);
    for (int i = 0; counted && i < RIG_WAIT_S * 200; i++) {
        assert_int_equal(fen_mem_usage_get(0, &own), 0);
        if (own.allocated_bytes - before.allocated_bytes >= (int64_t)sizeof head)
            break;
        assert_int_equal(fen_mem_usage_get(OWN_ACCOUNT, &stray), 0);
        assert_int_equal(stray.allocated_bytes, 0);
        rig_nap(5 * FEN_MS);
    }
    if (counted)
        assert_true(own.allocated_bytes - before.allocated_bytes >= (int64_t)sizeof head);
    assert_int_equal(live("GET /who", "red"), 0);
    assert_int_equal(live("GET /who", "blue"), 0);
    rig_say(fd, "\r\n\r\n");
    assert_int_equal(rig_read(fd, true).status, 200);
    /* behind a request of red's in the same segment: a head with more fields than there is room
     * for, whose handler waits */
    n = request(head, sizeof head, "/who", "red");
    n += snprintf(head + n, sizeof head - (size_t)n, "GET /slow HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 60; i++)
        n += snprintf(head + n, sizeof head - (size_t)n, "X-%d: y\r\n", i);
    n += snprintf(head + n, sizeof head - (size_t)n, "X-Tenant: blue\r\n\r\n");
    rig_send(fd, head, (size_t)n);
    for (int i = 0; i < RIG_WAIT_S * 1000 && !atomic_load(&sleeping); i++)
        rig_nap(FEN_MS);
    assert_int_equal(atomic_load(&sleeping), 1);
    if (counted)
        assert_in_range(live("GET /slow", "blue"), 5000, 5632);
    assert_int_equal(live("GET /who", "red"), 0);
    assert_int_equal(fen_mem_usage_get(OWN_ACCOUNT, &stray), 0);
    assert_int_equal(stray.allocated_bytes, 0);
    close(fd);
}

static void a_flood_of_names_makes_no_accounts(void **state)
{
    (void)state;
    struct fen__bill b;
    char name[40];
    int fd = rig_dial(&rig);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "stranger-%d", i);
        assert_int_equal(ask(fd, "/large", name).status, 200);
    }
    close(fd);
    uint32_t of_large = 0, other = account_of("GET /large", "never-seen");
    assert_string_equal(fen__meter_tenant_name(fen__meter_account_tenant(other)), "_other");
    assert_int_equal(fen__bill_read(&b), 0);
    for (uint32_t i = 0; i < b.memory_n; i++)
        of_large += b.memory[i].operation == fen__meter_operation("GET /large");
    fen__bill_free(&b);
    if (!counted)
        return;
    assert_in_range(of_large, 3, TENANTS_MAX + FEN__TENANT_FIRST);
    fen_mem_usage u;
    assert_int_equal(fen_mem_usage_get(other, &u), 0);
    assert_true(u.allocated_bytes >= 60000 * INT64_C(1900));
}

static int start(void **state)
{
    (void)state;
    rig.cfg.max_tenants = TENANTS_MAX;
    rig.routes = routes;
    rig_start(&rig);
    rig_nap(50 * FEN_MS);
    idle = rig_counts();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    rig_stop(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_account_holds_what_its_requests_left),
        cmocka_unit_test(held_memory_is_charged_by_time),
        cmocka_unit_test(a_connection_between_requests_is_the_servers),
        cmocka_unit_test(a_flood_of_names_makes_no_accounts),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
