/* baseline_test.c - drives the comparison servers over real sockets.
 *
 * A rival that drops requests, leaks descriptors or answers early would make fen look better than
 * it is, so each is held to the same behaviour here. The program's path comes from the build.
 */
#include "baseline_rig.h"

/* ---- the tests ----------------------------------------------------------------------------- */

static const char *const fronts[] = {"pthread", "pool"};

static void routes(void **state)
{
    (void)state;
    struct server backend = start_backend(0);
    for (size_t i = 0; i < 2; i++) {
        struct server s = start_front(fronts[i], &backend, NULL);
        int fd = dial(&s); /* all on one connection: keep-alive */
        ask(fd, "/");
        expect(fd, 200, "ok\n");
        ask(fd, "/orders/1");
        expect(fd, 200, row);
        ask(fd, "/orders/2?x=/y");
        expect(fd, 200, odd_row);
        ask(fd, "/orders/3");
        expect(fd, 404, "{\"error\":\"not found\"}");
        ask(fd, "/orders/4x");
        expect(fd, 400, "{\"error\":\"bad request\"}");
        ask(fd, "/orders/1111111111111111111111");
        expect(fd, 400, "{\"error\":\"bad request\"}");
        ask(fd, "/orders/");
        expect(fd, 404, "{\"error\":\"not found\"}");
        ask(fd, "/quotes/7");
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        ask(fd, "/quotes/8");
        expect(fd, 200, "{\"id\":8,\"price\":1352}");
        say(fd, "POST /orders/1 HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nGET /");
        expect(fd, 404, "{\"error\":\"not found\"}");
        say(fd, "HEAD /orders/1 HTTP/1.1\r\nhost:t\r\nX-Tenant: a\r\n\r\n");
        char body[8];
        assert_int_equal(hear(fd, body, sizeof body, false), 200);
        say(fd, "GET / HTTP/1.1\r\nHost: t\r\nConnection: x, Close\r\n\r\n");
        expect(fd, 200, "ok\n");
        expect_end(fd);
        fd = dial(&s);
        say(fd, "GET / HTTP/1.0\r\n\r\n");
        expect(fd, 200, "ok\n");
        expect_end(fd);
        stop(&s);
    }
    stop(&backend);
}

static void pipelined_split_and_half_closed(void **state)
{
    static const char two[] = "GET /orders/1 HTTP/1.1\r\nHost: t\r\n\r\n"
                              "GET /quotes/7 HTTP/1.1\r\nHost: t\r\n\r\n";
    (void)state;
    struct server backend = start_backend(0);
    for (size_t i = 0; i < 2; i++) {
        struct server s = start_front(fronts[i], &backend, NULL);
        int fd = dial(&s);
        say(fd, two);
        expect(fd, 200, row);
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        for (size_t k = 0; k < sizeof two - 1; k++) { /* in pieces of one byte */
            assert_int_equal(send(fd, two + k, 1, MSG_NOSIGNAL), 1);
            if (k % 16 == 0)
                usleep(1000);
        }
        expect(fd, 200, row);
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        say(fd, two);
        say(fd, "GET / HTTP/1.1\r\n"); /* never finished */
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        expect(fd, 200, row);
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        expect_end(fd);
        fd = dial(&s); /* more replies than one output buffer holds */
        for (int k = 0; k < 100; k++)
            ask(fd, "/orders/1");
        for (int k = 0; k < 100; k++)
            expect(fd, 200, row);
        close(fd);
        stop(&s);
    }
    stop(&backend);
}

static void malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct server s = start_front(i < 2 ? fronts[i] : "epoll", NULL, NULL);
        expect_refusal(&s, "nonsense\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/1.1\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/2.0\r\nHost: t\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost : t\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost: t\r\n folded\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost: t\nA: b\r\n\r\n", 400);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n", 400);
        expect_refusal(&s,
                       "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n"
                       "Content-Length: 2\r\n\r\n",
                       400);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999\r\n\r\n", 413);
        expect_refusal(&s, "GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", 501);
        char big[8400];
        memset(big, 'a', sizeof big - 1);
        big[sizeof big - 1] = '\0';
        memcpy(big, "GET / HTTP/1.1\r\nX: ", 19);
        expect_refusal(&s, big, 431);
        stop(&s);
    }
}

