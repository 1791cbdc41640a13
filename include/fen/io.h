/* io.h - waiting for what fen does not own: other libraries' descriptors, and calls that block. */
#ifndef FEN_IO_H
#define FEN_IO_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What may be waited for, and what is reported; the numbers of poll(2). */
enum fen_fd_events {
    FEN_FD_READ = 1,
    FEN_FD_WRITE = 4,
    FEN_FD_ERROR = 8,   /* always reported */
    FEN_FD_HANGUP = 16, /* always reported */
};

/* Waits until something of `events` (FEN_FD_READ, FEN_FD_WRITE or both) holds for any descriptor:
 * of libcurl, hiredis, libpq, a pipe, an eventfd. The descriptor stays its owner's, may be blocking
 * or not, and may be waited for by several fibers at once. Returns what holds (> 0; for a file at
 * once), or -ETIMEDOUT, -ECANCELED, -EBADF (not a descriptor, or fen_fd_forget was called), -EINVAL
 * (no such events), -EAGAIN (deadline_ns 0 and nothing holds), -ENOMEM.
 *
 * Whoever closes a descriptor while fibers wait for it calls fen_fd_forget first; without that they
 * wait until the deadline, or until the number is waited for again as another descriptor, or opened
 * by fen (a socket, an accepted connection, a child's pipe). A new descriptor with the number of an
 * old one is never mistaken for it. Parks; outside a fiber it blocks the thread. */
FEN_API int fen_fd_wait(int fd, int events, int64_t deadline_ns) FEN_MUST_CHECK;

/* Ends every fiber's fen_fd_wait for fd with -EBADF; not that of a plain thread, which stays in
 * poll(2) until something holds or its deadline. Any thread, does not block. */
FEN_API void fen_fd_forget(int fd);

/* Runs fn(arg) on a thread of a bounded pool while the fiber parks, and returns fn's value. For
 * calls that take long or keep state in thread-locals: the pool's threads are ordinary ones. What
 * fn burns is on the fiber's bill.
 *
 * The scope's end, or deadline_ns, ends the wait while fn has not begun: -ECANCELED or -ETIMEDOUT,
 * and fn is not called; nor is it in a scope that has ended already or with a deadline in the past
 * (0 too), in any of the three. Once fn runs, the call returns when fn does, whatever the scope
 * says: arg and what it points to may lie on the caller's stack. -EAGAIN: no thread can be had. fn
 * must not call what needs a fiber. At most fen_config.max_blocking calls run at once, the others
 * wait in order; try_: -EAGAIN instead of standing in that queue, so fn has not run then unless it
 * returns -EAGAIN itself. Parks; outside a fiber fn runs on the calling thread, unless the deadline
 * has passed. */
FEN_API int fen_blocking(int (*fn)(void *arg), void *arg) FEN_MUST_CHECK;
FEN_API int fen_blocking_until(int (*fn)(void *arg), void *arg, int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_try_blocking(int (*fn)(void *arg), void *arg) FEN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
