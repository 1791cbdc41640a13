/* scaling.c - scaling: the same CPU-bound work by fibers on one P and on two, and by one plain
 * thread and by two, which are pinned nowhere and share nothing but a counter of what is left.
 *
 * The threads are the floor: a host may run both virtual processors of a machine on one core for a
 * while, and nobody's second thread adds much then. So the four are measured in slots, each of them
 * a fraction of a tenth of a second long and in a process of its own, in turn: whatever the host
 * does meets all four. Every second slot has them in the opposite order, so a drift cancels out.
 * A slot in which two threads do not reach the bar either says nothing of fen: where there are
 * enough others, the figures are of those. Which slots count is decided by the threads alone. What
 * share of the threads' gain the fibers reach is judged over all slots.
 *
 * The work is one chain of multiplications, each of which waits for the last: it leaves most of a
 * core idle, so two of them scale on one core's two hardware threads as well. What is measured is
 * whether both Ps are at work all the time, not what such threads take from each other. A unit is
 * short: at the end of a slot one P waits for the other one's last. */
#include "bench/bench.h"

#include <errno.h>
#include <fen/fen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define UNITS 256
#define STEPS 300000 /* of a unit: some 0.3 ms */
#define BAR 1.8
#define AIM 1.95
#define TO_THREADS 0.95

enum { FIBERS_ONE, THREAD_ONE, THREADS_TWO, FIBERS_TWO, SIDES };

static void work(void *arg)
{
    uint64_t x = 1;
    for (int i = 0; i < STEPS; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        __asm__ volatile("" : "+r"(x));
    }
    atomic_fetch_add((_Atomic uint64_t *)arg, x);
}

static int fibers_run(void *arg)
{
    static _Atomic uint64_t sum; /* on no stack: others write to it */
    double from = now_s();
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (int i = 0; i < UNITS; i++)
        if (!s || fen_go(work, (void *)&sum))
            return -ENOMEM;
    int rc = fen_scope_close(s);
    *(double *)arg = now_s() - from;
    return rc;
}

static void fibers_main(void *procs, double *out)
{
    if (fen_run(fibers_run, out, &(fen_config){.procs = *(const int *)procs}))
        *out = NAN;
}

static _Atomic int units_left;

static void *take_units(void *sum)
{
    while (atomic_fetch_sub(&units_left, 1) > 0)
        work(sum);
    return NULL;
}

static void threads_main(void *threads, double *out)
{
    int n = *(const int *)threads;
    pthread_t t[2];
    _Atomic uint64_t sum = 0;
    atomic_store(&units_left, UNITS);
    double from = now_s();
    for (int i = 0; i < n; i++)
        if (pthread_create(&t[i], NULL, take_units, (void *)&sum))
            _exit(1);
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
    *out = now_s() - from;
}

static void one_slot(bool backwards, double *seconds)
{
    static const struct {
        void (*run)(void *n, double *out);
        int n;
    } side[SIDES] = {[FIBERS_ONE] = {fibers_main, 1},
                     [THREAD_ONE] = {threads_main, 1},
                     [THREADS_TWO] = {threads_main, 2},
                     [FIBERS_TWO] = {fibers_main, 2}};
    for (int i = 0; i < SIDES; i++) {
        int k = backwards ? SIDES - 1 - i : i, n = side[k].n;
        in_child(side[k].run, &n, &seconds[k], 1);
    }
}

/* By slots: fibers, threads, the one to the other, whether two threads reached the bar. */
struct slots {
    int n;
    double fibers[BENCH_RUNS_MAX], threads[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX];
    bool able[BENCH_RUNS_MAX];
    int n_able;
};

static void emit_scaling(const struct slots *s)
{
    static char note[80], beyond[120];
    int of[BENCH_RUNS_MAX], n = pick_able(s->able, s->n, of);
    double floor = median_of(s->threads, of, n);
    snprintf(note, sizeof note, "slots in which two threads reach %.4gx: %d of %d", BAR, s->n_able,
             s->n);
    snprintf(beyond, sizeof beyond, "two threads reach %.3gx: the bar is beyond the machine now",
             floor);
    emit(FIGURE(.name = "scaling_1_to_2", .unit = "x", .more_is_better = true,
                .value = median_of(s->fibers, of, n), .rival = "pthread", .rival_value = floor,
                .ratio = median_of(s->ratio, of, n), .bar = true, .at_least = BAR, .aim = AIM,
                .runs = n, .note = note, .beyond = floor < BAR ? beyond : NULL));
}

void bench_scaling(void)
{
    static struct slots s;
    cpu_set_t cpus;
    s.n = runs_or(15);
    sched_getaffinity(0, sizeof cpus, &cpus);
    if (CPU_COUNT(&cpus) < 2) {
        emit(FIGURE(.name = "scaling_1_to_2", .unit = "x", .more_is_better = true, .value = NAN,
                    .bar = true, .at_least = BAR, .aim = AIM, .note = "fewer than two cores"));
        return;
    }
    for (int i = 0; i < s.n; i++) {
        double v[SIDES];
        one_slot(i % 2, v);
        s.fibers[i] = v[FIBERS_ONE] / v[FIBERS_TWO];
        s.threads[i] = v[THREAD_ONE] / v[THREADS_TWO];
        s.ratio[i] = s.fibers[i] / s.threads[i];
        s.able[i] = s.threads[i] >= BAR;
        s.n_able += s.able[i];
    }
    emit_scaling(&s);
    emit(FIGURE(.name = "scaling_to_threads", .unit = "x", .more_is_better = true,
                .value = median(s.ratio, s.n), .bar = true, .at_least = TO_THREADS, .runs = s.n,
                .note = "of what two threads gain, over all slots"));
}