static void floor_answers(void **state)
{
    (void)state;
    struct server s = start_front("epoll", NULL, "--threads=2");
    int fd = dial(&s), other = dial(&s);
    ask(fd, "/");
    ask(other, "/orders/1");
    expect(other, 200, row);
    expect(fd, 200, "ok\n");
    for (int k = 0; k < 100; k++)
        ask(fd, "/orders/5");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    for (int k = 0; k < 100; k++)
        expect(fd, 200, row);
    expect_end(fd);
    ask(other, "/nope");
    expect(other, 404, "{\"error\":\"not found\"}");
    stop(&s); /* with a connection open */
    expect_end(other);
}

static void floor_passes_quotes_on(void **state)
{
    (void)state;
    struct server backend = start_backend(0);
    struct server s = start_front("epoll", &backend, "--threads=2");
    int fds[20];
    char path[32], want[64];
    for (int k = 0; k < 20; k++)
        fds[k] = dial(&s);
    for (int round = 0; round < 3; round++) { /* the second and third on kept connections */
        int64_t sent = now_ms();
        for (int k = 0; k < 20; k++) {
            snprintf(path, sizeof path, "/quotes/%d", k + 1);
            ask(fds[k], path);
        }
        for (int k = 0; k < 20; k++) {
            snprintf(want, sizeof want, "{\"id\":%d,\"price\":%d}", k + 1,
                     1000 + (k + 1) * 7919 % 9000);
            expect(fds[k], 200, want);
        }
        assert_true(now_ms() - sent >= DELAY_MS - 1);
    }
    for (int k = 0; k < 3; k++) { /* pipelined, with what needs no back end between */
        ask(fds[0], "/quotes/7");
        ask(fds[0], "/");
        ask(fds[0], "/quotes/8");
    }
    usleep(DELAY_MS * 500);
    ask(fds[0], "/quotes/x"); /* arrives while a quote is awaited */
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    for (int k = 0; k < 3; k++) {
        expect(fds[0], 200, "{\"id\":7,\"price\":2433}");
        expect(fds[0], 200, "ok\n");
        expect(fds[0], 200, "{\"id\":8,\"price\":1352}");
    }
    expect(fds[0], 404, "{\"error\":\"not found\"}");
    expect_end(fds[0]);
    say(fds[1], "GET /quotes/7 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    expect(fds[1], 200, "{\"id\":7,\"price\":2433}");
    expect_end(fds[1]);
    for (int k = 2; k < 10; k++) { /* peers that leave before their answer */
        ask(fds[k], "/quotes/7");
        close(fds[k]);
    }
    ask(fds[10], "/quotes/7");
    usleep(DELAY_MS * 300);
    assert_int_equal(kill(s.pid, SIGTERM), 0); /* with a quote awaited */
    expect(fds[10], 200, "{\"id\":7,\"price\":2433}");
    expect_end(fds[10]);
    assert_int_equal(wait_exit(&s), 0);
    for (int k = 11; k < 20; k++)
        close(fds[k]);
    stop(&backend);
}

static void backend_is_never_early(void **state)
{
    (void)state;
    struct server s = start_backend(0);
    int fd = dial(&s);
    for (int k = 0; k < 5; k++) {
        int64_t sent = now_ms();
        ask(fd, "/quote/7");
        ask(fd, "/quote/8");
        ask(fd, "/quote/x");
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        assert_true(now_ms() - sent >= DELAY_MS - 1); /* both ends cut to whole milliseconds */
        expect(fd, 200, "{\"id\":8,\"price\":1352}");
        expect(fd, 400, "{\"error\":\"no such quote\"}");
    }
    ask(fd, "/quote/7");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    expect(fd, 200, "{\"id\":7,\"price\":2433}");
    expect_end(fd);
    for (int k = 0; k < 20; k++) { /* peers that leave before their answer */
        fd = dial(&s);
        ask(fd, "/quote/7");
        close(fd);
    }
    expect_refusal(&s, "nonsense\r\n\r\n", 400);
    stop(&s);
}

static void backend_lost_and_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct server backend = start_backend(0);
        struct server s = start_front(i < 2 ? fronts[i] : "epoll", &backend, "--threads=1");
        int fd = dial(&s);
        ask(fd, "/quotes/7");
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        stop(&backend);
        ask(fd, "/quotes/7");
        expect(fd, 502, "{\"error\":\"backend unavailable\"}");
        backend = start_backend(backend.port);
        ask(fd, "/quotes/7");
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        int port = backend.port;
        stop(&backend);
        backend = start_backend(port); /* the kept connection is dead, a new one works */
        ask(fd, "/quotes/8");
        expect(fd, 200, "{\"id\":8,\"price\":1352}");
        close(fd);
        stop(&s);
        stop(&backend);
    }
}

