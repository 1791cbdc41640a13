/* sharing.c - sharing: what it costs two workers to keep what each of them writes in one line.
 *
 * Two threads, each on a core of its own, add to a counter of their own. Packed, both lie in one
 * cache line, which then travels between the cores; padded, each has 128 bytes, as what fen keeps
 * for each worker. The counter is added to by a locked operation, which waits until the line is
 * there, and by a load and a store, which do not: the core puts the stores aside and goes on, and
 * how many it puts aside for one way of the line is chance. The same with records of four such
 * counters, each of which counts an event, as a worker's tally does in fen; a third way has those
 * in neighbouring lines: what fetching lines in pairs costs, and so why it is 128 and not 64.
 *
 * The ways take turns in rounds of a tenth of a millisecond, which both threads begin together and
 * end by the clock: so both are at it all the time. With a given number of events, who gets the
 * line more often is done early, and the other one has it to itself for the rest. A turn of all
 * ways in which a thread did not have its core all the time is thrown away, whatever it showed.
 *
 * A host may run both virtual processors on one core for seconds, as its two hardware threads: then
 * they share their nearest cache, and a line has nowhere to travel. The guest's clocks do not show
 * it, but work that fills a core alone does: two such threads get done what one does. So each turn
 * begins and ends with a round of multiplications in registers, begun together as the others are,
 * and counts only when in both two threads did 1.8 times what one does alone. Where too few turns
 * do, the figures are of all of them and the bar is beyond the machine, which is said. */
#include "bench/bench.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define LINE 64

/* The document's record, put right: sixteen floats and nothing else are one line. */
struct hot_data {
    float x[16];
} __attribute__((aligned(LINE)));
static_assert(sizeof(struct hot_data) == LINE, "one line, not a line and an int");

#define ROUND_S 100e-6
#define EVENTS 2000 /* between two looks at the clock */
#define TURNS 400
#define LONGEST_S 3
#define PERCENT_MIN 5
#define TURNS_MIN (TURNS * PERCENT_MIN / 100)
#define THREADS 2
#define APART 128    /* bytes of a worker's own */
#define ON_CORE 0.97 /* of a round's time, on its core: it was not disturbed */
#define STEPS 20000  /* of a round in registers: some 20 us */
#define ALONE 200    /* such rounds by one thread, before and after the turns */
#define AT_ONCE 1.8  /* times what one thread does: two were at it, each with a core */

enum { PACKED, NEIGHBOUR, PADDED, ONE_PACKED, ONE_PADDED, LOCKED_PACKED, LOCKED_PADDED, SHARINGS };
/* SCALING: of two threads in registers. UNDISTURBED, TWO_CORES: percent of the turns; those of the
 * latter count. */
enum {
    TIMES = SHARINGS,
    ONE_TIMES,
    LOCKED_TIMES,
    SCALING,
    UNDISTURBED,
    TWO_CORES,
    SHARING_FIGURES
};

static char counters[THREADS * APART] __attribute__((aligned(2 * LINE)));
static _Atomic int arrived __attribute__((aligned(2 * LINE)));

/* Fewer where one of the two gets little of its core, and every meeting takes that long. */
static _Atomic int last_turn = TURNS;

struct adder {
    int core;
    uint64_t added;
    double rate[SHARINGS][TURNS], on_core[SHARINGS][TURNS]; /* rate: events a ns */
    double registers_ns[TURNS + 1]; /* before each turn, and after the last one */
};

