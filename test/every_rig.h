/* every_rig.h - every n-th failing call of every public function: how test/every.h is carried out.
 *
 * A scenario is a short program in which each public function of its rows is called through one of
 * the macros below, with a known outcome. It runs once to count: how many allocations and how many
 * system calls of fen each function makes. A row that says NEVER must have made none. For the
 * others the scenario then runs again for each n, with the n-th of them failing: the function must
 * return what it returns without a fault, or a defined error and then, called again, the same as
 * ever; and when the scenario is over, no fiber, timer, thread, descriptor or byte may be left.
 *
 * FEN_EVERY_SHOW=1 prints what was counted, FEN_EVERY_ONLY=fen_x looks at one function only.
 *
 * Included after cmocka.h, by one file for each list of every.h. */
#ifndef FEN_TEST_EVERY_RIG_H
#define FEN_TEST_EVERY_RIG_H

#include "entries.h"
#include "every.h"
#include "mem/mem.h"
#include "sys/sys.h"

#include <fen/fen.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NTH_MAX 2000 /* calls of one function in a scenario */

enum every_kind { NEVER, FAILS };
enum every_class { ALLOCATIONS, SYSTEM_CALLS, CLASSES };

/* OUTSIDE: on the test's thread, without a run around it. KEEPS: the same, and what it makes
 * cannot be unmade, so it looks at the bytes itself. */
enum every_place { INSIDE, OUTSIDE, KEEPS };

struct every_row {
    const char *fn, *scenario;
    enum every_kind kind;
    int also;  /* an error that a fault may turn into; 0: none but the injected and -ENOMEM */
    int steps; /* calls of fn in the scenario that ran last */
    int calls[CLASSES];
};

struct every_scenario {
    const char *name;
    int (*fn)(void *arg);
    enum every_place place;
};

#define EVERY_ROW(fn, kind, also, scenario) {#fn, #scenario, kind, also, 0, {0}},

/* ---- one call ---- */

static struct {
    struct every_row *rows, *row; /* row: of the call under way */
    int n_rows;
    struct every_row *target; /* NULL: only counting */
    enum every_class what;
    int nth, seen;
    _Atomic bool on, hit; /* hit: in the call under way */
    _Atomic int calls[CLASSES], rc;
    _Atomic pid_t thread;
    _Atomic uint64_t fiber;
    bool met; /* in the scenario so far */
} every;

__attribute__((noreturn)) static inline void every_broken(const char *why, int64_t got)
{
    char text[256];
    int n =
        snprintf(text, sizeof text, "%s: %s (%lld); %s %d fails\n", every.row ? every.row->fn : "-",
                 why, (long long)got, every.what == ALLOCATIONS ? "allocation" : "system call",
                 every.target ? every.nth : 0);
    fen__sys_die(text, (size_t)n); /* a fiber's stack is no place to jump from */
}

static inline int every_errno(const char *call)
{
    static const struct {
        const char *call;
        int rc;
    } errors[] = {
        {"malloc", -ENOMEM},       {"mmap", -ENOMEM},      {"socket", -EMFILE},
        {"socketpair", -EMFILE},   {"bind", -EADDRINUSE},  {"listen", -EADDRINUSE},
        {"accept", -EMFILE},       {"connect", -ENETDOWN}, {"recv", -ECONNRESET},
        {"send", -EPIPE},          {"sendmsg", -ENOBUFS},  {"recvmsg", -ECONNRESET},
        {"send_zc", -ENOBUFS},     {"errqueue", -ENOMEM},  {"splice", -EPIPE},
        {"pipe", -EMFILE},         {"open", -EMFILE},      {"write", -ENOSPC},
        {"ftruncate", -EFBIG},     {"stat", -EACCES},      {"rename", -EXDEV},
        {"unlink", -EBUSY},        {"poll", -ENOMEM},      {"epoll_ctl", -ENOSPC},
        {"epoll_create", -EMFILE}, {"epoll_mod", -ENOMEM}, {"eventfd", -EMFILE},
        {"thread", -EAGAIN},       {"spawn", -EAGAIN},     {"pidfd_open", -EMFILE},
    };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (!strcmp(call, errors[i].call))
            return errors[i].rc;
    return -EIO;
}

/* A row that is NEVER answers for its own thread, which others cannot disturb; the others for the
 * whole process, where the pool and the pollers work for them, but for other fibers. */
