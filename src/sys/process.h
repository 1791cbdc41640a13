/* process.h - child processes by posix_spawn and pidfd, and their pipes. */
#ifndef FEN_SYS_PROCESS_H
#define FEN_SYS_PROCESS_H

#include "base/base.h"

struct fen__sys_child {
    const char *file;
    const char *const *argv, *const *env; /* env NULL: ours */
    const char *cwd;                      /* NULL: ours */
    int fd[3];                            /* ours; copied */
    bool group;
};

/* 0 or -errno; on failure no child is left. Blocks until the child has called exec. */
int fen__sys_child_start(const struct fen__sys_child *how, int *ret_pid, int *ret_pidfd);
/* 0: reaped; *ret_code is the exit code or -1, *ret_signal the signal or 0. -EAGAIN: it runs. */
int fen__sys_child_reap(int pidfd, int *ret_code, int *ret_signal);
/* 0: it runs or waits to be reaped, so its number is still its own. -ECHILD: it has been reaped. */
int fen__sys_child_look(int pidfd);
/* Kills it, waits for its end (the thread blocks) and closes the pidfd. */
void fen__sys_child_abandon(int pidfd);
int fen__sys_child_kill(int pidfd, int signal);
int fen__sys_group_kill(int pid, int signal);
/* Close-on-exec; the end that is ours (0: the read end, 1: the write end) does not block. */
int fen__sys_child_pipe(int ours, int ret_fds[2]);
int fen__sys_open_null(void);
/* write(2) that raises no SIGPIPE, whatever the thread's mask. */
ssize_t fen__sys_write_quiet(int fd, const void *buf, size_t n);
/* Blocks SIGPIPE for the calling thread. */
void fen__sys_block_sigpipe(void);

#endif
