/* file.c - files: each call is one job of fen_blocking. The record of a call lies on the heap, not
 * on the parked fiber's stack; the buffers are the caller's. */
#include "mem/mem.h"
#include "sync/sync.h"
#include "sys/sys.h"

#include <fen/fiber.h>
#include <fen/file.h>
#include <fen/io.h>

#include <sys/stat.h>

enum what { OPEN, CLOSE, READ, PREAD, WRITE, PWRITE, SYNC, TRUNCATE, STAT, FSTAT, RENAME, UNLINK };

struct call {
    enum what what;
    int fd, flags, mode;
    const char *path, *to;
    void *buf;
    const void *from;
    size_t n;
    int64_t offset;
    struct stat st;
    ssize_t rc;
};

static ssize_t read_part(const struct call *c, size_t done)
{
    char *p = (char *)c->buf + done;
    return c->what == READ ? fen__sys_read(c->fd, p, c->n - done)
                           : fen__sys_pread(c->fd, p, c->n - done, c->offset + (int64_t)done);
}

static ssize_t write_part(const struct call *c, size_t done)
{
    const char *p = (const char *)c->from + done;
    return c->what == WRITE ? fen__sys_write(c->fd, p, c->n - done)
                            : fen__sys_pwrite(c->fd, p, c->n - done, c->offset + (int64_t)done);
}

static ssize_t transfer(const struct call *c, ssize_t (*part)(const struct call *c, size_t done))
{
    size_t done = 0;
    while (done < c->n) {
        ssize_t k = part(c, done);
        if (k < 0 && k != -EINTR)
            return k;
        if (k == 0)
            break;
        done += k > 0 ? (size_t)k : 0;
    }
    return (ssize_t)done;
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

static void info_of(const struct stat *st, fen_file_info *ret)
{
    *ret = (fen_file_info){.bytes = st->st_size,
                           .modified_ns = st->st_mtim.tv_sec * FEN_S + st->st_mtim.tv_nsec,
                           .device = st->st_dev,
                           .inode = st->st_ino,
                           .mode = st->st_mode};
}

static ssize_t call(const struct call *what, fen_file_info *ret_info)
{
    struct call *c = fen__mem_alloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = *what;
    int rc = fen_blocking(run, c);
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

static void mask(int by)
{
    if (fen_in_fiber())
        fen__mask(by);
}

int fen_file_close(int fd)
{
    struct call c = {.what = CLOSE, .fd = fd, .rc = 1};
    mask(+1);
    int rc = fen_blocking(run, &c);
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
    return call(&(struct call){.what = PREAD, .fd = fd, .buf = buf, .n = n, .offset = offset},
                NULL);
}

ssize_t fen_file_write(int fd, const void *buf, size_t n)
{
    return call(&(struct call){.what = WRITE, .fd = fd, .from = buf, .n = n}, NULL);
}

ssize_t fen_file_pwrite(int fd, const void *buf, size_t n, int64_t offset)
{
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
