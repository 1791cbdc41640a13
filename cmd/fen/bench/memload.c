/* memload.c - what `fen bench _mem LOAD WHO [SECONDS]` runs: one load on one allocator, in a
 * process of its own, which prints one number. WHO is fen (fen_alloc), billed (fen_alloc for an
 * account, in a fiber), unbilled (the same without), profiled (fen_alloc with the heap profile at
 * its usual rate), or libc: malloc, whichever library is loaded. */
#include "bench/bench.h"

#include <fen/fen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *(*get)(size_t);
static void (*put)(void *);
static void *(*resize)(void *, size_t);

static double clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* The compiler must not see that the block is not used. */
static inline void *kept(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

/* ---- one thread ---- */

#define PAIRS 20000000

static double pair(size_t n)
{
    double from = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < PAIRS; i++)
        put(kept(get(n)));
    return (clock_ns(CLOCK_THREAD_CPUTIME_ID) - from) / PAIRS;
}

static double pair32(double s) { return (void)s, pair(32); }
static double pair64(double s) { return (void)s, pair(64); }

static double batch64(double s)
{
    static void *p[1000];
    (void)s;
    double from = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int r = 0; r < PAIRS / 2000; r++) {
        for (int i = 0; i < 1000; i++)
            p[i] = kept(get(64));
        for (int i = 0; i < 1000; i++)
            put(p[i]);
    }
    return (clock_ns(CLOCK_THREAD_CPUTIME_ID) - from) / (PAIRS / 2.0);
}

#define LIVE 10000

static double random_sizes(size_t max)
{
    static void *p[LIVE];
    uint64_t x = 88172645463325252u;
    double from = 0;
    int n = 4000000;
    for (int i = -LIVE * 4; i < n; i++) { /* the first rounds fill it */
        uint64_t r = next(&x);
        size_t at = (r >> 8) % LIVE;
        if (i == 0)
            from = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        put(p[at]);
        p[at] = get(16 + (r >> 32) % (max - 16));
        *(char *)p[at] = 1;
    }
    return (clock_ns(CLOCK_THREAD_CPUTIME_ID) - from) / n;
}

static double random_32k(double s) { return (void)s, random_sizes(32768); }
static double random_1k(double s) { return (void)s, random_sizes(1024); }

#define GROWN ((size_t)256 << 20)

/* A buffer that grows to 256 MiB by realloc, every new byte written: ms of CPU. */
static double grow(size_t numerator, size_t denominator, size_t step)
{
    double from = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    size_t n = (size_t)1 << 20;
    char *p = memset(get(n), 1, n);
    while (n < GROWN) {
        size_t more = n * numerator / denominator + step;
        p = resize(p, n + more);
        memset(p + n, 1, more);
        n += more;
    }
    put(p);
    return (clock_ns(CLOCK_THREAD_CPUTIME_ID) - from) / 1e6;
}

static double grow_by_halves(double s) { return (void)s, grow(1, 2, 0); }
static double grow_by_steps(double s) { return (void)s, grow(0, 1, (size_t)1 << 20); }

/* ---- two threads; millions of operations in a second of CPU ---- */

#define SLOTS 1000

static void *larson_one(void *arg)
{
    void **p = arg;
    uint64_t x = (uint64_t)(uintptr_t)arg | 1;
    for (int i = 0; i < 200000; i++) {
        uint64_t r = next(&x);
        put(p[r % SLOTS]);
        *(char *)(p[r % SLOTS] = get(8 + (r >> 32) % 1000)) = 1;
    }
    return NULL;
}

/* Each thread ends after a while and its blocks go to the next one. */
static double larson(double s)
{
    static void *p[2][SLOTS];
    pthread_t t[2];
    int rounds = 25;
    (void)s;
    double from = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < 2; k++)
            pthread_create(&t[k], NULL, larson_one, p[k ^ (i & 1)]);
        for (int k = 0; k < 2; k++)
            pthread_join(t[k], NULL);
    }
    return rounds * 2 * 200000.0 / (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - from) * 1e3;
}

