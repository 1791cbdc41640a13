/* trace.h - where another thread is: its return addresses, taken by a signal. */
#ifndef FEN_SYS_TRACE_H
#define FEN_SYS_TRACE_H

#include "base/base.h"

/* Installs the handler for SIGURG unless the program has one: then false, and nothing works. The
 * two go in pairs. */
bool fen__trace_install(void);
void fen__trace_restore(void);
/* Asks thread tid for the frames of the stack [low, top), if it runs on it. One request at a time.
 * 0, -EBUSY, -ESRCH. */
int fen__trace_ask(int tid, const void *low, const void *top);
/* The answer, at most n frames, innermost first: their number; -EAGAIN: none yet. */
int fen__trace_answer(const void **ret_frames, int n);
/* Gives a request up. False: the answer is being written, ask again. */
bool fen__trace_forget(void);
/* Where thread tid of this process sleeps in the kernel: its program counter, NULL if it runs. */
const void *fen__trace_sleeper(int tid);
/* For a thread that may be asked: lets the signal through. */
void fen__trace_unblock(void);

#endif
