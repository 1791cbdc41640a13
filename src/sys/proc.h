/* proc.h - what the kernel tells about this process, and reading small files whole. */
#ifndef FEN_SYS_PROC_H
#define FEN_SYS_PROC_H

#include "base/base.h"

/* Reads a file from its start: the bytes read (a full buf may mean that there are more) or -errno.
 * Blocks the thread; for set-up and /proc. */
ssize_t fen__sys_file_read(const char *path, void *buf, size_t n);

/* -1 in a field that could not be read. */
struct fen__sys_proc {
    int64_t cpu_ns; /* user + system */
    int64_t resident_bytes, virtual_bytes;
    int64_t open_fds, max_fds;
    int64_t start_unix_ms; /* when the process started */
    int64_t threads;
};
void fen__sys_proc_get(struct fen__sys_proc *ret_proc);
/* Memory of the process's own, without pages of files: bytes or -errno. About 5 us. */
int64_t fen__sys_own_bytes(void);

#endif
