/* timer.h - timers that deliver to a channel or call a function, once or again and again.
 *
 * For a fiber that only wants to wait there are fen_sleep, deadlines and FEN_AFTER. A timer is for
 * what has to happen while the fiber does something else, or is waited for in a select.
 *
 * Stop and start against a firing that is under way on another thread: exactly one of the two wins.
 * After fen_timer_stop, fen_timer_start or fen_timer_every has returned, nothing of the time before
 * is received: a value that nobody took is taken back. */
#ifndef FEN_TIMER_H
#define FEN_TIMER_H

#include <fen/chan.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_timer fen_timer;

/* A stopped timer. Each firing puts the time (int64_t, as fen_now) into its channel, which holds
 * one: while nobody takes it, further ones are dropped. NULL when out of memory. Any thread; a
 * timer is used in one run and freed, or stopped, before that run ends. */
FEN_API fen_timer *fen_timer_new(void) FEN_MUST_CHECK;

/* A stopped timer that calls fn(arg) on a worker's own stack instead: as a cancel hook fn must be
 * short and make only calls that any thread may make, or start and stop this timer; it does not
 * run twice at once. To the calls it makes it is no fiber; one that would have to wait is an
 * assertion. */
FEN_API fen_timer *fen_timer_new_func(void (*fn)(void *arg), void *arg) FEN_MUST_CHECK;

/* Stops it and frees it, when it no longer fires anywhere. Nobody may wait in its channel
 * (asserted). Not from a timer's function (asserted). NULL is accepted. */
FEN_API void fen_timer_free(fen_timer *t);

/* Fires once at that absolute time; at once when it has passed. A timer that is armed is moved. 1
 * if it was armed, or had fired and the value was not taken; else 0. -ENOMEM: it is stopped now.
 * FEN_ENOTFIBER outside fibers and the timer's own function. Does not wait for a function that
 * runs. */
FEN_API int fen_timer_start(fen_timer *t, int64_t when_ns);

/* A ticker: fires at first_ns and then every period_ns (-EINVAL below 1), by the clock: a late tick
 * does not move those after it, and what came while the receiver or the machine was busy is
 * dropped. Results as fen_timer_start. Should the next tick find no memory, the channel is closed:
 * the receiver gets FEN_ECLOSED, and the timer is of no further use. */
FEN_API int fen_timer_every(fen_timer *t, int64_t first_ns, int64_t period_ns);

/* Stops it. 1 if it was armed or its value was not taken: nobody has got the firing, nobody will;
 * 0 if it had fired (or called fn) or was not armed. Waits until a function that runs on another
 * thread has returned, so afterwards it does not run; the caller must hold nothing that fn takes.
 * Any thread, also the timer's own function. */
FEN_API int fen_timer_stop(fen_timer *t);

/* Its channel of int64_t, to receive from and select on; the timer's, not to be closed or freed.
 * NULL for a timer with a function. Any thread. */
FEN_API fen_chan *fen_timer_chan(fen_timer *t);

#ifdef __cplusplus
}
#endif
#endif
