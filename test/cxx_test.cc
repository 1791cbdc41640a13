/* cxx_test.cc - fen from C++: exceptions inside fibers, also where a fiber parks in a catch block
 * or in a destructor that an exception runs, and goes on on another thread. */
#include <fen/fen.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#define CHECK(x) ((x) ? (void)0 : fail(#x, __LINE__))

static void fail(const char *what, int line)
{
    std::fprintf(stderr, "cxx_test.cc:%d: %s\n", line, what);
    std::abort();
}

namespace {

constexpr int FIBERS = 40, ROUNDS = 50;
std::atomic<int> ended;

/* Parks while an exception flies. */
struct parks_on_the_way_out {
    ~parks_on_the_way_out()
    {
        CHECK(std::uncaught_exceptions() == 1);
        fen_yield();
        CHECK(std::uncaught_exceptions() == 1);
        try {
            throw std::string("inner");
        } catch (const std::string &s) {
            fen_yield();
            CHECK(s == "inner");
        }
    }
};

void throw_through(int n)
{
    parks_on_the_way_out p;
    throw std::runtime_error(std::to_string(n));
}

void nested(int n)
{
    try {
        throw_through(n);
    } catch (const std::runtime_error &e) {
        fen_yield();
        CHECK(std::uncaught_exceptions() == 0);
        CHECK(std::string(e.what()) == std::to_string(n));
        try {
            throw n;
        } catch (int i) {
            fen_sleep(10 * FEN_US);
            CHECK(i == n);
        }
        CHECK(std::current_exception() != nullptr);
        fen_yield();
        throw; /* the one of this fiber, whatever others caught meanwhile */
    }
}

void fiber(void *arg)
{
    int me = static_cast<int>(reinterpret_cast<intptr_t>(arg));
    for (int i = 0; i < ROUNDS; i++) {
        int n = me * ROUNDS + i;
        try {
            nested(n);
            CHECK(!"thrown");
        } catch (const std::exception &e) {
            CHECK(std::string(e.what()) == std::to_string(n));
        }
        CHECK(std::current_exception() == nullptr);
    }
    ended++;
}

/* Contexts that suspend in a catch block, mixed with one another. */
void context(void *arg)
{
    int n = *static_cast<int *>(arg);
    try {
        throw n;
    } catch (int i) {
        fen_context_suspend(*reinterpret_cast<fen_context **>(static_cast<int *>(arg) + 2));
        CHECK(i == n);
        try {
            throw;
        } catch (int again) {
            CHECK(again == n);
        }
    }
}

void contexts()
{
    struct slot {
        int n, pad;
        fen_context *c;
    };
    std::vector<slot> v(5);
    for (int i = 0; i < 5; i++) {
        v[i].n = i;
        CHECK(fen_context_new(0, context, &v[i], &v[i].c) == 0);
        CHECK(fen_context_resume(v[i].c));
        CHECK(std::current_exception() == nullptr);
    }
    for (auto &s : v)
        CHECK(!fen_context_resume(s.c));
    for (auto &s : v)
        fen_context_free(s.c);
}

/* Each macro that makes a value, as C writes it: in a list, assigned and as an argument. */
void macros(fen_chan *c) /* has room for one int */
{
    int v = 0;
    const int two = 2;
    fen_case cases[] = {FEN_SEND(c, &two), FEN_AFTER(FEN_S)};
    CHECK(fen_select(cases, 2, FEN_NEVER) == 0);
    cases[0] = FEN_RECV(c, &v);
    CHECK(fen_select(cases, 2, FEN_NEVER) == 0 && v == 2);
    cases[1] = FEN_AFTER(FEN_MS);
    CHECK(fen_select(cases, 2, FEN_NEVER) == 1);
    CHECK(fen_label_set("op", FEN_SLICE("cxx")) == 0);
    fen_slice s = FEN_SLICE("four");
    CHECK(s.n == 4 && std::string(s.p, s.n) == "four" && FEN_SLICE("").n == 0);
}

int app(void *)
{
    fen_scope *s = fen_scope_open(FEN_NEVER);
    for (intptr_t i = 0; i < FIBERS; i++)
        CHECK(fen_go(fiber, reinterpret_cast<void *>(i)) == 0);
    CHECK(fen_scope_close(s) == 0);
    contexts();
    int v = 0, one = 1;
    fen_chan *c = fen_chan_new(sizeof v, 1);
    CHECK(fen_chan_send(c, &one) == 0);
    fen_case cases[] = {FEN_RECV(c, &v)};
    CHECK(fen_select(cases, 1, FEN_NEVER) == 0 && v == 1);
    macros(c);
    fen_chan_free(c);
    return 0;
}

} // namespace

int main()
{
    for (int procs = 1; procs <= 4; procs *= 2) {
        fen_config cfg = {};
        cfg.procs = procs;
        ended = 0;
        CHECK(fen_run(app, nullptr, &cfg) == 0);
        CHECK(ended == FIBERS);
    }
    std::puts("ok");
    return 0;
}
