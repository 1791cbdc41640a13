/* serve.c - fen serve. */
#include "cmd.h"

#include <stdio.h>

int cmd_serve(int argc, char **argv)
{
    (void)argc;
    fprintf(stderr, "fen %s: not in this build\n", argv[0]);
    return 1;
}
