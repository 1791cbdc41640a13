#!/usr/bin/env python3
"""names.py - what the library exports, checked on its objects.

A symbol of default visibility is public: it starts with fen_ (one underscore) and a header of
include/fen declares it. Any other symbol shared between files starts with fen__. A function that a
public header declares must exist. No symbol is defined twice: a linker may not notice that in an
archive.

usage: names.py BUILD_DIR [--strict]

Without --strict a header of which nothing at all exists is only noted: its room is not there yet.
"""
import os
import re
import subprocess
import sys


def objects(build):
    top = os.path.join(build, "CMakeFiles/fen_rooms.dir")
    for d, _, names in os.walk(top):
        for n in sorted(names):
            path = os.path.join(d, n)
            source = os.path.relpath(path, top)[:-2]
            if n.endswith(".o") and os.path.exists(source):
                yield source, path


def globals_of(path):
    """(symbol, visibility) of each global that the object defines."""
    out = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True).stdout
    for line in out.splitlines():
        f = line.split()
        if len(f) == 8 and f[4] in ("GLOBAL", "WEAK") and f[6] != "UND":
            yield f[7], f[5]


def declared():
    """{header: set of functions declared with FEN_API}"""
    result = {}
    for name in sorted(os.listdir("include/fen")):
        with open("include/fen/" + name, encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        text = re.sub(r"^\s*#.*(\\\n.*)*", "", text, flags=re.M)
        result[name] = set(re.findall(r"\bFEN_API\b[^;{]*?\b(fen_\w+)\s*\(", text))
    return result


def main():
    build, strict = sys.argv[1], "--strict" in sys.argv[2:]
    headers, bad, notes, defined = declared(), [], [], set()
    public = set().union(*headers.values())
    first = {}
    for source, path in objects(build):
        for symbol, visibility in globals_of(path):
            if first.setdefault(symbol, source) != source:
                bad.append(f"{source}: {symbol} is defined in {first[symbol]} too")
            if symbol.startswith(("__asan", "__odr_asan", "__tsan", "__gcov")):
                continue
            if re.fullmatch(r"\w+\.c\.[0-9a-f]+", symbol):
                continue  # gcc's mark of a unit compiled for link-time optimisation
            if visibility == "DEFAULT":
                defined.add(symbol)
                if not re.match(r"fen_[a-z0-9]", symbol):
                    bad.append(f"{source}: {symbol} is visible outside and not named fen_*")
                elif symbol not in public:
                    bad.append(f"{source}: {symbol} is visible outside; no public header has it")
            elif not symbol.startswith("fen__"):
                bad.append(f"{source}: {symbol} is shared between files and not named fen__*")
    for header, functions in headers.items():
        lack = sorted(functions - defined)
        if lack and (strict or len(lack) < len(functions)):
            bad += [f"include/fen/{header}: {f} is declared and nowhere defined" for f in lack]
        elif lack:
            notes.append(header)
    if not defined:
        bad.append(f"{build}: no objects of the library; build first")
    if notes:
        print("note: nothing defined yet of " + " ".join(notes))
    print("\n".join(bad) if bad else f"{len(defined)} public functions")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