/* ---- pipelined connections to the back end ---- */

static const char *const all_modes[] = {"pthread", "pool", "epoll"};

static void quotes_share_connections(void **state)
{
    (void)state;
    struct server backend = start_backend(0);
    for (size_t i = 0; i < 3; i++) {
        struct server s = start_sharing(all_modes[i], backend.port);
        int fds[40], before = open_fds(backend.pid);
        char path[32], want[64];
        for (int k = 0; k < 40; k++)
            fds[k] = dial(&s);
        for (int round = 0; round < 3; round++) {
            for (int k = 0; k < 40; k++) {
                snprintf(path, sizeof path, "/quotes/%d", k + 1);
                ask(fds[k], path);
            }
            for (int k = 0; k < 40; k++) { /* each gets its own */
                snprintf(want, sizeof want, "{\"id\":%d,\"price\":%d}", k + 1,
                         1000 + (k + 1) * 7919 % 9000);
                expect(fds[k], 200, want);
            }
        }
        assert_in_range(open_fds(backend.pid) - before, 1, 2 * sysconf(_SC_NPROCESSORS_ONLN));
        for (int k = 0; k < 20; k++) { /* peers that leave before their answer */
            ask(fds[k], "/quotes/7");
            close(fds[k]);
        }
        ask(fds[20], "/quotes/8");
        expect(fds[20], 200, "{\"id\":8,\"price\":1352}");
        for (int k = 20; k < 40; k++)
            close(fds[k]);
        stop(&s);
    }
    stop(&backend);
}

static void shared_connection_lost_and_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct server backend = start_backend(0);
        struct server s = start_sharing(all_modes[i], backend.port);
        int fd = dial(&s), port = backend.port;
        for (int id = 7; id < 9; id++) { /* both connections */
            ask(fd, id == 7 ? "/quotes/7" : "/quotes/8");
            expect(fd, 200, id == 7 ? "{\"id\":7,\"price\":2433}" : "{\"id\":8,\"price\":1352}");
        }
        /* killed with a question on its way, and nobody to ask again; stopped first, so that it
         * cannot answer before, however busy the machine is */
        kill(backend.pid, SIGSTOP);
        ask(fd, "/quotes/7");
        usleep(DELAY_MS * 300);
        kill(backend.pid, SIGKILL);
        wait_exit(&backend);
        expect(fd, 502, "{\"error\":\"backend unavailable\"}");
        backend = start_backend(port);
        ask(fd, "/quotes/7");
        expect(fd, 200, "{\"id\":7,\"price\":2433}");
        stop(&backend);
        backend = start_backend(port);
        ask(fd, "/quotes/8");
        expect(fd, 200, "{\"id\":8,\"price\":1352}");
        close(fd);
        stop(&s);
        stop(&backend);
    }
}

/* A back end of this test: sends `answer` to the first bytes of each connection, and ends it. */
static pid_t start_rude(const char *answer, int *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *ret_port = ntohs(a.sin_port);
    pid_t pid = fork();
    assert_true(pid >= 0);
    while (pid == 0) {
        char scrap[4096];
        int peer = accept(fd, NULL, NULL);
        if (peer >= 0 && recv(peer, scrap, sizeof scrap, 0) > 0)
            send(peer, answer, strlen(answer), MSG_NOSIGNAL);
        close(peer);
    }
    close(fd);
    return pid;
}

