/* sys_int.h - every system call that can fail asks here first. */
#ifndef FEN_SYS_INT_H
#define FEN_SYS_INT_H

#include "sys/sys.h"

/* sim.c. initial-exec: one load; never kept across a call that could move a fiber. */
extern _Thread_local int64_t fen__sys_virtual_ns __attribute__((tls_model("initial-exec")));
int64_t fen__sys_virtual_wall(void);

#define FAULT(name)                                                                                \
    do {                                                                                           \
        int rc_ = FEN__UNLIKELY(fen__sys_fault != NULL) ? fen__sys_fault(name) : 0;                \
        if (rc_)                                                                                   \
            return rc_;                                                                            \
    } while (0)

/* What a call that makes a descriptor of the runtime's own returned: that, or a copy of it above
 * the standard streams when one of those is closed, or what a child inherits as its standard output
 * would be fen's. -errno: there is none. */
int fen__sys_own_fd(int fd);
/* The same for both ends of a pipe. 0, or -errno and they are closed. */
int fen__sys_own_pipe(int fd[2]);

#endif
