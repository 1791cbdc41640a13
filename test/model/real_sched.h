/* real_sched.h - for files of src/sched that interleave.h runs: small rings, a clock that stands,
 * and what the models call that is static there. Included before each of those files. */
#ifndef FEN_TEST_MODEL_REAL_SCHED_H
#define FEN_TEST_MODEL_REAL_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#define FEN__RING 4
#define __builtin_ia32_rdtsc() 0u

struct fen__m;
/* The monitor tries to take m's P. */
bool real_take(struct fen__m *m);
bool real_trylock(uint32_t *word);
struct fen__slot;
uint32_t real_slot_gen(struct fen__slot *s);
void real_slot_clear(struct fen__slot *s); /* of its reading side */

#endif
