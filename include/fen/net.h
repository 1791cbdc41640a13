/* net.h - sockets that look blocking: the fiber parks, the thread goes on. */
#ifndef FEN_NET_H
#define FEN_NET_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An open descriptor registered with the poller. One reader and one writer at a time. */
typedef struct fen_sock fen_sock;

/* Parses "host:port", ":port" (every address) or "[::1]:port"; numeric addresses and "localhost"
 * only. Port 0 lets the kernel choose. Returns 0, -EINVAL for a text that is none of these,
 * -EADDRINUSE, -EACCES and what bind and listen return. backlog 0: 4,096. Any fiber. */
FEN_API int fen_tcp_listen(const char *addr, int backlog, fen_sock **ret_sock) FEN_MUST_CHECK;

/* The port a listener is bound to. */
FEN_API int fen_sock_port(fen_sock *s);

/* The next connection. 0, FEN_ECLOSED, -ECANCELED, -ETIMEDOUT, -EMFILE ... Parks. */
FEN_API int fen_tcp_accept(fen_sock *l, int64_t deadline_ns, fen_sock **ret_sock) FEN_MUST_CHECK;

/* Connects (same address forms). 0, -ECONNREFUSED, -ETIMEDOUT, -ECANCELED, -EINVAL ... Parks. */
FEN_API int fen_tcp_dial(const char *addr, int64_t deadline_ns, fen_sock **ret_sock) FEN_MUST_CHECK;

/* Reads at least one byte: the count, 0 at the end of the stream, or -errno. Parks. */
FEN_API ssize_t fen_sock_read(fen_sock *s, void *buf, size_t n, int64_t deadline_ns) FEN_MUST_CHECK;

/* Writes all n bytes: n or -errno (how many went out before the error is not told). Parks. */
FEN_API ssize_t fen_sock_write(fen_sock *s, const void *buf, size_t n,
                               int64_t deadline_ns) FEN_MUST_CHECK;

/* Wakes a reader and a writer with -EBADF and closes the descriptor. NULL is accepted. */
FEN_API void fen_sock_close(fen_sock *s);

#ifdef __cplusplus
}
#endif
#endif
