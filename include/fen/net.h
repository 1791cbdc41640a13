/* net.h - sockets that look blocking: the fiber parks, the thread goes on.
 *
 * Every call that can wait takes an absolute deadline (FEN_NEVER: the scope's alone) and honours
 * the scope: -ETIMEDOUT when either deadline comes, -ECANCELED when the scope is cancelled. A
 * deadline of 0 does not wait: -EAGAIN. What can wait needs a fiber (FEN_ENOTFIBER outside of one)
 * unless it says otherwise. No call raises SIGPIPE; a peer that is gone is -EPIPE or
 * -ECONNRESET. */
#ifndef FEN_NET_H
#define FEN_NET_H

#include <fen/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An open socket. One reader and one writer at a time (a second one that has to wait gets
 * -EBUSY). */
typedef struct fen_sock fen_sock;

/* ---- addresses ---- */

/* A socket address: IPv4, IPv6 or Unix. A value; copy it freely. */
typedef struct fen_addr {
    uint32_t bytes; /* of raw in use; 0: none (an unnamed Unix socket) */
    uint32_t any;   /* from ":port": every address of both families */
    uint64_t raw[16];
} fen_addr;

/* Room for the text of any address. */
#define FEN_ADDR_TEXT 128

/* Parses "127.0.0.1:80", "[::1]:80", "localhost:80", ":80" (every address), "unix:/a/path" or
 * "unix:@name" (abstract: no file, gone with its socket). Names are not looked up. 0, or -EINVAL
 * for a text that is none of these. Any thread, does not block. */
FEN_API int fen_addr_parse(const char *text, fen_addr *ret_addr) FEN_MUST_CHECK;

/* Writes an address in the form that fen_addr_parse takes, NUL-terminated; "unix:" for an unnamed
 * one. An IPv4 address seen through an IPv6 socket is written as IPv4. The length, or -ENOSPC.
 * Any thread, does not block. */
FEN_API int fen_addr_text(const fen_addr *a, char *buf, size_t bytes);

/* The port, 0 for a Unix address. Any thread. */
FEN_API int fen_addr_port(const fen_addr *a);

/* ---- opening ---- */

/* All options of a socket; all zero, or NULL where one is asked for, is the normal case. */
typedef struct fen_sock_config {
    bool datagram;       /* dial: a connected datagram socket, not a stream */
    bool reuse_port;     /* several sockets share the port, the kernel spreads the load */
    bool nagle;          /* TCP may wait for more before it sends */
    bool broadcast;      /* UDP may send to a broadcast address */
    bool keep_alive;     /* TCP probes a silent peer */
    int keep_idle_s;     /* ... after so long, 0: the system's */
    int keep_interval_s; /* ... then so often */
    int keep_count;      /* ... and gives up after so many */
    int user_timeout_ms; /* TCP gives up when data stays unacknowledged so long; 0: the system's */
    int send_buffer_bytes; /* 0: the kernel's own choice, as a rule better */
    int recv_buffer_bytes;
    int backlog;        /* of a listener; 0: 4,096 */
    const char *source; /* dial: the local address; borrowed for the call */
} fen_sock_config;

/* Listens for streams. 0, -EINVAL for a text or option that is none, -EADDRINUSE (also for a Unix
 * path that exists: whoever owns the file removes it), -EACCES, -EMFILE and what bind and listen
 * return; FEN_ENOTFIBER when no run is on. Does not block. Any thread. */
FEN_API int fen_sock_listen(const char *addr, const fen_sock_config *cfg,
                            fen_sock **ret_sock) FEN_MUST_CHECK;

/* The next connection. 0; -EBADF when the listener is closed, -EINVAL when it is shut down. Without
 * descriptors or memory (-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM) it pauses first, 1 ms and each time
 * twice as long up to 100 ms, so that a loop around it does not spin. Parks. */
FEN_API int fen_sock_accept(fen_sock *l, int64_t deadline_ns, fen_sock **ret_sock) FEN_MUST_CHECK;

/* Connects. 0, -ECONNREFUSED, -EHOSTUNREACH, -ENOENT (no such Unix socket), -ETIMEDOUT, -EINVAL
 * for ":port" and what fen_sock_listen tells of options. Parks. */
FEN_API int fen_sock_dial(const char *addr, const fen_sock_config *cfg, int64_t deadline_ns,
                          fen_sock **ret_sock) FEN_MUST_CHECK;

/* A datagram socket that receives at an address: UDP, or Unix datagrams. Errors as fen_sock_listen.
 * Does not block. */
FEN_API int fen_sock_bind(const char *addr, const fen_sock_config *cfg,
                          fen_sock **ret_sock) FEN_MUST_CHECK;

/* Two Unix sockets connected with each other. 0, -EMFILE, -ENOMEM, FEN_ENOTFIBER when no run is on.
 * Does not block. Any thread. */
FEN_API int fen_sock_pair(bool datagram, fen_sock *ret_sock[2]) FEN_MUST_CHECK;

/* Makes a socket descriptor of another origin fen's: it becomes non-blocking and belongs to the
 * fen_sock, which closes it. On failure it stays the caller's: -ENOTSOCK, -EBADF, -ENOMEM ... */
FEN_API int fen_sock_adopt(int fd, fen_sock **ret_sock) FEN_MUST_CHECK;

/* Applies the options of an open socket (those that are set; nothing else changes). 0, -EINVAL or
 * what setsockopt returns. Does not block. */
FEN_API int fen_sock_configure(fen_sock *s, const fen_sock_config *cfg);

