/* load_cli_test.c - fen load and fen prove as programs: a server with every bad habit, and wrong
 * flags. Skipped when the program is not beside the tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GOOD "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

enum habit { KIND, CHUNKS, UNTIL_CLOSE, SHORT, RESET, SILENT, GARBAGE, HANG_UP, TWICE };

static char program[4096];
static int listener, port;
static _Atomic int habit;

static void answer(int fd, enum habit h)
{
    static const char chunks[] = "HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "3\r\nabc\r\n0\r\n\r\n";
    const struct linger rst = {1, 0};
    ssize_t n = 0;
    if (h == KIND)
        n = write(fd, GOOD, strlen(GOOD));
    else if (h == CHUNKS)
        n = write(fd, chunks, strlen(chunks));
    else if (h == UNTIL_CLOSE)
        n = write(fd, "HTTP/1.0 200 OK\r\n\r\nxyz", 22);
    else if (h == SHORT)
        n = write(fd, GOOD, strlen(GOOD) - 2);
    else if (h == GARBAGE)
        n = write(fd, "garbage\r\n\r\n", 11);
    else if (h == TWICE)
        n = write(fd, GOOD GOOD, 2 * strlen(GOOD));
    else if (h == RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof rst);
    (void)n;
}

static void *talk(void *arg)
{
    int fd = (int)(long)arg;
    char buf[4096];
    for (;;) {
        ssize_t n = habit == HANG_UP ? 0 : read(fd, buf, sizeof buf);
        if (n <= 0)
            break;
        answer(fd, habit);
        if (habit == UNTIL_CLOSE || habit == SHORT || habit == RESET)
            break;
    }
    close(fd);
    return NULL;
}

static void *serve(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t t;
        if (fd < 0)
            return NULL;
        if (!pthread_create(&t, NULL, talk, (void *)(long)fd))
            pthread_detach(t);
        else
            close(fd);
    }
}

/* Runs the program; its exit code, all it printed in out. */
static int run(char *out, size_t bytes, const char *args)
{
    char command[8192];
    snprintf(command, sizeof command, "timeout 20 %s %s 2>&1", program, args);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, bytes - 1, f);
    out[n] = 0;
    return WEXITSTATUS(pclose(f));
}

static long field(const char *json, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *p = strstr(json, key);
    return p ? strtol(p + strlen(key), NULL, 10) : -1;
}

/* Who answers gets the time that a busy machine takes. */
static int load(char *out, size_t bytes, enum habit h, const char *more)
{
    char args[512];
    bool answers = h == KIND || h == CHUNKS || h == UNTIL_CLOSE;
    habit = h;
    snprintf(args, sizeof args,
             "load '--url=http://127.0.0.1:%d/x/{1..9}' --connections=3 --duration=250ms "
             "--warmup=0ms --timeout=%s --json %s",
             port, answers ? "15s" : "100ms", more);
    return run(out, bytes, args);
}

static void test_errors_have_their_class(void **state)
{
    (void)state;
    static const struct {
        enum habit h;
        const char *kind;
    } cases[] = {{SHORT, "short"},       {RESET, "reset"},   {SILENT, "timeout"},
                 {GARBAGE, "malformed"}, {HANG_UP, "short"}, {TWICE, "malformed"}};
    char out[8192];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        load(out, sizeof out, cases[i].h, "");
        /* A peer that hangs up at once may be seen as a reset or as an end, by timing. */
        long seen = field(out, cases[i].kind) + (cases[i].h == HANG_UP ? field(out, "reset") : 0);
        if (seen <= 0)
            fail_msg("no %s in %s", cases[i].kind, out);
    }
}

