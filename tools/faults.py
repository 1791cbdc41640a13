#!/usr/bin/env python3
"""faults.py - every public function is called with every n-th of its calls failing.

usage: faults.py

test/every.h has a row for each function of the reference pages: which scenario of which test calls
it, and whether it makes calls that can fail. The tests see to it that a row tells the truth; this
sees to it that no function is without one, that each row has a function, and that each scenario is
one of the tests'.
"""
import glob
import re
import sys

from reference import Book

TABLE = "test/every.h"
ROW = re.compile(r"^    ROW\((\w+), (FAILS|NEVER), [^,]+, (\w+)\)(?=\s|$)", re.M)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def header_of(function):
    return next(h for h in sorted(glob.glob("include/fen/*.h"))
                if re.search(rf"\b{function}\(", read(h)))


def main():
    bad, seen, never = [], set(), 0
    parts = re.split(r"^#define EVERY_(\w+)\(ROW\)", read(TABLE), flags=re.M)[1:]
    for name, rows in zip(parts[::2], parts[1::2]):
        test = f"test/every_{name.lower()}_test.c"
        scenarios = set(re.findall(r'\{"(\w+)", \1, ', read(test)))
        found = ROW.findall(rows)
        if len(found) != rows.count("ROW("):
            bad.append(f"{TABLE}: EVERY_{name}: a row that cannot be read")
        for function, kind, scenario in found:
            if function in seen:
                bad.append(f"{TABLE}: {function} has two rows")
            if scenario not in scenarios:
                bad.append(f"{TABLE}: {function}: {test} has no scenario {scenario}")
            seen.add(function)
            never += kind == "NEVER"
    public = Book().functions
    bad += [f"{header_of(f)}: {f} has no row in {TABLE}" for f in sorted(public - seen)]
    bad += [f"{TABLE}: {f} has a row and is not public" for f in sorted(seen - public)]
    print("\n".join(bad) if bad else
          f"{len(seen)} functions: {len(seen) - never} under faults, {never} that make no call")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
