/* process.c - child processes: a pidfd and up to three pipes in the poller.
 *
 *   running --- reap (wait, close) ---> ended: status kept, pidfd and number no longer meant
 *
 * lock covers the step from running to ended and every use of the number for a group: a group's
 * number belongs to us until its leader is reaped, and to anybody after. The host may reap it
 * behind our back (waitpid(-1)), so the pidfd is asked before each use; only who reaps between the
 * two can still mislead us. Everything else goes by pidfd, which never means another process. */
#include "net/net.h"

#include "mem/mem.h"
#include "sched/sched.h"
#include "sync/sync.h"
#include "sys/process.h"
#include "sys/sys.h"

#include <fen/process.h>

#include <fen/fiber.h>
#include <signal.h>

struct end {
    int fd; /* -1: none */
    struct fen__slot *slot;
};

struct fen_process {
    int pid;
    bool group;
    uint32_t lock;
    bool ended;
    int ended_rc; /* 0: status is how; -ECHILD: somebody else has reaped it */
    fen_process_status status;
    struct end pidfd, io[3];
};

/* ---- ends: a descriptor and its slot ---- */

static int end_open(struct end *e, int fd)
{
    static _Atomic uint32_t shard;
    fen__fd_new(fd);
    int rc = fen__poll_open(fd, shard++, &e->slot);
    if (!rc)
        e->fd = fd;
    return rc;
}

static void end_close(struct end *e)
{
    if (e->fd < 0)
        return;
    struct fen__m *m = fen__enter_any();
    fen__close_slot(e->slot);
    fen__leave_any(m);
    fen__sys_close(e->fd);
    e->fd = -1;
}

/* RT. Waits unless the limits say otherwise. */
static int end_wait(struct fen__slot *s, uint32_t gen, enum fen__dir d, int64_t deadline_ns)
{
    int rc = fen__limit_rc(fen__cur(fen__self()));
    return rc ? rc : fen__wait_slot(s, gen, d, deadline_ns);
}

/* ---- opening ---- */

/* What a stream of the child is, in our numbers; ours: the end we keep, or -1. */
struct plan {
    int theirs, ours;
    bool close_theirs;
};

static int plan_one(const fen_process_stream *s, int i, const struct plan *out, struct plan *ret)
{
    int fds[2], rc;
    *ret = (struct plan){i, -1, false};
    switch (s->how) {
    case FEN_IO_INHERIT: return 0;
    case FEN_IO_FD: ret->theirs = s->fd; return s->fd < 0 ? -EBADF : 0;
    case FEN_IO_STDOUT:
        if (i != 2)
            return -EINVAL;
        ret->theirs = out->theirs;
        return 0;
    case FEN_IO_NULL:
        ret->theirs = fen__sys_open_null();
        ret->close_theirs = ret->theirs >= 0;
        return ret->theirs < 0 ? ret->theirs : 0;
    case FEN_IO_PIPE:
        rc = fen__sys_child_pipe(i == 0, fds);
        if (rc)
            return rc;
        *ret = (struct plan){fds[i != 0], fds[i == 0], true};
        return 0;
    default: return -EINVAL;
    }
}

/* Everything that is still in the plan is closed. */
static void plan_drop(struct plan *plan, bool ours)
{
    for (int i = 0; i < 3; i++) {
        if (plan[i].close_theirs)
            fen__sys_close(plan[i].theirs);
        plan[i].close_theirs = false;
        if (ours && plan[i].ours >= 0)
            fen__sys_close(plan[i].ours);
    }
}

/* Registers what is ours; each descriptor leaves the plan as it becomes an end of p. */
static int adopt(fen_process *p, int pidfd, struct plan *plan)
{
    int rc = end_open(&p->pidfd, pidfd);
    if (rc)
        fen__sys_child_abandon(pidfd);
    for (int i = 0; i < 3 && !rc; i++)
        if (plan[i].ours >= 0 && !(rc = end_open(&p->io[i], plan[i].ours)))
            plan[i].ours = -1;
    return rc;
}

