/* file_ring_test.c - calls on files by io_uring, from the page cache and by the pool: the same
 * results, cancels that race with answers, crowds, faults of the ring itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault.h"
#include "fiber_check.h"
#include "sync/sync.h"
#include "sys/uring.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>

#define PAGE 4096
#define PAGES 256

static int file = -1, direct = -1;

/* Page i is filled with i. */
static int make_files(void **state)
{
    (void)state;
    char path[64], page[PAGE];
    snprintf(path, sizeof path, "/var/tmp/fen-file-ring-%d", (int)getpid());
    file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC); /* -1: a file system without it */
    unlink(path);
    for (int i = 0; i < PAGES; i++) {
        memset(page, i, sizeof page);
        if (pwrite(file, page, PAGE, (off_t)i * PAGE) != PAGE)
            return -1;
    }
    return file < 0 ? -1 : fsync(file);
}

static int drop_files(void **state)
{
    (void)state;
    close(file);
    close(direct);
    return 0;
}

static void forget_pages(void) { posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); }

static bool ring_here(void)
{
    struct fen__uring u;
    int rc = fen__uring_open(&u, 8, 16, 4);
    if (!rc)
        fen__uring_close(&u);
    return !rc;
}

#define NEED_RING()                                                                                \
    do {                                                                                           \
        if (!ring_here()) {                                                                        \
            print_message("skipped: no io_uring\n");                                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static void run_as(enum fen_files files, int procs, int (*fn)(void *), void *arg)
{
    int before = count_fds();
    fen_config cfg = {.procs = procs, .files = files};
    assert_int_equal(fen_run(fn, arg, &cfg), 0);
    assert_int_equal(count_fds(), before);
}

static fen_stats stats(void)
{
    fen_stats s;
    fen_stats_get(&s);
    return s;
}

/* ---- which way ---- */

static int from_the_cache(void *arg)
{
    (void)arg;
    char buf[PAGE];
    fen_stats was = stats();
    must_equal(pread(file, buf, PAGE, 0), PAGE); /* now it is there */
    for (int i = 0; i < 10; i++)
        must_equal(fen_file_pread(file, buf, PAGE, 0), PAGE);
    fen_stats is = stats();
    must_equal(is.files_direct - was.files_direct, 10);
    must_equal(is.files_ring + is.files_pool, was.files_ring + was.files_pool);
    must_equal(is.file_ring, 0); /* nobody needed it */
    must_equal(fen_file_sync(file, true), 0);
    must_equal(stats().files_pool - was.files_pool, 1);
    return 0;
}

static void test_a_cached_read_needs_neither_ring_nor_pool(void **state)
{
    (void)state;
    run_as(FEN_FILES_AUTO, 1, from_the_cache, NULL);
}

static int by_the_ring(void *arg)
{
    char buf[PAGE], path[64];
    fen_stats was = stats();
    must_equal(fen_file_pread(file, buf, PAGE, 7 * PAGE), PAGE);
    must(buf[0] == 7 && buf[PAGE - 1] == 7);
    must_equal(fen_file_pread(file, buf, PAGE, (int64_t)PAGES * PAGE - 10), 10); /* short */
    must_equal(fen_file_pread(file, buf, PAGE, (int64_t)PAGES * PAGE), 0);
    must_equal(fen_file_pwrite(file, buf, 0, 0), 0);
    must_equal(fen_file_sync(file, false), 0);
    snprintf(path, sizeof path, "/var/tmp/fen-file-ring-o-%d", (int)getpid());
    int fd = fen_file_open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
    must(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    must_equal(fen_file_open(path, O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
    must_equal(fen_file_pwrite(fd, "abc", 3, 1), 3);
    must_equal(fen_file_pread(fd, buf, 10, 0), 4);
    must(!memcmp(buf, "\0abc", 4));
    must_equal(fen_file_close(fd), 0);
    must_equal(fen_file_close(fd), -EBADF);
    must_equal(fen_file_pread(fd, buf, 1, 0), -EBADF);
    must_equal(fen_file_pread(file, NULL, 1, 0), -EFAULT);
    must_equal(fen_file_unlink(path), 0);
    must_equal(fen_file_open(path, O_RDONLY, 0), -ENOENT);
    fen_stats is = stats();
    must_equal(is.files_ring - was.files_ring, *(int *)arg ? 14 : 0);
    must_equal(is.files_pool - was.files_pool, *(int *)arg ? 1 : 15);
    must_equal(is.file_ring, *(int *)arg);
    return 0;
}

static void test_forced(void **state)
{
    (void)state;
    int ring = ring_here();
    run_as(FEN_FILES_RING, 2, by_the_ring, &ring); /* the pool does it where there is none */
    ring = 0;
    run_as(FEN_FILES_POOL, 2, by_the_ring, &ring);
    fen_config cfg = {.files = (enum fen_files)3};
    assert_int_equal(fen_run(by_the_ring, &ring, &cfg), -EINVAL);
    setenv("FEN_FILES", "pool", 1);
    run_as(FEN_FILES_AUTO, 2, by_the_ring, &ring);
    setenv("FEN_FILES", "sometimes", 1);
    cfg.files = FEN_FILES_AUTO;
    assert_int_equal(fen_run(by_the_ring, &ring, &cfg), -EINVAL);
    unsetenv("FEN_FILES");
    assert_int_equal(stats().file_ring, 0); /* closed with the run */
}

static int past_the_cache(void *arg)
{
    (void)arg;
    void *p;
    must_equal(posix_memalign(&p, PAGE, PAGE), 0);
    fen_stats was = stats();
    for (int i = 0; i < 20; i++) {
        must_equal(fen_file_pread(direct, p, PAGE, (int64_t)i * PAGE), PAGE);
        must_equal(*(unsigned char *)p, i);
    }
    must_equal(fen_file_pwrite(direct, p, PAGE, 19 * PAGE), PAGE);
    must_equal(stats().files_direct, was.files_direct);
    must_equal(stats().files_ring - was.files_ring, 21);
    free(p);
    return 0;
}

static void test_direct_goes_by_the_ring(void **state)
{
    (void)state;
    NEED_RING();
    if (direct < 0)
        skip();
    run_as(FEN_FILES_AUTO, 1, past_the_cache, NULL);
}

/* ---- what is partly cached ---- */

static int in_pieces(void *arg)
{
    (void)arg;
    size_t n = (size_t)PAGES * PAGE;
    unsigned char *all = malloc(n);
    for (int round = 0; round < 20; round++) {
        forget_pages();
        char warm[PAGE];
        for (int i = 0; i < PAGES; i += 37 + round)
            must_equal(pread(file, warm, PAGE, (off_t)i * PAGE), PAGE);
        memset(all, 0xee, n);
        must_equal(fen_file_pread(file, all, n, 0), (int64_t)n);
        for (size_t i = 0; i < n; i += 512)
            must_equal(all[i], (unsigned char)(i / PAGE));
    }
    free(all);
    return 0;
}

static void test_what_is_partly_cached_comes_whole(void **state)
{
    (void)state;
    run_as(FEN_FILES_AUTO, 2, in_pieces, NULL);
    run_as(FEN_FILES_RING, 2, in_pieces, NULL);
}

/* ---- a crowd: 10,000 calls of 1,000 fibers ---- */

static _Atomic int done;

static void ten_reads(void *arg)
{
    int me = (int)(intptr_t)arg;
    unsigned char buf[512];
    for (int i = 0; i < 10; i++) {
        int page = (me * 10 + i) % PAGES;
        must_equal(fen_file_pread(file, buf, sizeof buf, (int64_t)page * PAGE + 100), 512);
        must(buf[0] == page && buf[511] == page);
        atomic_fetch_add(&done, 1);
    }
}

static int crowd(void *arg)
{
    (void)arg;
    atomic_store(&done, 0);
    forget_pages();
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < 1000; i++)
        must_equal(fen_go(ten_reads, (void *)(intptr_t)i), 0);
    must_equal(fen_scope_close(scope), 0);
    must_equal(done, 10000);
    return 0;
}

static void test_crowd(void **state)
{
    (void)state;
    for (int procs = 1; procs <= 3; procs++) {
        run_as(FEN_FILES_RING, procs, crowd, NULL);
        run_as(FEN_FILES_AUTO, procs, crowd, NULL);
    }
}

/* ---- cancels ---- */

/* A fifo that nobody writes: its read by the ring is under way until somebody does. pread of a fifo
 * is -ESPIPE, so the calls are made a floor below. */
struct held {
    int fd;
    _Atomic int rc, result, begun;
    int64_t deadline_ns;
    struct fen__uring_call call;
};

static void read_fifo(void *arg)
{
    struct held *h = arg;
    unsigned char on_stack[64];
    int result = 0;
    memset(on_stack, 0x5a, sizeof on_stack);
    fen_scope *scope = fen_scope_open(h->deadline_ns);
    h->call = (struct fen__uring_call){
        .op = FEN__URING_READ, .fd = h->fd, .buf = on_stack, .n = sizeof on_stack};
    h->begun = 1;
    int rc = fen__ring_call(&h->call, &result);
    int closed = fen_scope_close(scope);
    must(closed == 0 || closed == -ETIMEDOUT || closed == -ECANCELED);
    for (size_t i = rc ? 0 : (size_t)result; i < sizeof on_stack; i++)
        must_equal(on_stack[i], 0x5a); /* what was not read is not written */
    h->result = result;
    h->rc = rc ? rc : 100;
}

static int cancels(void *arg)
{
    (void)arg;
    int fd[2];
    must_equal(pipe2(fd, O_CLOEXEC), 0);
    struct held a = {.fd = fd[0], .deadline_ns = fen_now() + 5 * FEN_MS},
                b = {.fd = fd[0], .deadline_ns = FEN_NEVER};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_fifo, &a), 0);
    while (!a.rc)
        must_equal(fen_sleep(FEN_MS), 0);
    must_equal(a.rc, -ETIMEDOUT);
    must_equal(fen_go(read_fifo, &b), 0);
    must_equal(fen_sleep(5 * FEN_MS), 0);
    must_equal(b.rc, 0); /* still waits */
    fen_scope_cancel(scope);
    must_equal(fen_scope_close(scope), -ECANCELED);
    must_equal(b.rc, -ECANCELED);
    must_equal(write(fd[1], "x", 1), 1); /* nobody is left to take it */
    char c;
    must_equal(read(fd[0], &c, 1), 1);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void test_cancels(void **state)
{
    (void)state;
    NEED_RING();
    run_as(FEN_FILES_RING, 2, cancels, NULL);
}

/* The answer and the end of the scope at about the same time: either the byte was read and the call
 * says so, or it was not and it is still in the pipe. */
static int races(void *arg)
{
    int fd[2], read_ones = 0, ended = 0;
    unsigned step = 1;
    (void)arg;
    must_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
    must_equal(fcntl(fd[0], F_SETFL, 0), 0);
    for (int i = 0; i < 3000; i++) {
        struct held h = {.fd = fd[0], .deadline_ns = FEN_NEVER};
        step = step * 1103515245 + 12345;
        int64_t lead = (int64_t)(step >> 16) % 40 - 20;
        fen_scope *scope = fen_scope_open(FEN_NEVER);
        must_equal(fen_go(read_fifo, &h), 0);
        fen_yield();
        if (lead >= 0)
            fen_scope_cancel(scope);
        for (int64_t end = fen_now() + (lead < 0 ? -lead : lead) * FEN_US; fen_now() < end;)
            ;
        must_equal(write(fd[1], "x", 1), 1);
        if (lead < 0)
            fen_scope_cancel(scope);
        must_equal(fen_scope_close(scope), -ECANCELED);
        char c;
        must_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
        bool left = read(fd[0], &c, 1) == 1;
        must_equal(fcntl(fd[0], F_SETFL, 0), 0);
        must_equal(h.rc, left ? -ECANCELED : 100);
        must_equal(h.result, left ? 0 : 1);
        read_ones += !left;
        ended += left;
    }
    must(read_ones > 0 && ended > 0); /* both happened */
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void test_cancel_races_with_the_answer(void **state)
{
    (void)state;
    NEED_RING();
    for (int procs = 1; procs <= 2; procs++)
        run_as(FEN_FILES_RING, procs, races, NULL);
}

/* More calls under way than answers have places, all cancelled at once. */
static int flood(void *arg)
{
    (void)arg;
    enum { N = 3000 };
    static struct held h[N];
    int fd[2];
    must_equal(pipe2(fd, O_CLOEXEC), 0);
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < N; i++) {
        h[i] = (struct held){.fd = fd[0], .deadline_ns = FEN_NEVER};
        must_equal(fen_go(read_fifo, &h[i]), 0);
    }
    must_equal(fen_sleep(20 * FEN_MS), 0);
    fen_scope_cancel(scope);
    must_equal(fen_scope_close(scope), -ECANCELED);
    for (int i = 0; i < N; i++)
        must_equal(h[i].rc, -ECANCELED);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static void test_more_calls_than_answers_have_places(void **state)
{
    (void)state;
    NEED_RING();
    run_as(FEN_FILES_RING, 2, flood, NULL);
}

/* The end of the run cancels a detached fiber with a call under way and waits for it. */
static struct held left_over;

static int leaves_one(void *fd)
{
    left_over = (struct held){.fd = *(int *)fd, .deadline_ns = FEN_NEVER};
    must_equal(fen_go_detached("left over", read_fifo, &left_over), 0);
    while (!stats().file_ring)
        must_equal(fen_sleep(FEN_MS), 0);
    return 0;
}

static void test_a_run_ends_with_a_call_under_way(void **state)
{
    (void)state;
    int fd[2];
    NEED_RING();
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    for (int i = 0; i < 20; i++) {
        run_as(FEN_FILES_RING, 2, leaves_one, &fd[0]);
        assert_int_equal(left_over.rc, -ECANCELED);
    }
    close(fd[0]);
    close(fd[1]);
}

/* ---- the descriptor goes, the process forks ---- */

static int closed_meanwhile(void *arg)
{
    (void)arg;
    int fd[2];
    must_equal(pipe2(fd, O_CLOEXEC), 0);
    struct held h = {.fd = fd[0], .deadline_ns = FEN_NEVER};
    fen_scope *scope = fen_scope_open(FEN_NEVER);
    must_equal(fen_go(read_fifo, &h), 0);
    while (!h.begun)
        fen_yield();                          /* one P: now it waits, its call is queued */
    must_equal(fen_file_sync(file, true), 0); /* came later and is done: the kernel has both */
    close(fd[0]);
    must_equal(write(fd[1], "xy", 2), 2); /* the call still has the pipe */
    must_equal(fen_scope_close(scope), 0);
    must(h.rc == 100 && h.result == 2);
    close(fd[1]);
    return 0;
}

static int forks(void *arg)
{
    char buf[PAGE];
    (void)arg;
    must_equal(fen_file_pread(file, buf, PAGE, 3 * PAGE), PAGE);
    pid_t pid = fork();
    if (pid == 0) { /* its calls are plain system calls */
        ssize_t n = fen_file_pread(file, buf, PAGE, 5 * PAGE);
        _exit(n == PAGE && buf[9] == 5 ? 0 : 1);
    }
    int status = -1;
    must_equal(waitpid(pid, &status, 0), pid);
    must_equal(status, 0);
    must_equal(fen_file_pread(file, buf, PAGE, 4 * PAGE), PAGE);
    must_equal(buf[9], 4);
    return 0;
}

static void test_close_and_fork(void **state)
{
    (void)state;
    NEED_RING();
    run_as(FEN_FILES_RING, 1, closed_meanwhile, NULL);
    run_as(FEN_FILES_RING, 2, forks, NULL);
}

/* ---- the ring fails ---- */

static int some_calls(void *arg)
{
    unsigned char buf[PAGE];
    (void)arg;
    for (int i = 0; i < 12; i++) {
        must_equal(fen_file_pread(file, buf, PAGE, (int64_t)i * PAGE), PAGE);
        must(buf[0] == i && buf[PAGE - 1] == i);
        must_equal(fen_file_sync(file, true), 0);
    }
    return 0;
}

static void test_every_call_of_the_ring_fails(void **state)
{
    static const struct {
        const char *call;
        int rc;
    } calls[] = {
        {"uring_setup", -ENOSYS}, {"uring_setup", -EPERM},  {"uring_setup", -ENOMEM},
        {"uring_enter", -EINTR},  {"uring_enter", -EAGAIN}, {"uring_enter", -EBUSY},
        {"eventfd", -EMFILE},     {"thread", -EAGAIN},      {"mmap", -ENOMEM},
    };
    (void)state;
    NEED_RING();
    fault_begin();
    run_as(FEN_FILES_RING, 2, some_calls, NULL);
    for (size_t i = 0; i < FEN__COUNT(calls); i++) {
        int hits = 0;
        for (int nth = 1; nth < 80; nth++) {
            int before = count_fds();
            fen_config cfg = {.procs = 2, .files = FEN_FILES_RING};
            fault_arm(calls[i].call, calls[i].rc, nth);
            int rc = fen_run(some_calls, NULL, &cfg); /* the run itself may not begin */
            bool hit = fault_disarm();
            assert_true(rc == 0 || (hit && (rc == -ENOMEM || rc == -EMFILE || rc == -EAGAIN)));
            assert_int_equal(count_fds(), before);
            hits += hit;
            if (!hit)
                break;
        }
        assert_true(hits > 0);
    }
    fault_end();
}

/* ---- the bill ---- */

static int billed(void *arg)
{
    (void)arg;
    char *p = malloc(PAGE);
    struct fen__g *g = fen__cur(fen__self());
    int64_t before = g->cpu_ticks;
    for (int i = 0; i < 2000; i++)
        must_equal(fen_file_pread(file, p, PAGE, (int64_t)(i % PAGES) * PAGE), PAGE);
    int64_t ns = fen__tsc_to_ns(g->cpu_ticks - before);
    must(ns > 2000 * 500); /* no less than the copies can take; the thread's part is in it */
    struct fen__cpu_books b;
    fen__cpu_books(&b);
    must(b.fibers_ns >= ns && b.fibers_ns <= b.process_ns + 5 * FEN_MS);
    free(p);
    return 0;
}

static void test_billed(void **state)
{
    (void)state;
    NEED_RING();
    run_as(FEN_FILES_RING, 1, billed, NULL);
}

/* A simulated run does not depend on what is cached. */
static int simulated(void *arg)
{
    (void)arg;
    char buf[PAGE];
    fen_stats was = stats();
    must_equal(fen_file_pread(file, buf, PAGE, 0), PAGE);
    must_equal(stats().files_pool - was.files_pool, 1);
    must_equal(stats().file_ring, 0);
    return 0;
}

static void test_simulated(void **state)
{
    (void)state;
    const enum fen_files ways[] = {FEN_FILES_AUTO, FEN_FILES_RING, FEN_FILES_POOL};
    for (size_t i = 0; i < FEN__COUNT(ways); i++)
        assert_int_equal(fen_run(simulated, NULL, &(fen_config){.sim_seed = 7, .files = ways[i]}),
                         0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cached_read_needs_neither_ring_nor_pool),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_direct_goes_by_the_ring),
        cmocka_unit_test(test_what_is_partly_cached_comes_whole),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_cancels),
        cmocka_unit_test(test_cancel_races_with_the_answer),
        cmocka_unit_test(test_more_calls_than_answers_have_places),
        cmocka_unit_test(test_a_run_ends_with_a_call_under_way),
        cmocka_unit_test(test_close_and_fork),
        cmocka_unit_test(test_every_call_of_the_ring_fails),
        cmocka_unit_test(test_billed),
        cmocka_unit_test(test_simulated),
    };
    return cmocka_run_group_tests(tests, make_files, drop_files);
}
