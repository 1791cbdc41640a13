/* process.h - child processes: the fiber parks until one ends, the thread goes on.
 *
 * Needs Linux 5.4 (waitid by pidfd). SIGCHLD is not used and may be anything but ignored; who reaps
 * all children by waitpid(-1) takes ours too: fen_process_wait says -ECHILD then, each time, and
 * its group is not signalled any more. */
#ifndef FEN_PROCESS_H
#define FEN_PROCESS_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_process fen_process;

/* Where one of the three standard streams leads. */
enum fen_process_io {
    FEN_IO_INHERIT, /* ours; -EBADF when it is closed */
    FEN_IO_NULL,    /* /dev/null */
    FEN_IO_PIPE,    /* to fen_process_write, from fen_process_read */
    FEN_IO_FD,      /* a copy of `fd`, which stays the caller's */
    FEN_IO_STDOUT   /* stderr only: where stdout goes */
};

typedef struct fen_process_stream {
    enum fen_process_io how;
    int fd;
} fen_process_stream;

/* What to start; zeros and NULL are the usual. All of it is borrowed for the call. */
typedef struct fen_process_config {
    const char *file;         /* a path, or a name that is looked for in PATH; NULL: argv[0] */
    const char *const *argv;  /* ends with NULL; at least one */
    const char *const *env;   /* ends with NULL; NULL: ours */
    const char *cwd;          /* NULL: ours; a relative `file` is meant from there */
    fen_process_stream io[3]; /* stdin, stdout, stderr */
    bool group;               /* a process group of its own, which fen_process_kill means then */
} fen_process_config;

/* How it ended. */
typedef struct fen_process_status {
    int code;   /* exit code, -1 when a signal ended it */
    int signal; /* the signal, 0 when it exited */
} fen_process_status;

/* Starts a process: signal mask empty, SIGPIPE at its default, no descriptor but the three.
 * 0; -EINVAL; -ENOENT, -EACCES, -ENOEXEC ... from exec; -EMFILE, -EAGAIN, -ENOMEM; -ECANCELED or
 * -ETIMEDOUT when the scope has ended; -ENOSYS without pidfd. Blocks the thread until the child has
 * called exec, in a blocking section. Fibers, or threads while a runtime runs. */
FEN_API int fen_process_open(const fen_process_config *cfg,
                             fen_process **ret_process) FEN_MUST_CHECK;

/* Its process id; meaningful until it was waited for. Any thread. */
FEN_API int fen_process_pid(const fen_process *p);

/* Waits until it has ended and reaps it: 0 and *ret_status (may be NULL), as often as one asks.
 * -ETIMEDOUT at the absolute deadline or the scope's, -ECANCELED: it goes on running; -EBUSY:
 * another fiber waits; -ECHILD: somebody else reaped it. Parks. */
FEN_API int fen_process_wait(fen_process *p, int64_t deadline_ns,
                             fen_process_status *ret_status) FEN_MUST_CHECK;

/* Sends a signal; never to another process that has its number by now. 0; -ESRCH: it has ended and
 * was waited for (by whomever), or its group is empty; -EINVAL, -EPERM. Any thread, also while
 * another waits. */
FEN_API int fen_process_kill(fen_process *p, int signal);

/* Reads at least one byte of its stdout (1) or stderr (2): the count, 0 at the end, or -errno;
 * -EBADF: not a pipe. One reader a stream. Parks. */
FEN_API ssize_t fen_process_read(fen_process *p, int stream, void *buf, size_t n,
                                 int64_t deadline_ns) FEN_MUST_CHECK;

/* Writes all n bytes to its stdin: n or -errno; -EPIPE: it does not read any more (no signal is
 * raised); -EBADF: not a pipe, or closed. One writer. Parks. */
FEN_API ssize_t fen_process_write(fen_process *p, const void *buf, size_t n,
                                  int64_t deadline_ns) FEN_MUST_CHECK;

/* Closes our end of its stdin: it reads the end of the stream. No write may be under way. */
FEN_API void fen_process_close_input(fen_process *p);

/* Kills it (SIGKILL, the group if it has one) unless it was waited for, reaps it, closes the pipes
 * and frees p: no zombie stays. Waits for the end whatever the scope says. NULL is accepted. */
FEN_API void fen_process_close(fen_process *p);

/* Starts a process, waits for it and closes it. When the scope ends first, or the absolute
 * deadline passes, it is killed: -ETIMEDOUT, -ECANCELED. FEN_IO_PIPE is -EINVAL. Else as open. */
FEN_API int fen_process_run(const fen_process_config *cfg, int64_t deadline_ns,
                            fen_process_status *ret_status) FEN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
