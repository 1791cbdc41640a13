#!/usr/bin/env python3
"""clang_tidy.py - runs clang-tidy over the sources of one build, in parallel, and remembers.

usage: clang_tidy.py BUILD_DIR

A file that was clean is not looked at again until its preprocessed text or the configuration
changes: the digests of clean files lie in build/tidy. Tests are left out; the sanitizers look at
them.
"""
import concurrent.futures
import hashlib
import json
import os
import shlex
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
                    yield path, entry["command"], entry["directory"]


# The analyser walks at most so many states of a function (its own limit is 225,000): four times as
# fast, which is what lets it run before every commit.
ANALYSER = ["--extra-arg=-Xclang", "--extra-arg=-analyzer-config",
            "--extra-arg=-Xclang", "--extra-arg=max-nodes=50000"]


def preprocessed(command, directory):
    """What the compiler sees, comments included: they may hold a NOLINT."""
    argv = shlex.split(command)
    argv = [a for i, a in enumerate(argv) if a not in ("-c", "-o", "-MD", "-MF", "-MT")
            and (i == 0 or argv[i - 1] not in ("-o", "-MF", "-MT"))]
    run = subprocess.run(argv + ["-E", "-C"], capture_output=True, cwd=directory)
    return run.stdout + str(run.returncode).encode()


def look(build, source, common):
    """(findings, None for a clean file; whether that was known before)."""
    path, command, directory = source
    mark = os.path.join(CACHE, digest(common, path.encode(), preprocessed(command, directory)))
    if os.path.exists(mark):
        return None, True
    run = subprocess.run(
        ["clang-tidy", "-p", build, "--quiet", "--extra-arg=-Wno-unknown-warning-option",
         "--extra-arg=-Wno-ignored-optimization-argument"] +  # gcc's -ffat-lto-objects
        ANALYSER + [path],
        capture_output=True, text=True)
    if run.returncode:
        return (run.stdout + run.stderr).strip(), False
    open(mark, "w", encoding="utf-8").close()
    return None, False


def main():
    build = sys.argv[1]
    os.makedirs(CACHE, exist_ok=True)
    common = digest(read(".clang-tidy")).encode()
    todo = sorted(set(sources(build)))
    known, failed, seen = 0, 0, set()  # a finding in a header is told once
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for findings, was_known in pool.map(lambda s: look(build, s, common), todo):
            known += was_known
            if findings is not None:
                failed += 1
                if ": error: " not in findings:
                    print(findings)  # not a finding: clang-tidy itself failed
                fresh = [f for f in findings.splitlines() if ": error: " in f and f not in seen]
                seen.update(fresh)
                print("".join(os.path.relpath(f) + "\n" for f in fresh), end="")
    if failed:
        print(f"the path to a finding: clang-tidy -p {build} FILE")
    print(f"{len(todo)} files, {known} of them unchanged" +
          (f", {failed} with findings" if failed else ""))
    sys.exit(1 if failed else 0)


main()
