/* service.c - what a service needs around its server: signals, the admin listener, the last bill.
 *
 * This is where library code may print and look at the process: everything below returns. */
#include "base/sanitize.h"
#include "svc/svc_int.h"

#include "mem/mem.h"
#include "sched/sched.h"
#include "sys/sys.h"

#include <fen/err.h>
#include <fen/fiber.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ADMIN_ADDR "127.0.0.1:6060"
#define READY_STEP_NS (FEN_MS / 5)
/* TSan keeps a signal back until the thread leaves the kernel, and a restarted futex wait of the
 * main thread never does. */
#ifdef FEN__TSAN
#define RESTART 0
#else
#define RESTART SA_RESTART
#endif

static struct fen__service *_Atomic running;
static _Atomic int handling; /* signal handlers that may hold `running` */

static void on_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&handling, 1);
    struct fen__service *v = atomic_load(&running);
    if (v) { /* both are signal-safe: an atomic store and a write to an eventfd */
        fen_server_stop(v->server);
        if (v->admin)
            fen_server_stop(v->admin);
    }
    atomic_fetch_sub(&handling, 1);
}

static void catch_signals(struct fen__service *v)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = RESTART};
    sigemptyset(&sa.sa_mask);
    atomic_store(&running, v);
    sigaction(SIGTERM, &sa, &v->old_term);
    sigaction(SIGINT, &sa, &v->old_int);
}

static void release_signals(struct fen__service *v)
{
    sigaction(SIGTERM, &v->old_term, NULL);
    sigaction(SIGINT, &v->old_int, NULL);
    atomic_store(&running, NULL);
    while (atomic_load(&handling)) /* on some thread, between two lines of on_signal */
        fen_yield();
}

static int refuse(const char *what, const char *addr, int rc)
{
    const char *hint = rc == -EINVAL ? "; expected 127.0.0.1:80, [::1]:80, localhost:80, "
                                       "unix:/a/path or, for every address, :80"
                                     : "";
    fprintf(stderr, "fen: cannot listen on %s (%s): %s%s\n", addr, what, fen_strerror(rc), hint);
    return rc;
}

/* Runs until the main server has stopped; its own failure stops the main one. */
static void admin_main(void *arg)
{
    struct fen__service *v = arg;
    int rc = fen_server_serve(v->admin, v->admin_addr);
    v->admin_rc = rc;
    atomic_store(&v->admin_done, true);
}

static int start_admin(struct fen__service *v)
{
    v->admin = fen__admin_new(v);
    if (!v->admin)
        return -ENOMEM;
    int rc = fen_go_named("admin", 0, admin_main, v);
    if (rc)
        return rc;
    while (!fen_server_port(v->admin) && !atomic_load(&v->admin_done))
        if (fen_sleep(READY_STEP_NS))
            break;
    if (!fen_server_port(v->admin) && v->admin_rc)
        return refuse("admin", v->admin_addr, v->admin_rc);
    return 0;
}

static void host_of(const char *addr, char *out, size_t n)
{
    const char *colon = strrchr(addr, ':');
    int len = colon ? (int)(colon - addr) : 0;
    snprintf(out, n, "%.*s", len ? len : 7, len ? addr : "0.0.0.0");
}

/* Prints the address once the server listens. */
static void announce_main(void *arg)
{
    struct fen__service *v = arg;
    while (!fen_server_port(v->server) && !atomic_load(&v->main_done))
        if (fen_sleep(READY_STEP_NS))
            return;
    if (!fen_server_port(v->server))
        return;
    char host[80];
    host_of(v->cfg.addr, host, sizeof host);
    printf("listening on %s:%d\n", host, fen_server_port(v->server));
    if (v->admin) {
        host_of(v->admin_addr, host, sizeof host);
        printf(
            "admin on %s:%d (/metrics, /debug/vars, /debug/memory, /debug/pprof/heap, /healthz)\n",
            host, fen_server_port(v->admin));
    }
    fflush(stdout);
}

static int serve(struct fen__service *v)
{
    int rc = fen_go_named("announce", 0, announce_main, v);
    if (rc)
        return rc;
    rc = fen_server_serve(v->server, v->cfg.addr);
    atomic_store(&v->main_done, true);
    return rc ? refuse("service", v->cfg.addr, rc) : 0;
}

int fen_server_run(fen_server *s, const fen_service_config *cfg)
{
    if (!s)
        return -EINVAL;
    if (!cfg || !cfg->addr)
        return refuse("service", "no address", -EINVAL);
    if (!fen_in_fiber())
        return FEN_ENOTFIBER;
    struct fen__service *v = fen__mem_calloc(sizeof *v);
    if (!v)
        return -ENOMEM;
    v->server = s;
    v->cfg = *cfg;
    v->admin_addr = cfg->admin_addr ? cfg->admin_addr : ADMIN_ADDR;
    v->start_ns = fen_now();
    int rc = fen__books_begin(&v->mark);
    fen_scope *scope = rc ? NULL : fen_scope_open(FEN_NEVER);
    if (!rc && !scope)
        rc = -ENOMEM;
    if (!rc && v->admin_addr[0])
        rc = start_admin(v);
    if (!rc) {
        catch_signals(v);
        rc = serve(v);
        release_signals(v);
    }
    if (v->admin)
        fen_server_stop(v->admin);
    if (scope)
        (void)fen_scope_close(scope);
    if (!rc && !cfg->quiet)
        fen__print_closing(v);
    fen_server_free(v->admin);
    fen__mem_free(v, sizeof *v);
    return rc;
}
