/* server.c - routes, accepting, the tick, and the drain.
 *
 * Drain, in order, so that no client sees a reset:
 *   1 stopping is set: every reply from now on says Connection: close
 *   2 new handshakes are ignored (the client's next try is refused), what waits in the listen queue
 *     is accepted, then the listener closes
 *   3 GRACE: idle connections may still send a request and get that reply
 *   4 idle connections are shut on our side and read until the peer closes (conn.c)
 *   5 at the drain time-out what is left is cut */
#include "http/server_int.h"

#include "mem/mem.h"
#include "meter/meter.h"
#include "sys/sys.h"

#include <fen/fiber.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#define GRACE_NS (300 * FEN_MS)
#define LAST_STEPS 2 /* for handshakes under way when the listener stops taking new ones */
#define DRAIN_STEP_NS (5 * FEN_MS)
#define ACCEPT_PAUSE_NS (10 * FEN_MS)
#define SPARE_FDS 64 /* descriptors that connections leave to the rest of the process */

static int64_t or_default(int64_t v, int64_t otherwise) { return v ? v : otherwise; }

static void set_defaults(fen_server_config *c)
{
    c->max_header_bytes = (size_t)or_default((int64_t)c->max_header_bytes, 32 << 10);
    c->max_body_bytes = (size_t)or_default((int64_t)c->max_body_bytes, 1 << 20);
    c->max_fields = (int)or_default(c->max_fields, FEN__FIELDS_MAX);
    if (c->max_fields > FEN__FIELDS_MAX)
        c->max_fields = FEN__FIELDS_MAX;
    if (c->max_tenants > FEN__TENANTS_MAX)
        c->max_tenants = FEN__TENANTS_MAX;
    c->header_timeout_ns = or_default(c->header_timeout_ns, 10 * FEN_S);
    c->body_timeout_ns = or_default(c->body_timeout_ns, 30 * FEN_S);
    c->idle_timeout_ns = or_default(c->idle_timeout_ns, 60 * FEN_S);
    c->write_timeout_ns = or_default(c->write_timeout_ns, 30 * FEN_S);
    c->drain_timeout_ns = or_default(c->drain_timeout_ns, 10 * FEN_S);
    int most = fen__sys_fd_limit() - SPARE_FDS;
    if (c->max_connections <= 0 || c->max_connections > most)
        c->max_connections = most > 1 ? most : 1;
}

fen_server *fen_server_new(const fen_server_config *cfg)
{
    fen_server *s = fen__mem_calloc(sizeof *s);
    if (!s)
        return NULL;
    if (cfg)
        s->cfg = *cfg;
    set_defaults(&s->cfg);
    s->limits = (struct fen__http_limits){s->cfg.max_header_bytes, s->cfg.max_fields};
    s->stop_fd = -1;
    s->arena = fen_arena_new();
    /* none asked for leaves them: the admin listener has a server too */
    if (!s->arena || fen__router_init(&s->router, s->arena) ||
        (s->cfg.max_tenants > 0 && fen__meter_max_tenants(s->cfg.max_tenants))) {
        fen_server_free(s);
        return NULL;
    }
    return s;
}

void fen_server_free(fen_server *s)
{
    if (!s)
        return;
    fen_promise(!s->serving, "fen_server_free of a server that still serves");
    fen_arena_free(s->arena);
    fen__mem_free(s->operations, (size_t)s->operations_cap * sizeof *s->operations);
    fen__mem_free(s, sizeof *s);
    fen__work_pool_fini();
}

int fen_route(fen_server *s, const char *pattern, fen_handler fn, void *arg)
{
    if (!fn)
        return -EINVAL;
    if (s->serving)
        return -EBUSY;
    int index = s->router.routes_n;
    if (index >= s->operations_cap) {
        int cap = s->operations_cap ? s->operations_cap * 2 : 32;
        void *p = fen__mem_resize(s->operations, (size_t)s->operations_cap * sizeof(uint32_t),
                                  (size_t)cap * sizeof(uint32_t));
        if (!p)
            return -ENOMEM;
        s->operations = p;
        s->operations_cap = cap;
    }
    int rc = fen__router_add(&s->router, pattern, fn, arg);
    if (!rc)
        s->operations[index] = fen__meter_operation(pattern);
    return rc;
}

/* Sleeps. False: the scope has ended. Where there is no memory for a timer the time passes in turns
 * of the other fibers: what sleeps here must not end before the server does. */
static bool pause_for(int64_t ns)
{
    int64_t until = fen_now() + ns;
    int rc;
    while ((rc = fen_sleep_until(until)) == -ENOMEM && fen_now() < until)
        fen_yield();
    return rc == 0 || rc == -ENOMEM;
}

/* ---- the tick ---- */

