/* poll_int.h - what the files of this room share. */
#ifndef FEN_POLL_INT_H
#define FEN_POLL_INT_H

#include "poll/poll.h"

#include <stdatomic.h>

struct fen__slot *fen__slot_at(uint32_t index);
int fen__slot_new(struct fen__slot **ret_slot);
void fen__slot_free(struct fen__slot *s);
void fen__slots_fini(void);
fen__waiter fen__slot_fire(struct fen__slot *s, enum fen__dir d, fen__waiter next);

#endif
