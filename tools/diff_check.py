#!/usr/bin/env python3
"""diff_check.py - do two captures side by side show heap in use and the slices of reclaims?

usage: diff_check.py [BUILD] [--out=DIRECTORY]

Runs examples/history twice, with FEN_MEM_PERCENT=100 and =20, under the same bursts of load,
captures each and has fen diff write its page. Checked: both captures have reclaims and as many
points as were asked for; the page has the curve of each run and the bars of each. Printed are the
figures of both and the P95 of the slices, which is an upper bound: that of the histogram's bucket.
"""
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from heap_example import start

BURSTS, CONNECTIONS, CAPTURE_S, EVERY_MS = 8, 400, 8, 50


def capture(build, percent, out):
    os.environ["FEN_MEM_PERCENT"] = str(percent)
    service, port, admin = start(build)
    fen, path = build + "/fen", f"{out}/{percent}.cap"
    try:
        watch = subprocess.Popen([fen, "capture", f"--for={CAPTURE_S}s", f"--every={EVERY_MS}ms",
                                  f"--name=percent {percent}", "--out=" + path,
                                  f"http://127.0.0.1:{admin}"])
        for i in range(BURSTS):
            subprocess.run([fen, "load", f"--url=http://127.0.0.1:{port}/before/{{1..1000}}",
                            f"--connections={CONNECTIONS if i % 2 else CONNECTIONS // 4}",
                            "--warmup=0s", "--duration=500ms"], stdout=subprocess.DEVNULL,
                           check=True, timeout=20)
            time.sleep(0.3)
        if watch.wait(30):
            sys.exit("diff_check: fen capture failed")
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(20)
    return path


def lines(path, word):
    with open(path, encoding="utf-8") as f:
        return [x.split() for x in f if x.startswith(word + " ")]


def p95_us(path):
    slices = [(float(x[1]), float(x[2])) for x in lines(path, "slice")]
    total, n = sum(k for _, k in slices), 0
    for upper, k in slices:
        n += k
        if total and n >= 0.95 * total:
            return upper * 1e6
    return math.inf


def check_page(page, paths):
    bad = []
    with open(page, encoding="utf-8") as f:
        text = f.read()
    for run, path in zip("ab", paths):
        points = len(lines(path, "point"))
        if points < CAPTURE_S * 1000 // EVERY_MS:
            bad.append(f"{path}: {points} points")
        curve = re.search(rf'<path class="line s{run}" d="([^"]*)"', text)
        if not curve or len(re.findall(r"[ML]", curve[1])) != points:
            bad.append(f"the page lacks the curve of {path}")
        bars = len(re.findall(rf'<rect [^>]*class="f{run}"', text))
        filled = sum(1 for x in lines(path, "slice") if float(x[2]) > 0)
        if not filled or bars != filled:
            bad.append(f"the page has {bars} bars of {filled} for {path}")
    return bad


def run(build, out):
    paths = [capture(build, percent, out) for percent in (100, 20)]
    page = out + "/diff.html"
    table = subprocess.run([build + "/fen", "diff", "--out=" + page] + paths, check=True,
                           capture_output=True, text=True, timeout=20).stdout
    print(table)
    bad = check_page(page, paths)
    for b in bad:
        print("diff_check: " + b)
    print(f"the page shows {0 if bad else 2} of 2 runs")
    for path, name in zip(paths, ("100", "20")):
        print(f"P95 of a slice at {name}: not above {p95_us(path):.1f} us")
    return 1 if bad else 0


def main():
    build, out = "build/release", None
    for a in sys.argv[1:]:
        if a.startswith("--out="):
            out = a[len("--out="):]
        else:
            build = a
    if out:
        os.makedirs(out, exist_ok=True)
        return run(os.path.abspath(build), out)
    with tempfile.TemporaryDirectory() as d:
        return run(os.path.abspath(build), d)


if __name__ == "__main__":
    sys.exit(main())
