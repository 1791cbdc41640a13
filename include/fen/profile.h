/* profile.h - which call sites hold the heap's memory, and for whom.
 *
 * The heap notes a sample of its blocks, one in each `rate` bytes on average, with the stack that
 * asked for it, its account (tenant and operation) and the name of its fiber, and forgets a block
 * when it is freed. What is written is scaled up by the chance that each block had, so the figures
 * are estimates of everything: both of what was allocated since the rate was set, and of what is
 * live of that. docs/heap-profile.md shows how to use it.
 *
 * Under AddressSanitizer blocks are the C library's and the profile is empty. */
#ifndef FEN_PROFILE_H
#define FEN_PROFILE_H

#include <fen/buf.h>
#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_PROFILE_OFF (-1)
#define FEN_PROFILE_RATE ((int64_t)512 << 10) /* bytes; what fen_run sets if nobody else did */
#define FEN_PROFILE_RATE_MAX ((int64_t)1 << 40)

/* How many bytes lie between two samples on average, from now on: 1 notes every block, which is
 * slow; FEN_PROFILE_OFF none. Threads follow within 64 KiB of allocations, the calling one at once.
 * Blocks from before keep their note or their want of one. fen_run sets it from
 * fen_config.heap_profile_rate, else FEN_HEAP_PROFILE_RATE in the environment. 0; -EINVAL beyond
 * FEN_PROFILE_RATE_MAX or below 1. Any thread; does not block. */
FEN_API int fen_profile_heap_rate_set(int64_t bytes) FEN_MUST_CHECK;

/* The rate in bytes, or FEN_PROFILE_OFF. */
FEN_API int64_t fen_profile_heap_rate(void);

/* What the environment's variable accepts: a whole number of bytes, or one with B, KiB or MiB
 * behind it, or "off". 0 or -EINVAL. */
FEN_API int fen_profile_heap_rate_parse(const char *text, int64_t *ret_bytes) FEN_MUST_CHECK;

/* Appends the profile in pprof's format (profile.proto in gzip, stored, not compressed):
 * alloc_objects, alloc_space, inuse_objects, inuse_space by stack, labelled tenant, operation,
 * fiber and bytes, with the names of all functions, so that `go tool pprof` needs no program beside
 * it. Space is counted as it is billed: in bytes of the blocks, not in those asked for. Reads the
 * symbol tables of the program and its libraries: milliseconds, without a park. 0 or -ENOMEM, also
 * in b->err. Any thread. */
FEN_API int fen_profile_heap_write(fen_buf *b) FEN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
