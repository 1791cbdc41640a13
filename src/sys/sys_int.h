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

#endif
