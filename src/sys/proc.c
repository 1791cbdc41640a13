/* proc.c - reads /proc of this process. Numbers that are missing stay -1: a container may hide
 * them, and a monitoring page must not fail for that. */
#include "sys/proc.h"

#include "sys/sys_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

ssize_t fen__sys_file_read(const char *path, void *buf, size_t n)
{
    int rc = fen__sys_fault ? fen__sys_fault("open") : 0;
    if (rc)
        return rc;
    int fd = fen__sys_own_fd(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return fd;
    size_t at = 0;
    ssize_t got = 1;
    while (at < n && got != 0) {
        got = read(fd, (char *)buf + at, n - at);
        if (got < 0 && errno != EINTR) {
            got = -errno;
            close(fd);
            return got;
        }
        at += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    return (ssize_t)at;
}

/* Fields of /proc/self/stat behind the name, which may hold spaces and brackets. */
static void read_stat(struct fen__sys_proc *p, int64_t *ret_start_ticks)
{
    char text[1024];
    ssize_t n = fen__sys_file_read("/proc/self/stat", text, sizeof text - 1);
    if (n <= 0)
        return;
    text[n] = 0;
    char *at = strrchr(text, ')');
    for (int field = 3; at && (at = strchr(at, ' ')); field++) {
        at++;
        if (field == 20)
            p->threads = strtoll(at, NULL, 10);
        else if (field == 22)
            *ret_start_ticks = strtoll(at, NULL, 10);
        else if (field == 23)
            p->virtual_bytes = strtoll(at, NULL, 10);
        else if (field == 24)
            p->resident_bytes = strtoll(at, NULL, 10) * (int64_t)fen__sys_page_bytes();
    }
}

static int64_t clock_ms(clockid_t id)
{
    struct timespec t;
    return clock_gettime(id, &t) ? -1 : (int64_t)t.tv_sec * 1000 + t.tv_nsec / FEN_MS;
}

/* Taken from the clocks, for btime in /proc/stat stands behind a line as long as the machine has
 * interrupts; and once, or the start would move with every correction of the wall clock. */
static int64_t start_unix_ms(int64_t start_ticks)
{
    static int64_t known = -1;
    int64_t v = __atomic_load_n(&known, __ATOMIC_RELAXED), hz = sysconf(_SC_CLK_TCK);
    if (v >= 0 || start_ticks < 0 || hz <= 0)
        return v;
    v = clock_ms(CLOCK_REALTIME) - (clock_ms(CLOCK_BOOTTIME) - start_ticks * 1000 / hz);
    int64_t none = -1; /* the first of several that got here stays */
    return __atomic_compare_exchange_n(&known, &none, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
               ? v
               : none;
}

static int64_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -1;
    int64_t n = -3; /* ".", ".." and the directory itself */
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

void fen__sys_proc_get(struct fen__sys_proc *ret_proc)
{
    *ret_proc = (struct fen__sys_proc){-1, -1, -1, -1, -1, -1, -1};
    int64_t start_ticks = -1;
    read_stat(ret_proc, &start_ticks);
    ret_proc->cpu_ns = fen__sys_process_cpu();
    ret_proc->open_fds = count_fds();
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        ret_proc->max_fds = limit.rlim_cur == RLIM_INFINITY ? -1 : (int64_t)limit.rlim_cur;
    ret_proc->start_unix_ms = start_unix_ms(start_ticks);
}

int64_t fen__sys_own_bytes(void)
{
    char text[128], *at = text;
    ssize_t n = fen__sys_file_read("/proc/self/statm", text, sizeof text - 1);
    if (n <= 0)
        return n ? n : -EIO;
    text[n] = 0;
    (void)strtoll(at, &at, 10); /* size */
    int64_t resident = strtoll(at, &at, 10), shared = strtoll(at, &at, 10);
    return (resident - shared) * (int64_t)fen__sys_page_bytes();
}
