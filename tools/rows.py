#!/usr/bin/env python3
"""rows.py - accepts the requirement rows: runs what each one asks for and compares with its bar.

usage: rows.py [ID...]      all rows without an ID; then docs/rows.md is written too
       rows.py --again ID...  these, and they take their places in docs/rows.md, which says so
       rows.py --list

Each row has a text, docs/rows/<ID>.md (what the document says, our bar, how it is accepted), and an
entry in ROWS below: a list of checks. A row passes when every check of it does. A check whose
command, test or figure does not exist fails: nothing is skipped.

Kinds of check
  Tests(regex...)                    ctest tests of build/release; each regex must name one at least
  Bench(name, figure, op, bar, ...)  one JSON line of `fen bench NAME --json`
  Prove(workload, rival, key, ...)   a figure of pack/summary.json, which `fen prove` writes
  Output(argv, regex, op, bar, ...)  a command; group 1 of the regex is the figure

Bench, Prove and Output compare `part` (default "value") with the bar; each command runs once per
call of this program, however many checks look at it. Tests run under FEN_TIMED=1: here, and only
here, their upper bounds of times hold.
"""
import dataclasses
import json
import operator
import os
import platform
import re
import subprocess
import sys

BUILD = os.environ.get("FEN_BUILD", "build/release")
SUMMARY = "docs/rows.md"
FEN = BUILD + "/fen"
OPS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}
PACK = BUILD + "/pack"
PROVE = [FEN, "prove", "--service=orders", "--baseline=pool200,pthread", "--load=c100,4s",
         "--out=" + PACK]
HEAP = ["python3", "tools/heap_example.py", BUILD]
DIFF = ["python3", "tools/diff_check.py", BUILD]
LIMIT_S = 900


@dataclasses.dataclass
class Result:
    ok: bool
    what: str
    figure: str
    bar: str


_ran = {}


def run(argv):
    """(exit code, stdout, stderr) of a command, run once."""
    key = tuple(argv)
    if key not in _ran:
        try:
            r = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S,
                               env=dict(os.environ, FEN_TIMED="1"))
            _ran[key] = (r.returncode, r.stdout, r.stderr)
        except OSError as e:
            _ran[key] = (127, "", str(e))
        except subprocess.TimeoutExpired:
            _ran[key] = (124, "", f"not done after {LIMIT_S} s")
    return _ran[key]


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1][:100] if lines else "no output"


def json_lines(text):
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                pass


def number(v):
    return f"{v:,.4g}" if isinstance(v, float) and abs(v) < 1e6 else f"{v:,}"


class Tests:
    def __init__(self, *patterns):
        self.patterns = patterns

    def check(self):
        for p in self.patterns:
            rc, out, err = run(["ctest", "--test-dir", BUILD, "--no-tests=error", "-R", p])
            m = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", out)
            if not m:
                yield Result(False, f"tests {p}", "no such test", "all pass")
                continue
            absent = "Skipped" in out
            good = int(m[3]) - int(m[2])
            figure = f"{good} of {m[3]} pass" + (", some skipped" if absent else "")
            yield Result(rc == 0 and not absent, f"tests {p}", figure, "all pass")


@dataclasses.dataclass
class Figure:
    """What Bench and Prove share: one figure among JSON lines."""
    figure: str
    op: str
    bar: float
    unit: str = ""
    part: str = "value"
    argv: list = dataclasses.field(default_factory=list)
    rival: str = ""  # of several, each with a line of its own

    def check(self):
        what = " ".join(self.argv[1:3]) + " " + self.figure
        if self.part != "value":
            what += " " + self.part
        if self.rival:
            what += " to " + self.rival
        bar = f"{self.op} {number(self.bar)} {self.unit}".rstrip()
        rc, out, err = run(self.argv)
        found = [o for o in json_lines(out) if o.get("figure") == self.figure and
                 (not self.rival or o.get("rival") == self.rival)]
        value = found[-1].get(self.part) if found else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            why = f"exit {rc}: {last_line(err or out)}"
            if found or rc == 0:
                why = (found[-1].get("note") if found else None) or "no such figure"
            yield Result(False, what, why, bar)
            return
        figure = number(value)
        if self.part != "ratio" and self.unit:
            figure += " " + self.unit
        if found[-1].get("met") == "floor":  # a miss that the machine decided, and a miss
            figure += f" (floor: {found[-1].get('note')})"
        # Exit 1: a bar of that bench was not met, perhaps another figure's; each is judged here.
        yield Result(rc in (0, 1) and OPS[self.op](value, self.bar), what, figure, bar)


