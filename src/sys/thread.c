/* thread.c - the current worker, futexes, membarrier, scheduling class, rseq. */
#include "sys/sys_int.h"

#include "sys/cgroup.h"
#include "sys/node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* used, externally_visible: sys.h reads it in assembly, which link-time optimisation cannot see. */
#ifdef __clang__
#define SEEN_BY_ASM used
#else
#define SEEN_BY_ASM used, externally_visible
#endif
_Thread_local struct fen__m *fen__self_tls __attribute__((tls_model("initial-exec"), SEEN_BY_ASM));
int (*fen__sys_fault)(const char *call);

void fen__set_self(struct fen__m *m) { fen__self_tls = m; }

/* initial-exec: a handler of a signal reads it */
static _Thread_local struct fen__m *aside __attribute__((tls_model("initial-exec")));
struct fen__m *fen__aside(void) { return aside; }
void fen__set_aside(struct fen__m *m) { aside = m; }

_Thread_local struct fen__cache *fen__cache_tls
    __attribute__((tls_model("initial-exec"), SEEN_BY_ASM));
void fen__set_cache(struct fen__cache *c) { fen__cache_tls = c; }

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static int exit_rc;
static void (*exit_fn)(void *arg);
static _Thread_local bool ends __attribute__((tls_model("initial-exec")));

static void at_exit(void *arg)
{
    ends = true;
    __atomic_load_n(&exit_fn, __ATOMIC_RELAXED)(arg);
}

static void exit_init(void) { exit_rc = -pthread_key_create(&exit_key, at_exit); }

int fen__sys_at_thread_exit(void (*fn)(void *arg), void *arg)
{
    __atomic_store_n(&exit_fn, fn, __ATOMIC_RELAXED);
    pthread_once(&exit_once, exit_init);
    return exit_rc ? exit_rc : -pthread_setspecific(exit_key, arg);
}

bool fen__sys_thread_ends(void) { return ends; }

void fen__sys_stack_bounds(const char **ret_low, const char **ret_top)
{
    pthread_attr_t attr;
    void *low = NULL;
    size_t bytes = 0;
    int saved = errno;
    if (!pthread_getattr_np(pthread_self(), &attr)) {
        (void)pthread_attr_getstack(&attr, &low, &bytes);
        pthread_attr_destroy(&attr);
    }
    errno = saved;
    *ret_low = low ? low : (const char *)1;
    *ret_top = *ret_low + bytes;
}

int fen__sys_at_fork(void (*before)(void), void (*after)(void), void (*child)(void))
{
    return -pthread_atfork(before, after, child);
}

int fen__sys_thread(pthread_t *ret_thread, size_t stack_bytes, void *(*fn)(void *arg), void *arg)
{
    FAULT("thread");
    size_t bytes;
    const void *everywhere = fen__sys_node_everywhere(&bytes);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (everywhere) /* not where its maker is bound */
        pthread_attr_setaffinity_np(&attr, bytes, everywhere);
    pthread_attr_setstacksize(&attr, stack_bytes);
    int rc = pthread_create(ret_thread, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    return -rc;
}

bool fen__forked;
static const _Atomic uint32_t *fork_running;

static void in_child(void)
{
    if (*fork_running) {
        fen__forked = true;
        fen__self_tls = NULL;
        aside = NULL;
    }
}

int fen__sys_mark_forks(const _Atomic uint32_t *running)
{
    if (fork_running) /* only the one fen_run that runs is here */
        return 0;
    fork_running = running;
    if (!pthread_atfork(NULL, NULL, in_child))
        return 0;
    fork_running = NULL;
    return -ENOMEM;
}

int fen__sys_gettid(void) { return (int)syscall(SYS_gettid); }

/* More processors than cpu_set_t holds: the set grows until the kernel is content. */
static int affinity_cores(void)
{
    for (int max = CPU_SETSIZE; max <= 1 << 20; max *= 2) {
        size_t bytes = CPU_ALLOC_SIZE(max);
        cpu_set_t *set = CPU_ALLOC(max);
        if (!set)
            return 1;
        int rc = sched_getaffinity(0, bytes, set) ? -errno : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (rc != -EINVAL)
            return rc > 0 ? rc : 1;
    }
    return 1;
}

int fen__sys_cpus_allowed(void)
{
    int n = affinity_cores(), quota = fen__sys_cgroup_cores("");
    return quota > 0 && quota < n ? quota : n;
}

int fen__sys_fd_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return 1024;
    if (r.rlim_cur < r.rlim_max) {
        struct rlimit more = {r.rlim_max, r.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            r = more;
    }
    return r.rlim_cur > INT_MAX ? INT_MAX : (int)r.rlim_cur;
}

static struct timespec to_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / FEN_S, .tv_nsec = ns % FEN_S};
}

