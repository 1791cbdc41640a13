/* real_rig.h - what stands round the real files of src/sched in their models: no kernel, no clock,
 * no memory of theirs. */
#ifndef FEN_TEST_MODEL_REAL_RIG_H
#define FEN_TEST_MODEL_REAL_RIG_H

#include "interleave.h"

#include "real_sched.h"
#include "sched/see.h"

#include <stdlib.h>
#include <string.h>

enum { RIG_PS = 3, RIG_GS = 8 };
extern struct fen__p rig_p[RIG_PS];
extern struct fen__m rig_m[RIG_PS];
extern struct fen__g rig_g[RIG_GS];

/* n Ps, each with its M; fibers that have begun. */
void rig_init(int n);

/* Filled in by a scenario's init. */
extern struct rig_hooks {
    void (*swap)(struct fen__m *m, enum fen__act act);
    void (*sleep)(uint32_t shard); /* waits for descriptors, or for a kick */
    void (*kick)(uint32_t shard);
    int (*timer_add)(struct fen__timer *t);
    void (*give)(struct fen__m *m); /* the monitor gave it a P */
} rig;

extern const struct il_scenario real_next, real_overflow, real_wrap, real_newborn, real_thieves,
    real_global, real_wait, real_cancel, real_slot, real_slot_closed, real_idle_two,
    real_idle_outside, real_idle_three, real_take_one, real_take_plain;

#endif
