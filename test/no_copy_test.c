/* no_copy_test.c - a request is parsed where the kernel put it. recv is this program's own here: it
 * notes which bytes of the stream went to which address. What a handler is given must lie at just
 * those addresses; each part that does not is a copy, and there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rig.h"

#include <dlfcn.h>

#define BODY "eleven more"
#define REQUEST                                                                                    \
    "POST /things/17/parts/left?colour=green&size=9 HTTP/1.1\r\n"                                  \
    "Host: here\r\nX-First: the first value\r\nX-Last: the last value\r\n"                         \
    "Content-Length: 11\r\n\r\n" BODY

/* ---- what was received, and where to ---- */

#define PIECES 256

static struct piece {
    const char *to;
    ssize_t n, at; /* at: how much of the stream came before it */
} pieces[PIECES];
static int n_pieces;
static ssize_t received;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The server reads with MSG_DONTWAIT, the client without. */
ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    static void *_Atomic found;
    ssize_t (*real)(int, void *, size_t, int);
    void *there = atomic_load(&found);
    if (!there)
        atomic_store(&found, there = dlsym(RTLD_NEXT, "recv"));
    *(void **)&real = there;
    ssize_t got = real(fd, buf, n, flags);
    if (got > 0 && (flags & MSG_DONTWAIT) && !(flags & MSG_PEEK)) {
        pthread_mutex_lock(&lock);
        if (n_pieces < PIECES)
            pieces[n_pieces++] = (struct piece){buf, got, received};
        received += got;
        pthread_mutex_unlock(&lock);
    }
    return got;
}

/* Where in the stream the byte at p stood; the newest that was put there. -1: nothing was. */
static ssize_t stood(const char *p)
{
    ssize_t at = -1;
    pthread_mutex_lock(&lock);
    for (int i = n_pieces; i-- > 0 && at < 0;)
        if ((uintptr_t)p >= (uintptr_t)pieces[i].to &&
            (uintptr_t)p < (uintptr_t)pieces[i].to + (size_t)pieces[i].n)
            at = pieces[i].at + (p - pieces[i].to);
    pthread_mutex_unlock(&lock);
    return at;
}

/* ---- the handler ---- */

static _Atomic int requests, parts, copies, wrong;

static void look(fen_slice part, const char *text)
{
    ssize_t request = (ssize_t)(sizeof REQUEST - 1) * atomic_load(&requests),
            sent = request + (strstr(REQUEST, text) - REQUEST);
    bool same = part.n >= strlen(text) && !memcmp(part.p, text, strlen(text));
    atomic_fetch_add(&parts, 1);
    atomic_fetch_add(&wrong, !same);
    atomic_fetch_add(&copies, same && stood(part.p) != sent);
}

static int part(fen_exchange *x, void *arg)
{
    (void)arg;
    look(fen_path(x), "/things/17/parts/left");
    look(fen_path_value(x, "id"), "17");
    look(fen_header(x, "Host"), "here");
    look(fen_header(x, "X-First"), "the first value");
    look(fen_header(x, "X-Last"), "the last value");
    look(fen_body(x), BODY);
    atomic_fetch_add(&requests, 1);
    return fen_reply(x, 200, "text/plain", FEN_SLICE("ok\n"));
}

static int routes(fen_server *s)
{
    return fen_route(s, "POST /things/{id}/parts/left", part, NULL);
}

/* ---- the tests ---- */

/* send(fd, round) sends whole requests, of which it returns the number. */
static void none_is_copied(int rounds, int (*send)(int fd, int round))
{
    struct rig rig = {.routes = routes};
    n_pieces = 0;
    received = 0;
    requests = parts = copies = wrong = 0;
    rig_start(&rig);
    int fd = rig_dial(&rig), sent = 0;
    for (int i = 0; i < rounds; i++) {
        int n = send(fd, i);
        for (int k = 0; k < n; k++)
            assert_int_equal(rig_read(fd, true).status, 200);
        sent += n;
    }
    close(fd);
    rig_stop(&rig);
    assert_int_equal(requests, sent);
    assert_int_equal(received, sent * (ssize_t)(sizeof REQUEST - 1));
    assert_int_equal(parts, 6 * sent);
    assert_int_equal(wrong, 0);
    assert_int_equal(copies, 0);
}

static int one(int fd, int round)
{
    (void)round;
    return rig_say(fd, REQUEST);
}

static int three(int fd, int round)
{
    (void)round;
    return rig_say(fd, REQUEST REQUEST REQUEST) ? 3 : 0;
}

/* Cut in two anywhere; the second piece comes while the first one is being looked at. */
static int cut(int fd, int round)
{
    size_t at = 1 + 4 * (size_t)round % (sizeof REQUEST - 2);
    bool sent = rig_send(fd, REQUEST, at);
    rig_nap(3 * FEN_MS);
    return sent && rig_say(fd, &REQUEST[at]);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    none_is_copied(5, one);
}

static void test_several_at_once(void **state)
{
    (void)state;
    none_is_copied(5, three);
}

static void test_in_pieces(void **state)
{
    (void)state;
    none_is_copied((sizeof REQUEST - 2) / 4, cut);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
