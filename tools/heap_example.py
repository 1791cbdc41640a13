#!/usr/bin/env python3
"""heap_example.py - does the worked example of docs/heap-profile.md still hold?

usage: heap_example.py [BUILD] [--keep=DIRECTORY]

For each of the two handlers of examples/history a service of its own is started and loaded with
CONNECTIONS requests at a time; fen capture watches its memory meanwhile, and the heap profile is
fetched while the handlers wait. Five pairs, interleaved. Printed are the resident memory of each,
the median of the ratios of the pairs, and how much of the heap in use the profile lays to new_row.
With --keep the profiles, the captures and the page of fen diff are left there.
"""
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

PAIRS, CONNECTIONS, SECONDS = 5, 400, 3


def start(build):
    p = subprocess.Popen([build + "/example_history", "127.0.0.1:0", "127.0.0.1:0"],
                         stdout=subprocess.PIPE, text=True)
    ports = {}
    for line in p.stdout:
        m = re.match(r"(listening|admin) on 127\.0\.0\.1:(\d+)", line)
        if m:
            ports[m[1]] = int(m[2])
        if len(ports) == 2:
            return p, ports["listening"], ports["admin"]
    sys.exit("heap_example: the service did not say where it listens")


def resident(capture):
    """Median of the resident bytes of a capture's second half."""
    with open(capture, encoding="utf-8") as f:
        points = [float(x.split()[4]) for x in f if x.startswith("point ")]
    return statistics.median(points[len(points) // 2:])


def one(build, which, out):
    """Loads one handler: its resident bytes. Leaves out/WHICH.pb.gz and out/WHICH.cap."""
    service, port, admin = start(build)
    fen, at = build + "/fen", f"http://127.0.0.1:{admin}"
    try:
        load = subprocess.Popen([fen, "load", f"--url=http://127.0.0.1:{port}/{which}/{{1..1000}}",
                                 f"--connections={CONNECTIONS}", "--warmup=500ms",
                                 f"--duration={SECONDS}s"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        subprocess.run([fen, "capture", f"--for={SECONDS - 1}s", "--every=50ms", f"--name={which}",
                        f"--out={out}/{which}.cap", at], check=True, timeout=30)
        with urllib.request.urlopen(at + "/debug/pprof/heap", timeout=10) as r:
            profile = r.read()
        with open(f"{out}/{which}.pb.gz", "wb") as f:
            f.write(profile)
        text = load.communicate(timeout=30)[0]
        if load.returncode or re.search(r"statuses\s+200: [1-9]\d*$", text, re.M) is None:
            sys.exit(f"heap_example: {which}: not every request was answered\n{text}")
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(20)
    return resident(f"{out}/{which}.cap")


def share(build, profile, function):
    """Percent of the heap in use that a profile lays to a function."""
    top = subprocess.run([build + "/fen", "heap", "top", profile], capture_output=True, text=True,
                         check=True, timeout=20).stdout
    m = re.search(rf"^\s*\S+\s+(\d+\.\d)%.*\s{function}$", top, re.M)
    return float(m[1]) if m else 0.0


def run(build, out):
    pairs = []
    for i in range(PAIRS):
        order = ("before", "after") if i % 2 == 0 else ("after", "before")
        got = {which: one(build, which, out) for which in order}
        pairs.append((got["before"], got["after"]))
        print(f"pair {i + 1}: before {got['before'] / 1e6:.1f} MB, "
              f"after {got['after'] / 1e6:.1f} MB resident", flush=True)
    subprocess.run([build + "/fen", "diff", f"--out={out}/history.html", f"{out}/before.cap",
                    f"{out}/after.cap"], stdout=subprocess.DEVNULL, check=True, timeout=20)
    ratio = statistics.median(after / before for before, after in pairs)
    for which in ("before", "after"):
        percent = share(build, f"{out}/{which}.pb.gz", "new_row")
        print(f"new_row holds {percent:.1f} % of the heap {which}")
    print(f"resident after over before {ratio:.3f} (median of {PAIRS} pairs)")


def main():
    build, keep = "build/release", None
    for a in sys.argv[1:]:
        if a.startswith("--keep="):
            keep = a[len("--keep="):]
        else:
            build = a
    build = os.path.abspath(build)
    if keep:
        os.makedirs(keep, exist_ok=True)
        run(build, keep)
    else:
        with tempfile.TemporaryDirectory() as out:
            run(build, out)


if __name__ == "__main__":
    main()