static void rude_back_ends_end_in_502(void **state)
{
    static const char *const answers[] = {
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"id\":7,",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{}",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    };
    (void)state;
    for (size_t k = 0; k < sizeof answers / sizeof answers[0]; k++) {
        int port;
        pid_t rude = start_rude(answers[k], &port);
        for (size_t i = 0; i < 3; i++) {
            struct server s = start_sharing(all_modes[i], port);
            int fd = dial(&s);
            ask(fd, "/quotes/7");
            expect(fd, 502, "{\"error\":\"backend unavailable\"}");
            ask(fd, "/");
            expect(fd, 200, "ok\n");
            close(fd);
            stop(&s);
        }
        kill(rude, SIGKILL);
        waitpid(rude, NULL, 0);
    }
}

/* One connection, thousands of questions: order, and answers larger than a socket takes at once. */
static void backend_answers_a_flood_in_order(void **state)
{
    enum { ASKED = 20000 };
    (void)state;
    struct server s = start_backend(0);
    int fd = dial(&s);
    char text[64], want[64];
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) { /* writes on while this process reads */
        for (int k = 0; k < ASKED; k++) {
            int n = snprintf(text, sizeof text, "GET /quote/%d HTTP/1.1\r\nHost: t\r\n\r\n", k);
            for (int at = 0; at < n;) {
                ssize_t put = send(fd, text + at, (size_t)(n - at), MSG_NOSIGNAL);
                if (put <= 0)
                    _exit(1);
                at += (int)put;
            }
        }
        _exit(0);
    }
    usleep(DELAY_MS * 3000);
    FILE *in = fdopen(fd, "r");
    char line[256];
    for (int k = 0; k < ASKED; k++) {
        do
            assert_non_null(fgets(line, sizeof line, in));
        while (strcmp(line, "\r\n"));
        snprintf(want, sizeof want, "{\"id\":%d,\"price\":%d}", k, 1000 + k % 9000 * 7919 % 9000);
        assert_int_equal(fread(line, 1, strlen(want), in), strlen(want));
        line[strlen(want)] = '\0';
        assert_string_equal(line, want);
    }
    int status;
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    fclose(in);
    stop(&s);
}

static void pool_is_bounded_and_complete(void **state)
{
    (void)state;
    struct server backend = start_backend(0);
    struct server s = start_front("pool", &backend, "--threads=4");
    int fds[20];
    for (int k = 0; k < 20; k++)
        fds[k] = dial(&s);
    int64_t sent = now_ms();
    for (int k = 0; k < 20; k++)
        ask(fds[k], "/quotes/7");
    for (int k = 0; k < 20; k++) {
        expect(fds[k], 200, "{\"id\":7,\"price\":2433}");
        close(fds[k]);
    }
    assert_true(now_ms() - sent >= 5 * DELAY_MS - 1); /* twenty requests, four at a time */
    stop(&s);
    stop(&backend);
}

static void stop_finishes_what_was_asked(void **state)
{
    (void)state;
    struct server backend = start_backend(0);
    for (size_t i = 0; i < 2; i++) {
        struct server s = start_front(fronts[i], &backend, NULL);
        int idle = dial(&s), busy = dial(&s);
        ask(idle, "/");
        expect(idle, 200, "ok\n");
        ask(busy, "/quotes/7");
        usleep(DELAY_MS * 1000 / 3);
        assert_int_equal(kill(s.pid, SIGTERM), 0);
        expect(busy, 200, "{\"id\":7,\"price\":2433}");
        expect_end(busy);
        expect_end(idle);
        assert_int_equal(wait_exit(&s), 0);
    }
    stop(&backend);
}

static void no_descriptor_is_lost(void **state)
{
    (void)state;
    struct server backend = start_backend(0);
    for (size_t i = 0; i < 3; i++) {
        struct server s = start_front(i < 2 ? fronts[i] : "epoll", &backend, NULL);
        for (int k = 0; k < 1000; k++) {
            int fd = dial(&s);
            ask(fd, "/orders/1");
            expect(fd, 200, row);
            close(fd);
            if (k == 0)
                usleep(20000); /* SQLite's connections open at first use */
        }
        int left = 0;
        for (int tries = 0; tries < 200; tries++, usleep(10000))
            if ((left = open_fds(s.pid)) < 40) /* at most 3 for each of two SQLite per CPU */
                break;
        assert_true(left < 40 + 6 * (int)sysconf(_SC_NPROCESSORS_ONLN));
        stop(&s);
    }
    stop(&backend);
}

