#!/bin/sh
# gdb_doc_test.sh - what docs/debugging.md shows of example_stuck is so. Each line behind `(gdb)`
# under "## gdb" is run, alive and on a core, and what gdb says compared with what stands below it
# there; likewise the dump under "## SIGQUIT", and the line of the place that is looked up in it.
#
# What differs from run to run is not compared: addresses, times, bytes of stacks, numbers of frames
# and by which of three ways a fiber was switched out (run_to, run_first or neither). With another
# compiler than the page names only frames of stuck.c and names of variables are. On a machine that
# is stopped for some milliseconds at the wrong moment a move succeeds first: three tries.
. "$FEN_SOURCE_DIR/test/lib.sh"
need gdb python3
[ -z "${FEN_SANITIZE:-}" ] || skip "frames and stacks differ under a sanitizer"
[ "$(uname -m)" = x86_64 ] || skip "the page shows x86-64"
program=$FEN_BUILD_DIR/example_stuck
page=$FEN_SOURCE_DIR/docs/debugging.md
[ -x "$program" ] || skip "the examples are not built"
grep -q '^FEN_WHOLE:BOOL=ON' "$FEN_BUILD_DIR/CMakeCache.txt" &&
    grep -q '^CMAKE_BUILD_TYPE:STRING=RelWithDebInfo' "$FEN_BUILD_DIR/CMakeCache.txt" ||
    skip "not the release preset, which the page shows"
pid=
trap 'for p in $pid; do kill -9 "$p" 2>/dev/null; done; rm -rf "$tmp"' EXIT

cat >"$tmp/doc.py" <<'PY'
import re
import sys

PAGE, PROGRAM = sys.argv[2], sys.argv[3]


def section(name):
    with open(PAGE, encoding="utf-8") as f:
        return re.search(rf"^## {name}\n(.*?)^## ", f.read(), re.S | re.M)[1]


def blocks(text):
    return re.findall(r"^```\n(.*?)^```", text, re.S | re.M)


def documented():
    """[(command, what it says)]: the place that the dump names, then the session."""
    place = re.search(r"'(info line \*\(\w+\+0x[0-9a-f]+\))'.* says `(Line \d+)` of",
                      section("SIGQUIT"))
    found = [(place[1], [place[2]])]
    for block in blocks(section("gdb")):
        for line in block.splitlines():
            if line.startswith("(gdb) "):
                found.append((line[6:], []))
            elif found and not line.startswith("$ "):
                found[-1][1].append(line)
    return [(c, said) for c, said in found if not c.startswith("source ")]


def same_compiler():
    """The program's gcc is that of the page."""
    with open(PAGE, encoding="utf-8") as f:
        major = re.search(r"gcc (\d+)", f.read())[1]
    with open(PROGRAM, "rb") as f:
        program = f.read()
    gcc = re.search(rf"GCC: \([^)]*\) {major}\.".encode(), program)
    return gcc is not None and b"clang version" not in program


def masked(lines, whole):
    out = []
    for line in lines:
        line = re.sub(r"^(Line \d+) of .*", r"\1", line)
        line = re.sub(r" (for|on|cpu|stack|peak|of)(<?=)[^ ]*", r" \1", line)
        line = re.sub(r"procs, up .*", "procs", line)
        line = re.sub(r"0x[0-9a-f]+ in ", "", line)
        line = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", line)
        line = re.sub(r"\+0x[0-9a-f]+", "+N", line)
        line = re.sub(r" +\d+\.\d{3}s", " TIME", line)
        line = re.sub(r"cpu \d+\.\d+ms  stack \d+ of \d+", "USE", line)
        line = re.sub(r"control=\d+", "control=N", line)
        frame = re.match(r"#\d+ +(.*)", line)
        if frame:
            line = "# " + frame[1]
            if re.match(r"# run_(to|first) ", line) or not whole and "stuck.c" not in line:
                continue
            if "stuck.c" not in line:  # of fen itself the function and the file
                line = re.sub(r" \(.*\) at (\S+):\d+$", r" \1", line)
        if not whole:  # the function without its arguments, a variable's name without its value
            line = re.sub(r"^(# \w+) \(.*\) at |^(\w+) = .*", r"\1\2 ", line)
        if "fn first_main" in line:
            line = line[:line.index("fn first_main")]
        out.append(line.rstrip())
    return out


def main():
    wanted = documented()
    if sys.argv[1] == "commands":
        print("\n".join(c for c, _ in wanted))
        return
    with open(sys.argv[4], encoding="utf-8") as f:
        text = f.read()
    whole, bad = same_compiler(), len(wanted) < 6  # the page has lost its session
    if whole:
        with open(sys.argv[5], encoding="utf-8") as f:
            text = f.read() + text
        dump = blocks(section("SIGQUIT"))[0].splitlines()
        wanted.append(("SIGQUIT", dump[1:]))
    else:
        wanted = wanted[1:]  # the place
    for command, said in wanted:
        if re.search(r" (frame|locals|args) \d", command):  # one or two more, by chance
            bad = True
            print(f"{command}: frames have no fixed numbers; name the function")
        got = re.search(rf"^== {re.escape(command)}\n(.*?)(?=^== )", text, re.S | re.M)
        got = masked(got[1].splitlines() if got else ["nothing"], whole)
        want = masked(said, whole)
        if got != want:
            bad = True
            print(f"(gdb) {command}\nthe page:", *want, "gdb:", *got, sep="\n")
    if bad:
        sys.exit(1)
    print("all lines" if whole else "lines of stuck.c only: another compiler", "of", len(wanted))


main()
PY

# says ARGUMENT... - gdb with these arguments says what the page shows; else $tmp/differs has why.
says() {
    python3 "$tmp/doc.py" commands "$page" "$program" >"$tmp/commands"
    while read -r c; do
        set -- "$@" -ex "echo == $c\\n" -ex "$c"
    done <"$tmp/commands"
    timeout 50 gdb -q -nx -batch -ex "set confirm off" -ex "set width 0" \
        -ex "source $FEN_SOURCE_DIR/tools/fen-gdb.py" "$@" -ex "echo == end\\n" \
        >"$tmp/said" 2>&1 </dev/null || true
    if grep -q "ptrace: Operation not permitted" "$tmp/said"; then
        skip "the kernel does not let gdb attach"
    fi
    python3 "$tmp/doc.py" compare "$page" "$program" "$tmp/said" "$tmp/dump" \
        >"$tmp/differs" 2>&1
}

# try - alive, then its core, if the kernel leaves one here.
try() {
    rm -f "$tmp"/core*
    (ulimit -c unlimited 2>/dev/null && cd "$tmp" &&
        FEN_PROCS=2 FEN_DEBUG=deadlock=ignore exec "$program") 2>"$tmp/quit" &
    pid=$!
    sleep 0.7 # all wait: the cashiers too, after 20 ms
    kill -QUIT "$pid"
    sleep 0.3
    { echo "== SIGQUIT"; cat "$tmp/quit"; echo "== end"; } >"$tmp/dump"
    rc=0
    says -p "$pid" || rc=1
    kill -ABRT "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    core=$(find "$tmp" -name 'core*')
    [ $rc = 1 ] || [ -z "$core" ] || says "$program" "$core" || rc=1
    return $rc
}

try || try || try || { cat "$tmp/differs"; fail "docs/debugging.md is not what gdb says"; }
cat "$tmp/differs"
echo "ok"