def Bench(name, figure, op, bar, unit="", part="value", rival=""):
    return Figure(figure, op, bar, unit, part, [FEN, "bench", name, "--json"], rival)


@dataclasses.dataclass
class Prove:
    """fen against a rival on one workload, from the data pack's summary. key is a comparison
    ("qps", "yuan_node", ...), or "per:METRIC" or "instances": fen's own divided by the rival's."""
    workload: str
    rival: str
    key: str
    op: str
    bar: float
    unit: str = "x"

    def value(self, summary):
        cells = {c["rival"]: c for c in summary["cells"] if c["workload"] == self.workload}
        fen, other = cells["fen"], cells[self.rival]
        if self.key.startswith("per:"):  # requests a second for each unit of a metric
            m = self.key[4:]
            per = [c["median"]["qps"] / c["median"][m] for c in (fen, other)]
            return per[0] / per[1]
        if self.key == "instances":
            return fen["instances"] / other["instances"]
        return other["fen_to_this"][self.key]

    def floor(self, summary):
        """What the bare sockets reach in the same run, in words; a bar beyond it cannot be met."""
        cells = {c["rival"]: c for c in summary["cells"] if c["workload"] == self.workload}
        if self.key != "qps" or "floor" not in cells:
            return ""
        m = cells["floor"]["median"]["qps"] / cells[self.rival]["median"]["qps"]
        return f" (floor {number(m)} {self.unit})"

    def check(self):
        what = f"prove {self.workload} against {self.rival}: {self.key}"
        bar = f"{self.op} {number(self.bar)} {self.unit}".rstrip()
        rc, out, err = run(PROVE)
        try:
            with open(PACK + "/summary.json", encoding="utf-8") as f:
                summary = json.load(f)
            value, floor = float(self.value(summary)), self.floor(summary)
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as e:
            yield Result(False, what, f"exit {rc}: {last_line(err or out)} ({e!r})", bar)
            return
        figure = f"{number(value)} {self.unit}{floor}"
        yield Result(OPS[self.op](value, self.bar), what, figure, bar)


class Output:
    def __init__(self, argv, regex, op, bar, unit=""):
        self.argv, self.regex, self.op, self.bar, self.unit = argv, regex, op, bar, unit

    def check(self):
        rc, out, err = run(self.argv)
        m = re.search(self.regex, out, re.M)
        bar = f"{self.op} {number(self.bar)} {self.unit}".rstrip()
        what = " ".join(self.argv)
        if not m:
            skipped = re.search(r"^skipped: .*", out, re.M)
            why = skipped[0] if skipped else f"exit {rc}: {last_line(err or out)}"
            yield Result(False, what, why, bar)
        else:
            value = float(m[1].replace(",", ""))
            good = rc == 0 and OPS[self.op](value, self.bar)
            yield Result(good, what, f"{number(value)} {self.unit}".rstrip(), bar)


