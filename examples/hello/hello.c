/* hello.c - the smallest service that does something: one route, a time limit, a bill at the end.
 *
 *     build/release/example_hello &
 *     curl http://127.0.0.1:8080/hello/7
 */
#include <fen/fen.h>

static int hello(fen_exchange *x, void *arg)
{
    int64_t id;
    (void)arg;
    fen_exchange_timeout(x, 100 * FEN_MS); /* everything below honours it */
    if (fen_path_i64(x, "id", &id) < 0)
        return fen_reply_error(x, 400, "id must be a whole number");
    int rc = fen_sleep(id % 200 * FEN_MS); /* a slow back end: the fiber parks, not the thread */
    if (rc < 0)
        return rc; /* -ETIMEDOUT becomes 504 */
    return fen_reply(x, 200, "text/plain", FEN_SLICE("hello\n"));
}

static int app(void *arg)
{
    (void)arg;
    fen_server *s = fen_server_new(NULL);
    int rc = s ? fen_route(s, "GET /hello/{id}", hello, NULL) : -ENOMEM;
    if (rc == 0) /* until SIGTERM, then drains */
        rc = fen_server_run(s, &(fen_service_config){.addr = "127.0.0.1:8080"});
    fen_server_free(s);
    return rc;
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
