/* json.h - JSON without reflection: a writer that appends to a buffer, a strict reader, and an
 * X-macro that turns a field list into an encoder and a decoder at compile time. */
#ifndef FEN_JSON_H
#define FEN_JSON_H

#include <fen/buf.h>
#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