static double thread_cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As counters with one writer are kept: a load and a store, no locked operation. */
static inline void count(_Atomic uint64_t *n)
{
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static void add_one(_Atomic uint64_t *n)
{
    for (int i = 0; i < EVENTS; i++)
        count(n);
}

/* As those are that anyone may add to. */
static void add_locked(_Atomic uint64_t *n)
{
    for (int i = 0; i < EVENTS; i++)
        atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

/* One after the other, as the fields of a tally are counted: no loop and no index. */
static void add_four(_Atomic uint64_t *n)
{
    for (int i = 0; i < EVENTS; i++) {
        count(n);
        count(n + 1);
        count(n + 2);
        count(n + 3);
    }
}

/* Four chains: a core's multiplier has one to begin each cycle, and nothing is left of it. */
static double in_registers(void)
{
    uint64_t a = 1, b = 2, c = 3, d = 4;
    double from = now_s();
    for (int i = 0; i < STEPS; i++) {
        a *= UINT64_C(6364136223846793005);
        b *= UINT64_C(6364136223846793005);
        c *= UINT64_C(6364136223846793005);
        d *= UINT64_C(6364136223846793005);
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
    }
    return (now_s() - from) * 1e9 / STEPS;
}

static double alone_ns(void)
{
    double v[ALONE];
    for (int i = 0; i < ALONE; i++)
        v[i] = in_registers();
    return median(v, ALONE);
}

/* Returns when both threads are here; round counts each thread's own calls. */
static void meet(int *round)
{
    atomic_fetch_add(&arrived, 1);
    for (*round += THREADS; atomic_load(&arrived) < *round;) /* pairs with the other's arrival */
        ;
}

static const struct {
    int apart, counters;
    void (*add)(_Atomic uint64_t *n);
    const char *name;
} sharing[SHARINGS] = {
    [PACKED] = {32, 4, add_four, "event_packed"},
    [NEIGHBOUR] = {LINE, 4, add_four, "event_neighbour_line"},
    [PADDED] = {APART, 4, add_four, "event_padded"},
    [ONE_PACKED] = {8, 1, add_one, "add_packed"},
    [ONE_PADDED] = {APART, 1, add_one, "add_padded"},
    [LOCKED_PACKED] = {8, 1, add_locked, "locked_packed"},
    [LOCKED_PADDED] = {APART, 1, add_locked, "locked_padded"},
};

static void one_way(struct adder *a, int k, int turn)
{
    char *at = counters + a->core * sharing[k].apart;
    _Atomic uint64_t *n = (_Atomic uint64_t *)(void *)at;
    double from = now_s(), cpu = thread_cpu_s(), wall;
    int events = 0;
    do {
        sharing[k].add(n);
        events += EVENTS;
        wall = now_s() - from;
    } while (wall < ROUND_S);
    a->on_core[k][turn] = (thread_cpu_s() - cpu) / wall;
    a->rate[k][turn] = events / (wall * 1e9);
    a->added += (uint64_t)events * (uint64_t)sharing[k].counters;
}

static void *adder_main(void *arg)
{
    struct adder *a = arg;
    int round = 0;
    on_core(a->core);
    double end = now_s() + LONGEST_S;
    for (int turn = 0; turn <= atomic_load(&last_turn); turn++) {
        if (a->core == 0 && now_s() > end)
            atomic_store(&last_turn, turn); /* both see it when they have met */
        meet(&round);
        a->registers_ns[turn] = in_registers();
        for (int k = 0; k < SHARINGS && turn < atomic_load(&last_turn); k++) {
            meet(&round);
            one_way(a, k, turn);
        }
    }
    return NULL;
}

static void run_adders(struct adder *a)
{
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        a[i].core = i;
        if (pthread_create(&t[i], NULL, adder_main, &a[i]))
            _exit(1); /* the first one waits for the second */
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
}

static uint64_t counted(void)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < sizeof counters; at += sizeof sum)
        sum += *(uint64_t *)(void *)(counters + at);
    return sum;
}

static bool undisturbed(const struct adder *a, int turn)
{
    double least = 1;
    for (int k = 0; k < SHARINGS; k++)
        least = fmin(least, fmin(a[0].on_core[k][turn], a[1].on_core[k][turn]));
    return least >= ON_CORE;
}

/* The medians of the turns of_turn[0..n-1], n > 0; how many times dearer packed was within one. */
static void medians(const struct adder *a, const int *of_turn, int n, double *out)
{
    static double v[SCALING][TURNS];
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < SHARINGS; k++)
            v[k][i] = THREADS / (a[0].rate[k][of_turn[i]] + a[1].rate[k][of_turn[i]]);
        v[TIMES][i] = v[PACKED][i] / v[PADDED][i];
        v[ONE_TIMES][i] = v[ONE_PACKED][i] / v[ONE_PADDED][i];
        v[LOCKED_TIMES][i] = v[LOCKED_PACKED][i] / v[LOCKED_PADDED][i];
    }
    for (int k = 0; k < SCALING; k++)
        out[k] = median(v[k], n);
}

