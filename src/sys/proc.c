/* proc.c - reads /proc of this process. Numbers that are missing stay -1: a container may hide them,
 * and a monitoring page must not fail for that. */
#include "sys/proc.h"

#include "sys/sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

ssize_t fen__sys_file_read(const char *path, void *buf, size_t n)
{
    int rc = fen__sys_fault ? fen__sys_fault("open") : 0;
    if (rc)
        return rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
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

static int64_t boot_unix_s(void)
{
    char text[16384]; /* btime stands behind the lines of the processors */
    ssize_t n = fen__sys_file_read("/proc/stat", text, sizeof text - 1);
    if (n <= 0)
        return -1;
    text[n] = 0;
    char *at = strstr(text, "\nbtime ");
    return at ? strtoll(at + 7, NULL, 10) : -1;
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
    int64_t start_ticks = -1, boot = boot_unix_s(), hz = sysconf(_SC_CLK_TCK);
    read_stat(ret_proc, &start_ticks);
    ret_proc->cpu_ns = fen__sys_process_cpu();
    ret_proc->open_fds = count_fds();
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        ret_proc->max_fds = limit.rlim_cur == RLIM_INFINITY ? -1 : (int64_t)limit.rlim_cur;
    if (start_ticks >= 0 && boot >= 0 && hz > 0)
        ret_proc->start_unix_ms = boot * 1000 + start_ticks * 1000 / hz;
}
