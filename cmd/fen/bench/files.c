/* files.c - files: a read of 4 KiB at a random place of a file of 64 MiB.
 *
 * Cached: a fiber reads one after another, by each way of fen_config.files, beside pread on a plain
 * thread. Past the cache (O_DIRECT, where the file system has it): one fiber, and 64 of them, by
 * the ring beside the pool. CPU is that of the whole process, the kernel's workers for the ring
 * included; wall time is that of a read, or of one of the 64 fibers' reads in turn. */
#include "bench/bench.h"

#include <fcntl.h>
#include <fen/fen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES (64 << 20 >> 12)
#define PLAIN 3 /* not a way of fen's: pread on the calling thread */

struct job {
    int way, fibers, reads; /* reads: of each fiber */
    bool direct;
    double *out;
};

static int file = -1;

static int64_t cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * FEN_S +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * FEN_US;
}

static bool read_some(const struct job *j, uint64_t seed)
{
    void *page;
    bool good = !posix_memalign(&page, PAGE, PAGE);
    for (int i = 0; i < j->reads && good; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int64_t at = (int64_t)(seed >> 33) % PAGES * PAGE;
        ssize_t n =
            j->way == PLAIN ? pread(file, page, PAGE, at) : fen_file_pread(file, page, PAGE, at);
        good = n == PAGE;
    }
    if (good)
        free(page);
    return good;
}

static const struct job *job;
static bool failed;

static void one_fiber(void *seed)
{
    if (!read_some(job, (uint64_t)(uintptr_t)seed))
        __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
}

static bool round_of(const struct job *j)
{
    if (j->fibers == 1)
        return read_some(j, 1);
    job = j;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < j->fibers; i++)
        if (fen_go(one_fiber, (void *)(uintptr_t)(i + 1)))
            failed = true;
    return !fen_scope_close(s) && !failed;
}

static int measure(void *arg)
{
    struct job *j = arg;
    struct job warm = *j;
    warm.reads = j->reads / 10;
    bool good = round_of(&warm);
    int64_t cpu = cpu_ns(), wall = fen_now();
    good = good && round_of(j);
    double n = (double)j->reads * j->fibers;
    j->out[0] = good ? (double)(fen_now() - wall) / n : NAN;
    j->out[1] = good ? (double)(cpu_ns() - cpu) / n : NAN;
    return 0;
}

static bool make_file(bool direct)
{
    char path[] = "/var/tmp/fen-bench-files-XXXXXX";
    static char bytes[1 << 20];
    int fd = mkstemp(path);
    memset(bytes, 'x', sizeof bytes);
    bool good = fd >= 0;
    for (long at = 0; at < (long)PAGES * PAGE && good; at += (long)sizeof bytes)
        good = pwrite(fd, bytes, sizeof bytes, at) == (ssize_t)sizeof bytes;
    good = good && !fsync(fd);
    file = good && direct ? open(path, O_RDONLY | O_DIRECT | O_CLOEXEC) : fd;
    unlink(path);
    return good && file >= 0;
}

static void child_main(void *arg, double *out)
{
    struct job j = *(struct job *)arg;
    j.out = out;
    fen_config cfg = {.procs = 2, .files = j.way == PLAIN ? 0 : (enum fen_files)j.way};
    bool good = make_file(j.direct);
    if (good && j.way == PLAIN)
        measure(&j);
    else
        good = good && fen_run(measure, &j, &cfg) == 0;
    if (!good)
        out[0] = out[1] = NAN;
}

static void compare(const char *name, struct job j, int other, const char *rival, int runs)
{
    static struct pairs p;
    struct job o = j;
    o.way = other;
    p = (struct pairs){.runs = runs, .n = 2, .rival = rival};
    for (int i = 0; i < runs; i++) {
        double out[2];
        in_child(child_main, &j, out, 2);
        p.fen[0][i] = out[0], p.fen[1][i] = out[1];
        in_child(child_main, &o, out, 2);
        p.other[0][i] = out[0], p.other[1][i] = out[1];
    }
    char text[64];
    snprintf(text, sizeof text, "%s_wall", name);
    pairs_emit(&p, 0, 1e-3, (struct figure){.name = text, .unit = "us"});
    snprintf(text, sizeof text, "%s_cpu", name);
    pairs_emit(&p, 1, 1e-3, (struct figure){.name = text, .unit = "us"});
}

void bench_files(void)
{
    int runs = runs_or(5);
    compare("cached_auto", (struct job){.way = FEN_FILES_AUTO, .fibers = 1, .reads = 20000}, PLAIN,
            "pread", runs);
    compare("cached_ring", (struct job){.way = FEN_FILES_RING, .fibers = 1, .reads = 2000}, PLAIN,
            "pread", runs);
    compare("cached_pool", (struct job){.way = FEN_FILES_POOL, .fibers = 1, .reads = 2000}, PLAIN,
            "pread", runs);
    compare("direct_ring", (struct job){FEN_FILES_RING, 1, 2000, true, NULL}, FEN_FILES_POOL,
            "pool", runs);
    compare("direct_pool", (struct job){FEN_FILES_POOL, 1, 2000, true, NULL}, PLAIN, "pread", runs);
    compare("direct_64_fibers_ring", (struct job){FEN_FILES_RING, 64, 200, true, NULL},
            FEN_FILES_POOL, "pool", runs);
}
