/* uring.c - io_uring without a library: set up, push, enter, reap.
 *
 * The kernel owns sq_head and cq_tail, we own sq_tail and cq_head; each side publishes its own with
 * a release store that pairs with the other's acquire load. The memory is not inherited by a forked
 * child (MADV_DONTFORK), so a child cannot disturb the ring.
 *
 * Where the kernel can (6.1), answers are put down only while the thread is in enter, so nothing
 * interrupts it and no processor is interrupted for it. */
#include "sys/uring.h"

#include "sys/sys_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Headers may be older than the kernel; these are its numbers. */
#define SINGLE_ISSUER (1u << 12)
#define DEFER_TASKRUN (1u << 13)
#define REGISTER_MAX_WORKERS 19
#define NEEDED                                                                                     \
    (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | (1u << 5))

static int setup(uint32_t questions, struct io_uring_params *p)
{
    uint32_t answers = p->cq_entries;
    for (uint32_t flags = SINGLE_ISSUER | DEFER_TASKRUN;; flags = 0) {
        *p = (struct io_uring_params){.flags = flags | IORING_SETUP_CQSIZE, .cq_entries = answers};
        int fd = fen__sys_own_fd((int)syscall(SYS_io_uring_setup, questions, p));
        if (fd != -EINVAL || !flags)
            return fd;
    }
}

static int knows_all(int fd)
{
    static const uint8_t needed[] = {IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_FSYNC,
                                     IORING_OP_OPENAT, IORING_OP_CLOSE, IORING_OP_ASYNC_CANCEL};
    enum { N = 64 };
    char room[sizeof(struct io_uring_probe) + N * sizeof(struct io_uring_probe_op)] FEN__ALIGN(8);
    struct io_uring_probe *probe = (void *)room;
    memset(room, 0, sizeof room);
    if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, probe, N))
        return -errno;
    for (size_t i = 0; i < FEN__COUNT(needed); i++)
        if (needed[i] >= probe->ops_len || !(probe->ops[needed[i]].flags & IO_URING_OP_SUPPORTED))
            return -EOPNOTSUPP;
    return 0;
}

static int map(int fd, size_t bytes, uint64_t at, void **ret)
{
    FAULT("mmap");
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)at);
    if (p == MAP_FAILED)
        return -errno;
    madvise(p, bytes, MADV_DONTFORK);
    *ret = p;
    return 0;
}

static int map_all(struct fen__uring *r, const struct io_uring_params *p)
{
    size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    r->rings_bytes = sq > cq ? sq : cq;
    r->calls_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
    int rc = map(r->fd, r->rings_bytes, IORING_OFF_SQ_RING, &r->rings);
    if (rc)
        return rc;
    rc = map(r->fd, r->calls_bytes, IORING_OFF_SQES, &r->calls);
    if (rc)
        return rc;
    char *base = r->rings;
    r->sq_head = (uint32_t *)(void *)(base + p->sq_off.head);
    r->sq_tail = (uint32_t *)(void *)(base + p->sq_off.tail);
    r->sq_array = (uint32_t *)(void *)(base + p->sq_off.array);
    r->cq_head = (uint32_t *)(void *)(base + p->cq_off.head);
    r->cq_tail = (uint32_t *)(void *)(base + p->cq_off.tail);
    r->answers = base + p->cq_off.cqes;
    r->sq_mask = p->sq_entries - 1;
    r->cq_mask = p->cq_entries - 1;
    r->cq_entries = p->cq_entries;
    return 0;
}

int fen__uring_open(struct fen__uring *r, uint32_t questions, uint32_t answers, uint32_t workers)
{
    FAULT("uring_setup");
    struct io_uring_params p = {.cq_entries = answers};
    uint32_t most[2] = {workers, workers}; /* on files; on everything else */
    *r = (struct fen__uring){.fd = setup(questions, &p)};
    if (r->fd < 0)
        return r->fd;
    int rc = (p.features & NEEDED) == NEEDED ? knows_all(r->fd) : -EOPNOTSUPP;
    if (!rc)
        rc = map_all(r, &p);
    if (rc)
        fen__uring_close(r);
    else /* before 5.15 there is no such bound but the kernel's own */
        syscall(SYS_io_uring_register, r->fd, REGISTER_MAX_WORKERS, most, 2);
    return rc;
}

