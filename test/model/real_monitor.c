/* real_monitor.c - monitor.c with a way to its taking of a P, and what is inline in headers. */
#include "sched/monitor.c"

bool real_take(struct fen__m *m) { return take(m, ASLEEP, 0); }
bool real_trylock(uint32_t *word) { return fen__trylock(word); }
uint32_t real_slot_gen(struct fen__slot *s) { return fen__slot_gen(s); }
void real_slot_clear(struct fen__slot *s) { fen__slot_clear(s, FEN__READ); }
