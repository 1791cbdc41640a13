#!/bin/sh
# bench_test.sh - fen bench: every line has every key, the verdict follows from value and bars, a
# wrong name is refused. What the figures are is no matter here.
. "$FEN_SOURCE_DIR/test/lib.sh"
need python3
[ "${FEN_HARD:-}" != ON ] || skip "too slow in hard mode: each declared section moves its fiber"
case "${FEN_SANITIZE:-}" in *thread*) skip "too slow under TSan" ;; esac

rc=0
"$FEN_PROGRAM" bench blocking mutex --json --runs=1 >"$tmp/lines" || rc=$?
[ "$rc" -le 1 ] || fail "exit status $rc"
python3 - "$tmp/lines" "$rc" <<'P' || fail "see above"
import json, sys
KEYS = ("bench figure value unit better rival rival_value ratio at_least aim met runs note commit "
        "machine").split()
lines = [json.loads(line) for line in open(sys.argv[1])]
by_name = {o["figure"]: o for o in lines}
missed = False
for o in lines:
    lack = [k for k in KEYS if k not in o]
    assert not lack, (o["figure"], "lacks", lack)
    assert isinstance(o["value"], (int, float)) and o["value"] > 0, o
    assert o["runs"] == 1 and o["bench"] in ("blocking", "mutex"), o
    assert (o["rival"] is None) == (o["rival_value"] is None), o
    assert o["rival"] or o["note"], ("no rival and no reason", o)
    if o["rival"] and o["rival_value"] > 0:  # a difference of two may come out below 0
        # One run: the ratio of the pair is that of the values. Figures have six digits.
        assert abs(o["ratio"] * o["rival_value"] / o["value"] - 1) < 1e-4, o
    missed = missed or o["met"] in ("no", "floor")
o = by_name["section"]  # a bar on the value
want = "aim" if o["value"] <= o["aim"] else "at_least" if o["value"] <= o["at_least"] else "no"
assert (o["at_least"], o["aim"], o["met"]) == (15, 2, want), o
o = by_name["lock_unlock"]  # a bar on the ratio: no verdict without a rival
want = None if o["ratio"] is None else "at_least" if o["ratio"] <= 1 else "no"
assert (o["at_least"], o["met"]) == (1, want), o
assert by_name["lock_unlock_pthread"]["rival"] == "pthread"
assert missed == (sys.argv[2] == "1"), "exit status against the verdicts"
P

# A bar that the threads miss as well is missed as "floor", with their figure, and never met.
rc=0
"$FEN_PROGRAM" bench scaling --json --runs=2 >"$tmp/lines" || rc=$?
[ "$rc" -le 1 ] || fail "exit status $rc"
python3 - "$tmp/lines" "$rc" <<'P' || fail "see above"
import json, sys
of = {o["figure"]: o for o in map(json.loads, open(sys.argv[1]))}
o = of["scaling_1_to_2"]
if o["value"] is not None:  # two cores
    v, threads = o["value"], o["rival_value"]
    want = ("aim" if v >= 1.95 else "at_least" if v >= 1.8 else "floor" if threads < 1.8 else "no")
    assert o["rival"] == "pthread" and threads > 0 and o["met"] == want, o
    assert (want == "floor") == ("two threads reach" in o["note"] and "beyond" in o["note"]), o
    r = of["scaling_to_threads"]
    assert r["met"] == ("at_least" if r["value"] >= 0.95 else "no"), r
missed = any(o["value"] is None or o["met"] in ("no", "floor") for o in of.values())
assert missed == (sys.argv[2] == "1"), "exit status against the verdicts"
P

"$FEN_PROGRAM" bench blocking --runs=1 >"$tmp/table" || true
grep -q '^blocking section .* ns .*<= 15 / 2' "$tmp/table" || fail "$(cat "$tmp/table")"

rc=0
"$FEN_PROGRAM" bench nothing >"$tmp/out" 2>&1 || rc=$?
[ "$rc" = 2 ] && grep -q "unknown bench 'nothing'" "$tmp/out" || fail "$rc: $(cat "$tmp/out")"
echo "bench lines: ok"
