/* move.c - bytes that never come to user space: a file to a socket, a socket to a socket.
 *
 * sendfile may wait for the disk, so it runs in a blocking section: the monitor gives the P to
 * another thread when that lasts.
 *
 * splice between sockets goes through a pipe. A pipe is a transfer's only while bytes are in it or
 * about to be: who waits for bytes has given it back, so a thousand quiet connections share a few.
 * They are kept in a short list that belongs to the run and is closed at its end; a pipe with bytes
 * of a broken transfer does not go back, it is closed.
 *
 * A pipe is made as wide as the kernel allows anyone (1 MiB). Each time a receive queue is emptied
 * the kernel tells the peer that there is room, and on the way down it carries as many bytes as it
 * finds: with the usual 64 KiB of a pipe both happen sixteen times as often, and moving costs three
 * quarters of copying instead of a third (fen bench move). How many may be wide is limited: a user
 * may have 64 MiB of pipes, and past that all his programs get pipes of two pages. */
#include "net/net_int.h"

#define CHUNK (1u << 20) /* a sendfile: how long one stays in the kernel */
#define PIPE_BYTES (1u << 20)
#define PIPES_WIDE 32 /* half of what a user may have; the others have the kernel's usual size */
#define PIPES_KEPT PIPES_WIDE
#define SHORTAGE_NS (1 * FEN_MS) /* between two looks for a descriptor */

/* ---- file to socket ---- */

struct file_part {
    int file;
    int64_t offset;
    size_t left, total;
};

static ssize_t blocking_sendfile(int fd, struct file_part *f)
{
    size_t n = f->left < CHUNK ? f->left : CHUNK;
    fen_blocking_begin();
    ssize_t put = fen__sys_sendfile(fd, f->file, &f->offset, n);
    fen_blocking_end();
    fen__enter(); /* from one section of the runtime into the next; the fiber may have moved */
    return put;
}

static ssize_t try_file(fen_sock *s, void *arg)
{
    struct file_part *f = arg;
    while (f->left) {
        ssize_t put = blocking_sendfile(s->fd, f);
        if (put < 0)
            return put;
        if (put == 0) /* the file ends */
            break;
        fen__cur(fen__self())->out_bytes += put;
        f->left -= (size_t)put;
        f->total += (size_t)put;
    }
    return (ssize_t)f->total;
}

ssize_t fen_sock_send_file(fen_sock *s, int file, int64_t offset, size_t n, int64_t deadline_ns)
{
    struct file_part f = {.file = file, .offset = offset, .left = n};
    if (offset < 0)
        return -EINVAL;
    return fen__sock_try(s, FEN__WRITE, deadline_ns, try_file, &f);
}

/* ---- socket to socket ---- */

struct pipe {
    int fd[2]; /* read from 0, write to 1 */
    bool wide; /* counted as such, also when the kernel refused the size */
};

static struct {
    uint32_t lock;
    int n, wide; /* wide <= PIPES_WIDE: those of free and those lent */
    struct pipe free[PIPES_KEPT];
} pipes;

static void pipe_close(const struct pipe *p)
{
    fen__sys_close(p->fd[0]);
    fen__sys_close(p->fd[1]);
    fen__lock(&pipes.lock);
    pipes.wide -= p->wide;
    fen__unlock(&pipes.lock);
}

/* The run has ended: no fiber is left to get or put one. */
static void pipes_close(void)
{
    while (pipes.n)
        pipe_close(&pipes.free[--pipes.n]);
}

static int pipe_get(struct pipe *ret)
{
    static struct fen__at_end at_end = {.fn = pipes_close};
    fen__run_at_end(&at_end);
    fen__lock(&pipes.lock);
    bool have = pipes.n > 0, wide = pipes.wide < PIPES_WIDE;
    if (have)
        *ret = pipes.free[--pipes.n];
    else
        pipes.wide += wide;
    fen__unlock(&pipes.lock);
    if (have)
        return 0;
    int fd[2], rc = fen__sys_pipe(fd, wide ? PIPE_BYTES : 0);
    if (!rc) {
        *ret = (struct pipe){{fd[0], fd[1]}, wide};
        return 0;
    }
    fen__lock(&pipes.lock);
    pipes.wide -= wide;
    fen__unlock(&pipes.lock);
    return rc;
}