/* Shorter forms for TCP. backlog 0: 4,096. fen_tcp_accept is fen_sock_accept. */
FEN_API int fen_tcp_listen(const char *addr, int backlog, fen_sock **ret_sock) FEN_MUST_CHECK;
FEN_API int fen_tcp_accept(fen_sock *l, int64_t deadline_ns, fen_sock **ret_sock) FEN_MUST_CHECK;
FEN_API int fen_tcp_dial(const char *addr, int64_t deadline_ns, fen_sock **ret_sock) FEN_MUST_CHECK;

/* ---- who ---- */

/* The port a socket is bound to (0: a Unix socket), or -errno. */
FEN_API int fen_sock_port(fen_sock *s);

/* The addresses of the two ends. 0, -ENOTCONN, -EBADF. Do not block. */
FEN_API int fen_sock_local(fen_sock *s, fen_addr *ret_addr);
FEN_API int fen_sock_peer(fen_sock *s, fen_addr *ret_addr);

/* ---- streams ---- */

/* Reads at least one byte: the count, 0 at the end of the stream, or -errno. TCP's urgent data
 * (MSG_OOB) is not supported: at its mark a read may wait for the peer's next bytes although some
 * are there. Of an adopted SOCK_SEQPACKET a read takes one record. Parks. */
FEN_API ssize_t fen_sock_read(fen_sock *s, void *buf, size_t n, int64_t deadline_ns) FEN_MUST_CHECK;

/* Writes all n bytes: n or -errno (how many went out before the error is not told). Parks. */
FEN_API ssize_t fen_sock_write(fen_sock *s, const void *buf, size_t n,
                               int64_t deadline_ns) FEN_MUST_CHECK;

/* The same from and to several buffers in a row; n at most 1,024 of them, else -EINVAL. */
FEN_API ssize_t fen_sock_readv(fen_sock *s, const struct iovec *iov, int n,
                               int64_t deadline_ns) FEN_MUST_CHECK;
FEN_API ssize_t fen_sock_writev(fen_sock *s, const struct iovec *iov, int n,
                                int64_t deadline_ns) FEN_MUST_CHECK;

/* As fen_sock_write, but the kernel sends from buf without copying it where that can pay (TCP, from
 * 10 KiB on; docs/io.md); it falls back to copying by itself. buf is the kernel's until the call
 * returns, which is after the peer has acknowledged. To get it back when the deadline, a
 * cancellation or a close comes first, the connection is reset. */
FEN_API ssize_t fen_sock_write_zc(fen_sock *s, const void *buf, size_t n,
                                  int64_t deadline_ns) FEN_MUST_CHECK;

/* How many zero-copy sends this socket has made and how many of them the kernel copied after all
 * (always, to a peer on the same machine). For the writer, between its calls. */
FEN_API void fen_sock_zc_count(fen_sock *s, uint64_t *ret_sends, uint64_t *ret_copied);

/* Sends up to n bytes of a file from offset on, inside the kernel. The count, less than n when the
 * file ends first, or -errno. Waiting for the disk costs no P. Parks. */
FEN_API ssize_t fen_sock_send_file(fen_sock *s, int file, int64_t offset, size_t n,
                                   int64_t deadline_ns) FEN_MUST_CHECK;

/* Moves up to n bytes from one stream to another inside the kernel, through a pipe. The count, less
 * than n when `from` ends first, or -errno; then bytes taken from `from` may be lost, so close
 * both. The pipe is there only while bytes pass; -EMFILE when there is none to begin with. Counts
 * as a reader of `from` and a writer of `to`. Parks. */
FEN_API ssize_t fen_sock_splice(fen_sock *from, fen_sock *to, size_t n,
                                int64_t deadline_ns) FEN_MUST_CHECK;

/* ---- datagrams ---- */

/* Sends one datagram; to NULL: to the peer of a dialled socket or of a pair. n or -errno:
 * -EMSGSIZE too long, -EDESTADDRREQ no peer, -ECONNREFUSED an earlier one was refused. Parks. */
FEN_API ssize_t fen_sock_send_to(fen_sock *s, const void *buf, size_t n, const fen_addr *to,
                                 int64_t deadline_ns) FEN_MUST_CHECK;

/* Receives one datagram, which may be empty: its length, or -errno. One longer than n is dropped
 * and reported as -EMSGSIZE. ret_from (NULL: not wanted) is its sender. Parks. */
FEN_API ssize_t fen_sock_recv_from(fen_sock *s, void *buf, size_t n, fen_addr *ret_from,
                                   int64_t deadline_ns) FEN_MUST_CHECK;

/* ---- ending ---- */

/* Which direction fen_sock_shutdown ends. */
enum fen_shut { FEN_SHUT_READ, FEN_SHUT_WRITE, FEN_SHUT_BOTH };

/* Ends one direction or both; the socket stays open. A waiting reader sees the end of the stream,
 * a waiting accept -EINVAL, a writer -EPIPE. The way to stop a fiber that goes on using the socket.
 * 0, -ENOTCONN, -EBADF. Does not block. */
FEN_API int fen_sock_shutdown(fen_sock *s, enum fen_shut how);

/* Closes. Calls under way in other fibers end: those that wait with -EBADF, one that is just in a
 * system call with its result; the descriptor goes back to the kernel when the last of them has
 * left it, never under them. A call that begins after the close has returned is a use after free,
 * so a fiber that would call again is stopped first (fen_sock_shutdown) and joined. NULL is
 * accepted. Any thread, does not block. */
FEN_API void fen_sock_close(fen_sock *s);

#ifdef __cplusplus
}
#endif
#endif
