/* http.h - HTTP/1.1 server: routes, exchanges, replies.
 *
 * A server is made, given its routes, served and freed by one fiber; what else may call says so.
 * An exchange belongs to the fiber of its handler until the handler returns; fibers that it starts
 * may use it one at a time. No call on an exchange waits: a reply is gathered in memory and written
 * after the handler has returned. */
#ifndef FEN_HTTP_H
#define FEN_HTTP_H

#include <fen/arena.h>
#include <fen/json.h>
#include <fen/scope.h>
#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fen_server fen_server;
typedef struct fen_exchange fen_exchange;

/* Answers one request. Runs in a fiber, may block. A negative return without a reply becomes an
 * error reply: -ENOENT 404, -EINVAL, -ERANGE and FEN_EPARSE 400, -ETIMEDOUT 504, -ECANCELED,
 * -EAGAIN, -EBUSY and FEN_ELIMIT 503, -ENOMEM 503 while memory is short (fen_mem_pressure); else
 * 500. */
typedef int (*fen_handler)(fen_exchange *x, void *arg);

/* Limits and time-outs; zero means the default given here. */
typedef struct fen_server_config {
    size_t max_header_bytes;   /* request line and fields: 32 KiB; over it 431 */
    size_t max_body_bytes;     /* 1 MiB; over it 413 */
    int max_fields;            /* 100; over it 431 */
    int64_t header_timeout_ns; /* from first byte to end of header: 10 s; then 408 */
    int64_t body_timeout_ns;   /* for the whole body: 30 s; then 408 */
    int64_t idle_timeout_ns;   /* keep-alive without a request: 60 s; then closed */
    int64_t write_timeout_ns;  /* a reply that the peer does not take: 30 s; then closed */
    int64_t drain_timeout_ns;  /* after stop: 10 s; then connections are cut */
    int max_connections;       /* 0: what the descriptor limit leaves */
    int max_tenants;           /* names kept apart in the bill; the rest is "_other". Of the whole
                                  process: 64 until a server asks for another number (above 250:
                                  250), then what the last such one asked for; 0: does not ask */
    bool errors_close;         /* close after every error reply, not only after framing errors */
    bool shed_off;             /* answer also while memory is short; else every request is 503
                                  then, with Retry-After, and connections are accepted slowly */
} fen_server_config;

/* A server without routes; NULL when out of memory. cfg may be NULL and is copied. */
FEN_API fen_server *fen_server_new(const fen_server_config *cfg) FEN_MUST_CHECK;

/* Frees a server that does not serve (asserted), with its routes. NULL is accepted. Does not
 * block. */
FEN_API void fen_server_free(fen_server *s);

/* Adds "METHOD /path/{name}/more". pattern is borrowed for the server's life. 0, -EINVAL for a
 * malformed pattern or no handler, -EEXIST for a pattern that matches the same requests, -ENOMEM.
 * Before serving: -EBUSY while it serves. */
FEN_API int fen_route(fen_server *s, const char *pattern, fen_handler fn, void *arg) FEN_MUST_CHECK;

/* Which route would answer: 200 and its pattern; 404 no pattern has that path (encoded, without
 * query); 405 only with other methods. No memory; any thread once the routes are added. */
FEN_API int fen_route_find(const fen_server *s, fen_slice method, fen_slice path,
                           const char **ret_pattern);

/* Serves on addr (see fen_tcp_listen) until fen_server_stop, then drains: accepted requests get
 * their full reply, idle connections are closed. Blocks the fiber. 0, FEN_ENOTFIBER outside of one,
 * or -errno. */
FEN_API int fen_server_serve(fen_server *s, const char *addr);

/* Begins the drain. Any thread, signal-safe, idempotent. */
FEN_API void fen_server_stop(fen_server *s);

/* The port served, 0 before. Any thread. */
FEN_API int fen_server_port(fen_server *s);

