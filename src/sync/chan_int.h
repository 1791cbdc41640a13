/* chan_int.h - the channel's structure, shared by chan.c and select.c. */
#ifndef FEN_SYNC_CHAN_INT_H
#define FEN_SYNC_CHAN_INT_H

#include "sync/sync_int.h"

#include <fen/chan.h>
#include <string.h>

struct fen_chan {
    uint32_t lock;
    bool closed;
    size_t elem, cap, count, first;
    struct fen_waitq senders, receivers;
    struct fen_chan *next, **pprev; /* in the list of describe.c, under its lock */
    const void *site;               /* where it was made; NULL: not in the list */
    char buf[];
};

/* One element; a word, which most are, without a call. */
static inline void fen__chan_copy(void *to, const void *from, size_t bytes)
{
    if (FEN__LIKELY(bytes == 8))
        memcpy(to, from, 8);
    else if (bytes)
        memcpy(to, from, bytes);
}

/* A fiber that was claimed under the lock and must be woken after it. */
struct fen__handed {
    struct fen__node *node; /* NULL: nobody */
    int claim, rc;
};

int fen__chan_send_step(fen_chan *c, const void *elem, struct fen__handed *ret);
int fen__chan_recv_step(fen_chan *c, void *ret_elem, struct fen__handed *ret);
void fen__chan_hand(struct fen__handed *h);
void *fen__chan_xfer(struct fen__g *g, size_t bytes);
void fen__chan_xfer_free(struct fen__g *g, void *xfer, size_t bytes);
/* fen_chan_new for a channel that fen makes for the program; site: the return address of the
 * program's call, for the report of what is left. */
fen_chan *fen__chan_make(size_t elem_bytes, size_t capacity, const void *site);
/* describe.c: channels made while the report of what is left is wanted. */
void fen__chan_note(struct fen_chan *c, const void *site);
void fen__chan_forget(struct fen_chan *c);

#endif
