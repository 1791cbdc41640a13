#!/usr/bin/env python3
"""layers.py - the floors of the house (tools/layers.txt), enforced twice.

By include: a file of room A may include "B/x.h" only when A may lean on B, and never another room's
"*_int.h". cmd/, bench/ and examples/ see <fen/*.h> and files of their own only. include/fen sees
itself only. <cmocka.h> belongs to tests.

By symbol: an object of room A may leave undefined only what rooms below it define; an object of the
program may use only what include/fen declares. That catches an `extern` smuggled past the headers,
and public headers used upward.

usage: layers.py [BUILD_DIR]     BUILD_DIR switches the check by symbol on.
"""
import os
import re
import subprocess
import sys

LAYERS = "tools/layers.txt"
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = (".c", ".h", ".S")


def read_layers():
    allow = {}
    with open(LAYERS, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            room, _, deps = line.partition(":")
            for d in deps.split():
                if d not in allow:
                    sys.exit(f"{LAYERS}:{n}: {room} leans on {d}, which is not below it")
            allow[room.strip()] = set(deps.split())
    return allow


def files(top):
    for d, subdirs, names in os.walk(top):
        subdirs.sort()
        for name in sorted(names):
            if name.endswith(SOURCES):
                yield os.path.join(d, name)


def includes(path):
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            m = INCLUDE.match(line)
            if m:
                yield n, m[1], m[2]


def check_src(allow, bad):
    for path in files("src"):
        room = path.split(os.sep)[1]
        if room not in allow:
            bad.append(f"{path}: room {room} is not in {LAYERS}")
            continue
        is_test = path.endswith("_test.c")
        for n, quote, name in includes(path):
            head, _, rest = name.partition("/")
            if name == "cmocka.h" and not is_test:
                bad.append(f"{path}:{n}: only tests include {name}")
            if quote == '"' and not rest:
                bad.append(f'{path}:{n}: write "{room}/{name}", with the room')
            if quote == "<" and head == "fen" and not os.path.exists("include/" + name):
                bad.append(f"{path}:{n}: {name} does not exist")
            if quote != '"' or not rest or head == room:
                continue
            if head not in allow:
                bad.append(f"{path}:{n}: {head} is not a room of {LAYERS}")
            elif head not in allow[room]:
                bad.append(f"{path}:{n}: {room} may not include {name}")
            elif rest.endswith("_int.h"):
                bad.append(f"{path}:{n}: {name} is for room {head} alone")


def check_outside(bad):
    """Programs and public headers: <fen/...>, the system, and files beside them."""
    roots = [("include/fen", []), ("cmd", ["cmd/fen"]), ("bench", ["bench"]), ("examples", [])]
    for top, extra in roots:
        for path in files(top):
            for n, quote, name in includes(path):
                if quote == "<" or (name.endswith("cmocka.h") and path.endswith("_test.c")):
                    continue
                near = [os.path.dirname(path)] + extra
                if top == "include/fen":
                    bad.append(f"{path}:{n}: public headers include <...> only")
                elif not any(os.path.exists(os.path.join(d, name)) for d in near):
                    bad.append(f"{path}:{n}: {top} may include only <fen/...> and its own {name}")
                elif top != os.path.relpath(os.path.join(near[0], name)).split(os.sep)[0] and \
                        ".." in name:
                    bad.append(f"{path}:{n}: {name} leads out of {top}")


def nm(objects):
    """(object, symbol, type letter) of every global symbol."""
    if not objects:
        return
    run = subprocess.run(["nm", "-A", "-P", "-g"] + objects, capture_output=True, text=True)
    for line in run.stdout.splitlines():
        where, symbol, kind = line.split()[:3]
        yield where.rstrip(":"), symbol, kind


def objects_under(top):
    found = []
    for d, _, names in os.walk(top):
        found += [os.path.join(d, n) for n in names if n.endswith(".o")]
    return sorted(found)


def stale(obj, top):
    """An object whose source is gone stays behind in the build directory."""
    return not os.path.exists(os.path.relpath(obj, top)[: -len(".o")])


def public_functions():
    names = set()
    for path in files("include/fen"):
        with open(path, encoding="utf-8") as f:
            names |= set(re.findall(r"\b(fen_\w+)\s*(?:\(|;|\[)", f.read()))
    return names


def check_symbols(allow, build, bad):
    lib = os.path.join(build, "CMakeFiles/fen_rooms.dir")
    programs = [os.path.join(build, "CMakeFiles", d) for d in ("fen_cmd.dir", "fen_program.dir")]
    lib_objects = [o for o in objects_under(lib) if not stale(o, lib)]
    if not lib_objects:
        bad.append(f"{build}: no objects of the library; build first")
    home, wanted = {}, []
    for obj, symbol, kind in nm(lib_objects):
        room = os.path.relpath(obj, lib).split(os.sep)[1]
        if kind in "Uvw":
            wanted.append((obj, room, symbol))
        else:
            home[symbol] = room
    for obj, room, symbol in wanted:
        other = home.get(symbol)
        if other and other != room and other not in allow.get(room, ()):
            src = os.path.relpath(obj, lib)[:-2]
            bad.append(f"{src}: {room} may not use {symbol} of {other}")
    public = public_functions()
    outside = [(o, d) for d in programs for o in objects_under(d) if not stale(o, d)]
    top = dict(outside)
    for obj, symbol, kind in nm(list(top)):
        if kind == "U" and symbol in home and symbol not in public:
            src = os.path.relpath(obj, top[obj])[:-2]
            bad.append(f"{src}: programs may not use {symbol}, which no public header declares")
    return len(wanted)


def main():
    allow, bad, n = read_layers(), [], 0
    check_src(allow, bad)
    check_outside(bad)
    if len(sys.argv) > 1:
        n = check_symbols(allow, sys.argv[1], bad)
    print("\n".join(bad) if bad else f"{len(allow)} rooms, {n} symbol uses")
    sys.exit(1 if bad else 0)


main()
