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

/* One of the objects that were noted. path is "" for the program, whose file is /proc/self/exe. */
#define FEN__BUILD_ID_BYTES 20
struct fen__sys_object {
    uintptr_t start, end;
    const char *path; /* valid until the objects are noted again */
    const uint8_t *build_id;
    uint32_t build_id_n; /* 0: it has none */
};
/* The i-th, in the order of the loader, the program first; false: there are not so many. */
bool fen__sys_object(int i, struct fen__sys_object *ret);
/* The path of the program's file, "" when it cannot be read. */
void fen__sys_program(char *to, size_t cap);
/* Names for code addresses, in ascending order: fn(arg, k, name, bytes) for each k whose function
 * is known, perhaps more than once, the first being the best. Reads each object's file once. */
void fen__sys_functions(const uintptr_t *pc, size_t n,
                        void (*fn)(void *arg, size_t k, const char *name, size_t bytes), void *arg);

#endif
