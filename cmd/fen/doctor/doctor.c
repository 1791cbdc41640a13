/* doctor.c - fen doctor: what of this machine's settings a service will notice, and what to do
 * about it. Reads, and writes nothing but its report: the settings are the operator's.
 *
 * Each probe reads one file below --root and says a value and, where something could be better, an
 * advice. What is not there (another kernel, a container that hides it) is "-" and no advice. */
#include "cmd.h"

#include <dirent.h>
#include <fen/fen.h>
#include <fen/pace.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define VALUE_BYTES 128
#define FDS_LOW 65536
#define SOMAXCONN_LOW 1024
#define MAPS_LOW 65530 /* the kernel's default */
#define MISS_PERCENT 5

static const char *root = "";
static bool json;
static int advices, lines;

/* ---- reading ---- */

/* The first line of a file below the root. */
static bool first_line(const char *path, char *ret, size_t n)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    FILE *f = fopen(name, "re");
    bool ok = f && fgets(ret, (int)n, f);
    if (f)
        fclose(f);
    ret[ok ? strcspn(ret, "\n") : 0] = 0;
    return ok;
}

/* A whole number in a file; -1: there is none. */
static int64_t number_in(const char *path)
{
    char text[VALUE_BYTES], *end;
    if (!first_line(path, text, sizeof text))
        return -1;
    long long v = strtoll(text, &end, 10);
    return end == text ? -1 : v;
}

/* ---- reporting ---- */

/* Values and advice hold no quotes or backslashes: numbers, words of the kernel, our texts. */
static void say(const char *name, const char *value, const char *advice)
{
    advices += advice != NULL;
    if (json)
        printf("%s{\"name\":\"%s\",\"value\":\"%s\",\"advice\":%s%s%s}", lines++ ? ",\n" : "[\n",
               name, value, advice ? "\"" : "", advice ? advice : "null", advice ? "\"" : "");
    else
        printf("%-7s %-22s %s%s%s\n", advice ? "advice" : "ok", name, value, advice ? ": " : "",
               advice ? advice : "");
}

static void say_number(const char *name, int64_t v, const char *unit, const char *advice)
{
    char text[VALUE_BYTES];
    if (v < 0)
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%" PRId64 "%s", v, unit);
    say(name, text, v < 0 ? NULL : advice);
}

/* ---- NUMA ---- */

static int nodes(void)
{
    char name[512];
    int n = 0;
    snprintf(name, sizeof name, "%s/sys/devices/system/node", root);
    DIR *d = opendir(name);
    for (struct dirent *e; d && (e = readdir(d));)
        n += !strncmp(e->d_name, "node", 4) && e->d_name[4] >= '0' && e->d_name[4] <= '9';
    if (d)
        closedir(d);
    return n;
}

/* One line of numastat of every node, summed. */
static int64_t numastat(const char *what)
{
    int64_t sum = 0;
    for (int i = 0; i < 1024; i++) {
        char name[512], line[VALUE_BYTES];
        snprintf(name, sizeof name, "%s/sys/devices/system/node/node%d/numastat", root, i);
        FILE *f = fopen(name, "re");
        while (f && fgets(line, sizeof line, f))
            if (!strncmp(line, what, strlen(what)) && line[strlen(what)] == ' ')
                sum += strtoll(line + strlen(what), NULL, 10);
        if (f)
            fclose(f);
    }
    return sum;
}

static void numa(void)
{
    int n = nodes();
    say_number("numa_nodes", n ? n : 1, "", NULL);
    /* Any value but 0 makes the kernel reclaim on the near node before it looks at another. */
    int64_t zone = number_in("/proc/sys/vm/zone_reclaim_mode");
    say_number("zone_reclaim_mode", zone, "",
               zone > 0 ? "an allocation may wait for reclaim on its node while another has free "
                          "memory; 0 for a service that must answer in time"
                        : NULL);
    int64_t balancing = number_in("/proc/sys/kernel/numa_balancing");
    say_number("numa_balancing", balancing, "",
               n > 1 && balancing > 0
                   ? "fen places workers and memory itself; the kernel's scans only add page "
                     "faults: 0, unless other programs here need it"
                   : NULL);
    int64_t near = numastat("local_node"), far = numastat("other_node");
    int64_t percent = near + far > 0 ? far * 100 / (near + far) : -1;
    say_number("numa_other_node", n > 1 ? percent : -1, " %",
               percent >= MISS_PERCENT
                   ? "since boot so much memory came from another node than its user's; see "
                     "numastat -p for whose it is"
                   : NULL);
}