static void set_date(fen_server *s)
{
    uint32_t turn = atomic_load_explicit(&s->date_turn, memory_order_relaxed) + 1;
    time_t now = (time_t)(fen__sys_wall_ns() / FEN_S);
    struct tm tm;
    gmtime_r(&now, &tm);
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    snprintf(s->date[turn % FEN__DATES], sizeof s->date[0], "%s, %02d %s %04d %02d:%02d:%02d GMT",
             days[tm.tm_wday % 7], tm.tm_mday % 100, months[tm.tm_mon % 12],
             (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
    atomic_store_explicit(&s->date_turn, turn, memory_order_release);
    atomic_store(&s->now_ns, fen_now());
}

static void each_conn(fen_server *s, void (*fn)(struct fen__conn *c))
{
    struct fen__m *m = fen__enter();
    fen__conn_each(s, fn);
    fen__leave(m);
}

static void tick_main(void *arg)
{
    fen_server *s = arg;
    while (pause_for(FEN__TICK_NS)) {
        set_date(s);
        if (atomic_load(&s->conns))
            each_conn(s, fen__conn_sweep_idle);
    }
}

/* ---- accepting ---- */

static void accept_main(void *arg)
{
    fen_server *s = arg;
    for (;;) {
        if (atomic_load(&s->conns) >= s->cfg.max_connections) {
            if (!pause_for(ACCEPT_PAUSE_NS)) /* the rest waits in the listen queue */
                break;
            continue;
        }
        if (fen_mem_pressure() == FEN_MEM_SHORT && !s->cfg.shed_off && !pause_for(ACCEPT_PAUSE_NS))
            break;
        int fd = fen__net_accept_fd(s->listener, FEN_NEVER);
        bool ended = fd == -ECANCELED || fd == -ETIMEDOUT || fd == -EBADF;
        if (fd >= 0)
            fen__conn_accept(s, fd);
        else if (ended || !pause_for(ACCEPT_PAUSE_NS)) /* short of descriptors: no busy loop */
            break;
    }
}

/* ---- the drain ---- */

static bool drained_by(fen_server *s, int64_t deadline_ns)
{
    while (atomic_load(&s->conns) && fen_now() < deadline_ns)
        if (!pause_for(DRAIN_STEP_NS))
            break;
    return !atomic_load(&s->conns);
}

static void accept_rest(fen_server *s)
{
    int fd;
    while ((fd = fen__net_accept_fd(s->listener, 0)) >= 0)
        fen__conn_accept(s, fd);
}

static void drain(fen_server *s)
{
    int64_t began = fen_now(), end = fen__time_after(began, s->cfg.drain_timeout_ns);
    (void)fen__sys_listen_last(s->listener->fd); /* else who comes just now may meet a reset */
    for (int i = 0; i < LAST_STEPS; i++) {
        accept_rest(s);
        if (!pause_for(DRAIN_STEP_NS))
            break;
    }
    accept_rest(s);
    fen_sock_close(s->listener);
    s->listener = NULL;
    if (drained_by(s, fen__min_i64(began + GRACE_NS, end)))
        return;
    while (atomic_load(&s->conns) && fen_now() < end) {
        each_conn(s, fen__conn_drain_idle);
        drained_by(s, fen__min_i64(fen_now() + 10 * DRAIN_STEP_NS, end));
    }
    while (atomic_load(&s->conns)) { /* handlers that ignore their scope keep us here */
        atomic_store(&s->cutting, true);
        each_conn(s, fen__conn_cut);
        struct fen__m *m = fen__enter();
        fen__conn_wake_cut();
        fen__leave(m);
        drained_by(s, fen_now() + 10 * DRAIN_STEP_NS);
    }
}

/* ---- serving ---- */

static int open_listener(fen_server *s, const char *addr)
{
    int rc = fen_tcp_listen(addr, 0, &s->listener);
    if (rc)
        return rc;
    int fd = fen__sys_eventfd();
    rc = fd < 0 ? fd : fen__sock_wrap(fd, &s->stop_sock);
    if (rc) {
        if (fd >= 0)
            fen__sys_close(fd);
        fen_sock_close(s->listener);
        return rc;
    }
    atomic_store(&s->stop_fd, fd);
    atomic_store(&s->port, fen_sock_port(s->listener));
    return 0;
}

static void wait_for_stop(fen_server *s)
{
    while (!atomic_load(&s->stopping)) {
        struct fen__m *m = fen__enter();
        struct fen__slot *slot = s->stop_sock->slot;
        int rc = fen__wait_slot(slot, fen__slot_gen(slot), FEN__READ, FEN_NEVER);
        fen__leave(fen__self());
        (void)m;
        if (rc)
            break; /* cancelled from above: drain as well */
    }
    atomic_store(&s->stopping, true);
}

int fen_server_serve(fen_server *s, const char *addr)
{
    if (!fen_in_fiber())
        return FEN_ENOTFIBER;
    if (atomic_exchange(&s->serving, true))
        return -EBUSY;
    int rc = open_listener(s, addr);
    if (rc) {
        atomic_store(&s->serving, false);
        return rc;
    }
    s->account = fen_mem_account();
    set_date(s);
    fen_scope *all = fen_scope_open(FEN_NEVER), *accepting = NULL;
    rc = all ? fen_go_named("http tick", 0, tick_main, s) : -ENOMEM;
    if (!rc)
        accepting = fen_scope_open(FEN_NEVER);
    if (!rc)
        rc = accepting ? fen_go_named("http accept", 0, accept_main, s) : -ENOMEM;
    if (!rc) {
        atomic_store(&s->ready, true);
        wait_for_stop(s);
    }
    if (accepting) {
        fen_scope_cancel(accepting);
        (void)fen_scope_close(accepting);
    }
    fen__mask(1); /* the drain goes on even when the run is being cancelled */
    drain(s);
    fen__mask(-1);
    if (all) {
        fen_scope_cancel(all);
        (void)fen_scope_close(all);
    }
    atomic_store(&s->stop_fd, -1);
    while (atomic_load(&s->stoppers)) /* else it would write to whoever gets the number next */
        fen_yield();
    fen_sock_close(s->stop_sock);
    atomic_store(&s->serving, false);
    return rc;
}

void fen_server_stop(fen_server *s)
{
    atomic_store(&s->stopping, true);
    /* Seq_cst on both sides: either fen_server_serve sees the stopper, or the stopper sees -1. */
    atomic_fetch_add(&s->stoppers, 1);
    int fd = atomic_load(&s->stop_fd);
    if (fd >= 0)
        fen__sys_eventfd_signal(fd);
    atomic_fetch_sub(&s->stoppers, 1);
}

int fen_server_port(fen_server *s) { return atomic_load(&s->ready) ? atomic_load(&s->port) : 0; }
