/* types.h - the small value types and units that every public header shares. */
#ifndef FEN_TYPES_H
#define FEN_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_API __attribute__((visibility("default")))
#define FEN_MUST_CHECK __attribute__((warn_unused_result))

/* Time is int64_t nanoseconds on the monotonic clock; deadlines are absolute. */
#define FEN_US INT64_C(1000)
#define FEN_MS INT64_C(1000000)
#define FEN_S INT64_C(1000000000)
#define FEN_NEVER INT64_MAX /* a deadline that never comes */

/* A borrowed run of bytes, not terminated. The owner is named by whoever hands it out. */
typedef struct fen_slice {
    const char *p;
    size_t n;
} fen_slice;

#ifdef __cplusplus /* how a value of a struct is written: C++ has no compound literals */
#define FEN__VALUE(type) type
#else
#define FEN__VALUE(type) (type)
#endif

/* The slice of a string literal. */
#define FEN_SLICE(lit) (FEN__VALUE(fen_slice){"" lit, sizeof(lit) - 1})

/* Monotonic time, nanoseconds. Any thread, does not block. */
FEN_API int64_t fen_now(void);

#ifdef __cplusplus
}
#endif
#endif
