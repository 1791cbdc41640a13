/* uri.h - percent-decoding, query parameters, whole numbers. Pure. */
#ifndef FEN_HTTP_URI_H
#define FEN_HTTP_URI_H

#include "base/base.h"

#include <fen/arena.h>

/* Undoes percent-encoding once; with plus, '+' is a space (query only). Text without escapes is
 * returned as it is, otherwise the result lies in the arena. 0, -EINVAL ('%' without two hex
 * digits, or %00, which no consumer of a path or a name expects), -ENOMEM. */
int fen__uri_decode(fen_slice in, bool plus, fen_arena *a, fen_slice *ret_text) FEN_MUST_CHECK;

/* The decoded value of the first parameter of that name in a=1&b=2 (names are compared decoded; a
 * parameter without '=' has the empty value). 0, -ENOENT, -EINVAL (its value is badly encoded),
 * -ENOMEM. A badly encoded name matches nothing. */
int fen__uri_query(fen_slice query, const char *name, size_t name_n, fen_arena *a,
                   fen_slice *ret_value) FEN_MUST_CHECK;

/* An optional '-' and decimal digits, nothing else: 0, -EINVAL, -ERANGE. */
int fen__uri_i64(fen_slice text, int64_t *ret_value) FEN_MUST_CHECK;

#endif
