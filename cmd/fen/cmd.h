/* cmd.h - what the subcommands of fen share: the table of commands and flag parsing. */
#ifndef FEN_CMD_H
#define FEN_CMD_H

#include <stdbool.h>
#include <stdint.h>

/* Each returns the exit code: 0 done, 1 failed, 2 wrong usage or input. */
int cmd_bench(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_capture(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_heap(int argc, char **argv);
int cmd_load(int argc, char **argv);
int cmd_prove(int argc, char **argv);
int cmd_serve(int argc, char **argv);

enum arg_kind {
    ARG_STR,  /* const char ** */
    ARG_INT,  /* int64_t *; min and max apply */
    ARG_DUR,  /* int64_t *, ns: 20ms, 1.5s, 2m; a bare number is refused */
    ARG_BOOL, /* bool *: --flag or --flag=on|off */
};

struct arg {
    const char *name; /* without the dashes */
    enum arg_kind kind;
    void *out;
    int64_t min, max; /* ARG_INT and ARG_DUR; both 0: any value >= 0 */
    const char *help;
};

/* Parses --name=value flags; argv[0] is the command's name. Positional words go to ret_words (at
 * most max_words). 0; or 2 after one line on stderr that names the flag, what was wrong and what is
 * accepted; or -1 after printing the flags for --help or -h: the caller adds the words it
 * takes, if any, and exits with 0. */
int args_parse(int argc, char **argv, const struct arg *tab, int n, const char **ret_words,
               int max_words);

/* "20ms" to ns; -1 when malformed. */
int64_t parse_duration(const char *s);

#endif
