/* move.c - bytes that never come to user space: a file to a socket, a socket to a socket.
 *
 * sendfile may wait for the disk, so it runs in a blocking section: the monitor gives the P to
 * another thread when that lasts. splice between sockets goes through a pipe, which is taken from a
 * short list and goes back only when it is empty: a pipe with bytes of a broken transfer is closed.
 * The list belongs to the run and is closed at its end. */
#include "net/net_int.h"

#define CHUNK (1u << 20) /* a sendfile: how long one stays in the kernel */
#define PIPE_BYTES (64u << 10)
#define PIPES_KEPT 16

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
};

static struct {
    uint32_t lock;
    int n;
    struct pipe free[PIPES_KEPT];
} pipes;

static void pipe_close(const struct pipe *p)
{
    fen__sys_close(p->fd[0]);
    fen__sys_close(p->fd[1]);
}

static void pipes_close(void)
{
    fen__lock(&pipes.lock);
    while (pipes.n)
        pipe_close(&pipes.free[--pipes.n]);
    fen__unlock(&pipes.lock);
}

static int pipe_get(struct pipe *ret)
{
    static struct fen__at_end at_end = {.fn = pipes_close};
    fen__run_at_end(&at_end);
    fen__lock(&pipes.lock);
    bool have = pipes.n > 0;
    if (have)
        *ret = pipes.free[--pipes.n];
    fen__unlock(&pipes.lock);
    return have ? 0 : fen__sys_pipe(ret->fd);
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

/* One splice between a socket and the pipe; waits for the socket. RT. */
static ssize_t splice_wait(int from, int to, size_t n, struct fen__slot *slot, enum fen__dir d,
                           int64_t deadline_ns)
{
    uint32_t gen = fen__slot_gen(slot);
    for (;;) {
        fen__slot_clear(slot, d);
        ssize_t got = fen__sys_splice(from, to, n);
        if (got != -EAGAIN && got != -EINTR)
            return got;
        int rc = got == -EAGAIN ? fen__net_wait(slot, gen, d, deadline_ns) : 0;
        if (rc)
            return rc;
    }
}

/* RT. */
static ssize_t splice_all(fen_sock *from, fen_sock *to, size_t n, int64_t deadline_ns)
{
    struct pipe p;
    struct fen__g *g = fen__cur(fen__self());
    int rc = pipe_get(&p);
    if (rc)
        return rc;
    size_t total = 0, inside = 0;
    ssize_t got = 1;
    while (total < n && got > 0) {
        size_t want = n - total < PIPE_BYTES ? n - total : PIPE_BYTES;
        from->slot->drained = false;
        got = splice_wait(from->fd, p.fd[1], want, from->slot, FEN__READ, deadline_ns);
        if (got <= 0)
            break;
        g->in_bytes += got;
        for (inside = (size_t)got; inside && got > 0;) {
            got = splice_wait(p.fd[0], to->fd, inside, to->slot, FEN__WRITE, deadline_ns);
            if (got > 0) {
                inside -= (size_t)got;
                total += (size_t)got;
                g->out_bytes += got;
            }
        }
    }
    pipe_put(&p, inside == 0);
    return got < 0 ? got : (ssize_t)total;
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
