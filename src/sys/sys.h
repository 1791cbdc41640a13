/* sys.h - the only seam to the kernel. Every function returns a negative errno value on failure and
 * touches errno and thread-locals only inside itself; none of them can park a fiber. */
#ifndef FEN_SYS_H
#define FEN_SYS_H

#include "base/base.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---- clocks ---- */
int64_t fen__sys_now(void);         /* CLOCK_MONOTONIC, ns */
int64_t fen__sys_wall_ns(void);     /* CLOCK_REALTIME, ns since 1970 */
int64_t fen__sys_thread_cpu(void);  /* this thread's CPU time, ns */
int64_t fen__sys_process_cpu(void); /* the process's CPU time, ns */
int64_t fen__sys_cpu_of(int tid);   /* another thread's CPU time, ns, or -errno */
/* The deadline has passed; looks at no clock when there is none. */
static inline bool fen__sys_past(int64_t deadline_ns)
{
    return deadline_ns != FEN_NEVER && deadline_ns <= fen__sys_now();
}

/* Simulated time (sim.c), of the calling thread only: ns > 0 is what fen__sys_now returns from then
 * on, 0 ends it. */
void fen__sys_virtual_set(int64_t ns);
bool fen__sys_is_virtual(void);

/* ---- TSC (x86-64: rdtsc, aarch64: cntvct) ---- */
static inline uint64_t fen__tsc(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t v;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
#else
#error "fen runs on x86-64 and aarch64"
#endif
}
/* Calibrates once; about 1 ms the first time. Then ticks convert by multiplication. */
void fen__tsc_init(void);
int64_t fen__tsc_to_ns(int64_t ticks);
__int128 fen__tsc_to_ns_wide(__int128 ticks); /* of products with ticks; |ticks| < 2^94 */
int64_t fen__tsc_from_ns(int64_t ns);

/* ---- the current worker: one pointer per thread ----
 * Read through volatile asm: a compiler may otherwise compute a thread-local's address once and use
 * it after the fiber has moved to another thread (errors are values for the same reason). */
struct fen__m;
extern _Thread_local struct fen__m *fen__self_tls __attribute__((tls_model("initial-exec")));
static inline struct fen__m *fen__self(void)
{
    struct fen__m *m;
#if defined(__x86_64__)
    __asm__ volatile("movq fen__self_tls@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0"
                     : "=r"(m)
                     :
                     : "memory");
#else
    uint64_t tp;
    __asm__ volatile("mrs %1, tpidr_el0\n\t"
                     "adrp %0, :gottprel:fen__self_tls\n\t"
                     "ldr %0, [%0, #:gottprel_lo12:fen__self_tls]\n\t"
                     "ldr %0, [%0, %1]"
                     : "=&r"(m), "=&r"(tp)
                     :
                     : "memory");
#endif
    return m;
}
void fen__set_self(struct fen__m *m);

/* The worker that is put aside while a function of the program runs on it (sched/guard.c). */
struct fen__m *fen__aside(void);
void fen__set_aside(struct fen__m *m);

/* ---- the calling thread's cache of memory (room mem) ----
 * Whoever reads it neither parks nor is inlined into what does, so no "memory" clobber. */
