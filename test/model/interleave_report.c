/* interleave_report.c - runs of interleave.c as a cmocka test: that the files hold, and that each
 * barrier which the protocols name is missed when it goes. */
#include "interleave_int.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char il_letters[] = "orh";

static int il_missed; /* mutants */

/* The text of a line that addr2line names "file.c:12". */
static void il_text(const char *place, char text[256])
{
    char file[256];
    const char *colon = strrchr(place, ':');
    text[0] = 0;
    if (!colon || (size_t)(colon - place) >= sizeof file)
        return;
    memcpy(file, place, (size_t)(colon - place));
    file[colon - place] = 0;
    FILE *src = fopen(file, "r");
    for (int line = atoi(colon + 1); src && line-- > 0 && fgets(text, 256, src);)
        ;
    if (src)
        fclose(src);
    text[strcspn(text, "\n")] = 0;
    memmove(text, text + strspn(text, " "), strlen(text + strspn(text, " ")) + 1);
}

/* "file.c:12" and that line; of an inline function, its caller's line behind it. */
static void il_where(void *at, char file[256], char text[600])
{
    char cmd[128], place[256], line[256];
    snprintf(cmd, sizeof cmd, "addr2line -i -e /proc/%d/exe %p 2>/dev/null", (int)getpid(),
             (void *)((char *)at - 1));
    file[0] = text[0] = 0;
    FILE *f = popen(cmd, "r");
    for (int i = 0; f && i < 2 && fgets(place, sizeof place, f); i++) {
        place[strcspn(place, "\n ")] = 0;
        il_text(place, line);
        if (i == 0)
            snprintf(file, 256, "%s", place);
        snprintf(text + strlen(text), 600 - strlen(text), "%s%s", i ? " <- " : "", line);
    }
    if (f)
        pclose(f);
}

/* The last steps of the run that failed. */
static void il_print_last(void)
{
    char file[256], text[600];
    for (uint32_t i = il.steps < IL_LAST ? 0 : il.steps - IL_LAST + 1; i <= il.steps; i++) {
        const struct il_step *l = &il.last[i % IL_LAST];
        if (!l->site)
            continue;
        il_where(l->site, file, text);
        print_message("  actor %d %8llx  %s: %.100s\n", l->actor, (unsigned long long)l->value,
                      strrchr(file, '/') ? strrchr(file, '/') + 1 : file, text);
    }
}

static void il_test_holds(void **state)
{
    (void)state;
    il.mutant = -1;
    for (int i = 0; il_suite->scenarios[i]; i++) {
        const char *wrong = il_explore(i);
        print_message("%-32s bound %d: %llu runs\n", il.s->name, il.s->bound,
                      (unsigned long long)il.runs);
        if (wrong) {
            il_print_last();
            char file[256], text[600];
            il_where(il.failed_at, file, text);
            fail_msg("%s: %s (%s: %s)", il.s->name, wrong, file, text);
        }
        assert_true(il.runs >= il.s->runs);
    }
}

/* The mutant that is set: in which scenario it fails, NULL: in none. */
static const char *il_caught(void)
{
    uint64_t in = il.sites[il.mutant].scenarios;
    for (int i = 0; il_suite->scenarios[i]; i++)
        if ((in >> i & 1) && il_explore(i))
            return il_suite->scenarios[i]->name;
    return NULL;
}

/* A mutant may go astray. */
static void il_astray(int sig)
{
    (void)sig;
    if (il.now < 0 || il.mutant < 0)
        _exit(1);
    il_fail_at("it goes astray", NULL);
}

static void il_watch(void)
{
    static char stack[64 << 10];
    struct sigaction sa = {.sa_handler = il_astray, .sa_flags = SA_ONSTACK | SA_NODEFER};
    (void)sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    (void)sigaction(SIGSEGV, &sa, NULL);
    (void)sigaction(SIGABRT, &sa, NULL);
    (void)sigaction(SIGFPE, &sa, NULL);
}

/* Is there such a mutant of that access? */
static bool il_possible(const struct il_site *s, enum il_kind kind)
{
    switch (kind) {
    case IL_WEAK: return s->order != __ATOMIC_RELAXED;
    case IL_SOFT: return s->order == __ATOMIC_SEQ_CST && !s->locked;
    default: return s->locked;
    }
}

/* Of the accesses that a barrier names (a function may be inlined in several places) one at least
 * must be missed. */
static void il_check(const struct il_barrier *b, enum il_kind kind)
{
    char file[256], text[600];
    const char *caught = NULL;
    int tried = 0;
    for (il.mutant = 0; il.mutant < il.n_sites && !caught; il.mutant++) {
        il_where(il.sites[il.mutant].at, file, text);
        if (!strstr(file, b->file) || !strstr(text, b->text) ||
            !il_possible(&il.sites[il.mutant], kind))
            continue;
        il.mutant_kind = kind;
        caught = il_caught();
        tried++;
    }
    print_message("%-10s %c  %-60.60s  %s\n", b->file, il_letters[kind], b->text,
                  caught  ? caught
                  : tried ? "NOT CAUGHT"
                          : "NO SUCH ACCESS");
    il_missed += caught == NULL;
}

static void il_test_mutants(void **state)
{
    (void)state;
    il_watch();
    il_missed = 0;
    for (const struct il_barrier *b = il_suite->barriers; b->file; b++)
        for (int kind = 0; kind < IL_KINDS; kind++)
            if (strchr(b->kinds, il_letters[kind]))
                il_check(b, (enum il_kind)kind);
    il.mutant = -1;
    assert_int_equal(il_missed, 0);
}

/* FEN_MODEL_ALL=1: each mutant of each access, for whoever looks for a barrier that is not needed.
 * One that passes may be needed by a processor that this does not have. */
static void il_test_all(void **state)
{
    (void)state;
    int caught = 0, passed = 0;
    char file[256], text[600];
    if (!getenv("FEN_MODEL_ALL"))
        skip();
    il_watch();
    for (il.mutant = 0; il.mutant < il.n_sites; il.mutant++)
        for (il.mutant_kind = 0; il.mutant_kind < IL_KINDS; il.mutant_kind++) {
            const struct il_site *s = &il.sites[il.mutant];
            if (!il_possible(s, (enum il_kind)il.mutant_kind))
                continue;
            bool found = il_caught() != NULL;
            caught += found;
            passed += !found;
            if (found)
                continue;
            il_where(s->at, file, text);
            print_message("passes: %c %s: %s\n", il_letters[il.mutant_kind], file, text);
        }
    print_message("%d accesses; mutants: %d caught, %d pass\n", il.n_sites, caught, passed);
    il.mutant = -1;
}

int il_main(const struct il_suite *suite)
{
    const struct CMUnitTest tests[] = {
        {"the files hold", il_test_holds, NULL, NULL, NULL},
        {"every barrier is needed", il_test_mutants, NULL, NULL, NULL},
        {"every mutant", il_test_all, NULL, NULL, NULL},
    };
    il_suite = suite;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
