/* zc.c - writes that the kernel sends from the caller's buffer (MSG_ZEROCOPY).
 *
 * Each send that the kernel takes has a number; when it has let go of the bytes it puts a report of
 * a range of numbers on the socket's error queue, which the poller shows as an error event in both
 * directions. Only counts matter here, so reports may come in any order:
 *
 *   zc_sends - zc_done = sends whose bytes the kernel still holds; 0 whenever no call is under way.
 *
 * The buffer is the kernel's until then, so a call may not return early: a caller that frees the
 * buffer would send another's bytes. When the deadline, a cancellation or an error comes first, the
 * connection is reset (connect to AF_UNSPEC throws the queue away), and the rest of the reports is
 * waited for with cancellation masked; what can be outstanding then is in the hands of a driver.
 *
 * On loopback, and where the route cannot do it, the kernel copies after all, later and at a higher
 * price, and says so. A socket of which that was said COPIES_OFF times in a row goes back to plain
 * sends. Rejected: handing out a token with the buffer still lent (whoever forgets it corrupts
 * data); MSG_ZEROCOPY for small writes (pinning pages costs more than copying 10 KiB). */
#include "net/net_int.h"

#include <netinet/in.h>

#define ZC_MIN (10u << 10)
#define ZC_PIECE (1u << 20) /* a send: bounds what one report stands for */
#define COPIES_OFF 16
#define STEP_NS FEN_MS

enum { UNKNOWN, ON, OFF };

static uint64_t held(const fen_sock *s) { return s->zc_sends - s->zc_done; }

/* Takes the reports that are there. */
static void reap(fen_sock *s)
{
    uint32_t n;
    bool copied;
    while (held(s)) {
        int rc = fen__sys_zc_done(s->fd, &n, &copied);
        if (rc == -EINTR)
            continue;
        if (rc)
            return;
        s->zc_done += n;
        s->zc_copied += copied ? n : 0;
        s->zc_copies = (uint8_t)(copied ? fen__min_i64(s->zc_copies + (int64_t)n, 255) : 0);
        if (s->zc_copies >= COPIES_OFF)
            s->zc = OFF;
    }
}

static bool usable(fen_sock *s, size_t n)
{
    if (n < ZC_MIN || s->type != SOCK_STREAM || (s->family != AF_INET && s->family != AF_INET6))
        return false;
    if (s->zc == UNKNOWN)
        s->zc = fen__sys_setsockopt_int(s->fd, SOL_SOCKET, SO_ZEROCOPY, 1) ? OFF : ON;
    return s->zc == ON;
}

/* One send; without room for its bookkeeping (-ENOBUFS) and nothing to wait for, a plain one. */
static ssize_t send_piece(fen_sock *s, const char *p, size_t n)
{
    ssize_t put = fen__sys_send_zc(s->fd, p, n < ZC_PIECE ? n : ZC_PIECE);
    if (put > 0)
        s->zc_sends++;
    if (put != -ENOBUFS)
        return put;
    return held(s) ? -EAGAIN : fen__sys_send(s->fd, p, n);
}

/* RT. The rest of the reports, whatever happens. */
static void reclaim(fen_sock *s)
{
    struct fen__g *g = fen__cur(fen__self());
    reap(s);
    if (!held(s))
        return;
    (void)fen__sys_disconnect(s->fd);
    g->mask++;
    for (reap(s); held(s); reap(s))
        (void)fen__net_pause(fen__sys_now() + STEP_NS);
    g->mask--;
}

/* RT. */
static ssize_t write_zc(fen_sock *s, const char *p, size_t n, int64_t deadline_ns)
{
    struct fen__slot *slot = s->slot;
    struct fen__g *g = fen__cur(fen__self());
    uint32_t gen = fen__slot_gen(slot);
    size_t done = 0;
    int rc = 0;
    while ((done < n || held(s)) && !rc) {
        fen__slot_clear(slot, FEN__WRITE);
        reap(s);
        ssize_t put = done < n ? send_piece(s, p + done, n - done) : -EAGAIN;
        if (put > 0) {
            done += (size_t)put;
            g->out_bytes += put;
        } else if (put == -EAGAIN && (done < n || held(s))) {
            rc = fen__net_wait(slot, gen, FEN__WRITE, deadline_ns);
        } else if (put != -EINTR && put != -EAGAIN) {
            rc = (int)put;
        }
    }
    reclaim(s);
    return rc ? rc : (ssize_t)n;
}

ssize_t fen_sock_write_zc(fen_sock *s, const void *buf, size_t n, int64_t deadline_ns)
{
    if (!fen__sock_hold(s))
        return -EBADF;
    ssize_t put;
    if (!usable(s, n)) {
        put = fen__net_write(s->slot, buf, n, deadline_ns);
    } else if (!fen__enter()) {
        put = FEN_ENOTFIBER;
    } else {
        put = write_zc(s, buf, n, deadline_ns);
        fen__leave(fen__self());
    }
    fen__sock_drop(s);
    return put;
}

void fen_sock_zc_count(fen_sock *s, uint64_t *ret_sends, uint64_t *ret_copied)
{
    *ret_sends = s->zc_sends;
    *ret_copied = s->zc_copied;
}
