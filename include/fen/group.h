/* group.h - error group: fibers that work on one thing. The first error cancels the rest. */
#ifndef FEN_GROUP_H
#define FEN_GROUP_H

#include <fen/scope.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_group fen_group;

/* Opens a scope inside the current one for the group's fibers; it becomes the fiber's current
 * scope, until fen_group_wait. limit: how many of its fibers may exist at once, 0: any number.
 * deadline_ns is absolute and cancels like any scope's (FEN_NEVER: only the parents'). NULL when
 * out of memory or outside a fiber. */
FEN_API fen_group *fen_group_open(uint32_t limit, int64_t deadline_ns) FEN_MUST_CHECK;

/* Starts fn(arg) in a new fiber of the group; it returns 0 or more, or a negative error. The first
 * error cancels the group's scope with that cause (fen_scope_cause): the blocking calls of the
 * other fibers return -ECANCELED. Waits for a place when the group has a limit; until: -ETIMEDOUT
 * at the absolute deadline; try_: -EAGAIN. 0, the group's first error once there is one (nothing is
 * started then), -ECANCELED or -ETIMEDOUT when its scope has ended, -ENOMEM, FEN_ELIMIT. Only by
 * the fiber that opened the group and the group's own (asserted). */
FEN_API int fen_group_go(fen_group *g, int (*fn)(void *arg), void *arg) FEN_MUST_CHECK;
FEN_API int fen_group_go_until(fen_group *g, int (*fn)(void *arg), void *arg,
                               int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API int fen_group_try_go(fen_group *g, int (*fn)(void *arg), void *arg) FEN_MUST_CHECK;

/* The group's scope, for a cancel, a deadline, a clean-up. It ends with the group. Any thread. */
FEN_API fen_scope *fen_group_scope(fen_group *g);

/* Waits for the group's fibers, closes its scope and frees it. By the fiber that opened it, whose
 * current scope it must be (asserted). The first error; else why the scope ended early (-ETIMEDOUT,
 * -ECANCELED), else 0. -ECANCELED also after fen_scope_cancel_with(fen_group_scope(g), cause): the
 * cause goes with the scope, so who wants it reads fen_scope_cause(fen_group_scope(g)) before the
 * wait. The wait itself cannot be cancelled: the fibers can. So the group's deadline ends the
 * blocking calls of its fibers, and the wait when they have returned. */
FEN_API int fen_group_wait(fen_group *g);

/* The same, but waits until the absolute deadline_ns only (one in the past: does not wait). 0: the
 * group is freed, and *ret_rc (ret_rc may be NULL) is what fen_group_wait would have returned.
 * -ETIMEDOUT: fibers are left. Then the group stays as it was, its scope current, and they run on,
 * cancelled by nobody: it may get more of them, be cancelled (fen_group_scope), and is to be waited
 * for again in any form. -ENOMEM: the same, the deadline could not be set. try_: -EAGAIN instead of
 * waiting. */
FEN_API int fen_group_wait_until(fen_group *g, int64_t deadline_ns, int *ret_rc) FEN_MUST_CHECK;
FEN_API int fen_group_try_wait(fen_group *g, int *ret_rc) FEN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