static int start(fen_process *p, const fen_process_config *cfg, struct plan *plan)
{
    int rc = 0, pidfd = -1;
    for (int i = 0; i < 3 && !rc; i++)
        rc = plan_one(&cfg->io[i], i, &plan[1], &plan[i]);
    if (rc)
        return rc;
    struct fen__sys_child how = {.file = cfg->file ? cfg->file : cfg->argv[0],
                                 .argv = cfg->argv,
                                 .env = cfg->env,
                                 .cwd = cfg->cwd,
                                 .fd = {plan[0].theirs, plan[1].theirs, plan[2].theirs},
                                 .group = cfg->group};
    fen_blocking_begin();
    rc = fen__sys_child_start(&how, &p->pid, &pidfd);
    fen_blocking_end();
    plan_drop(plan, false);
    if (rc)
        return rc;
    return adopt(p, pidfd, plan);
}

int fen_process_open(const fen_process_config *cfg, fen_process **ret_process)
{
    struct plan plan[3] = {{0, -1, false}, {1, -1, false}, {2, -1, false}};
    if (!cfg || !cfg->argv || !cfg->argv[0])
        return -EINVAL;
    if (fen__forked)
        return FEN_EFORKED;
    if (!fen_procs())
        return FEN_ENOTFIBER;
    int rc = fen_in_fiber() ? fen_scope_check(NULL) : 0;
    if (rc)
        return rc;
    fen_process *p = fen__mem_calloc(sizeof *p);
    if (!p)
        return -ENOMEM;
    p->pidfd.fd = p->io[0].fd = p->io[1].fd = p->io[2].fd = -1;
    p->group = cfg->group;
    rc = start(p, cfg, plan);
    if (rc) {
        plan_drop(plan, true);
        if (p->pidfd.fd < 0)
            p->ended = true; /* there is no child */
        fen_process_close(p);
        return rc;
    }
    *ret_process = p;
    return 0;
}

int fen_process_pid(const fen_process *p) { return p->pid; }

/* ---- waiting and killing ---- */

/* 0: it has ended. -EAGAIN: it runs. -ECHILD: ended, and nobody knows how. RT. */
static int reap(fen_process *p)
{
    fen__lock(&p->lock);
    int rc = p->ended ? p->ended_rc
                      : fen__sys_child_reap(p->pidfd.fd, &p->status.code, &p->status.signal);
    if (!rc || rc == -ECHILD) {
        p->ended = true;
        p->ended_rc = rc;
    }
    fen__unlock(&p->lock);
    return rc;
}

/* RT. Likewise for the child, which may run still. */
static int await_exit(const fen_process *p, int64_t deadline_ns)
{
    struct fen__slot *s = p->pidfd.slot;
    int rc = fen__limit_rc(fen__cur(fen__self()));
    return rc ? rc : fen__wait_pidfd(s, fen__slot_gen(s), p->pid, deadline_ns);
}

int fen_process_wait(fen_process *p, int64_t deadline_ns, fen_process_status *ret_status)
{
    struct fen__m *m = fen__enter_wait();
    if (!m)
        return fen__enter_rc();
    int rc, ended = 0;
    do {
        if (p->pidfd.fd >= 0)
            fen__slot_clear(p->pidfd.slot, FEN__READ);
        rc = reap(p);
        if (rc == -EAGAIN)
            ended = await_exit(p, deadline_ns);
    } while (rc == -EAGAIN && !ended);
    if (!rc && ret_status)
        *ret_status = p->status;
    fen__leave_wait(fen__self());
    return ended ? ended : rc;
}

/* Not to a group whose leader somebody else has reaped: its number may be anybody's by now. */
static int group_kill(const fen_process *p, int signal)
{
    int rc = fen__sys_child_look(p->pidfd.fd);
    return rc == -ECHILD ? -ESRCH : rc ? rc : fen__sys_group_kill(p->pid, signal);
}

