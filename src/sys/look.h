/* look.h - reading memory that others change, naming code addresses, the signal that asks for a
 * dump. */
#ifndef FEN_SYS_LOOK_H
#define FEN_SYS_LOOK_H

#include "base/text.h"
#include "sys/sys.h"

/* Copies up to n bytes of this process's memory, wherever they lie: the bytes had (fewer when the
 * second of two pages is gone) or -errno: -EFAULT: not mapped; -EPERM, -ENOSYS: the kernel does not
 * allow it. Any thread. */
ssize_t fen__sys_copy(void *to, const void *from, size_t n);
bool fen__sys_copy_all(void *to, const void *from, size_t n);
/* A string of at most cap - 1 bytes, terminated; its length, 0 when it cannot be read. */
size_t fen__sys_copy_string(char *to, const char *from, size_t cap);

/* Bytes from low (a page's start) up to the first page that holds memory; at most bytes. */
size_t fen__sys_untouched(const void *low, size_t bytes);

/* Has fn called on SIGQUIT, from then on and on any thread, in a signal handler. False: the program
 * has a handler of its own; nothing is changed. Ignored counts as none: a shell starts whatever it
 * puts in the background with SIGQUIT ignored. In pairs with restore. */
bool fen__sys_quit_install(void (*fn)(void));
void fen__sys_quit_restore(void);

/* ---- symbol.c ---- */
/* Notes which objects are loaded, for fen__sys_symbol. Takes the loader's lock. */
void fen__sys_objects_note(void);
/* Appends a name for a code address: "function+0x12", "object+0x1234" when the object has no symbol
 * for it, or the bare address. Signal-safe: opens the object and reads its symbol table. */
void fen__sys_symbol(struct fen__text *t, const void *pc);

#endif