# ID: (short name, the document's figure, checks)
ROWS = {
    "W00": ("one command proves the saving", "QPS 3.7x, cost -42 %", [
        Prove("backend", "pool200", "qps", ">=", 3.7),
        Prove("backend", "pthread", "qps", ">=", 1.5),
        Prove("backend", "pool200", "yuan_node", "<=", 0.58),
        Output(["python3", "tools/wrk_check.py"], r"differ by ([0-9.]+) %", "<=", 10, "%"),
        Output(["python3", "tools/pack_check.py", PACK], r"(\d+) figures", ">=", 1, "figures"),
        Tests("test/prove_test"),
    ]),
    "W04": ("a request waits with a time-out", "504 after 2 s", [
        Tests("test/request_test", "test/http_fault_test"),
    ]),
    "W05": ("idle connections are small", "2 KB stack, 100,000 connections", [
        Bench("conns", "rss_per_idle_connection", "<=", 4096, "bytes"),
        Bench("conns", "peak_rss_serving_10000", "<=", 60, "MB"),
        Bench("conns", "errors_serving_10000", "==", 0),
        Bench("parked", "rss_100000_parked", "<=", 450, "MB"),
    ]),
    "W07": ("fibers, threads and the right to run are three things", "-", [
        Tests("sync/run_test", "test/handoff_test", "test/balance_test", "test/procs_test"),
        Bench("scaling", "scaling_1_to_2", ">=", 1.8, "x"),
        Bench("scaling", "scaling_to_threads", ">=", 0.95, "x"),
    ]),
    "W08": ("the switch", "20-50 ns; thread 1-2 us", [
        Bench("switch", "one_way", "<=", 20, "ns"),
        Bench("switch", "thread_over_fiber", ">=", 20, "x"),
        Tests("fiber/coroutine_test"),
    ]),
    "W09": ("local queues, overflow, stealing", "-", [
        Tests("sched/queue_test", "test/balance_test"),
    ]),
    "W10": ("blocking calls stop nobody", "M leaves P", [
        Bench("blocked", "pooled_over_alone", "<=", 2, "x"),
        Bench("blocked", "declared_over_alone", "<=", 2, "x"),
        Bench("blocked", "named_within", "<=", 20, "ms"),
        Tests("sched/section_test", "model/section_test", "test/stall_test", "test/handoff_test",
              "test/monitor_test"),
    ]),
    "W11": ("10,000 connections at work", "1.78x, P99 0.33x", [
        Bench("c10k", "trivial_requests", ">=", 1, "x", "ratio"),
        Bench("c10k", "trivial_p99", "<=", 1, "x", "ratio"),
        Bench("c10k", "trivial_peak_rss", "<=", 40, "MB"),
        Bench("c10k", "trivial_little_off", "<=", 5, "%"),
        Bench("c10k", "backend_requests", ">=", 1.78, "x", "ratio"),
        Bench("c10k", "backend_p99", "<=", 0.33, "x", "ratio"),
        Bench("c10k", "trivial_p999", "<=", 1, "x", "ratio"),
        Bench("c10k", "backend_p999", "<=", 1, "x", "ratio"),
        Bench("c10k", "trivial_cpu_per_request", "<=", 1, "x", "ratio"),
        Bench("c10k", "backend_cpu_per_request", "<=", 1, "x", "ratio"),
        Bench("c10k", "trivial_errors", "==", 0),
        Bench("c10k", "backend_errors", "==", 0),
    ]),
    "W12": ("10,000 fibers that yield once", "(none given)", [
        Bench("spawn", "spawn_yield_join_10000", "<=", 5, "ms"),
        Bench("yield", "syscalls_per_yield", "<=", 0.01, ""),
        Bench("spawn", "spawned_1000000", "==", 1000000, "fibers"),
    ]),
    "W13": ("a waiting fiber is small, a deep one is named", "2 KB, 100,000 = 200 MB", [
        Bench("tasks", "rss_100000_hibernating", "<=", 200, "MB"),
        Bench("tasks", "rss_100000_resident", "<=", 450, "MB"),
        Bench("hibernate", "resident_of_1000000", "<=", 1.3, "KB"),
        Bench("hibernate", "neighbour_p99_ratio", "<=", 2, "x"),
        Tests("test/overflow_test", "test/high_water_test", "sync/hibernate_test"),
    ]),
    "W14": ("memory goes back in short slices", "sub-millisecond pauses", [
        Bench("mem", "orders_slice_p95", "<=", 300, "us"),
        Bench("mem", "balanced_slice_p95", "<=", 300, "us"),
        Bench("mem", "balanced_slice_p99", "<=", 300, "us"),
        Tests("test/memory_page_test"),
    ]),
    "W15": ("one knob paces memory", "1.5x at 50 %", [
        Tests("mem/pace_test"),
    ]),
    "W16": ("a line for each reclaim", "gctrace=1", [
        Bench("mem", "memtrace_off", "<=", 1, "% of CPU"),
        Tests("test/memtrace_test"),
    ]),
    "W17": ("off is off, and by hand gives everything back", "-1, runtime.GC()", [
        Tests("mem/pace_test", "test/memory_page_test"),
    ]),
    "W18": ("a limit that refuses instead of dying", "GOMEMLIMIT=1G", [
        Output(["env", "FEN_MEMLIMIT_SECONDS=60", BUILD + "/test_memlimit_test"],
               r"^60 s: \d+ served, \d+ refused, 0 others, at most (\d+) KiB", "<=", 58982, "KiB"),
        Tests("test/memlimit_test", "mem/pace_test", "test/memtrace_test"),
    ]),
    "W19": ("three profiles instead of knobs", "-30 %", [
        Bench("mem", "latency_slice_p95", "<=", 0.7, "x", "ratio"),
        Bench("mem", "latency_slice_p95", "<=", 300, "us"),
        Bench("mem", "container_slice_p95", "<=", 300, "us"),
        Tests("test/memtrace_test"),
    ]),
    "W20": ("two runs side by side: heap in use and reclaims", "P95 pause 0.8 to 0.3 ms", [
        Output(DIFF, r"P95 of a slice at 20: not above ([0-9.]+) us", "<=", 300, "us"),
        Output(DIFF, r"P95 of a slice at 100: not above ([0-9.]+) us", "<=", 300, "us"),
        Output(DIFF, r"shows (\d) of 2 runs", "==", 2, "runs"),
        Tests("test/heap_profile_test"),
    ]),
    "W25": ("readiness costs next to nothing", "constant system calls", [
        Bench("netpoll", "epoll_wait_per_request", "<=", 0.25, "calls"),
        Bench("netpoll", "epoll_ctl_per_request", "<=", 0.01, "calls"),
        Bench("netpoll", "kept_at_10000", ">=", 80, "%"),
    ]),
    "W21": ("three levels: at hand, central, pages", "zero cost", [
        Bench("alloc", "pair32", "<=", 1, "x", "ratio", "glibc"),
        Bench("prodcons", "message_of_128_bytes", "<=", 1, "x", "ratio", "glibc"),
        Bench("rss", "resident_over_live", "<=", 1.3, "x"),
        Tests("mem/heap_test", "mem/remote_test", "mem/depot_test", "test/malloc_test"),
        Output(["env", "FEN_LEDGER_SECONDS=60", BUILD + "/mem_ledger_test"],
               r"(\d+) test\(s\) run", ">=", 5, "tests, 60 s"),
    ]),
    "W22": ("67 classes, and who fills them", "67 classes", [
        Tests("mem/heap_test", "obs/pages_test", "test/memory_page_test"),
        Output(["python3", "tools/size_classes.py", "--waste"],
               r"above 128 bytes: ([0-9.]+) %", "<=", 12.5, "%"),
    ]),
    "W23": ("the central sets are rarely waited for", "lock-free", [
        Bench("central", "lock_wait", "<=", 1, "%"),
        Tests("mem/heap_test", "mem/remote_test", "mem/depot_test", "mem/ledger_test"),
    ]),
    "W24": ("objects are kept for the next user", "8 ns, 3.5x, reuse 92 %", [
        Bench("pool", "get_put", "<=", 8, "ns"),
        Bench("pool", "times_faster_than_construct", ">=", 3.5, "x"),
        Bench("pool", "reuse_of_1000000", ">=", 92, "%"),
        Tests("mem/objpool_test"),
    ]),
    "W26": ("descriptors wake exactly one waiter", "-", [
        Tests("test/poll_race_test", "test/fdwait_test", "test/sock_test", "model/slot_test",
              "test/http_fault_test"),
    ]),
    "W27": ("select, poll and epoll", "2 copies, 0 copies", [
        Bench("poller", "event_spread", "<=", 20, "%"),
        Bench("pollers", "epoll_spread", "<=", 20, "%"),
        Bench("pollers", "select_ten_times", ">=", 4, "x"),
        Bench("pollers", "poll_ten_times", ">=", 4, "x"),
        Bench("pollers", "epoll_10000_idle_copied", "<=", 12, "bytes"),
    ]),
    "W28": ("no needless copies", "4 copies, then none", [
        Bench("move", "send_file", "<=", 0.6, "x", "ratio"),
        Bench("move", "splice", "<=", 0.6, "x", "ratio"),
        Tests("test/move_test", "test/no_copy_test", "test/pass_test"),
    ]),
    "W29": ("no wake-up is lost", "-", [
        Tests("model/real_sched_test"),
        Tests("model/wait_test", "model/slot_test", "model/idle_test", "model/guard_test",
              "model/queue_test", "model/newborn_test", "model/hibernate_test", "model/chan_test",
              "model/select_test", "model/timer_test", "model/mutex_test", "model/permits_test",
              "model/rwlock_test", "model/cond_test", "model/group_test", "model/mutants_"),
    ]),
    "W34": ("the order handler", "router adds 3 KB", [
        Bench("router", "match_of_1000", "<=", 100, "ns"),
        Bench("router", "heap_growth", "==", 0, "bytes"),
        Bench("router", "wrong_matches", "==", 0),
        Bench("orders", "cpu_per_request_go", "<=", 0.6, "x", "ratio"),
        Bench("orders", "cpu_per_request_pthread", "<=", 1.0, "x", "ratio"),
        Tests("router_test", "orders_e2e"),
    ]),
    "W35": ("the deadline reaches every wait", "100 ms", [
        Tests("scope_test", "test/request_test"),
        Bench("cancel", "cancel_10000_children", "<=", 5, "ms"),
    ]),
    "W50": ("variables", "-", [
        Tests("obs/var_test", "obs/pages_test"),
        Bench("vars", "read_1000", "<=", 1, "ms"),
    ]),
    "W52": ("CPU of each request", "nanosecond precision", [
        Tests("bill_test", "books_test"),
        Bench("books", "conservation_error", "<=", 3, "%"),
        Bench("books", "unattributed", "<=", 3, "%"),
        Bench("truth", "two_routes_error", "<=", 5, "%"),
        Bench("truth", "two_routes_error_hog", "<=", 5, "%"),
        Bench("meter", "cost_per_switch", "<=", 15, "ns"),
        Bench("meter", "throughput_loss", "<=", 2, "%"),
        Bench("meter", "throughput_loss_high", "<=", 2, "%"),
    ]),
    "W58": ("prices", "0.12 / 0.015 / 0.85 yuan", [
        Tests("meter/price_test", "meter/book_file_test"),
    ]),
    "H03": ("100,000 tasks", "200 MB; threads > 100 GB", [
        Bench("tasks", "rss_100000_hibernating", "<=", 200, "MB"),
        Bench("tasks", "wake_p99_idle", "<=", 100, "us"),
        Bench("tasks", "wake_p99_loaded", "<=", 1000, "us"),
        Bench("tasks", "wake_p99_loaded_hibernating", "<=", 1000, "us"),
        Bench("tasks", "threads_made", "==", 10000, "threads"),
        Tests("test/balance_test"),
    ]),
    "H04": ("short slices of reclaim, and a knob", "hundreds of us", [
        Bench("mem", "balanced_slice_p99", "<=", 300, "us"),
        Bench("mem", "latency_slice_p99", "<=", 300, "us"),
        Bench("mem", "container_slice_p99", "<=", 300, "us"),
        Bench("mem", "balanced_slice_longest", ">=", 0, "us"),
        Tests("mem/pace_test", "test/memtrace_test", "test/warm_test"),
    ]),
    "H05": ("hot allocations are found and cut", "resident memory -30 to -50 %", [
        Output(HEAP, r"resident after over before ([0-9.]+)", "<=", 0.7, "x"),
        Output(HEAP, r"new_row holds ([0-9.]+) % of the heap before", ">=", 50, "%"),
        Output(HEAP, r"new_row holds ([0-9.]+) % of the heap after", "<=", 1, "%"),
        Tests("mem/profile_test", "obs/profile_test", "profile/pprof_test",
              "test/heap_profile_test"),
    ]),
    "H14": ("hot fields in lines of their own", "alignas(64)", [
        Bench("sharing", "locked_packed_over_padded", ">=", 3, "x"),
        Output(["grep", "-c", "static_assert", "src/sched/sched_int.h"], r"(\d+)", ">=", 8,
               "assertions"),
    ]),
    "H15": ("pages and lines", "TLB misses 0.5 and 15 %", [
        Bench("locality", "huge_pages_gain_1_gib", ">=", 1.3, "x"),
        Bench("locality", "random_over_sequential", ">=", 2, "x"),
    ]),
    "H16": ("from a list to arrays", "-", [
        Bench("locality", "soa_over_list", ">=", 20, "x"),
        Bench("locality", "prefetch_by_number", ">=", 5, "%"),
    ]),
    "H17": ("memory stays on its node", "batches at deterministic points", [
        Tests("sys/node_test", "mem/node_test", "test/numa_test", "test/doctor_test"),
    ]),
    "H01": ("fewer cores, less memory, fewer instances", "-", [
        Prove("orders", "pool200", "per:cores", ">=", 1.0),
        Prove("orders", "pool200", "per:rss_mb", ">=", 1.0),
        Prove("backend", "pool200", "instances", "<=", 1.0),
        Bench("startup", "exec_to_first_200", "<=", 20, "ms"),
    ]),
    "H07": ("a clean-up costs next to nothing", "24 bytes, no allocation", [
        Bench("defer", "block", "<=", 1, "ns"),
        Bench("defer", "record", "<=", 3, "ns"),
        Bench("defer", "heap_bytes", "==", 0, "bytes"),
        Tests("sync/defer_test", "scope_test"),
    ]),
    "H08": ("clean-ups of one block share what they need", "32 bytes of stack saved", [
        Tests("test/defer_code_test"),
    ]),
    "H09": ("dynamic clean-ups come from free lists", "1,000,000 to 3,200 allocations", [
        Bench("defer", "blocks_of_1000000_dynamic", "<=", 3200, "blocks"),
        Bench("defer", "loop", "<=", 20, "ns"),
        Tests("sync/defer_test"),
    ]),
    "H10": ("the overhead budget of a clean-up", "12 extra instructions", [
        Tests("test/defer_code_test"),
        Bench("defer", "record", "<=", 3, "ns"),
    ]),
    "H18": ("many clean-ups run in one pass", "42.3 to 29.1 cycles a call", [
        Bench("defer", "batch_call", "<=", 29.1, "cycles"),
        Bench("defer", "batch_of_100000", "<=", 0.69, "x", "ratio"),
        Tests("sync/defer_test"),
    ]),
    "H19": ("how a service cleans up does not matter to it", "P99 42.1 to 28.3 ms", [
        Bench("defer-service", "record_p99", "<=", 1.05, "x", "ratio"),
        Bench("defer-service", "batch_p99", "<=", 1.05, "x", "ratio"),
        Bench("defer-service", "errors", "==", 0),
        Bench("defer-service", "record_share_of_cpu", "<=", 1, "%"),
    ]),
    "H20": ("a group of clean-ups, each of which runs", "127 to 38 ns", [
        Bench("defer", "group_of_5", "<=", 15, "ns"),
        Bench("defer", "heap_bytes", "==", 0, "bytes"),
        Tests("sync/defer_test"),
    ]),
    "H26": ("a resource on loan is settled exactly once", "leak risk low", [
        Tests("sync/pool_test", "test/pool_upstream_test"),
    ]),
}


