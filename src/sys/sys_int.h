/* sys_int.h - every system call that can fail asks here first. */
#ifndef FEN_SYS_INT_H
#define FEN_SYS_INT_H

#include "sys/sys.h"

#define FAULT(name)                                                                                \
    do {                                                                                           \
        int rc_ = FEN__UNLIKELY(fen__sys_fault != NULL) ? fen__sys_fault(name) : 0;                \
        if (rc_)                                                                                   \
            return rc_;                                                                            \
    } while (0)

#endif
