/* args.c - flag parsing for every subcommand: one table, one wording of errors. */
#include "cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *unit;
    double ns;
} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
#define UNITS (sizeof units / sizeof units[0])

int64_t parse_duration(const char *s)
{
    char *end;
    double v = strtod(s, &end);
    if (end == s || !(v >= 0) || v > 1e12)
        return -1;
    for (size_t i = 0; i < UNITS; i++)
        if (!strcmp(end, units[i].unit))
            return (int64_t)(v * units[i].ns);
    return -1;
}

static void help(const char *cmd, const struct arg *tab, int n)
{
    static const char *kinds[] = {"TEXT", "N", "TIME", "on|off"};
    printf("fen %s\n", cmd);
    for (int i = 0; i < n; i++)
        printf("  --%s=%-*s %s\n", tab[i].name, (int)(20 - strlen(tab[i].name)), kinds[tab[i].kind],
               tab[i].help);
}

/* In the largest unit that divides it: 24h, 10ms, 0s. */
static void put_duration(FILE *f, int64_t ns)
{
    size_t i = ns ? UNITS - 1 : 3;
    while (ns % (int64_t)units[i].ns)
        i--;
    fprintf(f, "%" PRId64 "%s", ns / (int64_t)units[i].ns, units[i].unit);
}

static void refuse_duration(const char *cmd, const struct arg *a, const char *value)
{
    fprintf(stderr, "fen %s: --%s=%s: expected a time such as 500us, 20ms, 4s or 2m", cmd, a->name,
            value);
    if (a->min || a->max) {
        fprintf(stderr, ", from ");
        put_duration(stderr, a->min);
        fprintf(stderr, " to ");
        put_duration(stderr, a->max);
    }
    fprintf(stderr, "\n");
}

static int refuse(const char *cmd, const struct arg *a, const char *value)
{
    if (a->kind == ARG_BOOL)
        fprintf(stderr, "fen %s: --%s=%s: expected on or off\n", cmd, a->name, value);
    else if (a->kind == ARG_DUR)
        refuse_duration(cmd, a, value);
    else if (a->min || a->max)
        fprintf(stderr,
                "fen %s: --%s=%s: expected a whole number from %" PRId64 " to %" PRId64 "\n", cmd,
                a->name, value, a->min, a->max);
    else
        fprintf(stderr, "fen %s: --%s=%s: expected a whole number\n", cmd, a->name, value);
    return 2;
}

static bool in_range(const struct arg *a, int64_t v)
{
    return a->min || a->max ? v >= a->min && v <= a->max : v >= 0;
}

static int set(const char *cmd, const struct arg *a, const char *value)
{
    if (a->kind == ARG_STR) {
        if (!value) {
            fprintf(stderr, "fen %s: --%s needs a value: --%s=TEXT\n", cmd, a->name, a->name);
            return 2;
        }
        *(const char **)a->out = value;
        return 0;
    }
    if (a->kind == ARG_BOOL) {
        bool on = !value || !strcmp(value, "on");
        if (!on && strcmp(value, "off"))
            return refuse(cmd, a, value);
        *(bool *)a->out = on;
        return 0;
    }
    if (!value)
        return refuse(cmd, a, "");
    char *end;
    errno = 0;
    int64_t v = a->kind == ARG_DUR ? parse_duration(value) : strtoll(value, &end, 10);
    if (errno || (a->kind == ARG_INT && (end == value || *end)) || !in_range(a, v) ||
        (a->kind == ARG_DUR && v < 0))
        return refuse(cmd, a, value);
    *(int64_t *)a->out = v;
    return 0;
}

static int unknown(const char *cmd, const char *flag, const struct arg *tab, int n)
{
    fprintf(stderr, "fen %s: unknown flag %s; accepted:", cmd, flag);
    for (int i = 0; i < n; i++)
        fprintf(stderr, " --%s", tab[i].name);
    fprintf(stderr, "\n");
    return 2;
}

int args_parse(int argc, char **argv, const struct arg *tab, int n, const char **ret_words,
               int max_words)
{
    int words = 0;
    for (int i = 1; i < argc; i++) {
        char *s = argv[i];
        if (!strcmp(s, "--help") || !strcmp(s, "-h")) {
            help(argv[0], tab, n);
            return -1;
        }
        if (strncmp(s, "--", 2)) {
            if (words >= max_words) {
                fprintf(stderr, "fen %s: unexpected word '%s'\n", argv[0], s);
                return 2;
            }
            ret_words[words++] = s;
            continue;
        }
        size_t len = strcspn(s + 2, "=");
        const struct arg *found = NULL;
        for (int k = 0; k < n && !found; k++)
            if (strlen(tab[k].name) == len && !memcmp(tab[k].name, s + 2, len))
                found = &tab[k];
        if (!found)
            return unknown(argv[0], s, tab, n);
        int rc = set(argv[0], found, s[2 + len] == '=' ? s + 3 + len : NULL);
        if (rc)
            return rc;
    }
    return 0;
}
