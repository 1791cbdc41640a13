/* err.h - errors are negative errno values, returned; fen's own codes lie below -5000. */
#ifndef FEN_ERR_H
#define FEN_ERR_H

#include <errno.h>
#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What errno has no value for. */
enum fen_err {
    FEN_ECLOSED = -5001,   /* the channel or listener is closed */
    FEN_EPARSE = -5002,    /* bytes that do not follow the format */
    FEN_ELIMIT = -5003,    /* a stated limit was reached */
    FEN_ECORRUPT = -5004,  /* stored data is damaged */
    FEN_ENOTFIBER = -5005, /* the call needs a fiber and there is none */
    FEN_EFORKED = -5010    /* a child forked from a running runtime: it may only exec */
};

/* A short English text for any code this library returns (0, -errno or enum fen_err).
 * Static storage, never NULL. Any thread, does not block. */
FEN_API const char *fen_strerror(int rc);

#ifdef __cplusplus
}
#endif
#endif