def accept(row):
    name, document, checks = ROWS[row]
    results = [r for c in checks for r in c.check()]
    ok = bool(results) and all(r.ok for r in results)
    print(f"{row}  {'PASS' if ok else 'FAIL'}  {name}   (document: {document})")
    for r in results:
        mark = "ok  " if r.ok else "FAIL"
        print(f"     {mark} {r.what}: {r.figure}   bar {r.bar}")
    sys.stdout.flush()
    return ok, results


def commit():
    r = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"],
                       capture_output=True, text=True)
    return r.stdout.strip() or "unknown"


def machine():
    model = "unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                if line.startswith(("model name", "Model")):
                    model = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def block(row, ok, results):
    name, document, _ = ROWS[row]
    lines = [f"| [{row}](rows/{row}.md) | **{'PASS' if ok else 'FAIL'}** | {name} | | | "
             f"{document} |\n"]
    for r in results:
        cells = [c.replace("|", "\\|") for c in (r.what, r.figure, r.bar)]
        lines.append(f"| | {'ok' if r.ok else 'FAIL'} | {cells[0]} | {cells[1]} | {cells[2]} | |\n")
    return "".join(lines)


def write_again(done):
    """Puts these rows in the place of theirs, counts anew, and says which they are."""
    with open(SUMMARY, encoding="utf-8") as f:
        text = f.read()
    for row, (ok, results) in done.items():
        text, n = re.subn(rf"^\| \[{row}\]\(.*\n(?:\| \| .*\n)*",
                          lambda _, new=block(row, ok, results): new, text, flags=re.M)
        if n != 1:
            sys.exit(f"rows: {SUMMARY} has no row {row}")
    passed = len(re.findall(r"^\| \[\w+\].*\*\*PASS\*\*", text, re.M))
    text = re.sub(r"\d+ of (\d+) rows pass\..*", rf"{passed} of \1 rows pass. Measured again, as "
                  f"commit {commit()}: {', '.join(done)}.", text, count=1)
    with open(SUMMARY, "w", encoding="utf-8") as f:
        f.write(text)