/* fen_server_serve plus what a service needs around it: SIGTERM and SIGINT start the drain, and the
 * admin listener answers /metrics, /debug/vars, /debug/memory (GET and POST), POST /debug/reclaim,
 * /debug/pprof/heap and /healthz. */
typedef struct fen_service_config {
    const char *addr;                    /* required, e.g. ":8080" */
    const char *admin_addr;              /* NULL: "127.0.0.1:6060"; "": none */
    bool quiet;                          /* do not print the closing bill */
    const struct fen_price_book *prices; /* NULL: the documented defaults */
} fen_service_config;
/* Prints "listening on HOST:PORT" when ready and, unless quiet, the closing books and bill. 0;
 * -EINVAL (also for no address), -EADDRINUSE, -EACCES ... for either address, with one line on
 * standard error; FEN_ENOTFIBER outside a fiber. Blocks the fiber; one at a time in a process. */
FEN_API int fen_server_run(fen_server *s, const fen_service_config *cfg);

/* ---- inside a handler; what is returned lives until the handler returns ---- */

/* The method and the path as they were sent; the path without its query. */
FEN_API fen_slice fen_method(const fen_exchange *x);
FEN_API fen_slice fen_path(const fen_exchange *x);

/* The decoded value of {name}; {NULL,0} if the pattern has none. */
FEN_API fen_slice fen_path_value(fen_exchange *x, const char *name);

/* The same as a decimal int64_t: 0, -ENOENT, -EINVAL (not a whole number), -ERANGE. */
FEN_API int fen_path_i64(fen_exchange *x, const char *name, int64_t *ret_value) FEN_MUST_CHECK;

/* The decoded value of a query parameter (the first of that name): 0, -ENOENT, -EINVAL (bad %). */
FEN_API int fen_query_value(fen_exchange *x, const char *name, fen_slice *ret_value) FEN_MUST_CHECK;
FEN_API int fen_query_i64(fen_exchange *x, const char *name, int64_t *ret_value) FEN_MUST_CHECK;

/* A header field by name, any case; {NULL,0} if absent. */
FEN_API fen_slice fen_header(const fen_exchange *x, const char *name);

/* True: the client is on this machine, by its address (127.0.0.0/8, ::1, or no network at all). */
FEN_API bool fen_exchange_local(const fen_exchange *x);

/* The whole body, already read. */
FEN_API fen_slice fen_body(const fen_exchange *x);

/* Memory freed after the reply. */
FEN_API fen_arena *fen_exchange_arena(fen_exchange *x);

/* Puts a deadline on everything the handler does from here: absolute = now + timeout. The writing
 * of the reply is not under it. */
FEN_API void fen_exchange_timeout(fen_exchange *x, int64_t timeout_ns);

/* Sends the reply; body is copied before the call returns. content_type may be NULL for an empty
 * body. 0; -EALREADY: once per exchange; -EINVAL for a status outside 200 to 599; -ENOMEM. */
FEN_API int fen_reply(fen_exchange *x, int status, const char *content_type, fen_slice body);

/* Adds a field to the reply that follows; name is borrowed, value copied. 0, -EINVAL (not a token,
 * or a line break in the value), FEN_ELIMIT (16 fields), -EALREADY, -ENOMEM. */
FEN_API int fen_reply_header(fen_exchange *x, const char *name, const char *value) FEN_MUST_CHECK;

/* {"error":"msg"} with that status; msg is copied. Results as fen_reply. */
FEN_API int fen_reply_error(fen_exchange *x, int status, const char *msg);

/* A reply of JSON whose body encode(b, obj) appends, as FEN_JSON_STRUCT makes them; when it finds
 * no memory a 500 is replied instead. Results as fen_reply. */
FEN_API int fen_reply_json(fen_exchange *x, int status, void (*encode)(fen_buf *b, const void *obj),
                           const void *obj);

#ifdef __cplusplus
}
#endif
#endif
