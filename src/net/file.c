/* file.c - files: at once from the page cache, by io_uring, or as a job of fen_blocking.
 *
 * A read first asks for what is cached: one system call, which never waits. What is left goes
 * by the ring (sync/ring.c) where that does better, else to the pool (sync/offload.c):
 *
 *   call                          FEN_FILES_AUTO             RING           POOL
 *   pread                         cache, ring, pool          ring, pool     pool
 *   pread, pwrite with O_DIRECT   ring, pool                 ring, pool     pool
 *   read                          cache, pool                pool           pool
 *   pwrite, open, close, sync     pool                       ring, pool     pool
 *   write and the others          pool                       pool           pool
 *
 * io_uring runs the fourth line on threads of the kernel's that nobody bills, so it is not AUTO's.
 * A read or write at the file's position by the ring would not take the position's lock: two
 * fibers that write to one log would write over each other.
 *
 * The record of a call lies on the heap, not on the parked fiber's stack; the buffers are the
 * caller's. */
#include "mem/mem.h"
#include "sync/sync.h"
#include "sys/sys.h"
#include "sys/uring.h"

#include <fen/fiber.h>
#include <fen/file.h>
#include <fen/io.h>

#include <fcntl.h>
#include <sys/stat.h>

#define CACHED_BYTES ((size_t)64 << 10) /* copied at once; a P is kept for so long */

enum what { OPEN, CLOSE, READ, PREAD, WRITE, PWRITE, SYNC, TRUNCATE, STAT, FSTAT, RENAME, UNLINK };

struct call {
    enum what what;
    int fd, flags, mode;
    const char *path, *to;
    void *buf;
    const void *from;
    size_t n, done;
    int64_t offset;
    struct stat st;
    struct fen__uring_call by_ring;
    ssize_t rc;
};

static ssize_t read_part(const struct call *c)
{
    char *p = (char *)c->buf + c->done;
    return c->what == READ ? fen__sys_read(c->fd, p, c->n - c->done)
                           : fen__sys_pread(c->fd, p, c->n - c->done, c->offset + (int64_t)c->done);
}

static ssize_t write_part(const struct call *c)
{
    const char *p = (const char *)c->from + c->done;
    return c->what == WRITE
               ? fen__sys_write(c->fd, p, c->n - c->done)
               : fen__sys_pwrite(c->fd, p, c->n - c->done, c->offset + (int64_t)c->done);
}

static ssize_t transfer(struct call *c, ssize_t (*part)(const struct call *c))
{
    while (c->done < c->n) {
        ssize_t k = part(c);
        if (k < 0 && k != -EINTR)
            return k;
        if (k == 0)
            break;
        c->done += k > 0 ? (size_t)k : 0;
    }
    return (ssize_t)c->done;
}

static ssize_t perform(struct call *c)
{
    switch (c->what) {
    case OPEN: return fen__sys_open(c->path, c->flags, c->mode);
    case CLOSE: return fen__sys_close(c->fd);
    case READ:
    case PREAD: return transfer(c, read_part);
    case WRITE:
    case PWRITE: return transfer(c, write_part);
    case SYNC: return fen__sys_fsync(c->fd, c->flags);
    case TRUNCATE: return fen__sys_truncate(c->fd, c->offset);
    case STAT: return fen__sys_stat(c->path, &c->st);
    case FSTAT: return fen__sys_fstat(c->fd, &c->st);
    case RENAME: return fen__sys_rename(c->path, c->to);
    case UNLINK: return fen__sys_unlink(c->path);
    }
    return -EINVAL;
}

static int run(void *arg)
{
    struct call *c = arg;
    c->rc = perform(c);
    return 0;
}

/* A time that 64 bits of nanoseconds do not hold (before 1677, after 2262): the nearest they do. */
static int64_t ns_of(struct timespec t)
{
    int64_t ns;
    bool fits = !__builtin_mul_overflow((int64_t)t.tv_sec, FEN_S, &ns) &&
                !__builtin_add_overflow(ns, (int64_t)t.tv_nsec, &ns);
    return fits ? ns : t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
}

static void info_of(const struct stat *st, fen_file_info *ret)
{
    *ret = (fen_file_info){.bytes = st->st_size,
                           .modified_ns = ns_of(st->st_mtim),
                           .device = st->st_dev,
                           .inode = st->st_ino,
                           .mode = st->st_mode};
}

