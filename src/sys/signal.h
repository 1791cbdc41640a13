/* signal.h - catching signals: bits and an eventfd. */
#ifndef FEN_SYS_SIGNAL_H
#define FEN_SYS_SIGNAL_H

#include "base/base.h"

#define FEN__CATCHERS_MAX 64

/* May this signal be caught by fen__catch_open? */
bool fen__signal_ok(int signal);
/* Catches the signals in mask (bit n - 1: signal n), each with its disposition saved the first
 * time. The catcher's number, FEN_ELIMIT when all are taken, -EMFILE ... *ret_fd becomes readable
 * when a signal came; it stays the catcher's. Any thread. */
int fen__catch_open(uint64_t mask, int *ret_fd) FEN_MUST_CHECK;
/* The signals that came since, as bits, taken. */
uint64_t fen__catch_take(int catcher);
/* Gives the signals back and closes the descriptor; waits for a handler under way. */
void fen__catch_close(int catcher);

#endif
