/* explore.h - every interleaving of a few small state machines.
 *
 * A model is a state of plain bytes and a function that lets one actor take its next step: one
 * access to shared memory, or one critical section. Breadth first, each state once. Where a plain
 * store matters, the model has a store buffer (TSO) and an actor that drains it.
 *
 * What is checked: no step calls ex_fail, and from every state that can be reached the good end can
 * be reached (so neither a deadlock nor a loop without a way out: a lost wake-up is one of these).
 * A model is worth something only if it notices a broken protocol, so each has mutants: the same
 * with one step dropped; each must fail. A model's main is ex_main: its plans, then its mutants. */
#ifndef FEN_TEST_EXPLORE_H
#define FEN_TEST_EXPLORE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EX_STATES_MAX (4u << 20)

struct ex_model {
    size_t bytes;
    int actors;
    void (*init)(void *state);
    bool (*step)(void *state, int actor); /* false: that actor cannot move here */
    bool (*done)(const void *state);
};

struct ex_result {
    const char *wrong; /* NULL: nothing */
    uint32_t states;
};

static int ex_mutant;         /* 0: the protocol as it is */
static const char *ex_failed; /* set by ex_fail */

static inline void ex_fail(bool broken, const char *what)
{
    if (broken && !ex_failed)
        ex_failed = what;
}

static struct {
    const struct ex_model *m;
    uint8_t *states;
    uint32_t n, cap, *table, table_size, *parent;
    uint8_t *by;
    uint32_t (*edges)[2];
    size_t n_edges, cap_edges;
} ex;

static inline uint32_t ex_hash(const uint8_t *s)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < ex.m->bytes; i++)
        h = (h ^ s[i]) * 1099511628211u;
    return (uint32_t)(h ^ h >> 32);
}

static inline uint8_t *ex_state(uint32_t i) { return ex.states + (size_t)i * ex.m->bytes; }

static inline void ex_grow(void)
{
    ex.cap = ex.cap ? ex.cap * 2 : 1u << 14;
    ex.table_size = ex.cap * 2;
    ex.states = realloc(ex.states, ex.cap * ex.m->bytes);
    ex.parent = realloc(ex.parent, ex.cap * sizeof *ex.parent);
    ex.by = realloc(ex.by, ex.cap);
    free(ex.table);
    ex.table = calloc(ex.table_size, sizeof *ex.table);
    if (!ex.states || !ex.parent || !ex.by || !ex.table)
        abort();
    for (uint32_t i = 0; i < ex.n; i++) {
        uint32_t at = ex_hash(ex_state(i)) & (ex.table_size - 1);
        while (ex.table[at])
            at = (at + 1) & (ex.table_size - 1);
        ex.table[at] = i + 1;
    }
}

static inline uint32_t ex_intern(const void *s, uint32_t parent, int by)
{
    if (ex.n == ex.cap)
        ex_grow();
    uint32_t at = ex_hash(s) & (ex.table_size - 1);
    for (; ex.table[at]; at = (at + 1) & (ex.table_size - 1))
        if (!memcmp(ex_state(ex.table[at] - 1), s, ex.m->bytes))
            return ex.table[at] - 1;
    memcpy(ex_state(ex.n), s, ex.m->bytes);
    ex.parent[ex.n] = parent;
    ex.by[ex.n] = (uint8_t)by;
    ex.table[at] = ++ex.n;
    return ex.n - 1;
}

static inline void ex_edge(uint32_t from, uint32_t to)
{
    if (ex.n_edges == ex.cap_edges) {
        ex.cap_edges = ex.cap_edges ? ex.cap_edges * 2 : 1u << 16;
        ex.edges = realloc(ex.edges, ex.cap_edges * sizeof *ex.edges);
        if (!ex.edges)
            abort();
    }
    ex.edges[ex.n_edges][0] = from;
    ex.edges[ex.n_edges++][1] = to;
}

/* The actors' steps from the start to state i, and the state's bytes. */
static inline void ex_trace(uint32_t i)
{
    if (ex_mutant)
        return;
    fprintf(stderr, "state:");
    for (size_t b = 0; b < ex.m->bytes; b++)
        fprintf(stderr, " %u", ex_state(i)[b]);
    fprintf(stderr, "\nactors, last first:");
    for (; i; i = ex.parent[i])
        fprintf(stderr, " %u", ex.by[i]);
    fprintf(stderr, "\n");
}

/* A state from which no good end can be reached; ex.n if there is none. */
static inline uint32_t ex_hopeless(void)
{
    uint32_t *first = calloc(ex.n + 1, sizeof *first),
             *next = malloc((ex.n_edges + 1) * sizeof *next);
    uint32_t *todo = malloc(ex.n * sizeof *todo), n = 0, i;
    uint8_t *good = calloc(ex.n, 1);
    if (!first || !next || !todo || !good)
        abort();
    for (size_t e = 0; e < ex.n_edges; e++) {
        next[e] = first[ex.edges[e][1]];
        first[ex.edges[e][1]] = (uint32_t)e + 1;
    }
    for (i = 0; i < ex.n; i++)
        if (ex.m->done(ex_state(i))) {
            good[i] = 1;
            todo[n++] = i;
        }
    while (n)
        for (uint32_t e = first[todo[--n]]; e; e = next[e - 1]) {
            uint32_t from = ex.edges[e - 1][0];
            if (!good[from])
                todo[n++] = from;
            good[from] = 1;
        }
    for (i = 0; i < ex.n && good[i]; i++)
        ;
    free(first);
    free(next);
    free(todo);
    free(good);
    return i;
}

