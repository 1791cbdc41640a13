/* bill.c - a service with two operations, and what each costs. Chapter 8.
 *
 *     build/release/tutorial_bill 127.0.0.1:8080 &
 *     curl -H 'X-Tenant: acme' http://127.0.0.1:8080/primes/20000
 */
#include <fen/fen.h>
#include <stdio.h>

struct answer {
    int64_t below, primes;
};
#define ANSWER_FIELDS(F) F(i64, below, required) F(i64, primes, required)
FEN_JSON_STRUCT(answer, ANSWER_FIELDS)

static bool is_prime(int64_t n)
{
    for (int64_t d = 2; d * d <= n; d++)
        if (n % d == 0)
            return false;
    return n > 1;
}

/* Computes: its CPU time is on the bill. */
static int primes(fen_exchange *x, void *arg)
{
    struct answer a = {0};
    (void)arg;
    int rc = fen_path_i64(x, "below", &a.below);
    if (rc < 0 || a.below > 1000000)
        return fen_reply_error(x, 400, "a whole number up to a million, please");
    for (int64_t n = 0; n < a.below; n++)
        a.primes += is_prime(n);
    return fen_reply_json(x, 200, answer_json_encode, &a);
}

/* Waits: that costs no CPU, and only the memory that it holds meanwhile. */
static int wait_a_while(fen_exchange *x, void *arg)
{
    int64_t ms;
    (void)arg;
    fen_exchange_timeout(x, 200 * FEN_MS);
    int rc = fen_path_i64(x, "ms", &ms);
    if (rc < 0 || ms < 0 || ms > 10000)
        return fen_reply_error(x, 400, "0 to 10000 milliseconds, please");
    rc = fen_sleep(ms * FEN_MS);
    if (rc < 0)
        return rc; /* -ETIMEDOUT becomes 504 */
    return fen_reply(x, 200, "text/plain", FEN_SLICE("waited\n"));
}

static int app(void *arg)
{
    fen_server *s = fen_server_new(NULL);
    int rc = s ? fen_route(s, "GET /primes/{below}", primes, NULL) : -ENOMEM;
    if (rc == 0)
        rc = fen_route(s, "GET /wait/{ms}", wait_a_while, NULL);
    if (rc == 0)
        rc = fen_server_run(s, &(fen_service_config){.addr = arg, .admin_addr = ""});
    fen_server_free(s);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: tutorial_bill ADDRESS\n");
        return 2;
    }
    return fen_run(app, argv[1], NULL) < 0;
}
