/* err.c - texts for the codes that this library returns. */
#include <fen/err.h>

#include <string.h>

const char *fen_strerror(int rc)
{
    switch (rc) {
    case 0: return "ok";
    case FEN_ECLOSED: return "closed";
    case FEN_EPARSE: return "malformed input";
    case FEN_ELIMIT: return "limit reached";
    case FEN_ECORRUPT: return "stored data is damaged";
    case FEN_ENOTFIBER: return "needs a fiber";
    case FEN_EFORKED: return "a forked child may only exec";
    default: break;
    }
    const char *text = rc < 0 ? strerrordesc_np(-rc) : NULL;
    return text ? text : "unknown error";
}
