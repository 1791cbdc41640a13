/* meter.h - the bill: exact resource counters per operation and tenant, and money derived from
 * them with a price book. */
#ifndef FEN_METER_H
#define FEN_METER_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What work used. Exact integers; money is computed when read. */
typedef struct fen_usage {
    int64_t cpu_ns;       /* on-CPU time, kernel part included */
    int64_t wait_ns;      /* parked */
    int64_t arena_bytes;  /* asked of arenas */
    int64_t arena_byte_ns;/* arena chunk bytes x time held */
    int64_t in_bytes, out_bytes;
} fen_usage;

/* A price as a fraction: yuan = quantity * num / den. */
typedef struct fen_price_book {
    char currency[8];               /* "CNY" */
    int64_t cpu_core_hour_fyuan;    /* femto-yuan per core-hour: 0.12 yuan */
    int64_t mem_gb_hour_fyuan;      /* femto-yuan per 1e9 byte-hours: 0.015 yuan */
    int64_t request_1000_fyuan;     /* femto-yuan per 1,000 requests: 0.85 yuan */
    bool request_on;                /* default off: that price contains the other two */
} fen_price_book;

/* The documented defaults. */
FEN_API void fen_price_book_default(fen_price_book *ret_book);

/* Reads a price file ("key = value" lines, '#' comments). On error -EINVAL or -errno and a one-line
 * text naming the line, what was wrong and what is accepted. */
FEN_API int fen_price_book_load(const char *path, fen_price_book *ret_book, char *ret_text,
                                size_t text_bytes) FEN_MUST_CHECK;

/* Femto-yuan (1e-15) of a usage; requests counts only when the book says so. Saturates. */
FEN_API __int128 fen_price_of(const fen_price_book *b, const fen_usage *u, int64_t requests);

#ifdef __cplusplus
}
#endif
#endif