#define BATCH 120
#define QUEUE 64

struct batch {
    void *p[BATCH];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    struct batch *of[QUEUE];
    int n;
} queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0};

static void offer(struct batch *b)
{
    pthread_mutex_lock(&queue.lock);
    while (queue.n == QUEUE)
        pthread_cond_wait(&queue.not_full, &queue.lock);
    queue.of[queue.n++] = b;
    pthread_cond_signal(&queue.not_empty);
    pthread_mutex_unlock(&queue.lock);
}

static struct batch *take(void)
{
    pthread_mutex_lock(&queue.lock);
    while (!queue.n)
        pthread_cond_wait(&queue.not_empty, &queue.lock);
    struct batch *b = queue.of[--queue.n];
    pthread_cond_signal(&queue.not_full);
    pthread_mutex_unlock(&queue.lock);
    return b;
}

#define BATCHES 60000

static void *xmalloc_free(void *arg)
{
    for (int i = 0; i < BATCHES; i++) {
        struct batch *b = take();
        for (int k = 0; k < BATCH; k++)
            put(b->p[k]);
        put(b);
    }
    return arg;
}

static double xmalloc(double s)
{
    uint64_t x = 4711;
    pthread_t t;
    (void)s;
    double from = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    pthread_create(&t, NULL, xmalloc_free, NULL);
    for (int i = 0; i < BATCHES; i++) {
        struct batch *b = get(sizeof *b);
        for (int k = 0; k < BATCH; k++)
            *(char *)(b->p[k] = get(8 + next(&x) % 500)) = 1;
        offer(b);
    }
    pthread_join(t, NULL);
    return (double)BATCHES * BATCH / (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - from) * 1e3;
}

#define CENTRAL_BLOCKS 20000

/* A while of one thread: waves of blocks of one class, half of which the other thread frees. What
 * it had goes to the central set when it ends. */
static void *central_one(void *arg)
{
    static void *_Atomic shared[CENTRAL_BLOCKS];
    void **mine = arg;
    for (int r = 0; r < 10; r++) {
        for (int i = 0; i < CENTRAL_BLOCKS; i++) {
            mine[i] = kept(get(64));
            if (i % 2)
                mine[i] = atomic_exchange_explicit(&shared[i], mine[i], memory_order_acq_rel);
        }
        for (int i = 0; i < CENTRAL_BLOCKS; i++)
            put(mine[i]);
    }
    return arg;
}

/* Percent of the two threads' time that passed in waiting for the lock of the class's set. */
static double central(double s)
{
    static void *own[2][CENTRAL_BLOCKS];
    pthread_t t[2];
    fen_mem_class before, after;
    uint32_t number = 0;
    (void)s;
    while (!fen_mem_class_get(number, &before) && before.block_bytes < 64)
        number++;
    double from = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 2; k++)
            pthread_create(&t[k], NULL, central_one, own[k]);
        for (int k = 0; k < 2; k++)
            pthread_join(t[k], NULL);
    }
    double threads_ns = 2 * (clock_ns(CLOCK_MONOTONIC) - from);
    (void)!fen_mem_class_get(number, &after);
    return (double)(after.wait_ns - before.wait_ns) / threads_ns * 100;
}

#define RING 4096
#define MESSAGES 8000000

static void *_Atomic ring[RING];

/* Spins, but not for long: the other thread may have no core of its own just now. */
static void until(void *_Atomic *slot, bool full)
{
    for (int i = 1; !atomic_load_explicit(slot, memory_order_acquire) == full; i++)
        if (i % 2000 == 0)
            sched_yield();
}

static void *consume(void *arg)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        until(&ring[i % RING], true);
        void *p = atomic_load_explicit(&ring[i % RING], memory_order_relaxed);
        atomic_store_explicit(&ring[i % RING], NULL, memory_order_relaxed);
        put(p);
    }
    return arg;
}

