/* meter.h - the bill: exact resource counters per operation and tenant, and money derived from
 * them with a price book. */
#ifndef FEN_METER_H
#define FEN_METER_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ISO C has no name for 128 bits. */
__extension__ typedef __int128 fen_int128;

/* What work used. Exact integers; money is computed when read. Byte-nanoseconds are wide: 1 GB held
 * for 10 seconds does not fit in 64 bits. */
typedef struct fen_usage {
    int64_t cpu_ns;           /* on-CPU time, kernel part included */
    int64_t wait_ns;          /* parked */
    int64_t arena_bytes;      /* asked of arenas */
    fen_int128 arena_byte_ns; /* arena chunk bytes x time held, if any was asked for */
    int64_t in_bytes, out_bytes;
} fen_usage;

/* Prices in femto-yuan (1e-15), each 0 or more, for what one hour, or 1,000 requests, cost. The
 * currency is a name only: nothing is converted. */
typedef struct fen_price_book {
    char currency[8];            /* "CNY" */
    int64_t cpu_core_hour_fyuan; /* per core-hour: 0.12 yuan */
    int64_t mem_gb_hour_fyuan;   /* per 1e9 byte-hours: 0.015 yuan */
    int64_t request_1000_fyuan;  /* per 1,000 requests: 0.85 yuan */
    bool request_on;             /* default off: that price contains the other two */
} fen_price_book;

/* The documented defaults. Any thread, does not block. */
FEN_API void fen_price_book_default(fen_price_book *ret_book);

/* Reads a price file over the defaults: lines "key = value", '#' begins a comment, UTF-8 without
 * BOM, at most 64 KiB. Keys: currency (1 to 7 of A-Z), cpu_core_hour, mem_gb_hour, request_1000
 * (decimals of yuan from 0 to 9000, at most 15 digits behind the point, read exactly),
 * request_price (on or off). A key may stand once. On failure ret_book is untouched and ret_text,
 * cut to text_bytes (256 is enough), says in one line "path:line: what was wrong; what is
 * accepted". Returns 0, -EINVAL for the contents, -EFBIG, -ENOMEM, or the -errno of opening or
 * reading. Blocks the thread for the time of a file read. */
FEN_API int fen_price_book_load(const char *path, fen_price_book *ret_book, char *ret_text,
                                size_t text_bytes) FEN_MUST_CHECK;

/* Femto-yuan of a usage: (CPU hours x cpu price + GB-hours x memory price [+ requests / 1,000 x
 * request price if request_on]), computed exactly and rounded once, to the nearest, halves up.
 * Saturates at the ends of the type. Any thread. */
FEN_API fen_int128 fen_price_of(const fen_price_book *b, const fen_usage *u, int64_t requests);

#ifdef __cplusplus
}
#endif
#endif
