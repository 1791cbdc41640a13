/* env.c - variables of the environment that configure a run. One that is empty is one that is not
 * set. One that is wrong is named on fd 2, with what is accepted, and the run refused: its caller
 * sees -EINVAL alone, and did not write the variable. */
#include "sched/sched_int.h"

#include "base/text.h"
#include "sys/process.h"

#include <stdlib.h>
#include <string.h>

#define SHOWN 64 /* bytes of a value */

const char *fen__env(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

int fen__env_refuse(const char *name, const char *expected)
{
    char line[512];
    struct fen__text t = {line, 0, sizeof line - 1};
    const char *value = fen__env(name);
    size_t n = value ? strlen(value) : 0;
    fen__text_put(&t, "fen: ");
    fen__text_put(&t, name);
    fen__text_put(&t, "=");
    fen__text_word(&t, value, n < SHOWN ? n : SHOWN);
    fen__text_put(&t, n > SHOWN ? "...: expected " : ": expected ");
    fen__text_put(&t, expected);
    line[t.n++] = '\n';
    (void)!fen__sys_write_quiet(2, line, t.n);
    return -EINVAL;
}

int fen__env_number(const char *name, uint64_t max, const char *expected, uint64_t *ret)
{
    const char *text = fen__env(name);
    char *end;
    if (!text)
        return 0;
    unsigned long long v = strtoull(text, &end, 0); /* the largest there is if it does not fit */
    if (*end || strchr(text, '-') || v < 1 || v > max)
        return fen__env_refuse(name, expected);
    *ret = v;
    return 0;
}

int fen__env_choice(const char *name, const char *const *names, int n, const char *expected,
                    int *ret)
{
    const char *text = fen__env(name);
    for (int i = 0; text && i < n; i++)
        if (!strcmp(text, names[i])) {
            *ret = i;
            return 0;
        }
    return text ? fen__env_refuse(name, expected) : 0;
}
