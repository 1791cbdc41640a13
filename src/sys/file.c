/* file.c - files. They wait for the disk, so a fiber calls them on the pool (sync/offload.c). */
#include "sys/sys_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

int fen__sys_open(const char *path, int flags, int mode)
{
    FAULT("open");
    int fd = open(path, flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

ssize_t fen__sys_pread(int fd, void *buf, size_t n, int64_t offset)
{
    FAULT("pread");
    ssize_t got = pread(fd, buf, n, offset);
    return got < 0 ? -errno : got;
}

/* An old kernel or a file system without it says -EOPNOTSUPP. */
ssize_t fen__sys_pread_cached(int fd, void *buf, size_t n, int64_t offset)
{
    FAULT(offset < 0 ? "read" : "pread");
    struct iovec iov = {buf, n};
    ssize_t got = preadv2(fd, &iov, 1, offset, RWF_NOWAIT);
    return got < 0 ? -errno : got;
}

int fen__sys_file_flags(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -errno : flags;
}

ssize_t fen__sys_pwrite(int fd, const void *buf, size_t n, int64_t offset)
{
    FAULT("pwrite");
    ssize_t put = pwrite(fd, buf, n, offset);
    return put < 0 ? -errno : put;
}

int fen__sys_fsync(int fd, bool data_only)
{
    FAULT("fsync");
    return (data_only ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
}

int fen__sys_truncate(int fd, int64_t bytes)
{
    FAULT("ftruncate");
    return ftruncate(fd, bytes) ? -errno : 0;
}

int fen__sys_stat(const char *path, struct stat *ret_stat)
{
    FAULT("stat");
    return stat(path, ret_stat) ? -errno : 0;
}

int fen__sys_fstat(int fd, struct stat *ret_stat)
{
    FAULT("stat");
    return fstat(fd, ret_stat) ? -errno : 0;
}

int fen__sys_rename(const char *from, const char *to)
{
    FAULT("rename");
    return rename(from, to) ? -errno : 0;
}

int fen__sys_unlink(const char *path)
{
    FAULT("unlink");
    return unlink(path) ? -errno : 0;
}
