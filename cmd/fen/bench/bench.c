/* bench.c - fen bench. */
#include "cmd.h"

#include <stdio.h>

int cmd_bench(int argc, char **argv)
{
    (void)argc;
    fprintf(stderr, "fen %s: not in this build\n", argv[0]);
    return 1;
}
