/* defer.h - clean-ups, in five forms.
 *
 *   block    FEN_DEFER, FEN_DEFER_COPY: at the end of the C block, no record at run time
 *   record   fen_defer (scope.h): at the close of a scope, 24 bytes of the caller's
 *   loop     fen_defer_dyn: the same with a copy of the argument, in memory that fen keeps
 *   group    fen_defer_group: many that may fail, behind one record
 *   batch    fen_defer_many: one function for an array, behind one record
 *
 * All take the argument's value when they are called, and run last in, first out. Those of a scope
 * run whatever ended it: close, cancel, deadline, fen_abort. docs/defer.md says which to take.
 * fen/stddefer.h adds the keyword defer. */
#ifndef FEN_DEFER_H
#define FEN_DEFER_H

#include <fen/scope.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- block ---- */

struct fen_block_defer {
    void (*fn)(void *arg);
    void *arg;
};

static inline __attribute__((always_inline)) void fen_block_defer_run(struct fen_block_defer *d)
{
    d->fn(d->arg);
}

#define FEN_DEFER_CAT2(a, b) a##b
#define FEN_DEFER_CAT(a, b) FEN_DEFER_CAT2(a, b)

/* Runs fn(arg) when the block is left by any way but longjmp or exit; last in first out. arg is
 * evaluated here, now. fn takes one pointer and returns nothing. A goto over it does not compile
 * under -Wjump-misses-init. Leaving the block must not change a struct that is being returned. */
/* (The attribute stands last: behind a label it would otherwise belong to the label.) */
#define FEN_DEFER(func, argument)                                                                  \
    struct fen_block_defer FEN_DEFER_CAT(fen_defer_, __COUNTER__)                                  \
        __attribute__((cleanup(fen_block_defer_run), unused)) = {(func), (argument)}

