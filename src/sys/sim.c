/* sim.c - simulated time: a thread whose clocks stand still until it moves them itself.
 *
 * One word a thread: 0, or the time that fen__sys_now returns there. Only the one worker of a
 * simulated run has it; every other thread of the process goes on with the kernel's clocks. So no
 * lock is needed, and a run that is not simulated pays one load of a thread-local a clock reading.
 *
 * A program may wait for a time without letting anybody else run (while (fen_now() < t);), so each
 * fen_now moves the clock by TICK. The wall clock runs along, from a fixed date. */
#include "sys/sys_int.h"

#define TICK_NS 100
#define WALL_NS (INT64_C(1767225600) * FEN_S) /* 2026-01-01 */

_Thread_local int64_t fen__sys_virtual_ns;

void fen__sys_virtual_set(int64_t ns) { fen__sys_virtual_ns = ns; }
bool fen__sys_is_virtual(void) { return fen__sys_virtual_ns != 0; }
int64_t fen__sys_virtual_wall(void) { return WALL_NS + fen__sys_virtual_ns; }

int64_t fen_now(void)
{
    if (FEN__UNLIKELY(fen__sys_virtual_ns))
        fen__sys_virtual_ns += TICK_NS;
    return fen__sys_now();
}
