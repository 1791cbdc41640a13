/* chan.h - channels and select.
 *
 * Calls that wait park the fiber; on a thread that is not in a fiber they block the thread, with or
 * without a running runtime. Such a wait ends with -ECANCELED when a run ends meanwhile (fen_run
 * returns after those threads have left). FEN_ELIMIT: 4,096 threads wait already; FEN_EFORKED. */
#ifndef FEN_CHAN_H
#define FEN_CHAN_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_chan fen_chan;

/* A channel of elements of elem_bytes (0 to 65,536) with room for capacity of them; 0 is a
 * rendezvous. NULL when out of memory or out of range. Any thread. */
FEN_API fen_chan *fen_chan_new(size_t elem_bytes, size_t capacity) FEN_MUST_CHECK;

/* Frees a channel on which nobody waits (asserted) and what it buffers. Who was woken by a partner
 * or by fen_chan_close need not have gone on yet. A call that a deadline or a cancel ends must have
 * returned, and a fen_select, unless what ended it is a case of this channel, which stands in no
 * other of its cases. NULL is accepted. Any thread. */
FEN_API void fen_chan_free(fen_chan *c);

/* Sends a copy of *elem. 0, FEN_ECLOSED, -ECANCELED, -ETIMEDOUT. Blocks the fiber while full.
 * try_: -EAGAIN instead of blocking. until_: -ETIMEDOUT at the absolute deadline. Any thread. */
FEN_API int fen_chan_send(fen_chan *c, const void *elem);
FEN_API int fen_chan_send_until(fen_chan *c, const void *elem, int64_t deadline_ns);
FEN_API int fen_chan_try_send(fen_chan *c, const void *elem);

/* Receives into *ret_elem (NULL: the element is dropped), waiting while it is empty. 0; FEN_ECLOSED
 * once closed and empty; -ECANCELED, -ETIMEDOUT; try_: -EAGAIN instead of waiting; until: the
 * deadline is absolute. Any thread. */
FEN_API int fen_chan_recv(fen_chan *c, void *ret_elem);
FEN_API int fen_chan_recv_until(fen_chan *c, void *ret_elem, int64_t deadline_ns);
FEN_API int fen_chan_try_recv(fen_chan *c, void *ret_elem);

/* Closes: senders fail, receivers drain what is buffered. 0; FEN_ECLOSED if it was. Any thread. */
FEN_API int fen_chan_close(fen_chan *c);

/* Elements buffered now, and how many the buffer holds (0: a rendezvous). Any thread. */
FEN_API size_t fen_chan_len(fen_chan *c);
FEN_API size_t fen_chan_cap(const fen_chan *c);

/* What a case does; FEN_OP_NONE disables it. */
enum fen_select_op { FEN_OP_NONE, FEN_OP_SEND, FEN_OP_RECV, FEN_OP_AFTER };

/* One case of fen_select, as a rule made by FEN_SEND, FEN_RECV or FEN_AFTER. */
typedef struct fen_case {
    fen_chan *c; /* NULL disables the case */
    enum fen_select_op op;
    void *elem;       /* FEN_OP_SEND: read; FEN_OP_RECV: written, NULL drops */
    int rc;           /* out, of the chosen case: 0 or FEN_ECLOSED */
    int64_t after_ns; /* FEN_OP_AFTER: chosen when nothing else was for so long */
} fen_case;

/* Cases of a select: send *elem, receive into *elem (NULL drops), give up after a time. */
#define FEN_SEND(chan, elem) (FEN__VALUE(fen_case){(chan), FEN_OP_SEND, (void *)(elem), 0, 0})
#define FEN_RECV(chan, elem) (FEN__VALUE(fen_case){(chan), FEN_OP_RECV, (elem), 0, 0})
#define FEN_AFTER(duration_ns) (FEN__VALUE(fen_case){NULL, FEN_OP_AFTER, NULL, 0, (duration_ns)})

#define FEN_SELECT_MAX 64 /* cases of one select */

/* Waits until one of n cases can go on, does it, and returns its index; of several ready ones a
 * random one. A channel may stand in several cases, to be sent to and received from: one select
 * never meets itself. A FEN_AFTER case is chosen when its time since the call has passed and no
 * other could go on. -ETIMEDOUT at the absolute deadline (FEN_NEVER: none; 0: do not block,
 * whatever FEN_AFTER says) or at the scope's, -ECANCELED, -EINVAL for n > FEN_SELECT_MAX, -ENOMEM.
 * With no enabled case it waits for the deadline or a cancel. Any thread. */
FEN_API int fen_select(fen_case *cases, int n, int64_t deadline_ns);

#ifdef __cplusplus
}
#endif
#endif