static inline int every_hook(const char *call)
{
    if (!atomic_load(&every.on))
        return 0;
    bool memory = !strcmp(call, "malloc") || !strcmp(call, "mmap");
    enum every_class what = memory ? ALLOCATIONS : SYSTEM_CALLS;
    pid_t thread = atomic_load(&every.thread);
    if (thread && thread != gettid())
        return 0;
    uint64_t fiber = fen_fiber_id();
    if (fiber && fiber != atomic_load(&every.fiber)) /* a partner's */
        return 0;
    int n = atomic_fetch_add(&every.calls[what], 1) + 1;
    if (every.row != every.target || what != every.what || every.seen + n != every.nth)
        return 0;
    atomic_store(&every.rc, every_errno(call));
    atomic_store(&every.hit, true);
    return atomic_load(&every.rc);
}

static inline void every_begin(const char *fn)
{
    struct every_row *row = NULL;
    for (int i = 0; i < every.n_rows; i++)
        if (!strcmp(every.rows[i].fn, fn))
            row = &every.rows[i];
    if (!row || atomic_load(&every.on)) {
        printf("%s: %s\n", fn, row ? "a call within a call" : "not in every.h");
        abort();
    }
    row->steps++;
    every.row = row;
    every.seen = row->calls[every.what];
    for (int i = 0; i < CLASSES; i++)
        atomic_store(&every.calls[i], 0);
    atomic_store(&every.hit, false);
    atomic_store(&every.thread, row->kind == NEVER ? gettid() : 0);
    atomic_store(&every.fiber, fen_fiber_id());
    atomic_store(&every.on, true);
}

static inline void every_end(void)
{
    atomic_store(&every.on, false);
    for (int i = 0; i < CLASSES; i++)
        every.row->calls[i] += atomic_load(&every.calls[i]);
    every.met |= atomic_load(&every.hit);
}

/* True: it failed because of the fault, and is to be called again. */
static inline bool every_failed(int64_t got, int64_t want)
{
    if (got == want)
        return false;
    if (!atomic_load(&every.hit))
        every_broken("not what it should return without a fault", got);
    if (got != atomic_load(&every.rc) && got != -ENOMEM &&
        (!every.row->also || got != every.row->also))
        every_broken("no error that a fault explains", got);
    return true;
}