struct fen__cache;
extern _Thread_local struct fen__cache *fen__cache_tls __attribute__((tls_model("initial-exec")));
static inline struct fen__cache *fen__cache_self(void)
{
    struct fen__cache *c;
#if defined(__x86_64__)
    __asm__ volatile("movq fen__cache_tls@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(c));
#else
    uint64_t tp;
    __asm__ volatile("mrs %1, tpidr_el0\n\t"
                     "adrp %0, :gottprel:fen__cache_tls\n\t"
                     "ldr %0, [%0, #:gottprel_lo12:fen__cache_tls]\n\t"
                     "ldr %0, [%0, %1]"
                     : "=&r"(c), "=&r"(tp));
#endif
    return c;
}
void fen__set_cache(struct fen__cache *c);
/* fn(arg) when the calling thread ends, arg not NULL; the same fn in every call. Again after it
 * has run: it runs once more. 0 or -errno; then nothing happens at the end. */
int fen__sys_at_thread_exit(void (*fn)(void *arg), void *arg) FEN_MUST_CHECK;
bool fen__sys_thread_ends(void); /* fn has run on this thread */
/* The bounds of the calling thread's own stack, which is mapped from a frame on it to top; equal
 * when they are not known. May allocate. */
void fen__sys_stack_bounds(const char **ret_low, const char **ret_top);
int fen__sys_at_fork(void (*before)(void), void (*after)(void), void (*child)(void));

/* ---- fork ---- */
/* Set in a child forked while *running was not 0: it has one thread, and locks that nobody will let
 * go; it may only exec. The current worker of its thread is forgotten. */
extern bool fen__forked;
/* 0 or -ENOMEM. Once for all. */
int fen__sys_mark_forks(const _Atomic uint32_t *running) FEN_MUST_CHECK;

/* ---- rseq: "was this thread interrupted since I looked?" ---- */
/* Address of this thread's rseq_cs field and the value to arm it with; 0 if not available. */
int fen__rseq_slot(volatile uint64_t **ret_slot, uint64_t *ret_armed);

/* ---- memory ---- */
int fen__sys_map(size_t bytes, void **ret_p); /* private, zeroed, no reserve */
/* The same; *ret_p + skew is aligned to align, a power of two; bytes and skew are whole pages. */
int fen__sys_map_aligned(size_t bytes, size_t align, size_t skew, void **ret_p) FEN_MUST_CHECK;
void fen__sys_unmap(void *p, size_t bytes);
int fen__sys_guard_madvise(void *p, size_t bytes); /* MADV_GUARD_INSTALL; -EINVAL before 6.13 */
int fen__sys_guard_mprotect(void *p, size_t bytes);
/* MADV_DONTNEED. Negative, and the pages are as they were: locked memory (mlockall). */
int fen__sys_release(void *p, size_t bytes);
/* The map at p has to_bytes from now on, where it is, or at `to`, a map of so many bytes that it
 * takes the place of; NULL: only where it is. Pages move, nothing is copied. Refused: all is as it
 * was. */
int fen__sys_remap(void *p, size_t bytes, size_t to_bytes, void *to) FEN_MUST_CHECK;
void fen__sys_hugepages(void *p, size_t bytes); /* MADV_HUGEPAGE: a wish */
/* The same for up to 1,024 parts. What cannot be given back stays as it is. */
void fen__sys_release_parts(const struct iovec *part, int n);
/* Makes whole pages inaccessible, and accessible again, with what they hold. 0 or -errno. */
int fen__sys_access(void *p, size_t bytes, bool allowed);
size_t fen__sys_page_bytes(void);

/* ---- threads ---- */
int fen__sys_gettid(void);
int fen__sys_thread(pthread_t *ret_thread, size_t stack_bytes, void *(*fn)(void *arg), void *arg);
int fen__sys_cpus_allowed(void); /* affinity and cgroup quota, at least 1 */
/* Sleeps while *word == seen, at most until deadline (FEN_NEVER: no limit). */
void fen__sys_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns);
void fen__sys_futex_wake(_Atomic uint32_t *word, int n);
int fen__sys_membarrier_init(void); /* 0, or -errno: use locked instructions */
void fen__sys_membarrier(void);
void fen__sys_nap(int64_t ns); /* all of it, whatever signals are handled meanwhile */
void fen__sys_timer_slack(int64_t ns);
/* SCHED_IDLE, and turns so long where the kernel lets them be chosen (6.12). 0, -errno. */
int fen__sys_demote(int tid, int64_t slice_ns);
/* Is that thread asleep in the kernel (not merely preempted)? statfd caches; starts at -1. */
bool fen__sys_asleep(int tid, int *statfd);

/* ---- memory faults ----
 * explain says what the fault at addr with those registers is: lines for fd 2 (their length),
 * after which the process ends by the signal's default action, or 0: the handler before ours gets
 * it. It is called in the signal handler. install and restore go in pairs; altstack gives the
 * calling thread a stack for the handler unless it has one (true), and must be taken back before
 * the thread ends. */
#define FEN__ALTSTACK_BYTES (32u << 10)
struct fen__sys_fault_at {
    uintptr_t addr, sp, pc, fp;
};
#define FEN__FAULT_TEXT 4096
void fen__sys_fault_install(size_t (*explain)(const struct fen__sys_fault_at *at, char *ret,
                                              size_t n));
void fen__sys_fault_restore(void);
bool fen__sys_altstack(void *mem);
void fen__sys_altstack_drop(void);
__attribute__((noreturn)) void fen__sys_die(const char *text, size_t n); /* fd 2, then abort */