/* ---- at once ---- */

enum { LATER = 1 };

static struct fen__tally *tally(void) { return fen__tally_of(fen__self()); }

/* What is cached, without entering the runtime: to the monitor a fiber that only ever reads what is
 * cached is a computation. LATER: the rest has to be waited for; 0: all is done; or -errno. */
static ssize_t from_cache(struct call *c)
{
    while (c->done < c->n) {
        struct fen__g *g = fen__brief();
        if (!g) /* the P is gone, or asked for, or the run is simulated */
            return LATER;
        int rc = c->done ? 0 : fen__limit_rc(g); /* once it has begun it is done whole */
        if (rc)
            return rc;
        size_t left = c->n - c->done;
        ssize_t k = fen__sys_pread_cached(c->fd, (char *)c->buf + c->done,
                                          left < CACHED_BYTES ? left : CACHED_BYTES,
                                          c->what == READ ? -1 : c->offset + (int64_t)c->done);
        if (k == -EAGAIN || k == -EOPNOTSUPP || k == -ENOSYS || k == -EINTR || k == -EPERM)
            return LATER; /* EPERM: a seccomp filter that does not know preadv2 */
        if (k < 0)
            return k;
        if (k == 0)
            break;
        c->done += (size_t)k;
    }
    fen__count_add(&tally()->files_direct, 1);
    return 0;
}

/* ---- by the ring ---- */

/* 0: all is done and c->rc set, or why the scope ended; FEN__RING_NONE: the pool goes on where this
 * has stopped. */
static int transfer_by_ring(struct call *c)
{
    struct fen__uring_call *u = &c->by_ring;
    char *base = c->what == PREAD ? c->buf : (char *)(uintptr_t)c->from; /* read, never written */
    while (c->done < c->n) {
        *u = (struct fen__uring_call){.op = c->what == PREAD ? FEN__URING_PREAD : FEN__URING_PWRITE,
                                      .fd = c->fd,
                                      .buf = base + c->done,
                                      .n = c->n - c->done,
                                      .offset = c->offset + (int64_t)c->done};
        u->worker = u->n > CACHED_BYTES; /* or the ring's thread might have to copy it */
        int got, rc = fen__ring_call(u, &got);
        if (rc)
            return rc;
        if (got < 0 || got == 0) {
            c->rc = got < 0 ? got : (ssize_t)c->done;
            return 0;
        }
        c->done += (size_t)got;
    }
    c->rc = (ssize_t)c->done;
    return 0;
}

static int single_by_ring(struct call *c, enum fen__uring_op op)
{
    c->by_ring = (struct fen__uring_call){.op = op,
                                          .fd = c->fd,
                                          .path = c->path,
                                          .flags = c->flags,
                                          .mode = op == FEN__URING_SYNC ? c->flags : c->mode,
                                          .worker = op == FEN__URING_CLOSE}; /* the last may wait */
    int got, rc = fen__ring_call(&c->by_ring, &got);
    if (!rc)
        c->rc = got;
    return rc;
}

static int by_ring(struct call *c)
{
    switch (c->what) {
    case PREAD:
    case PWRITE: return transfer_by_ring(c);
    case OPEN: return single_by_ring(c, FEN__URING_OPEN);
    case CLOSE: return single_by_ring(c, FEN__URING_CLOSE);
    case SYNC: return single_by_ring(c, FEN__URING_SYNC);
    default: return FEN__RING_NONE;
    }
}

/* ---- a call ---- */

/* 0 and c->rc, or why it was not done. */
static int waited(struct call *c, bool ring)
{
    int rc = ring ? by_ring(c) : FEN__RING_NONE;
    bool done = !rc;
    if (rc == FEN__RING_NONE)
        rc = fen_blocking(run, c);
    if (!rc && fen_in_fiber())
        fen__count_add(done ? &tally()->files_ring : &tally()->files_pool, 1);
    return rc;
}

/* Is the ring the better way for it, nothing of it being cached? direct: the file is O_DIRECT. */
static bool ring_wanted(const struct call *c, bool direct)
{
    enum fen_files files = fen__files();
    if (files == FEN_FILES_AUTO)
        return c->what == PREAD || (c->what == PWRITE && direct);
    return files == FEN_FILES_RING;
}

