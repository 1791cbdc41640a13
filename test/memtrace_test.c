/* memtrace_test.c - the line of each reclaim, against the expression that docs/memory.md gives; and
 * what the environment's variables are refused for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fen/fen.h>

#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    char text[1 << 16];
    size_t n;
} said = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void report(void *arg, const char *text, size_t n)
{
    (void)arg;
    pthread_mutex_lock(&said.lock);
    if (said.n + n < sizeof said.text)
        memcpy(said.text + said.n, text, n);
    said.n += said.n + n < sizeof said.text ? n : 0;
    said.text[said.n] = 0;
    pthread_mutex_unlock(&said.lock);
}

/* Grows and shrinks until the pacer has had a reason. */
static int work(void *arg)
{
    static void *block[512];
    fen_mem_pace p, began;
    (void)arg;
    fen_mem_pace_get(&began);
    int64_t end = fen_now() + 5 * FEN_S;
    do {
        for (int i = 0; i < 512; i++) {
            block[i] = fen_alloc(32768);
            if (block[i])
                memset(block[i], 1, 32768);
        }
        for (int i = 0; i < 512; i++)
            fen_free(block[i]);
        int rc = fen_sleep(5 * FEN_MS);
        if (rc)
            return rc;
        fen_mem_pace_get(&p);
    } while (p.goal_cycles == began.goal_cycles && fen_now() < end);
    (void)fen_mem_reclaim();
    return 0;
}

static int run(bool trace)
{
    said.n = 0;
    said.text[0] = 0;
    const fen_config cfg = {.mem_percent = 20, .trace_memory = trace, .report = report};
    return fen_run(work, NULL, &cfg);
}

/* The expression is the only line of the page that begins with ^memtrace. */
static void expression(regex_t *re)
{
    char path[512], line[1024];
    snprintf(path, sizeof path, "%s/docs/memory.md", getenv("FEN_SOURCE_DIR"));
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    bool found = false;
    while (!found && fgets(line, sizeof line, f))
        found = !strncmp(line, "^memtrace", 9);
    fclose(f);
    assert_true(found);
    line[strcspn(line, "\n")] = 0;
    assert_int_equal(regcomp(re, line, REG_EXTENDED | REG_NOSUB), 0);
}

static int check_lines(void)
{
    regex_t re;
    int n = 0;
    expression(&re);
    for (char *line = said.text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (regexec(&re, line, 0, NULL, 0))
            fail_msg("'%s' is not what the page says", line);
        n++;
    }
    regfree(&re);
    return n;
}

static void a_line_for_each_reclaim(void **state)
{
    (void)state;
    fen_mem_pace before, after;
    fen_mem_pace_get(&before);
    assert_int_equal(run(true), 0);
    fen_mem_pace_get(&after);
    assert_true(strstr(said.text, " why=asked ") != NULL);
    assert_int_equal(check_lines(), after.cycles - before.cycles);
    setenv("FEN_DEBUG", "memtrace=1", 1);
    assert_int_equal(run(false), 0);
    unsetenv("FEN_DEBUG");
    assert_true(check_lines() > 0);
    assert_int_equal(run(false), 0);
    assert_string_equal(said.text, "");
}

static int nothing(void *arg)
{
    fen_mem_pace_get(arg);
    return 0;
}

static void variables(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"FEN_MEMLIMIT", "1G"},       {"FEN_MEMLIMIT", "64"},      {"FEN_MEMLIMIT", "12KiB"},
        {"FEN_MEM_PERCENT", "50%"},   {"FEN_MEM_PERCENT", "0"},    {"FEN_MEM_PERCENT", "-5"},
        {"FEN_MEM_PROFILE", "quick"}, {"FEN_DEBUG", "memtrace=2"}, {"FEN_DEBUG", "memtrace"},
    };
    fen_mem_pace p = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv(bad[i][0], bad[i][1], 1);
        if (fen_run(nothing, &p, NULL) != -EINVAL)
            fail_msg("%s=%s is taken", bad[i][0], bad[i][1]);
        unsetenv(bad[i][0]);
    }
    const fen_config wrong[] = {{.mem_percent = -2},
                                {.mem_percent = 10001},
                                {.mem_limit_bytes = 1000},
                                {.mem_limit_bytes = -7},
                                {.mem_profile = ""}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(fen_run(nothing, &p, &wrong[i]), -EINVAL);
    setenv("FEN_MEM_PROFILE", "latency", 1);
    setenv("FEN_MEMLIMIT", "3TiB", 1);
    assert_int_equal(fen_run(nothing, &p, NULL), 0);
    assert_int_equal(p.percent, 200);
    assert_int_equal(p.limit_bytes, INT64_C(3) << 40);
    setenv("FEN_MEM_PERCENT", "off", 1);
    assert_int_equal(fen_run(nothing, &p, NULL), 0);
    assert_int_equal(p.percent, FEN_MEM_OFF);
    assert_int_equal(fen_run(nothing, &p,
                             &(fen_config){.mem_percent = 70,
                                           .mem_limit_bytes = FEN_MEM_OFF,
                                           .mem_profile = "container"}),
                     0);
    assert_int_equal(p.percent, 70);
    assert_int_equal(p.limit_bytes, 0);
    assert_int_equal(p.slice_ns, 100 * FEN_US);
    unsetenv("FEN_MEM_PROFILE");
    unsetenv("FEN_MEMLIMIT");
    unsetenv("FEN_MEM_PERCENT");
    assert_int_equal(fen_run(nothing, &p, NULL), 0);
    assert_int_equal(p.percent, 100);
    assert_int_equal(p.limit_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_for_each_reclaim),
        cmocka_unit_test(variables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
