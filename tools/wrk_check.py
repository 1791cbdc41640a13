#!/usr/bin/env python3
"""wrk_check.py - does an independent client see the same server CPU per request as fen load?

Starts `fen serve orders` on loopback, then loads one URL with wrk and with fen load in turn: the
same number of connections, one thread each, the same time. The server's CPU is its process clock,
read around each run and divided by the requests that the client counted. Pairs are interleaved;
what is compared is the median of each. Exit 0: within 10 %; 1: not; 2: nothing
built to measure; 3: skipped, no wrk.
"""
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

FEN = "build/release/fen"
PAIRS, SECONDS, CONNECTIONS = 7, 2, 100
WITHIN_PERCENT = 10
ORDER = 4711


def cpu_s(pid):
    return time.clock_gettime(~pid << 3 | 2)  # the clock that clock_getcpuclockid(3) names


def start(db):
    argv = [FEN, "serve", "orders", "--http-addr=127.0.0.1:0", "--admin-addr=", "--db=" + db]
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in p.stdout:
        m = re.search(r"(127\.0\.0\.1:[1-9]\d*)", line)
        if m:
            return p, f"http://{m[1]}/orders/{ORDER}"
    sys.exit("wrk_check: the service did not say where it listens")


def by_wrk(url):
    out = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", url], check=True,
                         capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit("wrk_check: wrk saw errors:\n" + out)
    return int(re.search(r"(\d+) requests in", out)[1])


def by_fen(url):
    argv = [FEN, "load", "--url=" + url, f"--connections={CONNECTIONS}", "--threads=1",
            f"--duration={SECONDS}s", "--warmup=0s", "--json=on"]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return json.loads(out)["requests"]


def main():
    if not shutil.which("wrk"):
        print("skipped: wrk not installed")
        return 3
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not os.path.exists(FEN):
        print(f"wrk_check: {FEN} is not there: run ./dev build first")
        return 2
    cost = {by_wrk: [], by_fen: []}
    with tempfile.TemporaryDirectory() as folder:
        server, url = start(os.path.join(folder, "orders.db"))
        try:
            by_fen(url)  # warm
            for i in range(PAIRS):
                for client in (by_wrk, by_fen) if i % 2 else (by_fen, by_wrk):
                    before = cpu_s(server.pid)
                    n = client(url)
                    cost[client].append((cpu_s(server.pid) - before) / n * 1e6)
        finally:
            server.send_signal(signal.SIGTERM)
            server.stdout.read()
            server.wait(20)
    wrk, fen = statistics.median(cost[by_wrk]), statistics.median(cost[by_fen])
    off = abs(fen / wrk - 1) * 100
    for name, client in (("wrk", by_wrk), ("fen load", by_fen)):
        print(f"{name:9} {statistics.median(cost[client]):6.2f} us of server CPU a request; runs:",
              " ".join(f"{v:.2f}" for v in cost[client]))
    print(f"they differ by {off:.1f} % (at most {WITHIN_PERCENT} %)")
    return 0 if off <= WITHIN_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
