/* warm_test.c - after a crowd of fibers their stacks' memory goes back by itself, although nobody
 * allocates, and then the process sleeps for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sanitize.h"

#include <fen/fen.h>

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef FEN__TSAN
#define CROWD 1000
#else
#define CROWD 5000
#endif
#define DEEP_BYTES 12000

/* The number behind a word at the beginning of a line. */
static long number_of(const char *path, const char *word)
{
    char line[256];
    long v = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, word, strlen(word)))
            v = strtol(line + strlen(word), NULL, 10);
    if (f)
        fclose(f);
    return v;
}

static long own_kib(void) { return number_of("/proc/self/status", "RssAnon:"); }

#ifndef FEN__TSAN
/* How often all threads of the process but this one have gone to sleep. */
static long sleeps(void)
{
    long n = 0, me = (long)gettid();
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[300];
        if (e->d_name[0] == '.' || strtol(e->d_name, NULL, 10) == me)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        n += number_of(path, "voluntary_ctxt_switches:");
    }
    closedir(d);
    return n;
}
#endif

static void deep(void *arg)
{
    fen_wg *wg = arg;
    volatile char bytes[DEEP_BYTES];
    for (size_t i = 0; i < sizeof bytes; i += 512)
        bytes[i] = 1;
    __asm__ volatile("" : : "r"(bytes) : "memory"); /* or clang keeps those bytes alone */
    fen_wg_done(wg);
    (void)!fen_wg_wait(wg + 1);
}

static fen_chan *end;

static int crowd(void *arg)
{
    (void)arg;
    fen_wg wg[2] = {0};
    fen_wg_add(&wg[0], CROWD);
    fen_wg_add(&wg[1], 1);
    fen_scope *s = fen_scope_open(FEN_NEVER);
    assert_non_null(s);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(fen_go(deep, wg), 0);
    assert_int_equal(fen_wg_wait(&wg[0]), 0);
    fen_wg_done(&wg[1]);
    assert_int_equal(fen_scope_close(s), 0);
    fen_wg_fini(&wg[0]);
    fen_wg_fini(&wg[1]);
    int v;
    assert_int_equal(fen_chan_recv(end, &v), 0);
    return 0;
}

static void *runs(void *ret)
{
    const fen_config cfg = {.procs = 2, .on_deadlock = FEN_DEADLOCK_IGNORE};
    *(int *)ret = fen_run(crowd, NULL, &cfg);
    return NULL;
}

static void nap_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static void the_stacks_of_a_crowd_go_back(void **state)
{
    (void)state;
    pthread_t t;
    int rc = -1, ms = 0;
    end = fen_chan_new(sizeof(int), 1);
    assert_non_null(end);
    assert_int_equal(pthread_create(&t, NULL, runs, &rc), 0);
    long crowded = CROWD * (long)(DEEP_BYTES / 1024), most = 0, now = 0;
    for (; ms < 30000; ms += 50) {
        nap_ms(50);
        now = own_kib();
        most = now > most ? now : most;
        if (most > crowded && most - now > crowded / 4 * 3)
            break;
    }
#ifndef FEN__TSAN /* its shadow of a stack stays, and it has a thread that wakes by itself */
    assert_true(most > crowded);
    assert_true(most - now > crowded / 4 * 3);
    long before = 0, after = -1;
    for (int i = 0; i < 12 && before != after; i++) { /* one more look, then silence */
        before = sleeps();
        nap_ms(700);
        after = sleeps();
    }
    assert_int_equal(before, after);
    before = sleeps();
    nap_ms(2500);
    assert_int_equal(sleeps(), before);
#endif
    assert_int_equal(fen_chan_send(end, &rc), 0);
    pthread_join(t, NULL);
    assert_int_equal(rc, 0);
    fen_chan_free(end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_stacks_of_a_crowd_go_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