void fen__uring_close(struct fen__uring *r)
{
    if (r->calls)
        munmap(r->calls, r->calls_bytes);
    if (r->rings)
        munmap(r->rings, r->rings_bytes);
    if (r->fd >= 0)
        close(r->fd);
    r->calls = r->rings = NULL;
    r->fd = -1;
}

static void transfer(struct io_uring_sqe *e, const struct fen__uring_call *c, uint8_t opcode)
{
    e->opcode = opcode;
    e->fd = c->fd;
    e->addr = (uintptr_t)c->buf;
    e->len = (uint32_t)(c->n < FEN__URING_BYTES ? c->n : FEN__URING_BYTES);
    e->off = (uint64_t)c->offset;
}

static void fill(struct io_uring_sqe *e, const struct fen__uring_call *c)
{
    memset(e, 0, sizeof *e);
    e->flags = c->worker ? IOSQE_ASYNC : 0;
    e->fd = c->fd;
    switch (c->op) {
    case FEN__URING_PREAD:
    case FEN__URING_READ: transfer(e, c, IORING_OP_READ); break;
    case FEN__URING_PWRITE: transfer(e, c, IORING_OP_WRITE); break;
    case FEN__URING_OPEN:
        e->opcode = IORING_OP_OPENAT;
        e->fd = AT_FDCWD;
        e->addr = (uintptr_t)c->path;
        e->len = (uint32_t)c->mode;
        e->open_flags = (uint32_t)c->flags | O_CLOEXEC;
        break;
    case FEN__URING_CLOSE: e->opcode = IORING_OP_CLOSE; break;
    case FEN__URING_SYNC:
        e->opcode = IORING_OP_FSYNC;
        e->fsync_flags = c->mode ? IORING_FSYNC_DATASYNC : 0;
        break;
    case FEN__URING_CANCEL:
        e->opcode = IORING_OP_ASYNC_CANCEL;
        e->fd = -1;
        e->addr = c->target;
        break;
    }
}

bool fen__uring_push(struct fen__uring *r, const struct fen__uring_call *c, uint64_t tag)
{
    uint32_t tail = *r->sq_tail;
    if (tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE) > r->sq_mask)
        return false;
    struct io_uring_sqe *e = (struct io_uring_sqe *)r->calls + (tail & r->sq_mask);
    fill(e, c);
    e->user_data = tag;
    r->sq_array[tail & r->sq_mask] = tail & r->sq_mask;
    __atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE); /* pairs with the kernel's load */
    return true;
}

int fen__uring_enter(struct fen__uring *r, bool wait)
{
    FAULT("uring_enter");
    uint32_t n = *r->sq_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
    long got = syscall(SYS_io_uring_enter, r->fd, n, wait ? 1 : 0, IORING_ENTER_GETEVENTS, NULL, 0);
    return got < 0 ? -errno : 0;
}

/* The kernel looks at the tail only inside enter, so between two of them it may go back. */
bool fen__uring_unpush(struct fen__uring *r, uint64_t *ret_tag)
{
    uint32_t tail = *r->sq_tail;
    if (tail == __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE))
        return false;
    *ret_tag = ((struct io_uring_sqe *)r->calls + ((tail - 1) & r->sq_mask))->user_data;
    __atomic_store_n(r->sq_tail, tail - 1, __ATOMIC_RELEASE);
    return true;
}

bool fen__uring_reap(struct fen__uring *r, uint64_t *ret_tag, int *ret_result)
{
    uint32_t head = *r->cq_head;
    if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
        return false;
    const struct io_uring_cqe *e = (const struct io_uring_cqe *)r->answers + (head & r->cq_mask);
    *ret_tag = e->user_data;
    *ret_result = e->res;
    __atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE); /* its place is the kernel's again */
    return true;
}