void fen__sys_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
    /* FUTEX_WAIT_BITSET takes an absolute monotonic deadline. */
    struct timespec ts = to_timespec(deadline_ns);
    int saved = errno; /* free, which may wait for a lock, keeps it */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen,
            deadline_ns == FEN_NEVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
    errno = saved;
}

void fen__sys_futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
}

/* 0 free, 1 held, 2 held and somebody may sleep. */
void fen__lock_slow(uint32_t *word)
{
    if (fen__forked)
        fen__panic("a forked child may only exec", __FILE__, __LINE__);
    for (int i = 0; i < 100; i++) {
        uint32_t seen = 0;
        if (__atomic_load_n(word, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE) != 0)
        fen__sys_futex_wait((_Atomic uint32_t *)word, 2, FEN_NEVER);
}

void fen__unlock_slow(uint32_t *word) { fen__sys_futex_wake((_Atomic uint32_t *)word, 1); }

int fen__sys_membarrier_init(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) ? -errno : 0;
}

void fen__sys_membarrier(void) { syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); }

void fen__sys_nap(int64_t ns)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts); /* not fen__sys_now, which may be simulated */
    ts = to_timespec(fen__time_after(ts.tv_sec * FEN_S + ts.tv_nsec, ns));
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

void fen__sys_timer_slack(int64_t ns) { prctl(PR_SET_TIMERSLACK, (unsigned long)ns); }

/* The slice is set while the class is still SCHED_OTHER: for SCHED_IDLE the kernel ignores it, but
 * keeps what was set. Refused, or an old kernel: it demotes all the same. */
int fen__sys_demote(int tid, int64_t slice_ns)
{
    struct { /* struct sched_attr, whose header does not go with sched.h */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a,
           .policy = SCHED_OTHER,
           .nice = getpriority(PRIO_PROCESS, (id_t)tid),
           .runtime = (uint64_t)slice_ns};
    syscall(SYS_sched_setattr, tid, &a, 0);
    struct sched_param none = {0};
    return sched_setscheduler(tid, SCHED_IDLE, &none) ? -errno : 0;
}

bool fen__sys_asleep(int tid, int *statfd)
{
    char text[256];
    if (*statfd < 0) {
        snprintf(text, sizeof text, "/proc/self/task/%d/stat", tid);
        *statfd = fen__sys_own_fd(open(text, O_RDONLY | O_CLOEXEC));
    }
    ssize_t n = *statfd < 0 ? -1 : pread(*statfd, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = 0;
    const char *s = strrchr(text, ')');
    return s && s[1] && (s[2] == 'S' || s[2] == 'D');
}

/* A descriptor whose code range is never executed. On preemption, migration or a signal outside
 * the range the kernel stores 0 into rseq_cs (linux/rseq.h promises it), so one load tells whether
 * it ran undisturbed since it was armed. Other users of rseq can cause only false alarms. */
#if defined(__x86_64__)
__asm__(".text\n.balign 16\n.long 0x53053053\nfen__rseq_abort: ud2\nfen__rseq_never: nop\n");
#define FEN__HAVE_RSEQ 1
#elif defined(__aarch64__)
__asm__(".text\n.balign 16\n.inst 0xd428bc00\nfen__rseq_abort: udf #0\nfen__rseq_never: nop\n");
#define FEN__HAVE_RSEQ 1
#endif
#ifdef FEN__HAVE_RSEQ
extern char fen__rseq_abort[], fen__rseq_never[];
static const struct {
    uint32_t version, flags;
    const char *start;
    uint64_t len;
    const char *abort;
} desc
    __attribute__((aligned(32))) = {.start = fen__rseq_never, .len = 1, .abort = fen__rseq_abort};

int fen__rseq_slot(volatile uint64_t **ret_slot, uint64_t *ret_armed)
{
    if (__rseq_size == 0)
        return -ENOTSUP;
    char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    *ret_slot = (volatile uint64_t *)(area + 8); /* offsetof(struct rseq, rseq_cs) */
    *ret_armed = (uint64_t)(uintptr_t)&desc;
    return 0;
}
#else
int fen__rseq_slot(volatile uint64_t **ret_slot, uint64_t *ret_armed)
{
    (void)ret_slot;
    (void)ret_armed;
    return -ENOTSUP;
}
#endif
