#!/usr/bin/env python3
"""Recomputes the figures of a data pack (fen prove --out=PACK) from its raw files.

usage: tools/pack_check.py PACK

For every run: requests a second and latency percentiles from raw/*.samples (100 ms intervals and
histogram buckets), CPU for each request from the server's clock, yuan from the prices in plan.json.
For every cell: medians. For every comparison: ratios, bars, instances. A figure that is off by more
than 0.5 % (a bucket is at most 0.8 % wide, its middle is used) is printed, and the exit code is 1.
"""
import json
import math
import os
import sys

FYUAN = 1e15
TOLERANCE = 0.005


def samples(path):
    s = {"intervals": [], "buckets": []}
    with open(path, encoding="utf-8") as f:
        for line in f:
            word = line.split()
            if not word or word[0] == "#":
                continue
            if word[0] == "interval":
                s["intervals"].append([int(v) for v in word[1:]])
            elif word[0] == "bucket":
                s["buckets"].append([int(v) for v in word[1:]])
            elif word[0] == "url":
                s["url"] = word[1]
            else:
                s[word[0]] = float(word[1])
    return s


def quantile(s, q):
    rank = math.ceil(q * sum(b[2] for b in s["buckets"]))
    seen = 0
    for low, high, count in s["buckets"]:
        seen += count
        if seen >= rank:
            middle = low + (high - 1 - low) // 2
            return max(s["latency_min_ns"], min(s["latency_max_ns"], middle))
    return 0


def node_hour(plan):
    p = plan["prices"]
    return (plan["server_cores"] * p["cpu_core_hour_fyuan"]
            + plan["node_gb"] * p["mem_gb_hour_fyuan"]) / FYUAN


def figures(plan, s, server):
    p = plan["prices"]
    qps = s["requests"] * 1e9 / s["span_ns"]
    cores = s["server_cpu_ns"] / s["server_span_ns"]
    cpu_us = cores * 1e6 / qps
    use = (cpu_us / 3600 * p["cpu_core_hour_fyuan"]
           + server["rss_mb"] / 1e3 * 1e6 / qps / 3600 * p["mem_gb_hour_fyuan"]) / FYUAN
    if p["request_on"]:
        use += 1000 * p["request_1000_fyuan"] / FYUAN
    switches = server["context_switches_voluntary"] + server["context_switches_involuntary"]
    return {
        "qps": qps,
        "mean_ms": s["latency_mean_ns"] / 1e6,
        "p50_ms": quantile(s, 0.5) / 1e6,
        "p90_ms": quantile(s, 0.9) / 1e6,
        "p99_ms": quantile(s, 0.99) / 1e6,
        "p999_ms": quantile(s, 0.999) / 1e6,
        "cpu_us": cpu_us,
        "cores": cores,
        "switches": switches / server["requests_with_warmup"],
        "yuan_use": use,
        "yuan_node": node_hour(plan) / 3600 / qps * 1e6,
    }


class Check:
    def __init__(self):
        self.checked = 0
        self.wrong = 0

    def same(self, where, name, printed, found):
        self.checked += 1
        if abs(printed - found) > TOLERANCE * max(abs(printed), abs(found), 1e-12):
            self.wrong += 1
            print(f"{where}: {name}: printed {printed:.6g}, recomputed {found:.6g}")


def lower_median(values):
    return sorted(values)[(len(values) - 1) // 2]


def check_cell(check, pack, plan, cell):
    runs = []
    for run in cell["runs"]:
        if run["failed"]:
            continue
        base = os.path.join(pack, "raw", run["name"])
        s = samples(base + ".samples")
        with open(base + ".server.json", encoding="utf-8") as f:
            found = figures(plan, s, json.load(f))
        check.same(run["name"], "sum of intervals", s["requests"],
                   sum(i[1] for i in s["intervals"]))
        check.same(run["name"], "sum of buckets", s["requests"], sum(b[2] for b in s["buckets"]))
        for name, value in found.items():
            check.same(run["name"], name, run["figures"][name], value)
        runs.append(found)
    where = f'{cell["workload"]}/{cell["rival"]}'
    check.same(where, "good runs", cell["good_runs"], len(runs))
    if not runs:
        return None
    medians = {k: lower_median([r[k] for r in runs]) for k in runs[0]}
    for name, value in medians.items():
        check.same(where, "median " + name, cell["median"][name], value)
        check.same(where, "low " + name, cell["low"][name], min(r[name] for r in runs))
        check.same(where, "high " + name, cell["high"][name], max(r[name] for r in runs))
    check.same(where, "instances", cell["instances"],
               math.ceil(plan["target_qps"] / cell["median"]["qps"]))
    return medians


def check_ratios(check, summary, medians):
    keys = {"qps": "qps", "p99": "p99_ms", "cpu": "cpu_us", "yuan_use": "yuan_use",
            "yuan_node": "yuan_node"}
    for cell in summary["cells"]:
        name = "backend" if cell["workload"] == "sweep" else cell["workload"]
        fen = medians.get((name, "fen"))
        mine = medians.get((cell["workload"], cell["rival"]))
        for key, printed in cell.get("fen_to_this", {}).items():
            check.same(f'{cell["workload"]}/{cell["rival"]}', "fen to this, " + key, printed,
                       fen[keys[key]] / mine[keys[key]])


def verdict(bar, got, floor):
    op, want = bar["wanted"].split()

    def reaches(x):
        return x > 0 and (x >= float(want) if op == ">=" else x <= float(want))

    if got <= 0:
        return "absent"
    if reaches(got):
        return "met"
    holds = floor > 0 and (floor >= got if op == ">=" else floor <= got)
    return "out of reach" if holds and not reaches(floor) else "MISSED"


def check_bars(check, summary, medians):
    for bar in summary["bars"]:
        other = medians.get((bar["workload"], bar["rival"]))

        def against(name):
            mine = medians.get((bar["workload"], name))
            return mine[bar["figure"]] / other[bar["figure"]] if mine and other else 0

        got, floor = against("fen"), 0
        if bar["figure"] in ("qps", "yuan_node"):
            floor = against("floor")
        check.same("bar", bar["bar"], bar["got"], got)
        check.same("bar", bar["bar"] + ", the floor", bar["floor"], floor)
        # Which side of a bar it is on, from the printed figures: recomputed ones differ by a hair.
        check.checked += 1
        if bar["verdict"] != verdict(bar, bar["got"], bar["floor"]):
            check.wrong += 1
            print(f'bar {bar["bar"]}: "{bar["verdict"]}" does not follow from its figures')


def main():
    if len(sys.argv) != 2 or not os.path.isfile(os.path.join(sys.argv[1], "summary.json")):
        print("usage: pack_check.py PACK (a folder that fen prove wrote)", file=sys.stderr)
        return 2
    pack = sys.argv[1]
    with open(os.path.join(pack, "plan.json"), encoding="utf-8") as f:
        plan = json.load(f)
    with open(os.path.join(pack, "summary.json"), encoding="utf-8") as f:
        summary = json.load(f)
    check = Check()
    check.same("plan", "node, yuan an hour", summary["node_yuan_hour"], node_hour(plan))
    medians = {}
    for cell in summary["cells"]:
        found = check_cell(check, pack, plan, cell)
        if found:
            medians[cell["workload"], cell["rival"]] = found
    check_ratios(check, summary, medians)
    check_bars(check, summary, medians)
    print(f"{check.checked} figures recomputed from raw files, {check.wrong} differ")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