/* The same for a small struct or number: value is copied here, fn gets the copy's address. */
#define FEN_DEFER_COPY(func, value) FEN_DEFER_COPY2(func, value, __COUNTER__)
#define FEN_DEFER_COPY2(func, value, n) FEN_DEFER_COPY3(func, value, n)
#define FEN_DEFER_COPY3(func, value, n)                                                            \
    __typeof__(value) fen_defer_copy_##n = (value);                                                \
    FEN_DEFER(func, &fen_defer_copy_##n)

/* ---- scope: what fen_defer in scope.h does not do ---- */

/* Takes back a record of fen_defer that has not run: true. Looks from the newest on. The scope's
 * owner only. */
FEN_API bool fen_undefer(fen_scope *s, fen_defer_record *r);

#define FEN_CLEANUP_NS (10 * FEN_S)

/* How long a blocking call in this scope's clean-ups may wait, counted from the first one that
 * waits: after that each returns -ETIMEDOUT. FEN_CLEANUP_NS unless set; FEN_NEVER: no bound;
 * asserted to be above 0. The scope's own end and deadline do not reach its clean-ups. The scope's
 * owner only. */
FEN_API void fen_scope_set_cleanup(fen_scope *s, int64_t bound_ns);

/* ---- loop ---- */

#define FEN_DEFER_BYTES_MAX 128

/* Runs fn(copy) when the scope closes; copy is bytes of *arg as they are now, aligned to 16, zeroed
 * when fn has returned. arg may be NULL when bytes is 0. 0; -ENOMEM or FEN_ELIMIT (bytes above
 * FEN_DEFER_BYTES_MAX): nothing was deferred, the clean-up is the caller's to do. The scope's owner
 * only (asserted). Does not block. */
FEN_API int fen_defer_dyn(fen_scope *s, void (*fn)(void *copy), const void *arg,
                          size_t bytes) FEN_MUST_CHECK;

/* Blocks that fen_defer_dyn has taken from the heap in this run. Any thread. */
FEN_API int64_t fen_defer_blocks(void);

/* ---- group ---- */

#define FEN_DEFER_GROUP_INLINE 16

typedef struct fen_defer_item {
    int (*fn)(void *arg);
    void *arg;
} fen_defer_item;

/* Caller's memory, until the scope has closed; a parent may not copy it. */
typedef struct fen_defer_group {
    fen_defer_record record; /* all of this is fen's */
    uint32_t n, cap;         /* that wait, there is room for; numbers, so that a compiler knows */
    int *ret_rc;             /* them over the stores of an add */
    fen_defer_item *more;    /* those behind first's; NULL: none yet */
    fen_scope *scope;
    int rc; /* of the run that is under way: its first error so far */
    fen_defer_item first[FEN_DEFER_GROUP_INLINE];
} fen_defer_group;

/* What a group's record runs when the scope closes: all that is left, the first error to *ret_rc.
 * The scope's owner only. */
FEN_API void fen_defer_group_end(void *group);

/* An empty group that runs when s closes. ret_rc, unless NULL, is set to 0 now and to the first
 * error then; it must live as long. The scope's owner only (asserted). */
static inline void fen_defer_group_init(fen_defer_group *d, fen_scope *s, int *ret_rc)
{
    fen_defer(s, &d->record, fen_defer_group_end, d);
    d->n = 0; /* behind the call, so that the compiler knows it in the adds */
    d->cap = FEN_DEFER_GROUP_INLINE;
    d->ret_rc = ret_rc;
    d->more = NULL;
    d->scope = s;
    d->rc = 0;
    if (ret_rc)
        *ret_rc = 0;
}

/* Makes room for more items: what fen_defer_group_add does when the group is full. 0 or -ENOMEM.
 * The scope's owner only. */
FEN_API int fen_defer_group_grow(fen_defer_group *d) FEN_MUST_CHECK;

/* Gives back what fen_defer_group_grow took; the group is empty (asserted). The scope's owner
 * only. */
FEN_API void fen_defer_group_shrink(fen_defer_group *d);

/* Adds fn(arg), which returns 0 or more, or a negative error. No memory is taken up to
 * FEN_DEFER_GROUP_INLINE. 0; -ENOMEM: it was not added, the clean-up is the caller's to do. The
 * scope's owner only. Does not block. */
static inline FEN_MUST_CHECK int fen_defer_group_add(fen_defer_group *d, int (*fn)(void *arg),
                                                     void *arg)
{
    uint32_t n = d->n;
    if (__builtin_expect(n == d->cap, 0)) {
        int rc = fen_defer_group_grow(d);
        if (rc < 0)
            return rc;
    }
    fen_defer_item *i = __builtin_expect(n < FEN_DEFER_GROUP_INLINE, 1)
                            ? &d->first[n]
                            : &d->more[n - FEN_DEFER_GROUP_INLINE];
    i->fn = fn;
    i->arg = arg;
    d->n = n + 1;
    return 0;
}

/* Runs all now, last in, first out; one that fails does not keep the others from running. The first
 * error, or 0. The group is empty then and may be filled again. The scope's owner only. */
static inline int fen_defer_group_run(fen_defer_group *d)
{
    while (d->n) { /* read anew: it may have added */
        uint32_t n = d->n - 1;
        d->n = n; /* first: an abort in the call leaves the rest to the record */
        const fen_defer_item *i = __builtin_expect(n < FEN_DEFER_GROUP_INLINE, 1)
                                      ? &d->first[n]
                                      : &d->more[n - FEN_DEFER_GROUP_INLINE];
        int rc = i->fn(i->arg);
        if (__builtin_expect(rc < 0, 0) && !d->rc)
            d->rc = rc;
    }
    if (__builtin_expect(d->more != NULL, 0))
        fen_defer_group_shrink(d);
    int first = d->rc;
    d->rc = 0;
    return first;
}

/* ---- batch ---- */

/* Caller's memory, until the scope has closed. */
typedef struct fen_defer_batch {
    fen_defer_record record; /* all of this is fen's */
    fen_scope *scope;
    void (*fn)(void *item);
    void *const *items;
    size_t n;
} fen_defer_batch;

/* Runs fn(items[n - 1]) to fn(items[0]) when s closes, as n calls of fen_defer would. The array is
 * the caller's and must live until then. The scope's owner only (asserted). */
FEN_API void fen_defer_many(fen_scope *s, fen_defer_batch *b, void (*fn)(void *item),
                            void *const *items, size_t n);

/* ---- ending the process ---- */

/* Runs the clean-ups of the scopes that the running fiber has opened, innermost first, each scope's
 * last in, first out; then prints `what` with its place on fd 2 and aborts. A clean-up that aborts
 * itself does not keep the rest from running. Block forms and other fibers' scopes are left.
 * Outside a fiber it aborts at once. fen's own assertions run no clean-ups: they fail inside the
 * runtime, where none could be trusted. */
FEN_API void fen_abort(const char *what, const char *file, int line)
    __attribute__((noreturn, cold));

#define FEN_ASSERT(cond) ((cond) ? (void)0 : fen_abort(#cond, __FILE__, __LINE__))

#ifdef __cplusplus
}
#endif
#endif