/* ns that an event takes a thread, for each way, over the turns that count or, when they are too
 * few, over all that were undisturbed; then what the enumerator says. */
static void sharing_main(void *arg, double *out)
{
    static struct adder a[THREADS];
    static double at_once[TURNS + 1];
    static int quiet[TURNS], good[TURNS];
    int n_quiet = 0, n_good = 0;
    (void)arg;
    double alone = alone_ns();
    run_adders(a);
    alone = (alone + alone_ns()) / 2;
    int turns = atomic_load(&last_turn);
    for (int i = 0; i <= turns; i++)
        at_once[i] = THREADS * alone / fmax(a[0].registers_ns[i], a[1].registers_ns[i]);
    for (int i = 0; i < turns; i++) {
        if (!undisturbed(a, i))
            continue;
        quiet[n_quiet++] = i;
        if (fmin(at_once[i], at_once[i + 1]) >= AT_ONCE)
            good[n_good++] = i;
    }
    if (n_quiet < TURNS_MIN || counted() != a[0].added + a[1].added)
        return;
    if (n_good >= TURNS_MIN)
        medians(a, good, n_good, out);
    else
        medians(a, quiet, n_quiet, out);
    out[SCALING] = median(at_once, turns + 1);
    out[UNDISTURBED] = n_quiet * 100.0 / TURNS;
    out[TWO_CORES] = n_good * 100.0 / TURNS;
}

/* Runs that had two cores, when there are enough; else all. */
struct sharing_runs {
    int n, n_all, of[BENCH_RUNS_MAX];
    double v[SHARING_FIGURES][BENCH_RUNS_MAX];
    const char *note, *beyond;
};

static void sharing_runs(struct sharing_runs *s)
{
    double out[SHARING_FIGURES];
    bool able[BENCH_RUNS_MAX];
    int n_able = 0;
    for (int i = 0; i < s->n_all; i++) {
        for (int k = 0; k < SHARING_FIGURES; k++)
            out[k] = NAN;
        if (!s->note)
            in_child(sharing_main, NULL, out, SHARING_FIGURES);
        for (int k = 0; k < SHARING_FIGURES; k++)
            s->v[k][i] = out[k];
        able[i] = out[TWO_CORES] >= PERCENT_MIN;
        n_able += able[i];
    }
    s->n = pick_able(able, s->n_all, s->of);
    if (s->n > n_able)
        s->beyond = "two threads seldom had a core each: the bar is beyond the machine now";
}

static void emit_sharing(const struct sharing_runs *s, int k, struct figure f)
{
    f.value = median_of(s->v[k], s->of, s->n);
    f.runs = s->n;
    f.note = s->note;
    if (!f.note && isnan(f.value))
        f.note = "too few rounds had both cores to themselves";
    f.beyond = s->beyond;
    emit(&f);
}

void bench_sharing(void)
{
    static struct sharing_runs s;
    cpu_set_t all;
    s.n_all = runs_or(9);
    sched_getaffinity(0, sizeof all, &all);
    if (CPU_COUNT(&all) < THREADS)
        s.note = "one core: nothing is shared";
    sharing_runs(&s);
    for (int k = 0; k < SHARINGS; k++)
        emit_sharing(&s, k, (struct figure){.name = sharing[k].name, .unit = "ns"});
    struct figure more = {.unit = "%", .more_is_better = true};
    more.name = "undisturbed";
    emit_sharing(&s, UNDISTURBED, more);
    more.name = "with_a_core_each";
    emit_sharing(&s, TWO_CORES, more);
    more.unit = "x";
    more.name = "two_threads_in_registers";
    emit_sharing(&s, SCALING, more);
    more.name = "event_packed_over_padded";
    emit_sharing(&s, TIMES, more);
    more.name = "add_packed_over_padded";
    emit_sharing(&s, ONE_TIMES, more);
    more.name = "locked_packed_over_padded";
    more.bar = true;
    more.at_least = 3;
    emit_sharing(&s, LOCKED_TIMES, more);
}
