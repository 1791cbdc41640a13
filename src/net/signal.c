/* signal.c - signals as events: one fiber a handle takes the caught bits and sends their numbers.
 *
 * The channel is a rendezvous and the fiber sends one number at a time, so a storm of signals costs
 * a bit each: at most one of each number is on its way, and one signal cannot push out another.
 * The fiber belongs to no scope; fen_signal_close, or the end of the run, ends it. */
#include "net/net.h"

#include "mem/mem.h"
#include "sched/sched.h"
#include "sync/sync.h"
#include "sys/signal.h"
#include "sys/sys.h"

#include <fen/fiber.h>
#include <fen/signal.h>
#include <fen/sync.h>

struct fen_signal {
    fen_chan *chan;
    int catcher, fd;
    struct fen__slot *slot;
    _Atomic bool closing;
    fen_wg pump;
};

/* Waits for the eventfd: 0 or why not. Its counter is emptied. */
static int wait_event(fen_signal *s)
{
    struct fen__m *m = fen__enter();
    uint32_t gen = fen__slot_gen(s->slot);
    fen__slot_clear(s->slot, FEN__READ);
    int rc = fen__limit_rc(fen__cur(m));
    if (!rc && !fen__sys_eventfd_take(s->fd))
        rc = fen__wait_slot(s->slot, gen, FEN__READ, FEN_NEVER);
    fen__leave(fen__self());
    return rc;
}

static void pump_main(void *arg)
{
    fen_signal *s = arg;
    uint64_t came = 0;
    int rc = 0;
    while (!rc && !s->closing) {
        came |= fen__catch_take(s->catcher);
        if (came) {
            int signal = __builtin_ctzll(came) + 1;
            came &= came - 1;
            rc = fen_chan_send(s->chan, &signal);
        } else {
            rc = wait_event(s);
        }
    }
    fen_chan_close(s->chan);
    fen_wg_done(&s->pump);
}

static int make_mask(const int *signals, int n, uint64_t *ret)
{
    uint64_t mask = 0;
    if (n < 1)
        return -EINVAL;
    for (int i = 0; i < n; i++) {
        if (!fen__signal_ok(signals[i]))
            return -EINVAL;
        mask |= UINT64_C(1) << (signals[i] - 1);
    }
    *ret = mask;
    return 0;
}

static void drop_slot(fen_signal *s)
{
    struct fen__m *m = fen__enter_any();
    fen__close_slot(s->slot);
    fen__leave_any(m);
}

int fen_signal_open(const int *signals, int n, fen_signal **ret_signal)
{
    uint64_t mask = 0;
    int rc = make_mask(signals, n, &mask);
    if (rc)
        return rc;
    if (!fen_in_fiber())
        return FEN_ENOTFIBER;
    fen_signal *s = fen__mem_calloc(sizeof *s);
    if (!s)
        return -ENOMEM;
    rc = -ENOMEM;
    s->chan = fen_chan_new(sizeof(int), 0);
    if (!s->chan)
        goto fail_chan;
    rc = s->catcher = fen__catch_open(mask, &s->fd);
    if (rc < 0)
        goto fail_catch;
    fen__fd_new(s->fd);
    rc = fen__poll_open(s->fd, (uint32_t)s->catcher, &s->slot);
    if (rc)
        goto fail_slot;
    fen_wg_add(&s->pump, 1);
    rc = fen_go_detached("signals", pump_main, s);
    if (rc)
        goto fail_pump;
    *ret_signal = s;
    return 0;
fail_pump:
    drop_slot(s);
fail_slot:
    fen__catch_close(s->catcher);
fail_catch:
    fen_chan_free(s->chan);
fail_chan:
    fen__mem_free(s, sizeof *s);
    return rc;
}

fen_chan *fen_signal_chan(fen_signal *s) { return s->chan; }

void fen_signal_close(fen_signal *s)
{
    if (!s)
        return;
    s->closing = true; /* before the two that wake the fiber */
    fen_chan_close(s->chan);
    fen__sys_eventfd_signal(s->fd);
    fen__mask(1);
    while (fen_wg_wait(&s->pump) == -ENOMEM)
        fen_yield();
    fen__mask(-1);
    drop_slot(s); /* only now: a closed slot may be another's at once */
    fen__catch_close(s->catcher);
    fen_chan_free(s->chan);
    fen__mem_free(s, sizeof *s);
}