static void mask(int by)
{
    if (fen_in_fiber())
        fen__mask(by);
}

/* A read that has moved the file's position is done whole, or what it has read would be lost:
 * whatever the scope says, and on this thread when there is no other. */
static bool has_moved(const struct call *c) { return c->what == READ && c->done; }

static void run_here(struct call *c)
{
    fen_blocking_begin();
    run(c);
    fen_blocking_end();
}

static void read_on(struct call *c)
{
    mask(+1);
    int rc = waited(c, false);
    mask(-1);
    if (rc)
        run_here(c);
}

static ssize_t call(const struct call *what, fen_file_info *ret_info)
{
    struct call first = *what;
    bool reads = what->what == READ || what->what == PREAD, direct = false;
    if (fen_in_fiber() && fen__files() == FEN_FILES_AUTO && (reads || what->what == PWRITE)) {
        int flags = fen__sys_file_flags(what->fd);
        direct = flags >= 0 && flags & O_DIRECT;
        ssize_t rc = reads && !direct ? from_cache(&first) : LATER;
        if (rc != LATER)
            return rc < 0 ? rc : (ssize_t)first.done;
    }
    struct call *c = fen__mem_alloc(sizeof *c);
    if (!c && !has_moved(&first))
        return -ENOMEM;
    if (!c) {
        run_here(&first);
        return first.rc;
    }
    *c = first;
    int rc = 0;
    if (has_moved(c))
        read_on(c);
    else
        rc = waited(c, fen_in_fiber() && ring_wanted(c, direct));
    ssize_t got = rc ? rc : c->rc;
    if (got == 0 && ret_info)
        info_of(&c->st, ret_info);
    fen__mem_free(c, sizeof *c);
    return got;
}

int fen_file_open(const char *path, int flags, int mode)
{
    return (int)call(&(struct call){.what = OPEN, .path = path, .flags = flags, .mode = mode},
                     NULL);
}

int fen_file_close(int fd)
{
    struct call c = {.what = CLOSE, .fd = fd, .rc = 1};
    mask(+1);
    int rc = waited(&c, fen_in_fiber() && ring_wanted(&c, false));
    mask(-1);
    if (rc) /* no thread to be had */
        run(&c);
    return (int)c.rc;
}

ssize_t fen_file_read(int fd, void *buf, size_t n)
{
    return call(&(struct call){.what = READ, .fd = fd, .buf = buf, .n = n}, NULL);
}

ssize_t fen_file_pread(int fd, void *buf, size_t n, int64_t offset)
{
    if (offset < 0) /* the kernel takes -1 for "at the position" */
        return -EINVAL;
    return call(&(struct call){.what = PREAD, .fd = fd, .buf = buf, .n = n, .offset = offset},
                NULL);
}

ssize_t fen_file_write(int fd, const void *buf, size_t n)
{
    return call(&(struct call){.what = WRITE, .fd = fd, .from = buf, .n = n}, NULL);
}

ssize_t fen_file_pwrite(int fd, const void *buf, size_t n, int64_t offset)
{
    if (offset < 0) /* the kernel takes -1 for "at the position" */
        return -EINVAL;
    return call(&(struct call){.what = PWRITE, .fd = fd, .from = buf, .n = n, .offset = offset},
                NULL);
}

int fen_file_sync(int fd, bool data_only)
{
    return (int)call(&(struct call){.what = SYNC, .fd = fd, .flags = data_only}, NULL);
}

int fen_file_truncate(int fd, int64_t bytes)
{
    return (int)call(&(struct call){.what = TRUNCATE, .fd = fd, .offset = bytes}, NULL);
}

int fen_file_stat(const char *path, fen_file_info *ret_info)
{
    return (int)call(&(struct call){.what = STAT, .path = path}, ret_info);
}

int fen_file_fstat(int fd, fen_file_info *ret_info)
{
    return (int)call(&(struct call){.what = FSTAT, .fd = fd}, ret_info);
}

int fen_file_rename(const char *from, const char *to)
{
    return (int)call(&(struct call){.what = RENAME, .path = from, .to = to}, NULL);
}

int fen_file_unlink(const char *path)
{
    return (int)call(&(struct call){.what = UNLINK, .path = path}, NULL);
}
