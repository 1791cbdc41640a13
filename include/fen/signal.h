/* signal.h - signals as events of a channel. */
#ifndef FEN_SIGNAL_H
#define FEN_SIGNAL_H

#include <fen/chan.h>
#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_signal fen_signal;

/* Catches n signals from now on, instead of what the process did with them, and hands their
 * numbers out on a channel. A signal that comes again before its number was received counts once,
 * as the kernel has it too; different ones are never lost, the lower number comes first. Up to 64
 * may be open at once; each that catches a signal gets it.
 * 0; -EINVAL: n < 1, or a signal that does not exist, cannot be caught (SIGKILL, SIGSTOP) or tells
 * of a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS); FEN_ELIMIT; -ENOMEM,
 * -EMFILE; FEN_ENOTFIBER. Fibers only. */
FEN_API int fen_signal_open(const int *signals, int n, fen_signal **ret_signal) FEN_MUST_CHECK;

/* The channel, of int. It belongs to s; nobody else sends on it or closes it. It is closed when the
 * run ends. Any thread. */
FEN_API fen_chan *fen_signal_chan(fen_signal *s);

/* Closes the channel and gives the signals back: what the process did with them before the first
 * open is in force again once the last that catches them has closed, unless somebody else has
 * changed it meanwhile. Nobody may wait on the channel. Fibers only, in the run that opened it.
 * NULL is accepted. */
FEN_API void fen_signal_close(fen_signal *s);

#ifdef __cplusplus
}
#endif
#endif
