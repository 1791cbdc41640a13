#!/usr/bin/env python3
"""size_classes.py - writes src/mem/classes.h: block sizes, and the spans that they are cut from.

usage: size_classes.py > src/mem/classes.h
       size_classes.py --waste      prints the worst rounding up above 128 bytes
       size_classes.py --check      compares with src/mem/classes.h; exit 1 when they differ

67 classes from 8 bytes to 32 KiB. Up to 128 bytes they lie 16 apart (8, 16, 24, 32 at the start);
128 to 256 has all multiples of 16, each octave above has seven, as evenly spaced as rounding lets
them be, the power of two always among them. So no request above 128 bytes is rounded up by more
than WASTE of the block.

A span holds MIN_BLOCKS blocks at least and SPAN_MIN bytes where blocks are small, and takes the
fewest pages that leave at most TAIL of it unused at its end.
"""
import sys

PAGE = 8192
CLASSES = 67
LARGEST = 32768
WASTE = 1 / 8
TAIL = 1 / 32
SPAN_MIN = 32768
MIN_BLOCKS = 6
SMALL_STEP, SMALL_TOP = 8, 1024  # the first lookup table: one entry for 8 bytes, up to 1 KiB
BIG_STEP = 128                   # the second: one for 128 bytes


def sizes():
    out = [8, 16, 24, 32, 48, 64, 80, 96, 112, 128] + list(range(144, 257, 16))
    low = 256
    while low < LARGEST:
        unit = max(16, low // 16) if low < 1024 else max(128, low // 16)
        for i in range(1, 8):
            out.append(round(low * 2 ** (i / 7) / unit) * unit)
        low *= 2
    return out


def pages_of(size):
    pages = -(-max(SPAN_MIN if size <= SPAN_MIN // MIN_BLOCKS else 0, size * MIN_BLOCKS) // PAGE)
    while (pages * PAGE) % size > TAIL * pages * PAGE:
        pages += 1
    return pages


def recip_of(size, span):
    """offset * recip >> 32 is the number of the block that starts at that offset in the span."""
    r = -(-2 ** 32 // size)
    assert all(k * size * r >> 32 == k for k in range(span // size + 1)), size
    return r


def lookup(all_sizes, first, step, top):
    return [next(i for i, s in enumerate(all_sizes) if s >= n) for n in range(first, top + 1, step)]


def rows_of(values, per_line=24):
    lines = [values[i:i + per_line] for i in range(0, len(values), per_line)]
    return "\n".join("    " + ", ".join(str(v) for v in line) + "," for line in lines)


def text():
    table = sizes()
    assert len(table) == CLASSES and table == sorted(set(table)) and table[-1] == LARGEST
    for low, size in zip(table, table[1:]):
        assert low < 128 or (size - low - 1) / size <= WASTE, (low, size)
        assert size <= SMALL_TOP or size % BIG_STEP == 0
    spans = [pages_of(s) for s in table]
    out = [f"""/* classes.h - block sizes and their spans, written by tools/size_classes.py. */
#ifndef FEN_MEM_CLASSES_H
#define FEN_MEM_CLASSES_H

#include <stdint.h>

#define FEN__CLASSES {CLASSES}
#define FEN__SMALL_MAX {LARGEST} /* bytes of the largest class */
#define FEN__PAGE_BYTES {PAGE}
#define FEN__SPAN_PAGES_MAX {max(spans)}
#define FEN__SPAN_BLOCKS_MAX {max(p * PAGE // s for s, p in zip(table, spans))}

/* offset * recip >> 32 is the number of the block that starts at that offset. */
static const struct fen__class {{
    uint32_t bytes, recip;
    uint16_t pages, blocks;
}} fen__classes[FEN__CLASSES] = {{
    /* clang-format off */"""]
    for s, p in zip(table, spans):
        out.append(f"    {{{s}, {recip_of(s, p * PAGE)}, {p}, {p * PAGE // s}}},")
    out.append(f"""    /* clang-format on */
}};

/* Class of n <= {SMALL_TOP} bytes: [(n + {SMALL_STEP - 1}) / {SMALL_STEP}]. */
static const uint8_t fen__class_small[] = {{
    /* clang-format off */
{rows_of(lookup(table, 0, SMALL_STEP, SMALL_TOP))}
    /* clang-format on */
}};

/* Of {SMALL_TOP} < n <= {LARGEST} bytes: [(n - {SMALL_TOP} + {BIG_STEP - 1}) / {BIG_STEP}]. */
static const uint8_t fen__class_big[] = {{
    /* clang-format off */
{rows_of(lookup(table, SMALL_TOP, BIG_STEP, LARGEST))}
    /* clang-format on */
}};

#endif""")
    return "\n".join(out) + "\n"


def main():
    if sys.argv[1:] == ["--check"]:
        with open("src/mem/classes.h", encoding="utf-8") as f:
            same = f.read() == text()
        print("src/mem/classes.h is what tools/size_classes.py writes" if same else
              "src/mem/classes.h differs from what tools/size_classes.py writes")
        sys.exit(not same)
    elif sys.argv[1:] == ["--waste"]:
        table = sizes()
        worst, at = max(((size - low - 1) / size, low + 1)
                        for low, size in zip(table, table[1:]) if low >= 128)
        print(f"above 128 bytes: {100 * worst:.2f} % of the block, at a request of {at} bytes")
    else:
        sys.stdout.write(text())


main()
