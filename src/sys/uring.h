/* uring.h - io_uring by its three system calls: memory shared with the kernel, what is pushed, what
 * has come. One thread uses a ring. No policy: who waits for what is in sync/ring.c. */
#ifndef FEN_SYS_URING_H
#define FEN_SYS_URING_H

#include "base/base.h"

enum fen__uring_op {
    FEN__URING_PREAD,
    FEN__URING_PWRITE,
    FEN__URING_OPEN,
    FEN__URING_CLOSE,
    FEN__URING_SYNC, /* mode 1: data only */
    FEN__URING_READ, /* of an eventfd */
    FEN__URING_CANCEL,
};

/* What is asked. path and buf are the caller's; path is read before the next enter returns, buf is
 * the kernel's until the answer. */
struct fen__uring_call {
    enum fen__uring_op op;
    int fd, flags, mode;
    const char *path;
    void *buf;
    size_t n; /* more than FEN__URING_BYTES is cut */
    int64_t offset;
    uint64_t target; /* of a cancel: the tag */
    bool worker;     /* at once on a thread of the kernel's, without a try on ours */
};
#define FEN__URING_BYTES ((size_t)1 << 30)

struct fen__uring {
    int fd;
    uint32_t sq_mask, cq_mask, cq_entries;
    void *rings, *calls;
    size_t rings_bytes, calls_bytes;
    uint32_t *sq_head, *sq_tail, *sq_array, *cq_head, *cq_tail;
    const void *answers;
};

/* For the calling thread, with at least so many places for questions and answers, and at most so
 * many threads of the kernel's. The kernel must know every operation above. 0; -ENOSYS, -EPERM
 * (forbidden), -EOPNOTSUPP (too old), -ENOMEM, -EMFILE ... */
int fen__uring_open(struct fen__uring *r, uint32_t questions, uint32_t answers,
                    uint32_t workers) FEN_MUST_CHECK;
void fen__uring_close(struct fen__uring *r);
/* False: no place. The tag comes back with the answer. */
bool fen__uring_push(struct fen__uring *r, const struct fen__uring_call *c, uint64_t tag);
/* Gives what was pushed to the kernel and, if asked, waits for an answer. 0 or -errno (-EINTR ...);
 * fen__uring_unpush tells what the kernel did not take. */
int fen__uring_enter(struct fen__uring *r, bool wait);
/* Takes back the last that was pushed and not taken: its tag. False: there is none. */
bool fen__uring_unpush(struct fen__uring *r, uint64_t *ret_tag);
/* The next answer. False: none is there. */
bool fen__uring_reap(struct fen__uring *r, uint64_t *ret_tag, int *ret_result);

#endif