/* ---- memory ---- */

/* The word in brackets of "always [madvise] never". */
static void chosen(const char *path, char *ret, size_t n)
{
    char text[VALUE_BYTES];
    const char *open = first_line(path, text, sizeof text) ? strchr(text, '[') : NULL;
    size_t len = open ? strcspn(open + 1, "]") : 0;
    if (!len || len >= n) {
        snprintf(ret, n, "-");
        return;
    }
    memcpy(ret, open + 1, len);
    ret[len] = 0;
}

/* Guards that take no map of their own: Linux 6.13 and later. */
static bool light_guards(void)
{
    char text[VALUE_BYTES], *end;
    if (!first_line("/proc/sys/kernel/osrelease", text, sizeof text))
        return false;
    long major = strtol(text, &end, 10), minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return major > 6 || (major == 6 && minor >= 13);
}

static void memory(void)
{
    char thp[32];
    chosen("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof thp);
    say("transparent_hugepages", thp,
        !strcmp(thp, "always")
            ? "stacks and sparse heaps are blown up to 2 MiB pages; madvise gives them to whom "
              "asks (fen_mem_options)"
            : NULL);
    int64_t over = number_in("/proc/sys/vm/overcommit_memory");
    say_number("overcommit_memory", over, "",
               over == 2 ? "reserved address space counts as memory: stacks and the heap's map "
                           "will be refused long before memory is short; 0 or 1"
                         : NULL);
    int64_t maps = number_in("/proc/sys/vm/max_map_count");
    say_number("max_map_count", maps, "",
               maps >= 0 && maps <= MAPS_LOW && !light_guards()
                   ? "on this kernel a guarded stack takes two maps: enough for some 32,000 "
                     "fibers, more have canaries; 1048576 for more"
                   : NULL);
}

/* ---- descriptors and connections ---- */

static void descriptors(void)
{
    struct rlimit r;
    int64_t hard = -1;
    if (!getrlimit(RLIMIT_NOFILE, &r))
        hard = r.rlim_max > INT64_MAX ? INT64_MAX : (int64_t)r.rlim_max;
    say_number("fd_limit", hard, "",
               hard >= 0 && hard < FDS_LOW
                   ? "fen raises its limit to this one, and each connection needs a descriptor; "
                     "LimitNOFILE= or ulimit -Hn"
                   : NULL);
    int64_t queue = number_in("/proc/sys/net/core/somaxconn");
    say_number("somaxconn", queue, "",
               queue >= 0 && queue < SOMAXCONN_LOW
                   ? "bounds the queue of connections that wait to be accepted: a burst beyond it "
                     "meets resets or retries after a second; 4096"
                   : NULL);
}

/* ---- the cgroup, as the runtime sees it ---- */

static int procs(void *arg)
{
    *(int *)arg = fen_procs();
    return 0;
}

static void cgroup(void)
{
    int n = -1;
    fen_mem_pace p = {0};
    if (!fen_mem_limit_set(FEN_MEM_AUTO)) /* of this process, which ends soon */
        fen_mem_pace_get(&p);
    int64_t limit = p.limit_bytes;
    (void)!fen_mem_limit_set(0);
    if (fen_run(procs, &n, NULL))
        n = -1;
    say_number("procs", n, "", NULL);
    const char *set = getenv("FEN_MEMLIMIT");
    bool told = set && *set && strcmp(set, "off") != 0;
    if (limit)
        say_number("memory_limit_auto", limit, " bytes",
                   told ? NULL
                        : "this cgroup has a limit, and beyond it the kernel kills; "
                          "FEN_MEMLIMIT=auto refuses requests instead");
    else
        say("memory_limit_auto", "none", NULL);
}

int cmd_doctor(int argc, char **argv)
{
    const struct arg tab[] = {
        {"json", ARG_BOOL, &json, 0, 0, "print one JSON array"},
        {"root", ARG_STR, &root, 0, 0, "a directory in front of /proc and /sys (for tests)"},
    };
    int rc = args_parse(argc, argv, tab, 2, NULL, 0);
    if (rc)
        return rc < 0 ? 0 : rc;
    numa();
    memory();
    descriptors();
    cgroup();
    if (json)
        printf("\n]\n");
    else
        printf("%d of these could be better; fen changes none of them.\n", advices);
    return 0;
}
