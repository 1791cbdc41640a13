/* reclaim.h - between pace.c, which decides, and reclaim.c, which does it. */
#ifndef FEN_MEM_RECLAIM_H
#define FEN_MEM_RECLAIM_H

#include "base/hist.h"
#include "mem/heap_int.h"

/* For c->why; fills what it was like after, returned, slices and slice_max_ns.
 * keep_bytes of dirty pages may stay. */
void fen__reclaim_run(struct fen__reclaim_cycle *c, int64_t budget_ns, size_t keep_bytes);

/* What rooms keep and have not used for a while: slices and slice_max_ns, no more. */
void fen__reclaim_kept(struct fen__reclaim_cycle *c);

#endif