/* A call that returns `want`, or an error and then, once more, `want`. */
#define TRY(want, fn, args)                                                                        \
    ({                                                                                             \
        int64_t got_;                                                                              \
        do {                                                                                       \
            every_begin(#fn);                                                                      \
            got_ = (int64_t)fn args;                                                               \
            every_end();                                                                           \
        } while (every_failed(got_, want));                                                        \
        got_;                                                                                      \
    })
/* A call that returns a pointer; NULL and then one. */
#define GET(fn, args)                                                                              \
    ({                                                                                             \
        __typeof__(fn args) p_;                                                                    \
        do {                                                                                       \
            every_begin(#fn);                                                                      \
            p_ = fn args;                                                                          \
            every_end();                                                                           \
        } while (every_failed(p_ ? 0 : -ENOMEM, 0));                                               \
        p_;                                                                                        \
    })
/* A call whose outcome the scenario looks at itself; one that returns nothing. */
#define SEE(fn, args)                                                                              \
    ({                                                                                             \
        every_begin(#fn);                                                                          \
        __typeof__(fn args) v_ = fn args;                                                          \
        every_end();                                                                               \
        v_;                                                                                        \
    })
#define DO(fn, args) (every_begin(#fn), (void)fn args, every_end())
/* True: it failed because of the fault, so what follows in the same go is void. */
#define SPOILT(want, fn, args) every_failed((int64_t)SEE(fn, args), want)

static inline void every_check(bool ok, const char *what, int line)
{
    if (!ok) {
        printf("line %d: %s\n", line, what);
        every_broken("the scenario around it", line);
    }
}
#define MUST(cond) every_check((cond), #cond, __LINE__)

/* ---- a scenario ---- */

struct every_left {
    int64_t bytes, fibers, timers, fds;
    int files, threads;
};

static inline struct every_left every_count(void)
{
    fen_stats st;
    fen_stats_get(&st);
    return (struct every_left){fen__mem_live_bytes(), st.fibers_live,           st.timers_live,
                               st.fds_live,           entries("/proc/self/fd"), 0};
}

/* A thread that was joined may be seen for a moment more. */
static inline int every_threads(int want)
{
    int n = entries("/proc/self/task");
    for (int i = 0; i < 2000 && n > want; i++) {
        fen__sys_nap(FEN_MS);
        n = entries("/proc/self/task");
    }
    return n;
}

static inline void every_run(const struct every_scenario *s, struct every_left before)
{
    for (int i = 0; i < every.n_rows; i++) {
        every.rows[i].steps = 0;
        memset(every.rows[i].calls, 0, sizeof every.rows[i].calls);
    }
    every.row = NULL;
    every.met = false;
    int rc =
        s->place ? s->fn(NULL) : fen_run(s->fn, NULL, &(fen_config){.procs = 2, .max_blocking = 2});
    every.row = every.target;
    if (rc)
        every_broken("the scenario returned", rc);
    struct every_left after = every_count();
    before.threads = after.threads = 0;
    before.bytes = s->place == KEEPS ? after.bytes : before.bytes;
    if (memcmp(&before, &after, sizeof before)) {
        printf("%s: left: bytes %ld, fibers %ld, timers %ld, fds %ld, files %d\n", s->name,
               (long)(after.bytes - before.bytes), (long)(after.fibers - before.fibers),
               (long)(after.timers - before.timers), (long)(after.fds - before.fds),
               after.files - before.files);
        every_broken("leaves something behind", after.bytes - before.bytes);
    }
}

static inline void every_row_fails(const struct every_scenario *s, struct every_row *row)
{
    int most = 0, threads = every_threads(INT32_MAX);
    for (int what = 0; what < CLASSES; what++) {
        every.what = (enum every_class)what;
        every.met = true;
        for (every.nth = 1; every.met && every.nth < NTH_MAX; every.nth += every.nth < 32 ? 1 : 7) {
            every.target = row;
            every_run(s, every_count());
            most += every.met;
        }
        every.row = row;
        if (every.nth >= NTH_MAX)
            every_broken("a call without end", every.nth);
        if (every_threads(threads) > threads)
            every_broken("leaves threads behind", threads);
    }
    every.target = NULL;
    if (!most)
        every_broken("is a row that FAILS and never did", 0);
}

/* On a busy machine a partner may have come before the call that was to wait for it. */
static inline bool every_too_quiet(const struct every_scenario *s)
{
    for (int i = 0; i < every.n_rows; i++) {
        const struct every_row *row = &every.rows[i];
        if (row->kind == FAILS && !strcmp(row->scenario, s->name) && !row->calls[ALLOCATIONS] &&
            !row->calls[SYSTEM_CALLS])
            return true;
    }
    return false;
}

static inline int every_scenario(const struct every_scenario *s)
{
    int failed = 0;
    every.target = NULL;
    every.nth = 0;
    for (int i = 0; i < 2; i++) { /* what the process keeps for ever */
        for (int k = 0; k < every.n_rows; k++)
            every.rows[k].steps = 0;
        int rc = s->place ? s->fn(NULL)
                          : fen_run(s->fn, NULL, &(fen_config){.procs = 2, .max_blocking = 2});
        if (rc)
            every_broken("the scenario returned", rc);
    }
    for (int tries = 0; tries < 5 && (!tries || every_too_quiet(s)); tries++)
        every_run(s, every_count());
    for (int i = 0; i < every.n_rows; i++) {
        struct every_row *row = &every.rows[i];
        bool mine = !strcmp(row->scenario, s->name);
        int n = row->calls[ALLOCATIONS] + row->calls[SYSTEM_CALLS];
        if (mine && getenv("FEN_EVERY_SHOW"))
            printf("%-12s %-28s steps %d, allocations %d, system calls %d\n", s->name, row->fn,
                   row->steps, row->calls[ALLOCATIONS], row->calls[SYSTEM_CALLS]);
        if (mine != (row->steps > 0)) {
            print_error("%s: %s %s\n", s->name, row->fn, mine ? "is not called" : "is called");
            failed++;
        } else if (mine && row->kind == NEVER && n) {
            print_error("%s: NEVER, but %d allocations, %d system calls\n", row->fn,
                        row->calls[ALLOCATIONS], row->calls[SYSTEM_CALLS]);
            failed++;
        } else if (mine && row->kind == FAILS && !n) {
            print_error("%s: FAILS, but makes no call that could\n", row->fn);
            failed++;
        }
    }
    return failed;
}

/* Every row of every scenario. */
static inline void every_test(struct every_row *rows, int n_rows,
                              const struct every_scenario *scenarios, int n)
{
    const char *only = getenv("FEN_EVERY_ONLY"); /* a function, to look at one */
    int failed = 0, faults = 0;
    every.rows = rows;
    every.n_rows = n_rows;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a run may end by an abort */
    fen__sys_fault = every_hook;
    for (int i = 0; i < n; i++)
        failed += every_scenario(&scenarios[i]);
    assert_int_equal(failed, 0);
    for (int k = 0; k < n_rows; k++) {
        const struct every_scenario *s = NULL;
        for (int i = 0; i < n; i++)
            if (!strcmp(scenarios[i].name, rows[k].scenario))
                s = &scenarios[i];
        assert_non_null(s);
        if (rows[k].kind == FAILS && (!only || !strcmp(only, rows[k].fn)))
            every_row_fails(s, &rows[k]);
        faults += rows[k].kind == FAILS;
    }
    fen__sys_fault = NULL;
    print_message("%d functions under faults, %d that make no call\n", faults, n_rows - faults);
}

#endif