static void test_counts_answers(void **state)
{
    (void)state;
    char out[8192];
    assert_int_equal(load(out, sizeof out, KIND, "--expect=200"), 0);
    assert_true(field(out, "requests") > 10);
    assert_int_equal(field(out, "200"), field(out, "requests"));
    assert_int_equal(field(out, "errors_total") + field(out, "unexpected"), 0);
    assert_int_equal(load(out, sizeof out, CHUNKS, "--expect=200"), 0);
    assert_true(field(out, "unexpected") > 10);
    assert_int_equal(field(out, "503"), field(out, "unexpected"));
    assert_int_equal(load(out, sizeof out, UNTIL_CLOSE, ""), 0);
    assert_int_equal(field(out, "errors_total"), 0);
    assert_int_equal(load(out, sizeof out, KIND, "--rate=400"), 0);
    assert_in_range(field(out, "requests") + field(out, "unsent"), 80, 120);
}

static void test_lost_for_good_ends_early(void **state)
{
    (void)state;
    char out[8192];
    assert_int_equal(load(out, sizeof out, SHORT, "--reconnect=off --duration=60s"), 1);
    assert_non_null(strstr(out, "no request was answered"));
}

static void test_wrong_input_is_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *args, *says;
        int code;
    } cases[] = {
        {"load", "--url", 2},
        {"load http://127.0.0.1:1/", "given with --url=", 2},
        {"load --url=https://x/", "http://", 2},
        {"load --url=http://127.0.0.1:99999/", "port", 2},
        {"load '--url=http://127.0.0.1:1/{5..2}'", "range", 2},
        {"load --url=http://127.0.0.1:1/1 --url=http://127.0.0.1:1/2", "more than once", 2},
        {"load --url=http://127.0.0.1:1/ --rate=5 --pipeline=2", "--pipeline", 2},
        {"load --url=http://127.0.0.1:1/ --method=get", "--method=get", 2},
        {"load --url=http://127.0.0.1:1/ --header=none", "--header=none", 2},
        {"load --url=http://127.0.0.1:1/ --connections=0", "--connections", 2},
        {"load --url=http://127.0.0.1:1/ --duration=5", "--duration=5", 2},
        {"load --url=http://127.0.0.1:1/ --duration=0s", "from 10ms to 24h", 2},
        {"load --url=http://127.0.0.1:1/ --warmup=11m", "from 0s to 10m", 2},
        {"load --url=http://127.0.0.1:1/ --arrival=now", "--arrival=now", 2},
        {"load --url=http://127.0.0.1:1/ --samples=/nowhere/x", "/nowhere/x", 2},
        {"load --url=http://127.0.0.1:1/", "nothing listens", 1},
        {"prove --baseline=tomcat", "--baseline", 2},
        {"prove --baseline=pool0", "--baseline", 2},
        {"prove --baseline=pthread,pthread", "twice", 2},
        {"prove --load=c100,4x", "--load", 2},
        {"prove --load=", "--load", 2},
        {"prove --service=shop", "--service", 2},
        {"prove --go=maybe", "--go", 2},
        {"prove --out=/proc/nowhere --baseline-program=/bin/true", "--out", 2},
        {"prove --baseline-program=/nowhere/x", "/nowhere/x", 2},
        {"prove --price-file=/nowhere/prices", "--price-file", 2},
    };
    char out[8192];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int code = run(out, sizeof out, cases[i].args);
        char *nl = strchr(out, '\n');
        if (code != cases[i].code || !strstr(out, cases[i].says) || !nl || nl[1])
            fail_msg("fen %s: exit %d: %s", cases[i].args, code, out);
    }
}

int main(void)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 8);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    pthread_t t;
    if (n > 0)
        memcpy(strrchr(program, '/'), "/fen", 5);
    if (access(program, X_OK)) {
        printf("skipped: no %s\n", program);
        return 0;
    }
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 64) ||
        getsockname(listener, (struct sockaddr *)&a, &len) || pthread_create(&t, NULL, serve, NULL))
        return 1;
    signal(SIGPIPE, SIG_IGN);
    port = ntohs(a.sin_port);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_have_their_class),
        cmocka_unit_test(test_counts_answers),
        cmocka_unit_test(test_lost_for_good_ends_early),
        cmocka_unit_test(test_wrong_input_is_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