static void pipe_put(const struct pipe *p, bool empty)
{
    fen__lock(&pipes.lock);
    bool keep = empty && pipes.n < PIPES_KEPT;
    if (keep)
        pipes.free[pipes.n++] = *p;
    fen__unlock(&pipes.lock);
    if (!keep)
        pipe_close(p);
}

/* Gets one in the middle of a transfer, which a shortage of descriptors does not end. RT. */
static int pipe_again(struct pipe *ret, int64_t deadline_ns)
{
    int rc;
    while ((rc = pipe_get(ret)) == -EMFILE || rc == -ENFILE) {
        int64_t now = fen__sys_now();
        if (now >= deadline_ns)
            return -ETIMEDOUT;
        rc = fen__net_pause(fen__min_i64(now + SHORTAGE_NS, deadline_ns));
        if (rc)
            return rc;
    }
    return rc;
}

/* Takes up to n bytes into *p, which is empty and somebody else's while this waits: their count, 0
 * at the end of the stream, or -errno. *held: p is the caller's. RT. */
static ssize_t fill(fen_sock *from, struct pipe *p, size_t n, int64_t deadline_ns, bool *held)
{
    struct fen__slot *slot = from->slot;
    uint32_t gen = fen__slot_gen(slot);
    for (;;) {
        slot->drained = false;
        fen__slot_clear(slot, FEN__READ);
        ssize_t got = fen__sys_splice(from->fd, p->fd[1], n);
        if (got != -EAGAIN && got != -EINTR)
            return got;
        if (got == -EINTR)
            continue;
        pipe_put(p, true);
        int rc = fen__net_wait(slot, gen, FEN__READ, deadline_ns);
        rc = rc ? rc : pipe_again(p, deadline_ns);
        *held = rc == 0;
        if (rc)
            return rc;
    }
}

/* Passes the n bytes in p on: 0 or -errno. RT. */
static ssize_t empty(const struct pipe *p, fen_sock *to, size_t n, int64_t deadline_ns)
{
    struct fen__slot *slot = to->slot;
    uint32_t gen = fen__slot_gen(slot);
    while (n) {
        fen__slot_clear(slot, FEN__WRITE);
        ssize_t put = fen__sys_splice(p->fd[0], to->fd, n);
        if (put == -EAGAIN)
            put = fen__net_wait(slot, gen, FEN__WRITE, deadline_ns);
        if (put < 0 && put != -EINTR)
            return put;
        if (put > 0) {
            n -= (size_t)put;
            fen__cur(fen__self())->out_bytes += put;
        }
    }
    return 0;
}

/* RT. */
static ssize_t splice_all(fen_sock *from, fen_sock *to, size_t n, int64_t deadline_ns)
{
    struct pipe p;
    size_t total = 0;
    ssize_t got = pipe_get(&p), rc = 0;
    if (got)
        return got;
    bool held = true;
    while (total < n && rc == 0) {
        got = fill(from, &p, n - total < PIPE_BYTES ? n - total : PIPE_BYTES, deadline_ns, &held);
        if (got <= 0)
            break;
        fen__cur(fen__self())->in_bytes += got;
        rc = empty(&p, to, (size_t)got, deadline_ns);
        total += (size_t)got;
    }
    if (held)
        pipe_put(&p, rc == 0);
    rc = got < 0 ? got : rc;
    return rc < 0 ? rc : (ssize_t)total;
}

ssize_t fen_sock_splice(fen_sock *from, fen_sock *to, size_t n, int64_t deadline_ns)
{
    if (!fen__enter())
        return FEN_ENOTFIBER;
    ssize_t moved = -EBADF;
    bool have = fen__sock_hold(from);
    if (have && fen__sock_hold(to)) {
        moved = splice_all(from, to, n, deadline_ns);
        fen__sock_drop(to);
    }
    if (have)
        fen__sock_drop(from);
    fen__leave(fen__self());
    return moved;
}