/* The exit status is 2 and exactly one line says why. */
static void expect_usage_error(const char *const *flags)
{
    char out[256], err[1024];
    struct server s = spawn(flags);
    read_all(s.out, out, sizeof out);
    read_all(s.err, err, sizeof err);
    assert_int_equal(wait_exit(&s), 2);
    assert_string_equal(out, "");
    assert_non_null(strchr(err, '\n'));
    assert_ptr_equal(strchr(err, '\n'), err + strlen(err) - 1);
}

static void bad_flags(void **state)
{
    static const char *const bad[][4] = {
        {NULL},
        {"--mode=pol"},
        {"--mode=pool", "--threads=0"},
        {"--mode=pool", "--threads=9x"},
        {"--mode=pool", "--addr=localhost"},
        {"--mode=pool", "--addr=127.0.0.1:70000"},
        {"--mode=backend", "--delay=20"},
        {"--mode=backend", "--delay=-1ms"},
        {"--mode=pool", "--db="},
        {"--mode=pool", "--backend-conns=65"},
        {"--mode=pool", "--backend-conns=-1"},
        {"--mode=pool", "extra"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_usage_error(bad[i]);
    struct server s = start_backend(0);
    char addr[40];
    snprintf(addr, sizeof addr, "--addr=127.0.0.1:%d", s.port);
    const char *taken[] = {"--mode=pool", addr, NULL};
    expect_usage_error(taken);
    stop(&s);
}

static void curl_agrees(void **state)
{
    (void)state;
    if (system("command -v curl >/dev/null 2>&1"))
        skip();
    struct server s = start_front("pool", NULL, NULL);
    char command[256], got[2048];
    snprintf(command, sizeof command,
             "curl -s -w '%%{http_code} %%{num_connects};' "
             "http://127.0.0.1:%d/orders/1 http://127.0.0.1:%d/orders/3",
             s.port, s.port);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    read_all(fileno(f), got, sizeof got);
    assert_int_equal(pclose(f), 0);
    char want[512];
    snprintf(want, sizeof want, "%s200 1;{\"error\":\"not found\"}404 0;", row);
    assert_string_equal(got, want);
    stop(&s);
}

static int fill(void **state)
{
    static const char sql[] =
        "PRAGMA journal_mode=WAL;"
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, item TEXT NOT NULL,"
        " quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL, status TEXT NOT NULL,"
        " created_at INTEGER NOT NULL);"
        "INSERT INTO orders VALUES(1,17,'widget-42',3,1999,'paid',1700000000);"
        "INSERT INTO orders VALUES(2,-5,'a\"b\\c'||char(10)||char(1),0,0,'',-1);";
    char path[48];
    sqlite3 *db;
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/orders.db", dir);
    snprintf(db_flag, sizeof db_flag, "--db=%s", path);
    int rc = sqlite3_open(path, &db);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    return rc == SQLITE_OK ? 0 : -1;
}

static int clear(void **state)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char path[48];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/orders.db%s", dir, tails[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes),
        cmocka_unit_test(pipelined_split_and_half_closed),
        cmocka_unit_test(malformed),
        cmocka_unit_test(floor_answers),
        cmocka_unit_test(floor_passes_quotes_on),
        cmocka_unit_test(backend_is_never_early),
        cmocka_unit_test(backend_lost_and_found),
        cmocka_unit_test(quotes_share_connections),
        cmocka_unit_test(shared_connection_lost_and_found),
        cmocka_unit_test(rude_back_ends_end_in_502),
        cmocka_unit_test(backend_answers_a_flood_in_order),
        cmocka_unit_test(pool_is_bounded_and_complete),
        cmocka_unit_test(stop_finishes_what_was_asked),
        cmocka_unit_test(no_descriptor_is_lost),
        cmocka_unit_test(bad_flags),
        cmocka_unit_test(curl_agrees),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, fill, clear);
}
