#!/usr/bin/env python3
"""clang_tidy.py - runs clang-tidy over the sources of one build, in parallel, and remembers.

usage: clang_tidy.py BUILD_DIR

A file that was clean is not looked at again until it, any header or the configuration changes: the
digests of clean files lie in build/tidy. Tests are left out; the sanitizers look at them.
"""
import concurrent.futures
import glob
import hashlib
import json
import os
import subprocess
import sys

CACHE = "build/tidy"


def digest(*blobs):
    h = hashlib.sha1()
    for b in blobs:
        h.update(b)
    return h.hexdigest()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def sources(build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        for entry in json.load(f):
            path = os.path.relpath(entry["file"])
            if path.startswith(("src/", "cmd/")) and path.endswith(".c"):
                if not path.endswith("_test.c") and os.path.exists(path):
                    yield path, entry["command"].encode()


def look(build, path):
    run = subprocess.run(
        ["clang-tidy", "-p", build, "--quiet", "--extra-arg=-Wno-unknown-warning-option", path],
        capture_output=True, text=True)
    return run.returncode, run.stdout + (run.stderr if run.returncode else "")


def main():
    build, failed, skipped = sys.argv[1], 0, 0
    os.makedirs(CACHE, exist_ok=True)
    headers = sorted(glob.glob("include/fen/*.h") + glob.glob("src/*/*.h") +
                     glob.glob("cmd/**/*.h", recursive=True))
    common = digest(read(".clang-tidy"), *(read(h) for h in headers)).encode()
    todo = []
    for path, command in sorted(set(sources(build))):
        mark = os.path.join(CACHE, digest(common, command, read(path)))
        if os.path.exists(mark):
            skipped += 1
        else:
            todo.append((path, mark))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for (path, mark), (rc, text) in zip(todo, pool.map(lambda t: look(build, t[0]), todo)):
            if rc:
                failed += 1
                print(text.strip())
            else:
                open(mark, "w", encoding="utf-8").close()
    print(f"{len(todo) + skipped} files, {skipped} of them unchanged" +
          (f", {failed} with findings" if failed else ""))
    sys.exit(1 if failed else 0)


main()
