/* base.h - assertions and small helpers for every room. No I/O, no heap. */
#ifndef FEN_BASE_H
#define FEN_BASE_H

#include <fen/err.h>
#include <fen/types.h>

#include <stdatomic.h>

#define FEN__LINE 64 /* bytes of a cache line */
#define FEN__ALIGN(n) __attribute__((aligned(n)))
#define FEN__NOINLINE __attribute__((noinline))
#define FEN__LIKELY(x) __builtin_expect(!!(x), 1)
#define FEN__UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FEN__CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define FEN__COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Ends the process with a line that names the broken promise, and what fen__panic_more adds. Any
 * thread, signal-safe. */
__attribute__((noreturn, cold)) void fen__panic(const char *what, const char *file, int line);
extern void (*_Atomic fen__panic_more)(void); /* writes who broke it to fd 2; NULL: nothing */

/* fen_assert: always on, cheap, protects memory. fen_promise: the same for what a program promises;
 * says: what it did, in words. fen_dassert: debug builds. */
#define fen_assert(cond) ((cond) ? (void)0 : fen__panic(#cond, __FILE__, __LINE__))
#define fen_promise(cond, says)                                                                    \
    ((cond) ? (void)0 : fen__panic(says " [" #cond "]", __FILE__, __LINE__))
#ifdef NDEBUG
#define fen_dassert(cond) ((void)sizeof(cond))
#else
#define fen_dassert(cond) fen_assert(cond)
#endif

static inline int64_t fen__min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t fen__max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* The time so many ns after now, FEN_NEVER when there is none: time-outs may be FEN_NEVER too. */
static inline int64_t fen__time_after(int64_t now_ns, int64_t ns)
{
    return ns > FEN_NEVER - now_ns ? FEN_NEVER : now_ns + ns;
}

/* Asks for the cache lines of [p, p + bytes): a hint, any address will do. */
static inline void fen__prefetch(const void *p, int bytes)
{
    for (int i = 0; i < bytes; i += FEN__LINE)
        __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)i), 1);
}

/* splitmix64's last step: numbers near each other go far apart. */
static inline uint64_t fen__mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* xorshift64*: fast, not for secrets. The state must not be 0. */
static inline uint64_t fen__rand(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

#endif
