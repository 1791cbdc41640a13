#!/usr/bin/env python3
"""count.py - adds up ctest result files (JUnit) and prints "N passed, N failed, N skipped".

usage: count.py FILE...   Exit 1 when something failed; a missing file is a failure.

A test is skipped only when it said so itself (exit code 77); one that could not be started, for
example because its program is missing, counts as failed.
"""
import sys
import xml.etree.ElementTree as ET


def count(path):
    passed = failed = skipped = 0
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as e:
        print(f"count: no results in {path}: {e}")
        return 0, 1, 0
    for case in root.iter("testcase"):
        why = case.find("skipped")
        if case.get("status") == "run":
            passed += 1
        elif why is not None and why.get("message", "").startswith("SKIP_"):
            skipped += 1
        else:
            failed += 1
    return passed, failed, skipped


def main():
    sums = [sum(col) for col in zip(*(count(p) for p in sys.argv[1:]))]
    print("%d passed, %d failed, %d skipped" % tuple(sums))
    sys.exit(1 if sums[1] else 0)


main()