static inline struct ex_result explore(const struct ex_model *m)
{
    struct ex_result r = {0};
    uint8_t *s = calloc(1, m->bytes);
    memset(&ex, 0, sizeof ex);
    ex.m = m;
    ex_failed = NULL;
    m->init(s);
    ex_intern(s, 0, 0);
    for (uint32_t i = 0; i < ex.n && !r.wrong; i++) {
        for (int a = 0; a < m->actors && !ex_failed; a++) {
            memcpy(s, ex_state(i), m->bytes);
            if (m->step(s, a))
                ex_edge(i, ex_intern(s, i, a));
        }
        r.wrong = ex_failed ? ex_failed : ex.n > EX_STATES_MAX ? "too many states" : NULL;
        if (r.wrong)
            ex_trace(i);
    }
    if (!r.wrong) {
        uint32_t i = ex_hopeless();
        r.wrong = i < ex.n ? "a state without a way to the end: a lost wake-up" : NULL;
        if (r.wrong)
            ex_trace(i);
    }
    r.states = ex.n;
    free(s);
    free(ex.states);
    free(ex.table);
    free(ex.parent);
    free(ex.by);
    free(ex.edges);
    return r;
}

/* ---- a model as a test ---- */

struct ex_suite {
    const struct ex_model *model;
    int mutants;               /* ex_mutant goes from 1 to below this */
    int plans;                 /* scenarios; a mutant must fail in one of them */
    void (*plan)(int k);       /* sets the stage for the k-th; NULL: there is but one */
    const char *(*name)(void); /* of the plan that is set; NULL: its number */
    uint32_t states;           /* a plan with fewer does not say what it should */
};
static const struct ex_suite *ex_suite;

static inline struct ex_result ex_plan(int k)
{
    if (ex_suite->plan)
        ex_suite->plan(k);
    return explore(ex_suite->model);
}

static inline void ex_test_holds(void **state)
{
    (void)state;
    ex_mutant = 0;
    for (int k = 0; k < ex_suite->plans; k++) {
        struct ex_result r = ex_plan(k);
        print_message("%d %s: %u states\n", k, ex_suite->name ? ex_suite->name() : "", r.states);
        if (r.wrong)
            fail_msg("plan %d: %s", k, r.wrong);
        assert_true(r.states > ex_suite->states);
    }
}

static inline void ex_test_mutants(void **state)
{
    (void)state;
    for (ex_mutant = 1; ex_mutant < ex_suite->mutants; ex_mutant++) {
        const char *wrong = NULL;
        for (int k = 0; k < ex_suite->plans && !wrong; k++)
            wrong = ex_plan(k).wrong;
        print_message("mutant %d: %s\n", ex_mutant, wrong ? wrong : "-");
        assert_non_null(wrong);
    }
}

static inline int ex_main(const struct ex_suite *suite)
{
    const struct CMUnitTest tests[] = {
        {"the protocol holds", ex_test_holds, NULL, NULL, NULL},
        {"every mutant is noticed", ex_test_mutants, NULL, NULL, NULL},
    };
    ex_suite = suite;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* ---- a store buffer for one byte (TSO): its stores become visible in order, and late ---- */
#define EX_STORES 2

struct ex_buffer {
    uint8_t n, value[EX_STORES];
};

/* False: it is full, the actor cannot move. */
static inline bool ex_store(struct ex_buffer *b, uint8_t value)
{
    if (b->n == EX_STORES)
        return false;
    b->value[b->n++] = value;
    return true;
}

/* The oldest store is seen by all. False: there is none. */
static inline bool ex_drain_one(struct ex_buffer *b, uint8_t *word)
{
    if (!b->n)
        return false;
    *word = b->value[0];
    memmove(b->value, b->value + 1, EX_STORES - 1);
    b->value[EX_STORES - 1] = 0;
    b->n--;
    return true;
}

/* What a locked operation or a barrier does. */
static inline void ex_drain(struct ex_buffer *b, uint8_t *word)
{
    while (ex_drain_one(b, word))
        ;
}

/* ---- a fiber's wait word, as in src/sched/park.c: epoch << 4 | state ---- */
enum { EX_IDLE, EX_ARMED, EX_PARKED, EX_CLAIMED, EX_TIMER, EX_CANCEL, EX_IO, EX_CLOSE, EX_SYNC };
#define EX_STATE(w) ((w)&15)
#define EX_EPOCH(w) ((w) >> 4)

/* One atomic compare-and-swap. */
static inline bool ex_cas(uint8_t *word, uint8_t old, uint8_t new_word)
{
    if (*word != old)
        return false;
    *word = new_word;
    return true;
}

#endif