def write_summary(done):
    passed = sum(ok for ok, _ in done.values())
    with open(SUMMARY, "w", encoding="utf-8") as f:
        f.write("# Requirement rows\n\n"
                "Written by `./dev rows`; not by hand. What each row asks for, and why the bar "
                "lies where it lies, is in `docs/rows/`.\n\n"
                f"Commit {commit()}, {machine()}. {passed} of {len(done)} rows pass.\n\n"
                "| row | | what was checked | figure | bar | document |\n"
                "|---|---|---|---|---|---|\n")
        for row, (ok, results) in done.items():
            f.write(block(row, ok, results))


def main():
    names = sys.argv[1:]
    if names == ["--list"]:
        for row, (name, document, _) in ROWS.items():
            print(f"{row}  {name}   (document: {document})")
        return 0
    again = names[:1] == ["--again"]
    names = names[again:]
    if again and not names:
        print("rows: --again needs the rows' names", file=sys.stderr)
        return 2
    for n in names:
        if n not in ROWS:
            print(f"rows: unknown row '{n}'; known: {' '.join(ROWS)}", file=sys.stderr)
            return 2
    done = {row: accept(row) for row in (names or ROWS)}
    if again:
        write_again(done)
    elif not names:
        write_summary(done)
    bad = [row for row, (ok, _) in done.items() if not ok]
    print(f"{len(done) - len(bad)} rows pass, {len(bad)} fail" +
          (": " + " ".join(bad) if bad else ""))
    return 1 if bad else 0


sys.exit(main())