int fen_process_kill(fen_process *p, int signal)
{
    struct fen__m *m = fen__enter_any();
    fen__lock(&p->lock);
    int rc = p->ended   ? -ESRCH
             : p->group ? group_kill(p, signal)
                        : fen__sys_child_kill(p->pidfd.fd, signal);
    fen__unlock(&p->lock);
    fen__leave_any(m);
    return rc;
}

/* ---- the pipes ---- */

ssize_t fen_process_read(fen_process *p, int stream, void *buf, size_t n, int64_t deadline_ns)
{
    if (stream < 1 || stream > 2 || p->io[stream].fd < 0)
        return -EBADF;
    if (!fen__enter_wait())
        return fen__enter_rc();
    struct end *e = &p->io[stream];
    uint32_t gen = fen__slot_gen(e->slot);
    ssize_t got;
    int rc = 0;
    do {
        fen__slot_clear(e->slot, FEN__READ);
        got = fen__sys_read(e->fd, buf, n);
        if (got == -EAGAIN)
            rc = end_wait(e->slot, gen, FEN__READ, deadline_ns);
    } while ((got == -EAGAIN && !rc) || got == -EINTR);
    if (got > 0)
        fen__cur(fen__self())->in_bytes += got;
    fen__leave_wait(fen__self());
    return rc ? rc : got;
}

ssize_t fen_process_write(fen_process *p, const void *buf, size_t n, int64_t deadline_ns)
{
    struct end *e = &p->io[0];
    if (e->fd < 0)
        return -EBADF;
    if (!fen__enter_wait())
        return fen__enter_rc();
    uint32_t gen = fen__slot_gen(e->slot);
    size_t done = 0;
    int rc = 0;
    while (done < n && !rc) {
        fen__slot_clear(e->slot, FEN__WRITE);
        ssize_t put = fen__sys_write_quiet(e->fd, (const char *)buf + done, n - done);
        if (put > 0) {
            done += (size_t)put;
            fen__cur(fen__self())->out_bytes += put;
        } else if (put == -EAGAIN) {
            rc = end_wait(e->slot, gen, FEN__WRITE, deadline_ns);
        } else if (put != -EINTR) {
            rc = (int)put;
        }
    }
    fen__leave_wait(fen__self());
    return rc ? rc : (ssize_t)n;
}

void fen_process_close_input(fen_process *p) { end_close(&p->io[0]); }

/* ---- closing ---- */

/* Waits for the end whatever the limits say. RT inside. */
static void see_it_end(fen_process *p)
{
    int rc = -EAGAIN;
    while (rc == -EAGAIN || rc == -ETIMEDOUT || rc == -ECANCELED || rc == -ENOMEM) {
        if (!fen__enter_wait()) { /* as many threads wait as may: sleep and look again */
            rc = reap(p);
            if (rc == -EAGAIN)
                fen__sys_nap(FEN_MS);
            continue;
        }
        struct fen__g *g = fen__cur(fen__self());
        g->mask++;
        fen__slot_clear(p->pidfd.slot, FEN__READ);
        rc = reap(p);
        if (rc == -EAGAIN)
            rc = await_exit(p, FEN_NEVER);
        if (!rc && !p->ended)
            rc = -EAGAIN;
        g->mask--;
        fen__leave_wait(fen__self());
    }
}

void fen_process_close(fen_process *p)
{
    if (!p)
        return;
    if (!p->ended) {
        fen_process_kill(p, SIGKILL);
        see_it_end(p);
    }
    for (int i = 0; i < 3; i++)
        end_close(&p->io[i]);
    end_close(&p->pidfd);
    fen__mem_free(p, sizeof *p);
}

int fen_process_run(const fen_process_config *cfg, int64_t deadline_ns,
                    fen_process_status *ret_status)
{
    fen_process *p;
    for (int i = 0; cfg && i < 3; i++)
        if (cfg->io[i].how == FEN_IO_PIPE)
            return -EINVAL;
    int rc = fen_process_open(cfg, &p);
    if (rc)
        return rc;
    rc = fen_process_wait(p, deadline_ns, ret_status);
    fen_process_close(p);
    return rc;
}
