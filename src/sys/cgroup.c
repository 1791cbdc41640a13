/* cgroup.c - the CPU quota and the memory limit of this process, by the kernel's files:
 *
 *   /proc/self/cgroup      "0::/a/b" (v2) or "4:cpu,cpuacct:/a/b" (v1): where we are
 *   /proc/self/mountinfo   where that hierarchy is mounted, and which part of it
 *   <mount>/a/b/cpu.max                              "max 100000" or "150000 100000" (v2)
 *   <mount>/a/b/cpu.cfs_quota_us, cpu.cfs_period_us  "-1" or "150000"; "100000"      (v1)
 *   <mount>/a/b/memory.max                           "max" or "67108864"             (v2)
 *   <mount>/a/b/memory.limit_in_bytes                the same; none is a very large one (v1)
 *
 * A quota may stand at any level above us, and the smallest counts. In a container the path may be
 * one of the host's, of which the mount shows only the part from its root on: what the root and the
 * path share is taken off; when they share nothing, the mount itself is ours. */
#include "sys/cgroup.h"

#include "sys/proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096
#define FILE_BYTES (64u << 10)
#define UNLIMITED (INT64_C(1) << 60) /* v1 says 2^63 less a page */

static bool slurp(const char *path, char *buf, size_t n)
{
    ssize_t got = fen__sys_file_read(path, buf, n - 1);
    buf[got > 0 ? got : 0] = 0;
    return got > 0;
}

/* Cuts the next line off *text; NULL at the end. */
static char *next_line(char **text)
{
    char *line = *text, *end;
    if (!line || !*line)
        return NULL;
    end = strchr(line, '\n');
    *text = end ? end + 1 : NULL;
    if (end)
        *end = 0;
    return line;
}

/* Is `word` one of the words of a list with commas? */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *s = list; s; s = strchr(s, ','), s = s ? s + 1 : NULL)
        if (!strncmp(s, word, n) && (s[n] == 0 || s[n] == ',' || s[n] == ' '))
            return true;
    return false;
}

/* ---- where we are ---- */

struct place {
    const char *controller; /* "cpu" or "memory" */
    bool v1;
    char path[PATH_BYTES]; /* in the hierarchy */
    char dir[PATH_BYTES];  /* of the mount; then of the cgroup */
    size_t mount;          /* length of the mount's part of dir */
};

/* A v1 hierarchy with the controller comes before v2: in a hybrid set-up it has the quota. */
static bool find_path(const char *root, char *buf, struct place *p)
{
    char file[PATH_BYTES], *text = buf, *line;
    bool found = false;
    snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    if (!slurp(file, buf, FILE_BYTES))
        return false;
    while ((line = next_line(&text))) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        bool v1 = lists(list + 1, p->controller);
        if ((!v1 && list[1] != 0) || (found && !v1))
            continue;
        p->v1 = v1;
        found = true;
        snprintf(p->path, sizeof p->path, "%s", path);
    }
    return found;
}

/* The n-th field of a line, copied, with mountinfo's octal escapes undone. */
static void field(const char *line, int n, char *ret, size_t size)
{
    size_t at = 0;
    while (n-- > 0 && (line = strchr(line, ' ')))
        line++;
    for (; line && *line && *line != ' ' && at + 1 < size; line++) {
        if (*line == '\\' && line[1] && line[2] && line[3]) {
            ret[at++] = (char)((line[1] - '0') * 64 + (line[2] - '0') * 8 + (line[3] - '0'));
            line += 3;
        } else {
            ret[at++] = *line;
        }
    }
    ret[at] = 0;
}

/* What of the path lies below the part of the hierarchy that is mounted. */
static const char *below(const char *path, const char *mounted)
{
    size_t n = strlen(mounted);
    if (n == 1 && mounted[0] == '/')
        return strncmp(path, "/..", 3) ? path : ""; /* outside of our namespace */
    if (strncmp(path, mounted, n) || (path[n] && path[n] != '/'))
        return "";
    return path + n;
}

static bool find_dir(const char *root, char *buf, struct place *p)
{
    char file[PATH_BYTES], part[PATH_BYTES], mount[PATH_BYTES], *text = buf, *line;
    snprintf(file, sizeof file, "%s/proc/self/mountinfo", root);
    if (!slurp(file, buf, FILE_BYTES))
        return false;
    while ((line = next_line(&text))) {
        const char *dash = strstr(line, " - ");
        const char *options = dash ? strrchr(dash, ' ') : NULL;
        if (!dash || strncmp(dash + 3, p->v1 ? "cgroup " : "cgroup2 ", p->v1 ? 7 : 8) ||
            (p->v1 && !lists(options + 1, p->controller)))
            continue;
        field(line, 3, part, sizeof part);
        field(line, 4, mount, sizeof mount);
        const char *rest = below(p->path, part);
        size_t end = strlen(root) + strlen(mount);
        if (end + strlen(rest) >= sizeof p->dir)
            return false;
        memcpy(p->dir, root, strlen(root));
        memcpy(p->dir + strlen(root), mount, strlen(mount));
        memcpy(p->dir + end, rest, strlen(rest) + 1);
        p->mount = end;
        return true;
    }
    return false;
}

/* ---- quotas ---- */

/* The number in a file, or the n-th of its first line; -1 when there is none ("max", "-1"). */
static int64_t number(const char *dir, const char *name, int n)
{
    char file[2 * PATH_BYTES], text[128];
    snprintf(file, sizeof file, "%s/%s", dir, name);
    if (!slurp(file, text, sizeof text))
        return -1;
    char *s = text;
    while (n-- > 0 && (s = strchr(s, ' ')))
        s++;
    return s && *s >= '0' && *s <= '9' ? strtoll(s, NULL, 10) : -1;
}

static int64_t cores_here(const struct place *p)
{
    int64_t quota = p->v1 ? number(p->dir, "cpu.cfs_quota_us", 0) : number(p->dir, "cpu.max", 0);
    int64_t period = p->v1 ? number(p->dir, "cpu.cfs_period_us", 0) : number(p->dir, "cpu.max", 1);
    if (quota <= 0 || period <= 0)
        return 0;
    int64_t cores = quota / period + (quota % period != 0);
    return cores < 1000000 ? cores : 1000000;
}

static int64_t bytes_here(const struct place *p)
{
    int64_t bytes = number(p->dir, p->v1 ? "memory.limit_in_bytes" : "memory.max", 0);
    return bytes > 0 && bytes < UNLIMITED ? bytes : 0;
}

/* From the cgroup up to the mount. */
static int64_t least(struct place *p, int64_t (*here)(const struct place *p))
{
    int64_t best = 0;
    for (;;) {
        int64_t n = here(p);
        if (n && (!best || n < best))
            best = n;
        char *slash = strrchr(p->dir, '/');
        if (!slash || (size_t)(slash - p->dir) < p->mount)
            return best;
        *slash = 0;
    }
}

static int64_t smallest(const char *root, const char *controller,
                        int64_t (*here)(const struct place *p))
{
    struct place *p = calloc(1, sizeof *p);
    char *buf = malloc(FILE_BYTES);
    if (p)
        p->controller = controller;
    int64_t n = p && buf && find_path(root, buf, p) && find_dir(root, buf, p) ? least(p, here) : 0;
    free(buf);
    free(p);
    return n;
}

int fen__sys_cgroup_cores(const char *root) { return (int)smallest(root, "cpu", cores_here); }

int64_t fen__sys_cgroup_memory(const char *root) { return smallest(root, "memory", bytes_here); }