/* ---- a short lock: spins a little, then sleeps. 0 is free; never held across a park ---- */
void fen__lock_slow(uint32_t *word);
void fen__unlock_slow(uint32_t *word);
static inline void fen__lock(uint32_t *word)
{
    uint32_t free_word = 0; /* pairs with the release in fen__unlock */
    if (!__atomic_compare_exchange_n(word, &free_word, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        fen__lock_slow(word);
}
static inline bool fen__trylock(uint32_t *word) /* pairs as in fen__lock */
{
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n(word, &free_word, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}
/* seq_cst for fen__arm_locked; release would do for the lock. */
static inline void fen__unlock(uint32_t *word)
{
    if (__atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST) == 2)
        fen__unlock_slow(word);
}

int fen__sys_fd_limit(void); /* soft limit, raised to the hard one */

/* ---- descriptors (all non-blocking, close-on-exec) ---- */
ssize_t fen__sys_read(int fd, void *buf, size_t n);
ssize_t fen__sys_write(int fd, const void *buf, size_t n);
ssize_t fen__sys_recv(int fd, void *buf, size_t n);
ssize_t fen__sys_send(int fd, const void *buf, size_t n); /* MSG_NOSIGNAL */
int fen__sys_close(int fd);
int fen__sys_socket(int family, int type);
int fen__sys_bind(int fd, const struct sockaddr *sa, socklen_t len);
int fen__sys_listen(int fd, int backlog);
int fen__sys_accept(int fd);
/* A listener that takes no new connection; handshakes under way still end in its queue. */
int fen__sys_listen_last(int fd);
int fen__sys_connect(int fd, const struct sockaddr *sa, socklen_t len);
int fen__sys_so_error(int fd);
int fen__sys_setsockopt_int(int fd, int level, int name, int value);
int fen__sys_getsockopt_int(int fd, int level, int name, int *ret_value);
int fen__sys_set_nonblock(int fd);
int fen__sys_sockname(int fd, struct sockaddr *sa, socklen_t *len);
int fen__sys_peername(int fd, struct sockaddr *sa, socklen_t *len);
int fen__sys_shutdown(int fd, int how);
ssize_t fen__sys_peek(int fd, void *buf, size_t n); /* recv without taking */
int fen__sys_epoll_create(void);
int fen__sys_epoll_add(int ep, int fd, uint32_t events, uint64_t data);
int fen__sys_epoll_mod(int ep, int fd, uint32_t events, uint64_t data); /* -ENOENT: not there */
int fen__sys_epoll_del(int ep, int fd);
/* Waits until deadline (absolute, 0: do not wait, FEN_NEVER); the count or -errno; 0 on EINTR. */
int fen__sys_epoll_wait(int ep, struct epoll_event *ev, int n, int64_t deadline_ns);
bool fen__sys_readable(int fd); /* poll(2) with no wait */
/* What of the POLL* events holds, with POLLERR and POLLHUP; waits in the kernel until the deadline
 * (0: not at all). 0: nothing. -EBADF: not a descriptor. */
int fen__sys_poll(int fd, int events, int64_t deadline_ns);
int fen__sys_eventfd(void);
void fen__sys_eventfd_signal(int fd);
bool fen__sys_eventfd_take(int fd); /* false: nothing there. No other way to fail */

/* ---- sockets, beyond one buffer and one peer (net.c) ---- */
int fen__sys_socketpair(int type, int ret_fd[2]); /* AF_UNIX */
/* sa NULL: the connected peer. */
ssize_t fen__sys_sendmsg(int fd, const struct iovec *iov, int n, const struct sockaddr *sa,
                         socklen_t len);
/* sa may be NULL. A datagram that did not fit whole is -EMSGSIZE. */
ssize_t fen__sys_recvmsg(int fd, const struct iovec *iov, int n, struct sockaddr *sa,
                         socklen_t *len);
ssize_t fen__sys_send_zc(int fd, const void *buf, size_t n); /* the kernel keeps buf for a while */
/* One report of the error queue: how many zero-copy sends the kernel has let go of, and whether it
 * had copied them after all. -EAGAIN: none there. */
int fen__sys_zc_done(int fd, uint32_t *ret_sends, bool *ret_copied);
/* Resets a TCP connection and drops what is queued, the descriptor stays open. */
int fen__sys_disconnect(int fd);
/* Moves bytes of a file, may wait for the disk; never raises SIGPIPE. */
ssize_t fen__sys_sendfile(int fd, int file, int64_t *offset, size_t n);
ssize_t fen__sys_splice(int from, int to, size_t n); /* one of them a pipe; never SIGPIPE */
/* Of about so many bytes where the kernel allows it; 0: of its usual size. */
int fen__sys_pipe(int ret_fd[2], size_t bytes);

/* ---- files (file.c); they wait for the disk ---- */
struct stat;
int fen__sys_open(const char *path, int flags, int mode);
ssize_t fen__sys_pread(int fd, void *buf, size_t n, int64_t offset);
/* What of that is in the page cache, without a wait; offset -1: at the file's position. -EAGAIN:
 * nothing, or not known; -EOPNOTSUPP. A file with O_DIRECT waits for the disk all the same. */
ssize_t fen__sys_pread_cached(int fd, void *buf, size_t n, int64_t offset);
int fen__sys_file_flags(int fd); /* O_DIRECT, O_APPEND ... or -errno */
ssize_t fen__sys_pwrite(int fd, const void *buf, size_t n, int64_t offset);
int fen__sys_fsync(int fd, bool data_only);
int fen__sys_truncate(int fd, int64_t bytes);
int fen__sys_stat(const char *path, struct stat *ret_stat);
int fen__sys_fstat(int fd, struct stat *ret_stat);
int fen__sys_rename(const char *from, const char *to);
int fen__sys_unlink(const char *path);

/* ---- fault seam (tests): called before a call that can fail; non-zero is returned ---- */
extern int (*fen__sys_fault)(const char *call);

#endif
