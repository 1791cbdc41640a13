/* sim.h - simulated runs: one number fixes schedule, time and faults (fen_config.sim_seed). */
#ifndef FEN_SIM_H
#define FEN_SIM_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A hash of what the simulated run did: which fiber was resumed, interrupted, woken by the clock or
 * met a fault, in order. Two runs of one program with one seed have the same value at the same
 * place; if not, something outside the simulation had a say. It stays after fen_run has returned,
 * until the next simulated run begins; 0 before the first. Any thread. Does not block. */
FEN_API uint64_t fen_sim_hash(void);

#ifdef __cplusplus
}
#endif
#endif
