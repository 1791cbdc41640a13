/* file.h - files: the fiber parks while the disk works.
 *
 * A file is a plain descriptor (close-on-exec), fit for fen_sock_send_file and any system call. A
 * read of what the page cache has is answered at once; other calls go by io_uring or take the place
 * of one job in the pool of fen_blocking (fen_config.files, docs/io.md). -ECANCELED, -ETIMEDOUT
 * when the scope ends before the call begins (nothing has happened then) or, by io_uring, before it
 * is done (of a write a part may have been written); -EAGAIN and -ENOMEM without a thread or
 * memory; else it returns when the system call has returned, with its -errno, and nobody touches
 * the buffer any more. Buffers are borrowed for the call. Outside a fiber the calling thread
 * blocks. Do not close a file while a call on it is under way. */
#ifndef FEN_FILE_H
#define FEN_FILE_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* flags as open(2) (O_RDONLY, O_CREAT ...); mode is for a file that is made. The descriptor. */
FEN_API int fen_file_open(const char *path, int flags, int mode) FEN_MUST_CHECK;

/* Closes; never refused by the scope: if the job cannot be queued it is done at once. 0 or the
 * -errno of close, after which the descriptor is gone all the same. */
FEN_API int fen_file_close(int fd);

/* Reads up to n bytes at the file's position, or at an offset (-EINVAL below 0), which leaves the
 * position alone. The count, less than n only at the end of the file, 0 there. Two reads at one
 * file's position at the same time may each get a part of what the other began. For pipes and
 * terminals use fen_fd_wait. */
FEN_API ssize_t fen_file_read(int fd, void *buf, size_t n) FEN_MUST_CHECK;
FEN_API ssize_t fen_file_pread(int fd, void *buf, size_t n, int64_t offset) FEN_MUST_CHECK;

/* Writes all n bytes: n, or -errno (-ENOSPC, -EFBIG, -EINVAL for an offset below 0 ...; a part may
 * have been written). */
FEN_API ssize_t fen_file_write(int fd, const void *buf, size_t n) FEN_MUST_CHECK;
FEN_API ssize_t fen_file_pwrite(int fd, const void *buf, size_t n, int64_t offset) FEN_MUST_CHECK;

/* Has the disk take what was written: with the file's times and size, or (data_only) what is needed
 * to read it back. 0 or -errno. */
FEN_API int fen_file_sync(int fd, bool data_only) FEN_MUST_CHECK;

/* Cuts or extends the file to so many bytes. 0 or -errno. */
FEN_API int fen_file_truncate(int fd, int64_t bytes) FEN_MUST_CHECK;

/* What fen_file_stat tells. */
typedef struct fen_file_info {
    int64_t bytes;
    int64_t modified_ns; /* since 1970; INT64_MAX after the year 2262 */
    uint64_t device, inode;
    uint32_t mode; /* type and permissions as in struct stat */
} fen_file_info;

/* What the file system knows of a path (links followed) or an open file. 0, -ENOENT ... */
FEN_API int fen_file_stat(const char *path, fen_file_info *ret_info) FEN_MUST_CHECK;
FEN_API int fen_file_fstat(int fd, fen_file_info *ret_info) FEN_MUST_CHECK;

/* Gives a file another name, replacing one of that name in one step; removes a name. 0 or
 * -errno. */
FEN_API int fen_file_rename(const char *from, const char *to) FEN_MUST_CHECK;
FEN_API int fen_file_unlink(const char *path) FEN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
