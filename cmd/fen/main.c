/* main.c - the one program: a table of subcommands. */
#include "cmd.h"

#include <stdio.h>
#include <string.h>

#define FEN_VERSION "0.1.0"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"serve", cmd_serve, "run a service: fen serve orders --http-addr=:8080 --db=orders.db"},
    {"load", cmd_load, "put load on a server and measure it"},
    {"prove", cmd_prove, "compare fen with baselines on the same work, and show the money"},
    {"doctor", cmd_doctor, "what of this machine's settings a service will notice"},
    {"heap", cmd_heap, "who holds the memory: fen heap top http://127.0.0.1:6060/debug/pprof/heap"},
    {"capture", cmd_capture, "write down what the memory of a service does for a while"},
    {"diff", cmd_diff, "compare two captures: fen diff a b --out=page.html"},
    {"bench", cmd_bench, "measure one mechanism: fen bench switch --json"},
};

static int usage(FILE *to)
{
    fprintf(to, "usage: fen COMMAND [--flag=value ...]\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(to, "  %-7s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "fen COMMAND --help lists the flags of a command.\n");
    return to == stderr ? 2 : 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return usage(stdout);
    if (!strcmp(argv[1], "--version")) {
        printf("fen %s\n", FEN_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "fen: unknown command '%s'\n", argv[1]);
    return usage(stderr);
}
