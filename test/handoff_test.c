/* handoff_test.c - a litmus for the protocol of src/sched/guard.c on this machine.
 *
 * An owner enters and leaves the guarded section as fast as it can, a monitor takes the P as often
 * as it can; each then adds to a plain counter by load, pause, store. If both are ever inside
 * together, an addition is lost. The owner's stores miss the cache, so that its store buffer is
 * full when it enters: that is when a missing barrier shows.
 *
 * The steps are those of guard.c and monitor.c, written out here so that one can be left out:
 *   MUTANT 1  no membarrier              2  leave is not a release (its store may come first)
 *          3  phase is not looked at     4  the owner goes on when asked, without the swap
 *          5  the owner looks at word before it sets phase (what a compiler may
 *             make of enter without its barrier)
 *          6  the monitor takes without the last swap
 * A mutant passes when it is caught; test/model/guard_test.c explores the same on paper. */
#include "sys/sys.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef MUTANT
#define MUTANT 0
#endif
#define ROUND_NS (100 * FEN_MS)
#define LONGEST_NS ((MUTANT ? 30 : 3) * FEN_S)

enum { RT, USER };
enum { OWNED, ASKED, TAKEN };

static struct {
    _Atomic uint32_t phase FEN__ALIGN(2 * FEN__LINE);
    _Atomic uint32_t word FEN__ALIGN(2 * FEN__LINE);
    volatile uint64_t n FEN__ALIGN(2 * FEN__LINE); /* the P */
} p;
static _Atomic bool stop;
static bool no_membarrier;
static volatile char far_away[2][1 << 20];

/* w: what the owner saw of word earlier; only a mutant goes by it. */
static bool enter(uint32_t w)
{
    if (no_membarrier)
        atomic_exchange(&p.phase, RT);
    else
        atomic_store_explicit(&p.phase, RT, memory_order_relaxed);
    __asm__ volatile("" ::: "memory");
    if (MUTANT != 5)
        w = atomic_load_explicit(&p.word, memory_order_acquire);
    if (w == OWNED || (MUTANT == 4 && w == ASKED))
        return true;
    return w == ASKED && atomic_compare_exchange_strong(&p.word, &w, OWNED);
}

static void leave(void) { atomic_store_explicit(&p.phase, USER, memory_order_release); }

static bool take(void)
{
    uint32_t e = OWNED;
    if (!atomic_compare_exchange_strong(&p.word, &e, ASKED))
        return false;
    if (!no_membarrier && MUTANT != 1)
        fen__sys_membarrier();
    e = ASKED;
    if (MUTANT != 3 && atomic_load_explicit(&p.phase, memory_order_acquire) == RT) {
        atomic_compare_exchange_strong(&p.word, &e, OWNED);
        return false;
    }
    if (MUTANT == 6)
        atomic_store(&p.word, TAKEN);
    return MUTANT == 6 || atomic_compare_exchange_strong(&p.word, &e, TAKEN);
}

static void pause_sometimes(uint64_t *rand)
{
    uint64_t r = fen__rand(rand) >> 54;
    for (volatile uint64_t i = 0; r < 100 && i < r * 4; i++)
        ;
}

static void dirty(volatile char *at, uint64_t *rand)
{
    for (int i = 0; i < 6; i++)
        at[fen__rand(rand) >> 44 & ~UINT64_C(63)] = 1;
}

static void pin(int cpu)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all))
        return;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && cpu-- == 0)
            CPU_SET(i, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* The owner's additions. */
static void *owner(void *ret)
{
    uint64_t done = 0, rand = 7;
    pin(0);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint32_t early = atomic_load(&p.word);
        pause_sometimes(&rand);
        dirty(far_away[0], &rand);
        if (!enter(early)) { /* taken: wait until it is ours again */
            atomic_store_explicit(&p.phase, USER, memory_order_relaxed);
            while (atomic_load_explicit(&p.word, memory_order_acquire) == TAKEN && !stop)
                ;
            continue;
        }
        uint64_t n = p.n;
        if (MUTANT == 2)
            leave(); /* what a compiler or processor may make of a relaxed store */
        pause_sometimes(&rand);
        p.n = n + 1;
        done++;
        leave();
    }
    *(uint64_t *)ret = done;
    return NULL;
}

static void *monitor(void *ret)
{
    uint64_t done = 0, rand = 99;
    pin(1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        pause_sometimes(&rand);
        dirty(far_away[1], &rand);
        if (!take())
            continue;
        uint64_t n = p.n;
        pause_sometimes(&rand);
        p.n = n + 1;
        done++;
        atomic_store_explicit(&p.word, OWNED, memory_order_release);
    }
    *(uint64_t *)ret = done;
    return NULL;
}

/* Additions lost in one round; *ret_takes grows by the monitor's. */
static uint64_t play(uint64_t *ret_takes)
{
    uint64_t a = 0, b = 0;
    pthread_t t[2];
    p.n = 0;
    atomic_store(&p.phase, USER);
    atomic_store(&p.word, OWNED);
    atomic_store(&stop, false);
    if (pthread_create(&t[0], NULL, owner, &a) || pthread_create(&t[1], NULL, monitor, &b))
        abort();
    fen__sys_nap(ROUND_NS);
    atomic_store(&stop, true);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    *ret_takes += b;
    return a + b - p.n;
}

int main(void)
{
    uint64_t lost = 0, takes = 0;
    if (fen__sys_cpus_allowed() < 2) {
        puts("skipped: a second processor is not there");
        return 77;
    }
    no_membarrier = fen__sys_membarrier_init() != 0;
    if (no_membarrier && MUTANT == 1) {
        puts("skipped: membarrier is not allowed here");
        return 77;
    }
    int64_t end = fen__sys_now() + LONGEST_NS;
    while (fen__sys_now() < end && !lost)
        lost += play(&takes);
    printf("mutant %d: %llu takes, %llu lost additions\n", MUTANT, (unsigned long long)takes,
           (unsigned long long)lost);
    if (takes == 0)
        return 1;
    return MUTANT ? lost == 0 : lost != 0;
}