/* Wall time: both cores work at it. */
static double prodcons(double s)
{
    pthread_t t;
    (void)s;
    double from = clock_ns(CLOCK_MONOTONIC);
    pthread_create(&t, NULL, consume, NULL);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        until(&ring[i % RING], false);
        void *p = get(128);
        *(char *)p = 1;
        atomic_store_explicit(&ring[i % RING], p, memory_order_release);
    }
    pthread_join(t, NULL);
    return (clock_ns(CLOCK_MONOTONIC) - from) / MESSAGES;
}

/* ---- memory ---- */

#define TRACE_SLOTS 60000

static double rss_bytes(void)
{
    long all, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    int got = f ? fscanf(f, "%ld %ld", &all, &resident) : 0;
    if (f)
        fclose(f);
    return got == 2 ? (double)resident * 4096 : NAN;
}

/* Sizes from 16 bytes to 32 KiB, each power of two as often as the next; every block is written to.
 * The number of live blocks swings between three fifths and all of the slots. RSS over live bytes,
 * both summed over the times when all slots are in use again, after the first fifth of the trace:
 * in the troughs every allocator holds the peak's pages, for blocks die at random. */
static double rss(double seconds)
{
    static void *p[TRACE_SLOTS];
    static uint32_t n[TRACE_SLOTS];
    uint64_t x = 99;
    double live = 0, held = 0, used = 0, before = rss_bytes(), from = now_s(), last = from;
    for (uint32_t i = 0;; i++) {
        uint64_t r = next(&x);
        uint32_t at = (uint32_t)(r >> 8) % TRACE_SLOTS;
        uint32_t slots = i >> 18 & 1 ? TRACE_SLOTS / 5 * 3 : TRACE_SLOTS;
        put(p[at]);
        live -= n[at];
        p[at] = NULL;
        n[at] = 0;
        if (at < slots) {
            n[at] = (uint32_t)(32u << ((r >> 40) % 11));
            n[at] -= (uint32_t)((r >> 48) % (n[at] / 2));
            p[at] = memset(get(n[at]), 1, n[at]);
            live += n[at];
        }
        if (i % 1024 || now_s() < last + 0.05)
            continue;
        last = now_s();
        if (last > from + seconds / 5 && slots == TRACE_SLOTS && i >> 17 & 1) {
            held += rss_bytes() - before + sizeof p + sizeof n;
            used += live + sizeof p + sizeof n;
        }
        if (last > from + seconds)
            break;
    }
    return held / used;
}

/* ---- which ---- */

static const struct {
    const char *name;
    double (*run)(double seconds);
} loads[] = {
    {"pair32", pair32},
    {"pair64", pair64},
    {"batch64", batch64},
    {"larson", larson},
    {"xmalloc", xmalloc},
    {"random_32k", random_32k},
    {"random_1k", random_1k},
    {"prodcons", prodcons},
    {"rss", rss},
    {"central", central},
    {"grow_halves", grow_by_halves},
    {"grow_steps", grow_by_steps},
};

static int run(void *arg)
{
    const char *const *words = arg;
    bool billed = !strcmp(words[1], "billed");
    if (billed && fen_mem_account_set(7))
        return -ENOMEM;
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++)
        if (!strcmp(loads[i].name, words[0]))
            printf("%.6g\n", loads[i].run(words[2] ? atof(words[2]) : 1));
    return 0;
}

int mem_load(const char *const *words)
{
    if (!words[0] || !words[1])
        return 2;
    if (!strcmp(words[1], "profiled") && fen_profile_heap_rate_set(FEN_PROFILE_RATE))
        return 1;
    bool libc = !strcmp(words[1], "libc"), fiber = strstr(words[1], "billed");
    get = libc ? malloc : fen_alloc;
    put = libc ? free : fen_free;
    resize = libc ? realloc : fen_realloc;
    int rc = fiber ? fen_run(run, (void *)words, &(fen_config){.procs = 1}) : run((void *)words);
    return rc ? 1 : 0;
}
