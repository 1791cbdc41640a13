/* clock.c - clocks, and the TSC calibrated against the monotonic clock.
 *
 * Calibration takes the tightest of many (clock, TSC, clock) brackets at both ends of a short span:
 * one unbracketed pair may be off by milliseconds when the thread is preempted in between. */
#include "sys/sys_int.h"

#include <errno.h>
#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t))
        return -errno;
    return (int64_t)t.tv_sec * FEN_S + t.tv_nsec;
}

int64_t fen__sys_now(void)
{
    int64_t virtual_ns = fen__sys_virtual_ns;
    return FEN__LIKELY(!virtual_ns) ? clock_ns(CLOCK_MONOTONIC) : virtual_ns;
}

int64_t fen__sys_wall_ns(void)
{
    return FEN__LIKELY(!fen__sys_virtual_ns) ? clock_ns(CLOCK_REALTIME) : fen__sys_virtual_wall();
}

int64_t fen__sys_thread_cpu(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
int64_t fen__sys_process_cpu(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }
int64_t fen__sys_cpu_of(int tid) { return clock_ns((clockid_t)(~(unsigned)tid << 3 | 6)); }

/* ns = ticks * mult >> 32; written once before any worker exists. */
static uint64_t tsc_mult, ns_mult;

static int64_t tight_pair(uint64_t *ret_tsc)
{
    uint64_t best = UINT64_MAX;
    int64_t at = 0;
    for (int i = 0; i < 200; i++) {
        uint64_t a = fen__tsc();
        int64_t t = fen__sys_now();
        uint64_t b = fen__tsc();
        if (b - a < best) {
            best = b - a;
            *ret_tsc = a + (b - a) / 2;
            at = t;
        }
    }
    return at;
}

void fen__tsc_init(void)
{
    if (tsc_mult)
        return;
    uint64_t c1 = 0, c2 = 0;
    int64_t t1 = tight_pair(&c1);
    fen__sys_nap(3 * FEN_MS);
    int64_t t2 = tight_pair(&c2);
    __uint128_t span = (__uint128_t)(uint64_t)(t2 - t1) << 32;
    tsc_mult = (uint64_t)(span / (c2 - c1));
    ns_mult = (uint64_t)(((__uint128_t)(c2 - c1) << 32) / (uint64_t)(t2 - t1));
}

int64_t fen__tsc_to_ns(int64_t ticks)
{
    __int128 v = (__int128)ticks * (__int128)tsc_mult;
    return (int64_t)(v >> 32);
}

__int128 fen__tsc_to_ns_wide(__int128 ticks) { return ticks * (__int128)tsc_mult >> 32; }

int64_t fen__tsc_from_ns(int64_t ns)
{
    __int128 v = (__int128)ns * (__int128)ns_mult;
    return (int64_t)(v >> 32);
}
